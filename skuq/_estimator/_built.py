"""The parameters that built the networks of a fitted estimator, and their later changes."""

from __future__ import annotations

from typing import Any, NamedTuple

from skuq._training._identity import describe
from skuq.modules import MLP, TabularMLP
from skuq.posteriors import Posterior

__all__ = [
    "DEFAULTS",
    "OLD_NETWORK",
    "Built",
    "check_unchanged",
    "default_module",
    "has_default_network",
    "posterior_of",
]

DEFAULTS = (MLP, TabularMLP)
OLD_NETWORK = {"activation": "relu", "dropout": 0.1}  # the default one of files that do not say


class Built(NamedTuple):
    """The parameters that built networks: `module` and ``module__*``.

    `filled` holds the parameters of the default network that depend on the posterior or differ
    between versions; it is empty for other networks.
    """

    factory: Any
    parameters: dict[str, Any]
    filled: dict[str, Any]

    @classmethod
    def by(cls, estimator: Any) -> Built:
        """Copy the present parameters of an estimator."""
        given = _copied_containers(estimator._with_prefix("module"))
        if not has_default_network(estimator):
            return cls(estimator.module, given, {})
        # A posterior that was not saved, or a mistake that is found later, has no rate.
        dropout = getattr(posterior_of(estimator), "default_dropout", 0.0)
        return cls(estimator.module, given, {"activation": "silu", "dropout": dropout})

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the factory."""
        return {**self.filled, **self.parameters}

    def changes(self, estimator: Any) -> dict[str, tuple[Any, Any]]:
        """Return parameters that would build other networks: their values before and now."""
        now = Built.by(estimator)
        pairs = {"module": (self.factory, now.factory)}
        for name in {**self.parameters, **now.parameters}:
            pairs[f"module__{name}"] = (
                self.parameters.get(name, _NOT_GIVEN),
                now.parameters.get(name, _NOT_GIVEN),
            )
        return {
            name: (before, after)
            for name, (before, after) in pairs.items()
            if before is not after and describe(before) != describe(after)
        }


def posterior_of(estimator: Any) -> Posterior:
    """Return the posterior of an estimator, which may be the default."""
    posterior = estimator.posterior
    given: Posterior = estimator._default_posterior() if posterior is None else posterior
    return given


def default_module(estimator: Any) -> Any:
    """Return the module of an estimator that has none of its own."""
    table = estimator._columns is not None and estimator._default_module is MLP
    return TabularMLP if table else estimator._default_module


def has_default_network(estimator: Any) -> bool:
    """Return whether an estimator builds the default multilayer perceptron, of either kind."""
    return (estimator.module or default_module(estimator)) in DEFAULTS


class _NotGiven:
    def __repr__(self) -> str:
        return "not given"


_NOT_GIVEN = _NotGiven()


def _copied_containers(value: Any) -> Any:
    """Copy lists, tuples and dicts, so that other code cannot change them; keep their items."""
    if type(value) in (list, tuple):
        return type(value)(map(_copied_containers, value))
    return (
        {key: _copied_containers(item) for key, item in value.items()}
        if type(value) is dict
        else value
    )


def check_unchanged(estimator: Any) -> None:
    """Refuse to go on with fitted networks if the parameters ask for others.

    Raises
    ------
    ValueError
        If `module` or a parameter ``module__*`` was changed after `fit`.
    """
    built = getattr(estimator, "_built", None)
    if built is not None and (changes := built.changes(estimator)):
        changed = "; ".join(
            f"{name}: {before!r:.200} then, {now!r:.200} now"
            for name, (before, now) in changes.items()
        )
        raise ValueError(
            "training goes on with the fitted networks, but the parameters that build networks "
            f"were changed after fit ({changed}). Set them back, or begin anew: call fit with "
            "warm_start=False, or fit a clone of the estimator"
        )
