"""Slingshots. Does the training loss spike after memorization, does a norm grow before, and is rounding to blame?

Spikes of the logged training loss (the highest value since the line before counts), and how three norms went before and
after each, by the definitions of `interp.mathematics.slingshots`: a slingshot is a norm that grows, a spike, and the
norm at rest. The norms are those of `softmax_collapse`, at checkpoints: ‖W_L‖ of the last matrix, ‖W_G‖ of its mean
over the classes, ‖μ_G‖ of the mean feature that it reads. Two slingshots or more by one of the three, and more than
half of the spikes that can be decided, are

    slingshots (numerical)   where before each the zero-sum defect of the gradient that was trained on came above 0.1
                             and cos(W_G, μ_G) below −0.5, as a rounded gradient drives them
    slingshots (optimizer)   where the defect was below 0.01 throughout: the loss is exact
    slingshots               where it lies between, or is not known

and spikes without two cycles are spikes. Checkpoints must be as close as logged steps, about ten to a stretch of
growth: where they are fewer, whether a norm grew is unknown.

It cannot tell that a spike caused the generalization that it coincides with, and the defect is a cause only of the kind
that it measures: with an exact loss any instability of the optimizer is "optimizer" here. Labels that are smoothed and
losses that are no cross-entropy have a defect of another gradient, and get none here. Norms that wander by themselves,
as random walks do, make two such cycles of ten spikes now and then; more than half of them they do not.
"""

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from interp.figures import NEUTRAL, PALETTE, TEST, TRAIN, new_panels, percent_axis, power_of_ten_axis
from interp.mathematics import slingshots
from interp.mathematics.slingshots import Cause, Cycle
from interp.mathematics.spikes import Spike, settled_at, spikes

if TYPE_CHECKING:
    from interp.runs import Run

ASKS = "answers"
REFERENCE = "Thilak et al. 2022, arXiv:2206.04817, §2; Liu et al. 2026, arXiv:2605.06152; the numbers are ours"
NEEDS = ("learning_curves", "softmax_collapse")
SCALES = {}
NORMS = {
    "last_layer": "‖W_L‖, last matrix",
    "classifier_mean": "‖W_G‖, mean row",
    "feature_mean": "‖μ_G‖, mean feature",
}


def compute(run: "Run") -> xr.Dataset:
    """`train_loss`, `highest_train_loss` (since the line before), `train_accuracy`, `test_accuracy` [step]; `norm`
    [step, of], `zero_sum_defect`, `collapsed_share` and `cosine` [step], NaN where there is no checkpoint. The spikes
    and cycles are JSON, in the attribute `spikes`.

    >>> import interp
    >>> found = compute(interp.open_run(interp.reference_path()))
    >>> summary(found)["kind"], summary(found)["settled_at"]
    ('none', 300)
    """
    curves, measured = run.result("learning_curves"), run.result("softmax_collapse")
    steps = curves.step.values  # with every checkpoint among them
    measured = measured.reindex(step=steps)
    loss, accuracy = (curves[name].sel(split="train").values for name in ("loss", "accuracy"))
    highest, highest_at = curves.highest_train_loss.values, curves.highest_train_loss_step.values
    norms = np.stack([measured[f"{name}_norm"].values for name in NORMS], axis=1)
    precision = run.training.loss_precision if run.training is not None and run.training.loss_is_cross_entropy else None
    of_precision = measured.sel(precision=precision or "float64", drop=True)
    defect = of_precision.zero_sum_defect.values if precision else np.full(len(steps), np.nan)
    if run.training is not None and precision and (precision == "float64" or run.training.zero_sum):
        # The gradient that it was trained on sums to zero by its construction; that of torch in float64 would not.
        defect = np.where(np.isfinite(measured.cosine.values), 0.0, np.nan)

    known = np.isfinite(loss) & np.isfinite(accuracy)
    spiked = spikes(steps[known], loss[known], accuracy[known], highest[known], highest_at[known])
    settled = settled_at(steps[known], accuracy[known])
    by_norm = {
        name: slingshots.cycles(spiked, settled if settled is not None else 0, steps, norms[:, place])
        for place, name in enumerate(NORMS)
    }
    measures = {"defect": defect, "collapsed": of_precision.collapsed_share.values, "opposed": -measured.cosine.values}
    before = _before(spiked, settled, steps, measures)
    lowest = [None if one["opposed"] is None else -one["opposed"] for one in before]
    causes: list[Cause | None] = [
        slingshots.cause(one["defect"], cosine) for one, cosine in zip(before, lowest, strict=True)
    ]
    kind = slingshots.kind(spiked, by_norm, causes) if settled is not None else "unknown"
    told = [_told(spike, {name: by_norm[name][at] for name in NORMS}, before[at]) for at, spike in enumerate(spiked)]
    words = {"loss": curves.loss.attrs, "one": {"units": "1"}}
    return xr.Dataset(
        {
            "train_loss": ("step", loss, words["loss"] | {"long_name": "training loss"}),
            "highest_train_loss": ("step", highest, words["loss"] | {"long_name": "highest since the line before"}),
            "train_accuracy": ("step", accuracy, {"long_name": "training accuracy"} | words["one"]),
            "test_accuracy": (
                "step",
                curves.accuracy.sel(split="test").values,
                {"long_name": "test accuracy"} | words["one"],
            ),
            "norm": (("step", "of"), norms, {"long_name": "L2 norm"} | words["one"]),
            "zero_sum_defect": ("step", defect, {"long_name": "zero-sum defect of the gradient"} | words["one"]),
            "collapsed_share": (
                "step",
                of_precision.collapsed_share.values,
                {"long_name": "training samples whose loss is exactly 0"} | words["one"],
            ),
            "cosine": ("step", measured.cosine.values, {"long_name": "cosine of W_G and μ_G"} | words["one"]),
        },
        coords={
            "step": ("step", steps, {"long_name": "step", "units": "updates"}),
            "of": ("of", np.array(list(NORMS)), {"long_name": "norm", "units": "name"}),
        },
        attrs={
            "spikes": json.dumps(told),
            "kind": kind,
            "settled_at": -1 if settled is None else settled,
            "precision": precision or "",
            "has_highest": int(np.isfinite(highest).any()),
        },
    )


def _before(
    spiked: list[Spike], settled: int | None, steps: np.ndarray, values: dict[str, np.ndarray]
) -> list[dict[str, float | None]]:
    """The highest of each value in the stretch before every spike."""
    found, start = [], settled
    for spike in spiked:
        inside = (steps >= start) & (steps < spike.start)
        known = {name: of[inside & np.isfinite(of)] for name, of in values.items()}
        found.append({name: float(of.max()) if len(of) else None for name, of in known.items()})
        start = spike.end if spike.end is not None else spike.start
    return found


def _told(spike: Spike, by_norm: dict[str, Cycle], before: dict[str, float | None]) -> dict[str, Any]:
    told: dict[str, Any] = {
        **spike._asdict(),
        "defect_before": before["defect"],
        "collapsed_before": before["collapsed"],
    }
    told["growth"] = {name: cycle.growth.change if cycle.growth else None for name, cycle in by_norm.items()}
    told["rate"] = {name: cycle.growth.value if cycle.growth else None for name, cycle in by_norm.items()}
    told["is_slingshot"] = {name: cycle.is_slingshot for name, cycle in by_norm.items()}
    return told


def summary(result: xr.Dataset) -> dict:
    """`kind`; `settled_at`, from when spikes are looked for (None: it did not memorize); every spike: the logged steps
    at which it was first seen and was over, its highest loss and at which step, the lowest training accuracy, the
    highest zero-sum defect and share of collapsed samples in the stretch before it, and of every norm its relative
    growth before, the rate of it per step, and whether that makes a slingshot; `slingshots`, how many by the norm that
    makes most, and which norm that is; `period`, the median of the steps from one spike to the next; `cosine`, the last
    one. `has_highest`: whether the highest loss between logged steps is known; without it short spikes are not seen."""
    told = json.loads(result.attrs["spikes"])
    counts = {name: sum(spike["is_slingshot"][name] is True for spike in told) for name in NORMS}
    norm = max(counts, key=counts.__getitem__)
    settled, cosine = int(result.attrs["settled_at"]), result.cosine.values[np.isfinite(result.cosine.values)]
    return {
        "kind": result.attrs["kind"],
        "settled_at": None if settled < 0 else settled,
        "precision": result.attrs["precision"] or None,
        "has_highest": bool(result.attrs["has_highest"]),
        "spikes": told,
        "slingshots": counts[norm],
        "norm": norm if counts[norm] else None,
        "period": float(np.median(np.diff([spike["at"] for spike in told]))) if len(told) > 1 else None,
        "cosine": float(cosine[-1]) if len(cosine) else None,
        "last_step": int(result.step.values[-1]),
    }


def plot(result: xr.Dataset):
    """Four panels over the steps: the loss with the highest values between logged lines, the norms, the accuracies, and
    the share of collapsed samples, the zero-sum defect and the cosine; spikes as thin lines."""
    facts = summary(result)
    panels = ("Training loss", "Norms of the last layer", "Accuracy", "Rounding of the loss")
    figure = new_panels(_title(facts), panels, reference=REFERENCE, vertical_spacing=0.14)
    steps = result.step.values
    known = np.isfinite(result.train_loss.values)

    def draw(values: np.ndarray, row: int, col: int, **look: Any) -> None:
        told = np.isfinite(values) & (values > 0 if look.pop("positive", False) else True)
        mode = "lines" if told.sum() > 1 else "markers"
        figure.add_scatter(x=steps[told], y=values[told], mode=mode, row=row, col=col, **look)

    if facts["has_highest"]:
        top = np.where(known, np.fmax(result.train_loss.values, result.highest_train_loss.values), np.nan)
        draw(top, 1, 1, name="highest since the line before", line={"color": PALETTE[3], "width": 1}, positive=True)
    draw(result.train_loss.values, 1, 1, name="training loss", line={"color": TRAIN, "width": 1.6}, positive=True)
    for place, (name, label) in enumerate(NORMS.items()):
        values = result.norm.sel(of=name).values
        draw(values, 1, 2, name=label, line={"color": PALETTE[place], "width": 1.8}, legend="legend2", positive=True)
    draw(result.train_accuracy.values, 2, 1, name="train", line={"color": TRAIN, "width": 1.6}, legend="legend3")
    draw(result.test_accuracy.values, 2, 1, name="test", line={"color": TEST, "width": 1.6}, legend="legend3")
    rounding = {
        "collapsed_share": "samples whose loss is 0",
        "zero_sum_defect": "zero-sum defect",
        "cosine": "cos(W_G, μ_G)",
    }
    for place, (name, label) in enumerate(rounding.items()):
        draw(result[name].values, 2, 2, name=label, line={"color": PALETTE[place + 3], "width": 1.6}, legend="legend4")
    for spike in facts["spikes"]:
        figure.add_vline(x=spike["at"], line={"color": NEUTRAL, "width": 0.6})
    figure.update_xaxes(title_text="step (updates)")
    power_of_ten_axis(figure, row=1, col=1, title_text=_axis_of(result))
    power_of_ten_axis(figure, row=1, col=2, title_text="L2 norm")
    percent_axis(figure, row=2, col=1, title_text="accuracy")
    figure.update_yaxes(title_text="share, or cosine", range=[-1.05, 1.05], row=2, col=2)
    for name, (place, y) in {
        "": (panels[0], 1.0),
        "2": (panels[1], 0.78),
        "3": (panels[2], 0.46),
        "4": (panels[3], 0.28),
    }.items():
        figure.update_layout({f"legend{name}": {"title": {"text": place}, "y": y, "yanchor": "top", "x": 1.01}})
    return figure


def _title(facts: dict[str, Any]) -> str:
    n = len(facts["spikes"])
    if not facts["slingshots"] or facts["kind"] in ("spikes", "unknown"):
        return f"Slingshots: {facts['kind']}" + (f" ({n})" if n else "")
    return f"{facts['slingshots']} {facts['kind']}"


def _axis_of(result: xr.Dataset) -> str:
    units = result.train_loss.attrs.get("units", "")
    return f"loss ({units})" if units and units != "1" else "loss"
