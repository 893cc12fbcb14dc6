"""Metrics of counted rows, against the same metrics of rows that are there as often."""

import numpy as np
import pytest

from skuq import metrics as m
from skuq.metrics import _counted as counted
from skuq.metrics._bootstrap import bootstrap, counts_of_rows

RANDOM = np.random.default_rng(0)
N = 97
COUNTS = RANDOM.integers(0, 4, size=N).astype(float)
ROWS = np.repeat(np.arange(N), COUNTS.astype(int))
Y = RANDOM.normal(3.0, 2.0, size=N)
MEAN = Y + RANDOM.normal(size=N)
CONTINUOUS = RANDOM.gamma(2.0, size=N)
TIED = np.round(CONTINUOUS)
INFINITE = np.where(TIED > 3, np.inf, TIED)


@pytest.mark.parametrize("score", [CONTINUOUS, TIED, INFINITE])
def test_ranks(score):
    wrong = RANDOM.random(N) < 0.3
    for loss, y, predicted in (("zero_one", np.zeros(N), wrong), ("squared", Y, MEAN)):
        losses = wrong if loss == "zero_one" else (Y - MEAN) ** 2
        ranks = counted.ByUncertainty(losses, score)
        for method, area in (
            ("mean", ranks.area_under_risk_coverage),
            ("generalized", ranks.generalized_area),
        ):
            taken = (y[ROWS], predicted[ROWS], score[ROWS])
            expected = m.area_under_risk_coverage(*taken, loss=loss, method=method)
            assert area(COUNTS) == pytest.approx(expected, rel=1e-12)
            assert area(np.ones(N)) == pytest.approx(
                m.area_under_risk_coverage(y, predicted, score, loss=loss, method=method)
            )
    ranks = counted.ByUncertainty(wrong, score)
    expected = m.uncertainty_error_auroc(np.zeros(len(ROWS)), wrong[ROWS], score[ROWS])
    assert ranks.error_auroc(COUNTS) == pytest.approx(expected, rel=1e-12)
    assert np.isnan(ranks.error_auroc(np.where(wrong, 0.0, 1.0)))


@pytest.mark.parametrize("std", [CONTINUOUS + 0.1, TIED + 1, np.ones(N), 1e-200 * (TIED + 1)])
def test_normalized_error(std):
    scale = 1e-200 if std.max() < 1e-100 else 1.0
    y, mean = Y * scale, MEAN * scale
    metric = counted.normalized_error_by_count(y - mean, std, 10)
    for counts, rows in ((COUNTS, ROWS), (np.ones(N), np.arange(N))):
        expected = m.expected_normalized_calibration_error(y[rows], mean[rows], std[rows])
        assert metric(counts) == pytest.approx(expected, rel=1e-10)


def test_sums():
    proba = RANDOM.dirichlet(np.ones(3), size=N)
    y = RANDOM.integers(3, size=N)
    hit = proba.argmax(axis=1) == y
    metric = counted.calibration_error_by_count(proba.max(axis=1), hit, 15)
    expected = m.expected_calibration_error(y[ROWS], proba[ROWS], labels=[0, 1, 2])
    assert metric(COUNTS) == pytest.approx(expected, rel=1e-12)
    assert counted.mean_by_count(Y)(COUNTS) == pytest.approx(Y[ROWS].mean(), rel=1e-12)
    r2 = counted.r2_by_count(Y, MEAN)(COUNTS)
    assert r2 == pytest.approx(1 - np.mean((Y - MEAN)[ROWS] ** 2) / Y[ROWS].var(), rel=1e-12)
    assert np.isnan(counted.r2_by_count(np.ones(N), MEAN)(COUNTS))


@pytest.mark.parametrize("groups", [None, RANDOM.integers(20, size=N).astype(str)])
def test_resamples_are_those_of_the_bootstrap(groups):
    found = bootstrap(lambda y, values: values.mean(), Y, Y, groups=groups, n_resamples=20)
    counts = counts_of_rows(N, groups, 0, 20)
    mine = counted.resampled({"mean": counted.mean_by_count(Y)}, counts)["mean"]
    np.testing.assert_allclose(mine, found.resamples, rtol=1e-12)
