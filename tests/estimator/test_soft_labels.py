"""Probabilities of classes as targets: `Categorical(soft_labels=True)`."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from torch import nn

import skuq
from skuq import TorchClassifier, TorchSegmenter, from_trained
from skuq.calibration import MatrixScaler, TemperatureScaler, VectorScaler
from skuq.likelihoods import Categorical
from skuq.metrics import nll_scorer
from skuq.posteriors import PointEstimate

SOFT = Categorical(soft_labels=True)
NAMES = ["c", "a", "b"]


@pytest.fixture(scope="module")
def shares():
    """Rows, labels and probabilities of three classes."""
    random = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 20)
    X = random.normal(size=(60, 2)) + 3.0 * y[:, None]
    return X, y, 0.7 * np.eye(3)[y] + 0.3 * random.dirichlet([1, 1, 1], 60)


def classifier(likelihood=SOFT, **options):
    settings = {
        "posterior": PointEstimate(),
        "module__hidden_layer_sizes": (8,),
        "max_epochs": 5,
        "lr": 0.02,
        "random_state": 0,
    }
    return TorchClassifier(likelihood=likelihood, **{**settings, **options})


def tensor(values):
    return torch.tensor(np.asarray(values), dtype=torch.float64)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_is_the_cross_entropy_of_the_probabilities(smoothing):
    """−Σ_k [(1 − ε) q_k + ε/K] log softmax(z)_k; early stopping sees it without ε."""
    z, q = tensor([[1.0, -2.0, 0.5]]), tensor([[0.6, 0.3, 0.1]])
    likelihood = Categorical(smoothing, soft_labels=True).fit(q.numpy(), n_classes=3)
    log_softmax = z.log_softmax(1)
    expected = -(((1 - smoothing) * q + smoothing / 3) * log_softmax).sum()
    assert float(likelihood.loss(z, q)) == pytest.approx(float(expected))
    plain = float(-(q * log_softmax).sum())
    assert float(likelihood.negative_log_likelihood(z, q)) == pytest.approx(plain)


@pytest.mark.parametrize("of", [np.float64, int], ids=["floats", "indicators"])
def test_certain_probabilities_are_labels(shares, of):
    X, y, _ = shares
    hard = classifier(None, early_stopping=False).fit(X, y)
    soft = classifier(early_stopping=False).fit(X, np.eye(3)[y].astype(of))
    np.testing.assert_allclose(soft.predict_proba(X), hard.predict_proba(X), atol=1e-5)
    np.testing.assert_array_equal(soft.classes_, hard.classes_)


class Constant(nn.Module):
    """The same logits for every row: the best are the logarithms of the mean probabilities."""

    def __init__(self, n_outputs):
        super().__init__()
        self.logits = nn.Linear(1, n_outputs, bias=False)

    def forward(self, x):
        return self.logits(torch.ones_like(x[:, :1]))


def test_the_minimiser_is_the_mean(shares):
    X, _, q = shares
    weight = np.linspace(0, 2, len(X))
    model = TorchClassifier(
        Constant, likelihood=SOFT, posterior=PointEstimate(), max_epochs=150, lr=0.1,
        early_stopping=False, precision="float64", random_state=0,
    )  # fmt: skip
    proba = model.fit(X, q, sample_weight=weight).predict_proba(X[:1])[0]
    np.testing.assert_allclose(proba, np.average(q, axis=0, weights=weight), atol=1e-3)


def test_names_of_columns_are_classes(shares):
    """A frame's columns may come in any order; `classes_` are sorted as always."""
    X, y, q = shares
    frame = pd.DataFrame(q, columns=NAMES)
    named = classifier().fit(X, frame)
    plain = classifier().fit(X, q[:, [1, 2, 0]])
    assert named.classes_.tolist() == ["a", "b", "c"]
    assert plain.classes_.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(named.predict_proba(X), plain.predict_proba(X))
    assert named.score(X, np.array(NAMES)[y]) > 0.5
    again = classifier().fit(X, frame[["b", "c", "a"]])
    np.testing.assert_array_equal(again.predict_proba(X), named.predict_proba(X))


def test_partial_fit_names_columns_in_their_order(shares):
    X, _, q = shares
    named = classifier().partial_fit(X, q, classes=NAMES)
    frame = classifier().partial_fit(X, pd.DataFrame(q, columns=NAMES))
    assert named.classes_.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(named.predict_proba(X), frame.predict_proba(X))
    with pytest.raises(ValueError, match=r"classes \[0 1\], but the first fit"):
        named.partial_fit(X, np.full((60, 2), 0.5))
    with pytest.raises(ValueError, match="name of its own"):
        classifier().partial_fit(X, q, classes=["a", "a", "b"])
    with pytest.raises(ValueError, match="must name the columns"):
        frame.partial_fit(X, pd.DataFrame(q, columns=NAMES), classes=["x", "y", "z"])


def test_warm_start_goes_on(shares):
    X, _, q = shares
    model = classifier(warm_start=True).fit(X, q)
    before = model.history_[-1]["train_loss"]
    assert model.fit(X, q).history_[-1]["train_loss"] < before


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (lambda y, q: y, r"shape \(60,\), but soft_labels=True"),
        (lambda y, q: q[:, :1], "at least 2 classes"),
        (lambda y, q: 50 * q, r"must sum to 1.*60 rows do not.*y / y\.sum"),
        (lambda y, q: q - 0.5, "negative probabilities"),
        (lambda y, q: np.where(q > 0.9, np.nan, q), "NaN"),
        (lambda y, q: np.full(q.shape, "x"), "such as 'x'"),
        (lambda y, q: pd.DataFrame(q, columns=["a", 1, 2]), "text and other labels"),
        (lambda y, q: pd.DataFrame(q, columns=[0.5, np.nan, 2]), "name NaN"),
    ],
)
def test_what_is_refused(shares, y, message):
    X, labels, q = shares
    with pytest.raises(ValueError, match=message):
        classifier().fit(X, y(labels, q))


def test_sums_that_are_off_by_rounding_are_accepted(shares):
    X, _, q = shares
    rounded = (q / q.sum(1, keepdims=True)).round(5)
    assert np.isfinite(classifier().fit(X, rounded).predict_proba(X)).all()


def test_class_weights_are_refused(shares):
    X, _, q = shares
    with pytest.raises(ValueError, match="one label per row"):
        classifier(class_weight="balanced").fit(X, q)


def test_probabilities_need_the_parameter(shares):
    X, _, q = shares
    with pytest.raises(ValueError, match=r"Categorical\(soft_labels=True\)"):
        classifier(None).fit(X, q)


def test_scorers_and_calibrators_take_labels(shares):
    X, y, q = shares
    model = classifier().fit(X[::2], q[::2])
    assert np.isfinite(nll_scorer(model, X, y))
    scaled = TemperatureScaler(FrozenEstimator(model)).fit(X[1::2], y[1::2])
    assert scaled.predict_proba(X).shape == (60, 3)
    for calibrator in (TemperatureScaler, VectorScaler, MatrixScaler):
        with pytest.raises(ValueError, match="learns from labels"):
            calibrator(classifier()).fit(X, q)
    with pytest.raises(ValueError, match="1d array"):
        nll_scorer(model, X, q)


def test_cross_validation_by_the_cross_entropy(shares):
    X, _, q = shares

    def scorer(model, X, q):
        return (q * np.log(model.predict_proba(X))).sum(axis=1).mean()

    pipeline = make_pipeline(StandardScaler(), classifier())
    assert np.isfinite(cross_val_score(pipeline, X, q, cv=2, scoring=scorer)).all()


def test_other_estimators_refuse(shares):
    X, _, q = shares
    with pytest.raises(ValueError, match="label for each pixel"):
        TorchSegmenter(likelihood=SOFT).fit(np.zeros((2, 1, 4, 4)), np.zeros((2, 4, 4), int))
    with pytest.raises(ValueError, match="from_trained trains nothing"):
        from_trained(nn.Linear(2, 3), X, q, task="classification", likelihood=SOFT)


def test_saved_and_cloned(shares, tmp_path):
    pytest.importorskip("safetensors")
    X, _, q = shares
    model = classifier().fit(X, pd.DataFrame(q, columns=NAMES))
    skuq.save(model, tmp_path / "model.skuq")
    loaded = skuq.load(tmp_path / "model.skuq")
    assert loaded.likelihood.soft_labels
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    twin = clone(model).fit(X, pd.DataFrame(q, columns=NAMES))
    np.testing.assert_array_equal(twin.predict_proba(X), model.predict_proba(X))


def test_tags():
    assert get_tags(classifier()).target_tags.two_d_labels
    assert not get_tags(classifier(None)).target_tags.two_d_labels
