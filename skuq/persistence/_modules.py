"""The builders of the networks of a file: classes that a caller gives, or one trained network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skuq._networks._module import Numerics
from skuq._networks._trained import TrainedNetwork
from skuq._utils._messages import warn
from skuq.exceptions import PersistenceError
from skuq.persistence._classes import value_name
from skuq.persistence._decoder import Decoder
from skuq.persistence._encoder import Encoder

__all__ = ["Modules", "module_node", "qualified_name"]


def qualified_name(factory: Any) -> str:
    """Return the name of a class or function, for users."""
    if hasattr(factory, "func") and hasattr(factory, "keywords"):  # functools.partial
        return f"partial({qualified_name(factory.func)})"
    return getattr(factory, "__qualname__", type(factory).__qualname__)


def module_node(
    encoder: Encoder,
    module: Any,
    factories: dict[str, Any],
    fitted: bool,
    known: dict[str, Tensor] | None = None,
) -> Any:
    """Encode the builder of a network; of a trained one, the tensors that `known` lacks."""
    if module is None or value_name(module) is not None:
        return encoder(module)
    if isinstance(module, nn.Module) or not callable(module):  # set after fit, which refuses it
        with encoder.at(".module"):
            return encoder.attempt(module)
    defined_in = getattr(module, "__module__", type(module).__module__)
    name = qualified_name(module)
    if isinstance(module, TrainedNetwork):
        _refuse_namesakes(encoder, module, factories.get(name))
    if fitted:  # it built a network; a namesake that built none must not replace it
        factories[name] = module
    factories.setdefault(name, module)
    node = {"$": "module", "name": name, "defined_in": str(defined_in)}
    if isinstance(module, TrainedNetwork):
        node |= _trained_part(encoder, module, known or {})
    return node


def _refuse_namesakes(encoder: Encoder, network: TrainedNetwork, other: Any) -> None:
    """Refuse two builders with one name, which `load` could not distinguish."""
    if isinstance(other, TrainedNetwork) and _shapes(other) != _shapes(network):
        raise PersistenceError(
            f"{encoder.place}.module and another network are both called {network.__qualname__}, "
            "but their layers differ: give each its own class (class Mine(nn.Sequential))"
        )


def _shapes(network: TrainedNetwork) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in network.tensors.items()}


def _trained_part(
    encoder: Encoder, network: TrainedNetwork, known: dict[str, Tensor]
) -> dict[str, Any]:
    """Encode the weights with which clones begin, also if training went on from them."""
    stored, shared = {}, []
    with encoder.at(".module"):
        for name, tensor in network.tensors.items():
            if name in known and _same_bits(known[name], tensor):
                shared.append(name)
            else:
                stored[name] = encoder(tensor)
    node: dict[str, Any] = {"$": "trained", "weights": stored, "shared": shared}
    node["frozen"] = network.frozen
    if network.others:
        with encoder.at(".module"):
            node["others"] = [
                {name: encoder(tensor) for name, tensor in tensors.items()}
                for tensors in network.others
            ]
    return node


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.cpu(), b.cpu())


class Modules:
    """The builders that the caller of `load` gives.

    Parameters
    ----------
    given : callable, mapping of str to callable, or None
        A class or factory; or several, by their names in the file.
    device : str or torch.device
        The device for the networks; "auto" leaves it to each estimator.
    """

    def __init__(self, given: Any, device: Any) -> None:
        for factory in given.values() if isinstance(given, dict) else [given]:
            if not (callable(factory) or factory is None):
                raise _NoFactory(factory)
        if isinstance(device, list | tuple):
            raise TypeError(f"networks are loaded to one device, got device={device!r}")
        if device != "auto":
            Numerics.on(device, "float32")  # refuses a device that this machine lacks
        self._given = given
        self._needed: dict[str, Any] = {}
        self._unnamed: set[str] = set()  # of networks that an instance made: any builder is right
        self.device = device

    def __call__(self, decoder: Decoder, node: dict[str, Any]) -> Any:
        """Return the builder for a node that stands for a class of the user."""
        found = self._found(node)
        if isinstance(found, nn.Module):
            raise _NoFactory(found)
        return found

    def trained(self, decoder: Decoder, node: dict[str, Any]) -> TrainedNetwork:
        """Make the factory for a node that stands for a trained network."""
        found, tensors = self._found(node), decoder.mapping(node["weights"])
        frozen, shared = node["frozen"], node["shared"]
        parts = node.get("others", [])
        if not isinstance(parts, list):
            raise PersistenceError("the other networks of a list are no JSON list")
        others = [decoder.mapping(part) for part in parts]
        texts = [*frozen, *shared]
        if not all(isinstance(t, Tensor) for part in (tensors, *others) for t in part.values()):
            raise PersistenceError("a value that is no tensor stands for one of a module")
        if not all(isinstance(name, str) for name in texts):
            raise PersistenceError("the names of tensors of a trained network are no texts")
        self._unnamed.add(node["name"])
        name, defined_in = node["name"], node["defined_in"]
        network = TrainedNetwork.rebuilt(
            found, tensors, frozenset(frozen), name, defined_in, others
        )
        network.shared = tuple(shared)
        return network

    def _found(self, node: dict[str, Any]) -> Any:
        name, defined_in = node["name"], node["defined_in"]
        if not isinstance(name, str) or not isinstance(defined_in, str):
            raise PersistenceError("the name of a module is no text")
        by_name = isinstance(self._given, dict)
        found = self._given.get(name) if by_name else self._given
        if found is None:
            raise PersistenceError(
                f"the file holds a network that {name[:200]!r} (from {defined_in[:200]!r}) built. "
                f"Files name no code to import: give that class, load(path, module=...)"
            )
        self._needed[name] = found
        if len(self._needed) > 1 and not by_name:
            raise PersistenceError(
                f"the file holds networks of several classes, {sorted(self._needed)}: give them as "
                "module={name: class, ...}"
            )
        return found

    def check(self) -> None:
        """Warn of classes with another name; refuse a module that no network needs."""
        if self._given is not None and not self._needed:
            raise PersistenceError("module was given, but no network in the file needs it")
        for name, found in self._needed.items():
            if name in self._unnamed:
                continue
            if qualified_name(found).rpartition(".")[2] != name.rpartition(".")[2]:
                warn(
                    f"the network was saved with {name[:200]}, and is loaded with "
                    f"{qualified_name(found)}; both have the same tensors and give the same "
                    "outputs on a few rows",
                    UserWarning,
                )


class _NoFactory(PersistenceError, TypeError):
    """The error for a `module` that builds no network."""

    def __init__(self, given: Any) -> None:
        super().__init__(
            "module must be a class or a factory, or a dictionary of them by name, got "
            f"{given!r}; an instance is only possible if skuq.from_trained got one"
        )
