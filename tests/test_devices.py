"""The same on every device. The CUDA half skips visibly where there is none."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from skuq import TorchClassifier, TorchRegressor
from skuq.calibration import TemperatureScaler, fit_temperature
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate

POSTERIORS = [PointEstimate(), MCDropout(5), DeepEnsemble(2)]


def classifier(posterior, device, **options):
    # Without dropout in training, whose noise comes from a generator of the device.
    return TorchClassifier(
        posterior=posterior, device=device, max_epochs=5, random_state=0, **options
    )


class TrainedWithoutNoise(nn.Sequential):
    """Dropout that the user keeps in eval mode while training, so that devices agree."""

    def __init__(self, n_features, n_outputs):
        super().__init__(
            nn.Linear(n_features, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, n_outputs)
        )

    def train(self, mode=True):
        super().train(mode)
        self[2].training = False
        return self


@pytest.mark.parametrize("posterior", POSTERIORS, ids=str)
def test_agrees_with_the_cpu(posterior, device, blobs, diabetes):
    X, y = blobs
    here, there = (
        classifier(posterior, d, module=TrainedWithoutNoise).fit(X, y) for d in ("cpu", device)
    )
    assert there.device_.startswith(device)
    np.testing.assert_allclose(there.predict_proba(X), here.predict_proba(X), atol=1e-4)
    for a, b in zip(there.predict_uncertainty(X, "all"), here.predict_uncertainty(X, "all")):
        np.testing.assert_allclose(a, b, atol=1e-4)
    np.testing.assert_allclose(there.predict_draws(X), here.predict_draws(X), atol=1e-4)
    X, y = diabetes
    here, there = (
        TorchRegressor(
            TrainedWithoutNoise, posterior=posterior, device=d, max_epochs=5, random_state=0
        ).fit(X, y)
        for d in ("cpu", device)
    )
    scale = y.std()
    for ask in ("predict", "predict_interval"):
        a, b = getattr(there, ask)(X), getattr(here, ask)(X)
        np.testing.assert_allclose(a / scale, b / scale, atol=1e-4)


@pytest.mark.parametrize("posterior", POSTERIORS, ids=str)
def test_data_and_draws_stay_on_the_device(posterior, device, blobs):
    X, y = blobs
    fitted = classifier(posterior, device).fit(X, y)
    seen = set()

    def reduction(output):
        seen.add(output.device.type)
        return output.mean(0)

    fitted._engine.map(X, reduction)
    tensors = fitted._engine.draws.tensors(0, fitted._engine.draws.n_draws).values()
    seen |= {t.device.type for t in tensors}
    seen |= {p.device.type for p in fitted.module_.parameters()}
    seen.add(fitted.draws(torch.as_tensor(X)).device.type)
    assert seen == {device}
    assert next(fitted.module_.parameters()).device.type == device


@pytest.mark.parametrize("posterior", POSTERIORS, ids=str)
def test_refitting_is_bit_identical(posterior, device, blobs):
    X, y = blobs
    one, two = (classifier(posterior, device).fit(X, y).predict_proba(X) for _ in range(2))
    assert np.array_equal(one, two)


@pytest.mark.gpu
@pytest.mark.parametrize("posterior", POSTERIORS, ids=str)
def test_generators_of_cuda_are_left_alone(posterior, blobs):
    X, y = blobs
    before = torch.cuda.get_rng_state_all()
    classifier(posterior, "cuda").fit(X, y).predict_uncertainty(X)
    assert all(map(torch.equal, before, torch.cuda.get_rng_state_all()))


def test_temperature(device, blobs):
    X, y = blobs
    scaler = TemperatureScaler(classifier(MCDropout(3), device), cv=2).fit(X, y)
    assert scaler.predict_proba(X).shape == (len(X), 3)
    labels = np.arange(100) % 3
    logits = np.random.default_rng(0).normal(size=(2, 100, 3)) + 2 * np.eye(3)[labels]
    moved = fit_temperature(torch.tensor(logits, device=device), torch.tensor(labels))
    assert moved == pytest.approx(fit_temperature(logits, labels), rel=1e-6)


LOAD = """
import pickle, sys, warnings
import numpy as np
warnings.simplefilter("error")
with open(sys.argv[1], "rb") as file:
    fitted, X, expected = pickle.load(file)
assert fitted.device_ == "cpu"
np.testing.assert_allclose(fitted.predict_proba(X), expected, atol=1e-5)
fitted.partial_fit(X, fitted.predict(X), classes=fitted.classes_)
"""


@pytest.mark.gpu
@pytest.mark.parametrize("posterior", POSTERIORS, ids=str)
def test_a_pickle_from_cuda_loads_where_there_is_none(posterior, blobs, tmp_path):
    X, y = blobs
    fitted = classifier(posterior, "auto").partial_fit(X, y)
    path = tmp_path / "model.pickle"
    path.write_bytes(pickle.dumps((fitted, X, fitted.predict_proba(X))))
    subprocess.run(
        [sys.executable, "-c", LOAD, str(path)], check=True, env={"CUDA_VISIBLE_DEVICES": ""}
    )
    assert np.allclose(
        pickle.loads(path.read_bytes())[0].predict_proba(X), fitted.predict_proba(X), atol=1e-5
    )


def test_a_device_that_is_gone_becomes_the_cpu_with_a_warning(blobs):
    X, y = blobs
    fitted = classifier(MCDropout(3), "cpu").fit(X, y)
    expected = fitted.predict_proba(X)
    fitted.device = "cuda:99"
    with pytest.warns(UserWarning, match=r"'cuda:99' is not available .* Predicting on the CPU"):
        again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict_proba(X), expected)


def test_an_engine_of_another_device_pickles_as_one_of_the_cpu(blobs):
    """Without a GPU: the meta device stands for it."""
    X, y = blobs
    engine = classifier(DeepEnsemble(2), "cpu").fit(X, y)._engine
    expected, x = engine(torch.as_tensor(X)), torch.as_tensor(X)
    engine.numerics = type(engine.numerics)(torch.device("meta"), "float32")
    again = pickle.loads(pickle.dumps(engine))
    assert again.numerics.device == torch.device("cpu")
    assert torch.equal(again(x), expected)
