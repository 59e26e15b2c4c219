"""What products with a symmetric matrix tell of its spectrum: Lanczos' tridiagonal matrix, and traces by random probes.

k steps of Lanczos from a vector v of length 1 give a tridiagonal T = VᵀHV with orthonormal columns V, v the first. Its
eigenvalues θ_i (Ritz values) lie within the spectrum of H, and with s_i the eigenvectors of T

    |H V s_i − θ_i V s_i| = β_k |s_ki|:  within that of θ_i there is an eigenvalue of H;
    vᵀ f(H) v ≈ Σ_i s_1i² f(θ_i):  the θ_i with weights s_1i² are the spectrum of H, as seen from v.

With v drawn at random the weights estimate shares of all n eigenvalues. Every new vector is made orthogonal to all
earlier ones, twice, or eigenvalues come several times. Golub & Meurant 2010, Matrices, Moments and Quadrature, §4;
Ghorbani et al. 2019, arXiv:1901.10159. tr H = E rᵀHr for entries r of ±1 (Hutchinson 1990).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh_tridiagonal

Product = Callable[[Float[np.ndarray, " n"]], Float[np.ndarray, " n"]]


class Ritz(NamedTuple):
    """Ritz values in rising order, the weight of each (they add up to 1), and within what of each there is an
    eigenvalue."""

    values: Float[np.ndarray, " k"]
    weights: Float[np.ndarray, " k"]
    errors: Float[np.ndarray, " k"]

    def share_below(self, limit: float) -> tuple[float, float]:
        """At least and at most what share of the spectrum, as seen from v, is below a limit: a Gauss quadrature counts
        right up to one node on either side (Chebyshev, Markov and Stieltjes; Golub & Meurant 2010, §6). Both are equal
        where the Ritz values are all eigenvalues that v knows.

        >>> found = lanczos(lambda vector: np.array([1.0, 2.0, 5.0]) * vector, np.ones(3), 10)
        >>> [round(share, 6) for share in found.share_below(3.0)]
        [0.666667, 0.666667]
        """
        below, sums = int(np.searchsorted(self.values, limit)), np.r_[0.0, np.cumsum(self.weights)]
        apart = 1 if self.errors.any() else 0
        return float(sums[max(below - apart, 0)]), float(min(sums[min(below + apart, len(self.values))], 1.0))


def lanczos(product: Product, start: Float[np.ndarray, " n"], steps: int) -> Ritz:
    """`steps` products with H, fewer where H has no more than so many different eigenvalues that `start` knows.

    >>> found = lanczos(lambda vector: np.array([1.0, 2.0, 5.0]) * vector, np.ones(3), 10)
    >>> found.values.round(6).tolist(), found.weights.round(6).tolist()
    ([1.0, 2.0, 5.0], [0.333333, 0.333333, 0.333333])
    """
    steps = min(steps, len(start))
    basis = np.empty((steps, len(start)))
    diagonal, off = list[float](), list[float]()
    largest, residual, vector = 0.0, 0.0, start / np.linalg.norm(start)
    for step in range(steps):
        basis[step] = vector
        new = product(vector)
        largest = max(largest, float(np.linalg.norm(new)))
        diagonal.append(float(vector @ new))
        known = basis[: step + 1]
        for _ in (1, 2):
            new = new - (known @ new) @ known
        residual = float(np.linalg.norm(new))
        if residual <= 1e-12 * largest:  # what is left is rounding
            residual = 0.0
            break
        off.append(residual)
        vector = new / residual
    values, vectors = eigh_tridiagonal(np.array(diagonal), np.array(off[: len(diagonal) - 1]))
    return Ritz(values, vectors[0] ** 2, residual * np.abs(vectors[-1]))


def traces(
    product: Product, scale: Float[np.ndarray, " n"], probes: int, random: np.random.Generator
) -> tuple[float, float]:
    """tr(diag(scale²) H), the mean over so many random vectors of signs r of (scale∘r)ᵀH(scale∘r), and its standard
    error (NaN of one probe).

    >>> H = np.array([[2.0, 1.0], [1.0, 3.0]])
    >>> value, error = traces(lambda vector: H @ vector, np.ones(2), 4000, np.random.default_rng(0))
    >>> round(value, 1), abs(value - 5) < 3 * error
    (5.0, True)
    """
    found = []
    for _ in range(probes):
        probe = scale * random.choice([-1.0, 1.0], len(scale))
        found.append(float(probe @ product(probe)))
    error = float(np.std(found, ddof=1) / math.sqrt(probes)) if probes > 1 else math.nan
    return float(np.mean(found)), error
