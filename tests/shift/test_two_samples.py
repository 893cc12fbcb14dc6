"""shift_test: statistics by hand, its level without a shift, its power with one."""

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skuq import TorchClassifier, TorchRegressor
from skuq.posteriors import DeepEnsemble, PointEstimate
from skuq.shift import corrupt, shift_test
from skuq.shift._test import classifier_test, kolmogorov_smirnov_test
from tests.selective.helpers import Outputs, outputs

N_SETS = 200


@pytest.fixture(scope="module")
def data():
    X, y = load_digits(return_X_y=True)
    return X / 16, y


@pytest.fixture(scope="module")
def network(data):
    X, y = data
    options = {"posterior": PointEstimate(), "max_epochs": 20, "lr": 0.01, "random_state": 0}
    return TorchClassifier(**options).fit(X[:600], y[:600])


@pytest.mark.parametrize("ties", [False, True])
def test_the_distance_of_kolmogorov_and_smirnov(ties):
    random = np.random.default_rng(0)
    old, new = random.normal(size=120), random.normal(0.4, 1, 90)
    if ties:
        old, new = old.round(), new.round()
    distance, p_value = kolmogorov_smirnov_test(old, new, 999, 0)
    expected = stats.ks_2samp(old, new)
    assert distance == pytest.approx(expected.statistic)
    if not ties:
        assert p_value == pytest.approx(expected.pvalue, abs=0.03)


def test_p_values_count_the_statistic_itself():
    apart = (np.zeros((20, 1)), np.ones((20, 1)))
    assert classifier_test(*apart, 99, 1) == (1.0, 0.01)
    assert kolmogorov_smirnov_test(apart[0][:, 0], apart[1][:, 0], 99, 1) == (1.0, 0.01)
    assert kolmogorov_smirnov_test(np.ones(5), np.ones(5), 99, 0) == (0.0, 1.0)
    assert classifier_test(np.ones((8, 2)), np.ones((8, 2)), 99, 0) == (0.5, 1.0)


def test_the_level_is_held_without_a_shift():
    """In 200 pairs of sets from one source; twice the smaller p-value is the one to look at."""
    random = np.random.default_rng(0)
    found = []
    for seed in range(N_SETS):
        rows = random.exponential(size=(80, 3)) @ np.triu(np.ones((3, 3)))
        scores = (random.normal(size=80) * 2).round()  # with ties
        auroc_p = classifier_test(rows[:45], rows[45:], 59, seed)[1]
        ks_p = kolmogorov_smirnov_test(scores[:45], scores[45:], 59, seed)[1]
        found.append((auroc_p, ks_p, 2 * min(auroc_p, ks_p)))
    for level in (0.05, 0.2):
        shares = (np.array(found) <= level).mean(axis=0)
        assert (shares <= level + 3 * np.sqrt(level * (1 - level) / N_SETS)).all()
    assert 0.4 < np.mean(found, axis=0)[0] < 0.6  # no lower, and not by being idle


@pytest.mark.slow
def test_the_level_of_the_whole_test(network, data):
    """Halves of rows that trained nothing, 40 times."""
    X = data[0][600:]
    random, found = np.random.default_rng(1), []
    for seed in range(40):
        old, new = np.array_split(random.permutation(len(X))[:200], 2)
        result = shift_test(network, X[old], X[new], n_permutations=99, random_state=seed)
        found.append(result.p_value)
    assert np.mean(np.array(found) <= 0.1) <= 0.1 + 3 * np.sqrt(0.09 / 40)


@pytest.mark.parametrize("corruption", ["gaussian_noise", "rotation", "contrast"])
def test_shifts_are_found(network, data, corruption):
    X = data[0]
    changed = corrupt(X[1200:], corruption, 4, image_shape=(8, 8))
    found = shift_test(network, X[600:1200], changed, n_permutations=199)
    assert found.p_value == 2 * min(found.auroc_p_value, found.ks_p_value) <= 0.02
    assert found.auroc > 0.6 and found.ks > 0.1
    assert found == shift_test(network, X[600:1200], changed, n_permutations=199)


def test_features_of_ensembles_pipelines_and_other_estimators(data, diabetes):
    X, y = data
    options = {"max_epochs": 2, "random_state": 0}
    pipeline = make_pipeline(
        StandardScaler(), TorchClassifier(posterior=DeepEnsemble(2), **options)
    )
    pipeline.fit(X[:300], y[:300])
    other = LogisticRegression(max_iter=200).fit(X[:300], y[:300])
    regressor = TorchRegressor(posterior=PointEstimate(), **options).fit(X[:300], y[:300])
    for estimator in (pipeline, other, regressor):
        found = shift_test(estimator, X[300:500], X[500:700] + 1, n_permutations=99)
        assert found.auroc > 0.9 and found.p_value <= 0.02
    own = shift_test(other, X[300:500], X[500:700], features=lambda X: X[:, :3] * 0)
    assert own.auroc == 0.5 and own.auroc_p_value == 1


def test_bad_input(network, data):
    X = data[0]
    with pytest.raises(ValueError, match="at least 4 rows of each kind are needed, got 3 and 50"):
        shift_test(network, X[600:603], X[700:750])
    with pytest.raises(ValueError, match="n_permutations must be"):
        shift_test(network, X[600:650], X[700:750], n_permutations=0)
    with pytest.warns(UserWarning, match=r"100% of the rows that are to stand for the old world"):
        shift_test(network, X[:100], X[700:800], n_permutations=9)
    proba, y = outputs(60)
    found = shift_test(Outputs().fit(proba, y), proba[:30], proba[30:], n_permutations=49)
    assert 0 < found.p_value <= 1


def test_features_that_are_no_table_of_numbers(network, data):
    X = data[0]
    for features in (lambda X: X[:, 0], lambda X: X[:5]):
        with pytest.raises(ValueError, match=r"features must give .* \(n_samples, n_features\)"):
            shift_test(network, X[600:700], X[700:800], features=features)
    with pytest.raises(ValueError, match="n_permutations must be an integer"):
        shift_test(network, X[600:700], X[700:800], n_permutations=1.5)
