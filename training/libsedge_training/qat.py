"""Quantisation-aware training: a net's forward pass with the rounding of its int8 export in it.

Weights and activations are rounded by torch's functional fake-quant ops where the exported net rounds them
(docs/quant_spec.md), with the scales that the export then uses; gradients go straight through (Jacob et al., CVPR
2018, section 3). Batch normalisation is folded in with its running statistics, which stay as they are from here on.
The activations' scales are taken anew at the start of every epoch, because logits grow while a net learns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from libsedge.errors import ModelError
from libsedge_native import ir
from torch import nn
from torch.func import functional_call

from .model import NetSpec, SpectrumNet, fold
from .quantise import activations, observe, weight_scale

RULE = "mse"
#: most training spectra that the ranges are taken from
CALIBRATION = 1024


@dataclass(frozen=True)
class Rounding:
    """What `SpectrumNet.rounding` takes. quants : of the input and of every folded layer's output, in their order."""

    quants: tuple[ir.Quant, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-able dict; `from_json` is its inverse."""
        return {"activations": [asdict(quant) for quant in self.quants]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], spec: NetSpec) -> Rounding:
        """Inverse of `to_json`, for a net of `spec`; ModelError where it is none."""
        try:
            quants = tuple(ir.Quant(**quant) for quant in data["activations"])
        except (KeyError, TypeError) as wrong:
            raise ModelError(f"not a quantisation: {wrong}", field="quantisation") from wrong
        if len(quants) != len(spec.blocks) + 3:  # the input, the blocks, the head's first layer, the logits
            raise ModelError(f"is not of net {spec.name!r}", field="quantisation", value=len(quants))
        return cls(quants)

    def __call__(self, net: SpectrumNet, x: torch.Tensor) -> torch.Tensor:
        """Logits [n, classes] on the int8 net's grid for x float32 [n, 1, 1, points]."""
        quants = iter(self.quants)
        given = next(quants)
        x = _activation(x, given)
        for block, conv, norm in zip(net.spec.blocks, net.convs, net.norms, strict=True):
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            weight, bias = _parameters(*_folded(conv, norm), given.scale)
            x = torch.relu(nn.functional.conv2d(x, weight, bias, conv.stride, conv.padding))
            if block.pool > 1:
                x = nn.functional.max_pool2d(x, (1, block.pool))
            given = next(quants)
            x = _activation(x, given)
        if net.spec.head == "gap":
            x = x.mean(dim=(2, 3))
        else:
            x = torch.relu(_dense(net.hidden, net.dropout(x.flatten(1)), given.scale))
        given = next(quants)
        x = _activation(x, given)
        return _activation(_dense(net.dense, net.dropout(x), given.scale), next(quants))


def rounding(net: SpectrumNet, x: np.ndarray) -> Rounding:
    """The rounding of the net as it is, with ranges from training spectra x float32 [n, points]."""
    layers = fold(net.eval())
    rows = np.linspace(0, len(x) - 1, min(CALIBRATION, len(x))).astype(np.int64)
    return Rounding(activations(observe(layers, x[rows]), RULE))


def _activation(x: torch.Tensor, quant: ir.Quant) -> torch.Tensor:
    return torch.fake_quantize_per_tensor_affine(x, quant.scale, quant.zero_point, -128, 127)


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """`model.fold` with gradients: the same float64 operations."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    bias = norm.bias.double() - norm.running_mean.double() * gain
    return (conv.weight.double() * gain[:, None, None, None]).float(), bias.float()


def _parameters(
    weight: torch.Tensor, bias: torch.Tensor, input_scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    scale = torch.from_numpy(weight_scale(weight.detach().numpy(), bias.detach().numpy(), input_scale))
    zero = torch.zeros(len(scale), dtype=torch.int32)
    step = input_scale * scale.double()
    steps = bias.detach().double() / step
    rounding = ((steps.round() - steps) * step).float()
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -127, 127), bias + rounding


def _dense(layer: nn.Linear, x: torch.Tensor, input_scale: float) -> torch.Tensor:
    """The layer itself, with its hooks, on rounded parameters."""
    weight, bias = _parameters(layer.weight, layer.bias, input_scale)
    found: torch.Tensor = functional_call(layer, {"weight": weight, "bias": bias}, (x,))
    return found
