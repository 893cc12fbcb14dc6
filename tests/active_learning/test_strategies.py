"""Strategies without state: names, functions, candidates, missing labels."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import TensorDataset

import skuq
from skuq.active_learning import QueryStrategy, core_set, margin, select
from skuq.active_learning._strategies import names_of_queries

OF_CLASSES = [
    "badge", "bald", "batch_bald", "core_set", "egl", "egl_plus_plus", "entropy", "kmeans",
    "least_confidence", "margin", "mean_std", "random", "variation_ratio",
]  # fmt: skip
OF_NUMBERS = [
    "core_set", "egl", "egl_plus_plus", "epistemic", "kmeans", "mean_std", "model_change",
    "random", "variance",
]  # fmt: skip


@pytest.fixture(scope="module")
def labels(blobs):
    """Labels of the first sixty rows, NaN for the others."""
    return np.where(np.arange(240) < 60, blobs[1], np.nan)


def test_every_name_is_tried_here():
    assert sorted({*OF_CLASSES, *OF_NUMBERS}) == names_of_queries()


@pytest.mark.parametrize("name", OF_CLASSES)
def test_of_classes(name, dropout, blobs, labels):
    strategy = QueryStrategy(name, random_state=0)
    found = strategy.query(blobs[0], labels, dropout, batch_size=5)
    assert len(set(found)) == 5 and found.min() >= 60
    again = clone(strategy).query(blobs[0], labels, dropout, batch_size=5)
    np.testing.assert_array_equal(found, again)
    few = [70, 90, 80]
    found = strategy.query(blobs[0], labels, dropout, candidates=few, batch_size=9)
    assert sorted(found) == sorted(few)


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_of_numbers(name, regressors, regression):
    X, y = regression
    y = np.where(np.arange(120) < 40, y, np.nan)
    found = QueryStrategy(name, random_state=0).query(X, y, regressors[0], batch_size=4)
    assert len(set(found)) == 4 and found.min() >= 40


def test_scores_and_the_functions_themselves(dropout, blobs, labels):
    X = blobs[0]
    found, scores = QueryStrategy("margin").query(X, labels, dropout, return_scores=True)
    assert np.isnan(scores[:60]).all()
    np.testing.assert_allclose(scores[60:], margin(dropout, X[60:]))
    assert found[0] == 60 + select(scores[60:], 1)[0]
    same = QueryStrategy(margin).query(X, labels, dropout, batch_size=6)
    np.testing.assert_array_equal(
        same, QueryStrategy("margin").query(X, labels, dropout, batch_size=6)
    )
    distance = QueryStrategy(lambda e, rows: np.abs(rows).sum(axis=1))
    assert distance.query(X, labels, dropout)[0] == 60 + np.abs(X[60:]).sum(axis=1).argmax()


def test_auto(dropout, blobs, labels, regressors, regression):
    X = blobs[0]
    auto, named = (QueryStrategy(s, random_state=0) for s in ("auto", "margin"))
    np.testing.assert_array_equal(
        auto.query(X, labels, dropout, batch_size=3), named.query(X, labels, dropout, batch_size=3)
    )
    X, y = regression
    y = np.where(np.arange(120) < 40, y, np.nan)
    features = np.moveaxis(skuq.predict_features(regressors[0], X), 0, 1).reshape(120, -1)
    expected = 40 + core_set(features[40:], features[:40], 3)
    np.testing.assert_array_equal(auto.query(X, y, regressors[0], batch_size=3), expected)


@pytest.mark.parametrize(
    ("missing", "stands"),
    [(np.nan, None), (None, None), (-1, -1), ("", ""), (None, np.nan)],
    ids=["nan and None", "None", "-1", "empty", "None and NaN"],
)
def test_missing_labels(missing, stands, blobs):
    X, y = blobs
    names = np.array(["a", "b", "c"], dtype=object)[y] if missing == "" or stands is None else y
    labels = np.array(names, dtype=object)
    labels[60:] = stands
    strategy = QueryStrategy("margin", missing_label=missing)
    estimator = LogisticRegression(max_iter=2000)
    found = strategy.query(X, labels, estimator, batch_size=3, fit=True)
    fitted = estimator.fit(X[:60], names[:60].astype(str) if names.dtype == object else names[:60])
    np.testing.assert_array_equal(found, 60 + select(margin(fitted, X[60:]), 3))


def test_forms_of_rows(dropout, blobs, labels):
    X = blobs[0]
    expected = QueryStrategy("core_set").query(X, labels, dropout, batch_size=4)
    rows = TensorDataset(torch.from_numpy(X), torch.zeros(240))
    for form in (pd.DataFrame(X), sparse.csr_array(X), rows, torch.from_numpy(X)):
        found = QueryStrategy("core_set").query(form, labels, dropout, batch_size=4)
        np.testing.assert_array_equal(found, expected)


def test_a_memory_map_stays_on_the_disk(dropout, blobs, labels, tmp_path, monkeypatch):
    X = np.memmap(tmp_path / "X.npy", dtype=np.float64, mode="w+", shape=blobs[0].shape)
    X[:] = blobs[0]
    for name in ("margin", "egl", "core_set", "badge", "egl_plus_plus"):
        strategy = QueryStrategy(name, random_state=0)
        expected = strategy.query(blobs[0], labels, dropout, batch_size=4)
        with monkeypatch.context() as patch:
            patch.setattr("skuq.active_learning._strategies._safe_indexing", _few_rows)
            found = strategy.query(X, labels, dropout, batch_size=4)
        np.testing.assert_array_equal(found, expected)
    scaled = make_pipeline(StandardScaler(), clone(dropout)).fit(*blobs)  # needs an array
    assert len(strategy.query(X, labels, scaled, batch_size=4)) == 4


def _few_rows(X, index):
    assert len(index) == 60  # the labelled ones
    return X[index]


def test_a_forest_needs_no_network(blobs, labels):
    X = blobs[0]
    forest = RandomForestClassifier(10, random_state=0)
    for name in ("margin", "entropy", "badge", "core_set", "kmeans", "random"):
        found = QueryStrategy(name, random_state=0).query(X, labels, forest, batch_size=4, fit=True)
        assert len(set(found)) == 4
    assert not hasattr(forest, "classes_")  # a copy was fitted


def test_refusals(dropout, blobs, labels):
    X = blobs[0]

    def query(strategy="margin", rows=X, y=labels, estimator=dropout, **options):
        return QueryStrategy(strategy).query(rows, y, estimator, **options)

    with pytest.raises(ValueError, match=r"'entropie' is no query\. Did you mean 'entropy'"):
        query("entropie")
    with pytest.raises(TypeError, match="the name of a query"):
        query(3)
    with pytest.raises(ValueError, match=r"have labels already: rows \[3\]"):
        query(candidates=[3, 70])
    with pytest.raises(ValueError, match="different places"):
        query(candidates=[70, 70])
    with pytest.raises(ValueError, match="different places"):
        query(candidates=[-1])
    with pytest.raises(ValueError, match="candidates must be places"):
        query(candidates=[])
    with pytest.raises(ValueError, match="nothing is left"):
        query(y=blobs[1])
    with pytest.raises(ValueError, match="no row of y has a label"):
        query(y=np.full(240, np.nan))
    with pytest.raises(ValueError, match="expected equal"):
        query(y=labels[:5])
    with pytest.raises(ValueError, match="n must be"):
        query(batch_size=0)
    with pytest.raises(ValueError, match="has no scores"):
        query("badge", return_scores=True)
    with pytest.raises(ValueError, match="a score for each"):
        query(lambda e, rows: np.zeros(3))
    with pytest.raises(ValueError, match="scores must be finite"):
        query(lambda e, rows: np.full(len(rows), np.nan))
    with pytest.raises(NotFittedError):
        query(estimator=clone(dropout))
