"""The order of fit and of predict, once, for every estimator.

fit: parameters → data → targets → `Fitting`: seeds, networks, training, posterior, attributes.
predict: fitted? → data → engine → decode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skuq._data._checks import row_hashes
from skuq._estimator._built import Built
from skuq._estimator._chosen import Chosen
from skuq._estimator._fitted import Fitted
from skuq._estimator._fitting import Fitting
from skuq._estimator._parameter_checks import checked_parameters
from skuq._estimator._reading import Reading
from skuq._estimator._signals import warn_of_scales
from skuq._estimator._validation import GivenValidation, read_validation
from skuq._networks._module import Numerics
from skuq._training._companion import Companion
from skuq._training._settings import Settings
from skuq._utils._devices import named_devices
from skuq._utils._forks import one_thread_if_forked
from skuq._utils._parameters import DoubleUnderscoreParameters
from skuq._utils._progress import Task, watchers
from skuq._utils._random import root_seed
from skuq._utils._sklearn_compat import CallbackSupportMixin, Interval, StrOptions, with_callbacks
from skuq._utils._typing import ArrayLike, MatrixLike, RandomState, StrPath
from skuq.likelihoods import Likelihood
from skuq.modules import MLP
from skuq.posteriors import DeepEnsemble, Posterior

__all__ = ["TorchEstimator"]


class TorchEstimator(CallbackSupportMixin, Reading, Fitted, DoubleUnderscoreParameters):
    """Base of `TorchClassifier` and `TorchRegressor`, which define how targets are read."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "module": [callable, None],
        "posterior": [Posterior, None],
        "likelihood": [Likelihood, None],
        "optimizer": [callable],
        "lr": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "max_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean", StrOptions({"auto"})],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "warm_start": ["boolean"],
        "device": [str, torch.device, list, tuple],
        "precision": [StrOptions({"float32", "float64", "bfloat16"})],
        "compile": ["boolean", StrOptions({"reduce-overhead", "max-autotune"})],
        "callbacks": [list, StrOptions({"disable"}), None],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
        "checkpoint_dir": [str, PathLike, None],
        "checkpoint_minutes": [Interval(Real, 0, None, closed="left")],
        "on_interrupt": [StrOptions({"raise", "keep"})],
    }

    _task: ClassVar[str]
    _default_module: ClassVar[type[nn.Module]] = MLP
    _default_posterior: ClassVar[type[Posterior]] = DeepEnsemble
    _default_likelihood: ClassVar[type[Likelihood]]

    # Fitted
    likelihood_: Likelihood
    posterior_: Posterior
    classes_: np.ndarray
    histories_: list[list[dict[str, Any]]]
    interrupted_: bool
    _root: int  # the seed of `fit`
    _built: Built  # the parameters that built the networks
    _rows_seen: np.ndarray | None  # hashes of the rows of the last call of fit or partial_fit
    _states: list[dict[str, Any]]  # optimizers and generators, kept by partial_fit

    def __init__(
        self,
        module: Callable[..., nn.Module] | None = None,
        *,
        posterior: Posterior | None = None,
        likelihood: Likelihood | None = None,
        optimizer: type[torch.optim.Optimizer] = torch.optim.Adam,
        lr: float | str = "auto",
        max_epochs: int | str = "auto",
        batch_size: int = 128,
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int | str = "auto",
        warm_start: bool = False,
        device: str | torch.device | Sequence[str | torch.device] = "auto",
        precision: str = "float32",
        compile: bool | str = False,
        callbacks: list[Any] | str | None = None,
        verbose: int = 0,
        random_state: RandomState = None,
        checkpoint_dir: StrPath | None = None,
        checkpoint_minutes: float = 0,
        on_interrupt: str = "raise",
        **kwargs: Any,
    ) -> None:
        self.module = module
        self.posterior = posterior
        self.likelihood = likelihood
        self.optimizer = optimizer
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.device = device
        self.precision = precision
        self.compile = compile
        self.callbacks = callbacks
        self.verbose = verbose
        self.random_state = random_state
        self.checkpoint_dir = checkpoint_dir
        self.checkpoint_minutes = checkpoint_minutes
        self.on_interrupt = on_interrupt
        self._store_prefixed(kwargs)

    # -- given by a subclass, beside the hooks of `Reading` --------------------------------------

    _n_classes: int | None = None  # only of a classification

    def _check_targets(self, target: np.ndarray, weight: np.ndarray | None) -> None:
        """Refuse targets that teach nothing, once rows without weight are left out."""

    # -- fit -------------------------------------------------------------------------------------

    @with_callbacks
    def fit(
        self,
        X: MatrixLike,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        *,
        X_val: MatrixLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Train the network and fit the posterior.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), or (n_samples, ...)
            Training rows. A memory map in the dtype of the precision (float32 by default) and in
            C order stays on the disk: rows are read when needed. X may also be a torch Dataset of
            pairs (x, y). A map-style one is read anew in each epoch, once before that for targets
            and checks, and once after. An IterableDataset is read once and kept in a temporary
            file on the disk.
        y : array-like of shape (n_samples,), for a regressor also (n_samples, n_targets)
            Labels of any type, or numbers. A likelihood that takes several labels expects
            indicators, 0 or 1, of shape (n_samples, n_labels). None if X is a Dataset, which has
            them.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, normalised to mean 1; rows of weight zero do not take part. None
            weights all rows equally. `LastLayerLaplace` takes their sum as the amount of data:
            `docs/posteriors.md`.
        groups : array-like of shape (n_samples,), default=None
            The group of each row: early stopping does not separate rows of one group.
        X_val : array-like of shape (n_val_samples, ...), or torch Dataset of pairs, default=None
            Validation rows of your own. Early stopping watches these instead of setting rows apart
            (and ``early_stopping="auto"`` is on), for every network of an ensemble. skorch's
            callbacks find their loss as ``valid_loss``. Nothing else is learnt from them but a
            noise level that needs unseen rows. In a Pipeline:
            `docs/training.md`.
        y_val : array-like of shape (n_val_samples, ...), default=None
            Their targets, as `y`; a class may be missing. None if X_val is a Dataset.
        sample_weight_val : array-like of shape (n_val_samples,), default=None
            Their weights, as `sample_weight`; None weights all equally.

        Returns
        -------
        self : TorchClassifier or TorchRegressor
            The fitted estimator itself.

        Raises
        ------
        ValueError
            If data or parameters cannot be used; each message says how to fix it.
        DivergedError
            If a loss or weight becomes NaN or infinite.
        """
        own = GivenValidation(X_val, y_val, sample_weight_val)
        return self._fit(X, y, sample_weight, groups, own)

    @torch.inference_mode(False)
    @torch.enable_grad()
    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        groups: Any = None,
        own: GivenValidation | None = None,
        *,
        incremental: bool = False,
        classes: Any = None,
        companion: Companion | None = None,
    ) -> Self:
        one_thread_if_forked()
        rows = getattr(sample_weight, "rows", sample_weight)
        task = Task("fit", [] if incremental else watchers(self, X, y, rows))
        goes_on = hasattr(self, "_engine") and (incremental or self.warm_start)
        if not goes_on:
            self.__dict__.pop("_engine", None)  # after an error, the estimator is not fitted
        posterior, likelihood = self._check_parameters(incremental)
        devices = named_devices(self.device)
        numerics = Numerics(devices[0], self.precision)
        root = self._root if goes_on else root_seed(self.random_state)
        data = self._read_training_data(
            X, y, sample_weight, groups, likelihood, numerics, goes_on, classes, incremental, root
        )
        valid = read_validation(self, own, data, likelihood, numerics, root)
        data = data._replace(valid=valid)
        if not incremental and classes is None:
            self._check_targets(data.target, data.weight)
        if not goes_on and self.module is None and isinstance(data.X, np.ndarray):
            self._warn_of_scales(data.X)
        if companion is not None:
            companion.begin(self, numerics)
        fitting = Fitting(
            self, posterior, likelihood, data, devices, goes_on, incremental, root, companion
        )
        fitting.run(task)
        return self

    @with_callbacks
    def _fit_with(
        self,
        companion: Companion,
        X: Any,
        y: Any,
        sample_weight: Any,
        groups: Any,
        own: GivenValidation | None = None,
    ) -> Self:
        """Fit as `fit` does, for an estimator around this one that changes its training."""
        return self._fit(X, y, sample_weight, groups, own, companion=companion)

    def _warn_of_scales(self, X: np.ndarray) -> None:
        names = getattr(self, "feature_names_in_", None)
        if self._columns is not None:
            places = list(self._columns.numbers)
            X, names = X[:, : len(places)], None if names is None else names[places]
        if X.ndim == 2 and X.size:
            warn_of_scales(X, names, type(self).__name__)

    def _check_parameters(self, incremental: bool) -> tuple[Posterior, Likelihood]:
        return checked_parameters(self, incremental)

    def _views_of_training(self) -> Sequence[Any]:
        """List the views that change the images of training."""
        return ()

    def _settings(self, numerics: Numerics, devices: list[Any], chosen: Chosen) -> Settings:
        return Settings(
            optimizer=self.optimizer,
            lr=chosen.lr,
            max_epochs=chosen.max_epochs,
            batch_size=self.batch_size,
            patience=chosen.patience,
            callbacks=self.callbacks,
            verbose=int(self.verbose),
            compile=self.compile,
            numerics=numerics,
            devices=devices,
            net_options={
                name: value
                for name, value in self._prefixed.items()
                if name.startswith(("optimizer__", "callbacks__"))
            },
            train_options=self._with_prefix("iterator_train"),
            valid_options=self._with_prefix("iterator_valid"),
            views=self._views_of_training(),
            repeatable=self.random_state is not None,
        )

    def _with_target_tags(self, tags: Any) -> Any:
        """Add the targets that the likelihood takes to scikit-learn's tags."""
        tags.input_tags.sparse = True
        likelihood = self._default_likelihood() if self.likelihood is None else self.likelihood
        if isinstance(likelihood, Likelihood) and likelihood.task == self._task:
            likelihood.update_tags(tags)
        return tags

    # -- predict ---------------------------------------------------------------------------------

    def _reduce(self, X: Any, reduction: Callable[..., Any], *aligned: np.ndarray) -> Any:
        """Reduce the predictive distributions of all draws; see `skuq._predict`."""
        check_is_fitted(self)
        undo, predictive = getattr(X, "undo", None), self.likelihood_.predictive
        return self._engine.map(
            self._check_rows(X),
            lambda out, *rows: reduction(predictive(out), *rows),
            *aligned,
            verbose=self.verbose,
            undo=undo,
        )

    def _share_seen(self, X: Any) -> float:
        """Compute the share of rows that training has seen; NaN if a file left them out."""
        if self._rows_seen is None:
            return float("nan")
        return float(np.isin(row_hashes(self._check_rows(X)), self._rows_seen).mean())
