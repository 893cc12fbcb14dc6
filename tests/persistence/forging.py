"""Forged files: a sound one with another manifest, other tensors, another value."""

import json
import struct

from hypothesis import HealthCheck

from skuq.persistence import _container

SMALL = {"max_epochs": 1, "random_state": 0, "module__hidden_layer_sizes": (3,)}
NO_ONE_ELSE = {"suppress_health_check": list(HealthCheck), "database": None, "derandomize": True}


def manifest_of(parts):
    return json.loads(parts.manifest)


def with_manifest(parts, manifest):
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    return parts._replace(manifest=text)


def file_of(parts, folder):
    _container.write(folder / "whole.skuq", parts)
    return (folder / "whole.skuq").read_bytes()


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


def tensors_in(part):
    from safetensors.torch import load

    return load(part)


def part_with(tensors):
    from safetensors.torch import save

    return save(tensors)


def safetensors_part(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape, stop, dtype="F32", start=0):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}
