"""Gradient spectrum. Is the gradient slow or fast, and does its slow part generalize while its fast part memorizes?

Of a run that was trained with `interp train --observe gradients`. A sketch of the gradient of every step
(`interp.mathematics.sketch`) gives, for each tensor, the power spectrum of windows of 256 steps, and the slow share

    S_t = ‖μ_t‖² / EMA_α(‖g‖²),   μ = EMA_α(g),   α = 0.98: 1 for a constant gradient, (1−α)/(1+α) for noise

(`interp.mathematics.gradient_spectrum`). "Slow = generalization, fast = overfitting" is then a hypothesis: over the
plateau, from where that of `circuit_forces` begins until the rule carries the training pairs, a descent along the slow
part, −μ, points more to where the rule C grows than one along the fast part, −(g − μ), does, and the fast part more to
where memory M grows:

    cos(−μ, ∇C) − cos(−(g−μ), ∇C) > 0   and   cos(−(g−μ), ∇M) − cos(−μ, ∇M) > 0

with 95 % intervals over blocks of 100 steps and over the combinations of the sketch, and against the same of gradients
that are permuted in time, with random signs. Confirmed: both; not confirmed: one is surely the other way; otherwise not
shown.

It cannot tell that slow components *are* generalization: C and M are two directions of very many, cosines say nothing
of sizes, and what oscillates points nowhere on average. What training would do without one of the parts only training
can tell.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from interp.errors import InputError, check_number
from interp.figures import NEUTRAL, PALETTE, as_count, new_panels, threshold_line
from interp.mathematics import account, frequency_response
from interp.mathematics import gradient_spectrum as spectrum
from interp.mathematics.gradient_spectrum import NOT_TOLD, Hypothesis
from interp.mathematics.sketch import COMBINATIONS, Sketch
from interp.models import are_finite, weight_shapes
from interp.runs import CircuitDerivatives, observed_gradients

if TYPE_CHECKING:
    from interp.runs import Run

REFERENCE = "Lee et al. 2024, arXiv:2405.20233 (Grokfast); the test of the hypothesis is ours"
NEEDS = ("circuit_forces",)
OBSERVES = ("gradients",)
PLACE = 4
SCALES = {}
ON = ("circuit", "memorizing")
PARTS = ("slow", "fast")
BOUNDS = ("value", "low", "high")
ESTIMATES = ("value", "low", "high", "null_low", "null_high")
MOST_SHARES, MOST_CHECKPOINTS = 600, 80  # along time
LEAST, CLEAR = 0.5, 4  # logits, standard errors: as a frequency stands out (`interp.mathematics.account`)
STRENGTH = 2.0  # of the filter that is drawn


def compute(
    run: "Run",
    *,
    memory: float = spectrum.MEMORY,
    two_sided: bool = False,
    seed: int = 0,
    progress: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps,
) -> xr.Dataset:
    """`power` [time, frequency, tensor] of the gradient in each window; `slow_share` [observed, tensor, bound] with its
    interval over the combinations, and the median of what is left of it when gradients are `permuted` in time [tensor];
    at some checkpoints (at most 80, and 80 of the plateau) the `cosine` [step, on, part] of a descent along the slow
    and the fast part with the derivative of C and of M, and its `cosine_error` over the combinations; and over the
    plateau the `difference` [on, estimate] of which the hypothesis is told. NaN where the attribute `why` says why.
    `two_sided`: for the cosines μ is a mean over steps before and after, which does not lag; that of the published
    filter is of steps before.

    Raises InputError, with the command, for a run whose gradients were not observed, and for fewer than 256 steps.

    >>> from tempfile import TemporaryDirectory
    >>> from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
    >>> from interp.sweeps import run_experiment
    >>> small = ModelConfig(d_model=8, n_heads=2, d_mlp=8)
    >>> experiment = Experiment(Task(7), small, TrainingConfig(steps=300, checkpoint_every=100))
    >>> with TemporaryDirectory() as folder:
    ...     result = compute(run_experiment(experiment, f"{folder}/run", observe="gradients"))
    >>> result.sizes["tensor"], summary(result)["verdict"]
    (11, 'not shown')
    """
    check_number("memory", memory, 0.5, 0.9999)
    observed = observed_gradients(run)
    rows, n_tensors = observed.rows, len(observed.tensors)
    if len(rows) < spectrum.WINDOW:
        raise InputError(
            f"a spectrum needs {spectrum.WINDOW} observed steps, and {run.path} has {len(rows)}; train for longer"
        )
    spectra = [spectrum.spectrogram(rows[:, tensor]) for tensor in range(n_tensors)]
    steps = [step for step in run.steps if 0 <= step < len(rows)]
    while steps and not are_finite(run[steps[-1]].weights):
        steps = steps[:-1]
    forces = run.result("circuit_forces")
    named, known_from, plateau = _told(forces)
    first, last = plateau or (0, len(rows) - 1)
    steps = sorted({*_some(steps), *_some([step for step in steps if first <= step <= last])})
    is_named = np.zeros(run.task.coordinates.order // 2, dtype=bool)
    is_named[np.array(named, dtype=int) - 1] = True
    slopes = _slopes(run, steps, is_named, progress)
    slow = spectrum.slow_part_at(rows, np.array(steps, dtype=int), memory, two_sided=two_sided)
    cosines = {
        (on, part): spectrum.alignment(-vector, slopes[:, place])
        for place, on in enumerate(ON)
        for part, vector in zip(PARTS, (slow, rows[steps] - slow), strict=True)
    }
    window, why = _window(forces, known_from, plateau, np.array(steps))
    hypothesis = Hypothesis(NOT_TOLD, NOT_TOLD)
    if not why:
        inside = np.array(steps)[window]
        of = slopes[window].swapaxes(0, 1)
        hypothesis = spectrum.hypothesis_of(rows, inside, *of, memory=memory, two_sided=two_sided, seed=seed)
        if math.isnan(hypothesis.rule.value):
            why = (
                f"the plateau has checkpoints in fewer than {spectrum.FEWEST_BLOCKS} blocks of "
                f"{math.ceil(2 / (1 - memory))} steps"
            )
    by_chance = [_permuted_share(rows[first : last + 1, tensor], memory, seed) for tensor in range(n_tensors)]
    shown = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST_SHARES)).round().astype(int))
    shares = [np.stack(spectrum.slow_share(rows[:, tensor], memory, shown), axis=-1) for tensor in range(n_tensors)]

    def table(which: int) -> Float[np.ndarray, "step on part"]:
        return np.stack([np.stack([cosines[on, part][which] for part in PARTS], -1) for on in ON], 1)

    return xr.Dataset(
        {
            "power": (
                ("time", "frequency", "tensor"),
                np.stack([one.power for one in spectra], axis=-1),
                {"long_name": "power of the gradient", "units": "per cycle/step"},
            ),
            "slow_share": (
                ("observed", "tensor", "bound"),
                np.stack(shares, axis=1),
                {"long_name": "slow share S", "units": "1"},
            ),
            "permuted": (
                "tensor",
                np.array(by_chance),
                {"long_name": "median slow share of permuted gradients", "units": "1"},
            ),
            "cosine": (("step", "on", "part"), table(0), {"long_name": "cosine", "units": "1"}),
            "cosine_error": (("step", "on", "part"), table(1), {"long_name": "error of the cosine", "units": "1"}),
            "difference": (
                ("on", "estimate"),
                np.array(hypothesis),
                {"long_name": "difference of cosines that the hypothesis says is positive", "units": "1"},
            ),
        },
        coords={
            "time": _labels("time", spectra[0].time, "middle of the window", "updates"),
            "frequency": _labels("frequency", spectra[0].frequency, "frequency", "cycles per step"),
            "tensor": _labels("tensor", np.array(observed.tensors), "tensor", "name"),
            "observed": _labels("observed", shown.astype(np.int32), "step", "updates"),
            "bound": _labels("bound", np.array(BOUNDS), "value and 95 % interval", "name"),
            "step": _labels("step", np.array(steps, dtype=np.int32), "step", "updates"),
            "on": _labels("on", np.array(ON), "strength", "name"),
            "part": _labels("part", np.array(PARTS), "part of the gradient", "name"),
            "estimate": _labels("estimate", np.array(ESTIMATES), "estimate", "name"),
        },
        attrs={
            "memory": memory,
            "plateau": json.dumps(plateau and dict(zip(("from", "to"), plateau, strict=True))),
            "named": json.dumps(named),
            "why": why,
        },
    )


def _permuted_share(rows: Float[np.ndarray, "step k"], memory: float, seed: int) -> float:
    """The median slow share of the rows permuted in time, after a quarter of them: a mean of few is not slow."""
    by_chance = spectrum.slow_share(spectrum.permuted(rows, np.random.default_rng(seed)), memory).value
    return float(np.median(by_chance[len(by_chance) // 4 :]))


def _some(steps: list[int]) -> list[int]:
    """At most MOST_CHECKPOINTS of them, evenly spaced."""
    chosen = np.linspace(0, len(steps) - 1, min(len(steps), MOST_CHECKPOINTS)).round().astype(int)
    return [steps[place] for place in chosen]


def _labels(dimension: str, values: np.ndarray, long_name: str, units: str) -> tuple[str, np.ndarray, dict[str, str]]:
    return dimension, values, {"long_name": long_name, "units": units}


def _slopes(
    run: "Run",
    steps: list[int],
    is_named: Bool[np.ndarray, " K"],
    progress: Callable[[Sequence[int]], Iterable[int]],
) -> Float[np.ndarray, "step on tensor k"]:
    """The sketches of ∇C and ∇M at these checkpoints; NaN where they are not told."""
    asked, sketch = CircuitDerivatives(run.task), Sketch(weight_shapes(run.model, run.task.sizes))
    found = np.full((len(steps), len(ON), len(sketch.names), COMBINATIONS), np.nan)
    for row, step in zip(found, progress(steps), strict=True):
        for on, slope in asked.slopes(run[step], is_named).items():
            row[ON.index(on)] = sketch({name: values.numpy() for name, values in slope.items()})
    return found


def _told(forces: xr.Dataset) -> tuple[list[int], int | None, tuple[int, int] | None]:
    """The frequencies of C, the step from which on the training pairs were known, and the plateau: from where that
    of `circuit_forces` begins until the generalizing part carries the training pairs, or to the end."""
    of, known_from = forces.sel(strength="memorizing"), int(forces.attrs["known_from"])
    decay, loss = (of.force.sel(cause=cause).values for cause in ("decay", "loss"))
    unknown = np.full(len(decay), np.nan)  # which the plateau does not ask for
    found = account.Account.of(
        known_from if known_from >= 0 else None,
        forces.step.values,
        forces.exposure.values,
        account.Pushed(of.value.values, of.standard_error.values, decay, loss, *[unknown] * 2, *[unknown[:, None]] * 2),
        forces.loss_alone.values,
        guess=float(forces.attrs["guess"]),
    )
    plateau, carried = found.plateau, found.carried_from
    if plateau is not None and carried is not None and carried > plateau[0]:
        plateau = plateau[0], carried  # that of `circuit_forces` ends before, where memory begins to be worn down
    return json.loads(forces.attrs["named"]), found.known_from, plateau


def _window(
    forces: xr.Dataset, known_from: int | None, plateau: tuple[int, int] | None, steps: Int[np.ndarray, " step"]
) -> tuple[Bool[np.ndarray, " step"], str]:
    """Which checkpoints lie in the plateau, and why nothing is told of them, or ""."""
    if plateau is None:
        nothing = "the training pairs are never known" if known_from is None else "it has no length"
        return np.zeros(len(steps), dtype=bool), f"there is no plateau: {nothing}"
    window = (steps >= plateau[0]) & (steps <= plateau[1])
    if not window.any():
        return window, "no checkpoint of the plateau was observed"
    for name, what in (("circuit", "rule C"), ("memorizing", "memory M")):
        at = {"step": int(steps[window][-1]), "strength": name}
        value, error = float(forces.value.sel(at)), float(forces.standard_error.sel(at))
        if not value > max(LEAST, CLEAR * error):
            return window, f"the {what} is not there at the end of the plateau: {value:.2g} ± {error:.1g} logits"
    return window, ""


# ---- what is said of it ----------------------------------------------------------------------------------------------


def hypothesis_of(result: xr.Dataset) -> Hypothesis:
    """The hypothesis as a result has it."""
    return Hypothesis(*(spectrum.Difference(*map(float, row)) for row in result.difference.values))


def summary(result: xr.Dataset) -> dict:
    """The `verdict` on "slow = generalization, fast = overfitting" (confirmed, not confirmed, not shown; then `why`),
    its two differences of cosines with 95 % intervals and those by chance, the mean cosines over the plateau, and the
    share of the squared length of each part that lies along each derivative (cos², less its error²); and the median
    slow share of every tensor over the plateau, or over all steps where there is none, beside its `null`."""
    told, plateau = hypothesis_of(result), json.loads(result.attrs["plateau"])
    first, last = (plateau["from"], plateau["to"]) if plateau else (0, int(result.observed[-1]))
    at = result.sel(step=slice(first, last))
    share = result.slow_share.sel(bound="value").sel(observed=slice(first, last))
    squared = at.cosine**2 - at.cosine_error**2
    return {
        "verdict": told.verdict,
        "why": result.attrs["why"] or None,
        "plateau": plateau,
        "checkpoints": at.sizes["step"],
        "rule": told.rule._asdict(),
        "memory": told.memory._asdict(),
        "cosine": _over(at.cosine),
        "along": _over(squared),
        "slow_share": _by_tensor(share.median("observed")),
        "permuted_share": _by_tensor(result.permuted),
        "null_share": spectrum.null_share(result.attrs["memory"]),
    }


def in_words(summary: Mapping[str, Any]) -> list[str]:
    """A summary for a person, without what is not known.

    >>> told = {"value": 0.3, "low": 0.2, "high": 0.4, "null_low": -0.1, "null_high": 0.1}
    >>> unknown = {"slow": None, "fast": None}
    >>> shares = {"embed.W_E": 0.4, "mlp.W_in": 0.009}
    >>> on = {"circuit": {"slow": 0.4, "fast": 0.1}, "memorizing": unknown}
    >>> summary = {"verdict": "not shown", "why": None, "plateau": {"from": 100, "to": 900}, "checkpoints": 9}
    >>> summary |= {"rule": told, "memory": dict.fromkeys(told), "cosine": on, "along": on, "slow_share": shares}
    >>> for line in in_words(summary | {"permuted_share": shares, "null_share": 0.01}):
    ...     print(line)
    slow = generalization, fast = overfitting: not shown
    plateau: steps 100 to 900, 9 checkpoints
    the rule: cos slow − fast 0.3, 95 % 0.2 to 0.4 (by chance -0.1 to 0.1)
    mean cosines with the rule: slow 0.4, fast 0.1
    slow share of the gradient, over the plateau (noise: 0.01): embed.W_E 0.4
    at or below the noise line: mlp.W_in
    """
    plateau, why = summary["plateau"], summary["why"]
    lines = [f"slow = generalization, fast = overfitting: {summary['verdict']}{f', because {why}' if why else ''}"]
    if plateau:
        span = f"steps {plateau['from']:,} to {plateau['to']:,}"
        lines.append(f"plateau: {span}, {as_count(summary['checkpoints'], 'checkpoint')}")
    for name, more, less in (("rule", "slow", "fast"), ("memory", "fast", "slow")):
        if (of := summary[name])["value"] is not None:
            by_chance = f"by chance {of['null_low']:.2g} to {of['null_high']:.2g}"
            value = f"{of['value']:.2g}, 95 % {of['low']:.2g} to {of['high']:.2g} ({by_chance})"
            lines.append(f"{'the rule' if name == 'rule' else name}: cos {more} − {less} {value}")
    for on, name in zip(ON, ("the rule", "memory"), strict=True):
        of = summary["cosine"][on]
        if None not in of.values():
            lines.append(f"mean cosines with {name}: {', '.join(f'{part} {of[part]:.2g}' for part in PARTS)}")
    shares = {name: share for name, share in summary["slow_share"].items() if share is not None}
    null = summary["null_share"]
    slow = sorted(((share, name) for name, share in shares.items() if share > null), reverse=True)
    where = "over the plateau" if plateau else "over all steps"
    told = ", ".join(f"{name} {share:.2g}" for share, name in slow) or "none above it"
    lines.append(f"slow share of the gradient, {where} (noise: {null:.2g}): {told}")
    if below := [name for name, share in shares.items() if share <= null]:
        lines.append(f"at or below the noise line: {', '.join(below)}")
    if silent := [name for name, share in summary["slow_share"].items() if share is None]:
        lines.append(f"without any gradient: {', '.join(silent)}")
    return lines


def _over(values: xr.DataArray) -> dict[str, dict[str, float]]:
    mean = values.mean("step") if values.sizes["step"] else values.sum("step") * math.nan
    return {on: {part: float(mean.sel(on=on, part=part)) for part in PARTS} for on in ON}


def _by_tensor(values: xr.DataArray) -> dict[str, float]:
    return dict(zip(map(str, values.tensor.values), values.values.tolist(), strict=True))


def plot(result: xr.Dataset):
    """For every tensor its spectrogram, with |H| of Grokfast's filter beside it, and its slow share; at the end the
    cosines of the slow and the fast part with the derivatives of C and of M."""
    tensors, plateau = [str(name) for name in result.tensor.values], json.loads(result.attrs["plateau"])
    titles = [title for name in tensors for title in (f"{name}: power (log₁₀)", "|H|", f"{name}: slow share")]
    titles += ["The rule: cos with ∇C", "", "Memory: cos with ∇M"]
    figure = new_panels(
        "Gradient spectrum",
        titles,
        columns=3,
        reference=REFERENCE,
        row_height=190,
        column_widths=[0.48, 0.08, 0.44],
        horizontal_spacing=0.05,
        vertical_spacing=0.03,
    )
    frequency = result.frequency.values[1:]
    with np.errstate(divide="ignore"):
        power = np.log10(result.power.values[:, 1:])
    gain = np.abs(frequency_response.of_average(2 * np.pi * frequency, STRENGTH, result.attrs["memory"]))
    observed, null = result.observed.values, spectrum.null_share(result.attrs["memory"])
    for place, _ in enumerate(tensors):
        row, values = place + 1, power[:, :, place].T
        known = values[np.isfinite(values)]
        low_end, top = np.quantile(known, [0.02, 1]) if len(known) else (-1.0, 0.0)
        figure.add_heatmap(
            x=result.time.values,
            y=frequency,
            z=np.where(np.isfinite(values), values, low_end),
            zmin=low_end,
            zmax=top,
            colorscale="Viridis",
            showscale=False,
            row=row,
            col=1,
        )
        look = {"mode": "lines", "showlegend": False, "row": row}
        figure.add_scatter(x=gain, y=frequency, line={"color": "#222"}, col=2, **look)
        value, low, high = (result.slow_share.sel(bound=bound).values[:, place] for bound in BOUNDS)
        band = {"line": {"width": 0}, "col": 3, "hoverinfo": "skip"}
        figure.add_scatter(x=observed, y=high, **band, **look)
        figure.add_scatter(x=observed, y=low, fill="tonexty", fillcolor="rgba(120,120,120,0.25)", **band, **look)
        figure.add_scatter(x=observed, y=value, line={"color": PALETTE[0]}, col=3, **look)
        threshold_line(figure, null, row, 3)
        figure.update_yaxes(type="log", row=row, col=1, title_text="cycles per step")
        figure.update_yaxes(type="log", row=row, col=2, showticklabels=False)
        figure.update_yaxes(range=[0, 1], row=row, col=3)
    last = len(tensors) + 1
    for on, column in zip(ON, (1, 3), strict=True):
        for part, color in zip(PARTS, (PALETTE[0], PALETTE[1]), strict=True):
            of = result.sel(on=on, part=part)
            figure.add_scatter(
                x=result.step.values,
                y=of.cosine.values,
                error_y={"array": 2 * of.cosine_error.values, "thickness": 0.6, "width": 0},
                mode="lines",
                name=part,
                legendgroup=part,
                showlegend=column == 1,
                line={"color": color},
                row=last,
                col=column,
            )
        threshold_line(figure, 0, last, column)
        if plateau:
            figure.add_vrect(
                x0=plateau["from"],
                x1=plateau["to"],
                fillcolor=NEUTRAL,
                opacity=0.15,
                line_width=0,
                row=last,
                col=column,
            )
        figure.update_xaxes(title_text="step (updates)", row=last, col=column)
    figure.update_xaxes(range=[0, int(observed[-1])], col=1)
    figure.update_xaxes(range=[0, int(observed[-1])], col=3)
    return figure
