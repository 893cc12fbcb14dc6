"""The steps of a Pipeline as an ONNX graph before that of the network, by skl2onnx."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from skuq._estimator._columns import columns_of_table, is_table
from skuq._utils._optional import import_optional

__all__ = ["columns_of", "steps_before"]

_NETWORK, _ROWS = "network/", "X"  # prefix of names in the graph of the network, and its input


def columns_of(X: Any) -> dict[str, np.ndarray]:
    """Return the inputs of a graph of steps: a column for each name, or all of X.

    Numbers keep their type, and everything else becomes text.
    """
    if not is_table(X):
        array = np.asarray(X)
        return {_ROWS: _plain(array if array.ndim > 1 else array[:, None])}
    columns = zip(X.columns, columns_of_table(X))
    return {str(name): _plain(column.to_numpy()[:, None]) for name, column in columns}


def _plain(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    if array.dtype.kind == "f":
        return array if array.dtype == np.float32 else array.astype(np.float64)
    return array if array.dtype.kind == "b" else array.astype(str).astype(object)


def _narrow(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the columns with floats of 32 bits, for operations that have no others."""
    return {
        name: array.astype(np.float32) if array.dtype == np.float64 else array
        for name, array in columns.items()
    }


def steps_before(
    steps: list[tuple[str, Any]], X: Any, network: Any
) -> Iterator[tuple[bytes, dict[str, np.ndarray]]]:
    """Put the steps before the network; yield candidates of the whole graph, with their inputs.

    The first one keeps the types of X. Some operations of onnxruntime have no 64-bit version; the
    second graph then has 32 bits.

    Parameters
    ----------
    steps : list of (str, transformer)
        The fitted steps, the first one first.
    X : array or data frame
        Rows as the first step takes them.
    network : onnx.ModelProto
        The graph of the network, with the input ``X``.

    Raises
    ------
    ValueError
        If skl2onnx cannot convert a step.
    """
    onnx = import_optional("onnx", "onnx", "exporting to ONNX")
    columns = columns_of(X)
    kinds = [columns, _narrow(columns)] if any(map(_is_wide, columns.values())) else [columns]
    network = onnx.compose.add_prefix(network, _NETWORK)
    problems: list[ValueError] = []
    for given in kinds:
        try:
            before = _joined(onnx, steps, given, network)
        except ValueError as error:
            problems.append(error)
            continue
        _cast_output(onnx, before, network.graph.input[0])
        whole = onnx.compose.merge_models(
            before, network, io_map=[("rows_of_network", _NETWORK + _ROWS)]
        )
        yield _renamed(onnx, whole), given
    if len(problems) == len(kinds):
        raise problems[0]


def _joined(onnx: Any, steps: list[tuple[str, Any]], columns: dict[str, Any], network: Any) -> Any:
    """Convert the steps; those from a later ColumnTransformer on as a graph of their own.

    skl2onnx needs to know how many columns such a step takes.
    """
    starts = [k for k, (_, step) in enumerate(steps) if k and isinstance(step, ColumnTransformer)]
    ends = [*starts, len(steps)]
    graph = _converted(steps[: ends[0]], columns, network)
    for start, end in zip(starts, ends[1:]):
        (output,) = graph.graph.output
        elem_type = output.type.tensor_type.elem_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(elem_type)
        rows = np.empty((0, steps[start][1].n_features_in_), dtype)
        after = _converted(steps[start:end], {_ROWS: rows}, network)
        prefix = f"steps_from_{start}/"
        graph = onnx.compose.merge_models(
            graph, onnx.compose.add_prefix(after, prefix), io_map=[(output.name, prefix + _ROWS)]
        )
    return graph


def _is_wide(array: np.ndarray) -> bool:
    return array.dtype == np.float64


def _converted(steps: list[tuple[str, Any]], columns: dict[str, np.ndarray], network: Any) -> Any:
    skl2onnx = import_optional("skl2onnx", "onnx", "exporting the steps of a Pipeline to ONNX")
    types = skl2onnx.common.data_types
    kinds = {
        "f4": types.FloatTensorType,
        "f8": types.DoubleTensorType,
        "b1": types.BooleanTensorType,
        "i8": types.Int64TensorType,
    }
    declared = [
        (name, kinds.get(array.dtype.str[1:], types.StringTensorType)([None, array.shape[1]]))
        for name, array in columns.items()
    ]
    opset = next(s.version for s in network.opset_import if s.domain in ("", "ai.onnx"))
    named = [steps[0]] if len(columns) > 1 or _ROWS not in columns else []
    pipeline = Pipeline([*named, *((name, _by_place(step)) for name, step in steps[len(named) :])])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = skl2onnx.convert_sklearn(
                pipeline, initial_types=declared, target_opset={"": opset, "ai.onnx.ml": 3}
            )
    except Exception as error:  # each converter has its own types of errors
        cause = (str(error).strip() or repr(error)).splitlines()[0][:500]
        raise ValueError(
            f"skl2onnx cannot convert the steps {[name for name, _ in steps]}: {cause}. Export the "
            "last step of the Pipeline, and apply the others where you use the graph"
        ) from error
    _name_inputs(graph.graph, list(columns))
    graph.ir_version = network.ir_version
    for used in graph.opset_import:  # the version in which the operations last changed
        if used.domain in ("", "ai.onnx"):
            used.version = opset
    return graph


def _by_place(step: Any) -> Any:
    """Return a ColumnTransformer that knows its columns by their places, not by their names.

    A step gets one tensor from the step before it, whose columns have no names.
    """
    if not isinstance(step, ColumnTransformer):
        return step
    places = step._transformer_to_input_indices
    step = copy.copy(step)
    step.transformers_ = [
        (name, transformer, list(places.get(name, columns)))
        for name, transformer, columns in step.transformers_
    ]
    return step


def _name_inputs(graph: Any, names: list[str]) -> None:
    """Give the inputs the names of the columns, which skl2onnx makes identifiers."""
    new = {one.name: name for one, name in zip(graph.input, names) if one.name != name}
    for one in graph.input:
        one.name = new.get(one.name, one.name)
    for node in graph.node:
        taken = [new.get(name, name) for name in node.input]
        del node.input[:]
        node.input.extend(taken)


def _cast_output(onnx: Any, graph: Any, network_input: Any) -> None:
    """Give the rows the type of the network, under a name of their own."""
    elem_type = network_input.type.tensor_type.elem_type
    (output,) = graph.graph.output
    cast = onnx.helper.make_node("Cast", [output.name], ["rows_of_network"], to=elem_type)
    graph.graph.node.append(cast)
    del graph.graph.output[:]
    graph.graph.output.append(
        onnx.helper.make_tensor_value_info("rows_of_network", elem_type, None)
    )


def _renamed(onnx: Any, graph: Any) -> bytes:
    """Give the outputs their own names again."""
    for output in graph.graph.output:
        name = output.name.removeprefix(_NETWORK)
        graph.graph.node.append(onnx.helper.make_node("Identity", [output.name], [name]))
        output.name = name
    content: bytes = graph.SerializeToString()
    return content
