"""Trains network k of a fit, by itself or in a stack, with its own rows, seeds and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skuq._data._batches import Rows
from skuq._networks._module import Numerics
from skuq._networks._weights import weights_of
from skuq._training._building import Builder
from skuq._training._hooks import TrainingHook
from skuq._training._one import train_network
from skuq._training._saving import load_finished
from skuq._training._settings import Settings, Trained
from skuq._training._several import train_stack
from skuq._training._stack import Stack, may_stack
from skuq._utils._memory import explained_at_fit
from skuq._utils._progress import Task
from skuq._utils._random import Purpose, derive_seed
from skuq.exceptions import DivergedError
from skuq.likelihoods import Likelihood

__all__ = ["Trainer"]

Hooks = Mapping[int, TrainingHook]  # by the number of the network


@dataclass(frozen=True)
class Trainer:
    """How the networks of a fit are trained; training changes nothing in it.

    Parameters
    ----------
    builder : Builder
        Makes the networks.
    likelihood : Likelihood, fitted
    train_rows, valid_rows : Rows
        Without validation rows, nothing stops early.
    settings : Settings
    attributes : callable, or None in another process, which has no watchers
        Maps a trained network to the attributes of an estimator that has only this one.
    root : int
        The seed of the fit.
    keeps_optimizers : bool, default=False
        Whether `partial_fit` is to go on with them.
    stage : int, default=0
        0 trains the networks; later stages go on from them, with other seeds.
    """

    builder: Builder
    likelihood: Likelihood
    train_rows: Rows
    valid_rows: Rows | None
    settings: Settings
    attributes: Callable[[Trained], dict[str, Any]] | None
    root: int
    keeps_optimizers: bool = False
    stage: int = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "attributes": None}

    @property
    def numerics(self) -> Numerics:
        return self.settings.numerics

    def on(self, device: torch.device, lock: Any = None) -> Trainer:
        """The same on another device; with a lock, one of several that share its rows."""
        numerics, valid = replace(self.numerics, device=device), self.valid_rows
        return replace(
            self,
            builder=self.builder.on(numerics),
            settings=replace(self.settings, numerics=numerics),
            train_rows=self.train_rows.on(device, lock),
            valid_rows=None if valid is None else valid.on(device, lock),
        )

    def exploring(self, stage: int, **settings: Any) -> Trainer:
        """One that goes on from trained networks, without early stopping and callbacks."""
        saved = self.settings.checkpoints
        changed = replace(
            self.settings,
            patience=None,
            callbacks=None,
            checkpoints=saved and saved.stage(f"explore-{stage}"),
            **settings,
        )
        return replace(self, settings=changed, valid_rows=None, stage=stage)

    def network(
        self,
        number: int,
        bootstrap: bool,
        task: Task,
        hook: TrainingHook | None = None,
        module: nn.Module | None = None,
    ) -> Trained:
        """Train network `number`: a new one, or `module`."""
        before, rows = None, self.train_rows
        if module is None:
            module, before = self.builder.network(number), self.builder.before(number)
        if bootstrap:
            rows = rows.take(self._bootstrapped(number))
        hooks = {} if hook is None else {number: hook}
        done = self._finished(f"network-{number}", [module], [task], hooks, number)
        if done is not None:
            return done[0]
        try:
            with task.begin(self.settings.max_epochs, of="epoch"), self._memory():
                trained = train_network(
                    module,
                    rows,
                    self.valid_rows,
                    self.likelihood,
                    self.settings,
                    task,
                    self.state,
                    root=self.root,
                    network=number,
                    stage=self.stage,
                    other_noise=bool(self.builder.report.other_noise),
                    resume=before,
                    hook=hook,
                )
                task.end(self.state(partial(weights_of, trained.module), trained.history))
                return trained
        except DivergedError as error:
            error.network = number
            raise

    def stack(
        self, numbers: Sequence[int], bootstrap: bool, tasks: Sequence[Task], hooks: Hooks
    ) -> list[Trained] | None:
        """Train networks of consecutive numbers as one module; None where that cannot be."""
        if not self._may_stack(numbers):
            return None
        networks = [self.builder.network(k) for k in numbers]
        stack = Stack.of(networks, self.train_rows, self.numerics)
        if stack is None:
            return None
        indices = torch.stack([self._bootstrapped(k) for k in numbers]) if bootstrap else None
        with ExitStack() as closing:
            for task in tasks:
                closing.enter_context(task)
            done = self._finished(f"networks-{numbers[0]}", networks, tasks, hooks, numbers[0])
            if done is not None:
                return done
            closing.enter_context(self._memory(len(numbers)))
            return train_stack(
                networks,
                stack,
                self.train_rows,
                indices,
                self.valid_rows,
                self.likelihood,
                self.settings,
                tasks,
                self.state,
                root=self.root,
                first=numbers[0],
                hooks=[hooks[k] for k in numbers] if hooks else [],
            )

    def state(
        self, weights: Callable[[], dict[str, Tensor]], history: list[dict[str, Any]]
    ) -> Callable[[], dict[str, Any]]:
        """The attributes of an estimator with a copy of a network, which may be in training."""

        def state() -> dict[str, Any]:
            assert self.attributes is not None, "another process has no watchers"
            return self.attributes(Trained(self.builder.with_weights(weights()), list(history)))

        return state

    def _may_stack(self, numbers: Sequence[int]) -> bool:
        return (
            len(numbers) > 1
            and not any(trained.state for trained in self.builder.resume)
            and not self.keeps_optimizers
            and not self.builder.report.other_noise
            and may_stack(self.builder.first, self.settings)
        )

    def _finished(
        self,
        name: str,
        networks: list[nn.Module],
        tasks: Sequence[Task],
        hooks: Hooks,
        first: int,
    ) -> list[Trained] | None:
        """Networks whose training a checkpoint holds, if there is one."""
        own = [hooks[first + k] for k in range(len(networks))] if hooks else []
        done = load_finished(name, networks, self.train_rows, self.settings, own)
        for task, trained in zip(tasks, done or []):
            task.begin().end(self.state(partial(weights_of, trained.module), trained.history))
        return done

    def _memory(self, n_networks: int = 1) -> AbstractContextManager[Any]:
        """An error that helps, where the device has no memory for a step."""
        n_rows = min(self.settings.n_batch_rows, len(self.train_rows))
        return explained_at_fit(n_rows, n_networks, self.numerics.device)

    def _bootstrapped(self, network: int) -> Tensor:
        """Indices of rows drawn with replacement."""
        random = np.random.default_rng(derive_seed(self.root, Purpose.BOOTSTRAP, network))
        n_rows = len(self.train_rows)
        return torch.from_numpy(random.integers(n_rows, size=n_rows))
