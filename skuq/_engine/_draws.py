"""Draws: the result of every posterior.

They are one module and, for some of its parameters and buffers, tensors with a first axis of draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from skuq._networks._module import Numerics, copied, private_copy
from skuq._networks._precision import moved
from skuq._utils._saved_names import saved_as
from skuq._utils._tensors import tensors_of

__all__ = ["Draws"]


@saved_as("stack")
class Draws:
    """A stack of function draws of one module.

    Parameters
    ----------
    module : nn.Module
        The trained module, which is never changed or called.
    tensors : mapping of str to Tensor of shape (n_draws, ...), default=None
        Parameters and buffers of the module that differ between draws, by name; None if there are
        none.
    n_draws : int, default=None
        Number of draws. Needed by a subclass that makes its tensors on demand; None takes the
        length of the tensors.
    networks : {"module", "draws"} or mapping of str to Tensor of shape (n_networks, ...), \
            default="module"
        The trained networks behind the draws, from which a warm start and ``partial_fit`` go on:
        the module; each draw (of an ensemble); or the module with these tensors.
    """

    _networks: Any = None  # files of format 1 have none

    def __init__(
        self,
        module: nn.Module,
        tensors: Mapping[str, Tensor] | None = None,
        n_draws: int | None = None,
        networks: str | Mapping[str, Tensor] = "module",
    ) -> None:
        self.module = module
        self._tensors = dict(tensors or {})
        self.n_draws = n_draws or next((len(t) for t in self._tensors.values()), 1)
        self._networks = networks if isinstance(networks, str) else dict(networks)

    def tensors(self, start: int, stop: int) -> dict[str, Tensor]:
        """Return the stacked tensors of draws `start` to `stop`.

        Parameters
        ----------
        start : int
            The first draw.
        stop : int
            One past the last draw.
        """
        return {name: tensor[start:stop] for name, tensor in self._tensors.items()}

    def shell(self) -> nn.Module:
        """Make a private copy of the module that takes the stacked tensors."""
        return private_copy(self.module)

    def networks(self, n_trained: int) -> list[nn.Module]:
        """Copy the trained networks, so that training can go on from them.

        Parameters
        ----------
        n_trained : int
            Number of networks that were trained.
        """
        source = self._networks
        if source is None:
            source = "draws" if 1 < n_trained == self.n_draws else "module"
        if source == "module":
            return [copied(self.module)]
        tensors = self._tensors if source == "draws" else source
        n_networks = len(next(iter(tensors.values())))
        return [self._with({n: t[k] for n, t in tensors.items()}) for k in range(n_networks)]

    def _with(self, tensors: Mapping[str, Tensor]) -> nn.Module:
        network = copied(self.module)
        with torch.no_grad():
            for name, tensor in tensors_of(network).items():
                if name in tensors:
                    tensor.copy_(tensors[name])
        return network

    def check(self, x: Tensor, numerics: Numerics) -> None:
        """Raise a ValueError unless the stack fits the module, before anything is evaluated.

        Parameters
        ----------
        x : Tensor of shape (n_rows, ...)
            Some rows.
        numerics : Numerics
            The device and the precision of the networks.
        """
        own = tensors_of(self.module)
        if not all(type(name) is str for name in self._tensors):
            raise ValueError("the draws are not of tensors by name; expected a dict of tensors")
        for name, tensor in self._tensors.items():
            expected = (self.n_draws, *own[name].shape) if name in own else None
            if expected is None or tuple(tensor.shape) != expected:
                raise ValueError(
                    f"the draws of {name!r} have shape {tuple(tensor.shape)}, expected {expected} "
                    "(None: the module has no such tensor)"
                )

    def to(self, device: torch.device) -> Draws:
        """Move module and tensors to a device, in place.

        Parameters
        ----------
        device : torch.device
            Where to move the module and the tensors.
        """
        moved(self.module, device)
        self._tensors = {name: tensor.to(device) for name, tensor in self._tensors.items()}
        if isinstance(self._networks, dict):
            self._networks = {name: tensor.to(device) for name, tensor in self._networks.items()}
        return self
