"""Data frames with categorical columns: floats and codes, and embeddings of these."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import skuq
from skuq.modules import MLP, TabularMLP
from skuq.posteriors import DeepEnsemble, LastLayerLaplace, MCDropout, PointEstimate, Variational
from tests.estimator.helpers import classifier, regressor


def table(n=80, seed=0):
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": random.normal(size=n),
            "town": random.choice(["a", "b", "c"], n),
            "size": pd.Categorical(random.choice([3, 5], n)),
            "flag": random.random(n) > 0.5,
        }
    )


X = table()
Y = X["age"].to_numpy() + 2 * (X["town"] == "a").to_numpy()


class Seen(nn.Module):
    """Records what it gets."""

    got: list = []

    def __init__(self, n_numbers, n_categories, n_outputs):
        super().__init__()
        Seen.sizes = n_numbers, tuple(n_categories)
        self.head = nn.Linear(n_numbers, n_outputs)

    def forward(self, numbers, codes):
        Seen.got.append((numbers.detach().clone(), codes.clone()))
        return self.head(numbers)


def test_a_module_gets_floats_and_codes():
    frame = X.copy()
    frame.loc[4, "town"] = None
    model = regressor(module=Seen, max_epochs=1, early_stopping=False).fit(frame, Y)
    assert Seen.sizes == (2, (5, 3))  # code 0; three towns and none; two sizes
    Seen.got.clear()
    later = frame.iloc[:6].assign(size=pd.Categorical([3, 5, 7, 3, 5, 5]))
    later["town"] = ["c", "b", "a", "elsewhere", None, "a"]
    model.predict(later)
    numbers, codes = Seen.got[-1]
    assert codes.dtype == torch.int64
    assert codes[:6].tolist() == [[3, 1], [2, 2], [1, 0], [0, 1], [4, 2], [1, 2]]
    np.testing.assert_array_equal(numbers[:6], later[["age", "flag"]].to_numpy(np.float32))


@pytest.mark.parametrize(
    "posterior",
    [DeepEnsemble(2), MCDropout(3), LastLayerLaplace(n_draws=3), Variational(n_draws=3)],
    ids=str,
)
def test_the_default_network_has_embeddings(posterior):
    model = regressor(posterior, max_epochs=60).fit(X, Y)
    assert type(model.module_) is TabularMLP
    assert model.score(X, Y) > 0.9
    assert model.feature_names_in_.tolist() == list(X.columns) and model.n_features_in_ == 4


def test_members_differ_on_a_category_that_they_have_not_seen():
    model = regressor(DeepEnsemble(5), max_epochs=100).fit(X, Y)
    known = model.predict_uncertainty(X, kind="epistemic").mean()
    unseen = model.predict_uncertainty(X.assign(town="d"), kind="epistemic").mean()
    assert unseen > 10 * known


def test_tables_and_arrays_after_one_another():
    model = regressor(max_epochs=1).fit(X, Y)
    model.fit(X[["age", "flag"]].astype(float), Y)
    assert type(model.module_) is MLP
    assert model.fit(X, Y).predict(X.iloc[:2]).shape == (2,)


def test_a_stack_trains_embeddings_like_single_networks():
    alone = [
        regressor(PointEstimate(), max_epochs=4, callbacks=[], early_stopping=False),
        regressor(DeepEnsemble(3), max_epochs=4, early_stopping=False),
    ]
    one, stacked = (model.fit(X, Y) for model in alone)
    first = stacked._engine.draws.networks(3)[0]
    for name, tensor in one.module_.state_dict().items():
        np.testing.assert_allclose(first.state_dict()[name], tensor, atol=1e-5)


def test_scaled_in_a_pipeline_and_cross_validated(tmp_path):
    scaler = make_column_transformer(
        (StandardScaler(), ["age"]), remainder="passthrough", verbose_feature_names_out=False
    ).set_output(transform="pandas")
    pipeline = make_pipeline(scaler, classifier(DeepEnsemble(2), max_epochs=3))
    y = np.array(["no", "yes"])[(Y > 1).astype(int)]
    assert len(cross_val_score(pipeline, X, y, cv=2)) == 2
    pipeline.fit(X, y)
    skuq.save(pipeline, tmp_path / "m.skuq")
    again = skuq.load(tmp_path / "m.skuq")
    np.testing.assert_array_equal(again.predict_proba(X), pipeline.predict_proba(X))
    again = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(again.predict_proba(X), pipeline.predict_proba(X))


class OneArray(nn.Linear):
    def __init__(self, n_features, n_outputs):
        super().__init__(n_features, n_outputs)


def test_polars_has_the_same_columns():
    polars = pytest.importorskip("polars")
    numbers = {name: X[name].to_numpy() for name in ("age", "flag")}
    text = {"town": X["town"].to_list(), "size": X["size"].astype(str).to_list()}
    kinds = {"town": polars.Categorical, "size": polars.String}
    frame = polars.DataFrame({**numbers, **text}, schema_overrides=kinds)
    same = X[["age", "flag", "town"]].assign(size=text["size"])
    models = [regressor(max_epochs=2).fit(one, Y) for one in (frame, same)]
    assert models[0]._columns == models[1]._columns
    assert models[0]._columns == ((0, 1), (2, 3), (("a", "b", "c"), ("3", "5")))
    np.testing.assert_array_equal(models[0].predict(frame), models[1].predict(same))


def test_intervals_are_categories_in_their_order(tmp_path):
    frame = X[["age"]].assign(group=pd.cut(X["age"], [-9, -1, 1, 9]))
    model = regressor(max_epochs=1).fit(frame, Y)
    assert model._columns.categories == (("(-9, -1]", "(-1, 1]", "(1, 9]"),)
    skuq.save(model, tmp_path / "m.skuq")
    again = skuq.load(tmp_path / "m.skuq").predict(frame)
    np.testing.assert_array_equal(again, model.predict(frame))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"forward\(numbers, codes\).*OneHotEncoder"):
        regressor(module=OneArray).fit(X, Y)
    model = regressor(max_epochs=1).fit(X, Y)
    with pytest.raises(ValueError, match="data frame with the 4 columns"):
        model.predict(X.to_numpy())
    with pytest.raises(ValueError, match="names should match"):
        model.predict(X[X.columns[::-1]])
    with pytest.raises(ValueError, match="'age' had numbers in fit"):
        model.predict(X.assign(age="old"))
    with pytest.raises(ValueError, match="contains NaN"):
        model.predict(X.assign(age=np.nan))
    with pytest.raises(ValueError, match="contains NaN"):
        model.predict(X.assign(age=pd.array([pd.NA] * 80, dtype="Int64")))
    with pytest.raises(ValueError, match=r"'size' has text, such as '\d', but had numbers in fit"):
        model.predict(X.assign(size=X["size"].astype(str)))
    with pytest.raises(ValueError, match="'when' has dates"):
        regressor(max_epochs=1).fit(X.assign(when=pd.Timestamp("2020-01-01")), Y)
    with pytest.raises(ValueError, match="codes that the network was trained with"):
        skuq.from_trained(model.module_, X, Y, task="regression")
    with pytest.raises(ValueError, match="at least one column"):
        TabularMLP(0, 2)


def test_an_array_of_numbers_is_a_table_without_categories():
    numbers = X[["age", "flag"]].to_numpy(float)
    model = regressor(module=TabularMLP, module__hidden_layer_sizes=8).fit(numbers, Y)
    assert model.predict(numbers).shape == (80,)
