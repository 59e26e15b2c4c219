"""A sketch of named tensors: of each, k = 64 fixed random combinations, small enough to be kept of every step.

Entry i of a tensor of n belongs to one of k buckets h(i) and has a sign s(i), both drawn once from the tensor's name
(a count-sketch; Charikar, Chen & Farach-Colton 2002), and

    (S g)_j = Σ_{i: h(i) = j} s(i) g_i,   j = 1 … k.

S is linear, so what is a slow part, a spectrum or a mean of gradients is that of their sketches too; and over the draw

    E ‖S g‖² = ‖g‖²,   E ⟨S g, S h⟩ = ⟨g, h⟩,   sd(⟨S g, S h⟩) ≤ √((‖g‖²‖h‖² + ⟨g, h⟩²) / k)

(Johnson–Lindenstrauss): of one tensor a norm² is told to √(2/k) = 18 %, and a cosine to 1/√k = 0.12. A matrix of ±1/√k
has the same moments, and costs k times as much.

It cannot be undone, and the same combinations are used at every step: their error is not averaged away over steps.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from scipy import sparse

COMBINATIONS = 64


class Sketch:
    """The combinations of tensors of these names and shapes.

    >>> of = Sketch({"layer": (300, 400), "bias": (400,)})
    >>> ones = {"layer": np.ones((300, 400), dtype=np.float32), "bias": np.zeros(400, dtype=np.float32)}
    >>> told = of(ones)
    >>> told.shape, told.dtype.name, bool(0.5 < np.square(told[0]).sum() / 120_000 < 1.5), bool(told[1].any())
    ((2, 64), 'float32', True, False)
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        self.names = list(shapes)
        self._rows = [_combinations(name, math.prod(shapes[name])) for name in self.names]

    def __call__(self, tensors: Mapping[str, Float[np.ndarray, "..."]]) -> Float[np.ndarray, "tensor k"]:
        """The sketch of every tensor, float32; the same bits on one machine with any number of threads."""
        told = np.empty((len(self.names), COMBINATIONS), dtype=np.float32)
        for row, name, combinations in zip(told, self.names, self._rows, strict=True):
            row[:] = combinations @ np.asarray(tensors[name], dtype=np.float32).reshape(-1)
        return told


def _combinations(name: str, n: int) -> "sparse.csr_array":
    """[k, n], one ±1 in every column. RandomState draws the same in every version of numpy."""
    from scipy import sparse  # half a second, for which a training that is not observed need not wait

    drawn = np.random.RandomState(zlib.crc32(name.encode()))
    bucket, sign = drawn.randint(COMBINATIONS, size=n), drawn.randint(2, size=n)
    signs = (2 * sign - 1).astype(np.float32)
    return sparse.csr_array((signs, (bucket, np.arange(n))), shape=(COMBINATIONS, n))
