"""Classes as one-hot vectors with normal noise: the uncertainty-aware loss."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from skuq._distributions._softmax import Softmax
from skuq._utils._messages import warn
from skuq._utils._sklearn_compat import Interval, StrOptions
from skuq.likelihoods._base import Likelihood
from skuq.likelihoods._categorical import count_classes, others_to_uniform

__all__ = ["UncertaintyAware"]

_FLOOR = 0.01  # the mass of all classes together if no output is positive
_COLLAPSED = 1e-2  # below such a mean log-variance, `log_variance="square"` learns no noise


class UncertaintyAware(Likelihood):
    """Classes as one-hot vectors with spherical normal noise, whose size is learnt for each x [1]_.

    The network has one output more than there are classes. The one-hot label is modelled as normal,
    y ~ N(h, σ² I) in C dimensions. With the log-variance s = log σ² the loss is

        ½ [e^{−s} Σ_k (y_k − h_k)² + C s],

    that is, −log N(y; h, σ² I) without its constant. For a given h the best s is log(SSE / C),
    where SSE = Σ_k (y_k − h_k)². The gradient in h is e^{−s} times the gradient of the squared
    error, so rows with large noise count less.

    Parameters
    ----------
    link : {"identity", "softmax"}, default="identity"
        How h comes from the first C outputs: unchanged, or by a softmax.
    log_variance : {"free", "square", "constant"}, default="free"
        How s comes from the last output r. "free" takes s = r. "square" takes s = r²; the best s,
        which lies below log(2/C), is often negative, so that s collapses to 0 and the loss to the
        squared error (with a warning). "constant" has no s: C outputs, and the loss ½ SSE (with two
        classes and ``link="softmax"`` the Brier score (y − p)²).
    clamp : tuple of two floats, default=(-6, 6)
        Bounds of s. The distance by which the output exceeds them is added to the loss, which
        brings it back. Without bounds the loss is unbounded below: as SSE → 0, s → −∞. The lower
        bound affects results, so treat it as a hyperparameter.
    label_smoothing : float in [0, 1), default=0.0
        The smoothing ε, at most 1 − 1/C: in training the target is 1 − ε for the label and
        ε/(C − 1) for the other classes.

    Notes
    -----
    *Probabilities* are h for ``link="softmax"``, and h divided by its sum for ``link="identity"``,
    since the h that minimises a squared error is the probability. Outputs below τ = 0.01/C count as
    τ/(1 + τ − h_k), so that all are positive and in the order of h. All predictions follow from
    these probabilities, `predict_uncertainty` included; early stopping monitors −log of the
    probability of the label. `noise_variance` returns σ²; the distributions of `predictive` have
    it, too.

    *Certainty* is 1/(1 + σ²); the sigmoid of the published code is a special case.

    References
    ----------
    .. [1] A. Kornaev, E. Kornaeva, O. Ivanov, I. Pershin, D. Alukaev, "Awareness of uncertainty in
       classification using a multivariate model and multi-views", 2024, arXiv:2404.10314.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skuq.likelihoods import UncertaintyAware
    >>> likelihood = UncertaintyAware().fit(np.array([0, 1, 2]))
    >>> output = torch.tensor([[0.6, 0.3, 0.1, -2.0]])
    >>> likelihood.predictive(output).probs
    tensor([[0.6000, 0.3000, 0.1000]])
    >>> likelihood.noise_variance(output)
    tensor([0.1353])
    """

    task = "classification"
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "link": [StrOptions({"identity", "softmax"})],
        "log_variance": [StrOptions({"free", "square", "constant"})],
        "clamp": [tuple, list],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        link: str = "identity",
        log_variance: str = "free",
        clamp: tuple[float, float] = (-6, 6),
        label_smoothing: float = 0.0,
    ) -> None:
        self.link = link
        self.log_variance = log_variance
        self.clamp = clamp
        self.label_smoothing = label_smoothing

    def validate(self) -> None:
        super().validate()
        try:
            low, high = map(float, self.clamp)
        except (TypeError, ValueError):
            low = high = np.nan
        if not -80 <= low < high <= 80:
            raise ValueError(
                "clamp must be the two bounds (low, high) of the log-variance, with "
                f"-80 <= low < high <= 80, got {self.clamp!r}"
            )

    def fit(
        self,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        n_classes: int | None = None,
        seed: int = 0,
    ) -> Self:
        self.n_classes_ = count_classes(y, n_classes)
        self.n_outputs_ = self.n_classes_ + (self.log_variance != "constant")
        others_to_uniform(self.label_smoothing, self.n_classes_)  # refuses too large ones
        return self

    def explain_outputs(self) -> str:
        if self.log_variance == "constant":
            return f"one for each of {self.n_classes_} classes"
        return f"one for each of {self.n_classes_} classes, and a log-variance"

    def links(self) -> list[str]:
        of_classes = ["softmax" if self.link == "softmax" else "free"] * self.n_classes_
        if self.log_variance == "constant":
            return of_classes
        return [*of_classes, "exp" if self.log_variance == "free" else "free"]

    def _location(self, output: Tensor) -> Tensor:
        h = output[..., : self.n_classes_]
        return h.softmax(-1) if self.link == "softmax" else h

    def _raw_log_variance(self, output: Tensor) -> Tensor:
        if self.log_variance == "constant":
            return torch.zeros_like(output[..., 0])
        s = output[..., -1]
        return s.square() if self.log_variance == "square" else s

    def _log_variance(self, output: Tensor) -> Tensor:
        """Return s, of shape (...)."""
        s = self._raw_log_variance(output)
        return s if self.log_variance == "constant" else s.clamp(*self.clamp)

    def noise_variance(self, output: Tensor) -> Tensor:
        """Compute σ² = e^s; 1 for ``log_variance="constant"``.

        Parameters
        ----------
        output : Tensor of shape (..., n_outputs_)
            Raw network outputs.
        """
        return self._log_variance(output).exp()

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        epsilon, n_classes = self.label_smoothing, self.n_classes_
        hot = one_hot(target, n_classes).to(output.dtype)
        if epsilon > 0:
            hot = hot * (1 - epsilon) + (1 - hot) * epsilon / (n_classes - 1)
        raw, s = self._raw_log_variance(output), self._log_variance(output)
        squares = (hot - self._location(output)).square().sum(-1)
        # A clamp has no gradient: outputs beyond it would stay there.
        return 0.5 * ((-s).exp() * squares + n_classes * s) + 0.5 * (raw - s).square()

    def _log_proba(self, output: Tensor) -> Tensor:
        h = output[..., : self.n_classes_]
        if self.link == "softmax":
            return h.log_softmax(-1)
        floor = _FLOOR / self.n_classes_
        positive = h >= floor
        below = torch.where(positive, floor, h)  # an unused branch must not give NaN gradients
        mass = torch.where(positive, h, floor / (1 + floor - below))
        return mass.log() - mass.sum(-1, keepdim=True).log()

    def negative_log_likelihood(self, output: Tensor, target: Tensor) -> Tensor:
        return -self._log_proba(output).gather(-1, target[:, None])[:, 0]

    def predictive(self, output: Tensor) -> Softmax:
        predictive = Softmax(self._log_proba(output))
        predictive.noise_variance = self.noise_variance(output)  # type: ignore[attr-defined]
        return predictive

    def finish(
        self,
        evaluate: Callable[..., Any],
        target: np.ndarray,
        sample_weight: np.ndarray | None,
        given_noise: bool = False,
    ) -> None:
        if self.log_variance != "square":
            return
        mean = float(evaluate(lambda output: self._log_variance(output).mean(0)).mean())
        if mean < _COLLAPSED:
            warn(
                f"UncertaintyAware(log_variance='square') has collapsed: the mean log-variance of "
                f"the training rows is {mean:.2g}, so the noise is the same everywhere and the "
                "loss is the squared error. The best log-variance is negative, and a square is "
                "not: use log_variance='free'.",
                UserWarning,
            )
