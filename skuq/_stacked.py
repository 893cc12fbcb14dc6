"""Training several networks as one: parameters stacked, one forward and one backward for all.

A linear layer of all networks is one batched matrix product. A module that gives the same outputs
with an axis of networks before that of the rows runs so; any other runs under vmap, which finds
the axis by itself; what neither can do, or what is not exact (an optimizer that couples elements,
a user's callback), trains one network after another. Which of these is decided once, by comparing
outputs and gradients on a few rows, never by the clock.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from skuq._batches import Rows, SlicedBatches, StackedBatches
from skuq._dropout import Recorder, apply_mask, drive, driven, dropout_layers, mask_shape
from skuq._flat import forget_gradients, lay_flat
from skuq._layers import STACKED
from skuq._network import Numerics, call, first_rows
from skuq._progress import Task
from skuq._settings import (
    Gradients,
    Settings,
    Trained,
    check_losses,
    check_trained,
    gradient_norms,
    network_state,
)
from skuq._training import make_optimizer
from skuq.exceptions import DivergedError
from skuq.likelihoods import Likelihood

__all__ = ["AT_ONCE", "Stack", "may_stack", "train_stack"]

AT_ONCE = 16  # networks in a stack at most: their activations lie in memory together
_TRIED_ROWS = 8

# Those that treat every element by itself, so that a stack steps as its networks would.
_ELEMENTWISE = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.Adamax,
    torch.optim.ASGD,
    torch.optim.Rprop,
)


def may_stack(module: nn.Module, settings: Settings) -> bool:
    """Whether a stack of such networks may train as they would one by one, and be faster.

    On a CPU convolutions of a stack are slower than one after another.
    """
    on_cpu = settings.numerics.device.type == "cpu"
    convolves = any(isinstance(layer, nn.modules.conv._ConvNd) for layer in module.modules())
    return (
        settings.optimizer in _ELEMENTWISE
        and settings.callbacks is None
        and settings.verbose < 2  # skorch's table is of one network
        and not any(name.startswith("callbacks__") for name in settings.net_options)
        and set(settings.train_options) | set(settings.valid_options) <= SlicedBatches.OPTIONS
        and not settings.compile
        and not (on_cpu and convolves)
    )


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


class Stack:
    """Networks of one kind as one module, whose parameters have the names that theirs have.

    Parameters
    ----------
    networks : sequence of nn.Module
    vectorized : bool
        Whether vmap brings the axis of the networks in, or the layers know it themselves.
    """

    def __init__(self, networks: Sequence[nn.Module], numerics: Numerics, vectorized: bool) -> None:
        self.numerics = numerics
        self.vectorized = vectorized
        self.n_networks = len(networks)
        self.module = _stacked_copy(networks)
        self._one = copy.deepcopy(networks[0])
        if not vectorized:
            for layer in self.module.modules():
                layer.__class__ = STACKED.get(type(layer), type(layer))

    @classmethod
    def of(cls, networks: Sequence[nn.Module], x: Tensor, numerics: Numerics) -> Stack | None:
        """A stack that does what the networks do, found by trying; None if there is none."""
        for vectorized in (False, True):
            if vectorized and any(layer.p > 0 for layer in dropout_layers(networks[0]).values()):
                return None  # vmap knows no masks of our own
            if _agrees(networks[:2], x, numerics, vectorized):
                return cls(networks, numerics, vectorized)
        return None

    def train(self, mode: bool) -> None:
        self.module.train(mode)
        self._one.train(mode)

    def tensors(self) -> dict[str, Tensor]:
        return {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}

    def state(self, index: int) -> dict[str, Tensor]:
        """The state dict of one network, copied."""
        return {name: t[index].clone() for name, t in self.module.state_dict().items()}

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs (n_networks, n_rows, n_outputs) for x of shape (n_networks, n_rows, ...)."""
        if not self.vectorized:
            return call(self.module, x, self.numerics)

        def one(tensors: dict[str, Tensor], rows: Tensor) -> Tensor:
            return call(lambda x: functional_call(self._one, tensors, (x,)), rows, self.numerics)

        return vmap(one, randomness="error")(self.tensors(), x)


def _stacked_copy(networks: Sequence[nn.Module]) -> nn.Module:
    """A copy of the first network that has the tensors of all; what is tied stays tied."""
    memo: dict[int, Any] = {}
    others = [dict(_named_tensors(network)) for network in networks]
    for name, tensor in _named_tensors(networks[0]):
        stacked = torch.stack([tensors[name].detach() for tensors in others])
        if isinstance(tensor, nn.Parameter):
            stacked = nn.Parameter(stacked, requires_grad=tensor.requires_grad)
        memo[id(tensor)] = stacked
    return copy.deepcopy(networks[0], memo)


def _named_tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


def _agrees(networks: Sequence[nn.Module], x: Tensor, numerics: Numerics, vectorized: bool) -> bool:
    """Whether a stack has the outputs, gradients and buffers of its networks, in training."""
    rows = first_rows(x, len(networks) * _TRIED_ROWS).to(numerics.device)
    rows = rows.unflatten(0, (len(networks), _TRIED_ROWS))
    alone = [copy.deepcopy(network).train() for network in networks]
    for network in alone:
        drive(network, Recorder())
    expected = torch.stack([call(n, r.clone(), numerics) for n, r in zip(alone, rows)])
    direction = torch.linspace(0.5, 1.5, expected.numel(), device=rows.device).view_as(expected)
    try:
        stack = Stack(networks, numerics, vectorized)
        stack.train(True)
        drive(stack.module, Recorder())
        output = stack(rows.clone())  # a forward may work in place on what it is given
        if output.shape != expected.shape:
            return False
        (output * direction).sum().backward()
    except torch.OutOfMemoryError:
        raise
    except Exception:  # of which type it is says nothing: this way is not open
        return False
    (expected * direction).sum().backward()
    pairs = [(output, expected)]
    tensors, others = stack.tensors(), [dict(_named_tensors(network)) for network in alone]
    for name, tensor in tensors.items():
        same = [own[name] for own in others]
        pairs.append((tensor, torch.stack([t.detach() for t in same])))
        if tensor.grad is not None and all(t.grad is not None for t in same):
            pairs.append((tensor.grad, torch.stack([t.grad for t in same if t.grad is not None])))
        elif tensor.grad is not None or any(t.grad is not None for t in same):
            return False
    return all(_close(a, b, numerics.tolerance) for a, b in pairs)


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    if not b.is_floating_point():
        return torch.equal(a, b)
    limit = tolerance * (1 + float(b.detach().abs().max()))
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=limit, equal_nan=True)


# ---------------------------------------------------------------------------------------------
# Training


@dataclass
class _Member:
    """How far one network of a stack is."""

    index: int
    task: Task
    history: list[dict] = field(default_factory=list)
    best: dict[str, float] = field(default_factory=dict)
    best_state: dict[str, Tensor] | None = None
    misses: int = 0
    stopped: bool = False

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
        As in `train_network`, of a function that gives a state dict, and a history.
    root, first : int
        The seed of the fit and the number of the first network.

    Raises
    ------
    DivergedError
        If a loss or a weight becomes NaN or infinite; `network` is its number.
    """
    states = [network_state(root, first + k, settings) for k in range(len(networks))]
    device = settings.numerics.device
    options = {"batch_size": settings.batch_size, "shuffle": True, **settings.train_options}
    generators = [state["shuffling"] for state in states]
    batches = StackedBatches(train, **options, device=device, generators=generators)
    batches.indices = indices
    watched = None
    if valid is not None:
        options = {"batch_size": settings.batch_size, "shuffle": False, **settings.valid_options}
        watched = SlicedBatches(valid, **options, device=device, generator=generators[0])
    run = _Run(stack, likelihood, settings, make_optimizer(stack.module, likelihood, settings))
    members = [_Member(k, task) for k, task in enumerate(tasks)]
    for member in members:
        member.task.begin(settings.max_epochs, of="epoch")
    noise = _StackedSampler([state["dropout"] for state in states])
    with driven(stack.module, noise), settings.numerics.without_autocast():
        for epoch in range(1, settings.max_epochs + 1):
            run.epoch(epoch, first, members, batches, watched, snapshot)
            if all(member.stopped for member in members):
                break
    trained, norms = [], gradient_norms(stack.module, len(members))
    for member, network in zip(members, networks):
        best, norm = member.best_state, float(norms[member.index])
        network.load_state_dict(stack.state(member.index) if best is None else best)
        with _numbered(first + member.index):
            check_trained(network, train, settings, member.history, norm)
        trained.append(Trained(network, member.history))
        member.task.end(snapshot(network.state_dict, member.history))
    return trained


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
        self, stack: Stack, likelihood: Likelihood, settings: Settings, optimizer: Any
    ) -> None:
        self._stack = stack
        self._likelihood = likelihood
        self._settings = settings
        self._optimizer = optimizer
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
            member.stopped |= task.end(state, **shown)

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
            x, target = batch
            forget_gradients(self._optimizer)
            loss = self._losses(self._likelihood.loss, x, target, batch.weight)
            loss.sum().backward()
            if not self._is_flat:
                lay_flat(self._optimizer)
                self._is_flat = True
            self._optimizer.step()
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
        return (each if weight is None else weight * each).mean(1)


def _means(losses: list[Tensor], sizes: list[int]) -> tuple[list[float], Tensor]:
    """The mean loss of each network, and its losses of shape (n_batches, n_networks)."""
    shares = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
    each = torch.stack(losses).cpu().double()
    return (shares @ each).tolist(), each
