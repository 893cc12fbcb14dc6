"""SelectiveClassifier: four ways to a threshold, certificates, refusals, bad input."""

import numpy as np
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge

from skuq import TorchClassifier
from skuq.metrics import coverage_at_risk
from skuq.posteriors import PointEstimate
from skuq.selective import SelectiveClassifier
from tests.selective.helpers import Outputs, Strangeness, outputs

N = 1000


@pytest.fixture(scope="module")
def known():
    return outputs(N)


@pytest.fixture(scope="module")
def frozen(known):
    return FrozenEstimator(Outputs().fit(*known))


def entropy(proba):
    return stats.entropy(proba, axis=1)


@pytest.mark.parametrize("method", ["fixed_sequence", "sgr"])
def test_a_target_risk_is_that_of_the_function_of_arrays(frozen, known, method):
    X, y = known
    selective = SelectiveClassifier(frozen, target_risk=0.05, method=method).fit(X, y)
    expected = coverage_at_risk(
        y, X.argmax(1), entropy(X), risk=0.05, delta=0.05, method=method, n_starts=2
    )
    found = (selective.coverage_, selective.threshold_, selective.risk_, selective.bound_)
    assert found == pytest.approx(expected) and selective.certified_ is True
    assert 0.3 < selective.coverage_ < 1 and selective.n_calibration_ == N
    assert selective.accept(X).mean() == selective.coverage_
    wrong = X.argmax(1) != y
    assert wrong[selective.accept(X)].mean() == pytest.approx(selective.risk_)


def test_crc_bounds_the_joint_risk(frozen, known):
    X, y = known
    selective = SelectiveClassifier(frozen, target_risk=0.05, method="crc").fit(X, y)
    joint = ((X.argmax(1) != y) & selective.accept(X)).sum()
    assert (joint + 1) / (N + 1) <= 0.05 == selective.bound_
    assert (joint + 2) / (N + 1) > 0.05  # one error more would be too many
    assert selective.certified_


def test_a_coverage(frozen, known):
    X, y = known
    for share in (0.001, 0.3, 0.777, 1):
        selective = SelectiveClassifier(frozen, coverage=share).fit(X, y)
        assert selective.coverage_ == selective.accept(X).mean() == pytest.approx(share)


def test_chows_rule(frozen, known):
    X, y = known
    selective = SelectiveClassifier(frozen, reject_cost=0.3).fit(X, y)
    assert selective.threshold_ == 0.3
    assert np.array_equal(selective.accept(X), X.max(1) >= 0.7)
    costs = [
        (cost := (X.argmax(1) != y) * accepted + 0.3 * ~accepted).mean()
        for threshold in np.linspace(0, 1, 21)
        for accepted in [1 - X.max(1) <= threshold]
    ]
    cost = np.where(selective.accept(X), X.argmax(1) != y, 0.3).mean()
    assert cost < min(costs) + 0.005  # the probabilities are right, so no threshold is better


def test_a_threshold_and_its_bound(frozen, known):
    X, y = known
    selective = SelectiveClassifier(frozen, threshold=0.2, uncertainty="least_confidence")
    selective.fit(X, y)
    kept = 1 - X.max(1) <= 0.2
    errors = (X.argmax(1) != y)[kept].sum()
    assert np.array_equal(selective.accept(X), kept) and selective.certified_
    assert selective.bound_ == pytest.approx(stats.beta.ppf(0.95, errors + 1, kept.sum() - errors))
    none = SelectiveClassifier(frozen, threshold=-1.0).fit(X, y)
    assert not none.accept(X).any() and np.isnan(none.risk_) and not none.certified_


@pytest.mark.parametrize(
    ("measure", "formula"),
    [
        ("total", entropy),
        ("entropy", entropy),
        ("aleatoric", entropy),
        ("epistemic", lambda p: np.zeros(len(p))),
        ("least_confidence", lambda p: 1 - p.max(1)),
        ("margin", lambda p: 1 - np.sort(p)[:, -1] + np.sort(p)[:, -2]),
    ],
)
def test_measures(frozen, known, measure, formula):
    X, y = known
    selective = SelectiveClassifier(frozen, coverage=0.5, uncertainty=measure).fit(X, y)
    expected = formula(X)
    threshold = np.sort(expected)[N // 2 - 1]
    assert selective.threshold_ == pytest.approx(threshold, abs=1e-9)
    assert selective.coverage_ == (1 if measure == "epistemic" else 0.5)


def test_a_detector_of_novelties(frozen, known):
    X, y = known
    detector = Strangeness().fit(X)
    for uncertainty in (detector, FrozenEstimator(detector)):
        selective = SelectiveClassifier(frozen, coverage=0.5, uncertainty=uncertainty).fit(X, y)
        assert np.array_equal(selective.accept(X), X[:, 0] >= np.sort(X[:, 0])[N // 2])
    assert clone(selective).fit(X, y).threshold_ == selective.threshold_
    copy = clone(SelectiveClassifier(frozen, coverage=0.5, uncertainty=detector))
    with pytest.raises(NotFittedError, match=r"give FrozenEstimator\(detector\)"):
        copy.fit(X, y)
    with pytest.raises(TypeError, match="with predict_novelty, got LogisticRegression"):
        SelectiveClassifier(frozen, coverage=0.5, uncertainty=LogisticRegression()).fit(X, y)


# -- what certifies --------------------------------------------------------------------------------


def test_an_estimator_that_is_not_frozen_trains_on_the_other_rows(known):
    X, y = known
    for size, n in ((0.3, 300), (0.5, 500), (123, 123)):
        selective = SelectiveClassifier(Outputs(), coverage=0.5, calibration_size=size).fit(X, y)
        assert selective.n_calibration_ == n and selective.estimator_.n_rows_ == N - n
        assert selective.certified_
    again = clone(selective).fit(X, y)
    other = clone(selective).set_params(random_state=1).fit(X, y)
    assert again.threshold_ == selective.threshold_ != other.threshold_


def test_the_calibration_rows_are_no_strata(known):
    """The number of a class among them varies as that of independent draws does."""
    X, y = known
    counts = []
    for seed in range(60):
        selective = SelectiveClassifier(Recorder(), coverage=0.5, random_state=seed).fit(X, y)
        counts.append(selective.estimator_.count_)
    assert np.std(counts) > 5  # hypergeometric: sqrt(700 · .3 · 1/3 · 2/3) = 6.8


class Recorder(Outputs):
    def fit(self, X, y):
        self.count_ = int((y == 0).sum())
        return super().fit(X, y)


def test_nothing_reachable(frozen, known):
    X, y = known
    selective = SelectiveClassifier(frozen, target_risk=0.05, reject_label=-1)
    with pytest.warns(UserWarning, match="the 58 calibration rows are too few: at least 59 are"):
        selective.fit(X[:58], y[:58])
    assert not selective.certified_ and selective.coverage_ == 0
    assert np.isnan(selective.risk_) and np.isnan(selective.bound_)
    assert (selective.predict(X) == -1).all() and not selective.accept(X).any()
    wrong = (X.argmax(1) + 1) % 3
    with pytest.warns(UserWarning, match=r"lose too much \(without losses 59 would do\)"):
        clone(selective).fit(X, wrong)
    few = SelectiveClassifier(frozen, target_risk=0.05, method="sgr")
    with pytest.warns(UserWarning, match="at least 196 are needed"):
        few.fit(X[:60], y[:60])


def test_groups_stay_together_and_certify_nothing(known):
    X, y = known
    groups = np.arange(N) // 4
    selective = SelectiveClassifier(Groups(), target_risk=0.05, reject_label=-1)
    with pytest.warns(UserWarning, match="come from 75 groups, and rows of one group depend"):
        selective.fit(np.column_stack([X, groups]), y, groups=groups)
    assert not selective.certified_ and np.isnan(selective.bound_) and selective.coverage_ > 0
    assert selective.n_calibration_ == 300 and len(selective.estimator_.groups_) == 175
    own = SelectiveClassifier(Outputs(), target_risk=0.05).fit(X, y, groups=np.arange(N))
    assert own.certified_


class Groups(Outputs):
    """Outputs with a column of groups."""

    def fit(self, X, y):
        self.groups_ = np.unique(X[:, 3])
        return super().fit(X, y)

    def predict_proba(self, X):
        return X[:, :3]

    def predict(self, X):
        return super().predict(X[:, :3])


class Weighted(Outputs):
    def fit(self, X, y, sample_weight=None):
        return super().fit(X, y)


def test_rows_of_weight_zero_do_not_calibrate(frozen, known):
    X, y = known
    weight = np.r_[np.zeros(400), np.full(N - 400, 3.0)]
    selective = SelectiveClassifier(frozen, target_risk=0.05).fit(X, y, sample_weight=weight)
    assert selective.n_calibration_ == 600
    assert selective.threshold_ == clone(selective).fit(X[400:], y[400:]).threshold_


# -- answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "label", "kind"),
    [
        ((0, 1, 2), -1, "i"),
        ((0, 1, 2), np.nan, "f"),
        (("a", "b", "c"), "unsure", "U"),
        (("a", "b", "c"), -1, "O"),
        ((0, 1, 2), "unsure", "O"),
    ],
)
def test_labels_of_refused_rows(classes, label, kind):
    X, y = outputs(300, classes=classes)
    frozen = FrozenEstimator(Outputs(classes).fit(X, y))
    selective = SelectiveClassifier(frozen, coverage=0.7, reject_label=label).fit(X, y)
    answers, accepted = selective.predict(X), selective.accept(X)
    assert answers.dtype.kind == kind
    assert answers[accepted].tolist() == np.array(classes)[X.argmax(1)][accepted].tolist()
    assert all(a == label or a != a for a in answers[~accepted])
    plain = clone(selective).set_params(reject_label=None).fit(X, y)
    assert np.array_equal(plain.predict(X), np.array(classes)[X.argmax(1)])
    assert selective.score(X, y) == plain.score(X, y) == (plain.predict(X) == y).mean()


def test_other_answers_are_those_of_the_estimator(frozen, known):
    X, y = known
    selective = SelectiveClassifier(frozen, coverage=0.5, reject_label=-1).fit(X, y)
    assert selective.predict_proba(X) == pytest.approx(X)
    assert selective.predict_uncertainty(X) == pytest.approx(entropy(X))
    assert np.array_equal(selective.classes_, [0, 1, 2])


def test_costs_of_ones_own(frozen, known):
    X, y = known

    def cost(y_true, y_pred):
        return np.where(y_true == 2, 5.0, 0.1) * (y_true != y_pred)

    selective = SelectiveClassifier(frozen, target_risk=0.1, loss=cost).fit(X, y)
    kept = selective.accept(X)
    lost = cost(y, X.argmax(1)).clip(max=1)
    assert selective.risk_ == pytest.approx(lost[kept].mean()) and selective.certified_
    assert selective.report(X, y).overall.risk == pytest.approx(selective.risk_)
    negative = SelectiveClassifier(frozen, coverage=0.5, loss=lambda t, p: -1.0 * (t != p))
    with pytest.raises(ValueError, match="loss must not be negative, got -1"):
        negative.fit(X, y)


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs exactly one of target_risk, coverage, reject_cost, threshold.* none of them"),
        ({"coverage": 0.5, "threshold": 0.1}, "got coverage=0.5 and threshold=0.1"),
        ({"target_risk": 1.0}, "'target_risk' parameter of SelectiveClassifier must be"),
        ({"coverage": 0.0}, "'coverage' parameter"),
        ({"reject_cost": 1.5}, "'reject_cost' parameter"),
        ({"threshold": np.nan}, "threshold must be a number, got NaN"),
        ({"reject_cost": 0.2, "uncertainty": "margin"}, "needs uncertainty='least_confidence'"),
        ({"coverage": 0.5, "uncertainty": "entropie"}, "Did you mean 'entropy'"),
        ({"coverage": 0.5, "method": "ltt"}, "'method' parameter"),
        ({"coverage": 0.5, "loss": "squared"}, "'loss' parameter"),
        ({"coverage": 0.5, "reject_label": 1}, "reject_label=1 is one of the classes"),
        ({"coverage": 0.5, "confidence_level": 1.0}, "'confidence_level' parameter"),
    ],
)
def test_bad_parameters(frozen, known, options, message):
    with pytest.raises(ValueError, match=message):
        SelectiveClassifier(frozen, **options).fit(*known)


def test_bad_rows(frozen, known):
    X, y = known
    selective = SelectiveClassifier(frozen, coverage=0.5)
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        selective.fit(X)
    with pytest.raises(ValueError, match="one label per row"):
        selective.fit(X, np.eye(3, dtype=int)[y])
    with pytest.raises(ValueError, match="missing label"):
        selective.fit(X, np.where(y == 1, None, y))
    with pytest.raises(TypeError, match="needs a classifier, got Ridge"):
        SelectiveClassifier(Ridge(), coverage=0.5).fit(X, y)
    with pytest.raises(NotFittedError):
        selective.accept(X)
    with pytest.raises(NotFittedError):
        SelectiveClassifier(FrozenEstimator(Outputs()), coverage=0.5).fit(X, y)
    selective.fit(X, y)
    with pytest.raises(ValueError, match="report of SelectiveClassifier needs the targets"):
        selective.report(X)
    with pytest.raises(ValueError, match="zero for all calibration rows"):
        weight = np.zeros(20)
        weight[[0, 1, 2]] = 1  # the split holds none of these back
        SelectiveClassifier(Weighted(), coverage=0.5).fit(X[:20], y[:20], sample_weight=weight)


def test_nan_scores(frozen, known):
    X, y = known
    detector = Strangeness().fit(X)
    spoilt = np.vstack([X[:2], [[np.nan, 0.5, 0.5]]])
    selective = SelectiveClassifier(frozen, coverage=0.5, uncertainty=detector)
    with pytest.raises(ValueError, match="NaN in 1 of 3 rows, the first one at place 2"):
        selective.fit(spoilt, y[:3])
    with pytest.raises(ValueError, match="NaN in 1 of 3 rows"):
        selective.fit(X, y).accept(spoilt)


def test_labels_that_the_estimator_does_not_know_are_errors(frozen, known):
    X, y = known
    y = np.where(np.arange(N) < 100, 7, y)
    selective = SelectiveClassifier(frozen, coverage=1.0).fit(X, y)
    assert selective.risk_ == (X.argmax(1) != y).mean() > 0.1


def test_one_class():
    X, y = outputs(100)
    one = FrozenEstimator(Outputs((0,)).fit(X[:, :1], y))
    selective = SelectiveClassifier(one, coverage=0.5).fit(np.ones((100, 1)), np.zeros(100, int))
    assert selective.coverage_ == 1 and selective.risk_ == 0


@pytest.mark.parametrize("label", [(), [1], np.array([9]), {"no": 1}, object()])
def test_a_reject_label_is_one_label(frozen, known, label):
    selective = SelectiveClassifier(frozen, coverage=0.5, reject_label=label)
    with pytest.raises(ValueError, match="reject_label must be one label"):
        selective.fit(*known)


def test_detectors_and_labels_are_checked_before_training(known):
    class Untouched(Outputs):
        def fit(self, X, y):
            raise AssertionError("trained")

    with pytest.raises(ValueError, match="reject_label=1 is one of the classes"):
        SelectiveClassifier(Untouched(), coverage=0.5, reject_label=1).fit(*known)

    with pytest.raises(TypeError, match="predict_novelty"):
        SelectiveClassifier(Untouched(), coverage=0.5, uncertainty=3).fit(*known)


def test_rows_that_trained_do_no_harm_with_weight_zero(known):
    X, y = known
    network = TorchClassifier(posterior=PointEstimate(), max_epochs=1, random_state=0)
    frozen = FrozenEstimator(network.fit(X[:50], y[:50]))
    weight = np.repeat([0.0, 1.0], [50, 150])
    selective = SelectiveClassifier(frozen, coverage=0.5)
    assert selective.fit(X[:200], y[:200], sample_weight=weight).certified_
    with pytest.warns(UserWarning, match="50 of the 200 calibration rows equal rows that trained"):
        assert not selective.fit(X[:200], y[:200]).certified_


def test_groups_that_cannot_be_split(frozen, known):
    X, y = known
    with pytest.raises(ValueError, match="groups contains NaN"):
        SelectiveClassifier(frozen, coverage=0.5).fit(X, y, groups=np.full(len(y), np.nan))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        SelectiveClassifier(frozen, coverage=0.5).fit(X, y, groups=[1, 2])
    selective = SelectiveClassifier(Outputs(), coverage=0.5)
    with pytest.raises(ValueError, match="groups holds one group only"):
        selective.fit(X, y, groups=np.zeros(len(y)))
    with pytest.raises(ValueError, match="groups contains NaN"):
        selective.fit(X, y, groups=np.full(len(y), np.nan))
    with pytest.raises(ValueError, match="groups contains 500 missing"):
        selective.fit(X, y, groups=np.resize(np.array(["a", None], dtype=object), len(y)))
