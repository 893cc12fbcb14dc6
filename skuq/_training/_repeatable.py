"""Keep a fit with a `random_state` repeatable, and warn if it is not.

A user's forward, optimizer, callback, sampler or Dataset may draw from the global generators, in
any epoch and at any batch size. Wherever such code runs, the global generators are private ones
during the whole training. But skuq cannot control code with its own entropy: an unseeded generator,
or one that goes on from fit to fit. It finds such code by running it twice from the same state.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from skuq._data._batches import Rows, SlicedBatches, StreamedRows
from skuq._data._loaders import loader
from skuq._networks._foreign import comes_from, runs_foreign_forward
from skuq._networks._inspection import try_training
from skuq._networks._module import call, copied
from skuq._training._settings import Settings
from skuq._utils._messages import warn
from skuq._utils._random import PrivateGlobals, generator
from skuq.likelihoods import Likelihood

__all__ = ["runs_foreign_code", "warn_if_not_repeatable"]


def runs_foreign_code(
    module: nn.Module, train: Rows, likelihood: Likelihood, settings: Settings
) -> bool:
    """Return whether a step runs code from outside of torch and skuq.

    Layers of torch that draw from the global generators are found when the module is inspected.
    """
    return (
        runs_foreign_forward(module)
        or not comes_from(settings.optimizer, "torch.optim.")
        or not comes_from(type(likelihood), "skuq.")
        or settings.callbacks not in (None, "disable", [])
        or bool(settings.compile or settings.views)
        or not set(settings.train_options) | set(settings.valid_options) <= SlicedBatches.OPTIONS
        or isinstance(train, StreamedRows)
    )


def warn_if_not_repeatable(
    module: nn.Module,
    rows: Rows,
    settings: Settings,
    make_optimizer: Callable[[nn.Module], Any],
) -> None:
    """Warn of code that makes fits with the same `random_state` differ.

    Parameters
    ----------
    module : nn.Module
        The untrained module; only copies of it run.
    rows : Rows
        The training rows.
    settings : Settings
        How networks are trained.
    make_optimizer : callable
        Maps a module to an optimizer of its parameters.
    """
    found = []
    if runs_foreign_forward(module):
        batch = rows.first(min(settings.batch_size, 32)).to(settings.numerics.device)
        if _differs(lambda: _output(module, batch, settings)):
            found.append(f"the forward of {type(module).__name__}")
    if isinstance(rows, StreamedRows) and _differs(lambda: rows[:1]):
        found.append("the Dataset X")
    found += _own_entropy(rows, settings.train_options, "iterator_train")
    if not comes_from(settings.optimizer, "torch.optim."):
        if _differs(lambda: _parameters_after_step(copied(module), make_optimizer)):
            found.append("the optimizer")
    if found:
        warn(
            f"fits with this random_state are not repeatable: {', '.join(found)} gave something "
            "else from the same state of all generators that skuq can seed. Draw from the global "
            "generators of torch, NumPy or random, which are private while a network trains, or "
            "set random_state=None to promise nothing",
            UserWarning,
        )


def _differs(once: Callable[[], Any]) -> bool:
    """Return whether two calls give different tensors from the same global generators."""
    results = []
    for _ in range(2):
        with PrivateGlobals(0):
            results.append(list(_tensors(once())))
    one, other = results
    return len(one) != len(other) or not all(
        a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True)
        for a, b in zip(one, other)
    )


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value.detach().cpu().double()
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)


def _own_entropy(rows: Rows, options: dict[str, Any], prefix: str) -> list[str]:
    """List the options of a DataLoader that make its first batch differ each time."""
    found = []
    for name in ("sampler", "batch_sampler", "collate_fn"):
        if options.get(name) is None:
            continue
        option = {name: options[name]}
        if name != "batch_sampler":
            option["batch_size"] = min(len(rows), 32)
        if _differs(functools.partial(_first_batch, rows, option, prefix)):
            found.append(f"{prefix}__{name}")
    return found


def _output(module: nn.Module, x: Tensor, settings: Settings) -> Tensor:
    with torch.no_grad():
        return call(try_training(module, True), x, settings.numerics)


def _first_batch(rows: Rows, options: dict[str, Any], prefix: str) -> Any:
    return next(iter(loader(rows, options, generator(0), prefix, {})), None)


def _parameters_after_step(module: nn.Module, make_optimizer: Callable[[nn.Module], Any]) -> Any:
    """Return the parameters after one step in which all gradients are 1."""
    optimizer = make_optimizer(module)
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        return []
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    return list(module.parameters())
