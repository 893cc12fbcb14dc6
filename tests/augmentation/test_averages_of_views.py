"""Averages over views: invariances, decompositions by hand, mixtures of any likelihood."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy, norm

from skuq._distributions._softmax import Softmax
from skuq.augmentation import Flip, TestTimeAugmentation
from skuq.augmentation._mixing import ClassMean
from skuq.likelihoods import MixtureOfGaussians, Poisson, StudentT
from skuq.metrics import crps_scorer
from tests.augmentation.helpers import SHIFTED, classifier, frozen, moved, regressor
from tests.networks import ConvNet

# -- what the identity and invariances give --------------------------------------------------------


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


# -- averages and decompositions, by hand ----------------------------------------------------------


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


# -- mixtures of any likelihood --------------------------------------------------------------------


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
