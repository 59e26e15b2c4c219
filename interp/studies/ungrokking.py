"""Ungrokking. What becomes of a grokked network that goes on training on few pairs?

A network that generalizes is trained on, with the same weight decay, on D′ of the pairs alone. If memorizing few pairs
costs less weight norm than the circuit does, weight decay takes the circuit away: test accuracy falls though training
accuracy stays at 100 %. The D_crit of a seed is the D′ at which its final test accuracy, over all pairs not among the
D′, passes ½ (between neighbors in log D′, by a straight line); D_crit is their geometric mean. It is read seed by seed,
because the mean of curves that lie apart is less steep than each of them.

P2: the transition is sharp: accuracy goes from 10 % to 90 % within a factor of 3 in D′ (the factor is ours; the paper's
grid, on which it calls the transition sharp, spans 3.8): confirmed when the 95 % interval over seeds (Student's t of
the logarithm) of the factor lies below 3 at every weight decay. P3: D_crit is the same for all weight decays: confirmed
when, for every two of them, the 95 % interval of the ratio lies between 1/1.1 and 1.1. Not confirmed when at one weight
decay, or for one pair, the interval lies outside; as many had the chance to, each of those intervals covers
1 − 0.05/their number. Not shown otherwise: wide intervals confirm nothing.

Networks to begin with that have not grokked show nothing; then the rest is not trained at all.

It cannot tell a network at rest from one that still forgets slowly: the change of test accuracy over the last tenth
stands beside the result. The test pairs, those of the paper, include what the first training saw and mirrors of the D′,
which are at most the share D′/p² of them; D_crit of the pairs that neither training could have memorized stands beside.
"""

import math
from collections.abc import Mapping
from itertools import combinations

import numpy as np
import xarray as xr
from jaxtyping import Float

from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.figures import (
    PALETTE,
    as_percent,
    band,
    new_panels,
    percent_axis,
    plain_log_axis,
    threshold_line,
    vertical_line,
)
from interp.mathematics import grokking
from interp.mathematics.intervals import mean_interval
from interp.runs import Run
from interp.studies import size_crossings
from interp.studies.design import DecayDesign, Prediction
from interp.studies.size_crossings import geometric_interval, geometric_mean, of_several
from interp.sweeps import GridRun

TITLE = "Ungrokking: a grokked network goes on with fewer pairs"
REFERENCE = "Varma et al. 2023, arXiv:2309.02390, §5 (predictions P2 and P3)"
SIZES = (280, 390, 488, 610, 763, 955, 1194, 1494, 2000)
DESIGN = DecayDesign(sizes=SIZES, weight_decays=(0.3, 1.0, 3.0), seeds=5, duration=8, rescale_lr=False)
FULL = DecayDesign(
    sizes=(390, 488, 610, 763, 955, 1194, 1494),
    weight_decays=(0.3, 1.0, 3.0),
    seeds=10,
    duration=50,
    lr=1e-3,
    rescale_lr=False,
)
# In units of 1/(lr·wd) steps, at weight decay 1: five seeds of 30 % of the pairs modulo 113 generalized within 5.
START_DURATION = 7
# Modulo 113 nothing happens with more pairs than this, and steps are dear: one seed and one weight decay show it.
REPEATED_UP_TO = 1000
LOGGED = 20  # steps of a run
SHARP_FACTOR, SAME_FACTOR = 3.0, 1.1
START_LEVEL = grokking.LEVEL  # of test accuracy: from here on a network to begin with has grokked


def grid(design: DecayDesign, *, full: bool = False) -> list[GridRun]:
    """For every seed a network grokked on 30 % of the pairs (`full`: trained on all of them), then one run per D′ and
    weight decay.

    The D′ pairs of a seed are nested, and are among those of its first training."""
    middle = sorted(design.weight_decays)[(len(design.weight_decays) - 1) // 2]
    starts, runs = [], []
    for seed in range(design.seeds):
        model = ModelConfig(d_model=design.d_model, d_mlp=design.d_mlp, seed=seed)
        pairs = design.p**2 if full else max(int(0.3 * design.p**2), *design.sizes)
        steps = round(START_DURATION / design.lr)
        first = TrainingConfig(steps=steps, lr=design.lr, checkpoint_every=None, log_every=math.ceil(steps / LOGGED))
        starts.append(
            GridRun(f"start-seed{seed}", Experiment(Task(design.p, train_pairs=pairs, seed=seed), model, first))
        )
        for size in design.sizes:
            for weight_decay in design.weight_decays:
                if full or size <= REPEATED_UP_TO or (seed == 0 and weight_decay == middle):
                    task = Task(design.p, train_pairs=size, seed=seed)
                    # All pairs are tested at every logged step, which takes as long as several steps on few pairs.
                    log_every = math.ceil(design.steps(weight_decay) / LOGGED)
                    experiment = design.experiment(task, weight_decay, seed, log_every=log_every)
                    runs.append(GridRun(name(size, weight_decay, seed), experiment, start=starts[-1].name))
    return starts + runs


def name(size: int, weight_decay: float, seed: int) -> str:
    """The folder of a run."""
    return f"D{size}-wd{weight_decay:g}-seed{seed}"


def measure(runs: Mapping[str, Run], design: DecayDesign) -> xr.Dataset:
    """Final `test_accuracy`, `unmirrored_test_accuracy`, `train_accuracy`, `weight_norm`, and `settling`, the change of
    test accuracy over the last tenth of training; final `held_out_accuracy`, over the pairs that neither training could
    have memorized [size, weight_decay, seed]; NaN where there is no run, and where the first training saw all pairs.
    `start_accuracy` [seed]: of the networks that were begun with, over the pairs that their training did not see (all
    pairs when it saw all)."""
    sizes, decays, seeds = sorted(design.sizes), sorted(design.weight_decays), range(design.seeds)
    columns = ("test_accuracy", "unmirrored_test_accuracy", "train_accuracy", "weight_norm")
    table = {
        column: np.full((len(sizes), len(decays), len(seeds)), np.nan)
        for column in (*columns, "settling", "held_out_accuracy")
    }
    starts = [runs[f"start-seed{seed}"].last for seed in seeds]
    for i, size in enumerate(sizes):
        for j, decay in enumerate(decays):
            for seed in seeds:
                if (run := runs.get(name(size, decay, seed))) is not None:
                    metrics = run.metrics
                    for column in columns:
                        table[column][i, j, seed] = metrics[column].values[-1]
                    last = run.last
                    unseen = last.task.mask("held_out") & starts[seed].task.mask("held_out")
                    if unseen.any():
                        table["held_out_accuracy"][i, j, seed] = last.correct[unseen].mean()
                    earlier = int(np.searchsorted(metrics.step.values, 0.9 * metrics.step.values[-1]))
                    table["settling"][i, j, seed] = (
                        metrics.test_accuracy.values[-1] - metrics.test_accuracy.values[earlier]
                    )
    split = ["test" if checkpoint.task.test_mask.any() else "all" for checkpoint in starts]
    long_names = {
        "test_accuracy": "final test accuracy",
        "unmirrored_test_accuracy": "final test accuracy, mirror (b, a) not trained on",
        "train_accuracy": "final train accuracy",
        "weight_norm": "final L2 norm of all weights",
        "settling": "change of test accuracy over the last tenth",
        "held_out_accuracy": "final accuracy on pairs that neither training could have memorized",
    }
    grid_axes = ("size", "weight_decay", "seed")
    data = {
        column: (grid_axes, values, {"long_name": long_names[column], "units": "1"}) for column, values in table.items()
    }
    start = np.array([checkpoint.accuracy(which) for checkpoint, which in zip(starts, split, strict=True)])
    return xr.Dataset(
        data | {"start_accuracy": ("seed", start, {"long_name": "test accuracy before", "units": "1"})},
        coords={
            "size": ("size", np.array(sizes, dtype=np.int32), {"long_name": "training pairs D′", "units": "pairs"}),
            "weight_decay": ("weight_decay", np.array(decays), {"long_name": "weight decay", "units": "1"}),
            "seed": ("seed", np.arange(design.seeds, dtype=np.int32), {"long_name": "seed", "units": "1"}),
        },
    )


def critical_sizes(
    result: xr.Dataset, weight_decay: float, level: float = 0.5, *, of: str = "test_accuracy"
) -> Float[np.ndarray, " seed"]:
    """The D′ at which the final test accuracy (or another one, `of`) of each seed passes `level`; NaN where it does
    not."""
    accuracy, sizes = result[of].sel(weight_decay=weight_decay).values, result["size"].values
    return np.array([size_crossings.critical_size(sizes, of_seed, level) for of_seed in accuracy.T])


def critical_size(result: xr.Dataset, weight_decay: float) -> float:
    """D_crit, the geometric mean over seeds; NaN where one of them has none."""
    return geometric_mean(critical_sizes(result, weight_decay))


def failed_precondition(result: xr.Dataset) -> str | None:
    """Why nothing can be said, where nothing can: a network to begin with had not grokked."""
    lowest = float(result.start_accuracy.min())
    if lowest >= START_LEVEL:
        return None
    return f"a network to begin with has a test accuracy of {as_percent(lowest)}: it had not grokked"


def predictions(result: xr.Dataset, *, circuit_efficiency: float | None = None) -> list[Prediction]:
    """P2 and P3, and D_crit with its interval over seeds. `circuit_efficiency`: the D_crit of that experiment, to stand
    beside it."""
    decays = [float(decay) for decay in result.weight_decay.values]
    d_crit = {f"{decay:g}": critical_size(result, decay) for decay in decays}
    shared = {
        "d_crit_by_weight_decay": d_crit,
        "d_crit_intervals_95": {f"{decay:g}": geometric_interval(critical_sizes(result, decay)) for decay in decays},
        "d_crit_of_held_out_pairs": {
            f"{decay:g}": geometric_mean(critical_sizes(result, decay, of="held_out_accuracy")) for decay in decays
        },
        "d_crit_mean": float(np.mean(list(d_crit.values()))),
        "d_crit_of_circuit_efficiency": circuit_efficiency,
        "seeds": result.sizes["seed"],
        "start_accuracy_lowest": float(result.start_accuracy.min()),
        "train_accuracy_lowest": float(result.train_accuracy.min()),
        "settling_largest": float(abs(result.settling).max()),
    }
    if (because := failed_precondition(result)) is not None:
        return [Prediction(key, text, "not shown", because, shared) for key, text in _STATEMENTS.items()]
    return [_sharp(result, decays, shared), _same(result, decays, d_crit, shared)]


_STATEMENTS = {
    "P2": "ungrokking has a sharp transition in D′",
    "P3": "D_crit does not depend on weight decay",
}


def _sharp(result: xr.Dataset, decays: list[float], shared: dict) -> Prediction:
    of_seeds = {d: critical_sizes(result, d, level=0.9) / critical_sizes(result, d, level=0.1) for d in decays}
    intervals = {d: geometric_interval(values) for d, values in of_seeds.items()}
    numbers = {
        "factor_from_10_to_90_percent": {f"{d:g}": geometric_mean(values) for d, values in of_seeds.items()},
        "factor_intervals_95": {f"{d:g}": interval for d, interval in intervals.items()},
    } | shared
    if not np.isfinite(list(of_seeds.values())).all():
        because = "accuracy does not go from below 10 % to above 90 % within the sizes, on every seed"
        return Prediction("P2", _STATEMENTS["P2"], "not shown", because, numbers)
    if shared["seeds"] < 2:
        return Prediction("P2", _STATEMENTS["P2"], "not shown", _ONE_SEED, numbers)
    shown = " / ".join(
        f"{geometric_mean(of_seeds[d]):.2f} ({intervals[d][0]:.2f} to {intervals[d][1]:.2f})" for d in decays
    )
    because = (
        f"from 10 % to 90 % test accuracy takes a factor of {shown} in D′ at weight decay "
        f"{' / '.join(f'{d:g}' for d in decays)} (95 %; sharp: at most {SHARP_FACTOR:g})"
    )
    if max(high for _, high in intervals.values()) <= SHARP_FACTOR:
        verdict = "confirmed"
    else:
        surely = [geometric_interval(values, of_several(len(decays)))[0] > SHARP_FACTOR for values in of_seeds.values()]
        verdict = "not confirmed" if any(surely) else "not shown"
    return Prediction("P2", _STATEMENTS["P2"], verdict, because, numbers)


def _same(result: xr.Dataset, decays: list[float], d_crit: dict[str, float], shared: dict) -> Prediction:
    if len(decays) < 2 or shared["seeds"] < 2 or not np.isfinite(list(d_crit.values())).all():
        because = (
            "there is only one weight decay"
            if len(decays) < 2
            else _ONE_SEED
            if shared["seeds"] < 2
            else "not every weight decay has a D_crit within the sizes, on every seed"
        )
        return Prediction("P3", _STATEMENTS["P3"], "not shown", because, shared)
    sizes = {d: critical_sizes(result, d) for d in decays}
    # A seed has one network to begin with and one order of the pairs: ratios are taken within it.
    ratios = {(a, b): sizes[b] / sizes[a] for a, b in combinations(decays, 2)}
    intervals = {pair: geometric_interval(values) for pair, values in ratios.items()}
    numbers = {
        "ratios": {f"{b:g} over {a:g}": geometric_mean(values) for (a, b), values in ratios.items()},
        "ratio_intervals_95": {f"{b:g} over {a:g}": interval for (a, b), interval in intervals.items()},
    } | shared
    texts = ([f"{d_crit[f'{d:g}']:.0f}" for d in decays], [f"{d:g}" for d in decays])
    shown = ", ".join(
        f"{b:g} over {a:g} {geometric_mean(ratios[a, b]):.3f} ({low:.3f} to {high:.3f})"
        for (a, b), (low, high) in intervals.items()
    )
    because = f"D_crit is {' / '.join(texts[0])} at weight decay {' / '.join(texts[1])}; ratios {shown} (95 %)"
    if all(low >= 1 / SAME_FACTOR and high <= SAME_FACTOR for low, high in intervals.values()):
        return Prediction("P3", _STATEMENTS["P3"], "confirmed", because, numbers)
    surely = [geometric_interval(values, of_several(len(ratios))) for values in ratios.values()]
    differ = any(low > SAME_FACTOR or high < 1 / SAME_FACTOR for low, high in surely)
    return Prediction("P3", _STATEMENTS["P3"], "not confirmed" if differ else "not shown", because, numbers)


_ONE_SEED = "one seed says nothing of others"


def plot(result: xr.Dataset):
    """Final test accuracy against D′, a line per weight decay (mean over seeds, with its interval), every run
    as a point; and how far it had settled."""
    import plotly.graph_objects as go

    panels = ("Final test accuracy", "Change of test accuracy over the last tenth")
    figure = new_panels(TITLE, panels, reference=REFERENCE, row_height=380, horizontal_spacing=0.12)
    sizes = result["size"].values
    for index, decay in enumerate(result.weight_decay.values):
        color = PALETTE[index % len(PALETTE)]
        for column, variable in enumerate(("test_accuracy", "settling"), start=1):
            values = result[variable].sel(weight_decay=decay).values
            known = np.isfinite(values).any(1)
            means = [np.nanmean(row) for row in values[known]]
            band(figure, sizes, mean_interval(values), color, row=1, col=column)
            style = {
                "line": {"color": color, "width": 2},
                "mode": "lines",
                "legendgroup": f"{decay}",
                "showlegend": column == 1,
            }
            figure.add_trace(
                go.Scatter(x=sizes[known], y=means, name=f"weight decay {decay:g}", **style), row=1, col=column
            )
            x, y = np.repeat(sizes, values.shape[1]), values.reshape(-1)
            marks = {
                "mode": "markers",
                "marker": {"color": color, "size": 6, "opacity": 0.6},
                "legendgroup": f"{decay}",
            }
            points = go.Scatter(x=x[np.isfinite(y)], y=y[np.isfinite(y)], showlegend=False, **marks)
            figure.add_trace(points.update(hovertemplate="D′ = %{x}: %{y:.3f}<extra></extra>"), row=1, col=column)
        if math.isfinite(d_crit := critical_size(result, float(decay))):
            vertical_line(figure, d_crit, row=1, column=1, color=color)
    threshold_line(figure, 0.5, row=1, column=1)
    figure.update_xaxes(title_text="training pairs D′", **plain_log_axis(result["size"].values))
    percent_axis(figure, row=1, col=1, title_text="test accuracy")
    figure.update_yaxes(title_text="change", tickformat=".1%", row=1, col=2)
    return figure
