"""Forged estimators and tensors: each fits the rest of its file, or is refused."""

import copy
import struct

import numpy as np
import pytest
import torch

import skuq
from skuq import PersistenceError, TorchClassifier, TorchRegressor
from skuq.calibration import MatrixScaler, TemperatureScaler, VarianceScaler, VectorScaler
from skuq.persistence._container import Parts
from skuq.persistence._save import parts_of
from skuq.posteriors import PointEstimate
from tests.persistence.forging import (
    DRAWS,
    entry,
    forged,
    manifest_of,
    part_with,
    put,
    safetensors_part,
    tensors_in,
    with_manifest,
)

pytest.importorskip("safetensors")

# -- the parts of an estimator ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("PointEstimate", put("state", "_prefixed", "module__hidden_layer_sizes", 10**9), "shape"),
        ("PointEstimate", put("state", "_prefixed", "module__hidden_layer_sizes", -1), "positive"),
        (
            "PointEstimate",
            put("state", "_prefixed", "module__hidden_layer_sizes", [1] * 300_000),
            "300000 hidden layers",
        ),
        ("PointEstimate", put("state", "_prefixed", "module__dropout", "x"), "cannot be built"),
        ("PointEstimate", put("state", "_row_shape", [10**6, 10**6]), "shape"),
        ("PointEstimate", put("state", "_root", -1), "malformed|cannot be built"),
        ("PointEstimate", put("engine", "state", "n_rows", 10**12), "positive integers"),
        ("PointEstimate", put("engine", "state", "n_reduced", 0), "positive integers"),
        ("PointEstimate", put("engine", "state", "vectorized", 5), "incomplete"),
        ("PointEstimate", put(*DRAWS, "n_draws", 10**9), "all draws on three rows"),
        ("PointEstimate", put("engine", "draws", "kind", "evil"), "not known here"),
        ("PointEstimate", put("engine", "frozen", ["evil"]), "malformed: KeyError"),
        ("PointEstimate", put("class", "skuq.TorchRegressor"), "none of a regression"),
        ("MCDropout", put(*DRAWS, "n_draws", 10**9), "all draws on three rows"),
        ("MCDropout", put(*DRAWS, "_seed", 7), "does not give its outputs"),
        ("MCDropout", put(*DRAWS, "_seed", []), "seed of the masks"),
        ("MCDropout", put(*DRAWS, "_masks", 0, "state", "shape", [1]), "masks are incomplete"),
        (
            "MCDropout",
            put(*DRAWS, "_masks", 0, "state", "shape", {"$": "tuple", "items": [10**12]}),
            "masks of shape",
        ),
        ("MCDropout", put(*DRAWS, "_masks", 0, "state", "layer", "__class__"), "masks of shape"),
        ("MCDropout", put(*DRAWS, "_masks", 0, "state", "weight", "4.bias"), "masks of shape"),
        ("MCDropout", put(*DRAWS, "_masks", []), "does not give its outputs|malformed"),
        ("DeepEnsemble", put(*DRAWS, "n_draws", 3), "all draws on three rows"),
        ("DeepEnsemble", put(*DRAWS, "_tensors", {}), "does not give its outputs"),
        ("DeepEnsemble", put("engine", "tensors", "1.weight", 5), "no tensor"),
    ],
)
def test_estimators(kind, change, message, sound, refused):
    refused(forged(sound[kind], change), message)


@pytest.mark.parametrize(
    ("make", "name", "bad"),
    [
        (TemperatureScaler, "temperature_", [-1.0, 0, "nan", "inf", "text", None]),
        (VectorScaler, "bias_", ["nan", "-inf"]),
        (MatrixScaler, "matrix_", ["nan", "inf"]),
        (VarianceScaler, "scale_", [-1.0, 0.0, "nan"]),
    ],
)
def test_numbers_that_no_calibration_gives(make, name, bad, folder, refused, blobs, diabetes):
    """Digests are right, and every tensor is there: only the number is absurd."""
    X, y = diabetes if make is VarianceScaler else blobs
    network = TorchRegressor if make is VarianceScaler else TorchClassifier
    fitted = make(network(posterior=PointEstimate(), max_epochs=1, random_state=0), cv=2).fit(X, y)
    for number in bad:
        forgery = copy.copy(fitted)
        value = float(number) if number in ("nan", "inf", "-inf") else number
        shape = {"bias_": (3,), "matrix_": (3, 3)}.get(name)
        setattr(forgery, name, np.full(shape, value) if shape else value)
        parts, *_ = parts_of(forgery)
        refused(parts, f"{name} of a|could not convert|float")
        with pytest.raises(PersistenceError, match="nothing was saved, because load would refuse"):
            skuq.save(forgery, folder / "absurd.skuq")
    assert not (folder / "absurd.skuq").exists()


def test_a_tensor_of_a_stack_by_another_name(sound, refused):
    def change(node):
        tensors = node["engine"]["draws"]["state"]["_tensors"]
        tensors["__class__"] = tensors.pop("1.weight")

    refused(forged(sound["DeepEnsemble"], change), "the draws of '__class__'")


def test_missing_and_superfluous_tensors(sound, refused):
    def missing(node):
        del node["engine"]["tensors"]["1.bias"]

    def superfluous(node):
        node["engine"]["tensors"]["evil"] = node["engine"]["tensors"]["1.bias"]

    def swapped(node):
        tensors = node["engine"]["tensors"]
        tensors["1.bias"], tensors["1.weight"] = tensors["1.weight"], tensors["1.bias"]

    parts = sound["PointEstimate"]
    refused(forged(parts, missing), "3 tensors do not fit")
    refused(forged(parts, superfluous), "not any more")
    refused(forged(parts, swapped), "has shape")
    with_more = dict(tensors_in(parts.tensors), evil=torch.zeros(3))
    refused(parts._replace(tensors=part_with(with_more)), "nothing refers to: .*evil")
    with_double = {name: t.double() if t.is_floating_point() else t
                   for name, t in tensors_in(parts.tensors).items()}  # fmt: skip
    refused(parts._replace(tensors=part_with(with_double)), "torch.float64 in the file|malformed")
    with_less = dict(list(tensors_in(parts.tensors).items())[:-1])
    refused(parts._replace(tensors=part_with(with_less)), "is referred to, but is not in the file")


# -- safetensors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (b"", "declares 0 bytes"),
        (b"\0" * 7, "declares 0 bytes"),
        (struct.pack("<Q", 2**63) + b"{}", "declares 9223372036854775808"),
        (struct.pack("<Q", 100) + b"{}", "declares 100"),
        (safetensors_part(b"[" * 1000), "nested more than 64"),
        (safetensors_part(b'{"t0": 1, "t0": 1}'), "'t0' is there twice"),
        (safetensors_part(b"[]"), "no JSON object"),
        (safetensors_part({"t0": entry([10**5, 10**5], 4)}, b"0000"), "e.10 bytes, but is given 4"),
        (safetensors_part({"t0": entry([2**40, 2**40], 4)}, b"0000"), "but is given 4"),
        (safetensors_part({"t0": entry([-1], 4)}, b"0000"), "malformed entry"),
        (safetensors_part({"t0": entry([1.0], 4)}, b"0000"), "malformed entry"),
        (safetensors_part({"t0": entry([1], 4, "EVIL")}, b"0000"), "malformed entry"),
        (safetensors_part({"t0": entry([1] * 100, 4)}, b"0000"), "malformed entry"),
        (safetensors_part({"t0": {**entry([1], 4), "x": 1}}, b"0000"), "malformed entry"),
        (safetensors_part({"t0": entry([1], 4)}, b"00000000"), "has 8 bytes of data"),
        (safetensors_part({"t0": entry([1], 8, start=4)}, b"00000000"), "gaps"),
        (
            safetensors_part({"t0": entry([1], 4), "t1": entry([1], 4)}, b"0000"),
            "gaps, or tensors that overlap",
        ),
        (safetensors_part({"__metadata__": {"a": "b"}}), "malformed entry"),
        (safetensors_part({}), "is referred to, but is not in the file"),
        (safetensors_part({"t0": entry([0, 10**15], 0)}), "is referred to|malformed|order"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_tensors(part, message, sound, refused):
    refused(sound["PointEstimate"]._replace(tensors=part), message)


# -- values that are none --------------------------------------------------------------------------


def test_what_is_sound_but_no_fitted_estimator(sound, refused):
    empty = Parts(sound["PointEstimate"].manifest, part_with({}))
    for node, message in (
        ({"$": "value", "name": "torch.optim.Adam"}, "no estimator but type"),
        ([1, 2], "no estimator but list"),
        ("text", "no estimator but str"),
        ({"$": "object", "class": "skuq.posteriors.MCDropout", "state": {}}, "not fitted"),
        (
            {"$": "object", "class": "sklearn.preprocessing.StandardScaler", "state": {}},
            "not fitted",
        ),
    ):
        refused(with_manifest(empty, {**manifest_of(empty), "object": node}), message)


def test_a_billion_laughs(sound, refused):
    """Values that hold one another twice, forty levels deep, are refused and not printed."""

    def laughs(kind, last):
        levels = [{"$": "tuple", "items": [last, last]}]
        for number in range(40):
            twice = [{"$": "again", "id": number}] * 2
            tuple_ = {"$": "tuple", "id": number + 1, "items": twice}
            estimator = {
                "$": "object", "id": number + 1, "class": "sklearn.pipeline.Pipeline",
                "state": {"steps": twice},
            }  # fmt: skip
            levels.append(tuple_ if kind == "tuple" else estimator)
        levels[0] = {**levels[0], "id": 0}
        if kind != "tuple":
            levels[0] = {**levels[1], "id": 0, "state": {"steps": []}}
        return levels

    parts = sound["PointEstimate"]
    for kind in ("tuple", "estimator"):
        levels = laughs(kind, "ha")

        def change(node, levels=levels):
            node["state"] = {"laughs": levels[:-1], **node["state"]}
            node["state"]["_prefixed"]["module__activation"] = levels[-1]

        refused(forged(parts, change), "KeyError" if kind == "tuple" else "hold one another")

    def hashed(node):
        node["state"] = {"laughs": laughs("tuple", 1), **node["state"]}
        node["state"]["keys"] = {"$": "dict", "items": [[{"$": "again", "id": 40}, 1]]}

    refused(forged(parts, hashed), "KeyError")
