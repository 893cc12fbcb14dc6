"""Sound files, to be damaged, and what every damaged one must do."""

import time

import numpy as np
import pytest

import skuq
from skuq import PersistenceError, TorchClassifier
from skuq.persistence import _container
from skuq.persistence._container import Parts
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate
from tests.persistence.forging import SMALL


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
