"""The published formulas at points where they are known."""

import math

import pytest
import torch

from skuq.semi_supervised._consistency import (
    average_weight,
    disagreement,
    entropy,
    ramp,
    threshold,
)


def test_the_ramp():
    assert ramp(0.0) == pytest.approx(0.006738, abs=5e-7)
    assert ramp(0.5) == pytest.approx(math.exp(-1.25))
    assert ramp(1.0) == ramp(1.7) == 1.0
    assert ramp(-1.0) == ramp(0.0)


def test_thresholds():
    assert threshold("ramp", 0.0, 2) == pytest.approx(0.52103, abs=5e-6)
    assert threshold("ramp", 1.0, 2) == pytest.approx(math.log(2))
    assert threshold("ramp", 0.5, 10) == pytest.approx(
        (0.75 + 0.25 * math.exp(-1.25)) * math.log(10)
    )
    assert threshold(0.4, 0.9, 3) == pytest.approx(0.4 * math.log(3))
    assert threshold(None, 0.5, 2) == math.inf


def test_weights_of_the_teacher():
    assert [average_weight(step, 0.99) for step in (0, 1, 3)] == [0.0, 0.5, 0.75]
    assert average_weight(1000, 0.99) == 0.99
    assert average_weight(1000, 0.0) == 0.0


def test_entropy_of_certain_and_of_equal_classes():
    proba = torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
    assert entropy(proba).tolist() == pytest.approx([0.0, math.log(2)], abs=3e-6)


def test_disagreement_by_hand():
    student = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]], requires_grad=True)
    teacher = torch.tensor([[0.8, 0.2], [0.1, 0.9], [0.2, 0.8]])
    counts = torch.tensor([True, True, False])
    found = disagreement(student, teacher, counts)
    assert found.item() == pytest.approx((0.02 + 0.32) / (2 * 2))
    weighted = disagreement(student, teacher, counts, torch.tensor([3.0, 1.0, 5.0]))
    assert weighted.item() == pytest.approx((3 * 0.02 + 0.32) / (2 * 4))
    (slope,) = torch.autograd.grad(found, student)
    torch.testing.assert_close(slope[0], torch.tensor([0.2, -0.2]) / 4)
    assert (slope[2] == 0).all()


def test_nothing_certain_gives_zero():
    student = torch.tensor([[0.9, 0.1]], requires_grad=True)
    found = disagreement(student, torch.tensor([[0.1, 0.9]]), torch.tensor([False]))
    assert found.item() == 0.0
    (slope,) = torch.autograd.grad(found, student)
    assert (slope == 0).all()
