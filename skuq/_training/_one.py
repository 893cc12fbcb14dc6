"""Training one network through skorch. The only file that knows skorch.

Callbacks, schedulers, early stopping, history and the printed table are skorch's own. Ours are:
batches that are slices of tensors on the device, weighted losses, dropout from a private generator,
a stop when the loss is not finite, checkpoints, and Ctrl-C that reaches the caller.
"""

from __future__ import annotations

import copy
import dis
import inspect
from collections.abc import Callable as Function
from contextlib import nullcontext
from typing import Any

import torch
from sklearn.utils import ClassifierTags, RegressorTags
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, EpochTimer, PrintLog
from skorch.helper import predefined_split
from torch import Tensor, nn
from torch.utils.data import DataLoader

from skuq._data._batches import Batch, Rows, SlicedBatches
from skuq._networks._dropout import Sampler, driven
from skuq._networks._module import call
from skuq._training._resuming import Keeper, save_finished
from skuq._training._settings import (
    Gradients,
    Interrupted,
    Settings,
    Trained,
    check_losses,
    check_trained,
    going_on,
    gradient_norms,
    may_fuse,
    network_state,
)
from skuq._utils._arrays import as_tensor
from skuq._utils._progress import Task
from skuq._utils._random import PrivateGlobals, Purpose, derive_seed
from skuq.likelihoods import Likelihood

__all__ = ["make_optimizer", "train_network"]


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


class _Epochs(Callback):
    """Tells of epochs, and ends training where a watcher asks for it."""

    def __init__(self, network: Task, state: Function[..., Any]) -> None:
        self.network = network
        self.state = state

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self.epoch = self.network.subtask("epoch").begin()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        last = net.history[-1]
        losses = {name: last[name] for name in ("train_loss", "valid_loss") if name in last}
        if self.epoch.end(self.state(net.module_.state_dict, net.history), **losses):
            raise KeyboardInterrupt


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

    def __init__(
        self, *args: Any, settings: Settings, state: dict, epochs: Any, keeper: Any, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.settings = settings
        self.state = state
        self.epochs = epochs
        self.keeper = keeper
        self._batch_events = False
        self._best_losses: dict[str, float] = {}  # by name, of this call of fit
        self._gradients = Gradients()

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        told = [("epochs", self.epochs)] if self.epochs else []
        table = [("print_log", PrintLog())] if self.verbose else []
        return [("epoch_timer", EpochTimer()), *told, *table]

    def initialize_callbacks(self) -> _Net:
        super().initialize_callbacks()
        names = [name for name, _ in self.callbacks_]
        for option in self.settings.net_options:
            prefix, _, rest = option.partition("__")
            if prefix == "callbacks" and rest.partition("__")[0] not in (*names, "print_log"):
                raise ValueError(f"{option}: there is no such callback; there are {names}")
        self._batch_events = self._overridden("on_batch_begin", "on_batch_end")
        return self

    def _overridden(self, *events: str) -> bool:
        """Whether a callback listens to one of these events."""
        return any(
            getattr(type(callback), event) is not getattr(Callback, event)
            for event in events
            for _, callback in self.callbacks_
        )

    def _needs_full_steps(self) -> bool:
        """Whether a step must be skorch's own: a callback or the optimizer asks for it."""
        closure = inspect.signature(self.optimizer_.step).parameters.get("closure")
        needs_closure = closure is not None and closure.default is inspect.Parameter.empty
        return self._overridden("on_grad_computed") or needs_closure

    def notify(self, method_name: str, **kwargs: Any) -> None:
        try:
            super().notify(method_name, **kwargs)
            if method_name == "on_epoch_end" and self.keeper:
                self.keeper.epoch_is_over(self)
        except KeyboardInterrupt as error:
            if _raised_on_purpose(error):
                raise _StopTraining from None
            raise

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        super().on_epoch_begin(net, **kwargs)
        if len(self.history) > 1:  # of epochs long ago the number is all that is left
            self.history.record("epoch", self.history[-2, "epoch"] + 1)

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, **fit_params: Any) -> _Net:
        if not self.initialized_:
            self.initialize()
        self._go_on_with_optimizer()
        self._full_steps = self._needs_full_steps()
        self.notify("on_train_begin", X=X, y=y)
        done = self.keeper.begin(self) if self.keeper else 0
        try:
            self.fit_loop(X, y, epochs=self.max_epochs - done, **fit_params)
        except _StopTraining:
            pass
        self.notify("on_train_end", X=X, y=y)
        return self

    def _go_on_with_optimizer(self) -> None:
        """Momenta and the like as they were; rates and other options as they are set now."""
        kind, before = self.state.get("optimizer", (None, None))
        now = self.optimizer_.state_dict()
        sizes = [[len(g["params"]) for g in s["param_groups"]] for s in (before, now) if s]
        if kind is type(self.optimizer_) and sizes[0] == sizes[-1]:
            groups = zip(before["param_groups"], now["param_groups"])
            merged = [{**new, "params": old["params"]} for old, new in groups]
            self.optimizer_.load_state_dict({**before, "param_groups": merged})

    def get_split_datasets(self, X: Rows, y: Any = None, **fit_params: Any) -> tuple:
        return X, (self.train_split(X)[1] if self.train_split else None)

    def get_iterator(self, dataset: Rows, training: bool = False) -> Any:
        options = self.settings.train_options if training else self.settings.valid_options
        own_order = "sampler" in options or "batch_sampler" in options
        options = {"shuffle": training and not own_order, **options}
        if "batch_sampler" not in options:
            options = {"batch_size": self.batch_size, **options}
        seed = self.state["shuffling"]
        if set(options) <= SlicedBatches.OPTIONS:
            device = self.settings.numerics.device
            return SlicedBatches(dataset, **options, generator=seed, device=device)
        return DataLoader(dataset, **{"collate_fn": Batch.itself, "generator": seed, **options})

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """Without listeners, nothing happens per batch but the step: losses stay on the device."""
        if iterator is None:
            return
        self._set_training(training)
        losses, sizes = [], []
        for batch in iterator:
            if self._batch_events:
                self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            size = len(batch[0])
            losses.append(step["loss"].detach())
            sizes.append(size)
            if training and len(sizes) == 1:
                self._gradients.add(self.history[-1, "epoch"], gradient_norms(self.module_))
            if self._batch_events:
                self.history.record_batch(f"{prefix}_loss", step["loss"].item())
                self.history.record_batch(f"{prefix}_batch_size", size)
                self.notify("on_batch_end", batch=batch, training=training, **step)
        if training and not self._batch_events:
            self.history.new_batch()  # stock callbacks look at the last batch of an epoch
        if not sizes:
            raise ValueError(
                f"no batch in an epoch of {prefix}ing: drop_last=True with fewer rows than "
                f"batch_size={self.batch_size}. Set a smaller batch_size."
            )
        shares = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
        self._record_loss(prefix, torch.stack(losses).cpu().double(), shares)

    def _record_loss(self, prefix: str, losses: Tensor, shares: Tensor) -> None:
        name, loss = f"{prefix}_loss", float(shares @ losses)
        best = self._best_losses.get(name, float("inf"))
        self._best_losses[name] = min(best, loss)
        self.history.record(name, loss)
        self.history.record(f"{name}_best", loss < best)
        self.history.record(f"{prefix}_batch_count", len(losses))
        epoch = self.history[-1, "epoch"]
        check_losses(prefix, loss, losses, epoch, self.settings, self._gradients)

    def train_step(self, batch: Batch, **fit_params: Any) -> dict[str, Tensor]:
        with self.state["other"] or nullcontext():
            if self._full_steps:
                return super().train_step(batch, **fit_params)
            for group in self.optimizer_.param_groups:  # zero_grad costs more than the rest of us
                for parameter in group["params"]:
                    parameter.grad = None
            step = self.train_step_single(batch)
            self.optimizer_.step()
            return step

    def train_step_single(self, batch: Batch, **fit_params: Any) -> dict[str, Tensor]:
        batch = batch.to(self.settings.numerics.device)
        output = self.infer(batch[0])
        loss = self.criterion_(output, batch[1], batch.weight)
        loss.backward()
        return {"loss": loss, "y_pred": output}

    @torch.no_grad()
    def validation_step(self, batch: Batch, **fit_params: Any) -> dict[str, Tensor]:
        batch = batch.to(self.settings.numerics.device)
        output = self.infer(batch[0])
        return {"loss": self.criterion_(output, batch[1], batch.weight), "y_pred": output}

    def infer(self, x: Any, **fit_params: Any) -> Tensor:
        numerics = self.settings.numerics
        return call(self.module_, as_tensor(x).to(numerics.device), numerics)

    # What scoring callbacks ask for: class indices and probabilities, or means as in training.

    def _predictive(self, X: Any) -> Any:
        return self.criterion_.likelihood.predictive(torch.as_tensor(self.forward(X)).double())

    @property
    def classes_(self) -> Any:
        return torch.arange(self.criterion_.likelihood.n_classes_).numpy()

    def predict_proba(self, X: Any) -> Any:
        return self._predictive(X).probs.numpy()

    def predict(self, X: Any) -> Any:
        if self.criterion_.likelihood.task == "classification":
            return self.predict_proba(X).argmax(-1)
        return self.criterion_.likelihood.encode(self._predictive(X).mean.numpy())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if self.criterion_.likelihood.task == "classification":
            tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags()
        else:
            tags.estimator_type, tags.regressor_tags = "regressor", RegressorTags()
        return tags


def _fresh_callbacks(settings: Settings) -> Any:
    """Copies: skorch initialises them in place, and parameters are never changed."""
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
        copies.append(copied if name is None else (name, copied))
    if settings.patience is not None:  # the last, so that the others see the last epoch, too
        stopping = EarlyStopping(
            monitor="valid_loss",
            patience=settings.patience,
            threshold=0.0,
            threshold_mode="abs",
            load_best=True,
        )
        copies.append(("early_stopping", stopping))
    return copies


def _unless_chosen(module: nn.Module, settings: Settings) -> dict[str, Any]:
    """Options of the net where the user chose none: the fused optimizer, the mode of compiling."""
    options: dict[str, Any] = {}
    if isinstance(settings.compile, str):
        options["compile__mode"] = settings.compile
    if may_fuse(module, settings):
        options["optimizer__fused"] = True
    return options


def _net(module: nn.Module, likelihood: Likelihood, settings: Settings, **options: Any) -> _Net:
    return _Net(
        module,
        criterion=_Criterion(likelihood),
        optimizer=settings.optimizer,
        lr=settings.lr,
        max_epochs=settings.max_epochs,
        batch_size=settings.batch_size,
        device=settings.numerics.device,
        compile=bool(settings.compile),
        settings=settings,
        **{**_unless_chosen(module, settings), **settings.net_options, **options},
    )


_ALONE: dict[str, Any] = {"state": {}, "epochs": None, "keeper": None, "verbose": 0}


def make_optimizer(module: nn.Module, likelihood: Likelihood, settings: Settings) -> Any:
    """The optimizer that skorch makes of the settings, ``optimizer__param_groups`` included."""
    net = _net(module, likelihood, settings, callbacks="disable", **_ALONE)
    return net.initialize().optimizer_


def train_network(
    module: nn.Module,
    train: Rows,
    valid: Rows | None,
    likelihood: Likelihood,
    settings: Settings,
    task: Task,
    snapshot: Function[..., Any],
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
    task : Task
        The training of this network; its epochs become subtasks.
    snapshot : callable
        Maps a function that gives a state dict, and a history, to a function that makes the
        attributes of an estimator.
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
    Interrupted
        After Ctrl-C, if the settings want to keep what is finished, and an epoch is.
    """
    if resume is not None and resume.state:
        state = going_on(resume, root, network, settings)
    else:
        state = network_state(root, network, settings)
        if other_noise:
            state["other"] = PrivateGlobals(derive_seed(root, Purpose.OTHER, network))
    keeper = Keeper(f"network-{network}", settings, ours=(_Epochs,))
    net = _net(
        module,
        likelihood,
        settings,
        keeper=keeper,
        train_split=None if valid is None else predefined_split(valid),
        callbacks=_fresh_callbacks(settings),
        verbose=int(settings.verbose > 1),  # 1 asks for bars, more for skorch's table
        state=state,
        epochs=_Epochs(task, snapshot) if task.watchers else None,
    ).initialize()
    if resume is not None:
        net.history.extend(copy.deepcopy(resume.history))
    noise: Any = Sampler(state["dropout"])
    if settings.compile:  # a compiled graph cannot draw from a generator of its own
        noise = torch.compiler.disable(noise.__call__)
    with driven(module, noise), settings.numerics.without_autocast():
        try:
            net.partial_fit(train, train.y)
        except KeyboardInterrupt:
            if not keeper.put_back(net):
                raise
            check_trained(module, train, settings, net.history, float(gradient_norms(module)))
            raise Interrupted([Trained(module, list(net.history))], [False]) from None
    check_trained(module, train, settings, net.history, float(gradient_norms(module)))
    state["optimizer"] = type(net.optimizer_), net.optimizer_.state_dict()
    trained = Trained(module, list(net.history), state)
    save_finished(f"network-{network}", [trained], settings)
    return trained
