"""Selective estimators with pipelines, searches, calibrators, files, frames and streams."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import IterableDataset, TensorDataset

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq.calibration import TemperatureScaler, VarianceScaler
from skuq.metrics import ece_scorer
from skuq.posteriors import PointEstimate
from skuq.selective import SelectiveClassifier, SelectiveRegressor, accept

CHEAP = {"posterior": PointEstimate(), "max_epochs": 5, "lr": 0.01, "random_state": 0}


@pytest.fixture(scope="module")
def network(digits):
    X, y = digits
    return TorchClassifier(**{**CHEAP, "max_epochs": 20}).fit(X[:300], y[:300])


@pytest.fixture(scope="module")
def selective(network, digits):
    X, y = digits
    return SelectiveClassifier(FrozenEstimator(network), target_risk=0.1, reject_label=-1).fit(
        X[300:], y[300:]
    )


def test_frozen_networks_are_certified(selective):
    assert selective.certified_ and selective.bound_ == 0.1 and 0.3 < selective.coverage_ < 1


def test_rows_that_trained_certify_nothing(network, digits):
    X, y = digits
    with pytest.warns(UserWarning, match="30 of the 330 calibration rows equal rows that trained"):
        seen = SelectiveClassifier(FrozenEstimator(network), target_risk=0.1).fit(X[270:], y[270:])
    assert not seen.certified_ and np.isnan(seen.bound_) and seen.coverage_ > 0


def test_inside_of_a_pipeline(digits):
    X, y = digits
    pipeline = make_pipeline(
        StandardScaler(), SelectiveClassifier(TorchClassifier(**CHEAP), coverage=0.8)
    ).fit(X, y)
    inside = pipeline[-1]
    assert np.array_equal(accept(pipeline, X), inside.accept(pipeline[0].transform(X)))
    assert skuq.predict_uncertainty(pipeline, X).shape == (len(X),)
    assert ece_scorer(pipeline, X, y) <= 0
    with pytest.raises(TypeError, match="LogisticRegression cannot refuse"):
        accept(LogisticRegression().fit(X, y), X)


def test_around_a_pipeline_and_a_calibrator(digits):
    X, y = digits
    inner = make_pipeline(StandardScaler(), TorchClassifier(**CHEAP))
    selective = SelectiveClassifier(TemperatureScaler(inner, cv=2), coverage=0.7).fit(X, y)
    scaler = selective.estimator_
    assert scaler.temperature_ > 0 and len(selective.classes_) == 10
    expected = scaler.predict_uncertainty(X) <= selective.threshold_
    assert np.array_equal(selective.accept(X), expected)
    frozen = SelectiveClassifier(FrozenEstimator(scaler), coverage=0.7)
    with pytest.warns(UserWarning, match="equal rows that trained the frozen"):
        frozen.fit(X, y)


def test_searches(digits):
    X, y = digits[0][:300], digits[1][:300]
    inner = SelectiveClassifier(TorchClassifier(**CHEAP), coverage=0.8)
    search = GridSearchCV(inner, {"estimator__lr": [1e-4, 1e-2]}, cv=2).fit(X, y)
    assert search.best_params_ == {"estimator__lr": 1e-2}
    assert accept(search, X).mean() == pytest.approx(0.8, abs=0.1)
    scores = cross_val_score(inner, X, y, cv=2, scoring="neg_log_loss")
    assert np.isfinite(scores).all()


def test_regressors(diabetes):
    X, y = diabetes
    inner = VarianceScaler(TorchRegressor(**CHEAP), cv=2)
    pipeline = make_pipeline(StandardScaler(), SelectiveRegressor(inner, coverage=0.5)).fit(X, y)
    assert 0.3 < accept(pipeline, X).mean() < 0.7
    assert skuq.predict_interval(pipeline, X).shape == (len(X), 2)
    assert pipeline.predict(X, return_std=True)[1].shape == (len(X),)


def test_save_and_load(selective, digits, diabetes, tmp_path):
    pytest.importorskip("safetensors")
    X = digits[0]
    skuq.save(selective, tmp_path / "selective.skuq")
    loaded = skuq.load(tmp_path / "selective.skuq")
    assert np.array_equal(loaded.predict(X), selective.predict(X))
    assert loaded.threshold_ == selective.threshold_ and loaded.certified_ is True
    assert loaded.get_params()["target_risk"] == 0.1
    regressor = SelectiveRegressor(
        TorchRegressor(**CHEAP), target_risk=1.0, loss_bound=2.0, reject_label=np.nan
    )
    with pytest.warns(UserWarning, match="every row is refused"):
        regressor.fit(*diabetes)
    skuq.save(regressor, tmp_path / "regressor.skuq")
    loaded = skuq.load(tmp_path / "regressor.skuq")
    assert loaded.threshold_ == -np.inf and np.isnan(loaded.predict(diabetes[0])).all()


def test_frames(blobs):
    X, y = pd.DataFrame(blobs[0], columns=[f"c{i}" for i in range(10)]), pd.Series(blobs[1])
    selective = SelectiveClassifier(TorchClassifier(**CHEAP), coverage=0.5).fit(X, y)
    assert selective.feature_names_in_.tolist() == list(X.columns)
    assert selective.accept(X.iloc[7:9]).tolist() == selective.accept(X)[7:9].tolist()
    assert set(selective.report(X, y, groups=pd.Series(["a", "b"] * 120)).by_group) == {"a", "b"}


class Once(IterableDataset):
    """Rows, or pairs, that are made anew in each pass."""

    def __init__(self, *arrays):
        self.arrays = arrays

    def __iter__(self):
        rows = zip(*self.arrays)
        return rows if len(self.arrays) > 1 else (row for (row,) in rows)


def test_streams(network, selective, digits):
    X, y = digits[0][300:], digits[1][300:]
    pairs = TensorDataset(torch.tensor(X), torch.tensor(y))
    for stream in (pairs, Once(X, y)):
        streamed = clone(selective).fit(stream)
        assert streamed.threshold_ == selective.threshold_ and streamed.certified_
        assert streamed.report(stream).overall == selective.report(X, y).overall
        assert streamed.score(stream) == selective.score(X, y)
    for stream in (pairs, Once(X)):
        assert np.array_equal(selective.predict(stream), selective.predict(X))
        assert np.array_equal(selective.accept(stream), selective.accept(X))
    with pytest.raises(ValueError, match=r"give SelectiveClassifier\(FrozenEstimator\(estimator\)"):
        SelectiveClassifier(TorchClassifier(**CHEAP), coverage=0.5).fit(pairs)


def test_memory_maps(selective, digits, tmp_path):
    X = digits[0]
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert np.array_equal(selective.accept(mapped), selective.accept(X))


def test_weights_reach_the_estimator(blobs):
    X, y = blobs
    weight = np.where(y == 0, 20.0, 1.0)
    inner = SelectiveClassifier(TorchClassifier(**CHEAP), coverage=0.9)
    plain, heavy = clone(inner).fit(X, y), clone(inner).fit(X, y, sample_weight=weight)
    assert (heavy.predict(X) == 0).sum() > (plain.predict(X) == 0).sum()
    assert heavy.n_calibration_ == plain.n_calibration_
