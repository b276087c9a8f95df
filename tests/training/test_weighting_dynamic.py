"""Dynamic strategies and controls: the contract, formulas against autograd and hand counts, resuming."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from libsedge.errors import ConfigError, DatasetError
from libsedge_training import weighting
from libsedge_training.weighting.base import Strategy
from libsedge_training.weighting.dynamic import Batch, Dynamic, grouped
from libsedge_training.weighting.train_part import TrainPart

from .own_strategy import Own

CE = torch.nn.functional.cross_entropy
PART_SEED = 3


def part_of(n: int = 96, seed: int = PART_SEED) -> TrainPart:
    """Random non-negative numbers (not spectra): 3 classes, 9 specimens, 4 distances."""
    rng = np.random.default_rng(seed)
    specimen = np.arange(n) % 9
    distance = rng.choice([1.6, 2.0, 3.5, 5.0], n).astype(np.float32)
    values = rng.random((n, 12)).astype(np.float32)
    names = np.char.add("specimen-", specimen.astype(str))
    return TrainPart(values, np.char.add("class-", (specimen % 3).astype(str)), names, distance)


def batch_of(part: TrainPart, rows: torch.Tensor, epoch: int, seed: int) -> Batch:
    """A step with random features and a random last layer; losses and logits belong together."""
    rng = torch.Generator().manual_seed(seed)
    target = torch.from_numpy(np.unique(part.label, return_inverse=True)[1])[rows]
    features = torch.rand(len(rows), 5, generator=rng)
    weight, bias = torch.randn(3, 5, generator=rng), torch.randn(3, generator=rng)
    logits = features @ weight.T + bias
    return Batch(rows, target, CE(logits, target, reduction="none"), logits, features, weight, bias, epoch)


def steps(run: Dynamic, part: TrainPart, epochs: range) -> list[torch.Tensor]:
    """Weights [n] of every epoch, in the order of the rows."""
    found = []
    for epoch in epochs:
        order = torch.randperm(len(part), generator=torch.Generator().manual_seed(epoch))
        weights = torch.full((len(part),), float("nan"))
        for step, rows in enumerate(order.split(32)):
            weights[rows] = run.update(batch_of(part, rows, epoch, 100 * epoch + step))
        run.end_epoch(epoch)
        found.append(weights)
    return found


def check_dynamic(strategy: Strategy, part: TrainPart) -> None:
    """The contract of `weighting/dynamic.py`; AssertionError where `strategy` breaks it on `part`."""
    before, rng = part.values.copy(), torch.get_rng_state()
    run, again = strategy.start(part, 1), strategy.start(part, 1)
    assert run is not None
    assert again is not None
    whole = steps(run, part, range(1, 5))
    for weights in whole:
        assert weights.dtype == torch.float32
        assert torch.isfinite(weights).all()
        assert strategy.signed or float(weights.min()) >= 0
        assert abs(float(weights.double().mean()) - 1) < 1e-4
    first = steps(again, part, range(1, 3))
    assert all(torch.equal(a, b) for a, b in zip(whole, first, strict=False)), "not deterministic"
    resumed = strategy.start(part, 1)
    assert resumed is not None
    resumed.load({name: t.clone() for name, t in again.state().items()})
    rest = steps(resumed, part, range(3, 5))
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], rest, strict=True)), "the state is not whole"
    assert np.array_equal(part.values, before), "the spectra were changed"
    assert torch.equal(torch.get_rng_state(), rng), "the global generator was used"


DYNAMIC = [name for name in weighting.listed() if weighting.strategy(name).start(part_of(), 0) is not None]


@pytest.mark.parametrize("name", DYNAMIC)
def test_every_dynamic_strategy_keeps_the_contract(name: str) -> None:
    check_dynamic(weighting.strategy(name), part_of())


def test_the_families_that_must_be_dynamic_are() -> None:
    families = {name.split(":")[0] for name in DYNAMIC}
    assert families >= {
        "group-dro",
        "vrex",
        "focal",
        "jtt",
        "lisa",
        "l2rw",
        "mw-net",
        "permuted",
        "class-mean",
    }
    assert families.isdisjoint({"equal", "distance", "cc-bcd", "per-distance"})


@pytest.mark.parametrize(
    "update",
    [
        lambda batch, calls: torch.full((len(batch.rows),), 2.0),  # mean 2
        lambda batch, calls: torch.linspace(-1, 3, len(batch.rows)),  # negative
        lambda batch, calls: torch.full((len(batch.rows),), float("nan")),
        lambda batch, calls: torch.ones(len(batch.rows)) + len(calls),  # grows
        lambda batch, calls: torch.rand(len(batch.rows)),  # different each time, from the global generator
        # a hidden state that `state` does not carry
        lambda batch, calls: torch.linspace(0, 2, len(batch.rows)).roll(len(calls)),
    ],
)
def test_the_contract_check_sees_a_broken_dynamic_strategy(
    update: Callable[[Batch, list[int]], torch.Tensor],
) -> None:
    """Negative controls of `check_dynamic`."""
    with pytest.raises(AssertionError):
        check_dynamic(Own(update), part_of())


def one_batch(part: TrainPart, rows: int = 48, epoch: int = 9) -> Batch:
    return batch_of(part, torch.randperm(len(part))[:rows], epoch, 7)


def gradient(batch: Batch, loss: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Gradient of `loss(CE [b])` for the last layer's weights, by autograd."""
    weight = batch.weight.clone().requires_grad_(True)
    loss(CE(batch.features @ weight.T + batch.bias, batch.target, reduction="none")).backward()
    assert weight.grad is not None
    return weight.grad


@pytest.mark.parametrize("kind", ["distance", "class-distance"])
def test_vrex_as_weights_has_the_gradient_of_its_penalised_loss(kind: str) -> None:
    part, beta = part_of(), 10.0
    batch, group = one_batch(part), grouped(kind, part, "")

    def penalised(losses: torch.Tensor, factor: float = beta) -> torch.Tensor:
        here = group[batch.rows]
        means = torch.stack([losses[here == g].mean() for g in torch.unique(here)])
        return means.mean() + factor * ((means - means.mean()) ** 2).mean()

    run = weighting.strategy(f"vrex:{kind}:beta={beta:g}:warm=0").start(part, 0)
    assert run is not None
    weights = run.update(batch)
    by_weights = gradient(batch, lambda losses: (weights * losses).mean())
    assert torch.allclose(by_weights, gradient(batch, penalised), atol=1e-5)
    assert float(weights.min()) < 0  # the case that makes V-REx `signed`
    # negative control: another beta has another gradient
    assert not torch.allclose(by_weights, gradient(batch, lambda v: penalised(v, 9.0)), atol=1e-3)


def test_group_dro_equals_a_hand_count() -> None:
    part = TrainPart(
        np.ones((4, 2), np.float32),
        np.array(["a", "b", "a", "b"]),
        np.array(["1", "2", "3", "4"]),
        np.array([2, 2, 2, 5], np.float32),
    )
    run = weighting.strategy("group-dro:distance:eta=0.5:c=1").start(part, 0)
    assert run is not None
    empty = torch.zeros(4, 1)
    batch = Batch(
        torch.arange(4), torch.zeros(4), torch.tensor([1.0, 2, 3, 6]), empty, empty, empty, empty[0], 1
    )
    q = np.exp(0.5 * (np.array([2.0, 6.0]) + 1 / np.sqrt([3, 1])))
    q /= q.sum()
    assert np.allclose(run.update(batch).numpy(), [4 * q[0] / 3] * 3 + [4 * q[1]])
    q *= np.exp(0.5 * (np.array([2.0, 6.0]) + 1 / np.sqrt([3, 1])))
    q /= q.sum()
    assert np.allclose(run.update(batch).numpy(), [4 * q[0] / 3] * 3 + [4 * q[1]])


def test_learning_to_reweight_equals_inner_products_of_autograd_gradients() -> None:
    part = part_of()
    batch = one_batch(part, 24)
    grads = []
    for i in range(24):
        weight, bias = batch.weight.clone().requires_grad_(), batch.bias.clone().requires_grad_()
        CE(batch.features[i : i + 1] @ weight.T + bias, batch.target[i : i + 1]).backward()
        assert weight.grad is not None
        assert bias.grad is not None
        grads.append(torch.cat([weight.grad.flatten(), bias.grad]))
    g = torch.stack(grads)
    rows = batch.rows.numpy()
    distance, specimen = part.distance_m[rows], part.specimen[rows]
    say = torch.tensor([1 / (distance == d).sum() for d in distance], dtype=torch.float32)
    raw = []
    for i in range(24):
        others = torch.from_numpy(specimen != specimen[i]) * say
        raw.append(max(float(g[i] @ (g * others[:, None]).sum(0) / others.sum()), 0))
    run = weighting.strategy("l2rw").start(part, 0)
    assert run is not None
    weights = run.update(batch).numpy()
    assert np.allclose(weights, np.array(raw) / np.mean(raw), atol=1e-4)
    assert weights.min() == 0
    assert weights.max() > 1.2


def test_focal_and_jtt_equal_hand_counts() -> None:
    part = part_of()
    batch = one_batch(part)
    p = torch.softmax(batch.logits, 1)[torch.arange(48), batch.target]
    run = weighting.strategy("focal:gamma=2").start(part, 0)
    assert run is not None
    assert torch.allclose(run.update(batch), (1 - p) ** 2 / ((1 - p) ** 2).mean(), atol=1e-5)
    jtt = weighting.strategy("jtt:t=2:up=5").start(part, 0)
    assert jtt is not None
    first, second, third = steps(jtt, part, range(1, 4))
    assert torch.equal(first, torch.ones(96))
    assert torch.equal(second, torch.ones(96))
    wrong = torch.zeros(96, dtype=torch.bool)
    for step, rows in enumerate(torch.randperm(96, generator=torch.Generator().manual_seed(2)).split(32)):
        batch = batch_of(part, rows, 2, 200 + step)
        wrong[rows] = batch.logits.argmax(1) != batch.target
    raw = 1 + 4 * wrong.float()
    assert torch.allclose(third, raw / raw.mean(), atol=1e-5)


def test_lisa_mixes_two_distances_of_one_class() -> None:
    part = part_of()
    run: Any = weighting.strategy("lisa:a=2:p=1").start(part, 0)
    rows, rng = torch.arange(96).repeat(50), torch.Generator().manual_seed(0)
    partner = run.partners(rows, rng).numpy()
    assert (part.label[partner] == part.label[rows]).all()
    assert (part.distance_m[partner] != part.distance_m[rows]).all()
    for row in (0, 17, 95):  # every possible partner is drawn, evenly
        drawn = partner[rows.numpy() == row]
        allowed = (part.label == part.label[row]) & (part.distance_m != part.distance_m[row])
        assert len(np.unique(drawn)) > 0.6 * allowed.sum()
    # on a ramp between row and partner the mixing share can be read off: Beta(2, 2) has mean 1/2, variance 1/20
    run.values = torch.ones(96, 1)
    share = run.mix(torch.zeros(4800, 1), rows, rng)[:, 0]
    assert abs(float(share.mean()) - 0.5) < 0.02
    assert abs(float(share.var()) - 0.05) < 0.005
    half: Any = weighting.strategy("lisa:a=2:p=0.5").start(part, 0)
    half.values = torch.ones(96, 1)
    assert abs(float((half.mix(torch.zeros(4800, 1), rows, rng) == 0).float().mean()) - 0.5) < 0.03
    with pytest.raises(DatasetError, match="two distances of every class"):
        weighting.strategy("lisa").start(replace(part, distance_m=np.full(96, 2, np.float32)), 0)


def test_meta_weight_net_learns_to_distrust_wrong_labels() -> None:
    """A third of the labels is wrong and BCD says which (a made-up case): their weights fall below the rest."""
    rng = np.random.default_rng(0)
    n = 240
    truth, wrong = rng.integers(0, 3, n), rng.random(n) < 0.33
    label = np.where(wrong, (truth + 1) % 3, truth)
    part = TrainPart(
        rng.random((n, 4)).astype(np.float32),
        np.char.add("c", label.astype(str)),
        np.char.add("s", (np.arange(n) % 20).astype(str)),
        rng.choice([2.0, 4.0], n).astype(np.float32),
    )
    run: Any = weighting.strategy("mw-net:lr=0.01:a=1").start(part, 0)
    run.known[:, 2] = torch.from_numpy(wrong.astype(np.float32))
    features = torch.from_numpy(np.eye(3, dtype=np.float32)[truth])
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        rows = torch.randperm(n, generator=generator)[:64]
        weight = torch.zeros(3, 3)
        target = torch.from_numpy(label)[rows]
        logits = features[rows] @ weight.T
        weights = run.update(
            Batch(
                rows,
                target,
                CE(logits, target, reduction="none"),
                logits,
                features[rows],
                weight,
                torch.zeros(3),
                1,
            )
        )
    bad = torch.from_numpy(wrong)[rows]
    assert float(weights[bad].mean()) < 0.5 * float(weights[~bad].mean())


def test_controls_lose_what_they_say_and_keep_the_rest() -> None:
    part = part_of()
    inner = weighting.strategy("cc-bcd:w3:r1:a=8:b=8").fit(part)
    permuted = weighting.strategy("permuted:cc-bcd:w3:r1:a=8:b=8").fit(part)
    assert np.array_equal(np.sort(permuted), np.sort(inner))
    assert abs(np.corrcoef(permuted, inner)[0, 1]) < 0.4
    for family, column in (("distance-mean", part.distance_m), ("class-mean", part.label)):
        found = weighting.strategy(f"{family}:cc-bcd:w3:r1:a=8:b=8").fit(part)
        for value in np.unique(column):
            assert np.allclose(found[column == value], inner[column == value].mean())
        batch = one_batch(part)
        run = weighting.strategy(f"{family}:focal").start(part, 0)
        plain = weighting.strategy("focal").start(part, 0)
        assert run is not None
        assert plain is not None
        got, want = run.update(batch), plain.update(batch)
        for value in np.unique(column):
            here = torch.from_numpy(column[batch.rows.numpy()] == value)
            assert torch.allclose(got[here], want[here].mean())
    mixed: Any = weighting.strategy("permuted:focal").start(part, 0)
    got, want = mixed.update(batch), weighting.strategy("focal").start(part, 0).update(batch)  # type: ignore[union-attr]
    assert torch.equal(got.sort().values, want.sort().values)
    assert not torch.equal(got, want)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("permuted", "name a strategy"),
        ("permuted:lisa", "says nothing"),
        ("permuted:class-mean:focal", "says nothing"),
        ("permuted:best", "no such strategy"),
        ("per-distance", "name a weight"),
        ("per-distance:2=11", "metres=weight"),
        ("per-distance:2=1:2.0001=2", "each distance once"),
        ("group-dro", "one of distance, class-distance"),
        ("vrex:distance:eta=1", "takes beta=, warm="),
        ("lisa:a=0", "must be 1 ... 8"),
        ("l2rw:a=1", "takes nothing"),
    ],
)
def test_bad_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        weighting.strategy(name)


@pytest.mark.parametrize("name", ["group-dro:distance", "vrex:distance", "lisa", "l2rw", "mw-net"])
def test_unknown_distances_are_refused_where_needed(name: str) -> None:
    part = part_of()
    unknown = part.distance_m.copy()
    unknown[3] = np.nan
    with pytest.raises(DatasetError, match="1 of 96 have none"):
        weighting.strategy(name).fit(replace(part, distance_m=unknown))
