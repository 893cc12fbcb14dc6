"""Find networks that squash their outputs, although the likelihood squashes them itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softsign
from torch.utils._python_dispatch import TorchDispatchMode

from skuq._networks._names import name_of_module
from skuq._utils._messages import warn
from skuq.likelihoods import Likelihood

__all__ = ["Tracer", "check_endings"]

# Operations that do not change values.
_THROUGH = frozenset(
    "view _unsafe_view reshape squeeze unsqueeze _to_copy clone detach alias select slice expand "
    "transpose permute t split unbind lift_fresh".split()
)
# By torch's name of the operation: its usual name, and the range of its results.
_RANGES = {
    "sigmoid": ("sigmoid", "between 0 and 1"),
    "hardsigmoid": ("hardsigmoid", "between 0 and 1"),
    "_softmax": ("softmax", "between 0 and 1"),
    "log_sigmoid_forward": ("logsigmoid", "below 0"),
    "tanh": ("tanh", "between -1 and 1"),
    "softsign": ("softsign", "between -1 and 1"),
    "hardtanh": ("hardtanh", "in a short range"),
    "clamp": ("clamp", "in a short range"),
    "clamp_min": ("clamp", "at least 0"),
    "relu": ("relu", "at least 0"),
    "relu6": ("relu6", "between 0 and 6"),
    "softplus": ("softplus", "above 0"),
    "exp": ("exp", "above 0"),
    "abs": ("abs", "at least 0"),
    "elu": ("elu", "above -1 or so"),
    "gelu": ("gelu", "above -0.2"),
    "silu": ("silu", "above -0.3"),
    "mish": ("mish", "above -0.4"),
    "hardswish": ("hardswish", "above -0.4"),
}
# Functions that are written out, as 1 / (1 + exp(-x)), and the operations in which they may end.
_WRITTEN_OUT = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "softsign": softsign}
_ARITHMETIC = {"div", "true_divide", "reciprocal", "mul", "add", "sub", "rsub", "pow"}
_TO_ONE = {"sigmoid", "hardsigmoid", "softmax"}
_POSITIVE = {"relu", "relu6", "softplus", "exp", "abs"}
# Endings that no network has on purpose, by the link that the likelihood applies to the output.
_REFUSED = {
    "softmax": _TO_ONE,
    "sigmoid": _TO_ONE | _POSITIVE | {"logsigmoid"},
    "exp": _TO_ONE | {"softplus", "exp"},
    "location": set(),
}
_REASONS = {
    "softmax": "the loss applies softmax itself, so some probabilities are out of reach",
    "sigmoid": "the loss applies sigmoid itself, so some probabilities are out of reach",
    "exp": "the likelihood applies exp itself, to a logarithm, so some sizes are out of reach",
    "location": (
        "targets are standardised inside, to mean 0 and standard deviation 1, so some predictions "
        "are out of reach"
    ),
}
_POSITIVE_TARGETS = (
    " For predictions that stay positive use Poisson() or TransformedTargetRegressor(func=np.log, "
    "inverse_func=np.exp)."
)


class Tracer(TorchDispatchMode):
    """Records which operation made a tensor, and from which tensors."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no types
        # Holding a tensor keeps its id.
        self._made: dict[int, tuple[str, tuple[Any, ...], Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                name = func.overloadpacket.__name__
                name = name if name == "_" else name.rstrip("_")  # in place or not
                self._made[id(tensor)] = name, args, tensor
        return result

    def endings(self, output: Tensor) -> list[str | None]:
        """Return the last operation of each column, by torch's name, if it limits the values."""
        width = output.shape[-1] if output.ndim else 1
        name, args, _ = self._made.get(id(output), ("", (), output))
        if name in _THROUGH and args[0] is not output:
            inner = self.endings(args[0])
            alike = len(inner) == width and name not in ("transpose", "permute", "t")
            return inner if alike else _common_ending(inner, width)
        if name in ("cat", "stack"):
            axis = args[1] if len(args) > 1 else 0
            if axis in (-1, output.ndim - 1):
                columns = [self.endings(part) for part in args[0]]
                if name == "stack":
                    columns = [_common_ending(column, 1) for column in columns]
                return [ending for column in columns for ending in column]
            return [None] * width
        ending = name if _limits(name, args) else self._written_out(name, output)
        return [ending] * width

    def _written_out(self, name: str, output: Tensor) -> str | None:
        """Return the function of an earlier tensor that arithmetic has computed, if it is known."""
        if name not in _ARITHMETIC or not output.is_floating_point():
            return None
        for _, _, before in self._made.values():
            if before is output or before.shape != output.shape or before.dtype != output.dtype:
                continue
            for known, function in _WRITTEN_OUT.items():
                result = function(before)
                is_visible = not torch.allclose(result, before, rtol=0.01, atol=1e-6)
                if is_visible and torch.allclose(result, output, rtol=1e-5, atol=1e-7):
                    return known
        return None


def _common_ending(endings: list[str | None], width: int) -> list[str | None]:
    """Return the common ending of mixed columns for each of them, None if there is none."""
    return [endings[0] if len(set(endings)) == 1 else None] * width


def _limits(name: str, args: tuple[Any, ...]) -> bool:
    """Return whether an operation limits values; a clamp to a wide range only avoids overflow."""
    if name in ("clamp", "clamp_min", "hardtanh"):
        low, high = (*args[1:3], None, None)[:2]
        if name == "hardtanh":
            low, high = (-1 if low is None else low), (1 if high is None else high)
        low = -torch.inf if low is None else float(low)
        return low >= 0 or (low >= -1 and high is not None and float(high) <= 1)
    return name in _RANGES


def check_endings(
    output: Tensor, tracer: Tracer, module: nn.Module, likelihood: Likelihood
) -> None:
    """Refuse outputs that are probabilities already; warn of other squashed outputs.

    Parameters
    ----------
    output : Tensor of shape (n_rows, n_outputs)
    tracer : Tracer
        The tracer that recorded how `output` was made.
    module : nn.Module
        The network that made it.
    likelihood : Likelihood
        The fitted likelihood.
    """
    links, name = likelihood.links(), name_of_module(module)
    if set(links) == {"softmax"}:
        _check_logits(output, module)
    found: dict[tuple[str, str], list[int]] = {}
    for column, (ending, link) in enumerate(zip(tracer.endings(output), links)):
        if ending is not None and link != "free":
            found.setdefault((ending, link), []).append(column)
    for (operation, link), columns in found.items():
        ending, where = _RANGES[operation]
        some = "" if len(columns) == len(links) else f" {_numbers(columns)} of {len(links)}"
        message = (
            f"{name} ends in {ending}: its outputs{some} lie {where}, but {_REASONS[link]}. "
            f"Return what comes before: remove the {ending} from the end of {name}."
            + _name_layer(module, ending)
        )
        if ending in _REFUSED[link]:
            raise ValueError(message)
        if link == "location":
            message += _POSITIVE_TARGETS
        warn(message, UserWarning)


def _numbers(columns: list[int]) -> str:
    return ", ".join(str(column + 1) for column in columns[:5]) + ("…" if columns[5:] else "")


def _name_layer(module: nn.Module, ending: str) -> str:
    """Name the layer, if it is one, and its replacement: a trained network cannot be rebuilt."""
    kind = ending.replace("_", "")
    found = [n for n, m in module.named_modules() if n and type(m).__name__.lower() == kind]
    if len(found) != 1:
        return ""
    parent, _, child = found[0].rpartition(".")
    owner = f"module.get_submodule({parent!r})" if parent else "module"
    return f" It is layer {found[0]!r}: setattr({owner}, {child!r}, torch.nn.Identity())."


def _check_logits(output: Tensor, module: nn.Module) -> None:
    """Refuse outputs whose values are probabilities or their logarithms."""
    name = name_of_module(module)
    p = output.double()
    sums, log_sums = p.sum(1), p.logsumexp(1)
    is_softmax = bool((p >= 0).all()) and _all_near(sums, 1.0)
    is_log_softmax = _all_near(log_sums, 0.0)
    if p.shape[1] > 1 and (is_softmax or is_log_softmax):
        ending = "softmax" if is_softmax else "log_softmax"
        raise ValueError(
            f"{name} ends in {ending}: its outputs are normalised already, and the loss applies "
            f"log_softmax itself, so probabilities would be squashed. Return the logits: remove "
            f"the {ending} from {name}." + _name_layer(module, ending)
        )


def _all_near(values: Tensor, target: float) -> bool:
    return torch.allclose(values, torch.full_like(values, target), rtol=0, atol=1e-4)
