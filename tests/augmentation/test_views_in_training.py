"""Views that change the images of training, and their masks in the same way."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

import skuq
from skuq._data._batches import Batch
from skuq._data._views import viewed
from skuq.augmentation import Crop, FeatureNoise, Flip, GaussianNoise, Shift
from skuq.posteriors import DeepEnsemble, PointEstimate
from tests.networks.dense import LinearOfPixels, images, segmenter


def batch_of(n=20, height=8, width=10, weighted=False):
    """Images whose first channel is their mask."""
    random = torch.Generator().manual_seed(0)
    masks = torch.randint(5, (n, height, width), generator=random)
    x = torch.stack([masks.double(), torch.rand(masks.shape, generator=random).double()], dim=1)
    weight = torch.rand(masks.shape, generator=random).double() + 0.1 if weighted else None
    return Batch.of(x, masks.to(torch.int8), weight)


@pytest.mark.parametrize("views", [[Flip()], [Flip(-2), Shift(2, fill="wrap")], [Shift()]])
@pytest.mark.parametrize("weighted", [False, True])
def test_masks_move_with_their_images(views, weighted):
    batch = batch_of(weighted=weighted)
    got = viewed(batch, views, torch.Generator().manual_seed(1))
    assert torch.equal(got[0][:, 0], got[1].double()) and got[1].dtype == torch.int8
    changed = (got[0] != batch[0]).flatten(1).any(1)
    assert 0.2 < changed.double().mean() < 0.95
    assert (got.weight is None) == (not weighted)
    if weighted:
        pairs = dict(zip(batch[0][:, 1].flatten().tolist(), batch.weight.flatten().tolist()))
        moved = [pairs[value] for value in got[0][:, 1].flatten().tolist()]
        assert moved == got.weight.flatten().tolist()


def test_each_view_changes_half_of_the_images():
    batch = batch_of(400)
    flipped = viewed(batch, [Flip()], torch.Generator().manual_seed(0))[0] != batch[0]
    assert abs(flipped.flatten(1).any(1).double().mean() - 0.5) < 0.08
    again = viewed(batch, [Flip()], torch.Generator().manual_seed(0))[0] != batch[0]
    assert torch.equal(flipped, again)


def test_a_gap_does_not_count():
    got = viewed(batch_of(), [Shift(3, fill="zero")], torch.Generator().manual_seed(2))
    outside = (got[0] == 0).all(1) & (got.weight == 0)
    assert torch.equal(got.weight == 0, outside) and 0 < outside.double().mean() < 0.5


def test_a_crop_takes_the_nearest_pixel_of_masks():
    columns = torch.arange(64.0).expand(30, 1, 48, 64)
    batch = Batch.of(columns.clone(), columns[:, 0].to(torch.int32), None)
    x, masks = viewed(batch, [Crop(0.5)], torch.Generator().manual_seed(0))
    assert (x != columns).any() and float((x[:, 0] - masks).abs().max()) <= 0.5 + 1e-4


def test_noise_moves_no_mask():
    batch = batch_of()
    x, masks = viewed(batch, [GaussianNoise(1.0)], torch.Generator().manual_seed(0))
    assert torch.equal(masks, batch[1]) and not torch.equal(x, batch[0])


def test_masks_of_several_labels_move():
    batch = batch_of()
    several = torch.stack([batch[1], 1 - batch[1]], dim=-1)
    got = viewed(Batch.of(batch[0], several, None), [Flip()], torch.Generator().manual_seed(3))
    assert torch.equal(got[1][..., 0].double(), got[0][:, 0])
    assert torch.equal(got[1][..., 1], 1 - got[1][..., 0])


def test_segmenters_train_on_views_and_predict_without():
    X, y = images(8)
    given = X.copy()
    plain = segmenter(PointEstimate(), module__dropout=0.0).fit(X, y)
    views = [Flip(), Shift(1, fill="wrap")]
    one = clone(plain).set_params(training_views=views)
    proba = one.fit(X, y).predict_proba(X)
    assert np.abs(proba - plain.predict_proba(X)).max() > 1e-4
    np.testing.assert_array_equal(X, given)
    np.testing.assert_array_equal(clone(one).fit(X, y).predict_proba(X), proba)
    nothing = clone(plain).set_params(training_views=[]).fit(X, y)
    np.testing.assert_array_equal(nothing.predict_proba(X), plain.predict_proba(X))


def test_a_stack_has_the_views_of_its_networks():
    X, y = images(9)
    options = {"module": LinearOfPixels, "batch_size": 4, "ignore_label": 2}
    options["training_views"] = [Flip(), Shift(1, fill="zero")]
    stack, single = (
        segmenter(posterior, **options).fit(X, y)
        for posterior in (DeepEnsemble(3), DeepEnsemble(3, n_jobs=1))
    )
    np.testing.assert_allclose(stack.predict_proba(X), single.predict_proba(X), rtol=0, atol=1e-8)


def test_a_file_keeps_no_views_of_training(tmp_path):
    X, y = images()
    one = segmenter(training_views=Flip()).fit(X, y)
    skuq.save(one, tmp_path / "one.skuq")
    other = skuq.load(tmp_path / "one.skuq", module=type(one.module_))
    np.testing.assert_array_equal(other.predict_proba(X), one.predict_proba(X))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"training_views": [Flip]}, TypeError, "must be views"),
        ({"training_views": [np.negative]}, TypeError, "of_mask"),
        ({"training_views": FeatureNoise()}, TypeError, "of_mask"),
        ({"training_views": Crop(2.0)}, ValueError, "min_scale"),
        (
            {"training_views": Flip(), "iterator_train__num_workers": 0},
            ValueError,
            "iterator_train__num_workers",
        ),
    ],
)
def test_views_that_cannot_change_masks_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        segmenter(**options).fit(*images())
