"""Graduation. In which order does the network learn the pairs of its table, each of them for good?

A pair is learned for good at the first checkpoint from which on its answer is right at every later one; a pair that is
wrong at the last checkpoint never is. Of pairs that were trained on, of test pairs that a symmetry makes of these
(mirrors), and of held-out pairs the median step is told.

Is there an order among held-out pairs? With i and j their phases, and each orbit of the symmetries one pair, the share
of the variance of the log steps that lies between groups of one sum i + j, and of one distance |i − j|, stands beside
what pairs dealt out at random to groups of the same sizes reach: as these are two chances to find an order where there
is none, what each has to pass is passed by 2.5 % of 399 draws, so that in 5 % of tables without order either does, at
most (Bonferroni).

It cannot tell why a pair comes late, and sees nothing between two checkpoints.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from interp.errors import check_integer
from interp.figures import PALETTE, as_percent, as_step, new_panels, percent_axis
from interp.models import are_finite

if TYPE_CHECKING:
    from interp.runs import Run

REFERENCE = "ours"
READS = ()
ON_REQUEST = True  # it reads every checkpoint
SCALES = {"": "magnitude"}
KINDS = ("train", "mirrored", "held_out")
GROUPS = ("sum", "distance")
DRAWS, LEVEL = 399, 1 - 0.05 / len(GROUPS)


def compute(
    run: "Run",
    *,
    seed: int = 0,
    progress: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps,
) -> xr.Dataset:
    """`learned_at` [first, second] in updates (NaN: never, and where the operation is not defined), with the `kind` of
    each pair (0: trained on, 1: mirrored, 2: held out, −1: neither); `median_step` and `share_learned` [kind]; and of
    held-out pairs the `explained` variance of log steps [group] with what chance reaches, `explained_by_chance`.

    Raises InputError for a seed that cannot be.

    >>> import interp
    >>> found = compute(interp.open_run(interp.reference_path()))
    >>> found.median_step.sel(kind=["train", "held_out"]).values.tolist()
    [65.0, 800.0]
    """
    check_integer("seed", seed, 0)
    task, steps = run.task, run.steps
    learned = np.full(math.prod(task.shape), np.nan)
    for step in progress(steps):
        checkpoint = run[step]
        correct = checkpoint.correct if are_finite(checkpoint.weights) else np.zeros(len(learned), dtype=bool)
        learned = np.where(correct, np.where(np.isnan(learned), step, learned), np.nan)
    held_out, trained = task.mask("held_out"), task.mask("train")
    kinds = np.select([trained, held_out, task.mask("test") & ~held_out], [0, 2, 1], -1)
    chosen = [learned[kinds == kind] for kind in range(len(KINDS))]
    # A median that lies among those that were never learned is never.
    medians = [float(np.median(np.nan_to_num(one, nan=np.inf))) if len(one) else np.nan for one in chosen]
    shares = [float(np.isfinite(one).mean()) if len(one) else np.nan for one in chosen]
    explained, by_chance = _order(task, learned, held_out, np.random.default_rng(seed))
    one, updates = {"units": "1"}, {"units": "updates"}
    residues = np.arange(task.p, dtype=np.int32)
    return xr.Dataset(
        {
            "learned_at": (
                ("first", "second"),
                learned.reshape(task.shape),
                {"long_name": "step from which on the answer is right"} | updates,
            ),
            "kind_of_pair": (
                ("first", "second"),
                kinds.reshape(task.shape).astype(np.int32),
                {"long_name": "0 train, 1 mirrored, 2 held out", "units": "index"},
            ),
            "median_step": (
                "kind",
                np.where(np.isinf(medians), np.nan, medians),
                {"long_name": "median step (NaN: half of them never)"} | updates,
            ),
            "share_learned": ("kind", np.array(shares), {"long_name": "share that is learned"} | one),
            "explained": ("group", explained, {"long_name": "variance of log steps between groups"} | one),
            "explained_by_chance": ("group", by_chance, {"long_name": "passed by 2.5 % of random draws"} | one),
        },
        coords={
            "first": ("first", residues, {"long_name": "a", "units": "residue"}),
            "second": ("second", residues, {"long_name": "b", "units": "residue"}),
            "kind": ("kind", np.array(KINDS), {"long_name": "kind of pair", "units": "name"}),
            "group": ("group", np.array(GROUPS), {"long_name": "groups of one", "units": "name"}),
        },
        attrs={"first_checkpoint": int(steps[0]), "last_checkpoint": int(steps[-1]), "checkpoints": len(steps)},
    )


def _order(
    task, learned: np.ndarray, held_out: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """What each grouping explains of the held-out pairs that were learned, and by chance; NaN of fewer than three."""
    unknown = np.full(len(GROUPS), np.nan)
    phase = task.coordinates
    place_of_a, place_of_b = (np.full(task.p, -1) for _ in range(2))
    place_of_a[phase.rows], place_of_b[phase.columns] = np.arange(phase.order), np.arange(phase.order)
    a, b = np.divmod(np.arange(len(learned)), task.p)
    i, j = place_of_a[a], place_of_b[b]
    usable = np.flatnonzero(held_out & np.isfinite(learned) & (learned > 0) & (i >= 0) & (j >= 0))
    orbits, first, inverse = np.unique(task.orbits[usable], return_index=True, return_inverse=True)
    if len(orbits) < 3:
        return unknown, unknown
    log_steps = np.bincount(inverse, np.log(learned[usable])) / np.bincount(inverse)
    i, j = i[usable][first], j[usable][first]
    apart = (i - j) % phase.order
    groups = ((i + j) % phase.order, np.minimum(apart, phase.order - apart))
    explained = np.concatenate([explained_by(log_steps[None], group) for group in groups])
    # Of 399 draws nine are above the 390th: a value is above it in one of 40 cases of those 400, and never more.
    dealt = random.permuted(np.tile(log_steps, (DRAWS, 1)), axis=1)
    by_chance = [np.quantile(explained_by(dealt, group), LEVEL, method="higher") for group in groups]
    return explained, np.array(by_chance)


def explained_by(values: Float[np.ndarray, "draws n"], groups: Int[np.ndarray, " n"]) -> Float[np.ndarray, " draws"]:
    """For each draw the share of the variance of values that lies between groups; NaN where there is none.

    >>> explained_by(np.array([[1.0, 1.0, 3.0, 3.0], [1.0, 3.0, 1.0, 3.0]]), np.array([0, 0, 1, 1])).tolist()
    [1.0, 0.0]
    """
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    centered = values - values.mean(1, keepdims=True)
    sums = centered @ np.eye(len(counts))[inverse]
    total = np.square(centered).sum(1)
    return np.square(sums) @ (1 / counts) / np.where(total, total, np.nan)


def summary(result: xr.Dataset) -> dict:
    """Of each kind of pairs the median step (None where half of them never were) and the share that was learned; and
    what sum and distance explain of the order of held-out pairs, beside chance."""
    told: dict = {"last_checkpoint": result.attrs["last_checkpoint"]}
    for kind in result.kind.values:
        median = float(result.median_step.sel(kind=kind))
        told[str(kind)] = {
            "median_step": int(median) if math.isfinite(median) else None,
            "share_learned": float(result.share_learned.sel(kind=kind)),
        }
    for group in result.group.values:
        explained, chance = (float(result[name].sel(group=group)) for name in ("explained", "explained_by_chance"))
        told[f"explained_by_{group}"] = {"share": explained, "by_chance": chance, "is_more": bool(explained > chance)}
    return told


def in_words(found: Mapping) -> list[str]:
    """A line for the steps, and one for each grouping."""
    medians = [
        f"{kind.replace('_', ' ')} {as_step(one['median_step'])} ({as_percent(one['share_learned'])} learned)"
        for kind, one in found.items()
        if kind in KINDS and one["share_learned"] is not None and math.isfinite(one["share_learned"])
    ]
    lines = [f"median step from which on a pair is right: {', '.join(medians)}"]
    for group in GROUPS:
        one = found[f"explained_by_{group}"]
        if one["share"] is not None and math.isfinite(one["share"]):
            than = "more than" if one["is_more"] else "no more than"
            lines.append(
                f"{as_percent(one['share'])} of the variance of held-out log steps lies between pairs of one {group}, "
                f"{than} by chance (passed by 2.5 % of draws, and by either grouping in 5 %: "
                f"{as_percent(one['by_chance'])})"
            )
    return lines


def plot(result: xr.Dataset):
    """The step from which on each pair is right, over (a, b), and how many of each kind are by which step."""
    panels = ("Learned for good at step", "Learned by then")
    figure = new_panels("Graduation", panels, reference=REFERENCE, row_height=420, horizontal_spacing=0.16)
    steps = result.learned_at.values
    known = steps[np.isfinite(steps) & (steps > 0)]
    ends = (known.min(), known.max()) if len(known) else (1.0, 10.0)
    ticks = [tick for decade in range(7) for tick in (10**decade, 2 * 10**decade, 5 * 10**decade)]
    ticks = [tick for tick in ticks if ends[0] <= tick <= ends[1]]
    figure.add_heatmap(
        z=np.log10(np.maximum(steps, ends[0])),
        x=result.second.values,
        y=result.first.values,
        colorscale="Viridis",
        customdata=steps,
        hovertemplate="a = %{y}, b = %{x}: step %{customdata:,}<extra></extra>",
        hoverongaps=False,
        colorbar={
            "tickvals": [math.log10(tick) for tick in ticks],
            "ticktext": [f"{tick:,}" for tick in ticks],
            "title": {"text": "step", "font": {"size": 12}},
            "thickness": 12,
            "x": 0.43,
        },
        row=1,
        col=1,
    )
    figure.update_xaxes(title_text="b", constrain="domain", row=1, col=1)
    figure.update_yaxes(title_text="a (white: never)", scaleanchor="x", autorange="reversed", row=1, col=1)
    kinds = result.kind_of_pair.values
    for place, kind in enumerate(KINDS):
        of_kind = steps[kinds == place]
        if not len(of_kind):
            continue
        at, counts = np.unique(of_kind[np.isfinite(of_kind)], return_counts=True)
        x = np.r_[result.attrs["first_checkpoint"], at, result.attrs["last_checkpoint"]]
        y = np.r_[0, np.cumsum(counts), counts.sum()] / len(of_kind)
        look = {"line": {"color": PALETTE[place], "width": 1.8, "shape": "hv"}, "mode": "lines"}
        figure.add_scatter(x=x, y=y, name=kind.replace("_", " "), **look, row=1, col=2)
    figure.update_xaxes(title_text="step (updates)", row=1, col=2)
    percent_axis(figure, row=1, col=2)
    return figure
