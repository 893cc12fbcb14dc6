"""What enters the last layer, of every kind of network."""

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq.calibration import TemperatureScaler
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate

OPTIONS = {"max_epochs": 2, "random_state": 0, "module__hidden_layer_sizes": (7, 5)}


def trunk(module, x):
    with torch.no_grad():
        return nn.Sequential(*list(module.children())[:-1])(torch.tensor(x, dtype=torch.float32))


@pytest.mark.parametrize("posterior", [PointEstimate(), MCDropout(3)], ids=str)
def test_features_of_one_network(posterior, blobs):
    X, y = blobs
    fitted = TorchClassifier(posterior=posterior, **OPTIONS).fit(X, y)
    features = skuq.predict_features(fitted, X)
    np.testing.assert_allclose(features, trunk(fitted.module_, X), atol=1e-6)
    last = list(fitted.module_.children())[-1]
    if isinstance(posterior, PointEstimate):
        logits = torch.tensor(features) @ last.weight.double().T + last.bias.double()
        expected = logits.detach().softmax(1)
        np.testing.assert_allclose(fitted.predict_proba(X), expected, atol=1e-5)


def test_features_of_an_ensemble(diabetes):
    X, y = diabetes
    fitted = TorchRegressor(posterior=DeepEnsemble(3), **OPTIONS).fit(X, y)
    features = skuq.predict_features(fitted, X)
    assert features.shape == (3, len(X), 5)
    for k, network in enumerate(fitted._engine.draws.networks(3)):
        np.testing.assert_allclose(features[k], trunk(network, X), atol=1e-5)


def test_through_a_pipeline_and_a_calibrator(blobs):
    X, y = blobs
    inner = TorchClassifier(posterior=PointEstimate(), **OPTIONS)
    pipeline = make_pipeline(StandardScaler(), inner).fit(X, y)
    scaled = pipeline[0].transform(X)
    expected = skuq.predict_features(pipeline[1], scaled)
    np.testing.assert_array_equal(skuq.predict_features(pipeline, X), expected)
    calibrated = TemperatureScaler(inner.set_params(max_epochs=30), cv=2).fit(X, y)
    assert skuq.predict_features(calibrated, X).shape == (len(X), 5)


class Images(nn.Module):
    def __init__(self, n_outputs):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.head = nn.Linear(4, n_outputs)

    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))


def test_features_of_images_by_the_name_of_a_layer(digits):
    X, y = digits
    images = X.reshape(-1, 1, 8, 8)
    fitted = TorchClassifier(Images, posterior=PointEstimate(), max_epochs=1, random_state=0)
    fitted.fit(images[:100], y[:100])
    assert skuq.predict_features(fitted, images[:20]).shape == (20, 4)
    features = skuq.predict_features(fitted, images[:20], layer="conv")
    np.testing.assert_array_equal(features, images[:20].reshape(20, 64))


class Tied(nn.Module):
    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.first = nn.Linear(n_features, n_features)
        self.last = nn.Linear(n_features, n_features)
        self.last.weight = self.first.weight
        self.n_outputs = n_outputs

    def forward(self, x):
        return self.last(self.first(x).tanh())


class Twice(Tied):
    def forward(self, x):
        return self.first(self.first(x).tanh())


class Followed(nn.Module):
    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.last = nn.Linear(n_features, n_outputs)

    def forward(self, x):
        return self.last(x) * 2


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (Tied, r"'last', is tied: it is first\.weight and last\.weight"),
        (Twice, "'first', is called 2 times"),
        (Followed, "more than a softmax follows its last nn.Linear, 'last'"),
    ],
)
def test_heads_that_are_none(module, why):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3)).astype(np.float32)
    y = np.arange(60) % 3
    fitted = TorchClassifier(module, posterior=PointEstimate(), max_epochs=1, random_state=0)
    fitted.fit(X, y)
    with pytest.raises(ValueError, match=rf"{why}.*layer="):
        skuq.predict_features(fitted, X)


def test_wrong_names_and_estimators(blobs):
    X, y = blobs
    fitted = TorchClassifier(posterior=PointEstimate(), **OPTIONS).fit(X, y)
    with pytest.raises(ValueError, match=r"layer='9' is not a layer of MLP.*It has 0, 1"):
        skuq.predict_features(fitted, X, layer="9")
    with pytest.raises(TypeError, match="needs a skuq estimator, got StandardScaler"):
        skuq.predict_features(StandardScaler().fit(X), X)
