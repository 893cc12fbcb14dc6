"""Train network k of a fit, by itself or in a stack, with its own rows, seeds and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
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
from skuq._training._own_rows import OwnRows
from skuq._training._saving import load_finished
from skuq._training._settings import Settings, Trained
from skuq._training._several import train_stack
from skuq._training._stack import Stack, may_stack
from skuq._utils._denormals import without_denormals
from skuq._utils._memory import explained_at_fit
from skuq._utils._messages import without_vmap_warnings
from skuq._utils._progress import Task
from skuq._utils._random import Purpose, derive_seed
from skuq.exceptions import DivergedError
from skuq.likelihoods import Likelihood

__all__ = ["Trainer"]

Hooks = Mapping[int, TrainingHook]  # by the number of the network


@dataclass(frozen=True)
class Trainer:
    """Trains the networks of a fit; training does not change this object.

    Parameters
    ----------
    builder : Builder
        Makes the networks.
    likelihood : Likelihood
        The fitted likelihood.
    train_rows, valid_rows : Rows
        Training and validation rows. ``valid_rows=None`` turns off early stopping.
    settings : Settings
        How networks are trained.
    attributes : callable or None
        Maps a trained network to the attributes of an estimator that has only this network. None in
        another process, where no callback watches.
    root : int
        The seed of the fit.
    own_rows : OwnRows, default=None
        Splits of the rows by which each network has its own validation rows, in the place of
        `train_rows` and `valid_rows`. None: all have the same.
    keeps_optimizers : bool, default=False
        Whether to keep optimizers, so that `partial_fit` goes on with them.
    stage : int, default=0
        0 trains the networks. Later stages go on from trained networks, with other seeds.
    """

    builder: Builder
    likelihood: Likelihood
    train_rows: Rows
    valid_rows: Rows | None
    settings: Settings
    attributes: Callable[[Trained], dict[str, Any]] | None
    root: int
    own_rows: OwnRows | None = None
    keeps_optimizers: bool = False
    stage: int = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "attributes": None}

    @property
    def numerics(self) -> Numerics:
        return self.settings.numerics

    def on(self, device: torch.device, lock: Any = None) -> Trainer:
        """Return a copy for another device; `lock` guards rows that several copies share."""
        numerics, valid = replace(self.numerics, device=device), self.valid_rows
        return replace(
            self,
            builder=self.builder.on(numerics),
            settings=replace(self.settings, numerics=numerics),
            train_rows=self.train_rows.on(device, lock),
            valid_rows=None if valid is None else valid.on(device, lock),
            own_rows=self.own_rows and self.own_rows.on(device, lock),
        )

    def exploring(self, stage: int, **settings: Any) -> Trainer:
        """Return a copy that goes on from trained networks, without callbacks or early stopping."""
        saved = self.settings.checkpoints
        changed = replace(
            self.settings,
            patience=None,
            callbacks=None,
            checkpoints=saved and saved.stage(f"explore-{stage}"),
            **settings,
        )
        return replace(self, settings=changed, valid_rows=None, own_rows=None, stage=stage)

    def network(
        self,
        number: int,
        bootstrap: bool,
        task: Task,
        hook: TrainingHook | None = None,
        module: nn.Module | None = None,
    ) -> Trained:
        """Train network `number`: a new one, or `module`."""
        before = None
        if module is None:
            module, before = self.builder.network(number), self.builder.resumed(number)
        train, valid = self._rows(number, bootstrap)
        hooks = {} if hook is None else {number: hook}
        done = self._load_finished(f"network-{number}", [module], [task], hooks, number)
        if done is not None:
            return done[0]
        try:
            with task.begin(self.settings.max_epochs, of="epoch"), self._training():
                trained = train_network(
                    module,
                    train,
                    valid,
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
        """Train networks of consecutive numbers as one module; None if they cannot be stacked."""
        if not self._may_stack(numbers):
            return None
        networks = [self.builder.network(k) for k in numbers]
        stack = Stack.of(networks, self.train_rows, self.numerics)
        if stack is None:
            return None
        rows = self._stacked_rows(numbers, bootstrap)
        if rows is None:
            return None
        train, indices, valid, valid_indices = rows
        with ExitStack() as closing:
            for task in tasks:
                closing.enter_context(task)
            done = self._load_finished(f"networks-{numbers[0]}", networks, tasks, hooks, numbers[0])
            if done is not None:
                return done
            closing.enter_context(self._training(len(numbers)))
            return train_stack(
                networks,
                stack,
                train,
                indices,
                valid,
                valid_indices,
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
        """Return a function that makes the attributes of an estimator with a copy of a network.

        The network may still be in training.
        """

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

    def _load_finished(
        self,
        name: str,
        networks: list[nn.Module],
        tasks: Sequence[Task],
        hooks: Hooks,
        first: int,
    ) -> list[Trained] | None:
        """Load the networks from the checkpoint of a finished training, if there is one."""
        own = [hooks[first + k] for k in range(len(networks))] if hooks else []
        done = load_finished(name, networks, self.train_rows, self.settings, own)
        for task, trained in zip(tasks, done or []):
            task.begin().end(self.state(partial(weights_of, trained.module), trained.history))
        return done

    @contextmanager
    def _training(self, n_networks: int = 1) -> Iterator[None]:
        """Train fast near 0, and explain the error if the device has no memory for a step."""
        n_rows = min(self.settings.n_batch_rows, len(self.train_rows))
        explained = explained_at_fit(n_rows, n_networks, self.numerics.device)
        with without_denormals(), without_vmap_warnings(), explained:
            yield

    def _rows(self, number: int, bootstrap: bool) -> tuple[Rows, Rows | None]:
        """Take the training and validation rows of a network."""
        train, valid = self.train_rows, self.valid_rows
        if self.own_rows is not None:
            train, valid = map(self.own_rows.rows.take, self.own_rows.split(number))
        if bootstrap:
            train = train.take(self._bootstrap_indices(number, len(train)))
        return train, valid

    def _stacked_rows(
        self, numbers: Sequence[int], bootstrap: bool
    ) -> tuple[Rows, Tensor | None, Rows | None, Tensor | None] | None:
        """Return rows and indices for `train_stack`; None if the numbers of own rows differ."""
        train, valid, own = self.train_rows, self.valid_rows, self.own_rows
        indices: Tensor | None = None
        watched: Tensor | None = None
        if own is not None:
            splits = [own.split(k) for k in numbers]
            if len({(len(first), len(second)) for first, second in splits}) > 1:
                return None
            train = valid = own.rows
            indices, watched = (torch.from_numpy(np.stack(part)) for part in zip(*splits))
        if bootstrap:
            n_rows = len(train) if indices is None else indices.shape[1]
            drawn = torch.stack([self._bootstrap_indices(k, n_rows) for k in numbers])
            indices = drawn if indices is None else indices.gather(1, drawn)
        return train, indices, valid, watched

    def _bootstrap_indices(self, network: int, n_rows: int) -> Tensor:
        """Draw indices of rows with replacement."""
        random = np.random.default_rng(derive_seed(self.root, Purpose.BOOTSTRAP, network))
        return torch.from_numpy(random.integers(n_rows, size=n_rows))
