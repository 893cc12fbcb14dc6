"""Students and teachers: exact steps, what stays as it was, early stopping, checkpoints, Ctrl-C."""

import math
import os
import signal

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback
from torch import nn

from skuq import TorchClassifier
from skuq.posteriors import (
    DeepEnsemble,
    Draws,
    LastLayerLaplace,
    MCDropout,
    PointEstimate,
    Variational,
)
from skuq.semi_supervised import MeanTeacher
from skuq.semi_supervised._teacher import Teacher
from tests.semi_supervised.helpers import STEPS, Linear, classifier, data, weights

POSTERIORS = [
    PointEstimate(), MCDropout(3), DeepEnsemble(2), DeepEnsemble(2, n_jobs=1),
    LastLayerLaplace(n_draws=3), DeepEnsemble(2, adversarial=0.1), Variational(n_draws=3),
]  # fmt: skip


@pytest.mark.parametrize("posterior", POSTERIORS, ids=str)
@pytest.mark.filterwarnings("ignore:every row")
def test_without_unlabelled_rows_the_student_trains_as_usual(posterior):
    """To the bit. Without memory the teacher is the student."""
    X, _, y = data(40)
    estimator = classifier(posterior, early_stopping=True, validation_fraction=0.2)
    plain = clone(estimator).fit(X, y)
    taught = MeanTeacher(estimator, ema_decay=0.0).fit(X, y)
    assert np.array_equal(taught.predict_draws(X), plain.predict_draws(X))
    losses = [[row["valid_loss"] for row in e.history_] for e in (plain, taught.estimator_)]
    assert losses[0] == losses[1]


@pytest.mark.filterwarnings("ignore:every row")
def test_the_first_teacher_is_the_student():
    """α is 0 in the first step, ½ in the second and then at most ema_decay."""
    X, _, y = data(30)
    options = {**STEPS, "posterior": PointEstimate(), "batch_size": 30}
    ends = [weights(TorchClassifier(Linear, max_epochs=n, **options).fit(X, y)) for n in (1, 2, 3)]
    taught = [
        weights(
            MeanTeacher(TorchClassifier(Linear, max_epochs=n, **options), ema_decay=0.6)
            .fit(X, y)
            .estimator_
        )
        for n in (1, 2, 3)
    ]
    assert torch.equal(taught[0], ends[0])
    torch.testing.assert_close(taught[1], (ends[0] + ends[1]) / 2, rtol=0, atol=1e-15)
    torch.testing.assert_close(taught[2], 0.6 * taught[1] + 0.4 * ends[2], rtol=0, atol=1e-15)
    assert (taught[2] - ends[2]).abs().max() > 1e-3


@pytest.mark.parametrize("weighted", [False, True])
def test_steps_by_hand(weighted):
    """Three steps without noise; students and teachers differ from the third step on."""
    X, y, _ = data(30, 10)
    weight = np.linspace(0.2, 2.0, 30) if weighted else None
    options = {**STEPS, "posterior": PointEstimate(), "batch_size": 30}
    network = TorchClassifier(Linear, max_epochs=0, **options).fit(X[:10], y[:10]).module_
    network.requires_grad_(True)
    estimator = TorchClassifier(Linear, max_epochs=3, **options)
    taught = MeanTeacher(
        estimator, consistency=40.0, ramp_up=0.5, noise=0.0, uncertainty_threshold=0.9
    ).fit(X, y, sample_weight=weight)
    x, free, target = torch.tensor(X[:10]), torch.tensor(X[10:]), torch.tensor(y[:10])
    scale, own = torch.ones(10).double(), torch.ones(20).double()
    if weighted:
        scale, own = (torch.tensor(part / part.mean()) for part in (weight[:10], weight[10:]))
    teacher = [p.detach().clone() for p in network.parameters()]
    n_certain = []
    for step in range(3):
        losses = nn.functional.cross_entropy(network(x), target, reduction="none")
        with torch.no_grad():
            q = nn.functional.linear(free, *teacher).softmax(-1)
            certain = -(q * (q + 1e-6).log()).sum(-1) < 0.9 * math.log(2)
        distance = (network(free).softmax(-1) - q).square().sum(-1)
        share = own * certain
        grown = math.exp(-5 * (1 - min(1, step / 1.5)) ** 2)
        loss = (scale * losses).mean()
        loss = loss + 40 * grown * (share * distance).sum() / (2 * share.sum() + 1e-16)
        for parameter, slope in zip(
            network.parameters(), torch.autograd.grad(loss, [*network.parameters()])
        ):
            parameter.data -= 0.5 * slope
        alpha = min(1 - 1 / (step + 1), 0.99)
        teacher = [
            alpha * t + (1 - alpha) * p.detach() for t, p in zip(teacher, network.parameters())
        ]
        n_certain.append(int(certain.sum()))
    found = [*taught.estimator_.module_.parameters()]
    for one, other in zip(found, teacher):
        torch.testing.assert_close(one.detach(), other, rtol=0, atol=1e-12)
    assert 0 < n_certain[-1] < 20
    plain = TorchClassifier(Linear, max_epochs=3, **options).fit(
        X[:10], y[:10], None if weight is None else weight[:10]
    )
    assert (found[0] - plain.module_.weight).abs().max() > 1e-3


def test_no_certain_row_adds_nothing():
    """A threshold below every entropy: the loss is that of the labelled rows."""
    X, y, _ = data(30, 10)
    options = {**STEPS, "posterior": PointEstimate(), "max_epochs": 3, "ema_decay": 0.0}
    decay = options.pop("ema_decay")
    plain = TorchClassifier(Linear, **options).fit(X[:10], y[:10])
    taught = MeanTeacher(
        TorchClassifier(Linear, **options),
        consistency=1e6, ema_decay=decay, uncertainty_threshold=1e-9,
    ).fit(X, y)  # fmt: skip
    torch.testing.assert_close(weights(taught.estimator_), weights(plain), rtol=0, atol=1e-15)


def test_the_teacher_has_no_gradient(monkeypatch):
    """Neither its weights nor its predictions are part of the graph."""
    X, y, _ = data(30, 10)
    seen = []

    def watched(self, module, x, taught=Teacher._taught):
        seen.append((taught(self, module, x), [*self._other.values()], [*module.parameters()]))
        return seen[-1][0]

    monkeypatch.setattr(Teacher, "_taught", watched)
    MeanTeacher(classifier(MCDropout(2), module__dropout=0.5)).fit(X, y)
    assert len(seen) == 4 * 2
    for (target, unsure), averages, students in seen:
        assert not target.requires_grad and not unsure.requires_grad
        assert all(not t.requires_grad and t.grad is None for t in averages)
        assert all(p.requires_grad for p in students)
        shared = {p.data_ptr() for p in students} & {t.data_ptr() for t in averages}
        assert not shared


def test_noise_is_clipped_and_scales_with_the_features(monkeypatch):
    X, y, _ = data(400, 40)
    X *= [1.0, 100.0, 0.0]
    moves = []

    def watched(self, x, n_draws, random, noisy=Teacher._noisy):
        result = noisy(self, x, n_draws, random)
        moves.append((result.unflatten(0, (n_draws, -1)) - x).flatten(0, 1))
        return result

    monkeypatch.setattr(Teacher, "_noisy", watched)
    MeanTeacher(classifier(batch_size=100), noise=0.5, n_draws=4).fit(X, y)
    moved = torch.cat(moves).numpy()
    spread = X[40:].std(axis=0)
    assert (np.abs(moved).max(axis=0) <= 1.0 * spread * (1 + 1e-6)).all()
    # A normal number, clipped at two deviations, has the variance 0.9206.
    np.testing.assert_allclose(moved[:, :2].std(axis=0) / spread[:2], 0.5 * 0.9595, rtol=0.05)
    assert (moved[:, 2] == 0).all()


@pytest.mark.parametrize("posterior", [PointEstimate(), DeepEnsemble(2)], ids=str)
def test_a_teacher_for_each_network_alone_and_in_a_stack(posterior):
    """A stack equals networks by themselves up to rounding."""
    X, y, _ = data()
    options = {"precision": "float64", "module__activation": "tanh", "max_epochs": 6}
    together = MeanTeacher(classifier(posterior, **options), consistency=5.0).fit(X, y)
    alone = MeanTeacher(classifier(DeepEnsemble(2, n_jobs=1), **options), consistency=5.0)
    draws = alone.fit(X, y).predict_draws(X)
    found = together.predict_draws(X)
    np.testing.assert_allclose(found, draws[: len(found)], rtol=0, atol=1e-10)
    plain = classifier(DeepEnsemble(2, n_jobs=1), **options).fit(X[:20], y[:20])
    assert np.abs(draws - plain.predict_draws(X)).max() > 1e-3


def test_early_stopping_watches_the_teacher():
    """The validation losses are those of the network that is kept."""
    X, y, _ = data(80, 40)
    options = {"early_stopping": True, "n_iter_no_change": 3, "max_epochs": 200, "lr": 0.05}
    estimator = classifier(Watched(), validation_fraction=0.25, batch_size=10, **options)
    fitted = MeanTeacher(estimator, ema_decay=0.9).fit(X, y).estimator_
    losses = [row["valid_loss"] for row in fitted.history_]
    assert fitted.n_iter_ < 200 and len(losses) == fitted.n_iter_
    assert fitted.posterior_.loss == pytest.approx(min(losses), rel=1e-6)
    assert min(losses) == losses[-4]  # and none of the last three


class Watched(PointEstimate):
    """Computes the validation loss of the network that training returns."""

    def fit(self, problem):
        (network,) = problem.train()
        (batch,) = problem.batches(validation=True)
        with torch.no_grad():
            self.loss = float(problem.likelihood.loss(network(batch[0]), batch[1]).mean())
        return Draws(network)


class Stop(Callback):
    """Stops a fit after some epochs, once."""

    how = None

    def on_epoch_end(self, net, **kwargs):
        if Stop.how is not None and len(net.history) == 3:
            how, Stop.how = Stop.how, None
            raise how

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        """It has no state."""


class Gone(BaseException):
    """As if the process were killed."""


@pytest.mark.parametrize("posterior", [MCDropout(3), DeepEnsemble(2, n_jobs=1)], ids=str)
def test_a_killed_fit_goes_on(posterior, tmp_path):
    X, y, _ = data()
    estimator = classifier(
        posterior, module__dropout=0.3, callbacks=[("stop", Stop)], max_epochs=6,
        early_stopping=True, n_iter_no_change=5,
    )  # fmt: skip
    expected = MeanTeacher(estimator).fit(X, y)
    saving = clone(estimator).set_params(checkpoint_dir=tmp_path)
    Stop.how = Gone()
    with pytest.raises(Gone):
        MeanTeacher(saving).fit(X, y)
    assert list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="checkpoint"):  # other rows without labels
        MeanTeacher(saving).fit(np.vstack([X[:-1], X[-1:] + 1]), y)
    with pytest.raises(ValueError, match="checkpoint"):  # other rules
        MeanTeacher(saving, noise=0.2).fit(X, y)
    found = MeanTeacher(saving).fit(X, y)
    assert np.array_equal(found.predict_draws(X), expected.predict_draws(X))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_ctrl_c_keeps_the_teacher():
    """The kept network is the teacher after the last whole epoch."""
    X, y, _ = data()
    estimator = classifier(max_epochs=9, on_interrupt="keep", callbacks=[("pause", Pause)])
    Pause.at = None
    epochs = MeanTeacher(estimator)
    Pause.kept = []
    whole = epochs.fit(X, y)
    teachers = Pause.kept
    assert torch.equal(teachers[-1], whole.estimator_.module_.state_dict()["1.weight"])
    Pause.at, Pause.kept = 5, []
    part = MeanTeacher(estimator).fit(X, y)
    assert part.estimator_.interrupted_ and part.estimator_.n_iter_ == 4
    assert torch.equal(teachers[3], part.estimator_.module_.state_dict()["1.weight"])


class Pause(Callback):
    """Notes the weights that callbacks see; presses Ctrl-C in the middle of an epoch."""

    at = None
    kept: list = []

    def on_epoch_end(self, net, **kwargs):
        Pause.kept.append(net.module_.state_dict()["1.weight"].clone())

    def on_batch_end(self, net, training=False, **kwargs):
        if training and len(net.history) == Pause.at:
            Pause.at = None
            os.kill(os.getpid(), signal.SIGINT)


def test_repeatable_and_without_global_generators(untouched_globals):
    X, y, _ = data()
    estimator = classifier(MCDropout(3), module__dropout=0.3)
    one, two = (MeanTeacher(estimator).fit(X, y).predict_draws(X) for _ in range(2))
    assert np.array_equal(one, two)


def test_batch_norm_keeps_the_students_statistics():
    """Passes of the teacher do not move them."""

    class Normed(nn.Sequential):
        def __init__(self, n_features, n_outputs):
            super().__init__(
                nn.Linear(n_features, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, n_outputs)
            )

    X, y, _ = data(21, 20)  # a single row without a label, too
    found = [
        MeanTeacher(
            TorchClassifier(
                Normed, posterior=PointEstimate(), max_epochs=3, lr=0.01, random_state=0
            ),
            n_draws=n_draws, consistency=0.0,
        ).fit(X, y)
        for n_draws in (1, 6)
    ]  # fmt: skip
    one, other = (f.estimator_.module_[1] for f in found)
    assert torch.equal(one.running_mean, other.running_mean)
    assert int(one.num_batches_tracked) == 3 * 2  # of labelled and of unlabelled rows
