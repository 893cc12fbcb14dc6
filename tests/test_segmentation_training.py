"""A classifier of pixels learns and weighs as a classifier of rows does."""

import numpy as np
import pytest

from skuq import TorchClassifier
from skuq.posteriors import SGMCMC, DeepEnsemble, MCDropout, PointEstimate
from tests.networks.dense import LinearOfPixels, Pixelwise, images, segmenter


class PixelwiseRows(Pixelwise):
    """The same network for images of a single pixel, as rows."""

    def forward(self, x):
        return super().forward(x)[..., 0, 0]


@pytest.mark.parametrize(
    "posterior",
    [
        MCDropout(5),
        DeepEnsemble(2),
        DeepEnsemble(2, adversarial=0.1),
        PointEstimate(),
        SGMCMC(n_cycles=2, n_epochs=2, n_draws_per_cycle=1),  # lr=None: of the largest curvature
    ],
    ids=repr,
)
def test_images_of_one_pixel_are_rows(posterior):
    """Segmentation and classification are one task."""
    X, y = images(40, height=1, width=1)
    weight = np.random.default_rng(5).uniform(0.5, 2, size=40)
    options = {"max_epochs": 8, "batch_size": 16, "class_weight": "balanced"}
    one = segmenter(posterior, **options).fit(X, y, sample_weight=weight)
    rows = TorchClassifier(
        PixelwiseRows,
        posterior=posterior,
        module__n_channels=2,
        precision="float64",
        lr=0.02,
        random_state=0,
        **options,
    ).fit(X, y[:, 0, 0], sample_weight=weight)
    X, _ = images(30, height=1, width=1, seed=1)
    got, expected = one.predict_proba(X)[..., 0, 0], rows.predict_proba(X)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)
    for part, other in zip(one.predict_uncertainty(X, "all"), rows.predict_uncertainty(X, "all")):
        np.testing.assert_allclose(part[:, 0, 0], other, rtol=0, atol=1e-6)
    assert one.history_[-1]["train_loss"] == pytest.approx(rows.history_[-1]["train_loss"])


def trained(*args, posterior=None, **options):
    given = {
        name: options.pop(name) for name in ("sample_weight", "pixel_weight") if name in options
    }
    return segmenter(posterior, **options).fit(*args, **given).predict_proba(args[0])


def test_weights_of_one_and_factors_of_weights_change_nothing():
    X, y = images()
    plain = trained(X, y)
    np.testing.assert_array_equal(trained(X, y, pixel_weight=np.ones(y.shape)), plain)
    np.testing.assert_array_equal(trained(X, y, sample_weight=np.full(6, 7.0)), plain)
    weight = np.random.default_rng(0).uniform(size=y.shape)
    weighted = trained(X, y, pixel_weight=weight)
    assert np.abs(weighted - plain).max() > 1e-3
    np.testing.assert_allclose(trained(X, y, pixel_weight=4e5 * weight), weighted, atol=1e-9)
    by_image = np.broadcast_to(weight[:, :1, :1], y.shape)
    one, other = trained(X, y, pixel_weight=by_image), trained(X, y, sample_weight=weight[:, 0, 0])
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("how", ["ignore_label", "pixel_weight", "nan"])
def test_pixels_that_do_not_count_teach_nothing(how):
    X, y = images()
    out = np.random.default_rng(3).uniform(size=y.shape) < 0.3
    results = []
    for label in (0, 2):
        masks, options = np.where(out, label, y), {}
        if how == "ignore_label":
            masks, options = np.where(out, 255, y), {"ignore_label": 255}
        elif how == "nan":
            masks, options = np.where(out, np.nan, y), {"ignore_label": np.nan}
        else:
            options = {"pixel_weight": (~out).astype(float)}
        results.append(trained(X, masks, **options))
    np.testing.assert_array_equal(*results)
    weighed = trained(X, y, pixel_weight=(~out).astype(float))
    np.testing.assert_allclose(results[0], weighed, rtol=0, atol=1e-12)


def test_images_without_a_counted_pixel_take_no_part():
    X, y = images(7)
    y[3] = 9
    without = trained(np.delete(X, 3, axis=0), np.delete(y, 3, axis=0), ignore_label=9)
    np.testing.assert_array_equal(trained(X, y, ignore_label=9)[[0, 1, 2, 4, 5, 6]], without)


def test_batches_without_a_counted_pixel_harm_nothing():
    X, y = images(8)
    y[1:] = 9
    y[1:, 0, 0] = np.arange(7) % 3
    weight = np.where(np.arange(8) == 0, 1.0, 1e-300)[:, None, None] * np.ones(y.shape)
    with np.errstate(all="raise"):
        proba = trained(X, y, ignore_label=9, batch_size=2, pixel_weight=weight)
    assert np.isfinite(proba).all()


def test_weights_of_classes_and_pixels_multiply():
    X, y = images()
    weight = np.random.default_rng(0).uniform(size=y.shape)
    by_class = np.array([1.0, 0.5, 3.0])
    one = trained(X, y, pixel_weight=weight, class_weight=dict(enumerate(by_class)))
    other = trained(X, y, pixel_weight=weight * by_class[y])
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)
    balanced = segmenter(class_weight="balanced").fit(X, y)
    counts = np.bincount(y.ravel())
    shares = trained(X, y, pixel_weight=(y.size / 3 / counts)[y])
    np.testing.assert_allclose(balanced.predict_proba(X), shares, rtol=0, atol=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_stack_trains_as_single_networks(weighted):
    X, y = images(9)
    weight = np.random.default_rng(1).uniform(size=y.shape) if weighted else None
    masks = np.where(y == 2, np.arange(9)[:, None, None] % 3, y)
    fits = []
    for posterior in (DeepEnsemble(3), DeepEnsemble(3, n_jobs=1)):
        one = segmenter(
            posterior,
            module=LinearOfPixels,
            ignore_label=2,
            batch_size=4,
            early_stopping=True,
            validation_fraction=0.3,
        )
        fits.append(one.fit(X, masks, pixel_weight=weight))
    stack, single = fits
    np.testing.assert_allclose(stack.predict_proba(X), single.predict_proba(X), rtol=0, atol=1e-8)
    for one, other in zip(stack.histories_, single.histories_):
        for key in ("train_loss", "valid_loss"):
            np.testing.assert_allclose([r[key] for r in one], [r[key] for r in other], atol=1e-8)


def test_training_goes_on():
    X, y = images()
    one = segmenter(warm_start=True).fit(X, y)
    first = one.predict_proba(X)
    one.fit(X, y)
    assert np.abs(one.predict_proba(X) - first).max() > 1e-3
    with pytest.raises(ValueError, match="no pixel of y is"):
        one.fit(X, np.minimum(y, 1))
    step = segmenter().partial_fit(X, np.minimum(y, 1), classes=[0, 1, 2])
    step.partial_fit(X, y, pixel_weight=np.ones(y.shape))
    assert step.predict_proba(X).shape == (6, 3, 6, 4)
    with pytest.raises(ValueError, match=r"labels \[3\] that are not in the classes"):
        step.partial_fit(X, y + 1)


def test_a_batch_of_partial_fit_may_hold_one_class():
    X, y = images()
    one = segmenter(ignore_label=9).partial_fit(X, np.zeros_like(y), classes=[0, 1, 2, 9])
    assert np.array_equal(one.classes_, [0, 1, 2])  # without the ignored label
    first = one.predict_proba(X)[:, 0].mean()
    assert one.partial_fit(X, np.zeros_like(y)).predict_proba(X)[:, 0].mean() > first
    assert one.partial_fit(X, y, classes=[2, 1, 0]).predict_proba(X)[:, 0].mean() < 1
