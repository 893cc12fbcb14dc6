"""Estimators at several places: a few times they load, exponentially often they do not."""

import json

import numpy as np
import pytest
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq import PersistenceError
from skuq.persistence import _container
from skuq.persistence._save import parts_of

pytest.importorskip("safetensors")


def nested(n_levels):
    """Each level holds the one below it twice."""
    inner = StandardScaler().fit(np.arange(6.0).reshape(3, 2))
    for _ in range(n_levels):
        inner = Pipeline([("a", inner), ("b", inner)])
    return inner


def test_a_few_levels_load(tmp_path):
    skuq.save(nested(4), tmp_path / "m.skuq")
    loaded = skuq.load(tmp_path / "m.skuq")
    assert loaded.steps[0][1] is loaded.steps[1][1]


@pytest.mark.parametrize("n_levels", [9, 30])
def test_many_levels_are_refused(n_levels, tmp_path):
    path = tmp_path / "m.skuq"
    _container.write(path, forged(n_levels))
    assert path.stat().st_size < 20_000
    with pytest.raises(PersistenceError, match="hold one another so many times"):
        skuq.load(path)


def test_save_refuses_what_load_would(tmp_path):
    with pytest.raises(PersistenceError, match=r"nothing was saved.*hold one another"):
        skuq.save(nested(9), tmp_path / "m.skuq")
    assert not list(tmp_path.iterdir())


def forged(n_levels):
    """Pipelines beside one another, each of which holds the one before it twice."""
    parts, *_ = parts_of(nested(1))
    manifest = json.loads(parts.manifest)
    top = manifest["object"]
    levels = [{**top, "id": 1000}]
    for number in range(1000, 1000 + n_levels):
        again = {"$": "again", "id": number}
        steps = [{"$": "tuple", "items": [name, again]} for name in "ab"]
        levels.append({**top, "id": number + 1, "state": {**top["state"], "steps": steps}})
    manifest["object"] = {**levels[-1], "state": {"levels": levels[:-1], **levels[-1]["state"]}}
    return parts._replace(manifest=json.dumps(manifest).encode())
