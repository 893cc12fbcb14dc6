"""Langevin dynamics and Hamiltonian Monte Carlo with stochastic gradients, as an optimizer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from skuq._data._places import row_losses
from skuq._networks._module import call, copied
from skuq._training._problem import Problem
from skuq._utils._random import Purpose, derive_seed, generator

__all__ = ["Langevin", "largest_curvature"]

_POWERS = 15


class Langevin(torch.optim.Optimizer):
    """Samples from exp(−[n · loss + ½ δ |θ|²] / T) by gradients of the mean loss.

    With the learning rate η, the friction α and standard normal z, a step is

        v ← (1 − α) v − η (∇ loss + δ θ / n) + √(2 α η T / n) z,    θ ← θ + v.

    It is stochastic gradient Hamiltonian Monte Carlo, and Langevin dynamics for α = 1. The noise of
    a step is derived from the seed and the number of the step, so that training can be resumed.

    Parameters
    ----------
    params : iterable of nn.Parameter
        The parameters θ.
    lr : float
        The learning rate η.
    friction : float in (0, 1]
        The friction α.
    n_rows : float
        The amount of data n.
    prior_precision : float
        The prior precision δ.
    temperature : float
        The temperature T; 0 is gradient descent with momentum 1 − α.
    seed : int
        Seed of the noise.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        friction: float,
        n_rows: float,
        prior_precision: float,
        temperature: float,
        seed: int,
    ) -> None:
        super().__init__(params, {"lr": lr, "n_steps": 0})
        self._friction = friction
        self._decay = prior_precision / n_rows
        self._heat = 2 * friction * temperature / n_rows
        self._seed = seed

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for number, group in enumerate(self.param_groups):
            randoms: dict[torch.device, torch.Generator] = {}
            seed = derive_seed(self._seed, Purpose.POSTERIOR, number, group["n_steps"])
            group["n_steps"] += 1
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state, device = self.state[parameter], parameter.device
                if not state:
                    state["velocity"] = torch.zeros_like(parameter)
                velocity = state["velocity"].mul_(1 - self._friction)
                velocity.add_(parameter.grad + self._decay * parameter, alpha=-group["lr"])
                if self._heat:
                    random = randoms.setdefault(device, generator(seed, device))
                    noise = torch.empty_like(parameter).normal_(generator=random)
                    velocity.add_(noise, alpha=(self._heat * group["lr"]) ** 0.5)
                parameter.add_(velocity)


def largest_curvature(network: nn.Module, problem: Problem) -> float:
    """Estimate the largest curvature of the mean negative log-likelihood, by power iteration.

    Parameters
    ----------
    network : nn.Module
        The trained network, at whose weights the curvature is taken; it is not changed.
    problem : Problem
        Has the rows, of which one large batch counts, and the likelihood.

    Returns
    -------
    float
        The largest absolute eigenvalue of the Hessian in the parameters, estimated from below.

    Raises
    ------
    ValueError
        If the network has no second derivatives.
    """
    shell = copied(network).eval()
    x, target = batch = next(problem.batches(large=True))
    parameters = [p for p in shell.parameters() if p.requires_grad]
    random = generator(problem.seed())
    vector = [torch.randn(p.shape, generator=random).to(p) for p in parameters]
    size = 0.0
    with torch.enable_grad():
        rule, outputs = problem.likelihood.negative_log_likelihood, call(shell, x, problem.numerics)
        loss = row_losses(rule, outputs, target, batch.weight).mean()
        unused: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
        try:
            slopes = torch.autograd.grad(loss, parameters, create_graph=True, **unused)
            for _ in range(_POWERS):
                norm = sum(float(v.square().sum()) for v in vector) ** 0.5
                along = sum((s * v / norm).sum() for s, v in zip(slopes, vector) if norm)
                vector = list(torch.autograd.grad(along, parameters, retain_graph=True, **unused))
                size = sum(float(v.square().sum()) for v in vector) ** 0.5
                if not size:
                    break
        except RuntimeError as error:
            raise ValueError(
                f"SGMCMC(lr=None) needs second derivatives, which {problem.report.name} does not "
                f"have ({error}): set lr of SGMCMC"
            ) from error
    return size
