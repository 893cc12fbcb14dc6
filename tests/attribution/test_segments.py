"""Segments of images: names, arrays, functions."""

import numpy as np
import pytest

from skuq.attribution import attribute_uncertainty
from skuq.attribution._segments import segments_of_images
from tests.attribution.helpers import SQUARES, weighted

IMAGES = np.random.default_rng(0).random((2, 3, 12, 12))


def test_names():
    grid = segments_of_images(IMAGES, "grid", 9)
    assert grid.shape == (2, 12, 12) and grid[0, 0, :5].tolist() == [0, 0, 0, 0, 1]
    assert grid.max() == 8 and (grid[0] == grid[1]).all()
    assert segments_of_images(IMAGES, "pixels", 9)[0].ravel().tolist() == [*range(144)]
    for images in (IMAGES, IMAGES[:, :1], IMAGES[:, :2] * 100 - 7):
        labels = segments_of_images(images, "slic", 9)
        for one in labels:
            assert (np.unique(one) == np.arange(one.max() + 1)).all() and 4 <= one.max() <= 20


def test_slic_follows_edges():
    image = np.zeros((1, 1, 12, 12))
    image[..., 3:7, 5:10] = 1
    (labels,) = segments_of_images(image, "slic", 16)
    inside = np.unique(labels[image[0, 0] == 1])
    overlap = np.isin(labels, inside) & (image[0, 0] == 0)
    assert overlap.mean() < 0.1


def test_a_constant_image_is_cut_somehow():
    assert segments_of_images(np.ones((1, 1, 12, 12)), "slic", 9).shape == (1, 12, 12)


def test_functions():
    seen = []

    def halves(image):
        seen.append(image.shape)
        return (np.arange(12)[:, None] < 6) * np.ones((12, 12), int) * 5

    assert segments_of_images(IMAGES, halves, 9).max() == 1 and seen == [(12, 12, 3)] * 2
    masks = np.zeros((2, 12, 12), dtype=bool)
    masks[0, :6] = masks[1, :2, :2] = True
    labels = segments_of_images(IMAGES, lambda image: masks, 9)[0]  # the smaller lies on top
    assert labels[0, 0] == 2 and labels[0, 5] == 1 and labels[8, 8] == 0


@pytest.mark.parametrize(
    "segments",
    [np.zeros((12, 11), int), np.zeros((3, 12, 12), int), np.zeros((12, 12)),
     lambda image: np.zeros(12, int)],
    ids=["side", "rows", "floats", "function"],
)  # fmt: skip
def test_wrong_shapes(segments):
    with pytest.raises(ValueError, match=r"must be integers of shape \(12, 12\)"):
        segments_of_images(IMAGES, segments, 9)


def test_unknown_name():
    with pytest.raises(ValueError, match=r"'slic', 'grid', 'pixels'.*got 'slick'.*mean 'slic'"):
        segments_of_images(IMAGES, "slick", 9)


def test_labels_are_part_of_the_result():
    X = np.random.default_rng(0).random((2, 4, 8))
    found = attribute_uncertainty(weighted(np.ones((4, 8))), X, segments=SQUARES * 3 - 5)
    assert (found.segments == SQUARES).all()
