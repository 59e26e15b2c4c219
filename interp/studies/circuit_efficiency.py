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

P1: w at that logit rises with D for C_mem, and not for C_gen: the slope s of log w against log D is positive for C_mem,
and s(C_gen) is less than a tenth of s(C_mem). Confirmed when the 95 % intervals over seeds (Student's t by the
jackknife) of s(C_mem) and of s(C_gen) − s(C_mem)/10 lie above and below 0, not confirmed when one of them lies on the
other side, not shown otherwise. D_crit: where w of C_mem at D is that of C_gen, its mean over D; between neighbors in
log D, by a straight line. It counts when it is there without any one of the seeds too.

At rest AdamW has g = −eps·wd·w (see `DecayDesign`), the minimum of loss + ½ eps·wd·‖w‖²: there eps and weight decay λ
matter only as a product. With `rescale_lr` networks therefore have weight decay 1, one learning rate, and eps·λ in
place of eps, so that all come to rest equally soon. eps is larger than usual: with 1e-8 slingshots throw memorizing
networks about before they come to rest. A network whose norm still changes by more than 1 % in the last tenth is marked
as not converged and left out; that compares two points, which a slingshot may make agree
(`interp.studies.critical_size` asks for the range of the norm too).

It cannot tell what a circuit costs in a network that has both: they may share weights. And labels at random are
memorized without the help that true labels may give.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from interp.experiment import Experiment, Task
from interp.figures import PALETTE, TEST, TRAIN, band, new_panels, plain_log_axis, vertical_line
from interp.mathematics.intervals import seed_interval
from interp.runs import Checkpoint, Run
from interp.studies.design import DecayDesign, Prediction
from interp.studies.efficiency_curves import EfficiencyCurves
from interp.sweeps import GridRun

TITLE = "Circuit efficiency: what a logit costs in weight norm"
REFERENCE = "Varma et al. 2023, arXiv:2309.02390, §3–4 (prediction P1)"
DESIGN = DecayDesign(
    p=59, sizes=(100, 200, 400, 800, 1600, 3000), weight_decays=(1.0, 3.0, 10.0), seeds=5, duration=10, eps=1e-5
)
FULL = DecayDesign(
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
# C_gen counts as flat when it rises less than this part of what C_mem does.
FLAT = 0.1


def grid(design: DecayDesign, *, full: bool = False) -> list[GridRun]:
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
                    runs.append(GridRun(name(kind, size, decay, seed), at_weight_decay(design, task, decay, seed)))
    return runs


def at_weight_decay(design: DecayDesign, task: Task, weight_decay: float, seed: int) -> Experiment:
    """A run of the design; with `rescale_lr` at weight decay 1 and with eps times the weight decay in place of eps."""
    if not design.rescale_lr:
        return design.experiment(task, weight_decay, seed)
    return design.experiment(task, 1.0, seed, eps=design.eps * weight_decay)


def sizes_of(design: DecayDesign, kind: str) -> list[int]:
    """The training sizes D of a kind of network."""
    border = GENERALIZING_FROM * design.p**2
    return sorted(size for size in design.sizes if (size >= border) == (kind == "generalizing"))


def name(kind: str, size: int, weight_decay: float, seed: int) -> str:
    """The folder of a run."""
    return f"{kind}-D{size}-wd{weight_decay:g}-seed{seed}"


def measure(runs: Mapping[str, Run], design: DecayDesign) -> xr.Dataset:
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
        "d_crit_of_ungrokking": ungrokking,
        "seeds": n_seeds,
    }
    if (because := failed_precondition(result)) is not None:
        numbers = {"d_crit": math.nan} | shared
        return [Prediction(key, text, "not shown", because, numbers) for key, text in _STATEMENTS.items()]
    return [_slopes(curves, n_seeds, shared), _crossing(curves, transposed, n_seeds, shared)]


_STATEMENTS = {
    "P1": "C_mem becomes less efficient with D, C_gen does not",
    "D_crit": "the two are equally efficient at some D, D_crit",
}


def failed_precondition(result: xr.Dataset) -> str | None:
    """Why the circuits cannot be compared, where they cannot: of one kind no network counts."""
    for index, kind in enumerate(KINDS):
        trained = int(np.isfinite(result.weight_norm[index]).sum())
        if not result.kept[index].any():
            return f"none of {trained} {kind} networks is at rest and of its kind: there is no C_{kind[:3]}"
    return None


def _slopes(curves: EfficiencyCurves, n_seeds: int, shared: dict) -> Prediction:
    def slopes(seeds: Sequence[int] | None = None) -> np.ndarray:
        memorizing, generalizing = (curves.slope(index, seeds) for index in range(len(KINDS)))
        # The excess over what still counts as flat is a statistic of its own, with an interval of its own.
        return np.array([memorizing, generalizing, generalizing - FLAT * memorizing])

    names = (*KINDS, "generalizing_minus_a_tenth_of_memorizing")
    found, intervals = slopes(), seed_interval(n_seeds, slopes).T
    numbers = {
        "slope_of_log_norm_against_log_D": dict(zip(names, found.tolist(), strict=True)),
        "slope_intervals_95": dict(zip(names, intervals.tolist(), strict=True)),
    } | shared
    if not np.isfinite(intervals).all():
        because = (
            "the curves do not reach one logit at two or more D with two or more seeds, and without any one of them"
        )
        return Prediction("P1", _STATEMENTS["P1"], "not shown", because, numbers)
    shown = [f"{value:+.3f} ({low:+.3f} to {high:+.3f})" for value, (low, high) in zip(found, intervals, strict=True)]
    because = f"log norm against log D, at one logit: C_mem {shown[0]}, C_gen {shown[1]}, "
    because += f"C_gen less a tenth of C_mem {shown[2]} (95 %)"
    (rises, falls), _, (excess, flat) = intervals
    if rises > 0 and flat < 0:
        return Prediction("P1", _STATEMENTS["P1"], "confirmed", because, numbers)
    verdict = "not confirmed" if falls < 0 or excess > 0 else "not shown"
    return Prediction("P1", _STATEMENTS["P1"], verdict, because, numbers)


def _crossing(curves: EfficiencyCurves, transposed: EfficiencyCurves, n_seeds: int, shared: dict) -> Prediction:
    ungrokking = shared["d_crit_of_ungrokking"]
    d_crit = curves.critical_size()
    low, high = seed_interval(n_seeds, curves.critical_size, positive=True).tolist()
    numbers = {
        "d_crit": d_crit,
        "d_crit_interval_95": (low, high),
        "d_crit_at_equal_norm": transposed.critical_size(rising=False),
    } | shared
    beside = f"; ungrokking has D_crit {ungrokking:.0f}" if ungrokking is not None and math.isfinite(ungrokking) else ""
    if not math.isfinite(low):
        without = ", or not without one of the seeds" if math.isfinite(d_crit) else ""
        because = f"the curves do not cross within the data{without}{beside}"
        return Prediction("D_crit", _STATEMENTS["D_crit"], "not shown", because, numbers)
    because = f"D_crit is {d_crit:.0f} (95 %: {low:.0f} to {high:.0f}, {n_seeds} seeds)"
    because += f" at a logit of {math.exp(curves.at):.1f}{beside}"
    return Prediction("D_crit", _STATEMENTS["D_crit"], "confirmed", because, numbers)


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
        limits = seed_interval(len(spread), lambda seeds, row=row: curves.read(row, seeds))
        band(figure, x, np.exp(limits), color, row=1, col=2)
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
