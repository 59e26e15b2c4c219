"""Coarse weights, and how few bits say them: truncated singular values, one quantization step, integers in a code.

Of each matrix W = Σ_i s_i u_i v_iᵀ the first k = min{k: Σ_{i≤k} s_i ≥ τ Σ_i s_i} terms are kept as two factors, of
columns √s_i u_i and of rows √s_i v_iᵀ, where these have fewer entries than W, k(m + n) < mn; otherwise W itself is.
Every entry x becomes the integer round(x/Δ), with one Δ for all (DeMoss et al. 2024, arXiv:2412.09810, §4, Algorithm
1). What the receiver knows are the shapes; what is sent are Δ, the rank of each matrix in Elias' γ code, and the
integers of each tensor in the Krichevsky–Trofimov code (`interp.mathematics.coding`).

K_ε is the length of the shortest code found whose weights have a loss within ε of the loss of the weights. Whatever the
search, it is an upper bound: at most so many bits are needed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from interp.mathematics.coding import BITS_OF_FLOAT, gamma_bits, integer_bits

TAUS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
STEPS_AN_OCTAVE, OCTAVES = 8, 12
ROUNDING = 1e-12  # of the sum of singular values
Arrays = Mapping[str, np.ndarray]
Shape = tuple[int, ...]
Matrix = Float[np.ndarray, "rows columns"]
Parts = tuple[Float[np.ndarray, "_ _"], ...]  # a matrix, or its two factors


def as_matrix(tensor: Float[np.ndarray, "..."]) -> Matrix:
    """A vector as one column. Several matrices, those of heads, become one: side by side where they are tall, for they
    read the same rows, and one upon another where they are wide.

    >>> [as_matrix(np.zeros(shape)).shape for shape in ((5,), (7, 3), (4, 32, 8), (4, 8, 32))]
    [(5, 1), (7, 3), (32, 32), (32, 32)]
    """
    if tensor.ndim < 3:
        return tensor.reshape(len(tensor), -1)
    rows, columns = tensor.shape[-2:]
    if rows < columns:
        return tensor.reshape(-1, columns)
    return np.moveaxis(tensor, -2, 0).reshape(rows, -1)


def from_matrix(matrix: Matrix, shape: Shape) -> Float[np.ndarray, "..."]:
    """What `as_matrix` was made of."""
    if len(shape) < 3 or shape[-2] < shape[-1]:
        return matrix.reshape(shape)
    return np.moveaxis(matrix.reshape(shape[-2], *shape[:-2], shape[-1]), 0, -2)


@dataclass(frozen=True)
class Code:
    """Weights in integers, in units of `step` Δ: of each tensor a matrix, or its two factors.

    >>> code = Code(0.5, {"W": (np.array([[2], [4]]), np.array([[1, 0, -1]]))})
    >>> code.decoded({"W": (2, 3)})["W"].tolist()
    [[0.5, 0.0, -0.5], [1.0, 0.0, -1.0]]
    """

    step: float
    tensors: Mapping[str, tuple[Int[np.ndarray, "_ _"], ...]]

    @cached_property
    def bits(self) -> float:
        """The length of the whole code. Before the integers of each tensor it says 1 for a matrix, and the rank and 2
        more for factors."""
        forms = sum(1 if len(parts) == 1 else gamma_bits(parts[0].shape[1] + 2) for parts in self.tensors.values())
        return BITS_OF_FLOAT + forms + sum(integer_bits(_integers(parts)) for parts in self.tensors.values())

    @property
    def packed(self) -> bytes:
        """The integers in the smallest type that holds them all, for a compressor."""
        values = np.concatenate([_integers(parts) for parts in self.tensors.values()])
        most = int(np.abs(values).max(initial=0))
        kind = np.int8 if most < 2**7 else np.int16 if most < 2**15 else np.int32
        return values.astype(kind).tobytes()

    def decoded(self, shapes: Mapping[str, Shape]) -> dict[str, Float[np.ndarray, "..."]]:
        """The coarse weights, float32: all that a receiver has are the code and the shapes."""
        found = {}
        for name, parts in self.tensors.items():
            values = [part * self.step for part in parts]
            matrix = values[0] if len(values) == 1 else values[0] @ values[1]
            found[name] = from_matrix(matrix, shapes[name]).astype(np.float32)
        return found


def _integers(parts: Sequence[np.ndarray]) -> Int[np.ndarray, " n"]:
    return np.concatenate([part.reshape(-1) for part in parts])


class Found(NamedTuple):
    """A code, with the τ that made it and how far its loss is from that of the weights, in nats."""

    code: Code
    tau: float
    distortion: float


class Factored:
    """Weights with the singular values of their matrices, each computed once: what codes are made of."""

    def __init__(self, weights: Arrays) -> None:
        self.shapes = {name: weight.shape for name, weight in weights.items()}
        self._matrices = {name: as_matrix(weight.astype(np.float64)) for name, weight in weights.items()}
        self._singular = {name: np.linalg.svd(one, full_matrices=False) for name, one in self._matrices.items()}

    def kept(self, tau: float) -> dict[str, Parts]:
        """Each matrix, or its factors where they have fewer entries."""
        found = dict[str, Parts]()
        for name, matrix in self._matrices.items():
            u, s, vt = self._singular[name]
            total = s.sum()
            rank = int((np.cumsum(s) < tau * total * (1 - ROUNDING)).sum()) + 1 if total else 0
            root = np.sqrt(s[:rank])
            factors = u[:, :rank] * root, root[:, None] * vt[:rank]
            found[name] = factors if rank * sum(matrix.shape) < matrix.size else (matrix,)
        return found


def quantized(kept: Mapping[str, Parts], step: float) -> Code:
    """Every entry in units of Δ, rounded to an integer."""
    return Code(
        step,
        {name: tuple(np.rint(part / step).astype(np.int64) for part in parts) for name, parts in kept.items()},
    )


def shortest(
    weights: Factored, distortion: Callable[[Arrays], float], tolerances: Sequence[float], taus: Sequence[float] = TAUS
) -> list[Found | None]:
    """For each ε of `tolerances` the shortest code found whose weights have a `distortion` below ε, None where there is
    none. For every τ the largest Δ is sought by bisection on a grid of an eighth of an octave, from the Δ at which all
    weights are zero; whatever is tried on the way may serve any ε, so K_ε never increases in ε.

    >>> weights = {"W": np.outer([1.0, 2, 3], [1.0, -1, 1, -1])}
    >>> def error(coarse):
    ...     return float(np.abs(coarse["W"] - weights["W"]).max())
    >>> found = shortest(Factored(weights), error, [0.01, 0.5, 4.0])
    >>> [code.tensors["W"][0].shape for code, *_ in found], [round(one.code.bits) for one in found]
    ([(3, 1), (3, 1), (3, 1)], [114, 68, 45])
    """
    tried: list[Found] = []
    for tau in taus:
        kept = weights.kept(tau)
        largest = max((float(np.abs(part).max(initial=0)) for parts in kept.values() for part in parts), default=0.0)
        steps = 2 * (largest or 1.0) * 2.0 ** (-np.arange(STEPS_AN_OCTAVE * OCTAVES + 1) / STEPS_AN_OCTAVE)
        known: dict[int, Found] = {}

        def at(place: int, kept=kept, steps=steps, known=known, tau=tau) -> float:
            if place not in known:
                code = quantized(kept, float(np.float32(steps[place])))
                known[place] = Found(code, tau, distortion(code.decoded(weights.shapes)))
            return known[place].distortion

        for tolerance in sorted(tolerances):
            coarse, fine = -1, len(steps) - 1
            if not at(fine) < tolerance:
                continue
            while fine - coarse > 1:
                middle = (coarse + fine) // 2
                coarse, fine = (coarse, middle) if at(middle) < tolerance else (middle, fine)
        tried += known.values()
    return [
        min((one for one in tried if one.distortion < tolerance), key=lambda one: one.code.bits, default=None)
        for tolerance in tolerances
    ]
