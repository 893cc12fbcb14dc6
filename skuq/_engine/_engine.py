"""The engine: evaluates a stack of function draws on any number of rows.

`Engine` computes f(x; θ_m, b_m) for all draws m: by `torch.func.vmap` if it gives the same numbers
as a plain loop, otherwise by the loop. vmap has the axis of draws only where a value depends on a
draw, so layers before the first stacked tensor are computed once per row.

Rows are evaluated in chunks of constant size, and the last chunk is padded, so that kernels do not
change with the number of rows. The result of a row is then bit-equal for any neighbours, if the
rows of each layer's input begin at multiples of 16 bytes (widths divisible by 4 in float32). At
other widths, small matrix products of MKL depend on the alignment of a row, hence on its position,
and results are equal up to rounding (1e-7). The environment variable MKL_CBWR=COMPATIBLE, set
before Python starts, makes these bit-equal, too. If the device has no memory for a chunk, all later
chunks are half as large. That changes kernels, so results are equal up to rounding.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_consistent_length
from torch import Tensor, nn
from torch.func import functional_call, vmap

from skuq._data._batches import sent
from skuq._data._places import flat_places, places_as_rows, rows_with_places
from skuq._engine._blocks import Chunks, Reduced, one_behind, padded
from skuq._engine._draws import Draws
from skuq._engine._sizes import OutputSizes, share_of_draws
from skuq._networks._inputs import without_padding
from skuq._networks._layers import DrawnLinear
from skuq._networks._module import Numerics, call, first_rows, noting_input
from skuq._utils._arrays import tensor_of
from skuq._utils._forks import one_thread_if_forked
from skuq._utils._memory import give_back, is_out_of_memory
from skuq._utils._messages import warn, without_vmap_warnings
from skuq._utils._progress import bar
from skuq._utils._tensors import agree

__all__ = ["Engine"]

# The largest tensor of a chunk should fit the cache of a CPU, or keep a GPU busy; so should the
# outputs in float64 that are reduced at a time.
_CHUNK_BYTES = {"cpu": 4 * 2**20, "cuda": 256 * 2**20}
_MIN_ROWS, _MAX_ROWS = 16, {"cpu": 1024, "cuda": 65536}
# Draws are evaluated in blocks only if the fewest rows with all draws need more than this. Rows
# with places are images: one may be a chunk, and small blocks of draws are faster on a CPU.
_BLOCK_BYTES = {"cpu": 256 * 2**20, "cuda": 4 * 2**30}
_BLOCK_BYTES_OF_IMAGES = {"cpu": 16 * 2**20, "cuda": 2**30}
_SIZES = ("n_rows", "n_reduced", "n_draws_at_once", "_bytes_of_maps")
# On a CPU a loop is faster for images if more of the network depends on the draw: vmap loses the
# memory layout of images, and with it half of the speed of convolutions.
_MOST_OF_IMAGES = 2 / 3
# If the outputs of all draws for an image are larger, they are computed for one band after another.
_MAP_BYTES = {"cpu": 2 * 2**30, "cuda": 8 * 2**30}
_PROBED_DRAWS = 3  # enough to know the sizes for any number of draws


class Engine:
    """Evaluates `draws`; the constructor decides how, on a few rows.

    Parameters
    ----------
    draws : Draws
        The draws to evaluate.
    x : Tensor of shape (n_rows, ...)
        Rows of the training data; the first three are used for the decisions.
    numerics : Numerics
        Device and precision.

    Attributes
    ----------
    vectorized : bool
        Whether vmap evaluates the draws; otherwise a loop does.
    n_rows : int
        Number of rows of a chunk: constant, but halved if the device has too little memory.
    n_reduced : int
        How many rows, or places of rows, are reduced at a time.
    n_draws_at_once : int
        All draws, unless the fewest rows of a chunk would not fit with them.
    """

    n_rows: int
    n_reduced: int
    n_draws_at_once: int
    _bytes_of_maps: int  # outputs of all draws for an image; 0 without places

    def __init__(self, draws: Draws, x: Tensor, numerics: Numerics) -> None:
        self.draws = draws
        self.numerics = numerics
        self._sample = first_rows(x, 3).to(numerics.device).clone()
        self.vectorized = self._can_vectorize()

    # -- how to evaluate ----------------------------------------------------------------------

    def __getattr__(self, name: str) -> int:
        """Decide about sizes when one is first needed: a fit does without."""
        if name not in _SIZES or "vectorized" not in self.__dict__:
            raise AttributeError(name)
        try:
            self._size_chunks()
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                error.add_note(self._note_of_memory())
            raise
        size: int = self.__dict__[name]
        return size

    def _note_of_memory(self, rows: str = "a few rows") -> str:
        return (
            f"(skuq was evaluating {self.draws.n_draws} draws on {rows}; fewer draws or another "
            "device may help)"
        )

    def _can_vectorize(self) -> bool:
        """Return whether vmap equals the loop and is as fast; errors of the loop are raised."""
        if self.draws.n_draws == 1:
            return False
        rows, tensors = self._sample[:2], self.draws.tensors(0, 2)  # few: images are large
        thrice = {name: tensor[[0, 1, 0]] for name, tensor in tensors.items()}
        with torch.no_grad(), without_vmap_warnings():
            looped = self._evaluator(False)(tensors, rows)
            evaluate = self._evaluator(True)
            try:
                with OutputSizes() as two:
                    stacked = evaluate(tensors, rows)
                with OutputSizes() as three:
                    evaluate(thrice, rows)
            except torch.OutOfMemoryError:
                raise
            except Exception:  # vmap fails with plain RuntimeErrors, so the type cannot be narrower
                return False
        if len(two.sizes) != len(three.sizes):  # an operation without a rule: vmap loops inside
            return False
        has_places = stacked.ndim > 3 and self.numerics.device.type == "cpu"
        if has_places and share_of_draws(two.sizes, three.sizes, 3) > _MOST_OF_IMAGES:
            return False
        return agree(stacked, looped, self.numerics.tolerance)

    def _size_chunks(self) -> None:
        kind = self.numerics.device.type if self.numerics.device.type in _CHUNK_BYTES else "cpu"
        per_row, output = self._bytes_per_row()
        n_draws, n_outputs, places = self.draws.n_draws, output.shape[2], output.shape[3:]
        fewest = 1 if places else _MIN_ROWS
        fitting = max(1, int(_CHUNK_BYTES[kind] // per_row))
        n_rows = min(_MAX_ROWS[kind], max(fewest, 2 ** (fitting.bit_length() - 1)))
        fitting = max(1, _CHUNK_BYTES[kind] // (8 * n_draws * n_outputs))
        n_reduced = max(_MIN_ROWS, 2 ** (fitting.bit_length() - 1))
        most = (_BLOCK_BYTES_OF_IMAGES if places else _BLOCK_BYTES)[kind]
        n_draws_at_once = max(1, min(n_draws, int(n_draws * most / (fewest * per_row))))
        maps = output[0, 0].nbytes * n_draws if places else 0  # of one image
        for name, size in zip(_SIZES, (n_rows, n_reduced, n_draws_at_once, maps)):
            self.__dict__.setdefault(name, size)

    def _bytes_per_row(self) -> tuple[float, Tensor]:
        """Measure by how much one more row, with all draws, makes a tensor grow; return an output.

        The size of a tensor is linear in the rows and in the draws that it depends on. So it is
        known from two and three of each, however many draws there are.
        """
        n_draws = self.draws.n_draws if self.vectorized else 1
        most = min(n_draws, _PROBED_DRAWS)
        by_row, output = self._growth(most)
        largest = max(by_row, default=0.0)
        if n_draws > most:
            fewer, _ = self._growth(most - 1)
            if len(fewer) == len(by_row):
                more = (b + (n_draws - most) * (b - a) for a, b in zip(fewer, by_row))
                largest = max(more, default=0.0)
            else:
                largest *= n_draws / most
        numbers = self.draws.n_draws * output[0, 0].numel()
        return max(largest, 4 * numbers), output

    def _growth(self, n_draws: int) -> tuple[list[float], Tensor]:
        """Measure the growth of each tensor with one more row; also return an output."""
        evaluate, tensors = self._evaluator(self.vectorized), self.draws.tensors(0, n_draws)
        sizes = []
        for n_rows in (2, 3):
            with torch.no_grad(), OutputSizes() as recorded:
                output = evaluate(tensors, self._sample[:n_rows])
            sizes.append(recorded.sizes)
        two, three = sizes
        if len(two) != len(three):
            return [max(three, default=0) / 3], output
        return [b - a for a, b in zip(two, three)], output

    # -- evaluating -----------------------------------------------------------------------------

    def _evaluator(self, vectorized: bool) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
        """Make a function of stacked tensors and rows, on a private copy of the module.

        It returns outputs of shape (n_draws, n_rows, n_outputs, *places), differentiable in the
        rows.
        """
        shell = self.draws.shell()
        if vectorized:
            for name in self.draws.tensors(0, 1):
                layer = shell.get_submodule(name.rpartition(".")[0])
                if type(layer) is nn.Linear and name.endswith("weight"):
                    layer.__class__ = DrawnLinear
        state = dict(shell.named_buffers())

        def one(replaced: dict[str, Tensor], x: Tensor) -> Tensor:
            # Buffers are cloned, so that a forward that updates them cannot drift.
            fresh = {name: replaced.get(name, buffer).clone() for name, buffer in state.items()}
            return call(
                lambda x: functional_call(shell, {**replaced, **fresh}, (x,)), x, self.numerics
            )

        def evaluate(tensors: dict[str, Tensor], x: Tensor) -> Tensor:
            if not tensors:
                # functional_call would take as long as a small network, and change nothing.
                return (one({}, x) if state else call(shell, x, self.numerics))[None]
            if vectorized:
                return vmap(one, in_dims=(0, None), randomness="error")(tensors, x)
            n_draws = len(next(iter(tensors.values())))
            draws = ({name: t[m] for name, t in tensors.items()} for m in range(n_draws))
            return torch.stack([one(draw, x) for draw in draws])

        return evaluate

    def _function(
        self,
        n_draws_at_once: int | None = None,
        undo: Callable[[Tensor], Tensor] | None = None,
        n_bands: int = 1,
    ) -> Callable[..., Tensor]:
        """Make the function from rows to outputs of all draws, on a private copy of the module.

        It also takes the number of a band, and then returns only its places, as one axis.
        """
        one_thread_if_forked()
        n_draws, step = self.draws.n_draws, n_draws_at_once or self.n_draws_at_once
        evaluate = self._evaluator(self.vectorized)

        def block(start: int, x: Tensor, band: int) -> Tensor:
            found = evaluate(self.draws.tensors(start, min(start + step, n_draws)), x)
            if undo is not None:
                found = undo(found.flatten(0, 1)).unflatten(0, found.shape[:2])
            return found if n_bands == 1 else found.flatten(3).tensor_split(n_bands, 3)[band]

        def outputs(x: Tensor, band: int = 0) -> Tensor:
            first = block(0, x, band)
            if len(first) == n_draws:
                return first
            rest = range(step, n_draws, step)
            if torch.is_grad_enabled():
                return torch.cat([first, *(block(start, x, band) for start in rest)])
            whole = first.new_empty((n_draws, *first.shape[1:]))
            whole[:step] = first
            for start in rest:
                whole[start : start + step] = block(start, x, band)
            return whole

        return outputs

    def _plan(self, X: np.ndarray | Tensor) -> tuple[int, int, int]:
        """Choose how many rows and draws to evaluate at once for X, and in how many bands.

        Images may be larger than in `fit`, and sequences longer. Draws are evaluated again for each
        band of places.
        """
        n_rows, at_once = self.n_rows, self.n_draws_at_once
        larger = max(1.0, math.prod(X.shape[1:]) / self._sample[0].numel())
        n_rows = max(1, int(n_rows / larger))
        if n_rows > 1 or not self._bytes_of_maps:
            return n_rows, at_once, 1
        kind = self.numerics.device.type if self.numerics.device.type in _MAP_BYTES else "cpu"
        n_bands = -(-int(self._bytes_of_maps * larger) // _MAP_BYTES[kind])
        return 1, max(1, int(at_once / larger)), n_bands

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the raw outputs of all draws, differentiable in x.

        Parameters
        ----------
        x : Tensor of shape (n_rows, ...)

        Returns
        -------
        Tensor of shape (n_draws, n_rows, n_outputs, *places)
        """
        return self._function()(x)

    def map(
        self,
        X: np.ndarray | Tensor,
        reduction: Callable[..., Any],
        *aligned: np.ndarray,
        verbose: int = 0,
        undo: Callable[[Tensor], Tensor] | None = None,
    ) -> Any:
        """Reduce the outputs of all draws, row by row, chunk after chunk.

        Parameters
        ----------
        X : ndarray of shape (n_samples, ...), or Tensor of the networks' device and dtype
        reduction : callable
            Maps outputs of shape (n_draws, n_rows, n_outputs), in float64, to a tensor or a tuple
            of tensors with n_rows as their first axis. In memory, the rows are the last axis of
            the outputs. Where outputs have places, these are its rows: see `skuq._data._places`.
        *aligned : ndarray of shape (n_samples, *places, ...)
            Reductions also get the same rows of these, as tensors.
        verbose : int, default=0
            1 shows a bar over the chunks, after a second.
        undo : callable, default=None
            Moves outputs of shape (n, n_outputs, *places) back to their places, if the rows are a
            view that moved them.

        Returns
        -------
        ndarray, or tuple of ndarrays, of shape (n_samples, *places, ...)
        """
        check_consistent_length(X, *aligned)
        results: list[np.ndarray] = []
        single, places = False, torch.Size()
        for block in one_behind(self._reduced(X, reduction, aligned, verbose, undo)):
            single, parts, places = block.single, block.parts(), block.places
            arrays = [part.numpy() for part in parts]  # NumPy transposes twice as fast as torch
            if not results:
                total = len(X) * math.prod(places)
                results = [np.empty((total, *part.shape[1:]), part.dtype) for part in arrays]
            for result, part in zip(results, arrays):
                rows = result[block.start : block.start + len(part)]
                rows[:] = part[: len(rows)]
        results = [rows_with_places(result, len(X), places) for result in results]
        return results[0] if single else tuple(results)

    def _reduced(
        self,
        X: np.ndarray | Tensor,
        reduction: Any,
        aligned: tuple[np.ndarray, ...],
        verbose: int,
        undo: Callable[[Tensor], Tensor] | None,
    ) -> Iterator[Reduced]:
        """Yield blocks of rows; use smaller chunks once the device has no memory left."""
        n_rows, at_once, n_bands = self._plan(X)
        function, chunks = self._function(at_once, undo, n_bands), Chunks(len(X), n_rows)
        for _ in bar(chunks, verbose, delay=1, desc="predict", unit="chunk", leave=False):
            try:
                for start, output, places in self._outputs(function, X, chunks, n_bands):
                    flat = (flat_places(values, places) for values in aligned)
                    rows = (self._rows(values, start, output) for values in flat)
                    size = math.prod(places)
                    n_rows = min(len(X) * size - start, output.shape[1])
                    yield Reduced(start, n_rows, output, reduction, rows, places)
                    chunks.done = (start + n_rows) // size
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if chunks.n_rows == 1:
                    error.add_note(self._note_of_memory("a single row"))
                    raise
                chunks.halve()
            if chunks.halved:  # only here the error has released the tensors in its frames
                give_back(self.numerics.device)
        if chunks.n_rows < chunks.before:
            self.n_rows = min(self.n_rows, chunks.n_rows)
            warn(
                f"{self.numerics.device} was out of memory with {chunks.before} rows at a time: "
                f"this prediction went on with {chunks.n_rows}, and later ones use as many",
                UserWarning,
            )

    def _rows(self, values: np.ndarray, start: int, output: Tensor) -> Tensor:
        n_rows = output.shape[1]
        rows = tensor_of(values[start : start + n_rows], copy=True)
        return padded(rows, n_rows).to(output.device)

    @torch.no_grad()
    def _outputs(
        self,
        function: Callable[..., Tensor],
        X: np.ndarray | Tensor,
        chunks: Chunks,
        n_bands: int = 1,
    ) -> Iterator[tuple[int, Tensor, torch.Size]]:
        """Yield the first row of each block, its outputs in float64, and the places of a row.

        A place is a row. The rows of a block lie last in memory.
        """
        device, start = self.numerics.device, chunks.done
        reduce_on = torch.device("cpu") if device.type == "mps" else device
        step = self.n_reduced
        chunk = X[start : start + chunks.n_rows]
        if not isinstance(chunk, Tensor):  # `call` gives the module a copy
            chunk = tensor_of(chunk, self.numerics.dtype, only_read=True)
        rows = padded(without_padding(chunk, self.draws.module), chunks.n_rows)
        done = 0
        for band in range(n_bands):
            with noting_input(self.draws.module, rows):
                raw = function(sent(rows, device), band).to(reduce_on)
            places = raw.shape[3:] if n_bands == 1 else chunk.shape[2:]
            output = places_as_rows(raw).mT
            size = math.prod(places)
            for first in range(0, min(output.shape[-1], len(chunk) * size - done), step):
                block = output[..., first : first + step]
                wide = torch.empty(block.shape, dtype=torch.float64, device=reduce_on)
                yield start * size + done + first, wide.copy_(block).mT, places
            done += output.shape[-1]

    def __getstate__(self) -> dict[str, Any]:
        """Pickle only tensors of the CPU, so that the pickle also loads without a GPU."""
        there = self
        if self.numerics.device.type != "cpu":
            there = object.__new__(Engine)
            there.__dict__.update(self.__dict__, draws=copy.deepcopy(self.draws))
            there.to(torch.device("cpu"))
        return there.__dict__ | {name: getattr(there, name) for name in _SIZES}

    def to(self, device: torch.device) -> Engine:
        """Move the draws to a device, in place, and size the chunks for it."""
        if device == self.numerics.device:
            return self
        # The layout of images was chosen for the device they were fitted on.
        self.numerics = Numerics(device, self.numerics.precision)
        self.draws.to(device)
        self._sample = self._sample.to(device)
        for name in _SIZES:  # for the device before
            self.__dict__.pop(name, None)
        return self
