"""The page about a classifier of several labels at once."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_multilabel_classification
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import precision_score, recall_score

import skuq
from skuq import TorchClassifier
from skuq.calibration import TemperatureScaler
from skuq.likelihoods import Bernoulli
from skuq.metrics import nll_scorer, uncertainty_error_auroc
from skuq.posteriors import DeepEnsemble

X, Y = make_multilabel_classification(300, n_classes=3, n_labels=1, random_state=0)
X, NAMES = X / 10, ["rain", "wind", "<snow>"]


@pytest.fixture(scope="module")
def model():
    options = {"likelihood": Bernoulli(), "max_epochs": 20, "random_state": 0}
    return TorchClassifier(posterior=DeepEnsemble(2), **options).fit(
        X[:200], pd.DataFrame(Y[:200], columns=NAMES)
    )


def test_numbers_are_those_of_the_labels(model):
    page = skuq.report(model, X[200:], Y[200:])
    guessed, truth = model.predict(X[200:]), Y[200:]
    found = page.metrics
    assert found["share of labels that are right"] == pytest.approx((guessed == truth).mean())
    whole = (guessed == truth).all(axis=1).mean()
    assert found["share of rows with all labels right"] == pytest.approx(whole)
    proba = model.predict_proba(X[200:])
    nll = -np.log(np.where(truth == 1, proba, 1 - proba)).mean()
    assert found["negative log-likelihood (nats per label)"] == pytest.approx(nll)
    ranks = (truth.ravel(), guessed.ravel(), model.predict_uncertainty(X[200:]).ravel())
    assert found["AUROC of errors"] == pytest.approx(uncertainty_error_auroc(*ranks))
    recall, precision = (s(truth[:, 0], guessed[:, 0]) for s in (recall_score, precision_score))
    row = page.html.split("<td>rain</td>")[1].split("</tr>")[0]
    assert f"<td>{precision:.3g}</td><td>{recall:.3g}</td>" in row


def test_names_of_labels_and_the_most_uncertain_rows(model):
    page = skuq.report(model, X[200:], Y[200:], n_most_uncertain=2, title="A & B")
    assert "&lt;snow&gt;" in page.html and "<snow>" not in page.html
    assert "<h1>A &amp; B</h1>" in page.html
    most = int(model.predict_uncertainty(X[200:]).sum(axis=1).argmax())
    table = page.html.split("most uncertain label</th></tr>")[1]
    assert table.startswith(f"<tr><td>{most}</td>") and table.count("<tr>") == 2


def test_calibrators_and_labels_without_names(model):
    scaled = TemperatureScaler(FrozenEstimator(model)).fit(X[200:], Y[200:])
    assert "rain" in skuq.report(scaled, X[200:], Y[200:]).html
    plain = TorchClassifier(likelihood=Bernoulli(), max_epochs=1, random_state=0).fit(X, Y)
    assert "<td>2</td><td>" in skuq.report(plain, X, Y).html


def test_names_of_labels_are_those_of_the_fit(model):
    named = pd.DataFrame(Y[200:], columns=NAMES)
    again = named[NAMES[::-1]]
    right = (model.predict(X[200:]) == Y[200:]).all(axis=1).mean()
    assert model.score(X[200:], named) == pytest.approx(right)
    scaled = TemperatureScaler(FrozenEstimator(model)).fit(X[200:], named)
    assert list(scaled.label_names_) == NAMES
    for use in (
        lambda: model.score(X[200:], again),
        lambda: scaled.score(X[200:], again),
        lambda: nll_scorer(scaled, X[200:], again),
        lambda: skuq.report(model, X[200:], again),
        lambda: TemperatureScaler(FrozenEstimator(model)).fit(X[200:], again),
    ):
        with pytest.raises(ValueError, match=r"in this order: give y\[list"):
            use()
    with pytest.raises(ValueError, match=r"columns of y are .*'hail'\], but.*in this order$"):
        model.score(X[200:], named.set_axis([*NAMES[:2], "hail"], axis=1))


def test_what_is_refused(model):
    with pytest.raises(ValueError, match="0 or 1 for each of 3 labels"):
        skuq.report(model, X, Y[:, :2])
    with pytest.raises(ValueError, match="at least 2 rows"):
        skuq.report(model, X[:1], Y[:1])
    with pytest.raises(ValueError, match="has no novelty"):
        skuq.report(model, X, Y, novelty=model)
