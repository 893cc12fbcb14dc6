"""What a posterior is given: a way to train networks, the data, the likelihood and a seed."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from joblib import delayed
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from skuq._data._batches import Rows
from skuq._networks._module import (
    Numerics,
    Report,
    build,
    call,
    copied,
    inspect_network,
    own_copy,
    with_best_layout,
)
from skuq._networks._precision import moved, not_finite
from skuq._networks._refusals import check_trainable
from skuq._training._one import train_network
from skuq._training._resuming import load_finished
from skuq._training._settings import Interrupted, Settings, Trained
from skuq._training._several import train_stack
from skuq._training._stack import AT_ONCE, Stack, may_stack
from skuq._utils._devices import current, on_each
from skuq._utils._memory import explained_at_fit
from skuq._utils._progress import Task, everywhere, parallel
from skuq._utils._random import PrivateGlobals, Purpose, derive_seed
from skuq.exceptions import DivergedError
from skuq.likelihoods import Likelihood

__all__ = ["Problem"]


@dataclass
class Problem:
    """A supervised problem, as a posterior sees it.

    Attributes
    ----------
    likelihood : Likelihood
        Fitted to the targets.
    numerics : Numerics
        Device and precision.
    sample : Tensor of shape (3, ...)
        Three rows of X on the device.
    report : Report
        What the module is called, its dropout layers, its other randomness.
    task : Task
        The task of fitting, which begins with the training of the networks.
    alone : callable
        Maps a trained network to the attributes of an estimator that has it alone.
    """

    factory: Callable[..., nn.Module]
    module_parameters: dict[str, Any]
    likelihood: Likelihood
    train_rows: Rows
    valid_rows: Rows | None
    settings: Settings
    task: Task
    alone: Callable[[Trained], dict[str, Any]]
    root: int  # the seed of the fit
    resume: list[Trained] = field(default_factory=list)  # networks to go on with
    keeps_optimizers: bool = False  # for partial_fit to go on with

    def __post_init__(self) -> None:
        self.trained: list[Trained] = []
        self.interrupted = False  # whether Ctrl-C left fewer or less trained networks than asked
        self.sample: Tensor = self.train_rows.first(3).to(self.numerics.device)
        self._first = self._build(0)
        self.report: Report = inspect_network(
            self._first, self.sample, self.likelihood, self.numerics
        )
        if self.settings.max_epochs:
            step = partial(call, numerics=self.numerics)
            check_trainable(copied(self._first), self.sample, self.settings.optimizer, step)
        numerics = with_best_layout(self.numerics, self._first, self.sample)
        self.settings = replace(self.settings, numerics=numerics)

    def __getstate__(self) -> dict[str, Any]:
        """For another process, where nobody watches."""
        return {**self.__dict__, "alone": None}

    @property
    def numerics(self) -> Numerics:
        return self.settings.numerics

    def seed(self, purpose: Purpose, network: int = 0) -> int:
        """An independent seed for each purpose and network."""
        return derive_seed(self.root, purpose, network)

    def train(
        self, n_networks: int = 1, *, bootstrap: bool = False, n_jobs: int | None = None
    ) -> list[nn.Module]:
        """Train networks that differ in initial weights, shuffling and dropout noise.

        Parameters
        ----------
        n_networks : int, default=1
        bootstrap : bool, default=False
            Whether each is trained on rows drawn with replacement.
        n_jobs : int, default=None
            As joblib tasks, with one torch thread each; None: in this process.

        Returns
        -------
        list of nn.Module, in eval mode, on the device
        """
        self.task.begin(n_networks, of="network")
        self.trained = []
        try:
            self._train_all(n_networks, bootstrap, n_jobs)
        except KeyboardInterrupt as error:
            if not self.settings.keeps_interrupted:
                raise
            self._keep_finished(error, n_networks)
        return [trained.module for trained in self.trained]

    def _train_all(self, n_networks: int, bootstrap: bool, n_jobs: int | None) -> None:
        if self.settings.max_epochs == 0:
            self.trained = [self._arrived(self._as_built(k)) for k in range(n_networks)]
        elif n_jobs is None and len(self.settings.devices) > 1:
            self._train_on_devices(n_networks, bootstrap)
        elif n_jobs is None:
            n_groups = -(-n_networks // AT_ONCE)
            for group in np.array_split(np.arange(n_networks), n_groups):
                self._train_group(group.tolist(), bootstrap)
        else:
            with _one_torch_thread():
                shared = everywhere(self)
                jobs = (delayed(_train_job)(shared, k, bootstrap) for k in range(n_networks))
                one_by_one = bool(self.task.watchers) or self.settings.keeps_interrupted
                for trained in parallel(n_jobs, jobs, one_by_one):
                    self.trained.append(self._arrived(trained))

    def _as_built(self, network: int) -> Trained:
        """A network that was trained elsewhere."""
        module = self._first_or_new(network).eval()
        name = not_finite(module)
        if name is not None:
            raise ValueError(
                f"'{name}' of {self.report.name} holds NaN or infinity; with max_epochs=0 the "
                "module must have been trained elsewhere"
            )
        return Trained(module, [])

    def _train_on_devices(self, n_networks: int, bootstrap: bool) -> None:
        """Network i on device i modulo their number, one after another on each of them."""
        devices, lock = self.settings.devices[:n_networks], threading.Lock()
        done: dict[int, Trained] = {}

        def work(index: int, task: Task) -> Iterator[tuple[int, Trained]]:
            there = self._on(devices[index], lock)
            for k in range(index, n_networks, len(devices)):
                yield k, there._train_one(k, bootstrap, task.subtask("network"))

        def arrived(numbered: tuple[int, Trained]) -> None:
            k, trained = numbered
            done[k] = self._arrived(trained)

        interrupted = on_each(devices, work, arrived)
        self.trained = [done[k] for k in sorted(done)]
        if interrupted:
            known = [error for error in interrupted if isinstance(error, Interrupted)]
            trained = [self._home(one) for error in known for one in error.trained]
            finished = [is_it for error in known for is_it in error.finished]
            raise Interrupted(trained, finished) if known else interrupted[0]

    def _on(self, device: torch.device, lock: Any = None) -> Problem:
        """The same problem on another device; with a lock, one of several that share its rows."""
        there = copy.copy(self)
        there.settings = replace(self.settings, numerics=replace(self.numerics, device=device))
        there.train_rows = self.train_rows.on(device, lock)
        if self.valid_rows is not None:
            there.valid_rows = self.valid_rows.on(device, lock)
        return there

    def _home(self, trained: Trained) -> Trained:
        """A network that was trained elsewhere, on the device where predictions are evaluated."""
        moved(trained.module, self.numerics.device)
        return trained

    def _arrived(self, trained: Trained) -> Trained:
        """A network that was trained elsewhere, where nobody watched."""
        trained = self._home(trained)
        done = self.task.subtask("network").begin()
        done.end(self._state(trained.module.state_dict, trained.history))
        return trained

    def _keep_finished(self, error: KeyboardInterrupt, n_networks: int) -> None:
        """After Ctrl-C: networks whose training is finished; if none is, those that have begun."""
        if isinstance(error, Interrupted):
            finished = [one for one, is_it in zip(error.trained, error.finished) if is_it]
            self.trained += finished or ([] if self.trained else error.trained)
        if not self.trained:
            raise error
        self.interrupted = True
        epochs = sorted({len(trained.history) for trained in self.trained})
        warnings.warn(
            f"fit was interrupted: the estimator keeps {len(self.trained)} of {n_networks} "
            f"network(s), trained for {' to '.join(map(str, epochs[:1] + epochs[1:][-1:]))} of "
            f"{self.settings.max_epochs} epochs; its interrupted_ is True",
            ConvergenceWarning,
            stacklevel=2,
        )

    def _state(
        self, weights: Callable[[], dict[str, Tensor]], history: list[dict]
    ) -> Callable[[], dict[str, Any]]:
        """What `alone` says of a copy of a network, which may be in training."""

        def state() -> dict[str, Any]:
            network = copied(self._first)
            network.load_state_dict(weights())
            return self.alone(Trained(network.eval(), list(history)))

        return state

    def _build(self, network: int) -> nn.Module:
        """An untrained network, or the one that training goes on from."""
        if network < len(self.resume):
            module = copied(self.resume[network].module)
        else:
            n_features = self.train_rows.row_shape.numel()
            with PrivateGlobals(self.seed(Purpose.INITIALISATION, network)), torch.no_grad():
                built = build(
                    self.factory, self.module_parameters, n_features, self.likelihood.n_outputs_
                )
                numerics, like_others = self.numerics, network > 0
                return own_copy(built, self.sample, numerics, like_others=like_others)
        return moved(module, self.numerics.device, self.numerics.dtype)

    def _train_group(self, group: list[int], bootstrap: bool) -> None:
        """Networks trained at once where they can be stacked, else one after another."""
        tasks = [self.task.subtask("network") for _ in group]
        stack = None
        if len(group) > 1 and self._may_stack():
            networks = [self._first_or_new(k) for k in group]
            stack = Stack.of(networks, self.train_rows, self.numerics)
        if stack is None:
            for k, task in zip(group, tasks):
                self.trained.append(self._train_one(k, bootstrap, task))
            return
        indices = None
        if bootstrap:
            indices = torch.stack([self._bootstrapped(k) for k in group])
        with ExitStack() as closing:
            for task in tasks:
                closing.enter_context(task)
            done = self._finished(f"networks-{group[0]}", networks, tasks)
            if done is not None:
                self.trained += done
                return
            closing.enter_context(self._memory(len(group)))
            self.trained += train_stack(
                networks,
                stack,
                self.train_rows,
                indices,
                self.valid_rows,
                self.likelihood,
                self.settings,
                tasks,
                self._state,
                root=self.root,
                first=group[0],
            )

    def _may_stack(self) -> bool:
        goes_on = any(trained.state for trained in self.resume)
        return (
            not goes_on
            and not self.keeps_optimizers
            and not self.report.other_noise
            and may_stack(self._first, self.settings)
        )

    def _finished(
        self, name: str, networks: list[nn.Module], tasks: list[Task]
    ) -> list[Trained] | None:
        """Networks whose training a checkpoint holds, if there is one."""
        done = load_finished(name, networks, self.train_rows, self.settings)
        for task, trained in zip(tasks, done or []):
            task.begin().end(self._state(trained.module.state_dict, trained.history))
        return done

    def _memory(self, n_networks: int = 1) -> AbstractContextManager:
        """An error that helps, where the device has no memory for a step."""
        n_rows = self.settings.train_options.get("batch_size", self.settings.batch_size)
        n_rows = min(n_rows, len(self.train_rows))
        return explained_at_fit(n_rows, n_networks, self.numerics.device)

    def _first_or_new(self, network: int) -> nn.Module:
        return copied(self._first) if network == 0 else self._build(network)

    def _bootstrapped(self, network: int) -> Tensor:
        """Indices of rows drawn with replacement."""
        random = np.random.default_rng(self.seed(Purpose.BOOTSTRAP, network))
        n_rows = len(self.train_rows)
        return torch.from_numpy(random.integers(n_rows, size=n_rows))

    def _train_one(self, network: int, bootstrap: bool, task: Task) -> Trained:
        module, rows = self._first_or_new(network), self.train_rows
        if bootstrap:
            rows = rows.take(self._bootstrapped(network))
        done = self._finished(f"network-{network}", [module], [task])
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
                    self._state,
                    root=self.root,
                    network=network,
                    other_noise=bool(self.report.other_noise),
                    resume=self.resume[network] if network < len(self.resume) else None,
                )
                task.end(self._state(trained.module.state_dict, trained.history))
                return trained
        except DivergedError as error:
            error.network = network
            raise


def _train_job(problem: Problem, network: int, bootstrap: bool) -> Trained:
    """A joblib task, which may run in another process."""
    devices = problem.settings.devices
    device = devices[network % len(devices)]
    there = problem._on(device) if len(devices) > 1 else problem
    with _one_torch_thread(), current(device):
        return there._train_one(network, bootstrap, Task("network"))


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
