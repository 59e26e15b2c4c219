"""What stands beside the table of the critical size: costs and slopes, what C_gen was read from, and which verdicts
turn when something else is chosen.

It cannot name every other choice: one that is not here may turn a verdict too.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np
import xarray as xr
from jaxtyping import Float

from interp.mathematics.intervals import mean_interval, slope
from interp.studies.circuit_efficiency import KINDS
from interp.studies.size_crossings import critical_size, geometric_interval, geometric_mean
from interp.studies.ways_to_critical_size import (
    METHODS,
    SAME_FACTOR,
    Costs,
    compare,
    costs,
    counts,
    critical_sizes,
    efficiency_curves,
    isolated_curves,
    told,
)

# Other choices: of memory in C_gen, of accuracy after ungrokking, of what still counts as the same.
OTHER_SHARES, OTHER_LEVELS, OTHER_FACTOR = (0.05, 0.15, 0.2), (0.25, 0.75), 1.2
SPAN = (0.1, 0.9)  # of accuracy: how many times more pairs it takes from the one to the other


def numbers_beside(result: xr.Dataset) -> dict:
    """By name: `compared_at_logit`; `costs` (`_costs`); `by_size` (`_by_size`), `kept` networks of those there were;
    `isolated` (`_isolated`); `ungrokking_10_to_90_percent`, a factor of D; `other_choices` and `without_a_seed`, with
    the verdicts that they turn."""
    n, sizes = result.sizes["seed"], result["size"].values
    alone, isolated = efficiency_curves(result), isolated_curves(result)
    there = {"isolated_": result.isolated_weight_norm, "": result.weight_norm}
    kept = {
        f"{prefix}{kind}": [
            int(result[f"{prefix}kept"].sel(kind=kind).sum()),
            int(np.isfinite(of.sel(kind=kind)).sum()),
        ]
        for prefix, of in there.items()
        for kind in KINDS
    }
    low, high = (
        np.array([critical_size(sizes, result.held_out_accuracy.values[:, seed], level) for seed in range(n)])
        for level in SPAN
    )
    return {
        "compared_at_logit": {"efficiency": math.exp(alone.at), "isolated": math.exp(isolated.at)},
        "costs": _costs([costs(alone, seed) for seed in range(n)], [costs(isolated, seed) for seed in range(n)]),
        "by_size": _by_size(result),
        "kept": kept,
        "isolated": _isolated(result),
        "ungrokking_10_to_90_percent": _factor(np.log(high / low)),
        "start_accuracy_lowest": float(result.start_accuracy.min()),
        "other_choices": _other_choices(result),
        "without_a_seed": _without_a_seed(critical_sizes(result)),
    }


def _costs(alone: list[Costs], isolated: list[Costs]) -> dict:
    """Of norms at one logit: those of isolated networks over those of isolated circuits within a seed, by D for memory,
    and slopes of log norm against log D."""
    n_sizes = len(isolated[0].sizes) - 1
    memory = np.array([a.memory[:n_sizes] - b.memory[:n_sizes] for a, b in zip(alone, isolated, strict=True)])
    circuit = np.array([_mean(a.circuit) - b.circuit[-1] for a, b in zip(alone, isolated, strict=True)])
    slopes = {
        "C_gen": [one.slope for one in alone],
        "C_mem": [slope(np.log(one.sizes), one.memory) for one in alone],
        "isolated_memory": [slope(np.log(one.sizes), one.memory) for one in isolated],
    }
    sizes = isolated[0].sizes[:n_sizes]
    return {
        "C_mem_over_isolated_memory": {int(size): _factor(row) for size, row in zip(sizes, memory.T, strict=True)},
        "C_gen_over_isolated_circuit": _factor(circuit),
        "slopes": {name: _on_the_mean(np.array(values)) for name, values in slopes.items()},
        "C_gen_measured_from": [one.smallest for one in alone],
    }


def _by_size(result: xr.Dataset) -> dict:
    """Over seeds, of the networks that went on with D pairs, at the weight decay at which ways are compared, and of
    growth ratios from scratch."""
    rule, memory = (result.growth_ratio.sel(circuit=circuit).values for circuit in ("circuit", "memorizing"))
    share = result.memory_share.sel(kind="generalizing", weight_decay=result.attrs["middle_weight_decay"]).values
    of = {
        "memory_share": share,
        "held_out_accuracy": result.held_out_accuracy.values,
        "r_C": rule,
        "r_M": memory,
        "r_C_less_r_M": rule - memory,
    }
    sizes = result["size"].values.tolist()
    return {name: dict(zip(sizes, map(_on_the_mean, table), strict=True)) for name, table in of.items()}


def _isolated(result: xr.Dataset) -> dict:
    """Mean and range over kept isolated networks of the logit over the strength demanded, and of the `shortfall`; the
    norm of the circuit over that of memory of the fewest pairs, at one demanded strength; least separations, over the
    label's logit, of the circuit at rest, in the checkpoint and isolated, at the highest strength; the checkpoints."""
    gives = result.isolated_correct_logit / result.strength
    kept = result.isolated_kept.values.astype(bool)
    demanded = isolated_curves(result, demanded=True)
    found = [costs(demanded, seed) for seed in range(result.sizes["seed"])]
    parted = {
        "at_rest": result.rest_separation.values,
        "in_the_checkpoint": result.checkpoint_separation.sel(kind="generalizing").values,
        "isolated": result.isolated_least_separation.sel(kind="generalizing").values[-1, -1],
        "isolated_memory": result.isolated_least_separation.sel(kind="memorizing").values[0, -1],
    }
    less = {name: _on_the_mean(parted[name] - parted["in_the_checkpoint"]) for name in ("at_rest", "isolated")}
    return {
        "logit_over_demanded": {kind: _spread(gives.values[row][kept[row]]) for row, kind in enumerate(KINDS)},
        "shortfall": {
            kind: _spread(result.isolated_shortfall.values[row][kept[row]]) for row, kind in enumerate(KINDS)
        },
        "demanded_strength": math.exp(demanded.at),
        "circuit_over_memory_of_fewest_pairs_at_one_demanded_strength": [
            math.exp(one.circuit[-1] - one.memory[0]) for one in found
        ],
        "least_separation": {name: _spread(values) | {"of_seeds": values.tolist()} for name, values in parted.items()},
        "least_separation_less_in_the_checkpoint": less,
        "memory_leads_more_at_less_norm_up_to": _dominated(result),
        "checkpoint_step": result.checkpoint_step.values.tolist(),
        "checkpoint_strength": result.checkpoint_strength.transpose("seed", "kind").values.tolist(),
    }


def _dominated(result: xr.Dataset) -> list[float]:
    """Of every seed the largest D up to which a memory, at one of the strengths, leads the next class by more logits
    than the isolated circuit at its highest strength, at less norm; NaN where the smallest D has none."""
    kept = result.isolated_kept.values.astype(bool)
    lead = (result.isolated_least_separation * result.isolated_correct_logit).transpose(*result.isolated_kept.dims)
    leads, norms = (np.where(kept, one.values, np.nan) for one in (lead, result.isolated_weight_norm))
    better = ((leads[0] > leads[1, -1, -1]) & (norms[0] < norms[1, -1, -1])).any(1)  # [size, seed]
    first_without = better.argmin(0)  # the last row is the circuit's, of which no memory is
    sizes = result.isolated_size.values
    return [float(sizes[row - 1]) if row else math.nan for row in first_without]


def _other_choices(result: xr.Dataset) -> dict:
    """For each, a row of the table, and what verdicts become that are others than before."""
    found = critical_sizes(result)
    before, choices = _verdicts(found), dict[str, dict]()
    for name, way, values in _chosen_otherwise(result):
        choices[name] = told(values) | {"turns": _turned(before, _verdicts({**found, way: values}))}
    wider = {name: _verdicts(found, OTHER_FACTOR)[name] for name in before}
    return choices | {f"the same to within {OTHER_FACTOR - 1:.0%}": {"turns": _turned(before, wider)}}


def _chosen_otherwise(result: xr.Dataset) -> Iterator[tuple[str, str, Float[np.ndarray, " seed"]]]:
    """Name, way, and D_crit of every seed."""
    n, sizes = result.sizes["seed"], result["size"].values
    found = critical_sizes(result)
    yield "isolated networks: C_gen flat", "efficiency", found["efficiency_flat"]
    for share in OTHER_SHARES:
        kept = counts(result, largest_other=share)
        yield f"isolated networks: memory up to {share:.0%}", "efficiency", critical_sizes(kept)["efficiency"]
    kept = counts(result, largest_range=math.inf)
    yield "isolated networks: at rest by two points alone", "efficiency", critical_sizes(kept)["efficiency"]
    for way, curves in (("efficiency", efficiency_curves), ("isolated", isolated_curves)):
        reach = curves(result)
        for end, at in (("lowest", reach.low), ("highest", reach.high)):
            read = curves(result, at=at)
            values = np.array([costs(read, seed).critical_size(flat=way == "isolated") for seed in range(n)])
            yield f"{METHODS[way]}: at the {end} logit, {math.exp(read.at):.1f}", way, values
    for level in OTHER_LEVELS:
        accuracy = result.held_out_accuracy.values.T
        values = np.array([critical_size(sizes, of_seed, level) for of_seed in accuracy])
        yield f"ungrokking: {level:.0%} held-out accuracy", "ungrokking", values
    rule, memory = (result.growth_ratio.sel(circuit=circuit).values.T for circuit in ("circuit", "memorizing"))
    yield "growth ratios: straight line over all D", "growth", np.array([_zero(sizes, one) for one in rule - memory])
    alone = np.array([critical_size(sizes, one, 1.0) for one in rule])
    yield "growth ratios: r_C passes 1", "growth", alone


def _zero(sizes: np.ndarray, values: Float[np.ndarray, " size"]) -> float:
    """The D at which the least-squares line of values against log D is 0; NaN where it does not rise."""
    x, known = np.log(sizes), np.isfinite(values)
    rise = slope(x, values)
    return math.exp(x[known].mean() - values[known].mean() / rise) if rise > 0 else math.nan


def _without_a_seed(found: Mapping[str, np.ndarray]) -> dict:
    """By seed, what verdicts become that are others than before."""
    before, n = _verdicts(found), len(found["efficiency"])
    if n == 1:
        return {}
    without = {seed: _verdicts({way: np.delete(of, seed) for way, of in found.items()}) for seed in range(n)}
    return {seed: turned for seed, verdicts in without.items() if (turned := _turned(before, verdicts))}


def _verdicts(found: Mapping[str, np.ndarray], factor: float = SAME_FACTOR) -> dict[str, str]:
    pairs = list(combinations(METHODS, 2))
    return {f"{a}-{b}": compare(found[b] / found[a], len(pairs), factor).verdict for a, b in pairs}


def _turned(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    return {name: verdict for name, verdict in after.items() if verdict != before[name]}


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _spread(values: np.ndarray) -> dict:
    known = values[np.isfinite(values)]
    ends = [float(known.min()), float(known.max())] if len(known) else [math.nan, math.nan]
    return {"mean": _mean(values), "range": ends}


def _on_the_mean(values: Float[np.ndarray, " seed"]) -> dict:
    """The mean over the seeds in which it is known, and its interval."""
    return {
        "mean": _mean(values),
        "interval_95": mean_interval(values[None])[:, 0].tolist(),
        "seeds": int(np.isfinite(values).sum()),
    }


def _factor(logs: Float[np.ndarray, " seed"]) -> dict:
    """The same of logarithms, exponentiated."""
    values = np.exp(logs[np.isfinite(logs)])
    middle, interval = (geometric_mean(values), geometric_interval(values)) if len(values) else (math.nan,) * 2
    return {"factor": middle, "interval_95": interval, "seeds": len(values)}
