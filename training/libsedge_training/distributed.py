"""One training on several processes (`torchrun`): the weights that one process gets with the same global batch.

Every rank has the whole set and draws the same batches, variations and dropout from the same seeds; it takes its share
of a batch's rows through the net. What depends on the other rows is summed over the ranks: mean and variance of batch
normalisation, the losses that dynamic weights follow, and the gradients (torch's DistributedDataParallel). The loss is
divided by the rows of the global batch, so that a sample's weight counts the same on whatever rank it is.

Communication is gloo's: training runs on CPUs. torch's SyncBatchNorm needs a GPU, hence `AllReducedBatchNorm`. It sums
in float64, torch's own in float32: one process under torchrun takes ours too, so that all numbers of processes agree.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from libsedge.errors import ConfigError
from torch import distributed as dist
from torch import nn


class Alone:
    """The ranks of a training of one process: every method is what one process does anyway."""

    first = True

    def wrap(self, net: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        """What a training step calls; changes `net` in place where it must."""
        return net

    def share(self, rows: int) -> slice:
        """This rank's rows of a global batch of `rows`."""
        return slice(None)

    def whole(self, values: torch.Tensor, rows: int) -> torch.Tensor:
        """[rows, ...], the global batch's, of this rank's share [k, ...]; no gradient goes through."""
        return values

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The share's part of the mean of `values` over the global batch; its gradients add up to the mean's."""
        return values.mean()

    def total(self, loss: torch.Tensor) -> float:
        """The mean itself, of all ranks' `mean`."""
        return float(loss.detach())

    @contextmanager
    def folder(self, path: Path) -> Iterator[Path]:
        """Where this rank keeps its run: `path` for the first, a copy that is thrown away for the others."""
        yield path


class Ranks(Alone):
    """The ranks of the process group."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.first = self.rank == 0
        self.rows = 0

    def wrap(self, net: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        for module in list(net.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.BatchNorm2d):
                    setattr(module, name, AllReducedBatchNorm(child, self))
                elif isinstance(child, nn.Dropout):
                    setattr(module, name, SharedDropout(child, self))
        # buffers are the same on all ranks: all of them saw the global batch's statistics
        return nn.parallel.DistributedDataParallel(net, forward_sync_buffers=False)

    def share(self, rows: int) -> slice:
        self.rows = rows
        return slice(rows * self.rank // self.size, rows * (self.rank + 1) // self.size)

    def whole(self, values: torch.Tensor, rows: int) -> torch.Tensor:
        found = values.new_zeros(rows, *values.shape[1:])
        found[self.share(rows)] = values.detach()
        dist.all_reduce(found)
        return found

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        return values.sum() * (self.size / self.rows)  # DistributedDataParallel divides gradients by `size`

    def total(self, loss: torch.Tensor) -> float:
        found = loss.detach().double()
        dist.all_reduce(found)
        return float(found) / self.size

    @contextmanager
    def folder(self, path: Path) -> Iterator[Path]:
        dist.barrier()  # every rank has seen what is there
        if self.first:
            dist.barrier()
            yield path
            return
        with tempfile.TemporaryDirectory(prefix="libsedge-rank-") as scratch:
            own = Path(scratch) / path.name
            if path.exists():
                shutil.copytree(path, own)
            dist.barrier()  # the copies are made: the first may write
            yield own


def _summed(*channels: torch.Tensor) -> torch.Tensor:
    """Each of `channels`, [n, c, h, w], summed over all but c and over the ranks: float64 [k, c]."""
    found = torch.stack([values.sum((0, 2, 3), dtype=torch.float64) for values in channels])
    dist.all_reduce(found)
    return found


class _Normalised(torch.autograd.Function):
    """Batch normalisation with sums over the ranks, in the order of operations of torch's own on a CPU."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor, eps: float, count: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mean = (_summed(x)[0] / count)[:, None, None]
        variance = _summed((x - mean.to(x.dtype)).square())[0] / count
        inverse = torch.rsqrt(variance + eps)
        ctx.save_for_backward(x, gain, mean.to(x.dtype), inverse)
        ctx.count = count
        alpha = inverse * gain
        beta = bias - mean[:, 0, 0] * alpha
        out = x * alpha.to(x.dtype)[:, None, None] + beta.to(x.dtype)[:, None, None]
        return out, mean[:, 0, 0], variance

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, gain, mean, inverse = ctx.saved_tensors
        out = gradients[0]
        centred = x - mean
        own = torch.stack([v.sum((0, 2, 3), dtype=torch.float64) for v in (out, centred * out)])
        total = own.clone()
        dist.all_reduce(total)
        offset = (total[0] / ctx.count).to(x.dtype)[:, None, None]
        slope = (total[1] * inverse * inverse / ctx.count).to(x.dtype)[:, None, None]
        scale = (inverse * gain).to(x.dtype)[:, None, None]
        # of gain and bias each rank gives its own part: gradients of parameters are summed later
        return (
            (out - offset - centred * slope) * scale,
            (own[1] * inverse).to(gain.dtype),
            own[0].to(gain.dtype),
            None,
            None,
        )


class AllReducedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation by mean and variance of the global batch; the tensors are those of `like`."""

    def __init__(self, like: nn.BatchNorm2d, ranks: Ranks) -> None:
        super().__init__(like.num_features, like.eps, like.momentum)
        self.load_state_dict(like.state_dict())
        self._ranks = ranks

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        count = self._ranks.rows * x.shape[2] * x.shape[3]
        out, mean, variance = _Normalised.apply(x, self.weight, self.bias, self.eps, count)
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(x.dtype), self.momentum)
            self.running_var.lerp_((variance * (count / max(1, count - 1))).to(x.dtype), self.momentum)
            self.num_batches_tracked += 1
        found: torch.Tensor = out
        return found


class SharedDropout(nn.Dropout):
    """Dropout whose mask is drawn for the global batch: every rank takes its rows of it."""

    def __init__(self, like: nn.Dropout, ranks: Ranks) -> None:
        super().__init__(like.p)
        self._ranks = ranks

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return x
        keep = 1 - self.p
        mask = x.new_empty(self._ranks.rows, *x.shape[1:]).bernoulli_(keep).div_(keep)
        return x * mask[self._ranks.share(self._ranks.rows)]


def ranks() -> Alone:
    """This process's place: `Ranks` inside `joined`, else `Alone`."""
    return Ranks() if dist.is_initialized() else Alone()


@contextmanager
def joined() -> Iterator[Alone]:
    """Join the processes that torchrun started, where it did (WORLD_SIZE is set), until the block ends."""
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdigit() or int(text) < 1:
        raise ConfigError("must be a number of processes", field="WORLD_SIZE", value=text)
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield ranks()
        return
    dist.init_process_group("gloo")
    try:
        yield ranks()
    finally:
        dist.destroy_process_group()
