"""Labels that are flipped."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from skuq.datasets import (
    CIFAR10_PAIRS,
    FASHION_MNIST_PAIRS,
    PATRINI_MAP,
    flip_labels,
)

Y = np.repeat(np.arange(10), 500)
NAMES = np.array([f"class {k}" for k in range(10)])


@pytest.mark.parametrize("pairs", [CIFAR10_PAIRS, FASHION_MNIST_PAIRS, PATRINI_MAP], ids=str)
@pytest.mark.parametrize("rate", [0.2, 0.4, 0.9])
def test_rate_partners_and_untouched_classes(pairs, rate):
    noisy, flipped, matrix = flip_labels(Y, pairs, rate, random_state=3)
    directed = (
        dict(pairs) if isinstance(pairs, dict) else {**dict(pairs), **{b: a for a, b in pairs}}
    )
    assert noisy.dtype == Y.dtype
    np.testing.assert_array_equal(flipped, noisy != Y)
    for k in range(10):
        of_class = flipped[Y == k]
        if k not in directed:
            assert not of_class.any() and matrix[k, k] == 1
            continue
        low, high = binom.interval(1 - 1e-6, 500, rate)
        assert low <= of_class.sum() <= high
        assert (noisy[(Y == k) & flipped] == directed[k]).all()
        assert matrix[k, directed[k]] == pytest.approx(rate)
        assert matrix[k, k] == pytest.approx(1 - rate)
    np.testing.assert_allclose(matrix.sum(1), 1)


def test_presets():
    """The lecture's pairs; the map of Patrini et al. has directions."""
    partner = flip_labels(Y, CIFAR10_PAIRS, 1, random_state=0).y_noisy[::500]
    assert partner.tolist() == [2, 9, 0, 5, 7, 3, 6, 4, 8, 1]
    partner = flip_labels(Y, PATRINI_MAP, 1, random_state=0).y_noisy[::500]
    assert partner.tolist() == [0, 1, 0, 5, 7, 3, 6, 7, 8, 1]
    partner = flip_labels(Y, FASHION_MNIST_PAIRS, 1, random_state=0).y_noisy[::500]
    assert partner.tolist() == [6, 3, 4, 1, 2, 7, 0, 5, 8, 9]


def test_no_noise_and_all_of_it():
    noisy, flipped, matrix = flip_labels(Y, CIFAR10_PAIRS, 0, random_state=0)
    np.testing.assert_array_equal(noisy, Y)
    np.testing.assert_array_equal(matrix, np.eye(10))
    assert not flipped.any()
    there = flip_labels(Y, CIFAR10_PAIRS, 1.0, random_state=0)
    assert there.flipped.mean() == 0.8
    np.testing.assert_array_equal(flip_labels(there.y_noisy, CIFAR10_PAIRS, 1).y_noisy, Y)


def test_seeds():
    first, again = (flip_labels(Y, CIFAR10_PAIRS, 0.3, random_state=5) for _ in range(2))
    np.testing.assert_array_equal(first.y_noisy, again.y_noisy)
    other = flip_labels(Y, CIFAR10_PAIRS, 0.3, random_state=6)
    assert (first.y_noisy != other.y_noisy).any()
    more = flip_labels(Y, CIFAR10_PAIRS, 0.4, random_state=5)
    assert more.flipped[first.flipped].all()  # nested
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    flip_labels(Y, CIFAR10_PAIRS, 0.3)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(
    "kind", [list, np.array, pd.Series, lambda y: np.array(y, dtype=object), pd.Categorical]
)
def test_labels_of_any_type(kind):
    """The same flips, whatever the labels are called."""
    pairs = [(NAMES[a], str(NAMES[b])) for a, b in CIFAR10_PAIRS]
    noisy, flipped, matrix = flip_labels(kind(NAMES[Y].tolist()), pairs, 0.4, random_state=1)
    numbers = flip_labels(Y, CIFAR10_PAIRS, 0.4, random_state=1)
    np.testing.assert_array_equal(noisy, NAMES[numbers.y_noisy])
    np.testing.assert_array_equal(flipped, numbers.flipped)
    np.testing.assert_array_equal(matrix, numbers.transition_matrix)


def test_transition_matrix():
    matrix = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0], [0.5, 0.25, 0.25]])
    y = np.repeat([2, 5, 9], 20_000)
    found = flip_labels(y, transition_matrix=matrix, random_state=0)
    np.testing.assert_allclose(found.transition_matrix, matrix)
    shares = np.array([[(found.y_noisy[y == i] == j).mean() for j in (2, 5, 9)] for i in (2, 5, 9)])
    np.testing.assert_allclose(shares, matrix, atol=0.015)
    assert (shares == 0).sum() == 2
    half = flip_labels(y, transition_matrix=matrix, rate=0.5, random_state=0)
    np.testing.assert_allclose(half.transition_matrix, 0.5 * np.eye(3) + 0.5 * matrix)
    assert half.flipped[y == 2].mean() == pytest.approx(0.15, abs=0.015)
    by_pairs = flip_labels(Y, PATRINI_MAP, 0.3, random_state=0)
    again = flip_labels(Y, transition_matrix=by_pairs.transition_matrix, random_state=0)
    np.testing.assert_allclose(again.transition_matrix, by_pairs.transition_matrix)
    assert again.flipped.mean() == pytest.approx(0.15, abs=0.02)


def test_classes_that_y_lacks():
    matrix = np.full((3, 3), 1 / 3)
    found = flip_labels(["a", "c"] * 50, transition_matrix=matrix, classes=["a", "bb", "c"])
    assert set(found.y_noisy) == {"a", "bb", "c"}  # not cut to the length of y's labels
    with pytest.raises(ValueError, match=r"each of the 2 classes .* got shape \(3, 3\)"):
        flip_labels(["a", "c"] * 50, transition_matrix=matrix)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 1.1}, r"rate must be a number in \[0, 1\], got 1.1"),
        ({"rate": -0.1}, "rate must be"),
        ({"rate": np.nan}, "rate must be"),
        ({"rate": True}, "rate must be"),
        ({"rate": "0.2"}, "rate must be"),
        ({"rate": None}, "pairs need a rate"),
        ({"pairs": None}, "either pairs or transition_matrix, got neither"),
        ({"transition_matrix": np.eye(10)}, "got both"),
        ({"pairs": [(0, 10)]}, r"the class 10, which y does not contain"),
        ({"pairs": [("0", 1)]}, r"the class '0', which y does not contain"),
        ({"pairs": {1: 99}}, "the class 99"),
        ({"pairs": [(0, 1), (1, 2)]}, "the class 1 twice"),
        ({"pairs": [(3, 3)]}, "the class 3 to itself"),
        ({"pairs": (0, 6)}, "sequence of pairs of labels"),
        ({"pairs": ["ab"]}, "sequence of pairs of labels"),
        ({"pairs": 3}, "sequence of pairs of labels"),
        ({"pairs": []}, "sequence of pairs of labels"),
        ({"y": []}, "y is empty"),
        ({"y": [0.5, 1.5, 2.5]}, "continuous"),
        ({"y": [0, np.nan, 2]}, "NaN or None"),
        ({"y": np.eye(10)}, "1d array"),
        ({"random_state": "seed"}, "seed"),
        ({"classes": range(3)}, "not among classes"),
        ({"classes": [3, 2, 1]}, "sorted and without repetition"),
    ],
    ids=str,
)  # fmt: skip
def test_bad_input_of_flip_labels(options, message):
    with pytest.raises(ValueError, match=message):
        flip_labels(**{"y": Y, "pairs": CIFAR10_PAIRS, "rate": 0.2, **options})


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(2), r"got shape \(2, 2\)"),
        (np.eye(3)[:2], "got shape"),
        ([[1, 0, 0], [0, 1, 0], [0, 0, 0.9]], "differ from 1 by up to 0.1"),
        ([[1, 0, 0], [0, 1, 0], [0, -0.1, 1.1]], "must hold probabilities"),
        ([[1, 0, 0], [0, 1, 0], [0, np.nan, 1]], "contains NaN"),
    ],
)
def test_bad_matrices(matrix, message):
    with pytest.raises(ValueError, match=message):
        flip_labels([0, 1, 2], transition_matrix=matrix)


def test_classes_may_be_more_than_those_in_y():
    noisy, flipped, matrix = flip_labels([0, 1, 0], {0: 2}, 1.0, classes=[0, 1, 2])
    assert noisy.tolist() == [2, 1, 2] and matrix[0].tolist() == [0, 0, 1]
    assert flipped.tolist() == [True, False, True]


def test_a_data_frame_of_another_order_is_refused():
    names = ["b", "a"]
    matrix = pd.DataFrame([[1.0, 0.0], [1.0, 0.0]], index=names, columns=names)
    y = ["a", "a", "b"]
    with pytest.raises(ValueError, match=r"use transition_matrix\.loc"):
        flip_labels(y, transition_matrix=matrix)
    ordered = matrix.loc[["a", "b"], ["a", "b"]]
    assert flip_labels(y, transition_matrix=ordered).y_noisy.tolist() == ["b"] * 3
    assert flip_labels(y, transition_matrix=pd.DataFrame(np.eye(2))).y_noisy.tolist() == y
