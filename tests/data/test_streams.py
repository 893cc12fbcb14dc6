"""Rows that do not lie in memory: large memory maps, and torch's Datasets."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

import skuq
import skuq._data._streams
from skuq import TorchClassifier, TorchRegressor
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate
from tests import networks


class Items(Dataset):
    """Pairs, or x alone where y is None."""

    def __init__(self, X, y=None, kind=np.asarray):
        self.X, self.y, self.kind = X, y, kind
        self.reads = 0

    def __len__(self):
        return len(self.X)

    def __getitem__(self, index):
        self.reads += 1
        x = self.kind(self.X[index])
        return x if self.y is None else (x, self.y[index])


class Stream(IterableDataset):
    def __init__(self, X, y=None):
        self.X, self.y = X, y
        self.passes = 0

    def __iter__(self):
        self.passes += 1
        return iter(self.X) if self.y is None else zip(self.X, self.y)


def classifier(posterior=None, **options):
    options = {"max_epochs": 3, "batch_size": 50, "lr": 0.01, "random_state": 0, **options}
    return TorchClassifier(
        options.pop("module", networks.ResidualNet), posterior=posterior or MCDropout(5), **options
    )


@pytest.fixture
def mapped(blobs, tmp_path, monkeypatch):
    """A memory map that counts as large."""
    monkeypatch.setattr("skuq._data._streams._MAPPED_BYTES", 0)
    np.save(tmp_path / "X.npy", blobs[0])
    return np.load(tmp_path / "X.npy", mmap_mode="r")


SOURCES = {
    "map": lambda X, y, mapped: (mapped, y),
    "Dataset": lambda X, y, mapped: (Items(X, y), None),
    "Dataset of tensors": lambda X, y, mapped: (Items(X, torch.as_tensor(y), torch.tensor), None),
    "TensorDataset": lambda X, y, mapped: (TensorDataset(*map(torch.as_tensor, (X, y))), None),
    "IterableDataset": lambda X, y, mapped: (Stream(X, y), None),
}
OPTIONS = {
    "plain": {},
    "early stopping": {"early_stopping": True},
    "a stack": {"posterior": DeepEnsemble(2, bootstrap=True)},
    "one by one": {"posterior": DeepEnsemble(2, n_jobs=1)},
    "a loader": {"iterator_train__num_workers": 0},
    "class weights": {"class_weight": "balanced"},
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("options", OPTIONS)
def test_rows_from_elsewhere_are_the_same_rows(source, options, blobs, mapped, untouched_globals):
    """To rounding: a batch that is gathered may lie otherwise in memory than a slice."""
    X, y = blobs
    expected = classifier(**OPTIONS[options]).fit(X, y)
    given, target = SOURCES[source](X, y, mapped)
    found = classifier(**OPTIONS[options]).fit(given, target)
    assert found.n_features_in_ == 10 and np.array_equal(found.classes_, expected.classes_)
    proba = expected.predict_proba(X)
    np.testing.assert_allclose(found.predict_proba(X), proba, atol=1e-4)
    for ask in (expected.predict_proba, expected.predict_uncertainty, expected.predict_draws,
                expected.predict, expected.decision_function):  # fmt: skip
        assert np.array_equal(ask(given), ask(X))


def test_weights_groups_and_labels(blobs):
    X, y = blobs
    names, weight = np.array(["a", "b", "c"])[y], np.arange(240) % 3.0
    options = {"early_stopping": True}
    expected = classifier(**options).fit(X, names, sample_weight=weight, groups=np.arange(240) // 4)
    found = classifier(**options).fit(
        Items(X, names), sample_weight=weight, groups=np.arange(240) // 4
    )
    assert list(found.classes_) == ["a", "b", "c"]
    np.testing.assert_allclose(found.predict_proba(X), expected.predict_proba(X), atol=1e-4)
    assert set(found.predict(Items(X))) <= set("abc")


def test_a_regressor_of_several_targets(diabetes):
    X, y = diabetes
    y = np.stack([y, -y], 1)
    options = {"posterior": MCDropout(5), "max_epochs": 2, "random_state": 0}
    expected = TorchRegressor(**options).fit(X, y)
    found = TorchRegressor(**options).fit(Items(X, y))
    np.testing.assert_allclose(found.predict(X), expected.predict(X), rtol=1e-3)
    assert np.array_equal(found.predict_interval(Stream(X)), found.predict_interval(X))
    assert found.partial_fit(Items(X, y)).partial_fit(Stream(X, y)).n_iter_ == 4


def test_images(digits):
    X, y = digits
    X = X[:200].reshape(-1, 1, 8, 8)
    options = {"module": networks.ConvNet, "max_epochs": 1}
    expected = classifier(**options).fit(X, y[:200])
    found = classifier(**options).fit(Items(X, y[:200]))
    np.testing.assert_allclose(found.predict_proba(X), expected.predict_proba(X), atol=1e-4)
    walked = skuq.predict_uncertainty(found, Items(X))
    assert np.array_equal(walked, found.predict_uncertainty(X))


def test_a_dataset_is_read_anew_in_each_epoch(blobs):
    """So that it may augment; a stream is gone through once."""
    X, y = blobs
    dataset, stream = Items(X, y), Stream(X, y)
    classifier(PointEstimate(), max_epochs=4).fit(dataset)
    assert 240 * 6 <= dataset.reads < 240 * 6 + 60
    fitted = classifier(PointEstimate(), max_epochs=4).fit(stream)
    assert stream.passes == 1
    fitted.predict(stream)
    assert stream.passes == 2


class Augmented(Items):
    """Draws from NumPy's global generator, as augmentation often does."""

    def __getitem__(self, index):
        return np.random.normal(size=3).astype(np.float32), self.y[index]  # noqa: NPY002


class Seen(networks.Plain):
    rows = []

    def forward(self, x):
        tried_out = len(x) < 20 or not torch.is_grad_enabled()
        if self.training and not tried_out:
            self.rows.append(x.detach().clone())
        return super().forward(x)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_of_a_loader_draw_numbers_of_their_own(untouched_globals):
    """NumPy's generators differ from worker to worker and from epoch to epoch."""
    data = Augmented(np.zeros((80, 3)), np.arange(80) % 2)

    def rows():
        Seen.rows.clear()
        classifier(
            PointEstimate(), module=Seen, batch_size=20, max_epochs=2, iterator_train__num_workers=2
        ).fit(data)
        return torch.cat(Seen.rows)

    first, again = rows(), rows()
    assert len(first) == 160 and len(first.flatten().unique()) == 480
    assert torch.equal(first, again)


def test_other_orders_of_a_map(blobs, tmp_path, monkeypatch):
    """Another dtype or order is read into memory: the same numbers, no stream."""
    monkeypatch.setattr("skuq._data._streams._MAPPED_BYTES", 0)
    X, y = blobs
    np.save(tmp_path / "X.npy", X.astype(np.float64))
    wide = np.load(tmp_path / "X.npy", mmap_mode="r")
    expected, found = classifier().fit(X, y), classifier().fit(wide, y)
    assert np.array_equal(found.predict_proba(wide), expected.predict_proba(X))


@pytest.mark.parametrize("cls", [Items, Stream])
def test_datasets_that_are_refused(cls, blobs):
    X, y = blobs
    fitted = classifier(max_epochs=1).fit(X, y)
    bad = X.copy()
    bad[100, 3] = np.nan
    ragged = [*X[:50], X[50, :-1], *X[51:]]
    for ask in (lambda X: classifier().fit(cls(X, y)), lambda X: fitted.predict(cls(X))):
        with pytest.raises(ValueError, match="Input X contains NaN"):
            ask(bad)
        with pytest.raises(ValueError, match=r"a row of the Dataset has shape \(9,\)"):
            ask(ragged)
        with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\)"):
            ask(X[:0])
    with pytest.raises(ValueError, match="expected y=None, got y of type ndarray"):
        classifier().fit(cls(X, y), y)
    with pytest.raises(ValueError, match=r"items of type ndarray; expected pairs \(x, y\).*Stack"):
        classifier().fit(cls(X))
    with pytest.raises(ValueError, match="X has 9 features"):
        fitted.predict(cls(X[:, :-1]))
    with pytest.raises(ValueError, match=r"sample_weight.shape == \(5,\)"):
        classifier().fit(cls(X, y), sample_weight=np.ones(5))
    with pytest.raises(ValueError, match="only one class"):
        classifier().fit(cls(X, np.zeros(240, int)))


def test_a_dataset_without_length(blobs):
    class Endless(Dataset):
        def __getitem__(self, index):
            return np.zeros(3), 0

    with pytest.raises(TypeError, match="has no __len__"):
        classifier().fit(Endless())


def test_all_draws_of_a_stream(blobs, monkeypatch):
    X, y = blobs
    fitted = classifier(max_epochs=1).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fitted.predict_draws(Stream(X)).shape == (5, 240, 3)


# -- memory -------------------------------------------------------------------------------------

LIMITED = """
import resource, sys
import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset
torch.set_num_threads(1)
from skuq import TorchClassifier
from skuq.posteriors import DeepEnsemble

path, source = sys.argv[1:]
n, d = 320_000, 100  # 128 MB
step = n // 40

class Items(Dataset):
    def __init__(self, n):
        self.n = n
    def __len__(self):
        return self.n
    def __getitem__(self, i):
        x = np.full(d, i % 7, np.float32)
        x[i % d] = 1
        return x, i % 7 > 3

class Stream(IterableDataset):
    def __init__(self, n):
        self.n = n
    def __iter__(self):
        return map(Items(self.n).__getitem__, range(self.n))

if source == "map":
    X = np.lib.format.open_memmap(path, "w+", np.float32, (n, d))
    for start in range(0, n, step):
        X[start : start + step] = np.random.default_rng(start).normal(size=(step, d))
        X.flush()
    del X
    X = np.load(path, mmap_mode="r")
    y, small, small_y = np.arange(n) % 7 > 3, X[:1000], np.arange(1000) % 7 > 3
else:
    X, y, small, small_y = {"items": Items, "stream": Stream}[source](n), None, Items(1000), None

def make():
    return TorchClassifier(posterior=DeepEnsemble(2), max_epochs=1, batch_size=4096,
                           early_stopping=source != "stream", random_state=0,
                           module__hidden_layer_sizes=(8,))
make().fit(small, small_y).predict(small)  # what has to be imported and allocated once

def used():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))

limit = used() + 80 * 2**20  # about 60 are needed
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    np.ones(n * d, np.float32)
except MemoryError:
    pass
else:
    raise SystemExit("there is no limit here")
fitted = make().fit(X, y)
labels, uncertainty = fitted.predict(X), fitted.predict_uncertainty(X)
assert len(labels) == len(uncertainty) == n and np.isfinite(uncertainty).all()
print("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts otherwise")
@pytest.mark.parametrize(
    "source",
    [
        "map",
        pytest.param("items", marks=pytest.mark.slow),
        pytest.param("stream", marks=pytest.mark.slow),
    ],
)
def test_more_rows_than_memory(source, tmp_path):
    """128 MB of rows where 80 MB may be allocated: to fit and to predict."""
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "X.npy"), source]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.stdout == "done\n", run.stdout + run.stderr
