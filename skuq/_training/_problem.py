"""The contract of training: a posterior gets a `Problem` and returns `Draws`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from skuq._data._batches import Batch, SlicedBatches
from skuq._networks._batch_norm import batch_statistics
from skuq._networks._inspection import Inspection
from skuq._networks._module import Numerics, call, copied
from skuq._training._companion import Companion, joined
from skuq._training._hooks import TrainingHook
from skuq._training._schedule import Schedule
from skuq._utils._random import Purpose, derive_seed, generator
from skuq.likelihoods import Likelihood

if TYPE_CHECKING:
    from skuq._engine._draws import Draws

__all__ = ["Problem"]

_LARGE = 256  # rows: enough that the fixed cost of a batch does not matter


class Problem:
    """A supervised problem: all that a posterior needs to train networks and make draws.

    Parameters
    ----------
    schedule : Schedule
        Trains the networks; the estimator makes it.
    n_rows : float
        The amount of training data, see the attribute.
    before : Draws, default=None
        The draws from which a fit goes on, see the attribute.
    learns_noise : callable, default=None
        Does the work of `learn_noise`. None if there are no unseen rows.
    noise_is_known : callable, default=None
        Returns whether other trainings have taught the likelihood its noise. None if not.
    companion : Companion, default=None
        Adds hooks to those of the posterior.

    Attributes
    ----------
    likelihood : Likelihood
        Fitted to the targets: the loss and the distribution of y, from raw outputs.
    numerics : Numerics
        The device and the precision of the networks.
    sample : Tensor of shape (3, ...)
        Three rows of X on the device, to try a network on.
    report : Inspection
        The name of the module, its dropout layers, and its other sources of randomness.
    n_rows : float
        The amount of training data: the sum of the sample weights as given, or the number of rows.
        Losses use weights of mean 1, so they do not show it.
    before : Draws or None
        The draws from which a warm start or ``partial_fit`` goes on.
    """

    def __init__(
        self,
        schedule: Schedule,
        n_rows: float,
        before: Draws | None = None,
        learns_noise: Callable[[nn.Module], bool] | None = None,
        noise_is_known: Callable[[], bool] | None = None,
        companion: Companion | None = None,
    ) -> None:
        self._schedule = schedule
        self._trainer = trainer = schedule.trainer
        self.likelihood: Likelihood = trainer.likelihood
        self.numerics: Numerics = trainer.numerics
        self.sample: Tensor = trainer.builder.sample
        self.report: Inspection = trainer.builder.report
        self.n_rows = n_rows
        self.before = before
        self._learns_noise = learns_noise
        self._noise_is_known = noise_is_known or (lambda: False)
        self._companion = companion

    def seed(self, purpose: Purpose = Purpose.POSTERIOR, network: int = 0) -> int:
        """Derive an independent seed for each purpose and network.

        Parameters
        ----------
        purpose : Purpose, default=Purpose.POSTERIOR
            The use of the random numbers.
        network : int, default=0
            The number of the network.
        """
        return derive_seed(self._trainer.root, purpose, network)

    def untrained(self) -> nn.Module:
        """Return a copy of the untrained first network, to refuse unsuitable modules early."""
        return copied(self._trainer.builder.first).eval()

    def train(
        self,
        n_networks: int = 1,
        *,
        bootstrap: bool = False,
        n_jobs: int | None = None,
        hooks: Sequence[TrainingHook] | None = None,
        own_rows: bool = False,
        likelihood_is_loss: bool = False,
    ) -> list[nn.Module]:
        """Train networks that differ in initial weights, shuffling and dropout noise.

        A second call trains further networks, with numbers, seeds and checkpoints of their own.

        Parameters
        ----------
        n_networks : int, default=1
            Number of networks.
        bootstrap : bool, default=False
            Whether each network trains on rows drawn with replacement.
        n_jobs : int, default=None
            How many joblib tasks run at a time, with one torch thread each; None trains in this
            process.
        hooks : sequence of TrainingHook, default=None
            One hook for each network. A hook adds a term to the loss, or watches steps and epochs.
        own_rows : bool, default=False
            Whether each draw will be one of these networks. Early stopping then sets other rows
            apart for each, so that they together train on all rows, and the likelihood may correct
            its noise on these rows. `batches` does not know them. A likelihood that learns one
            noise level for all rows needs rows that no network has seen: with it, all have the
            same.
        likelihood_is_loss : bool, default=False
            As in `explore`.

        Returns
        -------
        list of nn.Module
            The networks, in eval mode, on the device. After Ctrl-C there may be fewer.
        """
        with joined(self._companion, self, n_networks, hooks) as all_hooks:
            return self._schedule.train(
                n_networks,
                bootstrap,
                n_jobs,
                all_hooks,
                own_rows,
                likelihood_is_loss=likelihood_is_loss,
            )

    def explore(
        self,
        network: nn.Module,
        n_epochs: int,
        optimizer: Any = None,
        *,
        hook: TrainingHook | None = None,
        schedule: Callable[[float], float] | None = None,
        likelihood_is_loss: bool = False,
        **options: Any,
    ) -> nn.Module:
        """Train a copy of a trained network further, perhaps with another optimizer.

        It has seeds and checkpoints of its own; early stopping and the callbacks of the user are
        off. If the estimator has ``on_interrupt="keep"``, it returns early after Ctrl-C, also if
        Ctrl-C came during `train`. The posterior must then work with all that its hook has gathered
        so far.

        Parameters
        ----------
        network : nn.Module
            The trained network; it is not changed.
        n_epochs : int
            Number of epochs.
        optimizer : torch.optim.Optimizer class, default=None
            The class of the optimizer, called with the parameters and `options`. Without ``lr``
            among these, it gets the learning rate of the estimator. None takes the optimizer of the
            estimator and its parameters; `options` then replaces some.
        hook : TrainingHook, default=None
            Adds a term to the loss, or watches steps and epochs.
        schedule : callable, default=None
            Maps the share of the epochs that is over, in [0, 1), to a factor of all learning rates.
            It is called before each step; with a DataLoader of unknown length, its value changes
            only with the epoch. None keeps the learning rates constant.
        likelihood_is_loss : bool, default=False
            Whether the loss is the true negative log-likelihood instead of the `loss` of the
            likelihood, which may be something else. A posterior needs this if it samples from the
            product of prior and likelihood. A noise level for all rows must be known before.
        **options
            Further parameters of the optimizer.

        Returns
        -------
        nn.Module
            The network after the last epoch, in eval mode.
        """
        if self._companion is not None:
            self._companion.refuse_exploring()
        return self._schedule.explore(
            network,
            n_epochs,
            optimizer,
            hook,
            options,
            schedule=schedule,
            likelihood_is_loss=likelihood_is_loss,
        )

    @property
    def n_begun(self) -> int:
        """The number of networks that calls of `train` have begun so far."""
        return self._schedule.n_begun

    @property
    def n_steps(self) -> int:
        """The number of steps of the optimizer in the longest training of a network."""
        settings = self._trainer.settings
        size, rows = settings.n_batch_rows, self._trainer.train_rows
        return settings.max_epochs * len(SlicedBatches(rows, size, shuffle=False, generator=None))

    @property
    def batch_size(self) -> int:
        """The number of rows of a batch, if there are enough."""
        return self._trainer.settings.n_batch_rows

    def n_epochs(self, network: nn.Module) -> int:
        """Return for how many epochs `train` has trained a network in this fit.

        Parameters
        ----------
        network : nn.Module
            A network that `train` returned.

        Returns
        -------
        int
            The number of epochs; 0 with ``max_epochs=0``.
        """
        return self._schedule.n_epochs(network)

    def batches(self, *, validation: bool = False, large: bool = False) -> Iterator[Batch]:
        """Return batches of the training rows in order, on the device.

        Parameters
        ----------
        validation : bool, default=False
            Whether to return the rows that early stopping watches instead.
        large : bool, default=False
            Whether to make batches up to four times as large as in training, with at most 256 rows,
            for forwards without gradients.

        Returns
        -------
        iterator of Batch
            Pairs (x, target) of encoded targets; ``batch.weight`` of shape (n_rows,), with mean 1
            over the data set, or None where all are equal.

        Raises
        ------
        ValueError
            If there are no validation rows.
        """
        rows = self._trainer.valid_rows if validation else self._trainer.train_rows
        if rows is None:
            raise ValueError(
                "there are no validation rows: set early_stopping=True, which sets "
                "validation_fraction of the rows apart"
            )
        size, device = self._trainer.settings.batch_size, self.numerics.device
        if large:
            size = max(size, min(4 * size, _LARGE))
        return iter(SlicedBatches(rows, size, shuffle=False, generator=None, device=device))

    @property
    def knows_noise(self) -> bool:
        """Whether there is no noise level for all rows, or `learn_noise` needs no network.

        For posteriors with `noise` "before". If False, `learn_noise` needs a trained network.
        """
        if not self.likelihood.wants_unseen_rows:
            return True
        return self._noise_is_known is not None and self._noise_is_known()

    def learn_noise(self, network: nn.Module) -> bool:
        """Let the likelihood learn one noise level for all rows from a network, if it has one.

        For posteriors whose draws depend on the noise: those with `noise` "before".

        Parameters
        ----------
        network : nn.Module
            The trained network.

        Returns
        -------
        bool
            Whether the noise is known now. False means that training has seen all rows: `fit` must
            then set the noise as an attribute of `likelihood`.
        """
        if not self.likelihood.wants_unseen_rows:
            return True
        return self._learns_noise is not None and self._learns_noise(network)

    @torch.no_grad()
    def estimate_batch_statistics(self, network: nn.Module) -> nn.Module:
        """Recompute the running statistics of BatchNorm layers on the training rows, in place.

        For parameters that training never had, such as averages of weights.

        Parameters
        ----------
        network : nn.Module
            The network, changed in place. Nothing happens without BatchNorm layers.

        Returns
        -------
        nn.Module
            The same network, in eval mode.
        """
        rows, size = self._trainer.train_rows, self._trainer.settings.batch_size
        # Rows may lie in the order of their classes, so that a batch in order varies too little.
        random = generator(self.seed(Purpose.SHUFFLING, 2**31))
        device = self.numerics.device
        with batch_statistics(network) as there_are_any:
            if there_are_any:
                for batch in SlicedBatches(rows, size, True, random, device=device):
                    call(network, batch[0], self.numerics)
        return network
