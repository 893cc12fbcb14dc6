"""The loss of labels whose logits have normal noise, with its gradient, in bounded memory."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["noisy_cross_entropy"]

_BLOCK_BYTES = {"cpu": 2**20, "cuda": 64 * 2**20}  # of the logits of all samples for some rows


def noisy_cross_entropy(mean: Tensor, std: Tensor, noise: Tensor, target: Tensor) -> Tensor:
    """Compute −log mean_t softmax(mean + std ⊙ noise_t)_target for each row.

    Classes come first, so that rows are neighbours in memory; only the logit of the label is taken
    from each sample. Memory does not grow with samples times rows, in the backward either: the
    gradient is computed together with the loss.

    Parameters
    ----------
    mean, std : Tensor of shape (n_classes, n_rows)
        Means and standard deviations of the logits.
    noise : Tensor of shape (n_samples, n_classes)
        Samples of the noise, common to all rows.
    target : Tensor of shape (n_rows,)
        The index of the label.

    Returns
    -------
    Tensor of shape (n_rows,)
        The loss in nats, differentiable once in `mean` and `std`.
    """
    loss: Tensor = _NoisyCrossEntropy.apply(mean, std, noise, target)[0]  # type: ignore[no-untyped-call]
    return loss


class _NoisyCrossEntropy(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(mean: Tensor, std: Tensor, noise: Tensor, target: Tensor) -> Any:
        n_bytes = noise.numel() * mean.element_size()
        step = max(1, _BLOCK_BYTES.get(mean.device.type, _BLOCK_BYTES["cpu"]) // n_bytes)
        parts = [
            _loss_and_gradients(m, s, noise, y)
            for m, s, y in zip(mean.split(step, 1), std.split(step, 1), target.split(step))
        ]
        if len(parts) == 1:
            return parts[0]
        return tuple(torch.cat(each, dim=-1) for each in zip(*parts))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, *gradients = output
        ctx.mark_non_differentiable(*gradients)
        ctx.save_for_backward(*gradients)

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        in_mean, in_std = ctx.saved_tensors
        return in_mean * upstream[0], in_std * upstream[0], None, None


def _loss_and_gradients(
    mean: Tensor, std: Tensor, noise: Tensor, target: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the losses of some rows, and their derivatives in mean and std.

    With p_t the softmax of sample t and r_t its share of the probability of the label, these are
    Σ_t r_t (p_t − e_y), and the same with each term times the noise.
    """
    label = target[None]
    logits = torch.addcmul(mean, std, noise[:, :, None])  # (n_samples, n_classes, n_rows)
    top = logits.amax(1)
    of_label = mean.gather(0, label) + std.gather(0, label) * noise[:, target]
    mass = (logits - top[:, None]).exp()
    total = mass.sum(1)
    log_proba = of_label - top - total.log()
    joint = log_proba.logsumexp(0)
    share = (log_proba - joint).exp()
    mass = mass * (share / total)[:, None]
    in_mean, in_std = mass.sum(0), (mass * noise[:, :, None]).sum(0)
    noise_of_label = (share * noise[:, target]).sum(0, keepdim=True)
    in_mean = in_mean.scatter_add(0, label, -torch.ones_like(noise_of_label))
    in_std = in_std.scatter_add(0, label, -noise_of_label)
    return math.log(len(noise)) - joint, in_mean, in_std
