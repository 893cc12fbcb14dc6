"""Who is refused, by class and by group, and the certificate on new rows."""

import numpy as np
import pytest
from scipy import stats
from sklearn.frozen import FrozenEstimator

import skuq
from skuq.metrics import coverage_at_risk
from skuq.selective import SelectiveClassifier, SelectiveRegressor
from skuq.selective._refusals import refusals
from tests.selective.helpers import MeanAndVariance, Outputs, outputs


def test_counts_and_rates_by_hand():
    accepted = np.array([1, 1, 0, 1, 0, 0], dtype=bool)
    losses = np.array([0, 1, 1, 0, 0, 1.0])
    found = refusals(accepted, losses, list("aabbcc"), [1, 2, 1, 2, 1, 2], 0.9)
    assert found.overall[:3] == (6, 3, 0.5) and found.overall[5:] == (1 / 3, 0.5)
    low, high = stats.binomtest(3, 6).proportion_ci(0.9, method="exact")
    assert found.overall[3:5] == pytest.approx((low, high))
    assert {name: rates.refused for name, rates in found.by_class.items()} == {
        "a": 0, "b": 0.5, "c": 1,
    }  # fmt: skip
    assert found.by_class["a"].refused_low == 0 and found.by_class["c"].refused_high == 1
    assert np.isnan(found.by_class["c"].risk) and found.by_class["c"].risk_of_all == 0.5
    assert found.by_group[1].n_accepted == 1 and found.by_group[2].risk == 0.5
    assert refusals(accepted, losses, None, None, 0.9)[1:] == ({}, {})
    with pytest.raises(ValueError, match="groups contains NaN"):
        refusals(accepted, losses, None, [0, 1, np.nan, 0, 1, 0], 0.9)


def test_a_frame_and_a_text():
    found = refusals(np.array([True, False]), np.zeros(2), ["a", "b"], None, 0.95)
    frame = found.frame()
    assert frame["kind"].tolist() == ["all", "class", "class"]
    assert frame["refused"].tolist() == [0.5, 0, 1]
    lines = str(found).splitlines()
    assert len(lines) == 4 and lines[2].split()[:4] == ["class", "a", "1", "0.0%"]


def test_a_report_finds_the_class_that_is_refused():
    """Rows of class 2 have less certain probabilities."""
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 900)
    X = 0.95 * np.eye(3)[y] + 0.05 / 3
    X[y == 2] = 0.5 * np.eye(3)[2] + 0.5 / 3
    frozen = FrozenEstimator(Outputs().fit(X, y))
    selective = SelectiveClassifier(frozen, coverage=0.6).fit(X, y)
    found = selective.report(X, y, groups=np.where(y == 2, "far", "near"))
    assert found.by_class[2].refused == found.by_group["far"].refused == 1
    assert found.by_class[0].refused == found.by_class[1].refused == 0
    page = skuq.report(selective.set_params(reject_label=-1), X, y)
    assert page.metrics["accuracy"] == 1  # of the labels before refusals
    assert "Who is refused" in page.html and "<td>class 2</td>" in page.html


def test_reports_of_regressors():
    random = np.random.default_rng(0)
    X = np.column_stack([random.normal(size=200), random.uniform(0.1, 1, 200)])
    y = X[:, 0] + random.normal(size=200)
    frozen = FrozenEstimator(MeanAndVariance().fit(X, y))
    selective = SelectiveRegressor(frozen, coverage=0.5).fit(X, y)
    found = selective.report(X, y, groups=X[:, 0] > 0)
    assert found.by_class == {} and set(found.by_group) == {False, True}
    assert "Who is refused" in skuq.report(selective, X, y).html


@pytest.mark.parametrize(
    ("method", "n_starts"), [("fixed_sequence", 2), pytest.param("sgr", 1, marks=pytest.mark.slow)]
)
def test_the_certificate_holds_on_rows_of_known_probabilities(method, n_starts):
    """Of 1,000 calibration sets at most 10 % exceed the target; the risk is that of 20,000 rows."""
    random, n_sets, delta, target = np.random.default_rng(1), 1000, 0.1, 0.05
    proba, _ = outputs(20_000, seed=2)
    scores, predicted = stats.entropy(proba, axis=1), proba.argmax(1)
    order = np.argsort(scores)
    # The true risk below each threshold, from the probabilities themselves.
    risk = (1 - proba.max(1))[order].cumsum() / np.arange(1, 20_001)
    exceeded, kept = 0, 0.0
    for _ in range(n_sets):
        rows = random.integers(0, 20_000, 500)
        y = (proba[rows].cumsum(1) < random.random((500, 1))).sum(1).clip(max=2)
        found = coverage_at_risk(
            y, predicted[rows], scores[rows],
            risk=target, delta=delta, method=method, n_starts=n_starts,
        )  # fmt: skip
        n_below = np.searchsorted(scores[order], found.threshold, side="right")
        exceeded += n_below > 0 and risk[n_below - 1] > target
        kept += found.coverage / n_sets
    assert kept > 0.4
    assert exceeded / n_sets <= delta + 3 * np.sqrt(delta * (1 - delta) / n_sets)
