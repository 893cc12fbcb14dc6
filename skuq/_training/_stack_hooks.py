"""Call the hooks of the networks of a stack; each hook sees its own network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from skuq._data._batches import Batch
from skuq._networks._dropout import Sampler, drive
from skuq._networks._module import copied
from skuq._networks._weights import put_weights
from skuq._training._hooks import TrainingHook, overrides
from skuq._training._stack import Stack

__all__ = ["StackHooks"]


class StackHooks:
    """Shows each hook its network, and adds the hook's term to the loss.

    Parameters
    ----------
    hooks : sequence of TrainingHook
        One for each network, or none.
    networks : sequence of nn.Module
        The networks before they were stacked.
        stack : Stack
            The stack, which holds their tensors.
    generators : sequence of torch.Generator
        The generators of the dropout of each network. A term draws from them after the loss, as
        when a network trains by itself.
    """

    def __init__(
        self,
        hooks: Sequence[TrainingHook],
        networks: Sequence[nn.Module],
        stack: Stack,
        generators: Sequence[torch.Generator],
    ) -> None:
        self._hooks = hooks
        self._stack = stack
        self._look_at_steps = any(overrides(hook, "after_step") for hook in hooks)
        self._terms: list[_Term] = []
        if any(overrides(hook, "penalty") for hook in hooks):
            self._terms = [_Term(copied(n).train(), h) for n, h in zip(networks, hooks)]
            for term, generator in zip(self._terms, generators):
                drive(term.network, Sampler(generator))
        self._shown = [copied(network) for network in networks] if hooks else []

    def penalised(self, losses: Tensor, batch: Batch) -> Tensor:
        """Add the terms of the hooks to the losses of all networks, of shape (n_networks,)."""
        if not self._terms:
            return losses
        tensors, terms = self._stack.tensors(), []
        for k, term in enumerate(self._terms):
            own = {f"network.{name}": tensor[k] for name, tensor in tensors.items()}
            x, target = (part[k] for part in batch)
            weight = None if batch.weight is None else batch.weight[k]
            value = functional_call(term, own, (Batch.of(x, target, weight),))
            terms.append(losses.new_zeros(()) if value is None else value)
        return losses + torch.stack(terms)

    @contextmanager
    def training(self) -> Iterator[None]:
        """Let the hooks change their networks before and after the steps of an epoch."""
        for k, hook in enumerate(self._hooks):
            hook.before_steps(self._parameters(k))
        try:
            yield
        finally:  # the first step may have moved the parameters to other memory
            for k, hook in enumerate(self._hooks):
                hook.after_steps(self._parameters(k))

    def _parameters(self, k: int) -> dict[str, Tensor]:
        """Return views of the parameters of one network."""
        named = self._stack.module.named_parameters()
        return {name: parameter.detach()[k] for name, parameter in named}

    def after_step(self) -> None:
        if self._look_at_steps:
            for k, hook in enumerate(self._hooks):
                hook.after_step(self._network(k))

    def after_epoch(self, numbers: Sequence[int], epoch: int) -> None:
        """Call the hooks of the networks `numbers`, which still train."""
        for k in numbers if self._hooks else ():
            self._hooks[k].after_epoch(self._network(k), epoch)

    def _network(self, k: int) -> nn.Module:
        put_weights(self._shown[k], self._stack.weights(k))
        return self._shown[k]


class _Term(nn.Module):
    """The term that a hook adds to the loss, as a module whose tensors can be replaced."""

    def __init__(self, network: nn.Module, hook: TrainingHook) -> None:
        super().__init__()
        self.network = network
        self._hook = hook

    def forward(self, batch: Batch) -> Tensor | None:
        return self._hook.penalty(self.network, batch)
