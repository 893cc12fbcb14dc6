"""Uncertainty as a function of tensors: the numbers of predict_uncertainty, with gradients."""

import numpy as np
import pytest
import torch
from sklearn.compose import TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq.calibration import MatrixScaler, TemperatureScaler, VarianceScaler, VectorScaler
from skuq.likelihoods import Bernoulli
from skuq.posteriors import DeepEnsemble
from tests.networks.dense import images, segmenter

OPTIONS = {
    "posterior": DeepEnsemble(2),
    "max_epochs": 3,
    "lr": 0.01,
    "random_state": 0,
    "precision": "float64",
    "module__activation": "tanh",
    "module__hidden_layer_sizes": (8,),
}


def assert_differentiable(function, estimator, X, **options):
    """The numbers of predict_uncertainty, and gradients of finite differences."""
    x = torch.tensor(X[:5], dtype=torch.float64, requires_grad=True)
    found = function(x)
    expected = skuq.predict_uncertainty(estimator, X[:5], **options)
    np.testing.assert_allclose(found.detach(), expected.reshape(5, -1).sum(1), rtol=1e-9)
    assert torch.autograd.gradcheck(function, (x[:2],), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("kind", ["total", "aleatoric", "epistemic"])
@pytest.mark.parametrize("measure", ["entropy", "variance"])
def test_of_a_classifier(kind, measure, blobs):
    X, y = blobs[0].astype(float), blobs[1]
    fitted = TorchClassifier(**OPTIONS).fit(X, y)
    function = skuq.uncertainty_function(fitted, kind, measure)
    assert_differentiable(function, fitted, X, kind=kind, measure=measure)


@pytest.mark.parametrize("kind", ["total", "aleatoric", "epistemic"])
def test_of_a_regressor(kind, diabetes):
    X, y = diabetes
    y = np.column_stack([y, y[::-1]])
    fitted = TorchRegressor(**OPTIONS).fit(X, y)
    assert_differentiable(skuq.uncertainty_function(fitted, kind), fitted, X, kind=kind)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: TemperatureScaler(inner, cv=2),
        lambda inner: VectorScaler(inner, cv=2),
        lambda inner: MatrixScaler(inner, cv=2),
        lambda inner: make_pipeline(StandardScaler(), TemperatureScaler(inner, cv=2)),
        lambda inner: TemperatureScaler(make_pipeline(PCA(3, whiten=True), inner), cv=2),
        lambda inner: make_pipeline(MinMaxScaler(), RobustScaler(), MaxAbsScaler(), inner),
        lambda inner: make_pipeline(StandardScaler(), GridSearchCV(inner, {"lr": [0.01]}, cv=2)),
        lambda inner: GridSearchCV(make_pipeline("passthrough", inner), {}, cv=2),
    ],
    ids=["temperature", "vector", "matrix", "pipeline", "inside", "scalers", "search", "around"],
)
@pytest.mark.filterwarnings("ignore:The .* was trained:UserWarning")
def test_through_what_is_around(wrap, blobs):
    X, y = blobs[0].astype(float), blobs[1]
    fitted = wrap(TorchClassifier(**OPTIONS)).fit(X, y)
    assert_differentiable(skuq.uncertainty_function(fitted), fitted, X)
    frozen = FrozenEstimator(fitted)
    assert_differentiable(skuq.uncertainty_function(frozen), fitted, X)


def test_of_several_labels_and_of_a_calibrated_regressor(blobs, diabetes):
    X, y = blobs[0].astype(float), blobs[1]
    fitted = TorchClassifier(likelihood=Bernoulli(), **OPTIONS)
    fitted.fit(X, np.column_stack([y == 0, y == 1]).astype(int))
    assert_differentiable(skuq.uncertainty_function(fitted), fitted, X)
    X, y = diabetes
    fitted = VarianceScaler(TorchRegressor(**OPTIONS), cv=2).fit(X, y)
    assert_differentiable(skuq.uncertainty_function(fitted), fitted, X)


def test_refusals(blobs, diabetes):
    X, y = blobs[0].astype(float), blobs[1]
    fitted = TorchClassifier(**OPTIONS).fit(X, y)
    with pytest.raises(ValueError, match="three numbers per row"):
        skuq.uncertainty_function(fitted, "all")
    with pytest.raises(ValueError, match="no gradient"):
        skuq.uncertainty_function(fitted, measure="variation_ratio")
    with pytest.raises(ValueError, match="rows of shape"):
        skuq.uncertainty_function(fitted)(torch.zeros(10))
    pipeline = make_pipeline(PowerTransformer(), TorchClassifier(**OPTIONS)).fit(X, y)
    with pytest.raises(TypeError, match="step PowerTransformer"):
        skuq.uncertainty_function(pipeline)
    with pytest.raises(TypeError, match="LogisticRegression, which has no gradient"):
        skuq.uncertainty_function(LogisticRegression(max_iter=1000).fit(X, y))
    X, y = diabetes
    regressor = TransformedTargetRegressor(
        TorchRegressor(**OPTIONS), func=np.log, inverse_func=np.exp
    )
    with pytest.raises(TypeError, match="regressor_"):
        skuq.uncertainty_function(regressor.fit(X, y))


def test_of_a_segmenter_it_is_the_mean_over_the_pixels():
    X, y = images()
    one = segmenter().fit(X, y)
    for kind, measure in (("total", "entropy"), ("epistemic", "variance")):
        x = torch.tensor(X, requires_grad=True)
        got = skuq.uncertainty_function(one, kind, measure)(x)
        expected = one.predict_image_uncertainty(X, kind=kind, measure=measure)
        np.testing.assert_allclose(got.detach(), expected, rtol=0, atol=1e-12)
        (gradient,) = torch.autograd.grad(got[1], x)
        assert gradient[1].abs().min() > 0 and gradient[[0, 2]].abs().max() == 0
