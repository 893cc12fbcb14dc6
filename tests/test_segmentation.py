"""A classifier of each pixel: it learns, weighs and answers as a classifier of rows does."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

import skuq
from skuq import TorchClassifier, TorchSegmenter
from skuq.likelihoods import Bernoulli, Categorical, StochasticLogits, UncertaintyAware
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate
from tests.networks.dense import LinearOfPixels, Pixelwise, images, segmenter


@pytest.fixture(scope="module")
def fitted():
    return segmenter().fit(*images())


class PixelwiseRows(Pixelwise):
    """The same network for images of a single pixel, as rows."""

    def forward(self, x):
        return super().forward(x)[..., 0, 0]


# -- answers -----------------------------------------------------------------------------------------


def test_answers_are_maps(fitted):
    X, y = images(seed=1)
    proba, parts = fitted.predict_proba(X, return_uncertainty=True)
    draws = fitted.predict_draws(X)
    assert proba.shape == (6, 3, 6, 4) and draws.shape == (4, 6, 3, 6, 4)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(draws.mean(axis=0), proba, rtol=0, atol=1e-12)
    assert np.array_equal(fitted.predict(X), proba.argmax(axis=1))
    for answer in (fitted.predict_log_proba(X), fitted.decision_function(X)):
        np.testing.assert_allclose(answer, np.log(proba), rtol=0, atol=1e-12)
    assert parts.total.shape == (6, 6, 4)
    np.testing.assert_allclose(parts.total, entropy(proba, axis=1), rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        parts.aleatoric, entropy(draws, axis=2).mean(axis=0), rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(parts.total, parts.aleatoric + parts.epistemic, rtol=0, atol=1e-12)
    spread = fitted.predict_uncertainty(X, "epistemic", "variance")
    expected = ((draws - draws.mean(axis=0)) ** 2).mean(axis=0).sum(axis=1)
    np.testing.assert_allclose(spread, expected, rtol=0, atol=1e-12)
    assert (spread >= 0).all()


def test_blocks_of_pixels_and_draws_change_nothing(fitted, monkeypatch):
    X, _ = images(5, seed=1)
    whole = [fitted.predict_proba(X), *fitted.predict_uncertainty(X, "all")]
    x = torch.as_tensor(X)
    stacked = fitted.draws(x).softmax(2)
    np.testing.assert_allclose(whole[0], stacked.mean(0), rtol=0, atol=1e-12)
    for sizes in ((1, 5, 1), (2, 16, 3)):
        for name, size in zip(("n_rows", "n_reduced", "n_draws_at_once"), sizes):
            monkeypatch.setattr(fitted._engine, name, size)
        for one, other in zip(
            whole, [fitted.predict_proba(X), *fitted.predict_uncertainty(X, "all")]
        ):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


def test_one_draw_has_no_epistemic_uncertainty():
    X, y = images()
    one = segmenter(PointEstimate()).fit(X, y)
    assert np.array_equal(one.predict_uncertainty(X, "epistemic", "variance"), np.zeros(y.shape))


def test_images_are_ranked_by_their_maps(fitted):
    X, _ = images(seed=1)
    maps = fitted.predict_uncertainty(X)
    np.testing.assert_allclose(fitted.predict_image_uncertainty(X), maps.mean((1, 2)))
    np.testing.assert_array_equal(fitted.predict_image_uncertainty(X, "max"), maps.max((1, 2)))
    share = fitted.predict_image_uncertainty(X, "share_above", threshold=float(np.median(maps)))
    np.testing.assert_allclose(share, (maps > np.median(maps)).mean((1, 2)))
    epistemic = fitted.predict_image_uncertainty(X, kind="epistemic", measure="variance")
    of_maps = fitted.predict_uncertainty(X, "epistemic", "variance").mean((1, 2))
    np.testing.assert_allclose(epistemic, of_maps)
    for options, message in [
        ({"reduction": "sum"}, "reduction must be one of 'mean'"),
        ({"reduction": "share_above"}, "threshold goes together"),
        ({"threshold": 0.1}, "threshold goes together"),
        ({"kind": "all"}, "choose total"),
    ]:
        with pytest.raises(ValueError, match=message):
            fitted.predict_image_uncertainty(X, **options)


def test_images_of_another_size(fitted):
    X, _ = images(3, height=9, width=5)
    assert fitted.predict_proba(X).shape == (3, 3, 9, 5)
    parts = [fitted.predict_proba(image[None])[0] for image in X]
    np.testing.assert_array_equal(fitted.predict_proba(X), parts)


def test_masks_of_single_pixels_have_the_size_of_fit():
    class OfPixels(Pixelwise):
        def __init__(self, n_channels, n_outputs):
            super().__init__(n_channels, n_outputs)
            self[2] = nn.Dropout(0.2)

    X, y = images()
    fixed = segmenter(module=OfPixels).fit(X, y)
    with pytest.raises(ValueError, match=r"same shape as in fit, or use a dropout.*Dropout2d"):
        fixed.predict(images(2, height=9)[0])


@pytest.mark.parametrize("kind", ["text", "objects", "booleans", "floats", "bytes"])
def test_labels_of_any_type(kind, fitted):
    X, y = images()
    labels = {
        "text": np.array(["a", "b", "c"]),
        "objects": np.array(["a", "b", "c"], dtype=object),
        "booleans": np.array([False, True, True]),
        "floats": np.array([1.0, 2.0, 7.0]),
        "bytes": np.array([3, 40, 200], dtype=np.uint8),
    }[kind]
    other = segmenter().fit(X, labels[y])
    assert np.array_equal(other.classes_, np.unique(labels))
    if kind != "booleans":
        assert np.array_equal(other.predict_proba(X), fitted.predict_proba(X))
        assert np.array_equal(other.predict(X), labels[fitted.predict(X)])
        assert other.score(X, labels[y]) == fitted.score(X, y)


def test_score_is_the_mean_intersection_over_union(fitted):
    X, y = images(seed=4)
    guess = fitted.predict(X)
    each = [((y == k) & (guess == k)).sum() / ((y == k) | (guess == k)).sum() for k in range(3)]
    assert fitted.score(X, y) == pytest.approx(np.mean(each))
    assert fitted.score(X, guess) == 1
    ignoring = clone(fitted).set_params(ignore_label=255).fit(*images())
    masked = np.where(guess == y, y, 255)
    assert ignoring.score(X, masked) == pytest.approx(1)
    half = np.where(np.arange(6)[:, None, None] < 3, y, 255)
    weights = [1, 1, 1, 0, 0, 0]
    assert ignoring.score(X, half) == pytest.approx(ignoring.score(X[:3], y[:3]))
    assert ignoring.score(X, y, weights) == pytest.approx(ignoring.score(X[:3], y[:3]))
    with pytest.raises(ValueError, match="no pixel of y counts"):
        ignoring.score(X, np.full(y.shape, 255))


# -- training ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("posterior", [MCDropout(5), DeepEnsemble(2), PointEstimate()])
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
        fits.append(
            one.fit(X, np.where(y == 2, np.arange(9)[:, None, None] % 3, y), pixel_weight=weight)
        )
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


# -- likelihoods -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "likelihood",
    [Categorical(label_smoothing=0.1), StochasticLogits(6), UncertaintyAware()],
    ids=lambda one: type(one).__name__,
)
def test_likelihoods_of_classes(likelihood):
    X, y = images()
    one = segmenter(likelihood=likelihood).fit(X, y)
    outputs = one.draws(torch.as_tensor(X))
    flat = outputs.movedim(2, -1).flatten(1, -2)
    expected = one.likelihood_.predictive(flat).probs.mean(0).reshape(6, 6, 4, 3).movedim(-1, 1)
    np.testing.assert_allclose(one.predict_proba(X), expected.detach(), rtol=0, atol=1e-12)


def test_masks_that_overlap():
    X, y = images()
    masks = np.stack([y == 0, y >= 1, X[:, 1] > 0], axis=1).astype(int)
    one = segmenter(likelihood=Bernoulli(), max_epochs=40).fit(X, masks)
    assert np.array_equal(one.classes_, [0, 1, 2])
    proba, draws = one.predict_proba(X), one.predict_draws(X)
    assert proba.shape == (6, 3, 6, 4) and draws.shape == (4, 6, 3, 6, 4)
    np.testing.assert_allclose(draws.mean(0), proba, rtol=0, atol=1e-12)
    outputs = one.draws(torch.as_tensor(X)).sigmoid().mean(0).detach()
    np.testing.assert_allclose(proba, outputs, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(one.predict(X), proba > 0.5)
    assert (one.predict(X) == masks).mean(axis=(0, 2, 3)).min() > 0.6
    maps = one.predict_uncertainty(X, "all")
    np.testing.assert_allclose(maps.total, entropy([proba, 1 - proba]), rtol=0, atol=1e-12)
    assert one.decision_function(X).shape == one.predict_log_proba(X).shape == (6, 3, 6, 4)
    masks[:, :, :2] = 7
    ignoring = segmenter(likelihood=Bernoulli(), ignore_label=7).fit(X, masks)
    assert 0 < ignoring.score(X, masks) <= 1
    for name in ("class_weight", "pixel_weight"):
        with pytest.raises(ValueError, match="one mask for each image"):
            options = {"class_weight": "balanced"} if name == "class_weight" else {}
            fit = {} if options else {"pixel_weight": "balanced"}
            segmenter(likelihood=Bernoulli(), ignore_label=7, **options).fit(X, masks, **fit)


def test_two_classes_by_one_output():
    X, y = images()
    one = segmenter(likelihood=Bernoulli()).fit(X, y > 0)
    assert one.predict_proba(X).shape == (6, 2, 6, 4)
    log_odds = one.decision_function(X)
    assert log_odds.shape == (6, 6, 4) and np.array_equal(one.predict(X), log_odds > 0)


# -- scikit-learn ------------------------------------------------------------------------------------


def test_tags_clone_searches_and_pipelines():
    X, y = images(9)
    one = segmenter(PointEstimate(), ignore_label=255)
    assert is_classifier(one) and not one.__sklearn_tags__().input_tags.two_d_array
    assert clone(one).get_params()["ignore_label"] == 255
    scores = cross_validate(one, X, y, cv=3)["test_score"]
    assert len(scores) == 3 and (scores > 0).all()
    search = GridSearchCV(one, {"lr": [1e-4, 0.1], "module__width": [3]}, cv=2).fit(X, y)
    assert search.best_params_["lr"] == 0.1
    assert skuq.predict_uncertainty(search, X, kind="epistemic").shape == y.shape
    pipeline = make_pipeline(FunctionTransformer(np.negative), one).fit(X, y)
    direct = clone(one).fit(-X, y)
    np.testing.assert_array_equal(pipeline.predict_proba(X), direct.predict_proba(-X))
    np.testing.assert_array_equal(
        skuq.predict_uncertainty(pipeline, X), direct.predict_uncertainty(-X)
    )


def test_the_default_network_is_a_unet():
    X, y = images(height=8, width=8)
    one = TorchSegmenter(
        posterior=MCDropout(3), module__base_width=2, module__depth=1, max_epochs=1, random_state=0
    ).fit(X, y)
    assert type(one.module_) is skuq.modules.UNet and one.network_.n_outputs == 3
    assert one.predict_uncertainty(X, "epistemic").max() > 0


# -- refusals ----------------------------------------------------------------------------------------


class Smaller(Pixelwise):
    def forward(self, x):
        return super().forward(x)[..., 1:, :]


class Squashed(Pixelwise):
    def forward(self, x):
        return super().forward(x).softmax(1)


def with_nan(X):
    X = X.copy()
    X[1, 0, 2, 2] = np.nan
    return X


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: (X, y[:, 1:], {}), r"y has shape \(6, 5, 4\), expected \(6, 6, 4\)"),
        (lambda X, y: (X, y[:, None], {}), r"expected \(6, 6, 4\).*Give y\[:, 0\]"),
        (lambda X, y: (X, y[:5], {}), r"y has shape \(5, 6, 4\), expected \(6, 6, 4\)"),
        (lambda X, y: (X, np.stack([y, y], 1), {}), "likelihood=Bernoulli"),
        (lambda X, y: (X, y / 4, {}), "fractions such as 0.25.*y > 0.5.*nearest neighbours"),
        (lambda X, y: (X, np.where(y == 0, np.nan, y), {}), "NaN.*ignore_label"),
        (lambda X, y: (X, np.full(y.shape, 9), {"ignore_label": 9}), "every pixel of y is 9"),
        (lambda X, y: (X, np.zeros(y.shape), {}), "only one class"),
        (lambda X, y: (X, None, {}), "requires y"),
        (lambda X, y: (X[:, 0], y, {}), r"must hold images.*give X\[:, None\]"),
        (lambda X, y: (X.reshape(6, -1), y, {}), "must hold images"),
        (lambda X, y: (with_nan(X), y, {}), "contains NaN"),
        (lambda X, y: (X, y, {"module": Smaller}), r"width \(5, 4\) for images of \(6, 4\)"),
        (lambda X, y: (X, y, {"module": Squashed}), "ends in softmax"),
        (lambda X, y: (X, y, {"pixel_weight": np.ones((6, 4))}), r"\(6, 4\), expected \(6, 6, 4\)"),
        (lambda X, y: (X, y, {"pixel_weight": -np.ones(y.shape)}), "not negative"),
        (
            lambda X, y: (X, y, {"pixel_weight": np.zeros(y.shape)}),
            "weights of all pixels are zero",
        ),
        (lambda X, y: (X, y, {"pixel_weight": (y == 1) * 1.0}), "only one class is left"),
        (lambda X, y: (X, y, {"class_weight": {5: 1.0}}), "class_weight names 5"),
    ],
)
def test_refusals_name_the_fix(change, message):
    X, y, options = change(*images())
    weight = {"pixel_weight": options.pop("pixel_weight")} if "pixel_weight" in options else {}
    with pytest.raises(ValueError, match=f"(?s){message}"):
        segmenter(**options).fit(X, y, **weight)


def test_predictions_refuse_other_images(fitted):
    X, y = images()
    with pytest.raises(ValueError, match="3 channels.*fitted on images of 2"):
        fitted.predict(np.concatenate([X, X[:, :1]], axis=1))
    with pytest.raises(ValueError, match="NaN"):
        fitted.predict(with_nan(X))
    with pytest.raises(ValueError, match="needs masks"):
        fitted.score(X)
    with pytest.raises(ValueError, match=r"expected \(6, 6, 4\)"):
        fitted.score(X, y[:, 1:])
