"""Grokfast. Is it the filter that makes a network generalize sooner?

Grokfast adds to every gradient λ times its slow part (`interp.training.gradient_filters`; here the moving average with
α = 0.98 and λ = 2). Three things change at once: where the update points, its size, and how much weight decay weighs.
With Adam the last one is easily overlooked: its L2 term is added to the gradient after the filter, Adam is invariant to
a factor on both, and so a gradient 1 + λ times as large has the effect of a weight decay that is 1 + λ times weaker.
So the published comparison (with the filter and weight decay against neither) is made beside four others, which hold
one of these still:

    published        Grokfast with weight decay 0.005 against neither
    filter           against the same weight decay without a filter
    direction        against the gain alone, ĝ = (1 + λ)g: the same size and the same decay, without a filter
    best-decay       the filter at its best weight decay against none at its best; both are chosen on other seeds
    adamw            against the same run without a filter, where weight decay is decoupled
    adamw-direction  the same against the gain alone: Adam cancels a gain but for eps, of which a third is left, and
                     gradients late in training are small enough for that to matter

Confirmed when the 95 % interval over seeds of the ratio of times (99 % held-out accuracy that holds;
`generalization_times`) lies above 1, not confirmed when it lies below 1, not shown when 1 lies in it, or when neither
generalized. Where fewer than half of one side's runs generalized in the time given, its time is taken for later than
that: the ratio is then only bounded, and decides only where the shares that generalized differ too (Fisher's exact
test, 5 %). More momentum in place of the filter (β₁ = 0.98) stands beside them.

It cannot tell that slow parts of a gradient *are* generalization; and it is one task and a small network, not the
authors'.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from interp.errors import InputError, check_integer, check_number
from interp.experiment import Experiment, GradientFilter, ModelConfig, Task, TrainingConfig
from interp.figures import NEUTRAL, PALETTE, new_panels, plain_log_axis
from interp.mathematics.intervals import seed_interval
from interp.runs import Run
from interp.studies.design import Prediction, TableDesign
from interp.studies.generalization_times import arrived, mean_log_time, measure_times, median_time
from interp.studies.time_ratios import ratio
from interp.sweeps import GridRun

TITLE = "Grokfast: the filter, its gain, and weight decay"
REFERENCE = "Lee et al. 2024 (Grokfast), arXiv:2405.20233, §4.1, Table 1"
CAPTION = (
    "Steps to 99 % held-out accuracy that holds, of every seed: open dots had not come so far when their run ended. "
    "Lines: means of log time, with 95 % intervals over seeds."
)


@dataclass(frozen=True, kw_only=True)
class GrokfastDesign(TableDesign):
    """What is trained. The weight decays are tried with the filter and without, on as many seeds again: those choose,
    and seeds 0 … N−1 report."""

    p: int = 31
    """The modulus of both tasks: x·y with Adam, x+y with AdamW."""
    seeds: int = 5
    """Seeds 0 … N−1, each of split and initial weights; as many again choose the weight decays."""
    steps: int = 3000
    """Steps of a run."""
    decay: float = 0.005
    """Adam's weight decay (L2, in the gradient) in the published comparison."""
    decays: tuple[float, ...] = (0.0005, 0.0015, 0.005, 0.015)
    """Weight decays of which the best is chosen, with the filter and without."""
    strength: float = 2.0
    """λ: how many times the slow part is added."""
    memory: float = 0.98
    """α of the moving average."""
    d_model: int = 32
    """Width of the residual stream (4 heads)."""
    d_mlp: int = 64
    """Number of neurons."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("steps", self.steps, 1)
        for value in (self.decay, *self.decays):
            check_number("decays", value, 0, above=True)
        if self.decay not in self.decays:
            raise InputError(f"decays needs decay, {self.decay:g}, among them; got {' '.join(map(str, self.decays))}")


DESIGN = GrokfastDesign()
FULL = GrokfastDesign(p=97, seeds=5, steps=40_000, d_model=128, d_mlp=512)
OTHER_MOMENTUM = 0.98


def methods(design: GrokfastDesign) -> dict[str, TrainingConfig]:
    """How each is trained, by its name."""
    slow = GradientFilter(kind="ema", strength=design.strength, memory=design.memory)
    gain = GradientFilter(kind="gain", strength=design.strength)
    training = TrainingConfig(
        steps=design.steps, lr=2e-3, betas=(0.9, 0.98), warmup=10, log_every=25, checkpoint_every=None
    )
    adam = replace(training, optimizer="adam", weight_decay=0.0)
    found = {"adam, no decay": adam}
    for decay in design.decays:
        found[_plain(decay)] = replace(adam, weight_decay=decay)
        found[_filtered(decay)] = replace(adam, weight_decay=decay, filter=slow)
    decayed = replace(adam, weight_decay=design.decay)
    found[_gain(design)] = replace(decayed, filter=gain)
    found["adam, β₁ 0.98"] = replace(decayed, betas=(OTHER_MOMENTUM, 0.98))
    adamw = replace(training, lr=1e-2, weight_decay=1.0)
    found |= {
        "adamw": adamw,
        "adamw, filter": replace(adamw, filter=slow),
        "adamw, gain": replace(adamw, filter=gain),
        "adamw, β₁ 0.98": replace(adamw, betas=(OTHER_MOMENTUM, 0.98)),
    }
    return found


def _plain(decay: float) -> str:
    return f"adam, decay {decay:g}"


def _filtered(decay: float) -> str:
    return f"adam, filter, decay {decay:g}"


def _gain(design: GrokfastDesign) -> str:
    return f"adam, gain, decay {design.decay:g}"


def grid(design: GrokfastDesign, *, full: bool = False) -> list[GridRun]:
    """A run per method and seed; of the methods among which is chosen twice as many."""
    runs = []
    for name, training in methods(design).items():
        choosable = name in {*map(_plain, design.decays), *map(_filtered, design.decays)}
        for seed in range(design.seeds * (1 + choosable)):
            task = Task(design.p, "multiply" if training.optimizer == "adam" else "add", 0.5, seed=seed)
            model = ModelConfig(d_model=design.d_model, d_mlp=design.d_mlp, seed=seed)
            runs.append(GridRun(run_name(name, seed), Experiment(task, model, training)))
    return runs


def run_name(method: str, seed: int) -> str:
    """The folder of a run.

    >>> run_name("adam, filter, decay 0.005", 3)
    'adam-filter-decay-0.005-seed3'
    """
    return f"{method.replace(', ', '-').replace(' ', '-').replace('β₁', 'beta1')}-seed{seed}"


def measure(runs: Mapping[str, Run], design: GrokfastDesign) -> xr.Dataset:
    """`time` [method, seed, event] in steps (NaN: did not happen); the weight decays that the other seeds chose are the
    attributes `best_plain` and `best_filtered`, and "" where no run of theirs generalized."""
    how = {"axis": "method", "long_name": "method"}
    found = measure_times(runs, run_name, values=list(methods(design)), seeds=design.seeds, **how)
    chosen = {}
    for kind, named in {"best_plain": _plain, "best_filtered": _filtered}.items():
        names = [named(decay) for decay in design.decays]
        others = measure_times(runs, _of_other_seeds(design), values=names, seeds=design.seeds, **how)
        times = mean_log_time(others, "generalized")
        chosen[kind] = "" if np.isnan(times).all() else names[int(np.nanargmin(times))]
    return found.assign_attrs(chosen)


def _of_other_seeds(design: GrokfastDesign):
    return lambda method, seed: run_name(method, seed + design.seeds)


def comparisons(result: xr.Dataset, decay: float) -> dict[str, tuple[str, str, str]]:
    """By the name of a prediction: what it states, the method without and the one with the filter."""
    with_it = _filtered(decay)
    gain = f"adam, gain, decay {decay:g}"
    return {
        "published": ("needs fewer steps than the same run without filter and decay", "adam, no decay", with_it),
        "filter": ("needs fewer steps than the same decay without a filter", _plain(decay), with_it),
        "direction": ("needs fewer steps than the gain alone, without a filter", gain, with_it),
        "best-decay": (
            "at its best weight decay needs fewer steps than none at its best",
            result.attrs["best_plain"],
            result.attrs["best_filtered"],
        ),
        "adamw": ("with AdamW needs fewer steps than the same run without", "adamw", "adamw, filter"),
        "adamw-direction": ("with AdamW needs fewer steps than the gain alone", "adamw, gain", "adamw, filter"),
    }


def predictions(result: xr.Dataset) -> list[Prediction]:
    """A verdict on every comparison."""
    failed = failed_precondition(result)
    steps = dict(zip(result.method.values.tolist(), np.exp(mean_log_time(result, "generalized")).tolist(), strict=True))
    came = dict(zip(result.method.values.tolist(), arrived(result, "generalized").tolist(), strict=True))
    told = []
    for name, (statement, without, with_it) in comparisons(result, _decay_of(result)).items():
        if failed is not None or not (without and with_it):
            because = failed or "no weight decay of one side generalized on the seeds that choose"
            told.append(Prediction(name, f"Grokfast {statement}", "not shown", because, {}))
            continue
        found = ratio(result, without, with_it)
        numbers: dict[str, Any] = {
            "without": without,
            "with_the_filter": with_it,
            "ratio_of_steps": found.value,
            "ratio_interval_95": [found.low, found.high],
            "steps": {method: steps[method] for method in (without, with_it)},
            "runs_that_generalized": {method: came[method] for method in (without, with_it)},
            "seeds": result.sizes["seed"],
        }
        because = f"without it (“{without}”) {found} as many steps as with it (“{with_it}”)"
        told.append(Prediction(name, f"Grokfast {statement}", found.verdict, because, numbers))
    return told


def _decay_of(result: xr.Dataset) -> float:
    """The weight decay of the published comparison: the gain is trained with no other."""
    (name,) = (name for name in result.method.values.tolist() if name.startswith("adam, gain"))
    return float(name.rsplit(" ", 1)[1])


def numbers(result: xr.Dataset) -> dict[str, Any]:
    """Every method: how many of its runs generalized, and when."""
    return {
        "methods": {
            method: {"generalized": int(n), "mean_of_log_time": math.exp(mean), "median": median}
            for method, n, mean, median in zip(
                result.method.values.tolist(),
                arrived(result, "generalized"),
                mean_log_time(result, "generalized"),
                median_time(result, "generalized").tolist(),
                strict=True,
            )
        },
        "chosen": {name: result.attrs[name] for name in ("best_plain", "best_filtered")},
    }


def failed_precondition(result: xr.Dataset) -> str | None:
    """Why nothing can be said: there is one seed, or nothing generalized."""
    if result.sizes["seed"] < 2:
        return "there is one seed, which says nothing of others; two are needed"
    return None if arrived(result, "generalized").any() else "no network generalized in the time given"


def plot(result: xr.Dataset):
    """Every run's step of generalization, a row for each method: open where it had not come when the run ended."""
    import plotly.graph_objects as go

    names = result.method.values.tolist()
    panels = {"Adam, x·y": [name for name in names if name.startswith("adam,")], "AdamW, x+y": ["adamw"]}
    panels["AdamW, x+y"] += [name for name in names if name.startswith("adamw,")]
    figure = new_panels(TITLE, tuple(panels), reference=REFERENCE, row_height=460, horizontal_spacing=0.2)
    times, last = result.time.sel(event="generalized").values, result.censored_at.values
    means = np.exp(mean_log_time(result, "generalized"))
    low, high = np.exp(seed_interval(len(result.seed), lambda seeds: mean_log_time(result, "generalized", seeds)))
    for column, rows in enumerate(panels.values(), start=1):
        for name in rows:
            place = names.index(name)
            color = PALETTE[0] if "filter" in name else NEUTRAL
            came = np.isfinite(times[place])
            x = np.where(came, times[place], last[place])
            dots = go.Scatter(x=x, y=[name] * len(x), mode="markers", showlegend=False)
            symbols = ["circle" if one else "circle-open" for one in came]
            figure.add_trace(dots.update(marker={"color": color, "size": 8, "symbol": symbols}), row=1, col=column)
            if math.isfinite(means[place]):
                error = {"type": "data", "symmetric": False, "color": color, "thickness": 1.5}
                error |= {"array": [high[place] - means[place]], "arrayminus": [means[place] - low[place]]}
                bar = go.Scatter(x=[means[place]], y=[name], mode="markers", showlegend=False, error_x=error)
                marker = {"color": color, "size": 14, "symbol": "line-ns-open"}
                figure.add_trace(bar.update(marker=marker), row=1, col=column)
    known = times[np.isfinite(times)]
    figure.update_xaxes(title_text="steps (updates)", **plain_log_axis(np.r_[known, last.reshape(-1)]))
    figure.update_yaxes(autorange="reversed")
    return figure
