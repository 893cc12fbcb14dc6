"""Rows of all kinds, bad input, and what is returned."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

import skuq
from skuq.attribution import attribute_uncertainty, mean_by_class
from skuq.calibration import TemperatureScaler
from tests.attribution.helpers import SQUARES, ensemble, nothing, weighted
from tests.networks.dense import images, segmenter

IMAGES = np.random.default_rng(0).random((3, 4, 8))
FIELD = weighted(np.linspace(0, 1, 32).reshape(4, 8))
ALL = ("optimized", "occlusion", "kernel_shap", "lime", "gradient", "smoothgrad",
       "integrated_gradients", "ua_backprop")  # fmt: skip


@pytest.fixture(scope="module")
def network(digits):
    X, y = digits
    return ensemble(X.astype(float), y, max_epochs=3)


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("kind", ["total", "epistemic"])
def test_flat_images(method, kind, network, digits):
    X = digits[0][:3]
    found = attribute_uncertainty(
        network, X, kind=kind, method=method, image_shape=(8, 8), n_segments=9, n_samples=64
    )
    assert found.values.shape == (3, 8, 8) and np.isfinite(found.values).all()
    assert found.values.dtype == np.float64 and found.image_shape == (1, 8, 8)
    expected = network.predict_uncertainty(X, kind=kind)
    np.testing.assert_allclose(found.uncertainty, expected, rtol=1e-4)
    if method == "optimized":
        after = network.predict_uncertainty(found.refined, kind=kind)
        np.testing.assert_allclose(found.refined_uncertainty, after, rtol=1e-3)
        assert found.refined.shape == X.shape and found.mask.shape == (3, 8, 8)
    else:
        assert found.mask is found.refined is found.refined_uncertainty is None
    assert pickle.loads(pickle.dumps(found)).values.tolist() == found.values.tolist()


def test_layouts_agree(network, digits):
    """Flat rows, with a channel of their own, strided, read-only and tensors."""
    X = digits[0][:3].astype(float)
    flat = attribute_uncertainty(network, X, image_shape=(8, 8), n_segments=9)
    frozen = X.copy()
    frozen.flags.writeable = False
    double = np.repeat(X, 2, axis=0)[::2]
    for rows in (frozen, double, torch.tensor(X, requires_grad=True), X.tolist()):
        other = attribute_uncertainty(network, rows, image_shape=(1, 8, 8), n_segments=9)
        np.testing.assert_allclose(flat.values, other.values, atol=1e-9)
    assert (flat.X == X).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_colours(dtype):
    """Images of several channels; the mask is one for all of them."""
    X = (np.random.default_rng(0).random((2, 3, 12, 12)) * 255).astype(dtype)
    U = lambda x: (x.double() / 255).flatten(1).std(1)
    found = attribute_uncertainty(U, X, n_segments=9, sparsity=0.1)
    assert found.values.shape == (2, 12, 12) and found.image_shape == (3, 12, 12)
    changed = (found.refined != X).any(1)
    assert found.mask.any() and (changed <= found.mask).all()


def test_a_segmenter():
    X, y = images()
    fitted = segmenter().fit(X, y)
    found = attribute_uncertainty(fitted, X[:2], method="gradient")
    np.testing.assert_allclose(
        found.uncertainty, fitted.predict_uncertainty(X[:2]).mean((1, 2)), rtol=1e-4
    )


@pytest.mark.filterwarnings("ignore:the temperature")
def test_around_an_estimator(network, digits):
    X, y = digits
    inner = skuq.TorchClassifier(max_epochs=2, random_state=0)
    scaled = TemperatureScaler(make_pipeline(MinMaxScaler(), inner), cv=2).fit(X[:300], y[:300])
    found = attribute_uncertainty(
        scaled, X[:2], method="integrated_gradients", image_shape=(8, 8), perturbation=nothing
    )
    np.testing.assert_allclose(found.uncertainty, scaled.predict_uncertainty(X[:2]), rtol=1e-4)
    forest = RandomForestClassifier(10, random_state=0).fit(X[:300], y[:300])
    found = attribute_uncertainty(forest, X[300:302], image_shape=(8, 8), n_segments=9)
    assert (found.refined_uncertainty <= found.uncertainty).all()
    for method in ("occlusion", "kernel_shap"):
        attribute_uncertainty(
            forest, X[300:301], method=method, image_shape=(8, 8), n_segments=9, n_samples=32
        )
    with pytest.raises(TypeError, match="RandomForestClassifier, which has no gradient"):
        attribute_uncertainty(forest, X[:1], method="gradient", image_shape=(8, 8))


def test_regression(diabetes):
    X, y = diabetes
    fitted = skuq.TorchRegressor(max_epochs=3, random_state=0).fit(X, y)
    found = attribute_uncertainty(fitted, X[:5], kind="aleatoric", sparsity=0.1)
    np.testing.assert_allclose(
        found.uncertainty, fitted.predict_uncertainty(X[:5], kind="aleatoric"), rtol=1e-5
    )


def test_nothing_to_attribute():
    """A zero map, and one warning."""
    X = IMAGES.copy()
    X[1] = 0
    with pytest.warns(UserWarning, match="1 of 3 rows have no uncertainty to attribute") as caught:
        found = attribute_uncertainty(FIELD, X, segments=SQUARES, sparsity=0.1)
    assert len(caught) == 1
    assert not found.values[1].any() and not found.mask[1].any() and found.values[0].any()
    assert (found.refined[1] == 0).all()
    with pytest.warns(UserWarning, match="3 of 3"):
        found = attribute_uncertainty(FIELD, X * 0, method="kernel_shap", segments=SQUARES)
    assert not found.values.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "optimised"}, "method must be one of .*Did you mean 'optimized'"),
        ({"optimizer": "adam"}, "optimizer must be one of 'greedy', 'gumbel', 'exhaustive'"),
        ({"perturbation": "noise"}, "perturbation must be one of 'infill', 'blur'"),
        ({"kind": "all"}, "kind must be 'total', 'aleatoric' or 'epistemic'"),
        ({"sparsity": -1}, "sparsity must be a number of at least 0, got -1"),
        ({"sparsity": np.nan}, "sparsity must be a number of at least 0, got nan"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
        ({"batch_size": 2.5}, "batch_size must be an integer of at least 1, got 2.5"),
        ({"n_segments": "many"}, "n_segments must be an integer of at least 1, got 'many'"),
        ({"n_samples": 0, "method": "lime"}, "n_samples must be an integer of at least 1, got 0"),
        (
            {"n_samples": 9, "method": "lime", "segments": SQUARES},
            "n_samples must be at least two more than the 8 segments of row 0, got 9",
        ),
        ({"random_state": np.random.default_rng(0)}, "random_state must be an integer"),
        ({"random_state": -1}, "random_state must be an integer of at least 0"),
        ({"image_shape": "4x8"}, "flat rows give image_shape"),
        ({"image_shape": 32}, "flat rows give image_shape"),
        ({"image_shape": (5, 5)}, r"flat rows give image_shape=\(height, width\).*\(5, 5\)"),
        ({"perturbation": lambda x, mask: x[:1]}, "perturbation must return a tensor of the shape"),
        ({"segments": np.zeros((3, 3), int)}, r"must be integers of shape \(4, 8\)"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        attribute_uncertainty(FIELD, IMAGES, **options)


def test_bad_rows():
    for X, message in (
        (np.full((1, 4, 8), np.nan), "X contains NaN or infinity"),
        (np.zeros((0, 4, 8)), "at least one row"),
        (np.zeros((2, 28, 28, 3)), "channels last"),
        (np.zeros((2, 1, 1, 4, 8)), r"images must have shape"),
    ):
        with pytest.raises(ValueError, match=message):
            attribute_uncertainty(FIELD, X)
    with pytest.raises(TypeError, match="images must be numbers"):
        attribute_uncertainty(FIELD, np.full((1, 4, 8), "a"))
    with pytest.raises(ValueError, match="the first is row 1, is not finite"):
        attribute_uncertainty(lambda x: FIELD(x) / (x[:, 0, 0] != 0), with_zero())


def test_functions_that_are_none():
    for function in (lambda x: x.sum(), lambda x: 3.0, lambda x: x.flatten(1)):
        with pytest.raises(ValueError, match="one uncertainty for each, of shape"):
            attribute_uncertainty(function, IMAGES)
    no_gradient = lambda x: FIELD(x).detach()
    for options in ({"method": "gradient"}, {"optimizer": "gumbel", "segments": SQUARES}):
        with pytest.raises(TypeError, match="the function has no gradient"):
            attribute_uncertainty(no_gradient, IMAGES, **options)
    assert attribute_uncertainty(no_gradient, IMAGES, segments=SQUARES).values.any()
    none = attribute_uncertainty(FIELD, IMAGES, method="lime", segments=SQUARES, random_state=None)
    assert none.values.any()


def with_zero():
    X = IMAGES.copy()
    X[1, 0, 0] = 0
    return X


def test_mean_by_class():
    found = attribute_uncertainty(FIELD, IMAGES, method="gradient")
    means = mean_by_class(found, ["b", "a", "b"])
    assert list(means) == ["a", "b"]
    np.testing.assert_allclose(means["b"], found.values[[0, 2]].mean(0))
    with pytest.raises(ValueError, match="one label for each of the 3 rows"):
        mean_by_class(found, [1, 2])
    with pytest.raises(ValueError, match="frame is for tables"):
        found.frame()
    assert repr(found) == "Attribution(gradient, total uncertainty of 3 images)"


def test_what_is_missing_is_named(monkeypatch):
    import sys

    for package in ("captum", "captum.attr"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"method='gradient' needs captum.*skuq\[attribution\]"):
        attribute_uncertainty(FIELD, IMAGES, method="gradient")
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(ImportError, match=r"segments='slic' needs skimage.*skuq\[attribution\]"):
        attribute_uncertainty(FIELD, IMAGES)
    assert attribute_uncertainty(FIELD, IMAGES, segments="grid").values.shape == (3, 4, 8)


def test_progress(capsys):
    pytest.importorskip("tqdm")
    attribute_uncertainty(FIELD, IMAGES, segments=SQUARES, verbose=1, batch_size=4)
    assert "attribution, optimized" in capsys.readouterr().err
