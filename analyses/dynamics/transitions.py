"""Transitions. Did the network grok, and when did memorization, circuit formation and cleanup end?

From learning curves alone, anybody's: the verdict and its steps by the definitions of `interp.mathematics.grokking`, of
train and held-out pairs (99 % accuracy that holds; losses against chance where accuracies are unknown, if they are
cross-entropies; without `chance_loss` the larger of the first train and test loss stands for ln p), and the verdict of
Liu et al. (90 %, fixed gap of 1,000 steps). Of curves that were imported without a split, test pairs stand for held-out
ones, mirrors included. With g the step from which on the network generalizes, the boundaries of its phases: log losses,
Σw² and Gini are fitted up to g by continuous lines with up to two kinks, and from the start of cleanup to 3 g with up
to one (as many as the Bayesian information criterion says; `interp.mathematics.kinks`):

    end of memorization   held-out loss turns down, excluded loss (train pairs) turns up
    start of cleanup      held-out loss, restricted loss (all pairs) and Σw² fall faster, Gini rises faster
    end of cleanup        held-out loss, Σw² and Gini level out to less than half their slope

A boundary is the median over the signals that bend so, at least two of them (`signals`); its interval holds all of them
and the median of their own intervals. There are no phases unless the network memorized before it generalized; a
boundary is unknown with too few points, or where fewer than two signals bend that way. The papers drew these lines by
eye: this is an approximation, and its interval the spread of signals and fit, no confidence interval. It cannot tell
why a phase ended, nor that a smooth curve has a bend at all.
"""

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from interp.errors import InputError
from interp.figures import NEUTRAL, PALETTE, TEST, TRAIN, across_panels, new_panels, percent_axis, power_of_ten_axis
from interp.mathematics import grokking
from interp.mathematics.kinks import Kinks, kinks

if TYPE_CHECKING:
    from interp.runs import Run

REFERENCE = (
    "Nanda et al. 2023, arXiv:2301.05217, §5.2; Liu et al. 2022, arXiv:2205.10343, App. A; Truong et al. 2020, ruptures"
)
NEEDS = ("learning_curves", "progress_measures", "embedding_spectrum", "weight_norms")
READS = ()
CORE = True
PLACE = 1

LOSSES, ACCURACIES = ("train", "held_out", "test", "excluded", "restricted"), ("train", "held_out", "test")
EVENTS = ("memorized", "generalized")
EVENT_VALUES = ("after", "at", "seen_for")
FEWEST_SIGNALS = 2
BOUNDARIES = ("end of memorization", "start of cleanup", "end of cleanup")

# For each boundary: the signals that bend there, and the direction of the slope after it (for the last: before it).
_BENDS = (
    {"held-out loss": -1, "excluded loss": 1},
    {"held-out loss": -1, "restricted loss": -1, "sum of squares": -1, "gini": 1},
    {"held-out loss": -1, "sum of squares": -1, "gini": 1},
)
SIGNALS = ("held-out loss", "excluded loss", "restricted loss", "sum of squares", "gini")


def from_curves(
    steps: ArrayLike,
    train_loss: ArrayLike,
    test_loss: ArrayLike,
    train_accuracy: ArrayLike,
    test_accuracy: ArrayLike,
    *,
    chance_loss: float | None = None,
    weight_norm: ArrayLike | None = None,
    loss_decides: tuple[bool, bool] = (True, True),
) -> xr.Dataset:
    """The transitions of anybody's learning curves: one-dimensional arrays over ascending steps, NaN where unknown,
    accuracies from 0 to 1, losses in nats. `chance_loss` is the loss of a uniform guess, ln p; without it the first
    losses stand for it. Test curves are taken for those of pairs that could not have been memorized; of a commutative
    operation mirrored pairs are among them unless they were left out. `weight_norm`, of all weights, is a second signal
    for phases. `loss_decides`: whether a loss on train and on test pairs may stand for an accuracy that is unknown."""
    curves = {
        "train_loss": train_loss,
        "test_loss": test_loss,
        "train_accuracy": train_accuracy,
        "test_accuracy": test_accuracy,
        "weight_norm": np.full(np.size(steps), np.nan) if weight_norm is None else weight_norm,
    }
    unknown = np.full(len(known_steps := _checked_steps(steps)), np.nan)
    checked = {name: _checked(name, values, len(known_steps)) for name, values in curves.items()}
    loss = np.stack([checked["train_loss"], *[checked["test_loss"]] * 2, unknown, unknown], axis=1)
    accuracy = np.stack([checked["train_accuracy"], *[checked["test_accuracy"]] * 2], axis=1)
    if chance_loss is not None and not 0 < chance_loss < math.inf:
        raise InputError(f"chance_loss must be a positive number of nats (ln p), got {chance_loss}")
    chance = chance_loss if chance_loss is not None else grokking.chance(loss[:, 0], loss[:, 1])
    deciding = np.where(loss_decides, loss[:, :2], np.nan)
    told = grokking.events(known_steps, accuracy[:, :2].T, deciding.T, chance)
    weighed = {"sum of squares": checked["weight_norm"] ** 2, "gini": unknown}
    return _transitions(known_steps, loss, accuracy, weighed, chance=chance, told=told, deciding=deciding)


def compute(run: "Run") -> xr.Dataset:
    """`loss` [step, loss_of], `accuracy` [step, accuracy_of], `sum_of_squares`, `gini` [step]: the curves, NaN where
    not measured; `event_at` [event, event_value]: between which logged steps (after, at] it happened, and for how many
    steps it was seen to hold where the run ends before it had to; `verdict` [rule, kind]; `boundary_at` [boundary,
    boundary_value]: step and interval; `signal_boundary` [signal, boundary]: where each signal bends.

    >>> import interp
    >>> found = compute(interp.open_run(interp.reference_path()))
    >>> found.kind[found.verdict.sel(rule="delay")].values.tolist()
    ['grokking']
    """
    curves, progress = run.result("learning_curves"), run.result("progress_measures")
    steps = curves.step.values
    measured = {
        "excluded": progress.excluded_loss.sel(split="train", drop=True),
        "restricted": progress.restricted_loss.sel(split="all", drop=True),
        "sum of squares": run.result("weight_norms").total_l2 ** 2,
        "gini": run.result("embedding_spectrum").gini_embedding,
    }
    aligned = {name: values.reindex(step=steps).values.astype(np.float64) for name, values in measured.items()}
    is_split_known = run.task.split_known
    splits = ["train", "held_out" if is_split_known else "test", "test"]
    loss, accuracy = (curves[name].sel(split=splits).values for name in ("loss", "accuracy"))
    loss = np.concatenate([loss, np.stack([aligned["excluded"], aligned["restricted"]], axis=1)], axis=1)
    told, chance = grokking.events_of(curves), float(curves.attrs["chance_loss"])
    decides = curves.attrs.get("losses_decide", 1)
    deciding = loss[:, :2] if decides else np.full((len(steps), 2), np.nan)
    result = _transitions(steps, loss, accuracy, aligned, chance=chance, told=told, deciding=deciding)
    if not decides:
        axis = f"{curves.attrs['loss_axis']}; excluded, restricted: cross-entropy (nats)"
        result.loss.attrs |= {"long_name": axis, "units": "1"}
        result.attrs["loss_axis"] = axis
    return result.assign_attrs(mirrors_included=int(not is_split_known and bool(run.task.symmetries)))


def summary(result: xr.Dataset) -> dict:
    """The verdict; when it memorized and generalized, each between two logged steps (`_after`, `_at`], and how much of
    the held-out pairs it knew and held (`held_out_accuracy`) since when; `falls` after it generalized; `delay`: the
    bounds of the steps from the one to the other; `evidence` is what decided about each split: accuracy, loss or none;
    the boundaries of its phases, with the signals that bend there."""
    facts: dict = {"verdict": _verdict(result, "delay"), **json.loads(result.attrs["times"])}
    bounds = json.loads(result.attrs["delay"])
    facts["delay"] = None if None in bounds else bounds
    facts["fixed_gap_verdict"] = _verdict(result, "fixed gap")
    facts["chance_loss"] = float(result.attrs["chance_loss"])
    facts["evidence"] = json.loads(result.attrs["evidence"])
    rows = {name: [*map(grokking.whole, result.boundary_at.sel(boundary=name).values)] for name in BOUNDARIES}
    signals = {
        name: [str(s) for s in result.signal.values[np.isfinite(result.signal_boundary.sel(boundary=name).values)]]
        for name in BOUNDARIES
    }
    facts["boundaries"] = {
        name: {"step": step, "interval": [low, high], "signals": signals[name]} if step is not None else None
        for name, (step, low, high) in rows.items()
    }
    starts = [int(result.step.values[0]), *(rows[name][0] for name in BOUNDARIES[:2])]
    facts["phases"] = [
        {
            "name": phase,
            "start": start,
            "end": end,
            "interval": [low, high] if end is not None else None,
            "signals": signals[name] if end is not None else [],
        }
        for phase, start, (name, (end, low, high)) in zip(
            ("memorization", "circuit formation", "cleanup"), starts, rows.items(), strict=True
        )
    ]
    return facts


def plot(result: xr.Dataset):
    """The curves with the steps of memorization and generalization (dashed) and the boundaries with their intervals."""
    import plotly.graph_objects as go

    weighed = {"sum_of_squares": "Sum of squared weights", "gini": "Gini coefficient of W_E"}
    weighed = {name: title for name, title in weighed.items() if np.isfinite(result[name].values).any()}
    rule = _verdict(result, "delay")
    figure = new_panels(
        f"Transitions: {rule}", ("Loss", "Accuracy", *weighed.values()), reference=REFERENCE, vertical_spacing=0.2
    )
    colors = {"train": TRAIN, "test": TEST, "excluded": PALETTE[2], "restricted": PALETTE[3], "held_out": PALETTE[4]}
    panels = [(result.loss.sel(loss_of=name), name, 0) for name in LOSSES]
    panels += [(result.accuracy.sel(accuracy_of=name), name, 1) for name in ACCURACIES]
    panels += [(result[name], name, index) for index, name in enumerate(weighed, start=2)]
    shown: set[str] = set()
    for values, name, panel in panels:
        known = np.isfinite(values.values)
        if not known.any() or (name == "held_out" and _is_test(result)):
            continue
        of_test = "test, mirrors included" if result.attrs["mirrors_included"] else "test"
        label = {"held_out": "held out: no mirror trained on", "test": of_test}.get(name, name)
        line = {"color": colors.get(name, "#222"), "width": 1.8, "dash": "dot" if name == "held_out" else "solid"}
        trace = go.Scatter(x=result.step.values[known], y=values.values[known], name=label, line=line, legendgroup=name)
        trace.update(
            mode="lines+markers" if known.sum() < 3 else "lines", showlegend=name in colors and name not in shown
        )
        shown.add(name)
        figure.add_trace(trace, row=1 + panel // 2, col=1 + panel % 2)
    for name in BOUNDARIES:
        step, low, high = result.boundary_at.sel(boundary=name).values
        if np.isfinite(step):
            interval = {"type": "rect", "x0": low, "x1": high, "fillcolor": NEUTRAL, "opacity": 0.2, "line_width": 0}
            across_panels(
                figure, [interval, {"type": "line", "x0": step, "x1": step, "line": {"color": "#222", "width": 1.2}}]
            )
            _label(figure, step, f"{name} {step:,.0f}", axis="y", height=0.99, anchor="top")
    for label in EVENTS:
        step = result.event_at.sel(event=label, event_value="at").item()
        if np.isfinite(step):
            line = {"type": "line", "x0": step, "x1": step, "line": {"color": NEUTRAL, "width": 1, "dash": "dash"}}
            across_panels(figure, [line])
            _label(figure, step, f"{label} {step:,.0f}", axis="y2", height=0.5, anchor="middle")
    figure.update_xaxes(title_text="step (updates)")
    figure.update_layout(legend={"orientation": "h", "x": 0, "y": -0.12, "yanchor": "top"}, margin_b=110)
    power_of_ten_axis(figure, row=1, col=1, title_text=result.attrs["loss_axis"])
    percent_axis(figure, row=1, col=2, title_text="accuracy")
    for index, title in enumerate(("Σ w²", "Gini")[: len(weighed)]):
        figure.update_yaxes(title_text=title, row=2, col=1 + index)
    return figure


def _label(figure, step: float, text: str, *, axis: str, height: float, anchor: str) -> None:
    where = {"xref": axis.replace("y", "x"), "yref": f"{axis} domain", "yanchor": anchor, "xshift": -8}
    figure.add_annotation(x=step, y=height, text=text, showarrow=False, textangle=-90, font_size=10.5, **where)


def _is_test(result: xr.Dataset) -> bool:
    """Whether held-out pairs are all test pairs, so that one curve shows both."""
    return all(
        np.array_equal(values.sel({axis: "test"}), values.sel({axis: "held_out"}), equal_nan=True)
        for values, axis in ((result.loss, "loss_of"), (result.accuracy, "accuracy_of"))
    )


def _transitions(
    steps: np.ndarray,
    loss: np.ndarray,
    accuracy: np.ndarray,
    weighed: dict[str, np.ndarray],
    *,
    chance: float,
    told: grokking.Events,
    deciding: np.ndarray,
) -> xr.Dataset:
    lower = [grokking.reached(accuracy[:, i], deciding[:, i], chance, grokking.FIXED_GAP_LEVEL) for i in range(2)]
    verdicts = [[told.verdict], [grokking.fixed_gap_verdict(steps, *lower)]]
    nothing = (np.nan,) * len(EVENT_VALUES)
    events = [event or nothing for event in (told.memorized, told.generalized)]
    signals: dict[str, np.ndarray] = dict(
        zip(
            SIGNALS,
            (_log(loss[:, 1]), _log(loss[:, 3]), _log(loss[:, 4]), *(weighed[name] for name in SIGNALS[3:])),
            strict=True,
        )
    )
    has_phases = (
        told.memorized is not None and told.generalized is not None and told.memorized.at <= told.generalized.after
    )
    generalized = told.generalized.at if told.generalized is not None and has_phases else np.nan
    boundary, signal_boundary = _boundaries(steps, signals, generalized)
    evidence = {split: _evidence(deciding[:, i], accuracy[:, i]) for i, split in enumerate(ACCURACIES[:2])}
    count, name = {"units": "updates"}, {"units": "name"}
    return xr.Dataset(
        {
            "loss": (("step", "loss_of"), loss, {"long_name": "cross-entropy", "units": "nats"}),
            "accuracy": (("step", "accuracy_of"), accuracy, {"long_name": "accuracy", "units": "1"}),
            "sum_of_squares": (
                "step",
                weighed["sum of squares"],
                {"long_name": "sum of squared weights", "units": "1"},
            ),
            "gini": ("step", weighed["gini"], {"long_name": "Gini coefficient of W_E", "units": "1"}),
            "event_at": (
                ("event", "event_value"),
                np.array(events),
                {"long_name": "between which steps, and how long it was seen to hold"} | count,
            ),
            "verdict": (
                ("rule", "kind"),
                np.array(verdicts) == np.array(grokking.VERDICTS),
                {"long_name": "verdict", "units": "1"},
            ),
            "boundary_at": (
                ("boundary", "boundary_value"),
                boundary,
                {"long_name": "boundary of phases, with its interval"} | count,
            ),
            "signal_boundary": (
                ("signal", "boundary"),
                signal_boundary,
                {"long_name": "step at which a signal bends"} | count,
            ),
        },
        coords={
            "step": ("step", steps, {"long_name": "step"} | count),
            "loss_of": (
                "loss_of",
                np.array(LOSSES),
                {"long_name": "train, held out, test, excluded (train), restricted (all)"} | name,
            ),
            "accuracy_of": ("accuracy_of", np.array(ACCURACIES), {"long_name": "split"} | name),
            "event": ("event", np.array(EVENTS), {"long_name": "event"} | name),
            "event_value": ("event_value", np.array(EVENT_VALUES), {"long_name": "value"} | name),
            "rule": ("rule", np.array(["delay", "fixed gap"]), {"long_name": "rule of the verdict"} | name),
            "kind": ("kind", np.array(grokking.VERDICTS), {"long_name": "kind of run"} | name),
            "boundary": ("boundary", np.array(BOUNDARIES), {"long_name": "boundary"} | name),
            "boundary_value": ("boundary_value", np.array(["step", "low", "high"]), {"long_name": "value"} | name),
            "signal": ("signal", np.array(SIGNALS), {"long_name": "signal"} | name),
        },
        attrs={
            "chance_loss": chance,
            "evidence": json.dumps(evidence),
            "times": json.dumps(told.times),
            "delay": json.dumps([grokking.whole(bound) for bound in told.delay]),
            "mirrors_included": 0,
            "loss_axis": "cross-entropy (nats)",
        },
    )


def _evidence(loss: np.ndarray, accuracy: np.ndarray) -> str:
    if not np.isnan(accuracy).all():
        return "accuracy"
    return "none" if np.isnan(loss).all() else "loss"


def _boundaries(steps: np.ndarray, signals: dict[str, np.ndarray], generalized: float) -> tuple[np.ndarray, np.ndarray]:
    """Step and interval of each boundary, [boundary, 3], and the steps of the single signals, [signal, boundary]; NaN
    where unknown."""
    boundary = np.full((len(BOUNDARIES), 3), np.nan)
    single = np.full((len(SIGNALS), len(BOUNDARIES)), np.nan)
    if not generalized > steps[0]:
        return boundary, single
    rising = {name: kinks(steps, values, 2, float(steps[0]), generalized) for name, values in signals.items()}
    for index, find in enumerate((_turn, _steepening, _leveling)):
        found = {}
        for name, direction in _BENDS[index].items():
            bends = rising[name]
            if index == 2:
                bends = (
                    kinks(steps, signals[name], 1, float(boundary[1, 0]), 3 * generalized)
                    if np.isfinite(boundary[1, 0])
                    else None
                )
            at = find(bends, direction) if bends is not None else None
            if bends is not None and at is not None and not (index == 1 and bends.positions[at] <= boundary[0, 0]):
                found[name] = (bends.positions[at], *bends.intervals[at])
        if len(found) >= FEWEST_SIGNALS:
            for name, (position, _, _) in found.items():
                single[SIGNALS.index(name), index] = position
            position, low, high = zip(*found.values(), strict=True)
            boundary[index] = np.median(position), min(*position, np.median(low)), max(*position, np.median(high))
    return boundary, single


def _turn(bends: Kinks, direction: int) -> int | None:
    """The first kink at which a curve turns up (1) or down (−1)."""
    return next(
        (i for i in range(len(bends.positions)) if bends.slopes[i] * direction < 0 < bends.slopes[i + 1] * direction),
        None,
    )


def _steepening(bends: Kinks, direction: int) -> int | None:
    """The kink from which on the curve rises (1) or falls (−1) faster than before, by most; one at which it only turns
    that way where there is no other."""
    before, after = bends.slopes[:-1] * direction, bends.slopes[1:] * direction
    faster = np.flatnonzero(after > np.maximum(before, 0))
    goes_on = faster[before[faster] >= 0]
    some = goes_on if len(goes_on) else faster
    return int(some[(after - before)[some].argmax()]) if len(some) else None


def _leveling(bends: Kinks, direction: int) -> int | None:
    """The only kink, if the curve rises (1) or falls (−1) before it and then has less than half that slope."""
    if not len(bends.positions):
        return None
    before, after = bends.slopes * direction
    return 0 if before > 2 * abs(after) else None


def _checked_steps(steps: ArrayLike) -> np.ndarray:
    values = _checked("steps", steps, None)
    if not len(values):
        raise InputError("steps is empty; curves need at least one step")
    if not ((values == np.round(values)).all() and np.abs(values).max() < 2**31):
        raise InputError("steps must be whole numbers below 2³¹, without gaps of NaN")
    backward = np.flatnonzero(np.diff(values) <= 0)
    if len(backward):
        at = backward[0]
        raise InputError(
            f"steps must ascend; {values[at + 1]:.0f} follows {values[at]:.0f}. Sort the curves, and keep one "
            "value for each step"
        )
    return values.astype(np.int32)


def _checked(name: str, values: ArrayLike, length: int | None) -> np.ndarray:
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be numbers, NaN where unknown") from None
    if array.ndim != 1:
        raise InputError(f"{name} must be one-dimensional, got shape {list(array.shape)}")
    if length is not None and len(array) != length:
        raise InputError(f"{name} has {len(array)} values, steps has {length}; give NaN where a value is unknown")
    if name.endswith("loss") and (array < 0).any():
        raise InputError(f"{name} has a negative value, {np.nanmin(array):g}; a cross-entropy has none")
    if name.endswith("accuracy") and ((array < 0) | (array > 1)).any():
        raise InputError(
            f"{name} must lie between 0 and 1, got {array[(array < 0) | (array > 1)][0]:g}; divide percents by 100"
        )
    return array


def _log(losses: np.ndarray) -> np.ndarray:
    """The logarithm of losses, which in float64 can be 0; an infinite one is as good as unknown."""
    return np.log(np.where(np.isfinite(losses), np.maximum(losses, 1e-16), np.nan))


def _verdict(result: xr.Dataset, rule: str) -> str:
    return str(result.kind.values[result.verdict.sel(rule=rule).values.astype(bool)][0])
