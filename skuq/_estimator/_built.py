"""With what the networks of a fitted estimator were built, whatever its parameters say now."""

from __future__ import annotations

from typing import Any, NamedTuple

from skuq._training._identity import describe

__all__ = ["Built", "check_unchanged"]


class Built(NamedTuple):
    """What made the networks: the parameter `module` and those that begin with ``module__``."""

    factory: Any
    parameters: dict[str, Any]

    @classmethod
    def by(cls, estimator: Any) -> Built:
        """As the parameters of an estimator are now."""
        return cls(estimator.module, _kept(estimator._with_prefix("module")))

    def changes(self, estimator: Any) -> dict[str, tuple[Any, Any]]:
        """What an estimator's parameters would build otherwise: before and now, by name."""
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


class _NotGiven:
    def __repr__(self) -> str:
        return "not given"


_NOT_GIVEN = _NotGiven()


def _kept(value: Any) -> Any:
    """The same, in containers that nobody else can change."""
    if type(value) in (list, tuple):
        return type(value)(map(_kept, value))
    return {key: _kept(item) for key, item in value.items()} if type(value) is dict else value


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
            "training goes on with the networks that are there, but the parameters that build "
            f"networks were changed after fit ({changed}). Set them back, or begin anew: call fit "
            "with warm_start=False, or fit a clone of the estimator"
        )
