"""The softmax likelihood and label smoothing."""

import numpy as np
import pytest
import torch
from torch import nn

from skuq import TorchClassifier
from skuq.likelihoods import Categorical


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_categorical_loss_is_the_cross_entropy(label_smoothing):
    """−Σ_k q_k log softmax(z)_k with q = 1 − ε + ε/K on the label, ε/K elsewhere."""
    z, y, n_classes = tensor(1.0, -2.0, 0.5)[None], torch.tensor([2]), 3
    q = np.full(n_classes, label_smoothing / n_classes)
    q[2] += 1 - label_smoothing
    log_softmax = z.log_softmax(1)[0].numpy()
    likelihood = Categorical(label_smoothing).fit(y.numpy(), n_classes=3)
    assert float(likelihood.loss(z, y)) == pytest.approx(-q @ log_softmax)
    assert float(likelihood.negative_log_likelihood(z, y)) == pytest.approx(-log_softmax[2])


def test_two_classes_are_a_logistic_regression():
    z, y = tensor(-3.0, 0.2, 40.0, -800.0), torch.tensor([1, 0, 1, 1])
    logits = torch.stack([torch.zeros_like(z), z], dim=1)
    expected = nn.functional.binary_cross_entropy_with_logits(z, y.double(), reduction="none")
    torch.testing.assert_close(Categorical().fit(y.numpy()).loss(logits, y), expected)


def test_categorical_at_extreme_logits():
    predictive = Categorical().fit(np.array([0, 1])).predictive(tensor(1e4, -1e4)[None])
    assert torch.isfinite(predictive.logits).all()
    np.testing.assert_allclose(predictive.probs.numpy(), [[1, 0]])


def minimiser(likelihood, n_classes):
    """Logits that minimise the loss of class 0, by gradient descent."""
    z = torch.zeros(1, n_classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([z], max_iter=500, tolerance_grad=1e-12, tolerance_change=0)

    def closure():
        optimizer.zero_grad()
        loss = likelihood.loss(z, torch.tensor([0])).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return z.detach()[0]


@pytest.mark.parametrize(
    ("convention", "gap"), [("uniform", 4.5109), ("others", 4.3944)], ids=lambda v: str(v)
)
def test_smoothed_optimum(convention, gap):
    """log of (target of the label / target of another), for ε = 0.1 and 10 classes."""
    likelihood = Categorical(0.1, convention).fit(np.arange(10))
    z = minimiser(likelihood, 10)
    np.testing.assert_allclose((z[0] - z[1:]).numpy(), gap, atol=2e-4)
    on_label, other = (0.91, 0.01) if convention == "uniform" else (0.9, 0.1 / 9)
    assert np.log(on_label / other) == pytest.approx(gap, abs=1e-4)


@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_conventions_are_one_family(n_classes):
    """ε_uniform = ε_others · K/(K − 1), and "others" is 1 − ε and ε/(K − 1)."""
    epsilon, random = 0.15, torch.Generator().manual_seed(0)
    z = torch.randn(20, n_classes, dtype=torch.float64, generator=random)
    y = torch.arange(20) % n_classes
    others = Categorical(epsilon, "others").fit(np.arange(n_classes))
    uniform = Categorical(epsilon * n_classes / (n_classes - 1)).fit(np.arange(n_classes))
    torch.testing.assert_close(others.loss(z, y), uniform.loss(z, y))
    hot = nn.functional.one_hot(y, n_classes).double()
    target = hot * (1 - epsilon) + (1 - hot) * epsilon / (n_classes - 1)
    torch.testing.assert_close(others.loss(z, y), -(target * z.log_softmax(1)).sum(1))


def test_gradient_is_softmax_minus_target():
    z = tensor(1.0, -2.0, 0.5)[None].requires_grad_()
    Categorical(0.3).fit(np.arange(3)).loss(z, torch.tensor([2])).sum().backward()
    target = np.array([0.1, 0.1, 0.8])
    expected = z.detach().softmax(1)[0].numpy() - target
    np.testing.assert_allclose(z.grad[0].numpy(), expected, rtol=1e-12)


def test_too_much_smoothing_is_refused():
    X, y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2
    with pytest.raises(ValueError, match=r"at most 0\.5"):
        TorchClassifier(likelihood=Categorical(0.6, "others"), max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match="'label_smoothing' parameter"):
        TorchClassifier(likelihood=Categorical(1.0), max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match="'convention' parameter"):
        TorchClassifier(likelihood=Categorical(convention="keras"), max_epochs=1).fit(X, y)
