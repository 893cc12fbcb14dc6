"""Out-of-fold answers, and torch Datasets in folds, searches, calibrators and reports."""

import joblib
import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import BayesianRidge
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    StratifiedKFold,
    TimeSeriesSplit,
    cross_val_score,
)
from sklearn.model_selection import cross_val_predict as by_scikit_learn
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import IterableDataset, TensorDataset

import skuq
from skuq import TorchClassifier
from skuq import metrics as m
from skuq.calibration import TemperatureScaler
from skuq.datasets import IndexedDataset
from skuq.novelty import NoveltyDetector
from skuq.posteriors import PointEstimate
from skuq.selective import SelectiveClassifier

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 3))
Y = X @ [1.0, -2.0, 0.5] + RANDOM.normal(size=60)
LABELS = np.array(["a", "b", "c"])[np.digitize(Y, [-1, 1])]
FOREST = RandomForestClassifier(5, random_state=0)
FOLDS = StratifiedKFold(3, shuffle=True, random_state=0)


def network(**options):
    return TorchClassifier(
        posterior=PointEstimate(), module__hidden_layer_sizes=(6,), max_epochs=2, random_state=0,
        callbacks="disable", **options,
    )  # fmt: skip


def by_hand(estimator, ask, y, folds):
    """Collect the answers of each fold in a loop."""
    parts = {}
    for train, test in folds.split(X, y):
        fitted = clone(estimator).fit(X[train], y[train])
        parts |= dict(zip(test, ask(fitted, X[test])))
    return np.stack([parts[row] for row in range(len(X))])


def test_uncertainty_is_that_of_the_folds():
    pipeline = make_pipeline(StandardScaler(), FOREST)
    parts = skuq.cross_val_predict(pipeline, X, LABELS, cv=FOLDS, kind="all", measure="variance")
    for kind in ("total", "aleatoric", "epistemic"):

        def ask(fitted, rows, kind=kind):
            return skuq.predict_uncertainty(fitted, rows, kind=kind, measure="variance")

        assert np.array_equal(getattr(parts, kind), by_hand(pipeline, ask, LABELS, FOLDS))
        with joblib.parallel_config("threading"):
            alone = skuq.cross_val_predict(
                pipeline, X, LABELS, cv=FOLDS, kind=kind, measure="variance", n_jobs=2
            )
        assert np.array_equal(alone, getattr(parts, kind))


def test_intervals_quantiles_and_draws():
    folds = KFold(4, shuffle=True, random_state=1)
    forest = RandomForestRegressor(5, random_state=0)
    interval = skuq.cross_val_predict(
        forest, X, Y, cv=folds, method="predict_interval", confidence_level=0.6
    )
    expected = by_hand(forest, lambda f, rows: skuq.predict_interval(f, rows, 0.6), Y, folds)
    assert np.array_equal(interval, expected)
    quantiles = skuq.cross_val_predict(forest, X, Y, cv=folds, method="predict_quantiles", q=[0.2])
    assert np.array_equal(quantiles[:, 0], interval[:, 0])
    draws = skuq.cross_val_predict(FOREST, X, LABELS, cv=FOLDS, method="predict_draws")
    assert draws.shape == (5, 60, 3)
    proba = by_scikit_learn(FOREST, X, LABELS, cv=FOLDS, method="predict_proba")
    np.testing.assert_allclose(draws.mean(0), proba)
    same = skuq.cross_val_predict(FOREST, X, LABELS, cv=FOLDS, method="predict_proba")
    assert np.array_equal(same, proba)


def test_arguments_of_fit_and_groups():
    weight = np.where(LABELS == "a", 5.0, 1.0)
    groups = np.arange(60) // 6
    plain, heavy = (
        skuq.cross_val_predict(
            BayesianRidge(), X, Y, groups=groups, cv=GroupKFold(3), params=params
        )
        for params in (None, {"sample_weight": weight})
    )
    assert not np.allclose(plain, heavy)
    train, test = next(GroupKFold(3).split(X, Y, groups))
    fold = BayesianRidge().fit(X[train], Y[train], sample_weight=weight[train])
    np.testing.assert_allclose(heavy[test], skuq.predict_uncertainty(fold, X[test]))
    with sklearn.config_context(enable_metadata_routing=True):
        routed = skuq.cross_val_predict(
            BayesianRidge().set_fit_request(sample_weight=True),
            X, Y, cv=GroupKFold(3), params={"sample_weight": weight, "groups": groups},
        )  # fmt: skip
    np.testing.assert_allclose(routed, heavy)


def test_a_class_that_a_fold_lacks():
    order = np.argsort(LABELS)
    with pytest.warns(RuntimeWarning, match="some folds lack rows of some classes"):
        draws = skuq.cross_val_predict(
            FOREST, X[order], LABELS[order], cv=KFold(3), method="predict_draws"
        )
    assert draws.shape == (5, 60, 3)
    first = KFold(3).split(X)
    _, test = next(first)
    assert not draws[:, test][..., LABELS[order][test[0]] == np.array(["a", "b", "c"])].all()
    np.testing.assert_allclose(draws.sum(-1), 1)


def test_folds_that_are_no_partition():
    with pytest.raises(ValueError, match="exactly one fold, but 15 of 60 rows"):
        skuq.cross_val_predict(BayesianRidge(), X, Y, cv=TimeSeriesSplit(3))
    with pytest.raises(TypeError, match="gives it no arguments; got kind"):
        skuq.cross_val_predict(BayesianRidge(), X, Y, method="predict", kind="all")
    with pytest.raises(ValueError, match="method must be one of 'predict_uncertainty'"):
        skuq.cross_val_predict(BayesianRidge(), X, Y, method="predict_uncertainy")
    with pytest.raises(TypeError, match="cannot call predict_interval"):
        skuq.cross_val_predict(NoIntervals(), X, Y, method="predict_interval")


class NoIntervals(BayesianRidge):
    def predict(self, X):
        return super().predict(X)


def test_frames():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abc"))
    found = skuq.cross_val_predict(FOREST, frame, pd.Series(LABELS), cv=FOLDS)
    np.testing.assert_allclose(found, skuq.cross_val_predict(FOREST, X, LABELS, cv=FOLDS))


# -- Datasets ------------------------------------------------------------------------------------


@pytest.fixture
def pairs():
    codes = np.unique(LABELS, return_inverse=True)[1]
    return TensorDataset(torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(codes))


@pytest.fixture
def arrays(pairs):
    return pairs.tensors[0].numpy(), pairs.tensors[1].numpy()


def test_indexed_datasets_are_chosen_by_arrays(pairs):
    rows = IndexedDataset(pairs)
    assert len(rows) == 60 and rows.shape == (60,)
    some = rows[np.array([3, 5])]
    assert len(some) == 2 and some[1][0] is not None
    assert torch.equal(some[1][0], pairs[5][0]) and torch.equal(some[-1][0], pairs[5][0])
    assert len(rows[10:20]) == 10 and len(rows[np.arange(60) < 7]) == 7
    assert torch.equal(rows[10:20][:2][1][0], pairs[11][0])
    chosen = IndexedDataset(pairs, np.arange(60) > 57)
    assert chosen.indices.tolist() == [58, 59]
    assert IndexedDataset(pairs, [-1, 2]).indices.tolist() == [59, 2]
    assert len(IndexedDataset(pairs, [])) == 0
    for indices in ([0.5], [[1, 2]], [True, False]):
        with pytest.raises(ValueError, match="whole numbers of shape"):
            IndexedDataset(pairs, indices)
    with pytest.raises(IndexError, match="in 0 … 59, got 60"):
        IndexedDataset(pairs, [3, 60])
    for wrong in (X, Stream()):
        with pytest.raises(TypeError, match="expected a torch Dataset with items by number"):
            IndexedDataset(wrong)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(())


def test_folds_and_searches(pairs, arrays):
    rows, folds = IndexedDataset(pairs), list(FOLDS.split(*arrays))
    for scoring in (None, m.nll_scorer):
        np.testing.assert_allclose(
            cross_val_score(network(), rows, cv=folds, scoring=scoring),
            cross_val_score(network(), *arrays, cv=folds, scoring=scoring),
        )
    search = GridSearchCV(network(), {"lr": [1e-3, 0.1]}, cv=folds).fit(rows)
    expected = GridSearchCV(network(), {"lr": [1e-3, 0.1]}, cv=folds).fit(*arrays)
    assert search.best_params_ == expected.best_params_
    found = skuq.cross_val_predict(network(), pairs, cv=folds)
    np.testing.assert_allclose(found, skuq.cross_val_predict(network(), *arrays, cv=folds))


def test_calibrators_and_selection(pairs, arrays):
    rows = IndexedDataset(pairs)
    scaler = TemperatureScaler(network(), cv=2).fit(rows)
    assert scaler.temperature_ == TemperatureScaler(network(), cv=2).fit(*arrays).temperature_
    selective = SelectiveClassifier(network(), coverage=0.5).fit(rows)
    assert (
        selective.threshold_ == SelectiveClassifier(network(), coverage=0.5).fit(*arrays).threshold_
    )
    detector = NoveltyDetector(network(), measure="knn").fit(rows)
    expected = NoveltyDetector(network(), measure="knn").fit(*arrays)
    np.testing.assert_allclose(detector.predict_novelty(X), expected.predict_novelty(X))
    with pytest.raises(ValueError, match=r"Give skuq.datasets.IndexedDataset\(dataset\)"):
        TemperatureScaler(network()).fit(pairs)


def test_reports(pairs, arrays):
    fitted = network().fit(*arrays)
    expected = skuq.report(fitted, *arrays)
    for rows in (pairs, IndexedDataset(pairs)):
        assert skuq.report(fitted, rows).metrics == pytest.approx(expected.metrics)
    with pytest.raises(ValueError, match="needs y"):
        skuq.report(fitted, arrays[0])
