"""Graphs of networks give, in another runtime, what the estimators say."""

import json

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq.calibration import QuantileRecalibrator, TemperatureScaler, VarianceScaler, VectorScaler
from skuq.likelihoods import Bernoulli, Gaussian, Laplace
from skuq.posteriors import (
    SWAG,
    DeepEnsemble,
    LastLayerLaplace,
    MCDropout,
    PointEstimate,
    Variational,
)
from tests.networks import ConvNet, Plain, dense

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
OPTIONS = {"max_epochs": 3, "lr": 0.01, "random_state": 0}
POSTERIORS = [MCDropout(4), DeepEnsemble(2), LastLayerLaplace(n_draws=4)]


def run(model, path, X):
    skuq.export_onnx(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"X": X}))), session.get_modelmeta()


def images(n=50):
    random = np.random.default_rng(0)
    return random.normal(size=(n, 1, 8, 8)).astype(np.float32), np.arange(n) % 3


@pytest.mark.parametrize("posterior", POSTERIORS, ids=str)
@pytest.mark.parametrize("network", ["MLP", "CNN"])
def test_classifiers(network, posterior, blobs, tmp_path):
    X, y = blobs if network == "MLP" else images()
    module = None if network == "MLP" else ConvNet
    labels = np.array(["a", "b", "c"])[y]
    model = TorchClassifier(module, posterior=posterior, **OPTIONS).fit(X, labels)
    got, about = run(model, tmp_path / "m.onnx", X)
    np.testing.assert_allclose(got["predicted_probabilities"], model.predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(got["total_uncertainty"], model.predict_uncertainty(X), atol=1e-5)
    assert json.loads(about.custom_metadata_map["classes"]) == ["a", "b", "c"]
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("several", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_segmenters(several, tmp_path):
    X, y = dense.images(5)
    X = X.astype(np.float32)
    masks = np.stack([y == 0, y == 2], axis=1).astype(int) if several else y
    model = dense.segmenter(
        MCDropout(3),
        precision="float32",
        max_epochs=20,
        likelihood=Bernoulli() if several else None,
    ).fit(X, masks)
    scaler = TemperatureScaler(FrozenEstimator(model)).fit(2 * X, masks)
    got, _ = run(scaler, tmp_path / "m.onnx", X)
    np.testing.assert_allclose(got["predicted_probabilities"], scaler.predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(got["total_uncertainty"], scaler.predict_uncertainty(X), atol=1e-5)


@pytest.mark.parametrize(
    "posterior", [*POSTERIORS, SWAG(n_epochs=2, n_draws=3), Variational(n_draws=3)], ids=str
)
def test_regressors(posterior, diabetes, tmp_path):
    X, y = (part.astype(np.float32)[:100] for part in diabetes)
    model = TorchRegressor(posterior=posterior, **OPTIONS).fit(X, y)
    got, _ = run(model, tmp_path / "m.onnx", X)
    mean, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(got["predicted_mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(got["total_uncertainty"], std**2, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:the frozen")
def test_calibrators_of_classes(blobs, tmp_path):
    X, y = blobs
    network = TorchClassifier(posterior=PointEstimate(), **OPTIONS).fit(X, y)
    inside = TemperatureScaler(FrozenEstimator(network)).fit(X, y)
    model = VectorScaler(FrozenEstimator(inside)).fit(X, y)
    got, _ = run(model, tmp_path / "m.onnx", X)
    expected = model.predict_proba(X)
    assert np.abs(expected - network.predict_proba(X)).max() > 1e-3
    np.testing.assert_allclose(got["predicted_probabilities"], expected, atol=1e-5)
    uncertainty = skuq.predict_uncertainty(model, X)
    np.testing.assert_allclose(got["total_uncertainty"], uncertainty, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the frozen")
def test_calibrators_of_real_targets(diabetes, tmp_path):
    X, y = (part.astype(np.float32)[:100] for part in diabetes)
    model = VarianceScaler(TorchRegressor(posterior=DeepEnsemble(2), **OPTIONS), cv=2).fit(X, y)
    got, _ = run(model, tmp_path / "m.onnx", X)
    np.testing.assert_allclose(got["predicted_mean"], model.predict(X), rtol=1e-5)
    uncertainty = skuq.predict_uncertainty(model, X)
    np.testing.assert_allclose(got["total_uncertainty"], uncertainty, rtol=1e-5)
    model = QuantileRecalibrator(FrozenEstimator(model.estimator_)).fit(X, y)
    with pytest.raises(ValueError, match=r"MLP with Gaussian.* in QuantileRecalibrator cannot be"):
        skuq.export_onnx(model, tmp_path / "m.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", [Gaussian(heteroscedastic=False), Laplace()], ids=str)
def test_several_targets(likelihood, tmp_path):
    random = np.random.default_rng(0)
    X = random.normal(size=(60, 4))
    y = X[:, :2] + random.normal(size=(60, 2))
    model = TorchRegressor(
        Plain, posterior=DeepEnsemble(2), likelihood=likelihood, precision="float64", **OPTIONS
    ).fit(X, y)
    got, _ = run(model, tmp_path / "m.onnx", X)
    np.testing.assert_allclose(got["predicted_mean"], model.predict(X), rtol=1e-9)
    np.testing.assert_allclose(got["total_uncertainty"], model.predict_uncertainty(X), rtol=1e-9)


@pytest.mark.slow
def test_several_labels(blobs, tmp_path):
    X, y = blobs
    model = TorchClassifier(likelihood=Bernoulli(), posterior=PointEstimate(), **OPTIONS)
    model.fit(X, np.stack([y == 0, y > 0], axis=1).astype(int))
    got, _ = run(model, tmp_path / "m.onnx", X)
    np.testing.assert_allclose(got["predicted_probabilities"], model.predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(got["total_uncertainty"], model.predict_uncertainty(X), atol=1e-5)


def test_what_is_refused(blobs, tmp_path, monkeypatch):
    X, y = blobs
    path = tmp_path / "m.onnx"
    with pytest.raises(NotFittedError):
        skuq.export_onnx(TorchClassifier(), path)
    model = TorchClassifier(posterior=PointEstimate(), **OPTIONS).fit(X, y)
    pipeline = make_pipeline(model)
    with pytest.raises(TypeError, match=r"got Pipeline; of a Pipeline give the last step"):
        skuq.export_onnx(pipeline, path)
    with pytest.raises(TypeError, match=r"got Pipeline in TemperatureScaler"):
        skuq.export_onnx(TemperatureScaler(pipeline, cv=2).fit(X, y), path)
    with pytest.raises(NotFittedError):
        skuq.export_onnx(TemperatureScaler(model), path)
    half = TorchClassifier(posterior=PointEstimate(), precision="bfloat16", **OPTIONS).fit(X, y)
    with pytest.raises(ValueError, match=r"bfloat16"):
        skuq.export_onnx(half, path)

    def fails(*args, **kwargs):
        raise RuntimeError("no such operator")

    monkeypatch.setattr("torch.onnx.export", fails)
    with pytest.raises(ValueError, match=r"MLP with Categorical.* cannot be exported.*no such"):
        skuq.export_onnx(model, path)
    assert not path.exists()


def test_a_graph_that_disagrees_is_not_written(blobs, tmp_path):
    from skuq import _onnx

    X, y = blobs
    one = TorchClassifier(Plain, posterior=PointEstimate(), **OPTIONS).fit(X, y)
    other = TorchClassifier(
        Plain, posterior=PointEstimate(), max_epochs=3, lr=0.1, random_state=1
    ).fit(X, y)
    rows = one._engine._sample
    content = _onnx._exported(_onnx._Graph(one, []), rows, one)
    _onnx._check(content, _onnx._Graph(one, []), rows)
    with pytest.raises(ValueError, match=r"another predicted_probabilities"):
        _onnx._check(content, _onnx._Graph(other, []), rows)
