"""One logit per label: two classes, several labels, uncertain labels."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from scipy.special import entr
from sklearn.datasets import make_multilabel_classification
from sklearn.utils import get_tags
from torch import nn

from skuq import TorchClassifier
from skuq.calibration import MatrixScaler, TemperatureScaler, VectorScaler
from skuq.likelihoods import Bernoulli, Categorical
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate
from tests.networks import Plain


@pytest.fixture(scope="module")
def labels():
    return make_multilabel_classification(
        n_samples=200, n_features=8, n_classes=3, n_labels=2, random_state=0
    )


def several(**options):
    return Bernoulli(**options).fit(np.zeros((4, 3)), n_classes=2)


def test_loss_is_torchs():
    random = torch.Generator().manual_seed(0)
    z = 5 * torch.randn(40, 3, dtype=torch.float64, generator=random)
    y = torch.randint(2, (40, 3), generator=random).double()
    expected = nn.functional.binary_cross_entropy_with_logits(z, y, reduction="none")
    torch.testing.assert_close(several().loss(z, y), expected.sum(1))
    one = Bernoulli().fit(np.array([0, 1]), n_classes=2)
    assert one.n_outputs_ == 1
    torch.testing.assert_close(one.loss(z[:, :1], y[:, 0]), expected[:, 0])
    # The same as a softmax of two logits, 0 and z.
    pairs = torch.stack([torch.zeros_like(z[:, 0]), z[:, 0]], 1)
    two = Categorical().fit(np.array([0, 1])).loss(pairs, y[:, 0].long())
    torch.testing.assert_close(one.loss(z[:, :1], y[:, 0]), two)


@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_gradient_is_sigmoid_minus_target(epsilon):
    """σ(z) − [y(1 − ε) + ε/2]; nothing where y is not known."""
    z = torch.tensor([[1.2, -0.4, 3.0]], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([[1.0, 0.0, np.nan]], dtype=torch.float64)
    likelihood = several(label_smoothing=epsilon)
    likelihood.loss(z, y).sum().backward()
    target = np.array([1 - epsilon / 2, epsilon / 2])
    expected = z.detach().sigmoid().numpy()[0, :2] - target
    np.testing.assert_allclose(z.grad[0].numpy(), [*expected, 0], rtol=1e-12)
    plain = several().negative_log_likelihood(z, y)
    torch.testing.assert_close(likelihood.negative_log_likelihood(z, y), plain)


def test_minimiser_is_the_share():
    """Of ones among the known labels, as log-odds."""
    X, y = np.zeros((40, 1)), np.tile([1.0, 1.0, 1.0, 0.0, np.nan], 8)
    classifier = TorchClassifier(
        Plain, likelihood=Bernoulli("ignore"), posterior=PointEstimate(), max_epochs=200, lr=0.05,
        random_state=0,
    ).fit(X, y)  # fmt: skip
    np.testing.assert_allclose(classifier.predict_proba(X[:1]), [[0.25, 0.75]], atol=1e-3)
    assert classifier.decision_function(X[:1])[0] == pytest.approx(np.log(3), abs=0.01)


def test_grows_linearly_and_stays_finite():
    one = Bernoulli().fit(np.array([0, 1]), n_classes=2)
    z = torch.tensor([[-100.0], [-200.0], [-1e4]])
    torch.testing.assert_close(one.loss(z, torch.ones(3)), torch.tensor([100.0, 200.0, 1e4]))


@pytest.mark.parametrize("posterior", [MCDropout(6), DeepEnsemble(3)], ids=str)
def test_several_labels(labels, posterior):
    X, y = labels
    classifier = TorchClassifier(
        likelihood=Bernoulli(), posterior=posterior, max_epochs=60, lr=0.01, random_state=0
    ).fit(X, y)
    proba = classifier.predict_proba(X)
    assert proba.shape == y.shape and classifier.predict(X).shape == y.shape
    assert (classifier.predict(X) == (proba > 0.5)).all()
    assert (classifier.predict(X) == y).mean() > 0.85
    assert classifier.score(X, y) > 0.6
    draws = classifier.predict_draws(X)
    assert draws.shape == (len(draws), *y.shape)
    np.testing.assert_allclose(draws.mean(0), proba, atol=1e-12)
    for measure in ("entropy", "variance"):
        parts = classifier.predict_uncertainty(X, kind="all", measure=measure)
        assert parts.total.shape == y.shape
        np.testing.assert_allclose(parts.total, parts.aleatoric + parts.epistemic, atol=1e-12)
        assert parts.epistemic.max() > 0
    entropy = entr(proba) + entr(1 - proba)
    np.testing.assert_allclose(classifier.predict_uncertainty(X), entropy, atol=1e-9)
    for measure in ("margin", "least_confidence", "variation_ratio"):
        assert classifier.predict_uncertainty(X, measure=measure).shape == y.shape


def test_labels_are_as_alone(labels):
    """Labels are independent given the network: a label's loss is that of a fit on it alone."""
    _, y = labels
    z = torch.randn(len(y), 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    alone = [
        Bernoulli().fit(y[:, k], n_classes=2).loss(z[:, k : k + 1], torch.tensor(y[:, k]))
        for k in range(3)
    ]
    together = several().loss(z, torch.tensor(y))
    torch.testing.assert_close(together, torch.stack(alone).sum(0))


def test_indicators_of_any_kind(labels):
    X, y = labels
    options = {"likelihood": Bernoulli(), "max_epochs": 2, "random_state": 0}
    expected = TorchClassifier(**options).fit(X, y).predict_proba(X)
    for given in (y.tolist(), y.astype(bool), y.astype(float), sp.csr_array(y), pd.DataFrame(y)):
        found = TorchClassifier(**options).fit(X, given).predict_proba(X)
        assert np.array_equal(found, expected)


def test_calibration_of_several_labels(labels):
    X, y = labels
    network = TorchClassifier(
        likelihood=Bernoulli(), posterior=MCDropout(5), max_epochs=30, lr=0.01, random_state=0
    )
    scaler = TemperatureScaler(network, cv=3).fit(X, y)
    assert scaler.temperature_.shape == (3,) and scaler.loss_after_ <= scaler.loss_before_
    assert scaler.predict_proba(X).shape == scaler.predict_uncertainty(X).shape == y.shape
    for other in (VectorScaler, MatrixScaler):
        with pytest.raises(ValueError, match=f"{other.__name__} is not for multilabel"):
            other(network).fit(X, y)


def test_class_names_and_weights():
    X = np.random.default_rng(0).normal(size=(100, 2))
    y = np.where(X[:, 0] > 1, "yes", "no")
    options = {"likelihood": Bernoulli(), "posterior": MCDropout(), "max_epochs": 40, "lr": 0.01}
    options |= {"module__activation": "relu", "random_state": 0}
    plain = TorchClassifier(**options).fit(X, y)
    assert list(plain.classes_) == ["no", "yes"]
    assert plain.predict_proba(X).shape == (100, 2) and plain.predict_draws(X).shape[2] == 2
    balanced = TorchClassifier(class_weight="balanced", **options).fit(X, y)
    assert (balanced.predict(X) == "yes").sum() > (plain.predict(X) == "yes").sum()


# -- uncertain labels ------------------------------------------------------------------------------


def uncertain(labels, share=0.3):
    X, y = labels
    hidden = np.random.default_rng(0).random(y.shape) < share
    return X, np.where(hidden, np.nan, y), y


def test_zeros_and_ones_are_what_they_say(labels):
    X, with_nan, _ = uncertain(labels)
    options = {"max_epochs": 3, "random_state": 0}
    for name, value in (("zeros", 0), ("ones", 1)):
        found = TorchClassifier(likelihood=Bernoulli(name), **options).fit(X, with_nan)
        filled = np.nan_to_num(with_nan, nan=value).astype(int)
        expected = TorchClassifier(likelihood=Bernoulli(), **options).fit(X, filled)
        assert np.array_equal(found.predict_proba(X), expected.predict_proba(X))


def test_ignored_labels_do_not_matter(labels):
    """Whole rows of NaN change nothing but the scale of the loss."""
    X, _, y = uncertain(labels)
    y = y.astype(float)
    y[100:] = np.nan
    options = {
        "optimizer": torch.optim.Adam, "optimizer__eps": 1e-30, "max_epochs": 20, "lr": 0.01,
        "batch_size": 1000, "precision": "float64", "posterior": PointEstimate(),
        "module": Plain, "random_state": 0,
    }  # fmt: skip
    ignoring = TorchClassifier(likelihood=Bernoulli("ignore"), **options).fit(X, y)
    expected = TorchClassifier(likelihood=Bernoulli(), **options).fit(X[:100], y[:100])
    np.testing.assert_allclose(ignoring.predict_proba(X), expected.predict_proba(X), rtol=1e-6)


def test_self_training_is_two_fits(labels):
    """The second learns the probabilities that the first predicts of uncertain labels."""
    X, with_nan, _ = uncertain(labels)
    options = {"posterior": MCDropout(4), "max_epochs": 5, "random_state": 0}
    first = TorchClassifier(likelihood=Bernoulli("ignore"), **options).fit(X, with_nan)
    twice = TorchClassifier(likelihood=Bernoulli("self"), **options).fit(X, with_nan)
    assert len(twice.history_) == 5
    relabelled = np.where(np.isnan(with_nan), first.predict_proba(X), with_nan)

    class Soft(Bernoulli):  # what a fit on soft labels is
        def encode(self, y):
            return relabelled

    soft = TorchClassifier(likelihood=Soft("ignore"), **options).fit(X, with_nan)
    np.testing.assert_allclose(twice.predict_proba(X), soft.predict_proba(X), rtol=1e-4)
    assert not np.allclose(twice.predict_proba(X), first.predict_proba(X), rtol=1e-3)


def test_self_training_goes_on(labels):
    X, with_nan, y = uncertain(labels)
    options = {"posterior": PointEstimate(), "max_epochs": 3, "random_state": 0}
    ignoring = TorchClassifier(likelihood=Bernoulli("ignore"), **options)
    twice = TorchClassifier(likelihood=Bernoulli("self"), **options)
    for model in (ignoring, twice):
        model.partial_fit(X, with_nan)
    assert np.array_equal(ignoring.predict_proba(X), twice.predict_proba(X))  # the first ignores
    twice.partial_fit(X, with_nan)
    assert twice.n_iter_ == 2
    twice.set_params(warm_start=True).fit(X, with_nan)
    assert (twice.predict(X) == y).mean() > 0.6


def test_self_training_with_early_stopping(labels):
    X, with_nan, y = uncertain(labels)
    model = TorchClassifier(
        likelihood=Bernoulli("self"), early_stopping=True, max_epochs=50, lr=0.01, random_state=0
    ).fit(X, with_nan)
    assert np.isfinite([row["valid_loss"] for row in model.history_]).all()
    assert (model.predict(X) == y).mean() > 0.8


def test_one_uncertain_label():
    random = np.random.default_rng(0)
    X = random.normal(size=(300, 2))
    truth = np.where(X[:, 0] > 0, 5.0, 3.0)
    y = np.where(random.random(300) < 0.4, np.nan, truth)
    for kind in ("ignore", "self"):
        model = TorchClassifier(
            likelihood=Bernoulli(kind), class_weight="balanced", early_stopping=True,
            max_epochs=30, lr=0.01, random_state=0,
        ).fit(X, y, sample_weight=random.random(300))  # fmt: skip
        assert list(model.classes_) == [3.0, 5.0]
        assert (model.predict(X) == truth).mean() > 0.95


# -- errors ----------------------------------------------------------------------------------------


def test_errors(labels):
    X, y = labels
    with_nan = uncertain(labels)[1]
    model = TorchClassifier(likelihood=Bernoulli(), max_epochs=1)
    with pytest.raises(ValueError, match="likelihood=Bernoulli"):
        TorchClassifier(max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match="contains NaN"):
        model.fit(X, with_nan)
    with pytest.raises(ValueError, match="must hold only 0 and 1"):
        model.fit(X, y + 1)
    with pytest.raises(ValueError, match="Only binary classification is supported"):
        model.fit(X, y.sum(1))
    with pytest.raises(ValueError, match="class_weight needs one label"):
        TorchClassifier(likelihood=Bernoulli(), class_weight="balanced", max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match="every label in y is NaN"):
        TorchClassifier(likelihood=Bernoulli("zeros"), max_epochs=1).fit(
            X, np.full(y.shape, np.nan)
        )
    with pytest.raises(ValueError, match="uncertain_label"):
        TorchClassifier(likelihood=Bernoulli("maybe"), max_epochs=1).fit(X, y)
    model.partial_fit(X, y)
    with pytest.raises(ValueError, match="first fit of this classifier had several labels"):
        model.partial_fit(X, y[:, 0])
    with pytest.raises(ValueError, match="y has 2 labels"):
        model.partial_fit(X, y[:, :2])
    with pytest.raises(ValueError, match="one logit for each of 3 labels"):
        TorchClassifier(lambda: nn.Linear(8, 2), likelihood=Bernoulli(), max_epochs=1).fit(X, y)


def test_tags():
    """Two classes, or several labels; Categorical is for any number of classes."""
    for likelihood, labels in ((Bernoulli(), True), (None, False)):
        tags = get_tags(TorchClassifier(likelihood=likelihood))
        assert tags.classifier_tags.multi_label is tags.target_tags.multi_output is labels
        assert tags.classifier_tags.multi_class is not labels
