"""Checkpoints of another fit, damaged ones, and what cannot be stored: refused with the reason."""

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

from skuq import DivergedError, TorchRegressor
from skuq._training._checkpoints import _write
from skuq.posteriors import DeepEnsemble, PointEstimate
from tests.training.killing import Fallible, Killed, Noisy, classifier


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"lr": 0.02}, r"parameters \(lr=0.01 there, 0.02 here\)"),
        ({"random_state": 1}, r"parameters \(random_state=0 there, 1 here\)"),
        ({"random_state": None}, r"parameters \(random_state=0 there, None here\)"),
        ({"optimizer__weight_decay": 0.1}, "optimizer__weight_decay=None there, 0.1 here"),
        ({"posterior": DeepEnsemble(2)}, "posterior=PointEstimate"),
        ({"module": Noisy}, "module=tests.training.killing.Fallible there"),
        ({"callbacks": [EarlyStopping("train_loss", patience=3)]}, "callbacks=None there"),
        ({"precision": "float64", "max_epochs": 6}, r"data \(X\).*max_epochs=.*precision="),
    ],
)
def test_other_parameters(options, reason, begun, blobs):
    with pytest.raises(ValueError, match=reason) as caught:
        begun(**options).fit(*blobs)
    assert "delete this one to begin anew" in str(caught.value)
    assert begun(on_interrupt="keep", checkpoint_minutes=1, verbose=1).fit(*blobs).n_iter_ == 5


def test_other_data(begun, blobs):
    X, y = blobs
    moved = X.copy()
    moved[-1, -1] += 1e-3
    with pytest.raises(ValueError, match=r"begun with other data \(X\)"):
        begun().fit(moved, y)
    with pytest.raises(ValueError, match=r"other data \(X, y\)"):
        begun().fit(X[:-1], y[:-1])
    with pytest.raises(ValueError, match=r"other data \(y\)"):
        begun().fit(X, np.roll(y, 1))
    with pytest.raises(ValueError, match=r"other data \(sample_weight\)"):
        begun().fit(X, y, sample_weight=np.linspace(1, 2, len(y)))
    with pytest.raises(ValueError, match=r"other data \(groups\)"):
        begun().fit(X, y, groups=np.arange(len(y)) // 2)
    begun().fit(X, y)
    begun().fit(moved, y)  # which was over, so that another may begin


def test_other_versions(begun, blobs, monkeypatch):
    monkeypatch.setattr("skuq._training._identity.importlib.metadata.version", lambda name: "0.0")
    with pytest.raises(ValueError, match=r"other versions \(numpy=.* there, 0.0 here"):
        begun().fit(*blobs)


def test_a_module_that_was_rewritten(begun, blobs, monkeypatch):
    def init(self, n_features, n_outputs):
        super(Fallible, self).__init__(n_features, n_outputs, width=8)
        self.norm, self.scale, self.calls = nn.BatchNorm1d(8), torch.ones(1), 0

    monkeypatch.setattr(Fallible, "__init__", init)
    with pytest.raises(ValueError, match="another module than the present Fallible"):
        begun().fit(*blobs)


@pytest.mark.parametrize("name", ["skuq-run.npz", "skuq-network-0.npz"])
@pytest.mark.parametrize("damage", [b"", b"no archive", None])
def test_a_damaged_file(name, damage, begun, blobs, tmp_path):
    path = tmp_path / name
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 1
    path.write_bytes(bytes(flipped) if damage is None else damage)
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        begun().fit(*blobs)


def test_a_file_of_another_format(begun, blobs, tmp_path):
    _write(tmp_path / "skuq-run.npz", {"format": 99, "identity": {}, "root": 0})
    with pytest.raises(ValueError, match="has format 99, expected 2"):
        begun().fit(*blobs)


def test_not_a_folder(blobs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is not a folder that can be made"):
        classifier(checkpoint_dir=tmp_path / "file").fit(*blobs)


class Unstorable(Callback):
    def __init__(self):
        self.log = object()


class Storable(Unstorable):
    """The same, which says itself what it is to keep."""

    def state_dict(self):
        return {"n": 1}

    def load_state_dict(self, state):
        assert state == {"n": 1}


def test_callbacks_that_cannot_be_stored(blobs, tmp_path, faults):
    X, y = blobs
    with pytest.raises(ValueError, match=r"'Unstorable': its attribute 'log', of type object"):
        classifier(callbacks=[Unstorable], checkpoint_dir=tmp_path).fit(X, y)
    run = lambda: classifier(callbacks=[Storable], checkpoint_dir=tmp_path / "other")
    faults.count, faults.at = 0, 25
    with pytest.raises(Killed):
        run().fit(X, y)
    faults.at = None
    assert run().fit(X, y).n_iter_ == 5


def test_iterators_that_cannot_be_stored(blobs, tmp_path):
    sampler = torch.utils.data.RandomSampler(range(240))
    network = classifier(iterator_train__sampler=sampler, checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match="cannot be used with iterator_train__sampler"):
        network.fit(*blobs)


def test_a_fit_that_diverges_is_over(diabetes, tmp_path):
    X, y = diabetes
    options = {"posterior": PointEstimate(), "checkpoint_dir": tmp_path, "max_epochs": 3}
    with pytest.raises(DivergedError):
        TorchRegressor(optimizer=torch.optim.SGD, lr=1e30, **options).fit(X, y)
    TorchRegressor(lr=0.01, **options).fit(X, y)
