"""Weights of pixels by rule, against closed forms."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from skuq._data._pixel_weights import class_weights, pixel_counts, pixel_weights


def test_balanced_is_that_of_scikit_learn():
    codes = np.random.default_rng(0).choice(3, (4, 5, 6), p=[0.7, 0.25, 0.05])
    weights = pixel_weights("balanced", codes, 3)
    assert weights.dtype == np.float64
    expected = compute_class_weight("balanced", classes=np.arange(3), y=codes.ravel())
    np.testing.assert_allclose(weights, expected[codes], rtol=1e-14)
    assert weights.mean() == pytest.approx(1, abs=1e-12)


def test_only_counted_pixels_count():
    codes = np.array([[[0, 0, 1, 250]], [[0, 1, -1, 0]]])
    counted = (codes >= 0) & (codes < 3)
    weights = pixel_weights("balanced", codes, 3, counted)  # 4 and 2 of 6 pixels, class 2 absent
    np.testing.assert_allclose(weights, [[[0.75, 0.75, 1.5, 0]], [[0.75, 1.5, 0, 0.75]]])
    assert weights[counted].mean() == pytest.approx(1)
    assert not pixel_weights("border", codes, 3, np.zeros_like(counted)).any()


def test_median_frequency_looks_only_at_images_with_the_class():
    codes = np.array([[[0, 0, 0, 1]], [[0, 0, 2, 2]], [[0, 0, 0, 0]]])
    # frequencies 9/12, 1/4 and 2/4, their median 1/2
    weights = pixel_weights("median_frequency", codes, 4)
    np.testing.assert_allclose(weights, np.array([2 / 3, 2, 1])[codes], rtol=1e-14)
    assert class_weights("median_frequency", pixel_counts(codes, 4))[3] == 0


def test_counts_of_batches_concatenate():
    codes = np.random.default_rng(1).integers(3, size=(5, 4, 4))
    counted = np.random.default_rng(2).random(codes.shape) < 0.7
    batches = [pixel_counts(codes[i : i + 2], 3, counted[i : i + 2]) for i in (0, 2, 4)]
    assert np.array_equal(np.concatenate(batches), pixel_counts(codes, 3, counted))


def gap(total):
    return 10 * np.exp(-(total**2) / 50)


def test_border_is_the_map_of_u_net():
    """Between two cells, three pixels apart, d1 and d2 are the distances to both."""
    line = np.array([1, 1, 0, 0, 0, 1])
    codes = np.broadcast_to(line, (2, 4, 6)).copy()
    of_class = class_weights("balanced", pixel_counts(codes, 2))
    expected = of_class[line] + np.array(
        [gap(2 + 5), gap(1 + 4), gap(1 + 3), gap(2 + 2), gap(3 + 1), gap(1 + 4)]
    )
    for row in pixel_weights("border", codes, 2)[0]:
        np.testing.assert_allclose(row, expected, rtol=1e-13)


def test_border_has_euclidean_distances_to_any_number_of_regions():
    codes = np.random.default_rng(3).integers(3, size=(1, 7, 9))
    codes[0, 2:5, 2:7] = 1
    counted = np.random.default_rng(4).random(codes.shape) < 0.9
    weights = pixel_weights("border", codes, 3, counted)
    from scipy.ndimage import label

    regions = []
    for k in range(3):
        parts, n = label((codes[0] == k) & counted[0], np.ones((3, 3)))
        regions += [np.argwhere(parts == i) for i in range(1, n + 1)]
    of_class = class_weights("balanced", pixel_counts(codes, 3, counted))
    for place in np.argwhere(counted[0]):
        near = sorted(
            np.hypot(*(part - place).T).min()
            for part in regions
            if not (part == place).all(1).any()
        )
        expected = of_class[codes[0][tuple(place)]] + gap(near[0] + near[1])
        assert weights[0][tuple(place)] == pytest.approx(expected, rel=1e-12)
    assert not weights[~counted].any()


def test_two_regions_have_no_gap_and_far_ones_no_weight():
    codes = np.zeros((1, 3, 200), int)
    codes[..., 100:] = 1
    assert np.array_equal(pixel_weights("border", codes, 2), np.ones(codes.shape))
    codes[..., :2], codes[..., 100:] = 1, 0
    codes[..., -2:] = 1  # farther apart than any reach
    of_class = class_weights("balanced", pixel_counts(codes, 2))[codes]
    np.testing.assert_allclose(pixel_weights("border", codes, 2), of_class, rtol=1e-12)


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="'border', got 'rare'"):
        pixel_weights("rare", np.zeros((1, 2, 2), int), 1)
