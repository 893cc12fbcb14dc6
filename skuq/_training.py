"""Training one network through skorch. The only file that knows skorch.

Callbacks, schedulers, early stopping, history and the printed table are skorch's own. Ours are:
batches that are slices of tensors which already lie on the device, weighted losses, dropout that
draws from a private generator, a stop when the loss is not finite, and Ctrl-C that reaches the
caller.
"""

from __future__ import annotations

import copy
import dis
import inspect
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from sklearn.base import clone
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, EpochTimer, PrintLog
from skorch.helper import predefined_split
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from skuq._dropout import Sampler, driven
from skuq._network import Numerics, call, first_rows
from skuq._random import PrivateGlobals, Purpose, derive_seed, generator
from skuq.exceptions import DivergedError
from skuq.likelihoods import Likelihood

__all__ = ["Rows", "Settings", "Trained", "train_network"]

_SLICED_OPTIONS = {"batch_size", "shuffle", "drop_last"}
_FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad)
_COPY_BYTES = 512 * 2**20  # a shuffled copy of the data up to this size is made in each epoch


@dataclass(frozen=True)
class Settings:
    """How a network is trained: the estimator's parameters, with nothing left to decide."""

    optimizer: type[torch.optim.Optimizer]
    lr: float
    max_epochs: int
    batch_size: int
    patience: int | None  # epochs without improvement before early stopping; None: never
    callbacks: Any
    verbose: int
    compile: bool
    numerics: Numerics
    net_options: dict[str, Any]  # optimizer__*, callbacks__*
    train_options: dict[str, Any]  # iterator_train__*, without the prefix
    valid_options: dict[str, Any]


class Batch(tuple):
    """The pair (x, target) that skorch expects, and the weights of its rows."""

    weight: Tensor | None = None

    @classmethod
    def of(cls, x: Tensor, target: Tensor, weight: Tensor | None) -> Batch:
        batch = cls((x, target))
        batch.weight = weight
        return batch


@dataclass
class Rows(Dataset):
    """Rows on the device: inputs, encoded targets and weights (mean 1 over the data set)."""

    X: Tensor
    y: Tensor
    weight: Tensor | None = None

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, index: Any) -> Batch:
        weight = None if self.weight is None else self.weight[index]
        return Batch.of(self.X[index], self.y[index], weight)

    __getitems__ = __getitem__

    def take(self, index: Any) -> Rows:
        """The rows at these indices."""
        index = torch.as_tensor(index, device=self.X.device)
        weight = None if self.weight is None else self.weight[index]
        return Rows(self.X[index], self.y[index], weight)


@dataclass
class Trained:
    """A trained network and what going on with its training needs."""

    module: nn.Module
    history: list[dict]
    state: dict[str, Any] = field(default_factory=dict)


class _SlicedBatches:
    """Batches as slices of the rows, shuffled by a private generator in training.

    A last batch of a single row is joined to the one before: BatchNorm needs two.
    """

    def __init__(
        self, rows: Rows, batch_size: int, shuffle: bool, drop_last: bool, seed: torch.Generator
    ) -> None:
        self._rows = rows
        self._size = min(batch_size, len(rows)) if batch_size > 0 else len(rows)
        self._shuffle = shuffle
        self._drop_last = drop_last
        self._generator = seed

    def _spans(self) -> list[tuple[int, int]]:
        n = len(self._rows)
        starts = list(range(0, n, self._size))
        if self._drop_last and n % self._size:
            starts.pop()
            n -= n % self._size
        elif len(starts) > 1 and n % self._size == 1:
            starts.pop()
        return list(zip(starts, [*starts[1:], n]))

    def __len__(self) -> int:
        return len(self._spans())

    def __iter__(self) -> Iterator[Batch]:
        rows = self._rows
        if not self._shuffle:
            for start, stop in self._spans():
                yield rows[start:stop]
            return
        order = torch.randperm(len(rows), generator=self._generator).to(rows.X.device)
        if rows.X.numel() * rows.X.element_size() <= _COPY_BYTES:
            shuffled = rows.take(order)
            for start, stop in self._spans():
                yield shuffled[start:stop]
        else:
            for start, stop in self._spans():
                yield rows[order[start:stop]]


class _StopTraining(KeyboardInterrupt):
    """A callback asked for the end of training (skorch's way is to raise KeyboardInterrupt)."""


def _raised_on_purpose(error: BaseException) -> bool:
    """Whether a callback executed ``raise``, as against a Ctrl-C that arrived while it ran."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return False
    code = traceback.tb_frame.f_code.co_code
    in_callback = isinstance(traceback.tb_frame.f_locals.get("self"), Callback)
    return in_callback and dis.opname[code[traceback.tb_lasti]] == "RAISE_VARARGS"


class _Criterion(nn.Module):
    """The likelihood in the form that skorch calls: its loss in training, else the true NLL."""

    def __init__(self, likelihood: Likelihood) -> None:
        super().__init__()
        self.likelihood = likelihood

    def forward(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        rule = self.likelihood.loss if self.training else self.likelihood.negative_log_likelihood
        losses = rule(output, target)
        return losses.mean() if weight is None else (weight * losses).mean()


class _Net(NeuralNet):
    """skorch's net with our batches, our loss and a lean inner loop."""

    def __init__(self, *args: Any, settings: Settings, state: dict[str, Any], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.settings = settings
        self.state = state

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        callbacks: list[tuple[str, Callback]] = [("epoch_timer", EpochTimer())]
        if self.settings.patience is not None:
            stopping = EarlyStopping(
                monitor="valid_loss",
                patience=self.settings.patience,
                threshold=0.0,
                threshold_mode="abs",
                load_best=True,
            )
            callbacks.append(("early_stopping", stopping))
        return [*callbacks, ("print_log", PrintLog())]

    def initialize_callbacks(self) -> _Net:
        super().initialize_callbacks()

        def overridden(name: str) -> bool:
            return any(
                getattr(type(cb), name) is not getattr(Callback, name) for _, cb in self.callbacks_
            )

        self._batch_events = overridden("on_batch_begin") or overridden("on_batch_end")
        closure = inspect.signature(self.optimizer.step).parameters.get("closure")
        needs_closure = closure is not None and closure.default is inspect.Parameter.empty
        self._full_step = overridden("on_grad_computed") or needs_closure
        return self

    def notify(self, method_name: str, **kwargs: Any) -> None:
        try:
            super().notify(method_name, **kwargs)
        except KeyboardInterrupt as error:
            if _raised_on_purpose(error):
                raise _StopTraining from None
            raise

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, **fit_params: Any) -> _Net:
        if not self.initialized_:
            self.initialize()
        if "optimizer" in self.state:
            self.optimizer_.load_state_dict(self.state["optimizer"])
        self.notify("on_train_begin", X=X, y=y)
        try:
            self.fit_loop(X, y, **fit_params)
        except _StopTraining:
            pass
        self.notify("on_train_end", X=X, y=y)
        return self

    def get_split_datasets(self, X: Rows, y: Any = None, **fit_params: Any) -> tuple:
        return X, (self.train_split(X)[1] if self.train_split else None)

    def get_iterator(self, dataset: Rows, training: bool = False) -> Any:
        options = self.settings.train_options if training else self.settings.valid_options
        options = {"batch_size": self.batch_size, "shuffle": training, **options}
        seed = self.state["shuffling"]
        if set(options) <= _SLICED_OPTIONS:
            return _SlicedBatches(dataset, **{"drop_last": False, **options}, seed=seed)
        return DataLoader(dataset, **{"collate_fn": _identity, "generator": seed, **options})

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """Without listeners, nothing happens per batch but the step: losses stay on the device."""
        if iterator is None:
            return
        self._set_training(training)
        total: Any = 0.0
        n_rows = n_batches = 0
        for batch in iterator:
            if self._batch_events:
                self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            size = len(batch[0])
            total = total + size * step["loss"].detach()
            n_rows, n_batches = n_rows + size, n_batches + 1
            if self._batch_events:
                self.history.record_batch(f"{prefix}_loss", step["loss"].item())
                self.history.record_batch(f"{prefix}_batch_size", size)
                self.notify("on_batch_end", batch=batch, training=training, **step)
        if training and not self._batch_events:
            self.history.new_batch()  # stock callbacks look at the last batch of an epoch
        if not n_batches:
            raise ValueError(
                f"no batch in an epoch of {prefix}ing: drop_last=True with fewer rows than "
                f"batch_size={self.batch_size}. Set a smaller batch_size."
            )
        self._record_loss(prefix, float(total) / n_rows, n_batches)

    def _record_loss(self, prefix: str, loss: float, n_batches: int) -> None:
        name = f"{prefix}_loss"
        best = min(self.history[:-1, name], default=float("inf")) if len(self.history) > 1 else None
        self.history.record(name, loss)
        self.history.record(f"{name}_best", best is None or loss < best)
        self.history.record(f"{prefix}_batch_count", n_batches)
        if not torch.isfinite(torch.tensor(loss)):
            raise DivergedError(
                f"the {prefix} loss is {loss} in epoch {len(self.history)}: training diverged. "
                f"Lower lr (now {self.lr}), scale the features, or clip gradients with skorch's "
                "GradientNormClipping callback."
            )

    def train_step(self, batch: Batch, **fit_params: Any) -> dict[str, Tensor]:
        with self.state["other"] or nullcontext():
            if self._full_step:
                return super().train_step(batch, **fit_params)
            self.optimizer_.zero_grad(set_to_none=True)
            step = self.train_step_single(batch)
            self.optimizer_.step()
            return step

    def train_step_single(self, batch: Batch, **fit_params: Any) -> dict[str, Tensor]:
        output = self.infer(batch[0])
        loss = self.criterion_(output, batch[1], batch.weight)
        loss.backward()
        return {"loss": loss, "y_pred": output}

    @torch.no_grad()
    def validation_step(self, batch: Batch, **fit_params: Any) -> dict[str, Tensor]:
        output = self.infer(batch[0])
        return {"loss": self.criterion_(output, batch[1], batch.weight), "y_pred": output}

    def infer(self, x: Any, **fit_params: Any) -> Tensor:
        numerics = self.settings.numerics
        return call(self.module_, torch.as_tensor(x, device=numerics.device), numerics)

    def predict(self, X: Any) -> Any:
        """What scoring callbacks ask for: encoded class labels, or means as in training."""
        output = torch.as_tensor(self.forward(X))
        predictive = self.criterion_.likelihood.predictive(output)
        if self.criterion_.likelihood.task == "classification":
            return predictive.logits.argmax(-1).numpy()
        return self.criterion_.likelihood.encode(predictive.mean.numpy())


def _identity(batch: Batch) -> Batch:
    return batch


def _fresh_callbacks(callbacks: Any) -> Any:
    """Copies: skorch initialises callbacks in place, and parameters are never changed."""
    if callbacks is None or isinstance(callbacks, str):
        return callbacks
    copies = []
    for entry in callbacks:
        name, callback = entry if isinstance(entry, tuple | list) else (None, entry)
        kind = callback if isinstance(callback, type) else type(callback)
        if not issubclass(kind, Callback):
            raise TypeError(
                "callbacks must be a list of skorch callbacks, or of (name, callback), got "
                f"{callback!r}"
            )
        copied = clone(callback, safe=False)
        copies.append(copied if name is None else (name, copied))
    return copies


def _optimizer_defaults(settings: Settings) -> dict[str, Any]:
    """The fused implementation, unless the user chose one."""
    chosen = {"foreach", "fused", "differentiable", "capturable", "maximize"}
    if settings.optimizer in _FUSED and settings.numerics.device.type in ("cpu", "cuda"):
        if not any(f"optimizer__{name}" in settings.net_options for name in chosen):
            return {"optimizer__fused": True}
    return {}


def train_network(
    module: nn.Module,
    train: Rows,
    valid: Rows | None,
    likelihood: Likelihood,
    settings: Settings,
    *,
    root: int,
    network: int,
    other_noise: bool,
    resume: Trained | None = None,
) -> Trained:
    """Train `module` in place.

    Parameters
    ----------
    module : nn.Module, on the device and in the dtype of the rows
    train, valid : Rows
    likelihood : Likelihood, fitted
    settings : Settings
    root, network : int
        The seed of the fit and the number of the network: from both come its generators.
    other_noise : bool
        Whether the module draws from global generators while training.
    resume : Trained, default=None
        Go on with the optimizer, the generators and the history of this one.

    Raises
    ------
    DivergedError
        If a loss or a weight becomes NaN or infinite.
    """
    device = settings.numerics.device
    if resume is not None and resume.state:
        state = dict(resume.state)
    else:
        state = {
            "shuffling": generator(derive_seed(root, Purpose.SHUFFLING, network)),
            "dropout": generator(derive_seed(root, Purpose.DROPOUT, network), device),
            "other": PrivateGlobals(derive_seed(root, Purpose.OTHER, network))
            if other_noise
            else None,
        }
    net = _Net(
        module,
        criterion=_Criterion(likelihood),
        optimizer=settings.optimizer,
        lr=settings.lr,
        max_epochs=settings.max_epochs,
        batch_size=settings.batch_size,
        train_split=None if valid is None else predefined_split(valid),
        callbacks=_fresh_callbacks(settings.callbacks),
        verbose=settings.verbose,
        device=device,
        compile=settings.compile,
        settings=settings,
        state=state,
        **{**_optimizer_defaults(settings), **settings.net_options},
    )
    net.initialize()
    if resume is not None:
        net.history.extend(copy.deepcopy(resume.history))
    with driven(module, Sampler(state["dropout"])):
        net.partial_fit(train, train.y)
    module.eval().zero_grad(set_to_none=True)
    with torch.no_grad():  # weights that hooks compute (weight_norm) must not hold a graph
        call(module, first_rows(train.X, 2), settings.numerics)
    _check_weights(module, settings)
    state["optimizer"] = net.optimizer_.state_dict()
    return Trained(module, list(net.history), state)


def _check_weights(module: nn.Module, settings: Settings) -> None:
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if not bool(torch.isfinite(tensor).all()):
            raise DivergedError(
                f"'{name}' holds NaN or infinity after training: training diverged. "
                f"Lower lr (now {settings.lr}) or scale the features."
            )
