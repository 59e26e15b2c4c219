"""Circuit forces. How hard does the loss push each circuit up, and how hard does weight decay pull it down?

Decoupled weight decay and the loss each have their part in every update, Δw = D + R, so the change of a strength S(w)
between two checkpoints is, to first order exactly,

    ΔS = decay + loss + residual,   decay = ḡ·D,   loss = ḡ·R,   ḡ = ½ (∇S(w₀) + ∇S(w₁))

(`interp.mathematics.forces`), for the strengths of `interp.mathematics.strengths`: G of the generalizing and M of the
memorizing circuit, every α_k, and C, that of the few frequencies that stood out most when the training pairs were first
known: chosen before, so that no hindsight makes it grow. r = loss/|decay| above 1: it grows; at 1: it rests; below 1:
it is worn down. No split of the weights is needed, and no gradient that training would have to keep.

Refused (NaN) where the residual is above a fiftieth of |decay| + |loss|: more frequent checkpoints would do. Unknown
are decay and loss of imported runs (no learning rate, no weight decay); of "adam" and "rmsprop", which mix both; and of
runs with a penalty, a held norm or a weight decay for each group of weights (`training.regularizers`,
`training.decay`). With weight decay 0 there is no decay, and no r.

Of a run with a gradient filter (`training.filter`) the part of the loss is what the optimizer made of filtered
gradients, which those of past steps, and the weights, are part of; decay is none of it.

It cannot tell why the loss pushes as it does, nor what a circuit would do without the other; and where weights are
rescaled by a norm layer, what decay does to them changes no logit.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float

from interp.errors import InputError, check_integer
from interp.experiment import Task, TrainingConfig
from interp.figures import NEUTRAL, PALETTE, color_of_frequency, new_panels, threshold_line
from interp.mathematics import account, strengths
from interp.mathematics import forces as mechanics
from interp.mathematics.forces import Derivatives, Forces
from interp.mathematics.held_out import FOLDS
from interp.models import are_finite, weight_shapes
from interp.runs import BY_TENSOR, Checkpoint, CircuitDerivatives, Moment

if TYPE_CHECKING:
    from interp.runs import Run

REFERENCE = "ours; strengths after Varma et al. 2023, arXiv:2309.02390, §3"
CORE = True
PLACE = 3
SCALES = {}
CIRCUITS = ("generalizing", "memorizing", "circuit")
CAUSES = ("decay", "loss", "residual")
MOST_THREADS = 4
MOST_DRAWN = 8
FEW = 5  # intervals: their points are drawn


def compute(
    run: "Run",
    *,
    frequencies: list[int] | None = None,
    n_named: int = strengths.N_NAMED,
    progress: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps,
) -> xr.Dataset:
    """At each checkpoint the `value` of every strength (G, M, C, each α_k; in logits), its `standard_error` and its
    `scaling` w·∇S [step, strength], and `loss_alone` [step, part], the cross-entropy on training pairs of the
    generalizing and of the memorizing part of the logits alone; over each interval between two checkpoints `force`
    [interval, strength, cause] (decay, loss, residual; refused decay and loss are NaN) and `force_error` (signed);
    of M and C, `on`, also what goes through each tensor (`tensor_force` [interval, on, cause, tensor]) and what is
    told without a fifth of the held-out pairs (`force_without_fold`). An interval is named by its last step;
    `start` is its first, `exposure` c₀ + c₁ over it, which without momentum is Σ lr·wd.

    C is of the `frequencies`, or of the `n_named` that stood out most (at most a third of all) at the first checkpoint
    that knew 99 % of the training pairs, and NaN before it (the attributes `named` and `known_from`). Raises
    InputError for a frequency outside 1 … K.

    >>> import interp
    >>> result = interp.open_run(interp.reference_path()).result("circuit_forces")
    >>> late = result.sel(interval=1100, strength="memorizing")
    >>> [round(float(late.force.sel(cause=cause)), 1) for cause in ("decay", "loss")]  # worn down, step 1,056 to 1,100
    [-2.8, 2.5]
    """
    check_integer("n_named", n_named, 1)
    steps = _finite(run)
    place = {step: index for index, step in enumerate(steps)}
    asked = CircuitDerivatives(run.task)
    known_from = next((step for step in steps if asked.knows_training_pairs(run[step])), None)
    is_named, told_from = _given(frequencies, run.task), steps[0]
    if not is_named.any() and known_from is not None:
        told_from = known_from
        is_named = strengths.named(asked.of(run[known_from], {}, is_named).derivatives.value[0, 2:], n_named)
    firsts = mechanics.pairs_of_intervals(len(steps) - 1)

    def moment(step: int) -> Moment:
        index = place[step]
        offsets = {-1: index > 0, 1: index + 1 < len(steps), -2: index - 2 in firsts, 2: index in firsts}
        others = {offset: run[steps[index + offset]].weights for offset, is_there in offsets.items() if is_there}
        return asked.of(run[step], others, is_named & (step >= told_from), on_tensors=True)

    with ThreadPoolExecutor(
        min(torch.get_num_threads(), MOST_THREADS), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        try:
            waiting = [pool.submit(moment, step) for step in steps]
            moments = [future.result() for future, _ in zip(waiting, progress(steps), strict=True)]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    named = [int(k) for k in np.flatnonzero(is_named) + 1]
    return _result(run, steps, moments, told_from, is_named).assign_attrs(
        known_from=-1 if known_from is None else known_from,
        named=json.dumps(named),
        guess=math.log(run.task.coordinates.order),
    )


def between(
    before: Checkpoint, after: Checkpoint, training: TrainingConfig | None, *, frequencies: list[int] | None = None
) -> Forces:
    """The forces on G, M, C and α_1 … α_K from one checkpoint to another in memory, without errors ([1, 3 + K]; see
    `compute`). Of the training its lr, weight decay, warm-up and optimizer are read; the `frequencies` of C are, if not
    given, those that stand out most before. Without a training decay and loss are unknown, NaN.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> found = between(run[500], run[526], run.training)
    >>> bool(found.used[0, 1]), round(float(found.loss[0, 1] / -found.decay[0, 1]), 2)  # memory: worn down
    (True, 0.98)
    """
    task, asked = before.task, CircuitDerivatives(before.task)
    if (after.task, after.model) != (task, before.model):
        raise InputError(f"the two checkpoints are of different runs: {task.title}, and {after.task.title}")
    check_integer("the step after", after.step, before.step + 1)
    named = _given(frequencies, task)
    first = asked.of(before, {1: after.weights}, named)
    if not frequencies:
        named = strengths.named(first.derivatives.value[0, 2:])
    moments = [first.derivatives, asked.of(after, {-1: before.weights}, named).derivatives]
    at = Derivatives(*(np.stack(values)[:, 0] for values in zip(*moments, strict=True)))
    found = mechanics.forces(at, [training and training.decay_coefficients(before.step, after.step)], [])
    sums = strengths.circuit_weights(at.value[:1, 2:], named)
    return Forces(*(_with_circuit(values, sums) for values in found))


# ---- the run ---------------------------------------------------------------------------------------------------------


def _finite(run: "Run") -> list[int]:
    """The steps before training diverged."""
    steps = run.steps
    while steps and not are_finite(run[steps[-1]].weights):
        steps = steps[:-1]
    if not steps:
        raise InputError(f"every checkpoint of {run.path} holds NaN or infinity: training diverged at once")
    return steps


def _given(frequencies: list[int] | None, task: Task) -> Bool[np.ndarray, " K"]:
    named = np.zeros(task.coordinates.order // 2, dtype=bool)
    if frequencies is not None and not (isinstance(frequencies, list) and frequencies):
        raise InputError(f"frequencies must be a list of some, or None for those that stand out, got {frequencies!r}")
    for frequency in frequencies or ():
        check_integer("frequencies", frequency, 1, len(named))
        named[frequency - 1] = True
    if named.any() and (others := len(named) - named.sum()) < strengths.FEWEST_OTHERS:
        raise InputError(
            f"frequencies leave {others} others to tell their level from; {strengths.FEWEST_OTHERS} are needed"
        )
    return named


def _result(
    run: "Run", steps: list[int], moments: list[Moment], told_from: int, is_named: Bool[np.ndarray, " K"]
) -> xr.Dataset:
    training = run.training
    every = [np.stack(values) for values in zip(*(moment.derivatives for moment in moments), strict=True)]
    coefficients, coarse = (
        [training and training.decay_coefficients(*span) for span in zip(steps, steps[apart:], strict=False)]
        for apart in (1, 2)
    )
    flat = mechanics.forces(Derivatives(*(values.reshape(len(steps), -1) for values in every)), coefficients, coarse)
    by_row = Forces(*(values.reshape(-1, *every[0].shape[1:]) for values in flat))
    at = Derivatives(*(values[:, 0] for values in every))
    # C is a sum of the others: over an interval the one that its first checkpoint makes it.
    sums = strengths.circuit_weights(at.value[:, 2:], is_named)
    sums[np.array(steps) < told_from] = np.nan
    found = mechanics.refused(Forces(*(_with_circuit(values[:, 0], sums[:-1]) for values in by_row)))
    without_fold = [
        np.stack([_with_circuit(values[:, row], sums[:-1])[:, 1:3] for row in range(1, 1 + FOLDS)], axis=-1)
        for values in (by_row.decay, by_row.loss)
    ]
    was_refused = np.isnan(found.loss[:, 1:3, None])
    exposure = [math.nan if c is None else sum(c) for c in coefficients]
    kind = {"units": "logits"}
    by_step, by_interval = ("step", "strength"), ("interval", "strength", "cause")
    errors = np.stack([moment.standard_errors for moment in moments])
    errors[~np.isfinite(sums).all(1), 2] = np.nan
    frequencies = np.arange(len(is_named) + 1)[1:]
    names = np.array([*CIRCUITS, *(f"k = {k}" for k in frequencies)])
    return xr.Dataset(
        {
            "value": (by_step, _with_circuit(at.value, sums), {"long_name": "strength"} | kind),
            "standard_error": (by_step, errors, {"long_name": "standard error of the strength"} | kind),
            "scaling": (by_step, _with_circuit(at.along_weights, sums), {"long_name": "w·∇S"} | kind),
            "loss_alone": (
                ("step", "part"),
                np.stack([moment.loss_alone for moment in moments]),
                {"long_name": "cross-entropy of the part alone, training pairs", "units": "nats"},
            ),
            "force": (
                by_interval,
                np.stack([found.decay, found.loss, found.residual], axis=-1),
                {"long_name": "what changed the strength over the interval"} | kind,
            ),
            "force_error": (
                by_interval,
                np.stack([found.decay_error, found.loss_error, np.full_like(found.loss, np.nan)], axis=-1),
                {"long_name": "error of the force"} | kind,
            ),
            "tensor_force": (
                ("interval", "on", "cause", "tensor"),
                mechanics.through_tensors(np.stack([moment.by_tensor for moment in moments]), coefficients),
                {"long_name": "what changed the strength through the tensor"} | kind,
            ),
            "force_without_fold": (
                ("interval", "on", "cause", "fold"),
                np.stack(
                    [*(np.where(was_refused, np.nan, values) for values in without_fold), 0 * without_fold[0] + np.nan],
                    axis=2,
                ),
                {"long_name": "the force, told without a fifth of the held-out pairs"} | kind,
            ),
        },
        coords={
            "step": _labels("step", np.array(steps, dtype=np.int32), "step", "updates"),
            "interval": _labels("interval", np.array(steps[1:], dtype=np.int32), "last step of it", "updates"),
            "start": _labels("interval", np.array(steps[:-1], dtype=np.int32), "first step of the interval", "updates"),
            "exposure": _labels("interval", np.array(exposure), "c₀ + c₁, without momentum Σ lr·wd", "1"),
            "strength": _labels("strength", names, "strength", "name"),
            "cause": _labels("cause", np.array(CAUSES), "cause", "name"),
            "part": _labels("part", np.array(CIRCUITS[:2]), "part", "name"),
            "on": _labels("on", np.array(BY_TENSOR), "strength", "name"),
            "fold": _labels("fold", np.arange(FOLDS, dtype=np.int32), "fold left out", "index"),
            "tensor": _labels("tensor", np.array(list(weight_shapes(run.model, run.task.sizes))), "tensor", "name"),
        },
    )


def _labels(dimension: str, values: np.ndarray, long_name: str, units: str) -> tuple[str, np.ndarray, dict[str, str]]:
    return dimension, values, {"long_name": long_name, "units": units}


def _with_circuit(values: Float[np.ndarray, "times strengths"], sums: Float[np.ndarray, "times K"]) -> np.ndarray:
    """With C = Σ_k sums_k α_k behind G and M."""
    return np.insert(values, 2, (values[:, 2:] * sums).sum(1) if sums.shape[1] else np.nan, axis=1)


# ---- what is said of it ----------------------------------------------------------------------------------------------


def summary(result: xr.Dataset) -> dict:
    """The account of the run (`interp.mathematics.account`): the first checkpoint that knew the training pairs
    (`known_from`) and the frequencies that C was `named` there; when memory rests (`rest`), and the `plateau` over
    which the growth ratios r of C and of M are told, with 95 % intervals over held-out pairs and the error of the
    forces, and their net rates Δ ln S / Σ lr·wd; the degree κ of both at its start; the steps from which on memory is
    worn down and the generalizing part carries; the share of each tensor in what the loss did to C until then
    (`pushed_through`); the `frequencies` that were born; and how many intervals after `known_from` were refused for M
    or C, and the spacing that would do. Null where unknown."""
    told = {name: pushed(result, name) for name in CIRCUITS}
    steps, interval = result.step.values, result.interval.values
    known_from = int(result.attrs["known_from"])
    found = account.Account.of(
        known_from if known_from >= 0 else None,
        steps,
        result.exposure.values,
        told["memorizing"],
        result.loss_alone.values,
        guess=float(result.attrs["guess"]),
    )
    within = found.within_plateau(result.start.values)
    ratios = {name: told[name].ratio_over(within) for name in ("circuit", "memorizing")}
    first = found.plateau[0] if found.plateau is not None else None
    degrees = {}
    for name in ("circuit", "memorizing"):
        of = result.sel(strength=name)
        kappa = mechanics.degree(of.value.values, of.standard_error.values, of.scaling.values)
        degrees[name] = float(kappa[np.flatnonzero(steps == first)[0]]) if first is not None else math.nan
    after = np.zeros(len(interval), dtype=bool) if found.known_from is None else result.start.values >= found.known_from
    n_refused, spacing = _refused(result, after)
    return {
        "step": int(steps[-1]),
        "known_from": found.known_from,
        "named": json.loads(result.attrs["named"]),
        "named_clearly": _clearly_named(result, found.known_from),
        "has_decay": bool(np.nansum(result.exposure.values) > 0) if np.isfinite(result.exposure.values).any() else None,
        "rest": _span(found.rest),
        "plateau": _span(found.plateau),
        "growth_ratio": {name: ratio.value for name, ratio in ratios.items()},
        "growth_ratio_interval_95": {name: [ratio.low, ratio.high] for name, ratio in ratios.items()},
        "growth_ratio_error": {name: ratio.error for name, ratio in ratios.items()},
        "net_rate": {name: told[name].net_rate_over(within, result.exposure.values) for name in ratios},
        "degree": degrees,
        "worn_from": found.worn_from,
        "carried_from": found.carried_from,
        "carried_losses": _at(result.loss_alone, found.carried_from),
        "strengths": {name: _ends(told[name].value, steps, found.plateau) for name in ("circuit", "memorizing")},
        "pushed_through": _shares_of_tensors(result, found),
        "frequencies": [life._asdict() for life in lives_of(result)],
        "intervals": int(after.sum()),
        "refused_intervals": n_refused,
        "spacing_that_would_do": spacing,
    }


def pushed(result: xr.Dataset, strength: str) -> account.Pushed:
    """One strength over the run, from a result of `compute`.

    >>> import interp
    >>> told = pushed(interp.open_run(interp.reference_path()).result("circuit_forces"), "memorizing")
    >>> len(told.value) - len(told.loss)
    1
    """
    of = result.sel(strength=strength)
    force, error = of.force.values, of.force_error.values
    folds = np.full((len(force), 2, FOLDS), np.nan)
    if strength in BY_TENSOR:
        folds = result.force_without_fold.sel(on=strength, cause=["decay", "loss"]).values
    return account.Pushed(of.value.values, of.standard_error.values, *force.T[:2], *error.T[:2], *folds.swapaxes(0, 1))


def net_change(result: xr.Dataset, strength: str) -> Float[np.ndarray, " interval"]:
    """What became of a strength over each interval: the sum of the forces, and where they are unknown the difference of
    its ends (of C they differ by the members of the level)."""
    of = result.sel(strength=strength)
    total, change = of.force.values.sum(-1), np.diff(of.value.values)
    return np.where(np.isfinite(total), total, change)


def lives_of(result: xr.Dataset) -> list[account.Life]:
    """The frequencies that were born, from a result of `compute`."""
    of = result.isel(strength=slice(len(CIRCUITS), None))
    loss, decay = (of.force.sel(cause=cause).values for cause in ("loss", "decay"))
    return account.lives(result.step.values, of.value.values, of.standard_error.values, loss, decay)


def _clearly_named(result: xr.Dataset, known_from: int | None) -> list[int]:
    """Those of the named frequencies that stood out clearly where they were named."""
    named = json.loads(result.attrs["named"])
    if known_from is None or not named:
        return []
    of = result.isel(strength=slice(len(CIRCUITS), None)).sel(step=known_from)
    in_set = np.isin(np.arange(1, of.sizes["strength"] + 1), named)
    return [int(k) + 1 for k in np.flatnonzero(account.stands_out(of.value.values, of.standard_error.values, in_set))]


def _at(values: xr.DataArray, step: int | None) -> list[float] | None:
    return None if step is None else values.sel(step=step).values.tolist()


def _ends(value: np.ndarray, steps: np.ndarray, window: tuple[int, int] | None) -> list[float] | None:
    return None if window is None else [float(value[steps == end][0]) for end in window]


def _span(window: tuple[int, int] | None) -> dict[str, int] | None:
    return None if window is None else {"from": window[0], "to": window[1]}


def _shares_of_tensors(result: xr.Dataset, found: account.Account) -> dict[str, float] | None:
    """The share of each tensor in what the loss did to C from where the training pairs are known until the generalizing
    part carries, largest first."""
    until = result.step.values[-1] if found.carried_from is None else found.carried_from
    if found.known_from is None:
        return None
    within = (result.start.values >= found.known_from) & (result.interval.values <= until)
    within &= np.isfinite(result.force.sel(strength="circuit", cause="loss").values)
    push = result.tensor_force.sel(on="circuit", cause="loss").values[within].sum(0)
    if not within.any() or not np.isfinite(push).all() or push.sum() <= 0:
        return None
    shares = dict(zip(map(str, result.tensor.values), (push / push.sum()).tolist(), strict=True))
    return dict(sorted(shares.items(), key=lambda share: -share[1]))


def _refused(result: xr.Dataset, after: Bool[np.ndarray, " interval"]) -> tuple[int, int | None]:
    """Over how many of these intervals the forces on M or C, where it is clear at both ends, were refused; and a
    spacing of checkpoints that would do: half of what the order of the residual says, as it is rarely so smooth."""
    of, exposure = result.sel(strength=["memorizing", "circuit"]), result.exposure.values[:, None]
    clear, residual = mechanics.is_clear(of.value.values, of.standard_error.values), of.force.values[..., 2]
    is_asked = after[:, None] & clear[:-1] & clear[1:] & np.isfinite(exposure)
    refused = is_asked & np.isnan(of.force.values[..., 1]) & np.isfinite(residual)
    if not refused.any():
        return 0, None
    change, scaling = np.diff(of.value.values, axis=0), of.scaling.values
    decay = -exposure * (scaling[:-1] + scaling[1:]) / 2
    found = Forces(change, decay, change - residual - decay, residual, residual, residual)
    updates = (result.interval.values - result.start.values).astype(float)
    enough = mechanics.spacing_that_would_do(found, updates)[refused]
    return int(refused.any(1).sum()), max(1, int(enough.min() / 2))


def plot(result: xr.Dataset):
    """For C and for M, per update: how hard the loss pushes up, how hard decay pulls down, and what comes of both; the
    growth ratios; and the α_k of the frequencies that were born."""
    import plotly.graph_objects as go

    panels = (
        "The rule (C): pushed by the loss, pulled by decay",
        "Memory (M): pushed by the loss, pulled by decay",
        "The rule: net change",
        "Memory: net change",
        "Growth ratio r: 1 is rest",
        "α_k of the frequencies that were born",
    )
    figure = new_panels("Circuit forces", panels, reference=REFERENCE, vertical_spacing=0.1)
    start, end = result.start.values, result.interval.values
    middle, updates = (start + end) / 2, end - start
    for column, name in enumerate(("circuit", "memorizing"), start=1):
        of = result.sel(strength=name)
        decay, loss = (of.force.sel(cause=cause).values / updates for cause in CAUSES[:2])
        for values, label, color in ((loss, "loss", PALETTE[2]), (decay, "decay", PALETTE[1])):
            look = {"marker": {"color": color, "line_width": 0}, "legendgroup": label, "showlegend": column == 1}
            figure.add_bar(x=middle, y=values, width=updates, name=label, **look, row=1, col=column)
        net = net_change(result, name) / updates
        figure.add_scatter(x=middle, y=net, name="net", line={"color": "#222"}, showlegend=False, row=2, col=column)
        threshold_line(figure, 0, row=1, column=column)
        threshold_line(figure, 0, row=2, column=column)
        label, color = ("r of the rule", "#222") if name == "circuit" else ("r of memory", NEUTRAL)
        figure.add_scatter(x=middle, y=pushed(result, name).ratio, name=label, line={"color": color}, row=3, col=1)
    threshold_line(figure, 1, row=3, column=1)
    told = np.concatenate([pushed(result, name).ratio for name in CIRCUITS[1:]])
    told = told[np.tile(start >= result.attrs["known_from"], 2) & np.isfinite(told)]
    if len(told):  # where the training pairs are first known, memory still grows by several times what decay takes
        ends = [max(min(0.95, told.min()) - 0.02, 0.5), min(max(1.05, told.max()) + 0.02, 1.3)]
        figure.update_yaxes(range=ends, row=3, col=1)
    highest = [life.frequency for life in sorted(lives_of(result), key=lambda life: -life.height)[:MOST_DRAWN]]
    for k in highest:
        trace = go.Scatter(x=result.step.values, y=result.value.sel(strength=f"k = {k}").values, name=f"k = {k}")
        trace.update(mode="lines", line_color=color_of_frequency(k, sorted(highest)))
        figure.add_trace(trace, row=3, col=2)
    figure.update_xaxes(title_text="step (updates)", title_standoff=4, range=[*result.step.values[[0, -1]].tolist()])
    figure.update_layout(barmode="overlay")
    figure.update_traces(mode="lines" if len(middle) > FEW else "lines+markers", selector={"type": "scatter"})
    figure.update_yaxes(exponentformat="power")
    figure.update_yaxes(title_text="logits per update", row=1)
    figure.update_yaxes(title_text="logits per update", row=2)
    figure.update_yaxes(title_text="loss / |decay|", row=3, col=1)
    figure.update_yaxes(title_text="α_k (logits)", row=3, col=2)
    return figure
