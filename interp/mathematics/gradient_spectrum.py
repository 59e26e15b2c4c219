"""The gradient as a signal over steps: its power spectrum, how much of it is slow, and where its slow and its fast part
point.

Everything is told from a sketch of it, g [step, tensor, k] (`interp.mathematics.sketch`), in which squared norms, inner
products and power spectra are on average those of the gradient. With the memory α (0.98)

    μ_t = Σ_{s ≤ t} (1−α) α^{t−s} g_s / (1 − α^{t+1})        the slow part; g_t − μ_t is the fast part
    S_t = ‖μ_t‖² / EMA_α(‖g‖²)_t                             the slow share; the mean of ‖g‖² has the same weights

S is 1 for a constant gradient, and (1−α)/(1+α) = 0.0101 for noise without memory: the null line. (Division by
1 − α^{t+1}, as Adam does, is ours: Grokfast's μ starts at g_0, whose weight then is 50 times that of any other.)

Intervals say how well the 64 combinations of a tensor tell what the whole gradient has; of differences along time, also
how much blocks of steps differ. Power spectra are of windows of WINDOW steps, less a straight line, under a Hann window
(`scipy.signal.ShortTimeFFT`), because training is not stationary.

What is slow by this measure is any drift, a mean included; what is fast is oscillation, or the noise of mini-batches.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import signal, stats

from interp.mathematics.intervals import COVERAGE

MEMORY = 0.98
WINDOW = 256  # steps of a spectrum
MOST_SPECTRA = 120  # along time
FEWEST_BLOCKS = 4
N_NULL = 99


class Spectrogram(NamedTuple):
    """`power` per cycle/step, summed over the combinations, so that its sum times the spacing of `frequency` is the
    power of the gradient; each of the window of WINDOW steps around `time`."""

    time: Float[np.ndarray, " time"]
    frequency: Float[np.ndarray, " frequency"]  # cycles per step, 0 … 1/2
    power: Float[np.ndarray, "time frequency *tensor"]


def spectrogram(rows: Float[np.ndarray, "step *tensor k"], window: int = WINDOW) -> Spectrogram:
    """The power spectrum of every window, one-sided. Raises ValueError for fewer steps than one window has.

    >>> step = np.arange(600)
    >>> found = spectrogram(np.cos(2 * np.pi * 32 / 256 * step)[:, None])
    >>> found.frequency[found.power.argmax(1)].tolist()[0], found.power.shape[1]
    (0.125, 129)
    """
    n = len(rows)
    if n < window:
        raise ValueError(f"a spectrum needs {window} steps, got {n}")
    hop = max(window // 4, -(-n // MOST_SPECTRA))
    transform = signal.ShortTimeFFT(
        signal.windows.hann(window, sym=False), hop, 1.0, fft_mode="onesided2X", scale_to="psd"
    )
    # The first sample of the first window is step 0, and the last window lies within the steps.
    of_window = transform.spectrogram(
        np.asarray(rows, np.float64), detr=_less_a_line, p0=0, p1=(n - window) // hop + 1, axis=0, k_offset=window // 2
    )
    power = np.moveaxis(of_window, -1, 0).sum(-1)  # [frequency, …, k, time] → [time, frequency, …]
    return Spectrogram(np.arange(len(power)) * hop + (window - 1) / 2, transform.f, power)


def _less_a_line(rows: Float[np.ndarray, "... window"]) -> Float[np.ndarray, "... window"]:
    """`scipy.signal.detrend` of the last axis, which solves a general least-squares problem for this closed form."""
    line = np.arange(rows.shape[-1]) - (rows.shape[-1] - 1) / 2
    return rows - rows.mean(-1, keepdims=True) - (rows @ line / (line @ line))[..., None] * line


def slow_part(
    rows: Float[np.ndarray, "step *rest"], memory: float = MEMORY, *, two_sided: bool = False
) -> Float[np.ndarray, "step *rest"]:
    """μ, the mean of all gradients so far with weights that fall by the factor `memory` a step, float64; `two_sided`,
    of all gradients before and after alike. The one-sided mean lags: where a gradient shrinks, g − μ points against μ.

    >>> slow_part(np.array([1.0, 1.0, 4.0]), 0.5).round(3).tolist()
    [1.0, 1.0, 2.714]
    >>> line = np.arange(400.0)
    >>> float(slow_part(line)[300].round(1)), float(slow_part(line, two_sided=True)[200].round(1))
    (251.7, 200.0)
    """
    rows, shape = np.asarray(rows, dtype=np.float64), (-1, *[1] * (rows.ndim - 1))
    taps = [1 - memory], [1, -memory]
    summed, weight = signal.lfilter(*taps, rows, axis=0), 1 - memory ** (np.arange(len(rows)) + 1.0)
    if two_sided:
        summed = summed + signal.lfilter(*taps, rows[::-1], axis=0)[::-1] - (1 - memory) * rows
        weight = weight + weight[::-1] - (1 - memory)
    return summed / weight.reshape(shape)


def slow_part_at(
    rows: Float[np.ndarray, "step tensor k"],
    steps: Int[np.ndarray, " time"],
    memory: float = MEMORY,
    *,
    two_sided: bool = False,
) -> Float[np.ndarray, "time tensor k"]:
    """`slow_part` at some of the steps, one tensor after the other: of a long training all would not fit in memory.

    >>> rows = np.random.default_rng(0).standard_normal((50, 2, 3))
    >>> bool((slow_part_at(rows, np.array([7, 40])) == slow_part(rows)[[7, 40]]).all())
    True
    """
    of_tensors = [slow_part(rows[:, tensor], memory, two_sided=two_sided)[steps] for tensor in range(rows.shape[1])]
    return np.stack(of_tensors, axis=1)


def null_share(memory: float = MEMORY) -> float:
    """The slow share of noise that remembers nothing.

    >>> round(null_share(), 4)
    0.0101
    """
    return (1 - memory) / (1 + memory)


def permuted(rows: Float[np.ndarray, "step *rest"], random: np.random.Generator) -> Float[np.ndarray, "step *rest"]:
    """The rows in another order, each with a sign drawn anew: their power is the same, and nothing in it is slow. (Less
    their mean they would not do: where a few are large, all others become its opposite, which is slow.)

    >>> sorted(np.abs(permuted(np.array([1.0, 2.0, 6.0]), np.random.default_rng(0))).tolist())
    [1.0, 2.0, 6.0]
    """
    sign = random.choice([-1.0, 1.0], size=(len(rows), *[1] * (rows.ndim - 1)))
    return np.asarray(rows, np.float64)[random.permutation(len(rows))] * sign


class Share(NamedTuple):
    """A slow share, and its interval over the combinations."""

    value: Float[np.ndarray, "step *tensor"]
    low: Float[np.ndarray, "step *tensor"]
    high: Float[np.ndarray, "step *tensor"]


def slow_share(
    rows: Float[np.ndarray, "step *tensor k"], memory: float = MEMORY, steps: Int[np.ndarray, " time"] | None = None
) -> Share:
    """S at every step, or at these, with its 95 % interval over the k combinations: the jackknife of ln S, Student's t.
    It is to cover the S of the whole gradient, whatever that does in time; NaN where there was no gradient.

    >>> constant = slow_share(np.ones((5, 64)))
    >>> constant.value.round(9).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    slow, power = np.square(slow_part(rows, memory)), slow_part(np.square(np.asarray(rows, np.float64)), memory)
    if steps is not None:
        slow, power = slow[steps], power[steps]
    k = rows.shape[-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.minimum(slow.sum(-1) / power.sum(-1), 1.0)  # by Cauchy and Schwarz; rounding alone says more
        without = np.log(slow.sum(-1, keepdims=True) - slow) - np.log(power.sum(-1, keepdims=True) - power)
        error = np.sqrt((k - 1) * np.var(without, axis=-1))
        factor = np.exp(stats.t.ppf((1 + COVERAGE) / 2, k - 1) * error)
        return Share(value, value / factor, np.minimum(value * factor, 1.0))


# ---- where it points -------------------------------------------------------------------------------------------------


class Alignment(NamedTuple):
    """Cosines between two vectors at each time, from their sketches, and their errors over the combinations."""

    cosine: Float[np.ndarray, " time"]
    error: Float[np.ndarray, " time"]
    without: Float[np.ndarray, "time tensor k"]  # the cosine without each of the combinations


def alignment(one: Float[np.ndarray, "time tensor k"], other: Float[np.ndarray, "time tensor k"]) -> Alignment:
    """The cosine over all tensors together. Without a combination, the others of its tensor stand for it too; the error
    is the jackknife's, tensor by tensor. For one tensor it is about (1 − cos²)/√k.

    >>> drawn = np.random.default_rng(0).standard_normal((2, 1, 1, 64))
    >>> found = alignment(drawn[0], drawn[0] + drawn[1])
    >>> bool(abs(found.cosine[0] - 0.5**0.5) < 3 * found.error[0]), bool(0.03 < found.error[0] < 0.1)
    (True, True)
    """
    k = one.shape[-1]
    products = [np.asarray(a, np.float64) * b for a, b in ((one, other), (one, one), (other, other))]
    total = [each.sum((1, 2)) for each in products]
    without = []
    for each, whole in zip(products, total, strict=True):
        of_tensor = each.sum(2, keepdims=True)
        without.append(whole[:, None, None] - of_tensor + (of_tensor - each) * k / (k - 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = total[0] / np.sqrt(total[1] * total[2])
        left_out = without[0] / np.sqrt(without[1] * without[2])
    return Alignment(cosine, _jackknife(left_out), left_out)


def _jackknife(without: Float[np.ndarray, "*times tensor k"]) -> Float[np.ndarray, "*times"]:
    """The standard error of what is known without each of the k combinations of each tensor."""
    return np.sqrt((without.shape[-1] - 1) * np.var(without, axis=-1).sum(-1))


class Difference(NamedTuple):
    """The mean over time of a difference of two cosines, with its 95 % interval, and what it is between the gradients
    permuted in time (2.5 % and 97.5 %)."""

    value: float
    low: float
    high: float
    null_low: float
    null_high: float

    @property
    def is_above(self) -> bool:
        """Whether it is surely positive, and more than chance."""
        return bool(self.low > 0 and self.value > self.null_high)

    @property
    def is_below(self) -> bool:
        """Whether it is surely negative, and less than chance."""
        return bool(self.high < 0 and self.value < self.null_low)


NOT_TOLD = Difference(*[math.nan] * 5)


def difference(
    steps: Int[np.ndarray, " time"], more: Alignment, less: Alignment, null: Float[np.ndarray, " draws"], memory: float
) -> Difference:
    """The mean of cos(more) − cos(less). Its interval is Student's over blocks of 2/(1 − memory) steps (100), in which
    a slow part forgets, and over the combinations, which are the same at all times: their error is not averaged away.
    NaN for fewer than FEWEST_BLOCKS blocks.
    """
    values = more.cosine - less.cosine
    place = (steps - steps[:1]) // math.ceil(2 / (1 - memory))
    _, blocks, sizes = np.unique(place, return_inverse=True, return_counts=True)
    n = len(sizes)
    if n < FEWEST_BLOCKS or not np.isfinite(values).all():
        return NOT_TOLD
    means, of_blocks = np.bincount(blocks, values) / sizes, sizes / sizes.sum()  # the last may be short
    value = float(of_blocks @ means)
    of_time = math.sqrt(n / (n - 1) * float(of_blocks**2 @ (means - value) ** 2))
    of_combinations = float(_jackknife((more.without - less.without).mean(0, keepdims=True))[0])
    half = stats.t.ppf((1 + COVERAGE) / 2, n - 1) * math.hypot(of_time, of_combinations)
    return Difference(*map(float, (value, value - half, value + half, *np.quantile(null, [0.025, 0.975]))))


class Hypothesis(NamedTuple):
    """Is the slow part of the gradient what generalizes, and the fast part what memorizes? `rule`: by how much more the
    slow part of a descent points to where the rule grows than the fast part does; `memory`: by how much more the fast
    part points to where memory grows than the slow part does. The hypothesis says that both are positive."""

    rule: Difference
    memory: Difference

    @property
    def verdict(self) -> str:
        """In a word: confirmed where both are surely positive and more than chance, not confirmed where one of them is
        surely negative, and not shown otherwise.

        >>> surely, not_at_all = Difference(0.3, 0.2, 0.4, -0.1, 0.1), Difference(-0.3, -0.4, -0.2, -0.1, 0.1)
        >>> [Hypothesis(*two).verdict for two in ((surely, surely), (surely, not_at_all), (surely, NOT_TOLD))]
        ['confirmed', 'not confirmed', 'not shown']
        """
        if self.rule.is_above and self.memory.is_above:
            return "confirmed"
        return "not confirmed" if self.rule.is_below or self.memory.is_below else "not shown"


def hypothesis_of(
    rows: Float[np.ndarray, "step tensor k"],
    steps: Int[np.ndarray, " time"],
    rule: Float[np.ndarray, "time tensor k"],
    memorizing: Float[np.ndarray, "time tensor k"],
    *,
    memory: float = MEMORY,
    two_sided: bool = False,
    seed: int = 0,
) -> Hypothesis:
    """The hypothesis at these steps, of which the derivatives of the rule and of memory are given as sketches.

    The null: the gradients from the first to the last of the steps, and of 3/(1 − memory) before (and, `two_sided`,
    after), in an order and with signs that are drawn anew N_NULL times: their power, their directions, and nothing
    slow (`permuted`).
    """
    if not len(steps):
        return Hypothesis(NOT_TOLD, NOT_TOLD)
    slow = slow_part_at(rows, steps, memory, two_sided=two_sided)
    fast = rows[steps] - slow
    of_rule = alignment(-slow, rule), alignment(-fast, rule)
    of_memory = alignment(-fast, memorizing), alignment(-slow, memorizing)
    null = _by_chance(rows, steps, (rule, memorizing), memory, two_sided=two_sided, seed=seed)
    return Hypothesis(
        difference(steps, *of_rule, null[:, 0], memory), difference(steps, *of_memory, -null[:, 1], memory)
    )


def _by_chance(
    rows: Float[np.ndarray, "step tensor k"],
    steps: Int[np.ndarray, " time"],
    on: tuple[Float[np.ndarray, "time tensor k"], ...],
    memory: float,
    *,
    two_sided: bool,
    seed: int,
) -> Float[np.ndarray, "draws on"]:
    """The mean of cos(−slow) − cos(−fast) with each, of gradients permuted in time."""
    before = math.ceil(3 / (1 - memory))
    first, until = max(0, int(steps[0]) - before), int(steps[-1]) + 1 + two_sided * before
    window, random = np.asarray(rows[first:until], np.float64), np.random.default_rng(seed)
    window = window.reshape(len(window), -1)
    # The slow part is linear in the rows: to permute its weights, and give them signs, is to permute these.
    age = (steps - first)[:, None] - np.arange(len(window))
    weights = memory ** np.abs(age) * (two_sided | (age >= 0))
    weights /= weights.sum(1, keepdims=True)
    null = np.empty((N_NULL, len(on)))
    for draw in null:
        order, sign = random.permutation(len(window)), random.choice([-1.0, 1.0], size=len(window))
        slow = (weights[:, order] * sign) @ window
        now = np.argsort(order)[steps - first]
        fast = sign[now, None] * window[now] - slow
        for place, vectors in enumerate(on):
            of_each = [_cosines(-part, vectors.reshape(len(steps), -1)) for part in (slow, fast)]
            draw[place] = (of_each[0] - of_each[1]).mean()
    return null


def _cosines(one: Float[np.ndarray, "time n"], other: Float[np.ndarray, "time n"]) -> Float[np.ndarray, " time"]:
    with np.errstate(invalid="ignore", divide="ignore"):
        norms = np.square(one).sum(1) * np.square(other).sum(1)
        return (one * other).sum(1) / np.sqrt(norms)
