"""Images of shapes: repeatable, and uncertain where they say."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from scipy.stats import norm

from skuq.datasets import SHAPE_NAMES, make_shapes
from skuq.datasets._shapes import _DISTANCES


@pytest.fixture(scope="module")
def shapes():
    return make_shapes(60, random_state=0)


def test_shapes_types_and_scale(shapes):
    assert shapes.X.shape == (60, 3, 32, 32) and shapes.X.dtype == np.float32
    for part in shapes[1:]:
        assert part.shape == (60, 32, 32)
    assert shapes.y.dtype == np.int64 and shapes.jittered.dtype == bool
    assert np.array_equal(np.unique(shapes.y), range(len(SHAPE_NAMES)))
    assert np.abs(shapes.X.mean(axis=(0, 2, 3))).max() < 0.5
    assert 0.4 < shapes.X.std(axis=(0, 2, 3)).min() < shapes.X.std(axis=(0, 2, 3)).max() < 1.5


def test_a_seed_repeats_and_the_first_images_stay(shapes):
    for one, other in zip(make_shapes(20, random_state=0), shapes):
        assert np.array_equal(one, other[:20])
    assert not np.array_equal(make_shapes(1, random_state=1).X, shapes.X[:1])


@pytest.mark.parametrize("size", [16, 32, 47, (64, 96), (100, 30), 144])
def test_poles_are_thin(size):
    poles = make_shapes(30, size=size, thin=1, n_shapes=0, random_state=0).y == 4
    assert 0.005 < poles.mean() < 0.05
    assert poles.mean(axis=(1, 2)).max() <= 1 / 16


def test_what_is_left_out_changes_nothing_else(shapes):
    other = make_shapes(60, leave_out=1, random_state=0)
    assert set(np.unique(other.y)) == set(np.unique(other.y_clean)) == {0, 2, 3, 4}
    untouched = ~((shapes.y_clean == 1) | (other.y_clean != shapes.y_clean))
    assert 0.8 < untouched.mean() < 1
    same = np.broadcast_to(untouched[:, None], shapes.X.shape)
    # discs, where later shapes do not cover them, are replaced by what was below
    assert np.array_equal(other.X[same], shapes.X[same])
    assert np.array_equal(other.occluded, shapes.occluded)
    assert set(np.unique(make_shapes(20, leave_out=(1, 2, 3), random_state=0).y)) == {0, 4}


def test_jitter_moves_borders_with_the_probability_that_it_states():
    """Of a pixel outside by d, Φ(−d/σ); its centre is up to one pixel nearer than the mask's."""
    sigma = 2.0
    one = make_shapes(
        600, size=48, n_shapes=1, thin=0, occlusion=0, label_jitter=sigma, random_state=0
    )
    outside = np.stack([distance_transform_edt(mask == 0) for mask in one.y_clean])
    shown = (one.y_clean > 0).any(axis=(1, 2))
    outside[~shown] = np.inf
    previous = 1.0
    for d in (1.0, 2.0, 3.0, 4.0):
        share = (one.y[outside == d] > 0).mean()
        assert norm.cdf(-d / sigma) - 0.03 < share < norm.cdf(-(d - 1) / sigma) + 0.03
        assert share < previous
        previous = share


def test_jitter_stays_near_borders(shapes):
    moved = shapes.y != shapes.y_clean
    assert 0.01 < moved.mean() < 0.2
    assert (moved & ~shapes.jittered).sum() < 0.05 * moved.sum()
    assert not (moved & (shapes.y_clean == 4)).any()  # poles have exact masks
    exact = make_shapes(5, label_jitter=0, random_state=0)
    assert np.array_equal(exact.y, exact.y_clean) and not exact.jittered.any()
    assert np.array_equal(exact.X, shapes.X[:5])


def test_occluders_hide_the_image_but_not_the_label():
    hidden = make_shapes(40, occlusion=1, noise=0, random_state=0)
    shown = make_shapes(40, occlusion=0, noise=0, random_state=0)
    assert hidden.occluded.any(axis=(1, 2)).mean() > 0.9 and not shown.occluded.any()
    assert np.array_equal(hidden.y, shown.y)
    grey = np.moveaxis(hidden.X, 1, -1)[hidden.occluded]
    assert np.array_equal(grey, np.full_like(grey, 0.6))
    same = np.broadcast_to(~hidden.occluded[:, None], shown.X.shape)
    assert np.array_equal(hidden.X[same], shown.X[same])


def test_noise_is_that_of_the_parameter():
    quiet, noisy = (make_shapes(20, noise=s, random_state=0).X for s in (0.0, 0.7))
    assert (noisy - quiet).std() == pytest.approx(0.7, rel=0.02)


@pytest.mark.parametrize(
    "label, inside, at_two",
    [(1, -1.0, (3.0, 0.0)), (2, -0.9, (2.9, 0.0)), (3, -0.6, (0.0, 2.6))],
)
def test_distances_to_borders(label, inside, at_two):
    """In the centre, and two pixels beyond a side, of shapes of radius 1."""
    distance = _DISTANCES[label]
    assert distance(np.zeros(1), np.zeros(1), 1.0)[0] == pytest.approx(inside)
    assert distance(*np.array(at_two)[:, None], 1.0)[0] == pytest.approx(2.0)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_samples": 0}, "n_samples must be an integer of at least 1, got 0"),
        ({"n_samples": True}, "n_samples"),
        ({"n_shapes": -1}, "n_shapes must be an integer of at least 0, got -1"),
        ({"size": 15}, "at least 16 pixels, got 15"),
        ({"size": (32, 32, 3)}, "one or two integers"),
        ({"label_jitter": -1}, "label_jitter must be a number of at least 0, got -1"),
        ({"noise": np.nan}, "noise must be a number"),
        ({"occlusion": 1.5}, r"occlusion must be a number in \[0, 1\], got 1.5"),
        ({"thin": "yes"}, "thin must be a number"),
        ({"leave_out": 5}, "labels of 1 … 4, got 5; .*4: 'pole'"),
        ({"leave_out": [1, 0]}, "got 0"),
    ],
)
def test_bad_parameters_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_shapes(**options)
