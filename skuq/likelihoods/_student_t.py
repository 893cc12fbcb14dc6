"""Real targets with heavy-tailed noise."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from skuq._distributions._families import StudentTQuantiles
from skuq._utils._sklearn_compat import Interval, StrOptions
from skuq.likelihoods._base import Likelihood
from skuq.likelihoods._standardised import Standardised

__all__ = ["StudentT"]

_LEAST_DF, _MOST_DF = 2.1, 1000.0  # with df="free"; at 2 or below there is no variance


class StudentT(Standardised, Likelihood):
    """Real targets with Student's t noise: outliers have less influence than with a `Gaussian`.

    Targets are standardised inside, and independent given x. The outputs are a location μ and a
    log-scale s for each target, [μ_1 … μ_D, s_1 … s_D]. With σ = e(s) + `min_scale`, e(s) = exp(s)
    up to s = 2, and ν degrees of freedom, the loss is the negative log-likelihood. Without terms
    that depend only on ν it is

        log σ + (ν + 1)/2 · log(1 + (y − μ)²/(ν σ²)),

    summed over the targets. Its gradient in μ falls for residuals beyond √ν σ. The variance is
    σ² ν/(ν − 2) [1]_.

    Parameters
    ----------
    df : float > 2 or "free", default=4.0
        Degrees of freedom ν. "free" learns ν for each x, from one more output r per target:
        ν = 2.1 + softplus(r), at most 1000.
    min_scale : float, default=1e-3
        Added to σ, in units of the standard deviation of y.
    standardise : bool or pair (location, scale), default=True
        The units in which the network works. True takes y minus its mean over its standard
        deviation, both of the training rows; False takes y itself. A pair takes
        (y − location) / scale, numbers or arrays of shape (n_targets,). False and a pair are for
        networks that were trained elsewhere; `min_scale` stays relative to the spread of y.

    Notes
    -----
    Beyond s = 2 the link e(s) goes on as √(e⁴ (2s − 3)), up to 100 times the standard deviation of
    y: rows far from the training data then have a noise that is large, and not absurd.
    SciPy computes the distribution function and quantiles, on the CPU.

    References
    ----------
    .. [1] K. Lange, R. Little, J. Taylor, "Robust Statistical Modeling Using the t Distribution",
       Journal of the American Statistical Association 84, 1989,
       doi:10.1080/01621459.1989.10478852.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skuq.likelihoods import StudentT
    >>> likelihood = StudentT(df=4.0, min_scale=1e-6).fit(np.array([[8.0], [12.0]]))
    >>> predictive = likelihood.predictive(torch.zeros(1, 2))
    >>> round(float(predictive.mean), 3), round(float(predictive.variance), 3)
    (10.0, 8.0)
    """

    task = "regression"
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "df": [Interval(Real, 2, None, closed="neither"), StrOptions({"free"})],
        "min_scale": [Interval(Real, 0, None, closed="neither")],
        "standardise": ["boolean", tuple, list],
    }

    def __init__(
        self, df: float | str = 4.0, min_scale: float = 1e-3, standardise: Any = True
    ) -> None:
        self.df = df
        self.min_scale = min_scale
        self.standardise = standardise

    @property
    def _outputs_per_target(self) -> int:
        return 3 if self.df == "free" else 2

    def explain_outputs(self) -> str:
        freedom = ", a log-scale and the degrees of freedom" if self.df == "free" else " and scale"
        return f"a location{freedom} for each of {self.n_targets_} targets"

    def _distribution(
        self, output: Tensor, location: Any = 0.0, scale: Any = 1.0
    ) -> StudentTQuantiles:
        mean, log_scale, *rest = output.split(self.n_targets_, dim=-1)
        if rest:
            df = (_LEAST_DF + softplus(rest[0])).clamp(max=_MOST_DF)
        else:
            df = mean.new_tensor(self.df).expand_as(mean)
        sigma = self._scale_of(log_scale) + self._floor(self.min_scale, 1, output)
        return StudentTQuantiles(df, location + scale * mean, scale * sigma)

    def fisher(self, output: Tensor) -> Tensor:
        if self.df == "free":
            raise TypeError("StudentT(df='free') has no diagonal Fisher information: fix df")
        sigma, df = self._distribution(output).scale, float(self.df)
        slope = self._slope_of_scale(output[..., self.n_targets_ :])
        location = (df + 1) / (df + 3) / sigma.square()
        scale = 2 * df / (df + 3) * (slope / sigma).square()
        return torch.diag_embed(torch.cat([location, scale], dim=-1))
