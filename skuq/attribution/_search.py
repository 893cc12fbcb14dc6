"""Search for the mask that lowers the uncertainty most for its area.

The objective of a mask M of some segments is U(M) / U(∅) + λ · area(M), where U(M) is the
uncertainty of the row after the segments of M are replaced.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from skuq._utils._random import generator
from skuq.attribution._problem import Problem

__all__ = ["MOST_EXHAUSTIVE", "Found", "exhaustive", "gumbel", "single_flips"]

MOST_EXHAUSTIVE = 12  # segments; 4096 masks
_LEAST_GAIN = 1e-9


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes
    ----------
    mask : Tensor of bool of shape (n, n_segments)
        The best mask of each row.
    uncertainty : Tensor of shape (n,)
        That of the row with the mask's segments replaced.
    contribution : Tensor of shape (n, n_segments)
        By how much each segment lowers the uncertainty: besides the mask, for those outside; the
        mean of that and of what it lowers by itself, for those in the mask.
    learnt : Tensor or None
        Parameters of the perturbation.
    """

    mask: Tensor
    uncertainty: Tensor
    contribution: Tensor
    learnt: Tensor | None = None


def _objective(problem: Problem, rows: Tensor, mask: Tensor, u: Tensor, sparsity: float) -> Tensor:
    area = (problem.area[rows] * mask).sum(1)
    return u / problem.before[rows] + sparsity * area


def single_flips(
    problem: Problem,
    sparsity: float,
    start: Tensor | None = None,
    learnt: Tensor | None = None,
    most: int = 20,
) -> Found:
    """Add or remove the best segment again and again, until none helps.

    Parameters
    ----------
    problem : Problem
        The rows.
    sparsity : float
        λ.
    start : Tensor of bool of shape (n, n_segments), default=None
        Where to begin; None begins with the empty masks, which makes this the greedy search.
    learnt : Tensor, default=None
        Parameters of the perturbation.
    most : int, default=20
        The most changes of each mask.
    """
    moves, n = problem.moves() if most else problem.singles(), len(problem.before)
    k, everything = moves.shape[2], torch.arange(n)
    mask = torch.zeros(n, k, dtype=torch.bool) if start is None else start.clone()
    u = problem.evaluate(everything, mask.float(), learnt)
    value = _objective(problem, everything, mask, u, sparsity)
    after = u[:, None].repeat(1, k)  # with each segment flipped
    active = everything
    for step in range(most + 1):
        n_moves = k if step == most else moves.shape[1]
        which, move = moves[active, :n_moves].any(2).nonzero(as_tuple=True)
        rows = active[which]
        other = _moved(mask[rows], moves[rows, move])
        found = problem.evaluate(rows, other.float(), learnt)
        single = move < k
        after[rows[single], move[single]] = found[single]
        values = torch.full((n, n_moves), torch.inf, dtype=torch.float64)
        values[rows, move] = _objective(problem, rows, other, found, sparsity)
        best, chosen = values[active].min(1)
        better = best < value[active] - _LEAST_GAIN
        if step == most or not better.any():
            break
        active, chosen = active[better], chosen[better]
        mask[active] = _moved(mask[active], moves[active, chosen])
        value[active] = best[better]
        u[active] = problem.evaluate(active, mask[active].float(), learnt)
    last = torch.where(mask, after - u[:, None], u[:, None] - after)
    return Found(mask, u, _first_and_last(problem, mask, last, sparsity, learnt), learnt)


def _first_and_last(
    problem: Problem, mask: Tensor, last: Tensor, sparsity: float, learnt: Tensor | None
) -> Tensor:
    """Average over the two ends of the search, for segments in the mask, but not below their price.

    What a segment lowers by itself, and what it lowers besides the others of the mask: parts of one
    thing hide each other's effect in the second, and there is no mask yet in the first.
    """
    rows, segment = mask.nonzero(as_tuple=True)
    single = functional.one_hot(segment, mask.shape[1]).float()
    first = problem.before[rows] - problem.evaluate(rows, single, learnt)
    price = sparsity * problem.area[rows, segment] * problem.before[rows]
    values = last.clone()
    values[rows, segment] = torch.maximum((first + last[rows, segment]) / 2, price)
    return values


def _moved(mask: Tensor, move: Tensor) -> Tensor:
    """Add the segments of a move to a mask, or remove them if all of them are in it."""
    inside = (move & ~mask).logical_not().all(1, keepdim=True)
    return torch.where(inside, mask & ~move, mask | move)


def exhaustive(problem: Problem, sparsity: float) -> Found:
    """Try every mask.

    Parameters
    ----------
    problem : Problem
        Rows with at most `MOST_EXHAUSTIVE` segments.
    sparsity : float
        λ.
    """
    n, k = problem.area.shape
    if k > MOST_EXHAUSTIVE:
        raise ValueError(
            f"optimizer='exhaustive' tries all 2^k masks of k segments, at most {MOST_EXHAUSTIVE}; "
            f"got {k}. Give fewer segments, or optimizer='greedy'"
        )
    masks = (torch.arange(2**k)[:, None] >> torch.arange(k)) & 1 == 1
    best = torch.zeros(n, k, dtype=torch.bool)
    for row in range(n):
        possible = masks[: 2 ** int(problem.n_each[row])]
        rows = torch.full((len(possible),), row)
        u = problem.evaluate(rows, possible.float())
        best[row] = possible[_objective(problem, rows, possible, u, sparsity).argmin()]
    return single_flips(problem, sparsity, best, most=0)


def gumbel(
    problem: Problem,
    sparsity: float,
    seed: int,
    *,
    n_steps: int = 100,
    n_noises: int = 4,
    first_logit: float = -2.0,
) -> Found:
    """Learn the probability of each segment with Gumbel-sigmoid noise, then flip single segments.

    Masks are σ((α + logistic noise) / τ), rounded, with the gradient of the unrounded ones. τ falls
    from 1 to 0.1. The best mask that was tried is where the flips begin.

    Parameters
    ----------
    problem : Problem
        Rows whose uncertainty has a gradient.
    sparsity : float
        λ.
    seed : int
        Seed of the noise.
    n_steps : int, default=100
        Steps of Adam, with a rate of 0.1.
    n_noises : int, default=4
        Masks that are drawn for each row in each step.
    first_logit : float, default=-2.0
        α at the beginning: few segments are masked.
    """
    exists, noise = problem.exists(), generator(seed)
    n, k = exists.shape
    alpha = torch.full((n, k), first_logit, requires_grad=True)
    learnt = problem.first_parameters().requires_grad_() if problem.learns else None  # type: ignore[attr-defined]
    optimizer = torch.optim.Adam([alpha] if learnt is None else [alpha, learnt], lr=0.1)
    rows = torch.arange(n).repeat(n_noises)
    best = torch.zeros(n, k, dtype=torch.bool)
    least = torch.ones(n, dtype=torch.float64)
    for step in range(n_steps):
        temperature = 0.1 ** (step / max(n_steps - 1, 1))
        uniform = torch.rand(n_noises * n, k, generator=noise).clamp(1e-6, 1 - 1e-6)
        soft = torch.sigmoid((alpha[rows] + uniform.logit()) / temperature) * exists[rows]
        hard = (soft > 0.5).float()
        u = problem.uncertainty(
            rows, hard + soft - soft.detach(), None if learnt is None else learnt[rows]
        )
        value = _objective(problem, rows, hard + soft - soft.detach(), u, sparsity)
        optimizer.zero_grad()
        value.sum().backward()
        optimizer.step()
        tried, which = value.detach().reshape(n_noises, n).min(0)
        better = tried < least
        best[better] = hard.reshape(n_noises, n, k)[which, torch.arange(n)][better] > 0.5
        least[better] = tried[better]
    learnt = None if learnt is None else learnt.detach()
    mask = ((alpha.detach() > 0) & exists).float()
    u = problem.evaluate(torch.arange(n), mask, learnt)
    value = _objective(problem, torch.arange(n), mask, u, sparsity)
    best[value < least] = mask[value < least] > 0.5
    if learnt is not None:  # the blur has changed since the best mask was tried
        u = problem.evaluate(torch.arange(n), best.float(), learnt)
        best[_objective(problem, torch.arange(n), best, u, sparsity) >= 1] = False
    return single_flips(problem, sparsity, best, learnt)
