"""Learning phases. Where over learning rate and weight decay does a network grok, and is lr·wd what counts?

Liu et al. draw comprehension, grokking, memorization and confusion over learning rate and weight decay (of a decoder;
here of all weights). A run is labeled twice: by their rule, 90 % of training and of held-out pairs within the budget
and a gap of 1,000 steps (`interp.mathematics.grokking.fixed_gap_verdict`), and by ours, a ratio of 3 at 99 %
(`interp.mathematics.grokking`), which does not change when time is counted in other units.

Prediction 1: weight decay shrinks weights by lr·wd a step, so that time to generalize depends on lr and wd through
lr·wd alone. In log time = c + α log lr + β log wd, over the cells in which half of the runs generalized, α = β.
Confirmed when the 95 % interval over seeds of α − β lies within ±0.2, not confirmed when it lies outside, not shown
when it does not fit in or out. Prediction 2: where lr·wd is too large nothing is memorized. Confirmed when lr·wd of a
run that did not memorize exceeds that of a run that did with a probability (the area under the curve) whose interval
over seeds lies above 0.9, not confirmed when it lies below.

It cannot tell "never" from "later than we trained": runs that did not generalize count as later than that.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from interp.errors import InputError, check_integer, check_number
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.figures import new_panels
from interp.mathematics import grokking
from interp.mathematics.agreement import cohens_kappa
from interp.mathematics.intervals import seed_interval
from interp.runs import Run
from interp.studies.design import Design, Prediction, Verdict
from interp.studies.generalization_times import arrived, mean_log_time, measure_times
from interp.studies.outcomes import outcomes
from interp.studies.phase_diagram import COLORS
from interp.sweeps import GridRun

TITLE = "Learning phases: learning rate and weight decay"
REFERENCE = "Liu et al. 2022, arXiv:2205.10343, §4 and App. A"
PHASES = ("training.lr", "training.weight-decay")  # the axes of the diagram on its page
TOLERANCE, LEAST_AREA = 0.2, 0.9
RULES = {"gap": "a gap of 1,000 steps at 90 %", "ratio": "a ratio of 3 at 99 %"}


@dataclass(frozen=True, kw_only=True)
class PhaseDesign(Design):
    """Learning rates and weight decays of AdamW, and the network that is trained with them."""

    p: int = 43
    """The modulus of a + b."""
    seeds: int = 3
    """Seeds 0 … N−1, each of split and initial weights."""
    lrs: tuple[float, ...] = (1e-3, 3e-3, 1e-2, 3e-2)
    """Learning rates."""
    decays: tuple[float, ...] = (0.3, 1.0, 3.0)
    """Weight decays."""
    train_fraction: float = 0.45
    """Share of all pairs that is trained on."""
    steps: int = 4000
    """Steps of a run."""
    d_model: int = 32
    """Width of the residual stream (4 heads)."""
    d_mlp: int = 128
    """Number of neurons."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("lrs", "decays"):
            values = getattr(self, name)
            if not values:
                raise InputError(f"{name} is empty; give at least one")
            if len(set(values)) != len(values):
                raise InputError(f"{name} names a value twice: {' '.join(map(str, values))}")
            for value in values:
                check_number(name, value, 0, above=True)
        for name in ("steps", "d_model", "d_mlp"):
            check_integer(name.replace("_", "-"), getattr(self, name), 1)
        check_number("train-fraction", self.train_fraction, 0, above=True)

    def experiment(self, lr: float, decay: float, seed: int) -> Experiment:
        """A run: a line of metrics at every 400th part of it, weights at its ends alone."""
        training = TrainingConfig(
            steps=self.steps,
            lr=lr,
            weight_decay=decay,
            checkpoint_every=None,
            log_every=max(1, self.steps // 400),
        )
        model = ModelConfig(d_model=self.d_model, n_heads=4, d_mlp=self.d_mlp, seed=seed)
        return Experiment(Task(self.p, train_fraction=self.train_fraction, seed=seed), model, training)


DESIGN = PhaseDesign()
FULL = PhaseDesign(
    p=59,
    seeds=10,
    lrs=(3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    decays=(0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
    steps=100_000,
    d_model=128,
    d_mlp=512,
)


def grid(design: PhaseDesign, *, full: bool = False) -> list[GridRun]:
    """A run per learning rate, weight decay and seed."""
    return [
        GridRun(name(lr, decay, seed), design.experiment(lr, decay, seed))
        for seed in range(design.seeds)
        for lr in design.lrs
        for decay in design.decays
    ]


def name(lr: float, decay: float, seed: int) -> str:
    """The folder of a run.

    >>> name(3e-3, 1.0, 0)
    'lr0.003-wd1-seed0'
    """
    return f"lr{lr:g}-wd{decay:g}-seed{seed}"


def measure(runs: Mapping[str, Run], design: PhaseDesign) -> xr.Dataset:
    """`time` [setting, seed, event] in steps, and how long was trained (`interp.studies.generalization_times`), with
    the `learning_rate` and `decay` [setting]; the `label` [setting, seed, rule] by both rules; and the `delay`
    [setting, seed], log10 of the step at which it generalized over that at which it had memorized (NaN: it did not)."""
    lrs, decays = sorted(design.lrs), sorted(design.decays)
    settings = {f"lr {lr:g}, wd {decay:g}": (lr, decay) for lr in lrs for decay in decays}
    found = measure_times(
        runs,
        lambda setting, seed: name(*settings[setting], seed),
        axis="setting",
        long_name="setting",
        values=list(settings),
        seeds=design.seeds,
    )
    labels = np.full((len(settings), design.seeds, 2), "", dtype="<U13")
    for row, (lr, decay) in enumerate(settings.values()):
        of_seeds = {str(seed): runs[name(lr, decay, seed)] for seed in range(design.seeds)}
        for seed, outcome in enumerate(outcomes(of_seeds)):
            labels[row, seed] = published_label(of_seeds[str(seed)]), outcome.verdict
    times = found.time.sel(event=["memorized", "generalized"]).values
    with np.errstate(divide="ignore", invalid="ignore"):
        delay = np.log10(np.maximum(times[..., 1], 1) / np.maximum(times[..., 0], 1))
    rule = {"rule": ("rule", np.array(list(RULES)), {"long_name": "rule", "units": "name"})}
    return found.assign(
        label=(("setting", "seed", "rule"), labels, {"long_name": "what the run is called", "units": "name"}),
        delay=(("setting", "seed"), delay, {"long_name": "log10 of generalized over memorized", "units": "1"}),
    ).assign_coords(rule)


def published_label(run: Run) -> str:
    """The label of Liu et al.: 90 % of training and of held-out pairs, and 1,000 steps."""
    curves, chance = run.curves.sel(split=["train", "held_out"]), math.log(run.task.n_classes)
    states = [
        grokking.reached(accuracy, loss, chance, grokking.FIXED_GAP_LEVEL)
        for accuracy, loss in zip(curves.accuracy.values.T, curves.loss.values.T, strict=True)
    ]
    return grokking.fixed_gap_verdict(curves.step.values, states[0], states[1])


_STATEMENTS = {
    "pace": "time to generalize depends on lr·wd alone",
    "edge": "where lr·wd is too large nothing is memorized",
}


def failed_precondition(result: xr.Dataset) -> str | None:
    """Why nothing can be said, where nothing can: there is one seed, which says nothing of others."""
    return "there is one seed, which says nothing of others; two are needed" if result.sizes["seed"] < 2 else None


def predictions(result: xr.Dataset) -> list[Prediction]:
    """The exponents of lr and wd; and the upper edge."""
    if (because := failed_precondition(result)) is not None:
        return [Prediction(key, text, "not shown", because, {}) for key, text in _STATEMENTS.items()]
    return [_pace(result), _edge(result)]


def exponents(result: xr.Dataset, seeds: Sequence[int] | None = None) -> np.ndarray:
    """α and β of log time = c + α log lr + β log wd, by least squares over the settings in which half of the runs
    generalized; NaN where these do not tell one from the other."""
    counts = np.isfinite(mean_log_time(result, "generalized"))
    times = mean_log_time(result, "generalized", seeds)[counts]
    logs = np.log([result.learning_rate.values[counts], result.decay.values[counts]]).T
    columns = np.column_stack([np.ones(len(logs)), logs])
    if len(times) < 4 or np.linalg.matrix_rank(columns) < 3 or not np.isfinite(times).all():
        return np.full(2, np.nan)
    return np.linalg.lstsq(columns, times, rcond=None)[0][1:]


def _pace(result: xr.Dataset) -> Prediction:
    n = result.sizes["seed"]
    alpha, beta = exponents(result).tolist()

    def difference(seeds: list[int]) -> float:
        one, other = exponents(result, seeds)
        return float(one - other)

    low, high = seed_interval(n, difference).tolist()
    numbers = {
        "exponents": {"lr": alpha, "wd": beta},
        "exponent_intervals_95": seed_interval(n, lambda seeds: exponents(result, seeds)).T.tolist(),
        "difference": alpha - beta,
        "difference_interval_95": (low, high),
        "settings_that_generalized": int(np.isfinite(mean_log_time(result, "generalized")).sum()),
        "settings": result.sizes["setting"],
    }
    if not math.isfinite(low):
        because = "too few settings generalized in half of their runs to tell lr from wd"
        return Prediction("pace", _STATEMENTS["pace"], "not shown", because, numbers)
    because = (
        f"over {numbers['settings_that_generalized']} of {numbers['settings']} settings time goes as lr^{alpha:.2f} · "
        f"wd^{beta:.2f}; the exponents differ by {alpha - beta:+.2f} ({low:+.2f} to {high:+.2f}, 95 %)"
    )
    verdict: Verdict = "not confirmed" if low > TOLERANCE or high < -TOLERANCE else "not shown"
    if low >= -TOLERANCE and high <= TOLERANCE:
        verdict = "confirmed"
    return Prediction("pace", _STATEMENTS["pace"], verdict, because, numbers)


def _edge(result: xr.Dataset) -> Prediction:
    failed = np.isnan(result.time.sel(event="memorized").values)
    lr, decay = result.learning_rate.values, result.decay.values

    def area(scale: np.ndarray, seeds: list[int]) -> float:
        """How often the scale of one that failed exceeds that of one that did not; ties count half."""
        missed = failed[:, seeds]
        scales = np.broadcast_to(scale[:, None], missed.shape)
        pairs = missed.sum() * (~missed).sum()
        if not pairs:
            return math.nan
        return float(stats.mannwhitneyu(scales[missed], scales[~missed]).statistic / pairs)

    n = result.sizes["seed"]
    areas = {key: area(scale, [*range(n)]) for key, scale in (("lr·wd", lr * decay), ("lr", lr), ("wd", decay))}
    low, high = np.clip(seed_interval(n, lambda seeds: area(lr * decay, seeds)), 0, 1).tolist()  # it is a probability
    numbers = {"areas": areas, "area_interval_95": (low, high), "runs_that_did_not_memorize": int(failed.sum())}
    if not math.isfinite(low):
        because = "every run memorized" if not failed.any() else "without one of the seeds every run memorized"
        return Prediction("edge", _STATEMENTS["edge"], "not shown", because, numbers)
    because = (
        f"{failed.sum()} of {failed.size} runs did not memorize; lr·wd tells them with an area of {areas['lr·wd']:.2f} "
        f"({low:.2f} to {high:.2f}, 95 %), lr alone {areas['lr']:.2f}, wd alone {areas['wd']:.2f}"
    )
    verdict: Verdict = "confirmed" if low >= LEAST_AREA else "not confirmed" if high < LEAST_AREA else "not shown"
    return Prediction("edge", _STATEMENTS["edge"], verdict, because, numbers)


def numbers(result: xr.Dataset) -> dict[str, Any]:
    """How often the two rules and the seeds agree."""
    gap, ratio = (result.label.sel(rule=rule).values for rule in RULES)
    return {
        "rules_agree": {"share": float((gap == ratio).mean()), "kappa": cohens_kappa(gap, ratio)},
        "labels": {rule: dict(Counter(result.label.sel(rule=rule).values.reshape(-1).tolist())) for rule in RULES},
        "settings_whose_seeds_agree": {
            rule: int(sum(len(set(of)) == 1 for of in result.label.sel(rule=rule).values.tolist())) for rule in RULES
        },
        "runs_that_generalized": arrived(result, "generalized").tolist(),
    }


def plot(result: xr.Dataset):
    """The label that most seeds have by either rule, the fainter the fewer; and the delay."""
    panels = [f"Label by {words}" for words in RULES.values()] + ["log10 delay, of runs that arrived"]
    figure = new_panels(TITLE, panels, columns=3, reference=REFERENCE, row_height=380, horizontal_spacing=0.08)
    lrs, decays = np.unique(result.learning_rate.values), np.unique(result.decay.values)
    across, up = ([f"{value:g}" for value in values] for values in (lrs, decays))
    n, drawn = result.sizes["seed"], set[str]()
    for column, rule in enumerate(RULES, start=1):
        cells = [Counter(of).most_common(1)[0] for of in result.label.sel(rule=rule).values.tolist()]
        for label in dict.fromkeys(most for most, _ in cells):
            of = [row for row, (most, _) in enumerate(cells) if most == label]
            figure.add_scatter(
                x=[f"{result.learning_rate.values[row]:g}" for row in of],
                y=[f"{result.decay.values[row]:g}" for row in of],
                mode="markers+text",
                text=[f"{cells[row][1]}/{n}" for row in of],
                textfont={"size": 10},
                marker={
                    "symbol": "square",
                    "size": 34,
                    "color": COLORS[label],
                    "opacity": [cells[row][1] / n for row in of],
                },
                name=label,
                legendgroup=label,
                showlegend=label not in drawn,
                row=1,
                col=column,
            )
            drawn.add(label)
    known = np.isfinite(result.delay.values)
    mean = np.where(known, result.delay.values, 0).sum(1) / np.maximum(known.sum(1), 1)
    delays = np.where(known.any(1), mean, np.nan).reshape(len(lrs), len(decays)).T
    look = {"colorscale": "Viridis", "colorbar": {"thickness": 12}, "hoverongaps": False}
    figure.add_heatmap(x=across, y=up, z=delays, texttemplate="%{z:.2f}", **look, row=1, col=3)
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=across, title_text="learning rate")
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=up)
    figure.update_yaxes(title_text="weight decay", col=1)
    figure.update_layout(showlegend=True, legend={"orientation": "h", "y": -0.2})
    return figure
