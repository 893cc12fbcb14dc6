"""A user's module: building it, copying it, calling it."""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from skuq._networks._precision import check_precision, dtypes_that_change, float_dtype, moved
from skuq._networks._refusals import check_kind, hint_at_channels
from skuq._networks._sequential import share_memory_of_activations
from skuq._utils._devices import first_named, named_devices
from skuq._utils._random import PrivateGlobals
from skuq._utils._tensors import agree

__all__ = [
    "Numerics",
    "build",
    "call",
    "explained",
    "first_rows",
    "own_copy",
    "private_copy",
    "sharing_copy",
    "with_best_layout",
]

TOLERANCE = {
    torch.float64: 1e-10,
    torch.float32: 1e-4,
    torch.float16: 1e-2,
    torch.bfloat16: 5e-2,
}


@dataclass(frozen=True)
class Numerics:
    """In which precision and on which device networks run."""

    device: torch.device
    precision: str  # "float32", "float64" or "bfloat16"
    channels_last: bool = False  # whether images lie in memory pixel by pixel

    @classmethod
    def on(cls, device: Any, precision: str) -> Numerics:
        """For a device by name, of a list the first. ValueError if it is not here."""
        return cls(named_devices(first_named(device))[0], precision)

    @property
    def dtype(self) -> torch.dtype:
        """Of parameters, inputs and outputs; bfloat16 lives inside autocast alone."""
        return torch.float64 if self.precision == "float64" else torch.float32

    @property
    def tolerance(self) -> float:
        """How far two ways of computing the same outputs may lie apart."""
        return TOLERANCE[torch.bfloat16 if self.precision == "bfloat16" else self.dtype]

    def autocast(self) -> AbstractContextManager[Any]:
        """For a forward: bfloat16, or the dtype of the parameters."""
        if self.precision == "bfloat16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return self.without_autocast()

    def without_autocast(self) -> AbstractContextManager[Any]:
        """Shields from an autocast that the caller may be in."""
        if torch.is_autocast_enabled(self.device.type):
            return torch.autocast(self.device.type, enabled=False)
        return nullcontext()


def call(
    module: Callable[[Tensor], Any], x: Tensor, numerics: Numerics, autocast_is_off: bool = False
) -> Tensor:
    """The outputs of a network as a float tensor of shape (n_rows, n_outputs).

    Of a tuple the first entry counts; outputs of shape (n_rows,) become one column. The module
    gets a copy of x: it may work in place. `autocast_is_off` says that the caller is inside of
    `Numerics.without_autocast`: to ask for it in each step of a training takes long.
    """
    last = numerics.channels_last and x.ndim == 4
    x = x.clone(memory_format=torch.channels_last) if last else x.clone()
    if autocast_is_off and numerics.precision != "bfloat16":
        output = module(x)
    else:
        with numerics.autocast():
            output = module(x)
    if isinstance(output, tuple | list):
        output = output[0]
    if isinstance(output, Tensor) and output.ndim == 1:
        output = output[:, None]
    if isinstance(output, Tensor) and output.is_complex():
        raise ValueError(
            "the module returned complex outputs; expected real ones: return their abs(), or "
            "torch.view_as_real(outputs).flatten(1)"
        )
    if isinstance(output, Tensor) and output.dtype is not numerics.dtype:
        output = output.to(numerics.dtype)
    outputs: Tensor = output
    return outputs


def with_best_layout(numerics: Numerics, module: nn.Module, x: Tensor) -> Numerics:
    """The same, channels last where that is faster and gives the same outputs and gradients.

    It is faster for two-dimensional convolutions on a CPU, but not in float64, which they
    know in one layout alone. A module that asks for views of memory may not take it.
    """
    fast = numerics.device.type == "cpu" and numerics.precision != "float64"
    if not (fast and x.ndim == 4 and any(type(m) is nn.Conv2d for m in module.modules())):
        return numerics
    proposed = replace(numerics, channels_last=True)
    results = []
    for layout in (numerics, proposed):
        shell = copied(module).eval()
        try:
            with torch.enable_grad(), PrivateGlobals(0):
                output = call(shell, x, layout)
                output.square().sum().backward()
                # What training does besides is random: it only has to run.
                call(copied(module).train(), x, layout).square().sum().backward()
        except RuntimeError:
            return numerics
        gradients = [p.grad for p in shell.parameters() if p.grad is not None]
        results.append([output, *gradients])
    for one, other in zip(*results):
        if not agree(other, one, numerics.tolerance):
            return numerics
    return proposed


def copied(module: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """``copy.deepcopy`` in half the time: a layer has a dozen empty dictionaries and a set, and the
    copy of an empty one is known without a detour. It also copies what torch refuses to: lazy
    buffers, and tensors that a forward has left behind with their graph.

    Parameters
    ----------
    module : nn.Module
    memo : dict, default=None
        What takes the place of which object, by its id.
    """
    memo, lazy_buffer = dict(memo or {}), cast("Any", UninitializedBuffer)
    for layer in module.modules():
        for value in vars(layer).values():
            if type(value) in (dict, OrderedDict, set) and not value:
                memo[id(value)] = type(value)()
            elif isinstance(value, Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach().clone()
        for buffer in layer._buffers.values():
            if isinstance(buffer, UninitializedBuffer) and id(buffer) not in memo:
                memo[id(buffer)] = lazy_buffer(device=buffer.device, dtype=buffer.dtype)
    return copy.deepcopy(module, memo)


@contextmanager
def explained(module: nn.Module, x: Tensor) -> Iterator[None]:
    """Adds to an error of a module what it was called on."""
    try:
        yield
    except Exception as error:
        shape = ", ".join(map(str, ("n_samples", *x.shape[1:])))
        rows = f"rows of X, which has shape ({shape})"
        hint = hint_at_channels(module, x)
        error.add_note(f"(skuq was calling {type(module).__name__} on {rows}, {x.dtype}.{hint})")
        raise


def accepts(factory: Any, name: str) -> bool:
    """Whether `factory` names this parameter in its signature."""
    try:
        return name in inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return False


def build(factory: Any, parameters: dict[str, Any], n_features: int, n_outputs: int) -> nn.Module:
    """Make a module; `n_features` and `n_outputs` are passed where its signature names them."""
    sizes = {"n_features": n_features, "n_outputs": n_outputs}
    given = {name: size for name, size in sizes.items() if accepts(factory, name)}
    try:
        module = factory(**{**given, **parameters})
    except TypeError as error:
        error.add_note(
            "(skuq fills in n_features and n_outputs where the signature of the module names "
            f"them, here {sorted(given)}; give its other arguments as module__*)"
        )
        raise
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"module={factory!r} returned {type(module).__name__}; expected a torch.nn.Module"
        )
    return module


class _Touched(TorchDispatchMode):
    """Notices operations on tensors that lie in given places in memory."""

    def __init__(self, tensors: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no types
        known = [t for t in tensors if t.layout is torch.strided and t.numel()]
        self._places = {t.untyped_storage().data_ptr() for t in known}
        self.any = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in tree_iter((args, kwargs)):
            if isinstance(tensor, Tensor) and tensor.layout is torch.strided:
                self.any |= tensor.untyped_storage().data_ptr() in self._places
        return func(*args, **(kwargs or {}))


def own_copy(
    module: nn.Module, x: Tensor, numerics: Numerics, *, like_others: bool = False
) -> nn.Module:
    """A copy that shares nothing with a module that a user may hold, lazy layers in shape, on the
    device and in the precision of `numerics`.

    Parameters
    ----------
    module : nn.Module
    x : Tensor of shape (n_rows, ...)
    numerics : Numerics
    like_others : bool, default=False
        Whether a module of the same making was tried before: this one is only copied then.

    Raises
    ------
    ValueError
        If the forward of the copy uses the original: a closure over ``self`` is not copied. Or if
        the network gives other outputs in this precision than in that which it comes in.
    """
    check_kind(module)
    name, own = type(module).__name__, copied(module).eval()
    tensors = [*module.parameters(), *module.buffers()]
    given = [t for t in tensors if not is_lazy(t)]
    if like_others and len(given) == len(tensors):
        return moved(own, numerics.device, numerics.dtype)
    rows = x.to(given[0].device if given else x.device, float_dtype(module))
    with torch.no_grad(), _Touched(given) as touched, explained(module, rows):
        own(rows.clone())
    if touched.any:
        raise ValueError(
            f"the forward of a copy of {name} uses tensors of the original: a lambda, closure or "
            "hook that refers to `self` is not copied with the module. Write it as a method, or "
            "use the arguments of the hook."
        )
    if dtypes_that_change(own, numerics.dtype):
        with explained(module, rows):
            check_precision(copied(own), rows, numerics, TOLERANCE)
    return moved(own, numerics.device, numerics.dtype)


def private_copy(module: nn.Module) -> nn.Module:
    """A copy in eval mode that shares the memory of parameters and owns its buffers.

    Whatever runs a network for a prediction runs such a copy: the user's module is never touched,
    and neither threads nor gradients can meet in it. Layers of torch that take a fused path in
    eval mode do not: it never calls their dropout layers, and vmap does not know it.
    """
    shell = sharing_copy(module).eval()
    share_memory_of_activations(shell)
    for layer in shell.modules():
        if isinstance(layer, nn.TransformerEncoderLayer):
            layer.activation_relu_or_gelu = 0
        elif isinstance(layer, nn.TransformerEncoder):
            layer.use_nested_tensor = False
        elif isinstance(layer, nn.MultiheadAttention):
            layer.training, layer.dropout = True, 0.0
    return shell


def sharing_copy(module: nn.Module) -> nn.Module:
    shared = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in module.parameters()}
    return copied(module, shared)


def first_rows(x: Tensor, n_rows: int) -> Tensor:
    """`n_rows` rows of x, repeated where it has fewer."""
    return x[torch.arange(n_rows, device=x.device) % len(x)]
