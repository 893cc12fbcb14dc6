"""Fits with a random_state are repeatable, whatever draws; what cannot be seeded is named."""

import random
import threading

import numpy as np
import pytest
import torch
from sklearn.model_selection import cross_val_score
from torch import nn
from torch.utils.data import BatchSampler, RandomSampler, WeightedRandomSampler

from skuq import TorchClassifier
from skuq._networks._inspection import other_noise
from skuq._networks._module import Numerics
from skuq._utils._random import PrivateGlobals
from skuq.posteriors import DeepEnsemble, PointEstimate
from tests import networks
from tests.conftest import global_generators

pytestmark = pytest.mark.usefixtures("untouched_globals")


def classifier(module=networks.Plain, **options):
    options = {"max_epochs": 2, "batch_size": 60, "lr": 0.01, "random_state": 0, **options}
    options.setdefault("posterior", PointEstimate())
    return TorchClassifier(module, **options)


def answers(make, X, y, X_fit=None):
    """Of two fits, between which the global generators move."""
    found = []
    for seed in (1, 2):
        with PrivateGlobals(seed):
            before = global_generators()
            found.append(make().fit(*((X, y) if X_fit is None else (X_fit,))).predict_proba(X))
            assert global_generators() == before
    return found


# -- noise from the global generators, wherever user code runs -----------------------------------


class Noisy(networks.Plain):
    """Adds what `draw` gives for the shape of the outputs, while it trains."""

    def forward(self, x):
        output = super().forward(x)
        return output + self.draw(output) if self.training else output

    def draw(self, output):
        return 0.0


class TorchNoise(Noisy):
    def draw(self, output):
        return torch.randn_like(output)


class NumpyNoise(Noisy):
    def draw(self, output):
        return np.random.normal()  # noqa: NPY002


class PythonNoise(Noisy):
    def draw(self, output):
        return random.gauss(0, 1)


class NoiseInLargeBatches(Noisy):
    def draw(self, output):
        return torch.randn_like(output) if len(output) > 10 else 0.0


class LateNoise(Noisy):
    """From the fifth batch, that is in the second epoch."""

    def __init__(self, n_features, n_outputs):
        super().__init__(n_features, n_outputs)
        self.register_buffer("steps", torch.zeros(1))

    def draw(self, output):
        if torch.is_grad_enabled():
            self.steps += 1
        return torch.randn_like(output) * (self.steps > 4)


class RandomSlopes(networks.Plain):
    def __init__(self, n_features, n_outputs):
        super().__init__(n_features, n_outputs)
        self.layers[1] = nn.RReLU(0.1, 0.9)


class NoisySGD(torch.optim.SGD):
    """Langevin dynamics, more or less."""

    @torch.no_grad()
    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)


def augmented(batch):
    x, target = batch
    return type(batch).of(x + torch.randn_like(x), target, batch.weight)


class OwnOrder(torch.utils.data.Sampler):
    """Half of the rows; shuffles its own array in place, with a generator of its own."""

    def __init__(self, n_rows):
        self.rows = np.arange(n_rows)
        self.generator = np.random.default_rng(3)

    def __len__(self):
        return len(self.rows) // 2

    def __iter__(self):
        self.generator.shuffle(self.rows)
        return iter(self.rows[: len(self)].tolist())


WEIGHTS = torch.linspace(0.1, 1, 240)
SOURCES = {
    "torch": {"module": TorchNoise},
    "numpy": {"module": NumpyNoise},
    "random": {"module": PythonNoise},
    "large batches": {"module": NoiseInLargeBatches},
    "late": {"module": LateNoise},
    "rrelu": {"module": RandomSlopes},
    "optimizer": {"optimizer": NoisySGD},
    "sampler": {"iterator_train__sampler": WeightedRandomSampler(WEIGHTS, 240)},
    "its generator": {
        "iterator_train__sampler": WeightedRandomSampler(
            WEIGHTS, 240, generator=torch.Generator().manual_seed(5)
        )
    },
    "own sampler": {"iterator_train__sampler": OwnOrder(240)},
    "batch sampler": {
        "iterator_train__batch_sampler": BatchSampler(RandomSampler(range(240)), 40, False)
    },
    "collate": {"iterator_train__collate_fn": augmented},
    "generator": {
        "iterator_train__generator": torch.Generator().manual_seed(5),
        "iterator_train__num_workers": 0,
    },
}


@pytest.mark.parametrize("posterior", [PointEstimate(), DeepEnsemble(2)], ids=str)
@pytest.mark.parametrize("source", SOURCES)
def test_fits_are_the_same(source, posterior, blobs):
    options = {"posterior": posterior, **SOURCES[source]}
    one, same = answers(lambda: classifier(**options), *blobs)
    assert np.array_equal(one, same)
    other = classifier(**options, random_state=1).fit(*blobs).predict_proba(blobs[0])
    assert np.abs(other - one).max() > 1e-3


class Augmenting(torch.utils.data.Dataset):
    def __init__(self, X, y, draw=lambda: np.random.normal(size=10)):  # noqa: NPY002
        self.X, self.y, self.draw = X, y, draw

    def __len__(self):
        return len(self.X)

    def __getitem__(self, index):
        return (self.X[index] + self.draw()).astype(np.float32), self.y[index]


class AugmentingStream(torch.utils.data.IterableDataset):
    def __init__(self, X, y):
        self.pairs = list(zip(X, y))

    def __iter__(self):
        pairs = random.sample(self.pairs, len(self.pairs))
        return iter([(x + random.random(), label) for x, label in pairs])


@pytest.mark.parametrize("dataset", [Augmenting, AugmentingStream])
def test_an_augmenting_dataset(dataset, blobs):
    X, y = blobs
    one, same = answers(classifier, X, y, X_fit=dataset(X, y))
    assert np.array_equal(one, same)
    other = classifier(random_state=1).fit(dataset(X, y)).predict_proba(X)
    assert np.abs(other - one).max() > 1e-3


def test_a_dataset_that_draws_does_not_move_the_globals_of_a_prediction(blobs):
    X, y = blobs
    classifier().fit(X, y).predict_proba(Augmenting(X, y))  # `untouched_globals` looks


@pytest.mark.parametrize("source", ["torch", "sampler", "its generator", "own sampler"])
def test_training_goes_on_with_its_own_streams(source, blobs):
    """Epochs of partial_fit differ from each other, and are the same in another run."""
    X, y = blobs

    def losses():
        network = classifier(**SOURCES[source], lr=1e-30)
        calls = [network.partial_fit(X, y, classes=[0, 1, 2]).history_[-1] for _ in range(3)]
        return [epoch["train_loss"] for epoch in calls]

    first = losses()
    assert len(set(first)) == 3 and losses() == first


# -- threads ------------------------------------------------------------------------------------


def test_fits_in_threads_are_the_same(blobs):
    modules = [TorchNoise, NumpyNoise, networks.Plain, PythonNoise]
    expected = [classifier(m).fit(*blobs).predict_proba(blobs[0]) for m in modules]
    found = [None] * 4

    def work(k):
        found[k] = classifier(modules[k]).fit(*blobs).predict_proba(blobs[0])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected))


def test_a_callback_may_wait_for_fits_in_other_threads(blobs):
    from skorch.callbacks import Callback

    class Fits(Callback):
        def on_epoch_end(self, net, **kwargs):
            thread = threading.Thread(target=lambda: classifier(TorchNoise).fit(*blobs))
            thread.start()
            thread.join(60)
            assert not thread.is_alive()
            net.history.record("drawn", random.random())

    drawn = [
        [epoch["drawn"] for epoch in classifier(callbacks=[Fits()]).fit(*blobs).history_]
        for _ in range(2)
    ]
    assert drawn[0] == drawn[1] and len(set(drawn[0])) == 2


# -- what cannot be seeded ----------------------------------------------------------------------


class OwnEntropy(Noisy):
    def draw(self, output):
        return np.random.default_rng().normal()


class EntropySGD(NoisySGD):
    @torch.no_grad()
    def step(self, closure=None):
        super().step(closure)
        self.param_groups[0]["params"][0].add_(float(np.random.default_rng().normal()))


def entropic(batch):
    x, target = batch
    return type(batch).of(x + np.random.default_rng().normal(), target, batch.weight)


class EntropicOrder(OwnOrder):
    def __iter__(self):
        return iter(np.random.default_rng().permutation(len(self)).tolist())


UNSEEDED = {
    "the forward of OwnEntropy": {"module": OwnEntropy},
    "the optimizer": {"optimizer": EntropySGD},
    "iterator_train__collate_fn": {"iterator_train__collate_fn": entropic},
    "iterator_train__sampler": {"iterator_train__sampler": EntropicOrder(240)},
}


@pytest.mark.usefixtures("fresh_entropy")
@pytest.mark.parametrize("source", UNSEEDED)
def test_what_cannot_be_seeded_is_named(source, blobs):
    with pytest.warns(UserWarning, match=rf"random_state are not repeatable: {source} gave"):
        classifier(**UNSEEDED[source]).fit(*blobs)
    classifier(**UNSEEDED[source], random_state=None).fit(*blobs)  # nothing promised, no warning


@pytest.mark.usefixtures("fresh_entropy")
def test_a_dataset_that_cannot_be_seeded_is_named(blobs):
    own = np.random.default_rng(0)
    dataset = Augmenting(*blobs, draw=lambda: own.normal(size=10))
    with pytest.warns(UserWarning, match="not repeatable: the Dataset X gave something else"):
        classifier().fit(dataset)


@pytest.mark.usefixtures("fresh_entropy")
def test_random_state_none_is_new_every_time(blobs):
    one, other = answers(lambda: classifier(random_state=None), *blobs)
    assert not np.array_equal(one, other)


def test_what_the_suite_draws_without_a_seed(blobs):
    """Fixed, and global generators at their first number: see `tests/repeatable.py`."""
    assert np.random.default_rng().random() == np.random.default_rng().random()
    assert random.getstate() == random.Random(0).getstate()
    one, same = (classifier(random_state=None).fit(*blobs).predict_proba(blobs[0]) for _ in "ab")
    assert np.array_equal(one, same)


# -- what is seen in a module -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "noise"),
    [
        (networks.Plain, ()),
        (TorchNoise, ("TorchNoise.forward",)),
        (NumpyNoise, ("NumpyNoise.forward (from numpy.random)",)),
        (PythonNoise, ("PythonNoise.forward (from random)",)),
        (NoiseInLargeBatches, ("NoiseInLargeBatches.forward",)),
        (RandomSlopes, ("layers.1 (RReLU)",)),
    ],
)
def test_noise_that_is_seen(module, noise):
    numerics = Numerics(torch.device("cpu"), "float32")
    with PrivateGlobals(0):
        built = module(10, 3).eval()
    assert other_noise(built, torch.zeros(20, 10), numerics) == noise


# -- samplers of another number of rows ---------------------------------------------------------


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (
            WeightedRandomSampler(WEIGHTS, 240),
            "has weights of 240 rows, but training uses 160 rows",
        ),
        (RandomSampler(range(240)), "is for 240 rows, but training uses 160 rows"),
        (OwnOrder(240), r"asks for row \d+, but training uses 160 rows"),
    ],
    ids=["weights", "source", "own"],
)
def test_one_sampler_across_folds(sampler, message, blobs):
    network = classifier(iterator_train__sampler=sampler)
    with pytest.raises(ValueError, match=f"iterator_train__sampler {message}"):
        cross_val_score(network, *blobs, cv=3, error_score="raise")
    batches = BatchSampler(sampler, 40, False)
    network = classifier(iterator_train__batch_sampler=batches)
    with pytest.raises(ValueError, match=f"iterator_train__batch_sampler {message}"):
        cross_val_score(network, *blobs, cv=3, error_score="raise")
    with pytest.raises(ValueError, match="early stopping sets some apart"):
        network.set_params(early_stopping=True).fit(*blobs)


def test_rows_before_the_first_are_refused(blobs):
    network = classifier(iterator_train__sampler=[0, -241])
    with pytest.raises(ValueError, match="asks for row -241, but training uses 240 rows"):
        network.fit(*blobs)
