"""What is seen while networks are trained: bars, tables, scikit-learn's callbacks."""

import builtins
import sys

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import auto

from skuq import TorchClassifier, TorchRegressor
from skuq.calibration import TemperatureScaler, VarianceScaler
from skuq.posteriors import DeepEnsemble, PointEstimate

# Of few rows and epochs, what is calibrated here is beside the point.
pytestmark = pytest.mark.filterwarnings("ignore:the temperature, T = ")


@pytest.fixture
def sklearn_callback():
    return pytest.importorskip("sklearn.callback", reason="scikit-learn 1.9")


@pytest.fixture
def data():
    random = np.random.default_rng(0)
    X = random.normal(size=(90, 3)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int)


@pytest.fixture
def bars(monkeypatch):
    """The bars that were made: their name, what they count, and how far they came."""
    made = []

    class Recorded(auto.tqdm):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr(auto, "tqdm", Recorded)
    return made


def classifier(**options):
    one_network = {"posterior": PointEstimate(), "max_epochs": 3, "random_state": 0}
    return TorchClassifier(**{**one_network, **options})


class Recorder:
    """A callback of scikit-learn's that goes into Pipelines and searches."""

    max_propagation_depth = None

    def __init__(self):
        self.tasks = []

    def setup(self, estimator, context):
        self.tasks.append("setup")

    def on_fit_task_begin(self, estimator, context):
        self.tasks.append(("begin", type(estimator).__name__, context.task_name))

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        self.tasks.append(("end", type(estimator).__name__, context.task_name))

    def teardown(self, estimator, context):
        self.tasks.append("teardown")

    def count(self, *task):
        return self.tasks.count(task)


@pytest.mark.parametrize("n_jobs", [None, 1, 2])
def test_bars_count_networks_and_epochs(bars, data, n_jobs, capsys):
    classifier(posterior=DeepEnsemble(4, n_jobs=n_jobs), verbose=1).fit(*data)
    assert (bars[0].desc, bars[0].unit, bars[0].n, bars[0].total) == ("fit", "network", 4, 4)
    epochs = [(bar.desc, bar.n, bar.total, bar.leave) for bar in bars[1:]]
    assert epochs == ([("network", 3, 3, False)] * 4 if n_jobs is None else [])
    assert all(bar.disable for bar in bars)  # closed
    captured = capsys.readouterr()
    assert not captured.out
    assert "4/4" in captured.err


def test_one_network_has_one_bar_with_its_losses(bars, data):
    classifier(verbose=1, early_stopping=True).fit(*data)
    (bar,) = bars
    assert (bar.desc, bar.n, bar.leave) == ("network", 3, True)
    assert "train_loss" in bar.postfix
    assert "valid_loss" in bar.postfix


def test_bars_are_closed_when_training_fails(bars, data):
    X, y = data
    with pytest.raises(Exception, match="diverged"):
        classifier(posterior=DeepEnsemble(2), lr=1e30, max_epochs=20, verbose=1).fit(X * 1e18, y)
    assert bars
    assert all(bar.disable for bar in bars)


def test_bars_change_no_weight(bars, data, sklearn_callback):
    silent, seen = classifier(early_stopping=True), classifier(early_stopping=True, verbose=1)
    monitored = classifier(early_stopping=True).set_callbacks(
        sklearn_callback.ScoringMonitor(scoring="neg_log_loss")
    )
    expected = silent.fit(*data).predict_proba(data[0])
    np.testing.assert_array_equal(seen.fit(*data).predict_proba(data[0]), expected)
    np.testing.assert_array_equal(monitored.fit(*data).predict_proba(data[0]), expected)


def test_nobody_asked(bars, data, capsys):
    fitted = classifier(posterior=DeepEnsemble(2)).fit(*data)
    fitted.predict(data[0])
    TemperatureScaler(classifier(), cv=2).fit(*data)
    assert not bars
    assert capsys.readouterr() == ("", "")


def test_long_predictions_have_a_bar(bars, data):
    fitted = classifier(posterior=PointEstimate()).fit(*data).set_params(verbose=1)
    fitted._engine.n_rows = 16
    fitted.predict(data[0])
    assert [(bar.desc, bar.n, bar.delay) for bar in bars] == [("predict", 6, 1)]


def test_without_tqdm_there_are_no_bars(data, monkeypatch, capsys):
    real_import = builtins.__import__

    def no_tqdm(name, *args, **options):
        if name.startswith("tqdm"):
            raise ImportError(name)
        return real_import(name, *args, **options)

    for name in [name for name in sys.modules if name.startswith("tqdm")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", no_tqdm)
    classifier(posterior=DeepEnsemble(2), verbose=1).fit(*data).predict(data[0])
    TemperatureScaler(classifier(), cv=2, verbose=1).fit(*data)
    assert capsys.readouterr() == ("", "")


def test_tables_have_headings(bars, data, capsys):
    classifier(posterior=DeepEnsemble(2), verbose=2).fit(*data)
    out = capsys.readouterr().out
    assert out.index("network 1 of 2") < out.index("train_loss") < out.index("network 2 of 2")
    assert out.count("train_loss") == 2
    classifier(verbose=2).fit(*data)
    assert "network" not in capsys.readouterr().out
    assert not bars


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_calibrator_counts_its_fits(bars, data, n_jobs):
    TemperatureScaler(classifier(), cv=4, n_jobs=n_jobs, verbose=1).fit(*data)
    assert [(bar.unit, bar.n, bar.total) for bar in bars] == [("fit", 5, 5)]


@pytest.mark.parametrize("stacked", [True, False])
def test_the_tree_of_tasks(data, sklearn_callback, stacked, monkeypatch):
    monkeypatch.setattr("skuq._training._trainer.may_stack", lambda module, settings: stacked)
    recorder = Recorder()
    fitted = classifier(posterior=DeepEnsemble(2)).set_callbacks(recorder).fit(*data)
    begin, end = ([(event, "TorchClassifier", task) for task in ("fit", "network", "epoch")]
                  for event in ("begin", "end"))  # fmt: skip
    if stacked:  # two networks side by side
        epochs = [begin[2], begin[2], end[2], end[2]] * 3
        networks = [begin[1], begin[1], *epochs, end[1], end[1]]
    else:
        networks = [begin[1], *[begin[2], end[2]] * 3, end[1]] * 2
    expected = [begin[0], *networks, end[0]]
    assert recorder.tasks == ["setup", *expected, "teardown"]
    assert not hasattr(fitted, "_callback_fit_ctx")


def test_callbacks_are_torn_down_when_fit_fails(data, sklearn_callback):
    recorder = Recorder()
    with pytest.raises(ValueError, match="NaN"):
        classifier().set_callbacks(recorder).fit(np.full_like(data[0], np.nan), data[1])
    assert recorder.tasks in ([], ["setup", "teardown"])
    with pytest.raises(Exception, match="diverged"):
        classifier(lr=1e30).set_callbacks(recorder).fit(data[0] * 1e18, data[1])
    assert recorder.tasks[-1] == "teardown"


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_callbacks_reach_into_a_pipeline_and_a_search(data, n_jobs, sklearn_callback):
    monitor = sklearn_callback.ScoringMonitor(scoring="accuracy")
    pipeline = make_pipeline(StandardScaler(), classifier().set_callbacks(monitor))
    search = GridSearchCV(pipeline, {"torchclassifier__lr": [1e-3, 1e-2]}, cv=2, n_jobs=n_jobs)
    search.fit(*data)
    rows = monitor.get_logs(select="all")
    scored = [row for log in rows for row in log.data if row["task_name"] == "epoch"]
    assert len(scored) == 5 * 3  # four fits and the refit
    assert all(0 <= row["accuracy"] <= 1 for row in scored)


def test_a_propagated_callback_sees_all_storeys(data, sklearn_callback):
    recorder = Recorder()
    make_pipeline(StandardScaler(), classifier()).set_callbacks(recorder).fit(*data)
    assert recorder.count("begin", "TorchClassifier", "epoch") == 3
    assert recorder.count("begin", "Pipeline", "fit") == 1


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_calibrator_hands_callbacks_on(data, n_jobs, sklearn_callback):
    recorder = Recorder()
    scaler = TemperatureScaler(classifier(), cv=2, n_jobs=n_jobs).set_callbacks(recorder)
    scaler.fit(*data)
    assert recorder.count("end", "TemperatureScaler", "fit") == 1
    # Three fits; those in other processes are counted, but their epochs are not told.
    assert recorder.count("begin", "TorchClassifier", "epoch") == (9 if n_jobs is None else 3)
    assert not hasattr(scaler.estimator_, "_parent_callback_ctx")


def test_a_monitor_scores_what_fit_would_give_if_it_stopped(data, sklearn_callback):
    X, y = data
    monitor = sklearn_callback.ScoringMonitor(scoring="neg_log_loss")
    fitted = classifier(posterior=PointEstimate()).set_callbacks(monitor).fit(X, y)
    rows = {tuple(row["task_id_path"]): row["neg_log_loss"] for row in monitor.get_logs().data}
    for epoch in range(3):
        stopped = classifier(posterior=PointEstimate(), max_epochs=epoch + 1).fit(X, y)
        loss = np.log(stopped.predict_proba(X))[np.arange(len(y)), y].mean()
        assert rows[0, 0, epoch] == pytest.approx(loss, rel=1e-5)
    assert rows[0,] == rows[0, 0] == rows[0, 0, 2]
    assert fitted.n_iter_ == 3


@pytest.mark.parametrize("weighted", [False, True])
def test_a_monitor_of_a_regressor_with_learnt_noise(data, weighted, sklearn_callback):
    X, _ = data
    monitor = sklearn_callback.ScoringMonitor(scoring="r2")
    weight = {"sample_weight": np.linspace(0.5, 1.5, len(X))} if weighted else {}
    regressor = TorchRegressor(max_epochs=2, random_state=0).set_callbacks(monitor)
    regressor.fit(X, X[:, 0], **weight)
    final = regressor.score(X, X[:, 0], **weight)
    assert monitor.get_logs().data[0]["r2"] == pytest.approx(final)
    VarianceScaler(regressor.set_callbacks(), cv=2).fit(X, X[:, 0])


def test_a_callback_may_stop_training(data, sklearn_callback):
    class Stop(Recorder):
        def on_fit_task_end(self, estimator, context):
            return context.task_name == "epoch" and context.task_id == 1

    fitted = classifier(posterior=DeepEnsemble(2), max_epochs=9).set_callbacks(Stop()).fit(*data)
    assert [len(history) for history in fitted.histories_] == [2, 2]
