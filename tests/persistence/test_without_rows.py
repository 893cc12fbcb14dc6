"""Files without rows of the training data; selectors of columns and text vectorisers."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import KNNImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import skuq
from skuq import Inputs, PersistenceError
from skuq.active_learning import ActiveLearner
from skuq.novelty import NoveltyDetector
from skuq.posteriors import LastLayerLaplace, MCDropout, PointEstimate
from skuq.selective import SelectiveClassifier
from tests.estimator.helpers import classifier
from tests.networks.texts import BagOfTokens, ragged_rows


def floats(n=40):
    random = np.random.default_rng(3)
    X = random.normal(size=(n, 4)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int)


def values_in(path, rows):
    """How many values and hashes of rows are among the bytes of a file."""
    content = path.read_bytes()
    return sum(row.tobytes() in content for row in rows)


@pytest.mark.parametrize("posterior", [MCDropout(3), LastLayerLaplace(n_draws=3)], ids=str)
def test_a_file_without_rows_predicts_the_same(posterior, tmp_path):
    X, y = floats()
    model = classifier(posterior).fit(X, y)
    for kept in (True, False):
        skuq.save(model, tmp_path / "m.skuq", keep_rows=kept)
        again = skuq.load(tmp_path / "m.skuq")
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
        hashes = model._rows_seen[:, None]
        assert values_in(tmp_path / "m.skuq", X) == (3 if kept else 0)
        assert values_in(tmp_path / "m.skuq", hashes) == (40 if kept else 0)
        assert np.isnan(again._share_seen(X)) != kept
    assert model._share_seen(X) == 1.0  # it did not change
    assert again.set_params(warm_start=True).fit(X, y)._share_seen(X) == 1.0


def test_ones_stand_for_tokens(tmp_path):
    rows, y = ragged_rows(30)
    X = Inputs(input_ids=rows)
    model = classifier(MCDropout(3), BagOfTokens).fit(X, y)
    skuq.save(model, tmp_path / "m.skuq", keep_rows=False)
    again = skuq.load(tmp_path / "m.skuq", module=BagOfTokens)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert (again._engine._sample[:, 1:] == 1).all()


def test_nothing_is_certified_after_that(tmp_path):
    X, y = floats(120)
    skuq.save(classifier().fit(X[:40], y[:40]), tmp_path / "m.skuq", keep_rows=False)
    again = FrozenEstimator(skuq.load(tmp_path / "m.skuq"))
    with pytest.warns(UserWarning, match="does not say which rows trained it"):
        refusing = SelectiveClassifier(again, target_risk=0.4).fit(X[40:], y[40:])
    assert not refusing.certified_


class OnlySmall(nn.Linear):
    def __init__(self, n_features, n_outputs):
        super().__init__(n_features, n_outputs)

    def forward(self, x):
        if float(x.abs().max()) > 0.7:
            raise ValueError("too large")
        return super().forward(x)


def test_what_cannot_leave_rows_out_is_refused(tmp_path):
    X, y = floats()
    small = classifier(PointEstimate(), OnlySmall).fit(X / 10, y)
    with pytest.raises(PersistenceError, match=r"OnlySmall on rows of random numbers.*ValueError"):
        skuq.save(small, tmp_path / "m.skuq", keep_rows=False)
    nearest = make_pipeline(KNNImputer(), classifier()).fit(X, y)
    with pytest.raises(PersistenceError, match="KNNImputer, which holds rows"):
        skuq.save(nearest, tmp_path / "m.skuq", keep_rows=False)
    learner = ActiveLearner(classifier(), random_state=0).fit(X, np.where(X[:, 1] > 0, y, np.nan))
    with pytest.raises(PersistenceError, match=r"ActiveLearner, which holds rows.*its estimator_"):
        skuq.save(learner, tmp_path / "m.skuq", keep_rows=False)
    neighbours = NoveltyDetector(measure="knn").fit(X)
    with pytest.raises(PersistenceError, match=r"NoveltyDetector, which holds rows.*measure"):
        skuq.save(neighbours, tmp_path / "m.skuq", keep_rows=False)
    assert not list(tmp_path.iterdir())
    skuq.save(NoveltyDetector().fit(X), tmp_path / "m.skuq", keep_rows=False)


TEXTS = ["good day", "bad night", "so so", "good night"] * 5


@pytest.mark.parametrize(
    "vectoriser",
    [
        TfidfVectorizer(stop_words="english", ngram_range=(1, 2)),
        CountVectorizer(analyzer="char", vocabulary=None),
        HashingVectorizer(n_features=8),
    ],
    ids=lambda one: type(one).__name__,
)
def test_text_vectorisers(vectoriser, tmp_path):
    model = make_pipeline(vectoriser, classifier()).fit(TEXTS, [0, 1, 1, 0] * 5)
    skuq.save(model, tmp_path / "m.skuq", keep_rows=False)
    again = skuq.load(tmp_path / "m.skuq")
    new = ["a good bad day", "nothing"]
    np.testing.assert_array_equal(again.predict_proba(new), model.predict_proba(new))


def test_selectors_of_columns(tmp_path):
    X = pd.DataFrame({"a": np.arange(20.0), "b": list("xy") * 10})
    columns = make_column_transformer(
        (StandardScaler(), make_column_selector(dtype_include=np.number)),
        ("drop", make_column_selector(pattern="b", dtype_exclude=[np.number])),
    )
    model = make_pipeline(columns, classifier()).fit(X, [0, 1] * 10)
    skuq.save(model, tmp_path / "m.skuq")
    again = skuq.load(tmp_path / "m.skuq")
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
