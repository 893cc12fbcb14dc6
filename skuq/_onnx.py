"""The mean prediction and the total uncertainty of a fitted network as an ONNX graph."""

from __future__ import annotations

import copy
import json
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skuq._data._places import places_as_rows
from skuq._engine._engine import Engine
from skuq._estimator._base import TorchEstimator
from skuq._reductions import class_uncertainty, target_uncertainty
from skuq._utils._files import replace_file
from skuq._utils._messages import name_of, unfrozen
from skuq._utils._optional import import_optional
from skuq._utils._typing import StrPath
from skuq._version import __version__
from skuq.calibration._base import Calibrator

__all__ = ["export_onnx"]

_TOLERANCE = 1e-5  # relative to the largest number


def export_onnx(estimator: Any, path: StrPath) -> None:
    """Write a fitted network as an ONNX graph, for programs without Python.

    The graph takes ``X`` (n_rows, ...) in the dtype of the network, with any number of rows. Images
    have the height and width of those in `fit`. It has two outputs in float64:

    * for a classifier ``predicted_probabilities`` (n_rows, n_classes), the mean over the draws with
      columns as in `classes_`, and ``total_uncertainty`` (n_rows,), their entropy in nats; with
      several labels at once both have shape (n_rows, n_labels); for a segmenter they are maps,
      (n_rows, n_classes, height, width) and (n_rows, height, width);
    * for a regressor ``predicted_mean`` and ``total_uncertainty``, the total variance in squared
      units of y, both of the shape of y.

    Every draw is a branch of the graph, with the masks that `MCDropout` fixed in `fit`. So the
    graph gives the same numbers as `predict_proba` and `predict_uncertainty`. onnxruntime checks
    them on a few rows before the file is written.

    Parameters
    ----------
    estimator : TorchClassifier, TorchRegressor or TorchSegmenter, or a calibrator around one
        The fitted estimator to export. Export the last step of a Pipeline; its other steps have no
        graph.
    path : str or path-like
        The file to write; by convention its name ends in ``.onnx``.

    Raises
    ------
    TypeError
        If `estimator` is another object.
    ValueError
        If the module or the likelihood has operations that ONNX lacks, if the numbers of the graph
        differ from the estimator by more than 1e-5 (relative to the largest), or if the estimator
        has ``precision="bfloat16"``.
    NotFittedError
        Before `fit`.
    ImportError
        Without onnx, onnxscript and onnxruntime, the extra ``onnx``.

    See Also
    --------
    save : Write the whole object, for `skuq.load`.
    """
    given, calibrators = estimator, []
    while isinstance(estimator := unfrozen(estimator), Calibrator) or hasattr(
        estimator, "_answers_by_estimator"
    ):
        check_is_fitted(estimator)
        calibrators += [estimator] if isinstance(estimator, Calibrator) else []
        estimator = estimator.estimator_
    if not isinstance(estimator, TorchEstimator):
        around = "" if estimator is given else f" in {name_of(given)}"
        raise TypeError(
            "export_onnx takes a TorchClassifier or a TorchRegressor, or a calibrator around one, "
            f"got {type(estimator).__name__}{around}; of a Pipeline give the last step, and apply "
            "the steps before it where you use the graph"
        )
    check_is_fitted(estimator)
    for name in ("onnxscript", "onnxruntime"):
        import_optional(name, "onnx", "exporting to ONNX")
    if estimator.precision == "bfloat16":
        raise ValueError(
            "precision='bfloat16' rounds inside of the network in a way that a graph does not "
            "repeat: export an estimator fitted with precision='float32'"
        )
    graph, rows = _Graph(estimator, calibrators), estimator._engine._sample.cpu()
    content = _exported(graph, rows, estimator)
    _check(content, graph, rows)
    replace_file(path, lambda file: file.write(content))


class _Graph(nn.Module):
    """The exported function of rows, on the CPU."""

    def __init__(self, estimator: Any, calibrators: list[Calibrator]) -> None:
        super().__init__()
        engine = copy.copy(estimator._engine)
        engine.__dict__.update(estimator._engine.__getstate__())
        engine.numerics = replace(engine.numerics, channels_last=False)
        self._function = _unrolled(engine)
        self._predictive = copy.deepcopy(estimator.likelihood_).predictive
        self._calibrations = [calibrator._calibrated for calibrator in reversed(calibrators)]
        self.classifies = is_classifier(estimator)
        self._multilabel = self.classifies and estimator._multilabel
        self._flat = not self.classifies and not estimator._target_shape
        around = "".join(f" in {type(one).__name__}" for one in calibrators[::-1])
        self.about = f"{type(estimator.module_).__name__} with {estimator.likelihood_}{around}"
        # Unlike the names of all steps inside of the graph.
        first = "predicted_probabilities" if self.classifies else "predicted_mean"
        self.outputs = [first, "total_uncertainty"]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raw = self._function(x).double()
        predictive: Any = self._predictive(places_as_rows(raw))
        for calibration in self._calibrations:
            predictive = calibration(predictive)
        if self.classifies:
            proba = predictive.probs.mean(0)
            total = class_uncertainty("total")(predictive)
            first = proba[..., 1] if self._multilabel else proba
        else:
            first, total = predictive.mean.mean(0), target_uncertainty("total")(predictive)
            if self._flat:
                first, total = first[..., 0], total[..., 0]
        return _in_place(first, raw.shape[3:]), _in_place(total, raw.shape[3:])


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


def _exported(graph: _Graph, rows: Tensor, estimator: Any) -> bytes:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            program: Any = torch.onnx.export(
                graph,
                (rows,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("n_rows")},),
                input_names=["X"],
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
    program.model.metadata_props.update(about)
    content: bytes = program.model_proto.SerializeToString()
    return content


def _check(content: bytes, graph: _Graph, rows: Tensor) -> None:
    """Compare graph and network in onnxruntime, for several numbers of rows."""
    runtime = import_optional("onnxruntime", "onnx", "exporting to ONNX")
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for some in (rows, rows[:1], torch.cat([rows, rows.flip(0)])):
        with torch.no_grad():
            expected = [output.numpy() for output in graph(some)]
        got = session.run(None, {"X": some.numpy()})
        for name, one, other in zip(graph.outputs, expected, got):
            limit = _TOLERANCE * (1 + np.abs(one).max())
            if one.shape != other.shape or not np.abs(one - other).max() <= limit:
                raise ValueError(
                    f"the exported graph gives another {name} than the network for {len(some)} "
                    "rows, so no file was written"
                )
