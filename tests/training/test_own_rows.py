"""Members of an ensemble that set rows of their own apart."""

import numpy as np
import pytest
import torch

from skuq import TorchClassifier, TorchRegressor
from skuq._data._batches import Rows, StackedBatches
from skuq._training._own_rows import Splits
from skuq.likelihoods import Gaussian
from skuq.posteriors import DeepEnsemble, PointEstimate

QUICK = {
    "module__hidden_layer_sizes": (8,),
    "max_epochs": 12,
    "n_iter_no_change": 3,
    "early_stopping": True,
    "lr": 0.05,
    "random_state": 0,
    "batch_size": 32,
}


def losses(model):
    return [[epoch["valid_loss"] for epoch in history] for history in model.histories_]


@pytest.mark.parametrize("bootstrap", [False, True])
def test_a_stack_is_its_members_by_themselves(blobs, bootstrap):
    X, y = blobs
    stacked, alone = (
        TorchClassifier(posterior=DeepEnsemble(3, bootstrap, n_jobs), **QUICK).fit(X, y)
        for n_jobs in (None, 1)
    )
    for one, other in zip(losses(stacked), losses(alone)):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stacked.predict_proba(X), alone.predict_proba(X), rtol=0, atol=1e-4)


def test_the_first_member_is_the_network_of_a_single_fit(blobs):
    ensemble = TorchClassifier(posterior=DeepEnsemble(2, n_jobs=1), **QUICK).fit(*blobs)
    single = TorchClassifier(posterior=PointEstimate(), **QUICK).fit(*blobs)
    assert losses(ensemble)[0] == losses(single)[0]
    assert losses(ensemble)[1] != losses(ensemble)[0]


def test_each_member_watches_rows_of_its_own():
    splits = Splits(np.arange(200) % 4, None, 0.1, True, root=3)
    first, second = splits(0), splits(1)
    for train, valid in (first, second):
        assert len(valid) == 20 and sorted([*train, *valid]) == list(range(200))
    assert len(np.intersect1d(first[1], second[1])) < 10
    assert np.array_equal(first[1], splits(0)[1])


def test_groups_stay_together_also_where_their_sizes_differ(blobs):
    """Then members have different numbers of rows, and train one after another."""
    X, y = blobs
    groups = np.repeat(np.arange(24), np.r_[np.full(12, 5), np.full(12, 15)])
    splits = Splits(y, groups, 0.2, False, root=0)
    for number in range(4):
        train, valid = splits(number)
        assert not set(groups[train]) & set(groups[valid])
    model = TorchClassifier(posterior=DeepEnsemble(3), **QUICK).fit(X, y, groups=groups)
    assert len({tuple(one) for one in losses(model)}) == 3


def test_a_noise_that_needs_unseen_rows_is_learnt_from_common_ones(diabetes, monkeypatch):
    X, y = diabetes
    model = TorchRegressor(
        posterior=DeepEnsemble(2), likelihood=Gaussian(heteroscedastic=False), **QUICK
    )
    watched = []
    spans = StackedBatches.__init__

    def noted(self, rows, indices, **options):
        watched.append(indices)
        spans(self, rows, indices, **options)

    monkeypatch.setattr(StackedBatches, "__init__", noted)
    model.fit(X, y)
    assert watched == [None]  # all training rows, and one set of watched rows for both
    model.set_params(likelihood=None).fit(X, y)
    train, valid = watched[1:]
    assert [len(train[0]) + len(valid[0]), len(train)] == [len(X), 2]


def test_batches_of_rows_of_their_own():
    rows = Rows(torch.arange(10.0)[:, None], torch.arange(10.0))
    indices = torch.tensor([[0, 2, 4, 6, 8], [9, 7, 5, 3, 1]])
    generators = [torch.Generator().manual_seed(k) for k in range(2)]
    options = {"batch_size": 2, "generators": generators}
    batches = StackedBatches(rows, indices, shuffle=False, **options)
    assert [tuple(x.shape[:2]) for x, _ in batches] == [(2, 2), (2, 3)]  # no single last row
    in_order = torch.cat([target for _, target in batches], 1)
    assert torch.equal(in_order, indices.float())
    shuffled = StackedBatches(rows, indices, shuffle=True, **options)
    seen = torch.cat([target for _, target in shuffled], 1)
    assert torch.equal(seen.sort(1).values, indices.sort(1).values.float())


@pytest.mark.parametrize("posterior", [DeepEnsemble(3), PointEstimate()], ids=str)
def test_the_noise_is_corrected_on_the_watched_rows_of_each_network(posterior, diabetes):
    X, y = diabetes
    weight = 1.0 + np.arange(len(y)) % 2
    model = TorchRegressor(posterior=posterior, **QUICK).fit(X, y, sample_weight=weight)
    splits = Splits(y, None, 0.1, False, model._root)
    likelihood, total, count = model.likelihood_, 20.0, 20.0
    outputs = model._engine(torch.as_tensor(X, dtype=torch.float32))
    for k in range(len(model.histories_)):
        rows = splits(k)[1]
        mean, variance = likelihood._moments(outputs[k, rows])
        residuals = likelihood.encode(y[rows, None]) - mean.numpy()
        own = (weight / weight.mean())[rows]
        total += own @ (residuals**2 / variance.numpy()).ravel()
        count += own.sum()
    assert likelihood.variance_factor_ == pytest.approx([total / count], rel=1e-4)
    means, variances = likelihood._moments(outputs)
    expected = (total / count) * variances.mean(0) + means.var(0, correction=0)
    _, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(std, likelihood.scale_ * expected.sqrt().numpy().ravel(), rtol=1e-4)


def test_nothing_is_corrected_without_early_stopping(diabetes):
    options = {**QUICK, "early_stopping": False}
    model = TorchRegressor(posterior=DeepEnsemble(2), **options).fit(*diabetes)
    assert model.likelihood_.variance_factor_.tolist() == [1.0]
