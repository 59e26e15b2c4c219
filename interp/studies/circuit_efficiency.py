"""Circuit efficiency. How much weight norm does a logit cost a memorizing circuit, how much a generalizing one, and
where are they equal?

Circuits are measured in networks that have nothing else. C_mem: random labels, the same for (a, b) and (b, a), on D
pairs. C_gen: true labels on many pairs, kept when more than 95 % of the norm of the centred logits lies in the
trigonometric subspace, span{cos w_k(a+b−c)}. Of each network, at the end of its training,

    f = mean over training pairs of the centred logit of the label,   w = L2 norm of all weights.

A circuit is more efficient the less norm a given logit takes. Over weight decays, log w is interpolated as a function
of log f; every kind and D is compared at one logit, in the middle of the logits that all of them reach. (Curves cross
where they cross, read along either axis. Along the other, log f at one norm, norms seldom overlap, as f goes with a
high power of w; it stands beside, where they do.)

P1: w at that logit rises with D for C_mem, and not for C_gen (slope of log w against log D, 95 % interval over
bootstrap samples of seeds; not rising: the interval has 0 or less in it, or the slope is less than a tenth of C_mem's).
D_crit: where w of C_mem at D is that of C_gen, its mean over D; between neighbors in log D, by a straight line.

At rest AdamW has g = −eps·wd·w (see `Design`), the minimum of loss + ½ eps·wd·‖w‖²: there eps and weight decay λ matter
only as a product. With `rescale_lr` networks therefore have weight decay 1, one learning rate, and eps·λ in place of
eps, so that all come to rest equally soon. eps is larger than usual: with 1e-8 slingshots throw memorizing networks
about before they come to rest. A network whose norm still changes by more than 1 % in the last tenth is marked as not
converged and left out.

It cannot tell what a circuit costs in a network that has both: they may share weights. And labels at random are
memorized without the help that true labels may give.
"""

import math
from collections.abc import Mapping

import numpy as np
import xarray as xr

from interp.experiment import Experiment, Task
from interp.figures import PALETTE, TEST, TRAIN, band, new_panels, plain_log_axis, vertical_line
from interp.mathematics.bootstrap import bootstrap, mean_interval
from interp.runs import Checkpoint, Run
from interp.studies.design import Design, Prediction
from interp.studies.efficiency_curves import EfficiencyCurves
from interp.sweeps import GridRun

TITLE = "Circuit efficiency: what a logit costs in weight norm"
REFERENCE = "Varma et al. 2023, arXiv:2309.02390, §3–4 (prediction P1)"
DESIGN = Design(
    p=59, sizes=(100, 200, 400, 800, 1600, 3000), weight_decays=(1.0, 3.0, 10.0), seeds=5, duration=10, eps=1e-5
)
FULL = Design(
    sizes=(390, 763, 1494, 2900, 5000, 8000, 12000),
    weight_decays=(0.3, 1.0, 3.0),
    seeds=10,
    duration=40,
    lr=1e-3,
    rescale_lr=False,
)
KINDS = ("memorizing", "generalizing")
# Of all pairs: from here on networks generalize within the time given, so true labels give C_gen; random ones are
# memorized below.
GENERALIZING_FROM = 0.3
LARGEST_CHANGE, SMALLEST_FRACTION = 0.01, 0.95
# C_gen counts as flat when it rises less than this part of what C_mem does; a crossing counts when it is in this part
# of the samples.
FLAT, CROSSING_SAMPLES = 0.1, 0.95


def grid(design: Design, *, full: bool = False) -> list[GridRun]:
    """For every weight decay and seed: random labels for the sizes below 30 % of all pairs, true labels for those
    above."""
    runs = []
    for kind in KINDS:
        for size in sizes_of(design, kind):
            for decay in design.weight_decays:
                for seed in range(design.seeds):
                    random = kind == "memorizing"
                    operation = "random" if random else "add"
                    task = Task(design.p, operation=operation, symmetric=random, train_pairs=size, seed=seed)
                    runs.append(GridRun(name(kind, size, decay, seed), _experiment(design, task, decay, seed)))
    return runs


def _experiment(design: Design, task: Task, weight_decay: float, seed: int) -> Experiment:
    if not design.rescale_lr:
        return design.experiment(task, weight_decay, seed)
    return design.experiment(task, 1.0, seed, eps=design.eps * weight_decay)


def sizes_of(design: Design, kind: str) -> list[int]:
    """The training sizes D of a kind of network."""
    border = GENERALIZING_FROM * design.p**2
    return sorted(size for size in design.sizes if (size >= border) == (kind == "generalizing"))


def name(kind: str, size: int, weight_decay: float, seed: int) -> str:
    """The folder of a run."""
    return f"{kind}-D{size}-wd{weight_decay:g}-seed{seed}"


def measure(runs: Mapping[str, Run], design: Design) -> xr.Dataset:
    """`correct_logit` f, `weight_norm` w, `norm_change` over the last tenth, `trigonometric_fraction`, `train_accuracy`
    and `kept` [kind, size, weight_decay, seed]; NaN (and not kept) where there is no run."""
    sizes, decays = sorted(design.sizes), sorted(design.weight_decays)
    shape = (len(KINDS), len(sizes), len(decays), design.seeds)
    long_names = {
        "correct_logit": "mean centred logit of the label, training pairs",
        "weight_norm": "L2 norm of all weights",
        "norm_change": "relative change of the norm over the last tenth",
        "trigonometric_fraction": "norm of the logits in the trigonometric subspace / norm of the logits",
        "train_accuracy": "final train accuracy",
    }
    table = {column: np.full(shape, np.nan) for column in long_names}
    for index in np.ndindex(*shape):
        kind, size, decay, seed = KINDS[index[0]], sizes[index[1]], decays[index[2]], index[3]
        if (run := runs.get(name(kind, size, decay, seed))) is not None:
            norms, steps = run.metrics.weight_norm.values, run.metrics.step.values
            table["weight_norm"][index] = norms[-1]
            table["norm_change"][index] = abs(norms[-1] / norms[np.searchsorted(steps, 0.9 * steps[-1])] - 1)
            table["train_accuracy"][index] = run.metrics.train_accuracy.values[-1]
            checkpoint = run.at(-1)
            table["correct_logit"][index] = correct_logit(checkpoint)
            table["trigonometric_fraction"][index] = trigonometric_fraction(checkpoint)
    kept = (table["norm_change"] <= LARGEST_CHANGE) & (table["train_accuracy"] == 1) & (table["correct_logit"] > 0)
    kept[1] &= table["trigonometric_fraction"][1] > SMALLEST_FRACTION
    axes = ("kind", "size", "weight_decay", "seed")
    data = {column: (axes, values, {"long_name": long_names[column], "units": "1"}) for column, values in table.items()}
    return xr.Dataset(
        data | {"kept": (axes, kept, {"long_name": "converged, and of its kind", "units": "1"})},
        coords={
            "kind": ("kind", np.array(KINDS), {"long_name": "circuit", "units": "name"}),
            "size": ("size", np.array(sizes, dtype=np.int32), {"long_name": "training pairs D", "units": "pairs"}),
            "weight_decay": ("weight_decay", np.array(decays), {"long_name": "weight decay", "units": "1"}),
            "seed": ("seed", np.arange(design.seeds, dtype=np.int32), {"long_name": "seed", "units": "1"}),
        },
    )


def correct_logit(checkpoint: Checkpoint) -> float:
    """The mean over training pairs of the label's logit, centred over classes."""
    pairs = checkpoint.task.train_indices
    logits = checkpoint.logits.reshape(checkpoint.task.p**2, -1)[pairs].double()
    label = logits[np.arange(len(pairs)), checkpoint.task.labels[pairs]]
    return float((label - logits.mean(-1)).mean())


def trigonometric_fraction(checkpoint: Checkpoint) -> float:
    """‖Σ_k α_k cos w_k(a+b−c)‖ / ‖L_c‖ over all frequencies, of the logits centred over classes: a fraction of norm,
    not of power."""
    return math.sqrt(float((checkpoint.spectrum.logit_shares * checkpoint.spectrum.logit_alignments.abs()).sum()))


def predictions(result: xr.Dataset, *, ungrokking: float | None = None) -> list[Prediction]:
    """P1 and D_crit. `ungrokking`: the D_crit of that experiment for the same modulus, to stand beside it."""
    n_seeds = result.sizes["seed"]
    curves, transposed = EfficiencyCurves(result), EfficiencyCurves(result, transposed=True)
    shared = {
        "networks": int(np.isfinite(result.weight_norm).sum()),
        "networks_not_converged": int((result.norm_change > LARGEST_CHANGE).sum()),
        "networks_kept": int(result.kept.sum()),
        "compared_at_logit": math.exp(curves.at),
        "logits_all_curves_reach": (math.exp(curves.low), math.exp(curves.high)),
        "norms_all_curves_reach": (math.exp(transposed.low), math.exp(transposed.high))
        if math.isfinite(transposed.at)
        else None,
        "seeds": n_seeds,
    }
    return [_slopes(curves, n_seeds, shared), _crossing(curves, transposed, n_seeds, shared, ungrokking)]


def _slopes(curves: EfficiencyCurves, n_seeds: int, shared: dict) -> Prediction:
    statement = "C_mem becomes less efficient with D, C_gen does not"
    slopes = {kind: curves.slope(index) for index, kind in enumerate(KINDS)}
    intervals = {
        kind: bootstrap(n_seeds, lambda seeds, i=index: curves.slope(i, seeds))[0] for index, kind in enumerate(KINDS)
    }
    numbers = {"slope_of_log_norm_against_log_D": slopes, "slope_intervals_95": intervals} | shared
    (memorizing, generalizing), ((low, _), (_, high)) = slopes.values(), intervals.values()
    if not all(map(math.isfinite, (memorizing, generalizing, low, high))):
        because = "the curves do not reach one logit at two or more D with two or more seeds"
        return Prediction("P1", statement, "not shown", because, numbers)
    shown = {kind: f"{slopes[kind]:+.3f} ({intervals[kind][0]:+.3f} to {intervals[kind][1]:+.3f})" for kind in KINDS}
    because = f"log norm against log D, at one logit: C_mem {shown['memorizing']}, C_gen {shown['generalizing']} (95 %)"
    flat = intervals["generalizing"][0] <= 0 or generalizing < FLAT * memorizing
    if low > 0 and flat:
        return Prediction("P1", statement, "confirmed", because, numbers)
    return Prediction(
        "P1", statement, "not confirmed" if low > 0 or intervals["memorizing"][1] < 0 else "not shown", because, numbers
    )


def _crossing(
    curves: EfficiencyCurves, transposed: EfficiencyCurves, n_seeds: int, shared: dict, ungrokking: float | None
) -> Prediction:
    statement = "the two are equally efficient at some D, D_crit"
    d_crit = curves.critical_size()
    interval, defined = bootstrap(n_seeds, curves.critical_size)
    numbers = {
        "d_crit": d_crit,
        "d_crit_interval_95": interval,
        "bootstrap_samples_that_cross": defined,
        "d_crit_at_equal_norm": transposed.critical_size(rising=False),
        "d_crit_of_ungrokking": ungrokking,
    } | shared
    beside = f"; ungrokking has D_crit {ungrokking:.0f}" if ungrokking is not None and math.isfinite(ungrokking) else ""
    if not math.isfinite(d_crit) or not defined >= CROSSING_SAMPLES:
        return Prediction("D_crit", statement, "not shown", f"the curves do not cross within the data{beside}", numbers)
    because = f"D_crit is {d_crit:.0f} (95 %: {interval[0]:.0f} to {interval[1]:.0f}, {n_seeds} seeds)"
    because += f" at a logit of {math.exp(curves.at):.1f}{beside}"
    return Prediction("D_crit", statement, "confirmed", because, numbers)


def plot(result: xr.Dataset):
    """Logit against norm, a color per D; and the norm at one logit against D, where the two kinds are compared."""
    import plotly.graph_objects as go

    curves = EfficiencyCurves(result)
    titles = ("Logit against weight norm", f"Weight norm at a logit of {math.exp(curves.at):.1f}")
    figure = new_panels(TITLE, titles, reference=REFERENCE, row_height=400, horizontal_spacing=0.12)
    kept = result.kept.values.astype(bool)
    for row, kind in enumerate(KINDS):
        symbol, dash = ("circle", "solid") if kind == "memorizing" else ("diamond", "dot")
        for column, size in enumerate(result["size"].values):
            norm, logit, good = (
                values[row, column] for values in (result.weight_norm.values, result.correct_logit.values, kept)
            )
            color = PALETTE[column % len(PALETTE)]
            if good.any():
                means = [(norm[i][good[i]].mean(), logit[i][good[i]].mean()) for i in range(len(good)) if good[i].any()]
                x, y = zip(*means, strict=True)
                line = go.Scatter(
                    x=x,
                    y=y,
                    mode="lines",
                    line={"color": color, "dash": dash, "width": 2},
                    name=f"{kind}, D = {size:,}",
                )
                figure.add_trace(line, row=1, col=1)
            for mask, opacity in ((good, 0.8), (~good & np.isfinite(norm), 0.15)):
                if mask.any():
                    marker = {"color": color, "symbol": symbol, "size": 6, "opacity": opacity}
                    points = go.Scatter(x=norm[mask], y=logit[mask], mode="markers", marker=marker, showlegend=False)
                    figure.add_trace(
                        points.update(
                            hovertemplate=f"{kind}, D = {size}<br>norm %{{x:.2f}}, logit %{{y:.2f}}<extra></extra>"
                        )
                    )
        norms = np.exp(curves.read(row))
        known = np.isfinite(norms)
        spread = np.array([np.exp(curves.read(row, [seed])) for seed in range(result.sizes["seed"])])
        color = TRAIN if kind == "memorizing" else TEST
        line = {"color": color, "width": 2.5, "dash": dash}
        x = result["size"].values
        band(figure, x, np.exp(mean_interval(np.log(spread).T)), color, row=1, col=2)
        figure.add_trace(
            go.Scatter(x=x[known], y=norms[known], mode="lines+markers", line=line, name=f"C_{kind[:3]}"), row=1, col=2
        )
        each = go.Scatter(x=np.tile(x, len(spread)), y=spread.reshape(-1), mode="markers", showlegend=False)
        figure.add_trace(each.update(marker={"color": color, "size": 5, "opacity": 0.4}), row=1, col=2)
    if math.isfinite(d_crit := curves.critical_size()):
        vertical_line(figure, d_crit, row=1, column=2)
    norms = plain_log_axis(result.weight_norm.values.reshape(-1))
    figure.update_xaxes(title_text="L2 norm of all weights", **norms, row=1, col=1)
    figure.update_yaxes(
        title_text="centred logit of the label", **plain_log_axis(result.correct_logit.values.reshape(-1)), row=1, col=1
    )
    figure.update_xaxes(title_text="training pairs D", **plain_log_axis(result["size"].values), row=1, col=2)
    figure.update_yaxes(title_text="L2 norm of all weights", **norms, row=1, col=2)
    return figure
