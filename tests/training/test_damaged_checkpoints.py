"""A damaged file of a checkpoint folder is refused by name, or what it says is whole."""

import numpy as np
import pytest
import torch

from skuq import TorchClassifier
from skuq._training._checkpoints import Checkpoints, _naming_file_in_errors, _read, _write
from skuq.posteriors import DeepEnsemble

STATE = {
    "finished": False,
    "module": {"state": {"weight": torch.arange(6.0).reshape(2, 3)}, "numbers": {"": {"n": 1}}},
    "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "groups": [{"lr": 0.1, "b": (1, 2)}]},
    "history": [{"epoch": 1, "loss": np.float64(0.5)}],
}


@pytest.fixture
def path(tmp_path):
    _write(tmp_path / "skuq-network-0.npz", STATE)
    return tmp_path / "skuq-network-0.npz"


def check(path, content):
    path.write_bytes(content)
    try:
        with _naming_file_in_errors(path):
            found = _read(path)
    except ValueError as error:
        assert "cannot be read as a checkpoint of skuq" in str(error)
        assert f"delete {path.parent} to begin anew" in str(error)
        return True
    assert repr(found) == repr(STATE)  # a date or the like was hit
    return False


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_flipped_bits(path):
    content, random = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for position in random.integers(len(content), size=1500):
        flipped = bytearray(content)
        flipped[position] ^= 1 << random.integers(8)
        refused += check(path, bytes(flipped))
    assert refused > 750


def test_cut_short(path):
    content = path.read_bytes()
    for length in np.linspace(0, len(content) - 1, 100).astype(int):
        assert check(path, content[:length])


class Killed(BaseException):
    """Ends a process in the middle of a fit."""


@pytest.fixture
def killed(blobs, monkeypatch):
    """Fits an ensemble one network after another, killed once two of three are saved."""

    def fit(folder, seed=0, kill=True):
        classifier = TorchClassifier(
            posterior=DeepEnsemble(3, n_jobs=1), module__hidden_layer_sizes=(4,), max_epochs=2,
            checkpoint_dir=folder, random_state=seed,
        )  # fmt: skip
        save, finished = Checkpoints.save, []

        def save_or_die(self, name, state):
            save(self, name, state)
            finished.append(state["finished"])
            if sum(finished) == 2:
                raise Killed

        with monkeypatch.context() as patch:
            if kill:
                patch.setattr(Checkpoints, "save", save_or_die)
                with pytest.raises(Killed):
                    classifier.fit(*blobs)
            return classifier

    return fit


def test_files_that_changed_places_are_refused(killed, blobs, tmp_path):
    classifier = killed(tmp_path)
    one, two = (tmp_path / f"skuq-network-{k}.npz" for k in (0, 1))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    with pytest.raises(ValueError, match="cannot be read as a checkpoint of skuq"):
        classifier.fit(*blobs)
    one.write_bytes(first)
    two.write_bytes(second)
    expected = killed(None, kill=False).fit(*blobs)
    assert (
        classifier.fit(*blobs).predict_draws(blobs[0]) == expected.predict_draws(blobs[0])
    ).all()


def test_a_file_of_another_run_is_refused(killed, blobs, tmp_path):
    classifier = killed(tmp_path / "a")
    killed(tmp_path / "b", seed=1)
    stranger = (tmp_path / "b" / "skuq-network-1.npz").read_bytes()
    (tmp_path / "a" / "skuq-network-1.npz").write_bytes(stranger)
    with pytest.raises(ValueError, match="cannot be read as a checkpoint of skuq"):
        classifier.fit(*blobs)


@pytest.mark.parametrize("name", ["skuq-run", "skuq-network-0"])
@pytest.mark.parametrize("change", ["remove", "type"])
def test_what_is_missing_or_of_another_type_is_refused(name, change, killed, blobs, tmp_path):
    """Every key of the outermost level, in an archive that is whole."""
    classifier = killed(tmp_path)
    path = tmp_path / f"{name}.npz"
    content, state = path.read_bytes(), _read(path)
    for key in state:
        damaged = {k: v for k, v in state.items() if k != key}
        if change == "type":
            damaged = {**state, key: [state[key]]}
        _write(path, damaged)
        with pytest.raises(ValueError, match="begin anew"):
            classifier.fit(*blobs)
        path.write_bytes(content)
    classifier.fit(*blobs)
