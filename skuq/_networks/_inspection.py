"""Inspect a user's module on a few rows, before it is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from skuq._networks._dropout import Recorder, drive, dropout_layers
from skuq._networks._endings import Tracer, check_endings
from skuq._networks._foreign import is_plain, runs_foreign_forward
from skuq._networks._inserted import inserted_dropout
from skuq._networks._layer_calls import linear_layers, watch_layers
from skuq._networks._module import (
    Numerics,
    call,
    first_rows,
    noting_input,
    private_copy,
    sharing_copy,
)
from skuq._networks._names import name_of_module
from skuq._utils._memory import is_out_of_memory
from skuq._utils._random import PrivateGlobals
from skuq._utils._tensors import agree
from skuq.likelihoods import Likelihood

__all__ = ["Inspection", "inspect_network", "kinds_of_outputs", "other_noise", "try_training"]

_TRIED_ROWS = 32


@dataclass(frozen=True)
class Inspection:
    """The findings of `inspect_network`."""

    name: str  # name of the module's class
    dropout_layers: tuple[str, ...]  # nn.Dropout* layers with p > 0
    idle_dropout_layers: tuple[str, ...]  # those with p = 0
    other_noise: tuple[str, ...]  # places that draw random numbers outside of nn.Dropout*
    linear_calls: tuple[str, ...]  # nn.Linear layers, in the order in which a forward calls them
    inserted_dropout: dict[str, float]  # rates of the dropout that skuq put before layers, by name


def inspect_network(
    module: nn.Module,
    x: Tensor,
    likelihood: Likelihood,
    numerics: Numerics,
    batch_size: int = 3,
    places: tuple[int, ...] = (),
) -> Inspection:
    """Check on three rows that a module can train and predict; report where it is random.

    A user's forward may be random only in larger batches: so it also runs on 32 rows, or
    `batch_size` rows if that is less. With `places`, it must answer for each place of a row.

    Raises
    ------
    ValueError
        If its outputs do not have the shape that the likelihood needs, are probabilities already,
        are NaN, depend on the other rows of a batch, or are random in eval mode.

    Warns
    -----
    UserWarning
        If its last operation limits outputs to a range smaller than the likelihood needs.
    """
    name, draws_nothing = name_of_module(module), is_plain(module)
    rows = first_rows(x, 3)
    with torch.no_grad():
        with (
            nullcontext() if draws_nothing else PrivateGlobals(0),
            noting_input(module, rows),
            watch_layers(linear_layers(module)) as linear,
            Tracer() as tracer,
        ):
            output = call(module.eval(), rows, numerics)
            _check_shape(output, name, likelihood, places)
        if bool(output.isnan().any()):
            raise ValueError(
                f"{name} returns NaN for finite rows before it is trained: look for NaN in its "
                "weights, and for logarithms, roots and divisions in its forward"
            )
        check_endings(output, tracer, module, likelihood)
        shell = private_copy(module)
        with nullcontext() if draws_nothing else PrivateGlobals(1):
            again = output if draws_nothing else call(shell, rows, numerics)
            alone = call(shell, rows[:2], numerics)
    kinds = kinds_of_outputs(likelihood)
    if again is not output and not agree(again, output, numerics.tolerance, kinds):
        raise ValueError(
            f"{name} gives other outputs for the same rows each time in eval mode: its forward "
            "draws random numbers. Draw them only `if self.training`, or use nn.Dropout layers."
        )
    if not agree(alone, output[:2], numerics.tolerance, kinds):
        raise ValueError(
            f"the outputs of {name} for a row change with the other rows of its batch (a "
            "normalisation over the batch, or a batch axis that is not the first?); rows must be "
            "independent in eval mode. Set track_running_stats=True or batch_first=True."
        )
    layers = dropout_layers(module)
    dropout = tuple(name for name, layer in layers.items() if layer.p > 0)
    idle = tuple(name for name in layers if name not in dropout)
    return Inspection(
        name=name,
        dropout_layers=dropout,
        idle_dropout_layers=idle,
        other_noise=() if draws_nothing else _noise_of_batches(module, x, numerics, batch_size),
        linear_calls=tuple(linear.names),
        inserted_dropout=inserted_dropout(module),
    )


def kinds_of_outputs(likelihood: Likelihood) -> list[tuple[str, float]]:
    """Give the outputs kinds, by their link and their unit, for comparisons of outputs."""
    return list(zip(likelihood.links(), map(float, likelihood.output_units())))


def _check_shape(output: Any, name: str, likelihood: Likelihood, places: tuple[int, ...]) -> None:
    expected = (3, likelihood.n_outputs_, *places)
    if not isinstance(output, Tensor):
        raise ValueError(
            f"{name} returned {type(output).__name__}; expected a tensor of shape (n_rows, "
            f"{', '.join(map(str, expected[1:]))}) or a tuple that begins with it"
        )
    if places and tuple(output.shape[:2]) == expected[:2]:
        _check_places(tuple(output.shape[2:]), name, places)
    if tuple(output.shape) != expected:
        raise ValueError(
            f"{name} returned shape {tuple(output.shape)} for 3 rows, expected {expected}: "
            f"{likelihood.explain_outputs()}. Give its last layer {likelihood.n_outputs_} outputs "
            "(a module whose signature names n_outputs is given this number)."
        )


def _check_places(got: tuple[int, ...], name: str, places: tuple[int, ...]) -> None:
    if got != places:
        raise ValueError(
            f"{name} returned outputs of height and width {got} for images of {places}: expected "
            "one output for each pixel. Pad its convolutions (padding='same'), or enlarge its last "
            "outputs with torch.nn.functional.interpolate"
        )


class _SeededOps(TorchDispatchMode):
    """Records which layers call operations that draw from a generator."""

    def __init__(self, path: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no types
        self._path = path
        self.found: dict[tuple[str, str], None] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags:
            named = {a.name: a.default_value for a in func._schema.arguments}
            named |= dict(zip(named, args)) | kwargs
            # Attention that drops nothing draws nothing; nor does RReLU in eval mode.
            if named.get("dropout_p", 1) != 0 and named.get("training", True) is not False:
                self.found[self._path[-1], func.name()] = None
        return func(*args, **kwargs)


@contextmanager
def _module_path(module: nn.Module) -> Iterator[list[str]]:
    path = ["(outside)"]

    hooks = []
    for name, layer in module.named_modules():
        kind = type(layer).__name__
        label = f"{name} ({kind})" if name else f"{kind}.forward"
        hooks.append(
            layer.register_forward_pre_hook(lambda layer, args, label=label: path.append(label))
        )
        hooks.append(layer.register_forward_hook(lambda *_: path.pop() and None))
    yield path
    for hook in hooks:
        hook.remove()


def _noise_of_batches(
    module: nn.Module, x: Tensor, numerics: Numerics, batch_size: int
) -> tuple[str, ...]:
    if runs_foreign_forward(module):
        try:
            batch = first_rows(x, min(batch_size, _TRIED_ROWS))
            return other_noise(module, batch, numerics)
        except (RuntimeError, MemoryError) as error:  # training itself names the fix
            if not is_out_of_memory(error):
                raise
    return other_noise(module, first_rows(x, 3), numerics)


def try_training(module: nn.Module, training: bool) -> nn.Module:
    """Copy a module for a trial without dropout; normalisations are always in eval mode."""
    shell = sharing_copy(module)
    drive(shell, Recorder())
    for layer in shell.modules():
        is_norm = isinstance(layer, nn.modules.batchnorm._NormBase)
        layer.training = training and not is_norm
    return shell


def other_noise(module: nn.Module, x: Tensor, numerics: Numerics) -> tuple[str, ...]:
    """Find where the forward in training mode draws random numbers outside of nn.Dropout*."""
    in_training = _draws(module, x, numerics, training=True)
    if not in_training:
        return ()
    in_eval = _draws(module, x, numerics, training=False)
    return tuple(dict.fromkeys(where for where, op in in_training if (where, op) not in in_eval))


def _draws(
    module: nn.Module, x: Tensor, numerics: Numerics, training: bool
) -> dict[tuple[str, str], None]:
    """List the places and operations that draw random numbers in one forward, in order."""
    shell = try_training(module, training)
    with _module_path(shell) as path, _SeededOps(path) as ops, PrivateGlobals(2) as private:
        with torch.no_grad():
            call(shell, x, numerics)
        unseen = private.drawn() if runs_foreign_forward(module) else ()
    found: dict[tuple[str, str], None] = ops.found
    for source in unseen if not found else set(unseen) - {"torch"}:
        found[f"{name_of_module(module)}.forward (from {source})", source] = None
    return found
