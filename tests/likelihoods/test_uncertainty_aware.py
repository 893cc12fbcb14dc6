"""One-hot labels with normal noise."""

import warnings

import numpy as np
import pytest
import torch

from skuq import TorchClassifier
from skuq.likelihoods import UncertaintyAware
from skuq.metrics import brier_score
from skuq.posteriors import DeepEnsemble, PointEstimate
from tests.networks import Plain

OUTPUT = torch.tensor(
    [[0.7, 0.2, -0.1, -1.3], [-2.0, 1.5, 0.3, 0.4], [0.1, 0.1, 0.9, 2.0]], dtype=torch.float64
)
Y = torch.tensor([0, 2, 1])


def fitted(n_classes=3, **options):
    return UncertaintyAware(**options).fit(np.arange(n_classes))


@pytest.mark.parametrize("link", ["identity", "softmax"])
@pytest.mark.parametrize("log_variance", ["free", "square"])
@pytest.mark.parametrize("epsilon", [0.0, 0.2])
def test_loss_is_the_formula(link, log_variance, epsilon):
    """½ [e^{−s} Σ (y_k − h_k)² + C s], with 1 − ε and ε/(C − 1) for y."""
    likelihood = fitted(link=link, log_variance=log_variance, label_smoothing=epsilon)
    for output, y, loss in zip(OUTPUT.numpy(), Y.tolist(), likelihood.loss(OUTPUT, Y).tolist()):
        h, r = output[:3], output[3]
        if link == "softmax":
            h = np.exp(h) / np.exp(h).sum()
        s = r if log_variance == "free" else r**2
        target = np.full(3, epsilon / 2)
        target[y] = 1 - epsilon
        expected = 0.5 * (np.exp(-s) * ((target - h) ** 2).sum() + 3 * s)
        assert loss == pytest.approx(expected, rel=1e-12)


def test_loss_is_a_normal_likelihood():
    """−log N(y; h, σ² I), but for (C/2) log 2π."""
    likelihood, hot = fitted(), torch.nn.functional.one_hot(Y, 3).double()
    std = (OUTPUT[:, 3:] / 2).exp()
    density = torch.distributions.Normal(OUTPUT[:, :3], std).log_prob(hot).sum(1)
    expected = -density - 1.5 * np.log(2 * np.pi)
    torch.testing.assert_close(likelihood.loss(OUTPUT, Y), expected)


def test_gradients():
    """∂/∂h = e^{−s}(h − y), ∂/∂s = ½ (C − e^{−s} SSE)."""
    output, hot = OUTPUT.clone().requires_grad_(), torch.nn.functional.one_hot(Y, 3).double()
    fitted().loss(output, Y).sum().backward()
    residual, precision = OUTPUT[:, :3] - hot, (-OUTPUT[:, 3:]).exp()
    of_s = 0.5 * (3 - precision * residual.square().sum(1, keepdim=True))
    torch.testing.assert_close(output.grad, torch.cat([precision * residual, of_s], 1))


def test_best_log_variance():
    """s* = log(SSE / C), where the loss is (C/2)(1 + s*)."""
    h = torch.tensor([[0.8, 0.3, 0.1]], dtype=torch.float64)
    s = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    likelihood, y = fitted(), torch.tensor([0])
    optimizer = torch.optim.LBFGS([s], max_iter=200, tolerance_grad=1e-12, tolerance_change=0)

    def closure():
        optimizer.zero_grad()
        loss = likelihood.loss(torch.cat([h, s], 1), y).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    best = np.log((0.2**2 + 0.3**2 + 0.1**2) / 3)
    assert float(s.detach()) == pytest.approx(best, abs=1e-6)
    assert float(closure().detach()) == pytest.approx(1.5 * (1 + best), abs=1e-9)


def coin(n_rows=400):
    """Features that say whether the label is certain (class 0) or a coin of 70 % class 1."""
    random = np.random.default_rng(0)
    noisy = np.arange(n_rows) % 2
    y = np.where(noisy == 1, (np.arange(n_rows) // 2 % 10 < 7).astype(int), 0)
    order = random.permutation(n_rows)
    return noisy[order, None].astype(float), y[order]


def test_training_reaches_the_optimum():
    """h = the share of the classes and s = log(SSE / C), where labels are a coin."""
    X, y = coin()
    classifier = TorchClassifier(
        Plain, likelihood=UncertaintyAware(), posterior=PointEstimate(), max_epochs=150, lr=0.01,
        batch_size=400, random_state=0,
    ).fit(X, y)  # fmt: skip
    certain, coin_ = classifier.draws(torch.tensor([[0.0], [1.0]]))[0].detach().numpy()
    sse = 0.3 * 2 * 0.7**2 + 0.7 * 2 * 0.3**2
    np.testing.assert_allclose(coin_[:2], [0.3, 0.7], atol=0.02)
    assert coin_[2] == pytest.approx(np.log(sse / 2), abs=0.05)
    np.testing.assert_allclose(certain[:2], [1, 0], atol=0.05)
    assert certain[2] < -4
    np.testing.assert_allclose(classifier.predict_proba([[1.0]]), [[0.3, 0.7]], atol=0.02)
    variance = classifier.likelihood_.noise_variance(classifier.draws(torch.tensor([[1.0]])))
    assert float(variance) == pytest.approx(sse / 2, rel=0.05)


def test_square_collapses_with_a_warning():
    X, y = coin()
    options = {"posterior": DeepEnsemble(2), "max_epochs": 60, "lr": 0.01, "random_state": 0}
    square = UncertaintyAware(log_variance="square")
    with pytest.warns(UserWarning, match="collapsed: the mean log-variance"):
        classifier = TorchClassifier(Plain, likelihood=square, **options).fit(X, y)
    r = classifier.draws(torch.tensor(X)).detach()[..., -1]
    assert float(r.square().mean()) < 1e-2  # the optimum, log(SSE / C) < 0, is out of reach
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TorchClassifier(Plain, likelihood=UncertaintyAware(), **options).fit(X, y)


def test_two_classes_with_a_constant_variance_are_the_brier_score():
    likelihood = fitted(2, link="softmax", log_variance="constant")
    assert likelihood.n_outputs_ == 2
    z = torch.tensor([[0.3, -1.0], [2.0, 1.0], [-4.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([0, 1, 1])
    p = z.softmax(1)
    torch.testing.assert_close(likelihood.loss(z, y), (y - p[:, 1]).square())  # SSE/2
    mean = float(likelihood.loss(z, y).mean())
    assert mean == pytest.approx(brier_score(y.numpy(), p.numpy(), labels=[0, 1]))
    # The same with a log-variance that is the same everywhere: scaled and shifted.
    free = fitted(2, link="softmax")
    s = torch.full((3, 1), -1.5, dtype=torch.float64)
    expected = np.exp(1.5) * likelihood.loss(z, y) - 1.5
    torch.testing.assert_close(free.loss(torch.cat([z, s], 1), y), expected)


def test_clamp_bounds_the_loss_and_lets_back_in():
    likelihood = fitted(clamp=(-2, 3))
    for r, s in ((-7.0, -2.0), (9.0, 3.0)):
        output = torch.tensor([[1.0, 0.0, 0.0, r]], requires_grad=True)
        loss = likelihood.loss(output, torch.tensor([0])).sum()
        assert float(loss.detach()) == pytest.approx(1.5 * s + 0.5 * (r - s) ** 2)
        loss.backward()
        assert float(output.grad[0, 3]) == pytest.approx(r - s)  # towards the clamp
        assert float(likelihood.noise_variance(output.detach())) == pytest.approx(np.exp(s))


@pytest.mark.parametrize("link", ["identity", pytest.param("softmax", marks=pytest.mark.slow)])
def test_never_nan_at_a_high_rate(link):
    """Five points, 2000 steps: SSE → 0, and s is at its clamp."""
    X, y = np.eye(5), np.array([0, 1, 2, 1, 0])
    classifier = TorchClassifier(
        Plain, likelihood=UncertaintyAware(link), posterior=PointEstimate(), max_epochs=2000,
        lr=0.05, random_state=0,
    ).fit(X, y)  # fmt: skip
    losses = [row["train_loss"] for row in classifier.history_]
    assert np.isfinite(losses).all() and min(losses) >= 1.5 * -6
    assert (classifier.predict(X) == y).all()
    assert np.isfinite(classifier.predict_uncertainty(X)).all()


def test_probabilities_of_the_identity_link():
    """h over its sum; what is not positive is small, and in order."""
    likelihood = fitted()
    output = torch.tensor([[0.9, 0.3, 0.3, 0.0], [1.4, 0.0, -9.0, 0.0], [-3.0, -1.0, -2.0, 0.0]])
    proba = likelihood.predictive(output.double()).probs.numpy()
    np.testing.assert_allclose(proba[0], [0.6, 0.2, 0.2], rtol=1e-6)
    assert proba[1, 0] > 0.99 and proba[1, 1] > proba[1, 2] > 0
    assert proba[2, 1] > proba[2, 2] > proba[2, 0] > 0.1
    np.testing.assert_allclose(proba.sum(1), 1)


def test_the_widest_clamp():
    UncertaintyAware(clamp=(-80, 80)).validate()


@pytest.mark.parametrize(
    "clamp", [(1, -1), (1, 1), (-6,), (-80.1, 6), (0, 80.1), (0, np.inf), ("a", "b"), 3]
)
def test_bad_clamps(clamp):
    X, y = np.eye(4), np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match="clamp"):
        TorchClassifier(likelihood=UncertaintyAware(clamp=clamp), max_epochs=1).fit(X, y)
