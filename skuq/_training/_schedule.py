"""Decide how the networks of a fit train: in stacks, one by one, by device, or by joblib."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from joblib import delayed
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from skuq._networks._module import copied
from skuq._networks._precision import moved
from skuq._networks._weights import weights_of
from skuq._training._hooks import TrainingHook
from skuq._training._settings import Interrupted, Trained
from skuq._training._stack import MAX_NETWORKS
from skuq._training._trainer import Hooks, Trainer
from skuq._utils._devices import current, on_each
from skuq._utils._messages import warn
from skuq._utils._progress import Task, everywhere, parallel

__all__ = ["Schedule"]


class Schedule:
    """Trains the networks of a fit and keeps them.

    Parameters
    ----------
    trainer : Trainer
        Trains each network.
    task : Task
        The task of fitting, whose subtasks are the networks.

    Attributes
    ----------
    trained : list of Trained
        The networks of all calls of `train`, in the order of their numbers.
    watched : callable or None
        Maps the number of a network to the rows that early stopping watched, where the draws are
        the networks; see `Problem.train`.
    interrupted : bool
        Whether Ctrl-C left fewer networks than wanted, or networks with fewer epochs.
    """

    def __init__(self, trainer: Trainer, task: Task) -> None:
        self.trainer = trainer
        self.trained: list[Trained] = []
        self.watched: Callable[[int], np.ndarray] | None = None
        self.draws_are_networks = False
        self.interrupted = False
        self._task = task
        self._n_begun = 0
        self._n_explored = 0

    def train(
        self,
        n_networks: int,
        bootstrap: bool,
        n_jobs: int | None,
        hooks: Sequence[TrainingHook] | None,
        own_rows: bool = False,
        **settings: Any,
    ) -> list[nn.Module]:
        """Train networks, see `Problem.train`."""
        if hooks is not None and len(hooks) != n_networks:
            raise ValueError(f"expected a hook for each of {n_networks} networks, got {len(hooks)}")
        if self._n_begun == 0:
            self._task.begin(n_networks, of="network")
        numbers = range(self._n_begun, self._n_begun + n_networks)
        own = self.trainer.own_rows if own_rows else None
        self.watched = None if own is None else own.watched
        self.draws_are_networks = own_rows
        settings_now = replace(self.trainer.settings, **settings)
        trainer = replace(self.trainer, settings=settings_now, own_rows=own)
        run = _Run(trainer, self._subtask, bootstrap, dict(zip(numbers, hooks or [])))
        self._n_begun += n_networks
        try:
            run.train(numbers, n_jobs)
        except KeyboardInterrupt as error:
            if not self.trainer.settings.keeps_interrupted:
                raise
            self._keep_interrupted(error, run.trained, n_networks)
        self.trained += run.trained
        return [trained.module for trained in run.trained]

    def explore(
        self,
        network: nn.Module,
        n_epochs: int,
        optimizer: Any,
        hook: TrainingHook | None,
        options: dict[str, Any],
        **settings: Any,
    ) -> nn.Module:
        """Train a copy of a trained network further, see `Problem.explore`."""
        self._n_explored += 1
        if self.interrupted:
            return network
        own = self.trainer.settings
        given = {f"optimizer__{name}": value for name, value in options.items()}
        if optimizer is None:
            options_of_user = own.net_options.items()
            given = {**{k: v for k, v in options_of_user if k.startswith("optimizer__")}, **given}
        trainer = self.trainer.exploring(
            self._n_explored,
            optimizer=optimizer or own.optimizer,
            lr=given.pop("optimizer__lr", own.lr),
            max_epochs=n_epochs,
            net_options=given,
            **settings,
        )
        task = self._task.aside("network")
        try:
            return trainer.network(0, False, task, hook, copied(network)).module
        except KeyboardInterrupt as error:
            if not trainer.settings.keeps_interrupted:
                raise
            (so_far,) = error.trained if isinstance(error, Interrupted) else [Trained(network, [])]
            n_done = len(so_far.history)
            self._warn_interrupted(f"{n_done} of {n_epochs} epochs that follow training")
            return so_far.module

    def n_epochs(self, network: nn.Module) -> int:
        """Return the number of epochs that a network of `train` was trained in this fit."""
        return next(len(one.history) for one in self.trained if one.module is network)

    def _subtask(self) -> Task:
        """Make the task of one network; only the first call of `train` announces its number."""
        return (self._task.aside if self.trained else self._task.subtask)("network")

    def _keep_interrupted(
        self, error: KeyboardInterrupt, trained: list[Trained], n_networks: int
    ) -> None:
        """Keep the finished networks after Ctrl-C; if there are none, those that have begun."""
        if isinstance(error, Interrupted):
            finished = [one for one, is_it in zip(error.trained, error.finished) if is_it]
            trained += finished or ([] if trained or self.trained else error.trained)
        if not trained and not self.trained:
            raise error
        epochs = sorted({len(one.history) for one in trained}) or [0]
        self._warn_interrupted(
            f"{len(trained)} of {n_networks} network(s), trained for "
            f"{' to '.join(map(str, epochs[:1] + epochs[1:][-1:]))} of "
            f"{self.trainer.settings.max_epochs} epochs"
        )

    def _warn_interrupted(self, what: str) -> None:
        self.interrupted = True
        warn(
            f"fit was interrupted: the estimator keeps {what}; its interrupted_ is True",
            ConvergenceWarning,
        )


class _Run:
    """One call of `Schedule.train`."""

    def __init__(self, trainer: Trainer, subtask: Any, bootstrap: bool, hooks: Hooks) -> None:
        self.trained: list[Trained] = []
        self._trainer = trainer
        self._subtask = subtask
        self._bootstrap = bootstrap
        self._hooks = hooks

    def train(self, numbers: Sequence[int], n_jobs: int | None) -> None:
        settings = self._trainer.settings
        if settings.max_epochs == 0:
            for number in numbers:
                self.trained.append(
                    self._report_finished(self._trainer.builder.trained_elsewhere(number))
                )
        elif n_jobs is None and len(settings.devices) > 1:
            self._on_devices(numbers)
        elif n_jobs is None:
            for group in np.array_split(np.array(numbers), -(-len(numbers) // MAX_NETWORKS)):
                self._in_this_process(group.tolist())
        else:
            self._by_joblib(numbers, n_jobs)

    def _in_this_process(self, numbers: list[int]) -> None:
        """Train networks in stacks if possible, else one after another."""
        tasks = [self._subtask() for _ in numbers]
        stacked = self._trainer.stack(numbers, self._bootstrap, tasks, self._hooks)
        if stacked is not None:
            self.trained += stacked
            return
        for number, task in zip(numbers, tasks):
            hook = self._hooks.get(number)
            self.trained.append(self._trainer.network(number, self._bootstrap, task, hook))

    def _by_joblib(self, numbers: Sequence[int], n_jobs: int) -> None:
        with _one_torch_thread():
            shared = everywhere(self._trainer)
            jobs = (
                delayed(_train_job)(shared, number, self._bootstrap, self._hooks.get(number))
                for number in numbers
            )
            one_by_one = bool(self._subtask().watchers) or self._trainer.settings.keeps_interrupted
            for number, (trained, gathered) in zip(numbers, parallel(n_jobs, jobs, one_by_one)):
                if gathered is not None:  # a copy, if the job ran in another process
                    vars(self._hooks[number]).update(vars(gathered))
                self.trained.append(self._report_finished(trained))

    def _on_devices(self, numbers: Sequence[int]) -> None:
        """Train network i on device i modulo their number, one after another on each device."""
        devices, lock = self._trainer.settings.devices[: len(numbers)], threading.Lock()
        done: dict[int, Trained] = {}

        def work(index: int, task: Task) -> Iterator[tuple[int, Trained]]:
            there = self._trainer.on(devices[index], lock)
            for k in numbers[index :: len(devices)]:
                own = self._hooks.get(k)
                yield k, there.network(k, self._bootstrap, task.subtask("network"), own)

        def take(numbered: tuple[int, Trained]) -> None:
            k, trained = numbered
            done[k] = self._report_finished(trained)

        interrupted = on_each(devices, work, take)
        self.trained = [done[k] for k in sorted(done)]
        if interrupted:
            known = [error for error in interrupted if isinstance(error, Interrupted)]
            trained = [self._on_main_device(one) for error in known for one in error.trained]
            finished = [is_it for error in known for is_it in error.finished]
            raise Interrupted(trained, finished) if known else interrupted[0]

    def _on_main_device(self, trained: Trained) -> Trained:
        """Move a network from another device to the one that evaluates predictions."""
        moved(trained.module, self._trainer.numerics.device)
        return trained

    def _report_finished(self, trained: Trained) -> Trained:
        """Report a network from another process or device to the callbacks."""
        trained = self._on_main_device(trained)
        done = self._subtask().begin()
        done.end(self._trainer.state(partial(weights_of, trained.module), trained.history))
        return trained


def _train_job(
    trainer: Trainer, number: int, bootstrap: bool, hook: TrainingHook | None
) -> tuple[Trained, TrainingHook | None]:
    """Run a joblib task, perhaps in another process."""
    devices = trainer.settings.devices
    device = devices[number % len(devices)]
    there = trainer.on(device) if len(devices) > 1 else trainer
    with _one_torch_thread(), current(device):
        return there.network(number, bootstrap, Task("network"), hook), hook


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
