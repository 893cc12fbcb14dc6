"""The learner: rounds on labelled data, and with a person."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import skuq
from skuq import TorchClassifier
from skuq.active_learning import ActiveLearner, QueryStrategy, margin, select
from skuq.active_learning import _rounds as rounds_module
from skuq.posteriors import MCDropout, PointEstimate

OPTIONS = {"batch_size": 7, "n_rounds": 3, "initial": 10, "random_state": 0}


def logistic():
    return make_pipeline(StandardScaler(), LogisticRegression())


@pytest.fixture(scope="module")
def learner(blobs):
    return ActiveLearner(logistic(), **OPTIONS).simulate(*blobs)


def test_rounds_of_a_simulation(learner, blobs):
    rounds = learner.rounds_
    assert [r["n_labelled"] for r in rounds] == [10, 17, 24, 31]
    asked = np.concatenate([r["asked"] for r in rounds]).astype(int)
    assert len(set(asked) | set(learner.first_)) == 31 == learner.labelled_.sum()
    assert learner.labelled_[asked].all() and rounds[-1]["asked"] == []
    scores = [r["score"] for r in rounds]
    assert learner.area_under_curve_ == pytest.approx(
        (scores[0] / 2 + scores[1] + scores[2] + scores[3] / 2) / 3
    )
    assert list(learner.curve_.columns) == [
        "round", "n_labelled", "score", "seconds_fit", "seconds_query",
    ]  # fmt: skip
    assert (learner.curve_[["seconds_fit", "seconds_query"]] >= 0).all(axis=None)


def test_each_round_asks_what_the_estimator_of_that_round_asks(blobs):
    X, y = blobs
    options = {**OPTIONS, "n_rounds": 1, "initial": np.arange(0, 60, 2)}
    learner = ActiveLearner(logistic(), "margin", **options).simulate(X, y, X, y)
    first = np.arange(0, 60, 2)
    left = np.setdiff1d(np.arange(240), first)
    fitted = logistic().fit(X[first], y[first])
    expected = left[select(margin(fitted, X[left]), 7)]
    assert learner.rounds_[0]["asked"] == expected.tolist()
    assert learner.rounds_[0]["score"] == fitted.score(X, y)
    final = logistic().fit(X[learner.labelled_], y[learner.labelled_])
    np.testing.assert_allclose(learner.predict_proba(X), final.predict_proba(X), atol=1e-2)
    assert learner.score(X, y) == learner.rounds_[1]["score"]


def test_the_same_seed_gives_the_same_rounds(learner, blobs):
    again = clone(learner).simulate(*blobs)
    assert [r["asked"] for r in again.rounds_] == [r["asked"] for r in learner.rounds_]
    other = clone(learner).set_params(random_state=1).simulate(*blobs)
    assert set(other.first_) != set(learner.first_)


def test_estimators_without_a_seed_get_one(blobs):
    X, y = blobs
    network = TorchClassifier(posterior=PointEstimate(), max_epochs=1)
    runs = [ActiveLearner(network, "margin", **OPTIONS).simulate(X, y) for _ in range(2)]
    assert runs[0].rounds_[0]["asked"] == runs[1].rounds_[0]["asked"]
    assert runs[0].estimator_.random_state is not None and network.random_state is None


def test_a_pool_that_ends(blobs):
    X, y = blobs
    options = {**OPTIONS, "batch_size": 50}
    learner = ActiveLearner(logistic(), "random", **options).simulate(X[:70], y[:70], X, y)
    assert [r["n_labelled"] for r in learner.rounds_] == [10, 60, 70]
    assert learner.labelled_.all()


def test_first_rows_have_two_classes():
    X = np.arange(100.0)[:, None]
    y = (np.arange(100) == 99).astype(int)
    for seed in range(5):
        learner = ActiveLearner(logistic(), **{**OPTIONS, "random_state": seed, "n_rounds": 0})
        learner.simulate(X, y, X, y)
        assert set(y[learner.first_]) == {0, 1} and len(learner.first_) == 10


def test_regressors_and_scoring(regression):
    X, y = regression
    learner = ActiveLearner(
        make_pipeline(StandardScaler(), Ridge()), scoring="neg_mean_absolute_error", **OPTIONS
    ).simulate(X, y)
    assert is_regressor(learner) and all(r["score"] < 0 for r in learner.rounds_)
    assert is_classifier(ActiveLearner(logistic()))


def test_warm(blobs):
    X, y = blobs
    options = {"max_epochs": 30, "lr": 0.01, "random_state": 0}
    network = TorchClassifier(posterior=PointEstimate(), **options)
    cold, warm = (
        ActiveLearner(network, "random", retrain=retrain, **OPTIONS).simulate(X, y, X, y)
        for retrain in ("scratch", "warm")
    )
    losses = [learner.estimator_.history_[0]["train_loss"] for learner in (cold, warm)]
    assert losses[1] < 0.7 * losses[0]
    assert not network.warm_start
    with pytest.raises(ValueError, match="needs an estimator with warm_start"):
        ActiveLearner(Ridge(), "random", retrain="warm", **OPTIONS).simulate(X, y * 1.0)


def test_warm_begins_anew_with_a_new_class(blobs):
    X, y = blobs
    labels = np.where(y < 2, y, np.nan)
    network = TorchClassifier(posterior=PointEstimate(), max_epochs=2, random_state=0)
    learner = ActiveLearner(network, retrain="warm").fit(X, labels)
    place = int(np.flatnonzero(np.isnan(labels))[0])
    learner.teach([place], [2])
    np.testing.assert_array_equal(learner.classes_, [0, 1, 2])
    assert learner.estimator_.n_iter_ == 2


class Stops(Exception):
    pass


def test_an_interrupted_simulation_goes_on(blobs, tmp_path, monkeypatch):
    X, y = blobs
    options = {**OPTIONS, "checkpoint_dir": tmp_path / "folder"}
    expected = ActiveLearner(logistic(), "entropy", **OPTIONS).simulate(X, y)
    fits, fitted_on = [], rounds_module.fitted_on

    def counted(*arguments):
        if len(fits) == 2:
            raise Stops
        fits.append(1)
        return fitted_on(*arguments)

    monkeypatch.setattr(rounds_module, "fitted_on", counted)
    with pytest.raises(Stops):
        ActiveLearner(logistic(), "entropy", **options).simulate(X, y)
    fits[:] = [0, 0, 0]  # counts no more
    resumed = ActiveLearner(logistic(), "entropy", **options).simulate(X, y)
    assert len(fits) == 5  # two of four rounds were left
    finished = ActiveLearner(logistic(), "entropy", **options).simulate(X, y)
    for learner in (resumed, finished):
        assert [r["asked"] for r in learner.rounds_] == [r["asked"] for r in expected.rounds_]
        np.testing.assert_allclose(learner.predict_proba(X), expected.predict_proba(X))
    with pytest.raises(ValueError, match="another simulation"):
        ActiveLearner(logistic(), "margin", **options).simulate(X, y)
    with pytest.raises(ValueError, match="needs retrain='scratch'"):
        ActiveLearner(logistic(), retrain="warm", **options).simulate(X, y)


# -- with a person --------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [np.nan, -1, None], ids=str)
def test_ask_and_teach(blobs, missing):
    X, y = blobs
    labels = np.array(y, dtype=object if missing is None else float)
    labels[30:] = missing
    learner = ActiveLearner(logistic(), "margin", batch_size=4, missing_label=missing)
    learner.fit(X, labels)
    fitted = logistic().fit(X[:30], y[:30])
    np.testing.assert_array_equal(learner.predict(X), fitted.predict(X))
    asked = learner.ask()
    np.testing.assert_array_equal(asked, 30 + select(margin(fitted, X[30:]), 4))
    np.testing.assert_array_equal(asked, learner.ask())  # asking changes nothing
    learner.teach(asked[:3], y[asked[:3]])
    assert learner.labelled_.sum() == 33 and not learner.labelled_[asked[3]]
    known = learner.labelled_
    np.testing.assert_array_equal(learner.predict(X), logistic().fit(X[known], y[known]).predict(X))
    assert len(learner.ask(2)) == 2
    rest = np.flatnonzero(~learner.labelled_)
    learner.teach(rest, y[rest])
    assert len(learner.ask()) == 0 and learner.labelled_.all()


def test_labels_that_are_text_and_frames(blobs):
    X, y = blobs
    names = np.array(["cat", "dog", "elephant"])[y].astype(object)
    labels = pd.Series(np.where(np.arange(240) < 40, names, None))
    learner = ActiveLearner(logistic(), "margin", batch_size=3).fit(pd.DataFrame(X), labels)
    asked = learner.ask()
    learner.teach(asked, names[asked])
    assert set(learner.classes_) == {"cat", "dog", "elephant"} and learner.labelled_.sum() == 43


def test_labels_that_a_person_does_not_know(blobs):
    X, y = blobs
    labels = np.where(np.arange(240) < 40, y, np.nan)
    learner = ActiveLearner(logistic(), "margin", batch_size=3).fit(X, labels)
    asked = learner.ask()
    learner.teach(asked, [1.0, np.nan, 0.0])
    assert learner.labelled_.sum() == 42 and not learner.labelled_[asked[1]]
    with pytest.raises(ValueError, match="none of the labels is given"):
        learner.teach(learner.ask(1), [np.nan])


def test_saved_and_pickled(blobs, tmp_path):
    X, y = blobs
    labels = np.where(np.arange(240) < 40, y, np.nan)
    network = TorchClassifier(posterior=PointEstimate(), max_epochs=2, random_state=0)
    learner = ActiveLearner(network, "egl", batch_size=3, random_state=0).fit(X, labels)
    asked = learner.ask()
    expected = learner.predict_proba(X)
    skuq.save(learner, tmp_path / "file.skuq")
    for again in (skuq.load(tmp_path / "file.skuq"), pickle.loads(pickle.dumps(learner))):
        np.testing.assert_array_equal(again.ask(), asked)
        np.testing.assert_array_equal(again.predict_proba(X), expected)
        again.teach(asked, y[asked])
        assert again.labelled_.sum() == 43
    simulated = ActiveLearner(network, margin, **OPTIONS).simulate(X, y)
    skuq.save(simulated, tmp_path / "other.skuq")
    again = skuq.load(tmp_path / "other.skuq")
    assert again.rounds_ == simulated.rounds_ and again.strategy is margin


def test_it_predicts_like_its_estimator(blobs):
    X, y = blobs
    network = TorchClassifier(posterior=MCDropout(3), max_epochs=1, random_state=0)
    learner = ActiveLearner(network).fit(X, np.where(np.arange(240) < 40, y, np.nan))
    for kind in ("total", "epistemic"):
        expected = learner.estimator_.predict_uncertainty(X, kind=kind)
        np.testing.assert_array_equal(skuq.predict_uncertainty(learner, X, kind=kind), expected)
    assert not hasattr(ActiveLearner(logistic()), "predict_uncertainty")
    assert not hasattr(ActiveLearner(Ridge()), "predict_proba")


@pytest.mark.parametrize("dtype", ["string", "Int64", "category"])
def test_missing_values_of_pandas(blobs, dtype):
    X, y = blobs
    labels = pd.Series(y).astype("string") if dtype == "string" else pd.Series(y)
    labels = labels.astype(dtype).where(np.arange(240) < 40)
    learner = ActiveLearner(logistic(), "margin", batch_size=3).fit(X, labels)
    fitted = logistic().fit(X[:40], y[:40].astype(str) if dtype == "string" else y[:40])
    np.testing.assert_array_equal(learner.ask(), 40 + select(margin(fitted, X[40:]), 3))


def test_labels_of_another_type(blobs):
    X, y = blobs
    labels = np.where(np.arange(240) < 40, y, np.nan)
    learner = ActiveLearner(logistic()).fit(X, labels)
    with pytest.raises(ValueError, match="of another type than y"):
        learner.teach([50], ["cat"])
    mixed = np.where(np.arange(240) < 40, y, None)
    mixed[3] = "cat"
    with pytest.raises(ValueError, match="all text or all numbers"):
        ActiveLearner(logistic()).fit(X, mixed)
    learner.teach([50], [1])  # an integer is a float's equal
    assert learner.y_.dtype == float and learner.y_[50] == 1


def test_a_strategy_as_an_object(blobs):
    X, y = blobs
    strategy = QueryStrategy("margin", random_state=0)
    learner = ActiveLearner(logistic(), strategy, **OPTIONS).simulate(X, y)
    named = ActiveLearner(logistic(), "margin", **OPTIONS).simulate(X, y)
    assert learner.rounds_[0]["asked"] == named.rounds_[0]["asked"]


def test_refusals(blobs):
    X, y = blobs
    labels = np.where(np.arange(240) < 40, y, np.nan)

    def simulate(**options):
        return ActiveLearner(logistic(), **{**OPTIONS, **options}).simulate(X, y)

    for name, value in {
        "batch_size": 0, "n_rounds": -1, "initial": 0, "retrain": "cold", "strategy": "best",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=name):
            simulate(**{name: value})
    with pytest.raises(ValueError, match="leave none to ask for"):
        simulate(initial=180)
    with pytest.raises(ValueError, match="different places"):
        ActiveLearner(logistic(), initial=[1, 1]).simulate(X, y, X, y)
    with pytest.raises(ValueError, match="at least 2 classes"):
        ActiveLearner(logistic()).simulate(X, np.zeros(240, int), X, y)
    with pytest.raises(ValueError, match="needs all labels"):
        ActiveLearner(logistic()).simulate(X, labels)
    with pytest.raises(ValueError, match="both X_test and y_test"):
        ActiveLearner(logistic()).simulate(X, y, X)
    with pytest.raises(ValueError, match="expected equal"):
        ActiveLearner(logistic()).simulate(X, y[:5])
    with pytest.raises(ValueError, match="no row of y has a label"):
        ActiveLearner(logistic()).fit(X, np.full(240, np.nan))
    with pytest.raises(NotFittedError):
        ActiveLearner(logistic()).ask()
    learner = ActiveLearner(logistic(), batch_size=2).fit(X, labels)
    with pytest.raises(ValueError, match="without a label"):
        learner.teach([3], [0])
    with pytest.raises(ValueError, match="as many labels"):
        learner.teach([50, 51], [0])
    with pytest.raises(ValueError, match="from 0 to 239"):
        learner.teach([240], [0])
    with pytest.raises(ValueError, match="simulate knows all labels"):
        simulate(n_rounds=0).ask()


CHECKED = [ActiveLearner(LogisticRegression()), ActiveLearner(Ridge())]


@pytest.mark.parametrize("estimator", CHECKED, ids=["classifier", "regressor"])
def test_checks_of_scikit_learn(estimator):
    for checked, check in estimator_checks_generator(estimator):
        check(checked)


def test_a_bar_shows_the_rounds(blobs, capsys):
    pytest.importorskip("tqdm")
    ActiveLearner(logistic(), verbose=1, **OPTIONS).simulate(*blobs)
    shown = capsys.readouterr().err
    assert "rounds: 100%" in shown and "4/4" in shown and "score=" in shown
