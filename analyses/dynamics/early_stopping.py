"""Early stopping. Which step would a researcher with patience have kept, and what would that have cost?

Training is looked at afterwards, and not changed: at every known step, and at kept checkpoints alone, the rule of
`interp.mathematics.early_stopping` ends it once the loss has had no new least value for `patience` updates, and keeps
the weights of the least one. The loss is that of the validation pairs (`Task.validation_fraction`), of which no test
pair is one, nor what a symmetry of the task makes of one: then loss and accuracy on test pairs at the kept step are
honest, and the interval of held-out accuracy (Wilson, 95 %, over independent held-out pairs) is that of pairs nobody
chose on. Without validation pairs the loss is that of the test pairs themselves, and what they have at the kept step is
chosen, not estimated: it has no interval. The longest wait W is the most that somebody had to wait for a new least loss
before the least of all: any patience above it, and none below, would have kept that one.

In a network that groks validation loss rises while training pairs are memorized and falls much later, so that any
patience shorter than the delay keeps a step at chance.

It cannot tell what would have come after the last step, nor how another seed would have gone.
"""

import numpy as np
import xarray as xr

from interp.errors import check_integer
from interp.figures import NEUTRAL, PALETTE, TEST, TRAIN, new_panels, percent_axis, power_of_ten_axis
from interp.mathematics.early_stopping import PATIENCE, stop
from interp.mathematics.intervals import wilson_interval

ASKS = "answers"
READS = ()
REFERENCE = "Prechelt 1998, doi:10.1007/3-540-49430-8_3; Power et al. 2022, arXiv:2201.02177, §3.1"
NEEDS = ("learning_curves",)
SCALES = {}
SPLITS = ("train", "validation", "test", "held_out")
AMONG = ("logged", "checkpoints")
MOMENTS = ("kept", "last")


def compute(run, *, patience: int = PATIENCE) -> xr.Dataset:
    """`loss` and `accuracy` [step, split]; the step `at` [among, moment] which the rule keeps and the last one, among
    all known steps and among kept checkpoints; `ended_at` and `longest_wait` [among], in updates; and
    `held_out_interval` [among, moment, end] of the accuracy there. NaN where nothing is known, where training was not
    ended, and for the interval of a step that was chosen on the test pairs.

    `patience` is in updates. Raises InputError for one below 1.

    >>> import interp
    >>> found = summary(compute(interp.open_run(interp.reference_path()), patience=300))
    >>> found["kept_step"], round(found["kept_test_accuracy"], 2), found["longest_wait"], found["judged_by"]
    (6, 0.01, 669, 'test')
    """
    check_integer("patience", patience, 1)
    task, curves = run.task, run.result("learning_curves")
    judged_by = "validation" if task.mask("validation").any() else "test"
    steps, held_out = curves.step.values, task.mask("held_out")
    curves = curves[["loss", "accuracy"]].reindex(split=list(SPLITS))
    at = np.full((len(AMONG), len(MOMENTS)), np.nan)
    ended_at, longest_wait = np.full(len(AMONG), np.nan), np.full(len(AMONG), np.nan)
    interval = np.full((len(AMONG), len(MOMENTS), 2), np.nan)
    for row, seen in enumerate((np.ones(len(steps), dtype=bool), np.isin(steps, run.steps))):
        losses = np.where(seen, curves.loss.sel(split=judged_by).values, np.nan)
        found = stop(steps, losses, patience)
        if found is None:
            continue
        places = found.place, int(np.flatnonzero(np.isfinite(losses))[-1])
        at[row] = steps[list(places)]
        ended_at[row], longest_wait[row] = _or_nan(found.ended_at), found.longest_wait
        for column, place in enumerate(places):
            if judged_by == "validation" or MOMENTS[column] == "last":
                interval[row, column] = _interval(float(curves.accuracy.values[place, -1]), task.n_held_out)
    counts = np.bincount(task.labels[held_out])
    updates = {"units": "updates"}
    return xr.Dataset(
        {
            "loss": curves.loss,
            "accuracy": curves.accuracy,
            "at": (("among", "moment"), at, {"long_name": "step"} | updates),
            "ended_at": ("among", ended_at, {"long_name": "step at which patience ended"} | updates),
            "longest_wait": ("among", longest_wait, {"long_name": "longest wait before the least loss"} | updates),
            "held_out_interval": (
                ("among", "moment", "end"),
                interval,
                {"long_name": "95 % interval of held-out accuracy", "units": "1"},
            ),
        },
        coords={
            "step": curves.step,
            "split": curves.split,
            "among": ("among", np.array(AMONG), {"long_name": "steps that are looked at", "units": "name"}),
            "moment": ("moment", np.array(MOMENTS), {"long_name": "moment", "units": "name"}),
            "end": ("end", np.array(["lower", "upper"]), {"long_name": "end of the interval", "units": "name"}),
        },
        attrs={
            "judged_by": judged_by,
            "patience": patience,
            "guessed": float(counts.max() / counts.sum()) if held_out.any() else np.nan,
            "loss_axis": run.curves.attrs["loss_axis"],
        },
    )


def _or_nan(step: int | None) -> float:
    return np.nan if step is None else float(step)


def _interval(accuracy: float, independent: int) -> tuple[float, float]:
    """Wilson's, of an accuracy on so many independent pairs; a pair and its mirror are one."""
    return wilson_interval(round(accuracy * independent), independent) if np.isfinite(accuracy) else (np.nan, np.nan)


def summary(result: xr.Dataset) -> dict:
    """`kept_step`, `ended_at` and `longest_wait` by all known steps, `kept_checkpoint` by checkpoints alone; loss and
    accuracy at the kept and at the last step, each held-out accuracy with its interval; `kept_at_chance`: whether a
    guess is within it. `judged_by` is "validation", or "test", and then there is no interval of what was chosen. Null
    where unknown."""
    found = {
        "judged_by": result.attrs["judged_by"],
        "patience": int(result.attrs["patience"]),
        "kept_checkpoint": _whole(result.at.sel(among="checkpoints", moment="kept")),
    }
    of = result.sel(among="logged")
    found |= {"ended_at": _whole(of.ended_at), "longest_wait": _whole(of.longest_wait)}
    for moment in MOMENTS:
        step = _whole(of.at.sel(moment=moment))
        found[f"{moment}_step"] = step
        for name, split in (("loss", "test"), ("accuracy", "test"), ("accuracy", "held_out")):
            value = float("nan") if step is None else float(of[name].sel(step=step, split=split))
            found[f"{moment}_{split}_{name}"] = value
        ends = [float(end) for end in of.held_out_interval.sel(moment=moment)]
        found[f"{moment}_held_out_accuracy_interval_95"] = ends if np.isfinite(ends).all() else None
    chosen = found["kept_held_out_accuracy_interval_95"]
    return found | {"kept_at_chance": None if chosen is None else bool(chosen[0] <= result.attrs["guessed"])}


def _whole(step: xr.DataArray) -> int | None:
    return int(step) if np.isfinite(step) else None


def plot(result: xr.Dataset):
    """Loss (logarithmic) and accuracy over training, with the step that is kept and the one at which patience ended."""
    import plotly.graph_objects as go

    titles = f"Loss: a patience of {result.attrs['patience']:,} updates", "Accuracy"
    figure = new_panels("Early stopping", titles, reference=REFERENCE, row_height=340)
    colors = dict(zip(SPLITS, (TRAIN, PALETTE[2], TEST, PALETTE[4]), strict=True))
    for column, name in enumerate(("loss", "accuracy"), start=1):
        for split, color in colors.items():
            values = result[name].sel(split=split).values
            if np.isfinite(values).any():
                chosen = " (chosen on)" if split == result.attrs["judged_by"] else ""
                line = {"color": color, "width": 2, "dash": "dot" if split == "held_out" else "solid"}
                label = f"{split.replace('_', ' ')}{chosen}"
                trace = go.Scatter(x=result.step.values, y=values, name=label, line=line, mode="lines")
                figure.add_trace(trace.update(showlegend=column == 2, legendgroup=split), row=1, col=column)
    facts = summary(result)
    for label, step in (("kept", facts["kept_step"]), ("ended", facts["ended_at"])):
        if step is not None:
            figure.add_vline(x=step, line={"color": NEUTRAL, "width": 1, "dash": "dash"})
            where = {"x": step, "y": 0.5, "xref": "x2", "yref": "y2"}
            look = {"showarrow": False, "textangle": -90, "xshift": -9, "font_size": 11}
            figure.add_annotation(**where, text=f"{label} {step:,}", **look)
    figure.update_xaxes(title_text="step (updates)")
    power_of_ten_axis(figure, row=1, col=1, title_text=result.attrs["loss_axis"])
    percent_axis(figure, row=1, col=2, title_text="accuracy")
    return figure
