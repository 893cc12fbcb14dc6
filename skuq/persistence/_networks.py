"""Encode estimators that hold a network, and build the network again.

A file stores the tensors of a module, never its class. `load` builds the module as `fit` did, from
the class that the caller gives (or `skuq.modules.MLP`) and the parameters ``module__*``, and puts
the tensors in. Two checks show that the class is the right one: names, shapes and dtypes of all
tensors must be the same, and all draws must have the outputs that `save` recorded, on three rows of
the training data.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, is_classifier
from torch import Tensor, nn

from skuq._data._places import places_as_rows
from skuq._engine._draws import Draws
from skuq._engine._engine import Engine
from skuq._estimator._base import TorchEstimator
from skuq._estimator._built import (
    DEFAULTS,
    OLD_NETWORK,
    Built,
    default_module,
    has_default_network,
)
from skuq._networks._module import Numerics, build, own_copy
from skuq._networks._precision import float_dtype, moved
from skuq._networks._trained import TrainedNetwork
from skuq._utils._random import PrivateGlobals, Purpose, derive_seed
from skuq._utils._tensors import agree, tensors_of
from skuq.exceptions import PersistenceError
from skuq.likelihoods import Likelihood
from skuq.persistence._classes import class_name, classes
from skuq.persistence._decoder import Decoder, defaults_of
from skuq.persistence._encoder import Encoder, attribute_names_checked
from skuq.persistence._modules import module_node, qualified_name
from skuq.persistence._without_rows import without_rows
from skuq.posteriors import Posterior

__all__ = ["decode_estimator", "encode_estimator"]

_MOST_ROWS = 2**20  # in a chunk; a file that declares more would take too much memory


# ---------------------------------------------------------------------------------------------
# Saving


def encode_estimator(encoder: Encoder, estimator: TorchEstimator, factories: dict[str, Any]) -> Any:
    """Encode an estimator, fitted or not; the builders that `load` needs go into `factories`."""
    name = class_name(type(estimator))
    if name is None:
        return None
    state = dict(estimator.__getstate__())
    engine, module = state.pop("_engine", None), state.pop("module")
    state.pop("history_", None)  # the same as the first of histories_
    built = state.pop("_built", None)
    changed = built is not None and bool(built.changes(estimator))
    fitted = engine is not None and not changed
    known = tensors_of(engine.draws.module) if fitted else {}
    made_by = module_node(encoder, module, factories, fitted, known)
    node = {"$": "estimator", "class": name, "module": made_by}
    if not encoder.keep_rows and engine is not None:
        state["_rows_seen"] = None
        engine = without_rows(engine, estimator._layout)
    with encoder.at("._states"):
        goes_on = encoder.attempt(state.pop("_states", []))
    node["state"] = encoder.state(state)
    if engine is not None:
        node["going_on"] = goes_on
        node["engine"] = _engine_node(encoder, engine)
        if built is not None:
            node["engine"]["filled"] = encoder.state(built.filled)
        if built is not None and changed:
            parameters = {f"module__{name}": value for name, value in built.parameters.items()}
            node["engine"]["built"] = {
                "module": module_node(encoder, built.factory, factories, fitted=True),
                "parameters": encoder.state(parameters),
            }
    return node


def _engine_node(encoder: Encoder, engine: Engine) -> dict[str, Any]:
    state = dict(engine.__getstate__())  # on the CPU
    on_cpu = object.__new__(Engine)
    on_cpu.__dict__.update(state)
    draws = state.pop("draws")
    kind = class_name(type(draws))
    if kind is None:
        raise PersistenceError(
            f"the draws of the posterior are of the class {type(draws).__qualname__}, which "
            "skuq.save does not know: decorate it with skuq.persistence.saved_as"
        )
    own = dict(draws.__getstate__())
    module: nn.Module = own.pop("module")
    with torch.no_grad():
        outputs = on_cpu(on_cpu._sample)
    with encoder.at(".module_"):
        tensors = {name: encoder(tensor) for name, tensor in tensors_of(module).items()}
    frozen = [name for name, p in module.named_parameters() if not p.requires_grad]
    return {
        "state": encoder.state(state),
        "draws": {"kind": kind, "state": encoder.state(own)},
        "tensors": tensors,
        "frozen": frozen,
        "outputs": encoder(outputs),
    }


# ---------------------------------------------------------------------------------------------
# Loading


def decode_estimator(decoder: Decoder, node: dict[str, Any], device: Any) -> Any:
    """Make the estimator of a node of `encode_estimator`."""
    cls = classes().get(node["class"]) if isinstance(node["class"], str) else None
    if cls is None or not issubclass(cls, TorchEstimator):
        raise PersistenceError(f"{str(node['class'])[:80]!r} is no estimator with a network")
    estimator: Any = object.__new__(cls)
    state = attribute_names_checked(decoder.mapping(node["state"]))
    state["module"] = decoder(node["module"])
    estimator.__dict__.update({**defaults_of(cls, state), **state})
    if "engine" in node:
        _decode_fitted(decoder, node, estimator)
        _settle(estimator, device)
    return estimator


def _decode_fitted(decoder: Decoder, node: dict[str, Any], estimator: Any) -> None:
    _check_fitted(estimator)
    states = decoder(node["going_on"])
    estimator._states = states if isinstance(states, list) else []
    estimator.history_ = estimator.histories_[0]
    record = node["engine"]
    estimator._built = _decode_built(decoder, record, estimator)
    engine = object.__new__(Engine)
    engine.__dict__.update(attribute_names_checked(decoder.mapping(record["state"])))
    _check_engine(engine)
    draws = object.__new__(_draws_class(record["draws"]["kind"]))
    draws.__dict__.update(attribute_names_checked(decoder.mapping(record["draws"]["state"])))
    tensors = decoder.mapping(record["tensors"])
    if isinstance(estimator.module, TrainedNetwork):
        estimator.module.complete(tensors)
    draws.module = _rebuilt(estimator, engine, tensors, set(record["frozen"]))
    expected = decoder(record["outputs"])
    if not isinstance(expected, Tensor) or expected.shape[:2] != (draws.n_draws, 3):
        raise PersistenceError("the recorded outputs are not those of all draws on three rows")
    draws.check(engine._sample, engine.numerics)
    engine.draws = draws
    _check_outputs(engine, expected)
    estimator.likelihood_.predictive(
        places_as_rows(expected.double())
    )  # fails unless its learnt attributes fit
    if (
        isinstance(estimator.module, TrainedNetwork)
        and estimator.module is estimator._built.factory
    ):
        with PrivateGlobals(0):
            estimator.module.settle(*_sizes(estimator))
    estimator._engine = engine


def _draws_class(kind: Any) -> type[Draws]:
    cls = classes().get(kind) if isinstance(kind, str) else None
    if cls is None or not issubclass(cls, Draws):
        raise PersistenceError(
            f"the file holds draws of the kind {str(kind)[:80]!r}, which is not known here. Import "
            "the package that declares it with saved_as before you load"
        )
    return cls


def _decode_built(decoder: Decoder, record: dict[str, Any], estimator: Any) -> Built:
    """Decode the parameters that built the networks; without a record, the estimator's own."""
    now = Built.by(estimator)
    if "built" not in record:
        return now._replace(filled=_decode_filled(decoder, record, has_default_network(estimator)))
    parameters = decoder.mapping(record["built"]["parameters"])
    if not all(name.startswith("module__") for name in parameters):
        raise PersistenceError("the parameters of a module are not those of a module")
    own = {name.removeprefix("module__"): value for name, value in parameters.items()}
    factory = decoder(record["built"]["module"])
    is_default = (factory or default_module(estimator)) in DEFAULTS
    return Built(factory, own, _decode_filled(decoder, record, is_default))


def _decode_filled(decoder: Decoder, record: dict[str, Any], is_default: bool) -> dict[str, Any]:
    """Decode the parameters of the default network that fit filled in."""
    if "filled" not in record:
        return OLD_NETWORK if is_default else {}
    filled = decoder.mapping(record["filled"])
    kinds = {name: type(value) for name, value in filled.items()}
    if kinds != ({"activation": str, "dropout": float} if is_default else {}):
        raise PersistenceError("the parameters of the default network are not those of one")
    return filled


def _check_fitted(estimator: Any) -> None:
    """Check that the attributes of `fit` exist and have the right types."""
    if not isinstance(estimator.likelihood_, Likelihood):
        raise PersistenceError("likelihood_ is no likelihood")
    if estimator.likelihood_.task != estimator._task:
        raise PersistenceError(f"likelihood_ is none of a {estimator._task}")
    if not isinstance(estimator.posterior_, Posterior):
        raise PersistenceError("posterior_ is no posterior")
    if is_classifier(estimator):
        classes_ = estimator.classes_
        if not isinstance(classes_, np.ndarray) or classes_.ndim != 1 or len(classes_) < 1:
            raise PersistenceError("classes_ is no array of labels")


def _check_engine(engine: Any) -> None:
    whole = ("n_rows", "n_reduced", "n_draws_at_once")
    if not all(
        type(size) is int and 1 <= size <= _MOST_ROWS
        for size in (vars(engine).get(name) for name in whole)
    ):
        raise PersistenceError(f"{', '.join(whole)} must be positive integers")
    numerics = engine.numerics
    if not isinstance(numerics, Numerics) or numerics.device.type != "cpu":
        raise PersistenceError("the engine is not one of the CPU")
    if numerics.precision not in ("float32", "float64", "bfloat16"):
        raise PersistenceError("the precision of the engine is not one that skuq knows")
    maps = engine.__dict__.get("_bytes_of_maps", 0)  # earlier files have none
    if type(maps) is not int or maps < 0:
        raise PersistenceError("_bytes_of_maps must be a number of bytes")
    if type(engine.vectorized) is not bool or len(engine._sample) != 3:
        raise PersistenceError("the engine is incomplete")


def _sizes(estimator: Any) -> tuple[int, int]:
    return math.prod(estimator._row_shape), estimator.likelihood_.n_outputs_


def _n_channels(estimator: Any) -> int | None:
    return int(estimator._row_shape[0]) if estimator._is_dense else None


def _rebuilt(
    estimator: Any, engine: Any, tensors: dict[str, Tensor], frozen: set[str]
) -> nn.Module:
    """Build the module as in `fit`, and put in the tensors of the file."""
    default = default_module(estimator)
    factory, parameters = estimator._built.factory or default, estimator._built.arguments
    if not _is_plain(parameters):
        raise PersistenceError("an estimator stands for a parameter of a module")

    estimator.posterior_.validate()

    def built() -> nn.Module:
        with PrivateGlobals(derive_seed(estimator._root, Purpose.INITIALISATION)), torch.no_grad():
            sizes = (*_sizes(estimator), _n_channels(estimator))
            return build(factory, parameters, *sizes, estimator._layout)

    name = qualified_name(factory)
    if factory in DEFAULTS:
        _check_depth(parameters, tensors)
    transform = estimator.posterior_.transform
    _check_unbuilt(built, transform, name, engine._sample, tensors)
    try:
        with PrivateGlobals(0):
            module = transform(own_copy(built(), engine._sample, engine.numerics))
            module = moved(module.eval(), engine.numerics.device, engine.numerics.dtype)
    except Exception as error:
        raise PersistenceError(
            f"{name} cannot be built or called as when it was saved, with parameters "
            f"{sorted(parameters)}: {type(error).__name__}: {error}"[:1000]
        ) from error
    own = tensors_of(module)
    _check_same(name, own, tensors, with_dtype=True)
    with torch.no_grad():
        for key, tensor in own.items():
            tensor.copy_(tensors[key])
    for key in frozen:
        own[key].requires_grad_(False)
    return module


def _is_plain(value: Any) -> bool:
    """Return whether a value holds no estimator; estimators may hold one another many times."""
    if isinstance(value, dict):
        return all(map(_is_plain, (*value, *value.values())))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return not isinstance(value, BaseEstimator)


def _check_depth(parameters: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Refuse a perceptron of too many layers, which would take long to build."""
    sizes = parameters.get("hidden_layer_sizes", (100, 100))
    n_layers = len(sizes) if isinstance(sizes, list | tuple) else 1
    if 2 * (n_layers + 1) > len(tensors):  # a posterior may add some
        raise PersistenceError(
            f"hidden_layer_sizes declares {n_layers} hidden layers, which {len(tensors)} tensors "
            "do not fit"
        )


def _check_unbuilt(
    built: Callable[[], nn.Module],
    transform: Callable[[nn.Module], nn.Module],
    name: str,
    x: Tensor,
    tensors: dict[str, Tensor],
) -> None:
    """Compare shapes before memory is taken: sizes in a forged file may be absurd."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with torch.device("meta"), torch.no_grad():
                module = built().eval()
                if any(nn.parameter.is_lazy(t) for t in tensors_of(module).values()):
                    module(x.to("meta", float_dtype(module)))
                module = transform(module)
        except Exception:  # it needs values, so its size shows only when it is built
            return
    _check_same(name, tensors_of(module), tensors, with_dtype=False)


def _check_same(
    name: str, own: dict[str, Tensor], stored: dict[str, Tensor], with_dtype: bool
) -> None:
    if not all(isinstance(tensor, Tensor) for tensor in stored.values()):
        raise PersistenceError("a value that is no tensor stands for one of a module")
    for what, names in (("lacks", set(own) - set(stored)), ("also has", set(stored) - set(own))):
        if names:
            raise PersistenceError(
                f"the present {name} has the tensors {sorted(own)[:20]}; the file {what} "
                f"{sorted(names)[:20]}. Give the class and the version of it that was saved."
            )
    for key, tensor in own.items():
        same_dtype = not with_dtype or tensor.dtype == stored[key].dtype
        if tensor.shape != stored[key].shape or not same_dtype:
            raise PersistenceError(
                f"{key!r} of {name} has shape {tuple(tensor.shape)} and {tensor.dtype} here, but "
                f"{tuple(stored[key].shape)} and {stored[key].dtype} in the file. Give the class "
                "and the version of it that was saved."
            )


def _check_outputs(engine: Engine, expected: Tensor) -> None:
    """Compare outputs with the recorded ones: other activations have the same tensors."""
    with torch.no_grad():
        got = engine(engine._sample)
    if not agree(got, expected, engine.numerics.tolerance):
        raise PersistenceError(
            f"{type(engine.draws.module).__name__} has the tensors of the network that was saved, "
            "but does not give its outputs: is it another version of the class, with another "
            "forward, or with attributes that training changed and that are no buffers?"
        )


def _settle(estimator: Any, device: Any) -> None:
    """Move the networks to the wanted device, or leave them on the CPU."""
    if device == "auto":
        try:
            chosen = Numerics.on(estimator.device, estimator.precision).device
        except ValueError:  # it asks for a GPU that this machine lacks
            chosen = torch.device("cpu")
    else:
        chosen = Numerics.on(device, estimator.precision).device
    estimator._engine.to(chosen)
    estimator.device_ = str(chosen)
