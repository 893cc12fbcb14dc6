"""What counts as a label, what is refused, and the estimator among scikit-learn's own."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq.calibration import TemperatureScaler
from skuq.likelihoods import Bernoulli
from skuq.posteriors import SGMCMC, SWAG, DeepEnsemble, MCDropout
from skuq.semi_supervised import MeanTeacher
from tests.semi_supervised.helpers import classifier, data


@pytest.fixture(scope="module")
def taught():
    X, y, _ = data()
    return MeanTeacher(classifier(MCDropout(3), module__dropout=0.2), n_draws=2).fit(X, y)


def test_minus_one_is_no_class(taught):
    X, y, _ = data()
    assert taught.classes_.tolist() == [0, 1] and taught.n_unlabelled_ == 40
    assert taught.n_features_in_ == 3
    assert classifier().fit(X, y).classes_.tolist() == [-1, 0, 1]  # elsewhere it is one


@pytest.mark.parametrize("names", [["cat", "dog"], [3, 7], [False, True]], ids=str)
def test_labels_of_any_type(names):
    X, y, truth = data()
    labels = np.empty(60, dtype=object)
    labels[:] = [-1 if label == -1 else names[label] for label in y.tolist()]
    given = labels if isinstance(names[0], str | bool) else labels.astype(type(names[0]))
    named = MeanTeacher(classifier()).fit(X, given)
    numbered = MeanTeacher(classifier()).fit(X, y)
    assert named.classes_.tolist() == names
    assert np.array_equal(named.predict_proba(X), numbered.predict_proba(X))
    assert named.score(X, given) == numbered.score(X[:20], truth[:20])


def test_labels_from_pandas():
    pandas = pytest.importorskip("pandas")
    X, y, _ = data()
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    labels = pandas.Series(np.array(["no", "yes", -1], dtype=object)[y])
    fitted = MeanTeacher(classifier()).fit(frame, labels)
    assert fitted.feature_names_in_.tolist() == ["a", "b", "c"]
    expected = MeanTeacher(classifier()).fit(X, y)
    assert np.array_equal(fitted.predict_proba(frame), expected.predict_proba(X))


NAMES = np.array(["no", "yes", "-1"])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (lambda y: np.where(y == -1, -1, 1), "only one class is left"),  # −1 and 1 are classes
        (lambda y: np.full(60, -1), "none of 60 rows has a label"),
        (lambda y: NAMES[y], "the text '-1'"),
        (lambda y: NAMES[y].astype(object), "the text '-1'"),
        (lambda y: np.where(y == -1, np.nan, y), "NaN; mark rows without a label by -1"),
        (lambda y: np.array([None, "a", "b"], dtype=object)[y + 1], "None; mark"),
        (lambda y: np.stack([y, y], axis=1), "one label for each row"),
        (lambda y: y[:-1], "inconsistent numbers of samples"),
    ],
)
def test_labels_that_are_refused(y, message):
    X, labels, _ = data()
    with pytest.raises(ValueError, match=message):
        MeanTeacher(classifier()).fit(X, y(labels))


def test_weights_of_a_score_that_do_not_fit(taught):
    X, y, _ = data()
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        taught.score(X, y, sample_weight=np.ones(5))


def test_rows_that_are_refused():
    X, y, _ = data()
    for row in (3, 50):  # with a label, and without
        bad = X.copy()
        bad[row, 0] = np.nan
        with pytest.raises(ValueError, match="NaN"):
            MeanTeacher(classifier()).fit(bad, y)


@pytest.mark.parametrize(
    ("estimator", "error", "message"),
    [
        (TorchRegressor(), TypeError, "regressor TorchRegressor"),
        (make_pipeline(StandardScaler(), TorchClassifier()), TypeError, "Put it inside"),
        (FrozenEstimator(TorchClassifier()), TypeError, "got TorchClassifier"),
        (TorchClassifier(posterior=SWAG(), max_epochs=1), ValueError, "SWAG"),
        (TorchClassifier(posterior=SGMCMC(n_epochs=1), max_epochs=1), ValueError, "SGMCMC"),
        (TorchClassifier(module__widths=3), ValueError, "widths"),
    ],
)
def test_estimators_that_are_refused(estimator, error, message):
    X, y, _ = data()
    with pytest.raises(error, match=message):
        MeanTeacher(estimator).fit(X, y)


@pytest.mark.parametrize(
    "option",
    [
        {"consistency": -1}, {"ramp_up": 1.5}, {"n_draws": 0}, {"noise": -0.1}, {"ema_decay": 1.0},
        {"uncertainty_threshold": 0.0}, {"uncertainty_threshold": "ramps"},
    ],
    ids=str,
)  # fmt: skip
def test_parameters_that_are_refused(option):
    X, y, _ = data()
    with pytest.raises(ValueError, match=next(iter(option))):
        MeanTeacher(classifier(), **option).fit(X, y)


def test_every_row_has_a_label():
    X, _, y = data()
    with pytest.warns(UserWarning, match="every row that counts has a label"):
        MeanTeacher(classifier(max_epochs=1)).fit(X, y)


def test_weights_of_rows():
    """Weight zero leaves rows out, with a label and without."""
    X, y, _ = data()
    weight = np.linspace(0.5, 1.5, 60)
    weight[[2, 30, 31]] = 0
    kept = weight > 0
    one = MeanTeacher(classifier()).fit(X, y, sample_weight=weight)
    two = MeanTeacher(classifier()).fit(X[kept], y[kept], sample_weight=weight[kept])
    assert one.n_unlabelled_ == 38
    np.testing.assert_allclose(one.predict_proba(X), two.predict_proba(X), rtol=0, atol=1e-12)
    plain = MeanTeacher(classifier()).fit(X[kept], y[kept])
    assert np.abs(plain.predict_proba(X) - two.predict_proba(X)).max() > 1e-4


def test_files_copies_and_pickles(taught, tmp_path):
    X, _, _ = data()
    skuq.save(taught, tmp_path / "teacher.skuq")
    others = [skuq.load(tmp_path / "teacher.skuq"), pickle.loads(pickle.dumps(taught))]
    for other in others:
        assert np.array_equal(other.predict_draws(X), taught.predict_draws(X))
        assert other.get_params()["noise"] == 0.1
    again = clone(taught).fit(*data()[:2])
    assert np.array_equal(again.predict_proba(X), taught.predict_proba(X))


def test_answers_are_those_of_the_teacher(taught):
    X, _, _ = data()
    inner = taught.estimator_
    assert np.array_equal(taught.predict(X), inner.predict(X))
    assert np.array_equal(taught.decision_function(X), inner.decision_function(X))
    assert np.array_equal(taught.predict_log_proba(X), inner.predict_log_proba(X))
    proba, parts = taught.predict_proba(X, return_uncertainty=True)
    assert np.array_equal(proba, inner.predict_proba(X))
    assert np.array_equal(parts.epistemic, skuq.predict_uncertainty(taught, X, kind="epistemic"))
    found = skuq.uncertainty_function(taught)(torch.tensor(X)).numpy()
    np.testing.assert_allclose(found, taught.predict_uncertainty(X), rtol=1e-6)
    assert skuq.predict_features(taught, X).shape == (60, 6)
    assert not hasattr(taught, "predict_image_uncertainty")


def test_in_a_pipeline_a_search_and_a_calibrator():
    X, y, truth = data()
    pipeline = make_pipeline(StandardScaler(), MeanTeacher(classifier(), n_draws=1))
    search = GridSearchCV(pipeline, {"meanteacher__consistency": [0.5, 2.0]}, cv=2).fit(X, y)
    assert search.best_score_ > 0.4  # of rows with a label
    assert skuq.predict_uncertainty(search, X).shape == (60,)
    scaled = TemperatureScaler(FrozenEstimator(search)).fit(X[20:], truth[20:])
    assert scaled.temperature_ > 0


def test_likelihood_of_one_output():
    X, y, _ = data()
    fitted = MeanTeacher(classifier(likelihood=Bernoulli(), posterior=DeepEnsemble(2))).fit(X, y)
    assert fitted.predict_proba(X).shape == (60, 2)
