"""Expected calibration error: by hand, at the edges, in any order."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skuq._bins import bin_statistics
from skuq.metrics import (
    ReliabilityDisplay,
    ece_scorer,
    expected_calibration_error,
    smooth_calibration_error,
)

ece = expected_calibration_error
OPTIONS = [
    {"strategy": strategy, "norm": norm, "kind": kind}
    for strategy in ("uniform", "quantile")
    for norm in ("l1", "l2", "max")
    for kind in ("top-label", "classwise", "binary")
]


def sample_of_three():
    random = np.random.default_rng(3)
    return np.arange(60) % 3, random.dirichlet(np.ones(3), 60)


def by_hand(confidence, hit, n_bins):
    """The definition, bin by bin."""
    total = 0.0
    for b in range(n_bins):
        inside = (confidence > b / n_bins) & (confidence <= (b + 1) / n_bins)
        if b == 0:
            inside |= confidence == 0
        if inside.any():
            total += inside.sum() * abs(confidence[inside].mean() - hit[inside].mean())
    return total / len(hit)


@st.composite
def predictions(draw):
    n, k = draw(st.integers(1, 40)), draw(st.integers(2, 4))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    proba = random.dirichlet(np.full(k, draw(st.sampled_from([0.01, 1.0, 50.0]))), n)
    proba = np.round(proba, 2)
    proba /= proba.sum(1, keepdims=True)
    return random.integers(0, k, n), proba


@settings(deadline=None, derandomize=True, max_examples=200)
@given(predictions())
def test_against_the_definition(case):
    y, proba = case
    labels = np.arange(proba.shape[1])
    confidence = proba.max(1)
    if np.abs(confidence * 10 - np.round(confidence * 10)).min() > 1e-9:  # no edge to round at
        expected = by_hand(confidence, proba.argmax(1) == y, 10)
        assert ece(y, proba, labels=labels, n_bins=10) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(predictions(), st.integers(0, 1000))
def test_bounds_order_weights_and_norms(case, seed):
    y, proba = case
    random = np.random.default_rng(seed)
    order = random.permutation(len(y))
    counts = random.integers(0, 3, len(y))
    counts[0] = 1
    repeated = np.repeat(np.arange(len(y)), counts)
    for options in OPTIONS:
        if options["kind"] == "binary" and proba.shape[1] > 2:
            continue
        options = {**options, "labels": np.arange(proba.shape[1])}
        value = ece(y, proba, **options)
        assert 0 <= value <= 1
        assert ece(y[order], proba[order], **options) == pytest.approx(value, abs=1e-12)
        weighted = ece(y, proba, sample_weight=counts, **options)
        assert ece(y[repeated], proba[repeated], **options) == pytest.approx(weighted, abs=1e-12)
    one, two, largest = (
        ece(y, proba, labels=np.arange(proba.shape[1]), norm=n) for n in ("l1", "l2", "max")
    )
    assert one <= two + 1e-12 <= largest + 2e-12
    coarse, fine = (ece(y, proba, labels=np.arange(proba.shape[1]), n_bins=n) for n in (5, 10))
    assert coarse <= fine + 1e-12  # nested bins


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o.values()))
def test_blocks_and_kinds_of_arrays(options, monkeypatch):
    random = np.random.default_rng(0)
    k = 2 if options["kind"] == "binary" else 5
    proba = random.dirichlet(np.full(k, 0.5), 333).astype(np.float32)
    y, weight = random.integers(0, k, 333), random.integers(0, 2, 333)
    weight[60:120] = 0  # whole blocks of nothing
    expected = ece(y, proba.astype(float), **options)
    weighted = ece(y, proba.astype(float), sample_weight=weight, **options)
    monkeypatch.setattr("skuq.metrics._checks._BLOCK_NUMBERS", 100)
    fixed = proba.copy()
    fixed.flags.writeable = False
    for same in (proba, fixed, np.asfortranarray(proba), proba[::-1].copy()[::-1], proba.tolist()):
        assert ece(y, same, **options) == pytest.approx(expected, abs=1e-9)
        value = ece(y, same, sample_weight=weight, **options)
        assert value == pytest.approx(weighted, abs=1e-9)


def test_memory_is_that_of_blocks():
    random = np.random.default_rng(0)
    proba = random.dirichlet(np.ones(10), 400_000).astype(np.float32)
    y = random.integers(0, 10, 400_000)
    tracemalloc.start()
    ece(y, proba)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < proba.nbytes / 4


def test_of_classes_that_tie_the_first_is_the_prediction():
    proba = [[0.4, 0.4, 0.2], [0.1, 0.45, 0.45]]
    labels = [0, 1, 2]
    assert ece([0, 1], proba, labels=labels, norm="max") == pytest.approx(0.6)
    assert ece([1, 2], proba, labels=labels, norm="max") == pytest.approx(0.45)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([np.nan, 0.5], "NaN"),
        ([np.inf, 0.5], "infinity"),
        ([-0.5, 1.5], r"from -0.5 to 1.5"),
        ([0.5, 0.6], "sum to 1"),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_bad_row_of_many_blocks(bad, message, dtype, monkeypatch):
    monkeypatch.setattr("skuq.metrics._checks._BLOCK_NUMBERS", 10)
    proba = np.full((100, 2), 0.5, dtype)
    proba[50] = 0.50004, 0.50004  # near enough to 1
    proba[77] = bad
    for weight in (None, np.arange(100) != 77):  # rows of no weight are checked, too
        with pytest.raises(ValueError, match=message):
            ece(np.arange(100) % 2, proba, sample_weight=weight)


def test_confidence_zero_and_one_and_edges_are_in_a_bin():
    confidence = np.array([0.0, 1.0, *np.linspace(0, 1, 16), 0.1 + 0.2, 0.7])
    hit = np.ones_like(confidence)
    for n_bins in (1, 3, 10, 15):
        bins = bin_statistics(confidence, hit, np.ones_like(hit), n_bins, "uniform")
        assert bins.share.sum() == pytest.approx(1)
        assert bins.confidence.min() <= 1 / n_bins and bins.confidence.max() > 1 - 1 / n_bins
    bins = bin_statistics(np.array([0.7]), np.ones(1), np.ones(1), 10, "uniform")
    assert bins.confidence == 0.7


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_constant_confidence(strategy):
    """All values in one bin, of equal mass, too: |accuracy − confidence|, not 0."""
    y, proba = np.array([0] * 6 + [1] * 4), np.tile([0.9, 0.1], (10, 1))
    assert ece(y, proba, strategy=strategy) == pytest.approx(0.3)


def test_perfect_steps_give_zero():
    confidence = np.repeat([0.55, 0.75, 0.95], 100)
    hit = np.concatenate([np.arange(100) < n for n in (55, 75, 95)])
    assert ece(hit, confidence, kind="binary", n_bins=10) == pytest.approx(0, abs=1e-12)


def test_calibrated_predictions_approach_zero():
    random = np.random.default_rng(0)
    values = []
    for n in (1_000, 100_000):
        p = random.random(n)
        values.append(ece((random.random(n) < p).astype(int), p, kind="binary"))
    assert values[0] < 0.07 and values[1] < 0.008


def test_binary_and_top_label_are_other_numbers():
    y, p = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.2, 0.9])
    expected = abs(0.1 - 0) + abs(0.2 - 1) + abs(0.4 - 0) + abs(0.9 - 1)
    assert ece(y, p, kind="binary", n_bins=10) == pytest.approx(expected / 4)
    expected = abs((0.9 + 0.9) / 2 - 1) * 2 + abs(0.6 - 1) + abs(0.8 - 0)
    assert ece(y, p, n_bins=10) == pytest.approx(expected / 4)
    both = np.column_stack([1 - p, p])
    assert ece(y, both, kind="binary") == ece(y, p, kind="binary")


def test_classwise_is_the_mean_over_classes():
    y, proba = np.array([0, 1, 2]), np.eye(3)[[0, 2, 2]]
    assert ece(y, proba, kind="classwise") == pytest.approx((0 + 1 / 3 + 1 / 3) / 3)


@pytest.mark.parametrize("labels", [["no", "yes"], [-1, 1], [5, 7], [False, True]], ids=str)
def test_labels_of_any_kind(labels):
    y, p = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.2, 0.9])
    assert ece(np.array(labels)[y], p) == ece(y, p)


@pytest.mark.parametrize(
    "values", [[0, 1, 2], [3, 4, 5], [-1, 0, 1], [0, 1, 3], [2, 4, 9]], ids=str
)
@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint64, float, object])
def test_integers_with_and_without_gaps(values, dtype):
    if dtype is np.uint64 and values[0] < 0:
        values = [2**64 - 4, 2**64 - 3, 2**64 - 2]
    y, proba = sample_of_three()
    known = np.array(values, dtype=dtype)
    assert ece(known[y], proba) == ece(y, proba)
    assert ece(known[y], proba, labels=known) == ece(y, proba)
    few = y != 1
    expected = ece(y[few], proba[few], labels=[0, 1, 2])
    assert ece(known[y[few]], proba[few], labels=known) == expected
    with pytest.raises(ValueError, match="pass labels="):
        ece(known[y[few]], proba[few])
    with pytest.raises(ValueError, match="not among"):
        ece(known[y], proba, labels=np.array([*values[:2], values[2] + 1], dtype=dtype))


@pytest.mark.parametrize("dtype", [bool, np.uint8, int, float, object])
def test_one_class_of_zero_and_one(dtype):
    for label, expected in ((0, 0.9), (1, 0.1)):
        y = np.full(4, label).astype(dtype)
        assert ece(y, np.full(4, 0.9), kind="binary") == pytest.approx(expected)
    with pytest.raises(ValueError, match="pass labels="):
        ece(["a", "a"], [[0.5, 0.5], [0.2, 0.8]])


@pytest.mark.parametrize(
    ("y", "proba", "options", "message"),
    [
        ([0, 1], [[0.5, 0.6], [0.5, 0.5]], {}, "sum to 1"),
        ([0, 1], [np.nan, 0.5], {}, "NaN"),
        ([0, 1], [1.5, 0.5], {}, r"in \[0, 1\]"),
        ([0, 1, 1], [0.5, 0.5], {}, "inconsistent"),
        ([], [], {}, "empty"),
        ([0, 1], [0.5, 0.5], {"n_bins": 0}, "n_bins"),
        ([0, 1], [0.5, 0.5], {"norm": "l3"}, "norm must be one of"),
        ([0, 1], [0.5, 0.5], {"sample_weight": [0, 0]}, "not all zero"),
        ([0, 1], np.eye(3)[:2], {"labels": [0, 1, 2], "kind": "binary"}, "two classes"),
        ([0, 9], [[0.5, 0.5]] * 2, {"labels": [0, 1]}, "not among"),
        ([0, 1], [[0.5, 0.5]] * 2, {"labels": [1, 0]}, "sorted"),
        ([0, 1], [[[0.5]]] * 2, {}, "shape"),
    ],
)
def test_bad_input(y, proba, options, message):
    with pytest.raises(ValueError, match=message):
        ece(np.array(y), np.array(proba), **options)


def test_scorer_on_a_stock_pipeline():
    X, y = load_iris(return_X_y=True)
    names = np.array(["a", "b", "c"])[y]
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, names)
    expected = -ece(names, pipeline.predict_proba(X))
    assert ece_scorer(pipeline, X, names) == expected
    assert ece_scorer(pipeline, X[:60], names[:60]) <= 0  # a class is missing there
    scores = cross_validate(pipeline, X, names, scoring={"ece": ece_scorer}, cv=2)
    assert (scores["test_ece"] <= 0).all()


def test_display():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    X, y = load_iris(return_X_y=True)
    classifier = LogisticRegression(max_iter=500).fit(X, y)
    display = ReliabilityDisplay.from_estimator(classifier, X, y, n_bins=10)
    proba = classifier.predict_proba(X)
    assert display.ece == ece(y, proba, n_bins=10)
    assert display.share.sum() == pytest.approx(1)
    gap = display.share @ np.abs(display.confidence - display.accuracy)
    assert gap == pytest.approx(display.ece)
    second = ReliabilityDisplay.from_predictions(y, proba, name="again", ax=display.ax_, color="k")
    texts = [text.get_text() for text in second.ax_.get_legend().get_texts()]
    assert texts[0] == "perfectly calibrated" and len(texts) == 4
    assert texts[3].startswith("share of samples")
    assert texts[1].startswith("LogisticRegression (ECE 0.") and texts[2].startswith(
        "again (ECE 0."
    )
    assert np.array_equal(second.line_.get_xdata(), second.confidence)
    pyplot.close("all")


@pytest.mark.parametrize("n_rows", [10, 60, 61])
def test_only_ratios_of_weights_matter(n_rows):
    random = np.random.default_rng(n_rows)
    y, p = random.integers(2, size=n_rows), random.random(n_rows)
    options = {"strategy": "quantile", "n_bins": 5, "kind": "binary"}
    plain = expected_calibration_error(y, p, **options)
    for weight in (1.0, 0.1, 1 / n_rows, 3e7):
        weighted = expected_calibration_error(
            y, p, sample_weight=np.full(n_rows, weight), **options
        )
        assert weighted == pytest.approx(plain, abs=1e-12)


@pytest.mark.parametrize("n_rows", [1, 20, 21, 49, 200])
def test_certain_and_wrong(n_rows):
    error = smooth_calibration_error(np.zeros(n_rows, int), np.ones(n_rows))
    assert error == pytest.approx(1)
