"""Which depthwise convolutions a vector kernel runs channel by channel, and which as full ones with zeros."""

from __future__ import annotations

from libsedge_native.ir import Conv1d
from libsedge_native.passes.tile import VectorIsa

#: cycles for 16 channels of one position, measured on one core with AVX-512 VNNI (64 channels, 5 taps): plain loops
#: take about 40 and 7 a tap; zeros take a dot product for every four bytes of the window, two a cycle, in as many
#: registers as the channels fill; a 16-bit dot product is four instructions and an unpacking
LOOP, LOOP_TAP = 40.0, 7.0
DOT, WIDENED = 0.5, 2.8


def channel_by_channel(conv: Conv1d, isa: VectorIsa) -> bool:
    """Legal where every group has one input and one output channel; done where zeros between the groups, of which
    a full convolution multiplies `groups` times as many, are estimated to cost more.
    """
    groups = conv.groups
    if groups == 1 or conv.weight.shape[:2] != (groups, 1):
        return False
    taps, width = conv.weight.shape[2], -(-groups // 16) * 16
    dot = DOT * 16 / isa.lanes * (WIDENED if isa.widens else 1.0)
    return taps * width / 4 * dot > LOOP + LOOP_TAP * taps
