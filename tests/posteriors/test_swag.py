"""SWAG: its moments, its covariance, its batch statistics, and what it goes on from."""

import numpy as np
import pytest
import torch
from torch import nn

from skuq import TorchClassifier, TorchRegressor
from skuq.posteriors import SWAG, PointEstimate, _swag

OPTIONS = {
    "module__hidden_layer_sizes": (6,),
    "lr": 0.01,
    "max_epochs": 4,
    "batch_size": 60,
    "random_state": 0,
}


class Recording(_swag._Moments):
    """Keeps all weights, besides the moments."""

    walks = []  # of all members

    def __init__(self, max_rank):
        super().__init__(max_rank)
        self.recorded = []
        Recording.walks.append(self)

    def after_epoch(self, module, epoch):
        super().after_epoch(module, epoch)
        self.recorded.append({n: p.detach().clone() for n, p in module.named_parameters()})


@pytest.fixture
def walks(monkeypatch):
    Recording.walks = []
    monkeypatch.setattr(_swag, "_Moments", Recording)
    return Recording.walks


def classifier(posterior, **options):
    return TorchClassifier(posterior=posterior, **{**OPTIONS, **options})


def flat(weights):
    return torch.cat([value.flatten() for value in weights.values()]).detach().double().numpy()


def drawn(fitted):
    """The draws as a matrix, (n_draws, n_weights)."""
    draws = fitted._engine.draws
    tensors = draws.tensors(0, draws.n_draws)
    return torch.cat([t.flatten(1) for t in tensors.values()], dim=1).double().numpy()


def test_moments_are_those_of_numpy(blobs, walks):
    X, y = blobs
    posterior = SWAG(n_epochs=12, max_rank=5)
    classifier(posterior, precision="float64").fit(X, y)
    (walk,) = walks
    recorded = np.stack([flat(weights) for weights in walk.recorded])
    assert recorded.shape[0] == 12 and recorded.std(0).max() > 0.01
    np.testing.assert_allclose(flat(walk.mean), recorded.mean(0), atol=1e-14)
    np.testing.assert_allclose(flat(walk.variance()), recorded.var(0), atol=1e-14)
    np.testing.assert_array_equal([flat(weights) for weights in walk.last], recorded[-5:])


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_the_covariance_of_draws(scale, blobs, walks):
    X, y = blobs
    options = {"module__hidden_layer_sizes": (), "lr": 0.1}
    fitted = classifier(SWAG(n_epochs=8, max_rank=4, n_draws=4000, scale=scale), **options)
    weights = drawn(fitted.fit(X[:, :2], y))
    (walk,) = walks
    recorded = np.stack([flat(each) for each in walk.recorded])
    mean = recorded.mean(0)
    deviations = (recorded[-4:] - mean).T
    expected = scale * 0.5 * (np.diag(recorded.var(0)) + deviations @ deviations.T / 3)
    size = np.linalg.norm(expected)
    assert np.linalg.norm(np.cov(weights.T, bias=True) - expected) < 0.07 * size
    error = np.sqrt(np.diag(expected) / 4000)
    assert (np.abs(weights.mean(0) - mean) < 4.5 * error).all()


def test_scale_zero_is_the_mean(blobs, walks):
    X, y = blobs
    fitted = classifier(SWAG(n_epochs=5, scale=0.0)).fit(X, y)
    assert drawn(fitted).shape[0] == 1
    recorded = np.stack([flat(weights) for weights in walks[0].recorded])
    np.testing.assert_allclose(drawn(fitted)[0], recorded.mean(0), atol=1e-6)
    assert (fitted.predict_uncertainty(X, kind="epistemic") == 0).all()


def test_draws_do_not_depend_on_their_number(blobs):
    X, y = blobs
    few, many = (classifier(SWAG(n_epochs=3, n_draws=n, n_members=2)).fit(X, y) for n in (3, 7))
    np.testing.assert_array_equal(drawn(few), drawn(many)[:3])


def test_members_take_turns(blobs, walks):
    X, y = blobs
    fitted = classifier(SWAG(n_epochs=4, n_draws=5, n_members=2, scale=1e-12)).fit(X, y)
    means = [flat(walk.mean) for walk in walks]
    assert np.abs(means[0] - means[1]).max() > 0.1
    for draw, weights in enumerate(drawn(fitted)):
        np.testing.assert_allclose(weights, means[draw % 2], atol=1e-4)
    networks = fitted._engine.draws.networks(2)
    alone = classifier(PointEstimate()).fit(X, y)
    for name, parameter in networks[0].named_parameters():
        torch.testing.assert_close(parameter, alone.module_.get_parameter(name), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("trained", "walked"), [(4, 10), (40, 14)])
def test_a_third_of_the_training_and_at_least_ten(trained, walked, blobs, walks):
    X, y = blobs
    classifier(SWAG(n_draws=2), max_epochs=trained, batch_size=240).fit(X, y)
    assert len(walks[0].recorded) == walked


def test_without_training(blobs, walks):
    X, y = blobs
    trained = classifier(PointEstimate()).fit(X, y).module_
    with pytest.raises(ValueError, match=r"max_epochs=0 nothing trains: set n_epochs of SWAG"):
        TorchClassifier(lambda: trained, posterior=SWAG(), max_epochs=0).fit(X, y)
    options = {"max_epochs": 0, "lr": 1e-6, "random_state": 0}
    fitted = TorchClassifier(lambda: trained, posterior=SWAG(n_epochs=2), **options).fit(X, y)
    assert len(walks[-1].recorded) == 2
    np.testing.assert_allclose(
        flat(walks[-1].mean), flat(dict(trained.named_parameters())), atol=1e-4
    )
    assert fitted.predict_uncertainty(X, kind="epistemic").max() > 0


def test_the_walk_takes_the_optimizer_of_the_estimator(blobs, walks):
    X, y = blobs
    options = {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.5, "batch_size": 240}
    fitted = classifier(SWAG(n_epochs=2, lr=0.05, n_draws=2), **options, module__dropout=0.0)
    fitted.fit(X, y)
    weights = dict(fitted.module_.named_parameters())
    network = fitted.module_.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.5)
    for recorded in walks[0].recorded:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(torch.as_tensor(X)), torch.as_tensor(y)).backward()
        optimizer.step()
        for name, value in recorded.items():
            torch.testing.assert_close(weights[name].detach(), value, rtol=0, atol=1e-5)


class Normalised(nn.Sequential):
    def __init__(self, n_features, n_outputs):
        super().__init__(
            nn.Linear(n_features, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, n_outputs)
        )


def test_batch_statistics_belong_to_the_draw(diabetes):
    X, y = diabetes
    X = X.astype(np.float32)[:440]
    options = {"lr": 0.05, "max_epochs": 2, "batch_size": 88, "random_state": 0}
    regressor = TorchRegressor(Normalised, posterior=SWAG(n_epochs=5, n_draws=4), **options)
    draws = regressor.fit(X, y[:440])._engine.draws
    tensors = draws.tensors(0, 4)
    for k in range(4):
        hidden = torch.as_tensor(X) @ tensors["0.weight"][k].T + tensors["0.bias"][k]
        torch.testing.assert_close(tensors["1.running_mean"][k], hidden.mean(0), rtol=0, atol=1e-4)
        torch.testing.assert_close(tensors["1.running_var"][k], hidden.var(0), rtol=0.05, atol=0)
    assert tensors["1.running_var"].std(0).min() > 0


class RandomFeatures(nn.Module):
    """Members differ in a buffer and in frozen weights."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.register_buffer("shift", torch.rand(8))
        self.first = nn.Linear(n_features, 8).requires_grad_(False)
        self.last = nn.Linear(8, n_outputs)

    def forward(self, x):
        return self.last(torch.cos(self.first(x) + 6 * self.shift))


def test_members_keep_what_training_does_not_change(blobs):
    X, y = blobs
    options = {"lr": 1e-9, "max_epochs": 1, "random_state": 0}
    posterior = SWAG(n_epochs=1, n_draws=4, n_members=2)
    fitted = TorchClassifier(RandomFeatures, posterior=posterior, **options).fit(X, y)
    members = fitted._engine.draws.networks(2)
    expected = [member(torch.as_tensor(X)).softmax(1).detach().numpy() for member in members]
    assert np.abs(expected[0] - expected[1]).max() > 0.05
    for draw, proba in enumerate(fitted.predict_draws(X)):
        np.testing.assert_allclose(proba, expected[draw % 2], atol=1e-5)


@pytest.mark.parametrize(
    "bad",
    [{"n_epochs": 0}, {"lr": 0.0}, {"max_rank": 1}, {"scale": -1.0}, {"n_members": 0}],
    ids=str,
)
def test_bad_parameters(bad, blobs):
    with pytest.raises(ValueError, match=f"The '{next(iter(bad))}' parameter of SWAG"):
        classifier(SWAG(**bad)).fit(*blobs)
