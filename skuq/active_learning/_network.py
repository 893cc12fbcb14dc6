"""What gradients need of networks: outputs with the length of the last layer's input, gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import functional_call, vjp, vmap

from skuq._engine._engine import Engine
from skuq._estimator._base import TorchEstimator
from skuq._meta import innermost
from skuq._networks._last_layer import last_linear
from skuq._networks._module import call, copied, private_copy
from skuq._utils._arrays import tensor_of

__all__ = ["map_with_lengths", "network_of", "squared_gradients"]

_GRADIENT_BYTES = 64 * 2**20  # of all gradients that are computed together


def network_of(estimator: Any, X: Any, query: str) -> tuple[TorchEstimator, Any]:
    """Return the skuq estimator inside and its rows; refuse one without a network of rows."""
    leaf, rows = innermost(estimator, X)
    if not isinstance(leaf, TorchEstimator):
        raise TypeError(
            f"{query} needs gradients of a network, and {type(leaf).__name__} has none: expected a "
            "skuq estimator, or a Pipeline, search or calibrator around one"
        )
    return leaf, rows


class _InputLength:
    """Hooks that add a last output to a network: ‖(f, 1)‖² of the input f of its last layer."""

    def __init__(self, bias: bool) -> None:
        self.bias = float(bias)
        self._seen: list[Tensor] = []

    def see(self, layer: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        rows = (args[0] if args else named["input"]).flatten(1)
        self._seen[:] = [(rows * rows).sum(1, keepdim=True) + self.bias]

    def add(self, network: nn.Module, args: Any, output: Any) -> Tensor:
        output = output[0] if isinstance(output, tuple | list) else output
        output = output[:, None] if output.ndim == 1 else output
        return torch.cat([output, self._seen.pop().to(output.dtype)], dim=1)


def map_with_lengths(
    leaf: TorchEstimator, rows: Any, reduction: Callable[[Distribution, Tensor], Tensor], query: str
) -> np.ndarray:
    """Reduce predictive distributions and squared lengths of the last layer's input, in one pass.

    Parameters
    ----------
    leaf : TorchEstimator
        The fitted estimator.
    rows : array-like
        Rows, as it takes them.
    reduction : callable
        Maps the distributions of all draws, of batch shape (n_draws, n_rows, ...), and ‖(f, 1)‖²,
        of shape (n_draws, n_rows), to scores of shape (n_rows,).
    query : str
        What needs them, for messages.
    """
    engine = leaf._engine
    network = copied(engine.draws.module)
    try:
        name = last_linear(network, engine._sample, engine.numerics)
    except ValueError as error:
        raise ValueError(
            f"{query} with scope='last' needs a last nn.Linear, but {type(network).__name__} has "
            f"none that can be used: {error}. scope='all' works for any network"
        ) from None
    layer = network.get_submodule(name)
    length = _InputLength(layer.bias is not None)
    layer.register_forward_pre_hook(length.see, with_kwargs=True)
    network.register_forward_hook(length.add)
    draws = copy.copy(engine.draws)
    draws.module = network

    def reduced(outputs: Tensor) -> Tensor:
        return reduction(leaf.likelihood_.predictive(outputs[..., :-1]), outputs[..., -1])

    found: np.ndarray = Engine(draws, engine._sample, engine.numerics).map(
        leaf._check_rows(rows), reduced, verbose=leaf.verbose
    )
    return found


def squared_gradients(leaf: TorchEstimator, rows: Any, directions: np.ndarray) -> np.ndarray:
    """Compute ‖Σ_d r_d ∇F_d(x)‖² over all parameters, for each direction r; a mean over networks.

    F are the log probabilities of a classifier, or the means of a regressor in units of y; for each
    pixel, if the network answers for pixels.

    Parameters
    ----------
    leaf : TorchEstimator
        The fitted estimator, of one label for each row if it is a classifier.
    rows : array-like
        Rows, as it takes them.
    directions : ndarray of shape (n_directions, n_functions), or (n_samples, n_directions, ...)
        The directions r, the same for all rows or not.

    Returns
    -------
    ndarray of shape (n_samples, n_directions)
        Squared lengths.
    """
    engine, X = leaf._engine, leaf._check_rows(rows)
    networks = [private_copy(each) for each in engine.draws.networks(len(leaf.histories_))]
    n_parameters = sum(p.numel() for p in networks[0].parameters())
    shared, device = directions.ndim == 2, engine.numerics.device
    n_directions = directions.shape[0 if shared else 1]
    step = max(1, _GRADIENT_BYTES // (4 * n_parameters * n_directions))
    total = np.zeros((len(X), n_directions))
    for network in networks:
        lengths = _lengths_of(network, leaf)
        for start in range(0, len(X), step):
            chunk = tensor_of(X[start : start + step], engine.numerics.dtype, copy=True)
            some = directions if shared else directions[start : start + step]
            wanted = torch.from_numpy(np.ascontiguousarray(some, dtype=float))
            if shared:
                wanted = wanted.expand(len(chunk), *wanted.shape)
            device = engine.numerics.device
            total[start : start + step] += (
                lengths(chunk.to(device), wanted.to(device)).cpu().numpy()
            )
    return total / len(networks)


def _lengths_of(network: nn.Module, leaf: TorchEstimator) -> Callable[[Tensor, Tensor], Tensor]:
    """Make the function from rows and directions to squared lengths, for one network."""
    parameters = {name: p.detach() for name, p in network.named_parameters()}
    numerics, likelihood = leaf._engine.numerics, leaf.likelihood_
    classifies = leaf._task == "classification"

    def functions(values: dict[str, Tensor], x: Tensor) -> Tensor:
        raw = call(lambda rows: functional_call(network, values, (rows,)), x[None], numerics)
        if raw.ndim > 2:  # places are rows
            raw = raw.flatten(2).mT.flatten(0, 1)
        predictive: Any = likelihood.predictive(raw.double()[None])
        if classifies:
            logits: Tensor = predictive.logits
            return logits.log_softmax(-1).flatten()
        means: Tensor = predictive.mean[0]  # (places, targets); targets come first in directions
        return means.mT.flatten()

    def of_row(x: Tensor, directions: Tensor) -> Tensor:
        pullback: Any = vjp(lambda values: functions(values, x), parameters)[1]

        def squared_length(direction: Tensor) -> Tensor:
            (gradient,) = pullback(direction.flatten())
            parts = [g.double().square().sum() for g in gradient.values()]
            return torch.stack(parts).sum()

        return vmap(squared_length)(directions)

    def lengths(x: Tensor, directions: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            try:
                return vmap(of_row)(x, directions)
            except RuntimeError:  # a layer without a rule for vmap, such as an LSTM
                return torch.stack([of_row(row, r) for row, r in zip(x, directions)])

    return lengths
