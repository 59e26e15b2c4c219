"""Fitting patterns to the curves of a run, where the curves can tell them, and refusing where they cannot.

The patterns of `interp.mathematics.pattern_learning`, in log time: t is the logarithm of the step, so that a slope α is
per e-fold of steps. Two curves cannot tell twelve numbers, so what enters only as a product is fixed:

    1 pattern    the rule: γ, α, b and g
    2 patterns   overfitting (g at chance; γ is the highest training accuracy), and the rule, preferred (g = 1)
    3 patterns   a heuristic (γ, α, b and g) besides

Once the training pairs are known the rule is seen in test accuracy alone, through γ·g: with g = 1, γ is how high test
accuracy comes. Each fit is nonlinear least squares (`scipy.optimize.least_squares`) of accuracies over their binomial
errors √(f(1 − f)/n), f taken of the fit before, from STARTS random starts.

Intervals are profiles: the values of a parameter at which the best fit of all others is worse by at most the 95 % point
of χ² with one degree of freedom, times the misfit per degree of freedom where that is above 1. A fit is *refused*
where the numbers mean nothing: another fit, of other numbers, is as good (two patterns swap without loss), or the
curves do not bear on some number: its standard error is half of the range in which it may lie, or, of a slope, as large
as the slope.

How many patterns there are is told by runs, not by points: the points of a run are not independent of each other.

It cannot tell that the errors of a run are binomial: all its points are of the same pairs, so that an interval is of
what these curves say, and not of what another seed would.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import optimize, stats
from scipy.special import expit

from interp.mathematics.intervals import COVERAGE
from interp.mathematics.pattern_learning import Pattern, PatternCurves, pattern_curves

STARTS, REWEIGHTINGS, FEWEST_POINTS = 24, 3, 10
STEEPEST, FLATTEST = 50.0, 0.2  # slopes, per e-fold of steps
SAME = 0.05  # numbers that differ by less, of the range in which they may lie, are the same
NAMES = {
    1: ("rule_ceiling", "rule_slope", "rule_midpoint", "rule_generalization"),
    2: ("rule_ceiling", "rule_slope", "rule_midpoint", "overfitting_slope", "overfitting_midpoint"),
    3: (
        "rule_ceiling",
        "rule_slope",
        "rule_midpoint",
        "overfitting_slope",
        "overfitting_midpoint",
        "heuristic_ceiling",
        "heuristic_slope",
        "heuristic_midpoint",
        "heuristic_generalization",
    ),
}


class AccuracyCurves(NamedTuple):
    """Training and test accuracy at the logarithms of steps, of so many pairs each, and what guessing comes to."""

    log_steps: Float[np.ndarray, " point"]
    train: Float[np.ndarray, " point"]
    test: Float[np.ndarray, " point"]
    n_train: int
    n_test: int
    chance: float


class PatternFit(NamedTuple):
    """The best numbers by name, slopes per e-fold of steps and midpoints as log steps; their intervals, lower and upper
    end; the sum of squares of weighted residuals and per degree of freedom; the condition number of the covariance of
    the numbers, each in units of its range (of a slope, of itself); and why nothing is to be read from it, where it is
    `refused`."""

    numbers: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    misfit: float
    dispersion: float
    condition: float
    refused: str | None


def patterns_of(n: int, numbers: Float[np.ndarray, " number"], plateau: float, chance: float) -> tuple[Pattern, ...]:
    """The patterns of which `NAMES[n]` are the numbers, the preferred one first.

    >>> numbers = np.array([1.0, 2.0, 7.0, 3.0, 4.0])
    >>> [pattern.midpoint for pattern in patterns_of(2, numbers, plateau=1.0, chance=0.01)]
    [7.0, 4.0]
    """
    values = [float(number) for number in numbers]
    if n == 1:
        return (Pattern(*values),)
    rule = Pattern(values[0], values[1], values[2], 1.0)
    overfitting = Pattern(plateau, values[3], values[4], chance)
    return (rule, overfitting) if n == 2 else (rule, overfitting, Pattern(*values[5:]))


class _Problem:
    """Least squares over one run or several that share the numbers."""

    def __init__(self, n: int, runs: Sequence[AccuracyCurves]) -> None:
        self.n, self.runs = n, runs
        self.plateau = max(float(run.train.max()) for run in runs)
        self.chance = runs[0].chance
        times = np.concatenate([run.log_steps for run in runs])
        early, late = float(times.min()), float(times.max())
        span = {"ceiling": (0.0, 1.0), "generalization": (0.0, 1.0), "midpoint": (early, late)}
        span["slope"] = (FLATTEST, STEEPEST)
        bounds = np.array([span[name.rpartition("_")[2]] for name in NAMES[n]])
        self.low, self.high = bounds.T
        self.is_slope = np.array([name.endswith("slope") for name in NAMES[n]])
        self.seen = np.concatenate([np.concatenate([run.train, run.test]) for run in runs])
        self.pairs = np.concatenate(
            [np.repeat([run.n_train, run.n_test], len(run.log_steps)).astype(float) for run in runs]
        )
        self.errors = self._errors((self.pairs * self.seen + 1) / (self.pairs + 2))

    def curves(self, numbers: np.ndarray) -> np.ndarray:
        """Of as many sets of numbers as there are rows: the accuracies of all runs one after the other."""
        found = [self._accuracies(numbers[..., None], run.log_steps) for run in self.runs]
        return np.concatenate(found, -1)

    def _accuracies(self, numbers: np.ndarray, time: np.ndarray) -> np.ndarray:
        """`fitted` in closed form, for the many evaluations of a fit: overfitting answers as chance does, so that two
        patterns have the test accuracy of one."""
        column = dict(zip(NAMES[self.n], np.moveaxis(numbers, -2, 0), strict=True))

        def learned(name: str, ceiling: np.ndarray | float) -> np.ndarray:
            return ceiling * expit(column[f"{name}_slope"] * (time - column[f"{name}_midpoint"]))

        rule = learned("rule", column["rule_ceiling"])
        unlearned, without = 1 - rule, self.chance
        overfitting = learned("overfitting", self.plateau) if self.n > 1 else 0.0
        unlearned = unlearned * (1 - overfitting)
        if self.n == 3:
            heuristic, right = learned("heuristic", column["heuristic_ceiling"]), column["heuristic_generalization"]
            unlearned = unlearned * (1 - heuristic)
            without = self.chance + heuristic * (right - self.chance) * (1 - overfitting / 2)
        test = column.get("rule_generalization", 1.0) * rule + (1 - rule) * without
        return np.concatenate([1 - unlearned, test], -1)

    def jacobian(self, numbers: np.ndarray) -> np.ndarray:
        """Central differences, all in one evaluation."""
        steps = np.diag(1e-6 * np.maximum(1.0, np.abs(numbers)))
        ahead, behind = np.split(self.curves(np.concatenate([numbers + steps, numbers - steps])), 2)
        return ((ahead - behind) / (2 * steps.diagonal()[:, None]) / self.errors).T

    def _errors(self, accuracy: np.ndarray) -> np.ndarray:
        """Binomial; of accuracies of 0 and 1 that of one example in twice as many."""
        least = 1 / (2 * self.pairs)
        inside = np.clip(accuracy, least, 1 - least)
        return np.sqrt(inside * (1 - inside) / self.pairs)

    def reweight(self, numbers: np.ndarray) -> None:
        self.errors = self._errors(self.curves(numbers))

    def residuals(self, numbers: np.ndarray) -> np.ndarray:
        return (self.curves(numbers) - self.seen) / self.errors

    def solve(self, start: np.ndarray, fixed: int | None = None) -> optimize.OptimizeResult:
        """From a start, all numbers or all but one that is held there."""
        free = np.arange(len(start)) != (-1 if fixed is None else fixed)
        inner = np.clip(start, self.low + 1e-9, self.high - 1e-9)

        def whole(numbers: np.ndarray) -> np.ndarray:
            full = start.copy()
            full[free] = numbers
            return full

        found = optimize.least_squares(
            lambda numbers: self.residuals(whole(numbers)),
            inner[free],
            jac=lambda numbers: self.jacobian(whole(numbers))[:, free],
            bounds=(self.low[free], self.high[free]),
            x_scale=np.where(self.is_slope, 1.0, 0.1)[free],
            max_nfev=100,
        )
        found.x = whole(found.x)
        return found

    def starts(self, seed: int) -> np.ndarray:
        random = np.random.RandomState(seed)
        drawn = random.uniform(self.low, self.high, (STARTS, len(self.low)))
        logs = random.uniform(math.log(1.0), math.log(20.0), drawn.shape)
        return np.where(self.is_slope, np.exp(logs), drawn)

    def in_units(self, found: optimize.OptimizeResult) -> np.ndarray:
        """The Jacobian, each number in units of its range, a slope in those of itself."""
        return found.jac * np.where(self.is_slope, found.x, self.high - self.low)

    def are_same(self, one: np.ndarray, other: np.ndarray) -> bool:
        """Slopes by their logarithms."""
        apart = np.abs(one - other) / (self.high - self.low)
        ratio = np.abs(np.log(np.maximum(one, 1e-9) / np.maximum(other, 1e-9))) / math.log(STEEPEST / FLATTEST)
        return bool((np.where(self.is_slope, ratio, apart) < SAME).all())


def fitted(
    n: int, numbers: Float[np.ndarray, " number"], log_steps: Float[np.ndarray, " point"], plateau: float, chance: float
) -> PatternCurves:
    """The curves of n patterns with these numbers.

    >>> curves = fitted(1, np.array([1.0, 2.0, 3.0, 0.5]), np.array([3.0]), plateau=1.0, chance=0.0)
    >>> curves.train.tolist(), curves.test.tolist()
    ([0.5], [0.25])
    """
    return pattern_curves(log_steps, patterns_of(n, numbers, plateau, chance), preferred=0, chance=chance)


def _best(problem: _Problem, seed: int) -> list[optimize.OptimizeResult]:
    """The ends of all starts, the best first, with the errors of the best."""
    found = sorted((problem.solve(start) for start in problem.starts(seed)), key=lambda one: one.cost)
    for _ in range(REWEIGHTINGS):
        problem.reweight(found[0].x)
        found = sorted((problem.solve(one.x) for one in found[:6]), key=lambda one: one.cost)
    return found


def fit_patterns(curves: AccuracyCurves, n: int, *, intervals: bool = True, seed: int = 0) -> PatternFit:
    """The best n patterns, 1 to 3; without `intervals` these are empty. `seed` draws the starts.

    Raises ValueError for another number of patterns, curves of fewer points than numbers, and curves that are not
    between 0 and 1.

    >>> log_steps = np.linspace(2.0, 9.0, 60)
    >>> planted = fitted(2, np.array([0.98, 6.0, 7.5, 3.0, 4.0]), log_steps, plateau=1.0, chance=0.02)
    >>> found = fit_patterns(AccuracyCurves(log_steps, *planted, 800, 400, 0.02), 2, intervals=False)
    >>> [round(number, 2) for number in found.numbers.values()], found.refused
    ([0.98, 6.0, 7.5, 3.0, 4.0], None)
    """
    _check(curves, n)
    problem = _Problem(n, [curves])
    ends = _best(problem, seed)
    best = ends[0]
    misfit = 2 * float(best.cost)
    dispersion = misfit / (len(problem.seen) - len(best.x))
    worse = float(stats.chi2.ppf(COVERAGE, 1)) * max(1.0, dispersion)
    singular = np.linalg.svd(problem.in_units(best), compute_uv=False)
    condition = float((singular[0] / singular[-1]) ** 2) if singular[-1] > 0 else math.inf
    refused = _swaps(problem, ends, misfit + worse) or _unseen(problem, best, max(1.0, dispersion))
    found: dict[str, tuple[float, float]] = {}
    if intervals:
        found = {name: _interval(problem, best.x, place, misfit + worse) for place, name in enumerate(NAMES[n])}
    numbers = dict(zip(NAMES[n], best.x.tolist(), strict=True))
    return PatternFit(numbers, found, misfit, dispersion, condition, refused)


def profile_misfit(curves: AccuracyCurves, n: int, fit: PatternFit, name: str, value: float) -> float:
    """How much worse the best fit is in which one number has a given value: the sum of squares, less that of `fit`,
    over its dispersion where that is above 1. An interval holds what is at most 3.84 worse.

    >>> log_steps = np.linspace(2.0, 9.0, 60)
    >>> planted = fitted(2, np.array([0.98, 6.0, 7.5, 3.0, 4.0]), log_steps, plateau=1.0, chance=0.02)
    >>> curves = AccuracyCurves(log_steps, *planted, 800, 400, 0.02)
    >>> profile_misfit(curves, 2, fit_patterns(curves, 2, intervals=False), "rule_midpoint", 7.6) > 3.84
    True
    """
    problem, best = _Problem(n, [curves]), np.array(list(fit.numbers.values()))
    problem.reweight(best)
    place = NAMES[n].index(name)
    start = best.copy()
    start[place] = value
    return (2 * float(problem.solve(start, place).cost) - fit.misfit) / max(1.0, fit.dispersion)


def _check(curves: AccuracyCurves, n: int) -> None:
    if n not in NAMES:
        raise ValueError(f"there are fits of 1, 2 or 3 patterns, got {n}")
    if len(curves.log_steps) < FEWEST_POINTS:
        raise ValueError(f"{len(curves.log_steps)} points are too few for a fit; {FEWEST_POINTS} are needed")
    for name in ("n_train", "n_test"):
        if getattr(curves, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(curves, name)}")
    for name in ("train", "test"):
        values = getattr(curves, name)
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise ValueError(f"{name} accuracies must lie between 0 and 1, all of them known")


def _swaps(problem: _Problem, ends: Sequence[optimize.OptimizeResult], tolerated: float) -> str | None:
    """Whether a fit of other numbers is as good; the heuristic is made to change places with each of the others."""
    best, others = ends[0].x, list(ends[1:])
    if problem.n == 3:
        for ours, its in (([0, 1, 2], [5, 6, 7]), ([3, 4], [6, 7])):
            start = best.copy()
            start[ours], start[its] = best[its], best[ours]
            others.append(problem.solve(start))
    if all(2 * other.cost > tolerated or problem.are_same(best, other.x) for other in others):
        return None
    return "two patterns swap without loss: other numbers fit the curves as well"


def _unseen(problem: _Problem, best: optimize.OptimizeResult, dispersion: float) -> str | None:
    """Which number the curves do not bear on."""
    _, singular, directions = np.linalg.svd(problem.in_units(best), full_matrices=False)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = dispersion * np.square(directions / singular[:, None]).sum(0)
    for name, error, is_slope in zip(NAMES[problem.n], np.sqrt(variance), problem.is_slope, strict=True):
        if not error < (1.0 if is_slope else 0.5):
            return f"the curves do not bear on the {name.replace('_', ' ')}"
    return None


def _interval(problem: _Problem, best: np.ndarray, place: int, tolerated: float) -> tuple[float, float]:
    """The ends of the profile, at the bounds where it does not rise so far."""

    def beyond(value: float) -> float:
        start = best.copy()
        start[place] = value
        return 2 * float(problem.solve(start, place).cost) - tolerated

    ends: list[float] = []
    for bound, sign in ((problem.low[place], -1), (problem.high[place], 1)):
        room = abs(float(bound) - best[place])
        step = min(room, 1e-3 * float(problem.high[place] - problem.low[place]))
        inside, outside = 0.0, step
        while outside < room and beyond(best[place] + sign * outside) <= 0:
            inside, outside = outside, min(room, 3 * outside)
        if room == 0 or beyond(best[place] + sign * outside) <= 0:
            ends.append(float(bound))
            continue
        crossing = optimize.brentq(
            lambda away, sign=sign: beyond(best[place] + sign * away), inside, outside, xtol=1e-4 * step, rtol=1e-3
        )
        ends.append(float(best[place] + sign * crossing))
    return ends[0], ends[1]


def number_of_patterns(runs: Sequence[AccuracyCurves], *, seed: int = 0) -> dict[int, float]:
    """The Bayesian information criterion of 1, 2 and 3 patterns, the least of which is preferred; each run is told by
    what the others share. With M_r the misfit per point of run r to the numbers fitted to all other runs together, R
    runs and k numbers,

        BIC = R ln(Σ_r M_r/R) + k ln R,

    that of R observations with an unknown error: a run is one observation, however many points it has.

    Raises ValueError for fewer than three runs, and what `fit_patterns` raises.

    >>> log_steps = np.linspace(2.0, 9.0, 12)
    >>> planted = [fitted(2, np.array([1.0, 6.0, b, 3.0, 4.0]), log_steps, 1.0, 0.02) for b in (7.4, 7.5, 7.6)]
    >>> found = number_of_patterns([AccuracyCurves(log_steps, *one, 800, 400, 0.02) for one in planted])
    >>> min(found, key=found.get)
    2
    """
    if len(runs) < 3:
        raise ValueError(f"{len(runs)} runs do not tell how many patterns there are; at least three are needed")
    found: dict[int, float] = {}
    for n, names in NAMES.items():
        for run in runs:
            _check(run, n)
        starts = [one.x for one in _best(_Problem(n, runs), seed)[:3]]  # of all runs; each is then left out in turn
        misfits = []
        for place, left_out in enumerate(runs):
            problem = _Problem(n, [*runs[:place], *runs[place + 1 :]])
            best = min((problem.solve(start) for start in starts), key=lambda one: one.cost).x
            alone = _Problem(n, [left_out])
            alone.plateau = problem.plateau
            alone.reweight(best)
            misfits.append(float(np.square(alone.residuals(best)).mean()))
        found[n] = len(runs) * math.log(float(np.mean(misfits))) + len(names) * math.log(len(runs))
    return found
