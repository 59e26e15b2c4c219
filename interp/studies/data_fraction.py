"""Data fraction. How does time to generalize depend on how much of the table is trained on?

Prediction 1: fewer pairs, later: the slope of log time (99 % held-out accuracy that holds) against log fraction is
negative.
Prediction 2: the delay goes away with data: with the largest fraction a network generalizes within three times the
steps it took to memorize, with the smallest that generalizes at all it takes longer (the border of grokking in
`interp.mathematics.grokking`). Confirmed when the 95 % interval over seeds of the factor lies above three at the
smallest and below it at the largest, not confirmed when one of the two lies on the other side, not shown otherwise.

It cannot tell "never" from "later than we trained": a run that did not generalize counts as later than its last step
(`generalization_times`), and fractions of which fewer than half of the runs did are left out.
Times are known to the logging interval, which stands beside them: intervals over seeds do not hold that.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from interp.experiment import Task
from interp.figures import as_percent
from interp.mathematics.grokking import DELAY_FACTOR
from interp.mathematics.intervals import seed_interval
from interp.runs import Run
from interp.studies.design import DecayDesign, Prediction
from interp.studies.generalization_times import (
    EVENTS,
    arrived,
    mean_log_time,
    measure_times,
    median_time,
    time_exponent,
    too_few,
)
from interp.studies.weight_decay import plot_times
from interp.sweeps import GridRun

TITLE = "Data fraction: time to generalize"
REFERENCE = "Nanda et al. 2023, arXiv:2301.05217, App. D; Liu et al. 2022, arXiv:2205.10343, §3"
DESIGN = DecayDesign(p=59, sizes=(870, 1044, 1218, 1392, 1740, 2088, 2784), seeds=5, duration=12)
FULL = DecayDesign(sizes=(3192, 3575, 3830, 5107, 6384, 7661, 8938, 12130), seeds=5, duration=25, lr=1e-3)
# Fewer pairs take longer; beyond this fraction, training time falls with the square of it.
LONGEST_UP_TO = 0.4


def grid(design: DecayDesign, *, full: bool = False) -> list[GridRun]:
    """A run per size and seed, at the first of the weight decays; large sizes, whose steps are dear and which need few,
    train shorter."""
    decay, runs = design.weight_decays[0], []
    for size in design.sizes:
        share = min(1.0, (LONGEST_UP_TO * design.p**2 / size) ** 2)
        steps = max(1, round(share * design.steps(decay)))
        for seed in range(design.seeds):
            task = Task(design.p, train_pairs=size, seed=seed)
            experiment = design.experiment(task, decay, seed, steps=steps, log_every=max(1, math.ceil(steps / 200)))
            runs.append(GridRun(name(size, seed), experiment))
    return runs


def name(size: float, seed: int) -> str:
    """The folder of a run."""
    return f"D{int(size)}-seed{seed}"


def measure(runs: Mapping[str, Run], design: DecayDesign) -> xr.Dataset:
    """`time` [size, seed, event] in steps (NaN: did not happen), how finely it is known, and the `fraction` of all
    pairs [size]."""
    sizes = sorted(design.sizes)
    result = measure_times(runs, name, axis="size", long_name="training pairs D", values=sizes, seeds=design.seeds)
    fraction = ("size", np.array(sizes) / design.p**2, {"long_name": "fraction of all pairs", "units": "1"})
    return result.assign(fraction=fraction)


def predictions(result: xr.Dataset) -> list[Prediction]:
    """Time falls with data; the delay goes away with data."""
    numbers = {
        "fractions": result.fraction.values.tolist(),
        "runs_that_arrived": {event: arrived(result, event).tolist() for event in EVENTS},
        "seeds": result.sizes["seed"],
        "mean_steps": {event: np.exp(mean_log_time(result, event)).tolist() for event in EVENTS},
        "median_steps": {event: median_time(result, event).tolist() for event in EVENTS},
        "logging_interval_steps": result.logging_interval.values.tolist(),
    }
    if (because := failed_precondition(result)) is not None:
        return [Prediction(key, text, "not shown", because, numbers) for key, text in _STATEMENTS.items()]
    return [_falls(result, numbers), _goes(result, numbers)]


_STATEMENTS = {
    "time": "time to generalize falls with the fraction of pairs",
    "delay": "the delay goes away with data",
}


_HANGS_ON_ONE = "without one of the seeds, at some fraction no network came so far"


def failed_precondition(result: xr.Dataset) -> str | None:
    """Why nothing can be said of time and delay, where nothing can."""
    return too_few(result, "fractions")


def _falls(result: xr.Dataset, numbers: dict) -> Prediction:
    fractions, log_time = result.fraction.values, mean_log_time(result, "generalized")

    def exponent(seeds: Sequence[int] | None = None) -> float:
        return time_exponent(result, fractions, "generalized", seeds)

    low, high = seed_interval(result.sizes["seed"], exponent).tolist()
    numbers = {"exponent": exponent(), "exponent_interval_95": (low, high)} | numbers
    if not math.isfinite(high):
        return Prediction("time", _STATEMENTS["time"], "not shown", _HANGS_ON_ONE, numbers)
    first, last = np.flatnonzero(np.isfinite(log_time))[[0, -1]]
    because = (
        f"from {as_percent(fractions[first], 0)} to {as_percent(fractions[last], 0)} of the pairs: "
        f"{math.exp(log_time[first]):.0f} to {math.exp(log_time[last]):.0f} steps, exponent {exponent():.2f} "
        f"({low:.2f} to {high:.2f}, 95 %)"
    )
    verdict = "confirmed" if high < 0 else "not confirmed" if low > 0 else "not shown"
    return Prediction("time", _STATEMENTS["time"], verdict, because, numbers)


def _goes(result: xr.Dataset, numbers: dict) -> Prediction:
    fractions = result.fraction.values

    def factor(seeds: Sequence[int] | None = None) -> np.ndarray:
        return np.exp(mean_log_time(result, "generalized", seeds) - mean_log_time(result, "memorized", seeds))

    factors, intervals = factor(), seed_interval(result.sizes["seed"], factor, positive=True)
    numbers = {"delay_factor": factors.tolist(), "delay_factor_intervals_95": intervals.T.tolist()} | numbers
    first, last = np.flatnonzero(np.isfinite(mean_log_time(result, "generalized")))[[0, -1]]
    if not np.isfinite(intervals[:, [first, last]]).all():
        return Prediction("delay", _STATEMENTS["delay"], "not shown", _HANGS_ON_ONE, numbers)
    shown = [
        f"{factors[at]:.1f} ({intervals[0, at]:.1f} to {intervals[1, at]:.1f}) at {as_percent(fractions[at], 0)}"
        for at in (first, last)
    ]
    because = f"time to generalize / time to memorize is {shown[0]} of the pairs and {shown[1]} (95 %)"
    (lowest, late), (early, highest) = intervals[:, first], intervals[:, last]
    if lowest >= DELAY_FACTOR and highest < DELAY_FACTOR:
        verdict = "confirmed"
    else:
        verdict = "not confirmed" if late < DELAY_FACTOR or early >= DELAY_FACTOR else "not shown"
    return Prediction("delay", _STATEMENTS["delay"], verdict, because, numbers)


def plot(result: xr.Dataset):
    """Times against training pairs, in steps and in units of 1/(lr·wd)."""
    return plot_times(result, "size", TITLE, REFERENCE)
