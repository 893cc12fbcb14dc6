"""Hooks beside those of the posterior, for estimators that change how another one trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from skuq._data._batches import Batch
from skuq._networks._module import Numerics
from skuq._training._hooks import TrainingHook
from skuq._training._stored import hook_states, put_into_hooks

if TYPE_CHECKING:
    from skuq._training._problem import Problem

__all__ = ["Companion", "JoinedHooks", "joined"]


class Companion:
    """Changes the training of all networks of a fit, for any posterior.

    An estimator around another one passes it to ``TorchEstimator._fit_with``.
    """

    def begin(self, estimator: Any, numerics: Numerics) -> None:
        """Look at the estimator, once its parameters and rows are checked.

        Parameters
        ----------
        estimator : TorchEstimator
            The estimator that is being fitted.
        numerics : Numerics
            Device and precision of its networks.
        """

    def identity(self) -> dict[str, Any]:
        """Return arrays by name; a checkpoint belongs only to a fit with the same ones."""
        return {}

    def hooks(self, problem: Problem, n_networks: int) -> Sequence[TrainingHook]:
        """Make a hook for each of the networks that train next.

        Parameters
        ----------
        problem : Problem
            The problem of the posterior.
        n_networks : int
            Number of networks.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement hooks")

    def refuse_exploring(self) -> None:
        """Raise an error if networks may not go on training after `Problem.train`."""


class JoinedHooks(TrainingHook):
    """Two hooks of one network as one; `own` is that of the posterior."""

    def __init__(self, own: TrainingHook, other: TrainingHook) -> None:
        self.own = own
        self.other = other

    def penalty(self, module: nn.Module, batch: Batch) -> Tensor | None:
        terms = [hook.penalty(module, batch) for hook in (self.own, self.other)]
        known = [term for term in terms if term is not None]
        return sum(known[1:], known[0]) if known else None

    def before_steps(self, weights: dict[str, Tensor]) -> None:
        self.own.before_steps(weights)
        self.other.before_steps(weights)

    def after_steps(self, weights: dict[str, Tensor]) -> None:
        self.other.after_steps(weights)
        self.own.after_steps(weights)

    def after_step(self, module: nn.Module) -> None:
        self.own.after_step(module)
        self.other.after_step(module)

    def after_epoch(self, module: nn.Module, epoch: int) -> None:
        self.own.after_epoch(module, epoch)
        self.other.after_epoch(module, epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both hooks."""
        return {"hooks": hook_states([self.own, self.other])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the states of both hooks."""
        put_into_hooks([self.own, self.other], state["hooks"])


@contextmanager
def joined(
    companion: Companion | None,
    problem: Problem,
    n_networks: int,
    hooks: Sequence[TrainingHook] | None,
) -> Iterator[Sequence[TrainingHook] | None]:
    """Add the hooks of a companion to those of a posterior, for one call of `Problem.train`."""
    if companion is None:
        yield hooks
        return
    others = companion.hooks(problem, n_networks)
    if hooks is None:
        yield others
        return
    both = [JoinedHooks(own, other) for own, other in zip(hooks, others, strict=True)]
    yield both
    for given, pair in zip(hooks, both):
        if pair.own is not given:  # a copy, if the network trained in another process
            vars(given).update(vars(pair.own))
