"""Double-underscore parameters, such as ``module__width`` and ``optimizer__weight_decay``.

The constructor stores them and `fit` checks them; `get_params`, `set_params`, `clone` and searches
see them.
"""

from __future__ import annotations

import inspect
from typing import Any, Self

from sklearn.base import BaseEstimator

from skuq._utils._messages import suggest

__all__ = [
    "DoubleUnderscoreParameters",
    "NotSaved",
    "check_accepted",
]

PREFIXES = ("module", "optimizer", "callbacks", "iterator_train", "iterator_valid")


def _is_prefixed(name: str) -> bool:
    prefix, separator, rest = name.partition("__")
    return bool(separator and rest) and prefix in PREFIXES


# Names of skorch, and their equivalents here.
_ELSEWHERE = {
    "criterion": " The likelihood sets the loss: give likelihood=, from `skuq.likelihoods`.",
    "learning_rate": " Did you mean 'lr'?",
    "learning_rate_init": " Did you mean 'lr'?",
    "hidden_layer_sizes": " Did you mean 'module__hidden_layer_sizes'?",
    "activation": " Did you mean 'module__activation'?",
    "solver": " Did you mean 'optimizer', a class of torch.optim?",
    "alpha": " Weight decay is that of the optimizer: optimizer__weight_decay.",
    "max_iter": " Did you mean 'max_epochs'?",
    "tol": " Did you mean 'n_iter_no_change', with early_stopping=True?",
    "seed": " Did you mean 'random_state'?",
    "train_split": " Use early_stopping=True, validation_fraction= and `fit(..., groups=)`.",
}


class NotSaved:
    """Placeholder, in an object that `skuq.load` made, of a parameter that could not be saved.

    Predictions do not need the parameter; `fit` refuses the placeholder.

    Parameters
    ----------
    text : str
        A description of the parameter's value.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"<not saved: {self.text}>"


class DoubleUnderscoreParameters(BaseEstimator):
    """Mixin for estimators whose constructor ends in ``**kwargs`` of such parameters.

    The constructor calls ``self._store_prefixed(kwargs)``.
    """

    _prefixed: dict[str, Any] = {}  # replaced, never changed

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        signature = inspect.signature(cls.__init__)
        named = [
            p
            for p in signature.parameters.values()
            if p.name != "self" and p.kind is not p.VAR_KEYWORD
        ]
        cls.__signature__ = signature.replace(
            parameters=named, return_annotation=inspect.Signature.empty
        )

    def _store_prefixed(self, parameters: dict[str, Any]) -> None:
        for name in parameters:
            if not _is_prefixed(name):
                raise TypeError(self._unknown(name))
        if parameters:
            self._prefixed = dict(parameters)

    def _unknown(self, name: str) -> str:
        names = [*self._get_param_names(), *(f"{prefix}__" for prefix in PREFIXES)]
        return (
            f"{type(self).__name__} has no parameter {name!r}."
            f"{_ELSEWHERE.get(name.partition('__')[0]) or suggest(name, names)} It takes "
            f"{', '.join(self._get_param_names())}, and names that begin with "
            f"{', '.join(f'{prefix}__' for prefix in PREFIXES)}."
        )

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters of this estimator, including ``module__*`` and the like.

        Parameters
        ----------
        deep : bool, default=True
            If True, also return the parameters of the posterior and the likelihood.

        Returns
        -------
        dict
            The parameters by name.
        """
        return {**super().get_params(deep=deep), **self._prefixed}

    def set_params(self, **params: Any) -> Self:
        """Set parameters, including ``module__*`` and the like.

        Parameters
        ----------
        **params : dict
            New values of parameters, by name.

        Returns
        -------
        self : object
            The estimator itself.

        Raises
        ------
        ValueError
            If a name is no parameter; the message suggests the nearest valid name.
        """
        known = {name.partition("__")[0] for name in super().get_params(deep=False)}
        plain = {name: value for name, value in params.items() if not _is_prefixed(name)}
        for name in plain:
            first, nested, _ = name.partition("__")
            if first not in known:
                raise ValueError(f"Invalid parameter {name!r}: {self._unknown(name)}")
            if nested and params.get(first, getattr(self, first)) is None:
                raise ValueError(
                    f"Invalid parameter {name!r}: {first} is None; give an object as {first}=, "
                    f"and then set {name}"
                )
        super().set_params(**plain)
        prefixed = {name: value for name, value in params.items() if name not in plain}
        if prefixed:
            self._prefixed = {**self._prefixed, **prefixed}
        return self

    def _with_prefix(self, prefix: str) -> dict[str, Any]:
        """Return the parameters of one prefix, by their names without the prefix."""
        start = f"{prefix}__"
        return {
            name[len(start) :]: value
            for name, value in self._prefixed.items()
            if name.startswith(start)
        }


def check_accepted(
    prefix: str, names: Any, target: Any, but: tuple[str, ...] = (), also: str = ""
) -> None:
    """Raise a ValueError for names that `target` does not take, or that users must not set."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return
    hidden = {"self", *but}
    valid = [p.name for p in parameters if p.name not in hidden]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for name in names:
        first = name.partition("__")[0]
        if first in hidden or (first not in valid and first != also and not open_ended):
            raise ValueError(
                f"{prefix}__{name} is not a parameter of {getattr(target, '__name__', target)}"
                f" that can be set.{suggest(name, valid)} It takes {', '.join(valid)}."
            )
