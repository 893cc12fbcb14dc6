"""Segmentation: `TorchSegmenter`, a classifier of each pixel of an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
from sklearn.base import ClassifierMixin
from torch import nn

from skuq._estimator._base import TorchEstimator
from skuq._estimator._images import GivenWeights
from skuq._estimator._masks import Masks
from skuq._estimator._parameter_checks import checked_views, why_no_partial_fit
from skuq._estimator._validation import GivenValidation
from skuq._predict_maps import MapPredictions
from skuq._utils._available import available_unless
from skuq._utils._sklearn_compat import StrOptions, with_callbacks
from skuq._utils._typing import ArrayLike, MatrixLike, RandomState, StrPath
from skuq.likelihoods import Categorical, Likelihood
from skuq.modules import UNet
from skuq.posteriors import MCDropout, Posterior

__all__ = ["TorchSegmenter"]


class TorchSegmenter(MapPredictions, ClassifierMixin, Masks, TorchEstimator):
    """A torch network that labels each pixel of an image, and knows how uncertain it is.

    Every pixel is classified: the likelihood, its loss and the two uncertainties are those of
    `TorchClassifier`, once for each pixel [1]_.

    Parameters
    ----------
    module : class or callable returning a torch.nn.Module, default=None
        Builds the network. Its parameters are ``module__*``; it also gets ``n_outputs`` and
        ``n_channels`` if its signature needs them. The network takes images (n, n_channels,
        height, width) and returns logits (n, n_outputs, height, width), without a softmax. If it
        returns a tuple, the first entry counts. None builds `skuq.modules.UNet`.
    training_views : view or list of them, default=None
        Views of `skuq.augmentation` that change the images of training, each image by each view
        with probability ½, anew in each epoch: ``[Flip(), Crop(0.7)]``. Masks and weights change in
        the same way. A view needs a method ``of_mask``; see `skuq.augmentation.View`.
    ignore_label : object, default=None
        The label of pixels that do not count, in training, calibration and scores, such as 255;
        None counts all pixels.
    posterior : Posterior, default=None
        How to model uncertainty about the function; None is ``MCDropout()``. To search its
        parameters, pass an object: with ``posterior=MCDropout()`` there is
        ``posterior__n_draws``.
    likelihood : Likelihood, default=None
        How the outputs of the network describe y, which sets the loss; None is ``Categorical()``.
    optimizer : torch optimizer class, default=torch.optim.Adam
        The class of the optimizer that trains the network. Its parameters are ``optimizer__*``.
    lr : float, default=1e-3
        Learning rate of the optimizer.
    max_epochs : int, default=100
        Maximum number of passes over the training data. 0 skips training: `module` must return an
        already trained network, whose outputs suit the likelihood. `fit` then learns everything
        else that a fitted estimator needs (labels, masks of `MCDropout`).
    batch_size : int, default=8
        Number of images for each step of the optimizer.
    early_stopping : bool, default=False
        Whether to set images apart, stop when the negative log-likelihood on them no longer falls,
        and restore the best weights. Images of one group (see `fit`) stay together.
    validation_fraction : float in (0, 1), default=0.1
        Share of the images that early stopping sets apart.
    n_iter_no_change : int, default=10
        Number of epochs without improvement after which early stopping ends training.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied by `pixel_weight` and `sample_weight`. A dict maps labels
        to weights; "balanced" gives all classes the same total; None weights all pixels equally.
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
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted, without `ignore_label`, in the order of the axis of `predict_proba`.
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
    TorchClassifier : One label for each row.

    Notes
    -----
    Training minimises the mean over all pixels of weight times loss. Weights are scaled to mean 1
    over the training set, not over each batch, so a factor in all weights changes nothing.

    Memory: predictions hold the outputs of all draws for one image at a time (or for a few small
    ones), n_draws · n_outputs · height · width numbers, and reduce them block by block of pixels.
    Where these exceed 2 GiB (8 GiB on a GPU), the draws are computed anew for each of several bands
    of pixels. Only `predict_draws` keeps the draws of all images.

    scikit-learn's estimator checks are for tables, and do not apply. `clone`, `GridSearchCV` and
    `cross_validate` work; folds are plain, since an image has no single class.

    References
    ----------
    .. [1] A. Kendall, Y. Gal, "What Uncertainties Do We Need in Bayesian Deep Learning for
       Computer Vision?", NeurIPS 2017, arXiv:1703.04977.

    Examples
    --------
    >>> import numpy as np
    >>> from skuq import TorchSegmenter
    >>> X = np.random.default_rng(0).normal(size=(6, 1, 8, 8)).astype("float32")
    >>> y = np.where(X[:, 0] > 0, "bright", "dark")
    >>> segmenter = TorchSegmenter(
    ...     module__base_width=4, module__depth=1, lr=0.01, max_epochs=20, random_state=0
    ... ).fit(X, y)
    >>> segmenter.predict_proba(X).shape, segmenter.predict_uncertainty(X, "epistemic").shape
    ((6, 2, 8, 8), (6, 8, 8))
    """

    _task = "classification"
    _default_likelihood = Categorical
    _default_module = UNet
    _default_posterior = MCDropout
    _target_options: ClassVar[dict[str, Any]] = {}
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **TorchEstimator._parameter_constraints,
        "ignore_label": "no_validation",
        "training_views": [callable, list, tuple, None],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "prior_correction": ["boolean"],
    }

    def __init__(
        self,
        module: Callable[..., nn.Module] | None = None,
        *,
        ignore_label: Any = None,
        training_views: Any = None,
        posterior: Posterior | None = None,
        likelihood: Likelihood | None = None,
        optimizer: type[torch.optim.Optimizer] = torch.optim.Adam,
        lr: float = 1e-3,
        max_epochs: int = 100,
        batch_size: int = 8,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
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
        self.ignore_label = ignore_label
        self.training_views = training_views
        self.class_weight = class_weight
        self.prior_correction = prior_correction

    @with_callbacks
    def fit(
        self,
        X: MatrixLike,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        pixel_weight: ArrayLike | str | None = None,
        *,
        X_val: MatrixLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Train the network and fit the posterior.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Training images, as floats; or a memory map, or a torch Dataset of pairs (image, mask),
            which are read as in `TorchClassifier.fit`. A map-style Dataset gives image and mask
            together in each epoch, so it may change both at random. Labels of all masks stay in
            memory, a byte for each pixel of up to 127 classes.
        y : array-like of shape (n_samples, height, width)
            A label of any type for each pixel. With ``likelihood=Bernoulli()`` also several masks
            of 0 and 1 for each image, which may overlap, of shape (n_samples, n_labels, height,
            width). None if X is a Dataset, which has them.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images; images of weight zero do not take part.
        groups : array-like of shape (n_samples,), default=None
            The group of each image: early stopping does not separate images of one group.
        pixel_weight : array-like of shape (n_samples, height, width), or \
                {"balanced", "median_frequency", "border"}, default=None
            Weights of the pixels, not negative, or a rule that makes them of the masks:
            "balanced" gives all classes the same total, "median_frequency" is the median of the
            classes' frequencies over the frequency of the class, "border" weights narrow gaps
            between objects. All kinds of weights multiply.

        X_val : array-like of shape (n_val_samples, n_channels, height, width), default=None
            Validation images of your own, of the size of those in X, or a torch Dataset of pairs.
            Early stopping watches these instead of setting images apart, and
            ``early_stopping="auto"`` is on.
        y_val : array-like of shape (n_val_samples, ...), default=None
            Their masks, as `y`; None if X_val is a Dataset.
        sample_weight_val : array-like of shape (n_val_samples,), default=None
            Their weights, as `sample_weight`; None weights all equally. `pixel_weight` is not for
            them.

        Returns
        -------
        self : TorchSegmenter
            The fitted segmenter itself.

        Raises
        ------
        ValueError
            If images, masks or parameters cannot be used; each message says how to fix it.
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
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        pixel_weight: ArrayLike | str | None = None,
    ) -> Self:
        """Train for one more epoch on these images.

        The optimizer and the random generators keep their state between calls.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Training images.
        y : array-like of shape (n_samples, height, width)
            Their masks, as in `fit`.
        classes : array-like of shape (n_classes,), default=None
            All labels of this and later calls; needed if the first masks lack some.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images.
        pixel_weight : array-like of shape (n_samples, height, width), or str, default=None
            Weights of the pixels, or a rule, as in `fit`.

        Returns
        -------
        self : TorchSegmenter
            The segmenter itself, trained further.
        """
        given = GivenWeights(sample_weight, pixel_weight)
        return self._fit(X, y, given, incremental=True, classes=classes)

    def _views_of_training(self) -> Sequence[Any]:
        return checked_views(self.training_views, self._with_prefix("iterator_train"))

    @property
    def _n_classes(self) -> int:  # type: ignore[override]
        return 2 if self._multilabel else len(self.classes_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.target_tags.one_d_labels = False
        tags.classifier_tags.multi_label = isinstance(self.likelihood, Likelihood) and bool(
            self.likelihood.takes_indicators
        )
        tags._skip_test = True  # scikit-learn's checks give tables
        return tags
