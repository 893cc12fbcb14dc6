"""What both training loops record and save alike."""

import pytest

from skuq import TorchClassifier
from skuq.posteriors import DeepEnsemble, Draws, Posterior, TrainingHook
from tests import networks


class Collects(TrainingHook):
    """A checkpoint cannot hold a generator of Python."""

    def __init__(self):
        self.numbers = (number for number in range(3))


class Counts(TrainingHook):
    def __init__(self):
        self.epochs = []

    def after_epoch(self, module, epoch):
        self.epochs.append(epoch)


class Hooked(Posterior):
    def __init__(self, kind=Counts, n_networks=1):
        self.kind = kind
        self.n_networks = n_networks

    def fit(self, problem):
        self.hooks_ = [Counts() for _ in range(self.n_networks)]
        self.hooks_[-1] = self.kind()
        return Draws(problem.train(self.n_networks, hooks=self.hooks_)[0])


def classifier(posterior, **options):
    options = {"max_epochs": 3, "random_state": 0, **options}
    return TorchClassifier(networks.Plain, posterior=posterior, **options)


@pytest.mark.parametrize("n_networks", [1, 3])
def test_what_cannot_be_saved_is_refused_before_the_first_epoch(n_networks, blobs, tmp_path):
    network = classifier(Hooked(Collects, n_networks), checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match=r"Collects.*'numbers', of type generator"):
        network.fit(*blobs)
    assert not list(tmp_path.glob("skuq-network*"))
    fitted = classifier(Hooked(Counts, n_networks), checkpoint_dir=tmp_path / "other").fit(*blobs)
    assert [hook.epochs for hook in fitted.posterior_.hooks_] == [[1, 2, 3]] * n_networks


def test_both_loops_record_the_same_columns_in_the_same_order(blobs):
    options = {"early_stopping": True, "validation_fraction": 0.25}
    stacked = classifier(DeepEnsemble(2), **options).fit(*blobs)
    by_itself = classifier(DeepEnsemble(2, n_jobs=1), **options).fit(*blobs)
    for one, other in zip(stacked.histories_, by_itself.histories_, strict=True):
        assert [list(row) for row in one] == [list(row) for row in other]
        assert [row["batches"] for row in one] == [row["batches"] for row in other]
        for own, others in zip(one, other, strict=True):
            for name in ("epoch", "train_batch_count", "valid_batch_count", "valid_loss_best"):
                assert own[name] == others[name]
            for name in ("train_loss", "valid_loss"):
                assert own[name] == pytest.approx(others[name], rel=1e-4)
