"""Parts of `from_trained`: copies of the networks that it gets, and what they return."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skuq._networks._inputs import Layout
from skuq._networks._last_layer import last_linear
from skuq._networks._module import (
    Numerics,
    accepts,
    build,
    call,
    copied,
    noting_input,
    own_copy,
)
from skuq._networks._precision import float_dtype
from skuq._networks._trained import TrainedNetwork
from skuq._utils._random import PrivateGlobals, Purpose, derive_seed, root_seed
from skuq._utils._tensors import agree, tensors_of

__all__ = ["FirstBuilt", "copy_factory", "refuse_random_weights", "with_inputs"]


def copy_factory(
    modules: Sequence[nn.Module], rows: Tensor, numerics: Numerics, order: np.ndarray | None = None
) -> tuple[TrainedNetwork, int | None]:
    """Make a factory of copies of trained modules; also return their number of outputs, if usual.

    The copies keep the precision of the modules; the estimator may change it later.

    Parameters
    ----------
    modules : sequence of nn.Module
        The trained modules; with several, they must have the same layers.
    rows : Tensor of shape (3, ...)
        Some rows.
    numerics : Numerics
        Where the estimator evaluates networks.
    order : ndarray of shape (n_outputs,), default=None
        The numbers of the present outputs, in the order that they shall have.
    """
    is_double = any(float_dtype(module) == torch.float64 for module in modules)
    own = Numerics(numerics.device, "float64" if is_double else "float32")
    networks = [_taken(module, rows, own) for module in modules]
    rows = rows.to(own.dtype)
    if order is not None:
        for network in networks:
            _reorder(network, order, rows, own)
    outputs = [_outputs(network, rows, own) for network in networks]
    first, *others = networks
    tensors = [{n: t.detach() for n, t in tensors_of(other).items()} for other in others]
    factory = TrainedNetwork(first, tensors)
    for number in range(1, len(networks)):
        _check_alike(factory, number, outputs[number], rows, own)
    # Outputs of rows, or of the pixels of images; fit raises the error of all others.
    is_usual = isinstance(outputs[0], Tensor) and outputs[0].ndim in (2, 4)
    return factory, outputs[0].shape[1] if is_usual else None


def with_inputs(module: nn.Module, layout: Layout | None) -> nn.Module:
    """Return a module, or a copy that takes rows of several inputs."""
    if layout is None:
        return module
    own = copied(module)
    layout.attach(own)
    return own


def _taken(module: nn.Module, rows: Tensor, numerics: Numerics) -> nn.Module:
    """Copy a module; if it cannot take rows of X, say so."""
    try:
        with PrivateGlobals(0), torch.no_grad():
            own, tried = own_copy(module, rows, numerics), rows.to(numerics.dtype)
            with noting_input(own, tried):
                call(own, tried, numerics)
            return own
    except Exception as error:
        if not any("skuq was calling" in note for note in getattr(error, "__notes__", ())):
            raise
        shape = ", ".join(map(str, ("n_samples", *rows.shape[1:])))
        raise ValueError(
            f"{type(module).__name__} cannot take rows of X, which has shape ({shape}). It said: "
            f"{type(error).__name__}: {error}. Give X with the shape and scale of the rows that "
            "trained the network, for instance by X.reshape(len(X), ...)"
        ) from error


def _outputs(network: nn.Module, rows: Tensor, numerics: Numerics) -> Tensor:
    with PrivateGlobals(0), torch.no_grad():
        return call(network, rows, numerics)


def _check_alike(
    factory: TrainedNetwork, number: int, expected: Tensor, rows: Tensor, numerics: Numerics
) -> None:
    """Refuse networks that differ in more than parameters and buffers."""
    try:
        output = _outputs(factory(number=number), rows, numerics)
    except ValueError as error:
        raise ValueError(
            f"networks 0 and {number} of module have different layers, but the members of an "
            f"ensemble must be networks of one kind: {error}"
        ) from error
    if not agree(output, expected, numerics.tolerance):
        raise ValueError(
            f"networks 0 and {number} of module differ in more than parameters and buffers, for "
            "instance in their activations: the members of an ensemble must be networks of one kind"
        )


@torch.no_grad()
def _reorder(network: nn.Module, order: np.ndarray, rows: Tensor, numerics: Numerics) -> None:
    """Change the order of outputs, in the last linear layer of a network that is skuq's own."""
    unsorted = "classes is not sorted, so the last nn.Linear of a copy must change its order: "
    try:
        with PrivateGlobals(0):
            layer = network.get_submodule(last_linear(network, rows, numerics, exactly=True))
    except ValueError as error:
        raise ValueError(
            f"{unsorted}{type(network).__name__} is unsuitable, since {error}. Return outputs in "
            "the order of the sorted labels, or rename the labels, for instance to numbers of "
            "outputs"
        ) from error
    parameters = list(layer.parameters(recurse=False))
    if len(parameters[0]) != len(order):
        raise ValueError(
            f"{unsorted}it has {len(parameters[0])} outputs, and classes has {len(order)} labels"
        )
    index = torch.as_tensor(order, device=parameters[0].device)
    for parameter in parameters:
        parameter.copy_(parameter[index])


class FirstBuilt:
    """A builder that first returns a network that it has built before, then further ones.

    Parameters
    ----------
    factory : callable
        The user's class or function.
    parameters : dict
        Its arguments.
    rows : Tensor of shape (3, ...)
        Some rows.
    random_state : int, RandomState instance or None
        That of the estimator: an integer gives the first network of its fit.
    layout : Layout, default=None
        Where several inputs lie in a row.
    """

    def __init__(
        self,
        factory: Callable[..., Any],
        parameters: dict[str, Any],
        rows: Tensor,
        random_state: Any,
        layout: Layout | None = None,
    ) -> None:
        functools.update_wrapper(self, factory, updated=())
        self._factory = factory
        is_number = isinstance(random_state, int | np.integer)
        root = root_seed(random_state) if is_number else 0
        with PrivateGlobals(derive_seed(root, Purpose.INITIALISATION, 0)), torch.no_grad():
            self._first: Any = build(factory, parameters, rows[0].numel(), 0, None, layout)

    @staticmethod
    def suits(factory: Callable[..., Any]) -> bool:
        """Return whether a network can be built before its number of outputs is known."""
        return not accepts(factory, "n_outputs")

    def n_outputs(self, rows: Tensor, numerics: Numerics) -> int | None:
        """Return the number of outputs of the network, if it is usual."""
        return copy_factory([self._first], rows, numerics)[1]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        first, self._first = self._first, None
        return self._factory(*args, **kwargs) if first is None else first


def refuse_random_weights(kind: type, rows: Tensor) -> None:
    """Refuse a class whose weights depend on the generator: these are not trained."""
    weights = []
    for seed in (0, 1):
        with PrivateGlobals(seed), torch.no_grad():
            try:
                built = build(kind, {}, rows[0].numel(), 2)
            except TypeError:  # fit raises the error
                return
        known = (t for t in tensors_of(built).values() if not nn.parameter.is_lazy(t))
        weights.append([tensor.detach() for tensor in known])
    one, other = weights
    if len(one) != len(other) or not all(map(torch.equal, one, other)):
        raise ValueError(
            f"{kind.__name__} is a class that draws its weights at random: it is not trained. Give "
            "the instance that you have trained, or a function that loads the weights"
        )
