"""Recipes. What makes a network grok, what helps, and what hurts?

Regularizers and optimizers are mostly compared with one seed, and with a baseline that differs in more than one thing.
Here every method changes one thing, at a few strengths, on two bases: AdamW without weight decay (does it *cause*
grokking?) and with weight decay 1 (does it *help*?). Half of the seeds choose the strength of each method, at which
most runs generalize, of these the soonest; the other half report, so that who has more strengths wins nothing by it.

A row is compared with its base by the steps to 99 % held-out accuracy that holds: a permutation test of their ranks,
in which runs that had not come so far share the last rank, over all seeds of the base and those of the method that
report. So many rows are compared that some would differ by chance: of those that are called *sooner* or *later*, 5 %
are expected to be wrong (Benjamini and Hochberg 1995). The ratio of times stands beside it, with its own 95 %
interval, which knows nothing of the other rows.

Sentences of the literature get a verdict each. That networks generalize, or that they do not, is confirmed when the
95 % interval of the share that does lies on one side of one half (Wilson).

It cannot tell that a strength in between, or a longer run, would not; and it is one task, one size and one learning
rate. Where a row is no different, five seeds may have been too few to see it.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from interp.analysis import find as find_analysis
from interp.errors import check_integer, check_number
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.machine import one_thread
from interp.mathematics import grokking
from interp.runs import Run, ending_of
from interp.studies.design import Prediction, TableDesign
from interp.studies.generalization_times import arrived, measure_times
from interp.studies.growth_at_a_moment import CIRCUITS, WINDOW
from interp.studies.recipe_effects import CALLS, effect_table, effects
from interp.studies.recipe_figure import recipe_figure
from interp.studies.recipe_methods import BASES, NOTHING, Setting, settings
from interp.studies.recipe_sentences import SENTENCES
from interp.sweeps import GridRun
from interp.training import train

TITLE = "Recipes: what makes a network grok"
REFERENCE = (
    "Power et al. 2022, arXiv:2201.02177, §3.3; Nanda et al. 2023, arXiv:2301.05217; Liu et al. 2023 (Omnigrok), "
    "arXiv:2210.01117"
)
CAPTION = (
    "Steps to 99 % held-out accuracy that holds, of every seed that reports: open dots had not come so far when their "
    "run ended, and a number says how many of these stand on one another. Bars: means of log time, with 95 % intervals "
    "over seeds. Green: sooner than its base; pink: later."
)
MAY_DIVERGE = True
KEPT_EVERY, KEPT_UNTIL = 10, 600  # steps at which the growth ratios are told early on the plateau
TIMED_STEPS = 40


@dataclass(frozen=True, kw_only=True)
class RecipeDesign(TableDesign):
    """What is trained: addition by a transformer of one layer."""

    p: int = 31
    """The modulus."""
    seeds: int = 5
    """Seeds 0 … N−1, each of split and initial weights, report; as many again choose the strengths."""
    steps: int = 2000
    """Steps of a run."""
    train_fraction: float = 0.6
    """The share of the pairs that is trained on."""
    lr: float = 1e-2
    """The learning rate of AdamW."""
    d_model: int = 32
    """Width of the residual stream (4 heads)."""
    d_mlp: int = 64
    """Number of neurons."""
    methods: tuple[str, ...] = ()
    """These methods alone, by their names in the table; all if none is named."""

    def __post_init__(self) -> None:
        super().__post_init__()
        settings(self.methods)
        check_integer("steps", self.steps, 1)
        check_number("train-fraction", self.train_fraction, 0, 1, above=True)
        check_number("lr", self.lr, 0, above=True)

    def base(self, seed: int) -> Experiment:
        """What every setting changes: AdamW. Weights are kept early on, where growth ratios are told, and at the
        end, of the seeds that report."""
        reports = seed < self.seeds
        kept = range(0, min(self.steps, KEPT_UNTIL) + 1, KEPT_EVERY) if reports else ()
        training = TrainingConfig(
            steps=self.steps,
            lr=self.lr,
            log_every=min(25, self.steps),
            checkpoint_every=None,
            checkpoint_steps=tuple(kept),
        )
        task = Task(self.p, train_fraction=self.train_fraction, seed=seed)
        return Experiment(task, ModelConfig(d_model=self.d_model, d_mlp=self.d_mlp, seed=seed), training)


DESIGN = RecipeDesign()
FULL = RecipeDesign(p=113, steps=40_000, train_fraction=0.3, lr=1e-3, d_model=128, d_mlp=512)


def run_name(setting: str, seed: int) -> str:
    """The folder of a run.

    >>> run_name("no decay: L1, proximal 0.03", 3)
    'no-decay-L1-proximal-0.03-seed3'
    """
    words = setting.replace("⊥", "orthogonal-").replace(":", "").replace(",", "")
    return f"{words.replace(' ', '-')}-seed{seed}"


def grid(design: RecipeDesign, *, full: bool = False) -> list[GridRun]:
    """A run per setting and seed, those that report and those that choose."""
    return [
        GridRun(run_name(one.name, seed), one.applied(design.base(seed)))
        for one in settings(design.methods)
        for seed in range(2 * design.seeds)
    ]


# ---- what was measured -----------------------------------------------------------------------------------------------

OF_RUN = {
    "first": "step of the first 99 % of test pairs, updates",
    "weight_norm": "weight norm at the end, 1",
    "keys": "key frequencies at the end, 1",
    "periodic_neurons": "periodic neurons at the end, neurons",
    "r_C": "growth ratio of the rule early on the plateau, 1",
    "r_M": "growth ratio of memory early on the plateau, 1",
}


def measure(runs: Mapping[str, Run], design: RecipeDesign) -> xr.Dataset:
    """`time` [setting, seed, event] in steps (NaN: did not happen) of all seeds, those that report first; whether the
    seeds that choose have `chosen` [setting]; and of what is chosen, by the seeds that report (NaN elsewhere), the
    `first` crossing, `weight_norm`, `keys`, `periodic_neurons`, `r_C` and `r_M` [setting, reporter]."""
    all_settings = settings(design.methods)
    names = [one.name for one in all_settings]
    how = {"axis": "setting", "long_name": "setting", "values": names, "seeds": 2 * design.seeds}
    result = measure_times(runs, run_name, **how)
    for one in names:  # what a run that diverged knew before came to nothing
        for seed in range(2 * design.seeds):
            if ending_of(runs[run_name(one, seed)]).state == "diverged":
                result.time.loc[{"setting": one, "seed": seed, "event": "generalized"}] = np.nan
    chosen = np.array([name in choice(result, design).values() for name in names])
    table = np.full((len(OF_RUN), len(names), design.seeds), np.nan)
    for row in np.flatnonzero(chosen):
        for seed in range(design.seeds):
            table[:, row, seed] = _row(runs[run_name(names[row], seed)])
    of_run = {
        name: (("setting", "reporter"), values, dict(zip(("long_name", "units"), words.rsplit(", ", 1), strict=True)))
        for (name, words), values in zip(OF_RUN.items(), table, strict=True)
    }
    unit = {"units": "1"}
    return result.assign(
        of_run
        | {
            "chosen": ("setting", chosen, {"long_name": "whether the other seeds chose it"} | unit),
            "base": ("setting", np.array([one.base for one in all_settings]), {"long_name": "base", "units": "name"}),
            "method": (
                "setting",
                np.array([one.method.name for one in all_settings]),
                {"long_name": "method", "units": "name"},
            ),
            "milliseconds": (
                "setting",
                np.full(len(names), np.nan),
                {"long_name": "processor time of a step", "units": "ms"},
            ),
        }
    ).assign_coords(reporter=("reporter", np.arange(design.seeds, dtype=np.int32), {"long_name": "seed"} | unit))


def choice(result: xr.Dataset, design: RecipeDesign) -> dict[tuple[str, str], str]:
    """By base and method the setting at which most of the runs that choose generalized, of these the soonest, and the
    middle one where none did."""
    choosers = result.isel(seed=slice(design.seeds, None))
    came = dict(zip(result.setting.values.tolist(), arrived(choosers, "generalized").tolist(), strict=True))
    steps = np.nan_to_num(choosers.time.sel(event="generalized").values, nan=math.inf)
    with np.errstate(divide="ignore"):
        soonest = np.log(np.minimum(steps, choosers.censored_at.values)).mean(1)
    mean = dict(zip(result.setting.values.tolist(), soonest.tolist(), strict=True))
    found = dict[tuple[str, str], list[str]]()
    for one in settings(design.methods):
        found.setdefault((one.base, one.method.name), []).append(one.name)
    return {
        key: min(names, key=lambda name: (-came[name], mean[name]))
        if any(came[name] for name in names)
        else names[len(names) // 2]
        for key, names in found.items()
    }


def _row(run: Run) -> list[float]:
    """The values of OF_RUN."""
    metrics, last = run.metrics, run[run.steps[-1]]
    first, _ = grokking.first(metrics.step.values, (metrics.test_accuracy.values >= grokking.LEVEL).astype(float))
    periodic = find_analysis("neuron_periodicity").module.measure(last)
    return [
        first,
        float(metrics.weight_norm.values[-1]),
        float(len(last.spectrum.key_frequencies)),
        float(periodic.periodic_neurons.sum()),
        *_growth(run),
    ]


def _growth(run: Run) -> tuple[float, float]:
    """r_C and r_M over the window after the training pairs were known; NaN where what decay did cannot be told, or
    where the window ends after what was kept."""
    analysis, training = find_analysis("circuit_forces"), run.training
    assert training is not None
    if not training.weight_decay or training.decay_coefficients(0, 1) is None:
        return math.nan, math.nan
    result = run.result("circuit_forces")
    known_from = result.attrs["known_from"]
    if known_from <= 0 or WINDOW[1] * known_from > KEPT_UNTIL:
        return math.nan, math.nan
    within = (result.start.values >= WINDOW[0] * known_from) & (result.interval.values <= WINDOW[1] * known_from)
    rule, memory = (analysis.module.pushed(result, circuit).ratio_over(within).value for circuit in CIRCUITS)
    return rule, memory


def beyond_grid(
    result: xr.Dataset,
    runs: Mapping[str, Run],
    design: RecipeDesign,
    out: Path,
    *,
    processes: int | None = None,
    report: Callable[..., None] = lambda progress: None,
) -> xr.Dataset:
    """What a step of each chosen setting costs, `milliseconds` [setting] of processor time with one thread: a few
    steps of each in turn."""
    found = result.milliseconds.values.copy()
    with one_thread():
        for row, one in enumerate(settings(design.methods)):
            if result.chosen.values[row]:
                found[row] = _milliseconds(one, design)
    return result.assign(milliseconds=("setting", found, result.milliseconds.attrs))


def _milliseconds(setting: Setting, design: RecipeDesign) -> float:
    experiment = setting.applied(design.base(0))
    few = replace(experiment.training, steps=TIMED_STEPS, log_every=TIMED_STEPS, checkpoint_steps=())
    began = time.process_time()
    for _ in train(replace(experiment, training=few)):
        pass
    return (time.process_time() - began) / TIMED_STEPS * 1e3


# ---- what it says ----------------------------------------------------------------------------------------------------


def predictions(result: xr.Dataset) -> list[Prediction]:
    """A verdict on every sentence of SENTENCES."""
    failed = failed_precondition(result)
    told = {name: one for name, one in SENTENCES.items() if one.method in result.method.values}
    if failed is not None:
        return [Prediction(name, one.statement, "not shown", failed, {}) for name, one in told.items()]
    return [one.judged(name, result) for name, one in told.items()]


def failed_precondition(result: xr.Dataset) -> str | None:
    """Why nothing can be said: there is one seed, or the network does not grok with weight decay either."""
    if result.sizes["reporter"] < 2:
        return "there is one seed, which says nothing of others; two are needed"
    came = int(arrived(result.sel(setting=[f"decay 1: {NOTHING}"]), "generalized")[0])
    if came * 2 < result.sizes["seed"]:
        return (
            f"with weight decay 1 alone {came} of {result.sizes['seed']} networks generalized in the time given; "
            "half are needed: train longer (--steps), or on more of the pairs (--train-fraction)"
        )
    return None


def table(result: xr.Dataset) -> list[dict[str, str]]:
    """The effect table, in words: a row for each base, and one for each method at the strength that was chosen."""
    return effect_table(result)


def numbers(result: xr.Dataset) -> dict[str, Any]:
    """How many rows of each base are called what."""
    found = effects(result)
    return {
        "calls": {
            base: {call: sum(one.base == base and one.call == call for one in found) for call in CALLS}
            for base in BASES
        }
    }


def plot(result: xr.Dataset):
    """Every run that reports: the step at which it generalized, a row for each method, a panel for each base."""
    return recipe_figure(result, effects(result), TITLE, REFERENCE)
