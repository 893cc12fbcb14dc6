"""Make the networks of a fit: network k depends only on the seed of the fit and on k."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from skuq._data._batches import Rows
from skuq._networks._inputs import Layout
from skuq._networks._inspection import Inspection, inspect_network
from skuq._networks._module import (
    Numerics,
    build,
    call,
    copied,
    own_copy,
    with_best_layout,
)
from skuq._networks._precision import moved, not_finite
from skuq._networks._refusals import check_trainable
from skuq._networks._trained import TrainedNetwork
from skuq._networks._weights import put_weights
from skuq._training._net import make_optimizer
from skuq._training._repeatable import warn_if_not_repeatable
from skuq._training._settings import Settings, Trained
from skuq._utils._random import PrivateGlobals, Purpose, derive_seed
from skuq.likelihoods import Likelihood

__all__ = ["Builder"]


class Builder:
    """Makes untrained networks, and copies of networks from which training goes on.

    Parameters
    ----------
    factory : callable
        Returns an untrained module.
    parameters : dict
        The arguments of the factory.
    transform : callable
        Maps an untrained module to the one that is trained.
    likelihood : Likelihood
        The fitted likelihood.
    rows : Rows
        The training data.
    settings : Settings
        How networks are trained.
    root : int
        The seed of the fit.
    resume : list of Trained
        The trained networks from which training goes on; the first ones, if there are fewer than
        the fit trains.
    places : tuple of int, default=()
        The places of a row, for each of which the network must answer; see `skuq._data._places`.
    layout : Layout, default=None
        Where the inputs of the network lie in a row, if it takes several.

    Attributes
    ----------
    first : nn.Module
        The first network, untrained: copy it before it is trained.
    sample : Tensor of shape (3, ...)
        Three rows on the device.
    report : Inspection
        The name of the module, its dropout layers, and its other sources of randomness.
    numerics : Numerics
        Device and precision, with the fastest memory layout of images for the module.
    """

    def __init__(
        self,
        factory: Callable[..., nn.Module],
        parameters: dict[str, Any],
        transform: Callable[[nn.Module], nn.Module],
        likelihood: Likelihood,
        rows: Rows,
        settings: Settings,
        root: int,
        resume: list[Trained],
        places: tuple[int, ...] = (),
        layout: Layout | None = None,
    ) -> None:
        self._factory = factory
        self._parameters = parameters
        self._transform = transform
        self._likelihood = likelihood
        self._n_features = rows.row_shape.numel()
        self._n_channels = rows.row_shape[0] if places else None
        self._layout = layout
        self._root = root
        self.resume = resume
        self.numerics = numerics = settings.numerics
        self.sample: Tensor = rows.first(3).to(numerics.device)
        self.first = self._build(0)
        batch_size = min(settings.n_batch_rows, len(rows))
        self.report: Inspection = inspect_network(
            self.first, self.sample, likelihood, numerics, batch_size, places
        )
        if settings.max_epochs:
            step = partial(call, numerics=numerics)
            check_trainable(copied(self.first), self.sample, settings.optimizer, step)
        if settings.repeatable and not resume:
            make = partial(make_optimizer, likelihood=likelihood, settings=settings)
            warn_if_not_repeatable(self.first, rows, settings, make)
        self.numerics = with_best_layout(numerics, self.first, self.sample[:2])

    def network(self, number: int) -> nn.Module:
        """Make a network. The constructor has made the first one, so that is only copied."""
        return copied(self.first) if number == 0 else self._build(number)

    def resumed(self, number: int) -> Trained | None:
        """Return the trained network from which the training of a network goes on, if any."""
        return self.resume[number] if number < len(self.resume) else None

    def on(self, numerics: Numerics) -> Builder:
        """Return a copy of this object that makes networks for another device."""
        there = copy.copy(self)
        there.numerics = numerics
        return there

    def with_weights(self, weights: dict[str, Tensor]) -> nn.Module:
        """Make a network in eval mode with these parameters and buffers."""
        network = copied(self.first)
        put_weights(network, weights)
        return network.eval()

    def trained_elsewhere(self, number: int) -> Trained:
        """Make a network that the factory returns trained; ValueError if it is not finite."""
        module = self.network(number).eval()
        if (name := not_finite(module)) is not None:
            raise ValueError(
                f"'{name}' of {self.report.name} holds NaN or infinity; with max_epochs=0 the "
                "module must have been trained elsewhere"
            )
        return Trained(module, [])

    def _build(self, number: int) -> nn.Module:
        if before := self.resumed(number):
            module = copied(before.module)
        else:
            seed = derive_seed(self._root, Purpose.INITIALISATION, number)
            n_outputs = self._likelihood.n_outputs_
            with PrivateGlobals(seed), torch.no_grad():
                factory = self._factory
                if isinstance(factory, TrainedNetwork):
                    factory = factory.of_network(number)
                sizes = (self._n_features, n_outputs, self._n_channels)
                built = build(factory, self._parameters, *sizes, self._layout)
                own = own_copy(built, self.sample, self.numerics, like_others=number > 0)
                module = self._transform(own)
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"the posterior's transform returned {type(module).__name__}, expected the module"
            )
        return moved(module, self.numerics.device, self.numerics.dtype)
