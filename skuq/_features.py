"""Features of rows: the inputs of the last layer of a trained network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skuq._engine._draws import Draws
from skuq._engine._engine import Engine
from skuq._estimator._base import TorchEstimator
from skuq._meta import innermost
from skuq._networks._last_layer import InputOf, last_linear, watch_calls
from skuq._networks._module import private_copy
from skuq._utils._messages import suggest
from skuq._utils._tensors import tensors_of
from skuq._utils._typing import MatrixLike

__all__ = ["last_layers", "map_features", "predict_features"]


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
    >>> skuq.predict_features(classifier, X).shape  # of an ensemble of five networks
    (5, 150, 8)
    """
    features = map_features(estimator, X, lambda outputs: outputs.movedim(0, 1), layer=layer)
    return features[:, 0] if features.shape[1] == 1 else np.moveaxis(features, 1, 0)


def map_features(
    estimator: Any,
    X: Any,
    reduction: Callable[..., Any],
    *aligned: np.ndarray,
    layer: str | None = None,
) -> Any:
    """Reduce features chunk by chunk, so that not all need to be in memory.

    Parameters
    ----------
    estimator, X, layer : as in `predict_features`
        The fitted estimator, its rows, and the layer.
    reduction : callable
        Maps features of shape (n_networks, n_rows, n_features), a float64 tensor, and the same
        rows of each array in `aligned`, to a tensor or tuple of tensors of n_rows rows.
    *aligned : ndarray of shape (n_samples, ...)
        Arrays whose rows belong to those of X.
    """
    leaf, inner = _fitted_leaf(estimator, X)
    engine, networks = leaf._engine, _networks_of(leaf)
    name = _checked_layer(networks[0], layer, engine)
    draws = _stack_networks([InputOf(network, name) for network in networks])
    return Engine(draws, engine._sample, engine.numerics).map(
        leaf._check_rows(inner), reduction, *aligned, verbose=leaf.verbose
    )


def last_layers(estimator: Any, X: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return weight and bias of the last linear layer of each network, whose inputs are features.

    Parameters
    ----------
    estimator, X : as in `predict_features`
        The fitted estimator, and rows, which are not evaluated.

    Returns
    -------
    list of (ndarray of shape (n_outputs, n_features), ndarray of shape (n_outputs,))
        A pair for each network; a layer without bias has zeros.
    """
    leaf, _ = _fitted_leaf(estimator, X)
    networks = _networks_of(leaf)
    name = _checked_layer(networks[0], None, leaf._engine)
    layers: list[Any] = [network.get_submodule(name) for network in networks]
    weights = [layer.weight.detach().cpu().double().numpy() for layer in layers]
    return [
        (w, np.zeros(len(w)) if layer.bias is None else layer.bias.detach().cpu().double().numpy())
        for w, layer in zip(weights, layers)
    ]


def _fitted_leaf(estimator: Any, X: Any) -> tuple[TorchEstimator, Any]:
    leaf, inner = innermost(estimator, X)
    if not isinstance(leaf, TorchEstimator):
        raise TypeError(f"predict_features needs a skuq estimator, got {type(leaf).__name__}")
    check_is_fitted(leaf)
    return leaf, inner


def _networks_of(leaf: TorchEstimator) -> list[nn.Module]:
    return leaf._engine.draws.networks(len(leaf.histories_))


def _stack_networks(networks: list[InputOf]) -> Draws:
    if len(networks) == 1:
        return Draws(networks[0])
    states = [tensors_of(network) for network in networks]
    return Draws(
        networks[0], {name: torch.stack([s[name].detach() for s in states]) for name in states[0]}
    )


def _checked_layer(network: nn.Module, layer: str | None, engine: Engine) -> str:
    """Return the name of the layer; refuse layers whose input is not unique."""
    if layer is None:
        try:
            return last_linear(network, engine._sample, engine.numerics)
        except ValueError as error:
            raise ValueError(
                f"{type(network).__name__} has no last linear layer whose input could be the "
                f"features: {error}. Name the layer: layer=..."
            ) from None
    names = [name for name, _ in network.named_modules() if name]
    if layer not in names:
        raise ValueError(
            f"layer={layer!r} is not a layer of {type(network).__name__}."
            f"{suggest(layer, names)} It has {', '.join(names)}"
        )
    calls, *_ = watch_calls(private_copy(network), [layer], engine._sample, engine.numerics)
    if calls[layer] != 1:
        raise ValueError(
            f"layer={layer!r} is called {calls[layer]} times in a forward, expected once"
        )
    return layer
