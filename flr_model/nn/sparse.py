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
        index = torch.from_numpy(np.stack([key // shape[1], key % shape[1]]))
        value = torch.from_numpy(count).float()
        with warnings.catch_warnings():  # that sparse tensors are in beta
            warnings.simplefilter("ignore")
            matrix = torch.sparse_coo_tensor(index, value, shape, check_invariants=False)
            transpose = torch.sparse_coo_tensor(index.flip(0), value, shape[::-1], check_invariants=False)
            return cls(matrix.coalesce().to_sparse_csr(), transpose.coalesce().to_sparse_csr())

    def product(self, dense: Tensor) -> Tensor:
        """Return the (P, K) product with a dense (C, K) matrix, on the device of that."""
        if self.matrix.device != dense.device:
            self.matrix, self.transpose = self.matrix.to(dense.device), self.transpose.to(dense.device)
        result: Tensor = _Product.apply(self.matrix, self.transpose, dense)  # type: ignore[no-untyped-call]
        return result


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transpose: Tensor, dense: Tensor) -> Tensor:
        ctx.transpose = transpose
        return matrix @ dense

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transpose @ gradients[0].contiguous()
