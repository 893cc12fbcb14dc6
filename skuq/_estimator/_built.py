"""The parameters that built the networks of a fitted estimator, and their later changes."""

from __future__ import annotations

from typing import Any, NamedTuple

from skuq._training._identity import describe
from skuq.modules import MLP
from skuq.posteriors import DeepEnsemble, Posterior

__all__ = ["Built", "check_unchanged", "posterior_of"]


class Built(NamedTuple):
    """The parameters that built networks: `module` and ``module__*``.

    `filled` holds the parameters of the default network that depend on the posterior or differ
    between versions; without a record, those of the version that kept none.
    """

    factory: Any
    parameters: dict[str, Any]
    filled: dict[str, Any] = {"activation": "relu", "dropout": 0.1}  # never changed

    @classmethod
    def by(cls, estimator: Any) -> Built:
        """Copy the present parameters of an estimator."""
        given = _copied_containers(estimator._with_prefix("module"))
        # A posterior that was not saved, or a mistake that is found later, has no rate.
        dropout = getattr(posterior_of(estimator), "default_dropout", 0.0)
        return cls(estimator.module, given, {"activation": "silu", "dropout": dropout})

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the factory."""
        is_default = self.factory is None or self.factory is MLP
        return {**(self.filled if is_default else {}), **self.parameters}

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
    given: Posterior | None = estimator.posterior
    return DeepEnsemble() if given is None else given


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
