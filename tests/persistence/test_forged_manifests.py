"""Forged manifests, and anything at all in one: an error that names the problem, quickly."""

import copy
import json
import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import skuq
from skuq import PersistenceError
from skuq.persistence import _container, _json
from skuq.persistence._container import Parts
from skuq.persistence._json import parse
from tests.persistence.forging import NO_ONE_ELSE, file_of, manifest_of, with_manifest

pytest.importorskip("safetensors")

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
        (b'{"format": 1, "versions": {}, "left_out": [1]}', "the parameters that were left out"),
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


@pytest.mark.parametrize("number", ["1e400", "-1e999", "NaN", "Infinity"])
def test_numbers_that_are_not_finite(number):
    with pytest.raises(PersistenceError, match=f"{number} is not allowed"):
        parse(f'{{"a": {number}}}'.encode(), "the manifest")
