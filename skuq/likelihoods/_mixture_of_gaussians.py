"""Real targets whose distribution may have several peaks."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from skuq._distributions._families import MixtureOfNormals
from skuq._utils._sklearn_compat import Interval
from skuq.likelihoods._base import Likelihood
from skuq.likelihoods._links import positive
from skuq.likelihoods._standardised import Standardised

__all__ = ["MixtureOfGaussians"]


class MixtureOfGaussians(Standardised, Likelihood):
    """Real targets with several normal components: a mixture density network [1]_.

    Targets are standardised inside, and independent given x. For each of D targets the outputs are
    K logits of weights, K means and K log-variances, [a_11 … a_DK, m_11 … m_DK, s_11 … s_DK], and

        p(y) = Σ_k softmax(a)_k N(y; c_k + m_k, σ_k²),  σ_k² = e(s_k) + `min_variance`.

    The constants c, from −1 to 1 (0 for a single component), separate the components before
    training. The loss is −log p(y), summed over the targets.

    The aleatoric uncertainty is the variance of the whole mixture, including the variance between
    its components. Intervals end at quantiles, and may include a gap where y never lies.

    Parameters
    ----------
    n_components : int >= 1, default=3
        Number K of components. One component is ``Gaussian(beta=0)``.
    min_variance : float, default=1e-4
        Added to σ_k², in units of the variance of y. Without it the likelihood has no bound, since
        a component can shrink onto a single row.
    standardise : bool or pair (location, scale), default=True
        The units in which the network works. True takes y minus its mean over its standard
        deviation, both of the training rows; False takes y itself. A pair takes
        (y − location) / scale, numbers or arrays of shape (n_targets,). False and a pair are for
        networks that were trained elsewhere; `min_variance` stays relative to the spread of y.

    Notes
    -----
    The link e(s) of the variances is that of `Gaussian`: exp(s) up to s = 4, its tangent beyond.

    References
    ----------
    .. [1] C. Bishop, "Mixture Density Networks", Aston University, technical report
       NCRG/94/004, 1994.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skuq.likelihoods import MixtureOfGaussians
    >>> likelihood = MixtureOfGaussians(n_components=2).fit(np.array([[-1.0], [1.0]]))
    >>> two = likelihood.predictive(torch.tensor([[0.0, 0.0, 0.0, 0.0, -4.0, -4.0]]).double())
    >>> density = two.log_prob(torch.tensor([[-1.0], [0.0], [1.0]])).exp()
    >>> bool(density[1] < 1e-5 * density[0])
    True
    """

    task = "regression"
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "min_variance": [Interval(Real, 0, None, closed="neither")],
        "standardise": ["boolean", tuple, list],
    }

    def __init__(
        self, n_components: int = 3, min_variance: float = 1e-4, standardise: Any = True
    ) -> None:
        self.n_components = n_components
        self.min_variance = min_variance
        self.standardise = standardise

    @property
    def _outputs_per_target(self) -> int:
        return 3 * self.n_components

    def explain_outputs(self) -> str:
        return (
            f"a weight, a mean and a log-variance for each of {self.n_components} components of "
            f"each of {self.n_targets_} targets"
        )

    def links(self) -> list[str]:
        n = self.n_targets_ * self.n_components
        weights = "softmax" if self.n_components > 1 else "free"  # a single one is 1 in any case
        return [weights] * n + [self._location_link] * n + ["exp"] * n

    def output_units(self) -> np.ndarray:
        ones = np.ones(self.n_targets_ * self.n_components)
        return np.concatenate([ones, np.repeat(self.spread_, self.n_components), ones])

    def _distribution(
        self, output: Tensor, location: Any = 0.0, scale: Any = 1.0
    ) -> MixtureOfNormals:
        parts = output.unflatten(-1, (3, self.n_targets_, self.n_components))
        logits, mean, log_variance = parts.unbind(-3)
        if self.n_components > 1:
            mean = mean + torch.linspace(-1, 1, self.n_components).to(mean)
        variance = positive(log_variance, self._linear_from, self._noise_units(2, parts=True))
        std = (variance + self._floor(self.min_variance, 2, output, parts=True)).sqrt()
        if isinstance(location, Tensor):  # the components lie on the last axis
            location, scale = location[:, None], scale[:, None]
        return MixtureOfNormals(logits, location + scale * mean, scale * std)
