"""Curvatures of a last layer: Σ_n w_n F_n ⊗ φ_n φ_nᵀ, F the Fisher information of the outputs.

A row adds the generalised Gauss-Newton matrix of its negative log-likelihood in the weights W, of
shape (n_outputs, n_inputs), of outputs W φ. A structure keeps it whole, as one Kronecker product,
or its diagonal. With a normal prior of precision δ, the posterior has the precision H + δ I.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

__all__ = [
    "STRUCTURES",
    "Curvature",
    "Diagonal",
    "Full",
    "Kronecker",
    "best_evidence",
    "minimise",
]

_GRID = 25  # prior precisions that are tried before the best is refined
_ROWS = 512  # that are added at a time, so that their products fit into a cache


class Curvature:
    """A sum of curvatures over rows; a subclass decides how much of it to keep.

    Parameters
    ----------
    n_outputs : int
        Number of outputs of the layer.
    n_inputs : int
        Number of its inputs.
    device : torch.device
        The device of the sum.
    """

    def __init__(self, n_outputs: int, n_inputs: int, device: torch.device) -> None:
        self.shape = (n_outputs, n_inputs)
        self.weight = 0.0
        self._device = device
        self._sums = {name: self._zeros(*size) for name, size in self._sizes().items()}

    def _sizes(self) -> dict[str, tuple[int, ...]]:
        raise NotImplementedError(f"{type(self).__name__} does not implement _sizes")

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=self._device)

    def add(self, features: Tensor, fisher: Tensor, weight: Tensor) -> None:
        """Add the curvature of some rows.

        Parameters
        ----------
        features : Tensor of shape (n_rows, n_inputs)
            The inputs of the layer, φ.
        fisher : Tensor of shape (n_rows, n_outputs, n_outputs)
            The Fisher information of the outputs, F.
        weight : Tensor of shape (n_rows,)
            The sample weights, w.
        """
        self.weight += float(weight.sum())
        weighted = fisher * weight[:, None, None]
        for rows in zip(features.split(_ROWS), weighted.split(_ROWS), weight.split(_ROWS)):
            self._add(*rows)

    def _add(self, features: Tensor, weighted: Tensor, weight: Tensor) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not implement _add")

    def scale(self, factor: float) -> None:
        """Multiply the sum by `factor`."""
        self.weight *= factor
        for total in self._sums.values():
            total *= factor

    def eigenvalues(self) -> Tensor:
        """Compute all eigenvalues of H, in no order; none is negative."""
        raise NotImplementedError(f"{type(self).__name__} does not implement eigenvalues")

    def root(self, precision: float) -> Callable[[Tensor], Tensor]:
        """Return a root of the covariance (H + δ I)⁻¹, as a function.

        Parameters
        ----------
        precision : float
            The prior precision, δ.

        Returns
        -------
        callable
            Maps standard normal noise to deviations of W, both of shape
            (n_draws, n_outputs, n_inputs).
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement root")

    def variances(self, precision: float, features: Tensor) -> Tensor:
        """Compute the variances of the outputs W φ under the covariance (H + δ I)⁻¹.

        Parameters
        ----------
        precision : float
            The prior precision, δ.
        features : Tensor of shape (n_rows, n_inputs)
            The inputs of the layer, φ.

        Returns
        -------
        Tensor of shape (n_rows, n_outputs)
            The variance of each output of each row.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement variances")


class Full(Curvature):
    """The whole matrix; its memory grows with the square of the number of weights."""

    def _sizes(self) -> dict[str, tuple[int, ...]]:
        n_outputs, n_inputs = self.shape
        self._pairs = torch.triu_indices(n_outputs, n_outputs, device=self._device)
        return {"blocks": (self._pairs.shape[1], n_inputs, n_inputs)}

    def _add(self, features: Tensor, weighted: Tensor, weight: Tensor) -> None:
        each = weighted[:, self._pairs[0], self._pairs[1]].T  # a block of H for each pair
        self._sums["blocks"] += (each[:, None, :] * features.T) @ features

    def matrix(self) -> Tensor:
        """Return H, of shape (n_outputs · n_inputs,) * 2, in the order of ``W.flatten()``."""
        n_outputs, n_inputs = self.shape
        matrix = self._zeros(n_outputs, n_outputs, n_inputs, n_inputs)
        k, j = self._pairs
        matrix[k, j] = matrix[j, k] = self._sums["blocks"]
        square: Tensor = matrix.transpose(1, 2).reshape(n_outputs * n_inputs, -1)
        return square

    def eigenvalues(self) -> Tensor:
        eigenvalues: Tensor = torch.linalg.eigvalsh(self.matrix()).clamp(min=0)
        return eigenvalues

    def root(self, precision: float) -> Callable[[Tensor], Tensor]:
        matrix = self.matrix()
        rounding = len(matrix) * torch.finfo(matrix.dtype).eps * float(matrix.trace())
        if precision > rounding:
            matrix.diagonal().add_(precision)
            lower = torch.linalg.cholesky(matrix)
            return lambda noise: torch.linalg.solve_triangular(
                lower.mT, noise.flatten(1).T, upper=True
            ).T.unflatten(1, self.shape)
        # Rounding would lose δ in H. Where H itself is rounding, only the prior counts.
        values, vectors = torch.linalg.eigh(matrix)
        values = torch.where(values > rounding, values, 0.0) + precision
        inverse = (vectors * values.rsqrt()) @ vectors.mT
        return lambda noise: (noise.flatten(1) @ inverse).unflatten(1, self.shape)

    def variances(self, precision: float, features: Tensor) -> Tensor:
        n_weights = self.shape[0] * self.shape[1]
        every = torch.eye(n_weights, dtype=torch.float64, device=self._device)
        root = self.root(precision)(every.unflatten(1, self.shape)).transpose(0, 1)
        covariances = root.mT @ root  # of the weights of each output
        return ((features @ covariances) * features).sum(-1).T


class Kronecker(Curvature):
    """One Kronecker product, Σ w F ⊗ Σ w φ φᵀ / Σ w: exact if F is the same for all rows [1]_.

    References
    ----------
    .. [1] H. Ritter, A. Botev, D. Barber, "A Scalable Laplace Approximation for Neural Networks",
       ICLR 2018.
    """

    def _sizes(self) -> dict[str, tuple[int, ...]]:
        n_outputs, n_inputs = self.shape
        return {"outputs": (n_outputs, n_outputs), "inputs": (n_inputs, n_inputs)}

    def _add(self, features: Tensor, weighted: Tensor, weight: Tensor) -> None:
        self._sums["outputs"] += weighted.sum(0)
        self._sums["inputs"] += (weight * features.T) @ features

    def _factors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute eigenvalues and eigenvectors of both factors."""
        of_outputs, outputs = torch.linalg.eigh(self._sums["outputs"])
        of_inputs, inputs = torch.linalg.eigh(self._sums["inputs"] / self.weight)
        return of_outputs.clamp(min=0), outputs, of_inputs.clamp(min=0), inputs

    def eigenvalues(self) -> Tensor:
        of_outputs, _, of_inputs, _ = self._factors()
        return torch.outer(of_outputs, of_inputs).flatten()

    def root(self, precision: float) -> Callable[[Tensor], Tensor]:
        of_outputs, outputs, of_inputs, inputs = self._factors()
        size = (torch.outer(of_outputs, of_inputs) + precision).sqrt()
        # The symmetric root does not depend on signs and order of the eigenvectors.
        return lambda noise: outputs @ ((outputs.mT @ noise @ inputs) / size) @ inputs.mT

    def variances(self, precision: float, features: Tensor) -> Tensor:
        of_outputs, outputs, of_inputs, inputs = self._factors()
        of_weights = 1 / (torch.outer(of_outputs, of_inputs) + precision)
        return (features @ inputs).square() @ (outputs.square() @ of_weights).mT


class Diagonal(Curvature):
    """The diagonal of H: weights are independent."""

    def _sizes(self) -> dict[str, tuple[int, ...]]:
        return {"diagonal": self.shape}

    def _add(self, features: Tensor, weighted: Tensor, weight: Tensor) -> None:
        self._sums["diagonal"] += weighted.diagonal(dim1=1, dim2=2).T @ features.square()

    def eigenvalues(self) -> Tensor:
        return self._sums["diagonal"].flatten()

    def root(self, precision: float) -> Callable[[Tensor], Tensor]:
        size = (self._sums["diagonal"] + precision).sqrt()
        return lambda noise: noise / size

    def variances(self, precision: float, features: Tensor) -> Tensor:
        return features.square() @ (1 / (self._sums["diagonal"] + precision)).mT


STRUCTURES: dict[str, type[Curvature]] = {
    "full": Full,
    "kronecker": Kronecker,
    "diagonal": Diagonal,
}


# -------------------------------------------------------------------------------------------------
# The prior precision


def best_evidence(eigenvalues: Tensor, weight: Tensor) -> float:
    """Find the δ with the highest log evidence, ½ [P log δ − δ |W|² − Σ log(λ + δ)] + constant.

    There, δ = γ / |W|², with γ = Σ λ / (λ + δ) between 0 and P.
    """
    square = max(float(weight.square().sum()), 1e-30)
    most = weight.numel() / square

    def loss(precision: float) -> float:
        logs = torch.log1p(eigenvalues / precision).sum()
        return 0.5 * (precision * square + float(logs))

    return minimise(loss, most * 1e-12, most)


def minimise(loss: Callable[[float], float], low: float, high: float) -> float:
    """Minimise a function of a positive number: first on a grid of logarithms, then nearby."""
    grid = np.linspace(np.log(low), np.log(high), _GRID)
    best = int(np.argmin([loss(float(np.exp(value))) for value in grid]))
    around = grid[max(best - 1, 0)], grid[min(best + 1, _GRID - 1)]
    options = {"xatol": 1e-8}
    found = minimize_scalar(
        lambda value: loss(float(np.exp(value))), bounds=around, method="bounded", options=options
    )
    return float(np.exp(found.x))
