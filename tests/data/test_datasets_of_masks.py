"""Datasets of pairs (image, mask), which are read batch by batch, both together."""

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from skuq.posteriors import DeepEnsemble, PointEstimate
from tests.networks.dense import images, segmenter


def pairs(X, y):
    return TensorDataset(torch.as_tensor(X), torch.as_tensor(y))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ignore_label": 2, "class_weight": {0: 3.0}},
        {"early_stopping": True, "validation_fraction": 0.3},
        {"posterior": DeepEnsemble(2, n_jobs=1), "class_weight": "balanced"},
    ],
)
def test_a_dataset_trains_as_arrays_do(options):
    X, y = images(8)
    y[3, :, :2] = 2
    weight = None if "posterior" in options else np.arange(8) % 4
    one = segmenter(batch_size=3, **options).fit(X, y, weight)
    other = segmenter(batch_size=3, **options).fit(pairs(X, y), sample_weight=weight)
    np.testing.assert_allclose(other.predict_proba(X), one.predict_proba(X), rtol=0, atol=1e-9)
    np.testing.assert_array_equal(other.predict_proba(pairs(X, y)), other.predict_proba(X))
    assert other.score(pairs(X, y)) == pytest.approx(one.score(X, y))


def test_pixel_weights_of_a_dataset():
    X, y = images(8)
    weight = np.random.default_rng(0).uniform(size=y.shape)
    one = segmenter().fit(X, y, pixel_weight=weight)
    other = segmenter().fit(pairs(X, y), pixel_weight=weight)
    np.testing.assert_allclose(other.predict_proba(X), one.predict_proba(X), rtol=0, atol=1e-9)


class Changing(Dataset):
    """In each call another image of one value, whose sign is the label of all its pixels."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        value = torch.randn(())
        label = 1 + int(value > 0)
        mask = torch.full((4, 3), label)
        mask[0, 0] = 3 - label if index == 0 else label  # both labels in every pass
        return value.expand(1, 4, 3).clone(), mask


def test_masks_change_together_with_their_images():
    one = segmenter(PointEstimate(), module__dropout=0.0, max_epochs=30, random_state=1)
    one.fit(Changing())
    values = np.linspace(-1, 1, 9)
    X = np.broadcast_to(values[:, None, None, None], (9, 1, 4, 3))
    guess = one.predict(np.delete(X, 4, axis=0))[:, 2, 1]
    assert np.array_equal(guess, [1, 1, 1, 1, 2, 2, 2, 2])
    with pytest.raises(ValueError, match=r"masks that the Dataset changes each time"):
        segmenter().fit(Changing(), pixel_weight=np.ones((12, 4, 3)))


def test_datasets_without_an_order_are_read_once():
    X, y = images(8)

    class Stream(IterableDataset):
        def __iter__(self):
            return iter(zip(torch.as_tensor(X), torch.as_tensor(y)))

    one, other = segmenter().fit(X, y), segmenter().fit(Stream())
    np.testing.assert_allclose(other.predict_proba(X), one.predict_proba(X), rtol=0, atol=1e-9)


def test_masks_of_several_sizes_are_refused():
    class Ragged(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return torch.zeros(1, 4, 4), torch.zeros(4, 4 - index % 2, dtype=torch.int64)

    with pytest.raises(ValueError, match=r"several shapes, such as \(4, 3\) and \(4, 4\)"):
        segmenter().fit(Ragged())


def test_memory_maps_of_images(tmp_path, monkeypatch):
    X, y = images(8)
    X = X.astype(np.float32)
    mapped = np.memmap(tmp_path / "images", np.float32, "w+", shape=X.shape)
    mapped[:] = X
    monkeypatch.setattr("skuq._data._streams._MAPPED_BYTES", 100)
    one = segmenter(precision="float32").fit(X, y)
    other = segmenter(precision="float32").fit(mapped, y)
    np.testing.assert_allclose(other.predict_proba(mapped), one.predict_proba(X), atol=1e-6)
