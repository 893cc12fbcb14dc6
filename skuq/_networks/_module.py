"""Build, copy and call a user's module."""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from skuq._networks._foreign import is_plain
from skuq._networks._inputs import Layout
from skuq._networks._names import name_of_module
from skuq._networks._precision import check_precision, dtypes_that_change, float_dtype, moved
from skuq._networks._refusals import check_kind, hint_at_channels
from skuq._networks._sequential import share_memory_of_activations
from skuq._utils._devices import first_named, named_devices
from skuq._utils._random import PrivateGlobals
from skuq._utils._tensors import agree, all_agree

__all__ = [
    "Numerics",
    "build",
    "call",
    "noting_input",
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
    """The device and the precision of networks."""

    device: torch.device
    precision: str  # "float32", "float64" or "bfloat16"
    channels_last: bool = False  # whether images lie in memory pixel by pixel

    @classmethod
    def on(cls, device: Any, precision: str) -> Numerics:
        """Take a device by name, or the first of a list. ValueError if there is no such device."""
        return cls(named_devices(first_named(device))[0], precision)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of parameters, inputs and outputs; bfloat16 exists only inside autocast."""
        return torch.float64 if self.precision == "float64" else torch.float32

    @property
    def tolerance(self) -> float:
        """The largest difference allowed between two ways of computing the same outputs."""
        return TOLERANCE[torch.bfloat16 if self.precision == "bfloat16" else self.dtype]

    def autocast(self) -> AbstractContextManager[Any]:
        """Return a context for a forward: bfloat16, or the dtype of the parameters."""
        if self.precision == "bfloat16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return self.without_autocast()

    def without_autocast(self) -> AbstractContextManager[Any]:
        """Return a context that turns off an autocast of the caller."""
        if torch.is_autocast_enabled(self.device.type):
            return torch.autocast(self.device.type, enabled=False)
        return nullcontext()


def call(
    module: Callable[[Tensor], Any], x: Tensor, numerics: Numerics, autocast_is_off: bool = False
) -> Tensor:
    """Compute the outputs of a network as a float tensor of shape (n_rows, n_outputs).

    If a module returns a tuple, the first entry counts; if an object or a dict with `logits`,
    these. Outputs of shape (n_rows,) become one column. The module gets a copy of x, because it may
    work in place. `autocast_is_off` states that the caller is inside of
    `Numerics.without_autocast`, which is slow to enter in each step of a training.
    """
    last = numerics.channels_last and x.ndim == 4
    x = x.clone(memory_format=torch.channels_last) if last else x.clone()
    if autocast_is_off and numerics.precision != "bfloat16":
        output = module(x)
    else:
        with numerics.autocast():
            output = module(x)
    output = _main_output(output)
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


def _main_output(output: Any) -> Any:
    """Return what counts of the outputs of a module."""
    if isinstance(output, Tensor):
        return output
    if hasattr(output, "logits"):
        return output.logits
    if isinstance(output, Mapping) and "logits" in output:
        return output["logits"]
    return output[0] if isinstance(output, tuple | list) else output


def with_best_layout(numerics: Numerics, module: nn.Module, x: Tensor) -> Numerics:
    """Choose channels last if that is faster and gives the same outputs and gradients.

    It is faster for two-dimensional convolutions on a CPU, but not in float64, for which torch has
    only one layout. A module that needs views of memory may not work with it.
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
                # Other effects of training mode are random: it only has to run.
                call(copied(module).train(), x, layout).square().sum().backward()
        except RuntimeError:
            return numerics
        gradients = [p.grad for p in shell.parameters() if p.grad is not None]
        results.append((output, gradients))
    (output, gradients), (other, others) = results
    same = agree(other, output, numerics.tolerance) and all_agree(
        list(zip(others, gradients)), numerics.tolerance
    )
    return proposed if same else numerics


def copied(module: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """Copy a module like ``copy.deepcopy``, in half the time.

    A layer has a dozen empty dictionaries and a set, and an empty one needs no deep copy. This also
    copies tensors that torch refuses to copy: lazy buffers, and tensors with a graph that a forward
    has left as attributes.

    Parameters
    ----------
    module : nn.Module
        The module to copy.
    memo : dict, default=None
        Replacements of objects, by their id.
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
def noting_input(module: nn.Module, x: Tensor) -> Iterator[None]:
    """Add the shape and dtype of the input to an error of a module."""
    try:
        yield
    except Exception as error:
        shape = ", ".join(map(str, ("n_samples", *x.shape[1:])))
        rows = f"rows of X, which has shape ({shape})"
        hint = hint_at_channels(module, x)
        error.add_note(f"(skuq was calling {name_of_module(module)} on {rows}, {x.dtype}.{hint})")
        raise


def accepts(factory: Any, name: str, *, needs: bool = False) -> bool:
    """Return whether `factory` names this parameter in its signature, without a default if `needs`.

    A factory whose signature is not known names none.
    """
    try:
        named = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return False
    return name in named and not (needs and named[name].default is not inspect.Parameter.empty)


def build(
    factory: Any,
    parameters: dict[str, Any],
    n_features: int,
    n_outputs: int,
    n_channels: int | None = None,
    layout: Layout | None = None,
) -> nn.Module:
    """Make a module; pass `n_features` and `n_outputs` if the signature names them.

    `n_channels`, the size of the first axis of an image, is passed only if it has no default there.
    A module of several inputs takes rows of their layout.
    """
    sizes = {"n_features": n_features, "n_outputs": n_outputs, "n_numbers": n_features}
    sizes |= {} if layout is None else dict(layout.sizes)
    given = {name: size for name, size in sizes.items() if accepts(factory, name)}
    if n_channels is not None and accepts(factory, "n_channels", needs=True):
        given["n_channels"] = n_channels
    try:
        module = factory(**{**given, **parameters})
    except StopIteration as error:
        raise ValueError(
            f"module={factory!r} raised StopIteration: it has no further network. It must return a "
            "network in each call, and every fit, also that of a clone, calls it anew. For trained "
            "networks, give skuq.from_trained a list of them"
        ) from error
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
    if layout is not None:
        layout.attach(module)
    return module


class _Touched(TorchDispatchMode):
    """Notices operations on the memory of given tensors."""

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
    """Copy a module of the user, with the device and the precision of `numerics`.

    The copy shares nothing with the original, and its lazy layers have their shapes.

    Parameters
    ----------
    module : nn.Module
        The module to copy.
    x : Tensor of shape (n_rows, ...)
        Some rows.
    numerics : Numerics
        Device and precision of the copy.
    like_others : bool, default=False
        Whether a module of the same factory was tried before. This one is then copied without a
        trial.

    Raises
    ------
    ValueError
        If the forward of the copy uses the original: a closure over ``self`` is not copied. Also if
        this precision changes the outputs of the network.
    """
    check_kind(module)
    name, own = name_of_module(module), copied(module).eval()
    tensors = [*module.parameters(), *module.buffers()]
    given = [t for t in tensors if not is_lazy(t)]
    known = is_plain(module) and not dtypes_that_change(own, numerics.dtype)
    if (like_others or known) and len(given) == len(tensors):
        return moved(own, numerics.device, numerics.dtype)
    rows = x.to(given[0].device if given else x.device, float_dtype(module))
    with torch.no_grad(), _Touched(given) as touched, noting_input(module, rows):
        own(rows.clone())
    if touched.any:
        raise ValueError(
            f"the forward of a copy of {name} uses tensors of the original: a lambda, closure or "
            "hook that refers to `self` is not copied with the module. Write it as a method, or "
            "use the arguments of the hook."
        )
    if dtypes_that_change(own, numerics.dtype):
        with noting_input(module, rows):
            check_precision(copied(own), rows, numerics, TOLERANCE)
    return moved(own, numerics.device, numerics.dtype)


def private_copy(module: nn.Module) -> nn.Module:
    """Copy a module in eval mode; the copy shares the memory of parameters and owns its buffers.

    All predictions run such a copy, so the user's module never changes, and threads and gradients
    cannot meet in it. Layers of torch with a fused path in eval mode do not take it here: it never
    calls their dropout layers, and vmap has no rule for it.
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
    """Return `n_rows` rows of x, repeated if it has fewer."""
    return x[torch.arange(n_rows, device=x.device) % len(x)]
