"""The loss of rows with places: a mean over places, each times its weight."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from skuq._data._places import classes_second, row_losses

K, PLACES = 3, (4, 5)


def rule(output, target):
    return cross_entropy(output, target, reduction="none")


@pytest.fixture
def batch():
    random = torch.Generator().manual_seed(0)
    output = torch.randn(6, K, *PLACES, dtype=torch.float64, generator=random)
    target = torch.randint(K, (6, *PLACES), generator=random)
    weight = torch.rand(6, *PLACES, dtype=torch.float64, generator=random)
    return output.requires_grad_(), target, weight


def test_losses_are_those_of_torch(batch):
    output, target, weight = batch
    each = cross_entropy(output, target, reduction="none")
    torch.testing.assert_close(row_losses(rule, output, target), each.mean((1, 2)))
    expected = (weight * each).mean((1, 2))
    torch.testing.assert_close(row_losses(rule, output, target, weight), expected)
    torch.testing.assert_close(row_losses(rule, output, target.to(torch.int8), weight), expected)
    last = output.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(row_losses(rule, last, target, weight), expected)


def test_weights_of_rows_hold_for_all_their_places(batch):
    output, target, _ = batch
    by_row = torch.arange(6.0, dtype=torch.float64)
    expected = by_row * cross_entropy(output, target, reduction="none").mean((1, 2))
    torch.testing.assert_close(row_losses(rule, output, target, by_row), expected)


def test_a_single_place_of_weight_has_its_loss_and_the_only_gradient(batch):
    output, target, weight = batch
    weight = torch.zeros_like(weight)
    weight[2, 1, 3] = 20.0
    loss = row_losses(rule, output, target, weight)
    one = cross_entropy(output[2, :, 1, 3][None], target[2, 1, 3][None])
    torch.testing.assert_close(loss[2], one)
    assert loss[[0, 1, 3, 4, 5]].abs().max() == 0
    (gradient,) = torch.autograd.grad(loss.mean(), output)
    counted = gradient[2, :, 1, 3].clone()
    gradient[2, :, 1, 3] = 0
    assert counted.abs().min() > 0 and gradient.abs().max() == 0


def test_a_batch_without_a_counted_place_has_no_loss_and_no_gradient(batch):
    output, target, weight = batch
    loss = row_losses(rule, output, target, 0 * weight).mean()
    (gradient,) = torch.autograd.grad(loss, output)
    assert loss == 0 and gradient.abs().max() == 0


def test_rows_without_places_have_the_losses_of_the_rule():
    output, target = torch.randn(5, K, generator=torch.Generator().manual_seed(1)), torch.arange(5)
    weight = torch.arange(5.0)
    each = rule(output, target % K)
    torch.testing.assert_close(row_losses(rule, output, target % K), each)
    torch.testing.assert_close(row_losses(rule, output, target % K, weight), weight * each)


def test_classes_come_second_in_public_arrays():
    assert classes_second(np.zeros((2, 4, 5, 3))).shape == (2, 3, 4, 5)
    table = np.zeros((2, 3))
    assert classes_second(table).shape == (2, 3)
