"""One training on several processes (`torchrun`): the weights that one process gets with the same global batch.

Every rank has the whole set and draws the same batches, variations and dropout from the same seeds; it takes its share
of a batch's rows through the net. What depends on the other rows is summed over the ranks: mean and variance of batch
normalisation, the losses that dynamic weights follow, and the gradients (torch's DistributedDataParallel). The loss is
divided by the rows of the global batch, so that a sample's weight counts the same on whatever rank it is.

Communication is gloo's: training runs on CPUs. torch's SyncBatchNorm needs a GPU, hence `AllReducedBatchNorm`.
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


class _Sum(torch.autograd.Function):
    """Sum over the ranks; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        found = values.clone()
        dist.all_reduce(found)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        found = gradients[0].clone()
        dist.all_reduce(found)
        return found


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
        mean = (_Sum.apply(x.sum((0, 2, 3), dtype=torch.float64)) / count).to(x.dtype)
        centred = x - mean[:, None, None]
        squares = centred.square().sum((0, 2, 3), dtype=torch.float64)
        variance = (_Sum.apply(squares) / count).to(x.dtype)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / max(1, count - 1)), self.momentum)
            self.num_batches_tracked += 1
        gain = self.weight * torch.rsqrt(variance + self.eps)
        return centred * gain[:, None, None] + self.bias[:, None, None]


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
    """Join the processes that torchrun started, where it did (WORLD_SIZE), until the block ends."""
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdigit() or int(text) < 1:
        raise ConfigError("must be a number of processes", field="WORLD_SIZE", value=text)
    if int(text) == 1 or dist.is_initialized():
        yield ranks()
        return
    dist.init_process_group("gloo")
    try:
        yield ranks()
    finally:
        dist.destroy_process_group()
