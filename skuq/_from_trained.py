"""An estimator around a network that something else has trained."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from torch import nn

from skuq._data._checks import dense, shape_of, split_missing
from skuq._data._inputs import as_inputs
from skuq._estimator._built import Built
from skuq._estimator._elsewhere import (
    all_labels,
    check_order,
    chosen_likelihood,
    first_rows_of,
    label_order,
    plain_numbers,
    refuse_soft_labels,
    sliceable,
)
from skuq._estimator._given_networks import (
    FirstBuilt,
    copy_factory,
    refuse_random_weights,
    with_inputs,
)
from skuq._estimator._images import GivenWeights
from skuq._networks._inputs import Layout
from skuq._networks._module import Numerics
from skuq._utils._messages import warn
from skuq._utils._sklearn_compat import (
    StrOptions,
    _num_samples,
    _safe_indexing,
    validate_parameter_constraints,
)
from skuq._utils._tensors import tensors_of
from skuq.estimators import TorchClassifier, TorchRegressor
from skuq.likelihoods import Likelihood
from skuq.posteriors import DeepEnsemble, LastLayerLaplace, MCDropout, Posterior
from skuq.segmentation import TorchSegmenter

__all__ = ["from_trained"]

_Estimator = TorchClassifier | TorchRegressor | TorchSegmenter
_ESTIMATORS: dict[str, type[_Estimator]] = {
    "classification": TorchClassifier,
    "regression": TorchRegressor,
    "segmentation": TorchSegmenter,
}
_SCORED = 1000  # rows: enough to see that outputs have another meaning
_FEWEST = 20
_CONSTRAINTS = {
    "task": [StrOptions({*_ESTIMATORS})],
    "posterior": [Posterior, None],
    "likelihood": [Likelihood, None],
    "target_scale": [tuple, list, None],
}


def from_trained(
    module: Any,
    X: Any,
    y: Any = None,
    *,
    task: str,
    posterior: Posterior | None = None,
    likelihood: Likelihood | None = None,
    classes: Any = None,
    target_scale: Any = None,
    sample_weight: Any = None,
    **parameters: Any,
) -> _Estimator:
    """Make a fitted estimator from a network that you have trained; this trains nothing.

    skuq copies the network and does not change it: with ``posterior=PointEstimate()``, predictions
    are the outputs of ``module.eval()(X)``, read by the likelihood. X and y are a calibration set,
    from which the estimator learns the rest:

    * the labels of a classification: at least one row of each, unless `classes` lists them all;
    * one noise level for all rows, if the likelihood has one (``heteroscedastic=False``). The rows
      must not have trained the network, because residuals of training rows are too small. The noise
      variance has a standard error of 14 % with 100 rows, and of 4 % with 1,000;
    * the posterior. `MCDropout` and `PointEstimate` learn nothing from rows. A Laplace
      approximation takes these rows as its data. It is more uncertain with fewer rows, so give it
      the training rows.

    Parameters
    ----------
    module : nn.Module, list or tuple of them, or class or callable that returns one
        The trained network, as an instance. It returns logits, or other raw outputs of the
        likelihood, without a softmax or sigmoid at the end. It is not changed, and later changes of
        it have no effect. A list holds the members of a deep ensemble, networks with the same
        layers. A function must return a trained network in each call, and every fit, also that of
        a clone, calls it once for each network of the posterior.
    X : array-like or sparse matrix of shape (n_samples, n_features), or (n_samples, ...)
        Rows as the network takes them, scaled like its training rows; for a segmentation images
        (n_samples, n_channels, height, width). Or a torch Dataset of pairs (x, y).
    y : array-like of shape (n_samples,), (n_samples, n_labels) or (n_samples, n_targets)
        Labels or targets in their own units; for a segmentation masks as `TorchSegmenter.fit` takes
        them. None if X is a Dataset. Output k of a classifier belongs to the k-th label in sorted
        order, or to the k-th in `classes`.
    task : {"classification", "regression", "segmentation"}
        Whether to make a `TorchClassifier`, a `TorchRegressor` or a `TorchSegmenter`.
    posterior : Posterior, default=None
        How to model uncertainty about the function; None is ``LastLayerLaplace()``, for a
        segmentation ``MCDropout()``, and for a list of K networks ``DeepEnsemble(K)``.
        ``MCDropout()`` suits a network that was trained with dropout; ``MCDropout(p=0.1,
        where="last")`` inserts dropout into one without (before a convolution, name it:
        ``where=["head"]``).
    likelihood : Likelihood, default=None
        The meaning of the outputs. None chooses by their number. For classes it is `Categorical`,
        or `Bernoulli` if there is one output or y has several columns. For D targets it is
        ``Gaussian(heteroscedastic=False)`` with D outputs, and `Gaussian` (means, then
        log-variances) with 2 D. If `module` is a function with an argument `n_outputs`, None is the
        estimator's default.
    classes : array-like of shape (n_classes,), default=None
        All labels in the order of the outputs, if y lacks some or if that order is not sorted. Not
        needed for integers from 0 to the number of outputs minus one. The estimator's ``classes_``
        are sorted: for another order, skuq moves the outputs in the last ``nn.Linear`` of its copy.
    target_scale : pair (mean, standard deviation), default=None
        The mean and standard deviation with which y was standardised for the training of a
        regression network: numbers, or arrays of shape (n_targets,). None means y itself.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows; None weights all rows equally.
    **parameters
        Further parameters of the estimator: `ignore_label` of a segmenter, `random_state`,
        `device`, `precision`, `batch_size`, `verbose` and so on. ``verbose=1`` prints a summary of
        the network, like ``print(model.network_)``.

    Returns
    -------
    TorchClassifier, TorchRegressor or TorchSegmenter
        The fitted estimator, with ``max_epochs=0``.

    Raises
    ------
    TypeError
        If `module` is no network, but a state dict or a path, for instance.
    ValueError
        If the network is unsuitable: it ends in a softmax or sigmoid, is not trained, cannot take
        rows of X, does not have the number of outputs that the likelihood needs, or is a single
        network where the posterior needs several. Each message has a fix.

    Warns
    -----
    UserWarning
        If predictions for these rows are worse than chance, or than the mean of y: the order of
        labels, the scale of targets or the scale of rows may be wrong. Masks are not judged.

    See Also
    --------
    skuq.TorchClassifier : With ``max_epochs=0`` it also takes trained networks from a function.
    skuq.calibration.TemperatureScaler : Calibrates the result on other rows.

    Notes
    -----
    The parameter ``module`` of the result makes copies of the trained network. So a clone, in a
    search or a cross-validation, begins with the trained weights, and its `fit` learns the list
    above again. With the same ``random_state`` and rows it gives the same predictions. Its rows
    must hold all labels. `partial_fit`, or `fit` after ``set_params(max_epochs=...)``, goes on
    training from these weights.

    `skuq.save` stores the trained weights and no code: ``skuq.load(path, module=...)`` needs the
    class, a function or an instance, whose weights do not matter.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skuq import TorchClassifier, from_trained
    >>> from skuq.posteriors import MCDropout, PointEstimate
    >>> X, y = load_iris(return_X_y=True)
    >>> elsewhere = TorchClassifier(
    ...     posterior=PointEstimate(), module__dropout=0.0, lr=0.01, random_state=0
    ... )
    >>> network = elsewhere.fit(X[::2], y[::2]).module_  # any trained torch.nn.Module
    >>> posterior = MCDropout(p=0.1, where="last")
    >>> model = from_trained(
    ...     network, X[1::2], y[1::2], task="classification", posterior=posterior, random_state=0
    ... )
    >>> print(model.network_)
    MLP: 3 outputs, 10,903 parameters, last layer '7', dropout inserted before '7' (p = 0.1)
    >>> model.predict_uncertainty(X, kind="epistemic").shape
    (150,)
    """
    given = {"task": task, "posterior": posterior, "likelihood": likelihood}
    given["target_scale"] = target_scale
    validate_parameter_constraints(_CONSTRAINTS, given, "from_trained")
    _check_task(task, y)
    refuse_soft_labels(likelihood)
    networks = _networks_in(module)
    _check_parameters(networks, parameters)
    posterior = _chosen_posterior(module, networks, posterior, task)
    estimator = _ESTIMATORS[task](
        module, posterior=posterior, likelihood=likelihood, max_epochs=0, **parameters
    )
    numerics = Numerics.on(estimator.device, estimator.precision)
    X, y = as_inputs(sliceable(X)), sliceable(y)
    rows, target, layout = first_rows_of(X, y, numerics)
    order = None if task == "regression" else label_order(classes)
    check_order(order, likelihood, is_instance=bool(networks))
    n_outputs = None
    if networks:
        networks = [with_inputs(network, layout) for network in networks]
        estimator.module, n_outputs = copy_factory(networks, rows, numerics, order)
    else:
        estimator.module, n_outputs = _first_built(estimator, rows, numerics, layout)
    estimator.likelihood = chosen_likelihood(task, likelihood, n_outputs, target, target_scale)
    if task == "regression":
        _refuse_classes(classes)
        estimator._fit(X, y, sample_weight)
    else:
        labels = partial(
            all_labels, classes=classes, likelihood=estimator.likelihood, n_outputs=n_outputs
        )
        weights = GivenWeights(sample_weight, None) if task == "segmentation" else sample_weight
        estimator._fit(X, y, weights, classes=labels)
    if not networks:  # clones call the function itself
        estimator.module = module
        estimator._built = Built.by(estimator)
    _check_one_network(module, estimator)
    _warn_if_it_knows_nothing(estimator, X, y, target_scale)
    if estimator.verbose:
        explained = estimator.likelihood_.explain_outputs()
        print(f"{estimator.network_}\n{estimator.likelihood_}: {explained}")
    return estimator


def _check_task(task: str, y: Any) -> None:
    """Name the right task for masks, and for maps of numbers."""
    if task != "segmentation" and len(shape := shape_of(y)) > 2:
        raise ValueError(
            f"task={task!r} is for a label or targets of each row, but y has shape {shape}: for "
            "masks of images give task='segmentation'; for a number in each pixel use "
            "TorchDenseRegressor(lambda: network, max_epochs=0)"
        )


def _chosen_posterior(
    module: Any, networks: list[nn.Module], posterior: Posterior | None, task: str
) -> Posterior:
    """Choose the posterior for None: fast, and made for networks that are trained already."""
    if not _is_list(module):
        if posterior is None:
            return MCDropout() if task == "segmentation" else LastLayerLaplace()
        return posterior
    n = len(networks)
    if posterior is None:
        return DeepEnsemble(n)
    if not isinstance(posterior, DeepEnsemble) or posterior.n_members != n:
        raise ValueError(
            f"module is a list of {n} trained networks, the members of an ensemble: expected "
            f"posterior=None or DeepEnsemble({n}), got {posterior}. Another posterior takes one "
            "network: give it without the list"
        )
    return posterior


def _is_list(module: Any) -> bool:
    return isinstance(module, list | tuple | nn.ModuleList)


def _networks_in(module: Any) -> list[nn.Module]:
    """List the trained networks; none if `module` is a class or function that returns them."""
    if not _is_list(module):
        _check_module(module)
        return [module] if isinstance(module, nn.Module) else []
    if not len(module):
        raise ValueError("module is an empty list; expected one or more trained networks")
    for network in module:
        _check_module(network)
        if not isinstance(network, nn.Module):
            raise TypeError(
                "a list as module must hold trained networks, instances of torch.nn.Module, got "
                f"{network!r:.100}"
            )
    return list(module)


def _first_built(
    estimator: Any, rows: Any, numerics: Numerics, layout: Layout | None
) -> tuple[Any, int | None]:
    """Build the first network of a class or function, to see its number of outputs."""
    module = estimator.module
    if isinstance(module, type):
        refuse_random_weights(module, rows)
    if not FirstBuilt.suits(module):
        return module, None
    built = FirstBuilt(
        module, estimator._with_prefix("module"), rows, estimator.random_state, layout
    )
    return built, built.n_outputs(rows, numerics)


def _check_module(module: Any) -> None:
    if isinstance(module, nn.Module):
        lazy = [n for n, t in tensors_of(module).items() if nn.parameter.is_lazy(t)]
        if lazy:
            raise ValueError(
                f"{lazy[0]!r} of {type(module).__name__} has no shape yet: a lazy layer that was "
                "never called is not trained. Train the network first, or load its weights"
            )
    elif not callable(module):
        hint = ""
        if isinstance(module, dict):
            hint = ". For a state dict, build the network and call its load_state_dict"
        elif isinstance(module, str):
            hint = ". For a file, load the network first"
        elif isinstance(getattr(module, "module_", None), nn.Module):
            hint = f": give its network, {type(module).__name__}.module_"
        raise TypeError(
            "module must be a trained torch.nn.Module, or a function that returns one, got "
            f"{type(module).__name__}{hint}"
        )


def _check_parameters(networks: list[nn.Module], parameters: dict[str, Any]) -> None:
    if "max_epochs" in parameters:
        raise TypeError(
            "from_trained trains nothing and sets max_epochs=0: leave it out. To go on training, "
            "call partial_fit on the result, or set_params(max_epochs=...) and fit"
        )
    own = [name for name in parameters if name.startswith("module__")]
    if own and networks:
        raise TypeError(
            f"{own[0]} is a parameter for building a network, but {type(networks[0]).__name__} is "
            "built already: leave it out"
        )


def _refuse_classes(classes: Any) -> None:
    if classes is not None:
        raise ValueError("classes is for task='classification'; leave it out")


def _check_one_network(module: Any, estimator: Any) -> None:
    if _is_list(module):
        return
    if isinstance(module, nn.Module) and (n := len(estimator.histories_)) > 1:
        raise ValueError(
            f"{estimator.posterior_} needs {n} trained networks, but module is one: all draws "
            "would be equal. Give a list of trained networks, from_trained([one, other, ...], ...)"
        )


def _warn_if_it_knows_nothing(estimator: Any, X: Any, y: Any, target_scale: Any) -> None:
    """Warn if predictions are bad: outputs with another meaning would raise no error."""
    classifies = hasattr(estimator, "classes_")
    if y is None or (classifies and len(shape_of(y)) > 1):
        return
    if classifies and (missing := split_missing(y)[1]) is not None:  # uncertain labels
        known = np.flatnonzero(~missing)
        X, y = _safe_indexing(X, known), _safe_indexing(y, known)
    if (n_rows := _num_samples(X)) < _FEWEST:
        return
    some = slice(None, None, -(-n_rows // _SCORED))
    part, target = _safe_indexing(X, some), dense(_safe_indexing(y, some))
    score = estimator.score(part, target)
    if not classifies:
        if score < 0:
            warn(
                f"the network predicts these rows worse than the mean of y (R² = {score:.2g}). "
                f"{_question_about(target_scale)} Were rows scaled for its training? Then scale X, "
                "too.",
                UserWarning,
            )
        return
    chance = 1 / len(estimator.classes_)
    if score < chance - 2 * (chance * (1 - chance) / _num_samples(part)) ** 0.5:
        warn(
            f"the network predicts these rows worse than chance (accuracy {score:.2g}, of "
            f"{len(estimator.classes_)} labels). Are outputs in the order of the sorted labels, "
            f"{estimator.classes_[:10]}? Were rows scaled for its training? Then scale X, too.",
            UserWarning,
        )


def _question_about(target_scale: Any) -> str:
    if target_scale is None:
        return (
            "Was it trained on standardised targets? Then give target_scale=(mean, standard "
            "deviation) of those."
        )
    return (
        f"target_scale={plain_numbers(target_scale)} was given: is the second number the standard "
        "deviation, and is y in its own units?"
    )
