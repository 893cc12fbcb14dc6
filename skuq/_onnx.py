"""Mean prediction and uncertainty of a fitted network, with the steps before it, as ONNX."""

from __future__ import annotations

import copy
import json
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skuq._data._places import places_as_rows
from skuq._engine._engine import Engine
from skuq._estimator._base import TorchEstimator
from skuq._estimator._columns import is_table
from skuq._onnx_steps import steps_before
from skuq._reductions import class_uncertainty, target_uncertainty
from skuq._utils._files import replace_file
from skuq._utils._messages import name_of, unfrozen
from skuq._utils._optional import import_optional
from skuq._utils._sklearn_compat import BaseSearchCV
from skuq._utils._typing import MatrixLike, StrPath
from skuq._version import __version__
from skuq.calibration._base import Calibrator
from skuq.pipeline import predict_uncertainty

__all__ = ["export_onnx"]

_TOLERANCE = 1e-5  # relative to the largest number
_KINDS = ("total", "aleatoric", "epistemic")
_CHECKED_ROWS = 500  # of the user's


def export_onnx(estimator: Any, path: StrPath, X: MatrixLike | None = None) -> None:
    """Write a fitted network as an ONNX graph, for programs without Python.

    The graph takes ``X`` (n_rows, ...) in the dtype of the network, with any number of rows. Images
    have the height and width of those in `fit`. Several inputs have their own names, integers as
    int64; an input without a name is ``input_0`` and so on. With the steps of a Pipeline, the graph
    takes what the first step takes: ``X``, or each column of a data frame by its name, of shape
    (n_rows, 1), numbers in the type that they have in `X`, all else as text.

    It has four outputs in float64:

    * for a classifier ``predicted_probabilities`` (n_rows, n_classes), the mean over the draws with
      columns as in `classes_`, and ``total_uncertainty`` (n_rows,), their entropy in nats, with its
      parts ``aleatoric_uncertainty`` and ``epistemic_uncertainty``. With several labels at once all
      have shape (n_rows, n_labels). For a segmenter they are maps, (n_rows, n_classes, height,
      width) and (n_rows, height, width);
    * for a regressor ``predicted_mean`` and the same three uncertainties, variances in squared
      units of y, all of the shape of y.

    Every draw is a branch of the graph, with the masks that `MCDropout` fixed in `fit`. So the
    graph gives the same numbers as `predict_proba` and `predict_uncertainty`. onnxruntime checks
    them on a few rows before the file is written.

    Parameters
    ----------
    estimator : TorchClassifier, TorchRegressor or TorchSegmenter, or a calibrator or a Pipeline \
            around one
        The fitted estimator to export. Pipelines and calibrators may be around one another in any
        order; a search counts as its best estimator.
    path : str or path-like
        The file to write; by convention its name ends in ``.onnx``.
    X : array or data frame of shape (n_samples, n_features), default=None
        Some rows as the Pipeline takes them, needed if it has other steps: their types become those
        of the inputs, and the graph is checked on them.

    Raises
    ------
    TypeError
        If `estimator` is another object.
    ValueError
        If a step, the module or the likelihood has operations that ONNX or skl2onnx lacks, if the
        numbers of the graph differ from the estimator by more than 1e-5 (relative to the largest),
        or if the estimator has ``precision="bfloat16"``.
    NotFittedError
        Before `fit`.
    ImportError
        Without onnx, onnxscript and onnxruntime, and for steps skl2onnx, the extra ``onnx``.

    See Also
    --------
    save : Write the whole object, for `skuq.load`.
    """
    network, calibrators, steps = _taken_apart(estimator)
    for name in ("onnxscript", "onnxruntime"):
        import_optional(name, "onnx", "exporting to ONNX")
    if network.precision == "bfloat16":
        raise ValueError(
            "precision='bfloat16' rounds inside of the network in a way that a graph does not "
            "repeat: export an estimator fitted with precision='float32'"
        )
    graph, rows = _Graph(network, calibrators), network._engine._sample.cpu()
    model = _exported(graph, rows, network)
    if steps:
        content = _with_steps(steps, model, estimator, graph, X)
    else:
        content = model.SerializeToString()
        _check(content, graph, rows)
    replace_file(path, lambda file: file.write(content))


def _taken_apart(estimator: Any) -> tuple[Any, list[Calibrator], list[tuple[str, Any]]]:
    """Find the network, the calibrators around it (the outermost first), and steps before it."""
    given, calibrators, steps = estimator, list[Calibrator](), list[tuple[str, Any]]()
    while not isinstance(estimator := unfrozen(estimator), TorchEstimator):
        if isinstance(estimator, Calibrator) or hasattr(estimator, "_answers_by_estimator"):
            check_is_fitted(estimator)
            calibrators += [estimator] if isinstance(estimator, Calibrator) else []
            estimator = estimator.estimator_
        elif isinstance(estimator, Pipeline):
            check_is_fitted(estimator)
            before = [step for step in estimator.steps[:-1] if step[1] not in (None, "passthrough")]
            steps += [(f"{len(steps) + k}_{name}", one) for k, (name, one) in enumerate(before)]
            estimator = estimator.steps[-1][1]
        elif isinstance(estimator, BaseSearchCV) and hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        else:
            around = "" if estimator is given else f" in {name_of(given)}"
            raise TypeError(
                "export_onnx takes a TorchClassifier or a TorchRegressor, or a calibrator, a "
                f"Pipeline or a search around one, got {type(estimator).__name__}{around}"
            )
    check_is_fitted(estimator)
    if steps and estimator._layout is not None:
        raise ValueError(
            f"{type(estimator.module_).__name__} takes several inputs, which the steps before it "
            "make: export the last step, and apply the others where you use the graph"
        )
    return estimator, calibrators, steps


def _with_steps(
    steps: list[tuple[str, Any]], model: Any, estimator: Any, graph: _Graph, X: Any
) -> bytes:
    """Put steps before the network, and check the whole on rows of the user."""
    if X is None:
        raise ValueError(
            f"the steps {[name for name, _ in steps]} come before the network: expected X, some "
            "rows as the Pipeline takes them, got None. Give export_onnx(estimator, path, X)"
        )
    X = X if is_table(X) else np.asarray(X)
    X = X.iloc[:_CHECKED_ROWS] if hasattr(X, "iloc") else X[:_CHECKED_ROWS]
    parts = predict_uncertainty(estimator, X, kind="all")
    first = estimator.predict_proba(X) if graph.classifies else estimator.predict(X)
    expected = [np.asarray(values) for values in (first, *parts)]
    problem: Exception | None = None
    for content, columns in steps_before(steps, X, model):
        try:
            _compare(content, graph.outputs, columns, expected)
        except Exception as error:  # types of onnxruntime, and the ValueError of numbers
            problem = problem or error
        else:
            return content
    raise ValueError(
        f"the graph of the steps {[name for name, _ in steps]} and {graph.about} cannot be used: "
        f"{problem}"
    ) from problem


class _Graph(nn.Module):
    """The exported function of rows, on the CPU."""

    def __init__(self, estimator: Any, calibrators: list[Calibrator]) -> None:
        super().__init__()
        engine = copy.copy(estimator._engine)
        engine.__dict__.update(estimator._engine.__getstate__())
        engine.numerics = replace(engine.numerics, channels_last=False)
        self._function, self._dtype = _unrolled(engine), engine.numerics.dtype
        self._predictive = copy.deepcopy(estimator.likelihood_).predictive
        self._calibrations = [calibrator._calibrated for calibrator in reversed(calibrators)]
        self.classifies = is_classifier(estimator)
        self._multilabel = self.classifies and estimator._multilabel
        self._flat = not self.classifies and not estimator._target_shape
        around = "".join(f" in {type(one).__name__}" for one in calibrators[::-1])
        self.about = f"{type(estimator.module_).__name__} with {estimator.likelihood_}{around}"
        # Unlike the names of all steps inside of the graph.
        first = "predicted_probabilities" if self.classifies else "predicted_mean"
        self.outputs = [first, *(f"{kind}_uncertainty" for kind in _KINDS)]
        self._layout = estimator._layout
        self.inputs = ["X"]
        if self._layout is not None:
            names = [part.name for part in self._layout.parts]
            self.inputs = [f"input_{name}" if name.isdigit() else name for name in names]
            self.inputs += ["attention_mask"] if self._layout.adds_mask else []

    def may_be_longer(self, number: int) -> bool:
        """Return whether an input has sequences of any length."""
        if self._layout is None:
            return False
        return number >= len(self._layout.parts) or self._layout.parts[number].free

    def apart(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Take rows apart: the inputs of the graph."""
        if self._layout is None:
            return (rows,)
        found = self._layout.unpacked(rows)
        mask = [found[""]] if self._layout.adds_mask else []
        return (*(found[part.name] for part in self._layout.parts), *mask)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        x = inputs[0] if self._layout is None else self._layout.joined(inputs)
        raw = self._function(x.to(self._dtype)).double()
        predictive: Any = self._predictive(places_as_rows(raw))
        for calibration in self._calibrations:
            predictive = calibration(predictive)
        if self.classifies:
            proba = predictive.probs.mean(0)
            found = (
                proba[..., 1] if self._multilabel else proba,
                *_parts(class_uncertainty, predictive),
            )
        else:
            found = (predictive.mean.mean(0), *_parts(target_uncertainty, predictive))
            found = tuple(values[..., 0] for values in found) if self._flat else found
        return tuple(_in_place(values, raw.shape[3:]) for values in found)


def _parts(reduction: Any, predictive: Any) -> tuple[Tensor, ...]:
    return tuple(reduction(kind)(predictive) for kind in _KINDS)


def _in_place(values: Tensor, places: torch.Size) -> Tensor:
    """Make (n_rows, *places) of (n_places,), and (n_rows, n_outputs, *places) of a matrix."""
    if not places:
        return values
    maps = values.reshape(-1, *places, *values.shape[1:])
    return maps if values.ndim == 1 else maps.movedim(-1, 1)


def _unrolled(engine: Engine) -> Any:
    """Evaluate one draw after another, since a network under vmap cannot be exported."""
    evaluate, draws = engine._evaluator(False), engine.draws
    tensors = draws.tensors(0, draws.n_draws)
    return lambda x: evaluate(tensors, x)


def _exported(graph: _Graph, rows: Tensor, estimator: Any) -> Any:
    n_rows = torch.export.Dim("n_rows")
    axes: list[dict[int, Any]] = [{0: n_rows} for _ in graph.inputs]
    for number in range(len(axes)):
        if graph.may_be_longer(number):
            axes[number][1] = torch.export.Dim.AUTO
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            program: Any = torch.onnx.export(
                graph,
                graph.apart(rows),
                dynamo=True,
                dynamic_shapes=(tuple(axes),),
                input_names=graph.inputs,
                output_names=graph.outputs,
                verbose=False,
            )
        except Exception as error:  # several exporters run, each with its own types of errors
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            raise ValueError(
                f"{graph.about} cannot be exported to ONNX: "
                f"{(str(cause).strip() or repr(cause)).splitlines()[0][:500]}"
            ) from error
    about = {"producer": f"skuq {__version__}"}
    if graph.classifies:
        about["classes"] = json.dumps(estimator.classes_.tolist(), default=str)
    if estimator._columns is not None:
        about["categories"] = json.dumps(estimator._columns.categories, default=str)
    program.model.metadata_props.update(about)
    return program.model_proto


def _check(content: bytes, graph: _Graph, rows: Tensor) -> None:
    """Compare graph and network in onnxruntime, for several numbers of rows."""
    for some in (rows, rows[:1], torch.cat([rows, rows.flip(0)])):
        inputs = graph.apart(some)
        with torch.no_grad():
            expected = [output.numpy() for output in graph(*inputs)]
        given = dict(zip(graph.inputs, (part.numpy() for part in inputs)))
        _compare(content, graph.outputs, given, expected)


def _compare(
    content: bytes, names: list[str], given: dict[str, np.ndarray], expected: list[np.ndarray]
) -> None:
    """Run a graph on rows; ValueError if its numbers are others."""
    runtime = import_optional("onnxruntime", "onnx", "exporting to ONNX")
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    got = session.run(names, {one.name: given[one.name] for one in session.get_inputs()})
    for name, one, other in zip(names, expected, got):
        limit = _TOLERANCE * (1 + np.abs(one).max())
        if one.shape != other.shape or not np.abs(one - other).max() <= limit:
            raise ValueError(
                f"the exported graph gives another {name} than the network for {len(one)} "
                "rows, so no file was written"
            )
