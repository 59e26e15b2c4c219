"""Slingshots. Is it the rounding of the loss that makes a memorizing network's loss spike?

Trained by Adam without weight decay, a network that has memorized spikes again and again when its loss is computed in
float32 (Thilak et al. 2022). Liu et al. (2026) name a cause: in float32 the gradient at the right class rounds to zero
before those of the others do, the gradients of a sample no longer sum to zero, and the mean row of the classifier and
the mean feature drive each other up, until a gradient comes back that Adam makes a large step of. Then whatever keeps
the sums at zero, or the steps small, must end the spikes. Trained from the same weights on the same pairs:

    float32      loss in float32: spikes, that are slingshots and numerical (`interp.analyses.slingshots`)
    float64      loss in float64: no spikes
    zero-sum     loss in float32, its gradient made to sum to zero over the classes: no spikes
    eps          loss in float32, Adam's eps 1e-5 in place of 1e-8: no spikes
    sgd          loss in float32, SGD with momentum: no spikes

A prediction is confirmed when it holds with every seed, four or more of them: with fewer, all against none is no
difference that Fisher's exact test would call one at 5 %. Spikes are predicted at a pace, 8 in 6,000 steps; one spike
refutes that there are none. Where float32 does not spike there is nothing to take away: the others are not shown. Nor
are they where the loss did not come down to where float32 rounds it, with fewer than 10 % of the samples at a loss that
is 0 in float32 at the end: there the cause itself was missing.

It cannot tell that a network spikes for no other reason: with an exact loss optimizers have instabilities of their own.
Nor is a run that does not spike in the time given one that never will: how far its loss came down stands beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from interp.errors import check_integer, check_number
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.figures import PALETTE, new_panels, power_of_ten_axis
from interp.runs import Run
from interp.studies.design import Prediction, TableDesign, Verdict
from interp.sweeps import GridRun

TITLE = "Slingshots: the rounding of the loss"
REFERENCE = "Liu et al. 2026, arXiv:2605.06152; Thilak et al. 2022, arXiv:2206.04817"
CAPTION = "Each line is a seed. Left: the highest training loss since the logged step before. Right: cos(W_G, μ_G)."
SPIKES, WITHIN = 8, 6000
FEWEST_SEEDS = 4
LEAST_COLLAPSED = 0.1  # where float32 spikes it is a quarter and more
MEANINGS = {
    "float32": "a loss in float32 makes slingshots, and they are numerical",
    "float64": "a loss in float64 makes no spikes",
    "zero-sum": "a float32 loss whose gradient is made to sum to zero makes no spikes",
    "eps": "a float32 loss makes no spikes where Adam's eps is 1e-5",
    "sgd": "a float32 loss makes no spikes where SGD trains",
}


@dataclass(frozen=True, kw_only=True)
class SlingshotDesign(TableDesign):
    """The network that divides modulo p: an MLP of one-hot inputs, with biases."""

    p: int = 31
    """The modulus of a/b."""
    seeds: int = 4
    """Seeds 0 … N−1, each of split and initial weights."""
    steps: int = 6000
    """Steps of a run."""
    n_layers: int = 3
    """Hidden layers."""
    d_mlp: int = 128
    """Neurons of each."""
    lr: float = 1e-3
    """Adam's learning rate; SGD's is 0.5."""
    checkpoint_every: int = 10
    """Steps between checkpoints, at which the norms are measured: 110 MB a run at 10."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("steps", "n_layers", "d_mlp", "checkpoint_every"):
            check_integer(name, getattr(self, name), 1)
        check_number("lr", self.lr, 0, above=True)


DESIGN = SlingshotDesign()
FULL = SlingshotDesign(p=97, seeds=5, steps=100_000, n_layers=5, d_mlp=512, checkpoint_every=100)


def trainings(design: SlingshotDesign) -> dict[str, TrainingConfig]:
    """How each is trained, by the name of its prediction."""
    adam = TrainingConfig(
        steps=design.steps,
        optimizer="adam",
        lr=design.lr,
        betas=(0.9, 0.95),
        weight_decay=0.0,
        warmup=0,
        loss_precision="float32",
        log_every=min(10, design.checkpoint_every),
        checkpoint_every=design.checkpoint_every,
    )
    return {
        "float32": adam,
        "float64": replace(adam, loss_precision="float64"),
        "zero-sum": replace(adam, zero_sum=True),
        "eps": replace(adam, eps=1e-5),
        "sgd": replace(adam, optimizer="sgd", lr=0.5, momentum=0.9),
    }


def grid(design: SlingshotDesign, *, full: bool = False) -> list[GridRun]:
    """A run per training and seed."""
    runs = []
    for name, training in trainings(design).items():
        for seed in range(design.seeds):
            model = ModelConfig(
                family="mlp",
                inputs="concatenated",
                n_layers=design.n_layers,
                d_mlp=design.d_mlp,
                biases=True,
                initialization="uniform",
                seed=seed,
            )
            task = Task(design.p, "divide", 0.5, seed=seed)
            runs.append(GridRun(f"{name}-seed{seed}", Experiment(task, model, training)))
    return runs


def measure(runs: Mapping[str, Run], design: SlingshotDesign) -> xr.Dataset:
    """`highest_loss` [training, seed, step]; `cosine` [training, seed, step], NaN where there is no checkpoint;
    `spikes`, `slingshots`, `period` and `settled_at` [training, seed] (NaN: it did not memorize), `is_numerical`,
    `lowest_loss`, and `collapsed_share`, `feature_norm`, `classifier_norm`, `last_cosine` at the end."""
    from interp.analysis import find

    names, seeds = list(trainings(design)), range(design.seeds)
    first = runs[f"{names[0]}-seed0"]
    steps = first.metrics.step.values
    shape = len(names), design.seeds
    curves = {name: np.full((*shape, len(steps)), np.nan) for name in ("highest_loss", "cosine")}
    numbers = {name: np.full(shape, np.nan) for name in NUMBERS}
    for row, name in enumerate(names):
        for seed in seeds:
            run = runs[f"{name}-seed{seed}"]
            logged, measured = run.metrics, run.result("softmax_collapse").sel(precision="float32")
            result = run.result("slingshots")
            found = find("slingshots").module.summary(result)
            at = np.searchsorted(steps, logged.step.values)
            curves["highest_loss"][row, seed, at] = np.fmax(logged.train_loss.values, logged.train_loss_max.values)
            curves["cosine"][row, seed, np.searchsorted(steps, measured.step.values)] = measured.cosine.values
            told = {
                "settled_at": _or_nan(found["settled_at"]),
                "spikes": len(found["spikes"]),
                "slingshots": found["slingshots"],
                "is_numerical": found["kind"] == "slingshots (numerical)",
                "period": _or_nan(found["period"]),
                "lowest_loss": float(np.nanmin(logged.train_loss.values)),
                "collapsed_share": float(measured.collapsed_share[-1]),
                "classifier_norm": float(measured.classifier_mean_norm[-1]),
                "feature_norm": float(measured.feature_mean_norm[-1]),
                "last_cosine": float(measured.cosine[-1]),
            }
            for key, value in told.items():
                numbers[key][row, seed] = value
    of_runs = {name: (("training", "seed"), values, {"units": NUMBERS[name]}) for name, values in numbers.items()}
    of_steps = {name: (("training", "seed", "step"), values, {"units": "1"}) for name, values in curves.items()}
    return xr.Dataset(
        of_runs | of_steps,
        coords={
            "training": ("training", np.array(names), {"long_name": "training", "units": "name"}),
            "seed": ("seed", np.arange(design.seeds, dtype=np.int32), {"long_name": "seed", "units": "1"}),
            "step": ("step", steps, {"long_name": "step", "units": "updates"}),
        },
    )


NUMBERS = {
    "settled_at": "updates",
    "spikes": "1",
    "slingshots": "1",
    "is_numerical": "1",
    "period": "updates",
    "lowest_loss": "nats",
    "collapsed_share": "1",
    "classifier_norm": "1",
    "feature_norm": "1",
    "last_cosine": "1",
}


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else float(value)


def predictions(result: xr.Dataset) -> list[Prediction]:
    """A verdict on each way to train."""
    failed, told = failed_precondition(result), []
    n_seeds, last = result.sizes["seed"], int(result.step.values[-1])
    pace = SPIKES * last / WITHIN
    spiked = int((result.spikes.sel(training="float32") >= max(pace, 1)).sum())
    for name in result.training.values.tolist():
        of = result.sel(training=name)
        counts = of.spikes.values.astype(int).tolist()
        numbers: dict[str, Any] = {key: of[key].values.tolist() for key in NUMBERS} | {"steps": last}
        said = f"{_listed(counts)} spikes in {last:,} steps, loss down to {_listed(of.lowest_loss.values, '.1e')}"
        said += f", cos(W_G, μ_G) {_listed(of.last_cosine.values, '.2f')} at the end"
        verdict: Verdict
        if failed is not None:
            verdict, said = "not shown", failed
        elif name == "float32":
            holds = int(((of.spikes >= max(pace, 1)) & (of.is_numerical == 1)).sum())
            verdict = "confirmed" if holds == n_seeds else "not shown" if holds or spiked else "not confirmed"
            if verdict == "confirmed" and n_seeds < FEWEST_SEEDS:
                verdict, said = "not shown", f"{said}; {FEWEST_SEEDS} seeds are needed"
            said += f"; numerical slingshots with {holds} of {n_seeds} seeds"
        elif any(counts):
            verdict = "not confirmed"
        else:
            because = _why_not_shown(spiked, n_seeds, of.collapsed_share.values)
            verdict = "not shown" if because else "confirmed"
            said += because
        told.append(Prediction(name, MEANINGS[name], verdict, said, numbers))
    return told


def _why_not_shown(spiked: int, n_seeds: int, collapsed: np.ndarray) -> str:
    """Why no spikes say nothing, where they do: float32 has too few, or in float32 little would be rounded here too."""
    if spiked < n_seeds:
        return f"; but in float32 only {spiked} of {n_seeds} seeds spike as they should"
    if n_seeds < FEWEST_SEEDS:
        return f"; {FEWEST_SEEDS} seeds are needed"
    if collapsed.min() < LEAST_COLLAPSED:
        shares = " / ".join(f"{100 * share:.0f} %" for share in collapsed)
        return f"; but of its samples only {shares} have a loss that is 0 in float32: there was little to round"
    return ""


def _listed(values: Any, form: str = "d") -> str:
    return " / ".join(format(value, form) for value in values)


def failed_precondition(result: xr.Dataset) -> str | None:
    """Why nothing can be said: a network did not memorize, so that there is nothing to spike from."""
    late = [str(name) for name in result.training.values if np.isnan(result.settled_at.sel(training=name)).any()]
    return f"a network did not memorize ({', '.join(late)})" if late else None


def plot(result: xr.Dataset):
    """The loss and the cosine of every run, a row for each way to train."""
    names = result.training.values.tolist()
    panels = [title for name in names for title in (f"{name}: training loss", f"{name}: cos(W_G, μ_G)")]
    figure = new_panels(TITLE, tuple(panels), reference=REFERENCE, row_height=220, vertical_spacing=0.06)
    for row, name in enumerate(names, start=1):
        for seed in result.seed.values.tolist():
            color = PALETTE[seed % len(PALETTE)]
            for column, variable in enumerate(("highest_loss", "cosine"), start=1):
                values = result[variable].sel(training=name, seed=seed).values
                known = np.isfinite(values) & ((values > 0) | (column == 2))
                look = {"line": {"color": color, "width": 1.2}, "mode": "lines", "legendgroup": str(seed)}
                look |= {"name": f"seed {seed}", "showlegend": row == 1 and column == 1}
                figure.add_scatter(x=result.step.values[known], y=values[known], row=row, col=column, **look)
        power_of_ten_axis(figure, row=row, col=1, title_text="nats")
        figure.update_yaxes(range=[-1.05, 1.05], row=row, col=2)
    figure.update_xaxes(title_text="step (updates)", row=len(names))
    return figure
