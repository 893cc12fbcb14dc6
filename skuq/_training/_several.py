"""Training a stack of networks: each with its own shuffling, noise, early stopping and history."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from skuq._data._batches import Rows, SlicedBatches, StackedBatches
from skuq._networks._dropout import apply_mask, driven, mask_shape
from skuq._networks._weights import put_weights, weights_of
from skuq._training._checkpoints import of_type
from skuq._training._flat import forget_gradients, lay_flat
from skuq._training._hooks import TrainingHook
from skuq._training._listening import Listening
from skuq._training._net import make_optimizer
from skuq._training._repeatable import runs_foreign_code
from skuq._training._resuming import (
    hook_states,
    load_generators,
    module_state,
    put_into,
    put_into_hooks,
    rows_of,
    save_finished,
    stored_generators,
)
from skuq._training._settings import (
    Gradients,
    Interrupted,
    Settings,
    Trained,
    check_losses,
    check_trained,
    gradient_norms,
    network_state,
)
from skuq._training._stack import Stack
from skuq._utils._progress import Task
from skuq._utils._random import PrivateGlobals
from skuq.exceptions import DivergedError
from skuq.likelihoods import Likelihood

__all__ = ["train_stack"]


class _StackedSampler:
    """Dropout masks of each network from its own generator, the same as if it trained alone."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self._generators = generators

    def __call__(self, layer: Any, x: Tensor) -> Tensor:
        if not layer.training or layer.p == 0:
            return x
        shape = mask_shape(layer, x.shape[1:])
        keep = torch.empty((len(x), *shape), dtype=x.dtype, device=x.device)
        for mask, generator in zip(keep, self._generators):
            mask.bernoulli_(1 - layer.p, generator=generator)
        return apply_mask(layer, x, keep)


@dataclass
class _Member:
    """How far one network of a stack is."""

    index: int
    task: Task
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, float] = field(default_factory=dict)
    best_state: dict[str, Tensor] | None = None
    misses: int = 0
    stopped: bool = False

    def stored(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {k: v for k, v in vars(self).items() if k not in ("index", "task")}

    def record(self, epoch: int, losses: dict[str, float], batches: dict[str, int]) -> None:
        """An epoch, as skorch's history has it."""
        row: dict[str, Any] = {"batches": [{}], "epoch": epoch}
        for name, loss in losses.items():
            before = self.best.get(name, float("inf"))
            self.best[name] = min(loss, before)
            row |= {f"{name}_loss": loss, f"{name}_loss_best": loss < before}
            row[f"{name}_batch_count"] = batches[name]
        self.history.append(row)


def train_stack(
    networks: Sequence[nn.Module],
    stack: Stack,
    train: Rows,
    indices: Tensor | None,
    valid: Rows | None,
    likelihood: Likelihood,
    settings: Settings,
    tasks: Sequence[Task],
    snapshot: Callable[..., Any],
    *,
    root: int,
    first: int,
    hooks: Sequence[TrainingHook],
) -> list[Trained]:
    """Train `networks` in place, as `train_network` would, in one stack.

    Parameters
    ----------
    networks : sequence of nn.Module
    stack : Stack, of them
    train, valid : Rows
    indices : Tensor of shape (n_networks, n_rows), or None
        The rows that each is trained on; None: all.
    likelihood : Likelihood, fitted
    settings : Settings
    tasks : sequence of Task, begun here
    snapshot : callable
        As in `train_network`, of a function that gives weights, and a history.
    root, first : int
        The seed of the fit and the number of the first network.
    hooks : sequence of TrainingHook
        One for each network, or none.

    Raises
    ------
    DivergedError
        If a loss or a weight becomes NaN or infinite; `network` is its number.
    Interrupted
        After Ctrl-C, if the settings want to keep what is finished, and an epoch is.
    """
    private = bool(tasks[0].watchers or hooks)
    private = private or runs_foreign_code(networks[0], train, likelihood, settings)
    states = [  # the global generators are the same for all
        network_state(root, first + k, settings, private and k == 0) for k in range(len(networks))
    ]
    batches, watched = _batches(train, indices, valid, settings, states)
    optimizer = make_optimizer(stack.module, likelihood, settings)
    listening = Listening(hooks, networks, stack, [state["dropout"] for state in states])
    run = _Run(stack, likelihood, settings, optimizer, listening, states[0]["other"])
    members = [_Member(k, task) for k, task in enumerate(tasks)]
    for member in members:
        member.task.begin(settings.max_epochs, of="epoch")
    noise = _StackedSampler([state["dropout"] for state in states])
    saved = _Saved(f"networks-{first}", stack, run, members, states, settings, hooks)

    def trained(weights: Sequence[dict[str, Tensor]]) -> list[Trained]:
        norms = gradient_norms(stack.module, len(members))
        for member, network, own in zip(members, networks, weights):
            put_weights(network, own)
            with _numbered(first + member.index):
                norm = float(norms[member.index])
                check_trained(network, train, settings, member.history, norm)
        return [Trained(network, m.history) for network, m in zip(networks, members)]

    with (
        states[0]["other"] or nullcontext(),
        driven(stack.module, noise),
        settings.numerics.without_autocast(),
    ):
        try:
            for epoch in range(saved.begin() + 1, settings.max_epochs + 1):
                if all(member.stopped for member in members):
                    break
                run.epoch(epoch, first, members, batches, watched, snapshot)
                saved.epoch_is_over(epoch)
        except KeyboardInterrupt:
            if not saved.kept:
                raise
            saved.put_back()
            kept_networks = trained([kept.weights for kept in saved.kept])
            raise Interrupted(kept_networks, [kept.stopped for kept in saved.kept]) from None
    done = trained([run.weights(member) for member in members])
    save_finished(f"networks-{first}", done, settings, hooks)
    for member, network in zip(members, networks):
        member.task.end(snapshot(partial(weights_of, network), member.history))
    return done


def _batches(
    train: Rows,
    indices: Tensor | None,
    valid: Rows | None,
    settings: Settings,
    states: Sequence[dict[str, Any]],
) -> tuple[StackedBatches, SlicedBatches | None]:
    """The batches of training, and those that early stopping watches."""
    device, generators = settings.numerics.device, [state["shuffling"] for state in states]
    options = {"batch_size": settings.batch_size, "shuffle": True, **settings.train_options}
    batches = StackedBatches(train, **options, device=device, generators=generators)
    batches.indices = indices
    if valid is None:
        return batches, None
    options = {"batch_size": settings.batch_size, "shuffle": False, **settings.valid_options}
    return batches, SlicedBatches(valid, **options, device=device, generator=generators[0])


@contextmanager
def _numbered(network: int) -> Iterator[None]:
    """Says in a `DivergedError` which network it is about."""
    try:
        yield
    except DivergedError as error:
        error.network = network
        raise


class _Run:
    """The epochs of a stack."""

    def __init__(
        self,
        stack: Stack,
        likelihood: Likelihood,
        settings: Settings,
        optimizer: Any,
        listening: Listening,
        private: PrivateGlobals | None,
    ) -> None:
        self._stack = stack
        self._listening = listening
        self._likelihood = likelihood
        self._settings = settings
        self._optimizer = optimizer
        self._private = private
        self._is_flat = False
        self._gradients = Gradients()

    def epoch(
        self,
        epoch: int,
        first: int,
        members: list[_Member],
        batches: StackedBatches,
        watched: SlicedBatches | None,
        snapshot: Callable[..., Any],
    ) -> None:
        going = [member for member in members if not member.stopped]
        told = [(member, member.task.subtask("epoch").begin()) for member in going]
        start = time.perf_counter()
        losses = {"train": self._train(batches, epoch)}
        counts = {"train": len(batches)}
        if watched is not None:
            losses["valid"], counts["valid"] = self._validate(watched), len(watched)
        duration = time.perf_counter() - start
        self._listening.after_epoch([member.index for member in going], epoch)
        for member, task in told:
            k = member.index
            own = {name: means[k] for name, (means, _) in losses.items()}
            for name, (means, each) in losses.items():
                with _numbered(first + k):
                    check_losses(
                        name, means[k], each[:, k], epoch, self._settings, self._gradients, k
                    )
            member.record(epoch, own, counts)
            member.history[-1]["dur"] = duration / len(members)
            self._watch(member)
            state = snapshot(lambda k=k: self._stack.state(k), member.history)
            shown = {f"{name}_loss": loss for name, loss in own.items()}
            with nullcontext() if self._private is None else self._private.lent():
                member.stopped |= task.end(state, **shown)

    def weights(self, member: _Member) -> dict[str, Tensor]:
        """The weights of a network: the best ones that early stopping has seen, or as it is."""
        return member.best_state or self._stack.state(member.index)

    def state(self) -> dict[str, Any]:
        """Of the optimizer, and which parameters it steps."""
        named = self._stack.module.named_parameters()
        used = [name for name, parameter in named if parameter.grad is not None]
        return {"optimizer": self._optimizer.state_dict(), "used": used}

    def load_state(self, state: dict[str, Any]) -> None:
        for name in state["used"]:
            parameter = self._stack.module.get_parameter(name)
            parameter.grad = torch.zeros_like(parameter)
        lay_flat(self._optimizer)
        self._is_flat = True
        self._optimizer.load_state_dict(state["optimizer"])

    def _watch(self, member: _Member) -> None:
        """Early stopping: a network that stops goes on stepping, but its best is kept."""
        last = member.history[-1]
        if self._settings.patience is None:
            return
        if last["valid_loss_best"]:
            member.misses, member.best_state = 0, self._stack.state(member.index)
        else:
            member.misses += 1
        member.stopped = member.misses == self._settings.patience

    def _train(self, batches: StackedBatches, epoch: int) -> tuple[list[float], Tensor]:
        self._stack.train(True)
        losses: list[Tensor] = []
        sizes = []
        for batch in batches:
            if self._private is not None:
                self._private.give_way(may_leave=epoch > 1)
            x, target = batch
            forget_gradients(self._optimizer)
            loss = self._losses(self._likelihood.loss, x, target, batch.weight)
            loss = self._listening.penalised(loss, batch)
            loss.sum().backward()
            if not self._is_flat:
                lay_flat(self._optimizer)
                self._is_flat = True
            self._optimizer.step()
            self._listening.after_step()
            if not losses:
                norms = gradient_norms(self._stack.module, self._stack.n_networks)
                self._gradients.add(epoch, norms)
            losses.append(loss.detach())
            sizes.append(x.shape[1])
        return _means(losses, sizes)

    @torch.no_grad()
    def _validate(self, batches: SlicedBatches) -> tuple[list[float], Tensor]:
        self._stack.train(False)
        losses, sizes = [], []
        n, rule = self._stack.n_networks, self._likelihood.negative_log_likelihood
        for batch in batches:
            x, target = (t.expand(n, *t.shape) for t in batch)
            weight = None if batch.weight is None else batch.weight.expand(n, len(x[0]))
            losses.append(self._losses(rule, x.clone(), target, weight))
            sizes.append(len(batch[0]))
        return _means(losses, sizes)

    def _losses(self, rule: Any, x: Any, target: Any, weight: Tensor | None) -> Tensor:
        """The mean loss of each network, of shape (n_networks,)."""
        each = rule(self._stack(x).flatten(0, 1), target.flatten(0, 1)).unflatten(0, x.shape[:2])
        losses: Tensor = (each if weight is None else weight * each).mean(1)
        return losses


@dataclass
class _Kept:
    """A network after its last whole epoch."""

    weights: dict[str, Tensor]
    n_epochs: int
    stopped: bool


class _Saved:
    """What the training of a stack goes on from, on the disk and, for Ctrl-C, in memory."""

    def __init__(
        self,
        name: str,
        stack: Stack,
        run: _Run,
        members: list[_Member],
        states: list[dict[str, Any]],
        settings: Settings,
        hooks: Sequence[TrainingHook],
    ) -> None:
        self._name = name
        self._hooks = hooks
        self._stack = stack
        self._run = run
        self._members = members
        self._generators = states
        self._settings = settings
        self.kept: list[_Kept] = []

    def begin(self) -> int:
        """Put the last checkpoint back; the epochs that it has."""
        checkpoints = self._settings.checkpoints
        if checkpoints is None:
            return 0
        with checkpoints.restored(self._name) as saved:
            if saved is None:
                return 0
            put_into(self._stack.module, saved["module"])
            self._run.load_state(saved["run"])
            for own, generators in zip(self._generators, saved["generators"], strict=True):
                load_generators(own, generators)
            for member, state in zip(self._members, saved["members"], strict=True):
                rows_of(state["history"])
                vars(member).update({name: state[name] for name in member.stored()})
            put_into_hooks(self._hooks, saved["hooks"])
            epoch = of_type(saved["epoch"], int)
        self._keep()
        return epoch

    def epoch_is_over(self, epoch: int) -> None:
        self._keep()
        checkpoints = self._settings.checkpoints
        if checkpoints is not None and checkpoints.due(self._name):
            checkpoints.save(self._name, self._state(epoch))

    def _keep(self) -> None:
        if self._settings.keeps_interrupted:
            self.kept = [
                _Kept(self._run.weights(m), len(m.history), m.stopped) for m in self._members
            ]
            self._kept_hooks = copy.deepcopy(hook_states(self._hooks))

    def put_back(self) -> None:
        """Histories and hooks as they were after the last whole epoch."""
        for member, kept in zip(self._members, self.kept):
            del member.history[kept.n_epochs :]
        put_into_hooks(self._hooks, self._kept_hooks)

    def _state(self, epoch: int) -> dict[str, Any]:
        return {
            "finished": False,
            "epoch": epoch,
            "module": module_state(self._stack.module),
            "run": self._run.state(),
            "generators": [stored_generators(state) for state in self._generators],
            "members": [member.stored() for member in self._members],
            "hooks": hook_states(self._hooks),
        }


def _means(losses: list[Tensor], sizes: list[int]) -> tuple[list[float], Tensor]:
    """The mean loss of each network, and its losses of shape (n_batches, n_networks)."""
    shares = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
    each = torch.stack(losses).cpu().double()
    return (shares @ each).tolist(), each
