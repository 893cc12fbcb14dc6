"""Deep ensembles: members that differ, repeatably, whatever runs them."""

import itertools

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn.metrics import log_loss

from skuq import TorchClassifier, TorchRegressor
from skuq._data._batches import SlicedBatches, StackedBatches
from skuq.posteriors import DeepEnsemble
from tests import networks


def fit(X, y, posterior, **options):
    options = {"max_epochs": 5, "lr": 0.01, "random_state": 0, **options}
    return TorchClassifier(networks.ResidualNet, posterior=posterior, **options).fit(X, y)


def states(classifier):
    draws = classifier._engine.draws
    return draws.tensors(0, draws.n_draws)


def test_members_differ_and_do_not_depend_on_their_number(blobs):
    few, many = (states(fit(*blobs, DeepEnsemble(n))) for n in (2, 4))
    for name, tensor in many.items():
        assert torch.equal(tensor[:2], few[name])
    weights = many["inner.weight"].flatten(1)
    assert (torch.pdist(weights) > 0.1).all()


def test_members_begin_differently(blobs):
    members = states(fit(*blobs, DeepEnsemble(3), max_epochs=1, lr=1e-12))["inner.weight"]
    assert (torch.pdist(members.flatten(1)) > 0.1).all()


@pytest.mark.parametrize(("n_jobs", "n_orders"), [(None, 2), (1, 3 * 2)], ids=["stacked", "alone"])
def test_members_see_rows_in_orders_of_their_own(blobs, monkeypatch, n_jobs, n_orders):
    orders = []
    for kind in (SlicedBatches, StackedBatches):
        order = kind._order
        record = lambda self, order=order: (orders.append(order(self)), orders[-1])[1]
        monkeypatch.setattr(kind, "_order", record)
    fit(*blobs, DeepEnsemble(3, n_jobs=n_jobs), max_epochs=2)
    assert len(orders) == n_orders
    rows = torch.cat([order.reshape(-1, 240) for order in orders])  # of each member and epoch
    assert len(rows) == 6 and torch.equal(rows.sort(1).values, torch.arange(240).expand(6, 240))
    for a, b in itertools.combinations(rows, 2):
        assert (a == b).float().mean() < 0.1


def assert_same_bits(one, other, X):
    for name, tensor in states(one).items():
        assert torch.equal(tensor, states(other)[name]), name
    assert np.array_equal(one.predict_proba(X), other.predict_proba(X))
    for a, b in zip(one.predict_uncertainty(X, "all"), other.predict_uncertainty(X, "all")):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("n_jobs", "backend"),
    [
        (None, "loky"),  # one after another in this thread
        (3, "threading"),
        (2, "loky"),
        pytest.param(2, "multiprocessing", marks=pytest.mark.slow),
        (-1, "threading"),
    ],
)
def test_jobs_and_backend_change_nothing(blobs, n_jobs, backend, untouched_globals):
    """With as many torch threads: one. (Dask is in tests/test_distributed.py.)"""
    X, y = blobs
    with_callbacks = {"callbacks": []}  # members are no stack then: that is equal to rounding alone
    serial = fit(X, y, DeepEnsemble(3, n_jobs=1, bootstrap=True))
    with parallel_config(backend=backend):
        parallel = fit(X, y, DeepEnsemble(3, n_jobs=n_jobs, bootstrap=True), **with_callbacks)
    assert_same_bits(serial, parallel, X)


def test_mixture_is_no_worse_than_its_members(blobs):
    """Jensen: the NLL of averaged probabilities is at most the mean NLL of the members."""
    X, y = blobs
    classifier = fit(X, y, DeepEnsemble(4))
    members = [log_loss(y, draw) for draw in classifier.predict_draws(X)]
    assert log_loss(y, classifier.predict_proba(X)) <= np.mean(members) + 1e-12


def test_bootstrap_trains_on_other_rows(blobs):
    X, y = blobs
    plain, bootstrap = (states(fit(X, y, DeepEnsemble(2, bootstrap=b))) for b in (False, True))
    assert not torch.equal(plain["outer.weight"], bootstrap["outer.weight"])
    again = states(fit(X, y, DeepEnsemble(2, bootstrap=True)))
    assert torch.equal(again["outer.weight"], bootstrap["outer.weight"])


def test_one_member_has_no_epistemic_uncertainty(blobs):
    X, y = blobs
    assert np.abs(fit(X, y, DeepEnsemble(1)).predict_uncertainty(X, "epistemic")).max() < 1e-12


def test_a_member_that_diverges_is_named(diabetes):
    X, y = diabetes
    regressor = TorchRegressor(
        posterior=DeepEnsemble(2), optimizer=torch.optim.SGD, lr=1e30, max_epochs=20
    )
    with pytest.raises(ValueError, match="diverged"):
        regressor.fit(X, y)


@pytest.mark.parametrize("members", [0, -1, 2.5, "3"])
def test_bad_parameters(blobs, members):
    with pytest.raises(ValueError, match="'n_members' parameter of DeepEnsemble"):
        fit(*blobs, DeepEnsemble(members))
