"""Maps of uncertainty by MC dropout of other packages, where they are installed.

An adapter maps a network and a number of draws to a function of images (n, channels, height, width)
that returns maps of the total uncertainty first and mean probabilities last. `benchmarks.peers`
makes torchvision importable.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.peers import PACKAGES

Predict = Callable[[np.ndarray], Any]


def torch_uncertainty(network: nn.Module, n_draws: int) -> Predict:
    from torch_uncertainty.methods import mc_dropout

    # In a loop over the draws: its other way repeats the images, and needs more memory.
    wrapped = mc_dropout(copy.deepcopy(network), num_estimators=n_draws, on_batch=False).eval()

    def predict(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        with torch.inference_mode():
            probs = wrapped(torch.as_tensor(X)).unflatten(0, (n_draws, -1)).softmax(2)
            return _entropy(probs.mean(0)), _entropy(probs).mean(0), probs.mean(0).numpy()

    return predict


class _Channels(nn.Dropout):
    """nn.Dropout2d as a subclass of nn.Dropout, the only one that lightning-uq-box switches on."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout2d(x, self.p, self.training)


def lightning_uq_box(network: nn.Module, n_draws: int) -> Predict:
    from lightning_uq_box.uq_methods import MCDropoutSegmentation

    network = copy.deepcopy(network)
    for name, layer in list(network.named_modules()):
        if isinstance(layer, nn.Dropout2d):
            owner, _, own = name.rpartition(".")
            setattr(network.get_submodule(owner), own, _Channels(layer.p))
        elif isinstance(layer, nn.BatchNorm2d):
            layer.train = lambda mode=True, layer=layer: layer  # it would use batch statistics
    method = MCDropoutSegmentation(network, n_draws, nn.CrossEntropyLoss())

    def predict(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = method.predict_step(torch.as_tensor(X))
        return found["pred_uct"].numpy(), found["pred"].numpy()

    return predict


def _entropy(probs: Tensor) -> np.ndarray:
    return torch.special.entr(probs).sum(-3).numpy()


def installed() -> dict[str, Callable[[nn.Module, int], Predict]]:
    """Return the adapters whose package can be imported; print which are left out."""
    found = {}
    for name, adapter in (
        ("torch-uncertainty", torch_uncertainty),
        ("lightning-uq-box", lightning_uq_box),
    ):
        try:
            importlib.import_module(PACKAGES[name])
            found[name] = adapter
        except Exception as error:  # a broken installation raises anything
            print(f"{name} is left out: {error}", flush=True)
    return found
