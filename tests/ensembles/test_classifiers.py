"""scikit-learn's ensembles of classifiers: draws, their mean, and parts, against hand work."""

import numpy as np
import pytest
from scipy.special import xlogy
from sklearn.datasets import load_iris, make_multilabel_classification
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

import skuq
from skuq import metrics as m
from skuq.calibration import MatrixScaler, TemperatureScaler, VectorScaler
from skuq.novelty import NoveltyDetector
from skuq.selective import SelectiveClassifier

NAMES = np.array(["setosa", "versicolor", "virginica"])


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    noisy = X + np.random.default_rng(0).normal(0, 0.5, X.shape)
    return noisy[::2], noisy[1::2], NAMES[y[::2]], NAMES[y[1::2]]


def entropy(p):
    return -xlogy(p, p).sum(-1)


def voting(**options):
    members = [("a", GaussianNB()), ("b", DecisionTreeClassifier(max_depth=2, random_state=0))]
    return VotingClassifier(members, voting="soft", **options)


ENSEMBLES = {
    "forest": RandomForestClassifier(10, random_state=0),
    "extra trees": ExtraTreesClassifier(10, min_samples_leaf=3, random_state=0),
    "bag of columns": BaggingClassifier(
        GaussianNB(), 6, max_features=0.5, max_samples=0.3, random_state=0
    ),
    "bag of votes": BaggingClassifier(LinearSVC(), 5, random_state=0),
    "bag of few rows": BaggingClassifier(KNeighborsClassifier(1), 9, max_samples=3, random_state=0),
    "voting": voting(),
    "weights": voting(weights=[2, 1]),
    "stacking": StackingClassifier(
        [("a", GaussianNB()), ("b", LogisticRegression())], LogisticRegression(), cv=2
    ),
    "boosting": GradientBoostingClassifier(n_estimators=12, random_state=0),
    "one stage": GradientBoostingClassifier(n_estimators=1, random_state=0),
    "histograms": HistGradientBoostingClassifier(max_iter=12, random_state=0),
}


@pytest.mark.parametrize("name", ENSEMBLES)
def test_the_mean_of_the_draws_is_the_prediction(name, iris):
    X, X_test, y, _ = iris
    ensemble = ENSEMBLES[name].fit(X, y)
    draws, proba = skuq.predict_draws(ensemble, X_test), ensemble.predict_proba(X_test)
    assert draws.shape[1:] == proba.shape and (draws >= 0).all()
    np.testing.assert_allclose(draws.sum(-1), 1)
    np.testing.assert_allclose(draws.mean(0), proba, atol=1e-14)
    total, aleatoric, epistemic = skuq.predict_uncertainty(ensemble, X_test, kind="all")
    np.testing.assert_allclose(total, entropy(proba), atol=1e-12)
    np.testing.assert_allclose(aleatoric, entropy(draws).mean(0), atol=1e-12)
    np.testing.assert_allclose(epistemic, total - aleatoric, atol=1e-12)
    assert (epistemic.max() > 0) == (name != "one stage")
    variance = skuq.predict_uncertainty(ensemble, X_test, "epistemic", measure="variance")
    np.testing.assert_allclose(variance, draws.var(0).sum(-1), atol=1e-14)
    # Through a Pipeline and a search, with labels of any type, the same numbers.
    pipeline = make_pipeline(StandardScaler(with_mean=False, with_std=False), ensemble).fit(X, y)
    assert np.array_equal(skuq.predict_draws(FrozenEstimator(pipeline), X_test), draws)


def test_draws_of_a_forest_are_its_trees(iris):
    X, X_test, y, y_test = iris
    forest = RandomForestClassifier(7, max_depth=2, random_state=0)
    search = GridSearchCV(forest, {"min_samples_leaf": [2]}, cv=2).fit(X, y)
    trees = search.best_estimator_.estimators_
    by_hand = np.stack([tree.predict_proba(X_test) for tree in trees])
    assert np.array_equal(skuq.predict_draws(search, X_test), by_hand)
    votes = np.eye(3)[by_hand.argmax(-1)].mean(0).max(-1)
    ratio = skuq.predict_uncertainty(search, X_test, measure="variation_ratio")
    np.testing.assert_allclose(ratio, 1 - votes)
    # Scores are those of predict_proba to the last bit.
    proba = search.predict_proba(X_test)
    labels = search.classes_
    assert m.ece_scorer(search, X_test, y_test) == -m.expected_calibration_error(
        y_test, proba, labels=labels
    )


def test_members_that_have_not_seen_a_class(iris):
    X, X_test, y, _ = iris
    bag = ENSEMBLES["bag of few rows"].fit(X, y)
    assert min(len(member.classes_) for member in bag.estimators_) < 3
    first, columns = bag.estimators_[0], bag.estimators_features_[0]
    expected = np.zeros((len(X_test), 3))
    expected[:, first.classes_.astype(int)] = first.predict_proba(X_test[:, columns])
    assert np.array_equal(skuq.predict_draws(bag, X_test)[0], expected)


def test_fitted_members_of_a_stack_that_know_fewer_classes(iris):
    """Their classes are labels, not numbers of classes; labels may be numbers, too."""
    X, X_test, y, _ = iris
    for labels in (NAMES, np.array([1, 2, 5])):
        named = labels[np.searchsorted(NAMES, y)]
        few = GaussianNB().fit(X[named != labels[2]], named[named != labels[2]])
        last = GaussianNB().fit(X[named != labels[0]], named[named != labels[0]])
        stack = StackingClassifier([("a", few), ("b", last)], cv="prefit").fit(X, named)
        none = np.zeros((len(X_test), 1))
        each = np.stack(
            [
                np.hstack([few.predict_proba(X_test), none]),
                np.hstack([none, last.predict_proba(X_test)]),
            ]
        )
        draws = skuq.predict_draws(stack, X_test)
        np.testing.assert_allclose(draws.mean(0), stack.predict_proba(X_test), atol=1e-12)
        # A stack moves the draws and shrinks their distances; the direction stays.
        spread, given = draws[0] - draws[1], each[0] - each[1]
        share = (spread * given).sum(1) / (given**2).sum(1)
        np.testing.assert_allclose(spread, share[:, None] * given, atol=1e-12)
        assert share.max() > 0.1


def test_weights_are_whole_copies(iris):
    X, X_test, y, _ = iris
    weighted = voting(weights=[0.5, 0.25]).fit(X, y)
    a, b = (member.predict_proba(X_test) for member in weighted.estimators_)
    assert np.array_equal(skuq.predict_draws(weighted, X_test), np.stack([a, a, b]))
    with pytest.raises(ValueError, match="no ratio of small whole numbers"):
        skuq.predict_draws(voting(weights=[1, np.pi]).fit(X, y), X_test)
    with pytest.raises(TypeError, match="set voting='soft'"):
        skuq.predict_draws(voting().set_params(voting="hard").fit(X, y), X_test)


def test_stages_keep_their_spread_around_the_prediction(iris):
    """Where no probability would leave [0, 1]."""
    X, X_test, y, _ = iris
    model = GradientBoostingClassifier(n_estimators=12, learning_rate=0.02, random_state=0)
    stages = np.stack([np.array(p) for p in model.fit(X, y).staged_predict_proba(X_test)])[6:]
    expected = stages - stages.mean(0) + model.predict_proba(X_test)
    np.testing.assert_allclose(skuq.predict_draws(model, X_test), expected, atol=1e-14)


def test_an_ensemble_in_a_bag_or_a_network_in_a_vote(iris):
    X, X_test, y, _ = iris
    forest = RandomForestClassifier(3, random_state=0)
    network = skuq.TorchClassifier(lr=0.01, max_epochs=2, random_state=0)
    vote = VotingClassifier([("a", forest), ("b", network)], voting="soft").fit(X, y)
    expected = np.stack([member.predict_proba(X_test) for member in vote.estimators_])
    np.testing.assert_allclose(skuq.predict_draws(vote, X_test), expected)


# -- around them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("calibrator", [TemperatureScaler, VectorScaler, MatrixScaler])
@pytest.mark.parametrize("name", ["forest", "extra trees", "voting"])
def test_calibrators_keep_the_parts(calibrator, name, iris):
    """They change the mean as that of one draw; the draws move along."""
    X, X_test, y, y_test = iris
    ensemble = ENSEMBLES[name].fit(X, y)
    scaler = calibrator(FrozenEstimator(ensemble)).fit(X_test, y_test)
    log_proba = np.log(ensemble.predict_proba(X_test).clip(np.finfo(float).eps))
    if calibrator is TemperatureScaler:
        changed = log_proba / scaler.temperature_
    elif calibrator is VectorScaler:
        changed = scaler.scale_ * log_proba + scaler.bias_
    else:
        proba = np.exp(log_proba / scaler.temperature_)
        proba /= proba.sum(axis=1, keepdims=True)
        changed = scaler.scale_ * np.log(proba) + proba @ scaler.matrix_.T
    expected = np.exp(changed) / np.exp(changed).sum(1, keepdims=True)
    np.testing.assert_allclose(scaler.predict_proba(X_test), expected)
    draws = skuq.predict_draws(scaler, X_test)
    assert draws.min() >= 0
    np.testing.assert_allclose(draws.mean(0), expected, atol=1e-14)
    np.testing.assert_allclose(draws.sum(-1), 1)
    parts = skuq.predict_uncertainty(scaler, X_test, kind="all")
    np.testing.assert_allclose(parts.total, parts.aleatoric + parts.epistemic)
    assert 0 < parts.epistemic.mean() < parts.total.mean()


def test_report_displays_selection_and_novelty(iris):
    X, X_test, y, y_test = iris
    forest = RandomForestClassifier(10, random_state=0).fit(X, y)
    page = skuq.report(make_pipeline(forest), X_test, y_test)
    assert page.metrics["accuracy"] == pytest.approx(forest.score(X_test, y_test))
    parts = skuq.predict_uncertainty(forest, X_test, kind="all")
    shown = m.DecompositionDisplay.from_estimator(forest, X_test, y_test)
    np.testing.assert_allclose(shown.epistemic, parts.epistemic)
    chosen = SelectiveClassifier(FrozenEstimator(forest), coverage=0.5).fit(X_test, y_test)
    accepted = chosen.accept(X_test)
    assert parts.total[accepted].max() <= parts.total[~accepted].min()
    detector = NoveltyDetector(FrozenEstimator(forest), measure="epistemic").fit(X_test, y_test)
    np.testing.assert_allclose(-detector.score_samples(X_test), parts.epistemic, atol=1e-12)


def test_energy_where_there_are_scores(iris):
    X, X_test, y, y_test = iris
    boosted = HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(X, y)
    detector = NoveltyDetector(FrozenEstimator(boosted), measure="energy").fit(X_test, y_test)
    expected = np.logaddexp.reduce(boosted.decision_function(X_test), axis=1)
    np.testing.assert_allclose(detector.score_samples(X_test), expected)
    forest = FrozenEstimator(RandomForestClassifier(3, random_state=0).fit(X, y))
    with pytest.raises(ValueError, match="gives probabilities, not logits"):
        NoveltyDetector(forest, measure="energy").fit(X_test, y_test)


def test_what_is_no_stack_of_draws(iris):
    X, X_test, y, _ = iris
    for estimator in (LogisticRegression(), AdaBoostClassifier(n_estimators=2)):
        with pytest.raises(TypeError, match="nor an ensemble of a class that skuq"):
            skuq.predict_uncertainty(estimator.fit(X, y), X_test)
    with pytest.raises(TypeError, match="needs a regressor, got RandomForestClassifier"):
        skuq.predict_interval(RandomForestClassifier(2).fit(X, y), X_test)
    with pytest.raises(NotFittedError):
        skuq.predict_draws(RandomForestClassifier(), X_test)
    several = RandomForestClassifier(2).fit(*make_multilabel_classification(30, random_state=0))
    with pytest.raises(TypeError, match="labels of one target"):
        skuq.predict_draws(several, np.zeros((2, 20)))

    class Changed(RandomForestClassifier):
        def predict_proba(self, X):
            return super().predict_proba(X) ** 2

    with pytest.raises(TypeError, match="cannot call predict_draws of Changed"):
        skuq.predict_draws(Changed(2).fit(X, y), X_test)


def test_one_row_frames_and_many_rows(iris, monkeypatch):
    pd = pytest.importorskip("pandas")
    X, X_test, y, y_test = iris
    frame = pd.DataFrame(X, columns=list("abcd"))
    forest = RandomForestClassifier(5, random_state=0).fit(frame, y)
    new = pd.DataFrame(X_test, columns=list("abcd"))
    whole = skuq.predict_uncertainty(forest, new, kind="all")
    one = skuq.predict_uncertainty(forest, new[3:4], kind="all")
    assert [float(part[0]) for part in one] == [float(part[3]) for part in whole]
    score = m.nll_scorer(forest, new, y_test)
    monkeypatch.setattr("skuq._sklearn_estimators._BLOCK_ROWS", 7)
    assert np.array_equal(np.stack(skuq.predict_uncertainty(forest, new, kind="all")), whole)
    assert m.nll_scorer(forest, new, y_test) == score
    with pytest.raises(ValueError, match="feature names"):
        skuq.predict_uncertainty(forest, new[["a", "b"]])


def test_a_bag_refuses_other_columns_and_stays_as_it_is():
    X = np.arange(40.0).reshape(20, 2)
    bag = BaggingClassifier(n_estimators=2, random_state=0).fit(X, np.arange(20) % 2)
    with pytest.raises(ValueError, match="1 features"):
        skuq.predict_draws(bag, X[:, :1])
    assert bag.n_features_in_ == 2
