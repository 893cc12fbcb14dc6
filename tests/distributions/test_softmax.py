"""Distributions over classes: torch's own numbers, in less time; logarithms that never vanish."""

import numpy as np
import pytest
import torch
from torch.distributions import Categorical

from skuq._distributions._softmax import Softmax, log_mean, mean_of_draws


def logits(scale=3.0, shape=(4, 50, 6), seed=0):
    return scale * torch.randn(
        shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


@pytest.mark.parametrize("scale", [1.0, 50.0, 1e4])
@pytest.mark.parametrize("rows_last", [False, True])
def test_equals_the_categorical_of_torch(scale, rows_last):
    z = logits(scale)
    if rows_last:
        z = z.mT.contiguous().mT
    ours, theirs = Softmax(z), Categorical(logits=z)
    torch.testing.assert_close(ours.probs, theirs.probs, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.entropy(), theirs.entropy(), rtol=1e-12, atol=1e-12)
    y = torch.arange(50) % 6
    torch.testing.assert_close(ours.log_prob(y), theirs.log_prob(y), rtol=1e-12, atol=1e-12)
    assert ours.batch_shape == theirs.batch_shape
    assert ours.probs.stride() == z.stride()  # nothing was laid out anew


def test_gradients_are_those_of_the_softmax():
    z = logits().requires_grad_()
    direction = logits(seed=1)
    for ours, theirs in (
        (Softmax(z).probs, z.softmax(-1)),
        (Softmax(z).logits, z.log_softmax(-1)),
        (Softmax(z).entropy(), Categorical(logits=z).entropy()),
    ):
        same = direction if ours.ndim == 3 else direction[..., 0]
        (a,) = torch.autograd.grad((ours * same).sum(), z)
        (b,) = torch.autograd.grad((theirs * same).sum(), z)
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 3, 2, 1), (0, 2, 3, 1), (2, 0, 3, 1)])
def test_mean_of_draws_keeps_the_layout(order):
    values = logits(shape=(3, 4, 5, 6)).permute(order)
    mean = mean_of_draws(values)
    torch.testing.assert_close(mean, values.mean(0), rtol=1e-14, atol=1e-15)
    by_stride = lambda t, first: sorted(range(t.ndim - first), key=lambda a: t.stride(a + first))
    assert by_stride(mean, 0) == by_stride(values, 1)


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
@pytest.mark.parametrize("n_draws", [1, 7])
def test_log_mean(scale, n_draws):
    z = logits(scale, (n_draws, 40, 5))
    expected = z.log_softmax(-1).logsumexp(0) - np.log(n_draws)
    actual = log_mean(Softmax(z))
    assert torch.isfinite(actual).all()
    torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-12)


def test_log_mean_of_a_row_does_not_depend_on_the_others():
    """Some rows of a block underflow, and take another way than the rest."""
    z = torch.cat([logits(1.0, (7, 32, 5)), logits(1e4, (7, 32, 5))], dim=1)
    together = log_mean(Softmax(z))
    assert torch.equal(together[:32], log_mean(Softmax(z[:, :32].clone())))
