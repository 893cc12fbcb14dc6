"""Predictions for more rows than fit into one memory, block by block, on one machine or many."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterable, Iterator
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from skuq._utils._optional import import_optional
from skuq._utils._typing import MatrixLike
from skuq.pipeline import predict_interval, predict_quantiles, predict_uncertainty

__all__ = ["predict_blocks"]

# Methods that scikit-learn's objects forward, and functions of skuq that see through these objects.
_FORWARDED = ("predict", "predict_proba")
_FUNCTIONS = {f.__name__: f for f in (predict_uncertainty, predict_interval, predict_quantiles)}


def predict_blocks(
    estimator: Any,
    X: MatrixLike | Iterable[Any],
    kind: str = "total",
    *,
    method: str = "predict_uncertainty",
    block_size: int = 65_536,
    **options: Any,
) -> Any:
    """Predict for one block of rows at a time.

    Parameters
    ----------
    estimator : object
        A fitted skuq estimator, or any object around one that `skuq.predict_uncertainty` takes.
    X : dask array or DataFrame, array or data frame of shape (n_samples, ...), or iterable of such
        Rows. For a dask collection the result is a lazy dask array: the estimator travels to each
        worker once, and each thread of a worker needs memory for one block and its predictions. For
        an array, or an iterable of blocks such as a list of arrays, the result is an iterator; a
        memory map is read block by block. Blocks without rows are skipped; in a dask collection
        they give predictions without rows.
    kind : {"total", "aleatoric", "epistemic", "all"}, default="total"
        The part of the uncertainty; only for ``method="predict_uncertainty"``.
    method : {"predict_uncertainty", "predict", "predict_proba", "predict_interval", \
            "predict_quantiles"}, default="predict_uncertainty"
        The method that predicts for each block.
    block_size : int, default=65536
        Number of rows of a block, if X is an array. Other X come in blocks.
    **options
        Further arguments of the method, such as ``measure``, ``confidence_level`` or ``q``.

    Returns
    -------
    dask array of shape (n_samples, ...), or iterator of ndarrays of shape (n_rows, ...)
        The predictions. If the method returns a tuple (``kind="all"``, ``return_std=True``): a
        tuple of dask arrays of the same class, or an iterator of tuples.

    Raises
    ------
    ValueError
        If `method` or `block_size` is not valid, or rows are split along another axis than the
        first and cannot be joined.
    ImportError
        If X is a dask collection and dask is not installed (extra ``dask``).

    Notes
    -----
    For a dask collection, the first row is predicted at once, to learn the shape of predictions.
    In a process that dask started as a worker, torch keeps to one thread from then on, since dask
    runs as many tasks at a time as the worker has threads.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skuq import TorchClassifier
    >>> from skuq.distributed import predict_blocks
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = TorchClassifier(max_epochs=2, random_state=0).fit(X, y)
    >>> blocks = predict_blocks(classifier, X, kind="epistemic", block_size=64)
    >>> [len(block) for block in blocks]
    [64, 64, 22]
    """
    known = [*_FUNCTIONS, *_FORWARDED]
    if method not in known:
        raise ValueError(f"method must be one of {', '.join(known)}, got {method!r}")
    size: Any = block_size  # may be of any type
    if not isinstance(size, Integral) or int(size) < 1:
        raise ValueError(f"block_size must be an integer of at least 1, got {block_size!r}")
    if method == "predict_uncertainty":
        options["kind"] = kind
    elif kind != "total":
        raise ValueError(f"kind={kind!r} needs method='predict_uncertainty', got {method!r}")
    if hasattr(X, "__dask_graph__"):
        return _of_dask(estimator, X, method, options)
    blocks: Any = _slices(X, int(size)) if hasattr(X, "shape") else X
    return _in_turn(estimator, blocks, method, options)


def _answer(estimator: Any, X: Any, method: str, options: dict[str, Any]) -> Any:
    if method in _FUNCTIONS:
        return _FUNCTIONS[method](estimator, X, **options)
    return getattr(estimator, method)(X, **options)


def _slices(X: Any, size: int) -> Iterator[Any]:
    rows = X.iloc if hasattr(X, "iloc") else X
    return (rows[start : start + size] for start in range(0, len(X), size))


def _in_turn(
    estimator: Any, blocks: Iterable[Any], method: str, options: dict[str, Any]
) -> Iterator[Any]:
    return (_answer(estimator, block, method, options) for block in blocks if len(block))


# ---------------------------------------------------------------------------------------------
# dask


def _of_dask(estimator: Any, X: Any, method: str, options: dict[str, Any]) -> Any:
    dask = import_optional("dask", "dask", "a dask collection")
    array = import_optional("dask.array", "dask", "a dask collection")
    first = X.head(1, npartitions=-1) if hasattr(X, "head") else X[:1].compute()
    if not len(first):
        raise ValueError("X has no rows: there is nothing to predict")
    parts, structure = tree_flatten(_answer(estimator, first, method, options))
    empty = _side_by_side(parts)[:0]
    # With its own name, the estimator is one object of the graph, which is sent to a worker once.
    sent = dask.delayed(estimator, name=f"estimator-{uuid.uuid4().hex}", traverse=False)
    ask = dask.delayed(_answer_of_block, pure=True)
    blocks, lengths = X.to_delayed(), None
    if isinstance(X, array.Array):
        X = X.rechunk(dict.fromkeys(range(1, X.ndim), -1))
        blocks, lengths = X.to_delayed().ravel(), X.chunks[0]
    answers = array.concatenate(
        [
            array.from_delayed(
                ask(sent, block, method, options, empty),
                shape=(np.nan if lengths is None else lengths[k], *empty.shape[1:]),
                meta=empty,
            )
            for k, block in enumerate(blocks)
        ],
        allow_unknown_chunksizes=True,
    )
    ends = np.cumsum([0, *(part[0].size for part in parts)])
    separate = [
        answers[:, start:stop].reshape((-1, *part.shape[1:]))
        if part.ndim > 1
        else answers[:, start]
        for part, start, stop in zip(parts, ends, ends[1:])
    ]
    return tree_unflatten(separate, structure)


def _side_by_side(parts: list[np.ndarray]) -> np.ndarray:
    """Join arrays of one prediction as columns, since a block of dask is one array."""
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def _answer_of_block(
    estimator: Any, X: Any, method: str, options: dict[str, Any], empty: np.ndarray
) -> np.ndarray:
    """Run a dask task; `empty` is the prediction for no rows."""
    _leave_threads_to_dask()
    if not len(X):
        return empty
    return _side_by_side(tree_flatten(_answer(estimator, X, method, options))[0])


def _leave_threads_to_dask() -> None:
    """Use one thread of torch in a process that dask started as a worker."""
    distributed = sys.modules.get("distributed")  # where it is not imported, this is no worker
    if distributed is None or torch.get_num_threads() == 1:
        return
    try:
        worker = distributed.get_worker()
    except ValueError:
        return
    if worker.nanny is not None:  # started by a nanny: not the process of a user
        torch.set_num_threads(1)
