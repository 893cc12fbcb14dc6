"""The last layer of a network as a matrix, with the training rows as its inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skuq._data._batches import Batch
from skuq._networks._last_layer import InputOf
from skuq._networks._module import TOLERANCE, call, private_copy
from skuq._training._problem import Problem
from skuq._utils._random import Purpose, derive_seed, generator

__all__ = ["Head", "Rows", "concatenate"]

_PAIRS = 8  # pairs of draws made at a time, always the same number
_TRIED_PAIRS = 50  # pairs of draws that judge a prior precision
_TRIED_POINTS = 100  # outputs of a row that judge a noise level


class Rows(NamedTuple):
    """Inputs of the last layer with a 1 for the bias, encoded targets and weights."""

    x: Tensor
    target: Tensor
    weight: Tensor

    def every_nth(self, step: int) -> Rows:
        return Rows(*(tensor[::step] for tensor in self))

    def parts(self, size: int) -> Iterator[Rows]:
        return map(Rows, *(tensor.split(size) for tensor in self))


def concatenate(rows: Iterable[Rows]) -> Rows:
    return Rows(*map(torch.cat, zip(*rows)))


class Head:
    """The last layer of a network, as a matrix in float64 whose last column is the biases.

    Each row has the unit of its output (`Likelihood.output_units`), so one prior precision suits
    all units of y.
    """

    def __init__(self, network: nn.Module, name: str, problem: Problem) -> None:
        layer: Any = network.get_submodule(name)
        self._before = InputOf(private_copy(network), name)
        self._linear = partial(F.linear, weight=layer.weight, bias=layer.bias)
        self._name, self._name_of_network = name, problem.report.name
        self._prefix = f"{name}." if name else ""
        self._numerics = problem.numerics
        self._dtype, place = layer.weight.dtype, layer.weight.device
        self.device = torch.device("cpu") if place.type == "mps" else place
        self.fan_in = layer.in_features
        self._has_bias = layer.bias is not None
        columns = [layer.weight, *([layer.bias[:, None]] if self._has_bias else [])]
        self.units = torch.as_tensor(problem.likelihood.output_units(), device=self.device)
        weight = torch.cat([c.detach().to(self.device).double() for c in columns], dim=1)
        self.weight = weight / self.units[:, None]

    @torch.no_grad()
    def rows(self, batches: Iterator[Batch]) -> Iterator[Rows]:
        """Compute the inputs of the layer; refuse a network whose outputs are not W φ."""
        n_rows, n_others = 0, 0
        for batch in batches:
            output = call(self._before.network, batch[0], self._numerics)
            seen = self._before.seen()
            x = seen.to(self.device).double()
            if self._has_bias:
                x = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
            n_rows, n_others = n_rows + len(x), n_others + self._count_others(seen, x, output)
            weight = x.new_ones(len(x)) if batch.weight is None else batch.weight.to(x)
            yield Rows(x, batch[1].to(self.device), weight)
        if n_others:
            raise ValueError(
                f"the outputs of {self._name_of_network} are those of its last nn.Linear, "
                f"{self._name!r}, in some rows, but not in {n_others} of {n_rows}: something "
                "changes or limits them after the layer, such as a clamp, nn.Hardtanh or a "
                "forward hook. LastLayerLaplace would learn from another function than the "
                "network predicts with. Let the network return the outputs of the layer "
                "themselves, or choose MCDropout or DeepEnsemble"
            )

    def _count_others(self, seen: Tensor, x: Tensor, output: Tensor) -> int:
        """Count the rows whose outputs are not the layer's, by more than rounding explains."""
        expected = call(self._linear, seen, self._numerics)
        size = (x.abs() @ (self.weight.mT.abs() * self.units)).to(output)
        limit = TOLERANCE[self._numerics.dtype] * size
        limit += self._numerics.tolerance * expected.abs()  # outputs may be rounded to bfloat16
        differ = (output - expected).abs() > limit
        differ |= output.isfinite() != expected.isfinite()
        return int(differ.any(1).sum())

    def outputs(self, x: Tensor) -> Tensor:
        return x @ self.weight.mT * self.units

    def outputs_of_draws(self, x: Tensor, deviations: Tensor) -> Tensor:
        """Compute outputs of draws on both sides, of shape (2 · n_pairs, n_rows, n_outputs)."""
        middle, apart = self.outputs(x), x @ deviations.mT * self.units
        return torch.cat([middle + apart, middle - apart])

    def outputs_of_quantiles(self, x: Tensor, variances: Tensor) -> Tensor:
        """Compute equally likely outputs of normal distributions, (n_points, n_rows, n_outputs).

        Their mean and variance are exact: that of W φ, and `variances` in the units of this matrix.
        """
        levels = (torch.arange(_TRIED_POINTS, dtype=torch.float64) + 0.5) / _TRIED_POINTS
        points = torch.special.ndtri(levels).to(x)
        points = points / points.square().mean().sqrt()
        spread = variances.sqrt() * self.units
        outputs: Tensor = self.outputs(x) + points[:, None, None] * spread
        return outputs

    def noise(self, n_pairs: int, seed: int) -> Iterator[Tensor]:
        """Draw standard normal noise in blocks of one size: more pairs do not change the first."""
        random = generator(seed)
        for _ in range(0, n_pairs, _PAIRS):
            yield torch.randn(_PAIRS, *self.weight.shape, generator=random, dtype=torch.float64).to(
                self.device
            )

    def trial_noise(self, problem: Problem) -> Tensor:
        """Draw noise to judge a prior precision, the same for any `n_draws`."""
        seed = derive_seed(problem.seed(), Purpose.POSTERIOR)
        return torch.cat(list(self.noise(_TRIED_PAIRS, seed)))[:_TRIED_PAIRS]

    def sampled_weights(self, deviations: Tensor) -> Tensor:
        """Compute W in pairs of draws, of shape (2 · n_pairs, n_outputs, n_inputs)."""
        both = torch.stack([self.weight + deviations, self.weight - deviations], dim=1)
        drawn = both.flatten(0, 1) * self.units[:, None]
        return drawn.to(self._numerics.device, self._dtype)

    def parameters(self, drawn: Tensor) -> dict[str, Tensor]:
        """Return the parameters of the layer, by their names in the network."""
        found = {f"{self._prefix}weight": drawn[..., : self.fan_in].contiguous()}
        if self._has_bias:
            found[f"{self._prefix}bias"] = drawn[..., -1].contiguous()
        return found
