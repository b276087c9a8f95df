"""What one frame of 5,400 channels costs in the codecs that are Python: median of 200, microseconds.

python tests/edge/codec_cost.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
from libsedge.frame import Frame, decode, encode
from libsedge.frame_key import FrameKey
from libsedge.sources import cobs
from libsedge.sources.signed import ReplayWindow
from libsedge.sources.space_packets import Assembler, PacketCount, Packetiser, parse


def median_us(work: Callable[[], object], repeat: int = 200) -> float:
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return 1e6 * statistics.median(times)


def main() -> None:
    values = np.random.default_rng(0).integers(0, 4000, 5400).astype(np.uint16)
    data = encode(Frame(1, 0, 5, 0, 0, 0, 0, values))
    block = cobs.encode(data)
    packets = list(Packetiser().packets(data, 0, 5))

    def assemble() -> None:
        assembler, count = Assembler(), PacketCount()
        for raw in packets:
            packet = parse(raw)
            assert packet is not None
            count.arrive(packet)
            frame = assembler.add(packet, 0.0)
        assert frame is not None

    print(f"frame, {len(data)} bytes: decode {median_us(lambda: decode(data)):.0f} us")
    key, window, numbers = FrameKey(bytes(32)), ReplayWindow(0), iter(range(10**6))
    message = key.sign(data)
    print(f"signed: open {median_us(lambda: key.open(message)):.1f} us, ", end="")
    print(f"sign {median_us(lambda: key.sign(data)):.1f} us, ", end="")
    print(f"window {median_us(lambda: window.take(0, next(numbers))):.1f} us")
    print(f"COBS: encode {median_us(lambda: cobs.encode(data)):.0f} us, ", end="")
    print(f"decode {median_us(lambda: cobs.decode(block)):.0f} us")
    print(f"CCSDS, {len(packets)} packets: assemble {median_us(assemble):.0f} us, ", end="")
    print(f"make {median_us(lambda: list(Packetiser().packets(data, 0, 5))):.0f} us")


if __name__ == "__main__":
    main()
