"""Does the uncertainty behave as it claims? On data whose noise is known."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from skuq import TorchRegressor
from skuq.posteriors import DeepEnsemble

pytestmark = pytest.mark.slow

GRID = np.linspace(-3, 3, 200)[:, None]


def true_sigma(x):
    return 0.1 + 0.15 * (x + 3) / 3


def sine(n, seed):
    random = np.random.default_rng(seed)
    x = random.uniform(-3, 3, n)
    return x[:, None], np.sin(x) + true_sigma(x) * random.normal(size=n)


def fitted(n, seed):
    X, y = sine(n, seed)
    return TorchRegressor(
        posterior=DeepEnsemble(10), early_stopping=True, n_iter_no_change=20,
        max_epochs=400, lr=0.01, batch_size=64, random_state=seed, module__dropout=0.0,
        module__hidden_layer_sizes=(50, 50),
    ).fit(X, y)  # fmt: skip


@pytest.fixture(scope="module")
def by_size():
    """Decompositions on the grid, for ten seeds at three sizes."""
    return {
        n: [fitted(n, seed).predict_uncertainty(GRID, kind="all") for seed in range(10)]
        for n in (50, 200, 800)
    }


def test_epistemic_uncertainty_falls_with_data(by_size):
    few, many = ([parts.epistemic.mean() for parts in by_size[n]] for n in (50, 800))
    assert np.mean(many) < np.mean(few)
    assert ttest_rel(many, few, alternative="less").pvalue < 0.05


@pytest.mark.parametrize("n", [200, 800])
def test_aleatoric_uncertainty_is_the_noise(n, by_size):
    truth = (true_sigma(GRID[:, 0]) ** 2).mean()
    found = np.mean([parts.aleatoric.mean() for parts in by_size[n]])
    assert found == pytest.approx(truth, rel=0.2)


def test_predicted_noise_follows_the_true_noise(by_size):
    truth = np.log(true_sigma(GRID[:, 0]))
    correlations = [
        np.corrcoef(0.5 * np.log(parts.aleatoric), truth)[0, 1] for parts in by_size[800]
    ]
    assert np.mean(correlations) > 0.8
