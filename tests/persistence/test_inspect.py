"""What a file says of itself before anything of it is built."""

import pytest
import torch

import skuq
from skuq import PersistenceError, TorchClassifier
from skuq.persistence import _container, _networks
from skuq.posteriors import DeepEnsemble
from tests.networks import Plain

pytest.importorskip("safetensors")


@pytest.fixture
def path(tmp_path, blobs):
    model = TorchClassifier(
        Plain, posterior=DeepEnsemble(2), max_epochs=1, random_state=0, module__width=5
    ).fit(*blobs)
    skuq.save(model, tmp_path / "model.skuq")
    return tmp_path / "model.skuq"


def test_contents(path, monkeypatch):
    monkeypatch.setattr(_networks, "build", lambda *args: 1 / 0)  # nothing is built
    contents = skuq.inspect(path)
    assert contents.format == 1 and contents.n_bytes == path.stat().st_size
    assert contents.versions["torch"] == torch.__version__.partition("+")[0]
    assert contents.modules == {"Plain": "tests.networks"}
    name, parameters = contents.objects[""]
    assert name == "skuq.TorchClassifier" and parameters["module__width"] == "5"
    assert parameters["posterior"] == "skuq.posteriors.DeepEnsemble(...)"
    assert contents.objects["posterior"][1]["n_members"] == "2"
    assert contents.tensors["module_.layers.0.weight"] == ("F32", (5, 10))
    assert contents.tensors["_tensors.layers.0.weight"] == ("F32", (2, 5, 10))
    assert contents.tensors["outputs"] == ("F32", (2, 3, 3))
    text = str(contents)
    assert "needs module=Plain (from tests.networks)" in text and "module__width=5" in text


def test_text_cannot_rule_a_terminal(path):
    parts = _container.read(path)
    forged = parts.manifest.replace(b'"Plain"', b'"\\u001b[2J\\nPlain"')
    _container.write(path, parts._replace(manifest=forged))
    assert "\x1b" not in str(skuq.inspect(path))
    path.write_bytes(b"nothing")
    with pytest.raises(PersistenceError):
        skuq.inspect(path)
