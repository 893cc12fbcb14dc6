"""A factory of copies of trained modules, for clones, pickles and files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from skuq._networks._module import build, copied
from skuq._networks._precision import is_usual
from skuq._utils._tensors import tensors_of

__all__ = ["TrainedNetwork"]


class TrainedNetwork:
    """A factory: each call returns a copy of one trained module, or of one of several.

    It never changes, so copies and clones of an estimator share it. Its name is the name of the
    module's class; its ``repr`` adds a digest of the weights.

    Parameters
    ----------
    module : nn.Module
        The module, in eval mode; no other object may hold it.
    others : iterable of dict of str to Tensor, default=()
        Parameters and buffers of further modules with the same layers.
    """

    others: tuple[dict[str, Tensor], ...] = ()  # pickles of a single network may lack it

    def __init__(self, module: nn.Module, others: Iterable[Mapping[str, Tensor]] = ()) -> None:
        self._source: nn.Module | Callable[..., nn.Module] = module
        self._tensors: dict[str, Tensor] | None = None  # each call puts these into the module
        self._frozen: frozenset[str] = frozenset()
        self._shown: str | None = None
        self.shared: tuple[str, ...] = ()  # names of tensors that `complete` will set
        self.others = tuple(map(dict, others))
        kind = type(module)
        self._named(kind.__qualname__, kind.__module__)

    @classmethod
    def rebuilt(
        cls,
        source: nn.Module | Callable[..., nn.Module],
        tensors: Mapping[str, Tensor],
        frozen: frozenset[str],
        name: str,
        defined_in: str,
        others: Iterable[Mapping[str, Tensor]] = (),
    ) -> TrainedNetwork:
        """Make a factory from the content of a file: a builder of the module, and its tensors.

        Parameters
        ----------
        source : nn.Module, class or callable that returns one
            Builds the module.
        tensors : dict of str to Tensor
            Parameters and buffers.
        frozen : frozenset of str
            Names of parameters that are not trained.
        name, defined_in : str
            The name of the class and its module.
        others : iterable of dict of str to Tensor, default=()
            Parameters and buffers of further modules.
        """
        made = object.__new__(cls)
        made._source = copied(source).eval() if isinstance(source, nn.Module) else source
        made._tensors, made._frozen, made._shown = dict(tensors), frozen, None
        made.shared, made.others = (), tuple(map(dict, others))
        made._named(name, defined_in)
        return made

    def complete(self, tensors: Mapping[str, Tensor]) -> None:
        """Set the tensors that a fitted network shares with this factory."""
        if self._tensors is not None:
            self._tensors |= {name: tensors[name] for name in self.shared}
            self.shared = ()

    def _named(self, name: str, defined_in: str) -> None:
        """Take the name of the class, which messages and files read."""
        self.__qualname__, self.__module__ = name, defined_in
        self.__name__ = name.rpartition(".")[2]

    @property
    def n_networks(self) -> int:
        """The number of trained modules."""
        return 1 + len(self.others)

    def of_network(self, number: int) -> Callable[..., nn.Module]:
        """Return the builder of a network of a fit; one module is for all of them.

        Raises
        ------
        ValueError
            If there are several modules, but not so many.
        """
        if not self.others:
            return self
        if number >= self.n_networks:
            raise ValueError(
                f"module holds {self.n_networks} trained networks, but the posterior asks for "
                f"number {number + 1}: give a posterior of {self.n_networks} networks, "
                f"DeepEnsemble(n_members={self.n_networks}), or give from_trained more networks"
            )
        return partial(self, number=number)

    def __call__(
        self, n_features: int | None = None, n_outputs: int | None = None, number: int = 0
    ) -> nn.Module:
        if isinstance(self._source, nn.Module):
            module = copied(self._source)
        else:
            module = build(self._source, {}, n_features or 0, n_outputs or 0).eval()
        tensors = self._tensors if number == 0 else self.others[number - 1]
        if tensors is not None:
            self._put(module, tensors)
        return module

    @torch.no_grad()
    def _put(self, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        """Put values into the module, with their dtype."""
        own = tensors_of(module)
        if own.keys() != tensors.keys():
            raise ValueError(
                f"{type(module).__name__} has the tensors {sorted(own)[:20]}, and those of the "
                f"trained {self.__qualname__} are {sorted(tensors)[:20]}"
            )
        for name, tensor in own.items():
            if nn.parameter.is_lazy(tensor):
                tensor.materialize(tensors[name].shape)
            if tensor.shape != tensors[name].shape:
                raise ValueError(
                    f"{name!r} of {type(module).__name__} has shape {tuple(tensor.shape)}, and of "
                    f"the trained {self.__qualname__} {tuple(tensors[name].shape)}"
                )
            tensor.data = tensors[name].clone()
            if isinstance(tensor, nn.Parameter):
                tensor.requires_grad_(tensor.requires_grad and name not in self._frozen)

    def settle(self, n_features: int, n_outputs: int) -> None:
        """Build the module, once its numbers of features and outputs are known."""
        if self._tensors is not None:
            self._source, self._tensors = self(n_features, n_outputs), None

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers by name."""
        if self._tensors is not None:
            return self._tensors
        assert isinstance(self._source, nn.Module)
        return tensors_of(self._source)

    @property
    def frozen(self) -> list[str]:
        """Names of the parameters that are not trained."""
        if self._tensors is not None:
            return sorted(self._frozen)
        assert isinstance(self._source, nn.Module)
        return [name for name, p in self._source.named_parameters() if not p.requires_grad]

    def __repr__(self) -> str:
        if self._shown is None:
            digests = ", ".join(map(_digest, (self.tensors, *self.others)))
            self._shown = f"TrainedNetwork({self.__name__}, {digests})"
        return self._shown

    def __deepcopy__(self, memo: dict[int, Any]) -> TrainedNetwork:
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Pickle a module on the CPU, since a machine without a GPU may load the pickle."""
        state = dict(self.__dict__)
        if isinstance(self._source, nn.Module) and _is_elsewhere(self._source):
            state["_source"] = copied(self._source).cpu()
        state["others"] = tuple(
            {name: tensor.cpu() for name, tensor in tensors.items()} for tensors in self.others
        )
        return state


def _is_elsewhere(module: nn.Module) -> bool:
    return any(tensor.device.type != "cpu" for tensor in tensors_of(module).values())


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Return a short digest of names and values."""
    digest = hashlib.blake2b(digest_size=4)
    for name, tensor in tensors.items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        if is_usual(tensor):
            plain = torch.view_as_real(tensor) if tensor.is_complex() else tensor
            flat = plain.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return digest.hexdigest()
