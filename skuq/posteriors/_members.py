"""Networks as draws: all their parameters and buffers, stacked."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from skuq._engine._draws import Draws
from skuq._networks._inspection import kinds_of_outputs
from skuq._networks._module import call
from skuq._training._problem import Problem
from skuq._utils._tensors import agree, tensors_of

__all__ = ["stacked_members"]


def stacked_members(networks: list[nn.Module], problem: Problem) -> dict[str, Tensor]:
    """Stack all parameters and buffers of networks of one kind.

    Parameters
    ----------
    networks : list of nn.Module
        The networks.
    problem : Problem
        Has rows to try them on.

    Returns
    -------
    dict of str to Tensor of shape (n_networks, ...)
        The tensors of `Draws`.

    Raises
    ------
    ValueError
        If the networks differ in more than parameters and buffers.
    """
    states = [tensors_of(network) for network in networks]
    stacked = {
        name: torch.stack([state[name].detach() for state in states])
        for name, tensor in states[0].items()
        if tensor.layout is torch.strided  # sparse constants are the same in each member
    }
    _check_members(Draws(networks[0], stacked), networks, problem)
    return stacked


def _check_members(draws: Draws, networks: list[nn.Module], problem: Problem) -> None:
    """Refuse members that differ in more than parameters and buffers."""
    shell = draws.shell()
    for index, network in enumerate(networks):
        tensors = {name: t[0] for name, t in draws.tensors(index, index + 1).items()}
        with torch.no_grad():
            member, draw = (
                call(function, problem.sample, problem.numerics)
                for function in (network, lambda x, t=tensors: functional_call(shell, t, (x,)))
            )
        kinds = kinds_of_outputs(problem.likelihood)
        if not agree(draw, member, problem.numerics.tolerance, kinds):
            raise ValueError(
                f"members of {problem.report.name} differ in more than parameters and buffers: a "
                "tensor, list or number that the constructor draws at random must be registered "
                "with register_buffer, or drawn with a seed"
            )
