"""The discriminant against scikit-learn's, and on features of networks."""

import numpy as np
import pytest
from sklearn.datasets import load_iris, load_wine
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq import TorchClassifier
from skuq.calibration import TemperatureScaler
from skuq.novelty import GaussianDiscriminant, NoveltyDetector
from skuq.novelty._gaussians import fit_gaussians, log_densities
from skuq.posteriors import DeepEnsemble, MCDropout


@pytest.mark.parametrize("load", [load_iris, load_wine])
def test_tied_and_empirical_is_linear_discriminant_analysis(load):
    X, y = load(return_X_y=True)
    ours = GaussianDiscriminant(covariance="empirical").fit(X, y)
    theirs = LinearDiscriminantAnalysis(solver="lsqr").fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-6)
    np.testing.assert_allclose(ours.priors_, theirs.priors_)


@pytest.mark.parametrize("load", [load_iris, load_wine])
def test_untied_and_empirical_is_quadratic_discriminant_analysis(load):
    X, y = load(return_X_y=True)
    ours = GaussianDiscriminant(covariance="empirical", tied=False).fit(X, y)
    theirs = QuadraticDiscriminantAnalysis().fit(X, y)  # from 1.9 on, it divides by n, too
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-6)


def test_density_integrates_to_one():
    rng = np.random.default_rng(0)
    X = np.append(rng.normal(-2, 1, 40), rng.normal(3, 0.5, 20))[:, None]
    y = np.repeat(["a", "b"], [40, 20])
    grid = np.linspace(-12, 12, 4001)[:, None]
    for tied in (True, False):
        density = np.exp(GaussianDiscriminant(tied=tied).fit(X, y).score_samples(grid))
        assert np.trapezoid(density, grid[:, 0]) == pytest.approx(1, abs=1e-6)


def posterior(features, y, new):
    """As the discriminant computes it, of features of a network."""
    joint = log_densities(fit_gaussians(features, y, network=True), new)
    return np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None])


def test_on_features_of_a_network(network, known, shuffled):
    _, _, X, y, rest = known
    discriminant = GaussianDiscriminant(FrozenEstimator(network)).fit(X, y)
    features, new = (skuq.predict_features(network, rows) for rows in (X, rest))
    np.testing.assert_allclose(discriminant.predict_proba(rest), posterior(features, y, new))
    assert discriminant.score(X, y) > 0.95
    density = discriminant.score_samples(rest)
    assert (discriminant.score_samples(shuffled) < np.median(density)).mean() > 0.95
    assert discriminant.n_features_in_ == 64
    first = GaussianDiscriminant(FrozenEstimator(network), layer="0").fit(X, y)
    np.testing.assert_allclose(first.predict_proba(rest), posterior(X.astype(float), y, rest))


def test_networks_of_an_ensemble_are_draws(blobs):
    X, y = blobs
    ensemble = TorchClassifier(posterior=DeepEnsemble(3), max_epochs=5, random_state=0).fit(X, y)
    discriminant = GaussianDiscriminant(FrozenEstimator(ensemble)).fit(X, y)
    draws = discriminant.predict_draws(X)
    for features, draw in zip(skuq.predict_features(ensemble, X), draws):
        np.testing.assert_allclose(draw, posterior(features, y, features))
    np.testing.assert_allclose(discriminant.predict_proba(X), draws.mean(0))
    assert skuq.predict_uncertainty(discriminant, X, kind="epistemic").max() > 0.01


def test_a_detector_around_one_without_a_network(blobs):
    X, y = blobs
    discriminant = GaussianDiscriminant().fit(X, y)
    energy = NoveltyDetector(FrozenEstimator(discriminant), measure="energy").fit(X)
    np.testing.assert_allclose(energy.score_samples(X), discriminant.score_samples(X))
    with pytest.raises(TypeError, match="but GaussianDiscriminant has none"):
        NoveltyDetector(FrozenEstimator(discriminant)).fit(X, y)


def test_composition(blobs):
    X, y = blobs
    inner = TorchClassifier(posterior=MCDropout(), max_epochs=5, random_state=0)
    pipeline = make_pipeline(StandardScaler(), GaussianDiscriminant(inner)).fit(X, y)
    assert skuq.predict_uncertainty(pipeline, X).shape == (240,)
    assert skuq.predict_features(pipeline, X).shape == (240, 100)
    scaled = TemperatureScaler(GaussianDiscriminant(), cv=3).fit(X, y)
    assert scaled.loss_after_ <= scaled.loss_before_
    assert cross_val_score(GaussianDiscriminant(), X, y, cv=3).mean() > 0.7


def test_refusals(network, known):
    _, _, X, y, _ = known
    with pytest.raises(ValueError, match="at least 2 classes, got 1 class"):
        GaussianDiscriminant().fit(X, np.zeros(len(X)))
    with pytest.raises(ValueError, match=r"rank \d+ of 64 features"):
        GaussianDiscriminant(covariance="empirical", tied=False).fit(X[:100], y[:100])
    with pytest.raises(ValueError, match="requires y"):
        GaussianDiscriminant(FrozenEstimator(network)).fit(X)
    with pytest.raises(ValueError, match="100 rows, but y has 99"):
        GaussianDiscriminant(FrozenEstimator(network)).fit(X[:100], y[:99])
    with pytest.raises(TypeError, match="LinearDiscriminantAnalysis has none"):
        GaussianDiscriminant(LinearDiscriminantAnalysis()).fit(X, y)
