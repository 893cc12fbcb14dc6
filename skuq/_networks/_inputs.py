"""Several inputs in one row of numbers, and how a module gets them back.

All of skuq handles rows as one array of floats: it slices them, hashes them, moves them to a
device and stores three of them in files. Several inputs (token ids and a mask, a table and an
image, numbers and categories) become such rows, too, and a `Layout` says where each of them lies. A
hook before the forward of the user's module takes a row apart and calls the module with its own
arguments, so the names of its parameters stay as they are.

A row first has the inputs of one size, then, position after position, those whose length may
differ between batches: a batch of longer sequences has wider rows, one of shorter ones a prefix.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from skuq._networks._names import name_of_module
from skuq._utils._messages import suggest

__all__ = [
    "MASKS",
    "Layout",
    "Part",
    "Unpacking",
    "layout_of",
    "reads_whole_rows",
    "without_padding",
]

MASKS = ("attention_mask", "mask")  # names of the argument that gets the mask of ragged sequences
_LENGTH = "length of the row"  # no name of an argument


class Part(NamedTuple):
    """One input of a module.

    Parameters
    ----------
    name : str
        Name of the argument; a number, such as "0", is the position of an argument without name.
    shape : tuple of int
        Shape of one row, without the length if that may differ.
    kind : {"float", "int", "bool"}
        The numbers that the module gets: floats of the precision, int64 or bool.
    free : bool
        Whether the first axis of a row is a length that may differ.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    free: bool = False

    @property
    def width(self) -> int:
        """The number of values in a row, or at a position."""
        return math.prod(self.shape)

    @property
    def by_place(self) -> bool:
        """Whether the argument has no name."""
        return self.name.isdigit()

    def taken(self, values: Tensor) -> Tensor:
        """Give values of shape (..., width) the shape and the type of the input."""
        shaped = values.unflatten(-1, self.shape) if self.shape else values.squeeze(-1)
        if self.kind == "int":
            return shaped.long()
        return shaped != 0 if self.kind == "bool" else shaped


class Layout(NamedTuple):
    """Where the inputs of a module lie in a row of floats.

    Parameters
    ----------
    parts : tuple of Part
        The inputs, in the order in which the user gave them.
    ragged : bool
        Whether rows have lengths of their own: the first value is then the length.
    sizes : dict of str to int or tuple of int
        Sizes that the factory of a module gets if its signature names them.
    """

    parts: tuple[Part, ...]
    ragged: bool = False
    sizes: tuple[tuple[str, Any], ...] = ()

    @property
    def fixed(self) -> tuple[Part, ...]:
        """The parts of one size, in their order in a row."""
        own = tuple(part for part in self.parts if not part.free)
        return (Part(_LENGTH, (), "int"), *own) if self.ragged else own

    @property
    def free(self) -> tuple[Part, ...]:
        """The parts whose length may differ."""
        return tuple(part for part in self.parts if part.free)

    @property
    def n_fixed(self) -> int:
        """The number of values before the first position."""
        return sum(part.width for part in self.fixed)

    @property
    def per_position(self) -> int:
        """The number of values at each position."""
        return sum(part.width for part in self.free)

    @property
    def adds_mask(self) -> bool:
        """Whether the module gets a mask that is no input of the user."""
        return self.ragged and not any(part.name in MASKS for part in self.parts)

    def joined(self, inputs: Sequence[Tensor]) -> Tensor:
        """Make rows of inputs, in the order of the parts; then, if it is added, the mask."""
        found = {part.name: value for part, value in zip(self.parts, inputs)}
        dtype = next((v.dtype for v in inputs if v.is_floating_point()), torch.float32)
        if self.ragged:
            mask = inputs[-1] if self.adds_mask else next(found[m] for m in MASKS if m in found)
            found[_LENGTH] = mask.sum(-1)
        fixed = [found[part.name].to(dtype).reshape(-1, part.width) for part in self.fixed]
        free = [
            (value := found[part.name].to(dtype)).reshape(*value.shape[:2], part.width)
            for part in self.free
        ]
        return torch.cat([*fixed, *([torch.cat(free, -1).flatten(1)] if free else [])], dim=-1)

    def unpacked(self, x: Tensor) -> dict[str, Tensor]:
        """Take rows apart: x has shape (..., n_values), each input (..., *shape).

        The mask of rows of several lengths has the name "".
        """
        found = dict(_slices(self.fixed, x[..., : self.n_fixed]))
        if self.free:
            positions = x[..., self.n_fixed :].unflatten(-1, (-1, self.per_position))
            found |= dict(_slices(self.free, positions))
            if self.ragged:
                places = torch.arange(positions.shape[-2], device=x.device)
                found[""] = (places < found.pop(_LENGTH)[..., None]).long()
        return found

    def trimmed(self, x: Tensor) -> Tensor:
        """Cut the padding that all rows of a batch have in common."""
        if not self.ragged or not x.numel():
            return x
        longest = max(1, int(x[..., 0].max()))
        return x[..., : self.n_fixed + longest * self.per_position]

    def attach(self, module: nn.Module) -> None:
        """Let a module take rows of this layout.

        Raises
        ------
        ValueError
            If its forward has other arguments.
        """
        hook = Unpacking(self, _mask_name(self, module))
        for number, other in list(module._forward_pre_hooks.items()):
            if isinstance(other, Unpacking):  # of a copy
                del module._forward_pre_hooks[number]
                module._forward_pre_hooks_with_kwargs.pop(number, None)
        module.register_forward_pre_hook(hook, prepend=True, with_kwargs=True)


def _slices(parts: tuple[Part, ...], values: Tensor) -> Iterator[tuple[str, Tensor]]:
    start = 0
    for part in parts:
        yield part.name, part.taken(values[..., start : start + part.width])
        start += part.width


class Unpacking:
    """The hook that calls a module with its own arguments.

    Parameters
    ----------
    layout : Layout
        Where the inputs lie.
    mask : str
        The name of the argument for the mask of ragged sequences; "" for none.
    """

    def __init__(self, layout: Layout, mask: str) -> None:
        self.layout = layout
        self.mask = mask

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        if len(args) != 1 or kwargs or not args[0].is_floating_point():
            return None  # the user calls the module by itself
        found = self.layout.unpacked(args[0])
        if self.layout.ragged:
            mask = found.pop("")
            found |= {self.mask: mask} if self.mask else {}
        by_place = [found.pop(name) for name in sorted(filter(str.isdigit, found), key=int)]
        return tuple(by_place), found


def _mask_name(layout: Layout, module: nn.Module) -> str:
    """Check the arguments of a module; return the name of its mask."""
    try:
        named = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):  # a forward without a signature takes what it gets
        return MASKS[0]
    name, shown = name_of_module(module), [p.name for p in named]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in named)
    takes = {p.name for p in named if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    given = [part.name for part in layout.parts if not part.by_place]
    n_by_place = len(layout.parts) - len(given)
    mask = ""
    own = next((part for part in layout.parts if part.name in MASKS), None)
    if layout.ragged and own is not None and not own.free:
        raise ValueError(
            f"X has rows of several lengths, which are padded, and the input {own.name!r} has one: "
            "leave it out, or give it with the lengths of the rows"
        )
    if layout.ragged and own is None:
        mask = next((m for m in MASKS if m in takes), MASKS[0] if open_ended else "")
        if not mask:
            raise ValueError(
                f"X has rows of several lengths, which are padded, but the forward of {name} takes "
                f"{shown}: name an argument {MASKS[0]}, which is 1 for what a row has and 0 for "
                "padding, or cut the rows to one length"
            )
        given.append(mask)
    if unknown := [] if open_ended else [g for g in given if g not in takes]:
        raise ValueError(_unknown_inputs(layout, name, unknown, shown))
    by_place = [p for p in named if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    taken = {*given, *(p.name for p in by_place[:n_by_place])}
    several = any(p.kind is p.VAR_POSITIONAL for p in named)
    missing = [
        p.name
        for p in named
        if p.default is p.empty
        and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        and p.name not in taken
    ]
    if missing or (n_by_place > len(by_place) and not several):
        raise ValueError(
            f"the forward of {name} takes {shown}, but X has the inputs {given} and {n_by_place} "
            f"without a name, so that {missing or 'others'} get none: give one input for each "
            "argument without a default"
        )
    return mask


def _unknown_inputs(layout: Layout, name: str, unknown: list[str], shown: list[str]) -> str:
    if layout.sizes:
        return (
            f"X has categorical columns, but the forward of {name} takes {shown}: expected "
            "forward(numbers, codes), with floats of shape (n, n_numbers) and codes of shape (n, "
            "n_categories), as in skuq.modules.TabularMLP. Or encode these columns first, with "
            "scikit-learn's OneHotEncoder or TargetEncoder"
        )
    return (
        f"X has the inputs {unknown}, which the forward of {name} does not take; it takes {shown}. "
        f"Give a module whose forward names them.{suggest(unknown[0], shown)}"
    )


def layout_of(module: nn.Module) -> Layout | None:
    """Return the layout of the rows that a module takes; None if it takes them as they are."""
    for layer in module.modules():
        for hook in layer._forward_pre_hooks.values():
            if isinstance(hook, Unpacking):
                return hook.layout
    return None


def without_padding(x: Tensor, module: nn.Module) -> Tensor:
    """Cut the padding that all rows have in common, if the module takes rows of several lengths."""
    layout = layout_of(module)
    return x if layout is None else layout.trimmed(x)


def reads_whole_rows(module: nn.Module, x: Tensor, run: Callable[[], Any]) -> bool:
    """Return whether an embedding takes whole rows, which are then sequences of any length.

    Parameters
    ----------
    module : nn.Module
        The network.
    x : Tensor of shape (n_rows, n_values)
        Some rows.
    run : callable
        Calls the network on these rows.
    """
    shapes, hooks = set(), []
    for layer in module.modules():
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
            hooks.append(
                layer.register_forward_pre_hook(lambda _, args: shapes.add(tuple(args[0].shape)))
            )
    try:
        if hooks:
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(x.shape) in shapes
