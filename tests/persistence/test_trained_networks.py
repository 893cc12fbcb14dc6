"""Files of what skuq.from_trained made: trained weights, whatever builds the layers."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from torch import nn

import skuq
from skuq import TorchClassifier
from skuq._networks._trained import TrainedNetwork
from skuq.calibration import TemperatureScaler
from skuq.posteriors import MCDropout, PointEstimate
from tests import networks
from tests.test_from_trained import Net, classifier, trained

POINT = PointEstimate()
LAST = MCDropout(10, p=0.2, where="last")


@pytest.fixture
def network(blobs):
    X, y = blobs
    return trained(X[::2], torch.as_tensor(y[::2]), nn.functional.cross_entropy, 3)


@pytest.mark.parametrize("posterior", [POINT, LAST], ids=str)
def test_files(posterior, network, blobs, tmp_path):
    """Any builder of the layers will do, and clones of what is loaded begin with the weights."""
    X, y = blobs
    model = classifier(network, blobs, posterior)
    path = tmp_path / "m.skuq"
    skuq.save(model, path)
    weights = sum(t.numel() * 4 for t in model.module().state_dict().values())
    assert path.stat().st_size < 3 * weights + 60_000
    assert skuq.inspect(path).modules == {"Net": "tests.test_from_trained"}
    for module in (Net, lambda: Net(10, 3), Net(10, 3), {"Net": Net}):
        loaded = skuq.load(path, module=module)
        np.testing.assert_array_equal(loaded.predict_draws(X), model.predict_draws(X))
        assert repr(loaded) == repr(model)
        refitted = clone(loaded).fit(X[1::2], y[1::2])
        np.testing.assert_array_equal(refitted.predict_draws(X), model.predict_draws(X))
        pickle.dumps(loaded)
    with pytest.raises(skuq.PersistenceError, match=r"'Net'.*give that class, load"):
        skuq.load(path)
    with pytest.raises(skuq.PersistenceError, match="trained Net"):
        skuq.load(path, module=networks.Plain)
    skuq.save(loaded, path)
    again = skuq.load(path, module=Net)
    np.testing.assert_array_equal(again.predict_draws(X), model.predict_draws(X))


def test_files_of_networks_that_went_on(network, blobs, tmp_path):
    """Both the weights of the beginning and those of the end."""
    X, y = blobs
    network.head.bias.requires_grad_(False)
    model = classifier(network, blobs, lr=0.1, precision="float64").partial_fit(X, y)
    skuq.save(model, tmp_path / "m.skuq")
    loaded = skuq.load(tmp_path / "m.skuq", module=Net)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert not loaded.module_.head.bias.requires_grad
    assert not loaded.module().head.bias.requires_grad
    begun = clone(loaded).fit(X, y).module_.inner.weight
    assert torch.equal(begun, network.inner.weight.double())
    for one in (model, loaded):
        one.partial_fit(X, y)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


def test_files_of_compositions(network, blobs, tmp_path):
    X, y = blobs
    scaler = TemperatureScaler(classifier(network, blobs), cv=3).fit(X, y)
    skuq.save(scaler, tmp_path / "m.skuq")
    loaded = skuq.load(tmp_path / "m.skuq", module=Net)
    np.testing.assert_array_equal(loaded.predict_proba(X), scaler.predict_proba(X))


@pytest.mark.filterwarnings("ignore:the network predicts these rows worse:UserWarning")
def test_namesakes_in_one_file(blobs, tmp_path):
    X, y = blobs
    small, large = (
        classifier(nn.Sequential(nn.Linear(10, k), nn.Tanh(), nn.Linear(k, 3)), blobs)
        for k in (4, 5)
    )
    scaler = TemperatureScaler(FrozenEstimator(small))
    with pytest.warns(UserWarning, match="was trained on"):
        scaler.fit(X, y)
    scaler.estimator = large
    with pytest.raises(skuq.PersistenceError, match="both called Sequential"):
        skuq.save(scaler, tmp_path / "m.skuq")


def test_an_instance_is_no_builder_of_other_networks(blobs, tmp_path):
    X, y = blobs
    skuq.save(TorchClassifier(Net, posterior=POINT, max_epochs=1).fit(X, y), tmp_path / "m.skuq")
    with pytest.raises(TypeError, match=r"an instance is only possible if skuq.from_trained got"):
        skuq.load(tmp_path / "m.skuq", module=Net())


def test_a_trained_network_of_a_file_fits_its_class():
    tensors = dict(nn.Linear(3, 2).named_parameters())
    made = TrainedNetwork.rebuilt(nn.Linear(3, 2), tensors, frozenset(), "Linear", "torch")
    assert torch.equal(made().weight, tensors["weight"])
    for other, match in ((nn.Linear(3, 2, bias=False), "has the tensors"),
                         (nn.Linear(4, 2), r"'weight' of Linear has shape \(2, 4\)")):  # fmt: skip
        wrong = TrainedNetwork.rebuilt(other, tensors, frozenset(), "Linear", "torch")
        with pytest.raises(ValueError, match=match):
            wrong()
