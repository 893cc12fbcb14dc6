"""Stock scikit-learn, around our estimators."""

import copy
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import BaggingClassifier, StackingRegressor, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    cross_val_predict,
    cross_validate,
)
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skuq import TorchClassifier, TorchRegressor
from skuq.metrics import ece_scorer
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate

SCORING = {"nll": "neg_log_loss", "ece": ece_scorer}


def classifier(**options):
    return TorchClassifier(posterior=MCDropout(4), max_epochs=6, lr=0.01, random_state=0, **options)


def regressor():
    return TorchRegressor(posterior=MCDropout(4), max_epochs=6, lr=0.01, random_state=0)


def test_grid_search_over_posteriors_and_module_parameters(blobs):
    X, y = blobs
    grid = {
        "torchclassifier__posterior": [PointEstimate(), MCDropout(4), DeepEnsemble(2)],
        "torchclassifier__module__hidden_layer_sizes": [(4,), (16,)],
    }
    pipeline = make_pipeline(StandardScaler(), classifier())
    one, two = (
        GridSearchCV(pipeline, grid, scoring=SCORING, refit="nll", cv=2, n_jobs=n).fit(X, y)
        for n in (1, 2)
    )
    for metric in ("nll", "ece"):
        scores = one.cv_results_[f"mean_test_{metric}"]
        assert len(set(scores)) == 6 and np.isfinite(scores).all()
        for k in range(2):  # to the bit, with as many torch threads
            name = f"split{k}_test_{metric}"
            assert np.array_equal(two.cv_results_[name], one.cv_results_[name])


def test_a_search_changes_no_estimator(blobs):
    X, y = blobs
    network = classifier(module__hidden_layer_sizes=(8,)).set_params(optimizer__weight_decay=0.1)
    before = repr(network.get_params())
    search = GridSearchCV(network, {"lr": [1e-3, 1e-2], "posterior__n_draws": [3]}, cv=2).fit(X, y)
    assert repr(network.get_params()) == before
    with pytest.raises(NotFittedError):
        network.predict(X)
    best = search.best_estimator_
    copied = copy.deepcopy(best)
    assert np.array_equal(copied.predict_proba(X), best.predict_proba(X))
    for made in (clone(best), clone(search).estimator):
        assert not hasattr(made, "classes_")
        assert repr(made.fit(X, y).get_params()) == repr(made.get_params())
    assert np.array_equal(clone(best).fit(X, y).predict_proba(X), best.predict_proba(X))
    copied.set_params(lr=0.5, posterior__n_draws=7).fit(X, y)
    assert len(copied.predict_draws(X)) == 7 and len(best.predict_draws(X)) == 3
    assert best.lr in (1e-3, 1e-2)


def test_search_over_parameters_of_the_posterior(blobs):
    X, y = blobs
    search = GridSearchCV(classifier(), {"posterior__n_draws": [2, 9]}, cv=2).fit(X, y)
    assert search.best_estimator_.predict_draws(X).shape[0] in (2, 9)


def test_halving_search(blobs):
    search = HalvingGridSearchCV(classifier(), {"lr": [1e-3, 1e-2]}, cv=2, random_state=0, n_jobs=2)
    assert search.fit(*blobs).best_estimator_.predict(blobs[0]).shape == (240,)


def test_cross_validation(blobs):
    X, y = blobs
    scores = cross_validate(classifier(), X, y, scoring=SCORING, cv=2, return_estimator=True)
    assert np.isfinite(scores["test_nll"]).all() and (scores["test_ece"] <= 0).all()
    proba = cross_val_predict(classifier(), X, y, cv=3, method="predict_proba")
    assert proba.shape == (240, 3)


@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "temperature"])
@pytest.mark.parametrize("ensemble", [True, False])
def test_scikit_learn_calibration(method, ensemble, blobs):
    X, y = blobs
    fitted = CalibratedClassifierCV(classifier(), method=method, cv=2, ensemble=ensemble)
    np.testing.assert_allclose(fitted.fit(X, y).predict_proba(X).sum(1), 1)


def test_meta_estimators(blobs, diabetes):
    X, y = blobs
    voting = VotingClassifier(
        [("a", classifier()), ("b", LogisticRegression(max_iter=10_000))], voting="soft"
    )
    assert voting.fit(X, y).score(X, y) > 0.5
    bagging = BaggingClassifier(classifier(), n_estimators=2, random_state=0).fit(X, y)
    assert bagging.predict_proba(X).shape == (240, 3)
    X, y = diabetes
    stacking = StackingRegressor([("a", regressor())], LinearRegression(), cv=2).fit(X, y)
    assert stacking.predict(X).shape == y.shape
    targets = np.column_stack([y, -y])
    assert MultiOutputRegressor(regressor()).fit(X, targets).predict(X).shape == targets.shape
    for transform in ({"transformer": StandardScaler()}, {"func": np.log, "inverse_func": np.exp}):
        fitted = TransformedTargetRegressor(regressor(), **transform).fit(X, y)
        assert np.isfinite(fitted.predict(X)).all()


def test_frozen_and_importance(blobs):
    X, y = blobs
    fitted = classifier().fit(X, y)
    frozen = clone(FrozenEstimator(fitted)).fit(X[:5], y[:5])
    assert np.array_equal(frozen.predict_proba(X), fitted.predict_proba(X))
    assert np.array_equal(frozen.predict_uncertainty(X), fitted.predict_uncertainty(X))
    importance = permutation_importance(fitted, X, y, n_repeats=1, random_state=0)
    assert importance.importances_mean.shape == (10,)


def test_columns_and_set_output(blobs):
    X, y = blobs
    frame = pd.DataFrame(X, columns=list("abcdefghij"))
    columns = ColumnTransformer([("scale", StandardScaler(), list("abc"))], remainder="drop")
    pipeline = make_pipeline(columns, classifier()).set_output(transform="pandas").fit(frame, y)
    assert list(pipeline[-1].feature_names_in_) == ["scale__a", "scale__b", "scale__c"]
    assert pipeline.predict(frame).shape == (240,)


def test_metadata_routing(blobs):
    X, y = blobs
    weight = np.where(y == 0, 5.0, 1.0)
    groups = np.arange(len(y)) // 8
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = make_scorer(accuracy_score).set_score_request(sample_weight=True)
        network = classifier(early_stopping=True).set_fit_request(sample_weight=True, groups=True)
        search = GridSearchCV(
            make_pipeline(StandardScaler().set_fit_request(sample_weight=False), network),
            {"torchclassifier__lr": [0.01]},
            cv=GroupKFold(3),
            scoring={
                "accuracy": scorer,
                "ece": clone(ece_scorer).set_score_request(sample_weight=False),
            },
            refit="accuracy",
        )
        search.fit(X, y, sample_weight=weight, groups=groups)
        routed = search.best_estimator_[-1]
    direct = classifier(early_stopping=True)
    Z = StandardScaler().fit_transform(X)
    direct.fit(Z, y, sample_weight=weight, groups=groups)
    assert np.array_equal(routed.predict_proba(Z), direct.predict_proba(Z))


@pytest.mark.parametrize("posterior", [PointEstimate(), MCDropout(3), DeepEnsemble(2)], ids=str)
def test_pickle_and_joblib(posterior, blobs, tmp_path):
    X, y = blobs
    fitted = TorchClassifier(posterior=posterior, max_epochs=2, early_stopping=True).fit(X, y)
    expected = fitted.predict_uncertainty(X)
    joblib.dump(fitted, tmp_path / "model.joblib")
    for again in (pickle.loads(pickle.dumps(fitted)), joblib.load(tmp_path / "model.joblib")):
        assert np.array_equal(again.predict_uncertainty(X), expected)
        assert again.history_ == fitted.history_


def test_dataframes_in_and_out_of_a_clone(blobs):
    network = classifier(module__hidden_layer_sizes=(3,), optimizer__weight_decay=0.1)
    copy = clone(network).set_params(module__hidden_layer_sizes=(5,))
    assert clone(copy).get_params()["module__hidden_layer_sizes"] == (5,)
    assert network.get_params()["module__hidden_layer_sizes"] == (3,)
    assert copy.fit(*blobs).module_[1].out_features == 5
