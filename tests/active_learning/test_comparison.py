"""Comparisons: paired tests, Holm, tables, pictures."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skuq.active_learning import ActiveLearner, QueryComparison, compare_queries, margin
from skuq.active_learning._comparison import holm

N = [10, 20, 40]
SCORES = {
    "random": np.array([[0.5, 0.6, 0.7], [0.4, 0.6, 0.8], [0.5, 0.5, 0.7]]),
    "better": np.array([[0.6, 0.7, 0.8], [0.5, 0.7, 0.91], [0.6, 0.62, 0.8]]),
    "worse": np.array([[0.4, 0.5, 0.6], [0.3, 0.45, 0.7], [0.4, 0.4, 0.6]]),
}


@pytest.fixture
def comparison():
    return QueryComparison(N, SCORES)


def test_areas_and_tests(comparison):
    expected = np.trapezoid(SCORES["better"], N, axis=1) / 30
    np.testing.assert_allclose(comparison.areas["better"], expected)
    areas = comparison.areas
    p = comparison.test()
    assert set(p) == {"better", "worse"}
    for name, value in p.items():
        result = stats.ttest_rel(areas[name], areas["random"], alternative="greater")
        assert value == pytest.approx(result.pvalue)
    less = comparison.test(alternative="less")
    assert less["worse"] == pytest.approx(1 - p["worse"])
    with pytest.raises(ValueError, match="alternative"):
        comparison.test(alternative="two-sided")


def test_holm():
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03})
    assert found == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_summary(comparison):
    frame = comparison.summary()
    assert frame.loc["better", "verdict"] == "better" and frame.loc["worse", "verdict"] == "worse"
    assert frame.loc["random", "verdict"] == "" and np.isnan(frame.loc["random", "p_better"])
    apart = comparison.areas["better"] - comparison.areas["random"]
    assert frame.loc["better", "difference"] == pytest.approx(apart.mean())
    assert frame.loc["better", "standard_error"] == pytest.approx(apart.std(ddof=1) / np.sqrt(3))
    strict = comparison.summary(level=1e-9)
    assert (strict["verdict"] == "").all()


def test_table(comparison):
    frame = comparison.table([20])
    assert frame.loc["better", (20, "mean")] == pytest.approx(SCORES["better"][:, 1].mean())
    assert frame.loc["worse", (20, "std")] == pytest.approx(SCORES["worse"][:, 1].std(ddof=1))
    result = stats.ttest_rel(SCORES["better"][:, 1], SCORES["random"][:, 1], alternative="greater")
    assert frame.loc["better", (20, "p")] == pytest.approx(result.pvalue)
    assert comparison.table().shape == (3, 9) and len(comparison.frame()) == 27
    with pytest.raises(ValueError, match="n_labelled must be"):
        comparison.table([11])


def test_differences_without_variance_and_one_seed():
    same = QueryComparison([1, 2], {"random": [[0, 0]] * 2, "a": [[0, 0]] * 2, "b": [[1, 1]] * 2})
    assert same.test() == {"a": 1.0, "b": 0.0}
    one = QueryComparison([1], {"random": [[0.0]], "a": [[1.0]]})
    assert np.isnan(one.test()["a"]) and one.areas["a"] == [1.0]
    assert (one.summary()["verdict"] == "").all()


def test_picture(comparison):
    display = comparison.plot(["random", "better"], score_name="accuracy")
    (grey, line) = display.lines_
    np.testing.assert_allclose(line.get_ydata(), SCORES["better"].mean(axis=0))
    assert line.get_label() == "better" and grey.get_color() == "0.55"
    assert display.ax_.get_ylabel() == "accuracy" and len(display.ax_.collections) == 2
    band = display.ax_.collections[1]
    error = SCORES["better"][:, 0].std(ddof=1) / np.sqrt(3)
    corners = band.get_paths()[0].vertices
    lowest = corners[corners[:, 0] == 10, 1].min()
    assert lowest == pytest.approx(SCORES["better"][:, 0].mean() - error)
    again = comparison.plot(ax=display.ax_)
    assert again.figure_ is display.figure_
    plt.close("all")
    with pytest.raises(ValueError, match="no strategy"):
        comparison.plot(["best"])


def test_compare(blobs, tmp_path):
    X, y = blobs
    estimator = make_pipeline(StandardScaler(), LogisticRegression())
    options = {"n_seeds": 2, "batch_size": 6, "n_rounds": 2, "initial": 8, "random_state": 0}
    found = compare_queries(estimator, {"m": margin, "entropy": "entropy"}, X, y, **options)
    assert list(found.scores) == ["m", "entropy", "random"]
    np.testing.assert_array_equal(found.n_labelled, [8, 14, 20])
    first = {values[0, 0] for values in found.scores.values()}
    assert len(first) == 1  # the same split and first rows for all
    assert found.scores["m"][0, 0] != found.scores["m"][1, 0]
    seed = int(np.random.RandomState(0).randint(2**31 - 1, size=2)[1])
    learner = ActiveLearner(
        estimator, "entropy", batch_size=6, n_rounds=2, initial=8, random_state=seed
    )
    rounds = learner.simulate(X, y).rounds_
    np.testing.assert_array_equal(found.scores["entropy"][1], [r["score"] for r in rounds])
    again = compare_queries(
        estimator, ["margin"], X, y, reference="margin", checkpoint_dir=tmp_path, **options
    )
    np.testing.assert_array_equal(again.scores["margin"], found.scores["m"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["margin_0", "margin_1"]


def test_refusals(blobs):
    with pytest.raises(ValueError, match="a list of names"):
        compare_queries(LogisticRegression(), "margin", *blobs)
    with pytest.raises(ValueError, match="n_seeds"):
        compare_queries(LogisticRegression(), ["margin"], *blobs, n_seeds=0)
    with pytest.raises(ValueError, match="is none of the strategies"):
        QueryComparison(N, SCORES, reference="chance")
    with pytest.raises(ValueError, match="same shape"):
        QueryComparison(N, {"random": [[1, 2, 3]], "a": [[1, 2]]})
    with pytest.raises(ValueError, match="expected 2 rounds"):
        QueryComparison([1, 2], SCORES)
