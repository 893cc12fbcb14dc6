"""The estimators: what scikit-learn sees."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from skuq._data._checks import refuse_no_labels, shape_of
from skuq._estimator._base import TorchEstimator
from skuq._estimator._class_weights import weights_by_class
from skuq._predict import ClassifierPredictions, RegressorPredictions
from skuq._utils._sklearn_compat import StrOptions
from skuq.likelihoods import Categorical, Gaussian, Likelihood
from skuq.posteriors import Posterior

__all__ = ["TorchClassifier", "TorchRegressor"]


class TorchClassifier(ClassifierPredictions, ClassifierMixin, TorchEstimator):
    """A torch network as a scikit-learn classifier that knows what it does not know.

    Parameters
    ----------
    module : class or callable returning a torch.nn.Module, default=None
        Built with ``module__*`` parameters, and given ``n_features`` (numbers in a row) and
        ``n_outputs`` where its signature names them. It gets rows as floats (``x.long()`` makes
        indices of them) and returns logits, no softmax; of a tuple the first entry counts. None
        builds `skuq.modules.MLP`, sized from the data.
    posterior : Posterior, default=None
        How to be uncertain about the function; None is ``MCDropout()``. To search its parameters
        give the object: ``posterior=MCDropout()`` has ``posterior__n_draws``.
    likelihood : Likelihood, default=None
        What the outputs say about y; None is ``Categorical()``.
    optimizer : torch optimizer class, default=torch.optim.Adam
        Built with ``optimizer__*`` parameters.
    lr : float, default=1e-3
        Learning rate.
    max_epochs : int, default=100
        Passes over the training data. 0 takes the networks as `module` makes them: trained
        elsewhere, to outputs as the likelihood wants them. fit then finds all else that a fitted
        estimator has (labels, units of y, masks of `MCDropout`).
    batch_size : int, default=128
    early_stopping : bool, default=False
        Whether to set rows apart, stop when the negative log-likelihood on them no longer falls,
        and restore the best weights. Rows of one group (see `fit`) stay together; classes are
        stratified.
    validation_fraction : float in (0, 1), default=0.1
        Share of the rows that early stopping sets apart.
    n_iter_no_change : int, default=10
        Epochs without a new best that early stopping waits.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied with `sample_weight`.
    warm_start : bool, default=False
        Whether `fit` goes on from the weights of the last fit. Labels must be the same; real
        targets are standardised anew.
    device : str, torch.device or list of them, default="auto"
        "auto" is "cuda" where there is one, else "cpu". Of a list, such as ["cuda:0", "cuda:1"],
        `DeepEnsemble` trains its members on all devices at once, member i on device i modulo their
        number; the trained networks go to the first, where predictions are evaluated. Posteriors
        that train one network use the first alone. All are of one kind; one that is named twice
        trains two members at once.
    precision : {"float32", "float64", "bfloat16"}, default="float32"
        "bfloat16" is float32 with autocast.
    compile : bool, "reduce-overhead" or "max-autotune", default=False
        Whether training runs through ``torch.compile``, and in which of its modes:
        "reduce-overhead" captures CUDA graphs, for small networks on a GPU. Compiling takes seconds
        to minutes, more than a short training.
    callbacks : list of skorch callbacks, "disable" or None, default=None
        As in skorch; copied for each network. Their parameters are ``callbacks__<name>__*``.
        Callbacks of scikit-learn 1.9 (`sklearn.callback`) go to ``set_callbacks`` instead; their
        tasks are fit, network and epoch. "disable" turns off what happens at epochs, also bars.
    verbose : int, default=0
        1 shows bars over networks and epochs, and over long predictions, where tqdm is
        installed; 2 prints skorch's table of epochs.
    random_state : int, RandomState instance or None, default=None
        From it come initial weights, shuffling, dropout and masks. Your own code may draw from
        the global generators of torch, NumPy and `random`: they are private while it runs.
    checkpoint_dir : path, default=None
        A folder of this fit alone, made if it is not there, from which the same fit goes on after
        the process was killed: with the same parameters and data, on the same machine with the
        same number of threads, it ends with the networks that it would have ended with. Given
        anything else, `fit` refuses. Once `fit` is done the folder is empty again. `partial_fit`
        does not use it. See Notes.
    checkpoint_minutes : float, default=0
        Between two checkpoints of a training at least; 0 writes one after each epoch.
    on_interrupt : {"raise", "keep"}, default="raise"
        What Ctrl-C does to `fit`: with "raise" the KeyboardInterrupt reaches the caller. With
        "keep" the estimator is fitted with what is finished, with a ConvergenceWarning and
        `interrupted_`: the networks of an ensemble whose training is over; if there is none, the
        networks in training after their last whole epoch (the best one, of early stopping). If
        not even an epoch is over, it is raised all the same.
    **kwargs
        ``module__*``, ``optimizer__*``, ``callbacks__*``, ``iterator_train__*`` and
        ``iterator_valid__*``, as in skorch. A DataLoader is used only where an iterator option
        needs one (other than batch_size, shuffle, drop_last).

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,), where X had names
    n_iter_ : int
        Epochs trained (the largest of the networks).
    history_ : list of dict
        skorch's history of the first network, an entry per epoch. Without callbacks `partial_fit`
        keeps the last 100 epochs.
    histories_ : list of list of dict
        Of every network.
    module_ : torch.nn.Module
        The trained module (of the first network).
    likelihood_, posterior_ : the fitted copies
    device_ : str
        Where predictions are evaluated.
    interrupted_ : bool
        Whether Ctrl-C ended `fit` and ``on_interrupt="keep"`` kept what there was.

    Notes
    -----
    Networks learn badly from features of very different scales: put a StandardScaler before.
    Rows of X keep their number of dimensions between fit and predict; what else may differ (the
    length of sequences, say) is up to the module.

    Checkpoints hold weights, the optimizer, generators, history, finished networks, and what
    skorch's callbacks (schedulers, early stopping) and yours remember: numbers, text, arrays and
    tensors in lists and dicts, or what their ``state_dict()`` gives and ``load_state_dict(state)``
    takes; a callback that remembers anything else is refused. They are arrays and JSON, nothing
    that is executed when read. A module is known again by its name and its parameters, not by its
    code. One folder is for one fit at a time, hence not for searches.

    See Also
    --------
    skuq.predict_uncertainty : The same through a Pipeline or a search.
    skuq.calibration.TemperatureScaler : Calibrates the probabilities.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skuq import TorchClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = TorchClassifier(lr=0.01, max_epochs=20, random_state=0).fit(X, y)
    >>> uncertainty = classifier.predict_uncertainty(X, kind="all")
    >>> uncertainty.total.shape
    (150,)
    """

    _task = "classification"
    _default_likelihood = Categorical
    _target_options: ClassVar[dict] = {}
    _parameter_constraints: ClassVar[dict] = {
        **TorchEstimator._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        module: Any = None,
        *,
        posterior: Posterior | None = None,
        likelihood: Likelihood | None = None,
        optimizer: Any = torch.optim.Adam,
        lr: float = 1e-3,
        max_epochs: int = 100,
        batch_size: int = 128,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        class_weight: Any = None,
        warm_start: bool = False,
        device: Any = "auto",
        precision: str = "float32",
        compile: Any = False,
        callbacks: Any = None,
        verbose: int = 0,
        random_state: Any = None,
        checkpoint_dir: Any = None,
        checkpoint_minutes: float = 0,
        on_interrupt: str = "raise",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            module,
            posterior=posterior,
            likelihood=likelihood,
            optimizer=optimizer,
            lr=lr,
            max_epochs=max_epochs,
            batch_size=batch_size,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            warm_start=warm_start,
            device=device,
            precision=precision,
            compile=compile,
            callbacks=callbacks,
            verbose=verbose,
            random_state=random_state,
            checkpoint_dir=checkpoint_dir,
            checkpoint_minutes=checkpoint_minutes,
            on_interrupt=on_interrupt,
            **kwargs,
        )
        self.class_weight = class_weight

    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None
    ) -> TorchClassifier:
        """Train one epoch more on these rows.

        From one partial_fit to the next the optimizer and the generators go on as they were.

        Parameters
        ----------
        X, y, sample_weight : as in `fit`
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever come; needed where the first y lacks some.

        Returns
        -------
        self : TorchClassifier
        """
        return self._fit(X, y, sample_weight, incremental=True, classes=classes)

    @property
    def _n_classes(self) -> int:  # type: ignore[override]
        return 2 if self._multilabel else len(self.classes_)

    def _check_data(
        self, X: Any, y: Any, likelihood: Likelihood, checks: dict[str, Any], reset: bool
    ) -> Any:
        if not likelihood.takes_indicators and len(shape := shape_of(y)) == 2 and shape[1] > 1:
            raise ValueError(
                f"y should be a 1d array of labels, got shape {shape}. For several labels "
                "at once, each there (1) or not (0), use likelihood=Bernoulli()"
            )
        if y is not None and not likelihood.takes_missing:
            refuse_no_labels("y", y)
        return super()._check_data(X, y, likelihood, checks, reset)

    def _read_targets(self, y: np.ndarray, reset: bool, classes: Any = None) -> np.ndarray:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if classes is not None:
            refuse_no_labels("classes", classes)
        if reset:
            self._multilabel = y.ndim == 2
        elif self._multilabel != (y.ndim == 2):
            raise ValueError(
                f"y has shape {y.shape}, but this classifier was begun with "
                f"{'several labels' if self._multilabel else 'one label'} for each row"
            )
        if self._multilabel:
            return self._read_indicators(y, reset, classes)
        if reset:
            self.classes_ = np.unique(y if classes is None else classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"classes={classes!r} is not what this classifier was begun with: {self.classes_}"
            )
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y contains labels {unknown[:5]} that are not in the classes {self.classes_}; "
                "give every label to come as `classes` in the first call of partial_fit, or, to "
                "fit anew, set warm_start=False"
            )
        if len(self.classes_) < 2:
            raise ValueError(
                f"y contains one class only, {self.classes_}; a classifier needs at least 2 classes"
            )
        return np.searchsorted(self.classes_, y)

    def _read_indicators(self, y: np.ndarray, reset: bool, classes: Any) -> np.ndarray:
        """0 or 1 for each of several labels."""
        if not np.isin(y, (0, 1)).all():
            raise ValueError(
                f"y of shape {y.shape} must hold 0 and 1 alone, got values such as "
                f"{y[~np.isin(y, (0, 1))][0]!r}; each column says whether its label is there"
            )
        labels = np.arange(y.shape[1])
        if classes is not None and not np.array_equal(np.unique(classes), labels):
            raise ValueError(
                f"classes={classes!r} does not count the columns of y, of shape {y.shape}"
            )
        if reset:
            self.classes_ = labels
        elif len(labels) != len(self.classes_):
            raise ValueError(
                f"y has {len(labels)} labels, but this classifier was begun with "
                f"{len(self.classes_)}"
            )
        return y.astype(np.int64)

    def _check_warm_start(self, target: np.ndarray) -> None:
        absent = np.setdiff1d(np.arange(len(self.classes_)), target)
        if target.ndim == 1 and len(absent):
            raise ValueError(
                f"warm_start=True goes on with the classes {self.classes_} of the fit before, but "
                f"y has no row of {self.classes_[absent][:5]}; set warm_start=False to fit anew, "
                "or go on with partial_fit, whose rows need not hold every class"
            )

    def _check_targets(self, target: np.ndarray) -> None:
        known = target[~np.isnan(target)]
        if target.ndim == 1 and known.min() == known.max():
            by_class = "" if self.class_weight is None else "class_weight or "
            raise ValueError(
                f"only one class is left after rows with {by_class}sample_weight zero are removed, "
                f"{self.classes_[int(known[0])]!r}; a classifier needs at least 2 classes"
            )

    def _class_weights(self, target: np.ndarray, weight: np.ndarray | None) -> np.ndarray | None:
        if self.class_weight is None:
            return None
        if target.ndim == 2:
            raise ValueError(
                "class_weight is for one label per row; of several labels give sample_weight"
            )
        weights, known = np.ones(len(target)), ~np.isnan(target)
        of_known = None if weight is None else weight[known]
        labels = target[known].astype(np.int64)
        weights[known] = weights_by_class(self.class_weight, self.classes_, labels, of_known)
        return weights

    def __sklearn_tags__(self) -> Any:
        return self._tell_of_targets(super().__sklearn_tags__())


class TorchRegressor(RegressorPredictions, RegressorMixin, TorchEstimator):
    """A torch network as a scikit-learn regressor that knows what it does not know.

    Targets are standardised inside; everything is reported in the units of y.

    Parameters
    ----------
    module : class or callable returning a torch.nn.Module, default=None
        As in `TorchClassifier`. With the default likelihood it returns a mean and a log-variance
        for each target: [μ_1 … μ_D, s_1 … s_D].
    posterior : Posterior, default=None
        How to be uncertain about the function; None is ``MCDropout()``.
    likelihood : Likelihood, default=None
        What the outputs say about y; None is ``Gaussian()``.
    optimizer, lr, max_epochs, batch_size : as in `TorchClassifier`
    early_stopping, validation_fraction, n_iter_no_change : as in `TorchClassifier`
    warm_start, device, precision, compile, callbacks : as in `TorchClassifier`
    verbose, random_state, **kwargs : as in `TorchClassifier`
    checkpoint_dir, checkpoint_minutes, on_interrupt : as in `TorchClassifier`

    Attributes
    ----------
    n_features_in_, feature_names_in_, n_iter_, history_, histories_, module_, likelihood_, \
            posterior_, device_, interrupted_ : as in `TorchClassifier`

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skuq import TorchRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> regressor = TorchRegressor(lr=0.01, max_epochs=20, random_state=0).fit(X, y)
    >>> mean, std = regressor.predict(X, return_std=True)
    >>> regressor.predict_interval(X, confidence_level=0.9).shape
    (442, 2)
    """

    _task = "regression"
    _default_likelihood = Gaussian
    _target_options: ClassVar[dict] = {"multi_output": True, "y_numeric": True}

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> TorchRegressor:
        """Train one epoch more on these rows.

        From one partial_fit to the next the optimizer and the generators go on as they were.

        Targets keep the units of the first call: its mean and standard deviation standardise all.

        Parameters
        ----------
        X, y, sample_weight : as in `fit`

        Returns
        -------
        self : TorchRegressor
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def _read_targets(self, y: np.ndarray, reset: bool, classes: Any = None) -> np.ndarray:
        target = np.asarray(y, dtype=np.float64)
        if np.isnan(target).any():  # None, among numbers as objects
            raise ValueError("y contains NaN or None; remove these rows")
        if reset:
            self._target_shape = target.shape[1:]
        elif target.shape[1:] != self._target_shape:
            raise ValueError(
                f"y has shape {target.shape}; training goes on from targets of shape "
                f"(n_samples, {', '.join(map(str, self._target_shape))})"
            )
        return target.reshape(len(target), -1)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return self._tell_of_targets(tags)
