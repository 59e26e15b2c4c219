"""Least squares where there are more unknowns than equations: solutions, and what they err by exactly.

Of XB = Y with the singular values X = U diag(s) Vᵀ, *ridge* with the penalty λ and its limit λ → 0, the solution of
least norm (which gradient descent from zero converges to), are

    B(λ) = V diag(s/(s² + λ)) Uᵀ Y,    B(0) = V diag(1/s) Uᵀ Y over the s that are more than rounding.

Three truths about them need no network. All are expected squared errors on a new example, with its noise.

*Least norm, over the number of features* (Belkin, Hsu and Xu 2020, arXiv:1903.07571; from the mean of an inverse
Wishart matrix). Of n examples of D independent standard normal features, with y = x·β + noise of the variance σ², the
first p features are fitted. With b = the squared length of β within them and c = that of the rest, plus σ²:

    c (1 + p/(n − p − 1))                  for p ≤ n − 2,
    b (1 − n/p) + c (1 + n/(p − n − 1))    for p ≥ n + 2,    and infinite between.

*Gradient descent, over its steps*. From zero on ½·mean (y − Xβ̂)², with A = XᵀX/n = V diag(ν) Vᵀ and the rate lr,
β̂_t − β has the mean −(1 − lr A)^t β and, over the noise, the covariance σ²/n · V diag((1 − (1 − lr ν)^t)²/ν) Vᵀ. New
inputs of the covariance Σ see

    σ² + ‖Σ^½ (1 − lr A)^t β‖² + σ²/n · Σ_i (V^T Σ V)_ii (1 − (1 − lr ν_i)^t)²/ν_i.

Where directions learned at different times take turns, it falls, rises, falls and rises again.

It cannot tell what a network does, whose features move while it learns.
"""

import numpy as np
from jaxtyping import Float, Integer


def ridge(
    features: Float[np.ndarray, "n d"],
    targets: Float[np.ndarray, "n outputs"],
    penalties: Float[np.ndarray, " penalty"],
) -> Float[np.ndarray, "penalty d outputs"]:
    """B(λ) for each penalty, from one decomposition; 0 is the solution of least norm. Penalties are of the sum of
    squares, not of its mean, and in the units of a squared feature.

    >>> x, y = np.array([[3.0, 4.0]]), np.array([[50.0]])
    >>> ridge(x, y, np.array([0.0, 25.0]))[:, :, 0].round(9).tolist()  # along (3, 4), of the lengths 10 and 5
    [[6.0, 8.0], [3.0, 4.0]]
    """
    left, values, right = np.linalg.svd(features, full_matrices=False)
    rounding = np.finfo(features.dtype).eps * max(features.shape) * values.max(initial=0.0)
    kept = values > rounding
    left, values, right = left[:, kept], values[kept], right[kept]
    shrunk = values / (values**2 + penalties[:, None])  # [penalty, value]
    return np.einsum("vd,pv,vo->pdo", right, shrunk, left.T @ targets, optimize=True)


def least_norm_risk(n: int, p: int, *, fitted: float, left_out: float, noise: float) -> float:
    """The expected squared error of least norm on p of the features, from n examples. `fitted` and `left_out` are the
    squared lengths of β within those p and outside of them, `noise` is σ². Infinite for |n − p| ≤ 1.

    >>> [round(least_norm_risk(40, p, fitted=0.2, left_out=0.8, noise=0.2), 3) for p in (20, 40, 60)]
    [2.053, inf, 3.172]
    """
    unknown = left_out + noise
    if p <= n - 2:
        return unknown * (1 + p / (n - p - 1))
    if p >= n + 2:
        return fitted * (1 - n / p) + unknown * (1 + n / (p - n - 1))
    return float("inf")


def gradient_descent_risk(
    inputs: Float[np.ndarray, "n d"],
    beta: Float[np.ndarray, " d"],
    steps: Integer[np.ndarray, " step"],
    *,
    lr: float,
    noise: float,
    covariance: Float[np.ndarray, " d"] | None = None,
) -> Float[np.ndarray, " step"]:
    """The squared error to be expected over the noise in the training labels, of the variance `noise`, after so many
    steps of gradient descent from zero. `covariance` is the diagonal of Σ (None: ones). Raises ValueError for a rate at
    which it would diverge.

    >>> one = np.ones((4, 1))  # ν = 1: with lr = 1 the first step solves it, to within σ²/n
    >>> gradient_descent_risk(one, np.array([3.0]), np.array([0, 1, 5]), lr=1.0, noise=1.0).tolist()
    [10.0, 1.25, 1.25]
    """
    n, d = inputs.shape
    scale = np.ones(d) if covariance is None else covariance
    curvatures, modes = np.linalg.eigh(inputs.T @ inputs / n)
    curvatures = np.maximum(curvatures, 0)  # below 0 by rounding alone
    if lr * curvatures[-1] >= 2:
        raise ValueError(f"lr {lr:g} times the largest curvature {curvatures[-1]:.3g} is 2 or more: it diverges")
    seen = np.einsum("dm,d->m", modes**2, scale)  # of a mode, by new inputs
    share = (1 - lr * curvatures) ** steps[:, None]  # [step, mode] of the mode is left to learn
    bias = np.square((share * (modes.T @ beta)) @ modes.T) @ scale
    # Of a mode without curvature nothing is learned, noise included: the limit of (1 − share)²/ν is 0.
    learned = np.divide(
        (1 - share) ** 2, curvatures, out=np.zeros_like(share), where=curvatures > 1e-12 * curvatures[-1]
    )
    return noise + bias + noise / n * (learned @ seen)
