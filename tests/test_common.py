"""scikit-learn's own checks, over every estimator × posterior and every likelihood."""

import importlib
import inspect
import pkgutil

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone, is_classifier, is_outlier_detector
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_sample_weight_equivalence_on_dense_data,
    check_sample_weight_equivalence_on_sparse_data,
    parametrize_with_checks,
)

import skuq
from skuq import TorchClassifier, TorchRegressor, likelihoods, posteriors
from skuq._estimator._base import TorchEstimator
from skuq.active_learning import ActiveLearner
from skuq.augmentation import FeatureNoise, TestTimeAugmentation
from skuq.calibration import MatrixScaler, QuantileRecalibrator, VectorScaler
from skuq.calibration._base import Calibrator
from skuq.inputs import InputNoise
from skuq.likelihoods import Categorical, Gaussian, Likelihood, UncertaintyAware
from skuq.novelty import NoveltyDetector
from skuq.novelty._rows import OnFeatures
from skuq.posteriors import (
    DeepEnsemble,
    LastLayerLaplace,
    MCDropout,
    PointEstimate,
    Posterior,
)
from skuq.selective._base import Selective
from skuq.semi_supervised import MeanTeacher

CHEAP = {"max_epochs": 30, "lr": 0.01}
# Features of some checks are not scaled, and learnt noise begins far off there. Probabilities of
# labels learnt for long are within rounding of 1, where a check finds ties that log-odds have not.
LIKELIHOOD_OPTIONS = {
    "UncertaintyAware": {"max_epochs": 150, "lr": 0.003},
    "Bernoulli": {"max_epochs": 10},
}

# The only failures that are expected, and why.
WEIGHTS = (
    "weight 2 equals a row twice only without dropout noise and minibatches, and to 1e-7 only in "
    "float64; test_sample_weight_equivalence checks it there. Under a calibrator the rows "
    "also fall into other folds"
)
EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": WEIGHTS,
    "check_sample_weight_equivalence_on_sparse_data": WEIGHTS,
}


def public_classes():
    for module in pkgutil.walk_packages(skuq.__path__, "skuq."):
        if any(part.startswith("_") for part in module.name.split(".")):
            continue
        imported = importlib.import_module(module.name)
        for name in imported.__all__:
            found = getattr(imported, name)
            if inspect.isclass(found) and found.__module__.startswith("skuq"):
                yield found


def all_posteriors():
    public = (getattr(posteriors, name) for name in posteriors.__all__)
    found = [c for c in public if issubclass(c, Posterior) and c is not Posterior]
    return [cls(**cls.quick) for cls in found]


def all_likelihoods():
    """With their defaults, those that an estimator takes by itself included."""
    public = (getattr(likelihoods, name) for name in likelihoods.__all__)
    return [cls() for cls in public if issubclass(cls, Likelihood) and cls is not Likelihood]


def fit_or_skip(estimator, X, y):
    """Fit; of a likelihood that the posterior has to refuse, nothing is left to test."""
    try:
        return estimator.fit(X, y)
    except ValueError as error:
        if "needs the Fisher information" not in str(error):
            raise
        pytest.skip(str(error))


def estimator_with(likelihood, **options):
    classifies = likelihood.task == "classification"
    return (TorchClassifier if classifies else TorchRegressor)(likelihood=likelihood, **options)


def all_estimators():
    for likelihood in all_likelihoods():
        options = {**CHEAP, **LIKELIHOOD_OPTIONS.get(type(likelihood).__name__, {})}
        yield estimator_with(likelihood, posterior=PointEstimate(), **options)
    for cls in sorted(set(public_classes()), key=lambda cls: cls.__name__):
        if not issubclass(cls, BaseEstimator) or not hasattr(cls, "predict"):
            continue
        if issubclass(cls, TorchEstimator) and cls._is_dense:
            continue  # the checks are of tables, and give no images
        if issubclass(cls, TorchEstimator):
            yield from (cls(posterior=posterior, **CHEAP) for posterior in all_posteriors())
        elif issubclass(cls, Pipeline):
            continue  # scikit-learn's own Pipeline does not pass these checks either
        elif issubclass(cls, Calibrator):
            inner = TorchClassifier if issubclass(cls, ClassifierMixin) else TorchRegressor
            options = {**CHEAP, "max_epochs": 10, "random_state": 0}
            yield cls(inner(posterior=DeepEnsemble(2), **options), cv=2)
        elif cls is TestTimeAugmentation:
            yield from augmented_estimators()
        elif issubclass(cls, Selective):
            inner = TorchClassifier if issubclass(cls, ClassifierMixin) else TorchRegressor
            options = {**CHEAP, "max_epochs": 10, "random_state": 0}
            yield cls(inner(posterior=PointEstimate(), **options), coverage=0.8)
        elif cls is InputNoise:
            options = {"posterior": PointEstimate(), **CHEAP, "max_epochs": 10, "random_state": 0}
            yield cls(TorchRegressor(**options), scale=0.1)
            yield cls(TorchClassifier(**options), scale=0.1, n_samples=2)
        elif cls is MeanTeacher:
            options = {"posterior": PointEstimate(), **CHEAP, "max_epochs": 20, "random_state": 0}
            yield cls(TorchClassifier(**options), n_draws=1)
        elif cls is ActiveLearner:
            options = {**CHEAP, "max_epochs": 10, "random_state": 0}
            yield cls(TorchClassifier(posterior=PointEstimate(), **options))
        elif issubclass(cls, OnFeatures):  # on columns of X, and on features of a network
            yield cls()
            options = {**CHEAP, "max_epochs": 5, "random_state": 0}
            yield cls(TorchClassifier(posterior=PointEstimate(), **options))
        else:
            raise AssertionError(f"{cls.__name__} has no recipe here: add one")


def augmented_estimators():
    """One of each task, and one of each kind of decision."""
    options = {"posterior": DeepEnsemble(2), **CHEAP, "max_epochs": 10, "random_state": 0}
    views = {"views": [FeatureNoise(0.05)], "n_views": 3, "random_state": 0}
    yield TestTimeAugmentation(TorchRegressor(**options), **views)
    yield TestTimeAugmentation(TorchClassifier(**options), **views)
    yield TestTimeAugmentation(
        TorchClassifier(**options), **views, vote="confidence_hard", threshold=0.5
    )


NEEDS_LABELS = "its estimator learns from y, which these checks of outlier detectors do not give"


def expected_failures(estimator):
    if isinstance(estimator, NoveltyDetector) and estimator.estimator is not None:
        checks = ("check_outliers_fit_predict", "check_outliers_train")
        return {**EXPECTED_FAILURES, **dict.fromkeys(checks, NEEDS_LABELS)}
    if isinstance(estimator, MeanTeacher):
        why = "the check has classes -1 and 1, but here -1 is a row without a label"
        return {**EXPECTED_FAILURES, "check_classifiers_classes": why}
    if isinstance(estimator, TestTimeAugmentation) and estimator.threshold is not None:
        return {}  # votes do not show the last digits
    if get_tags(estimator).target_tags.positive_only:
        why = "the check gives negative targets, whatever the tags say"
        return {**EXPECTED_FAILURES, "check_regressor_multioutput": why}
    return EXPECTED_FAILURES


ESTIMATORS = list(all_estimators())

# Twins of others in code and in answers: their checks run in the slow suite.
TWINS = (VectorScaler, MatrixScaler, QuantileRecalibrator, ActiveLearner)
USUAL_POSTERIORS = (PointEstimate, MCDropout, DeepEnsemble, LastLayerLaplace)


def is_twin(estimator):
    if isinstance(estimator, TestTimeAugmentation):
        return estimator.vote != "mean"
    if isinstance(estimator, TorchRegressor):  # a posterior does the same for both tasks
        return not isinstance(estimator.posterior, USUAL_POSTERIORS)
    if isinstance(estimator, TorchClassifier) and isinstance(
        estimator.likelihood, UncertaintyAware
    ):
        return True  # the checks want good answers, which take it 150 epochs
    return isinstance(estimator, TWINS)


FIRST = [estimator for estimator in ESTIMATORS if not is_twin(estimator)]
OTHERS = [estimator for estimator in ESTIMATORS if is_twin(estimator)]


def test_everything_is_found():
    names = {type(estimator).__name__ for estimator in ESTIMATORS}
    assert names >= {"TorchClassifier", "TorchRegressor", "TemperatureScaler", "VectorScaler"}
    assert names >= {
        "MatrixScaler",
        "VarianceScaler",
        "QuantileRecalibrator",
        "TestTimeAugmentation",
    }
    assert names >= {"SelectiveClassifier", "SelectiveRegressor", "MeanTeacher", "InputNoise"}
    assert names >= {"NoveltyDetector", "GaussianDiscriminant", "ActiveLearner"}
    assert {"MCDropout", "DeepEnsemble", "PointEstimate"} <= {
        type(posterior).__name__ for posterior in all_posteriors()
    }
    n_ours = len([e for e in ESTIMATORS if isinstance(e, TorchEstimator)])
    assert n_ours == 2 * len(all_posteriors()) + len(all_likelihoods())
    assert {type(likelihood).__name__ for likelihood in all_likelihoods()} >= {
        "Bernoulli", "Categorical", "Gaussian", "Laplace", "MixtureOfGaussians", "NegativeBinomial",
        "Poisson", "Quantile", "StochasticLogits", "StudentT", "UncertaintyAware",
    }  # fmt: skip


@parametrize_with_checks(FIRST, expected_failed_checks=expected_failures)
@pytest.mark.filterwarnings("ignore")  # scikit-learn's checks provoke warnings of all kinds
def test_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(OTHERS, expected_failed_checks=expected_failures)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_of_twins(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
@pytest.mark.filterwarnings("ignore")
def test_column_names(estimator):
    check_dataframe_column_names_consistency(type(estimator).__name__, clone(estimator))


EXACT = {"max_epochs": 30, "precision": "float64", "batch_size": 10_000, "module__dropout": 0.0}


@pytest.mark.parametrize("likelihood", all_likelihoods(), ids=str)
@pytest.mark.parametrize(
    "posterior", [PointEstimate(), DeepEnsemble(2), LastLayerLaplace()], ids=str
)
@pytest.mark.parametrize(
    "check",
    [
        check_sample_weight_equivalence_on_dense_data,
        check_sample_weight_equivalence_on_sparse_data,
    ],
)
def test_sample_weight_equivalence(likelihood, posterior, check):
    """What is expected to fail above holds where it can hold."""
    if not isinstance(posterior, PointEstimate) and type(likelihood) not in (Categorical, Gaussian):
        pytest.skip("posteriors are checked with the default likelihoods alone")
    cls = type(estimator_with(likelihood))

    class Exact(cls):  # the check looks at the signature alone, so settings are the defaults
        def __init__(self, *, random_state=None):
            super().__init__(
                posterior=posterior, likelihood=likelihood, random_state=random_state, **EXACT
            )

        def get_params(self, deep=True):
            return {"random_state": self.random_state}

        def _check_parameters(self, incremental):
            return clone(posterior), clone(likelihood)

    check("Exact", Exact())


def test_parameters_in_the_constructor_are_cloned():
    estimator = TorchClassifier(module__hidden_layer_sizes=(7,), optimizer__weight_decay=0.1)
    copy = clone(estimator)
    assert copy.get_params()["module__hidden_layer_sizes"] == (7,)
    copy.set_params(module__hidden_layer_sizes=(8,))
    assert estimator.get_params()["module__hidden_layer_sizes"] == (7,)
    assert "module__hidden_layer_sizes" in repr(estimator)
    assert "hidden_layer_sizes" in estimator._repr_html_()


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
@pytest.mark.filterwarnings("ignore:every row that counts has a label")
def test_predictions_are_float64(estimator, blobs):
    X, y = blobs
    if is_classifier(estimator) and not get_tags(estimator).classifier_tags.multi_class:
        y = y > 0
    fitted = clone(estimator).fit(X, y)
    if is_outlier_detector(fitted):
        answers = [fitted.predict_novelty(X), fitted.p_values(X)]
    else:
        answers = [fitted.predict_uncertainty(X)]
        answers.append(fitted.predict_proba(X) if is_classifier(fitted) else fitted.predict(X))
    assert all(answer.dtype == np.float64 for answer in answers)
