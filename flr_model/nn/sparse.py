"""Products with a fixed sparse matrix of counts.

Shapes: P rows, C columns, K columns of the dense factor.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class SparseCounts:
    """How often each pair of a row and a column occurs, as a sparse (P, C) matrix and its transpose.

    torch multiplies sparse matrices by dense ones, but has no fast gradient for it; here it is a product with the
    transpose.

    Args:
        matrix: (P, C) in compressed sparse rows. transpose: (C, P), likewise.
    """

    def __init__(self, matrix: Tensor, transpose: Tensor) -> None:
        self.matrix = matrix
        self.transpose = transpose

    @classmethod
    def of(cls, row: npt.NDArray[Any], column: npt.NDArray[Any], shape: tuple[int, int]) -> SparseCounts:
        """Count (V,) rows and columns."""
        key, count = np.unique(row.astype(np.int64) * shape[1] + column, return_counts=True)
        row, column = key // shape[1], key % shape[1]
        by_column = np.argsort(column, kind="stable")
        matrix = _csr(row, column, count, shape)
        return cls(matrix, _csr(column[by_column], row[by_column], count[by_column], shape[::-1]))

    def product(self, dense: Tensor) -> Tensor:
        """Return the (P, K) product with a dense (C, K) matrix, on the device of that."""
        if self.matrix.device != dense.device:
            self.matrix, self.transpose = self.matrix.to(dense.device), self.transpose.to(dense.device)
        result: Tensor = _Product.apply(self.matrix, self.transpose, dense)  # type: ignore[no-untyped-call]
        return result


def _csr(row: npt.NDArray[Any], column: npt.NDArray[Any], value: npt.NDArray[Any], shape: tuple[int, int]) -> Tensor:
    """Return values at rows, ascending, and columns; with indices of 32 bits, which MKL takes as they are."""
    starts = np.searchsorted(row, np.arange(shape[0] + 1))
    first, columns = (torch.from_numpy(part.astype(np.int32)) for part in (starts, column))
    with warnings.catch_warnings():  # that sparse tensors are in beta
        warnings.simplefilter("ignore")
        return torch.sparse_csr_tensor(first, columns, torch.from_numpy(value.astype(np.float32)), shape)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transpose: Tensor, dense: Tensor) -> Tensor:
        ctx.transpose = transpose
        with torch.autocast(dense.device.type, enabled=False):  # sparse products exist in full precision only
            return matrix @ dense

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transpose @ gradients[0].contiguous()
