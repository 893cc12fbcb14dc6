"""The Laplace approximation with networks trained elsewhere, in other company, and refused."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq._training._checkpoints import Checkpoints
from skuq.likelihoods import Gaussian, MixtureOfGaussians, Quantile, StudentT
from skuq.posteriors import LastLayerLaplace
from tests.posteriors.laplace_networks import DOUBLE, STRUCTURES, Known, Linear, Net, stacked

# -- networks trained elsewhere, and what is refused -----------------------------------------------


def test_a_network_that_was_trained_elsewhere(blobs):
    X, y = blobs
    posterior = LastLayerLaplace(n_draws=20)
    options = {"posterior": posterior, "random_state": 0}
    trained = TorchClassifier(Net, max_epochs=5, **options).fit(X, y)
    weights = {name: t.clone() for name, t in trained.module_.state_dict().items()}
    after = TorchClassifier(Net, module__weights=weights, max_epochs=0, **options).fit(X, y)
    assert np.array_equal(after.predict_draws(X), trained.predict_draws(X))


class Ending(nn.Module):
    """A linear layer, and what follows it."""

    def __init__(self, n_features, n_outputs, ending="none"):
        super().__init__()
        self.first, self.last = nn.Linear(n_features, 4), nn.Linear(4, n_outputs)
        self.square = nn.Linear(n_features, n_features)
        self.conv = nn.Conv1d(4, n_outputs, 1)
        self.ending = ending
        if ending == "tied":
            self.other = nn.Linear(4, n_outputs)
            self.other.weight = self.last.weight
        if ending == "normalised":
            torch.nn.utils.parametrizations.weight_norm(self.last)
        with torch.no_grad():
            self.last.bias += 10  # a ReLU does not show in outputs on a few rows

    def forward(self, x):
        h = self.first(x).tanh()
        if self.ending == "twice":
            return self.last(h) + self.last(-h)
        if self.ending == "conv":
            return self.conv(h[..., None])[..., 0]
        if self.ending == "beside":
            return self.last(h) + 1e-3 * h.sum(-1, keepdim=True)
        out = self.last(h)
        endings = {
            "relu": torch.relu,
            "softplus": nn.functional.softplus,
            "scaled": lambda t: 2 * t,
        }
        return endings.get(self.ending, lambda t: t)(out)


@pytest.mark.parametrize(
    ("ending", "why"),
    [
        ("twice", "'last', is called 2 times"),
        ("tied", "'last', is tied"),
        ("relu", "something follows its last nn.Linear, 'last'"),
        ("softplus", "something follows"),
        ("scaled", "something follows"),
        ("beside", "something follows"),
        ("conv", "something follows its last nn.Linear, 'first'"),
        ("normalised", "its last nn.Linear, 'last', is reparametrized"),
    ],
)
@pytest.mark.filterwarnings("ignore:Ending ends in")
def test_networks_that_do_not_end_in_a_linear_layer(ending, why, diabetes):
    X, y = diabetes
    regressor = TorchRegressor(
        Ending, posterior=LastLayerLaplace(), module__ending=ending, likelihood=Known(),
        max_epochs=10**6,
    )  # fmt: skip
    with pytest.raises(ValueError, match=f"that ends in an nn.Linear, but for Ending, .*{why}"):
        regressor.fit(X, y)


def test_the_same_network_without_such_an_ending(diabetes):
    X, y = diabetes
    options = {"posterior": LastLayerLaplace(), "likelihood": Known(), "max_epochs": 1}
    assert TorchRegressor(Ending, **options).fit(X, y).posterior_.layer_ == "last"


@pytest.mark.parametrize(
    "likelihood", [Quantile(), MixtureOfGaussians(), StudentT(df="free")], ids=str
)
def test_likelihoods_without_information(likelihood, diabetes):
    make = TorchRegressor(likelihood=likelihood, posterior=LastLayerLaplace(), max_epochs=10**6)
    with pytest.raises(ValueError, match="needs the Fisher information of the outputs, but"):
        make.fit(*diabetes)


def test_validation_needs_stopping_rows(blobs):
    make = TorchClassifier(posterior=LastLayerLaplace(prior_precision="validation"))
    with pytest.raises(ValueError, match="there are no validation rows: set early_stopping=True"):
        make.set_params(max_epochs=10**6).fit(*blobs)


@pytest.mark.parametrize(
    "parameters",
    [
        {"structure": "block"},
        {"prior_precision": 0.0},
        {"prior_precision": -1.0},
        {"prior_precision": "marglik"},
        {"n_draws": 0},
        {"temperature": 0.0},
    ],
    ids=str,
)
def test_bad_parameters(parameters, blobs):
    (name,) = parameters
    with pytest.raises(ValueError, match=f"The '{name}' parameter of LastLayerLaplace"):
        TorchClassifier(posterior=LastLayerLaplace(**parameters), max_epochs=1).fit(*blobs)


def test_auto_is_full_for_few_weights():
    random = np.random.default_rng(0)
    X = random.normal(size=(300, 4)).astype(np.float32)
    found = {}
    for n_classes in (9, 10):
        options = {"module__hidden_layer_sizes": (100,), "max_epochs": 0, "random_state": 0}
        fitted = TorchClassifier(posterior=LastLayerLaplace(n_draws=2), **options)
        found[n_classes] = fitted.fit(X, np.arange(300) % n_classes).posterior_.structure_
    assert found == {9: "full", 10: "kronecker"}  # 909 and 1010 weights and biases


def test_a_curvature_that_swallows_the_prior(diabetes):
    """Rounding says nothing: what the data do not fix keeps the prior."""
    X, y = diabetes
    X = np.column_stack([1e6 * X[:, :1], 1e6 * X[:, :1], X[:, 1:3]])
    posterior = LastLayerLaplace("full", 1e-3, n_draws=200)
    options = {"likelihood": Known(1e-4), "max_epochs": 0, **DOUBLE}
    fitted = TorchRegressor(Linear, posterior=posterior, **options).fit(X, y)
    draws = stacked(fitted)[:, 0]
    assert torch.isfinite(draws).all()
    assert (draws[:, 0] - draws[:, 1]).std() == pytest.approx((2 / 1e-3) ** 0.5, rel=0.3)
    assert (draws[:, 0] + draws[:, 1]).std() < 1e-3


# -- going on, and other company -------------------------------------------------------------------


def test_a_warm_start_goes_on_from_the_trained_network(blobs):
    X, y = blobs
    options = {"warm_start": True, "max_epochs": 3, **DOUBLE}
    fitted = TorchClassifier(Net, posterior=LastLayerLaplace(n_draws=6), **options).fit(X, y)
    before, draws = fitted.module_[2].weight.detach().clone(), stacked(fitted)
    fitted.set_params(lr=1e-12, max_epochs=1).fit(X, y)
    torch.testing.assert_close(fitted.module_[2].weight.detach(), before)
    torch.testing.assert_close(stacked(fitted), draws)


class Killed(BaseException):
    """What ends a process in the middle of a fit."""


@pytest.mark.parametrize("at", [1, 3, "the posterior"])
def test_a_fit_that_was_killed_goes_on(at, blobs, tmp_path, monkeypatch):
    X, y = blobs
    options = {"max_epochs": 4, "random_state": 0}
    make = TorchClassifier(posterior=LastLayerLaplace(n_draws=6), **options)
    expected = clone(make).fit(X, y)
    resumed, saved = clone(make).set_params(checkpoint_dir=tmp_path), []

    def save_or_die(self, name, state, save=Checkpoints.save):
        save(self, name, state)
        saved.append(name)
        if len(saved) == at:
            raise Killed

    def die(*args):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_or_die)
        if at == "the posterior":
            patch.setattr(LastLayerLaplace, "_curvature", die)
        with pytest.raises(Killed):
            resumed.fit(X, y)
    resumed.fit(X, y)
    assert np.array_equal(resumed.predict_draws(X), expected.predict_draws(X))
    assert resumed.posterior_.prior_precision_ == expected.posterior_.prior_precision_


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_under_calibration_views_and_other_precisions(precision, blobs, tmp_path):
    from sklearn.frozen import FrozenEstimator

    from skuq.augmentation import FeatureNoise, TestTimeAugmentation
    from skuq.calibration import TemperatureScaler

    X, y = blobs
    inner = TorchClassifier(
        posterior=LastLayerLaplace(n_draws=10), precision=precision, max_epochs=3, random_state=0
    )
    assert (TemperatureScaler(inner, cv=2).fit(X, y).predict_proba(X) > 0).all()
    fitted = inner.fit(X, y)
    views = TestTimeAugmentation(FrozenEstimator(fitted), FeatureNoise(0.1), n_views=3)
    assert skuq.predict_uncertainty(views.fit(X, y), X).shape == (len(X),)
    again = clone(inner).fit(X, y)
    assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))


def test_the_first_of_several_devices_has_it(blobs):
    X, y = blobs
    options = {"posterior": LastLayerLaplace(n_draws=4), "max_epochs": 2, "random_state": 0}
    one, two = (TorchClassifier(device=d, **options).fit(X, y) for d in ("cpu", ["cpu:0", "cpu:1"]))
    np.testing.assert_allclose(one.predict_proba(X), two.predict_proba(X), atol=1e-6)


def test_a_dataset_that_is_read_on_demand(blobs):
    X, y = blobs
    options = {"posterior": LastLayerLaplace(n_draws=4), "max_epochs": 2, "random_state": 0}
    data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(y))
    one, other = TorchClassifier(**options).fit(X, y), TorchClassifier(**options).fit(data)
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), atol=1e-6)


class InUnitsOfY(nn.Module):
    """A network whose means and log-variances are those of y itself, not of (y − a) / b."""

    def __init__(self, network, location, scale):
        super().__init__()
        self.trunk = nn.Sequential(network[0], network[1])
        self.head = nn.Linear(3, network[2].out_features)
        self.double()
        factors = torch.tensor([scale, 1.0])[: self.head.out_features].double()
        offsets = torch.tensor([location, 2 * np.log(scale)])[: self.head.out_features].double()
        with torch.no_grad():
            self.head.weight.copy_(network[2].weight * factors[:, None])
            self.head.bias.copy_(network[2].bias * factors + offsets)

    def forward(self, x):
        return self.head(self.trunk(x))


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize(
    ("heteroscedastic", "prior"), [(False, "init"), (True, "init"), (False, "evidence")]
)
def test_the_units_of_y_do_not_matter(heteroscedastic, structure, prior, diabetes):
    """The same network in the units of y has the same draws, with one prior for both.

    The evidence also looks at biases, so it is the same where they are: without a location.
    """
    X, y = diabetes
    location, scale = y.mean() * (prior == "init"), y.std()
    torch.manual_seed(0)
    network = Net(X.shape[1], 1 + heteroscedastic).double()
    options = {"max_epochs": 0, **DOUBLE}
    posterior = LastLayerLaplace(structure, prior, n_draws=20)

    def fit(module, likelihood):
        return TorchRegressor(
            lambda: module, likelihood=likelihood, posterior=posterior, **options
        ).fit(X, y)

    pair = fit(network, Gaussian(heteroscedastic, standardise=(location, scale)))
    own = Gaussian(heteroscedastic, standardise=False)
    raw = fit(InUnitsOfY(network, location, scale), own)
    assert raw.posterior_.prior_precision_ == pytest.approx(pair.posterior_.prior_precision_)
    for kind in ("epistemic", "aleatoric"):
        np.testing.assert_allclose(
            raw.predict_uncertainty(X, kind=kind), pair.predict_uncertainty(X, kind=kind), rtol=1e-6
        )
    np.testing.assert_allclose(raw.predict(X), pair.predict(X), rtol=1e-8)
