"""Two classes, or several labels that can be true at once."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from skuq._distributions._softmax import Softmax
from skuq._utils._sklearn_compat import Interval, StrOptions
from skuq.likelihoods._base import Likelihood

__all__ = ["Bernoulli"]


class Bernoulli(Likelihood):
    """Two classes, or several labels of which each is true or not: one logit z per label.

    P(y = 1) = sigmoid(z), and the loss is −log P(y) = softplus(z) − y z, summed over the labels,
    which are independent given x. With labels (n_samples,) of two classes it is a logistic
    regression with one output. With indicators (n_samples, n_labels), `predict`, `predict_proba`
    and `predict_uncertainty` have a column for each label, (n_samples, n_labels).

    With `uncertain_label`, NaN in a numeric y marks a label as uncertain [1]_.

    Parameters
    ----------
    uncertain_label : {"ignore", "zeros", "ones", "self"}, default=None
        How to treat NaN in y. "ignore" leaves it out of the loss; "zeros" and "ones" replace it.
        "self" trains twice: the first fit ignores NaN, the second replaces it by the predicted
        probabilities. Training that goes on uses the probabilities of the fitted model instead; the
        first `partial_fit` ignores NaN. None refuses NaN.
    label_smoothing : float in [0, 1), default=0.0
        The smoothing ε of targets in training, y (1 − ε) + ε/2.
    pos_weight : "balanced", float, sequence of float of shape (n_labels,), or None, default=None
        The weight w of rows where a label is true, in the loss, which is then w y softplus(−z) +
        (1 − y) softplus(z). "balanced" is the number of rows where it is not true over that where
        it is. It tilts the probabilities; ``prior_correction=True`` of `TorchClassifier` undoes
        that. Early stopping watches the same weighted loss.

    References
    ----------
    .. [1] J. Irvin et al., "CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and
       Expert Comparison", AAAI 2019, arXiv:1901.07031.

    Examples
    --------
    >>> from sklearn.datasets import make_multilabel_classification
    >>> from skuq import TorchClassifier
    >>> from skuq.likelihoods import Bernoulli
    >>> X, y = make_multilabel_classification(n_classes=4, random_state=0)
    >>> classifier = TorchClassifier(likelihood=Bernoulli(), max_epochs=2, random_state=0)
    >>> classifier.fit(X, y).predict_uncertainty(X, kind="epistemic").shape
    (100, 4)
    """

    task = "classification"
    takes_prior_correction = True
    takes_indicators = True
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "uncertain_label": [StrOptions({"ignore", "zeros", "ones", "self"}), None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "pos_weight": [
            StrOptions({"balanced"}), Interval(Real, 0, None, closed="neither"), "array-like", None
        ],
    }  # fmt: skip
    pos_weight: Any = None  # those fitted before there was one lack it
    _weights: np.ndarray | None = None  # of true labels

    def __init__(
        self,
        uncertain_label: str | None = None,
        label_smoothing: float = 0.0,
        pos_weight: Any = None,
    ) -> None:
        self.uncertain_label = uncertain_label
        self.label_smoothing = label_smoothing
        self.pos_weight = pos_weight

    @property
    def takes_missing(self) -> bool:
        """Whether y may hold NaN, for uncertain labels."""
        return self.uncertain_label is not None

    def update_tags(self, tags: Any) -> None:
        tags.classifier_tags.multi_class = False
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = True

    def fit(
        self,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        n_classes: int | None = None,
        seed: int = 0,
    ) -> Self:
        if n_classes is not None and n_classes > 2:
            raise ValueError(
                "Only binary classification is supported. The type of the target is multiclass, "
                f"of {n_classes} classes: use Categorical(), or indicators of shape (n_samples, "
                "n_labels) if several labels can be true at once"
            )
        self.n_classes_ = 2
        self._several = y.ndim == 2
        self.n_outputs_ = y.shape[1] if self._several else 1
        self._weights = self._weights_of(y.reshape(len(y), -1), sample_weight)
        return self

    def _weights_of(self, y: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray | None:
        """Return the weight of each label where it is true."""
        if self.pos_weight is None:
            return None
        if isinstance(self.pos_weight, str):
            each = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight)
            each = each.reshape(len(y), -1)
            true, known = np.nan_to_num(y) * each, ~np.isnan(y) * each
            n_true, n_false = true.sum(axis=0), (known - true).sum(axis=0)
            both = (n_true > 0) & (n_false > 0)
            balanced: np.ndarray = np.divide(n_false, n_true, out=np.ones(y.shape[1]), where=both)
            return balanced
        given = np.asarray(self.pos_weight)
        if (
            given.dtype.kind not in "fiu"
            or given.shape not in ((), (self.n_outputs_,))
            or not (np.isfinite(given) & (given > 0)).all()
        ):
            raise ValueError(
                f"pos_weight must be one positive number, or one for each of {self.n_outputs_} "
                f"label(s) in the order of the columns of y, got {self.pos_weight!r}"
            )
        return np.broadcast_to(given.astype(float), (self.n_outputs_,)).copy()

    def weights_of_classes(self, by_class: np.ndarray | None) -> np.ndarray | None:
        if self._weights is None:
            return by_class
        own = np.stack([np.ones_like(self._weights), self._weights], axis=-1)
        own = own if by_class is None else own * by_class
        return own if self._several else own[0]

    def explain_outputs(self) -> str:
        if self._several:
            return f"one logit for each of {self.n_outputs_} labels"
        return "one logit, of the second class; Categorical needs one for each class"

    def links(self) -> list[str]:
        return ["sigmoid"] * self.n_outputs_

    def encode(self, y: np.ndarray) -> np.ndarray:
        target = y.astype(float)
        if self.uncertain_label in ("zeros", "ones"):
            target[np.isnan(target)] = float(self.uncertain_label == "ones")
        return target

    def retrains(self, target: np.ndarray) -> bool:
        return self.uncertain_label == "self" and bool(np.isnan(target).any())

    def relabel(
        self, evaluate: Callable[[Callable[[Tensor], Any]], Any], target: np.ndarray
    ) -> np.ndarray:
        proba = evaluate(lambda output: output.sigmoid().mean(0))
        return np.where(np.isnan(target), proba.reshape(target.shape), target)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return self._cross_entropy(output, target, self.label_smoothing)

    def negative_log_likelihood(self, output: Tensor, target: Tensor) -> Tensor:
        return self._cross_entropy(output, target, 0.0)

    def _cross_entropy(self, output: Tensor, target: Tensor, smoothing: float) -> Tensor:
        target = target.reshape(output.shape).to(output.dtype)
        known = ~target.isnan()
        soft = torch.where(known, target, 0.0) * (1 - smoothing) + smoothing / 2
        if self._weights is None:
            return torch.where(known, softplus(output) - soft * output, 0.0).sum(-1)
        of_true = output.new_tensor(self._weights) * soft * softplus(-output)
        return torch.where(known, of_true + (1 - soft) * softplus(output), 0.0).sum(-1)

    def fisher(self, output: Tensor) -> Tensor:
        return torch.diag_embed(output.sigmoid() * (-output).sigmoid())

    def information(self, output: Tensor, target: Tensor) -> Tensor:
        known = ~target.reshape(output.shape).isnan()
        return self.fisher(output) * known[:, :, None]

    def predictive(self, output: Tensor) -> Softmax:
        z = output if self._several else output.squeeze(-1)
        return Softmax(self._corrected(torch.stack([torch.zeros_like(z), z], dim=-1)))
