"""Checks of an estimator's parameters, before anything is fitted."""

from __future__ import annotations

import copy
from typing import Any

from sklearn.base import clone
from torch import nn
from torch.utils.data import DataLoader

from skuq._data._batches import SlicedBatches
from skuq._estimator._built import check_unchanged, default_module, posterior_of
from skuq._utils._parameters import NotSaved, check_accepted
from skuq._utils._sklearn_compat import validate_parameter_constraints
from skuq.likelihoods import Likelihood
from skuq.posteriors import Posterior

__all__ = ["checked_parameters", "checked_views", "why_no_partial_fit"]


def checked_parameters(estimator: Any, incremental: bool) -> tuple[Posterior, Likelihood]:
    """Check the parameters, and return copies of the posterior and the likelihood to fit."""
    for name, value in estimator.get_params(deep=False).items():
        if isinstance(value, NotSaved):
            raise ValueError(
                f"{name} was not saved with this estimator; it was {value.text}. Set it with "
                f"set_params({name}=...) before fitting."
            )
    if estimator.early_stopping and estimator.early_stopping != "auto":
        _check_early_stopping(estimator, incremental)
    if isinstance(estimator.module, nn.Module):
        name = type(estimator.module).__name__
        raise TypeError(
            f"module must be a class or a factory, got an instance of {name}: pass "
            f"module={name} and its arguments as module__*, or a function that returns a "
            "copy of the instance each time. If it is trained, skuq.from_trained takes it as it is"
        )
    given = estimator._with_prefix("module")
    check_accepted("module", given, estimator.module or default_module(estimator))
    if hasattr(estimator, "_engine"):  # training goes on
        check_unchanged(estimator)
    optimizer = estimator._with_prefix("optimizer")
    check_accepted(
        "optimizer", optimizer, estimator.optimizer, but=("params", "lr"), also="param_groups"
    )
    for prefix in ("iterator_train", "iterator_valid"):
        check_accepted(prefix, estimator._with_prefix(prefix), DataLoader, but=("dataset",))
    _check_instance("posterior", estimator.posterior, Posterior, estimator._default_posterior())
    _check_instance("likelihood", estimator.likelihood, Likelihood, estimator._default_likelihood())
    if estimator.checkpoint_dir is not None and not incremental:
        _check_checkpointable(estimator)
    validate_parameter_constraints(
        estimator._parameter_constraints, estimator.get_params(deep=False), type(estimator).__name__
    )
    posterior = clone(posterior_of(estimator))
    posterior.validate()
    return posterior, _checked_likelihood(estimator, incremental)


def checked_views(given: Any, iterator_options: dict[str, Any]) -> list[Any]:
    """Return copies of the views that change images in training."""
    if given is None:
        return []
    views = list(given) if isinstance(given, list | tuple) else [given]
    for view in views:
        if isinstance(view, type) or not (callable(view) and hasattr(view, "of_mask")):
            raise TypeError(
                "training_views must be views that can change masks, too, with a method "
                f"of_mask(masks, generator), such as skuq.augmentation.Flip(); got {view!r}"
            )
        if hasattr(view, "validate"):
            view.validate()
    if views and not set(iterator_options) <= SlicedBatches.OPTIONS:
        raise ValueError(
            f"training_views cannot be used with iterator_train__{min(iterator_options)}: leave it "
            "out, or let a Dataset of pairs (image, mask) change both"
        )
    return copy.deepcopy(views)


def why_no_partial_fit(estimator: Any) -> str | None:
    """Return the reason why an estimator has no `partial_fit`, if there is one."""
    posterior = estimator.posterior
    if not isinstance(posterior, Posterior) or posterior.goes_on:
        return None
    return (
        f"partial_fit does not support posterior={posterior}: call fit with all rows, or choose "
        "another posterior"
    )


def _check_instance(name: str, value: Any, kind: type, example: Any) -> None:
    if isinstance(value, type):
        raise TypeError(
            f"{name} must be an instance, got the class: write {name}={value.__name__}()"
        )
    if value is not None and not isinstance(value, kind):
        room = "posteriors" if name == "posterior" else "likelihoods"
        raise TypeError(
            f"{name} must be an instance of skuq.{room}.{kind.__name__}, such as {example}, or "
            f"None; got {value!r}"
        )


def _check_early_stopping(estimator: Any, incremental: bool) -> None:
    if incremental:
        raise ValueError("partial_fit does not support early_stopping=True")
    if estimator.callbacks == "disable":
        raise ValueError("early_stopping=True needs callbacks, got callbacks='disable'")
    if estimator.max_epochs == 0:
        raise ValueError("early_stopping=True needs epochs to stop, got max_epochs=0")


def _checked_likelihood(estimator: Any, incremental: bool) -> Likelihood:
    default = estimator._default_likelihood()
    likelihood: Likelihood = (
        default if estimator.likelihood is None else clone(estimator.likelihood)
    )
    likelihood.validate()
    if incremental and getattr(estimator, "prior_correction", False):
        _check_weights_are_known(estimator)
    if likelihood.task != estimator._task:
        raise ValueError(
            f"{type(estimator).__name__} needs a likelihood for {estimator._task}, got "
            f"{type(likelihood).__name__}, which is for {likelihood.task}"
        )
    return likelihood


def _check_weights_are_known(estimator: Any) -> None:
    if estimator.class_weight == "balanced":
        raise ValueError(
            "partial_fit does not support prior_correction=True with class_weight='balanced', "
            "whose weights differ from call to call: give class_weight as a dictionary"
        )


def _check_checkpointable(estimator: Any) -> None:
    """Refuse samplers, generators and callbacks whose state no checkpoint holds."""
    for prefix in ("iterator_train", "iterator_valid"):
        for name in ("sampler", "batch_sampler", "generator"):
            if estimator._with_prefix(prefix).get(name) is not None:
                raise ValueError(
                    f"checkpoint_dir cannot be used with {prefix}__{name}, whose position in its "
                    "sequence cannot be stored. Leave it out, or set checkpoint_dir=None"
                )
    for callback in getattr(estimator, "_skl_callbacks", None) or []:
        if type(callback).__name__ != "ProgressBar":
            raise ValueError(
                f"checkpoint_dir cannot be used with the scikit-learn callback {callback!r}, whose "
                "state cannot be stored. Remove it with set_callbacks, or set checkpoint_dir=None"
            )
