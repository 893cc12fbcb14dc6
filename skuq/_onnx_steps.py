"""The steps of a Pipeline as an ONNX graph before that of the network, by skl2onnx."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from skuq._utils._optional import import_optional

__all__ = ["columns_of", "steps_before"]

_NETWORK, _ROWS = "network/", "X"  # prefix of names in the graph of the network, and its input


def columns_of(X: Any) -> dict[str, np.ndarray]:
    """Return the inputs of a graph of steps: a column for each name, or all of X.

    Numbers keep their type, and everything else becomes text.
    """
    if not (hasattr(X, "iloc") and hasattr(X, "columns")):
        array = np.asarray(X)
        return {_ROWS: _plain(array if array.ndim > 1 else array[:, None])}
    return {str(name): _plain(X.iloc[:, k].to_numpy()[:, None]) for k, name in enumerate(X.columns)}


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
    for given in kinds:
        before = _converted(steps, given, network)
        _cast_output(onnx, before, network.graph.input[0])
        whole = onnx.compose.merge_models(
            before, network, io_map=[("rows_of_network", _NETWORK + _ROWS)]
        )
        yield _renamed(onnx, whole), given


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
    pipeline = Pipeline(list(steps))
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
    graph.ir_version = network.ir_version
    for used in graph.opset_import:  # the version in which the operations last changed
        if used.domain in ("", "ai.onnx"):
            used.version = opset
    return graph


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
