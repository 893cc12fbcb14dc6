"""Draws that differ in the weights of one network, for posteriors that walk from a trained one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from skuq._networks._batch_norm import running_statistics
from skuq._networks._module import copied
from skuq._training._problem import Problem
from skuq._utils._tensors import tensors_of

__all__ = ["Weights", "copied_tensors", "epochs_of_a_walk", "stacked_weights", "trained_weights"]

Weights = Mapping[str, Tensor]  # by name


def trained_weights(network: nn.Module) -> dict[str, Tensor]:
    """Copy the parameters that training changes."""
    return {n: p.detach().clone() for n, p in network.named_parameters() if p.requires_grad}


def copied_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Copy all parameters and buffers that draws may replace."""
    found = tensors_of(network).items()
    return {n: t.detach().clone() for n, t in found if t.layout is torch.strided}


@torch.no_grad()
def stacked_weights(
    network: nn.Module, draws: Iterable[Weights], problem: Problem
) -> dict[str, Tensor]:
    """Stack the weights of draws, with running statistics of BatchNorm that belong to each.

    Parameters
    ----------
    network : nn.Module
        A network that gets the weights; it is not changed.
    draws : iterable of mapping of str to Tensor
        The weights, and perhaps other tensors, of each draw. One draw is made at a time.
    problem : Problem
        Has the training rows: one pass over them for each draw, if there is any BatchNorm.

    Returns
    -------
    dict of str to Tensor of shape (n_draws, ...)
        The tensors of `Draws`.
    """
    shell = copied(network)
    stacks: dict[str, list[Tensor]] = {}
    tensors, statistics = tensors_of(shell), running_statistics(shell)
    for weights in draws:
        if statistics:
            for name, value in weights.items():
                tensors[name].copy_(value)
            problem.estimate_batch_statistics(shell)
            found = {name: value.clone() for name, value in running_statistics(shell).items()}
            weights = {**weights, **found}
        for name, value in weights.items():
            stacks.setdefault(name, []).append(value)
    return {name: torch.stack(values) for name, values in stacks.items()}


def epochs_of_a_walk(
    n_epochs: int | None, network: nn.Module, problem: Problem, parts: int, least: int, who: str
) -> int:
    """Return the epochs of a walk: as given, or a part of those that a network was trained.

    Raises
    ------
    ValueError
        If none are given and the network was not trained in this fit.
    """
    if n_epochs is not None:
        return n_epochs
    trained = problem.n_epochs(network)
    if trained == 0:
        raise ValueError(
            f"{who} takes its number of epochs from those of training, but with max_epochs=0 "
            f"nothing trains: set n_epochs of {who}"
        )
    return max(least, -(-trained // parts))
