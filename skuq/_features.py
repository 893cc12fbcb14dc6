"""Features of rows: the inputs of the last layer of a trained network."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skuq._engine._draws import Draws
from skuq._engine._engine import Engine
from skuq._estimator._base import TorchEstimator
from skuq._meta import innermost
from skuq._networks._module import call, private_copy
from skuq._utils._messages import suggest
from skuq._utils._tensors import tensors_of
from skuq._utils._typing import MatrixLike

__all__ = ["predict_features"]


def predict_features(estimator: Any, X: MatrixLike, layer: str | None = None) -> np.ndarray:
    """Compute the inputs of the last layer of the network, for each row.

    Dropout is off, so the trained network itself computes them.

    Parameters
    ----------
    estimator : object
        A fitted skuq estimator; or a Pipeline, search, FrozenEstimator, calibrator or test-time
        augmentation around one. The views of an augmentation are not applied.
    X : array-like of shape (n_samples, ...)
        Rows, as the outermost object takes them.
    layer : str, default=None
        Name of the layer whose inputs to return, as in ``module_.named_modules()``. None takes the
        last `torch.nn.Linear`, if nothing but a softmax follows it.

    Returns
    -------
    ndarray of shape (n_samples, n_features), or (n_networks, n_samples, n_features)
        Features of each row; an ensemble has features of each network. Inputs of more dimensions
        are flattened.

    Raises
    ------
    ValueError
        If the network has no such layer or calls it more than once. With ``layer=None``, if the
        network has no linear layer, if the weight of the last one is tied to another layer, or if
        more than a softmax follows it.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> import skuq
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = skuq.TorchClassifier(
    ...     module__hidden_layer_sizes=(16, 8), max_epochs=5, random_state=0
    ... ).fit(X, y)
    >>> skuq.predict_features(classifier, X).shape
    (150, 8)
    """
    leaf, inner = innermost(estimator, X)
    if not isinstance(leaf, TorchEstimator):
        raise TypeError(f"predict_features needs a skuq estimator, got {type(leaf).__name__}")
    check_is_fitted(leaf)
    engine = leaf._engine
    networks = engine.draws.networks(len(leaf.histories_))
    name = _checked_layer(networks[0], layer, engine)
    draws = _stacked([_Features(network, name) for network in networks])
    features = Engine(draws, engine._sample, engine.numerics).map(
        leaf._check_rows(inner), lambda outputs: outputs.movedim(0, 1), verbose=leaf.verbose
    )
    return features[:, 0] if len(networks) == 1 else np.moveaxis(features, 1, 0)


class _Features(nn.Module):
    """A network up to a layer, whose input it returns."""

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__()
        self.network = network
        self._seen: list[Tensor] = []
        network.get_submodule(layer).register_forward_pre_hook(self._see)

    def _see(self, layer: nn.Module, args: tuple[Any, ...]) -> None:
        self._seen.append(args[0])

    def forward(self, x: Tensor) -> Tensor:
        self._seen.clear()
        self.network(x)
        seen = self._seen.pop()
        return seen.flatten(1)


def _stacked(networks: list[_Features]) -> Draws:
    if len(networks) == 1:
        return Draws(networks[0])
    states = [tensors_of(network) for network in networks]
    return Draws(
        networks[0], {name: torch.stack([s[name].detach() for s in states]) for name in states[0]}
    )


def _checked_layer(network: nn.Module, layer: str | None, engine: Engine) -> str:
    """The name of the layer whose input is asked for."""
    names = [name for name, _ in network.named_modules() if name]
    if layer is not None and layer not in names:
        raise ValueError(
            f"layer={layer!r} is not a layer of {type(network).__name__}."
            f"{suggest(layer, names)} It has {', '.join(names)}"
        )
    shell, calls = private_copy(network), Counter[str]()
    last: list[tuple[str, Tensor]] = []

    def called(name: str, output: Any) -> None:
        calls[name] += 1
        last[:] = [(name, output)]

    for name, module in shell.named_modules():
        if name == layer or (layer is None and type(module) is nn.Linear):
            module.register_forward_hook(lambda m, args, out, name=name: called(name, out))
    with torch.no_grad():
        output = call(shell, engine._sample, engine.numerics)
    if layer is None:
        return _last_linear(network, last, calls, output)
    if calls[layer] != 1:
        raise ValueError(
            f"layer={layer!r} is called {calls[layer]} times in a forward, expected once"
        )
    return layer


def _last_linear(
    network: nn.Module, last: list[tuple[str, Tensor]], calls: Counter[str], output: Tensor
) -> str:
    why = "it has no nn.Linear layer"
    if last:
        (name, found) = last[0]
        weight = network.get_submodule(name).weight
        uses = [n for n, p in network.named_parameters(remove_duplicate=False) if p is weight]
        if calls[name] > 1:
            why = f"its last nn.Linear, {name!r}, is called {calls[name]} times in a forward"
        elif len(uses) > 1:
            why = f"the weight of its last nn.Linear, {name!r}, is tied: it is {' and '.join(uses)}"
        elif not _ends_in(found, output):
            why = f"more than a softmax follows its last nn.Linear, {name!r}"
        else:
            return name
    raise ValueError(
        f"{type(network).__name__} has no last linear layer whose input could be the features: "
        f"{why}. Name the layer: layer=..."
    )


def _ends_in(found: Tensor, output: Tensor) -> bool:
    """Whether the output is that of a layer, or its softmax."""
    found = found.to(output.dtype)
    if found.ndim == 1:
        found = found[:, None]
    if found.shape != output.shape:
        return False
    candidates = (found, found.softmax(-1), found.log_softmax(-1))
    return any(torch.allclose(output, one, rtol=1e-5, atol=1e-6) for one in candidates)
