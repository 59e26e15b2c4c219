"""The growth ratios of a run at one moment early on its plateau, and what became of it.

The window is chosen before anything is known of the end: from 1.5 to 3 times the step at which the training pairs were
known (`circuit_forces`). Its last checkpoint is the *moment*.

It cannot tell never from later than it was trained.
"""

import math
from collections.abc import Mapping

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from interp.analysis import find
from interp.mathematics import forces, grokking
from interp.mathematics.crossings import crossing
from interp.runs import Run, events_of

WINDOW = (1.5, 3.0)  # times the step at which the training pairs were known
OUTCOMES = ("generalized", "in part", "did not")
LEAST_IN_PART = 0.1  # of the held-out pairs, held
CIRCUITS = ("circuit", "memorizing")
TARGETS = {
    "generalized": "99 % of the held-out pairs, for good",
    "generalized_lower": "90 % of the held-out pairs, for good",
    "carried_from": "the rule carries the training pairs",
}


def measure_growth(runs: Mapping[str, Run]) -> xr.Dataset:
    """Of every run: when its training pairs were known (`known_from`, −1: never), when it `generalized` (99 %),
    `generalized_lower` (90 %), and when the rule carried (`carried_from`; NaN: it did not), its `last_step`, and how
    much of the held-out pairs it ever held; at the `moment` the `strength`, its error, and the `degree` κ of C and M
    [circuit, run], and the `weight_norm`; over the window until then the growth `ratio` [circuit, run] and its 95 %
    `ratio_interval` over held-out pairs; and the ratio over the plateau that the summary of `circuit_forces` has, which
    knows the end (`plateau_ratio`)."""
    rows = [_row(run) for run in runs.values()]
    table = {
        key: xr.DataArray(np.array([row[key] for row in rows]), dims="run", attrs=_attributes(words))
        for key, words in _OF_RUN.items()
    }
    table |= {
        key: xr.DataArray(np.array([row[key] for row in rows]).T, dims=("circuit", "run"), attrs=_attributes(words))
        for key, words in _OF_CIRCUIT.items()
    }
    ends = np.array([row["ratio_interval"] for row in rows]).T
    words = "95 % interval of the growth ratio, 1"
    table["ratio_interval"] = xr.DataArray(ends, dims=("end", "circuit", "run"), attrs=_attributes(words))
    coordinates = {"run": list(runs), "circuit": CIRCUITS, "end": ("low", "high")}
    return xr.Dataset(
        table, {name: (name, np.array(of), _attributes(f"{name}, name")) for name, of in coordinates.items()}
    )


def _attributes(words: str) -> dict[str, str]:
    """From what it is, a comma, and its unit."""
    long_name, _, units = words.rpartition(", ")
    return {"long_name": long_name, "units": units}


_OF_RUN = {
    "modulus": "modulus p, 1",
    "size": "training pairs D, pairs",
    "weight_decay": "weight decay, 1",
    "learning_rate": "learning rate, 1",
    "random_labels": "whether its labels are random, 1",
    "seed": "seed, 1",
    "last_step": "last step, updates",
    "known_from": "first checkpoint that knew the training pairs, updates",
    **{target: f"first step of {words}, updates" for target, words in TARGETS.items()},
    "held": "highest held-out accuracy that was held, 1",
    "moment": "last checkpoint of the window, updates",
    "weight_norm": "weight norm at the moment, 1",
}
_OF_CIRCUIT = {
    "strength": "strength at the moment, logits",
    "strength_error": "standard error of the strength, logits",
    "degree": "degree κ at the moment, 1",
    "ratio": "growth ratio over the window, 1",
    "plateau_ratio": "growth ratio over the plateau, 1",
}


def _row(run: Run) -> dict:
    result, events, training = run.result("circuit_forces"), events_of(run), run.training
    assert training is not None
    analysis = find("circuit_forces")
    account = analysis.summary(result)
    pushed = {circuit: analysis.module.pushed(result, circuit) for circuit in CIRCUITS}
    known_from = -1 if account["known_from"] is None else account["known_from"]
    steps, start, end = result.step.values, result.start.values, result.interval.values
    from_, until = (factor * max(known_from, 0) for factor in WINDOW)
    within = (start >= from_) & (end <= until) & (known_from > 0)
    at = int(np.flatnonzero(steps <= until)[-1])
    now = [result.sel(strength=circuit, step=[steps[at]]) for circuit in CIRCUITS]
    degrees = [forces.degree(*(one[key].values for key in ("value", "standard_error", "scaling"))) for one in now]
    ratios = [pushed[circuit].ratio_over(within) for circuit in CIRCUITS]
    curve = run.curves.accuracy.sel(split="held_out").values
    lower = crossing(run.metrics.step.values, np.where(np.isnan(curve), np.nan, curve >= grokking.LOWER_LEVEL))
    return {
        "modulus": run.task.p,
        "size": len(run.task.train_indices),
        "weight_decay": training.weight_decay,
        "learning_rate": training.lr,
        "random_labels": int(run.task.label_noise > 0),
        "seed": run.task.seed,
        "last_step": training.steps,
        "known_from": known_from,
        "generalized": math.nan
        if events.generalized is None or events.verdict == "collapse"
        else events.generalized.at,
        "generalized_lower": math.nan if lower is None else lower.at,
        "carried_from": _number(account["carried_from"]),
        "held": events.reached,
        "moment": int(steps[at]),
        "weight_norm": float(np.interp(steps[at], run.metrics.step.values, run.metrics.weight_norm.values)),
        "strength": [one.value.item() for one in now],
        "strength_error": [one.standard_error.item() for one in now],
        "degree": [float(kappa[0]) for kappa in degrees],
        "ratio": [ratio.value for ratio in ratios],
        "ratio_interval": [[ratio.low, ratio.high] for ratio in ratios],
        "plateau_ratio": [_number(account["growth_ratio"][circuit]) for circuit in CIRCUITS],
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


# ---- of the runs that were measured ---------------------------------------------------------------------------------


def of_grid(result: xr.Dataset, modulus: int | None = None, *, decay: float | None = None) -> xr.Dataset:
    """The runs of true labels and weight decay, of a modulus and of one weight decay where they are given."""
    keep = (result.random_labels == 0) & (result.weight_decay > 0)
    keep &= (result.modulus == modulus) if modulus is not None else True
    keep &= (result.weight_decay == decay) if decay is not None else True
    return result.isel(run=np.flatnonzero(keep.values))


def outcome(result: xr.Dataset) -> np.ndarray:
    """What became of every run: the index in OUTCOMES."""
    return np.where(np.isfinite(result.generalized), 0, np.where(result.held >= LEAST_IN_PART, 1, 2))


def still_to_come(
    some: xr.Dataset, target: str = "generalized"
) -> tuple[xr.Dataset, Float[np.ndarray, " run"], Bool[np.ndarray, " run"]]:
    """The runs in which it had not come at the moment, the step at which it came, and whether it did."""
    later = some.isel(run=np.flatnonzero(~(some[target] <= some.moment).values))
    return later, later[target].values, np.isfinite(later[target].values)


def told_by_size(some: xr.Dataset) -> dict[str, np.ndarray]:
    """What is held against D."""
    rule, memory = some.ratio.transpose("circuit", "run").values
    strength, of_memory = some.strength.transpose("circuit", "run").values
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "r_C": rule,
            "r_M": memory,
            "r_C_minus_r_M": rule - memory,
            "log2_C_over_M": np.log2(strength / of_memory),
            "log2_M": np.log2(of_memory),
            "log2_weight_norm": np.log2(some.weight_norm.values),
        }


def by_size(some: xr.Dataset, values: np.ndarray) -> Float[np.ndarray, "size seed"]:
    """A table of what is known, one value a run; NaN elsewhere."""
    sizes, row = np.unique(some["size"].values, return_inverse=True)
    seeds, column = np.unique(some.seed.values, return_inverse=True)
    table = np.full((len(sizes), len(seeds)), np.nan)
    table[row, column] = np.where(np.isfinite(values), values, np.nan)
    return table


def mean_of_known(table: Float[np.ndarray, "size seed"]) -> Float[np.ndarray, " size"]:
    """Over what is known; NaN where nothing is.

    >>> mean_of_known(np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, np.nan]])).tolist()
    [2.0, nan]
    """
    known = np.isfinite(table)
    with np.errstate(invalid="ignore"):
        return np.where(known, table, 0).sum(1) / np.where(known.any(1), known.sum(1), np.nan)
