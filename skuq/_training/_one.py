"""Train one network, from its seeds to a finished checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from skuq._data._batches import Rows
from skuq._networks._dropout import Sampler, driven
from skuq._networks._weights import put_weights, weights_of
from skuq._training._checkpoints import checked_type
from skuq._training._divergence import check_trained, gradient_norms
from skuq._training._hooks import TrainingHook
from skuq._training._net import training_net
from skuq._training._repeatable import runs_foreign_code
from skuq._training._saving import LastEpoch, Saving, save_finished
from skuq._training._settings import Interrupted, Settings, Trained, training_state
from skuq._training._stored import (
    attributes_of,
    checked_history,
    load_generators,
    module_state,
    put_into,
    put_into_attributes,
    stored_generators,
)
from skuq._utils._progress import Task
from skuq.likelihoods import Likelihood

__all__ = ["train_network"]


class _NetLoop:
    """The training loop of a net, for `Saving`."""

    def __init__(self, net: Any) -> None:
        self._net = net

    def checkpoint(self) -> dict[str, Any]:
        net = self._net
        return {
            "module": module_state(net.module),
            "optimizer": net.optimizer_.state_dict(),
            "generators": stored_generators(net.state),
            "history": list(net.history),
            "best_losses": {f"{kind}_loss": least for kind, least in net.record.least.items()},
            "callbacks": {
                name: attributes_of(f"the callback {name!r}", callback)
                for name, callback in net.callbacks_with_state().items()
            },
        }

    def load_checkpoint(self, saved: dict[str, Any]) -> int:
        net = self._net
        put_into(net.module, saved["module"])
        net.optimizer_.load_state_dict(saved["optimizer"])
        load_generators(net.state, saved["generators"])
        net.history[:] = checked_history(saved["history"])
        least = checked_type(saved["best_losses"], dict).items()
        net.record.least = {name.removesuffix("_loss"): loss for name, loss in least}
        for name, callback in net.callbacks_with_state().items():
            put_into_attributes(callback, saved["callbacks"][name])
        return len(net.history)

    def last_epoch(self) -> list[LastEpoch]:
        weights = {name: t.clone() for name, t in weights_of(self._net.module).items()}
        return [LastEpoch(weights, len(self._net.history))]

    def put_back(self, networks: list[LastEpoch]) -> None:
        """Undo `last_epoch`; callbacks then see the end: early stopping loads its best weights."""
        (network,) = networks
        put_weights(self._net.module, network.weights)
        del self._net.history[network.n_epochs :]
        self._net.notify("on_train_end", X=None, y=None)


def train_network(
    module: nn.Module,
    train: Rows,
    valid: Rows | None,
    likelihood: Likelihood,
    settings: Settings,
    task: Task,
    snapshot: Callable[..., Any],
    *,
    root: int,
    network: int,
    stage: int,
    other_noise: bool,
    resume: Trained | None = None,
    hook: TrainingHook | None = None,
) -> Trained:
    """Train `module` in place.

    Parameters
    ----------
    module : nn.Module
        The untrained network, on the device and in the dtype of the rows.
    train, valid : Rows
        Training and validation rows.
    likelihood : Likelihood
        The fitted likelihood.
    settings : Settings
        How to train.
    task : Task
        The training of this network; its epochs become subtasks.
    snapshot : callable
        Maps a function that gives a state dict, and a history, to a function that makes the
        attributes of an estimator.
    root, network, stage : int
        The seed of the fit, the number of the network, and the stage: 0 trains it, later ones
        explore from there. The generators derive from these.
    other_noise : bool
        Whether the module draws from global generators. These are then private while it trains, as
        they are wherever code of a user runs.
    resume : Trained, default=None
        Goes on with the optimizer, the generators and the history of this network.
    hook : TrainingHook, default=None
        The hook of the posterior.

    Raises
    ------
    DivergedError
        If a loss or a weight becomes NaN or infinite.
    Interrupted
        After Ctrl-C, if the settings keep finished epochs and there is at least one.
    """
    private = other_noise or bool(task.watchers) or hook is not None
    private = private or runs_foreign_code(module, train, likelihood, settings)
    state = training_state(root, network, settings, private, resume, stage)
    hooks = [] if hook is None else [hook]
    noise: Any = Sampler(state["dropout"])
    if settings.compile:  # a compiled graph cannot draw from a private generator
        noise = torch.compiler.disable(noise.__call__)
    with state["other"] or nullcontext():
        net = training_net(
            module, valid, likelihood, settings, task, snapshot, state=state, hook=hook
        )
        net.saving = saving = Saving(f"network-{network}", _NetLoop(net), settings, hooks)
        if resume is not None:
            net.history.extend(copy.deepcopy(resume.history))
        with driven(module, noise), settings.numerics.without_autocast():
            try:
                net.partial_fit(train, net.in_units_of_y(train.targets))
            except KeyboardInterrupt:
                if not saving.put_back():
                    raise
                check_trained(module, train, settings, net.history, float(gradient_norms(module)))
                raise Interrupted([Trained(module, list(net.history))], [False]) from None
        check_trained(module, train, settings, net.history, float(gradient_norms(module)))
    state["optimizer"] = type(net.optimizer_), net.optimizer_.state_dict()
    trained = Trained(module, list(net.history), state)
    save_finished(f"network-{network}", [trained], settings, hooks)
    return trained
