"""Predictions block by block, and training and scoring on a cluster of dask."""

import os
import resource
import signal
import threading

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils._pytree import tree_flatten

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq.distributed import predict_blocks
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate

da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")


@pytest.fixture(scope="module")
def fitted(blobs):
    X, y = blobs
    network = TorchClassifier(posterior=MCDropout(4), max_epochs=2, random_state=0)
    return make_pipeline(StandardScaler(), network).fit(X, y)


@pytest.fixture(scope="module")
def regressor(diabetes):
    X, y = diabetes
    return TorchRegressor(posterior=MCDropout(4), max_epochs=2, random_state=0).fit(X, y)


# -- arrays and iterables ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["total", "aleatoric", "epistemic"])
def test_an_array_in_blocks(blobs, fitted, kind):
    X, _ = blobs
    blocks = list(predict_blocks(fitted, X, kind, block_size=100))
    assert [len(block) for block in blocks] == [100, 100, 40]
    assert np.array_equal(np.concatenate(blocks), skuq.predict_uncertainty(fitted, X, kind=kind))


def test_a_memory_map_is_read_block_by_block(blobs, fitted, tmp_path):
    X, _ = blobs
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    blocks = predict_blocks(fitted, mapped, method="predict_proba", block_size=64)
    assert np.array_equal(np.concatenate(list(blocks)), fitted.predict_proba(X))


def test_an_iterable_is_answered_one_by_one(blobs, fitted):
    X, _ = blobs
    taken = []

    def chunks():
        for chunk in np.array_split(X, 3):
            taken.append(len(chunk))
            yield chunk

    answers = predict_blocks(fitted, chunks(), "all")
    assert taken == []
    first = next(answers)
    assert taken == [80]
    assert np.array_equal(first.total, skuq.predict_uncertainty(fitted, X[:80]))


def test_a_data_frame_in_blocks(blobs, fitted):
    frame = pd.DataFrame(blobs[0])
    blocks = predict_blocks(fitted, frame, method="predict", block_size=100)
    assert np.array_equal(np.concatenate(list(blocks)), fitted.predict(blobs[0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "score"}, "method must be one of"),
        ({"block_size": 0}, "at least 1"),
        ({"block_size": 2.5}, "an integer"),
        ({"method": "predict", "kind": "all"}, "needs method='predict_uncertainty'"),
    ],
)
def test_what_cannot_be_asked(blobs, fitted, options, message):
    with pytest.raises(ValueError, match=message):
        predict_blocks(fitted, blobs[0], **options)


# -- collections of dask, in threads -----------------------------------------------------------


@pytest.mark.parametrize("chunks", [(100, 10), (240, 10), ((1, 100, 139), (4, 6))])
def test_a_dask_array(blobs, fitted, chunks):
    X, _ = blobs
    lazy = predict_blocks(fitted, da.from_array(X, chunks=chunks), "all")
    expected = skuq.predict_uncertainty(fitted, X, kind="all")
    for part, whole in zip(lazy, expected):
        assert part.shape == whole.shape
        assert np.array_equal(part.compute(scheduler="threads"), whole)


def test_answers_are_lazy(blobs, fitted):
    X, _ = blobs
    computed = []

    def load(block):
        computed.append(len(block))
        return block

    lazy = da.from_array(X, chunks=(80, 10)).map_blocks(load, dtype=X.dtype, meta=X[:0])
    answers = predict_blocks(fitted, lazy)
    assert sum(computed) < len(X)
    answers[:10].compute()
    assert sum(computed) < len(X)


def test_a_dask_data_frame_with_an_empty_partition(blobs, fitted):
    frame = dd.from_pandas(pd.DataFrame(blobs[0]), npartitions=3)
    frame = dd.concat([frame[frame[0] > np.inf], frame])
    labels = predict_blocks(fitted, frame, method="predict")
    assert np.array_equal(labels.compute(), fitted.predict(blobs[0]))


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("predict", {}),
        ("predict_interval", {"confidence_level": 0.5}),
        ("predict_quantiles", {"q": [0.1, 0.9]}),
    ],
)
def test_a_regressor(diabetes, regressor, method, options):
    X, _ = diabetes
    lazy = predict_blocks(regressor, da.from_array(X, chunks=200), method=method, **options)
    assert np.array_equal(lazy.compute(), getattr(regressor, method)(X, **options))


@pytest.mark.parametrize(
    ("model", "method", "options"),
    [
        ("fitted", "predict_uncertainty", {"kind": "all"}),
        ("network", "predict_proba", {"return_uncertainty": True}),
        ("regressor", "predict", {"return_std": True}),
    ],
)
def test_answers_that_are_tuples(request, blobs, diabetes, fitted, model, method, options):
    X = (diabetes if model == "regressor" else blobs)[0]
    estimator = fitted[-1] if model == "network" else request.getfixturevalue(model)
    lazy = predict_blocks(estimator, da.from_array(X, chunks=100), method=method, **options)
    (whole,) = predict_blocks(estimator, X, method=method, **options)
    arrays, structure = tree_flatten(whole)
    lazy_arrays, lazy_structure = tree_flatten(lazy)
    assert lazy_structure == structure and type(lazy) is type(whole)
    for part, expected in zip(lazy_arrays, arrays, strict=True):
        assert part.shape == expected.shape
        assert np.array_equal(part.compute(), expected)


def test_blocks_without_rows(blobs, fitted):
    X, _ = blobs
    blocks = predict_blocks(fitted, [X[:3], X[:0], X[3:5]])
    assert [len(block) for block in blocks] == [3, 2]
    with pytest.raises(ValueError, match="no rows"):
        predict_blocks(fitted, da.from_array(X, chunks=100)[:0])


def test_the_estimator_is_one_object_of_the_graph(blobs, fitted):
    X, _ = blobs
    lazy = predict_blocks(fitted, da.from_array(X, chunks=10))
    names = [key for key in dict(lazy.__dask_graph__()) if str(key).startswith("estimator-")]
    assert len(names) == 1


def test_threads_of_this_process_are_left_alone(blobs, fitted):
    pytest.importorskip("distributed")  # so that there could be a worker
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        predict_blocks(fitted, da.from_array(blobs[0], chunks=100)).compute(scheduler="threads")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# -- a cluster ---------------------------------------------------------------------------------


LIMIT = 2 * 10**9  # bytes of a worker


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": LIMIT}
    with (
        distributed.LocalCluster(**options, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


cluster_test = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore"),  # distributed's own
]


class TestOnACluster:
    pytestmark = cluster_test

    def test_an_ensemble_and_a_search_equal_those_in_one_process(self, client, blobs):
        X, y = blobs
        network = TorchClassifier(posterior=DeepEnsemble(3, n_jobs=2), max_epochs=3, random_state=0)
        search = GridSearchCV(
            TorchClassifier(posterior=PointEstimate(), max_epochs=3, random_state=0),
            {"lr": [1e-3, 1e-2]},
            cv=3,
        )
        alone = network.set_params(posterior__n_jobs=1).fit(X, y)
        weights, proba = alone.draws(torch.eye(10)), alone.predict_proba(X)
        grid = clone(search).fit(X, y)
        with joblib.parallel_config("dask"):
            spread = network.set_params(posterior__n_jobs=2).fit(X, y)
            spread_grid = search.set_params(n_jobs=2).fit(X, y)
        assert torch.equal(weights, spread.draws(torch.eye(10)))
        assert np.array_equal(proba, spread.predict_proba(X))
        for k in range(3):
            name = f"split{k}_test_score"
            assert np.array_equal(grid.cv_results_[name], spread_grid.cv_results_[name])
        assert np.array_equal(
            grid.best_estimator_.predict_proba(X), spread_grid.best_estimator_.predict_proba(X)
        )

    def test_scoring_three_times_what_a_worker_may_hold(self, client):
        n_features, n_rows = 500, 1_500_000
        assert 8 * n_features * n_rows == 3 * LIMIT
        random = np.random.default_rng(0)
        X, y = random.normal(size=(200, n_features)), random.integers(2, size=200)
        network = TorchClassifier(posterior=PointEstimate(), max_epochs=2, random_state=0)
        rows = da.random.default_rng(0).normal(size=(n_rows, n_features), chunks=(25_000, -1))
        answers = predict_blocks(network.fit(X, y), rows, method="predict").mean()
        assert 0 < answers.compute() < 1
        assert max(client.run(peak_bytes).values()) < LIMIT

    def test_one_torch_thread_in_a_worker(self, client, blobs, fitted):
        """Of the thread that runs tasks: the number is each thread's own."""

        def of_each(function, *arguments):
            workers = client.scheduler_info()["workers"]
            asked = [client.submit(function, *arguments, workers=[w], pure=False) for w in workers]
            return client.gather(asked)

        of_each(torch.set_num_threads, 2)
        assert set(of_each(torch.get_num_threads)) == {2}
        predict_blocks(fitted, da.from_array(blobs[0], chunks=10)).compute()
        assert set(of_each(torch.get_num_threads)) == {1}

    def test_a_worker_that_is_killed(self, client, blobs, fitted):
        X, y = blobs
        big = da.concatenate([da.from_array(X, chunks=60)] * 10)
        expected = predict_blocks(fitted, big).compute(scheduler="synchronous")
        answers = client.compute(predict_blocks(fitted, big))
        kill_one(client)
        assert np.array_equal(answers.result(), expected)
        network = TorchClassifier(
            posterior=DeepEnsemble(4, n_jobs=2), max_epochs=60, random_state=0
        )
        alone = network.fit(X, y).predict_proba(X)
        killer = threading.Timer(2.0, kill_one, [client])
        killer.start()
        with joblib.parallel_config("dask"):
            spread = network.fit(X, y).predict_proba(X)
        killer.join()
        assert np.array_equal(alone, spread)


def peak_bytes():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def kill_one(client):
    os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
