"""Likelihoods: how the outputs of a network describe a target.

A likelihood stands between the raw outputs of a network and the target y. It sets the number of
outputs, the loss of training, and the distribution of y that the outputs describe. It does not
depend on the posterior: every likelihood works with every posterior.
"""

from skuq.likelihoods._base import Likelihood
from skuq.likelihoods._bernoulli import Bernoulli
from skuq.likelihoods._categorical import Categorical
from skuq.likelihoods._gaussian import Gaussian
from skuq.likelihoods._laplace import Laplace
from skuq.likelihoods._mixture_of_gaussians import MixtureOfGaussians
from skuq.likelihoods._negative_binomial import NegativeBinomial
from skuq.likelihoods._poisson import Poisson
from skuq.likelihoods._quantile import Quantile
from skuq.likelihoods._stochastic_logits import StochasticLogits
from skuq.likelihoods._student_t import StudentT
from skuq.likelihoods._uncertainty_aware import UncertaintyAware

__all__ = [
    "Bernoulli",
    "Categorical",
    "Gaussian",
    "Laplace",
    "Likelihood",
    "MixtureOfGaussians",
    "NegativeBinomial",
    "Poisson",
    "Quantile",
    "StochasticLogits",
    "StudentT",
    "UncertaintyAware",
]
