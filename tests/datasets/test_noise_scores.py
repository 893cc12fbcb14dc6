"""Finding labels that look wrong."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_classification
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq.calibration import TemperatureScaler
from skuq.datasets import (
    NoiseScores,
    flip_labels,
    noise_scores,
)
from skuq.likelihoods import Bernoulli, UncertaintyAware
from skuq.posteriors import DeepEnsemble, PointEstimate
from tests.test_common import all_likelihoods


@pytest.fixture(scope="module")
def noisy_data():
    X, y = make_classification(
        n_samples=300, n_features=6, n_informative=6, n_redundant=0, n_classes=3,
        n_clusters_per_class=1, class_sep=2.0, random_state=0,
    )  # fmt: skip
    names = np.array(["ash", "birch", "cedar"])[y]
    noisy, flipped, _ = flip_labels(names, [("ash", "birch")], 0.2, random_state=0)
    return X.astype(np.float32), noisy, flipped


def network(likelihood=None, posterior=None, max_epochs=15):
    return TorchClassifier(
        likelihood=likelihood, posterior=posterior or DeepEnsemble(3), lr=0.01,
        max_epochs=max_epochs, random_state=0,
    )  # fmt: skip


def test_scores_are_their_formulas(noisy_data):
    X, y, flipped = noisy_data
    model = network(UncertaintyAware()).fit(X, y)
    scores = noise_scores(model, X, y)
    index = np.searchsorted(model.classes_, y)
    proba, draws = model.predict_proba(X), model.predict_draws(X)
    np.testing.assert_allclose(scores.loss, -np.log(proba[np.arange(len(y)), index]), rtol=1e-6)
    assert scores.loss.mean() == pytest.approx(log_loss(y, proba))
    np.testing.assert_allclose(scores.disagreement, (draws.argmax(-1) != index).mean(0))
    assert len(np.unique(scores.disagreement)) > 2
    import torch

    s = model.draws(torch.tensor(X))[..., -1].detach().numpy().astype(float)
    np.testing.assert_allclose(scores.noise_variance, np.exp(s.clip(-6, 6)).mean(0), rtol=1e-5)
    found = scores.auroc(flipped)
    assert list(found) == ["loss", "noise_variance", "disagreement"]
    for name, value in found.items():
        assert value == pytest.approx(roc_auc_score(flipped, getattr(scores, name)))
    assert found["loss"] > 0.9 and found["disagreement"] > 0.8


@pytest.mark.parametrize(
    "likelihood", [k for k in all_likelihoods() if k.task == "classification"], ids=str
)
def test_every_likelihood_of_classes(likelihood, noisy_data):
    X, y, flipped = noisy_data
    two = np.isin(y, ["ash", "birch"])
    X, y, flipped = X[two], y[two], flipped[two]
    scores = noise_scores(network(likelihood).fit(X, y), X, y)
    assert (scores.loss >= 0).all() and scores.auroc(flipped)["loss"] > 0.8
    assert (scores.noise_variance is None) == (not isinstance(likelihood, UncertaintyAware))


def test_through_scikit_learns_objects(noisy_data):
    X, y, _ = noisy_data
    pipeline = make_pipeline(StandardScaler(), network()).fit(X, y)
    inner = noise_scores(pipeline[-1], pipeline[:-1].transform(X), y)
    for model in (pipeline, FrozenEstimator(pipeline), skuq.pipeline.Pipeline(pipeline.steps)):
        np.testing.assert_array_equal(noise_scores(model, X, y).loss, inner.loss)
    search = GridSearchCV(pipeline, {"torchclassifier__lr": [0.01]}, cv=2).fit(X, y)
    np.testing.assert_array_equal(noise_scores(search, X, y).loss, inner.loss)
    calibrated = TemperatureScaler(FrozenEstimator(pipeline))
    with pytest.warns(UserWarning, match="trained on 100%"):
        calibrated.fit(X, y)
    expected = -calibrated.predict_log_proba(X)[
        np.arange(len(y)), np.searchsorted(calibrated.classes_, y)
    ]
    np.testing.assert_allclose(noise_scores(calibrated, X, y).loss, expected, atol=1e-12)


def test_scikit_learns_own_and_out_of_fold(noisy_data):
    """As cross_val_predict; rows are in their order, and those of a frame keep their names."""
    X, y, flipped = noisy_data
    model, folds = LogisticRegression(), KFold(4, shuffle=True, random_state=1)
    frame = pd.DataFrame(X.astype(float), columns=list("abcdef"))
    scores = noise_scores(model, frame, y, cv=folds)
    proba = cross_val_predict(model, frame, y, cv=folds, method="predict_proba")
    index = np.searchsorted(np.unique(y), y)
    np.testing.assert_allclose(scores.loss, -np.log(proba[np.arange(len(y)), index]))
    np.testing.assert_array_equal(scores.disagreement, proba.argmax(1) != index)
    assert scores.noise_variance is None
    assert list(scores.auroc(flipped)) == ["loss", "disagreement"]


def test_out_of_fold_finds_what_was_learnt_by_heart(noisy_data):
    X, y, flipped = noisy_data
    model = network(posterior=PointEstimate(), max_epochs=200)
    model.set_params(module__dropout=0.0, module__hidden_layer_sizes=(200, 200)).fit(X, y)
    assert model.score(X, y) > 0.97
    assert noise_scores(model, X, y).auroc(flipped)["disagreement"] < 0.65
    scores = noise_scores(model, X, y, cv=3)
    assert scores.auroc(flipped)["disagreement"] > 0.75
    aware = noise_scores(network(UncertaintyAware(), max_epochs=2), X, y, cv=3)
    assert aware.noise_variance.shape == (300,)


def test_bad_input_of_noise_scores(noisy_data):
    X, y, _ = noisy_data
    model = network().fit(X, y)
    with pytest.raises(ValueError, match=r"labels .*oak.* that the estimator was not fitted on"):
        noise_scores(model, X[:2], ["oak", "ash"])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        noise_scores(model, X, y[:-1])
    with pytest.raises(TypeError, match="needs a classifier, got TorchRegressor"):
        noise_scores(TorchRegressor(max_epochs=1).fit(X, X[:, 0]), X, X[:, 0])
    with pytest.raises(TypeError, match="several at once"):
        several = TorchClassifier(likelihood=Bernoulli(), max_epochs=1)
        noise_scores(several.fit(X, (X[:, :2] > 0).astype(int)), X, y)
    with pytest.raises(ValueError, match="exactly once"):
        noise_scores(LogisticRegression(), X, y, cv=ShuffleSplit(2, random_state=0))
    with pytest.raises(ValueError, match="leave cv out"):
        noise_scores(FrozenEstimator(model), X, y, cv=3)
    scores = NoiseScores(np.arange(4.0), None, np.zeros(4))
    assert scores.auroc([False, False, True, True]) == {"loss": 1.0, "disagreement": 0.5}
    with pytest.raises(ValueError, match="none of the labels are flipped"):
        scores.auroc([False] * 4)
    with pytest.raises(ValueError, match="all of the labels are flipped"):
        scores.auroc([True] * 4)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        scores.auroc([True, False])
    with pytest.raises(ValueError, match="only True and False"):
        scores.auroc([0, 1, 2, 3])
