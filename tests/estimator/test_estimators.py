"""From fit to answers: measures, precision, the same again."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from torch import nn

from skuq import TorchClassifier
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate
from tests import networks
from tests.estimator.helpers import classifier, regressor


def test_a_page_shows_names_and_runs_none():
    """In notebooks scikit-learn shows an estimator as HTML."""
    network = TorchClassifier(
        checkpoint_dir="<script>alert(1)</script>", module__activation="<img src=x>"
    )
    page = network._repr_html_()
    assert "&lt;script&gt;alert(1)" in page and "<script>alert(1)" not in page
    assert "<img src=x>" not in page


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_inside_of_no_grad(mode, blobs):
    X, y = blobs
    expected = classifier(MCDropout(3)).fit(X, y)
    with mode():
        fitted = classifier(MCDropout(3)).fit(X, y)
        inside = fitted.predict_proba(X)
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    assert np.array_equal(inside, expected.predict_proba(X))
    x = torch.as_tensor(X).requires_grad_()
    fitted.draws(x).sum().backward()
    assert float(x.grad.abs().max()) > 0


def test_under_another_default_dtype(blobs):
    X, y = blobs
    torch.set_default_dtype(torch.float64)
    try:
        assert classifier().fit(X, y).score(X, y) > 0.8
        classifier(module=lambda n_outputs: nn.Sequential(nn.LazyLinear(n_outputs))).fit(X, y)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
def test_precision(precision, blobs):
    X, y = blobs
    fitted = classifier(MCDropout(4), precision=precision, max_epochs=20).fit(X, y)
    assert fitted.score(X, y) > 0.8
    expected = torch.float64 if precision == "float64" else torch.float32
    assert next(fitted.module_.parameters()).dtype == expected
    assert fitted.draws(torch.as_tensor(X)).dtype == expected


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of itself
@pytest.mark.parametrize("mode", [True, "reduce-overhead"])
def test_compile(blobs, mode):
    X, y = blobs
    compiled = classifier(compile=mode).fit(X, y)
    np.testing.assert_allclose(
        compiled.predict_proba(X), classifier().fit(X, y).predict_proba(X), atol=1e-4
    )
    assert np.array_equal(
        pickle.loads(pickle.dumps(compiled)).predict_proba(X), compiled.predict_proba(X)
    )


def test_inside_of_autocast(blobs):
    X, y = blobs
    expected = classifier(MCDropout(3)).fit(X, y).predict_proba(X)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = classifier(MCDropout(3)).fit(X, y).predict_proba(X)
    assert np.array_equal(found, expected)


def test_before_fit(blobs):
    for ask in ("predict", "predict_proba", "predict_uncertainty", "draws", "predict_draws"):
        with pytest.raises(NotFittedError):
            getattr(TorchClassifier(), ask)(blobs[0])


def test_a_failed_fit_leaves_no_fitted_estimator(blobs):
    X, y = blobs
    fitted = classifier().fit(X, y)
    with pytest.raises(ValueError, match="NaN"):
        fitted.fit(X * np.nan, y)
    with pytest.raises(NotFittedError):
        fitted.predict(X)


def test_measures(blobs):
    X, y = blobs
    fitted = classifier(MCDropout(10)).fit(X, y)
    draws = fitted.predict_draws(X)
    mean = np.sort(draws.mean(0), axis=1)
    votes = np.stack([(draws.argmax(2) == k).mean(0) for k in range(3)], axis=1)
    expected = {
        "variance": 1 - (mean**2).sum(1),
        "variation_ratio": 1 - votes.max(1),
        "margin": 1 - (mean[:, -1] - mean[:, -2]),
        "least_confidence": 1 - mean[:, -1],
        "entropy": -(mean * np.log(mean)).sum(1),
    }
    for measure, values in expected.items():
        actual = fitted.predict_uncertainty(X, measure=measure)
        np.testing.assert_allclose(actual, values, atol=1e-6, err_msg=measure)
    parts = fitted.predict_uncertainty(X, kind="all", measure="variance")
    np.testing.assert_allclose(parts.epistemic, draws.var(0).sum(1), atol=1e-9)
    with pytest.raises(ValueError, match="does not decompose"):
        fitted.predict_uncertainty(X, kind="epistemic", measure="margin")
    with pytest.raises(ValueError, match="measure must be one of"):
        fitted.predict_uncertainty(X, measure="entropie")
    with pytest.raises(ValueError, match="kind must be one of"):
        fitted.predict_uncertainty(X, kind="both")


@pytest.mark.parametrize("posterior", [PointEstimate(), MCDropout(3), DeepEnsemble(2)], ids=str)
@pytest.mark.parametrize("make", [classifier, regressor])
def test_refitting_is_bit_identical_and_globals_are_untouched(
    posterior, make, blobs, untouched_globals
):
    X, y = blobs
    one, two = (make(posterior, early_stopping=True).fit(X, y) for _ in range(2))
    assert np.array_equal(one.predict(X), two.predict(X))
    assert np.array_equal(one.predict_uncertainty(X), two.predict_uncertainty(X))
    one.predict_draws(X)
    other = make(posterior, random_state=1).fit(X, y)
    assert not np.array_equal(one.predict_uncertainty(X), other.predict_uncertainty(X))
    make(posterior, random_state=None, max_epochs=1).fit(X, y).predict(X)


@pytest.mark.filterwarnings("ignore:Functional draws random:UserWarning")
def test_functional_dropout_trains_from_private_generators(blobs):
    X, y = blobs
    answers = []
    for seed in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            fitted = classifier(DeepEnsemble(2), networks.Functional).fit(X, y)
            answers.append(fitted.predict_proba(X))
            assert torch.initial_seed() == seed
            moved = torch.rand(1)
            torch.manual_seed(seed)
            assert torch.equal(torch.rand(1), moved)  # fit drew nothing from the global one
    assert np.array_equal(*answers)


def test_iris_is_learnt():
    X, y = load_iris(return_X_y=True)
    fitted = TorchClassifier(lr=0.01, max_epochs=100, random_state=0).fit(X, y)
    assert fitted.score(X, y) > 0.95
