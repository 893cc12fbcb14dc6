"""Posteriors of third parties that look at training, change the loss, or change the module."""

import copy

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq._training._checkpoints import Checkpoints
from skuq.likelihoods import Gaussian
from skuq.posteriors import Draws, PointEstimate, Posterior, TrainingHook
from tests.posteriors.toys import Anchored, RandomScales, Recorder, Snapshots, Taught

POSTERIORS = [Snapshots(), Anchored(), Taught(), RandomScales()]
OPTIONS = {
    "module__hidden_layer_sizes": (8,),
    "lr": 0.01,
    "max_epochs": 3,
    "batch_size": 60,
    "random_state": 0,
}


def classifier(posterior, **options):
    return TorchClassifier(posterior=clone(posterior), **{**OPTIONS, **options})


def weights_of(module):
    return {name: t.detach().clone() for name, t in module.state_dict().items()}


def assert_same_weights(a, b, atol=0.0):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=atol)


class Killed(BaseException):
    """What ends a process in the middle of a fit."""


@pytest.mark.parametrize("posterior", POSTERIORS, ids=str)
def test_it_is_uncertain_and_repeats_itself(posterior, blobs):
    X, y = blobs
    first, second = (classifier(posterior).fit(X, y) for _ in range(2))
    assert (first.predict_proba(X) == second.predict_proba(X)).all()
    assert first.predict_uncertainty(X, kind="epistemic").max() > 1e-6


@pytest.mark.parametrize("posterior", POSTERIORS, ids=str)
def test_a_warm_start_goes_on_from_the_trained_networks(posterior, blobs):
    X, y = blobs
    fitted = classifier(posterior, warm_start=True).fit(X, y)
    before = weights_of(fitted.module_)
    fitted.set_params(lr=1e-9, max_epochs=1)
    for _ in range(3):
        fitted.fit(X, y)
    assert_same_weights(weights_of(fitted.module_), before, atol=1e-6)
    fitted.partial_fit(X, y)
    assert_same_weights(weights_of(fitted.module_), before, atol=1e-6)


@pytest.mark.parametrize("n_saved", [2, 5])
@pytest.mark.parametrize("posterior", POSTERIORS, ids=str)
def test_a_fit_that_was_killed_goes_on(posterior, n_saved, blobs, tmp_path, monkeypatch):
    X, y = blobs
    expected = classifier(posterior).fit(X, y)
    save, saved = Checkpoints.save, []

    def save_or_die(self, name, state):
        save(self, name, state)
        saved.append(name)
        if len(saved) == n_saved:
            raise Killed

    resumed = classifier(posterior, checkpoint_dir=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_or_die)
        try:
            resumed.fit(X, y)
        except Killed:
            pass
        else:
            assert len(saved) < n_saved
    resumed.fit(X, y)
    assert (resumed.predict_draws(X) == expected.predict_draws(X)).all()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("posterior", POSTERIORS, ids=str)
def test_it_is_copied(posterior, blobs):
    X, y = blobs
    fitted = classifier(posterior).fit(X, y)
    assert (copy.deepcopy(fitted).predict_proba(X) == fitted.predict_proba(X)).all()


@pytest.mark.parametrize("posterior", [Anchored(), Taught()], ids=str)
def test_both_ways_of_training_give_the_same_networks(posterior, blobs):
    """Terms and looks at steps are those of the network, in a stack or by itself."""
    X, y = blobs
    options = {"precision": "float64", "module__dropout": 0.2}
    stacked = classifier(posterior, **options).fit(X, y)
    alone = classifier(clone(posterior).set_params(n_jobs=1), **options).fit(X, y)
    np.testing.assert_allclose(stacked.predict_draws(X), alone.predict_draws(X), atol=1e-10)


def test_a_term_of_the_loss_has_an_effect(blobs):
    X, y = blobs
    options = {"max_epochs": 30}
    free = classifier(Anchored(strength=0.0), **options).fit(X, y)
    held = classifier(Anchored(strength=1e4), **options).fit(X, y)
    begun = classifier(Anchored(strength=0.0), max_epochs=0).fit(X, y)

    def distance(one):
        own, other = weights_of(one.module_), weights_of(begun.module_)
        return sum(float((own[name] - other[name]).square().sum()) for name in own)

    assert distance(held) < 0.3 * distance(free)


class Counting(Posterior):
    """Tells what a problem says."""

    def fit(self, problem):
        (network,) = problem.train()
        batches = list(problem.batches())
        found = {
            "n_rows": problem.n_rows,
            "before": problem.before is not None,
            "x": torch.cat([x for (x, _) in batches]),
            "large": [len(x) for (x, _) in problem.batches(large=True)],
            "sizes": [len(x) for (x, _) in batches],
            "second": problem.train()[0],
        }
        Counting.found = found
        return Draws(network)


def test_what_a_problem_says(blobs):
    X, y = blobs
    fitted = classifier(Counting(), warm_start=True).fit(X, y)
    assert Counting.found["n_rows"] == len(X) and not Counting.found["before"]
    np.testing.assert_array_equal(Counting.found["x"].numpy(), X)
    size = Counting.found["sizes"][0]
    expected = min(max(size, min(4 * size, 256)), len(X))
    assert Counting.found["large"][0] == expected > size
    assert sum(Counting.found["large"]) == len(X)
    assert len(fitted.histories_) == 2
    fitted.fit(X, y)
    assert Counting.found["before"]
    weight = np.linspace(0, 3, len(X))
    classifier(Counting()).fit(X, y, sample_weight=weight)
    assert Counting.found["n_rows"] == pytest.approx(weight.sum())
    stopped = classifier(Counting(), early_stopping=True, validation_fraction=0.25)
    stopped.fit(X, y, sample_weight=np.full(len(X), 2.0))
    assert Counting.found["n_rows"] == pytest.approx(1.5 * len(X), rel=0.02)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_second_training_is_of_other_networks(checkpointed, blobs, tmp_path):
    X, y = blobs
    folder = tmp_path if checkpointed else None
    fitted = classifier(Counting(), checkpoint_dir=folder).fit(X, y)
    second = weights_of(Counting.found["second"])
    alone = classifier(Anchored(n_members=2, strength=0.0, n_jobs=1)).fit(X, y)
    expected = weights_of(alone._engine.draws.networks(2)[1])
    assert_same_weights(second, expected)
    first = weights_of(fitted.module_)
    assert any(not torch.equal(first[name], second[name]) for name in first)


class Looking(Posterior):
    """Tells what it saw before training, and of the rows of early stopping."""

    noise = "before"

    def fit(self, problem):
        before = problem.untrained()
        try:
            batches = list(problem.batches(validation=True))
        except ValueError as error:
            batches = str(error)
        (network,) = problem.train()
        known = problem.learn_noise(network)
        noise = getattr(problem.likelihood, "noise_variance_", None)
        Looking.found = {"before": before, "batches": batches, "known": known, "noise": noise}
        return Draws(network)


def test_what_a_problem_says_before_training(blobs):
    X, y = blobs
    classifier(Looking()).fit(X, y)
    begun = classifier(Looking(), max_epochs=0).fit(X, y)
    untrained = weights_of(Looking.found["before"])
    assert_same_weights(untrained, weights_of(begun.module_))
    assert "set early_stopping=True" in Looking.found["batches"]
    stopped = classifier(Looking(), early_stopping=True, validation_fraction=0.25)
    stopped.fit(X, y, sample_weight=np.linspace(1, 3, len(X)))
    batches = Looking.found["batches"]
    assert sum(len(x) for (x, _) in batches) == len(X) // 4
    assert all(batch.weight.shape == batch[1].shape for batch in batches)
    assert not Looking.found["before"].training


@pytest.mark.parametrize(
    ("options", "known"),
    [({}, True), ({"early_stopping": True}, True), ({"max_epochs": 0}, False)],
    ids=str,
)
def test_noise_before_the_posterior(options, known, diabetes):
    X, y = diabetes
    options = {"likelihood": Gaussian(False), **OPTIONS, **options}
    fitted = TorchRegressor(posterior=Looking(), **options).fit(X, y)
    assert Looking.found["known"] == known
    point = TorchRegressor(posterior=PointEstimate(), **options).fit(X, y)
    noise = fitted.likelihood_.noise_variance_
    if known:
        np.testing.assert_array_equal(noise, point.likelihood_.noise_variance_)
        np.testing.assert_array_equal(noise, Looking.found["noise"])
    else:
        assert noise == 1  # it was for the posterior to set it
    TorchRegressor(posterior=Looking(), max_epochs=0).fit(X, y)
    assert Looking.found["known"]  # each row has its own


class Normalised(nn.Sequential):
    def __init__(self, n_features, n_outputs):
        super().__init__(
            nn.Linear(n_features, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, n_outputs)
        )


class Shifted(Posterior):
    """The first bias moved, and what BatchNorm knows of it estimated anew."""

    def fit(self, problem):
        (network,) = problem.train()
        with torch.no_grad():
            network[0].bias += 7
        problem.estimate_batch_statistics(network)
        x = torch.cat([x for (x, _) in problem.batches()])
        Shifted.expected = network[0](x).mean(0)
        return Draws(network)


def test_batch_statistics_are_those_of_the_training_rows(blobs):
    X, y = blobs
    fitted = classifier(Shifted(), module=Normalised, module__hidden_layer_sizes=None)
    del fitted._prefixed["module__hidden_layer_sizes"]
    fitted.fit(X, y)
    torch.testing.assert_close(fitted.module_[1].running_mean, Shifted.expected)
    assert fitted.module_[1].momentum == 0.1 and not fitted.module_[1].training


class Refusing(Posterior):
    goes_on = False

    def fit(self, problem):
        return Draws(problem.train()[0])


def test_partial_fit_can_be_refused(blobs):
    with pytest.raises(ValueError, match=r"partial_fit does not support posterior=Refusing\(\)"):
        classifier(Refusing()).partial_fit(*blobs)


class Interrupting(Recorder):
    def after_epoch(self, module, epoch):
        if epoch == 3:
            raise KeyboardInterrupt
        super().after_epoch(module, epoch)


class InterruptedSnapshots(Snapshots):
    def fit(self, problem):
        (network,) = problem.train()
        hook = Interrupting()
        problem.explore(network, self.n_epochs, torch.optim.SGD, hook=hook, lr=self.lr)
        weights = hook.weights
        return Draws(network, {n: torch.stack([w[n] for w in weights]) for n in weights[0]})


def test_ctrl_c_keeps_what_a_hook_has_gathered(diabetes):
    X, y = diabetes
    regressor = TorchRegressor(posterior=InterruptedSnapshots(), on_interrupt="keep", **OPTIONS)
    with pytest.warns(UserWarning, match="2 of 4 epochs that follow training"):
        regressor.fit(X, y)
    assert regressor.interrupted_ and regressor.predict_draws(X).shape[0] == 2
    with pytest.raises(KeyboardInterrupt):
        clone(regressor).set_params(on_interrupt="raise").fit(X, y)


class Rates(TrainingHook):
    def __init__(self):
        self.weights = []

    def penalty(self, module, batch):
        return 1e6 * module[1].weight.sum()  # all other gradients are small beside it

    def after_step(self, module):
        self.weights.append(module[1].weight.detach().clone())


class Scheduled(Posterior):
    """Steps of plain SGD with a learning rate that falls from 1 to 0."""

    def __init__(self, optimizer=None):
        self.optimizer = optimizer

    def fit(self, problem):
        (network,) = problem.train()
        Scheduled.n_epochs = problem.n_epochs(network)
        steps = {}
        for falls in (False, True):
            hook = Rates()
            schedule = (lambda t: 1 - t) if falls else None
            problem.explore(network, 2, self.optimizer, hook=hook, schedule=schedule, lr=1e-9)
            path = torch.stack([network[1].weight.detach(), *hook.weights])
            steps[falls] = path.diff(dim=0).flatten(1).norm(dim=1)
        Scheduled.steps = steps
        return Draws(network)


@pytest.mark.parametrize("given", [None, torch.optim.SGD], ids=str)
def test_learning_rates_follow_a_schedule(given, blobs):
    X, y = blobs
    options = {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.0, "module__dropout": 0.0}
    classifier(Scheduled(given), **options, precision="float64").fit(X, y)
    assert Scheduled.n_epochs == 3
    ratios = Scheduled.steps[True] / Scheduled.steps[False]
    np.testing.assert_allclose(ratios, 1 - np.arange(8) / 8, rtol=1e-4)


class Trained(Posterior):
    """The weights after one step of gradient descent, by either loss."""

    def __init__(self, by_likelihood):
        self.by_likelihood = by_likelihood

    def fit(self, problem):
        (network,) = problem.train()
        explored = problem.explore(
            network, 1, torch.optim.SGD, lr=1.0, likelihood_is_loss=self.by_likelihood
        )
        (batch,) = problem.batches()
        likelihood = problem.likelihood
        for rule in (likelihood.loss, likelihood.negative_log_likelihood):
            loss = rule(network(batch[0]), batch[1]).mean()
            (gradient,) = torch.autograd.grad(loss, network[-1].bias)
            setattr(Trained, rule.__name__, gradient)
        Trained.step = network[-1].bias - explored[-1].bias
        return Draws(network)


@pytest.mark.parametrize("by_likelihood", [False, True])
def test_a_walk_by_the_loss_or_by_the_likelihood(by_likelihood, diabetes):
    X, y = diabetes
    options = {**OPTIONS, "batch_size": 1000, "module__dropout": 0.0, "precision": "float64"}
    TorchRegressor(posterior=Trained(by_likelihood), **options).fit(X, y)
    expected = Trained.negative_log_likelihood if by_likelihood else Trained.loss
    torch.testing.assert_close(Trained.step, expected)
    assert (Trained.negative_log_likelihood - Trained.loss).abs().max() > 1e-3


def test_as_many_hooks_as_networks(blobs):
    class TooFew(Posterior):
        def fit(self, problem):
            return Draws(problem.train(2, hooks=[Recorder()])[0])

    with pytest.raises(ValueError, match="a hook for each of 2 networks, got 1"):
        classifier(TooFew()).fit(*blobs)


@pytest.mark.slow
def test_hooks_come_back_from_other_processes(blobs):
    X, y = blobs
    here = classifier(Taught(n_jobs=1)).fit(X, y)
    there = classifier(Taught(n_jobs=2)).fit(X, y)
    assert (here.predict_draws(X) == there.predict_draws(X)).all()


def test_a_hook_that_cannot_be_saved_is_named(blobs, tmp_path):
    class Odd(TrainingHook):
        def __init__(self):
            self.handle = object()

    class WithOdd(Posterior):
        def fit(self, problem):
            return Draws(problem.train(hooks=[Odd()])[0])

    with pytest.raises(ValueError, match=r"Odd, a hook of the posterior.*'handle'"):
        classifier(WithOdd(), checkpoint_dir=tmp_path).fit(*blobs)


def test_save_and_load(blobs, tmp_path):
    X, y = blobs
    from skuq.posteriors import DeepEnsemble

    fitted = classifier(DeepEnsemble(2), warm_start=True).fit(X, y)
    skuq.save(fitted, tmp_path / "e.skuq")
    loaded = skuq.load(tmp_path / "e.skuq")
    for one in (fitted, loaded):
        one.fit(X, y)
    assert (loaded.predict_draws(X) == fitted.predict_draws(X)).all()
