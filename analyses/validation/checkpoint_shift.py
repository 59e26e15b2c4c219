"""Checkpoint shift. Between which checkpoints does what the network says of the same examples change, and how?

The score of an example is the margin of its label, L_label − max of the other logits: above 0 it is right. (The
probability is 1 to rounding for all of them once a network has grokked, and its deciles are one.) Of the scores at one
checkpoint, the reference, and at the next,

    PSI       Σ_b (a_b − e_b) ln(a_b/e_b), shares in deciles of the reference
    shift KS  the largest distance of their distribution functions

(`interp.mathematics.population_stability`) and of the answers

    McNemar   of the examples that are right at one of the two alone, are as many gained as lost? (exact, two-sided)
    churn     the share of examples whose answer changed, right or not

PSI and KS are above 0 where nothing has changed but the sample, so their 95 % points stand beside them: an interval is
*unstable* where PSI is above .2 and above that point. As the examples are the same at both checkpoints, fewer than 5 %
of unchanged networks pass it; one that has not moved at all has 0. Of examples that a symmetry makes of each other one
is taken, so that all are independent.

PSI and KS see that a distribution has moved, not that examples changed places in it, which churn can see. All of it is
by interval, and how long these are was chosen by whoever kept the checkpoints: twice as many checkpoints have smaller
shifts between them.

It cannot tell why, nor whether a shift is for the better: memorizing moves held-out margins as generalizing does, the
other way.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from scipy.stats import binomtest, ks_2samp

from interp.errors import check_integer
from interp.figures import PALETTE, as_number, as_percent, new_panels, power_of_ten_axis, threshold_line
from interp.mathematics.class_scores import answered
from interp.mathematics.population_stability import SLIGHT, UNSTABLE, band, ks_chance_95, population_stability
from interp.models import are_finite

if TYPE_CHECKING:
    from interp.runs import Checkpoint, Run

ASKS = "answers"
READS = ()
REFERENCE = "PSI: Yurdakul 2018; McNemar 1947, doi:10.1007/BF02295996; churn: Milani Fard et al. 2016"
ON_REQUEST = True
SCALES = {}  # its numbers are not compared
SPLITS = ("train", "held_out")
CHANGES = ("gained", "lost")
LEVEL = 0.05


def compute(
    run: "Run",
    *,
    reference: int | None = None,
    progress: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps,
) -> xr.Dataset:
    """Over each `interval`, named by its last step, from the step `start` on: `psi` in `bins` and its 95 % point
    `psi_95`, the `shift_ks`, the two-sided `mcnemar` p-value, the `churn`, and how many answers `changed` [interval,
    split, change] to right and to wrong, of so many `examples` [split].

    By default a checkpoint is compared with the one before it; with all others that of the step `reference`. A run of
    one checkpoint has one interval, from it to itself. NaN where a split is not known, weights are not finite, and
    where ties leave fewer than three bins (PSI).

    Raises InputError for a reference that is no step of the run.

    >>> import interp
    >>> found = compute(interp.open_run(interp.reference_path())).sel(split="held_out")
    >>> most = found.psi.argmax("interval")
    >>> int(found.start[most]), int(found.interval[most]), bool(found.psi.max() > 10 * found.psi_95[most])
    (16, 23, True)
    """
    steps = list(run.steps)
    task = run.task
    chosen = [_independent(task.orbits, np.flatnonzero(task.mask(split))) for split in SPLITS]
    fixed = None
    if reference is not None:
        check_integer("reference", reference, 0)
        fixed = _judged(run[reference], chosen)
    starts, ends = (steps[:-1], steps[1:]) if len(steps) > 1 and fixed is None else (steps, steps)
    before = fixed or _judged(run[steps[0]], chosen)
    names = ("psi", "psi_95", "bins", "shift_ks", "mcnemar", "churn")
    rows = np.full((len(names), len(ends), len(SPLITS)), np.nan)
    changed = np.full((len(ends), len(SPLITS), len(CHANGES)), np.nan)
    for place, step in enumerate(progress(ends)):
        after = _judged(run[step], chosen)
        for column, (one, other) in enumerate(zip(before, after, strict=True)):
            if one is not None and other is not None:
                rows[:, place, column], changed[place, column] = _compared(one, other)
        before = fixed or after
    one, by = {"units": "1"}, ("interval", "split")
    long_names = (
        "population stability index",
        "95 % point of PSI where nothing has changed",
        "bins of PSI",
        "KS of the margins at both checkpoints",
        "p-value of McNemar",
        "share of answers that changed",
    )
    updates = {"units": "updates"}
    return xr.Dataset(
        {
            name: (by, values, {"long_name": title} | one)
            for name, title, values in zip(names, long_names, rows, strict=True)
        }
        | {
            "changed": (
                ("interval", "split", "change"),
                changed,
                {"long_name": "answers that became right, and wrong", "units": "examples"},
            ),
            "examples": (
                "split",
                np.array([len(one) for one in chosen], dtype=np.int32),
                {"long_name": "independent examples", "units": "examples"},
            ),
        },
        coords={
            "interval": ("interval", np.array(ends, dtype=np.int32), {"long_name": "last step of it"} | updates),
            "start": (
                "interval",
                np.array(starts if reference is None else [reference] * len(ends), dtype=np.int32),
                {"long_name": "first step of it"} | updates,
            ),
            "split": ("split", np.array(SPLITS), {"long_name": "split", "units": "name"}),
            "change": ("change", np.array(CHANGES), {"long_name": "what changed", "units": "name"}),
        },
    )


class _Judged(NamedTuple):
    margins: Float[np.ndarray, " n"]
    answers: Int[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]


def _independent(orbits: Int[np.ndarray, " all"], chosen: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """Of the chosen examples the first of each orbit."""
    return chosen[np.unique(orbits[chosen], return_index=True)[1]]


def _judged(checkpoint: "Checkpoint", chosen: Sequence[np.ndarray]) -> list[_Judged | None]:
    """Margins and answers of the chosen examples of each split; None where there are none, or no finite weights."""
    if not are_finite(checkpoint.weights):
        return [None] * len(chosen)
    logits, found = checkpoint.logits.flatten(0, -2), []
    for places in chosen:
        labels = checkpoint.task.labels[places]
        said, right = logits[torch.from_numpy(places)], torch.from_numpy(labels)[:, None]
        margins = (said.gather(1, right).double()[:, 0] - said.scatter(1, right, -torch.inf).amax(1)).numpy()
        found.append(_Judged(margins, answered(said), labels) if len(places) else None)
    return found


def _compared(before: _Judged, after: _Judged) -> tuple[tuple[float, ...], tuple[int, int]]:
    stability = population_stability(before.margins, after.margins)
    distance = float(ks_2samp(before.margins, after.margins, method="asymp").statistic)
    was_right, is_right = (one.answers == one.labels for one in (before, after))
    gained, lost = int((is_right & ~was_right).sum()), int((was_right & ~is_right).sum())
    chance = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    churn = float((before.answers != after.answers).mean())
    psi, bins, psi_95 = stability
    return (psi, psi_95, bins or math.nan, distance, chance, churn), (gained, lost)


def summary(result: xr.Dataset) -> dict:
    """Of each split (None where it is not known): how many of the `intervals` are unstable by PSI; the `largest` PSI,
    with its interval, its 95 % point and band, the KS with its own, and the answers that changed there; the step from
    which on no interval is unstable (`stable_from`; None where the last one is); and which moved first on these
    examples: the first interval that is unstable by PSI, and the first over which more answers were gained than lost,
    or lost than gained, by McNemar with p below .05 over the number of intervals."""
    moved = result.start.values != result.interval.values
    told: dict[str, Any] = {"last_step": int(result.interval.values[-1])}
    for column, split in enumerate(SPLITS):
        one = result.isel(split=column, interval=np.flatnonzero(moved & np.isfinite(result.psi.values[:, column])))
        if not one.sizes["interval"]:
            told[split] = None
            continue
        psi, point = one.psi.values, one.psi_95.values
        unstable = np.flatnonzero((psi > UNSTABLE) & (psi > point))
        significant = np.flatnonzero(one.mcnemar.values < LEVEL / len(psi))
        most, n = int(psi.argmax()), int(one.examples)
        stable_from = int(one.interval.values[unstable[-1]]) if len(unstable) else int(one.start.values[0])
        told[split] = {
            "examples": n,
            "intervals": len(psi),
            "unstable": len(unstable),
            "largest": _ends(one, most)
            | {
                "psi": float(psi[most]),
                "psi_by_chance_95": float(point[most]),
                "band": band(float(psi[most]), float(point[most])),
                "shift_ks": float(one.shift_ks.values[most]),
                "shift_ks_by_chance_95": ks_chance_95(n, n),
                "churn": float(one.churn.values[most]),
                "gained": int(one.changed.values[most, 0]),
                "lost": int(one.changed.values[most, 1]),
                "mcnemar": float(one.mcnemar.values[most]),
            },
            "stable_from": None if len(unstable) and unstable[-1] == len(psi) - 1 else stable_from,
            "first_unstable": _ends(one, int(unstable[0])) if len(unstable) else None,
            "first_by_mcnemar": _ends(one, int(significant[0])) if len(significant) else None,
        }
    return told


def _ends(one: xr.Dataset, place: int) -> dict[str, int]:
    return {"from": int(one.start.values[place]), "to": int(one.interval.values[place])}


def in_words(found: Mapping) -> list[str]:
    """Of each split the largest shift beside what no change comes to, how many intervals are unstable, and what moved
    first."""
    lines = []
    for split in SPLITS:
        name = split.replace("_", " ")
        if (one := found[split]) is None:
            lines.append(f"{name}: not known, or one checkpoint")
            continue
        most = one["largest"]
        lines += [
            f"{name}, {one['examples']:,} independent examples: the margin's distribution changes most from step "
            f"{most['from']:,} to {most['to']:,}, by PSI {as_number(most['psi'])} and KS {as_number(most['shift_ks'])}:"
            f" {most['band']} (95 % of no changes of one interval stay below {as_number(most['psi_by_chance_95'])} and "
            f"{as_number(most['shift_ks_by_chance_95'])}; this is the largest of {one['intervals']:,})",
            f"  there {as_percent(most['churn'])} of the answers change, {most['gained']:,} become right and "
            f"{most['lost']:,} wrong (McNemar p = {as_number(most['mcnemar'])})",
            f"  {one['unstable']} of {one['intervals']} intervals are unstable (PSI above {UNSTABLE:g} and chance)"
            + (f"; from step {one['stable_from']:,} on none is" if one["stable_from"] is not None else ""),
        ]
        first = {"margins": one["first_unstable"], "right answers": one["first_by_mcnemar"]}
        moved = [f"{what} {one['from']:,} to {one['to']:,}" for what, one in first.items() if one is not None]
        if moved:
            lines.append(f"  first to move, by steps: {', '.join(moved)}")
    return lines


def plot(result: xr.Dataset):
    """PSI over each interval with its bands and the 95 % point of no change, shift KS with its own, churn, and what
    became right and wrong."""
    panels = (
        "PSI of the margin (dashed: 0.1 and 0.2)",
        "KS between the checkpoints",
        "Churn",
        "Answers that became right (dotted: wrong)",
    )
    figure = new_panels("Shift between checkpoints", panels, reference=REFERENCE, vertical_spacing=0.16)
    intervals = result.interval.values
    marks = {"mode": "lines+markers" if len(intervals) < 80 else "lines", "marker_size": 4}

    def draw(values: Float[np.ndarray, " interval"], name: str, color: str, row: int, column: int, **look: Any) -> None:
        line = {"color": color, "width": look.pop("width", 1.8), "dash": look.pop("dash", "solid")}
        figure.add_scatter(x=intervals, y=values, name=name, line=line, **marks, row=row, col=column)
        figure.data[-1].update({"legendgroup": name, "showlegend": (row, column) == (1, 1), **look})

    for place, split in enumerate(SPLITS):
        one, name, color = result.sel(split=split), split.replace("_", " "), PALETTE[place]
        n = int(one.examples)
        draw(np.where(one.psi.values > 0, one.psi.values, np.nan), name, color, 1, 1)  # a log axis has no zero
        thin = {"mode": "lines", "width": 1, "dash": "dot", "showlegend": place == 1}
        chance = "no change, 95 % point"
        draw(one.psi_95.values, chance, color, 1, 1, **thin)
        draw(one.shift_ks.values, name, color, 1, 2)
        if n:
            draw(np.full(len(intervals), ks_chance_95(n, n)), chance, color, 1, 2, **thin | {"showlegend": False})
        draw(one.churn.values, name, color, 2, 1)
        for change, dash in zip(CHANGES, ("solid", "dot"), strict=True):
            values = one.changed.sel(change=change).values / n if n else np.full(len(intervals), np.nan)
            draw(values, name, color, 2, 2, dash=dash, showlegend=False)
    power_of_ten_axis(figure, row=1, col=1)
    for begins in (SLIGHT, UNSTABLE):
        threshold_line(figure, begins, 1, 1)
    for row, column in ((2, 1), (2, 2)):
        figure.update_yaxes(tickformat=".0%", rangemode="tozero", row=row, col=column)
    figure.update_xaxes(title_text="step (updates)")
    figure.update_layout(legend={"y": 1, "yanchor": "top"})
    return figure
