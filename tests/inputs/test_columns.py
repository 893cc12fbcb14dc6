"""Scales by name, categorical columns, soft and uncertain labels."""

import numpy as np
import pytest

from skuq import Inputs, TorchClassifier, TorchRegressor
from skuq.inputs import InputNoise
from skuq.inputs._scale import given_scale
from skuq.likelihoods import Bernoulli, Categorical
from skuq.posteriors import PointEstimate

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 3))
Y = X @ [1.0, -2.0, 0.5]


def network(kind=TorchRegressor, **options):
    return kind(posterior=PointEstimate(), max_epochs=2, random_state=0, **options)


@pytest.fixture
def frame():
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(X, columns=["a", "b", "c"])


def test_scales_by_name(frame):
    """Names, not places, say which feature is meant."""
    pandas = pytest.importorskip("pandas")
    named = {"c": 0.3, "a": 0.1, "b": 0.2}
    for scale in (named, pandas.Series(named)):
        assert np.array_equal(given_scale(scale, frame), [0.1, 0.2, 0.3])
    matrix = np.diag([1.0, 2.0, 3.0]) + 0.1 * np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0]])
    names = ["a", "b", "c"]
    given = pandas.DataFrame(matrix, index=names, columns=names).loc[["c", "a", "b"]]
    assert np.array_equal(given_scale(given[["b", "c", "a"]], frame), matrix)
    assert np.array_equal(given_scale(pandas.Series([0.1, 0.2, 0.3]), frame), [0.1, 0.2, 0.3])
    assert InputNoise(network(), scale=named).fit(frame, Y).scale_.tolist() == [0.1, 0.2, 0.3]
    for wrong in ({"a": 0.1}, pandas.Series({**named, "d": 0.1}), given.rename(columns={"a": "z"})):
        with pytest.raises(ValueError, match=r"scale has the names .* expected those"):
            given_scale(wrong, frame)
    with pytest.raises(ValueError, match="which has none"):
        given_scale(named, X)


def test_categories_have_no_error_and_columns_keep_theirs(frame):
    """A network's rows have the categories last, wherever their columns are."""
    found = []
    for place, scale in ((3, [0.3, 0.1, 0.1, 0.0]), (0, [0.0, 0.3, 0.1, 0.1])):
        mixed = frame.copy()
        mixed.insert(place, "kind", ["u", "v"] * 30)
        noisy = InputNoise(network(), scale=scale, method="monte_carlo").fit(mixed, Y)
        found.append(noisy.predict_uncertainty(mixed, kind="nested").input)
    np.testing.assert_allclose(found[0], found[1], rtol=0.05)  # other copies, since 4 vectors turn
    same = InputNoise(network(), scale=0.2, method="monte_carlo").fit(mixed, Y)
    assert same.scale_.tolist() == [0.0, 0.2, 0.2, 0.2]
    with pytest.raises(ValueError, match=r"0.1 for a categorical column.* columns \[0\]"):
        InputNoise(network(), scale=[0.1] * 4, method="monte_carlo").fit(mixed, Y)


def test_several_inputs_are_refused():
    with pytest.raises(TypeError, match="got several inputs"):
        InputNoise(network(), scale=0.1).fit(Inputs(a=X, b=X), Y)


def test_soft_labels_of_zero_and_one_are_no_indicators():
    """Probabilities that happen to be certain are still those of classes."""
    shares = np.eye(3)[RANDOM.integers(0, 3, 60)]
    soft = network(TorchClassifier, likelihood=Categorical(soft_labels=True))
    noisy = InputNoise(soft, scale=0.1).fit(X, shares)
    np.testing.assert_allclose(noisy.predict_proba(X).sum(1), 1, atol=1e-6)
    assert noisy.classes_.tolist() == [0, 1, 2] and noisy.predict(X).shape == (60,)


def test_uncertain_labels_are_indicators():
    labels = (X[:, :2] > 0).astype(float)
    labels[RANDOM.random(labels.shape) < 0.2] = np.nan
    several = network(TorchClassifier, likelihood=Bernoulli(uncertain_label="ignore"))
    noisy = InputNoise(several, scale=0.0).fit(X, labels)
    expected = noisy.estimator_.predict_proba(X)
    np.testing.assert_allclose(noisy.predict_proba(X), expected, atol=1e-6)
