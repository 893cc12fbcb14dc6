"""Train a stack of networks: each has its own shuffling, noise, early stopping and history."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from skuq._data._batches import Rows, SlicedBatches, StackedBatches
from skuq._data._places import row_losses
from skuq._networks._dropout import driven
from skuq._networks._weights import put_weights, weights_of
from skuq._training._checkpoints import checked_type
from skuq._training._divergence import Gradients, check_trained, gradient_norms
from skuq._training._flat import forget_gradients, lay_flat
from skuq._training._history import Record
from skuq._training._hooks import TrainingHook
from skuq._training._member import Member
from skuq._training._net import History, make_optimizer
from skuq._training._repeatable import runs_foreign_code
from skuq._training._saving import LastEpoch, Saving, save_finished
from skuq._training._settings import Interrupted, Settings, Trained, network_state
from skuq._training._stack import Stack, StackedSampler
from skuq._training._stack_hooks import StackHooks
from skuq._training._stored import (
    load_generators,
    module_state,
    put_into,
    stored_generators,
)
from skuq._utils._progress import Task
from skuq.likelihoods import Likelihood

__all__ = ["train_stack"]


def train_stack(
    networks: Sequence[nn.Module],
    stack: Stack,
    train: Rows,
    indices: Tensor | None,
    valid: Rows | None,
    valid_indices: Tensor | None,
    likelihood: Likelihood,
    settings: Settings,
    tasks: Sequence[Task],
    snapshot: Callable[..., Any],
    *,
    root: int,
    first: int,
    hooks: Sequence[TrainingHook],
) -> list[Trained]:
    """Train `networks` in place in one stack, with the results of `train_network` up to rounding.

    Parameters
    ----------
    networks : sequence of nn.Module
        The untrained networks.
    stack : Stack
        The stack of these networks.
    train, valid : Rows
        Training and validation rows.
    indices : Tensor of shape (n_networks, n_rows), or None
        The training rows of each network; None means all rows.
    valid_indices : Tensor of shape (n_networks, n_valid_rows), or None
        The validation rows of each network; None means all of `valid`, without copies.
        likelihood : Likelihood
            The fitted likelihood.
        settings : Settings
            How to train.
        tasks : sequence of Task
            The trainings of the networks, which begin here.
        snapshot : callable
            See `train_network`.
    root, first : int
        The seed of the fit and the number of the first network.
    hooks : sequence of TrainingHook
        One for each network, or none.

    Raises
    ------
    DivergedError
        If a loss or a weight becomes NaN or infinite; `network` is its number.
    Interrupted
        After Ctrl-C, if the settings keep finished epochs and there is at least one.
    """
    private = bool(tasks[0].watchers or hooks)
    private = private or runs_foreign_code(networks[0], train, likelihood, settings)
    states = [  # the global generators are the same for all
        network_state(root, first + k, settings, private and k == 0) for k in range(len(networks))
    ]
    dropout = [state["dropout"] for state in states]
    batches = _batches(train, indices, settings, states)
    watched = _watched(valid, valid_indices, settings, states)
    gradients = Gradients()
    records = [
        Record(History(), settings, task, snapshot, gradients, k) for k, task in enumerate(tasks)
    ]
    for task in tasks:
        task.begin(settings.max_epochs, of="epoch")
    members = [Member(first + k, k, stack, record) for k, record in enumerate(records)]
    seen = StackHooks(hooks, networks, stack, dropout)
    optimizer = make_optimizer(stack.module, likelihood, settings)
    loop = _StackLoop(
        stack, members, states, likelihood, optimizer, gradients, seen, settings.likelihood_is_loss
    )
    saving = Saving(f"networks-{first}", loop, settings, hooks)

    def trained() -> list[Trained]:
        norms = gradient_norms(stack.module, len(members))
        for member, network, norm in zip(members, networks, norms):
            put_weights(network, member.weights())
            with member.named_in_errors():
                check_trained(network, train, settings, member.history, float(norm))
        return [Trained(network, list(m.history)) for network, m in zip(networks, members)]

    with (
        states[0]["other"] or nullcontext(),
        driven(stack.module, StackedSampler(dropout)),
        settings.numerics.without_autocast(),
    ):
        try:
            for epoch in range(saving.begin() + 1, settings.max_epochs + 1):
                if all(member.stopped for member in members):
                    break
                loop.epoch(epoch, batches, watched)
                saving.epoch_is_over()
        except KeyboardInterrupt:
            if not saving.put_back():
                raise
            raise Interrupted(trained(), [member.stopped for member in members]) from None
    done = trained()
    save_finished(f"networks-{first}", done, settings, hooks)
    for task, one in zip(tasks, done):
        task.end(snapshot(partial(weights_of, one.module), one.history))
    return done


def _batches(
    train: Rows,
    indices: Tensor | None,
    settings: Settings,
    states: Sequence[dict[str, Any]],
) -> StackedBatches:
    """Make the batches of training."""
    device, generators = settings.numerics.device, [state["shuffling"] for state in states]
    options = {"batch_size": settings.batch_size, "shuffle": True, **settings.train_options}
    change = settings.change
    return StackedBatches(
        train, indices, **options, device=device, generators=generators, change=change
    )


def _watched(
    valid: Rows | None,
    indices: Tensor | None,
    settings: Settings,
    states: Sequence[dict[str, Any]],
) -> SlicedBatches | None:
    """Make the batches that early stopping watches: stacked if each network has its own."""
    if valid is None:
        return None
    device, generators = settings.numerics.device, [state["shuffling"] for state in states]
    options = {"batch_size": settings.batch_size, "shuffle": False, **settings.valid_options}
    if indices is None:
        return SlicedBatches(valid, **options, device=device, generator=generators[0])
    return StackedBatches(valid, indices, **options, device=device, generators=generators)


class _StackLoop:
    """The epochs of a stack."""

    def __init__(
        self,
        stack: Stack,
        members: list[Member],
        states: Sequence[dict[str, Any]],
        likelihood: Likelihood,
        optimizer: Any,
        gradients: Gradients,
        hooks: StackHooks,
        by_likelihood: bool,
    ) -> None:
        self._stack = stack
        self._members = members
        self._generators = states
        self._private = states[0]["other"]
        self._likelihood = likelihood
        self._rule = likelihood.negative_log_likelihood if by_likelihood else likelihood.loss
        self._optimizer = optimizer
        self._gradients = gradients
        self._hooks = hooks
        self._is_flat = False
        self._n_epochs = 0

    def epoch(self, epoch: int, batches: StackedBatches, watched: SlicedBatches | None) -> None:
        training = [member for member in self._members if not member.stopped]
        for member in training:
            member.record.begin_epoch()
        start = time.perf_counter()
        losses = {"train": self._train(batches, epoch)}
        if watched is not None:
            losses["valid"] = self._validate(watched)
        duration = (time.perf_counter() - start) / len(self._members)
        self._hooks.after_epoch([member.index for member in training], epoch)
        for member in training:
            row: dict[str, Any] = {"batches": [{}], "epoch": epoch}
            member.history.append(row)
            with member.named_in_errors():
                for kind, (means, each) in losses.items():
                    member.record.add(kind, means[member.index], each[:, member.index])
            row["dur"] = duration
            member.stop_early()
            with nullcontext() if self._private is None else self._private.lent():
                own = partial(self._stack.weights, member.index)
                member.stopped |= member.record.end_epoch(own)
        self._n_epochs = epoch

    def _train(self, batches: StackedBatches, epoch: int) -> tuple[list[float], Tensor]:
        self._stack.train(True)
        losses: list[Tensor] = []
        sizes = []
        for batch in batches:
            if self._private is not None:
                self._private.give_way(may_leave=epoch > 1)
            x, target = batch
            forget_gradients(self._optimizer)
            loss = self._losses(self._rule, x, target, batch.weight)
            loss = self._hooks.penalised(loss, batch)
            loss.sum().backward()
            if not self._is_flat:
                lay_flat(self._optimizer)
                self._is_flat = True
            self._optimizer.step()
            self._hooks.after_step()
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
            (x, target), weight = batch, batch.weight
            if not isinstance(batches, StackedBatches):  # the same rows for all networks
                x, target = (t.expand(n, *t.shape) for t in batch)
                weight = None if weight is None else weight.expand(n, *weight.shape)
            losses.append(self._losses(rule, x, target, weight))
            sizes.append(x.shape[1])
        return _means(losses, sizes)

    def _losses(self, rule: Any, x: Any, target: Any, weight: Tensor | None) -> Tensor:
        """Compute the mean loss of each network, of shape (n_networks,)."""
        output, flat = (
            self._stack(x).flatten(0, 1),
            None if weight is None else weight.flatten(0, 1),
        )
        each = row_losses(rule, output, target.flatten(0, 1), flat)
        losses: Tensor = each.unflatten(0, x.shape[:2]).mean(1)
        return losses

    def checkpoint(self) -> dict[str, Any]:
        named = self._stack.module.named_parameters()
        used = [name for name, parameter in named if parameter.grad is not None]
        return {
            "epoch": self._n_epochs,
            "module": module_state(self._stack.module),
            "run": {"optimizer": self._optimizer.state_dict(), "used": used},
            "generators": [stored_generators(state) for state in self._generators],
            "members": [member.checkpoint() for member in self._members],
        }

    def load_checkpoint(self, saved: dict[str, Any]) -> int:
        put_into(self._stack.module, saved["module"])
        for name in saved["run"]["used"]:
            parameter = self._stack.module.get_parameter(name)
            parameter.grad = torch.zeros_like(parameter)
        lay_flat(self._optimizer)
        self._is_flat = True
        self._optimizer.load_state_dict(saved["run"]["optimizer"])
        for own, generators in zip(self._generators, saved["generators"], strict=True):
            load_generators(own, generators)
        for member, state in zip(self._members, saved["members"], strict=True):
            member.load_checkpoint(state)
        self._n_epochs = checked_type(saved["epoch"], int)
        return self._n_epochs

    def last_epoch(self) -> list[LastEpoch]:
        return [LastEpoch(m.weights(), len(m.history), m.stopped) for m in self._members]

    def put_back(self, networks: list[LastEpoch]) -> None:
        for member, last in zip(self._members, networks, strict=True):
            member.put_back(last)


def _means(losses: list[Tensor], sizes: list[int]) -> tuple[list[float], Tensor]:
    """Compute the mean loss of each network; also return all losses, (n_batches, n_networks)."""
    shares = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
    each = torch.stack(losses).cpu().double()
    return (shares @ each).tolist(), each
