"""The estimators: `TorchClassifier` and `TorchRegressor`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin, RegressorMixin
from torch import nn

from skuq._estimator._base import TorchEstimator
from skuq._estimator._labels import Labels
from skuq._estimator._parameter_checks import why_no_partial_fit
from skuq._predict import ClassifierPredictions, RegressorPredictions
from skuq._utils._available import available_unless
from skuq._utils._sklearn_compat import StrOptions
from skuq._utils._typing import ArrayLike, MatrixLike, RandomState, StrPath
from skuq.likelihoods import Categorical, Gaussian, Likelihood
from skuq.posteriors import Posterior

__all__ = ["TorchClassifier", "TorchRegressor"]


class TorchClassifier(ClassifierPredictions, ClassifierMixin, Labels, TorchEstimator):
    """A torch network as a scikit-learn classifier that knows how uncertain it is.

    Parameters
    ----------
    module : class or callable returning a torch.nn.Module, default=None
        Builds the network. Its parameters are ``module__*``; it also gets ``n_features`` (the
        number of values in a row) and ``n_outputs`` if its signature names them. The network takes
        rows as floats (``x.long()`` makes indices of them) and returns logits, without a softmax.
        If it returns a tuple, the first entry counts. None builds `skuq.modules.MLP`, sized from
        the data.
    posterior : Posterior, default=None
        How to model uncertainty about the function; None is ``DeepEnsemble()``. To search its
        parameters, pass an object: ``MCDropout()`` has ``posterior__n_draws``.
    likelihood : Likelihood, default=None
        How the outputs of the network describe y, which sets the loss; None is ``Categorical()``.
    optimizer : torch optimizer class, default=torch.optim.Adam
        The class of the optimizer that trains the network. Its parameters are ``optimizer__*``.
    lr : float or "auto", default="auto"
        Learning rate of the optimizer. "auto": 3e-3 for the default module, 1e-3 for others.
    max_epochs : int or "auto", default="auto"
        Maximum number of passes over the training data. "auto": as many as take 6,000 steps, but
        100 to 1,000; 100 without early stopping. 0 skips training: `module` must return a trained
        network, whose outputs suit the likelihood. `fit` then learns all else (labels, masks).
    batch_size : int, default=128
        Number of rows for each step of the optimizer.
    early_stopping : bool or "auto", default="auto"
        Whether to set rows apart, stop when the negative log-likelihood on them no longer falls,
        and restore the best weights. "auto": if `max_epochs` is "auto", with at least 20 rows (or
        groups, if given), unless each class has one row or `callbacks` is "disable".
        Rows of one group (see `fit`) stay together; classes are stratified.
    validation_fraction : float in (0, 1), default=0.1
        Share of the rows that early stopping sets apart.
    n_iter_no_change : int or "auto", default="auto"
        Number of epochs without improvement that end training; "auto": 500 steps, at least 10.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied by `sample_weight`. A dict maps labels to weights;
        "balanced" weights classes inversely to their frequency; None weights all classes equally.
    prior_correction : bool, default=False
        Whether to divide predicted probabilities by the class weights, which tilt them.
    warm_start : bool, default=False
        Whether `fit` goes on from the weights of the last fit. y must have the same labels.
    device : str, torch.device or list of them, default="auto"
        Where to train and predict. "auto" is "cuda" if there is a GPU, else "cpu". With a list,
        such as ["cuda:0", "cuda:1"], `DeepEnsemble` trains its members on all devices at once:
        member i on device i modulo their number. The trained networks then go to the first device,
        which computes predictions. Posteriors that train one network use only the first device.
        All devices must be of one kind; a device that is named twice trains two members at once.
    precision : {"float32", "float64", "bfloat16"}, default="float32"
        Floating-point type of training and prediction. "bfloat16" is float32 with autocast.
    compile : bool, "reduce-overhead" or "max-autotune", default=False
        Whether training runs through ``torch.compile``, and in which of its modes:
        "reduce-overhead" captures CUDA graphs, for small networks on a GPU. Compiling takes seconds
        to minutes, which is longer than a short training.
    callbacks : list of skorch callbacks, "disable" or None, default=None
        Callbacks to run while training, as in skorch; each network gets a copy. Their parameters
        are ``callbacks__<name>__*``. "disable" turns off per-epoch callbacks and progress bars.
        Callbacks of scikit-learn 1.9 (`sklearn.callback`) go to ``set_callbacks`` instead.
    verbose : int, default=0
        How much to print. 1 shows progress bars for networks, epochs and long predictions, if tqdm
        is installed; 2 prints skorch's table of epochs.
    random_state : int, RandomState instance or None, default=None
        Seed of initial weights, shuffling, dropout and masks. Your own code may draw from the
        global generators of torch, NumPy and `random`: they are private while it runs.
    checkpoint_dir : path, default=None
        A folder for this fit only, created if needed, from which the same fit goes on after its
        process was killed. With the same parameters and data, on the same machine with the same
        number of threads, it ends with the same networks as an uninterrupted fit. With anything
        else, `fit` refuses the folder. After `fit` the folder is empty again. `partial_fit` does
        not use it. See Notes.
    checkpoint_minutes : float, default=0
        Minimum minutes between two checkpoints; 0 writes one after every epoch.
    on_interrupt : {"raise", "keep"}, default="raise"
        How `fit` reacts to Ctrl-C. "raise" passes the KeyboardInterrupt on to the caller. "keep"
        returns an estimator fitted with the finished part, sets `interrupted_` and gives a
        ConvergenceWarning. The finished part is the networks of an ensemble whose training is
        over; if there is none, it is the networks in training after their last whole epoch (with
        early stopping, the best epoch). Before the first epoch ends, Ctrl-C raises in any case.
    **kwargs
        Further parameters: ``module__*``, ``optimizer__*``, ``callbacks__*``,
        ``iterator_train__*`` and ``iterator_valid__*``, as in skorch. A DataLoader is used only
        where an iterator option needs one (any but batch_size, shuffle, drop_last).

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted, in the order of the columns of `predict_proba`.
    label_names_ : ndarray of shape (n_labels,)
        Names of several labels at once; set only if y was a data frame with names.
    n_features_in_ : int
        Number of features seen in `fit`: the size of the second axis of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns of X; set only if X had names that are all strings.
    n_iter_ : int
        Number of epochs trained (the largest of the networks).
    history_ : list of dict
        skorch's history of the first network, one entry per epoch. Without callbacks `partial_fit`
        keeps the last 100 epochs.
    histories_ : list of list of dict
        The same history for every network.
    module_ : torch.nn.Module
        The trained module (of the first network).
    network_ : NetworkSummary
        A summary of `module_`: number of outputs, last layer, dropout. Printing it gives a line.
    likelihood_ : Likelihood
        The fitted copy of `likelihood`.
    posterior_ : Posterior
        The copy of `posterior` that was fitted.
    device_ : str
        The device that computes predictions.
    interrupted_ : bool
        Whether Ctrl-C ended `fit` early and ``on_interrupt="keep"`` kept the finished part.

    See Also
    --------
    skuq.predict_uncertainty : The same through a Pipeline or a search.
    skuq.calibration.TemperatureScaler : Calibrates the probabilities.

    Notes
    -----
    Networks learn badly from features of very different scales: put a StandardScaler before. Rows
    keep their number of dimensions, tables their columns. ``docs/several_inputs.md``: dicts, texts.

    Checkpoints are arrays and JSON, see ``docs/training.md``: reading one executes nothing. One
    folder serves one fit at a time, so do not use it in searches.

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
    _target_options: ClassVar[dict[str, Any]] = {}
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **TorchEstimator._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "prior_correction": ["boolean"],
    }

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
        class_weight: dict[Any, float] | str | None = None,
        prior_correction: bool = False,
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
        self.prior_correction = prior_correction

    @available_unless(why_no_partial_fit)
    def partial_fit(
        self,
        X: MatrixLike,
        y: ArrayLike | None = None,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train for one more epoch on these rows.

        The optimizer and the random generators keep their state between calls.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), or (n_samples, ...)
            Training rows; `fit` describes memory maps and torch Datasets.
        y : array-like of shape (n_samples,)
            Labels of the rows, as in `fit`; None if X is a Dataset, which has them.
        classes : array-like of shape (n_classes,), default=None
            All labels of this and later calls; needed if the first y lacks some.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, normalised to mean 1; None weights all rows equally.

        Returns
        -------
        self : TorchClassifier
            The estimator itself, trained further.
        """
        return self._fit(X, y, sample_weight, incremental=True, classes=classes)

    @property
    def _n_classes(self) -> int:  # type: ignore[override]
        return 2 if self._multilabel else len(self.classes_)

    def __sklearn_tags__(self) -> Any:
        return self._with_target_tags(super().__sklearn_tags__())


class TorchRegressor(RegressorPredictions, RegressorMixin, TorchEstimator):
    """A torch network as a scikit-learn regressor that knows how uncertain it is.

    Targets are standardised inside; all results are in the units of y.

    Parameters
    ----------
    module : class or callable returning a torch.nn.Module, default=None
        Builds the network. Its parameters are ``module__*``; it also gets ``n_features`` (the
        number of values in a row) and ``n_outputs`` if its signature names them. The network takes
        rows as floats (``x.long()`` makes indices of them). With the default likelihood it returns
        a mean and a log-variance for each target: [μ_1 … μ_D, s_1 … s_D]. If it returns a tuple,
        the first entry counts. None builds `skuq.modules.MLP`, sized from the data.
    posterior : Posterior, default=None
        How to model uncertainty about the function; None is ``DeepEnsemble()``. To search its
        parameters, pass an object: ``MCDropout()`` has ``posterior__n_draws``.
    likelihood : Likelihood, default=None
        How the outputs of the network describe y, which sets the loss; None is ``Gaussian()``.
    optimizer : torch optimizer class, default=torch.optim.Adam
        The class of the optimizer that trains the network. Its parameters are ``optimizer__*``.
    lr : float or "auto", default="auto"
        Learning rate of the optimizer. "auto": 3e-3 for the default module, 1e-3 for others.
    max_epochs : int or "auto", default="auto"
        Maximum number of passes over the training data. "auto": as many as take 6,000 steps, but
        100 to 1,000; 100 without early stopping. 0 skips training: `module` must return a trained
        network, whose outputs suit the likelihood. `fit` then learns all else (units of y, masks).
    batch_size : int, default=128
        Number of rows for each step of the optimizer.
    early_stopping : bool or "auto", default="auto"
        Whether to set rows apart, stop when the negative log-likelihood on them no longer falls,
        and restore the best weights. "auto": if `max_epochs` is "auto", with at least 20 rows (or
        groups, if given), unless each class has one row or `callbacks` is "disable".
        Rows of one group (see `fit`) stay together.
    validation_fraction : float in (0, 1), default=0.1
        Share of the rows that early stopping sets apart.
    n_iter_no_change : int or "auto", default="auto"
        Number of epochs without improvement that end training; "auto": 500 steps, at least 10.
    warm_start : bool, default=False
        Whether `fit` goes on from the weights of the last fit. Targets are standardised anew.
    device : str, torch.device or list of them, default="auto"
        Where to train and predict. "auto" is "cuda" if there is a GPU, else "cpu". With a list,
        such as ["cuda:0", "cuda:1"], `DeepEnsemble` trains its members on all devices at once:
        member i on device i modulo their number. The trained networks then go to the first device,
        which computes predictions. Posteriors that train one network use only the first device.
        All devices must be of one kind; a device that is named twice trains two members at once.
    precision : {"float32", "float64", "bfloat16"}, default="float32"
        Floating-point type of training and prediction. "bfloat16" is float32 with autocast.
    compile : bool, "reduce-overhead" or "max-autotune", default=False
        Whether training runs through ``torch.compile``, and in which of its modes:
        "reduce-overhead" captures CUDA graphs, for small networks on a GPU. Compiling takes seconds
        to minutes, which is longer than a short training.
    callbacks : list of skorch callbacks, "disable" or None, default=None
        Callbacks to run while training, as in skorch; each network gets a copy. Their parameters
        are ``callbacks__<name>__*``. "disable" turns off per-epoch callbacks and progress bars.
        Callbacks of scikit-learn 1.9 (`sklearn.callback`) go to ``set_callbacks`` instead; their
        tasks are fit, network and epoch.
    verbose : int, default=0
        How much to print. 1 shows progress bars for networks, epochs and long predictions, if tqdm
        is installed; 2 prints skorch's table of epochs.
    random_state : int, RandomState instance or None, default=None
        Seed of initial weights, shuffling, dropout and masks. Your own code may draw from the
        global generators of torch, NumPy and `random`: they are private while it runs.
    checkpoint_dir : path, default=None
        A folder for this fit only, created if needed, from which the same fit goes on after its
        process was killed. With the same parameters and data, on the same machine with the same
        number of threads, it ends with the same networks as an uninterrupted fit. With anything
        else, `fit` refuses the folder. After `fit` the folder is empty again. `partial_fit` does
        not use it. See the Notes of `TorchClassifier`.
    checkpoint_minutes : float, default=0
        Minimum minutes between two checkpoints; 0 writes one after every epoch.
    on_interrupt : {"raise", "keep"}, default="raise"
        How `fit` reacts to Ctrl-C. "raise" passes the KeyboardInterrupt on to the caller. "keep"
        returns an estimator fitted with the finished part, sets `interrupted_` and gives a
        ConvergenceWarning. The finished part is the networks of an ensemble whose training is
        over; if there is none, it is the networks in training after their last whole epoch (with
        early stopping, the best epoch). Before the first epoch ends, Ctrl-C raises in any case.
    **kwargs
        Further parameters: ``module__*``, ``optimizer__*``, ``callbacks__*``,
        ``iterator_train__*`` and ``iterator_valid__*``, as in skorch. A DataLoader is used only
        where an iterator option needs one (any but batch_size, shuffle, drop_last).

    Attributes
    ----------
    n_features_in_ : int
        Number of features seen in `fit`: the size of the second axis of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns of X; set only if X had names that are all strings.
    n_iter_ : int
        Number of epochs trained (the largest of the networks).
    history_ : list of dict
        skorch's history of the first network, one entry per epoch. Without callbacks `partial_fit`
        keeps the last 100 epochs.
    histories_ : list of list of dict
        The same history for every network.
    module_ : torch.nn.Module
        The trained module (of the first network).
    network_ : NetworkSummary
        A summary of `module_`: number of outputs, last layer, dropout. Printing it gives a line.
    likelihood_ : Likelihood
        The fitted copy of `likelihood`.
    posterior_ : Posterior
        The copy of `posterior` that was fitted.
    device_ : str
        The device that computes predictions.
    interrupted_ : bool
        Whether Ctrl-C ended `fit` early and ``on_interrupt="keep"`` kept the finished part.

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
    _target_options: ClassVar[dict[str, Any]] = {"multi_output": True, "y_numeric": True}

    @available_unless(why_no_partial_fit)
    def partial_fit(
        self,
        X: MatrixLike,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train for one more epoch on these rows.

        The optimizer and the random generators keep their state between calls.

        The mean and standard deviation of the first call's targets standardise all later ones.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), or (n_samples, ...)
            Training rows; `fit` describes memory maps and torch Datasets.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets of the rows, as in `fit`; None if X is a Dataset, which has them.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, normalised to mean 1; None weights all rows equally.

        Returns
        -------
        self : TorchRegressor
            The estimator itself, trained further.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def _read_targets(self, y: np.ndarray, reset: bool, classes: Any = None) -> np.ndarray:
        target = np.asarray(y, dtype=np.float64)
        if np.isnan(target).any():  # None in an array of objects
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
        return self._with_target_tags(tags)
