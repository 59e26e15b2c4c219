"""Rademacher complexity: how well functions of a class follow signs that mean nothing, and what that promises.

Of inputs x_1 … x_n, with independent fair signs σ_i = ±1, and functions f with values in [−1, 1],

    R̂(F) = E_σ sup_f (1/n) Σ σ_i f(x_i).

With probability 1 − δ every f of the class has a test error within 2R̂ + 3√(ln(2/δ)/2n) of its training error (for a
loss in [0, 1]; Mohri et al. 2018, Theorem 3.3). That is worth something where R̂ is small. From above it is known for
linear functions and finite classes; from below by training: a network that fits random signs with training error e has
correlation 1 − 2e with them, and the supremum is no less (Zhang et al. 2017). Where training reaches e = 0 no bound of
this kind promises anything, and the network may generalize all the same.

For K classes the class that matters is that of the right answers, g_f(i) = 1 where f(x_i) = y_i, else 0: σ_i = +1 asks
to answer y_i, σ_i = −1 to answer anything else. Training on labels of which one half is wrong does just that, so

    R̂ ≥ ½·[share right among the unchanged − share *still answering the true label* among the changed].

For those values in [0, 1] it is at most ½. Exactly one half is wrong there, and fair signs are so but for |k − n/2| of
them, each of which moves the supremum by at most 1/n: E|k − n/2|/n is taken off.

It cannot tell the supremum: training need not find it. A lower bound is all that a run gives.
"""

import math

import numpy as np
from jaxtyping import Bool, Float
from scipy import special, stats


def from_random_signs(training_error: float) -> float:
    """The lower bound that a training error on random ±1 labels gives for functions with values ±1; not below 0, which
    a constant function has.

    >>> from_random_signs(0.0), from_random_signs(0.5)
    (1.0, 0.0)
    """
    return max(0.0, 1 - 2 * training_error)


def from_noisy_labels(right: Bool[np.ndarray, " example"], changed: Bool[np.ndarray, " example"]) -> float:
    """The lower bound, for the right answers of K classes, from a network trained on labels of which half are
    `changed`: `right` says where it answers the *true* label. Raises ValueError where another share was changed.

    >>> changed = np.arange(1000) % 2 == 0
    >>> round(from_noisy_labels(~changed, changed), 3)  # it fits all of them: ½ less 0.013
    0.487
    >>> from_noisy_labels(np.ones(1000, dtype=bool), changed)  # it fits none of the wrong ones
    0.0
    """
    n, n_changed = len(changed), int(changed.sum())
    if n < 2 or abs(n_changed - n / 2) > 1:
        raise ValueError(f"{n_changed} of {n} labels were changed; one half is needed")
    correlation = (float(right[~changed].sum()) - float(right[changed].sum())) / n
    return max(0.0, correlation - imbalance(n))


def imbalance(n: int) -> float:
    """E|k − n/2|/n of k ~ Bin(n, ½): how far from one half the share of +1 among n fair signs is, about 0.4/√n.

    >>> imbalance(2), round(imbalance(100) * 10, 2)  # 0, 1 or 2 of two: ½·0 + ½·½
    (0.25, 0.4)
    """
    k = np.arange(n + 1)
    return float((stats.binom.pmf(k, n, 0.5) * np.abs(k - n / 2)).sum() / n)


def linear_bound(inputs: Float[np.ndarray, "example feature"], radius: float) -> float:
    """The upper bound B·√(Σ‖x_i‖²)/n of linear functions ⟨w, x⟩ with ‖w‖ ≤ B.

    >>> linear_bound(np.eye(4), 2.0)
    1.0
    """
    return radius * math.sqrt(float((inputs**2).sum())) / len(inputs)


def linear_complexity(
    inputs: Float[np.ndarray, "example feature"], radius: float, *, repetitions: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """R̂ of linear functions ⟨w, x⟩ with ‖w‖ ≤ B, B·E‖Σσ_i x_i‖/n, over random signs, and its standard error.

    >>> linear_complexity(np.eye(4), 2.0)[0]  # ‖σ‖ = 2 whatever the signs
    1.0
    """
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (repetitions, len(inputs)))
    found = radius * np.linalg.norm(signs @ inputs, axis=1) / len(inputs)
    return float(found.mean()), float(found.std(ddof=1) / math.sqrt(repetitions))


def finite_bound(log_size: float, n: int) -> float:
    """The upper bound √(2 ln|F| / n) of |F| functions with values ±1 (Massart 2000), from ln|F|: of a class that b bits
    describe, b·ln 2.

    >>> finite_bound(math.log(1), 10), finite_bound(8 * math.log(2), 16)
    (0.0, 0.8325546111576977)
    """
    return math.sqrt(2 * log_size / n)


def promised_error(training_error: float, complexity: float, n: int, *, delta: float = 0.05) -> float:
    """The test error that R̂ promises, with probability 1 − δ: e + 2R̂ + 3√(ln(2/δ)/2n), for the class of the losses,
    with values in [0, 1]. Above 1 it promises nothing; from a *lower* bound of R̂ no bound can promise less.

    >>> round(promised_error(0.0, 0.5, 1000), 3)
    1.129
    """
    return training_error + 2 * complexity + 3 * math.sqrt(math.log(2 / delta) / (2 * n))


def separable_share(n: int, d: int) -> float:
    """The share of the 2ⁿ labelings of n points in general position in ℝᵈ that a hyperplane through the origin
    separates: 2^{1−n} Σ_{k<d} C(n − 1, k) (Cover 1965). All for n ≤ d, one half at n = 2d.

    >>> separable_share(5, 5), round(separable_share(10, 5), 12)
    (1.0, 0.5)
    """
    if n < 1 or d < 1:
        raise ValueError(f"{n} points in {d} dimensions; both are at least 1")
    return float(special.bdtr(min(d, n) - 1, n - 1, 0.5)) if d < n else 1.0
