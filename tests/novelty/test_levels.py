"""Thresholds, p-values and false discoveries, by hand and in the long run."""

import numpy as np
import pytest

from skuq.novelty._levels import discoveries, p_values_of, threshold


@pytest.mark.parametrize(
    ("n", "contamination", "flagged"),
    [(100, 0.05, 5), (10, 0.3, 3), (10, 0.29, 2), (7, 0.5, 3), (10, 0.05, 0), (1, 0.5, 0)],
)
def test_the_threshold_flags_the_share(n, contamination, flagged):
    novelty = np.random.default_rng(0).permutation(n).astype(float)
    assert (novelty > threshold(novelty, contamination)).sum() == flagged


def test_equal_rows_are_on_the_same_side():
    novelty = np.array([1.0, 2.0, 2.0, 2.0])
    assert not (novelty > threshold(novelty, 0.25)).any()


def test_p_values_by_hand():
    known = np.array([1.0, 2.0, 2.0, 5.0])
    found = p_values_of(np.array([0.0, 1.0, 2.0, 3.0, 5.0, 6.0]), known)
    np.testing.assert_allclose(found, np.array([5, 5, 4, 2, 2, 1]) / 5)


def test_benjamini_and_hochberg_by_hand():
    """The example of their paper: 15 p-values, of which 4 are rejected at 0.05."""
    p_values = np.array([
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
        0.5719, 0.6528, 0.7590, 1.0000,
    ])  # fmt: skip
    assert discoveries(p_values, 0.05, 10_000).sum() == 4
    shuffled = np.random.default_rng(0).permutation(15)
    found = discoveries(p_values[shuffled], 0.05, 10_000)
    np.testing.assert_array_equal(found, p_values[shuffled] <= 0.0095)
    assert not discoveries(np.array([0.2, 0.9]), 0.05, 10_000).any()
    # A p-value above its own line is rejected if a larger one is below its line.
    assert discoveries(np.array([0.04, 0.045]), 0.05, 10_000).all()


@pytest.mark.parametrize(("fdr", "fewest"), [(0.1, 9), (0.05, 19), (0.3, 3), (0.01, 99)])
def test_a_level_out_of_reach_says_how_many_rows_it_takes(fdr, fewest):
    with pytest.raises(ValueError, match=f"expected at least {fewest} rows"):
        discoveries(np.array([1 / fewest]), fdr, fewest - 1)
    assert discoveries(np.array([1 / (fewest + 1)]), fdr, fewest).all()


@pytest.mark.parametrize("fdr", [0, 1, -0.1, 2, "0.1", None, [0.1, 0.2]])
def test_levels_lie_between_0_and_1(fdr):
    with pytest.raises(ValueError, match="fdr must be one number strictly between 0 and 1"):
        discoveries(np.array([0.5]), fdr, 1000)


def test_false_alarms_keep_their_level():
    rng = np.random.default_rng(0)
    alarms, false, n_known = [], [], 99
    for _ in range(400):
        known, new = np.sort(rng.normal(size=n_known)), rng.normal(size=20)
        alarms.append((p_values_of(new, known) <= 0.1).mean())
        strange = np.append(new[:10], rng.normal(4, 1, size=10))
        flagged = discoveries(p_values_of(strange, known), 0.2, n_known)
        false.append(flagged[:10].sum() / max(flagged.sum(), 1))
    # 10 of 100 ranks: exactly 0.1. The false discoveries are below 0.2 · 10/20.
    assert np.mean(alarms) == pytest.approx(0.1, abs=3 * np.std(alarms) / 20)
    assert np.mean(false) <= 0.1 + 3 * np.std(false) / 20
