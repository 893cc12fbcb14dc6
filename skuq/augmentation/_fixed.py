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

_TRIED = 32  # rows on which a view is looked at


class FixedView:
    """View number `number`, with the seed that fixes it.

    Parameters
    ----------
    view : callable
    number : int >= 1
        0 is the identity.
    seed : int
    row_by_row : bool, default=False
        Whether the view draws random numbers for each row of a batch, or mixes rows: then it is
        given one row at a time, each with the same seed.
    """

    def __init__(self, view: Any, number: int, seed: int, row_by_row: bool = False) -> None:
        self.view = view
        self.number = number
        self.row_by_row = row_by_row
        self._seed = seed

    def __str__(self) -> str:
        return f"view {self.number}, {_name(self.view)},"

    def __call__(self, X: Tensor) -> Tensor:
        """The view of a batch; X itself is never changed."""
        return self._run(self.view, X.split(1) if self.row_by_row else [X])

    def inverse(self, outputs: Tensor) -> Tensor:
        """Outputs of shape (n, n_outputs, ...), back where they belong.

        Raises
        ------
        ValueError
            If the view has no inverse.
        """
        if not hasattr(self.view, "inverse"):
            raise ValueError(
                f"{self} has no inverse, which dense outputs need: they must be moved back to the "
                "pixels that they are about before views are averaged. Give the view a method "
                "inverse(outputs), or leave it out."
            )
        return self._run(self.view.inverse, [outputs])

    def _run(self, function: Callable[..., Any], batches: Any, states: Any = None) -> Tensor:
        """What it gives for all batches, each with the same seed.

        Transforms of other libraries draw from the global generators, which are private meanwhile.
        `states` takes those in which everything that it may draw from is left after each batch.
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
                f"{tuple(viewed.shape)}; a view must keep it (resize what was cropped)"
            )
        if not bool(torch.isfinite(viewed).all()):
            raise ValueError(f"{self} returned NaN or infinity; expected finite values")
        return viewed


def fix(view: Any, number: int, seed: int, X: Tensor) -> FixedView:
    """The view on a seed, once it is known how to apply it, found by trying on a few rows.

    A view that gives a row alone what it gives it in a batch, and draws as many random numbers for
    one row as for several, is applied to batches; any other one row by row. Transforms of kornia
    are first told to draw once for a batch, by their attribute `same_on_batch`.

    Parameters
    ----------
    view : callable
        Used as it is, and changed where it is kornia's: give a copy.
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
    rows = X[torch.arange(_TRIED) % len(X)]
    drawn: list[tuple[Any, ...]] = []
    batch = fixed._run(view, [rows], drawn)
    alone = fixed._run(view, rows.split(1), drawn)
    fixed.row_by_row = drawn[0] != drawn[1] or not agree(
        batch, alone, 1e-12 if batch.dtype == torch.float64 else 1e-6
    )
    if not torch.equal(fixed(rows), alone if fixed.row_by_row else batch):
        raise ValueError(
            f"{fixed} gives something else each time, so predictions would not be repeatable: draw "
            "random numbers from the generator in view(X, generator), or from the global ones of "
            "torch, NumPy or random, which are seeded for each call"
        )
    return fixed


def fitted_copies(views: list[Any], X: Callable[[], Tensor]) -> list[Any]:
    """Copies of the views that have learnt from the rows X() what they want to learn."""
    copies = copy.deepcopy(views)
    return [view.fit(X()) if hasattr(view, "fit") else view for view in copies]


def _generator_argument(function: Any) -> str | None:
    """By which name it takes a generator; "" as the second argument, None not at all.

    Its signature names `generator`, or asks for two arguments; of a module that of `forward`
    counts.
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
    """The states of a generator and of the global ones, to compare."""
    state: Any = np.random.get_state()  # noqa: NPY002
    _, words, *others = state
    tensors = (own.get_state(), torch.get_rng_state())
    states = [t.numpy().tobytes() for t in tensors]
    return (*states, random.getstate(), words.tobytes(), *others)


def _name(view: Any) -> str:
    return getattr(view, "__name__", None) or repr(view).split("\n")[0]
