"""The Laplace approximation of the last layer, against closed forms and dense matrices."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch.func import functional_call, jacrev

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq._training._checkpoints import Checkpoints
from skuq.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    Laplace,
    MixtureOfGaussians,
    Poisson,
    Quantile,
    StochasticLogits,
    StudentT,
    UncertaintyAware,
)
from skuq.posteriors import LastLayerLaplace, PointEstimate
from skuq.posteriors import _last_layer_laplace as module_under_test
from tests.networks import ConvNet

DOUBLE = {"precision": "float64", "random_state": 0}
STRUCTURES = ("full", "kronecker", "diagonal")


class Net(nn.Sequential):
    """Three tanh features and a linear layer, trained elsewhere if weights are given."""

    def __init__(self, n_features, n_outputs, bias=True, weights=None):
        last = nn.Linear(3, n_outputs, bias=bias)
        super().__init__(nn.Linear(n_features, 3), nn.Tanh(), last)
        if weights is not None:
            self.load_state_dict(weights)


class Linear(nn.Linear):
    """A linear regression with given weights."""

    def __init__(self, n_features, n_outputs, weights=None):
        super().__init__(n_features, n_outputs, dtype=torch.float64)
        if weights is not None:
            with torch.no_grad():
                self.weight.copy_(weights[:, :-1])
                self.bias.copy_(weights[:, -1])


class Known(Gaussian):
    """Normal noise of known variance, in units of the standardised targets."""

    def __init__(self, variance=0.3):
        super().__init__(heteroscedastic=False)
        self.variance = variance

    def fit(self, *args, **kwargs):
        super().fit(*args, **kwargs)
        self.noise_variance_ = np.full(self.n_targets_, self.variance)
        return self

    @property
    def wants_unseen_rows(self):
        return False

    def finish(self, *args, **kwargs):
        pass


@pytest.fixture
def unit_noise(monkeypatch):
    """Deviations become the columns of a root of the covariance: it is known to the last digit."""

    def units(self, n_pairs, seed):
        yield torch.eye(self.weight.numel()).double().reshape(-1, *self.weight.shape)

    monkeypatch.setattr(module_under_test._Head, "noise", units)


def stacked(fitted):
    """The draws of W and the bias as its last column, of shape (n_draws, n_outputs, n_inputs)."""
    tensors = fitted._engine.draws._tensors
    weight, bias = (
        next((t for name, t in tensors.items() if name.endswith(kind)), None)
        for kind in ("weight", "bias")
    )
    return weight if bias is None else torch.cat([weight, bias[..., None]], dim=-1)


def covariance(fitted):
    """Of W.flatten(), from draws that were made under `unit_noise`."""
    draws = stacked(fitted).flatten(1)
    deviations = (draws[::2] - draws[1::2]) / 2
    return deviations.T @ deviations


def trunk(fitted):
    return nn.Sequential(*list(fitted.module_)[:2])


# -- oracles ---------------------------------------------------------------------------------------


def regression(n_rows=60):
    random = np.random.default_rng(0)
    X = random.normal(size=(n_rows, 3))
    y = 5 + X @ [1.0, -2.0, 0.5] + 0.7 * random.normal(size=n_rows)
    return X, y, random.uniform(0.5, 3, size=n_rows)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("structure", ["full", "kronecker"])
def test_a_conjugate_regression_is_exact(structure, weighted, unit_noise):
    X, y, weight = regression()
    weight = weight if weighted else None
    variance, precision = 0.3, 2.5
    likelihood = Known(variance).fit(y[:, None], weight)
    target = likelihood.encode(y[:, None])[:, 0]
    phi, w = np.column_stack([X, np.ones(len(X))]), np.ones(len(X)) if weight is None else weight
    expected = np.linalg.inv((phi.T * w) @ phi / variance + precision * np.eye(4))
    ridge = expected @ (phi.T * w) @ target / variance
    fitted = TorchRegressor(
        Linear,
        module__weights=torch.tensor(ridge[None]),
        likelihood=Known(variance),
        posterior=LastLayerLaplace(structure, precision, n_draws=8),
        max_epochs=0,
        **DOUBLE,
    ).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(covariance(fitted), expected, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(stacked(fitted).mean(0)[0], ridge, rtol=1e-10)
    mean = fitted.predict(X)
    scale = likelihood.scale_[0]
    np.testing.assert_allclose(mean, likelihood.location_[0] + scale * phi @ ridge, rtol=1e-10)
    spread = fitted.predict_uncertainty(X, kind="epistemic") / scale**2
    # The eight draws are ± the columns of the root: their variance is 2 / 8 of the covariance.
    np.testing.assert_allclose(4 * spread, ((phi @ expected) * phi).sum(1), rtol=1e-9)


REGRESSIONS = [
    Gaussian(),
    Gaussian(min_variance=0.2, beta=0.0),
    Known(),
    Laplace(min_scale=0.1),
    StudentT(df=3.0),
    Poisson(),
]
CLASSIFICATIONS = [
    Categorical(),
    Categorical(label_smoothing=0.2),
    UncertaintyAware(),
    StochasticLogits(n_samples=4),
]


def two_tasks(likelihood, n_rows=24):
    random = np.random.default_rng(1)
    X = random.normal(size=(n_rows, 4))
    if likelihood.task == "classification":
        return X, np.arange(n_rows) % 3
    y = np.column_stack([X[:, 0] + random.normal(size=n_rows), X[:, 1] * X[:, 2]])
    return X, np.round(np.exp(y)) if isinstance(likelihood, Poisson) else 10 * y


def estimator(likelihood, module=Net, **options):
    cls = TorchClassifier if likelihood.task == "classification" else TorchRegressor
    options = {"max_epochs": 5, "lr": 0.05, **DOUBLE, **options}
    return cls(module, likelihood=likelihood, **options)


def dense(fitted, X, weight):
    """The Gauss-Newton matrices of all rows by autograd, of shape (n_rows, n_weights, n_weights).

    Of classes, from gradients of the negative log-likelihood in the weights themselves.
    """
    network, likelihood = fitted.module_, fitted.likelihood_
    names = [n for n, _ in network.named_parameters() if n.startswith("2.")]
    own = {n: p.detach() for n, p in network.named_parameters()}
    last = {n: own[n] for n in names}

    def flat(gradients):
        """Of the rows of W and the bias beside them."""
        lead = gradients["2.weight"].shape[:-2]
        parts = [gradients["2.weight"]]
        if "2.bias" in gradients:
            parts.append(gradients["2.bias"][..., None])
        return torch.cat(parts, -1).reshape(*lead, -1)

    def outputs(last, x):
        return functional_call(network, {**own, **last}, (x[None],))

    total = []
    for x, w in zip(torch.as_tensor(X), weight):
        if likelihood.task == "regression":
            J = flat(jacrev(lambda last, x=x: outputs(last, x)[0])(last))
            F = likelihood.fisher(outputs(last, x))[0]
            total.append(w * J.T @ F @ J)
            continue
        proba = likelihood.predictive(outputs(last, x)).probs[0]
        each = 0
        for label, p in enumerate(proba):
            target = torch.tensor([label])
            loss = jacrev(
                lambda last, x=x, t=target: likelihood.negative_log_likelihood(outputs(last, x), t)[
                    0
                ]
            )
            g = flat(loss(last))
            each = each + p * torch.outer(g, g)
        total.append(w * each)
    return torch.stack(total)


@pytest.mark.parametrize(("weighted", "bias"), [(False, False), (True, True)])
@pytest.mark.parametrize("likelihood", [*REGRESSIONS, *CLASSIFICATIONS], ids=str)
def test_every_structure_is_that_of_a_dense_matrix(likelihood, weighted, bias, unit_noise):
    X, y = two_tasks(likelihood)
    weight = np.linspace(0.5, 3, len(X)) if weighted else np.ones(len(X))
    precision = 1.7
    make = estimator(likelihood, module__bias=bias, batch_size=7)
    n = clone(likelihood).fit(y, n_classes=3).n_outputs_ * (3 + bias)
    found = {}
    for structure in STRUCTURES:
        posterior = LastLayerLaplace(structure, precision, n_draws=2 * n, temperature=0.5)
        fitted = clone(make).set_params(posterior=posterior)
        fitted.fit(X, y, sample_weight=weight if weighted else None)
        found[structure] = covariance(fitted) / 0.5
    rows = dense(fitted, X, weight)
    total, eye = rows.sum(0), torch.eye(n, dtype=torch.float64)
    with torch.no_grad():
        phi = trunk(fitted)(torch.as_tensor(X))
        F = fitted.likelihood_.fisher(fitted.module_(torch.as_tensor(X)))
    phi = torch.cat([phi, phi.new_ones(len(X), 1)], 1) if bias else phi
    w = torch.as_tensor(weight)
    product = torch.kron((w[:, None, None] * F).sum(0), (w * phi.T) @ phi / w.sum())
    expected = {
        "full": torch.linalg.inv(total + precision * eye),
        "diagonal": torch.diag(1 / (total.diagonal() + precision)),
        "kronecker": torch.linalg.inv(product + precision * eye),
    }
    for structure in STRUCTURES:
        error = (found[structure] - expected[structure]).norm() / expected[structure].norm()
        assert error < 1e-6, structure


def test_missing_labels_bring_no_information(unit_noise):
    random = np.random.default_rng(0)
    X, y = random.normal(size=(50, 4)), (random.random((50, 2)) < 0.5).astype(float)
    y[:30, 1] = np.nan
    posterior = LastLayerLaplace("full", 1.0, n_draws=16)
    options = {"likelihood": Bernoulli("ignore"), "posterior": posterior, "max_epochs": 0}
    fitted = TorchClassifier(Net, **options, **DOUBLE).fit(X, y)
    with torch.no_grad():
        phi = trunk(fitted)(torch.as_tensor(X))
        p = fitted.module_(torch.as_tensor(X)).sigmoid()
    phi = torch.cat([phi, phi.new_ones(len(X), 1)], 1)
    found, variance = covariance(fitted), p * (1 - p)
    for label, rows in ((0, slice(None)), (1, slice(30, None))):
        H = (variance[rows, label] * phi[rows].T) @ phi[rows] + torch.eye(4)
        block = found[4 * label : 4 * label + 4, 4 * label : 4 * label + 4]
        torch.testing.assert_close(block, torch.linalg.inv(H))


def test_the_covariance_of_many_draws(blobs):
    X, y = blobs
    posterior = LastLayerLaplace("full", n_draws=20_000)
    options = {"max_epochs": 5, "lr": 0.05, **DOUBLE}
    fitted = TorchClassifier(Net, posterior=posterior, **options).fit(X, y)
    draws = stacked(fitted).flatten(1)
    found = draws.T.cov()
    weight = np.ones(len(X))
    H = dense(fitted, X.astype(float), weight).sum(0)
    expected = torch.linalg.inv(H + 9 * torch.eye(len(H)))
    assert fitted.posterior_.prior_precision_ == 9.0
    assert (found - expected).norm() / expected.norm() < 0.04


# -- draws -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", STRUCTURES)
def test_draws_come_in_pairs_and_do_not_depend_on_their_number(structure, blobs):
    X, y = blobs
    options = {"max_epochs": 3, "precision": "float32", "random_state": 0}

    def fit(n_draws):
        posterior = LastLayerLaplace(structure, n_draws=n_draws)
        return TorchClassifier(Net, posterior=posterior, **options).fit(X, y)

    many = fit(40)
    mode = torch.cat([many.module_[2].weight, many.module_[2].bias[:, None]], 1).detach()
    draws = stacked(many)
    torch.testing.assert_close(draws.mean(0), mode, atol=1e-6, rtol=0)
    torch.testing.assert_close((draws[::2] + draws[1::2]) / 2, mode.expand(20, -1, -1))
    assert (draws[::2] - mode).abs().amin() > 0
    for n_draws in (1, 7, 18):
        few = fit(n_draws)
        assert torch.equal(stacked(few), draws[:n_draws])
        assert few.predict_draws(X).shape[0] == n_draws


def test_of_the_network_only_the_last_layer_differs(digits):
    X, y = digits
    images = X.reshape(-1, 1, 8, 8)
    fitted = TorchClassifier(
        ConvNet, posterior=LastLayerLaplace(n_draws=6), max_epochs=1, random_state=0
    ).fit(images, y)
    assert set(fitted._engine.draws._tensors) == {"head.3.weight", "head.3.bias"}
    assert fitted._engine.vectorized
    assert fitted.posterior_.layer_ == "head.3"
    assert fitted.posterior_.prior_precision_ == 3 * 16


def test_a_large_prior_precision_is_the_point_estimate(diabetes):
    X, y = diabetes
    options = {"max_epochs": 3, **DOUBLE}
    laplace = TorchRegressor(posterior=LastLayerLaplace(prior_precision=1e30), **options)
    point = TorchRegressor(posterior=PointEstimate(), **options).fit(X, y)
    laplace.fit(X, y)
    np.testing.assert_allclose(laplace.predict(X), point.predict(X), rtol=1e-12)
    np.testing.assert_allclose(laplace.predict_uncertainty(X), point.predict_uncertainty(X))
    assert laplace.predict_uncertainty(X, kind="epistemic").max() < 1e-20 * np.var(y)


def test_temperature_scales_the_covariance(diabetes):
    X, y = diabetes
    options = {"max_epochs": 0, **DOUBLE}

    def epistemic(temperature):
        posterior = LastLayerLaplace(temperature=temperature, n_draws=10)
        fitted = TorchRegressor(posterior=posterior, **options).fit(X, y)
        return fitted.predict_uncertainty(X, kind="epistemic")

    np.testing.assert_allclose(epistemic(0.25), epistemic(1.0) / 4, rtol=1e-9)


def test_the_mixture_is_better_than_its_draws_on_average(blobs):
    X, y = blobs
    fitted = TorchClassifier(posterior=LastLayerLaplace(), max_epochs=5, random_state=0).fit(X, y)
    of_each = -np.log(fitted.predict_draws(X)[:, np.arange(len(y)), y]).mean()
    of_mixture = -np.log(fitted.predict_proba(X)[np.arange(len(y)), y]).mean()
    assert of_mixture < of_each
    assert (fitted.predict_uncertainty(X, kind="epistemic") > 0).all()


# -- the amount of data ----------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", [Categorical(), Gaussian(), Gaussian(False)], ids=str)
@pytest.mark.parametrize("prior_precision", ["init", "evidence"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_weights_are_an_amount_of_data(structure, prior_precision, likelihood):
    X, y = two_tasks(likelihood)
    posterior = LastLayerLaplace(structure, prior_precision, n_draws=10)
    make = estimator(likelihood, posterior=posterior, max_epochs=0)
    counts = 1 + np.arange(len(X)) % 3
    once = clone(make).fit(X, y)
    weighted = clone(make).fit(X, y, sample_weight=counts)
    repeated = clone(make).fit(np.repeat(X, counts, axis=0), np.repeat(y, counts, axis=0))
    rtol = 1e-6 if prior_precision == "evidence" else 1e-9
    torch.testing.assert_close(stacked(weighted), stacked(repeated), rtol=rtol, atol=rtol)
    np.testing.assert_allclose(
        weighted.predict_uncertainty(X), repeated.predict_uncertainty(X), rtol=10 * rtol
    )
    assert (stacked(weighted) - stacked(once)).abs().max() > 1e-3


def test_twice_the_weight_is_less_uncertainty():
    X, y, _ = regression()
    posterior = LastLayerLaplace("full", 1e-6)
    make = TorchRegressor(Linear, posterior=posterior, likelihood=Known(), max_epochs=0, **DOUBLE)
    once, twice = (
        clone(make)
        .fit(X, y, sample_weight=np.full(len(X), weight))
        .predict_uncertainty(X, kind="epistemic")
        for weight in (1.0, 2.0)
    )
    np.testing.assert_allclose(twice, once / 2, rtol=1e-6)


# -- the prior -------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_evidence_is_highest(structure, diabetes, monkeypatch):
    X, y = diabetes
    kept = []
    monkeypatch.setattr(
        module_under_test,
        "best_evidence",
        lambda values, weight, best=module_under_test.best_evidence: (
            kept.append((values, weight)) or best(values, weight)
        ),
    )
    posterior = LastLayerLaplace(structure, "evidence", n_draws=2)
    fitted = TorchRegressor(Net, posterior=posterior, max_epochs=20, **DOUBLE).fit(X, y)
    precision, ((values, weight),) = fitted.posterior_.prior_precision_, kept
    gamma = (values / (values + precision)).sum()
    assert precision == pytest.approx(float(gamma / weight.square().sum()), rel=1e-5)

    def log_evidence(delta):
        square, n = float(weight.square().sum()), weight.numel()
        return 0.5 * (n * np.log(delta) - delta * square - float((values + delta).log().sum()))

    best = log_evidence(precision)
    assert all(log_evidence(precision * f) < best for f in (1e-3, 0.3, 0.9, 1.1, 3, 1e3))


@pytest.mark.parametrize("likelihood", [Categorical(), Gaussian(), Gaussian(False)], ids=str)
def test_validation_finds_the_best_on_the_stopping_rows(likelihood):
    X, y = two_tasks(likelihood, n_rows=150)
    options = {"early_stopping": True, "validation_fraction": 0.4, "max_epochs": 20}
    make = estimator(likelihood, **options)
    fitted = clone(make).set_params(posterior=LastLayerLaplace(prior_precision="validation"))
    watched = {}

    def loss(self, head, curvature, problem, rows, tried, precision, own=LastLayerLaplace._loss):
        watched.setdefault("rows", rows)
        watched[precision] = own(self, head, curvature, problem, rows, tried, precision)
        return watched[precision]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LastLayerLaplace, "_loss", loss)
        fitted.fit(X, y)
    rows = watched.pop("rows")
    assert len(rows.x) == 60
    chosen = fitted.posterior_.prior_precision_
    nearest = min(watched, key=lambda precision: abs(np.log(precision / chosen)))
    assert watched[nearest] <= min(watched.values()) + 1e-6
    assert max(watched.values()) > min(watched.values()) + 1e-3
    # What was minimised is the score of the mixture: that of the estimator, on these rows.
    if isinstance(likelihood, Categorical):
        posterior = LastLayerLaplace(prior_precision=chosen, n_draws=2000)
        again = clone(make).set_params(posterior=posterior).fit(X, y)
        x = rows.x[:, :-1]
        with torch.no_grad():
            features = trunk(again)(torch.as_tensor(X))
        index = torch.cdist(x, features).argmin(1).numpy()
        score = -np.log(again.predict_proba(X[index])[np.arange(60), y[index]]).mean()
        assert score == pytest.approx(watched[nearest], abs=0.01)


def test_the_best_draws_of_validation_do_not_depend_on_their_number(blobs):
    options = {"early_stopping": True, "max_epochs": 3, "random_state": 0}
    found = [
        TorchClassifier(
            posterior=LastLayerLaplace(prior_precision="validation", n_draws=n), **options
        )
        .fit(*blobs)
        .posterior_.prior_precision_
        for n in (2, 30)
    ]
    assert found[0] == found[1]


def test_on_digits_the_default_helps_and_the_evidence_harms(digits):
    X, y = digits
    options = {"max_epochs": 100, "lr": 3e-3, "random_state": 0}
    options |= {"module__hidden_layer_sizes": (100, 100), "module__dropout": 0.1}

    def loss(posterior):
        fitted = TorchClassifier(posterior=posterior, **options).fit(X[:300], y[:300])
        proba = fitted.predict_proba(X[300:])
        return -np.log(proba[np.arange(300), y[300:]]).mean()

    point, default = loss(PointEstimate()), loss(LastLayerLaplace())
    assert default < 0.98 * point
    assert loss(LastLayerLaplace(prior_precision="evidence")) > 1.2 * point


# -- one noise level -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Gaussian, Laplace])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_noise_is_learnt_on_unseen_rows_before_the_posterior(early_stopping, kind, diabetes):
    X, y = diabetes
    options = {"likelihood": kind(False), "early_stopping": early_stopping, "max_epochs": 10}
    options |= {"module__hidden_layer_sizes": (20,), **DOUBLE}
    posteriors = LastLayerLaplace(n_draws=4), PointEstimate()
    laplace, point = (TorchRegressor(posterior=p, **options).fit(X, y) for p in posteriors)
    name = "noise_variance_" if kind is Gaussian else "noise_scale_"
    noise = getattr(laplace.likelihood_, name)
    np.testing.assert_allclose(noise, getattr(point.likelihood_, name), rtol=1e-12)
    assert noise[0] != 1 and noise[0] < 0.9


def test_without_unseen_rows_noise_and_draws_fit_each_other():
    """σ² = RSS / (n − γ), and the covariance is that of this σ²."""
    X, y, weight = regression(200)
    phi = np.column_stack([X, np.ones(len(X))])
    likelihood = Gaussian(False).fit(y[:, None], weight)
    target, w = likelihood.encode(y[:, None])[:, 0], weight
    best = np.linalg.solve((phi.T * w) @ phi, (phi.T * w) @ target)
    fitted = TorchRegressor(
        Linear,
        module__weights=torch.tensor(best[None]),
        likelihood=Gaussian(False),
        posterior=LastLayerLaplace("full", 40.0),
        max_epochs=0,
        **DOUBLE,
    ).fit(X, y, sample_weight=weight)
    noise = fitted.likelihood_.noise_variance_[0]
    gram = (phi.T * w) @ phi / noise
    gamma = np.trace(gram @ np.linalg.inv(gram + 40.0 * np.eye(4)))
    rss = w @ (target - phi @ best) ** 2
    assert noise == pytest.approx(rss / (w.sum() - gamma), rel=3e-3)
    assert noise > 1.005 * rss / w.sum()


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
        ("normalised", "something follows its last nn.Linear, 'first'"),
    ],
)
@pytest.mark.filterwarnings("ignore:Ending ends in")
def test_networks_that_do_not_end_in_a_linear_layer(ending, why, diabetes):
    X, y = diabetes
    regressor = TorchRegressor(
        Ending, posterior=LastLayerLaplace(), module__ending=ending, likelihood=Known(),
        max_epochs=10**6,
    )  # fmt: skip
    with pytest.raises(ValueError, match=f"that ends in an nn.Linear, but of Ending .*{why}"):
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
    least = 1e-6 * scale**2
    own = Gaussian(heteroscedastic, min_variance=least, standardise=False)
    raw = fit(InUnitsOfY(network, location, scale), own)
    assert raw.posterior_.prior_precision_ == pytest.approx(pair.posterior_.prior_precision_)
    for kind in ("epistemic", "aleatoric"):
        np.testing.assert_allclose(
            raw.predict_uncertainty(X, kind=kind), pair.predict_uncertainty(X, kind=kind), rtol=1e-6
        )
    np.testing.assert_allclose(raw.predict(X), pair.predict(X), rtol=1e-8)
