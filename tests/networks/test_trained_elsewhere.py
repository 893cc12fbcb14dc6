"""Networks that something else has trained: max_epochs=0."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from torch import nn

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq.calibration import TemperatureScaler
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate
from tests import networks


def trained(X, y, seed=0, module=networks.ResidualNet, loss=nn.functional.cross_entropy):
    """A network, trained by hand."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.BatchNorm1d(X.shape[1]), module(X.shape[1], 3 if y.ndim == 1 else 2))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        loss(network(torch.as_tensor(X, dtype=torch.float32)), torch.as_tensor(y)).backward()
        optimizer.step()
    return network.eval()


def taking(network, posterior, **options):
    options = {"max_epochs": 0, "random_state": 0, **options}
    return TorchClassifier(lambda: network, posterior=posterior, **options)


@pytest.fixture
def network(blobs):
    return trained(*blobs)


def logits(network, X):
    with torch.no_grad():
        return network(torch.as_tensor(X)).double()


def test_it_is_taken_as_it_is(network, blobs, untouched_globals):
    X, y = blobs
    before = copy.deepcopy(network.state_dict())
    labels = np.array(["c", "b", "a"])[y]  # the outputs are those of 0, 1, 2
    fitted = taking(network, PointEstimate()).fit(X, 2 - y)
    assert fitted.n_iter_ == 0 and fitted.history_ == [] and fitted.histories_ == [[]]
    for state in (network.state_dict(), fitted.module_.state_dict()):
        assert all(torch.equal(tensor, before[name]) for name, tensor in state.items())
    proba = logits(network, X).softmax(1).numpy()
    np.testing.assert_allclose(fitted.predict_proba(X), proba, atol=1e-6)
    assert list(taking(network, PointEstimate()).fit(X, labels).classes_) == ["a", "b", "c"]


def test_masks_are_drawn_and_all_else_follows(network, blobs, tmp_path):
    X, y = blobs
    fitted = taking(network, MCDropout(20)).fit(X, y)
    module = fitted.module  # a lambda, which no pickle takes
    assert (fitted.predict_uncertainty(X, "epistemic") > 0).all()
    again = pickle.loads(pickle.dumps(fitted.set_params(module=nn.Identity)))
    assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))
    fitted.module = network_of
    skuq.save(fitted, tmp_path / "m.skuq")
    loaded = skuq.load(tmp_path / "m.skuq", module=network_of)
    assert np.array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    with pytest.warns(UserWarning, match="was trained on 100% of the rows"):
        scaler = TemperatureScaler(FrozenEstimator(fitted)).fit(X, y)
    assert scaler.predict_proba(X).shape == (240, 3)
    with pytest.raises(ValueError, match="module"):  # training goes on with what is there
        fitted.partial_fit(X, y)
    going = fitted.set_params(module=module).partial_fit(X, y)
    assert going.n_iter_ == 1 and len(going.history_) == 1
    assert not torch.equal(going.module_[1].outer.weight, network[1].outer.weight)


def network_of(n_features=10, n_outputs=3):
    return nn.Sequential(nn.BatchNorm1d(n_features), networks.ResidualNet(n_features, n_outputs))


@pytest.mark.parametrize("options", [{"n_jobs": None}, {"n_jobs": 1}])
@pytest.mark.parametrize("device", ["cpu", ["cpu:0", "cpu:1"]])
def test_members_of_an_ensemble(options, device, blobs):
    X, y = blobs
    members = [trained(X, y, seed) for seed in range(3)]
    following = iter(members)
    fitted = TorchClassifier(
        lambda: next(following), posterior=DeepEnsemble(3, **options), max_epochs=0, device=device
    ).fit(X, y)
    for draw, member in zip(fitted.predict_draws(X), members):
        np.testing.assert_allclose(draw, logits(member, X).softmax(1).numpy(), atol=1e-6)


def test_a_regressor_takes_standardised_outputs(diabetes):
    """Trained on (y - mean) / std, as skuq would have trained it."""
    X, y = diabetes
    target = np.stack([(y - y.mean()) / y.std()] * 2, 1).astype(np.float32)

    def nll(output, target):
        mean, log_variance = output.unbind(1)
        return ((target[:, 0] - mean) ** 2 * (-log_variance).exp() + log_variance).mean()

    network = trained(X, target, loss=nll)
    fitted = TorchRegressor(lambda: network, posterior=PointEstimate(), max_epochs=0).fit(X, y)
    mean, log_variance = logits(network, X.astype(np.float32)).numpy().T
    predicted, std = fitted.predict(X, return_std=True)
    np.testing.assert_allclose(predicted, y.mean() + y.std() * mean, rtol=1e-4)
    np.testing.assert_allclose(std, y.std() * np.exp(log_variance / 2), rtol=1e-4)


def test_weights_that_are_no_numbers(network, blobs):
    def fit(**options):
        return taking(network, PointEstimate(), **options).fit(*blobs)

    with torch.no_grad():
        network[1].outer.bias[1] = torch.inf
    with pytest.raises(ValueError, match=r"'1.outer.bias' of Sequential holds NaN or infinity"):
        fit()
    with torch.no_grad():
        network[1].outer.bias[1] = torch.nan
    for epochs in (0, 1):
        with pytest.raises(ValueError, match="Sequential returns NaN for finite rows before it is"):
            fit(max_epochs=epochs)
