"""What every posterior owes, and that a new one needs no change elsewhere."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skuq import TorchClassifier, TorchRegressor
from skuq._engine._draws import Draws
from skuq._training._checkpoints import Checkpoints
from skuq.posteriors import DeepEnsemble, LastLayerLaplace, Posterior
from tests.networks import dense
from tests.test_common import all_posteriors

SMALL = {
    "module__hidden_layer_sizes": (8,),
    "lr": 0.01,
    "max_epochs": 3,
    "batch_size": 60,
    "random_state": 0,
}


def small(posterior, **options):
    return TorchClassifier(posterior=clone(posterior), **{**SMALL, **options})


@pytest.mark.parametrize("posterior", all_posteriors(), ids=str)
def test_parameters_are_never_changed(posterior, blobs):
    before = repr(posterior), dict(vars(posterior))
    classifier = TorchClassifier(posterior=posterior, max_epochs=2).fit(*blobs)
    assert (repr(posterior), vars(posterior)) == before
    assert classifier.posterior_ is not posterior
    assert clone(posterior).get_params() == posterior.get_params()


@pytest.mark.parametrize("posterior", all_posteriors(), ids=str)
def test_decomposition_bounds(posterior, blobs):
    X, y = blobs
    classifier = TorchClassifier(posterior=posterior, max_epochs=5, random_state=0).fit(X, y)
    total, aleatoric, epistemic = classifier.predict_uncertainty(X, kind="all")
    n_draws, _, n_classes = classifier.predict_draws(X).shape
    np.testing.assert_allclose(total, aleatoric + epistemic, atol=1e-12)
    assert (epistemic >= 0).all()
    assert (epistemic <= min(np.log(n_draws), np.log(n_classes)) + 1e-9).all()
    assert (total <= np.log(n_classes) + 1e-9).all()
    np.testing.assert_allclose(
        classifier.predict_proba(X), classifier.predict_draws(X).mean(0), atol=1e-12
    )


@pytest.mark.parametrize("posterior", all_posteriors(), ids=str)
def test_partial_fit_goes_on_or_says_that_it_does_not(posterior, blobs):
    X, y = blobs
    classifier = TorchClassifier(posterior=posterior, random_state=0)
    assert hasattr(classifier, "partial_fit") == posterior.goes_on
    if posterior.goes_on:
        assert classifier.partial_fit(X, y).n_iter_ == 1
        return
    with pytest.raises(ValueError, match="partial_fit does not support posterior="):
        classifier.partial_fit(X, y)


def log_likelihoods(proba, y):
    return np.log(proba[..., np.arange(len(y)), y])


@pytest.mark.parametrize("posterior", all_posteriors(), ids=str)
def test_the_mixture_is_as_good_as_its_draws(posterior, blobs):
    """Jensen's inequality, for every row: an average of probabilities, not of logits."""
    X, y = blobs
    fitted = small(posterior).fit(X, y)
    draws = log_likelihoods(fitted.predict_draws(X), y)
    assert (log_likelihoods(fitted.predict_proba(X), y) >= draws.mean(0) - 1e-9).all()
    assert (log_likelihoods(fitted.predict_proba(X), y) <= draws.max(0) + 1e-9).all()


def numbers_of_draws(posterior):
    """The parameters that say how many draws there are."""
    return {"n_draws", "n_members", "n_cycles"} & posterior.get_params().keys()


@pytest.mark.parametrize("posterior", all_posteriors(), ids=str)
def test_one_draw_has_no_epistemic_uncertainty(posterior, blobs):
    X, y = blobs
    numbers = numbers_of_draws(posterior) | ({"n_draws_per_cycle"} & posterior.get_params().keys())
    fitted = small(clone(posterior).set_params(**dict.fromkeys(numbers, 1))).fit(X, y)
    assert fitted.predict_draws(X).shape[0] == 1
    assert (fitted.predict_uncertainty(X, kind="epistemic") == 0).all()


@pytest.mark.parametrize("posterior", all_posteriors(), ids=str)
def test_draws_do_not_depend_on_their_number(posterior, blobs):
    X, y = blobs
    few, many = (
        small(clone(posterior).set_params(**dict.fromkeys(numbers_of_draws(posterior), number)))
        .fit(X, y)
        .predict_draws(X)
        for number in (2, 5)
    )
    # Members of a stack are equal to their last digits only.
    np.testing.assert_allclose(few, many[: len(few)], atol=1e-4)


# A network of images ends in a convolution, of which there is no last linear layer.
OF_IMAGES = [p for p in all_posteriors() if not isinstance(p, LastLayerLaplace)]


@pytest.mark.parametrize("posterior", [*OF_IMAGES, DeepEnsemble(2, adversarial=0.01)], ids=str)
def test_images_of_labels(posterior):
    """Targets may have an axis of places."""
    X, y = dense.images(5)
    fitted = dense.segmenter(posterior, max_epochs=2).fit(X, y)
    assert (fitted.predict_uncertainty(X, kind="epistemic") >= 0).all()


class Killed(BaseException):
    """What ends a process in the middle of a fit."""


@pytest.mark.parametrize("posterior", all_posteriors(), ids=str)
def test_a_fit_that_was_killed_goes_on(posterior, blobs, tmp_path, monkeypatch):
    """In training, and after it if the posterior goes on from there; to the last bit."""
    X, y = blobs
    expected = small(posterior).fit(X, y).predict_draws(X)
    save, saved = Checkpoints.save, []

    def save_or_die(self, name, state):
        save(self, name, state)
        saved.append(name)
        if len(saved) in (2, 6):
            raise Killed

    resumed = small(posterior, checkpoint_dir=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_or_die)
        for _ in range(2):
            try:
                resumed.fit(X, y)
            except Killed:
                pass
    assert len(saved) >= 3
    assert (resumed.fit(X, y).predict_draws(X) == expected).all()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("posterior", all_posteriors(), ids=str)
def test_a_warm_start_goes_on_from_the_trained_networks(posterior, blobs):
    X, y = blobs
    fitted = small(posterior, warm_start=True).fit(X, y)
    before = {name: t.clone() for name, t in fitted.module_.state_dict().items()}
    fitted.set_params(lr=1e-9, max_epochs=1)
    for _ in range(2):
        fitted.fit(X, y)
    for name, tensor in fitted.module_.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=1e-6)


class Jittered(Posterior):
    """A posterior of a third party: normal noise on the last bias."""

    def __init__(self, n_draws=6, scale=0.5):
        self.n_draws = n_draws
        self.scale = scale

    def fit(self, problem):
        (network,) = problem.train()
        name, bias = list(network.named_parameters())[-1]
        noise = torch.randn(
            (self.n_draws, *bias.shape),
            generator=torch.Generator().manual_seed(0),
            dtype=bias.dtype,
        )
        return Draws(network, {name: bias.detach() + self.scale * noise})


def test_a_new_posterior_is_one_class(blobs, diabetes):
    X, y = blobs
    classifier = TorchClassifier(posterior=Jittered(), max_epochs=3, random_state=0).fit(X, y)
    assert classifier.predict_draws(X).shape == (6, len(X), 3)
    assert classifier.predict_uncertainty(X, kind="epistemic").min() > 0
    X, y = diabetes
    regressor = TorchRegressor(
        posterior=Jittered(n_draws=2000, scale=0.1), max_epochs=3, random_state=0
    ).fit(X, y)
    epistemic = regressor.predict_uncertainty(X, kind="epistemic")
    expected = (0.1 * regressor.likelihood_.scale_[0]) ** 2
    np.testing.assert_allclose(epistemic, expected, rtol=0.2)
