"""The hook that trains a student beside its teacher, and keeps the teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from skuq._data._batches import Batch
from skuq._data._places import places_as_rows
from skuq._networks._module import Numerics, call
from skuq._training._companion import Companion
from skuq._training._hooks import TrainingHook
from skuq._training._problem import Problem
from skuq._utils._random import Purpose, derive_seed, generator
from skuq.semi_supervised._consistency import (
    average_weight,
    disagreement,
    entropy,
    ramp,
    threshold,
)
from skuq.semi_supervised._rows import Unlabelled, seeing_codes

__all__ = ["Rules", "Teacher", "Teaching"]

_NUMBERS = 2**18  # of input that the teacher gets at a time, if a batch is not larger


@dataclass(frozen=True)
class Rules:
    """The parameters of `MeanTeacher` that the training needs."""

    consistency: float
    ramp_up: float
    n_draws: int
    noise: float
    ema_decay: float
    threshold: str | float | None


class Teacher(TrainingHook):
    """Keeps the moving average of the student, and adds the distance from it to the loss.

    Between epochs the network holds the teacher's weights, and this object the student's.

    Parameters
    ----------
    rules : Rules
        The weights and thresholds.
    rows : Unlabelled
        Rows without labels.
    problem : Problem
        Has the likelihood, the batch size and the length of the training.
    seed : int
        Seed of the order of the rows and of the noise.
    """

    def __init__(self, rules: Rules, rows: Unlabelled, problem: Problem, seed: int) -> None:
        self._rules = rules
        self._rows = rows
        self._likelihood = problem.likelihood
        self._numerics = problem.numerics
        self._size = max(1, min(problem.batch_size, len(rows)))
        self._n_steps = problem.n_steps
        self._seed = seed
        self._step = 0
        self._other: dict[str, Tensor] = {}  # the weights that are not in the network
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))
        self._codes: Tensor | None = None  # which columns have no noise; not yet known

    # -- two networks in one ---------------------------------------------------------------------

    def before_steps(self, weights: dict[str, Tensor]) -> None:
        if self._other:
            self._swap(weights)
        else:
            self._other = {name: weight.clone() for name, weight in weights.items()}

    def after_steps(self, weights: dict[str, Tensor]) -> None:
        self._swap(weights)

    def _swap(self, weights: dict[str, Tensor]) -> None:
        for name, weight in weights.items():
            other = weight.clone()
            weight.copy_(self._other[name])
            self._other[name] = other

    @torch.no_grad()
    def after_step(self, module: nn.Module) -> None:
        old = average_weight(self._step, self._rules.ema_decay)
        for name, weight in module.named_parameters():
            average = self._other[name]
            average.mul_(old).add_(weight.detach().to(average), alpha=1 - old)
        self._step += 1

    # -- the loss --------------------------------------------------------------------------------

    def penalty(self, module: nn.Module, batch: Batch) -> Tensor | None:
        if not len(self._rows):
            return None
        rules, n_steps = self._rules, max(self._n_steps, 1)
        x, weight = self._next_rows(batch[0])
        student = self._student(module, x)
        teacher, unsure = self._taught(module, x)
        limit = threshold(rules.threshold, self._step / n_steps, student.shape[-1])
        if weight is not None:  # a row may have several places
            weight = weight.flatten()
            weight = weight.repeat_interleave(len(student) // len(weight))
        distance = disagreement(student, teacher, unsure < limit, weight)
        grown = ramp(self._step / (rules.ramp_up * n_steps)) if rules.ramp_up else 1.0
        return rules.consistency * grown * distance

    def _next_rows(self, like: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the rows of this step: slices of the rows, which each pass shuffles anew."""
        per_pass = len(self._rows) // self._size
        number, place = divmod(self._step, per_pass)
        if self._order[0] != number:
            random = generator(derive_seed(self._seed, Purpose.SHUFFLING, number))
            self._order = number, torch.randperm(len(self._rows), generator=random)
        index = self._order[1][place * self._size : (place + 1) * self._size]
        index = index.repeat(2) if len(index) == 1 else index  # BatchNorm needs two rows

        def of_views() -> torch.Generator:
            return generator(derive_seed(self._seed, Purpose.OTHER, self._step, 1))

        return self._rows.batch(index, like, of_views)

    def _student(self, module: nn.Module, x: Tensor) -> Tensor:
        """Return the student's probabilities; the first step shows which numbers are codes."""

        def run() -> Tensor:
            return self._probabilities(lambda rows: call(module, rows, self._numerics), x)[0]

        if self._codes is not None:
            return run()
        found, self._codes = seeing_codes(module, x, run)
        return found

    @torch.no_grad()
    def _taught(self, module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the teacher's probabilities of rows with noise, and its entropy over draws."""
        buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
        weights = {name: weight.to(x.device) for name, weight in self._other.items()}

        def outputs(rows: Tensor) -> Tensor:
            return call(
                lambda some: functional_call(module, {**weights, **buffers}, (some,)),
                rows,
                self._numerics,
            )

        random = generator(derive_seed(self._seed, Purpose.OTHER, self._step))
        target = self._probabilities(outputs, self._noisy(x, 1, random))[0]
        if self._rules.threshold is None:
            return target, torch.zeros_like(target[:, 0])
        left, total = self._rules.n_draws, torch.zeros_like(target)
        while left:
            n_draws = max(1, min(left, _NUMBERS // max(1, x.numel())))
            drawn = self._probabilities(outputs, self._noisy(x, n_draws, random), n_draws)
            total += drawn.sum(0)
            left -= n_draws
        return target, entropy(total / self._rules.n_draws)

    def _noisy(self, x: Tensor, n_draws: int, random: torch.Generator) -> Tensor:
        """Return copies of the rows with clipped normal noise."""
        noise = torch.randn((n_draws, *x.shape), generator=random, dtype=torch.float32)
        scale = self._rules.noise
        noise = (scale * noise).clamp(-2 * scale, 2 * scale)
        moves = self._rows.spread_of(x) * noise.to(x)
        if self._codes is not None and len(self._codes):
            moves = moves.masked_fill(self._codes.to(x.device)[: x.shape[-1]], 0)
        return (x + moves).flatten(0, 1)

    def _probabilities(
        self, outputs: Callable[[Tensor], Tensor], x: Tensor, n_draws: int = 1
    ) -> Tensor:
        """Return probabilities of shape (n_draws, n_places, n_classes)."""
        raw = outputs(x)
        rows = places_as_rows(raw.unflatten(0, (n_draws, -1)))
        predictive: Any = self._likelihood.predictive(rows)
        probs: Tensor = predictive.probs
        return probs

    # -- checkpoints -----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return what training changes."""
        known = {} if self._codes is None else {"codes": self._codes}
        return {"step": self._step, "other": dict(self._other), **known}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the step and the other weights."""
        self._step, self._other = int(state["step"]), dict(state["other"])
        self._codes = state.get("codes")


class Teaching(Companion):
    """Gives every network of a fit a teacher of its own.

    Parameters
    ----------
    rules : Rules
        The weights and thresholds.
    X : array-like of shape (n_rows, ...), or None
        Rows without labels, as the estimator takes them; None if there are none.
    weight : ndarray of shape (n_rows,), or None
        Their weights, of mean 1.
    """

    def __init__(self, rules: Rules, X: Any, weight: Any) -> None:
        self._rules = rules
        self._X = X
        self._weight = weight
        self._rows: Unlabelled
        self._posterior = ""

    def begin(self, estimator: Any, numerics: Numerics) -> None:
        self._posterior = str(estimator._check_parameters(False)[0])
        self._rows = Unlabelled.of(estimator, self._X, self._weight, numerics)

    def identity(self) -> dict[str, Any]:
        return {
            "unlabelled rows": self._rows.X.cpu().numpy(),
            "weights of unlabelled rows": self._weight,
            "rules of the teacher": np.array(str(self._rules)),
        }

    def hooks(self, problem: Problem, n_networks: int) -> Sequence[TrainingHook]:
        numbers = range(problem.n_begun, problem.n_begun + n_networks)
        return [
            Teacher(self._rules, self._rows, problem, problem.seed(Purpose.OTHER, number))
            for number in numbers
        ]

    def refuse_exploring(self) -> None:
        raise ValueError(
            f"MeanTeacher does not support posterior={self._posterior}, which goes on training "
            "networks after they are trained, without the rows that have no label: choose "
            "PointEstimate, MCDropout, DeepEnsemble or LastLayerLaplace"
        )
