"""Scores of attributions: overlaps, detection, reductions and their levels of chance."""

import numpy as np
import pytest
import torch
from scipy import stats

from skuq.attribution import (
    attribute_uncertainty,
    detection_accuracy,
    iou,
    planted_regions,
    segment_ceiling,
    uncertainty_reduction,
)
from tests.attribution.helpers import weighted

REGION = np.zeros((1, 10, 10), dtype=bool)
REGION[0, 2:6, 3:8] = True  # 20 of 100 pixels


def test_overlap():
    assert iou(REGION * 2.0, REGION).iou.tolist() == [1.0]
    assert iou(-(REGION * 1.0), REGION).iou.tolist() == [0.0]
    half = REGION.copy()
    half[0, :, 3:5] = False  # 12 of its 20 pixels, and 8 others
    half[0, 9, :8] = True
    assert iou(half * 1.0, REGION).iou[0] == pytest.approx(12 / 28)


def test_ties_count_in_part():
    """All pixels tie: a fifth of each, which is what a random order has on average."""
    overlap = iou(np.zeros((1, 10, 10)), REGION)
    assert overlap.iou[0] == pytest.approx(overlap.chance[0]) == pytest.approx(0.2 / 1.8)
    segment = np.zeros((1, 10, 10))
    segment[0, 2:6, 3:8] = segment[0, 0] = 1.0  # 30 tie at the top, 20 are chosen
    assert iou(segment, REGION).iou[0] == pytest.approx((20 * 2 / 3) / (40 - 20 * 2 / 3))


def test_chance_of_random_maps():
    random, regions = np.random.default_rng(0), np.repeat(REGION, 4000, 0)
    values = random.random((4000, 10, 10))
    overlap = iou(values, regions)
    assert overlap.iou.mean() == pytest.approx(overlap.chance.mean(), abs=0.004)
    found = detection_accuracy(values, regions, threshold=0.2)
    assert found.accuracy == pytest.approx(found.chance, abs=4 * found.standard_error)
    assert found.chance == pytest.approx(stats.hypergeom(100, 20, 20).sf(6))  # 7 / 33 > 0.2
    assert 0.05 < found.chance < 0.2


def test_detection():
    regions = np.repeat(REGION, 4, 0)
    values = regions * 1.0
    values[3] *= -1
    found = detection_accuracy(values, regions)
    assert found.accuracy == 0.75 and found.standard_error == pytest.approx(np.sqrt(0.1875 / 4))
    assert 0 < found.chance < 1e-6
    assert detection_accuracy(values, regions, threshold=0.99).accuracy == 0.75


def test_ceiling_of_segments():
    """By hand, and by every union."""
    labels = np.zeros((1, 10, 10), int)
    labels[0, :, 5:] = 1
    labels[0, 3:7, 3:8] = 2
    best = max(
        (union & REGION).sum() / (union | REGION).sum()
        for bits in range(1, 8)
        if (union := np.isin(labels, [k for k in range(3) if bits >> k & 1])).any()
    )
    assert segment_ceiling(labels, REGION)[0] == pytest.approx(best)
    assert segment_ceiling(REGION.astype(int), REGION).tolist() == [1.0]


def peak():
    X = np.zeros((2, 10, 10))
    X[:, 4, 4] = 1.0
    return X, lambda x: (x**2).flatten(1).sum(1)


@pytest.mark.parametrize("fill", ["blur", "mean", "inpaint"])
def test_repair_of_a_peak(fill):
    X, U = peak()
    found = uncertainty_reduction(U, X, X, q=(0.01, 0.5), fill=fill)
    assert found.reduction.shape == (2, 2) and (found.reduction[:, 0] > 0.95).all()
    worst = uncertainty_reduction(U, X, -X, q=0.01, fill=fill)
    assert (worst.reduction[:, 0] <= 1e-9).all()
    assert (found.chance[:, 0] < 0.5).all()


def test_mean_of_each_channel():
    X = np.zeros((1, 2, 10, 10))
    X[0, 0, 0, 0], X[0, 1] = 5.0, 3.0
    values = np.zeros((1, 10, 10))
    values[0, 0, 0] = 1
    found = uncertainty_reduction(
        lambda x: x[:, 0].flatten(1).sum(1), X, values, q=0.01, fill="mean"
    )
    assert found.reduction[0, 0] == pytest.approx(1 - 0.05 / 5)


def test_ties_are_broken_by_the_gradient():
    """All values are equal: the pixel whose repair the gradient expects to help most is first."""
    field = np.zeros((10, 10))
    field[7, 2], field[1, 1] = 1.0, -5.0
    X = np.full((1, 10, 10), 1.0)
    X[0, 7, 2], X[0, 1, 1] = 2.0, 3.0
    U = lambda x: weighted(field)(x) + 20
    found = uncertainty_reduction(U, X, np.zeros((1, 10, 10)), q=0.01, fill="mean")
    assert found.reduction[0, 0] == pytest.approx((2 - X.mean()) / 7)


def test_planted_regions_raise_the_uncertainty():
    X = np.random.default_rng(0).random((40, 2, 12, 12)).astype(np.float32)
    rough = lambda x: x[:, 0].flatten(1).std(1)
    smooth = lambda x: 2 - rough(x)
    for corruption, U in (("patch", rough), ("noise", rough), ("rectangle", smooth)):
        options = {"corruption": corruption, "area": 0.2, "keep": 0.25}
        planted, again = (planted_regions(U, X, **options) for _ in range(2))
        assert planted.X.shape[1:] == (2, 12, 12) and 0 < len(planted.X) <= 10
        assert planted.X.dtype == np.float32 and planted.regions.mean() == pytest.approx(0.2, 0.15)
        same = planted.X[:, 0] == X[planted.kept, 0]
        assert same[~planted.regions].all() and not same[planted.regions].all()
        assert (planted.after > planted.before).all() and (again.X == planted.X).all()
    flat = planted_regions(lambda x: x.std(1), X.reshape(40, -1), image_shape=(2, 12, 12), keep=1)
    assert flat.X.shape[1:] == (288,) and flat.regions.shape[1:] == (12, 12)


def test_a_planted_patch_is_found():
    """A noisy square on a smooth image, where roughness is the uncertainty."""
    X = np.zeros((3, 14, 14))
    regions = np.zeros(X.shape, dtype=bool)
    random = np.random.default_rng(0)
    for image, region, (top, left) in zip(X, regions, [(2, 4), (8, 8), (6, 0)]):
        region[top : top + 4, left : left + 4] = True
        image[region] = random.random(16)
    roughness = lambda x: (
        (x.diff(dim=1) ** 2).flatten(1).sum(1) + (x.diff(dim=2) ** 2).flatten(1).sum(1)
    )
    for optimizer in ("greedy", "gumbel"):
        found = attribute_uncertainty(
            roughness, X, segments="grid", n_segments=49, sparsity=0.5, optimizer=optimizer
        )
        assert (iou(found, regions).iou > 0.8).all()


def test_bad_scores():
    values = np.zeros((1, 10, 10))
    with pytest.raises(ValueError, match=r"same shape.*got \(1, 10, 10\) and \(1, 10, 9\)"):
        iou(values, REGION[:, :, :9])
    with pytest.raises(TypeError, match="regions must be boolean, got int64"):
        iou(values, REGION.astype(int))
    with pytest.raises(ValueError, match="NaN"):
        iou(values * np.nan, REGION)
    with pytest.raises(ValueError, match="some pixels, and not all"):
        iou(values, ~REGION | REGION)
    X, U = peak()
    with pytest.raises(ValueError, match=r"'blur', 'mean', 'inpaint', got 'blurr'.*mean 'blur'"):
        uncertainty_reduction(U, X, X, fill="blurr")
    with pytest.raises(ValueError, match=r"values must be finite and of shape \(2, 10, 10\)"):
        uncertainty_reduction(U, X, X[:1])
    with pytest.raises(ValueError, match="q must be one number strictly between 0 and 1, got 2"):
        uncertainty_reduction(U, X, X, q=2)
    with pytest.raises(ValueError, match=r"'patch', 'noise', 'rectangle', got 'Noise'.*'noise'"):
        planted_regions(U, X, corruption="Noise")
    with pytest.raises(ValueError, match="made none of 2 images more uncertain"):
        planted_regions(lambda x: x.flatten(1).sum(1) * 0 + 1, X)
    none = uncertainty_reduction(lambda x: x.flatten(1).sum(1) * 0, X, X)
    assert np.isnan(none.reduction).all()
    assert torch.is_grad_enabled()
