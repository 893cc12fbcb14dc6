"""Training one network, from its seeds to a finished checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from skuq._data._batches import Rows
from skuq._networks._dropout import Sampler, driven
from skuq._training._hooks import TrainingHook
from skuq._training._net import Epochs, training_net
from skuq._training._repeatable import runs_foreign_code
from skuq._training._resuming import Keeper, save_finished
from skuq._training._settings import (
    Interrupted,
    Settings,
    Trained,
    check_trained,
    gradient_norms,
    training_state,
)
from skuq._utils._progress import Task
from skuq.likelihoods import Likelihood

__all__ = ["train_network"]


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
    module : nn.Module, on the device and in the dtype of the rows
    train, valid : Rows
    likelihood : Likelihood, fitted
    settings : Settings
    task : Task
        The training of this network; its epochs become subtasks.
    snapshot : callable
        Maps a function that gives a state dict, and a history, to a function that makes the
        attributes of an estimator.
    root, network, stage : int
        The seed of the fit, the number of the network and whether it is trained (0) or explored
        further: from these come its generators.
    other_noise : bool
        Whether the module draws from global generators, which are then private while it trains,
        as they are where a user's code runs that may do so.
    resume : Trained, default=None
        Go on with the optimizer, the generators and the history of this one.
    hook : TrainingHook, default=None
        What a posterior adds.

    Raises
    ------
    DivergedError
        If a loss or a weight becomes NaN or infinite.
    Interrupted
        After Ctrl-C, if the settings want to keep what is finished, and an epoch is.
    """
    private = other_noise or bool(task.watchers) or hook is not None
    private = private or runs_foreign_code(module, train, likelihood, settings)
    state = training_state(root, network, settings, private, resume, stage)
    hooks = [] if hook is None else [hook]
    keeper = Keeper(f"network-{network}", settings, ours=(Epochs,), hooks=hooks)
    noise: Any = Sampler(state["dropout"])
    if settings.compile:  # a compiled graph cannot draw from a generator of its own
        noise = torch.compiler.disable(noise.__call__)
    with state["other"] or nullcontext():
        epochs = Epochs(task, snapshot) if task.watchers else None
        net = training_net(
            module, valid, likelihood, settings, epochs, state=state, keeper=keeper, hook=hook
        )
        if resume is not None:
            net.history.extend(copy.deepcopy(resume.history))
        with driven(module, noise), settings.numerics.without_autocast():
            try:
                net.partial_fit(train, net.in_units_of_y(train.targets))
            except KeyboardInterrupt:
                if not keeper.put_back(net):
                    raise
                check_trained(module, train, settings, net.history, float(gradient_norms(module)))
                raise Interrupted([Trained(module, list(net.history))], [False]) from None
        check_trained(module, train, settings, net.history, float(gradient_norms(module)))
    state["optimizer"] = type(net.optimizer_), net.optimizer_.state_dict()
    trained = Trained(module, list(net.history), state)
    save_finished(f"network-{network}", [trained], settings, hooks)
    return trained
