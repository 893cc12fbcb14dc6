"""The temperature of arrays: the right T, and never for the worse."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import brentq, minimize_scalar
from scipy.special import logsumexp, softmax
from sklearn.exceptions import ConvergenceWarning

from skuq.calibration import fit_temperature
from skuq.calibration._logits import _BLOCK_NUMBERS, Logits, check_logits
from skuq.calibration._temperature import (
    _LARGEST_EXPONENT,
    _cumulants,
    _slope,
    loss_at,
    search_temperature,
)


def planted(temperature, n=20_000, n_draws=0, seed=0):
    """Labels drawn from (the mean of) softmax(z), and logits T·z."""
    random = np.random.default_rng(seed)
    z = 1.5 * random.normal(size=(max(n_draws, 1), n, 4))
    proba = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    cumulative = proba.mean(0).cumsum(1)
    y = (random.random((n, 1)) > cumulative).sum(1).clip(max=3)
    return temperature * (z if n_draws else z[0]), y


def tensors(logits, y):
    return check_logits(logits, y, None)


def nll(arrays, temperature):
    return loss_at(arrays, temperature, "nll")


# -- arrays -----------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 8.0])
@pytest.mark.parametrize("n_draws", [0, 5])
def test_a_planted_temperature_is_found(temperature, n_draws):
    logits, y = planted(temperature, n_draws=n_draws)
    assert fit_temperature(logits, y) == pytest.approx(temperature, rel=0.05)


def test_newton_reaches_the_stationary_point():
    """There the mean logit of the label equals the mean expected logit."""
    logits, y = planted(2.5)
    arrays = tensors(logits, y)
    fitted = fit_temperature(logits, y)
    assert abs(_slope(arrays, 1 / fitted)[0]) <= 1e-10
    scipy = minimize_scalar(lambda t: nll(arrays, t), bounds=(0.1, 10), method="bounded")
    assert nll(arrays, fitted) <= scipy.fun + 1e-15


def test_slope_is_the_derivative_of_the_loss():
    arrays = tensors(*planted(2.5, n=50))
    beta, h = 0.7, 1e-5
    first, second = _slope(arrays, beta)
    losses = [nll(arrays, 1 / (beta + d)) for d in (-h, 0, h)]
    assert first == pytest.approx((losses[2] - losses[0]) / (2 * h), rel=1e-6)
    assert second == pytest.approx((losses[2] - 2 * losses[1] + losses[0]) / h**2, rel=1e-3)


@pytest.mark.parametrize(("beta", "digits"), [(0.7, 1e-6), (20.0, 1e-6), (300.0, 0.05)])
def test_each_derivative_is_that_of_the_one_before(beta, digits):
    """At 300 exponentials are shifted, lest they overflow, and the fifth derivative cancels."""
    logits, y = planted(2.5 / beta, n=50)
    logits[0, y[0]] -= 2.5
    arrays = tensors(logits, y)
    assert (arrays.span * beta > _LARGEST_EXPONENT) == (beta == 300)
    h = 1e-5 * beta
    below, here, above = (_cumulants(arrays, beta + d).numpy() for d in (-h, 0, h))
    assert here[1:] == pytest.approx((above - below)[:-1] / (2 * h), rel=digits)


@pytest.mark.parametrize(("n", "k", "weighted"), [(30_000, 2, True), (30_000, 10, False),
                                                  (4_000, 100, True)])  # fmt: skip
def test_excess_loss_of_float32_logits(n, k, weighted):
    """Against the root that a bisection of plain float64 finds."""
    random = np.random.default_rng(k)
    z = 2 * random.normal(size=(n, k))
    y = (z + random.gumbel(size=(n, k))).argmax(1)
    logits = (2.5 * z).astype(np.float32)
    weight = random.integers(0, 3, n) if weighted else np.ones(n)
    wide = logits.astype(float) - logits[np.arange(n), y].astype(float)[:, None]

    def loss(beta):
        return np.average(logsumexp(beta * wide, axis=1), weights=weight)

    def slope(beta):
        return np.average((softmax(beta * wide, axis=1) * wide).sum(1), weights=weight)

    fitted = search_temperature(check_logits(logits, y, weight))
    beta = 1 / fitted.temperature
    best = brentq(slope, 0.1, 10, xtol=1e-15)
    assert abs(slope(beta)) <= 1.1e-10
    assert loss(beta) - loss(best) <= 1e-12
    assert fitted.n_iter <= 2


def test_order_of_rows_and_classes_that_never_happen():
    logits, y = planted(2.0)
    expected = fit_temperature(logits, y)
    order = np.random.default_rng(0).permutation(len(y))
    assert fit_temperature(logits[order], y[order]) == pytest.approx(expected, rel=1e-9)
    never = np.full((len(y), 1), -1e5)  # e^600 could overflow: another way, the same sum
    assert fit_temperature(np.hstack([logits, never]), y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n_draws", [1, 3])
def test_passes_are_in_blocks(n_draws):
    logits = check_logits(torch.zeros(n_draws, 100_000, 10), torch.arange(100_000) % 10, None)
    blocks = list(logits.blocks())
    assert max(draws.numel() for draws, _, _ in blocks) <= _BLOCK_NUMBERS["cpu"]
    assert torch.equal(torch.cat([y for _, y, _ in blocks]), logits.labels)


def test_a_step_asks_the_device_for_nothing():
    """On the meta device there are no numbers: whoever asked for one would fail."""
    n = 3 * _BLOCK_NUMBERS["gpu"] // 10
    logits = Logits(
        torch.empty(1, n, 10, device="meta"),
        torch.empty(n, dtype=torch.long, device="meta"),
        torch.empty(n, dtype=torch.float64, device="meta"),
        span=10.0,
        size=float(n),
    )
    assert len(list(logits.blocks())) == 3 + (n % logits.rows_at_once > 0)
    for beta in (1.0, 1000.0):
        assert _cumulants(logits, beta).device.type == "meta"


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.filterwarnings("ignore:the temperature is at its bound")
@pytest.mark.filterwarnings("ignore:the temperature, T = .* makes nearly every row certain")
def test_never_worse_than_one_and_as_good_as_a_fine_grid(seed):
    random = np.random.default_rng(seed)
    logits = random.lognormal(sigma=2) * random.normal(size=(3, 8, 3))
    y = np.r_[0, 1, random.integers(0, 3, 6)]
    arrays = tensors(logits, y)
    grid = np.exp(np.linspace(np.log(0.01), np.log(100), 2000))
    best = min(nll(arrays, t) for t in grid)
    fitted = nll(arrays, fit_temperature(logits, y))
    assert fitted <= best + 1e-6
    assert fitted <= nll(arrays, 1.0)


def test_weights_are_repetitions():
    logits, y = planted(2.0, n=500)
    counts = np.random.default_rng(1).integers(0, 4, 500)
    repeated = np.repeat(np.arange(500), counts)
    for stack in (logits, np.stack([logits, 0.5 * logits])):
        weighted = fit_temperature(stack, y, sample_weight=counts)
        assert weighted == pytest.approx(
            fit_temperature(stack[..., repeated, :], y[repeated]), rel=1e-4
        )


@pytest.mark.parametrize("multilabel", [False, True])
def test_kinds_of_weights(multilabel):
    logits, y = planted(2.0, n=300)
    y = np.eye(4, dtype=int)[y] if multilabel else y
    weight = np.random.default_rng(0).integers(1, 4, 300)
    expected = fit_temperature(logits, y, weight.astype(float), multilabel=multilabel)
    backwards = weight[::-1].copy()[::-1]
    given = [
        weight,
        backwards,
        weight.tolist(),
        torch.tensor(weight),
        pd.Series(weight),
        7 * weight,
    ]
    for kind in given:
        found = fit_temperature(logits, y, kind, multilabel=multilabel)
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_shifts_blocks_and_kinds_of_arrays(monkeypatch):
    logits, y = planted(2.0, n=700)
    expected = fit_temperature(logits, y)
    shift = np.random.default_rng(0).normal(size=(700, 1)) * 100
    assert fit_temperature(logits + shift, y) == pytest.approx(expected)
    assert fit_temperature(torch.tensor(logits), torch.tensor(y)) == expected
    assert fit_temperature(logits.astype(np.float32), y.astype(np.int8)) == pytest.approx(expected)
    monkeypatch.setitem(_BLOCK_NUMBERS, "cpu", 100)
    assert fit_temperature(logits, y) == pytest.approx(expected)


@pytest.mark.parametrize("n_draws", [1, 3])
def test_perfectly_separable_data(n_draws):
    y = np.arange(30) % 3
    logits = np.repeat((np.eye(3)[y] * 4)[None], n_draws, axis=0)
    with pytest.warns(ConvergenceWarning, match="at its bound, T = 0.01") as record:
        assert fit_temperature(logits, y) == 0.01
    assert len(record) == 1


def test_separable_data_of_very_different_margins():
    """However small a margin is, one draw that is right everywhere ends at the bound."""
    random = np.random.default_rng(0)
    y = np.arange(8) % 3
    others = np.array([[c for c in range(3) if c != label] for label in y])
    for _ in range(130):
        logits = np.zeros((8, 3))
        np.put_along_axis(logits, others, -random.lognormal(sigma=2, size=(8, 2)), axis=1)
        with pytest.warns(ConvergenceWarning, match="at its bound, T = 0.01"):
            assert fit_temperature(logits, y) == 0.01


@pytest.mark.parametrize("objective", ["nll", "brier"])
def test_rows_that_nearly_all_draws_get_right(objective):
    """The optimum lies inside, where draws have become votes; so few rows cannot tell."""
    random = np.random.default_rng(0)
    y = np.arange(8) % 2
    margins = 1 + random.normal(size=(50, 8))
    logits = np.where(y == 1, -margins, margins)[..., None] * np.array([0.25, -0.25])
    assert (logits.mean(0).argmax(-1) == y).all() and (margins < 0).any()
    with pytest.warns(ConvergenceWarning, match="makes nearly every row certain.* the 8 rows"):
        assert 0.01 < fit_temperature(logits, y, objective=objective) < 0.05


@pytest.mark.parametrize("n_draws", [1, 3])
def test_logits_that_are_all_wrong(n_draws):
    y = np.arange(30) % 3
    logits = np.repeat((np.eye(3)[y] * -4)[None], n_draws, axis=0)
    with pytest.warns(ConvergenceWarning, match="T = 100"):
        assert fit_temperature(logits, y) == 100


def test_constant_logits():
    with pytest.warns(ConvergenceWarning, match="does not depend"):
        assert fit_temperature(np.zeros((10, 3)), np.arange(10) % 3) == 1


def test_saturated_logits():
    """±1e4, where probabilities are 0 and 1: the loss is finite and T has a lot to soften."""
    logits, y = planted(2e4, n=300)
    assert np.abs(logits).max() > 5e4
    with pytest.warns(ConvergenceWarning, match="T = 100"):
        assert fit_temperature(logits, y) == 100
    assert np.isfinite(nll(tensors(logits, y), 0.01))


@pytest.mark.parametrize(
    ("logits", "y", "message"),
    [
        (np.zeros(3), [0, 1, 2], "must have shape"),
        (np.full((2, 2), np.nan), [0, 1], "NaN"),
        (np.zeros((2, 2)), [0, 2], "from 0 to 1"),
        (np.zeros((2, 2)), [1, 2], "encode labels"),
        (np.zeros((2, 2)), [0], r"shape \(2,\)"),
        (np.zeros((2, 2)), [1, 1], "single class"),
    ],
)
def test_bad_arrays(logits, y, message):
    with pytest.raises(ValueError, match=message):
        fit_temperature(logits, np.array(y))


@pytest.mark.parametrize("weight", [[1, -1], [0, 0], [1], [1, np.nan]])
def test_bad_weights(weight):
    with pytest.raises(ValueError, match="sample_weight must be 2 finite"):
        fit_temperature(np.eye(2), np.array([0, 1]), sample_weight=weight)
