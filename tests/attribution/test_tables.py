"""Tables: columns by name, through transformers, with and without gradients."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import skuq
from skuq.attribution import attribute_uncertainty
from skuq.attribution._tables import TableRows
from tests.attribution.helpers import ensemble, weighted

METHODS = (
    "optimized", "occlusion", "kernel_shap", "lime", "gradient", "smoothgrad",
    "integrated_gradients", "ua_backprop",
)  # fmt: skip


def frame(n=60, seed=0):
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "length": random.normal(10, 3, n),
            "colour": random.choice(["red", "green", "blue"], n),
            "count": random.integers(0, 5, n),
            "shape": pd.Categorical(random.choice(["round", "square"], n)),
        },
        index=np.arange(n) + 100,
    )


def transformer():
    return ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["length", "count"]),
            ("words", OneHotEncoder(sparse_output=False), ["colour", "shape"]),
        ]
    )


@pytest.fixture(scope="module")
def table():
    X = frame()
    y = (X["length"].to_numpy() > 10) ^ (X["colour"] == "red").to_numpy()
    network = skuq.TorchClassifier(max_epochs=10, lr=0.01, random_state=0)
    return make_pipeline(transformer(), network).fit(X, y), X, y


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:.*no uncertainty:UserWarning")
def test_columns_by_name(method, table):
    pipeline, X, _ = table
    found = attribute_uncertainty(pipeline, X[:6], method=method, background=X, sparsity=0.5)
    assert found.values.shape == (6, 4) and np.isfinite(found.values).all()
    assert found.feature_names == ["length", "colour", "count", "shape"]
    assert found.frame().index.tolist() == [*range(100, 106)]
    np.testing.assert_allclose(
        found.uncertainty, skuq.predict_uncertainty(pipeline, X[:6]), rtol=1e-5
    )
    if found.mask is not None:
        assert list(found.refined.dtypes) == list(X.dtypes)
        after = skuq.predict_uncertainty(pipeline, found.refined)
        np.testing.assert_allclose(found.refined_uncertainty, after, rtol=1e-5)
        baseline = TableRows(X, None, None).baseline
        for k in range(4):
            changed = found.refined.iloc[:, k][found.mask[:, k]]
            assert (changed == baseline[k]).all()
            kept = ~found.mask[:, k]
            assert (found.refined.iloc[:, k][kept] == X.iloc[:6, k][kept]).all()


def test_one_hot_columns_are_summed_to_their_source(table):
    """Integrated gradients of the transformed rows, by hand."""
    pipeline, X, _ = table
    found = attribute_uncertainty(pipeline, X, method="integrated_gradients")
    z = pipeline[0].transform(X).astype(float)
    usual = pd.DataFrame(
        {
            "length": [np.sort(X["length"])[29]],
            "colour": X["colour"].mode(),
            "count": [np.sort(X["count"])[29]],
            "shape": X["shape"].mode(),
        }
    )
    z_usual = pipeline[0].transform(usual)
    by_hand = attribute_uncertainty(
        lambda moved: skuq.uncertainty_function(pipeline[1])(moved + torch.tensor(z_usual)),
        z - z_usual,
        method="integrated_gradients",
        background=np.zeros((1, 7)),
    ).values
    sums = np.stack([by_hand[:, [0]].sum(1), by_hand[:, 2:5].sum(1), by_hand[:, 1],
                     by_hand[:, 5:].sum(1)], 1)  # fmt: skip
    np.testing.assert_allclose(found.values, sums, atol=1e-6)
    assert np.abs(found.values[:, [1, 3]]).max() > 1e-3


def test_sources_of_inputs(table):
    pipeline, X, _ = table
    rows = TableRows(X, None, pipeline[0])
    assert rows.inputs()[3].tolist() == [0, 2, 1, 1, 1, 3, 3] and rows.mixed == ""
    mixing = make_pipeline(transformer(), PCA(2)).fit(X)
    assert "and" in TableRows(X, None, mixing).mixed


def test_a_step_that_mixes_columns(table):
    _, X, y = table
    mixing = ColumnTransformer([("pca", PCA(2), ["length", "count"])])
    network = skuq.TorchClassifier(max_epochs=3, random_state=0)
    pipeline = make_pipeline(mixing, network).fit(X, y)
    with pytest.raises(ValueError, match="mixes the columns 'length' and 'count'"):
        attribute_uncertainty(pipeline, X, method="gradient")
    found = attribute_uncertainty(pipeline, X, method="occlusion")
    assert np.abs(found.values[:, [1, 3]]).max() < 1e-9 < np.abs(found.values[:, [0, 2]]).max()


def test_through_a_search_and_linear_steps(blobs):
    X, y = blobs
    inner = make_pipeline(StandardScaler(), skuq.TorchClassifier(max_epochs=3, random_state=0))
    search = GridSearchCV(inner, {"torchclassifier__lr": [0.01]}, cv=2).fit(X, y)
    found = attribute_uncertainty(search, X[:3], method="gradient", background=X)
    x = torch.tensor(X[:3], dtype=torch.float64, requires_grad=True)
    (by_hand,) = torch.autograd.grad(skuq.uncertainty_function(search)(x).sum(), x)
    np.testing.assert_allclose(
        found.values, by_hand.abs().numpy() * X.astype(float).std(0), rtol=1e-5, atol=1e-9
    )


@pytest.mark.filterwarnings("ignore:.*no uncertainty:UserWarning")
def test_estimators_without_a_gradient(table):
    _, X, y = table
    forest = make_pipeline(transformer(), RandomForestClassifier(20, random_state=0)).fit(X, y)
    found = attribute_uncertainty(forest, X, sparsity=0.5)
    assert found.mask.any() and (found.refined_uncertainty <= found.uncertainty + 1e-12).all()
    for method in ("gradient", "integrated_gradients"):
        with pytest.raises(TypeError, match=r"needs a gradient.*RandomForestClassifier.*greedy"):
            attribute_uncertainty(forest, X, method=method)
    with pytest.raises(TypeError, match=r"optimizer='gumbel' needs a gradient"):
        attribute_uncertainty(forest, X, optimizer="gumbel")


def test_a_frame_and_an_array_agree(blobs):
    X, y = blobs
    network = ensemble(X, y)
    named = pd.DataFrame(X, columns=[f"c{k}" for k in range(10)])
    other = ensemble(named, y)
    for method in ("optimized", "integrated_gradients"):
        one, two = (
            attribute_uncertainty(network, rows, method=method, sparsity=0.3).values
            for network, rows in ((network, X[:5]), (other, named[:5]))
        )
        np.testing.assert_allclose(one, two, atol=1e-7)


@pytest.mark.parametrize("optimizer", ["greedy", "gumbel", "exhaustive"])
def test_columns_of_an_additive_uncertainty(optimizer):
    """Baseline zero: each column adds its weight; those above the price are replaced."""
    weights = torch.tensor([0.1, 2.0, 0.3, 1.0])
    found = attribute_uncertainty(
        weighted(weights), np.ones((2, 4)), background=np.zeros((1, 4)), optimizer=optimizer,
        sparsity=1.0,
    )  # fmt: skip
    assert found.mask.tolist() == [[False, True, False, True]] * 2
    np.testing.assert_allclose(found.values, [weights.tolist()] * 2, rtol=1e-6)
    np.testing.assert_allclose(found.refined, [[1, 0, 1, 0]] * 2)


def test_frames_and_set_output(blobs):
    """Scalers that learnt names and return frames are differentiated in silence."""
    X, y = pd.DataFrame(blobs[0], columns=list("abcdefghij")), blobs[1]
    network = skuq.TorchClassifier(max_epochs=3, random_state=0)
    pipeline = make_pipeline(StandardScaler(), network).set_output(transform="pandas").fit(X, y)
    found = attribute_uncertainty(pipeline, X[:5], method="integrated_gradients")
    np.testing.assert_allclose(
        found.uncertainty, skuq.predict_uncertainty(pipeline, X[:5]), rtol=1e-5
    )


def test_groups_of_columns():
    found = attribute_uncertainty(
        weighted([1.0, 2.0, 3.0]), np.ones((1, 3)), method="occlusion", segments=[7, 7, 1],
        background=np.zeros((1, 3)),
    )  # fmt: skip
    np.testing.assert_allclose(found.values, [[1.5, 1.5, 3.0]])
    assert found.segments.tolist() == [1, 1, 0]


def test_bad_tables(table):
    pipeline, X, _ = table
    with pytest.raises(ValueError, match="one row of a table does not show which values are usual"):
        attribute_uncertainty(pipeline, X[:1])
    with pytest.raises(TypeError, match="background must be of the kind of X, DataFrame, got nd"):
        attribute_uncertainty(pipeline, X, background=X.to_numpy())
    with pytest.raises(ValueError, match="background must have the columns of X"):
        attribute_uncertainty(pipeline, X, background=X.rename(columns={"count": "n"}))
    with pytest.raises(ValueError, match="the group of each of its 4 columns, got 'slic'"):
        attribute_uncertainty(pipeline, X, segments="slic")
    with pytest.raises(ValueError, match="must have rows and columns"):
        attribute_uncertainty(pipeline, X[:0])
    with pytest.raises(ValueError, match=r"n_rows, n_columns.*got shape \(0, 3\)"):
        attribute_uncertainty(weighted(np.ones(3)), np.ones((0, 3)))


def test_baseline_of_columns():
    nan = np.nan
    X = pd.DataFrame(
        {
            "a": [1.0, nan, 3.0, 8.0],
            "b": ["x", "y", "y", None],
            "c": [True, False, True, True],
            "d": pd.to_datetime(["2020-01-01", "2020-01-03", "2020-01-05", "2020-01-07"]),
            "e": pd.array([1, 2, None, 9], dtype="Int64"),
            "f": [nan] * 4,
        }
    )
    found = TableRows(X, None, None).baseline
    assert found[:3] == [3.0, "y", True] and found[3] == pd.Timestamp("2020-01-03")
    assert found[4] == 2 and np.isnan(found[5])
    changed = TableRows(X, None, None).replaced(np.arange(4), np.ones((4, 6), bool))
    assert list(changed.dtypes) == list(X.dtypes)
    words = np.array([["x", 1], ["y", 2], ["y", 3]], dtype=object)
    assert TableRows(words, None, None).baseline[0] == "y"
