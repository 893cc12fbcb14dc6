"""Other libraries' numbers: the same where the convention is the same, and how they differ."""

import numpy as np
import pytest
import torch

from skuq.metrics import (
    crps,
    expected_calibration_error,
    interval_score,
    mean_interval_width,
    pinball_loss,
    prediction_interval_coverage,
)


def classified(n=2000, k=4, seed=0):
    random = np.random.default_rng(seed)
    proba = random.dirichlet(np.full(k, 0.7), n)
    y = (random.random((n, 1)) > (proba**0.5 / (proba**0.5).sum(1, keepdims=True)).cumsum(1)).sum(1)
    return y.clip(max=k - 1), proba


def regressed(n=200, n_draws=7, seed=0):
    random = np.random.default_rng(seed)
    mean = random.normal(size=(n_draws, n))
    return random.normal(size=n), mean, random.lognormal(sigma=0.3, size=(n_draws, n))


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize("n_bins", [1, 10, 15])
def test_torchmetrics(norm, n_bins):
    functional = pytest.importorskip("torchmetrics.functional.classification")
    y, proba = classified()
    theirs = functional.multiclass_calibration_error(
        torch.tensor(proba), torch.tensor(y), num_classes=4, n_bins=n_bins, norm=norm
    )
    ours = expected_calibration_error(y, proba, n_bins=n_bins, norm=norm)
    assert ours == pytest.approx(float(theirs), abs=1e-6)  # theirs sums in float32
    binary = functional.binary_calibration_error(
        torch.tensor(proba[:, 0]), torch.tensor((y == 0).astype(int)), n_bins=n_bins, norm=norm
    )
    ours = expected_calibration_error(y == 0, proba[:, 0], kind="binary", n_bins=n_bins, norm=norm)
    assert ours == pytest.approx(float(binary), abs=1e-6)


def test_mapies_top_label_error_conditions_on_the_label():
    """MAPIE bins each predicted label by itself and averages over labels, which count evenly:
    another number, equal to ours label by label. Of its num_bins, the first holds 0 alone."""
    calibration = pytest.importorskip("mapie.metrics.calibration")
    y, proba = classified()
    top = proba.argmax(1)
    each = [
        expected_calibration_error(y[top == k] == k, proba[top == k, k], kind="binary", n_bins=10)
        for k in range(4)
    ]
    theirs = calibration.top_label_ece(y, proba, num_bins=11, split_strategy="uniform")
    assert theirs == pytest.approx(np.mean(each), abs=1e-6)


def test_mapies_binary_error():
    """The positive class in bins of equal width; of its num_bins, the first holds 0 alone."""
    calibration = pytest.importorskip("mapie.metrics.calibration")
    y, proba = classified(k=2)
    theirs = calibration.expected_calibration_error(
        y, proba[:, 1], num_bins=11, split_strategy="uniform"
    )
    ours = expected_calibration_error(y, proba, kind="binary", n_bins=10)
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_mapies_intervals():
    regression = pytest.importorskip("mapie.metrics.regression")
    y, mean, std = regressed()
    interval = np.stack([mean[0] - std[0], mean[0] + std[0]], axis=1)
    theirs = regression.regression_coverage_score(y, interval[:, :, None])
    assert prediction_interval_coverage(y, interval) == pytest.approx(float(theirs[0]))
    theirs = regression.regression_mean_width_score(interval[:, :, None])
    assert mean_interval_width(interval) == pytest.approx(float(theirs[0]))
    theirs = regression.regression_mwi_score(y, interval[:, :, None], 0.9)
    assert interval_score(y, interval, confidence_level=0.9) == pytest.approx(float(theirs))


def test_scoringrules():
    rules = pytest.importorskip("scoringrules")
    y, mean, std = regressed()
    normal = rules.crps_normal(y, mean[0], std[0]).mean()
    assert crps(y, mean[0], std[0]) == pytest.approx(normal, abs=1e-9)
    mixed = rules.crps_mixnorm(y, mean.T, std.T).mean()
    assert crps(y, mean, std) == pytest.approx(mixed, abs=1e-9)
    points = rules.crps_ensemble(y, mean.T, estimator="nrg").mean()
    assert crps(y, mean) == pytest.approx(points, abs=1e-9)
    interval = np.stack([mean[0] - std[0], mean[0] + std[0]], axis=1)
    score = rules.interval_score(y, *interval.T, 0.2).mean()
    assert interval_score(y, interval, confidence_level=0.8) == pytest.approx(score, abs=1e-9)
    pinball = rules.quantile_score(y, mean[0], 0.3).mean()
    assert pinball_loss(y, mean[0], 0.3) == pytest.approx(pinball, abs=1e-9)
