"""Regression of each pixel of an image, such as depth: `TorchDenseRegressor`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
from sklearn.base import RegressorMixin
from torch import nn

from skuq._estimator._base import TorchEstimator
from skuq._estimator._images import GivenWeights
from skuq._estimator._parameter_checks import why_no_partial_fit
from skuq._estimator._target_maps import TargetMaps
from skuq._estimator._validation import GivenValidation
from skuq._predict_maps import TargetMapPredictions
from skuq._utils._available import available_unless
from skuq._utils._sklearn_compat import with_callbacks
from skuq._utils._typing import ArrayLike, MatrixLike, RandomState, StrPath
from skuq.likelihoods import Gaussian, Likelihood
from skuq.modules import UNet
from skuq.posteriors import MCDropout, Posterior

__all__ = ["TorchDenseRegressor"]


class TorchDenseRegressor(TargetMapPredictions, RegressorMixin, TargetMaps, TorchEstimator):
    """A torch network that predicts numbers for each pixel of an image, and how uncertain they are.

    Every pixel is a regression: the likelihood, its loss and the two uncertainties are those of
    `TorchRegressor`, once for each pixel [1]_. Targets are standardised inside, over all pixels.
    It is a class of its own because y of shape (n, height, width) is a map, and not n rows of a
    table.

    Parameters
    ----------
    module : class or callable returning a torch.nn.Module, default=None
        Builds the network. Its parameters are ``module__*``; it also gets ``n_outputs`` and
        ``n_channels`` if its signature needs them. The network takes images (n, n_channels,
        height, width) and returns (n, n_outputs, height, width): with the default likelihood a
        mean and a log-variance for each target, [μ_1 … μ_D, s_1 … s_D]. If it returns a tuple, the
        first entry counts. None builds `skuq.modules.UNet`.
    posterior : Posterior, default=None
        How to model uncertainty about the function; None is ``MCDropout()``. To search its
        parameters, pass an object: with ``posterior=MCDropout()`` there is
        ``posterior__n_draws``.
    likelihood : Likelihood, default=None
        How the outputs of the network describe y, which sets the loss; None is ``Gaussian()``.
    optimizer : torch optimizer class, default=torch.optim.Adam
        The class of the optimizer that trains the network. Its parameters are ``optimizer__*``.
    lr : float, default=1e-3
        Learning rate of the optimizer.
    max_epochs : int, default=100
        Maximum number of passes over the training data. 0 skips training: `module` must return an
        already trained network, whose outputs suit the likelihood. `fit` then learns everything
        else that a fitted estimator needs (units of y, masks of `MCDropout`).
    batch_size : int, default=8
        Number of images for each step of the optimizer.
    early_stopping : bool, default=False
        Whether to set images apart, stop when the negative log-likelihood on them no longer falls,
        and restore the best weights. Images of one group (see `fit`) stay together.
    validation_fraction : float in (0, 1), default=0.1
        Share of the images that early stopping sets apart.
    n_iter_no_change : int, default=10
        Number of epochs without improvement after which early stopping ends training.
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
    n_features_in_ : int
        Number of channels seen in `fit`.
    n_iter_ : int
        Number of epochs trained (the largest of the networks).
    history_ : list of dict
        skorch's history of the first network, one entry per epoch.
    histories_ : list of list of dict
        The same history for every network.
    module_ : torch.nn.Module
        The trained module (of the first network).
    network_ : NetworkSummary
        A summary of `module_`: number of outputs, dropout. Printing it gives a line.
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
    TorchSegmenter : A label for each pixel. Its Notes on weights and memory hold here, too.
    TorchRegressor : Numbers for each row.

    References
    ----------
    .. [1] A. Kendall, Y. Gal, "What Uncertainties Do We Need in Bayesian Deep Learning for
       Computer Vision?", NeurIPS 2017, arXiv:1703.04977.

    Examples
    --------
    >>> import numpy as np
    >>> from skuq import TorchDenseRegressor
    >>> X = np.random.default_rng(0).normal(size=(6, 1, 8, 8)).astype("float32")
    >>> depth = np.exp(X[:, 0])
    >>> regressor = TorchDenseRegressor(
    ...     module__base_width=4, module__depth=1, lr=0.01, max_epochs=40, random_state=0
    ... ).fit(X, depth)
    >>> mean, std = regressor.predict(X, return_std=True)
    >>> mean.shape, std.shape, regressor.predict_uncertainty(X, "epistemic").shape
    ((6, 8, 8), (6, 8, 8), (6, 8, 8))
    """

    _task = "regression"
    _default_posterior = MCDropout
    _default_likelihood = Gaussian
    _default_module = UNet
    _target_options: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        module: Callable[..., nn.Module] | None = None,
        *,
        posterior: Posterior | None = None,
        likelihood: Likelihood | None = None,
        optimizer: type[torch.optim.Optimizer] = torch.optim.Adam,
        lr: float = 1e-3,
        max_epochs: int = 100,
        batch_size: int = 8,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
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

    @with_callbacks
    def fit(
        self,
        X: MatrixLike,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        pixel_weight: ArrayLike | None = None,
        *,
        X_val: MatrixLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Train the network and fit the posterior.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Training images, as floats; or a memory map, or a torch Dataset of pairs (image, map).
        y : array-like of shape (n_samples, height, width) or (n_samples, n_targets, height, width)
            A number for each pixel, or several. A pixel with NaN does not count. None if X is a
            Dataset, which has them.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images; images of weight zero do not take part.
        groups : array-like of shape (n_samples,), default=None
            The group of each image: early stopping does not separate images of one group.
        pixel_weight : array-like of shape (n_samples, height, width), default=None
            Weights of the pixels, not negative; they multiply those of the images.

        X_val : array-like of shape (n_val_samples, n_channels, height, width), default=None
            Validation images of your own, of the size of those in X, or a torch Dataset of pairs.
            Early stopping watches these instead of setting images apart, and
            ``early_stopping="auto"`` is on.
        y_val : array-like of shape (n_val_samples, ...), default=None
            Their targets, as `y`; None if X_val is a Dataset.
        sample_weight_val : array-like of shape (n_val_samples,), default=None
            Their weights, as `sample_weight`; None weights all equally. `pixel_weight` is not for
            them.

        Returns
        -------
        self : TorchDenseRegressor
            The fitted regressor itself.

        Raises
        ------
        ValueError
            If images, maps or parameters cannot be used; each message says how to fix it.
        DivergedError
            If a loss or weight becomes NaN or infinite.
        """
        own = GivenValidation(X_val, y_val, sample_weight_val)
        return self._fit(X, y, GivenWeights(sample_weight, pixel_weight), groups, own)

    @available_unless(why_no_partial_fit)
    def partial_fit(
        self,
        X: MatrixLike,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        pixel_weight: ArrayLike | None = None,
    ) -> Self:
        """Train for one more epoch on these images.

        The optimizer and the random generators keep their state between calls. The mean and
        standard deviation of the first call's targets standardise all later ones.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Training images.
        y : array-like of shape (n_samples, height, width) or (n_samples, n_targets, height, width)
            Targets, as in `fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images.
        pixel_weight : array-like of shape (n_samples, height, width), default=None
            Weights of the pixels.

        Returns
        -------
        self : TorchDenseRegressor
            The regressor itself, trained further.
        """
        return self._fit(X, y, GivenWeights(sample_weight, pixel_weight), incremental=True)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.target_tags.one_d_labels = False
        tags.target_tags.multi_output = True
        tags._skip_test = True  # scikit-learn's checks give tables
        return tags
