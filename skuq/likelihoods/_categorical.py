"""One of several classes, by a softmax."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from skuq._distributions._softmax import Softmax
from skuq._utils._sklearn_compat import Interval, StrOptions
from skuq.likelihoods._base import Likelihood

__all__ = ["Categorical", "count_classes", "others_to_uniform"]


def count_classes(y: np.ndarray, n_classes: int | None) -> int:
    """Return the given number of classes, or else the number of indices in y."""
    return int(np.max(y)) + 1 if n_classes is None else n_classes


def others_to_uniform(label_smoothing: float, n_classes: int) -> float:
    """Convert ε of the convention "others" to ε of "uniform": ε · K / (K − 1)."""
    most = (n_classes - 1) / n_classes
    if label_smoothing > most:
        raise ValueError(
            f"label_smoothing={label_smoothing} gives the label less than each of the other "
            f"classes; with ε / (K − 1) on the others of {n_classes} classes it must be at most "
            f"{most:.4g}"
        )
    return min(1.0, label_smoothing / most)


class Categorical(Likelihood):
    """Classes: the outputs are the logits of a softmax.

    The loss is the cross-entropy from the logits, −log softmax(z)_y. With label smoothing ε the
    target of K classes is

    * "uniform": 1 − ε + ε/K on the label and ε/K on every other class [1]_;
    * "others": 1 − ε on the label and ε/(K − 1) on every other class.

    Both are one family: ε_uniform = ε_others · K/(K − 1). The best logits are finite: the logit of
    the label is log(target of the label / target of another class) above the others.

    With ``soft_labels=True`` y holds probabilities q of the classes, (n_samples, n_classes), such
    as the shares of several annotators' votes [2]_. The loss is their cross-entropy,
    −Σ_k q_k log softmax(z)_k, and smoothing makes (1 − ε) q_k + ε/K of q_k.

    Parameters
    ----------
    label_smoothing : float in [0, 1), default=0.0
        The smoothing ε of targets. It changes only the training loss: early stopping monitors the
        true negative log-likelihood. With "others" at most 1 − 1/K.
    convention : {"uniform", "others"}, default="uniform"
        The meaning of ε; torch uses "uniform".
    soft_labels : bool, default=False
        Whether y holds probabilities instead of labels: no entry below 0, and every row sums to 1.
        ``classes_`` are the names of its columns if it is a DataFrame, else 0, 1, … Predictions are
        labels and probabilities as usual. Early stopping does not stratify its rows, `class_weight`
        is refused, and scorers and calibrators need labels. `docs/losses.md` has more.

    References
    ----------
    .. [1] C. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision",
       CVPR 2016, arXiv:1512.00567.
    .. [2] J. C. Peterson, R. M. Battleday, T. L. Griffiths and O. Russakovsky, "Human Uncertainty
       Makes Classification More Robust", ICCV 2019, arXiv:1908.07086.

    Examples
    --------
    >>> import torch
    >>> from skuq.likelihoods import Categorical
    >>> likelihood = Categorical().fit(torch.tensor([0, 1]).numpy(), n_classes=3)
    >>> likelihood.predictive(torch.zeros(1, 3)).probs
    tensor([[0.3333, 0.3333, 0.3333]])
    """

    task = "classification"
    takes_prior_correction = True
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "convention": [StrOptions({"uniform", "others"})],
        "soft_labels": ["boolean"],
    }

    def __init__(
        self,
        label_smoothing: float = 0.0,
        convention: str = "uniform",
        soft_labels: bool = False,
    ) -> None:
        self.label_smoothing = label_smoothing
        self.convention = convention
        self.soft_labels = soft_labels

    @property
    def takes_probabilities(self) -> bool:
        """Whether y holds probabilities of the classes, for `soft_labels`."""
        return self.soft_labels

    def update_tags(self, tags: Any) -> None:
        if self.soft_labels:
            tags.target_tags.one_d_labels = False
            tags.target_tags.two_d_labels = True
            tags.target_tags.multi_output = True

    def fit(
        self,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        n_classes: int | None = None,
        seed: int = 0,
    ) -> Self:
        self.n_outputs_ = self.n_classes_ = count_classes(y, n_classes)
        self._smoothing = self.label_smoothing
        if self.convention == "others" and self.label_smoothing > 0:
            self._smoothing = others_to_uniform(self.label_smoothing, self.n_classes_)
        return self

    def explain_outputs(self) -> str:
        return f"one logit for each of {self.n_outputs_} classes"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(
            output, target, reduction="none", label_smoothing=self._smoothing
        )

    def negative_log_likelihood(self, output: Tensor, target: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(output, target, reduction="none")

    def fisher(self, output: Tensor) -> Tensor:
        proba = output.softmax(-1)
        return torch.diag_embed(proba) - proba[:, :, None] * proba[:, None, :]

    def predictive(self, output: Tensor) -> Softmax:
        return Softmax(self._corrected(output))
