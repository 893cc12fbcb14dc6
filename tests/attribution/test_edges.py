"""Inputs at the edges: types, names, switched-off gradients, long strings, many segments."""

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from skuq import TorchClassifier
from skuq.attribution import (
    attribute_uncertainty,
    planted_regions,
    segment_ceiling,
    uncertainty_reduction,
)
from skuq.attribution._segments import unions
from skuq.attribution._tables import TableRows
from tests.attribution.helpers import ensemble


@pytest.fixture(scope="module")
def flat():
    X = np.random.default_rng(0).normal(size=(60, 16)).astype(np.float32)
    return X, ensemble(X, X[:, 5] > 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", ["optimized", "gradient", "occlusion"])
def test_module_as_function_takes_rows_of_any_type(dtype, method):
    linear = torch.nn.Linear(16, 1, bias=False)
    torch.nn.init.constant_(linear.weight, 0.5)
    function = torch.nn.Sequential(torch.nn.Flatten(), linear, torch.nn.Flatten(0))
    X = np.ones((2, 16), dtype)
    options = {"method": method, "sparsity": 0.0}
    table = attribute_uncertainty(function, X, background=0 * X, **options)
    assert table.uncertainty == pytest.approx(np.full(2, 8.0))
    images = attribute_uncertainty(function, X.reshape(2, 4, 4), **options)
    assert images.uncertainty == pytest.approx(np.full(2, 8.0))
    if method == "occlusion":
        assert table.values == pytest.approx(np.full((2, 16), 0.5))


def test_caller_may_have_switched_gradients_off(flat):
    X, network = flat[0][:1], flat[1]
    shape = {"image_shape": (4, 4), "segments": "grid", "n_segments": 4}
    for off, options in (
        (torch.inference_mode, {"optimizer": "gumbel"}),
        (torch.no_grad, {"method": "gradient"}),
    ):
        expected = attribute_uncertainty(network, X, **options, **shape)
        fall = uncertainty_reduction(network, X, expected).reduction
        with off():
            found = attribute_uncertainty(network, X, **options, **shape)
            again = uncertainty_reduction(network, X, found).reduction
        np.testing.assert_array_equal(found.values, expected.values)
        np.testing.assert_array_equal(again, fall)


def test_reduction_takes_kind_and_shape_of_the_attribution(flat):
    X, network = flat
    options = {"kind": "epistemic", "image_shape": (4, 4)}
    found = attribute_uncertainty(network, X[:3], method="gradient", **options)
    expected = uncertainty_reduction(network, X[:3], found.values, **options)
    np.testing.assert_array_equal(
        uncertainty_reduction(network, X[:3], found).reduction, expected.reduction
    )
    other = uncertainty_reduction(network, X[:3], found, kind="total")
    assert not np.allclose(other.reduction, expected.reduction)


def test_ceiling_of_an_attribution_is_that_of_its_segments():
    segments = np.array([[0, 0, 7_000_000_000, -3]])
    regions = np.array([[[True, True, False, True]]])
    found = attribute_uncertainty(
        lambda x: x.flatten(1).sum(1), np.ones((1, 1, 4)), segments=segments
    )
    assert segment_ceiling(found, regions).tolist() == [1.0]
    assert segment_ceiling(segments[None], regions).tolist() == [1.0]
    with pytest.raises(TypeError, match="must be integers"):
        segment_ceiling(found.values, regions)
    bare = attribute_uncertainty(
        lambda x: x.flatten(1).sum(1), np.ones((1, 1, 4)), method="gradient"
    )
    with pytest.raises(ValueError, match="has no segments"):
        segment_ceiling(bare, regions)


def test_images_in_a_frame_keep_the_names_of_their_columns(flat, recwarn):
    pandas = pytest.importorskip("pandas")
    X, _ = flat
    frame = pandas.DataFrame(X, columns=[f"pixel {k}" for k in range(16)])
    network = ensemble(frame, X[:, 5] > 0)
    recwarn.clear()
    planted = planted_regions(network, frame, image_shape=(4, 4), area=0.3)
    expected = network.predict_uncertainty(pandas.DataFrame(planted.X, columns=frame.columns))
    np.testing.assert_allclose(planted.after, expected, atol=1e-6)
    assert not [w for w in recwarn if "feature names" in str(w.message)]


def test_sparse_images_say_what_to_do(flat):
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match="toarray"):
        attribute_uncertainty(flat[1], sparse.csr_array(flat[0]), image_shape=(4, 4))


def test_strings_of_the_background_are_not_cut():
    X, usual = np.array([["a"], ["b"]]), np.array([["longer"], ["longer"], ["a"]])
    rows = np.vstack([usual, X])
    steps = OneHotEncoder(sparse_output=False, handle_unknown="error")
    network = TorchClassifier(max_epochs=2, random_state=0)
    model = make_pipeline(steps, network).fit(rows, [0, 0, 1, 1, 0])
    found = attribute_uncertainty(model, X, background=usual, sparsity=0.0, segments=[0])
    replaced = TableRows(X, usual, None).replaced(np.arange(2), np.ones((2, 1), bool))
    assert replaced.tolist() == [["longer"], ["longer"]]
    assert set(found.refined.ravel()) <= {"a", "b", "longer"}


def test_median_of_numbers_in_columns_of_objects():
    X = np.array([[1.0, "a"], [9.0, "b"], [9, "b"], [2.0, None], [None, None], [1.5, None]], object)
    assert TableRows(X, None, None).baseline == [2.0, "b"]
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X).assign(time=pandas.to_timedelta([1, 9, 9, 2, 3, 4], "s"))
    assert TableRows(frame, None, None).baseline == [2.0, "b", pandas.Timedelta(3, "s")]


def test_unions_of_many_segments_merge_the_most_similar_first():
    image = np.zeros((1, 24, 24))
    image[0, 6:12, 6:12] = np.linspace(5.0, 5.1, 36).reshape(6, 6)
    labels = np.arange(576).reshape(24, 24)
    found = unions(image, labels)
    square = np.zeros((24, 24), bool)
    square[6:12, 6:12] = True
    assert (found == square.ravel()).all(1).any()
    assert found.sum(1).min() == 2 and found.sum(1).max() <= 0.3 * 576


@pytest.mark.parametrize("method", ["optimized", "occlusion", "integrated_gradients"])
def test_perturbation_of_a_wrong_kind_is_refused(method):
    images = np.ones((2, 4, 4))
    for wrong in (lambda x, mask: x[:, :, :3], lambda x, mask: 0):
        with pytest.raises(ValueError, match="shape of the images"):
            attribute_uncertainty(
                lambda x: x.flatten(1).sum(1), images, method=method, perturbation=wrong
            )
