"""Linear teacher and student: a model in which grokking and double descent are both exact, and have one cause. numpy
and scipy only.

A linear student learns a linear teacher from N samples x ~ N(0, I_d) by gradient flow at rate η on the mean squared
error. D is student less teacher, ν_i are the eigenvalues of XᵀX/N, a_i the square of D in mode i at the start (they sum
to 1 on average), λ = d/N, and q_i = e^{−2ην_i t} what is left of mode i. Labels have noise of variance σ². Averaged
over the noise,

    generalization  L_gen   = Σ a_i q_i² + (σ²/N) Σ (1 − q_i)²/ν_i
    training        L_train = Σ a_i ν_i q_i² + σ² − (σ²/N) Σ (1 − q_i²)

the first against clean labels, the second against those that were trained on. For large d with λ fixed the eigenvalues
are those of Marchenko and Pastur, and without noise

    L_train = e^{−4η(1+λ)t} · I₁(z)/(z/2),    z = 8ηt√λ.

An answer counts as right when its error is less than √ε; errors are normal, so accuracy = erf(√(ε/2L)).

A small eigenvalue hardly enters the training loss, ν_i times, and is learned last: near λ = 1, where the smallest goes
to zero, training accuracy is there long before generalization (grokking, without a circuit, weight decay or a hidden
layer). The same eigenvalue amplifies noise by 1/ν_i: in the limit t → ∞ the error is that of least squares, σ²λ/(1 − λ)
for λ < 1 and (1 − 1/λ) + σ²/(λ − 1) for λ > 1, with the peak of double descent at λ = 1; and over time L_gen falls and
rises again, with noise the sooner.

The delay is read from the sums. The published closed form of it (formula 12 there), ln(1/(1 − √λ))/(2η(1 − √λ)²), is a
limit ε → 0: at λ = 0.9, η = 0.01, ε = 10⁻³ it says 56,400 where the sums say 20,300, 2.8 times less (one draw of 1,000
dimensions: 2.9).

It cannot tell anything of circuits: nothing here is memorized in one place and known in another.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import optimize, special

REFERENCE = "Levi et al. 2023, arXiv:2310.16441"
NODES = 2000
RIGHT = 0.95
EARLIEST, LATEST, PER_DECADE = 1e-3, 1e9, 20  # where crossings are looked for, in units of 1/η
Split = Literal["train", "generalization"]


@dataclass(frozen=True)
class TeacherStudent:
    """The modes of a student: their `eigenvalues` ν_i, the squares of what it starts from, `starts` a_i, the `shares`
    of modes that each stands for (1/d each of a draw; they sum to 1), the `ratio` λ = d/N and the `rate` η.

    >>> average = TeacherStudent.average(0.9)
    >>> round(average.time_to("train")), round(average.time_to("generalization"))
    (2353, 22634)
    """

    eigenvalues: Float[np.ndarray, " mode"]
    starts: Float[np.ndarray, " mode"]
    shares: Float[np.ndarray, " mode"]
    ratio: float
    rate: float = 0.01

    @classmethod
    def average(cls, ratio: float, *, rate: float = 0.01, nodes: int = NODES) -> "TeacherStudent":
        """Averaged over draws, in the limit of large d at λ = `ratio`: the law of Marchenko and Pastur, at the nodes of
        Gauss and Chebyshev's quadrature, ν = 1 + λ + 2√λ cos θ, and its atom at 0 where λ > 1.

        Raises ValueError for numbers that are not positive.

        >>> wide = TeacherStudent.average(4.0)  # three quarters of the directions are never seen
        >>> round(float(wide.loss(np.inf, "generalization")), 4)
        0.75
        """
        _check_positive(ratio=ratio, rate=rate, nodes=nodes)
        angle = np.pi * np.arange(1, nodes + 1) / (nodes + 1)
        eigenvalues = 1 + ratio + 2 * math.sqrt(ratio) * np.cos(angle)
        shares = 2 / (nodes + 1) * np.sin(angle) ** 2 / eigenvalues  # the semicircle over ν
        if ratio > 1:
            eigenvalues, shares = np.append(eigenvalues, 0.0), np.append(shares, 1 - 1 / ratio)
        return cls(eigenvalues, shares, shares, ratio, rate)

    @classmethod
    def drawn(cls, d: int, n: int, *, rate: float = 0.01, seed: int = 0) -> "TeacherStudent":
        """One draw of n samples in d dimensions, and of a start: D normal with variance 1/d in each direction.

        Raises ValueError for sizes below 1 and a rate that is not positive.

        >>> one = TeacherStudent.drawn(200, 400)
        >>> len(one.eigenvalues), one.ratio, round(float(one.eigenvalues.mean()), 1)
        (200, 0.5, 1.0)
        """
        _check_positive(d=d, n=n, rate=rate)
        random = np.random.RandomState(seed)
        samples = random.standard_normal((n, d))
        eigenvalues = np.maximum(np.linalg.eigvalsh(samples.T @ samples / n), 0.0)
        eigenvalues[: max(0, d - n)] = 0.0  # in ascending order: what rounding leaves of those that are zero
        starts = random.standard_normal(d) ** 2 / d
        return cls(eigenvalues, starts, np.full(d, 1 / d), d / n, rate)

    def loss(self, time: ArrayLike, split: Split, *, noise: float = 0.0) -> Float[np.ndarray, " *time"]:
        """L_train or L_gen [time] at noise of variance σ², averaged over the noise; `time` in units of steps of η,
        np.inf for the end. Raises ValueError for noise below 0.

        >>> student = TeacherStudent.average(0.5)
        >>> student.loss([0.0, np.inf], "generalization", noise=0.1).round(3).tolist()  # σ²λ/(1 − λ)
        [1.0, 0.1]
        >>> student.loss([0.0, np.inf], "train", noise=0.1).round(3).tolist()  # σ²(1 − λ)
        [1.1, 0.05]
        """
        if not noise >= 0:
            raise ValueError(f"noise is a variance and must be at least 0, got {noise}")
        times = np.asarray(time, dtype=np.float64)[..., None]
        seen = self.eigenvalues > 0
        exponent = np.zeros((*times.shape[:-1], len(self.eigenvalues)))
        exponent[..., seen] = -2 * self.rate * self.eigenvalues[seen] * times
        left, learned = np.exp(exponent), -np.expm1(exponent)
        if split == "train":
            of_noise = 1 - self.ratio * (self.shares * learned * (1 + left)).sum(-1)
            return np.asarray((self.starts * self.eigenvalues * left**2).sum(-1) + noise * of_noise)
        amplified = np.zeros_like(learned)
        np.divide(learned**2, self.eigenvalues, out=amplified, where=np.broadcast_to(seen, learned.shape))
        return np.asarray((self.starts * left**2).sum(-1) + noise * self.ratio * (self.shares * amplified).sum(-1))

    def time_to(self, split: Split, *, accuracy: float = RIGHT, tolerance: float = 1e-3, noise: float = 0.0) -> float:
        """The first time at which so large a share of answers is within √`tolerance` of the teacher (of training
        labels, for "train"); NaN where it never is.

        >>> math.isnan(TeacherStudent.average(4.0).time_to("generalization"))
        True
        """
        level = loss_at(accuracy, tolerance)
        n = round(PER_DECADE * math.log10(LATEST / EARLIEST)) + 1
        times = np.append(0.0, np.geomspace(EARLIEST, LATEST, n) / self.rate)

        def above(time: float) -> float:
            return float(self.loss(time, split, noise=noise)) - level

        for i in range(len(times)):
            if above(times[i]) <= 0:
                return float(optimize.brentq(above, times[i - 1], times[i])) if i else 0.0
        return math.nan

    def delay(self, *, accuracy: float = RIGHT, tolerance: float = 1e-3) -> float:
        """How much later the teacher is known than the training labels, without noise; NaN where it never is.

        >>> [round(TeacherStudent.average(ratio).delay()) for ratio in (0.3, 0.6, 0.9)]
        [120, 848, 20281]
        """
        times = (self.time_to(split, accuracy=accuracy, tolerance=tolerance) for split in ("generalization", "train"))
        later, sooner = times
        return later - sooner

    def best_time(self, noise: float) -> float:
        """The time at which L_gen is least at noise of variance σ²: when to stop; infinity where it falls for good.

        >>> student = TeacherStudent.average(0.9)
        >>> [round(student.best_time(noise)) for noise in (0.01, 0.1)], student.best_time(0.0)
        ([3051, 334], inf)
        """
        if noise == 0:
            return math.inf
        n = round(PER_DECADE * math.log10(LATEST / EARLIEST)) + 1
        times = np.geomspace(EARLIEST, LATEST, n) / self.rate
        losses = np.array([float(self.loss(time, "generalization", noise=noise)) for time in times])
        least = int(losses.argmin())
        if least in (0, n - 1):
            return 0.0 if least == 0 else math.inf
        found = optimize.minimize_scalar(
            lambda log: float(self.loss(math.exp(log), "generalization", noise=noise)),
            bounds=(math.log(times[least - 1]), math.log(times[least + 1])),
            method="bounded",
        )
        return math.exp(found.x)


def average_train_loss(time: ArrayLike, ratio: float, *, rate: float = 0.01) -> Float[np.ndarray, " *time"]:
    """The closed form of L_train without noise, averaged over draws in the limit of large d: e^{−4η(1+λ)t}·I₁(z)/(z/2).

    >>> average_train_loss(0.0, 0.9).item()
    1.0
    >>> abs(average_train_loss(50.0, 0.9) / TeacherStudent.average(0.9).loss(50.0, "train") - 1).item() < 1e-12
    True
    """
    times = np.asarray(time, dtype=np.float64)
    z = 8 * rate * times * math.sqrt(ratio)
    safe = np.where(z > 0, z, 1.0)
    # I₁ scaled by e^{−z}, which would overflow: the rest of the exponent is −4η(1 − √λ)²t.
    bessel = np.where(z > 0, special.i1e(safe) / (safe / 2), 1.0)
    return np.asarray(np.exp(-4 * rate * (1 - math.sqrt(ratio)) ** 2 * times) * bessel)


def accuracy_at(loss: ArrayLike, tolerance: float = 1e-3) -> Float[np.ndarray, " *loss"]:
    """The share of answers within √ε of what is right, where errors are normal with a mean square of `loss`:
    erf(√(ε/2L)).

    >>> accuracy_at(1e-3 / 4).round(4).item()  # two standard deviations
    0.9545
    """
    with np.errstate(divide="ignore"):
        return np.asarray(special.erf(np.sqrt(tolerance / (2 * np.asarray(loss, dtype=np.float64)))))


def loss_at(accuracy: float, tolerance: float = 1e-3) -> float:
    """The loss at which so large a share of answers is right, the inverse of `accuracy_at`.

    Raises ValueError for an accuracy that is not between 0 and 1, and a tolerance that is not positive.

    >>> round(1e-3 / loss_at(0.95), 2)
    3.84
    """
    if not 0 < accuracy < 1:
        raise ValueError(f"accuracy must lie between 0 and 1, got {accuracy}")
    _check_positive(tolerance=tolerance)
    return tolerance / (2 * float(special.erfinv(accuracy)) ** 2)


def _check_positive(**numbers: float) -> None:
    for name, value in numbers.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")
