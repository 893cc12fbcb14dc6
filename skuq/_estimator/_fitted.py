"""A fitted estimator apart from its predictions: draws, module and pickling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skuq._engine._engine import Engine
from skuq._networks._module import Numerics
from skuq._networks._summary import NetworkSummary, summarise
from skuq._utils._arrays import as_tensor
from skuq._utils._messages import warn

__all__ = ["Fitted"]


class Fitted(BaseEstimator):
    """Mixin for estimators that have an ``_engine`` once they are fitted."""

    _engine: Engine
    _check_rows: Callable[[Any], Any]
    device: Any
    precision: str

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_engine")

    def draws(self, x: Tensor | Any) -> Tensor:
        """Evaluate the fitted draws on torch tensors, differentiable in x.

        Parameters
        ----------
        x : Tensor of shape (n_rows, ...), or several inputs in any form that `predict` takes
            Rows as in `fit`; they are moved to the device and the dtype of the networks.

        Returns
        -------
        Tensor of shape (n_draws, n_rows, n_outputs)
            Raw network outputs: logits of a classifier; for a regressor, parameters of the
            likelihood in the units of standardised targets.
        """
        check_is_fitted(self)
        numerics = self._engine.numerics
        if not isinstance(x, Tensor):
            x = as_tensor(self._check_rows(x))
        return self._engine(x.to(numerics.device, numerics.dtype))

    @property
    def module_(self) -> nn.Module:
        """The trained module (of the first network); predictions never call it."""
        check_is_fitted(self)
        return self._engine.draws.module

    @property
    def network_(self) -> NetworkSummary:
        """A summary of the network: outputs, last layer, dropout; ``print`` shows it in a line."""
        check_is_fitted(self)
        engine = self._engine
        return summarise(engine.draws.module, engine._sample, engine.numerics)

    # -- pickling --------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        made_by = getattr(state.get("_built"), "factory", None)
        if "<" in getattr(
            made_by, "__qualname__", ""
        ):  # lambdas and inner functions cannot be pickled
            state = {name: value for name, value in state.items() if name != "_built"}
        if "_engine" in state and state["_engine"].numerics.device.type != "cpu":
            # Optimizers and generators are not pickled; partial_fit begins new ones.
            state = {**state, "_states": []}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if not hasattr(self, "_engine"):
            return
        try:
            device = Numerics.on(self.device, self.precision).device
        except ValueError as error:
            device = torch.device("cpu")
            warn(f"{error} Predicting on the CPU.", UserWarning)
        self._engine.to(device)
        self.device_ = str(device)
