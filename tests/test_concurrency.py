"""Every prediction from eight threads, fits in four; nothing grows however often it is called."""

import gc
import pickle
import resource
import sys
import threading
import tracemalloc

import numpy as np
import pytest
import torch

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq.calibration import TemperatureScaler
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate
from tests import networks

POSTERIORS = [MCDropout(5), DeepEnsemble(3), PointEstimate()]


def classifier(posterior, **options):
    return TorchClassifier(
        networks.ResidualNet, posterior=posterior, max_epochs=2, random_state=0, **options
    )


def regressor(posterior, **options):
    return TorchRegressor(
        networks.ResidualNet, posterior=posterior, max_epochs=2, random_state=0, **options
    )


def asks_of(fitted):
    """All that can be asked of an estimator about rows."""
    asks = [
        fitted.predict,
        fitted.predict_uncertainty,
        lambda X: np.stack(fitted.predict_uncertainty(X, kind="all")),
        fitted.predict_draws,
        lambda X: fitted.draws(torch.as_tensor(X, dtype=torch.float32)).detach().numpy(),
        lambda X: skuq.predict_uncertainty(fitted, X, kind="epistemic"),
    ]
    if hasattr(fitted, "predict_proba"):
        return [
            *asks,
            fitted.predict_proba,
            fitted.predict_log_proba,
            fitted.decision_function,
            lambda X: fitted.predict_proba(X, return_uncertainty=True)[1].total,
            lambda X: fitted.predict_uncertainty(X, measure="margin"),
        ]
    return [
        *asks,
        lambda X: np.stack(fitted.predict(X, return_std=True)),
        fitted.predict_interval,
        lambda X: fitted.predict_quantiles(X, [0.1, 0.5]),
    ]


def in_threads(work, n_threads):
    """Each index in a thread of its own; what one raises is raised here."""
    errors = []

    def guarded(index):
        try:
            work(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(index,)) for index in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


@pytest.mark.parametrize(
    "posterior",
    [POSTERIORS[0], *(pytest.param(p, marks=pytest.mark.slow) for p in POSTERIORS[1:])],
    ids=str,
)
@pytest.mark.parametrize("make", [classifier, pytest.param(regressor, marks=pytest.mark.slow)])
def test_a_thousand_predictions_of_every_kind(make, posterior, blobs, diabetes, untouched_globals):
    X, y = blobs if make is classifier else diabetes
    X = X[:40]
    fitted = make(posterior).fit(X, y[:40])
    asks = asks_of(fitted)
    expected = [ask(X) for ask in asks]
    before = {name: tensor.clone() for name, tensor in fitted.module_.state_dict().items()}

    def work(index):
        for call in range(125):
            which = (index + call) % len(asks)
            assert np.array_equal(asks[which](X), expected[which]), (which, call)

    in_threads(work, 8)
    assert all(torch.equal(t, before[n]) for n, t in fitted.module_.state_dict().items())


@pytest.mark.parametrize("posterior", POSTERIORS, ids=str)
@pytest.mark.parametrize("make", [classifier, regressor])
def test_four_fits_at_once(make, posterior, blobs, diabetes, untouched_globals):
    X, y = blobs if make is classifier else (diabetes[0][:200], diabetes[1][:200])
    options = {"early_stopping": True}
    expected = [make(posterior, **options).set_params(random_state=k).fit(X, y) for k in range(4)]
    found = [make(posterior, **options).set_params(random_state=k) for k in range(4)]
    in_threads(lambda k: found[k].fit(X, y), 4)
    for a, b in zip(found, expected):
        assert np.array_equal(a.predict_draws(X), b.predict_draws(X))


def test_fits_of_one_estimator_while_others_predict(blobs):
    """A prediction is that of the fit before or of the one after, never a mixture."""
    X, y = blobs
    network = classifier(MCDropout(5)).fit(X, y)
    states = []
    for seed in (0, 1):
        states.append(network.set_params(random_state=seed).fit(X, y).predict_proba(X))

    def work(index):
        for call in range(20):
            if index == 0:
                # warm: a cold fit takes the fitted estimator away first, so that none is left
                network._engine = engines[call % 2]
            else:
                found = network.predict_proba(X)
                assert any(np.array_equal(found, state) for state in states)

    engines = [network._engine]
    network.set_params(random_state=0).fit(X, y)
    engines.append(network._engine)
    in_threads(work, 4)


# -- bounded growth -----------------------------------------------------------------------------


def size_of(fitted):
    """The size of a pickle, but for its random numbers: optimizers count their steps."""
    return len(pickle.dumps(fitted))


def traced(work, n_calls):
    """Bytes that Python holds more after `n_calls` than after as many before."""
    for _ in range(n_calls // 10):
        work()
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(n_calls):
            work()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("posterior", "n_calls"),
    [
        (PointEstimate(), 280),
        pytest.param(MCDropout(2), 1000, marks=pytest.mark.slow),
        pytest.param(DeepEnsemble(2), 1000, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_many_partial_fits(posterior, n_calls, blobs):
    """Histories are of the last epochs, which are counted all the same."""
    X, y = blobs[0][:8], blobs[1][:8]
    network = classifier(posterior)
    for _ in range(120):
        network.partial_fit(X, y, classes=[0, 1, 2])
    grown, sizes = [], []
    for _ in range(4):
        for _ in range((n_calls - 120) // 4):
            network.partial_fit(X, y)
        gc.collect()
        grown.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        sizes.append(size_of(network))
    assert network.n_iter_ == n_calls and len(network.history_) == 100
    assert [row["epoch"] for row in network.history_[-2:]] == [n_calls - 1, n_calls]
    assert max(sizes) - min(sizes) < 1000, sizes
    if sys.platform == "linux":
        assert grown[-1] - grown[1] < 8 * 1024, grown  # KiB


@pytest.mark.parametrize("make", [classifier, regressor])
@pytest.mark.parametrize("n_calls", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_predictions(make, n_calls, blobs, diabetes):
    X, y = blobs if make is classifier else diabetes
    fitted = make(MCDropout(2)).fit(X, y)
    asks, before = asks_of(fitted), size_of(fitted)
    calls = iter(range(10**6))
    grown = traced(lambda: asks[next(calls) % len(asks)](X[:4]), n_calls)
    assert grown < 200_000, grown
    assert size_of(fitted) == before


@pytest.mark.filterwarnings("ignore:the temperature is at its bound")
@pytest.mark.slow
def test_many_fits_and_calibrations(blobs):
    X, y = blobs
    network = classifier(MCDropout(2), module__width=4).set_params(max_epochs=1)
    network.fit(X, y)
    before = size_of(network)
    scaler = TemperatureScaler(network, cv=2)
    grown = traced(lambda: (network.fit(X, y), scaler.fit(X, y).predict_proba(X[:4])), 10)
    assert grown < 500_000, grown
    assert abs(size_of(network) - before) < 200
