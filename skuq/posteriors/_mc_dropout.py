"""Monte-Carlo dropout: dropout masks as draws of the function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from skuq._engine._draws import Draws
from skuq._networks._dropout import FixedMasks, Recorder, drive, restart_calls
from skuq._networks._inserted import check_as_before, insert_dropout
from skuq._networks._module import Numerics, call, first_rows, private_copy
from skuq._networks._precision import float_dtype
from skuq._training._problem import Problem
from skuq._utils._messages import warn
from skuq._utils._random import Purpose, derive_seed, generator
from skuq._utils._saved_names import saved_as
from skuq._utils._sklearn_compat import Interval, StrOptions
from skuq.modules import LearntDropout
from skuq.posteriors._base import Posterior
from skuq.posteriors._learnt_dropout import learning_rates_of_dropout
from skuq.posteriors._masked_weights import linear_readers

__all__ = ["MCDropout"]

_KEEP_IN_MEMORY = 64 * 2**20  # bytes of masks; larger ones are drawn again for each block
_WEIGHT_BYTES = 32 * 2**20  # bytes of the masked weights of a layer, all draws


class MCDropout(Posterior):
    """Dropout stays on at prediction: each draw is the network under one set of masks [1]_.

    It finds every ``nn.Dropout*`` layer with p > 0 of the module, however often it is called.
    BatchNorm and all else is in eval mode. `fit` draws masks once, one for each call of a layer,
    and all rows share them. So a draw is a function of x: predictions are repeatable, smooth in x,
    and do not depend on the other rows. Draw m does not depend on `n_draws`.

    Dropout outside of ``nn.Dropout*`` layers (``F.dropout``, inside attention or
    ``nn.LSTM(dropout=)``) works in training and is off at prediction; a warning names it. A module
    whose dropout layers all have p = 0 gives one draw, and a warning. `fit` refuses a module
    without such layers, unless `p` and `where` insert dropout.

    Parameters
    ----------
    n_draws : int, default=50
        Number of sets of masks.
    p : float in (0, 1), default=None
        Rate of the inserted dropout. None inserts none and samples the dropout of the module
        itself.
    where : {"last", "linear"} or list of str, default=None
        The layers of a module without dropout before which to insert ``nn.Dropout(p)``. "last": the
        last ``nn.Linear``; "linear": every ``nn.Linear`` but the first; a list: the layers of these
        names, as in ``module.named_modules()``. Give `p` and `where` together or not at all.

    Raises
    ------
    ValueError
        In `fit`, if the module has no dropout to sample, or if `p` and `where` cannot insert any:
        it has dropout already, or lacks such layers. The message lists the candidates.

    Notes
    -----
    Training does not learn the rate of ``nn.Dropout``, so epistemic uncertainty need not shrink to
    zero as data grow. It learns that of `skuq.modules.ConcreteDropout` layers, which this posterior
    samples, too: the loss is then the true negative log-likelihood, plus their divergence from the
    prior over the sum of the sample weights. `DeepEnsemble` often does better.

    Inserted dropout takes part in training, like dropout of the module itself. In a network that
    was trained without it (``max_epochs=0``, `skuq.from_trained`), it is not the posterior of the
    reference: the network never learnt to agree under these masks, so `p` sets the spread of the
    draws. Before a last linear layer with weights w and inputs h, the variance of an output is p /
    (1 − p) Σ w² h². Read it as a ranking, and choose `p` by the negative log-likelihood on held-out
    rows. In ``module_``, a layer called ``head`` becomes ``head.layer``, behind
    ``head.inserted_dropout``; ``head`` keeps the other attributes of the layer.

    References
    ----------
    .. [1] Y. Gal, Z. Ghahramani, "Dropout as a Bayesian Approximation: Representing Model
       Uncertainty in Deep Learning", ICML 2016, arXiv:1506.02142.

    Examples
    --------
    >>> from skuq import TorchClassifier
    >>> from skuq.posteriors import MCDropout
    >>> classifier = TorchClassifier(posterior=MCDropout(n_draws=100))

    Dropout inserted into a network that has none:

    >>> classifier = TorchClassifier(
    ...     posterior=MCDropout(p=0.1, where="last"), module__dropout=0.0
    ... )
    """

    quick: ClassVar[dict[str, Any]] = {"n_draws": 5}
    default_dropout: ClassVar[float] = 0.1

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_draws": [Interval(Integral, 1, None, closed="left")],
        "p": [Interval(Real, 0, 1, closed="neither"), None],
        "where": [StrOptions({"last", "linear"}), list, tuple, None],
    }

    def __init__(
        self, n_draws: int = 50, p: float | None = None, where: str | Sequence[str] | None = None
    ) -> None:
        self.n_draws = n_draws
        self.p = p
        self.where = where

    def validate(self) -> None:
        super().validate()
        if (self.p is None) != (self.where is None):
            raise ValueError(
                f"p and where go together, got p={self.p} and where={self.where!r}: "
                "MCDropout(p=0.1, where='last') inserts dropout into a network that has none, and "
                "MCDropout() samples the dropout of the network itself, whose rate the network "
                "sets (module__dropout=0.1 for the default module)"
            )
        if isinstance(self.where, list | tuple) and not (
            self.where and all(isinstance(name, str) for name in self.where)
        ):
            raise ValueError(f"where must hold names of layers, got {self.where!r}")

    def transform(self, module: nn.Module) -> nn.Module:
        if self.p is None or self.where is None:
            return module
        return insert_dropout(module, self.where, self.p)

    def fit(self, problem: Problem) -> Draws:
        _check_inserted(self, problem)
        _check_dropout(problem)
        (network,) = problem.train(**learning_rates_of_dropout(problem))
        if self.p is not None:
            check_as_before(network, problem.sample, problem.numerics)
        if not problem.report.dropout_layers:
            return Draws(network)
        masks = _move_to_weights(_find_masks(network, problem), network, self.n_draws, problem)
        return _MaskDraws(network, masks, self.n_draws, problem.seed(Purpose.POSTERIOR))


def _check_inserted(posterior: MCDropout, problem: Problem) -> None:
    """Refuse inserted dropout whose place or rate differs from the parameters."""
    report, where = problem.report, posterior.where
    found, calls = report.inserted_dropout, list(dict.fromkeys(report.linear_calls))
    expected = list(where or ())
    if isinstance(where, str):
        expected = list(report.linear_calls[-1:]) if where == "last" else calls[1:]
    if set(found) == set(expected) and set(found.values()) <= {posterior.p}:
        return
    if problem.before is not None:
        raise ValueError(
            f"training goes on with a network that has inserted dropout {found}, but the posterior "
            f"is {posterior} now: set its p and where back, or begin anew, with warm_start=False"
        )
    raise ValueError(
        f"where={where!r} uses the order in which layers were registered, and would put dropout "
        f"before {sorted(found)}, but the forward of {report.name} calls its nn.Linear layers in "
        f"the order {calls}: name the layers, where={expected}"
    )


def _check_dropout(problem: Problem) -> None:
    report = problem.report
    if report.idle_dropout_layers and not report.dropout_layers:
        warn(
            f"every nn.Dropout layer of {report.name} has p = 0: MCDropout is a single function "
            "then, and epistemic uncertainty is 0. Set p > 0 (only the default module has a "
            "parameter for it, module__dropout=0.1), insert dropout, posterior=MCDropout(p=0.1, "
            "where='last'), or pass posterior=DeepEnsemble()",
            UserWarning,
        )
    elif not report.dropout_layers:
        other = ""
        if report.other_noise:
            other = f" (the dropout of {', '.join(report.other_noise)} is not an nn.Dropout layer)"
        raise ValueError(
            f"{report.name} has no nn.Dropout with p > 0: add one, or pass "
            "posterior=DeepEnsemble(), or insert dropout, posterior=MCDropout(p=0.1, "
            f"where='last'){other}"
        )
    if report.other_noise:
        sampled, fix = "nothing else", "insert dropout, MCDropout(p=0.1, where='last'), "
        if report.dropout_layers:
            sampled, fix = f"only {', '.join(report.dropout_layers)}", ""
        warn(
            f"{report.name} draws random numbers in training outside of nn.Dropout layers: "
            f"{', '.join(report.other_noise)}. MCDropout leaves that off at prediction and samples "
            f"{sampled}; for the rest use nn.Dropout layers, {fix}or DeepEnsemble.",
            UserWarning,
        )


@saved_as("skuq.DropoutMask")
class _Mask(NamedTuple):
    """The mask of one call of a dropout layer."""

    layer: str
    call: int
    p: float
    shape: tuple[int, ...]  # without the batch axis
    weight: str | None = None  # the weight that is masked instead of the layer's input

    @property
    def tensor(self) -> str:
        """Name of the tensor that differs between draws: a buffer of the layer, or a weight."""
        return self.weight or ".".join(filter(None, (self.layer, f"mask_{self.call}")))


def _find_masks(network: nn.Module, problem: Problem) -> list[_Mask]:
    """Find the mask of each call of each dropout layer."""
    calls = []
    for n_rows in (2, 3):
        shell, recorder = private_copy(network), Recorder()
        drive(shell, recorder)
        with torch.no_grad():
            call(shell, first_rows(problem.sample, n_rows), problem.numerics)
        calls.append(recorder.calls)
    two, three = calls
    masks = []
    for name in problem.report.dropout_layers:
        if name not in two:
            raise ValueError(
                f"dropout layer '{name}' of {problem.report.name} has p > 0 but is not called in "
                "its forward in eval mode; remove it, or call it in both modes"
            )
        layer: Any = network.get_submodule(name)
        for index, ((a, _), (b, shape)) in enumerate(zip(two[name], three[name])):
            _check_batch_axis(name, layer, a, b)
            masks.append(_Mask(name, index, layer.p, shape[1:]))
    return masks


def _move_to_weights(
    masks: list[_Mask], network: nn.Module, n_draws: int, problem: Problem
) -> list[_Mask]:
    """Let masks apply to the weight of the following linear layer, if that is small enough."""
    readers = linear_readers(network, problem.sample, problem.numerics)
    found = []
    for mask in masks:
        reader = readers.get((mask.layer, mask.call))
        layer = network.get_submodule(mask.layer)
        plain = isinstance(layer, nn.Dropout | LearntDropout) and mask.p < 1
        if reader and plain and len(mask.shape) == 1:
            weight = network.get_parameter(f"{reader}.weight")
            if n_draws * weight.numel() * weight.element_size() <= _WEIGHT_BYTES:
                mask = mask._replace(weight=f"{reader}.weight")
        found.append(mask)
    return found


def _check_batch_axis(name: str, layer: Any, two: torch.Size, three: torch.Size) -> None:
    changing = [axis for axis, (a, b) in enumerate(zip(two, three)) if a != b]
    if len(two) != len(three) or changing != [0] or (two[0], three[0]) != (2, 3):
        raise ValueError(
            f"the batch axis of the input of dropout layer '{name}' is not the first: it has "
            f"shape {tuple(two)} for 2 rows and {tuple(three)} for 3. MCDropout draws one mask for "
            "all rows and needs the batch axis first: set batch_first=True, or move the axis."
        )
    if isinstance(layer, nn.Dropout1d) and len(two) == 2:
        raise ValueError(
            f"nn.Dropout1d layer '{name}' gets an input of shape {tuple(two)}, which torch reads "
            "as one unbatched (C, L) input: it drops whole rows. Use nn.Dropout."
        )


def _is_valid(mask: Any) -> bool:
    """Return whether a mask from a file has fields of the right types."""
    return (
        isinstance(mask, _Mask)
        and type(mask.layer) is str
        and type(mask.call) is int
        and type(mask.p) in (int, float)
        and isinstance(mask.shape, tuple)
        and all(type(n) is int for n in mask.shape)
        and type(mask.weight) in (str, type(None))
    )


@saved_as("dropout masks")
class _MaskDraws(Draws):
    """Draws that differ in dropout masks, which a seed makes again."""

    def __init__(self, module: nn.Module, masks: list[_Mask], n_draws: int, seed: int) -> None:
        super().__init__(module, n_draws=n_draws)
        self._masks = masks
        self._seed = seed
        self._cache: dict[str, Tensor] | None = None

    def tensors(self, start: int, stop: int) -> dict[str, Tensor]:
        one = sum(4 * torch.Size(mask.shape).numel() for mask in self._masks)
        if one * self.n_draws > _KEEP_IN_MEMORY:
            return self._draw(start, stop)
        if self._cache is None:
            self._cache = self._draw(0, self.n_draws)
        return {name: drawn[start:stop] for name, drawn in self._cache.items()}

    def masks(self, start: int, stop: int) -> Iterator[tuple[_Mask, Tensor]]:
        """Draw each mask: 1 where inputs are kept, else 0."""
        device = next(self.module.parameters(), torch.empty(0)).device
        dtype = float_dtype(self.module)
        for site, mask in enumerate(self._masks):
            keep = torch.empty((stop - start, *mask.shape), dtype=dtype)
            for row, draw in zip(keep, range(start, stop)):
                seed = derive_seed(self._seed, Purpose.POSTERIOR, site, draw)
                row.bernoulli_(1 - mask.p, generator=generator(seed))
            yield mask, keep.to(device)

    def _draw(self, start: int, stop: int) -> dict[str, Tensor]:
        drawn = {}
        for mask, keep in self.masks(start, stop):
            if mask.weight:
                weight = self.module.get_parameter(mask.weight).detach()
                keep = weight * (keep / (1 - mask.p))[:, None, :]
            drawn[mask.tensor] = keep
        return drawn

    def shell(self) -> nn.Module:
        shell = private_copy(self.module)
        drive(shell, FixedMasks({(m.layer, m.call) for m in self._masks if m.weight}))
        shell.register_forward_pre_hook(restart_calls)
        for mask in self._masks:
            layer: Any = shell.get_submodule(mask.layer)
            layer.p = mask.p  # a number, also where it was learnt
            if not mask.weight:
                layer.register_buffer(f"mask_{mask.call}", torch.empty(0))
        return shell

    def check(self, x: Tensor, numerics: Numerics) -> None:
        super().check(x, numerics)
        if type(self._seed) is not int or self._seed < 0:
            raise ValueError(f"the seed of the masks is a {type(self._seed).__name__}, not an int")
        if not all(map(_is_valid, self._masks)):
            raise ValueError("the masks are incomplete")
        shell, recorder = private_copy(self.module), Recorder()
        drive(shell, recorder)
        with torch.no_grad():
            call(shell, x, numerics)
        weights = dict(self.module.named_parameters())
        for mask in self._masks:
            calls = recorder.calls.get(mask.layer, [])
            shape = calls[mask.call][1][1:] if 0 <= mask.call < len(calls) else None
            fits = mask.weight is None or (
                mask.weight in weights and weights[mask.weight].shape[1:] == mask.shape
            )
            if shape is None or tuple(shape) != tuple(mask.shape) or not fits:
                raise ValueError(
                    f"call {mask.call} of dropout layer {mask.layer!r} has masks of shape "
                    f"{mask.shape}, expected {shape} (None: there is no such call), and as many "
                    f"inputs of {mask.weight!r}"
                )

    def to(self, device: torch.device) -> Draws:
        self._cache = None
        return super().to(device)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None}
