"""Segmentation: images all of whose pixels are ignored have no label."""

import numpy as np
import pytest

import skuq
from skuq import TorchSegmenter
from skuq.posteriors import MCDropout
from skuq.semi_supervised import MeanTeacher


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(0)
    X = random.normal(size=(10, 1, 8, 8)).astype(np.float32)
    y = np.where(X[:, 0] > 0, "bright", "dark").astype(object)
    few = y.copy()
    few[4:] = "?"
    few[0, :2] = "?"  # a part of an image, which still has a label
    return X, few, y


def segmenter(**options):
    return TorchSegmenter(
        module__base_width=2, module__depth=1, batch_size=3, max_epochs=2, random_state=0,
        posterior=MCDropout(2), **{"ignore_label": "?", **options},
    )  # fmt: skip


def test_images_without_a_label(images, tmp_path):
    X, few, _ = images
    taught = MeanTeacher(segmenter(lr=0.01), consistency=9.0, n_draws=2).fit(X, few)
    assert taught.n_unlabelled_ == 6 and taught.classes_.tolist() == ["bright", "dark"]
    assert taught.predict_proba(X).shape == (10, 2, 8, 8)
    assert taught.predict_image_uncertainty(X).shape == (10,)
    assert taught.score(X, few) == taught.estimator_.score(X[:4], few[:4])
    skuq.save(taught, tmp_path / "segmenter.skuq")
    loaded = skuq.load(tmp_path / "segmenter.skuq")
    assert np.array_equal(loaded.predict_draws(X), taught.predict_draws(X))
    weighted = MeanTeacher(segmenter(lr=0.01), consistency=9.0, n_draws=2)
    weighted.fit(X, few, sample_weight=np.linspace(0.1, 2, 10))
    assert not np.array_equal(weighted.predict_proba(X), taught.predict_proba(X))


@pytest.mark.filterwarnings("ignore:every row")
def test_without_such_images_the_student_trains_as_usual(images):
    X, _, y = images
    plain = segmenter().fit(X, y)
    taught = MeanTeacher(segmenter(), ema_decay=0.0).fit(X, y)
    assert np.array_equal(taught.predict_draws(X), plain.predict_draws(X))


def test_refusals(images):
    X, few, y = images
    with pytest.raises(ValueError, match="none of 10 rows has a label"):
        MeanTeacher(segmenter()).fit(X, np.full_like(few, "?"))
    with pytest.warns(UserWarning, match="only pixels of the estimator's ignore_label"):
        MeanTeacher(segmenter(ignore_label=None)).fit(X, y)
