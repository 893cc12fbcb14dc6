"""Test-time augmentation around estimators."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import entropy, norm
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq._distributions._softmax import Softmax
from skuq._predict import ClassifierPredictions
from skuq.augmentation import (
    FeatureNoise,
    Flip,
    GaussianNoise,
    Shift,
    TestTimeAugmentation,
    _evaluation,
    multi_view_vote,
)
from skuq.augmentation._mixing import ClassMean
from skuq.calibration import TemperatureScaler, VarianceScaler
from skuq.likelihoods import (
    Bernoulli,
    MixtureOfGaussians,
    Poisson,
    StudentT,
    UncertaintyAware,
)
from skuq.metrics import crps_scorer, ece_scorer, nll_scorer
from skuq.pipeline import Pipeline
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate
from tests.networks import ConvNet

CHEAP = {"max_epochs": 6, "lr": 0.01, "random_state": 0}


def classifier(posterior=None, **options):
    return TorchClassifier(posterior=posterior or MCDropout(4), **{**CHEAP, **options})


def regressor(**options):
    return TorchRegressor(posterior=MCDropout(4), **{**CHEAP, **options})


def frozen(fitted, views=(), X=None, y=None, **options):
    """Around a fitted estimator; what it is fitted on matters little."""
    options = {"random_state": 0, **options}
    return TestTimeAugmentation(FrozenEstimator(fitted), views, **options).fit(X, y)


@pytest.fixture(scope="module")
def fitted(blobs):
    return classifier().fit(*blobs)


@pytest.fixture(scope="module")
def images(digits):
    X, y = digits
    return X.reshape(-1, 1, 8, 8), y


@pytest.fixture(scope="module")
def on_images(images):
    return classifier(module=ConvNet).fit(*images)


@pytest.fixture(scope="module")
def fitted_regressor(diabetes):
    return regressor().fit(*diabetes)


def larger(X):
    return X * 1.2


def moved(X):
    return X + 0.5


SHIFTED = [larger, moved]


# ---------------------------------------------------------------------------------------------
# What the identity and invariances give


@pytest.mark.parametrize("options", [{}, {"views": [moved], "n_views": 1}], ids=["none", "one"])
def test_the_identity_alone_is_the_plain_prediction_to_the_bit(fitted, blobs, options):
    X, y = blobs
    augmented = frozen(fitted, X=X, y=y, **options)
    assert augmented.n_views_ == 1
    np.testing.assert_array_equal(augmented.predict_proba(X), fitted.predict_proba(X))
    np.testing.assert_array_equal(augmented.predict_draws(X), fitted.predict_draws(X))
    parts, plain = augmented.predict_uncertainty(X, "nested"), fitted.predict_uncertainty(X, "all")
    assert not parts.between_views.any()
    for one, other in zip((parts.total, parts.within_views, parts.epistemic), plain):
        np.testing.assert_array_equal(one, other)


def test_the_identity_alone_of_a_regressor(fitted_regressor, diabetes):
    X, y = diabetes
    augmented = frozen(fitted_regressor, X=X, y=y)
    for one, other in zip(augmented.predict(X, return_std=True), fitted_regressor.predict(X, True)):
        np.testing.assert_array_equal(one, other)
    parts = augmented.predict_uncertainty(X, "nested")
    assert not parts.between_views.any()
    plain = fitted_regressor.predict_uncertainty(X, "aleatoric")
    np.testing.assert_array_equal(parts.within_views, plain)


class Symmetric(ConvNet):
    def forward(self, x):
        return super().forward(x + x.flip(-1))


@pytest.mark.parametrize("measure", ["entropy", "variance"])
def test_nothing_is_between_views_to_which_the_network_is_blind(images, measure):
    X, y = images
    network = classifier(module=Symmetric).fit(X, y)
    augmented = frozen(network, Flip(), X, y)
    parts = augmented.predict_uncertainty(X, "nested", measure=measure)
    assert not parts.between_views.any()
    np.testing.assert_allclose(augmented.predict_proba(X), network.predict_proba(X), atol=1e-14)
    plain = network.predict_uncertainty(X, "all", measure=measure)
    np.testing.assert_allclose(parts.within_views, plain.aleatoric, atol=1e-13)
    blind = frozen(classifier(module=ConvNet).fit(X, y), Flip(), X, y)
    assert blind.predict_uncertainty(X, "nested", measure=measure).between_views.mean() > 1e-3


def test_nothing_is_between_equal_views_of_a_regressor(fitted_regressor, diabetes):
    X, y = diabetes
    augmented = frozen(fitted_regressor, [torch.clone] * 2, X, y)
    assert not augmented.predict_uncertainty(X, "nested").between_views.any()
    np.testing.assert_array_equal(augmented.predict(X), fitted_regressor.predict(X))


def test_over_a_flip_predictions_are_symmetric(on_images, images):
    X, y = images
    augmented = frozen(on_images, Flip(), X, y)
    flipped = augmented.predict_proba(X[..., ::-1].copy())
    np.testing.assert_allclose(augmented.predict_proba(X), flipped, atol=1e-12)
    assert np.abs(on_images.predict_proba(X[..., ::-1].copy()) - flipped).max() > 0.05


# ---------------------------------------------------------------------------------------------
# Averages and decompositions, by hand


def test_probabilities_and_entropies_by_hand(fitted, blobs):
    X, y = blobs
    augmented = frozen(fitted, SHIFTED, X, y)
    views = [X, X * np.float32(1.2), X + np.float32(0.5)]
    p = np.stack([fitted.predict_draws(view) for view in views])  # views, draws, rows, classes
    np.testing.assert_allclose(augmented.predict_draws(X), p.mean(0), atol=1e-13)
    np.testing.assert_allclose(augmented.predict_proba(X), p.mean((0, 1)), atol=1e-13)
    np.testing.assert_array_equal(augmented.predict(X), p.mean((0, 1)).argmax(1))
    logs = augmented.predict_log_proba(X)
    np.testing.assert_allclose(logs, np.log(p.mean((0, 1))), atol=1e-10)
    total = entropy(p.mean((0, 1)), axis=1)
    each = entropy(p.mean(0), axis=2).mean(0)
    within = entropy(p, axis=3).mean((0, 1))
    parts = augmented.predict_uncertainty(X, "nested")
    np.testing.assert_allclose(parts.total, total, atol=1e-12)
    np.testing.assert_allclose(parts.within_views, within, atol=1e-12)
    np.testing.assert_allclose(parts.between_views, each - within, atol=1e-12)
    np.testing.assert_allclose(parts.epistemic, total - each, atol=1e-12)
    assert parts.between_views.mean() > 1e-3
    for kind, expected in (("total", total), ("aleatoric", each), ("epistemic", total - each)):
        np.testing.assert_allclose(augmented.predict_uncertainty(X, kind), expected, atol=1e-12)
    both = augmented.predict_proba(X, return_uncertainty=True)
    np.testing.assert_allclose(both[1].aleatoric, each, atol=1e-12)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 1, 0), (0, 2, 1)])
def test_averages_of_what_underflows_stay_exact(order):
    """Whichever view is the first in which a probability is below the smallest number."""
    generator = torch.Generator().manual_seed(0)
    views = [torch.randn(2, 5, 3, generator=generator, dtype=torch.float64) for _ in range(3)]
    views[2] = views[2] - torch.tensor([0.0, 800.0, 900.0])
    every = torch.stack([view.log_softmax(-1) for view in views])
    mean = ClassMean()
    for k in order:
        mean.add(Softmax(views[k]))
    expected = every.logsumexp(0) - np.log(3)
    torch.testing.assert_close(mean.result().logits, expected, rtol=1e-13, atol=1e-13)
    tiny = ClassMean()
    for _ in range(2):
        tiny.add(Softmax(views[2]))
    torch.testing.assert_close(tiny.result().logits, every[2], rtol=1e-13, atol=1e-13)


def test_variances_of_probabilities_nest(fitted, blobs):
    X, y = blobs
    p = np.stack([fitted.predict_draws(v) for v in (X, X * np.float32(1.2), X + np.float32(0.5))])
    parts = frozen(fitted, SHIFTED, X, y).predict_uncertainty(X, "nested", measure="variance")
    np.testing.assert_allclose(parts.total, 1 - (p.mean((0, 1)) ** 2).sum(1), atol=1e-12)
    np.testing.assert_allclose(parts.between_views, p.var(0).sum(2).mean(0), atol=1e-12)
    np.testing.assert_allclose(parts.epistemic, p.mean(0).var(0).sum(1), atol=1e-12)
    np.testing.assert_allclose(parts.within_views, (1 - (p**2).sum(3)).mean((0, 1)), atol=1e-12)


def moments(network, X):
    """Means and variances of every draw, (n_draws, n_rows)."""
    both = network._reduce(X, lambda p: (p.mean.movedim(0, 1), p.variance.movedim(0, 1)))
    return (part[..., 0].T for part in both)


def test_the_law_of_total_variance(fitted_regressor, diabetes):
    """Over the views of each draw, over the draws, and over all of them at once."""
    X, y = diabetes
    X = X.astype(np.float32)
    augmented = frozen(fitted_regressor, SHIFTED, X, y)
    views = (X, X * np.float32(1.2), X + np.float32(0.5))
    means, variances = map(np.stack, zip(*(moments(fitted_regressor, view) for view in views)))
    parts = augmented.predict_uncertainty(X, "nested")
    total = variances.mean((0, 1)) + means.var((0, 1))
    scale = total.max()
    for part, expected in (
        (parts.within_views, variances.mean((0, 1))),
        (parts.between_views, means.var(0).mean(0)),
        (parts.epistemic, means.mean(0).var(0)),
        (parts.total, total),
        (parts.within_views + parts.between_views + parts.epistemic, total),
        # The other order of nesting has the same total.
        (parts.total, (variances.mean(1) + means.var(1)).mean(0) + means.mean(1).var(0)),
    ):
        np.testing.assert_allclose(part, expected, atol=1e-10 * scale, rtol=1e-10)
    assert parts.between_views.mean() > 0.001 * scale
    plain = augmented.predict_uncertainty(X, "all")
    np.testing.assert_allclose(plain.aleatoric, parts.within_views + parts.between_views)
    np.testing.assert_allclose(plain.epistemic, parts.epistemic)
    mean, std = augmented.predict(X, return_std=True)
    np.testing.assert_allclose(mean, means.mean((0, 1)))
    np.testing.assert_allclose(std, np.sqrt(total))


def test_quantiles_are_those_of_the_whole_mixture(fitted_regressor, diabetes):
    X, y = diabetes[0].astype(np.float32)[:50], diabetes[1][:50]
    augmented = frozen(fitted_regressor, SHIFTED, X, y)
    views = (X, X * np.float32(1.2), X + np.float32(0.5))
    means, variances = map(np.stack, zip(*(moments(fitted_regressor, view) for view in views)))
    low, high = augmented.predict_interval(X, 0.8).T
    for quantiles, level in ((low, 0.1), (high, 0.9)):
        below = norm.cdf(quantiles, means, np.sqrt(variances)).mean((0, 1))
        np.testing.assert_allclose(below, level, atol=1e-9)
    levels = augmented.predict_quantiles(X, [0.1, 0.9])
    np.testing.assert_allclose(levels, np.stack([low, high], 1), rtol=1e-11)


def test_several_targets_keep_their_shape(diabetes):
    X, y = diabetes
    both = np.stack([y, -y], 1)
    augmented = TestTimeAugmentation(regressor(), SHIFTED).fit(X, both)
    assert augmented.predict(X).shape == both.shape
    assert augmented.predict_interval(X).shape == (*both.shape, 2)
    assert augmented.predict_uncertainty(X, "nested").between_views.shape == both.shape


# ---------------------------------------------------------------------------------------------
# Functions of a row


def noisy(X):
    """Other numbers for each row of a batch."""
    return X + 0.3 * torch.randn_like(X)


@pytest.mark.usefixtures("untouched_globals")
@pytest.mark.parametrize("view", [GaussianNoise(0.3), FeatureNoise(0.3), noisy])
def test_a_row_gets_the_same_alone_in_any_order_and_in_any_chunk(fitted, blobs, view, monkeypatch):
    X, y = blobs
    augmented = frozen(fitted, view, X, y, n_views=4)
    proba, parts = augmented.predict_proba(X), augmented.predict_uncertainty(X, "nested")
    assert np.abs(proba - fitted.predict_proba(X)).max() > 0.01
    order = np.random.default_rng(0).permutation(len(X))
    # Widths that are not divisible by 4 allow for rounding of float32.
    np.testing.assert_allclose(augmented.predict_proba(X[order]), proba[order], atol=1e-6)
    for row in (0, 7, 100):
        np.testing.assert_allclose(augmented.predict_proba(X[[row]]), proba[[row]], atol=1e-6)
    monkeypatch.setattr(_evaluation, "_CHUNK_BYTES", {"cpu": 0})
    engine = fitted._engine
    monkeypatch.setattr(engine, "n_rows", 16)
    assert augmented._evaluation._chunk_rows() == 16
    np.testing.assert_allclose(augmented.predict_proba(X), proba, atol=1e-6)
    again = augmented.predict_uncertainty(X, "nested")
    np.testing.assert_allclose(again.between_views, parts.between_views, atol=1e-6)
    assert ece_scorer(augmented, X, y) == pytest.approx(-_ece(y, proba), abs=1e-5)


def _ece(y, proba):
    return skuq.metrics.expected_calibration_error(y, proba)


def test_views_are_made_where_the_network_is(blobs, device):
    """As rows that the network takes: on its device, in its dtype."""
    X, y = blobs
    seen = set()

    def view(X, generator):
        seen.add((X.device.type, X.dtype, generator.device.type))
        return X + torch.randn(X.shape[1:], generator=generator).to(X)

    network = classifier(device=device, precision="float64").fit(X, y)
    augmented = frozen(network, view, X, y)
    seen.clear()
    on_device = augmented.predict_proba(X)
    assert seen == {(device, torch.float64, "cpu")}
    # Around a Pipeline the same rows go through the Pipeline's own steps.
    around = frozen(make_pipeline("passthrough", network), view, X.astype(float), y)
    np.testing.assert_allclose(around.predict_proba(X.astype(float)), on_device, atol=1e-10)


def test_random_state_fixes_the_views(on_images, images):
    X, y = images
    one, same, other = (
        frozen(on_images, Shift(2), X, y, n_views=4, random_state=seed).predict_proba(X)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3
    unseeded = frozen(on_images, Shift(2), X, y, n_views=4, random_state=None)
    np.testing.assert_array_equal(unseeded.predict_proba(X), unseeded.predict_proba(X))


def test_views_are_taken_in_turn_and_drawn_anew(on_images, images):
    X, y = images
    augmented = frozen(on_images, [Flip(), Shift(2)], X, y, n_views=6)
    taken = [type(view.view).__name__ for view in augmented._evaluation.views]
    assert augmented.n_views_ == 6 and taken == ["Flip", "Shift"] * 2 + ["Flip"]
    rows = torch.from_numpy(X[:5])
    first, second = (augmented._evaluation.views[k](rows) for k in (1, 3))
    assert not torch.equal(first, second)


def test_memory_holds_a_chunk_at_a_time(fitted, blobs, monkeypatch):
    """Views of one chunk are done before the next begins."""
    X, y = blobs
    augmented = frozen(fitted, [torch.clone] * 3, X, y)
    monkeypatch.setattr(_evaluation, "_CHUNK_BYTES", {"cpu": 0})
    monkeypatch.setattr(fitted._engine, "n_rows", 32)
    sizes = []
    plain = type(fitted)._reduce
    monkeypatch.setattr(type(fitted), "_reduce", lambda *a: (sizes.append(len(a[1])), plain(*a))[1])
    augmented.predict_proba(X)
    assert sizes == [32] * 28 + [16] * 4


@pytest.mark.parametrize("likelihood", [StudentT(), MixtureOfGaussians(), Poisson()], ids=str)
def test_any_likelihood_mixes(diabetes, likelihood):
    X, y = diabetes[0][:60], np.round(diabetes[1][:60])
    network = regressor(likelihood=likelihood).fit(X, y)
    augmented = frozen(network, [lambda X: X * 0.5], X, y)
    draws = [network.predict_draws(v)[..., 0] for v in (X, X.astype(np.float32) * np.float32(0.5))]
    np.testing.assert_allclose(augmented.predict(X), np.mean(draws, (0, 1)), rtol=1e-6)
    low, high = augmented.predict_interval(X, 0.8).T
    assert (low < high).all() and np.isfinite(crps_scorer(augmented, X, y))
    inner = augmented._averages()._reduce(
        X, lambda p: p.cdf(p.icdf(torch.full((1, 1, 1), 0.3, dtype=torch.float64))).movedim(0, 1)
    )
    if isinstance(likelihood, Poisson):
        assert (inner >= 0.3).all()
    else:
        np.testing.assert_allclose(inner, 0.3, atol=1e-8)


def test_scores_of_mixtures_agree_with_closed_forms():
    from torch.distributions import Normal

    from skuq._distributions._mixture import mixture_crps, mixture_log_prob, mixture_quantile
    from skuq.augmentation._mixing import OverViews, _SideBySide, side_by_side

    generator = torch.Generator().manual_seed(0)
    shape = (3, 7, 2)
    draws = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(4)]
    views = [Normal(draws[k], 0.3 + draws[k + 2].abs()) for k in range(2)]
    y = torch.randn(7, 2, generator=generator, dtype=torch.float64)
    generic, normal = _SideBySide(views), side_by_side(views)
    assert generic.batch_shape == normal.batch_shape == (6, 7, 2)
    torch.testing.assert_close(generic.mean, normal.mean)
    torch.testing.assert_close(generic.stddev, normal.stddev)
    for level in (0.1, 0.7):
        torch.testing.assert_close(
            mixture_quantile(generic, level), mixture_quantile(normal, level)
        )
    torch.testing.assert_close(
        mixture_crps(generic, y), mixture_crps(normal, y), atol=1e-3, rtol=1e-3
    )
    mixed = OverViews(views)
    torch.testing.assert_close(mixture_crps(mixed, y), mixture_crps(normal, y))
    torch.testing.assert_close(mixture_quantile(mixed, 0.3), mixture_quantile(normal, 0.3))
    one_target = OverViews([Normal(v.mean[..., :1], v.stddev[..., :1]) for v in views])
    expected = mixture_log_prob(side_by_side(one_target.views), y[:, :1])
    torch.testing.assert_close(mixture_log_prob(one_target, y[:, :1]), expected)


# ---------------------------------------------------------------------------------------------
# Votes


def test_votes_are_those_of_the_views(on_images, images):
    X, y = images
    augmented = frozen(on_images, Shift(2), X, y, n_views=5, vote="confidence_hard", threshold=0.5)
    views = augmented.predict_views(X)
    assert views.labels.shape == views.confidence.shape == (5, len(X))
    np.testing.assert_array_equal(views.labels[0], on_images.predict(X))
    np.testing.assert_allclose(views.confidence[0], on_images.predict_proba(X).max(1), atol=1e-13)
    np.testing.assert_array_equal(views.confidence_hard, views.confidence >= 0.5)
    assert views.certainty is views.certainty_hard is None
    vote = augmented.predict_votes(X)
    by_hand = multi_view_vote(views.labels, views.confidence, None, "confidence_hard", 0.5)
    np.testing.assert_array_equal(vote.predicted, by_hand.predicted)
    np.testing.assert_array_equal(augmented.predict(X), by_hand.predicted)
    assert vote.abstained.any() and not vote.abstained.all()


@pytest.mark.parametrize("rule", ["mode", "confidence", "confidence_hard"])
def test_answers_of_a_vote_never_disagree(on_images, images, rule):
    X, y = images
    augmented = frozen(on_images, Shift(2), X, y, n_views=4, vote=rule, threshold=0.4)
    proba, vote = augmented.predict_proba(X), augmented.predict_votes(X)
    shares = vote.weights / vote.weights.sum(1, keepdims=True)
    np.testing.assert_allclose(proba, shares, atol=1e-11)
    if rule != "confidence":
        assert (np.sort(vote.weights)[:, -1] == np.sort(vote.weights)[:, -2]).any()  # ties
    for scores in (proba, augmented.predict_log_proba(X), augmented.decision_function(X)):
        assert np.isfinite(scores).all()
        np.testing.assert_array_equal(scores.argmax(1), augmented.predict(X))
    assert augmented.score(X, y) == accuracy_score(y, augmented.predict(X))
    averaged = frozen(on_images, Shift(2), X, y, n_views=4)
    for kind in ("all", "nested"):
        np.testing.assert_array_equal(
            augmented.predict_uncertainty(X, kind), averaged.predict_uncertainty(X, kind)
        )
    np.testing.assert_array_equal(augmented.predict_draws(X), averaged.predict_draws(X))
    proba, parts = augmented.predict_proba(X, return_uncertainty=True)
    np.testing.assert_array_equal(parts, averaged.predict_uncertainty(X, "all"))
    assert -ece_scorer(augmented, X, y) == pytest.approx(_ece(y, proba))


def test_certainty_is_what_the_likelihood_says_of_noise(blobs):
    X, y = blobs
    network = classifier(likelihood=UncertaintyAware()).fit(X, y)
    augmented = frozen(network, SHIFTED, X, y, vote="certainty")
    views = augmented.predict_views(X)
    moved_rows = torch.from_numpy(X + np.float32(0.5))
    s = network.draws(moved_rows)[..., -1].double().clamp(-6, 6)
    expected = torch.sigmoid(-s).mean(0).numpy()  # 1 / (1 + e^s)
    np.testing.assert_allclose(views.certainty[2], expected, atol=1e-6)
    vote = multi_view_vote(views.labels, views.confidence, views.certainty, "certainty")
    np.testing.assert_array_equal(augmented.predict(X), vote.predicted)


@pytest.mark.parametrize("rule", ["certainty", "certainty_hard"])
def test_certainty_of_what_says_nothing_of_noise_is_refused(fitted, blobs, rule):
    X, y = blobs
    with pytest.raises(ValueError, match="UncertaintyAware"):
        frozen(fitted, SHIFTED, X, y, vote=rule)
    network = classifier(likelihood=UncertaintyAware()).fit(X, y)
    scaled = TemperatureScaler(FrozenEstimator(network)).fit
    with pytest.warns(UserWarning, match="was trained on"):
        scaled = scaled(X, y)
    with pytest.raises(ValueError, match="without a calibrator"):
        frozen(scaled, SHIFTED, X, y, vote=rule)


def test_the_threshold_is_tuned_on_the_rows_of_a_frozen_estimator(images):
    X, y = images
    network = classifier(module=ConvNet).fit(X[:300], y[:300])
    augmented = frozen(network, Shift(2), X[300:], y[300:], n_views=5, vote="confidence_hard")
    views = augmented.predict_views(X[300:])

    def accuracy(threshold):
        vote = multi_view_vote(views.labels, views.confidence, None, "confidence_hard", threshold)
        return (vote.predicted == y[300:]).mean()

    best = max(accuracy(t) for t in [0, *np.unique(views.confidence)])
    assert augmented.score(X[300:], y[300:]) == accuracy(augmented.threshold_) == best
    assert best > accuracy(0.99)  # or there would be nothing to tune
    given = frozen(
        network, Shift(2), X[:9], y[:9], n_views=5, vote="confidence_hard", threshold=0.9
    )
    assert given.threshold_ == 0.9
    assert given.tune_threshold(X[300:], y[300:]).threshold_ == augmented.threshold_
    with pytest.warns(UserWarning, match="tune the threshold"):
        frozen(network, Shift(2), X, y, vote="confidence_hard")


def test_the_threshold_of_an_unfitted_estimator_is_tuned_on_rows_left_out(images):
    X, y = images[0][:200], images[1][:200]
    options = {"views": Shift(2), "n_views": 4, "vote": "confidence_hard", "random_state": 0}
    one, two = (
        TestTimeAugmentation(classifier(module=ConvNet), cv=cv, **options).fit(
            X, y, sample_weight=np.ones(len(X))
        )
        for cv in (2, 2)
    )
    assert 0 <= one.threshold_ == two.threshold_ < 1
    assert one.estimator_._share_seen(X) == 1  # it is fitted on everything in the end


def test_no_threshold_to_tune(fitted, blobs):
    with pytest.raises(ValueError, match="no threshold to tune"):
        frozen(fitted, SHIFTED, *blobs).tune_threshold(*blobs)


# ---------------------------------------------------------------------------------------------
# Composition


def test_around_and_inside_of_a_pipeline_and_a_temperature(blobs):
    X, y = blobs
    view = FeatureNoise(0.2)
    models = {
        "inside of a pipeline": make_pipeline(
            StandardScaler(), TestTimeAugmentation(classifier(), view, 3, random_state=0)
        ),
        "around a pipeline": TestTimeAugmentation(
            make_pipeline(StandardScaler(), classifier()), view, 3, random_state=0
        ),
        "temperature outside": TemperatureScaler(
            TestTimeAugmentation(classifier(), view, 3, random_state=0), cv=2
        ),
        "temperature inside": TestTimeAugmentation(
            TemperatureScaler(classifier(), cv=2), view, 3, random_state=0
        ),
        "search": GridSearchCV(
            TestTimeAugmentation(classifier(), view, random_state=0),
            {"n_views": [1, 3], "estimator__lr": [0.01], "views": [[view], [moved]]},
            cv=2,
            scoring=nll_scorer,
        ),
        "both": TestTimeAugmentation(
            TestTimeAugmentation(classifier(), view, 2, random_state=0), view, 2, random_state=1
        ),
    }
    for name, model in models.items():
        fitted = model.fit(X, y)
        proba, parts = fitted.predict_proba(X), skuq.predict_uncertainty(fitted, X, kind="all")
        np.testing.assert_allclose(parts.total, entropy(proba, axis=1), atol=1e-9, err_msg=name)
        np.testing.assert_allclose(skuq.predict_draws(fitted, X).mean(0), proba, atol=1e-9)
        assert ece_scorer(fitted, X, y) == pytest.approx(-_ece(y, proba)), name
        assert fitted.score(X, y) > -1.1
    nested = skuq.predict_uncertainty(models["inside of a pipeline"], X, kind="nested")
    assert nested.between_views.mean() > 1e-4
    ours = Pipeline(models["inside of a pipeline"].steps)
    np.testing.assert_array_equal(ours.predict_uncertainty(X, "nested"), nested)


def test_a_temperature_inside_or_outside_is_of_every_draw(fitted, blobs):
    X, y = blobs
    with pytest.warns(UserWarning, match="was trained on"):  # also seen through the views
        outside = TemperatureScaler(FrozenEstimator(frozen(fitted, SHIFTED, X, y))).fit(X, y)
    averaged = frozen(fitted, SHIFTED, X, y).predict_draws(X)
    logits = np.log(averaged) / outside.temperature_
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(outside.predict_draws(X), expected, atol=1e-10)


def test_a_pipeline_inside_gets_views_of_the_rows_before_its_steps(blobs):
    X, y = blobs
    pipeline = make_pipeline(StandardScaler(), classifier()).fit(X, y)
    augmented = frozen(pipeline, SHIFTED, X, y)
    views = [X, X * np.float32(1.2), X + np.float32(0.5)]
    expected = np.mean([pipeline.predict_proba(view) for view in views], 0)
    np.testing.assert_allclose(augmented.predict_proba(X), expected, atol=1e-12)


@pytest.mark.parametrize(
    "around", [classifier, lambda: make_pipeline(StandardScaler(), classifier())]
)
def test_data_frames_keep_their_names(blobs, around):
    X, y = blobs
    frame = pd.DataFrame(X, columns=[f"x{k}" for k in range(X.shape[1])])
    augmented = TestTimeAugmentation(around(), SHIFTED, random_state=0).fit(frame, y)
    plain = TestTimeAugmentation(around(), SHIFTED, random_state=0).fit(X, y)
    np.testing.assert_allclose(augmented.predict_proba(frame), plain.predict_proba(X), atol=1e-12)
    assert list(augmented.feature_names_in_) == list(frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        augmented.predict(frame.rename(columns={"x0": "other"}))


def test_text_is_encoded_before(blobs):
    frame = pd.DataFrame({"a": ["u", "v"] * 20, "b": range(40)})
    from sklearn.compose import make_column_transformer
    from sklearn.preprocessing import OneHotEncoder

    encoder = make_column_transformer((OneHotEncoder(), ["a"]), remainder="passthrough")
    y = np.arange(40) % 2
    with pytest.raises(ValueError, match="behind the steps that encode X"):
        TestTimeAugmentation(make_pipeline(encoder, classifier()), moved).fit(frame, y)
    make_pipeline(encoder, TestTimeAugmentation(classifier(), moved)).fit(frame, y).predict(frame)


def test_regressors_compose(diabetes):
    X, y = diabetes
    views = FeatureNoise(0.2)
    inner = TestTimeAugmentation(regressor(), views, 3, random_state=0)
    scaled = TransformedTargetRegressor(inner, transformer=StandardScaler()).fit(X, y)
    total = skuq.predict_uncertainty(scaled, X)
    plain = scaled.regressor_.predict_uncertainty(X)
    np.testing.assert_allclose(total, plain * y.var(), rtol=1e-9)
    variance = VarianceScaler(inner, cv=2).fit(X, y)
    ratio = variance.predict_uncertainty(X) / variance.estimator_.predict_uncertainty(X)
    np.testing.assert_allclose(ratio, variance.scale_**2, rtol=1e-9)
    around = TestTimeAugmentation(VarianceScaler(regressor(), cv=2), views, 3).fit(X, y)
    assert np.isfinite(around.predict_interval(X)).all()
    assert np.isfinite(crps_scorer(around, X, y))
    assert -3 < inner.fit(X, y).score(X, y) < 1


def test_conformal_prediction_takes_it(diabetes):
    regression = pytest.importorskip("mapie.regression")
    X, y = diabetes
    augmented = TestTimeAugmentation(regressor(), FeatureNoise(0.1), 3, random_state=0)
    conformal = regression.SplitConformalRegressor(augmented.fit(X[:300], y[:300]), prefit=True)
    conformal.conformalize(X[300:], y[300:])
    assert np.isfinite(conformal.predict_interval(X[300:])[1]).all()


def test_a_report_can_be_made(blobs):
    X, y = blobs
    augmented = TestTimeAugmentation(classifier(), SHIFTED).fit(X, y)
    assert 0 <= skuq.report(augmented, X, y).metrics["accuracy"] <= 1


def test_estimators_of_scikit_learn_are_one_draw(blobs):
    X, y = blobs
    plain = LogisticRegression(max_iter=1000).fit(X, y)
    augmented = frozen(plain, SHIFTED, X, y)
    views = [X, X * np.float32(1.2), X + np.float32(0.5)]
    expected = np.mean([plain.predict_proba(view) for view in views], 0)
    np.testing.assert_allclose(augmented.predict_proba(X), expected, atol=1e-6)
    assert not augmented.predict_uncertainty(X, "epistemic").any()


def test_several_labels_at_once(blobs):
    X, y = blobs
    indicators = np.stack([y > 0, y > 1], 1).astype(int)
    augmented = TestTimeAugmentation(classifier(likelihood=Bernoulli()), SHIFTED)
    assert augmented.fit(X, indicators).predict(X).shape == indicators.shape
    assert augmented.predict_proba(X).shape == indicators.shape
    parts = augmented.predict_uncertainty(X, "nested")
    assert parts.between_views.shape == indicators.shape and (parts.between_views >= 0).all()
    with pytest.raises(ValueError, match="one label per row"):
        augmented.predict_views(X)
    with pytest.raises(ValueError, match="one label per row"):
        clone(augmented).set_params(vote="mode").fit(X, indicators)


def test_ensembles_and_pickles(blobs):
    X, y = blobs
    augmented = TestTimeAugmentation(classifier(DeepEnsemble(2)), FeatureNoise(), 3).fit(X, y)
    loaded = pickle.loads(pickle.dumps(augmented))
    np.testing.assert_array_equal(loaded.predict_proba(X), augmented.predict_proba(X))


def test_threads_get_the_same(on_images, images):
    from concurrent.futures import ThreadPoolExecutor

    X, y = images[0][:64], images[1][:64]
    augmented = frozen(on_images, [noisy, Shift(1)], X, y, n_views=5)
    expected = augmented.predict_proba(X)
    with ThreadPoolExecutor(4) as pool:
        for proba in pool.map(lambda _: augmented.predict_proba(X), range(8)):
            np.testing.assert_array_equal(proba, expected)


# ---------------------------------------------------------------------------------------------
# Dense outputs


class Pixelwise(ClassifierPredictions, ClassifierMixin, BaseEstimator):
    """Two draws of a classifier of every pixel by its value and, less, by what is left of it."""

    def fit(self, X, y):
        self.classes_ = np.arange(3)
        return self

    def _reduce(self, X, reduction, *aligned):
        x = torch.as_tensor(X).double()[:, 0]
        left = 0.1 * x.roll(1, -1)
        logits = torch.stack([torch.stack([x, k - x, left], -1) for k in (0.5, 0.7)])
        reduced = reduction(Softmax(logits), *map(torch.as_tensor, aligned))
        return tuple(map(np.asarray, reduced)) if isinstance(reduced, tuple) else reduced.numpy()


class PlainFlip:
    """A user's view with an inverse."""

    def __call__(self, X):
        return X.flip(-1)

    def inverse(self, outputs):
        return outputs.flip(-1)


@pytest.mark.parametrize("view", [Flip(), PlainFlip(), Shift(1, fill="wrap")])
def test_dense_outputs_are_moved_back(images, view):
    X, y = images[0][:10], images[1][:10]
    dense = Pixelwise().fit(X, y)
    augmented = frozen(dense, view, X, y)
    moved_rows = augmented._evaluation.views[0](torch.from_numpy(X).double())
    log_proba = torch.from_numpy(dense._log_proba(moved_rows.numpy())).movedim(-1, 1)
    back = augmented._evaluation.views[0].inverse(log_proba).movedim(1, -1).numpy()
    expected = (dense.predict_proba(X) + np.exp(back)) / 2
    proba = augmented.predict_proba(X)
    assert proba.shape == (10, 8, 8, 3)
    np.testing.assert_allclose(proba, expected, atol=1e-12)
    parts = augmented.predict_uncertainty(X, "nested")
    assert parts.total.shape == (10, 8, 8)
    np.testing.assert_allclose(parts.total, entropy(proba, axis=-1), atol=1e-12)


@pytest.mark.parametrize("view", [Shift(), larger])
def test_dense_outputs_need_an_inverse(images, view):
    X, y = images[0][:10], images[1][:10]
    with pytest.raises(ValueError, match="Dense outputs need one"):
        frozen(Pixelwise().fit(X, y), view, X, y)


# ---------------------------------------------------------------------------------------------
# What is refused


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"views": lambda X: X[:, :3]}, ValueError, "changed the shape"),
        ({"views": [torch.neg, lambda X: X[:, :3]]}, ValueError, "view 2, <lambda>, changed"),
        ({"views": [Flip]}, TypeError, r"write Flip\(\)"),
        ({"views": ["flip"]}, TypeError, "'flip'"),
        ({"views": Flip()}, ValueError, "images or sequences"),
        ({"views": FeatureNoise(-1)}, ValueError, "scale"),
        ({"n_views": 2}, ValueError, "needs views"),
        ({"n_views": 0}, ValueError, "n_views"),
        ({"vote": "median"}, ValueError, "vote"),
        ({"threshold": 1.5}, ValueError, "threshold"),
        ({"estimator": StandardScaler()}, TypeError, "classifier or a regressor"),
        ({"estimator": TorchRegressor(), "vote": "mode"}, ValueError, "needs a classifier"),
    ],
)
def test_bad_parameters(blobs, options, error, message):
    X, y = blobs
    options = {"estimator": classifier(), **options}
    with pytest.raises(error, match=message):
        TestTimeAugmentation(**options).fit(X, y)


def test_bad_kinds_and_measures(fitted, blobs):
    X, y = blobs
    augmented = frozen(fitted, SHIFTED, X, y)
    with pytest.raises(ValueError, match="kind must be one of"):
        augmented.predict_uncertainty(X, "within")
    with pytest.raises(ValueError, match="measure that decomposes"):
        augmented.predict_uncertainty(X, "nested", measure="margin")


def test_what_is_for_the_other_task(fitted, blobs, fitted_regressor, diabetes):
    augmented = frozen(fitted, SHIFTED, *blobs)
    assert not hasattr(augmented, "predict_interval")
    with pytest.raises(TypeError, match="needs a regressor"):
        skuq.predict_interval(augmented, blobs[0])
    assert not hasattr(frozen(fitted_regressor, SHIFTED, *diabetes), "predict_views")


def test_before_fit(blobs):
    for call in ("predict", "predict_proba", "predict_uncertainty", "predict_votes"):
        with pytest.raises(NotFittedError):
            getattr(TestTimeAugmentation(PointClassifier, SHIFTED), call)(blobs[0])


PointClassifier = classifier(PointEstimate())


def test_a_view_that_goes_wrong_later_is_refused(fitted, blobs):
    X, y = blobs
    augmented = frozen(fitted, lambda X: torch.where(X > 50, torch.nan, X), X, y)
    with pytest.raises(ValueError, match="NaN or infinity"):
        augmented.predict(X + np.float32(100))


def test_user_views_are_copied(blobs):
    X, y = blobs
    module = nn.Linear(X.shape[1], X.shape[1]).requires_grad_(False)
    augmented = TestTimeAugmentation(classifier(), module).fit(X, y)
    before = augmented.predict_proba(X)
    module.weight.zero_()
    np.testing.assert_array_equal(augmented.predict_proba(X), before)
