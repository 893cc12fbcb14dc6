"""A classifier of each pixel answers by maps, with any likelihood and in scikit-learn's hands."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

import skuq
from skuq import TorchSegmenter
from skuq.augmentation import Flip, TestTimeAugmentation
from skuq.likelihoods import Bernoulli, Categorical, StochasticLogits, UncertaintyAware
from skuq.posteriors import LastLayerLaplace, MCDropout, PointEstimate
from tests.networks.dense import LinearOfPixels, Pixelwise, images, segmenter
from tests.test_common import all_posteriors


@pytest.fixture(scope="module")
def fitted():
    return segmenter().fit(*images())


def test_answers_are_maps(fitted):
    X, _ = images(seed=1)
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


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(3), r"shape \(3,\), expected \(6,\)"),
        (np.ones((6, 6, 4)), "a number for each image"),
        (-np.ones(6), "not negative"),
        (np.zeros(6), "not all zero"),
        (np.full(6, np.nan), "finite"),
    ],
)
def test_scores_refuse_weights_that_are_none(fitted, weight, message):
    X, y = images()
    augmented = TestTimeAugmentation(FrozenEstimator(fitted), Flip()).fit(X, y)
    for one in (fitted, augmented):
        with pytest.raises(ValueError, match=message):
            one.score(X, y, weight)


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


def test_draws_of_many_pixels_are_announced(fitted, monkeypatch):
    X, _ = images(5)
    size = 8 * 4 * 5 * 3 * 24
    monkeypatch.setattr("skuq._reductions._MANY_BYTES", size)
    fitted.predict_draws(X)
    monkeypatch.setattr("skuq._reductions._MANY_BYTES", size - 1)
    with pytest.warns(UserWarning, match="predict_draws keeps every draw"):
        fitted.predict_draws(X)


@pytest.mark.parametrize("posterior", all_posteriors(), ids=lambda one: type(one).__name__)
def test_every_posterior_answers_by_maps(posterior):
    X, y = images()
    y[0, :2] = 9
    weight = np.random.default_rng(0).uniform(size=y.shape)
    one = segmenter(posterior, ignore_label=9, batch_size=4, precision="float32")
    if isinstance(posterior, LastLayerLaplace):  # it needs a linear layer, and rows
        with pytest.raises(ValueError, match=r"needs a network that ends in an nn\.Linear"):
            one.fit(X, y)
        return
    one.fit(X, y, pixel_weight=weight)
    draws = one.predict_draws(X)
    assert draws.shape[1:] == (6, 3, 6, 4) and (one.predict_uncertainty(X, "epistemic") >= 0).all()
    np.testing.assert_allclose(draws.mean(axis=0), one.predict_proba(X), rtol=0, atol=1e-6)


def test_a_linear_layer_of_pixels_has_no_laplace_approximation():
    with pytest.raises(ValueError, match="LastLayerLaplace needs a network"):
        segmenter(LastLayerLaplace(n_draws=3), module=LinearOfPixels).fit(*images())
