"""The contract of the likelihoods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, distributions

from skuq._utils._sklearn_compat import validate_parameter_constraints

__all__ = ["Likelihood", "refuse_extremes"]

# Squares of such numbers, and sums of many squares, fit into a float64.
_LEAST, _MOST = 1e-150, 1e150


def refuse_extremes(values: np.ndarray, what: str, least: float = _LEAST) -> np.ndarray:
    """Refuse values of the targets whose squares, as in variances, are no float64.

    Parameters
    ----------
    values : ndarray of shape (n_targets,)
        A number for each target, in its units.
    what : str
        The name of the numbers, for the message.
    least : float, default=1e-150
        The smallest value to accept.

    Returns
    -------
    ndarray of shape (n_targets,)
        The same values.

    Raises
    ------
    ValueError
        If a value is not between `least` and 1e150.
    """
    for value in values:
        if not least <= value <= _MOST:
            size = "large" if value > _MOST else "small"
            raise ValueError(
                f"y is too {size}: its {what} is {value:.3g}, whose square, as in a variance, is "
                f"no float64. Expected {least:g} to {_MOST:g}: rescale y, that is give "
                f"y / {value:.0e} and multiply predictions by it."
            )
    return values


class Likelihood(BaseEstimator):
    """Base class and contract of the likelihoods.

    An estimator fits a clone of its likelihood (`likelihood_`), so searches can vary the parameters
    of a likelihood, and fitting never changes them.

    A subclass gives `task` ("classification" or "regression"), `fit`, `loss`, `predictive` and
    `explain_outputs`. Everything else has a default:

    * `takes_indicators`, `takes_missing`, `takes_probabilities`: which targets it accepts;
      `update_tags` declares them to scikit-learn;
    * `links`: the function that it applies to each output; networks that end in the same function
      are refused;
    * `encode`: the units in which the network is trained;
    * `negative_log_likelihood`, if the loss is something else;
    * `finish`: learns from the fitted posterior;
    * `retrains`, `relabel`: make new targets from a first fit.

    The loss and the distribution of a row depend only on that row: a batch may hold rows of several
    networks and data sets. A likelihood that needs noise draws it in `fit`, from the given seed. So
    predictions are functions of X, and the loss belongs to the predicted distribution.
    """

    task: ClassVar[str]
    takes_indicators: ClassVar[bool] = False  # y of shape (n_samples, n_labels), 0 or 1
    takes_prior_correction: ClassVar[bool] = False  # weights of classes tilt its probabilities
    _parameter_constraints: ClassVar[dict[str, Any]] = {}

    n_outputs_: int
    n_classes_: int  # only of a classification
    _log_weights: np.ndarray | None = None  # of the classes, where the prior is corrected

    @property
    def takes_missing(self) -> bool:
        """Whether y may hold NaN."""
        return False

    @property
    def takes_probabilities(self) -> bool:
        """Whether y holds probabilities of the classes, (n_samples, n_classes), not labels."""
        return False

    def update_tags(self, tags: Any) -> None:
        """Change, in place, the tags by which an estimator declares y to scikit-learn.

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
    ) -> Self:
        """Learn from the targets, before any network is trained.

        Sets ``n_outputs_``; for a classification also ``n_classes_``.

        Parameters
        ----------
        y : ndarray of shape (n_samples,) of class indices, (n_samples, n_labels) of indicators, \
                (n_samples, n_classes) of probabilities, or (n_samples, n_targets) of floats
            The training targets.
        sample_weight : ndarray of shape (n_samples,), default=None
            Weights of the rows; None weights all rows equally.
        n_classes : int, default=None
            Number of classes of a classification (2 with several labels at once). y need not hold
            all of them. None counts the classes in y.
        seed : int, default=0
            Seed of noise, if the likelihood has any. An estimator derives it from its
            `random_state`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement fit")

    def correct_prior(self, weights: np.ndarray | None) -> None:
        """Undo what weights of the classes do to the predicted probabilities.

        Training with weights w_k learns probabilities in proportion to w_k p(k | x). Predictions
        then divide by w_k: the logits lose log w_k.

        Parameters
        ----------
        weights : ndarray of shape (n_classes,), or None
            The weight of each class in training; None undoes nothing.

        Raises
        ------
        TypeError
            If the likelihood has no such correction.
        ValueError
            If a weight is zero: nothing was learnt of that class.
        """
        if weights is None:
            self._log_weights = None
            return
        if not self.takes_prior_correction:
            raise TypeError(
                f"{self} has no prior correction: use Categorical(), or prior_correction=False"
            )
        if not (weights > 0).all():
            raise ValueError(
                "prior_correction needs class weights above zero, got a class of weight 0: leave "
                "out its rows, or use prior_correction=False"
            )
        self._log_weights = np.log(weights)

    def weights_of_classes(self, by_class: np.ndarray | None) -> np.ndarray | None:
        """Return the weights of classes in training, for `correct_prior`.

        Parameters
        ----------
        by_class : ndarray of shape (n_classes,), or None
            Those of the estimator. A likelihood may add its own.

        Returns
        -------
        ndarray of shape (n_classes,) or (n_labels, 2), or None
            The weights; None if there are none.
        """
        return by_class

    def _corrected(self, logits: Tensor) -> Tensor:
        """Correct the logits of classes, on the last axis, to the prior of the rows."""
        if self._log_weights is None:
            return logits
        return logits - logits.new_tensor(self._log_weights)

    def explain_outputs(self) -> str:
        """Explain why ``n_outputs_`` outputs are needed, for the message about a wrong number."""
        raise NotImplementedError(f"{type(self).__name__} does not implement explain_outputs")

    def links(self) -> list[str]:
        """Name the function that the likelihood applies to each output.

        Returns
        -------
        list of n_outputs_ str
            "softmax" or "sigmoid" for logits; "exp" for a logarithm; "location" for outputs in the
            units of standardised targets; "free" for outputs that may end in any function.
        """
        return ["softmax" if self.task == "classification" else "free"] * self.n_outputs_

    def output_units(self) -> np.ndarray:
        """Give the size of a usual difference of each output, for priors of weights.

        Returns
        -------
        ndarray of shape (n_outputs_,)
            1 where outputs have no unit; else the standard deviation of encoded targets, which is 1
            where these are standardised.
        """
        return np.ones(self.n_outputs_)

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
        """Whether `finish` learns a noise, which is too small on rows that trained the network."""
        return False

    def retrains(self, target: np.ndarray) -> bool:
        """Return whether to train the network once more, on targets that `relabel` makes.

        Parameters
        ----------
        target : ndarray of shape (n_samples, ...)
            Encoded targets.
        """
        return False

    def relabel(
        self, evaluate: Callable[[Callable[[Tensor], Any]], Any], target: np.ndarray
    ) -> np.ndarray:
        """Make encoded targets for the second training.

        Called if `retrains` returns True, with the posterior of a first training. If training goes
        on from an earlier fit, it gets the posterior of that fit.

        Parameters
        ----------
        evaluate : callable
            As in `finish`.
        target : ndarray of shape (n_samples, ...)
            Encoded targets.
        """
        return target

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the loss that training minimises, for each row.

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
        """Compute the true negative log-likelihood of each row in nats, for early stopping.

        Parameters
        ----------
        output : Tensor of shape (n_rows, n_outputs_)
            Raw network outputs.
        target : Tensor of shape (n_rows, ...)
            Encoded targets.
        """
        return self.loss(output, target)

    def predictive(self, output: Tensor) -> distributions.Distribution:
        """Make the distribution of y, in the units of y, differentiable in the outputs.

        Parameters
        ----------
        output : Tensor of shape (..., n_outputs_)
            Raw network outputs.

        Returns
        -------
        Distribution
            For a classification a `Categorical` (or a subclass) of batch shape (...), or of batch
            shape (..., n_labels) over {0, 1}. For a regression a distribution with `mean`, finite
            `variance`, `stddev`, `log_prob`, `cdf` and `icdf`, of batch shape (..., n_targets).
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement predictive")

    def fisher(self, output: Tensor) -> Tensor:
        """Compute the Fisher information of the outputs, E[g gᵀ] over y given the outputs.

        g is the gradient of the true negative log-likelihood, whose probabilities take the
        expectation, too: `correct_prior` does not change them. This default serves every
        classification with one label per row; a regression gives its own closed form. Noise that
        is learnt after the posterior has its present value here.

        Parameters
        ----------
        output : Tensor of shape (n_rows, n_outputs_)
            Raw network outputs.

        Returns
        -------
        Tensor of shape (n_rows, n_outputs_, n_outputs_)
            The information of each row, symmetric and positive semi-definite.

        Raises
        ------
        TypeError
            If there is no closed form; the message says why.
        """
        if self.task != "classification":
            raise TypeError(f"{self} has no Fisher information in closed form")
        given, labels = output.detach().requires_grad_(), range(self.n_classes_)
        losses, gradients = [], []
        for label in labels:
            target = torch.full((len(output),), label, device=output.device)
            with torch.enable_grad():
                loss = self.negative_log_likelihood(given, target)
                gradients.append(torch.autograd.grad(loss.sum(), given)[0])
            losses.append(loss.detach())
        information = output.new_zeros((*output.shape, output.shape[-1]))
        for proba, g in zip((-torch.stack(losses)).softmax(0), gradients):
            information += proba[:, None, None] * g[:, :, None] * g[:, None, :]
        return information

    def information(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the Fisher information that rows with these targets bring.

        Missing targets bring none.

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

    def learn_scale(
        self,
        evaluate: Callable[..., Any],
        target: np.ndarray,
        sample_weight: np.ndarray | None,
    ) -> None:
        """Correct the noise on rows that early stopping watched; by default, nothing happens.

        Called after `finish` where each draw is a trained network.

        Parameters
        ----------
        evaluate : callable
            As in `finish`, but with one draw: in each row, a network that was not trained on it.
        target : ndarray of shape (n_samples, ...)
            Encoded targets of these rows. A row may come several times, for several networks.
        sample_weight : ndarray of shape (n_samples,), or None
            Weights of these rows.
        """

    def finish(
        self,
        evaluate: Callable[..., Any],
        target: np.ndarray,
        sample_weight: np.ndarray | None,
        given_noise: bool = False,
    ) -> None:
        """Learn from the fitted posterior.

        Parameters
        ----------
        evaluate : callable
            ``evaluate(reduction, *aligned)`` applies `reduction` to the outputs of all draws, of
            shape (n_draws, n_rows, n_outputs_), block by block of rows, and to the same rows of the
            arrays in `aligned`, as tensors. It returns arrays of n_samples rows. The rows are the
            training rows, or rows that training has not seen if `wants_unseen_rows` is True. Each
            call may train networks, so call it only once.
        target : ndarray of shape (n_samples, ...)
            Encoded targets of these rows.
        sample_weight : ndarray of shape (n_samples,), or None
            Weights of these rows.
        given_noise : bool, default=False
            Whether the draws are samples of the posterior given the noise.
        """
