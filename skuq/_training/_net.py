"""The net that trains one network with skorch. Only this file imports skorch.

Callbacks, schedulers, early stopping, history and the printed table come from skorch. skuq adds:
batches that are slices of tensors on the device, weighted losses, dropout from a private generator,
a stop when the loss is not finite, checkpoints, and Ctrl-C that reaches the caller.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable as Function
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, EpochTimer, PassthroughScoring, PrintLog
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from skorch.history import History
from torch import Tensor, nn
from torch.optim import Optimizer

from skuq._data._batches import Batch, Rows, SlicedBatches
from skuq._data._loaders import loader
from skuq._networks._module import call
from skuq._networks._weights import buffers_outside, put_buffers, weights_of
from skuq._training._callbacks import CallbackView, check_monitors, naming_history
from skuq._training._divergence import Gradients, gradient_norms
from skuq._training._history import Record
from skuq._training._hooks import TrainingHook, overrides, trained_in
from skuq._training._interrupts import CtrlC, StopTraining
from skuq._training._options import Criterion, unless_chosen
from skuq._training._saving import Saving
from skuq._training._settings import Settings
from skuq._utils._arrays import as_tensor
from skuq._utils._progress import Task
from skuq.likelihoods import Likelihood

__all__ = ["History", "early_stopping", "make_optimizer", "training_net"]


class _Epochs(Callback):
    """Reports epochs to scikit-learn's callbacks, and ends training if one of them asks for it."""

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        net.record.begin_epoch()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        if net.record.end_epoch(partial(weights_of, net.module)):
            raise StopTraining


class _Stopping(EarlyStopping):
    """skorch's early stopping; its best weights also hold buffers that a state dict lacks."""

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        super().on_train_begin(net, **kwargs)
        self.best_buffers_: dict[str, Tensor] = {}

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        try:
            super().on_epoch_end(net, **kwargs)
        except KeyboardInterrupt:
            if self.misses_ != self.patience:
                raise  # Ctrl-C
            raise StopTraining from None
        if self.load_best and self.best_epoch_ == net.history[-1, "epoch"]:
            self.best_buffers_ = {k: b.clone() for k, b in buffers_outside(net.module).items()}

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        super().on_train_end(net, **kwargs)
        if self.load_best and self.best_epoch_ != net.history[-1, "epoch"]:
            put_buffers(net.module, self.best_buffers_)


class _RowsInUnitsOfY(Dataset):
    """The rows that callbacks see: their targets are in the units of y."""

    def __init__(self, rows: Rows, y: Tensor) -> None:
        super().__init__(rows.inputs, y, length=len(rows))
        self.rows = rows


class _Net(CallbackView, NeuralNet):
    """skorch's net with the batches and the loss of skuq, and a fast inner loop."""

    def __init__(
        self,
        *args: Any,
        settings: Settings,
        state: dict[str, Any],
        task: Any,
        snapshot: Any,
        hook: TrainingHook | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.hook = hook
        self.penalty = hook.penalty if hook and overrides(hook, "penalty") else None
        self.settings = settings
        self.state = state
        self.task = task
        self.snapshot = snapshot
        self.saving: Saving | None = None
        self._ctrl_c = CtrlC()
        self._batch_events = False
        self._shown: dict[int, _RowsInUnitsOfY] = {}  # by the identity of the rows
        self._gradients = Gradients()
        self._shares = torch.empty(0)

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        watched = [("epochs", _Epochs())] if self.task and self.task.watchers else []
        table = [("print_log", PrintLog())] if self.verbose else []
        return [("epoch_timer", EpochTimer()), *watched, *table]

    def initialize_history(self) -> _Net:
        super().initialize_history()
        self.record = Record(self.history, self.settings, self.task, self.snapshot, self._gradients)
        return self

    def initialize_callbacks(self) -> _Net:
        super().initialize_callbacks()
        names = [name for name, _ in self._uniquely_named_callbacks()]
        for option in self.settings.net_options:
            prefix, _, rest = option.partition("__")
            if prefix == "callbacks" and rest.partition("__")[0] not in (*names, "print_log"):
                raise ValueError(f"{option}: there is no such callback; there are {names}")
        reads_batches = any(isinstance(cb, PassthroughScoring) for _, cb in self.callbacks_)
        self._batch_events = reads_batches or self._overridden("on_batch_begin", "on_batch_end")
        if not self.train_split:
            check_monitors(self.callbacks_)
        return self

    def callbacks_with_state(self) -> dict[str, Any]:
        """Return the callbacks whose state a checkpoint saves, by name."""
        return {name: c for name, c in self.callbacks_ if not isinstance(c, _Epochs)}

    def _overridden(self, *events: str) -> bool:
        """Return whether a callback listens to one of these events."""
        return any(
            getattr(type(callback), event) is not getattr(Callback, event)
            for event in events
            for _, callback in self.callbacks_
        )

    def _needs_full_steps(self) -> bool:
        """Return whether a callback or the optimizer needs skorch's own step."""
        closure = inspect.signature(self.optimizer_.step).parameters.get("closure")
        needs_closure = closure is not None and closure.default is inspect.Parameter.empty
        return self._overridden("on_grad_computed") or needs_closure

    def notify(self, method_name: str, **kwargs: Any) -> None:
        private = self.state["other"]
        shown = {name: self._as_shown(kwargs[name]) for name in kwargs}
        with nullcontext() if private is None else private.lent():
            getattr(self, method_name)(self, **shown)
            for _, callback in self.callbacks_:
                with naming_history(callback, self.history):
                    self._call(callback, method_name, shown)
        if method_name == "on_epoch_end" and self.hook:
            self.hook.after_epoch(self.module_, self.history[-1, "epoch"])
        if method_name == "on_epoch_end" and self.saving:
            self.saving.epoch_is_over()

    def _call(self, callback: Any, method_name: str, shown: dict[str, Any]) -> None:
        """Call a callback. If it raises KeyboardInterrupt without Ctrl-C, training ends.

        `_Epochs` passes the error on, because it may come from another thread.
        """
        try:
            getattr(callback, method_name)(self, **shown)
        except KeyboardInterrupt as error:
            if self._ctrl_c.raised(error) or isinstance(callback, _Epochs):
                raise
            raise StopTraining from None

    def _as_shown(self, value: Any) -> Any:
        """Convert rows and batches for callbacks: their targets get the units of y."""
        if isinstance(value, Batch):
            return Batch.of(value[0], self.in_units_of_y(value[1]), value.weight)
        if not isinstance(value, Rows):
            return value
        if id(value) not in self._shown:
            self._shown[id(value)] = _RowsInUnitsOfY(value, self.in_units_of_y(value.targets))
        return self._shown[id(value)]

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        super().on_epoch_begin(net, **kwargs)
        if len(self.history) > 1:  # early rows of a long history keep only the number of the epoch
            self.history.record("epoch", self.history[-2, "epoch"] + 1)

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, **fit_params: Any) -> _Net:
        if not self.initialized_:
            self.initialize()
        self._rates = [group["lr"] for group in self.optimizer_.param_groups]
        self._go_on_with_optimizer()
        self._full_steps = self._needs_full_steps()
        with self._ctrl_c:
            self.notify("on_train_begin", X=X, y=y)
            done = self.saving.begin() if self.saving else 0
            try:
                self.fit_loop(X, y, epochs=self.max_epochs - done, **fit_params)
            except StopTraining:
                pass
            self.notify("on_train_end", X=X, y=y)
        return self

    def _go_on_with_optimizer(self) -> None:
        """Restore the state of the optimizer (momenta, ...) with the present options (lr, ...)."""
        kind, before = self.state.get("optimizer", (None, None))
        now = self.optimizer_.state_dict()
        sizes = [[len(g["params"]) for g in s["param_groups"]] for s in (before, now) if s]
        if kind is type(self.optimizer_) and sizes[0] == sizes[-1]:
            groups = zip(before["param_groups"], now["param_groups"])
            merged = [{**new, "params": old["params"]} for old, new in groups]
            self.optimizer_.load_state_dict({**before, "param_groups": merged})

    def get_split_datasets(self, X: Rows, y: Any = None, **fit_params: Any) -> tuple[Any, ...]:
        return X, (self.train_split(X)[1] if self.train_split else None)

    def get_dataset(self, X: Any, y: Any = None) -> Any:
        """Make a dataset for a callback that predicts, from the dataset that it got or an array."""
        if isinstance(X, _RowsInUnitsOfY | Rows):
            return X
        numerics = self.settings.numerics
        x = as_tensor(X).to(numerics.device, numerics.dtype)
        return Rows(x, torch.zeros(len(x), device=x.device))

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        dataset = dataset.rows if isinstance(dataset, _RowsInUnitsOfY) else dataset
        options = self.settings.train_options if training else self.settings.valid_options
        own_order = "sampler" in options or "batch_sampler" in options
        options = {"shuffle": training and not own_order, **options}
        if "batch_sampler" not in options:
            options = {"batch_size": self.batch_size, **options}
        seed = self.state["shuffling"]
        if set(options) <= SlicedBatches.OPTIONS:
            device = self.settings.numerics.device
            change = self.settings.change if training else None
            return SlicedBatches(dataset, **options, generator=seed, device=device, change=change)
        prefix = "iterator_train" if training else "iterator_valid"
        return loader(dataset, options, seed, prefix, self.state.setdefault(prefix, {}))

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """Run the steps of an epoch; without listeners, losses stay on the device until its end."""
        if iterator is not None:
            with trained_in(self.module_, self.hook if training else None):
                self._run_steps(iterator, training, prefix, partial(step_fn, **fit_params))

    def _run_steps(self, iterator: Any, training: bool, prefix: str, step_fn: Any) -> None:
        self._set_training(training)
        losses: list[Tensor] = []
        sizes: list[int] = []
        private = self.state["other"]
        for batch in iterator:
            if private is not None:
                private.give_way(may_leave=len(self.history) > 1)
            if self._batch_events:
                self.notify("on_batch_begin", batch=batch, training=training)
            if training and self.settings.schedule:
                self._set_learning_rates(len(sizes), iterator)
            step = step_fn(batch)
            size = len(batch[0])
            losses.append(step["loss"].detach())
            sizes.append(size)
            if training and len(sizes) == 1:
                self._gradients.add(self.history[-1, "epoch"], gradient_norms(self.module_))
            if self._batch_events:
                self.history.record_batch(f"{prefix}_loss", step["loss"].item())
                self.history.record_batch(f"{prefix}_batch_size", size)
                self.notify("on_batch_end", batch=batch, training=training, **step)
                self._set_training(training)  # a callback may have predicted, which sets eval mode
        if training and not self._batch_events:
            self.history.new_batch()  # stock callbacks look at the last batch of an epoch
        if not sizes:
            raise ValueError(
                f"no batch in an epoch of {prefix}ing: drop_last=True with fewer rows than "
                f"batch_size={self.batch_size}. Set a smaller batch_size."
            )
        shares = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
        each = torch.stack(losses).cpu().double()
        self.record.add(prefix, float(shares @ each), each)

    def _set_learning_rates(self, n_steps: int, batches: Any) -> None:
        """Set them as the schedule says, after this number of steps of the epoch."""
        n_epochs = self.history[-1, "epoch"] - 1
        if hasattr(batches, "__len__"):
            n_epochs += n_steps / max(len(batches), n_steps + 1)
        assert self.settings.schedule is not None
        factor = self.settings.schedule(n_epochs / self.max_epochs)
        for group, rate in zip(self.optimizer_.param_groups, self._rates):
            group["lr"] = factor * rate

    def train_step(self, batch: Batch, **fit_params: Any) -> dict[str, Tensor]:
        if self._full_steps:
            step: dict[str, Tensor] = super().train_step(batch, **fit_params)
        else:
            for group in self.optimizer_.param_groups:  # zero_grad takes longer than all else here
                for parameter in group["params"]:
                    parameter.grad = None
            step = self.train_step_single(batch)
            self.optimizer_.step()
        if self.hook:
            self.hook.after_step(self.module_)
        return step

    def train_step_single(self, batch: Batch, **fit_params: Any) -> dict[str, Tensor]:
        numerics = self.settings.numerics
        batch = batch.to(numerics.device)
        output = call(self.module_, batch[0], numerics, autocast_is_off=True)
        # Not __call__, since skuq's criterion has no hooks.
        losses = self.criterion_.forward(output, batch[1], batch.weight)
        if self.penalty and (term := self.penalty(self.module_, batch)) is not None:
            loss = losses.mean() + term
            loss.backward()
            return {"loss": loss, "y_pred": output}
        shares = self._shares
        if shares.shape != losses.shape:
            shares = self._shares = torch.ones_like(losses) / losses.numel()
        # Backward from the losses, with the gradient of their mean, is faster than from the mean.
        losses.backward(shares)
        return {"loss": torch.dot(losses.detach(), shares), "y_pred": output}

    @torch.no_grad()
    def validation_step(self, batch: Batch, **fit_params: Any) -> dict[str, Tensor]:
        batch = batch.to(self.settings.numerics.device)
        output = self.infer(batch[0])
        losses = self.criterion_(output, batch[1], batch.weight)
        return {"loss": losses.mean(), "y_pred": output}

    def infer(self, x: Any, **fit_params: Any) -> Tensor:
        numerics = self.settings.numerics
        return call(self.module_, as_tensor(x).to(numerics.device), numerics)


def early_stopping(settings: Settings, load_best: bool = True) -> _Stopping:
    """Make early stopping, which waits `patience` epochs for a better loss on validation rows."""
    return _Stopping(
        monitor="valid_loss",
        patience=settings.patience,
        threshold=0.0,
        threshold_mode="abs",
        load_best=load_best,
    )


def _fresh_callbacks(settings: Settings) -> Any:
    """Copy the callbacks, because skorch initialises them in place."""
    if isinstance(settings.callbacks, str):
        return settings.callbacks
    copies: list[Any] = []
    for entry in settings.callbacks or []:
        name, callback = entry if isinstance(entry, tuple | list) else (None, entry)
        kind = callback if isinstance(callback, type) else type(callback)
        if not issubclass(kind, Callback):
            raise TypeError(
                "callbacks must be a list of skorch callbacks, or of (name, callback), got "
                f"{callback!r}"
            )
        copied = copy.deepcopy(callback)
        if type(copied) is EarlyStopping:
            copied.__class__ = _Stopping
        copies.append(copied if name is None else (name, copied))
    if settings.patience is not None:  # comes last, so that the others also see the last epoch
        copies.append(("early_stopping", early_stopping(settings)))
    return copies


def _net(module: nn.Module, likelihood: Likelihood, settings: Settings, **options: Any) -> _Net:
    return _Net(
        module,
        criterion=Criterion(likelihood, settings.likelihood_is_loss),
        optimizer=settings.optimizer,
        lr=settings.lr,
        max_epochs=settings.max_epochs,
        batch_size=settings.batch_size,
        device=settings.numerics.device,
        compile=bool(settings.compile),
        settings=settings,
        **{**unless_chosen(module, settings), **copy.deepcopy(settings.net_options), **options},
    )


_OPTIMIZER_ONLY: dict[str, Any] = {
    "state": {"other": None},
    "task": None,
    "snapshot": None,
    "hook": None,
    "verbose": 0,
}


def make_optimizer(module: nn.Module, likelihood: Likelihood, settings: Settings) -> Optimizer:
    """Make the optimizer as skorch does from the settings, ``optimizer__param_groups`` included."""
    net = _net(module, likelihood, settings, callbacks="disable", **_OPTIMIZER_ONLY)
    optimizer: Optimizer = net.initialize().optimizer_
    return optimizer


def training_net(
    module: nn.Module,
    valid: Rows | None,
    likelihood: Likelihood,
    settings: Settings,
    task: Task,
    snapshot: Function[..., Any],
    *,
    state: dict[str, Any],
    hook: TrainingHook | None,
) -> _Net:
    """Make a net that is ready to train `module`, with its own copies of the callbacks."""
    net: _Net = _net(
        module,
        likelihood,
        settings,
        task=task,
        snapshot=snapshot,
        hook=hook,
        train_split=None if valid is None else predefined_split(valid),
        callbacks=_fresh_callbacks(settings),
        verbose=int(settings.verbose > 1),  # 1 asks for bars, more for skorch's table
        state=state,
    ).initialize()
    return net
