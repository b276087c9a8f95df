"""Spectrum to decision on a real compiled bundle, against the NumPy reference and a softmax written here."""

from __future__ import annotations

import decimal
import gc
import math
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libsedge.bundle import Bundle
from libsedge.classifier import REASONS, Classifier, Decision, _taken, exp_table, real_softmax, softmax
from libsedge.errors import AxisError, SpectrumError, UnknownIsaError
from libsedge.preprocess import Preprocessor

AXIS = np.linspace(235.0, 860.0, 900)
SATURATION = 60000.0


@pytest.fixture(scope="module")
def opened(tiny_model: Any) -> Bundle:
    return tiny_model.open()


@pytest.fixture
def classifier(opened: Bundle) -> Classifier:
    return Classifier(opened).bind(AXIS)


def plasma(n: int, seed: int = 0) -> np.ndarray:
    """Lines on a noisy background, counts float32 [n, 900]; nothing physical."""
    rng = np.random.default_rng(seed)
    counts = rng.normal(500.0, 10.0, (n, AXIS.size))
    for row in counts:
        for centre, height in zip(rng.uniform(250, 840, 40), rng.uniform(500, 20000, 40), strict=True):
            row += height * np.exp(-(((AXIS - centre) / 0.8) ** 2))
    return counts.astype(np.float32)


def test_decisions_equal_the_reference(classifier: Classifier, tiny_model: Any, opened: Bundle) -> None:
    from libsedge_native import reference

    counts, dark = plasma(20), np.full(AXIS.size, 480.0, np.float32)
    decisions = classifier.classify_many(counts, dark, saturation=SATURATION)
    inputs = Preprocessor(opened.preprocess, AXIS).int8(counts, dark)
    calibration = opened.calibration
    labels = set()
    for row, decision in zip(inputs, decisions, strict=True):
        logits = reference.run(tiny_model.graph, row).astype(np.float64)
        z = (
            (logits - calibration["logit_zero_point"])
            * calibration["logit_scale"]
            / calibration["temperature"]
        )
        expected = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        assert decision.probabilities == pytest.approx(expected, rel=1e-12)
        assert decision.index == int(np.argmax(logits))
        assert decision.label == opened.labels[decision.index]
        assert decision.confidence == max(decision.probabilities)
        assert decision.accepted == (decision.confidence >= calibration["min_confidence"])
        assert decision.reason == (None if decision.accepted else "low_confidence")
        labels.add(decision.label)
    assert len(labels) > 1  # the net does not say the same whatever it sees


def test_one_is_many(classifier: Classifier) -> None:
    counts = plasma(5)
    many = classifier.classify_many(counts, distance_m=[1.0, 2.0, 3.0, 4.0, 5.0])
    one = [classifier.classify(row, distance_m=float(i + 1)) for i, row in enumerate(counts)]
    assert one == many


def test_integer_counts_are_the_same_as_float(classifier: Classifier) -> None:
    counts = plasma(3).astype(np.uint16)
    a = classifier.classify_many(counts, distance_m=[1, 1, 1])
    assert a == classifier.classify_many(counts.astype(np.float32), distance_m=[1, 1, 1])


def test_every_reason(opened: Bundle, classifier: Classifier) -> None:
    good = plasma(1)[0]
    non_finite, saturated = good.copy(), good.copy()
    non_finite[300] = np.nan
    saturated[100:120] = 65535.0  # 20 of 900 channels, the limit is 1 %
    noise = np.random.default_rng(3).normal(500, 10, AXIS.size).astype(np.float32)
    off_grid = Classifier(opened).bind(AXIS)
    unsure = Classifier(replace(opened, calibration=opened.calibration | {"min_confidence": 0.999})).bind(
        AXIS
    )
    seen = {
        classifier.classify(good[:-1]).reason,
        classifier.classify(non_finite).reason,
        off_grid.classify(good, shift_nm=5000.0).reason,
        classifier.classify(saturated, saturation=SATURATION).reason,
        classifier.classify(noise).reason,
        unsure.classify(good).reason,
    }
    assert seen == set(REASONS)
    assert classifier.classify(good, saturation=SATURATION).reason is None
    assert classifier.classify(saturated).reason is None  # level unknown: nothing is called saturated
    assert unsure.classify(good).label is not None
    refused = classifier.classify(noise)
    assert (refused.label, refused.confidence, refused.probabilities, refused.accepted) == (
        None,
        None,
        None,
        False,
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row.astype(np.float64),
        lambda row: row.astype(">f4"),
        lambda row: np.repeat(row, 2)[::2],
        lambda row: np.frombuffer(b"0" + row.tobytes(), np.uint8)[1:].view(np.float32),
        list,
    ],
    ids=["float64", "big-endian", "strided", "unaligned", "list"],
)
def test_a_spectrum_in_any_form_is_the_same_spectrum(
    opened: Bundle, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    """The compiled way takes nothing but what a source hands over; what it leaves is converted, then decided."""
    asked: list[Any] = []

    def taken(*arguments: Any) -> Any:
        asked.append(arguments)
        return _taken(*arguments)

    monkeypatch.setattr("libsedge.classifier._taken", taken)
    row, classifier = plasma(1)[0], Classifier(opened).bind(AXIS)
    plain = classifier.decide(row, None, 0.0, None, 2.0)
    assert isinstance(plain, Decision)
    assert plain.label is not None
    assert not asked
    assert classifier.decide(change(row), None, 0.0, None, 2.0) == plain
    assert len(asked) == 1


def test_the_compiled_way_refuses_what_it_cannot_take(classifier: Classifier) -> None:
    row, decide = plasma(1)[0], classifier.decide
    short = decide(row[:-1], None, 0.0, None, 1.0)
    assert short == Decision(None, None, None, None, False, "wrong_length", 1.0)
    with pytest.raises(SpectrumError, match="dark"):
        decide(row, np.zeros(3, np.float32), 0.0, None, 1.0)
    with pytest.raises(SpectrumError, match="shift_nm"):
        decide(row, None, math.inf, None, 1.0)
    with pytest.raises(TypeError):
        decide(row, None, "far", None, 1.0)
    with pytest.raises(TypeError):
        decide(row)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("libsedge.classifier._taken", lambda _, *unchanged: unchanged[:2])
        with pytest.raises(RuntimeError, match="cannot be taken"):
            Classifier(classifier.bundle).bind(AXIS).decide(list(row), None, 0.0, None, 1.0)


def test_a_kept_decide_keeps_all_that_it_needs(opened: Bundle) -> None:
    row = plasma(1)[0]
    decide = Classifier(opened).bind(AXIS).decide
    gc.collect()
    assert decide(row, None, 0.0, None, 1.0) == Classifier(opened).bind(AXIS).classify(row, distance_m=1.0)


def test_deciding_leaves_no_reference_behind(classifier: Classifier, opened: Bundle) -> None:
    good, dim = plasma(1)[0], np.full(AXIS.size, 500.0, np.float32)
    assert classifier.classify(dim).reason == "too_dim"
    held = [good, dim, None, False, Decision, classifier.classify(good).label]
    before = [sys.getrefcount(it) for it in held]
    for _ in range(200):
        classifier.classify(good)
        classifier.classify(dim)
    assert max(abs(sys.getrefcount(it) - n) for it, n in zip(held, before, strict=True)) < 50


def test_mixed_block_keeps_its_order(classifier: Classifier) -> None:
    counts = plasma(6)
    counts[1, 5] = np.inf
    counts[4] = 500.0
    decisions = classifier.classify_many(counts, distance_m=list(range(1, 7)))
    assert [d.reason for d in decisions] == [None, "non_finite", None, None, "too_dim", None]
    assert [d.distance_m for d in decisions] == [1, 2, 3, 4, 5, 6]
    alone = [classifier.classify(counts[i], distance_m=i + 1) for i in (0, 2, 3, 5)]
    assert [decisions[i] for i in (0, 2, 3, 5)] == alone


@pytest.mark.parametrize(
    "spectrum",
    [
        np.zeros(900, np.float32),
        np.full(900, 65535, np.uint16),
        np.full(900, -5.0, np.float32),
        np.full(900, np.nan, np.float32),
        np.full(900, np.inf, np.float32),
        np.full(900, 1e-40, np.float32),
        np.full(900, 3e38, np.float32),
        np.eye(1, 900, 450, dtype=np.float32)[0],
        np.zeros(1, np.uint16),
        np.zeros(65536, np.uint16),
        np.full(900, -np.inf),
        np.arange(900, dtype=np.int64) * (1 << 40),
    ],
)
def test_bad_spectra_are_verdicts(classifier: Classifier, spectrum: np.ndarray) -> None:
    decision = classifier.classify(spectrum, saturation=SATURATION)
    assert decision.accepted == (decision.reason is None)
    assert decision.confidence is None or math.isfinite(decision.confidence)
    if not decision.accepted:
        assert decision.reason in REASONS


def test_what_is_no_spectrum_is_a_typed_error(opened: Bundle, classifier: Classifier) -> None:
    with pytest.raises(AxisError, match="bind"):
        Classifier(opened).classify(plasma(1)[0])
    for wrong in (np.zeros((2, 2, 2)), np.zeros(900, complex), np.array(["a"] * 900)):
        with pytest.raises(SpectrumError):
            classifier.classify(wrong)
    with pytest.raises(SpectrumError, match="dark"):
        classifier.classify(plasma(1)[0], dark=np.zeros(3, np.float32))
    with pytest.raises(UnknownIsaError):
        Classifier(opened, isa="abacus")


def test_every_instruction_set_decides_the_same(opened: Bundle) -> None:
    counts = plasma(20, seed=5)
    results = {}
    for isa, runnable in opened.model().isas:
        if runnable:
            results[isa] = Classifier(opened, isa).bind(AXIS).classify_many(counts, distance_m=[1.0] * 20)
    assert "scalar" in results
    assert all(result == results["scalar"] for result in results.values())


def test_without_an_axis_spectra_are_on_the_models_grid(opened: Bundle) -> None:
    classifier = Classifier(opened).bind()
    assert classifier.channels == opened.preprocess.points


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(-128, 127), min_size=1, max_size=12),
    st.floats(1e-3, 1.0),
    st.floats(0.1, 10.0),
)
def test_softmax_against_plain_python(logits: list[int], scale: float, temperature: float) -> None:
    got = softmax(np.array([logits], np.int8), exp_table(scale, temperature))[0]
    weights = [math.exp((q - max(logits)) * scale / temperature) for q in logits]
    assert got == pytest.approx([w / math.fsum(weights) for w in weights], rel=1e-12, abs=1e-300)
    assert math.fsum(got) == pytest.approx(1.0, abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-800, 800, width=32), min_size=1, max_size=12), st.floats(0.5, 10.0))
def test_real_softmax_against_decimal_arithmetic(logits: list[float], temperature: float) -> None:
    """Every exponential is off by at most one unit in the last place, one rounding of its argument, and the sum's."""
    got = real_softmax(np.array([logits], np.float32), temperature)[0]
    with decimal.localcontext(decimal.Context(prec=40)):
        steps = [
            (decimal.Decimal(x) - decimal.Decimal(max(logits))) / decimal.Decimal(temperature) for x in logits
        ]
        weights = [step.exp() for step in steps]
        wanted = [float(weight / sum(weights)) for weight in weights]
    for value, right, step in zip(got.tolist(), wanted, steps, strict=True):
        if step < -708:
            assert value == 0.0
        else:
            assert value == pytest.approx(right, rel=(abs(float(step)) + 16) * 2.0**-53)


def test_real_softmax_bits_are_pinned() -> None:
    """The same bits on every machine, whatever its C library; what is not a number stays so."""
    got = real_softmax(np.array([[0.0, -1.0, -20.5, -3e38]], np.float32), 1.5)[0]
    assert [float(x).hex() for x in got] == [
        "0x1.524e97a4b0e0bp-1",
        "0x1.5b629d411067ap-2",
        "0x1.9bac6eb7ae44ap-21",
        "0x0.0p+0",
    ]
    assert np.isnan(real_softmax(np.array([[0.0, np.nan]], np.float32), 1.0)).all()


def test_softmax_bits_are_pinned() -> None:
    """The same bits on every machine: hexadecimal floats, computed once with exact decimal arithmetic."""
    table = exp_table(0.0625, 1.5)
    assert [float(x).hex() for x in table[[0, 1, 24, 255]]] == [
        "0x1.0000000000000p+0",
        "0x1.eb1ae169e74aep-1",
        "0x1.78b56362cef38p-2",
        "0x1.97b34688c4f39p-16",
    ]
