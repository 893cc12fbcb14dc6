"""Comparisons of tensors: relative to their size, whatever the unit."""

import pytest
import torch

from skuq._utils._tensors import agree, all_agree

NAN, INF = float("nan"), float("inf")
VALUES = torch.tensor([[1.0, -2.0], [0.5, 0.0]], dtype=torch.float64)


@pytest.mark.parametrize("unit", [1e-30, 1e-7, 1.0, 1e9])
def test_the_unit_does_not_matter(unit):
    a = unit * VALUES
    off = unit * torch.tensor([[0.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    assert agree(a, a + 1.9e-4 * off, 1e-4)  # up to 2 units · 1e-4
    assert not agree(a, a + 2.1e-4 * off, 1e-4)
    assert not agree(a + 2.1e-4 * off, a, 1e-4)
    assert not agree(a, -a, 1e-4)


def test_zero_equals_only_zero():
    zero = torch.zeros(3)
    assert agree(zero, zero, 1e-4) and agree(zero, -zero, 1e-4)
    assert not agree(zero, zero + 1e-20, 1e-4)
    assert agree(torch.empty(0, 2), torch.empty(0, 2), 1e-4)


def test_what_is_not_finite_equals_only_itself():
    a = torch.tensor([NAN, INF, -INF, 1.0])
    assert agree(a, a, 1e-4)
    assert agree(torch.full((2,), NAN), torch.full((2,), NAN), 1e-4)
    for place, other in ((0, 1.0), (1, 1.0), (1, -INF), (2, NAN), (3, INF), (3, 2.0)):
        b = a.clone()
        b[place] = other
        assert not agree(a, b, 1e-4) and not agree(b, a, 1e-4)


def test_shapes_integers_and_complex_numbers():
    assert not agree(torch.ones(2), torch.ones(1, 2), 1e-4)
    assert agree(torch.tensor([10**6]), torch.tensor([10**6]), 1.0)
    assert not agree(torch.tensor([10**6]), torch.tensor([10**6 + 1]), 1.0)
    a = 1e-9 * torch.tensor([1 + 1j, 2.0])
    assert agree(a, a, 1e-4) and not agree(a, a.conj(), 1e-4)


def test_each_kind_of_column_has_a_size_of_its_own():
    a = torch.tensor([[1e-6, -20.0, 0.0], [2e-6, -21.0, 1.0]])
    b = a + torch.tensor([[0.0, 0.0, 0.0], [1e-7, 0.0, 0.0]])
    assert agree(a, b, 1e-4)
    assert not agree(a, b, 1e-4, kinds=["mean", "log", "log"])
    assert agree(a, b, 0.06, kinds=["mean", "log", "log"])  # 1e-7 of 2.1e-6
    c = a + torch.tensor([[0.0, 0.0, 1e-3], [0.0, 0.0, 0.0]])  # the third beside the second
    assert agree(a, c, 1e-4, kinds=["mean", "log", "log"])
    assert not agree(a, c, 1e-4, kinds=range(3))


def test_pairs_are_relative_to_the_largest_of_all():
    ones, noise = torch.ones(2), torch.tensor([1e-9, -1e-9])
    assert all_agree([(ones, ones), (noise, -noise)], 1e-4)
    assert not all_agree([(ones, ones), (ones, ones + 1e-3)], 1e-4)
    assert not all_agree([(noise, -noise)], 1e-4)
    assert not all_agree([(ones, ones), (ones, torch.ones(3))], 1e-4)
    assert all_agree([], 1e-4)
