"""Activations in place: the same numbers, and no one sees another's memory change."""

import copy

import pytest
import torch
from torch import nn

from skuq._networks._sequential import share_memory_of_activations


def layers():
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def shared(module):
    module = copy.deepcopy(module).eval()
    share_memory_of_activations(module)
    return module


def test_outputs_are_equal_and_memory_is_shared(monkeypatch):
    module, x = layers().eval(), torch.randn(7, 5)
    in_place, original = [], torch.Tensor.relu_
    monkeypatch.setattr(torch.Tensor, "relu_", lambda t: in_place.append(1) or original(t))
    with torch.no_grad():
        assert torch.equal(shared(module)(x), module(x))
    assert len(in_place) == 2


def test_gradients_are_equal():
    module, x = layers().eval(), torch.randn(7, 5).requires_grad_()
    (a,) = torch.autograd.grad(shared(module)(x).square().sum(), x)
    (b,) = torch.autograd.grad(module(x).square().sum(), x)
    assert torch.equal(a, b)


def test_what_a_hook_or_a_caller_of_single_layers_keeps_does_not_change():
    module, kept = layers().eval(), []
    module[0].register_forward_hook(lambda layer, args, output: kept.append(output))
    copied, x = shared(module), torch.randn(7, 5)
    with torch.no_grad():
        expected = copied[0](x)
        copied(x)
        assert (expected < 0).any()
        assert torch.equal(kept[-1], expected)
        before = copied[2](x.new_ones(3, 8))
        after = before.clone()
        copied[3](before)
        assert torch.equal(before, after)


class Passing(nn.Linear):
    """A layer of a user's, which returns what it got."""

    def forward(self, x):
        return x


def test_layers_with_a_forward_of_their_own_may_return_their_input():
    x = torch.randn(7, 5)
    before = x.clone()
    with torch.no_grad():
        shared(nn.Sequential(Passing(5, 5), nn.ReLU()))(x)
    assert torch.equal(x, before)


class Own(nn.Sequential):
    """A container that keeps what its layers return."""

    def forward(self, x):
        self.kept = []
        for layer in self:
            x = layer(x)
            self.kept.append(x)
        return x


@pytest.mark.parametrize("first", [nn.Identity(), nn.Flatten()])
def test_inputs_and_containers_with_a_forward_of_their_own_are_left_alone(first):
    x = torch.randn(7, 5)
    before = x.clone()
    with torch.no_grad():
        shared(nn.Sequential(first, nn.ReLU()))(x)
        shared(nn.Sequential(nn.ReLU()))(x)
        assert torch.equal(x, before)
        own = shared(Own(nn.Linear(5, 8), nn.ReLU()))
        own(x)
    assert type(own) is Own
    assert (own.kept[0] < 0).any()
