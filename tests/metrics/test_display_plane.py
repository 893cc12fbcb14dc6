"""The penultimate layer in the plane through three weights: its geometry is exact."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skuq import TorchClassifier, TorchRegressor, predict_features
from skuq.calibration import TemperatureScaler
from skuq.likelihoods import Bernoulli, UncertaintyAware
from skuq.metrics import ClassPlaneDisplay
from skuq.posteriors import DeepEnsemble, PointEstimate


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


@pytest.fixture
def layer():
    """Features, weights and biases of five classes."""
    random = np.random.default_rng(0)
    return random.normal(size=(200, 7)), random.normal(size=(5, 7)), random.normal(size=5)


def test_differences_of_logits_are_in_the_plane(layer):
    features, weight, bias = layer
    chosen = [3, 0, 4]
    labels = np.resize(chosen, 200)
    display = ClassPlaneDisplay.from_predictions(labels, features, weight, bias, classes=chosen)
    logits = features @ weight[chosen].T + bias[chosen]
    flat = display.coordinates @ display.weights.T + display.bias
    np.testing.assert_allclose(np.ptp(logits - flat, axis=1), 0, atol=1e-12)
    at_meeting = display.weights @ display.meeting + display.bias
    np.testing.assert_allclose(np.ptp(at_meeting), 0, atol=1e-12)


def test_along_a_border_two_classes_are_equal_and_the_third_is_smaller(layer):
    features, weight, bias = layer
    display = ClassPlaneDisplay.from_predictions(np.zeros(200, int), features, weight, bias)
    for border, (a, b, other) in zip(display.borders, ((0, 1, 2), (0, 2, 1), (1, 2, 0))):
        logits = display.weights @ (display.meeting + 3 * border) + display.bias
        assert logits[a] == pytest.approx(logits[b])
        assert logits[other] < logits[a]
        assert np.linalg.norm(border) == pytest.approx(1)


def test_orientation(layer):
    """The first class is straight above the mean of the weights, the second to its right."""
    features, weight, _ = layer
    display = ClassPlaneDisplay.from_predictions(np.zeros(200, int), features, weight)
    first, second, _ = display.weights - display.weights.mean(0)
    assert first == pytest.approx([0, np.linalg.norm(first)], abs=1e-12)
    assert second[0] > 0
    distances = np.linalg.norm(weight[:3] - weight[:3][[1, 2, 0]], axis=1)
    flat = np.linalg.norm(display.weights - display.weights[[1, 2, 0]], axis=1)
    np.testing.assert_allclose(flat, distances)


def test_rows_of_other_classes_are_left_out(layer):
    features, weight, _ = layer
    names = np.array(["a", "b", "c", "d", "e"])
    labels = np.resize(names, 200)
    display = ClassPlaneDisplay.from_predictions(
        labels, features, weight, class_names=names, classes=["e", "a", "c"], name="net", s=3
    )
    assert set(display.labels) == {"a", "c", "e"} and len(display.coordinates) == 120
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["e", "a", "c"]
    assert display.ax_.get_title(loc="right") == "net"
    assert display.ax_.collections[0].get_sizes().tolist() == [3]


@pytest.fixture(scope="module")
def fitted(blobs):
    X, y = blobs
    y = np.array(["a", "b", "c"])[y]
    network = TorchClassifier(
        posterior=DeepEnsemble(2), module__hidden_layer_sizes=(6,), max_epochs=4, lr=0.01,
        random_state=0,
    )  # fmt: skip
    return make_pipeline(StandardScaler(), network).fit(X, y), X, y


def test_borders_of_an_estimator_separate_its_predictions(fitted):
    """Of three classes, the largest logit is the prediction of that network."""
    pipeline, X, y = fitted
    for number in (0, 1):
        display = ClassPlaneDisplay.from_estimator(pipeline, X, y, network=number)
        np.testing.assert_array_equal(display.labels, y)
        flat = display.coordinates @ display.weights.T + display.bias
        draws = pipeline[-1].predict_draws(pipeline[:-1].transform(X))[number]
        np.testing.assert_array_equal(flat.argmax(1), draws.argmax(1))
    same = ClassPlaneDisplay.from_predictions(
        y, predict_features(pipeline, X)[1], _weight(pipeline), class_names=["a", "b", "c"]
    )
    np.testing.assert_allclose(same.coordinates, display.coordinates, atol=1e-5)


def _weight(pipeline):
    network = pipeline[-1]._engine.draws.networks(2)[1]
    last = network.get_submodule(pipeline[-1].network_.last_layer)
    return last.weight.detach().double().numpy()


def test_a_calibrator_shows_its_network(fitted):
    pipeline, X, y = fitted
    scaled = TemperatureScaler(FrozenEstimator(pipeline))
    with pytest.warns(UserWarning):
        scaled.fit(X, y)
    one = ClassPlaneDisplay.from_estimator(scaled, X, y)
    other = ClassPlaneDisplay.from_estimator(pipeline, X, y)
    np.testing.assert_array_equal(one.coordinates, other.coordinates)


def test_bad_shapes_and_classes(layer):
    features, weight, bias = layer
    y = np.zeros(200, int)

    def refused(message, *args, **options):
        with pytest.raises(ValueError, match=message):
            ClassPlaneDisplay.from_predictions(*args, **options)

    refused("do not fit", y, features[:, :3], weight)
    refused("do not fit", y, features, weight, bias[:2])
    refused("inconsistent", y[:3], features, weight)
    refused("three different labels", y, features, weight, classes=[0, 1])
    refused("three different labels", y, features, weight, classes=[0, 1, 1])
    refused(r"classes holds \[7\]", y, features, weight, classes=[0, 1, 7])
    refused("class_names has shape", y, features, weight, class_names=["a"])
    refused("three different labels", y, features, weight[:2])
    line = np.outer([1.0, 2.0, 4.0], np.ones(7))
    refused("lie on one line", y, features, line)
    features[0, 0] = np.nan
    refused("NaN", y, features, weight)


def test_estimators_without_a_plane(fitted, blobs):
    pipeline, X, labels = fitted
    with pytest.raises(ValueError, match="from 0 to 1"):
        ClassPlaneDisplay.from_estimator(pipeline, X, labels, network=2)
    X, y = blobs
    options = {"posterior": PointEstimate(), "max_epochs": 1, "random_state": 0}
    regressor = TorchRegressor(**options).fit(X, y)
    with pytest.raises(TypeError, match="needs a classifier"):
        ClassPlaneDisplay.from_estimator(regressor, X, y)
    several = TorchClassifier(likelihood=Bernoulli(), **options).fit(X, np.eye(3, dtype=int)[y])
    with pytest.raises(TypeError, match="several labels"):
        ClassPlaneDisplay.from_estimator(several, X, y)
    odd = TorchClassifier(likelihood=UncertaintyAware(), **options).fit(X, y)
    with pytest.raises(ValueError, match="an output of the last layer for each"):
        ClassPlaneDisplay.from_estimator(odd, X, y)
