"""Logits with learnt normal noise."""

import numpy as np
import pytest
import torch
from torch import nn

from skuq import TorchClassifier
from skuq.likelihoods import StochasticLogits
from skuq.posteriors import PointEstimate
from tests.networks import Plain

F = (2.0, 0.0, -1.0)
REFERENCE = {0.0: 0.1698, 0.5: 0.1983, 2.0: 0.4450, 5.0: 0.7423}


def output(sigma):
    s = 2 * np.log(max(sigma, 1e-12))
    return torch.tensor([[*F, s, s, s]], dtype=torch.float64)


@pytest.mark.parametrize("sigma", REFERENCE)
def test_reference_values(sigma):
    """Kendall and Gal's loss for f = (2, 0, −1) and y = 0."""
    likelihood = StochasticLogits(n_samples=20_000).fit(np.arange(3))
    loss = float(likelihood.loss(output(sigma), torch.tensor([0])))
    assert loss == pytest.approx(REFERENCE[sigma], abs=1e-3)


@pytest.mark.parametrize("sigma", REFERENCE)
def test_ten_samples_come_near(sigma):
    losses = [
        float(StochasticLogits().fit(np.arange(3), seed=k).loss(output(sigma), torch.tensor([0])))
        for k in range(20)
    ]
    assert np.abs(np.array(losses) - REFERENCE[sigma]).max() < 0.02 + 0.1 * sigma


def test_without_noise_it_is_the_cross_entropy():
    random = torch.Generator().manual_seed(0)
    f = torch.randn(30, 4, dtype=torch.float64, generator=random)
    y = torch.arange(30) % 4
    likelihood = StochasticLogits().fit(np.arange(4))
    quiet = torch.cat([f, torch.full_like(f, -30)], 1)
    expected = nn.functional.cross_entropy(f, y, reduction="none")
    torch.testing.assert_close(likelihood.loss(quiet, y), expected, rtol=1e-5, atol=1e-6)


def test_loss_is_the_formula():
    """−log of the mean over the samples of softmax(f + σ ε)_y, a σ for each class."""
    likelihood = StochasticLogits(50).fit(np.arange(3), seed=5)
    f, s = np.array(F), np.array([0.3, -1.0, 1.2])
    logits = f + np.exp(s / 2) * likelihood.noise_
    proba = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    given = torch.tensor(np.concatenate([f, s]))[None]
    for k in range(3):
        loss = float(likelihood.loss(given, torch.tensor([k])))
        assert loss == pytest.approx(-np.log(proba[:, k].mean()), rel=1e-10)
    np.testing.assert_allclose(likelihood.predictive(given).probs[0].numpy(), proba.mean(0))


@pytest.mark.parametrize("n_samples", [2, 3, 10, 101])
def test_noise_is_standardised(n_samples, untouched_globals):
    noise = StochasticLogits(n_samples).fit(np.arange(5), seed=3).noise_
    assert noise.shape == (n_samples, 5)
    np.testing.assert_allclose(noise.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(noise.std(0), 1)


def noisy_blobs():
    """A label that is certain where x > 0 and a coin elsewhere."""
    random = np.random.default_rng(0)
    X = random.normal(size=(600, 2))
    coin = random.integers(2, size=600)
    return X, np.where(X[:, 0] > 0, (X[:, 1] > 0).astype(int), coin)


def test_noise_comes_from_the_random_state():
    X, y = noisy_blobs()
    options = {"likelihood": StochasticLogits(), "posterior": PointEstimate(), "max_epochs": 2}
    fits = [TorchClassifier(Plain, random_state=k, **options).fit(X, y) for k in (0, 0, 1)]
    noise = [fit.likelihood_.noise_ for fit in fits]
    assert np.array_equal(noise[0], noise[1]) and not np.array_equal(noise[0], noise[2])
    assert np.array_equal(fits[0].predict_proba(X), fits[1].predict_proba(X))
    assert np.array_equal(fits[0].predict_proba(X), fits[0].predict_proba(X))
    np.testing.assert_allclose(fits[0].predict_proba(X[:3]), fits[0].predict_proba(X)[:3])


def test_probabilities_are_flat_where_labels_are_noise():
    X, y = noisy_blobs()
    classifier = TorchClassifier(
        Plain, likelihood=StochasticLogits(), posterior=PointEstimate(), max_epochs=60, lr=0.01,
        random_state=0,
    ).fit(X, y)  # fmt: skip
    uncertainty = classifier.predict_uncertainty(np.array([[-1.5, 1.0], [1.5, 1.0]]))
    assert uncertainty[0] > 0.6 and uncertainty[1] < 0.3
