"""The prior of the Laplace approximation and the noise beside it: how each is chosen."""

import numpy as np
import pytest
import torch
from scipy.special import ndtr
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skuq import TorchClassifier, TorchRegressor
from skuq.likelihoods import Categorical, Gaussian, Laplace
from skuq.posteriors import LastLayerLaplace, PointEstimate
from skuq.posteriors import _curvature as curvatures
from skuq.posteriors import _last_layer_laplace as module_under_test
from tests.posteriors.laplace_networks import (
    DOUBLE,
    STRUCTURES,
    Linear,
    Net,
    estimator,
    regression,
    trunk,
    two_tasks,
)

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


@pytest.mark.filterwarnings("ignore:prior_precision='validation' ends at the bound")
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


@pytest.mark.filterwarnings("ignore:prior_precision='validation' ends at the bound")
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
    options |= {"module__activation": "relu"}

    def loss(posterior):
        fitted = TorchClassifier(posterior=posterior, **options).fit(X[:300], y[:300])
        proba = fitted.predict_proba(X[300:])
        return -np.log(proba[np.arange(300), y[300:]]).mean()

    point, default = loss(PointEstimate()), loss(LastLayerLaplace())
    assert default < 0.98 * point
    assert loss(LastLayerLaplace(prior_precision="evidence")) > 1.2 * point


@pytest.mark.parametrize(("sign", "so"), [(1, "all but the trained"), (-1, "only the data limit")])
def test_a_warning_where_validation_finds_no_optimum(sign, so, monkeypatch, blobs):
    monkeypatch.setattr(LastLayerLaplace, "_loss", lambda *args: -sign * np.log(args[-1]))
    posterior = LastLayerLaplace(prior_precision="validation", n_draws=2)
    make = TorchClassifier(posterior=posterior, early_stopping=True, max_epochs=1, random_state=0)
    with pytest.warns(ConvergenceWarning, match=f"at the bound .*{so}.*prior_precision='init'"):
        make.fit(*blobs)
    assert make.posterior_.prior_precision_ == pytest.approx(300 * 1e4**sign, rel=1e-3)


def test_no_warning_where_validation_finds_an_optimum(monkeypatch, blobs):
    monkeypatch.setattr(LastLayerLaplace, "_loss", lambda *args: np.log(args[-1] / 40) ** 2)
    posterior = LastLayerLaplace(prior_precision="validation", n_draws=2)
    make = TorchClassifier(posterior=posterior, early_stopping=True, max_epochs=1, random_state=0)
    assert make.fit(*blobs).posterior_.prior_precision_ == pytest.approx(40, rel=1e-3)


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
    assert noise == pytest.approx(rss / (w.sum() - gamma), rel=1e-8)
    assert noise > 1.005 * rss / w.sum()


@pytest.mark.parametrize(("kind", "rel"), [(Gaussian, 1e-6), (Laplace, 3e-3)])
def test_the_noise_of_few_rows_is_exact(kind, rel):
    """Its fixed point is the mean of E|r|^k, with r normal about the residual."""
    random = np.random.default_rng(0)
    X = random.normal(size=(6, 3))
    y = X @ [1.0, -2.0, 0.5] + 0.5 * random.normal(size=6)
    phi = np.column_stack([X, np.ones(6)])
    likelihood = kind(False).fit(y[:, None])
    target = likelihood.encode(y[:, None])[:, 0]
    best = np.linalg.lstsq(phi, target, rcond=None)[0]
    fitted = TorchRegressor(
        Linear,
        module__weights=torch.tensor(best[None]),
        likelihood=kind(False),
        posterior=LastLayerLaplace("full", 0.3, n_draws=2),
        max_epochs=0,
        **DOUBLE,
    ).fit(X, y)
    r = target - phi @ best
    if kind is Gaussian:
        noise = fitted.likelihood_.noise_variance_[0]
        covariance = np.linalg.inv(phi.T @ phi / noise + 0.3 * np.eye(4))
        expected = r**2 + ((phi @ covariance) * phi).sum(1)
    else:
        noise = fitted.likelihood_.noise_scale_[0]
        covariance = np.linalg.inv(phi.T @ phi / noise**2 + 0.3 * np.eye(4))
        s = np.sqrt(((phi @ covariance) * phi).sum(1))
        z = r / s
        expected = s * np.sqrt(2 / np.pi) * np.exp(-(z**2) / 2) + r * (2 * ndtr(z) - 1)
    assert noise == pytest.approx(expected.mean(), rel=rel)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_variances_of_outputs_are_those_of_the_draws(structure):
    """Σ_k φ, from the root that makes the draws."""
    random = torch.Generator().manual_seed(0)
    curvature = curvatures.STRUCTURES[structure](2, 3, torch.device("cpu"))
    features = torch.randn(9, 3, generator=random, dtype=torch.float64)
    gradients = torch.randn(9, 2, generator=random, dtype=torch.float64)
    curvature.add(features, gradients[:, :, None] * gradients[:, None], torch.ones(9).double())
    every = torch.eye(6, dtype=torch.float64).reshape(6, 2, 3)
    outputs = curvature.root(0.7)(every) @ features.mT  # of each direction of the noise
    found = curvature.variances(0.7, features)
    torch.testing.assert_close(found, outputs.square().sum(0).mT, rtol=1e-10, atol=0)
    if structure == "full":
        inverse = torch.linalg.inv(curvature.matrix() + 0.7 * torch.eye(6, dtype=torch.float64))
        blocks = torch.stack([inverse[:3, :3], inverse[3:, 3:]])
        expected = torch.einsum("nd,kde,ne->nk", features, blocks, features)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)


def test_the_temperature_does_not_change_the_noise():
    X, y, _ = regression(20)
    options = {"likelihood": Gaussian(False), "max_epochs": 0, **DOUBLE}
    noise = [
        TorchRegressor(Linear, posterior=LastLayerLaplace("full", 1.0, 2, t), **options)
        .fit(X, y)
        .likelihood_.noise_variance_[0]
        for t in (1.0, 0.1)
    ]
    assert noise[0] == noise[1]
