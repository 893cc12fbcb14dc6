"""Forged and damaged files: an error that names the problem, quickly, and nothing runs."""

import builtins
import copy
import importlib
import io
import json
import pickle
import struct
import sys
import time
import warnings
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import skuq
from skuq import PersistenceError, TorchClassifier, TorchRegressor
from skuq.calibration import TemperatureScaler, VarianceScaler, VectorScaler
from skuq.persistence import _container, _json
from skuq.persistence._container import Parts
from skuq.persistence._json import parse
from skuq.persistence._save import parts_of
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate
from tests.networks import Plain

pytest.importorskip("safetensors")

SMALL = {"max_epochs": 1, "random_state": 0, "module__hidden_layer_sizes": (3,)}
NO_ONE_ELSE = {"suppress_health_check": list(HealthCheck), "database": None, "derandomize": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    X = random.normal(size=(12, 2)).astype(np.float32)
    return X, np.array(["a", "b"])[np.arange(12) % 2]


@pytest.fixture(scope="module")
def sound(folder, data):
    """The parts of a sound file for each kind of draws."""
    found = {}
    for posterior in (PointEstimate(), MCDropout(2), DeepEnsemble(2)):
        model = TorchClassifier(posterior=posterior, **SMALL).fit(*data)
        skuq.save(model, folder / "sound.skuq")
        found[type(posterior).__name__] = _container.read(folder / "sound.skuq")
    return found


@pytest.fixture
def refused(folder):
    """Loads bytes or parts; what it raises must be a PersistenceError, within a second."""

    def check(content, match=r".", **options):
        path = folder / "forged.skuq"
        if isinstance(content, Parts):
            _container.write(path, content)
        else:
            path.write_bytes(content)
        start = time.process_time()
        with pytest.raises(PersistenceError, match=match) as caught:
            skuq.load(path, **options)
        assert time.process_time() - start < 1
        assert 10 < len(str(caught.value)) < 3000
        return caught.value

    return check


def manifest_of(parts):
    return json.loads(parts.manifest)


def with_manifest(parts, manifest):
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    return parts._replace(manifest=text)


def file_of(parts, folder):
    _container.write(folder / "whole.skuq", parts)
    return (folder / "whole.skuq").read_bytes()


# -- the container ---------------------------------------------------------------------------------


def flips(content, n, seed):
    random = np.random.default_rng(seed)
    for position in random.integers(len(content), size=n):
        flipped = bytearray(content)
        flipped[position] ^= random.integers(1, 256)
        yield position, bytes(flipped)


@pytest.mark.parametrize("n", [300, pytest.param(7000, marks=pytest.mark.slow)])
def test_a_flipped_byte(n, sound, folder, refused):
    content = file_of(sound["DeepEnsemble"], folder)
    for position, flipped in flips(content, n, seed=n):
        refused(flipped, "damaged or forged|sha256 of|no file of skuq.save")
        if position % 50 == 0:
            with pytest.raises(PersistenceError):
                skuq.inspect(folder / "forged.skuq")


def test_every_byte_around_the_parts(sound, folder, refused):
    """The directory, dates and versions of the zip included."""
    parts = sound["PointEstimate"]
    content = file_of(parts, folder)
    header = _container._header_size("manifest.json")
    tail = len(content) - _container._TAIL_SIZE
    for position in (*range(header), *range(tail, len(content))):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        refused(bytes(flipped))


@pytest.mark.parametrize("n", [100, pytest.param(1500, marks=pytest.mark.slow)])
def test_cut_short_or_lengthened(n, sound, folder, refused):
    content = file_of(sound["PointEstimate"], folder)
    for length in np.linspace(0, len(content) - 1, n).astype(int):
        refused(content[:length], "no file of skuq.save, or was cut short")
        refused(content[length:] if length else b"", "no file of skuq.save, or was cut short")
    refused(content + b"\0", "no file of skuq.save")
    refused(b"\0" + content, "no file of skuq.save")
    refused(content + content, "no file of skuq.save")


@given(st.binary(max_size=2000), st.integers(0, 10**6))
@settings(max_examples=100, deadline=None, **NO_ONE_ELSE)
def test_any_bytes(sound, folder, refused, noise, where):
    refused(noise)
    content = file_of(sound["PointEstimate"], folder)
    where %= len(content)
    spliced = content[:where] + noise + content[where + len(noise) :]
    if spliced != content:
        refused(spliced)


def zipped(names, compression=zipfile.ZIP_STORED, comment=b""):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.comment = comment
        for name, content in names:
            archive.writestr(name, content)
    return buffer.getvalue()


def test_other_zips(sound, refused):
    manifest, tensors = sound["PointEstimate"]
    sums = _container._sums(sound["PointEstimate"])
    three = [("manifest.json", manifest), ("tensors.safetensors", tensors)]
    whole = [*three, ("sha256sums.txt", sums)]
    for names in (
        whole,  # right, but not to the byte what save writes
        three,
        whole[::-1],
        [*whole, ("../../evil", b"x")],
        [*whole, ("/etc/evil", b"x")],
        [("../manifest.json", manifest), *whole[1:]],
        [(f"{i}", b"") for i in range(2000)],
    ):
        refused(zipped(names), "some other zip")
    refused(zipped(whole, zipfile.ZIP_DEFLATED), "some other zip")
    refused(zipped(whole, comment=b"hello"), "some other zip")
    bomb = zipped([("manifest.json", b"0" * 10**8)], zipfile.ZIP_DEFLATED)
    refused(bomb, "some other zip")
    assert not Path("evil").exists() and not Path("/etc/evil").exists()


def test_a_zip_that_others_can_read(sound, folder):
    with zipfile.ZipFile(io.BytesIO(file_of(sound["MCDropout"], folder))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == list(_container.NAMES)
        assert archive.read("tensors.safetensors") == sound["MCDropout"].tensors


class Evil:
    ran = False

    def __reduce__(self):
        return setattr, (Evil, "ran", True)


def test_pickles_renamed(refused, folder, data):
    refused(pickle.dumps(Evil()), "looks like a pickle")
    refused(pickle.dumps(Evil(), protocol=0), "no file of skuq.save")
    torch.save(Evil(), folder / "evil.pt")
    refused((folder / "evil.pt").read_bytes(), "torch.save")
    torch.save(Plain(2, 2).state_dict(), folder / "weights.pt")
    refused((folder / "weights.pt").read_bytes(), "torch.save")
    torch.save(Evil(), folder / "evil.pt", _use_new_zipfile_serialization=False)
    refused((folder / "evil.pt").read_bytes(), "looks like a pickle")
    for compress in (0, 3, ("bz2", 3), ("xz", 3)):
        joblib.dump([Evil(), data[0]], folder / "evil.joblib", compress=compress)
        refused((folder / "evil.joblib").read_bytes(), "looks like a pickle|compressed")
    assert not Evil.ran
    pickle.loads(pickle.dumps(Evil()))
    assert Evil.ran  # it would have


def test_a_pickle_as_a_part(sound, refused):
    parts = sound["PointEstimate"]
    Evil.ran = False
    refused(parts._replace(manifest=pickle.dumps(Evil())), "no valid JSON")
    refused(parts._replace(tensors=pickle.dumps(Evil())), "header of tensors.safetensors")
    assert not Evil.ran


# -- the manifest ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[" * 10**6, "nested more than 64"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "nested more than 64"),
        (b'{"format": 1, "format": 1}', "'format' is there twice"),
        (b'{"format": 1, "a": {"x": 1, "x": 1}}', "'x' is there twice"),
        (b'{"format": NaN}', "NaN is not allowed"),
        (b'{"format": Infinity}', "Infinity is not allowed"),
        (b'{"format": 1', "no valid JSON"),
        (b'{"format": "\xff"}', "no valid JSON"),
        (b"\xef\xbb\xbf{}", "no valid JSON"),
        (b'{"a": ' + b"9" * 10**5 + b"}", "no valid JSON"),
        (b"[" + b"0," * 1_100_000 + b"0]", "more than 1000000 values"),
        (b"", "no valid JSON"),
        (b"[]", "no format number"),
        (b"{}", "no format number"),
        (b'{"format": true}', "no format number"),
        (b'{"format": 1}', "by which versions"),
        (b'{"format": 2, "versions": {"skuq": "9.0"}}', "format 2, of skuq 9.0.*upgrade"),
        (b'{"format": 1, "versions": {"skuq": 9}}', "by which versions"),
        (b'{"format": 1, "versions": {}, "left_out": [1]}', "what was left out"),
        (b'{"format": 1, "versions": {}, "left_out": []}', "has the keys"),
        (b'{"format": 1, "versions": {}, "left_out": [], "object": 1, "x": 1}', "has the keys"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_manifests(text, message, sound, refused):
    refused(with_manifest(sound["PointEstimate"], text), message)


def test_the_size_of_a_manifest(sound, folder, refused):
    with pytest.raises(PersistenceError, match=r"more than the 16777216"):
        _container.write(folder / "forged.skuq", Parts(b" " * (16 * 2**20 + 1), b""))
    content = bytearray(file_of(sound["PointEstimate"], folder))
    tail = len(content) - _container._TAIL_SIZE
    size = tail + struct.calcsize(_container._CENTRAL) + len("manifest.json") + 4
    declared = struct.unpack_from("<Q", content, size)[0]
    assert declared == len(sound["PointEstimate"].manifest)
    for absurd in (2**63, 2**64 - 1, 10**10, 0):
        struct.pack_into("<Q", content, size, absurd)
        refused(bytes(content), "no file of skuq.save")


OBJECTS = [
    ({"$": "object", "class": "os.system", "state": {}}, "'os.system' is no class"),
    ({"$": "object", "class": "tests.networks.Plain", "state": {}}, "is no class"),
    ({"$": "object", "class": ["a"], "state": {}}, "is no class"),
    ({"$": "value", "name": "builtins.eval"}, "'builtins.eval' is nothing"),
    ({"$": "value", "name": "torch.load"}, "'torch.load' is nothing"),
    ({"$": "value", "name": {"a": 1}}, "is nothing"),
    ({"$": "value", "name": "torch.optim.Adam"}, "no estimator but type|nothing refers"),
    ({"$": "call", "function": "eval"}, "unknown type 'call'"),
    ({"$": 5}, "unknown type '5'"),
    ({"$": "dtype", "value": "O8,(1000000000,)f8"}, "not of the form"),
    ({"$": "device", "value": "cuda:99999"}, "not of the form"),
    ({"$": "again", "id": 7}, "malformed: KeyError"),
    ({"$": "again", "id": [7]}, "no number of an object"),
    ({"$": "float", "value": "__import__('os')"}, "not of the form"),
    ({"$": "strings", "dtype": "<U100000", "shape": [999], "items": ["a"] * 999}, "too much"),
    ({"$": "strings", "dtype": "<U1", "shape": [10**9], "items": ["a"]}, "do not fill"),
    ({"$": "objects", "shape": [10**9], "items": []}, "do not fill"),
    ({"$": "tuple", "items": 5}, "no JSON list"),
    ({"$": "tuple"}, "KeyError"),
    ({"$": "dict", "items": [[[], 1]]}, "unhashable"),
    ({"$": "array", "tensor": "nowhere"}, "'nowhere' is referred to"),
    ({"$": "array", "tensor": ["t0"]}, "is referred to"),
    ({"$": "array", "tensor": "t0", "order": [5]}, "order is"),
    ({"$": "array", "tensor": "t0", "order": "x"}, "order is"),
    ({"$": "scalar", "dtype": "float64", "value": [1]}, "is no number"),
    ({"$": "scalar", "dtype": "V1000000000", "value": 1}, "not of the form"),
    ({"$": "RandomState", "key": [1], "rest": []}, "malformed"),
    ({"$": "Generator", "tensor": "t0"}, "malformed"),
    ({"$": "slice", "items": [1]}, "malformed|nothing refers"),
    ({"$": "estimator", "class": "skuq.posteriors.MCDropout"}, "no estimator with a network"),
    ({"$": "estimator", "class": "skuq.TorchClassifier", "module": None, "state": {}},
     "nothing refers"),
    ({"$": "module", "name": "os.system", "defined_in": "os"}, "'os.system'.*Files name no code"),
    ({"$": "module", "name": 5, "defined_in": "os"}, "no text"),
    ([1, 2], "nothing refers"),
    ("text", "nothing refers"),
    ({"$": "object", "class": "skuq.posteriors.MCDropout", "state": {}}, "nothing refers"),
    ([{"$": "array", "tensor": "t0"}, {"$": "array", "tensor": "t0"}], "not any more"),
    (
        {"$": "object", "class": "sklearn.preprocessing.StandardScaler",
         "state": {"__class__": {"$": "value", "name": "float"}}},
        "'__class__' is no name of an attribute",
    ),
    (
        {"$": "object", "class": "sklearn.preprocessing.StandardScaler", "state": {"a b": 1}},
        "'a b' is no name",
    ),
    ({"$": "object", "class": "skuq.DropoutMask", "state": {"evil": 1}}, "malformed: TypeError"),
]  # fmt: skip


@pytest.mark.parametrize(("node", "message"), OBJECTS, ids=lambda value: repr(value)[:40])
def test_objects(node, message, sound, refused):
    parts = sound["PointEstimate"]
    manifest = {**manifest_of(parts), "object": node}
    refused(with_manifest(parts, manifest), message)


def forged(parts, change):
    manifest = manifest_of(parts)
    change(manifest["object"])
    return with_manifest(parts, manifest)


def put(*path_and_value):
    *path, last, value = path_and_value

    def change(node):
        for key in path:
            node = node[key]
        node[last] = value

    return change


DRAWS = ("engine", "draws", "state")


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("PointEstimate", put("state", "_prefixed", "module__hidden_layer_sizes", 10**9), "shape"),
        ("PointEstimate", put("state", "_prefixed", "module__hidden_layer_sizes", -1), "positive"),
        (
            "PointEstimate",
            put("state", "_prefixed", "module__hidden_layer_sizes", [1] * 500_000),
            "500000 hidden layers",
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
        setattr(forgery, name, np.full(3, value) if name == "bias_" else value)
        parts, *_ = parts_of(forgery)
        refused(parts, f"{name} of a|could not convert|float")
        with pytest.raises(PersistenceError, match="nothing was saved, since load would refuse"):
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
    with_more = dict(_loaded(parts.tensors), evil=torch.zeros(3))
    refused(parts._replace(tensors=_saved(with_more)), "nothing refers to: .*evil")
    with_double = {name: t.double() if t.is_floating_point() else t
                   for name, t in _loaded(parts.tensors).items()}  # fmt: skip
    refused(parts._replace(tensors=_saved(with_double)), "torch.float64 in the file|malformed")
    with_less = dict(list(_loaded(parts.tensors).items())[:-1])
    refused(parts._replace(tensors=_saved(with_less)), "is referred to, but is not in the file")


def _loaded(part):
    from safetensors.torch import load

    return load(part)


def _saved(tensors):
    from safetensors.torch import save

    return save(tensors)


# -- safetensors -----------------------------------------------------------------------------------


def safetensors_part(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape, stop, dtype="F32", start=0):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


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


# -- anything at all in a manifest -----------------------------------------------------------------

LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False)
    | st.sampled_from(["", "$", "t0", "cpu", "<f8", "x" * 300, "__class__", "fit", "nan", "\0"])
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["$", "items", "class", "state", "id", "x"]), inner)
    ),
    max_leaves=6,
)
KINDS = st.sampled_from(
    ["float", "tuple", "dict", "array", "tensor", "strings", "objects", "scalar", "value", "dtype",
     "device", "slice", "RandomState", "Generator", "again", "object", "estimator", "module"]
)  # fmt: skip


def places(node, path=()):
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, item in items:
        yield (*path, key)
        if isinstance(item, dict | list):
            yield from places(item, (*path, key))


def mutated(manifest, draw):
    """One place changed: another value, gone, another type, or what stands at another place."""
    manifest = copy.deepcopy(manifest)
    path = draw(st.sampled_from([path for path in places(manifest) if path]))
    holder = manifest
    for key in path[:-1]:
        holder = holder[key]
    how = draw(st.sampled_from(["value", "gone", "kind", "moved"]))
    if how == "gone":
        del holder[path[-1]]
    elif how == "kind" and isinstance(holder[path[-1]], dict):
        holder[path[-1]]["$"] = draw(KINDS)
    elif how == "moved":
        other = manifest
        for key in draw(st.sampled_from(list(places(manifest)))):
            other = other[key]
        holder[path[-1]] = copy.deepcopy(other)
    else:
        holder[path[-1]] = draw(VALUES)
    return manifest


def load_mutated(sound, folder, data, draw):
    kind = draw(st.sampled_from(sorted(sound)))
    manifest = manifest_of(sound[kind])
    for _ in range(draw(st.integers(1, 3))):
        manifest = mutated(manifest, draw)
    _container.write(folder / "mutated.skuq", with_manifest(sound[kind], manifest))
    start = time.process_time()
    for action in (skuq.load, skuq.inspect):
        try:
            str(action(folder / "mutated.skuq"))
        except PersistenceError as error:
            assert len(str(error)) > 10
    assert time.process_time() - start < 1


@given(st.data())
@settings(max_examples=100, deadline=None, **NO_ONE_ELSE)
@pytest.mark.filterwarnings("ignore")
def test_changed_manifests(sound, folder, data, draws):
    load_mutated(sound, folder, data, draws.draw)


@pytest.mark.slow
@given(st.data())
@settings(max_examples=3000, deadline=None, **NO_ONE_ELSE)
@pytest.mark.filterwarnings("ignore")
def test_many_changed_manifests(sound, folder, data, draws):
    load_mutated(sound, folder, data, draws.draw)


# -- memory, and what runs -------------------------------------------------------------------------


def peak_bytes(action):
    """By how much the memory of the process grows at its peak."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear.exists():
        pytest.skip("needs Linux's /proc")

    def read(name):
        line = next(line for line in status.read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024

    clear.write_text("5")
    before = read("VmRSS")
    action()
    return read("VmHWM") - before


def test_memory_is_measured():
    assert peak_bytes(lambda: bytearray(200 * 2**20)) > 150e6


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: parts._replace(tensors=safetensors_part({"t0": entry([5 * 10**9], 4)}, b"4")),
        lambda parts: with_manifest(parts, b"[" * 15 * 10**6),
        lambda parts: with_manifest(parts, b"[" + b"[]," * 5 * 10**6 + b"0]"),
        lambda parts: with_manifest(parts, b'{"a":"' + b"x" * 15 * 10**6 + b'"}'),
        lambda parts: forged(parts, put("state", "_prefixed", "module__hidden_layer_sizes", 10**9)),
        lambda parts: forged(parts, put(*DRAWS, "n_draws", 10**9)),
        lambda parts: forged(parts, put(*DRAWS, "_masks", 0, "state", "shape", [10**9])),
    ],
    ids=["tensor", "deep", "wide", "long", "network", "draws", "masks"],
)
def test_memory(change, sound, folder):
    parts = change(sound["MCDropout"])
    _container.write(folder / "forged.skuq", parts)
    room = len(parts.manifest)  # the file itself has to be read

    def action():
        with pytest.raises(PersistenceError):
            skuq.load(folder / "forged.skuq")

    start = time.process_time()
    assert peak_bytes(action) < 100e6 + 2 * room
    assert time.process_time() - start < 1


def forbidden(name):
    def call(*args, **kwargs):
        raise AssertionError(f"load called {name}")

    return call


def test_nothing_runs(sound, folder, data, monkeypatch):
    """Of what makes code of data, load calls nothing; nor does it import anything."""
    X, y = data
    model = TorchClassifier(Plain, posterior=MCDropout(2), max_epochs=1, random_state=0)
    paths = [folder / "plain.skuq", folder / "scaled.skuq"]
    ensemble = model.set_params(posterior=DeepEnsemble(2)).fit(X, y)
    skuq.save(ensemble, paths[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        skuq.save(TemperatureScaler(ensemble, cv=2).fit(X, y), paths[1])
    expected = [skuq.load(path, module=Plain).predict_proba(X) for path in paths]
    imported = builtins.__import__

    def known_only(name, *args, **kwargs):
        assert name in sys.modules, f"load imported {name}"
        return imported(name, *args, **kwargs)

    with monkeypatch.context() as patched:
        for room, names in (
            (pickle, ("Unpickler", "_Unpickler", "load", "loads")),
            (torch, ("load",)),
            (joblib, ("load",)),
            (builtins, ("eval", "exec", "compile")),
            (importlib, ("import_module",)),
        ):
            for name in names:
                patched.setattr(room, name, forbidden(name))
        patched.setattr(builtins, "__import__", known_only)
        loaded = [skuq.load(path, module=Plain) for path in paths]
        with pytest.raises(AssertionError, match=r"load called eval"):
            eval("1")
        for parts in sound.values():
            _container.write(folder / "whole.skuq", parts)
            skuq.load(folder / "whole.skuq")
    for model, proba in zip(loaded, expected):
        assert np.array_equal(model.predict_proba(X), proba)


# -- JSON ------------------------------------------------------------------------------------------


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
))  # fmt: skip
@settings(max_examples=50, **NO_ONE_ELSE)
def test_json_round_trips(value):
    text = _json.dump(value)
    assert _json.parse(text, "it") == value
    assert _json.parse(text.replace(b",", b" , "), "it") is not None or value is None


def test_depth_is_that_outside_of_strings():
    for inside in ("[" * 200, '\\"' + "{" * 200, "\\\\", '"[' * 100):
        text = json.dumps([inside, {"a": inside}]).encode()
        assert _json.parse(text, "it") == json.loads(text)
    long = json.dumps(["\\" * 3 + '"['] * 400_000).encode()  # over several blocks
    assert _json.parse(long, "it") == json.loads(long)


def test_what_is_sound_but_no_fitted_estimator(sound, refused):
    empty = Parts(sound["PointEstimate"].manifest, _saved({}))
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


@pytest.mark.parametrize("number", ["1e400", "-1e999", "NaN", "Infinity"])
def test_numbers_that_are_not_finite(number):
    with pytest.raises(PersistenceError, match=f"{number} is not allowed"):
        parse(f'{{"a": {number}}}'.encode(), "the manifest")
