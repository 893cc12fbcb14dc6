"""Corruptions: identities, known values, forms of rows, and severities that rise."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.datasets import load_digits

from skuq.shift import corrupt
from skuq.shift._images import IMAGE_CORRUPTIONS
from skuq.shift._tables import TABLE_CORRUPTIONS


@pytest.fixture(scope="module")
def images():
    return load_digits().images[:60]


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(2, 3, (200, 12))


def test_severity_0_is_the_identity(images, rows):
    for X, known in ((images, IMAGE_CORRUPTIONS), (rows, TABLE_CORRUPTIONS)):
        for name in known:
            assert corrupt(X, name, 0) is X


@pytest.mark.parametrize("name", IMAGE_CORRUPTIONS)
def test_images(images, name):
    before = images.copy()
    changes = []
    for severity in range(1, 6):
        changed = corrupt(images, name, severity)
        assert changed.shape == images.shape and changed.dtype == images.dtype
        assert changed.min() >= 0 and changed.max() <= 16
        assert np.array_equal(changed, corrupt(images, name, severity))
        changes.append(np.abs(changed - images).mean())
    assert np.array_equal(images, before)
    assert all(np.diff(changes) > 0) and changes[0] > 0


@pytest.mark.parametrize("name", TABLE_CORRUPTIONS)
def test_tables(rows, name):
    before = rows.copy()
    changes = []
    for severity in range(1, 6):
        changed = corrupt(rows, name, severity)
        assert changed.shape == rows.shape and np.isfinite(changed).all()
        assert np.array_equal(changed, corrupt(rows, name, severity))
        changes.append(np.abs(changed - rows).mean())
    assert np.array_equal(rows, before)
    assert all(np.diff(changes) >= 0) and 0 < changes[0] < changes[-1]
    assert not np.array_equal(changed, corrupt(rows, name, 5, random_state=1))


def test_known_values_of_images():
    grey = np.full((2, 10, 10), 0.5)
    grey[:, 0, 0], grey[:, 0, 1] = 0, 1  # the range of the images
    bright = corrupt(grey, "brightness", 2)
    assert bright[0, 5, 5] == pytest.approx(0.7) and bright.max() == 1
    faded = corrupt(grey, "contrast", 5)
    assert faded[0, 0, 0] == pytest.approx(0.5 - 0.12 * 0.5)
    assert corrupt(grey, "blur", 5)[0, 5:, 5:] == pytest.approx(np.full((5, 5), 0.5), abs=0.01)
    blocks = np.arange(64.0).reshape(1, 8, 8)
    coarse = corrupt(blocks, "pixelate", 5)  # 2 × 2 blocks of 4 × 4 pixels
    assert coarse[0, :4, :4] == pytest.approx(np.full((4, 4), blocks[0, :4, :4].mean()))
    assert coarse.mean() == pytest.approx(blocks.mean())
    noisy = corrupt(np.full((1, 200, 200), 0.5), "gaussian_noise", 2, value_range=(0, 1))
    assert noisy.std() == pytest.approx(0.1, rel=0.02)
    counts = corrupt(np.full((1, 200, 200), 0.5), "shot_noise", 1, value_range=(0, 1))
    assert counts.var() == pytest.approx(0.5 / 60, rel=0.03)
    salt = corrupt(np.full((1, 200, 200), 0.5), "impulse_noise", 3, value_range=(0, 1))
    assert (salt != 0.5).mean() == pytest.approx(0.1, abs=0.01)
    assert (salt == 1).mean() == pytest.approx(0.05, abs=0.01)


def test_a_point_moves_as_far_as_it_should():
    points = np.zeros((50, 51, 41))
    points[:, 25, 20] = 1
    rows, columns = np.mgrid[:51, :41]

    def centres(X):
        weight = X / X.sum(axis=(1, 2), keepdims=True)
        places = [(weight * grid).sum(axis=(1, 2)) for grid in (rows, columns)]
        return np.stack(places, 1) - (25, 20)

    moved = centres(corrupt(points, "translation", 3)) / (51, 41)  # in shares of the sides
    assert np.hypot(*moved.T) == pytest.approx(np.full(50, 0.12), abs=0.01)
    assert len(np.unique(np.sign(moved), axis=0)) == 4  # in all directions
    assert centres(corrupt(points, "rotation", 5)) == pytest.approx(np.zeros((50, 2)), abs=0.01)
    points = np.zeros((50, 51, 41))
    points[:, 25, 35] = 1
    turned = centres(corrupt(points, "rotation", 3))  # by 30 degrees, pixels being square
    assert turned[:, 1] == pytest.approx(np.full(50, 15 * np.cos(np.pi / 6)), abs=0.1)
    assert np.abs(turned[:, 0]) == pytest.approx(np.full(50, 7.5), abs=0.1)
    assert set(np.sign(turned[:, 0])) == {-1, 1}


def test_known_values_of_tables(rows):
    spread = (corrupt(rows, "noise", 3) - rows).std(axis=0)
    assert spread == pytest.approx(0.5 * rows.std(axis=0), rel=0.2)
    factors = corrupt(rows, "scale", 4) / rows
    assert factors == pytest.approx(np.tile(factors[0], (200, 1)))
    assert set(factors[0].round(6)) == {0.5, 2.0}
    filled = corrupt(rows, "missing_cells", 4)
    assert (filled != rows).mean() == pytest.approx(0.35, abs=0.02)
    changed = filled != rows
    assert np.array_equal(filled[changed], np.broadcast_to(np.median(rows, 0), (200, 12))[changed])
    shuffled = corrupt(rows, "permuted_columns", 5)
    assert (shuffled != rows).any(axis=0).sum() == 8
    assert np.array_equal(np.sort(shuffled, axis=0), np.sort(rows, axis=0))


def test_forms_of_rows(images):
    pixels = images.reshape(60, 64)
    for severity in (0, 3):
        flat = corrupt(pixels, "rotation", severity, image_shape=(8, 8))
        assert np.array_equal(flat.reshape(60, 8, 8), corrupt(images, "rotation", severity))
    colour = np.repeat(images[:, None], 3, axis=1).astype(np.uint8)
    turned = corrupt(colour, "rotation", 3)
    assert turned.dtype == np.uint8 and turned.shape == colour.shape
    assert np.array_equal(turned[:, 0], corrupt(images, "rotation", 3).round())
    frame = pd.DataFrame({"a": [1.0, 2, 3, 4], "b": ["x", "y", "x", "y"], "c": [1, 2, 3, 5]})
    noisy = corrupt(frame, "noise", 5)
    assert noisy["b"].equals(frame["b"]) and (noisy[["a", "c"]] != frame[["a", "c"]]).all(axis=None)
    assert list(noisy.columns) == ["a", "b", "c"] and frame["c"].tolist() == [1, 2, 3, 5]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda X: corrupt(X, "rotatoin", 1),
            "for images, got 'rotatoin'. Did you mean 'rotation'",
        ),
        (lambda X: corrupt(X, "noise", 1), "corruption must be one of 'gaussian_noise'"),
        (lambda X: corrupt(X.reshape(60, 64), "blur", 1), "for a table, got 'blur'"),
        (lambda X: corrupt(X, "blur", 6), "severity must be an integer from 0 to 5, got 6"),
        (lambda X: corrupt(X, "blur", 1.5), "severity must be an integer"),
        (lambda X: corrupt(X[0, 0], "noise", 1), r"X must have shape \(n_rows, n_columns\)"),
        (lambda X: corrupt(X, "blur", 1, image_shape=(4, 8)), "image_shape must be .* got"),
        (lambda X: corrupt(0 * X, "blur", 1), "value_range must rise from black to white"),
        (lambda X: corrupt(csr_matrix(X[0]), "noise", 1), "sparse"),
    ],
)
def test_bad_input(images, call, message):
    with pytest.raises(ValueError, match=message):
        call(images)


@pytest.mark.parametrize("name", ["noise", "scale", "missing_cells", "permuted_columns"])
def test_missing_cells_stay_the_only_missing_ones(name):
    X = np.random.default_rng(0).normal(size=(200, 3))
    X[::10, 0] = np.nan
    changed = corrupt(X, name, 3)
    n_missing = np.isnan(changed).sum(axis=0)
    assert n_missing[1:].sum() == 0 and n_missing[0] <= 20
    if name == "noise":
        spread = (changed - X)[:, 0][~np.isnan(X[:, 0])].std()
        assert spread == pytest.approx(0.5 * np.nanstd(X[:, 0]), rel=0.2)
    elif name == "missing_cells":
        moved = changed[:, 0][~np.isnan(X[:, 0]) & (changed[:, 0] != X[:, 0])]
        assert len(moved) and set(moved) == {np.nanmedian(X[:, 0])}


def test_columns_of_one_name_are_corrupted_apart():
    pandas = pytest.importorskip("pandas")
    X = np.random.default_rng(0).normal(size=(20, 3))
    frame = pandas.DataFrame(X, columns=["a", "a", "b"])
    changed = corrupt(frame, "noise", 3)
    assert list(changed.columns) == ["a", "a", "b"] == list(frame.columns)
    assert np.array_equal(changed.to_numpy(), corrupt(X, "noise", 3))


def test_nullable_numbers_of_pandas():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"n": pandas.array([1, 2, None, 4], dtype="Int64"), "s": list("abcd")})
    changed = corrupt(frame, "scale", 1)
    assert changed["n"].isna().tolist() == [False, False, True, False]
    assert changed["s"].tolist() == list("abcd")
