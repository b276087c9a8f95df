"""Splits: whole specimens, every class everywhere, typed refusals, and a leak that turns the check red."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libsedge.errors import DatasetError
from libsedge_training.splits import check_no_leak, group_folds, split_by_specimen


def table(sizes: dict[str, int], shots: int = 4) -> tuple[list[str], list[str]]:
    """(labels, specimens): `shots` rows of each of `sizes[class]` specimens."""
    rows = [(c, f"{c}-{i}") for c, size in sizes.items() for i in range(size) for _ in range(shots)]
    return [c for c, _ in rows], [s for _, s in rows]


SIZES = {"basalt": 12, "carbonate": 9, "clay": 7, "gypsum": 4, "olivine": 3, "salt": 2 + 1}


def test_every_class_is_in_every_part_and_no_specimen_in_two() -> None:
    labels, specimens = table(SIZES)
    split = split_by_specimen(labels, specimens, seed=3, test=9, validation=7)
    assert list(split) == ["train", "validation", "test"]
    assert np.array_equal(np.sort(np.concatenate(list(split.values()))), np.arange(len(labels)))
    names = {part: {specimens[i] for i in rows} for part, rows in split.items()}
    assert len(names["test"]) == 9
    assert len(names["validation"]) == 7
    assert not names["train"] & names["test"]
    assert not names["train"] & names["validation"]
    assert not names["validation"] & names["test"]
    for rows in split.values():
        assert {labels[i] for i in rows} == set(SIZES)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(3, 9), min_size=2, max_size=5),
    st.integers(0, 6),
    st.integers(0, 4),
    st.integers(0, 2**31),
)
def test_a_split_holds_its_promises_or_refuses(
    sizes: list[int], more_test: int, more_held: int, seed: int
) -> None:
    labels, specimens = table({f"c{i}": size for i, size in enumerate(sizes)}, shots=2)
    test, held = len(sizes) + more_test, len(sizes) + more_held
    if test + held + len(sizes) > sum(sizes):
        with pytest.raises(DatasetError, match="at most"):
            split_by_specimen(labels, specimens, seed, test, held)
        return
    split = split_by_specimen(labels, specimens, seed, test, held)
    counts = {part: len({specimens[i] for i in rows}) for part, rows in split.items()}
    assert counts == {"test": test, "validation": held, "train": sum(sizes) - test - held}
    assert all(len({labels[i] for i in rows}) == len(sizes) for rows in split.values())


def test_a_split_depends_on_the_seed_and_not_on_the_order_of_rows() -> None:
    labels, specimens = table(SIZES)
    shuffled = np.random.default_rng(0).permutation(len(labels))

    def held_out(seed: int, rows: np.ndarray) -> set[str]:
        split = split_by_specimen([labels[i] for i in rows], [specimens[i] for i in rows], seed)
        return {specimens[rows[i]] for i in split["test"]}

    identity = np.arange(len(labels))
    assert held_out(0, identity) == held_out(0, shuffled)
    assert len({frozenset(held_out(seed, identity)) for seed in range(5)}) > 1


def test_a_leaked_specimen_turns_the_check_red() -> None:
    """Negative control: one shot of a training specimen in the test part is enough."""
    labels, specimens = table(SIZES)
    split = split_by_specimen(labels, specimens, seed=0)
    check_no_leak(split, specimens)
    shot = split["train"][0]
    leaked = split | {"train": split["train"][1:], "test": np.append(split["test"], shot)}
    with pytest.raises(DatasetError, match=f"specimen = '{specimens[shot]}': is in 'train' and in 'test'"):
        check_no_leak(leaked, specimens)
    with pytest.raises(DatasetError, match="twice"):
        check_no_leak({"train": np.array([0, 0])}, specimens)


def test_a_split_by_shot_would_be_caught() -> None:
    """Negative control: the usual random split of the rows leaks."""
    _, specimens = table(SIZES)
    rows = np.random.default_rng(0).permutation(len(specimens))
    with pytest.raises(DatasetError, match="leak"):
        check_no_leak({"train": rows[30:], "test": rows[:30]}, specimens)


def test_folds_hold_every_specimen_once_and_every_class_always() -> None:
    labels, specimens = table(SIZES)
    folds = group_folds(labels, specimens, k=3, seed=1)
    assert np.array_equal(np.sort(np.concatenate([f["validation"] for f in folds])), np.arange(len(labels)))
    sizes = [len({specimens[i] for i in f["validation"]}) for f in folds]
    assert max(sizes) - min(sizes) <= 1
    for fold in folds:
        assert {labels[i] for i in fold["validation"]} == {labels[i] for i in fold["train"]} == set(SIZES)
        assert not {specimens[i] for i in fold["validation"]} & {specimens[i] for i in fold["train"]}


def test_bad_sets_are_refused_by_name() -> None:
    labels, specimens = table({"basalt": 5, "clay": 2})
    with pytest.raises(DatasetError, match=r"label = 'clay': has 2 specimen\(s\) \(clay-0, clay-1\)"):
        split_by_specimen(labels, specimens, seed=0)
    with pytest.raises(DatasetError, match="'clay'"):
        group_folds(labels, specimens, k=3, seed=0)
    labels, specimens = table({"basalt": 5, "clay": 4})
    with pytest.raises(DatasetError, match="test = 1: with 2 classes at least 2"):
        split_by_specimen(labels, specimens, seed=0, test=1)
    with pytest.raises(DatasetError, match="test = 9: at most"):
        split_by_specimen(labels, specimens, seed=0, test=9)
    with pytest.raises(DatasetError, match=r"1 of 36 rows have no label \(first: row 3\)"):
        split_by_specimen([*labels[:3], "", *labels[4:]], specimens, seed=0)
    with pytest.raises(DatasetError, match="no specimen"):
        split_by_specimen(labels, [*specimens[:-1], ""], seed=0)
    with pytest.raises(DatasetError, match="two labels, 'basalt' and 'clay'"):
        split_by_specimen(["basalt", "clay"], ["x", "x"], seed=0)
    with pytest.raises(DatasetError, match="empty"):
        split_by_specimen([], [], seed=0)
    with pytest.raises(DatasetError, match="at least 2 classes"):
        split_by_specimen(*table({"basalt": 5}), seed=0)
    with pytest.raises(DatasetError, match="at least 2 folds"):
        group_folds(labels, specimens, k=1, seed=0)
