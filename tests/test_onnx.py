"""Graphs of networks give, in another runtime, what the estimators say."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, StandardScaler

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq._onnx_steps import columns_of
from skuq.calibration import (
    MatrixScaler,
    QuantileRecalibrator,
    TemperatureScaler,
    VarianceScaler,
    VectorScaler,
)
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
from tests.networks.texts import BagOfTokens, padded, ragged_rows

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
    parts = model.predict_uncertainty(X, kind="all")
    for kind, values in zip(("total", "aleatoric", "epistemic"), parts):
        np.testing.assert_allclose(got[f"{kind}_uncertainty"], values, atol=1e-5)
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
    epistemic = model.predict_uncertainty(X, kind="epistemic")
    np.testing.assert_allclose(got["epistemic_uncertainty"], epistemic, atol=1e-5 * std.max() ** 2)


@pytest.mark.filterwarnings("ignore:the frozen")
def test_calibrators_of_classes(blobs, tmp_path):
    X, y = blobs
    network = TorchClassifier(posterior=PointEstimate(), **OPTIONS).fit(X, y)
    inside = TemperatureScaler(FrozenEstimator(network)).fit(X, y)
    inside = MatrixScaler(FrozenEstimator(inside)).fit(X, y)
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


def mixed_table(n=60):
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "far": random.normal(1e5, 1, n),
            "gaps": random.normal(size=n).astype(np.float32),
            "count": random.integers(9, size=n),
            "town": random.choice(["a", "b", "c"], n),
            "flag": random.random(n) > 0.5,
        }
    )
    table.loc[3, "gaps"] = np.nan
    return table, random.integers(3, size=n)


def test_a_calibrated_pipeline_is_one_graph(tmp_path):
    pytest.importorskip("skl2onnx")
    X, y = mixed_table()
    columns = make_column_transformer(
        (StandardScaler(), ["far"]),
        (make_pipeline(SimpleImputer(), StandardScaler()), ["gaps", "count"]),
        (OneHotEncoder(handle_unknown="ignore"), ["town"]),
        ("passthrough", ["flag"]),
    )
    network = TorchClassifier(posterior=MCDropout(3), **OPTIONS)
    pipeline = make_pipeline(columns, "passthrough", StandardScaler(with_mean=False), network)
    model = TemperatureScaler(pipeline, cv=2).fit(X, y)
    skuq.export_onnx(model, tmp_path / "m.onnx", X)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    assert {one.name: one.type for one in session.get_inputs()} == {
        "far": "tensor(double)",
        "gaps": "tensor(float)",
        "count": "tensor(int64)",
        "town": "tensor(string)",
        "flag": "tensor(bool)",
    }
    later = X.iloc[::-1].assign(town="elsewhere")
    total, aleatoric, epistemic = skuq.predict_uncertainty(model, later, kind="all")
    expected = (model.predict_proba(later), total, aleatoric, epistemic)
    for one, other in zip(session.run(None, columns_of(later)), expected):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_columns_of_any_name_and_transformers_behind_others(tmp_path):
    pytest.importorskip("skl2onnx")
    X, y = mixed_table()
    X = X.assign(far=X["far"] - 1e5)[["far", "count"]].set_axis(["how far (m)", "count"], axis=1)
    columns = make_column_transformer((MinMaxScaler(), ["count"]), remainder="passthrough")
    scaler = StandardScaler().set_output(transform="pandas")
    network = TorchClassifier(posterior=PointEstimate(), **OPTIONS)
    model = make_pipeline(scaler, columns, network).fit(X, y)
    skuq.export_onnx(model, tmp_path / "m.onnx", X)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == list(X.columns)
    kinds = {one.name: one.type for one in session.get_inputs()}
    assert kinds == {"how far (m)": "tensor(double)", "count": "tensor(int64)"}
    got = session.run(None, columns_of(X))[0]
    np.testing.assert_allclose(got, model.predict_proba(X), atol=1e-5)


@pytest.mark.slow
def test_searches_and_steps_of_arrays(diabetes, tmp_path):
    pytest.importorskip("skl2onnx")
    X, y = diabetes[0][:80] * 100 + 3, diabetes[1][:80]
    network = TorchRegressor(posterior=DeepEnsemble(2), **OPTIONS)
    # Without a version of 64 bits in onnxruntime, the imputer needs a graph of 32 bits.
    pipeline = make_pipeline(SimpleImputer(), StandardScaler(), network)
    search = GridSearchCV(pipeline, {"torchregressor__lr": [0.01]}, cv=2).fit(X, y)
    skuq.export_onnx(search, tmp_path / "m.onnx", X)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].type == "tensor(float)"
    got = session.run(None, {"X": X.astype(np.float32)})
    np.testing.assert_allclose(got[0], search.predict(X), rtol=1e-5)


@pytest.mark.parametrize("ragged", [pytest.param(False, marks=pytest.mark.slow), True])
def test_several_inputs_of_any_length(ragged, tmp_path):
    rows, y = ragged_rows(30)
    X = skuq.Inputs(input_ids=rows) if ragged else padded(rows)
    model = TorchClassifier(BagOfTokens, posterior=MCDropout(3), **OPTIONS).fit(X, y)
    skuq.export_onnx(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    for length in (None, 12):
        got = session.run(None, padded(rows, length))
        np.testing.assert_allclose(got[0], model.predict_proba(X), atol=1e-5)


@pytest.mark.slow
def test_codes_of_categories(tmp_path):
    X, y = mixed_table()
    X = X[["far", "town"]].assign(far=X["far"] - 1e5)
    model = TorchClassifier(posterior=DeepEnsemble(2), **OPTIONS).fit(X, y)
    skuq.export_onnx(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["categories"]) == [["a", "b", "c"]]
    codes = X["town"].map({"a": 1, "b": 2, "c": 3}).to_numpy()[:, None]
    got = session.run(None, {"numbers": X[["far"]].to_numpy(np.float32), "codes": codes})
    np.testing.assert_allclose(got[0], model.predict_proba(X), atol=1e-5)
    with pytest.raises(ValueError, match=r"several inputs, which the steps before it make"):
        through = make_pipeline(FunctionTransformer(), model).fit(X, y)
        skuq.export_onnx(through, tmp_path / "m.onnx", X)


def test_what_is_refused(blobs, tmp_path, monkeypatch):
    X, y = blobs
    path = tmp_path / "m.onnx"
    with pytest.raises(NotFittedError):
        skuq.export_onnx(TorchClassifier(), path)
    model = TorchClassifier(posterior=PointEstimate(), **OPTIONS).fit(X, y)
    pipeline = make_pipeline(StandardScaler(), model).fit(X, y)
    with pytest.raises(ValueError, match=r"0_standardscaler.*expected X, some rows"):
        skuq.export_onnx(pipeline, path)
    forest = make_pipeline(RandomForestClassifier(2, random_state=0)).fit(X, y)
    with pytest.raises(TypeError, match=r"got RandomForestClassifier in Pipeline"):
        skuq.export_onnx(forest, path)
    doubled = make_pipeline(FunctionTransformer(lambda x: 2 * x), model).fit(X, y)
    with pytest.raises(ValueError, match=r"cannot convert the steps \['0_functiontransformer'\]"):
        skuq.export_onnx(doubled, path, X)
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
    content = _onnx._exported(_onnx._Graph(one, []), rows, one).SerializeToString()
    _onnx._check(content, _onnx._Graph(one, []), rows)
    with pytest.raises(ValueError, match=r"another predicted_probabilities"):
        _onnx._check(content, _onnx._Graph(other, []), rows)
