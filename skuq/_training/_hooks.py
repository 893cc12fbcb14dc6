"""Hooks: for posteriors that watch training, or add a term to its loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from skuq._data._batches import Batch

__all__ = ["TrainingHook", "overrides", "trained_in"]


class TrainingHook:
    """Lets a posterior watch the training of one network, and add a term to its loss.

    Subclass it, override what is needed, and give one object for each network to
    `Problem.train` or `Problem.explore`. After training, the objects hold everything that they
    gathered, even if the networks trained in other processes. Checkpoints save attributes that are
    numbers, text, arrays, tensors, or lists, tuples and dicts of these, and attributes with a
    ``state_dict``. Define ``state_dict`` and ``load_state_dict`` on the hook for anything else.
    After Ctrl-C, an estimator with ``on_interrupt="keep"`` puts a hook back to the end of its last
    whole epoch.

    A hook must not draw from global generators: derive a seed from `Problem.seed`.
    """

    def penalty(self, module: nn.Module, batch: Batch) -> Tensor | None:
        """Return a term that is added to the mean loss of a batch, or None.

        Parameters
        ----------
        module : nn.Module
            The network, in training mode.
        batch : Batch
            A pair (x, target) on the device of the network; ``batch.weight`` holds the weights of
            its rows, or None where all are equal.

        Returns
        -------
        Tensor of shape (), or None
            Differentiable in the parameters of the network.
        """
        return None

    def before_steps(self, weights: dict[str, Tensor]) -> None:
        """Put in place the network that the steps of an epoch train.

        Parameters
        ----------
        weights : dict of str to Tensor
            The parameters of the network by name, without gradients; set their values in place.
        """

    def after_steps(self, weights: dict[str, Tensor]) -> None:
        """Put in place the network that is kept, such as an average of the one that is trained.

        Early stopping, callbacks, `after_epoch` and checkpoints see it, and training returns it.

        Parameters
        ----------
        weights : dict of str to Tensor
            The parameters of the network by name, without gradients; set their values in place.
        """

    def after_step(self, module: nn.Module) -> None:
        """Look at the network after a step of the optimizer.

        Parameters
        ----------
        module : nn.Module
            The network as it is after the step.
        """

    def after_epoch(self, module: nn.Module, epoch: int) -> None:
        """Look at the network after an epoch.

        Parameters
        ----------
        module : nn.Module
            The network as it is after the epoch. It goes on training: copy what must stay.
        epoch : int
            The number of the epoch, from 1.
        """


def overrides(hook: TrainingHook, method: str) -> bool:
    """Return whether a hook overrides this method."""
    return getattr(type(hook), method) is not getattr(TrainingHook, method)


@contextmanager
def trained_in(module: nn.Module, hook: TrainingHook | None) -> Iterator[None]:
    """Let a hook change a network before and after the steps of an epoch, even if they fail."""
    if hook is None:
        yield
        return
    hook.before_steps(_parameters(module))
    try:
        yield
    finally:
        hook.after_steps(_parameters(module))


def _parameters(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in module.named_parameters()}
