"""Data fraction. How does time to generalize depend on how much of the table is trained on?

Prediction 1: fewer pairs, later: the slope of log time (99 % test accuracy for good) against log fraction is negative.
Prediction 2: the delay goes away with data: with the largest fraction a network generalizes within three times the
steps it took to memorize, with the smallest that generalizes at all it takes longer (grokking, as DESIGN defines it for
a run).

It cannot tell "never" from "later than we trained": fractions where a run did not generalize say at least how long that
was.
"""

import math
from collections.abc import Mapping

import numpy as np
import xarray as xr

from interp.experiment import Task
from interp.figures import as_percent
from interp.mathematics.bootstrap import bootstrap, slope
from interp.mathematics.grokking import DELAY_FACTOR
from interp.runs import Run
from interp.studies.design import Design, Prediction
from interp.studies.generalization_times import EVENTS, mean_log_time, measure_times
from interp.studies.weight_decay import plot_times
from interp.sweeps import GridRun

TITLE = "Data fraction: time to generalize"
REFERENCE = "Nanda et al. 2023, arXiv:2301.05217, App. D; Liu et al. 2022, arXiv:2205.10343, §3"
DESIGN = Design(p=59, sizes=(870, 1044, 1218, 1392, 1740, 2088, 2784), seeds=5, duration=12)
FULL = Design(sizes=(3192, 3575, 3830, 5107, 6384, 7661, 8938, 12130), seeds=5, duration=25, lr=1e-3)
# Fewer pairs take longer; beyond this fraction, training time falls with the square of it.
LONGEST_UP_TO = 0.4


def grid(design: Design, *, full: bool = False) -> list[GridRun]:
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


def measure(runs: Mapping[str, Run], design: Design) -> xr.Dataset:
    """`time` [size, seed, event] in steps (NaN: did not happen), how finely it is known, and the `fraction` of all
    pairs [size]."""
    sizes = sorted(design.sizes)
    result = measure_times(runs, name, axis="size", long_name="training pairs D", values=sizes, seeds=design.seeds)
    fraction = ("size", np.array(sizes) / design.p**2, {"long_name": "fraction of all pairs", "units": "1"})
    return result.assign(fraction=fraction)


def predictions(result: xr.Dataset) -> list[Prediction]:
    """Time falls with data; the delay goes away with data."""
    fractions, times = result.fraction.values, result.time.sel(event="generalized").values
    memorized = result.time.sel(event="memorized").values
    log_time = mean_log_time(result, "generalized")
    known = np.isfinite(log_time)
    numbers = {
        "fractions": fractions.tolist(),
        "runs_that_generalized": np.isfinite(times).sum(1).tolist(),
        "seeds": result.sizes["seed"],
        "mean_steps": {event: np.exp(mean_log_time(result, event)).tolist() for event in EVENTS},
        "logging_interval_steps": result.logging_interval.values.tolist(),
    }
    falls = "time to generalize falls with the fraction of pairs"
    goes = "the delay goes away with data"
    (low, high), _ = bootstrap(
        len(times[0]), lambda seeds: slope(np.log(fractions), mean_log_time(result, "generalized", seeds))
    )
    exponent = slope(np.log(fractions), log_time)
    if known.sum() < 3 or not math.isfinite(high):
        because = f"{known.sum()} sizes generalized in at least half of the runs; three are needed, and two seeds"
        return [
            Prediction(key, text, "not shown", because, numbers) for key, text in (("time", falls), ("delay", goes))
        ]
    because = f"from {as_percent(fractions[known][0], 0)} to {as_percent(fractions[known][-1], 0)} of the pairs: "
    because += (
        f"{math.exp(log_time[known][0]):.0f} to {math.exp(log_time[known][-1]):.0f} steps, exponent {exponent:.2f}"
    )
    verdict = "confirmed" if high < 0 else "not confirmed" if low > 0 else "not shown"
    first = Prediction(
        "time", falls, verdict, f"{because} ({low:.2f} to {high:.2f}, 95 %)", {"exponent": exponent} | numbers
    )
    with np.errstate(invalid="ignore"):
        delay = np.exp(log_time - np.log(memorized).mean(1))
    smallest, largest = delay[known][0], delay[known][-1]
    numbers = {"delay_factor": delay.tolist()} | numbers
    because = (
        f"time to generalize / time to memorize is {smallest:.1f} at {as_percent(fractions[known][0], 0)} of the pairs"
    )
    because += f" and {largest:.1f} at {as_percent(fractions[known][-1], 0)}"
    verdict = "confirmed" if smallest >= DELAY_FACTOR > largest else "not confirmed"
    return [
        first,
        Prediction("delay", goes, verdict if math.isfinite(smallest + largest) else "not shown", because, numbers),
    ]


def plot(result: xr.Dataset):
    """Times against training pairs, in steps and in units of 1/(lr·wd)."""
    return plot_times(result, "size", TITLE, REFERENCE)
