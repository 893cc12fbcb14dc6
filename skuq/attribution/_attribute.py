"""Attribute the uncertainty of rows to their pixels or columns."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from skuq._utils._messages import suggest, warn
from skuq._utils._progress import bar
from skuq._utils._random import PrivateGlobals, root_seed
from skuq._utils._typing import MatrixLike, RandomState
from skuq.attribution._images import ImageRows, are_images
from skuq.attribution._methods import BY_GRADIENT, BY_SEGMENTS
from skuq.attribution._perturbations import Perturbation
from skuq.attribution._problem import Problem
from skuq.attribution._result import Attribution
from skuq.attribution._search import Found, exhaustive, gumbel, single_flips
from skuq.attribution._segments import segments_of_images
from skuq.attribution._tables import TableRows
from skuq.attribution._target import Target, target_of
from skuq.attribution._work import ImageWork, TableWork, Work

__all__ = ["METHODS", "attribute_uncertainty"]

METHODS = ("optimized", "occlusion", *BY_SEGMENTS, *BY_GRADIENT)
OPTIMIZERS = ("greedy", "gumbel", "exhaustive")
PERTURBATIONS = ("infill", "blur")
N_NOISES = 4  # masks for each row in a step of "gumbel"


def attribute_uncertainty(
    estimator: Any,
    X: MatrixLike,
    *,
    kind: str = "total",
    method: str = "optimized",
    segments: Any = None,
    perturbation: str | Perturbation | None = None,
    sparsity: float = 3.0,
    optimizer: str = "greedy",
    image_shape: tuple[int, ...] | None = None,
    background: MatrixLike | None = None,
    measure: str = "entropy",
    n_segments: int = 50,
    n_samples: int | None = None,
    batch_size: int = 256,
    random_state: RandomState = 0,
    verbose: int = 0,
) -> Attribution:
    """DOC"""
    seed = root_seed(random_state)
    _check_names(method, optimizer, perturbation)
    _check_numbers(sparsity=(sparsity, 0), n_segments=(n_segments, 1), batch_size=(batch_size, 1))
    target = target_of(estimator, kind, measure)
    if method == "optimized" and optimizer == "gumbel" and target.function is None:
        raise TypeError(
            "optimizer='gumbel' needs a gradient, which this estimator does not have: "
            f"{target.why_not}. Take optimizer='greedy'"
        )
    if perturbation is None:
        perturbation = "infill" if method == "optimized" else "blur"
    work: Work
    if are_images(X, image_shape):
        images, labels = ImageRows(X, image_shape), None
        if segments is not None or method in ("optimized", *BY_SEGMENTS):
            chosen = "slic" if segments is None else segments
            labels = segments_of_images(images.tensor.numpy(), chosen, n_segments)
        work = ImageWork(images, labels, target, perturbation, batch_size)
    else:
        work = TableWork(TableRows(X, background, target.prefix), segments, target, batch_size)
    before = work.uncertainty()
    active = _worth_it(before, target)
    size = max(1, batch_size // N_NOISES)
    groups = [active[first : first + size] for first in range(0, len(active), size)]
    progress = bar(groups, verbose, desc=f"attribution, {method}", unit="batch")
    values, found = np.zeros(work.shape), _Masked(work, before)
    with PrivateGlobals(seed):  # a perturbation of the user may draw
        for group in progress:
            if method == "optimized":
                problem = work.problem(group, before[group])
                values[group] = found.add(
                    group, problem, _searched(problem, optimizer, sparsity, seed)
                )
            else:
                values[group] = work.values(method, group, before[group], n_samples, seed)
    masked = found if method == "optimized" else None
    return Attribution(
        values=values,
        mask=masked and masked.mask,
        uncertainty=before,
        refined=masked and masked.rows,
        refined_uncertainty=masked and masked.uncertainty,
        segments=work.segments,
        X=work.X,
        image_shape=work.image_shape,
        feature_names=work.names,
        kind=kind,
        method=method,
    )


class _Masked:
    """The masks that a search has found so far, and the rows with those masks replaced."""

    def __init__(self, work: Work, before: np.ndarray) -> None:
        self._work = work
        self.mask = np.zeros(work.shape, dtype=bool)
        self.rows, self.uncertainty = work.X.copy(), before.copy()

    def add(self, group: np.ndarray, problem: Problem, found: Found) -> np.ndarray:
        """Add those of some rows; return the values of their pixels or columns."""
        shape = (len(group), *self.mask.shape[1:])
        self.mask[group] = problem.spread(found.mask).reshape(shape).numpy()
        self.uncertainty[group] = found.uncertainty.numpy()
        self._work.put(self.rows, group, problem.replaced(found.mask.float(), found.learnt))
        each = found.contribution / problem.counts.clamp(min=1)
        values: np.ndarray = problem.spread(each).reshape(shape).numpy()
        return values


def _searched(problem: Problem, optimizer: str, sparsity: float, seed: int) -> Found:
    if optimizer == "exhaustive":
        return exhaustive(problem, sparsity)
    if optimizer == "greedy":
        return single_flips(problem, sparsity)
    if not problem.has_gradient:
        raise TypeError(
            "optimizer='gumbel' needs a gradient, and the steps before the network have none; "
            "take optimizer='greedy'"
        )
    return gumbel(problem, sparsity, seed, n_noises=N_NOISES)


def _worth_it(before: np.ndarray, target: Target) -> np.ndarray:
    """Return which rows have an uncertainty to attribute; warn of the others."""
    if not np.isfinite(before).all():
        bad = np.flatnonzero(~np.isfinite(before))
        raise ValueError(
            f"the uncertainty of {len(bad)} rows, the first is row {bad[0]}, is not finite; "
            "nothing can be attributed. Look for NaN and extreme values in X"
        )
    some = before > target.smallest
    if not some.all():
        warn(
            f"{(~some).sum()} of {len(before)} rows have no uncertainty to attribute (zero, or "
            f"rounding: at most {target.smallest:g}); their values are zero"
        )
    return np.flatnonzero(some)


def _check_names(method: str, optimizer: str, perturbation: Any) -> None:
    for name, value, known in (
        ("method", method, METHODS),
        ("optimizer", optimizer, OPTIMIZERS),
        ("perturbation", perturbation, PERTURBATIONS),
    ):
        if name == "perturbation" and (value is None or callable(value)):
            continue
        if value not in known:
            raise ValueError(
                f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}."
                f"{suggest(str(value), known)}"
            )


def _check_numbers(**limits: tuple[Any, float]) -> None:
    for name, (value, least) in limits.items():
        if not isinstance(value, Real) or isinstance(value, bool) or not value >= least:
            raise ValueError(f"{name} must be a number of at least {least}, got {value!r}")
