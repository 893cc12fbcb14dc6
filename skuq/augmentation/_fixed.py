"""Views whose random numbers are fixed: a row's view does not depend on its neighbours."""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skuq._utils._arrays import as_tensor
from skuq._utils._random import PrivateGlobals, generator
from skuq._utils._tensors import agree

__all__ = ["FixedView", "fix", "fitted_copies"]

_N_TRIED = 32  # rows to try a view on


class FixedView:
    """A view with the seed that fixes its random numbers.

    Parameters
    ----------
    view : callable
        The view.
    number : int >= 1
        Its number, for messages; 0 is the identity.
    seed : int
        The seed of each call.
    row_by_row : bool, default=False
        Whether to apply the view to one row at a time, each with the same seed. Views need this if
        they draw random numbers for each row of a batch, or mix rows.
    """

    def __init__(self, view: Any, number: int, seed: int, row_by_row: bool = False) -> None:
        self.view = view
        self.number = number
        self.row_by_row = row_by_row
        self._seed = seed

    def __str__(self) -> str:
        return f"view {self.number}, {_name(self.view)},"

    def __call__(self, X: Tensor) -> Tensor:
        """Apply the view to a batch; X itself never changes."""
        return self._run(self.view, X.split(1) if self.row_by_row else [X])

    def inverse(self, outputs: Tensor) -> Tensor:
        """Move outputs of shape (n, n_outputs, ...) back to their places.

        Raises
        ------
        ValueError
            If the view has no inverse.
        """
        if not hasattr(self.view, "inverse"):
            raise ValueError(
                f"{self} has no inverse. Dense outputs need one, since they must be moved back to "
                "their pixels before views are averaged. Give the view a method inverse(outputs), "
                "or leave it out."
            )
        return self._run(self.view.inverse, outputs.split(1) if self.row_by_row else [outputs])

    def _run(self, function: Callable[..., Any], batches: Any, states: Any = None) -> Tensor:
        """Call a function of the view on all batches, each with the same seed.

        Transforms of other libraries draw from the global generators, which are private meanwhile.
        If `states` is a list, the states of all generators after each batch are appended to it.
        """
        results, takes = [], _generator_argument(function)
        with PrivateGlobals(self._seed) as private, torch.no_grad():
            for X in batches:
                own = generator(self._seed)
                private.restart()
                more = (own,) if takes == "" else ()
                named = {takes: own} if takes else {}
                results.append(self._apply(function, X, *more, **named))
                if states is not None:
                    states.append(_drawn(own))
        return results[0] if len(results) == 1 else torch.cat(results)

    def _apply(self, function: Callable[..., Any], X: Tensor, *more: Any, **named: Any) -> Tensor:
        if isinstance(self.view, nn.Module):
            self.view.to(X.device)
        try:
            result = function(X.clone(), *more, **named)  # a user's function may work in place
        except Exception as error:
            error.add_note(f"(skuq was calling {self} on rows of shape {tuple(X.shape)})")
            raise
        return self._checked(result, X)

    def _checked(self, result: Any, X: Tensor) -> Tensor:
        if not isinstance(result, Tensor | np.ndarray):
            raise ValueError(f"{self} returned {type(result).__name__}; expected a tensor like X")
        viewed = as_tensor(result).to(X)
        if viewed.shape != X.shape:
            raise ValueError(
                f"{self} changed the shape of its input, from {tuple(X.shape)} to "
                f"{tuple(viewed.shape)}; a view must keep it (resize after cropping)"
            )
        if not bool(torch.isfinite(viewed).all()):
            raise ValueError(f"{self} returned NaN or infinity; expected finite values")
        return viewed


def fix(view: Any, number: int, seed: int, X: Tensor) -> FixedView:
    """Fix a view on a seed, and find by trying a few rows whether it takes batches.

    Batches need a view that gives the same for a single row as for that row in a batch, and that
    draws as many random numbers for one row as for several. Any other view gets one row at a time.
    The attribute `same_on_batch` of kornia's transforms is set, so that they draw once for a batch.

    Parameters
    ----------
    view : callable
        The view. kornia's transforms are changed, so give a copy.
    number, seed : as in `FixedView`
    X : Tensor of shape (n_rows, ...), on the CPU

    Raises
    ------
    ValueError
        If it changes the shape, gives NaN, or differs from call to call with the same seed.
    """
    for module in view.modules() if isinstance(view, nn.Module) else ():
        if hasattr(module, "same_on_batch"):
            module.same_on_batch = True  # type: ignore[assignment]
    fixed = FixedView(view, number, seed)
    rows = X[torch.arange(_N_TRIED) % len(X)]
    drawn: list[tuple[Any, ...]] = []
    batch = fixed._run(view, [rows], drawn)
    single_rows = fixed._run(view, rows.split(1), drawn)
    fixed.row_by_row = drawn[0] != drawn[1] or not agree(
        batch, single_rows, 2e-12 if batch.dtype == torch.float64 else 2e-6
    )
    if not torch.equal(fixed(rows), single_rows if fixed.row_by_row else batch):
        raise ValueError(
            f"{fixed} gives another result in each call, so predictions would not repeat: draw "
            "random numbers from the generator in view(X, generator), or from the global ones of "
            "torch, NumPy or random, which are seeded for each call"
        )
    return fixed


def fitted_copies(views: list[Any], X: Callable[[], Tensor]) -> list[Any]:
    """Copy the views, and fit those that have a `fit` to the rows X()."""
    copies = copy.deepcopy(views)
    return [view.fit(X()) if hasattr(view, "fit") else view for view in copies]


def _generator_argument(function: Any) -> str | None:
    """Find how a function takes a generator: by a name, as second argument (""), or not (None).

    It takes one if its signature names `generator`, or has two arguments without a default. For a
    module the signature of `forward` counts.
    """
    target = function.forward if isinstance(function, nn.Module) else function
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return None
    needed = [
        p
        for p in parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    named = parameters.get("generator")
    if named is not None and named.kind is not named.POSITIONAL_ONLY:
        return "generator"
    return "" if named is not None or len(needed) == 2 else None


def _drawn(own: torch.Generator) -> tuple[Any, ...]:
    """Return the states of a generator and of the global ones, to compare them."""
    state: Any = np.random.get_state()  # noqa: NPY002
    _, words, *others = state
    tensors = (own.get_state(), torch.get_rng_state())
    states = [t.numpy().tobytes() for t in tensors]
    return (*states, random.getstate(), words.tobytes(), *others)


def _name(view: Any) -> str:
    return getattr(view, "__name__", None) or repr(view).split("\n")[0]
