"""The contract of the likelihoods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, distributions

from skuq._utils._sklearn_compat import validate_parameter_constraints

__all__ = ["MOST_LOG", "Likelihood", "refuse_extremes", "unclamped"]

# Log-variances and log-scales are clamped to ± this before they are exponentiated.
MOST_LOG = 30.0


def unclamped(logarithm: Tensor) -> Tensor:
    """Where a clamped logarithm still has a gradient."""
    return logarithm.abs() < MOST_LOG


# What has a square, and sums of squares of many rows, that a float64 holds.
_LEAST, _MOST = 1e-150, 1e150


def refuse_extremes(values: np.ndarray, what: str, least: float = _LEAST) -> np.ndarray:
    """The values of each target, if their squares are numbers: variances are in y's unit squared.

    Parameters
    ----------
    values : ndarray of shape (n_targets,)
    what : str
        What they are, for the message.
    least : float, default=1e-150

    Raises
    ------
    ValueError
        If one is not between `least` and 1e150.
    """
    for value in values:
        if not least <= value <= _MOST:
            size = "large" if value > _MOST else "small"
            raise ValueError(
                f"y is too {size}: its {what} is {value:.3g}, and the square of that, as in a "
                f"variance, is no float64. Expected {least:g} to {_MOST:g}: rescale y, that is "
                f"give y / {value:.0e} and multiply predictions by it."
            )
    return values


class Likelihood(BaseEstimator):
    """Base class and contract of the likelihoods.

    An estimator clones the likelihood it was given and fits the clone (`likelihood_`), so the
    parameters of a likelihood can be searched and are never changed.

    A subclass gives `task` ("classification" or "regression"), `fit`, `loss`, `predictive` and
    `explain_outputs`. The rest has defaults that may do:

    * `takes_indicators`, `takes_missing`: which targets it understands, `update_tags` what
      scikit-learn is told about them;
    * `links`: what it does with each output, so that networks that did it already are refused;
    * `encode`: in which units the network is trained;
    * `negative_log_likelihood`, where the loss is something else;
    * `finish`: what is learnt after the posterior;
    * `retrains`, `relabel`: where targets come from a first fit.

    Losses and distributions are functions of a row alone: rows of several networks and data sets
    may lie in one batch. A likelihood that needs noise draws it in `fit`, from the seed that it
    is given, so predictions stay functions of X, and the loss is the negative log-likelihood of
    what is predicted.
    """

    task: ClassVar[str]
    takes_indicators: ClassVar[bool] = False  # y of shape (n_samples, n_labels), 0 or 1
    _parameter_constraints: ClassVar[dict] = {}

    n_outputs_: int
    n_classes_: int  # of a classification

    @property
    def takes_missing(self) -> bool:
        """Whether y may hold NaN."""
        return False

    def update_tags(self, tags: Any) -> None:
        """Change, in place, what an estimator with this likelihood tells scikit-learn of y.

        Parameters
        ----------
        tags : sklearn.utils.Tags
            The tags of the estimator.
        """

    def validate(self) -> None:
        """Check the parameters; raises ``InvalidParameterError`` (a `ValueError`)."""
        validate_parameter_constraints(
            self._parameter_constraints, self.get_params(deep=False), type(self).__name__
        )

    def fit(
        self,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        n_classes: int | None = None,
        seed: int = 0,
    ) -> Likelihood:
        """Learn from the targets what does not need a network.

        Sets ``n_outputs_``, and of a classification ``n_classes_``.

        Parameters
        ----------
        y : ndarray of shape (n_samples,) of class indices, (n_samples, n_labels) of indicators, \
                or (n_samples, n_targets) of floats
            The training targets.
        sample_weight : ndarray of shape (n_samples,), default=None
            Weights of the rows; None weights all rows equally.
        n_classes : int, default=None
            Of a classification (2 for each of several labels); y need not hold them all.
        seed : int, default=0
            For noise, if there is any; an estimator derives it from its `random_state`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement fit")

    def explain_outputs(self) -> str:
        """Why ``n_outputs_`` outputs are needed, for the message that a wrong number gets."""
        raise NotImplementedError(f"{type(self).__name__} does not implement explain_outputs")

    def links(self) -> list[str]:
        """What the likelihood does with each output.

        Returns
        -------
        list of n_outputs_ str
            "softmax" or "sigmoid" of logits; "exp" of a logarithm; "location" for what lies on
            the axis of standardised targets; "free" where any outputs may be on purpose.
        """
        return ["softmax" if self.task == "classification" else "free"] * self.n_outputs_

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Convert targets to the units in which the network is trained.

        Parameters
        ----------
        y : ndarray of shape (n_samples, ...)
            Targets in their own units.
        """
        return y

    def decode(self, y: np.ndarray) -> np.ndarray:
        """Convert encoded targets back to the units of y, for callbacks: the inverse of `encode`.

        Parameters
        ----------
        y : ndarray of shape (n_samples, ...)
            Encoded targets.
        """
        return y

    @property
    def wants_unseen_rows(self) -> bool:
        """Whether `finish` learns a noise, which rows that trained the network would flatter."""
        return False

    def retrains(self, target: np.ndarray) -> bool:
        """Whether the network is to be trained once more, on targets that `relabel` makes.

        Parameters
        ----------
        target : ndarray of shape (n_samples, ...)
            Encoded targets.
        """
        return False

    def relabel(
        self, evaluate: Callable[[Callable[[Tensor], Any]], Any], target: np.ndarray
    ) -> np.ndarray:
        """Encoded targets for the second training.

        Called where `retrains` says so: with the posterior of a first training, or, where
        training goes on, with that before. ``evaluate`` is that of `finish`.

        Parameters
        ----------
        evaluate : callable
            As in `finish`.
        target : ndarray of shape (n_samples, ...)
            Encoded targets.
        """
        return target

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """What training minimises, per row.

        Parameters
        ----------
        output : Tensor of shape (n_rows, n_outputs_)
            Raw network outputs.
        target : Tensor of shape (n_rows, ...)
            Encoded targets.

        Returns
        -------
        Tensor of shape (n_rows,)
            The loss of each row.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement loss")

    def negative_log_likelihood(self, output: Tensor, target: Tensor) -> Tensor:
        """The true negative log-likelihood per row, which early stopping monitors (nats).

        Parameters
        ----------
        output : Tensor of shape (n_rows, n_outputs_)
            Raw network outputs.
        target : Tensor of shape (n_rows, ...)
            Encoded targets.
        """
        return self.loss(output, target)

    def predictive(self, output: Tensor) -> distributions.Distribution:
        """The distribution of y, in the units of y, differentiable in the outputs.

        Parameters
        ----------
        output : Tensor of shape (..., n_outputs_)
            Raw network outputs.

        Returns
        -------
        Distribution
            Of a classification a `Categorical` (or a subclass) of batch shape (...), or of batch
            shape (..., n_labels) over {0, 1}. Of a regression one with `mean`, `variance`
            (finite), `stddev`, `log_prob`, `cdf` and `icdf`, of batch shape (..., n_targets).
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement predictive")

    def fisher(self, output: Tensor) -> Tensor:
        """The Fisher information of the outputs: E[g gᵀ] over y, given the outputs.

        g is the gradient of the true negative log-likelihood. This default serves every
        classification with one label a row; a regression gives its closed form. Noise that is
        learnt after the posterior counts as it is known so far.

        Parameters
        ----------
        output : Tensor of shape (n_rows, n_outputs_)
            Raw network outputs.

        Returns
        -------
        Tensor of shape (n_rows, n_outputs_, n_outputs_)
            Symmetric and positive semi-definite.

        Raises
        ------
        TypeError
            If there is no closed form; the message says why.
        """
        if self.task != "classification":
            raise TypeError(f"{self} has no Fisher information in closed form")
        given, labels = output.detach().requires_grad_(), range(self.n_classes_)
        proba = self.predictive(output.detach()).probs  # type: ignore[attr-defined]
        information = output.new_zeros((*output.shape, output.shape[-1]))
        for label in labels:
            target = torch.full((len(output),), label, device=output.device)
            with torch.enable_grad():
                loss = self.negative_log_likelihood(given, target).sum()
            (g,) = torch.autograd.grad(loss, given)
            information += proba[:, label, None, None] * g[:, :, None] * g[:, None, :]
        return information

    def information(self, output: Tensor, target: Tensor) -> Tensor:
        """The Fisher information that rows with these targets bring: none of what is missing.

        Parameters
        ----------
        output : Tensor of shape (n_rows, n_outputs_)
            Raw network outputs.
        target : Tensor of shape (n_rows, ...)
            Encoded targets. Only where they are NaN do they count: see `takes_missing`.

        Returns
        -------
        Tensor of shape (n_rows, n_outputs_, n_outputs_)
            By default that of `fisher`.
        """
        return self.fisher(output)

    def finish(
        self,
        evaluate: Callable[..., Any],
        target: np.ndarray,
        sample_weight: np.ndarray | None,
        given_noise: bool = False,
    ) -> None:
        """Learn what needs a fitted posterior.

        Parameters
        ----------
        evaluate : callable
            ``evaluate(reduction, *aligned)`` applies `reduction` to the outputs of all draws, of
            shape (n_draws, n_rows, n_outputs_), on some rows (and to the same rows of the arrays
            in `aligned`, as tensors), and returns arrays of n_samples rows. They are the training
            rows, or, where `wants_unseen_rows` says so, others; a call may then train networks,
            so one call is all there should be.
        target : ndarray of shape (n_samples, ...)
            Encoded targets of these rows.
        sample_weight : ndarray of shape (n_samples,), or None
            Their weights.
        given_noise : bool, default=False
            Whether the draws are samples of the posterior given the noise.
        """
