"""Scaling. Does the test loss fall as a power law in the number of examples, and in the width?

MLPs of one hidden layer learn handwritten digits by cross-entropy: of n examples at one width, and of one n at widths
h. At each there are several draws, independent of those of every other size: each has examples, test examples and
initial weights of its own. Of each run two test losses are taken,

    stopped    at the logged step with the least loss on validation examples, which are no test examples (as many
               at every n: they are not counted in n, and few n would not afford them)
    end        at the last step of all

because a network that knows its examples goes on to raise their margins, and its test loss grows without bound: that
the loss at the end falls as a power law is a statement about how long one trains. A law L∞ + A·c^−α is fitted to the
mean over draws, and looked for in every window of neighboring sizes of a decade and four sizes or more
(`interp.mathematics.power_law`).

Confirmed where it holds in such a window, which is told; not confirmed where its lack of fit refuses every one; not
shown otherwise: where there is no such window, the loss does not fall by more than the draws scatter, or it levels off
before it has fallen for a decade.

It cannot tell that a law goes on beyond its sizes, that it is a law of digits rather than of these networks, nor that
α is universal: with other steps, learning rates or label noise it is another one. What it says with
`label_noise` was not looked at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from interp.errors import InputError, check_integer, check_number, flag
from interp.experiment import Experiment, ModelConfig, Samples, TrainingConfig
from interp.figures import PALETTE, new_panels, plain_log_axis
from interp.mathematics import power_law
from interp.mathematics.early_stopping import stop
from interp.runs import Run
from interp.studies.design import Design, Prediction, Verdict
from interp.sweeps import GridRun

TITLE = "Scaling: power laws of the test loss"
REFERENCE = "Hestness et al. 2017, arXiv:1712.00409; Kaplan et al. 2020, arXiv:2001.08361"
CAPTION = (
    "Dots: runs. Lines: the power law of the mean over draws, solid in the window where it holds, dotted beyond; none "
    "where it holds in no window of a decade."
)
TAKEN = {"stopped": "at the step that validation examples choose", "end": "at the end of training"}
AXES = {"n": "number of training examples n", "width": "width h (neurons)"}


@dataclass(frozen=True, kw_only=True)
class ScalingDesign(Design):
    """What is trained: MLPs on handwritten digits, Adam, the whole training set in every step."""

    seeds: int = 5
    """Draws at each size, of examples and initial weights."""
    sizes: tuple[int, ...] = (15, 30, 60, 120, 240, 480, 960)
    """Numbers of training examples n."""
    widths: tuple[int, ...] = (3, 6, 12, 24, 48, 96)
    """Widths, at the largest n."""
    d_mlp: int = 48
    """Width at which n varies."""
    n_validation: int = 200
    """Examples on which the step is chosen."""
    n_test: int = 600
    """Examples that are reported on."""
    label_noise: float = 0.0
    """Fraction of training labels that are replaced by a wrong one; test and validation labels are not."""
    steps: int = 400
    """Steps of a run."""
    lr: float = 1e-2
    """Adam's learning rate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("sizes", "widths"):
            values = getattr(self, name)
            for value in values:
                check_integer(name, value, 1)
            if len(set(values)) != len(values):
                raise InputError(f"{name} names a value twice: {' '.join(map(str, values))}")
            if len(values) < power_law.FEWEST_SIZES:
                told = f"a power law needs {power_law.FEWEST_SIZES} sizes or more, and {name} has {len(values)}"
                raise InputError(f"{told}; give more")
        for name in ("d_mlp", "n_validation", "n_test", "steps"):
            check_integer(flag(name), getattr(self, name), 1)
        check_number("label-noise", self.label_noise, 0, 1)
        check_number("lr", self.lr, 0, above=True)

    def places(self, axis: str) -> list[tuple[int, int]]:
        """n and width at each place along an axis, ascending."""
        if axis == "n":
            return [(n, self.d_mlp) for n in sorted(self.sizes)]
        return [(max(self.sizes), width) for width in sorted(self.widths)]


DESIGN = ScalingDesign()
FULL = ScalingDesign(
    seeds=20,
    sizes=(15, 21, 30, 42, 60, 85, 120, 170, 240, 340, 480, 680, 960),
    widths=(2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256),
    steps=4000,
    lr=1e-3,
)


def grid(design: ScalingDesign, *, full: bool = False) -> list[GridRun]:
    """A run per n and width and draw; the one that lies on both axes once."""
    places = dict.fromkeys(place for axis in AXES for place in design.places(axis))
    return [
        GridRun(run_name(*place, draw), experiment(design, *place, draw)) for place in places for draw in _draws(design)
    ]


def run_name(n: int, width: int, draw: int) -> str:
    """The folder of a run.

    >>> run_name(120, 64, 3)
    'n120-h64-seed3'
    """
    return f"n{n}-h{width}-seed{draw}"


def experiment(design: ScalingDesign, n: int, width: int, draw: int) -> Experiment:
    """One run. Its seed is one of its own, because the draws of different sizes have to be independent."""
    seed = int(np.random.SeedSequence([n, width, draw]).generate_state(1)[0])
    task = Samples(
        n_train=n,
        n_test=design.n_test,
        n_validation=design.n_validation,
        seed=seed,
        label_noise=design.label_noise,
    )
    model = ModelConfig(
        family="mlp", embedding="none", inputs="sum", d_mlp=width, biases=True, initialization="uniform", seed=seed
    )
    training = TrainingConfig(
        steps=design.steps,
        optimizer="adam",
        lr=design.lr,
        betas=(0.9, 0.999),
        weight_decay=0.0,
        warmup=0,
        checkpoint_every=None,
        log_every=max(1, min(5, design.steps // 20)),
    )
    return Experiment(task, model, training)


def _draws(design: ScalingDesign) -> range:
    return range(design.seeds)


def measure(runs: Mapping[str, Run], design: ScalingDesign) -> xr.Dataset:
    """Of each axis `n` and `width`: `test_loss_of_n` [taken, n, seed] in nats, stopped and at the end, and of the same
    steps `train_error_of_n`; and `stopped_at_n` [n, seed] in updates."""
    result = xr.Dataset(coords={"taken": ("taken", np.array(list(TAKEN)), {"long_name": "taken", "units": "name"})})
    for axis, long_name in AXES.items():
        places = design.places(axis)
        found = np.array([[_of_run(runs[run_name(*place, draw)]) for draw in _draws(design)] for place in places])
        loss, error = (found[:, :, at : at + 2].transpose(2, 0, 1) for at in (0, 2))
        dims = ("taken", axis, "seed")
        values = np.array([place[axis == "width"] for place in places], dtype=np.int32)
        result = result.assign(
            {
                f"test_loss_of_{axis}": (dims, loss, {"long_name": "test loss", "units": "nats"}),
                f"train_error_of_{axis}": (dims, error, {"long_name": "training error", "units": "1"}),
                f"stopped_at_{axis}": (dims[1:], found[:, :, 4], {"long_name": "chosen step", "units": "updates"}),
            }
        ).assign_coords({axis: (axis, values, {"long_name": long_name, "units": "1"})})
    seeds = np.arange(design.seeds, dtype=np.int32)
    return result.assign_coords(seed=("seed", seeds, {"long_name": "draw", "units": "1"}))


def _of_run(run: Run) -> list[float]:
    """Test loss and training error at the chosen step and at the last, in this order, and the chosen step."""
    logged = run.metrics
    chosen = stop(logged.step.values, logged.validation_loss.values, patience=int(logged.step.values[-1]) + 1)
    assert chosen is not None
    at = [chosen.place, -1]
    loss, accuracy = logged.test_loss.values[at], logged.train_accuracy.values[at]
    return [*loss.tolist(), *(1 - accuracy).tolist(), float(chosen.kept)]


# ---- what it says ----------------------------------------------------------------------------------------------------


def predictions(result: xr.Dataset) -> list[Prediction]:
    """A verdict for each axis and each loss."""
    failed = failed_precondition(result)
    return [
        Prediction(name, statement, "not shown", failed, {}) if failed is not None else _judged(result, name, *which)
        for name, (statement, *which) in _statements().items()
    ]


def _statements() -> dict[str, tuple[str, str, str]]:
    """By the name of a prediction: what it states, its axis, and which loss."""
    return {
        axis if taken == "stopped" else f"{axis}-{taken}": (
            f"the test loss {when} falls as a power law in the {long_name}, over a decade or more",
            axis,
            taken,
        )
        for axis, long_name in AXES.items()
        for taken, when in TAKEN.items()
    }


def curve(result: xr.Dataset, axis: str, taken: str) -> tuple[np.ndarray, np.ndarray]:
    """Sizes [size] and test losses [size, draw]."""
    losses = result[f"test_loss_of_{axis}"].sel(taken=taken).transpose(axis, "seed").values
    return result[axis].values.astype(np.float64), losses


def _judged(result: xr.Dataset, name: str, axis: str, taken: str) -> Prediction:
    statement = _statements()[name][0]
    sizes, losses = curve(result, axis, taken)
    whole = power_law.lack_of_fit(sizes, losses)
    numbers: dict[str, Any] = {
        "sizes": sizes.astype(int).tolist(),
        "mean_loss": losses.mean(1).tolist(),
        "draws": losses.shape[1],
        "lack_of_fit_of_all_sizes": whole,
    }
    told = f"over all sizes, {_window(sizes)}, its lack of fit has p = {_p(whole)}"
    region = power_law.region(sizes, losses)
    if region is None:
        windows = power_law.windows(sizes)
        refused = [power_law.lack_of_fit(sizes[here], losses[here]) < power_law.LEVEL for here in windows]
        verdict: Verdict = "not confirmed" if refused and all(refused) else "not shown"
        if not windows:
            because = f"no four of its sizes, {_window(sizes)}, span a decade"
        elif verdict == "not confirmed":
            because = f"every window of a decade is refused by its lack of fit ({len(windows)} of them); {told}"
        else:
            because = f"in no window it both fits and falls, for a decade, by more than the draws scatter; {told}"
            because += _levels_off(power_law.fit(sizes, losses), sizes)
        return Prediction(name, statement, verdict, because, numbers)
    here = slice(region.first, region.last + 1)
    low, high = region.exponent_interval
    because = (
        f"from {_window(sizes[here])} ({len(sizes[here])} of {len(sizes)} sizes): α = {region.law.exponent:.2f} "
        f"({low:.2f} to {high:.2f}, 95 %), floor {region.law.floor:.3f} ({region.floor_interval[0]:.3f} to "
        f"{region.floor_interval[1]:.3f}) nats, lack of fit p = {_p(region.lack_of_fit)}; {told}"
        f"{_levels_off(region.law, sizes)}"
    )
    numbers |= {
        "window": sizes[[region.first, region.last]].astype(int).tolist(),
        "exponent": region.law.exponent,
        "exponent_interval_95": [low, high],
        "floor": region.law.floor,
        "floor_interval_95": list(region.floor_interval),
        "amplitude": region.law.amplitude,
        "lack_of_fit": region.lack_of_fit,
    }
    return Prediction(name, statement, "confirmed", because, numbers)


def _levels_off(law: power_law.PowerLaw, sizes: np.ndarray) -> str:
    at = law.saturates_at
    return f"; from {at:,.0f} on the floor is more than half of the loss" if at < sizes[-1] else ""


def _window(sizes: Sequence[float] | np.ndarray) -> str:
    return f"{sizes[0]:,.0f} to {sizes[-1]:,.0f}"


def _p(value: float) -> str:
    return f"{value:.2f}" if value >= 0.01 else f"{value:.0e}"


def numbers(result: xr.Dataset) -> dict[str, Any]:
    """Along each axis the median of the chosen steps and the mean training errors."""
    return {
        axis: {
            "median_chosen_step": result[f"stopped_at_{axis}"].median("seed").values.tolist(),
            "train_error": {
                taken: result[f"train_error_of_{axis}"].sel(taken=taken).mean("seed").values.tolist() for taken in TAKEN
            },
        }
        for axis in AXES
    }


def failed_precondition(result: xr.Dataset) -> str | None:
    """Why nothing can be said: there is one draw, which does not tell how far losses scatter; or training diverged."""
    if result.sizes["seed"] < 2:
        return "there is one draw at each size, which does not tell how far losses scatter; two are needed (--seeds)"
    losses = np.concatenate([result[f"test_loss_of_{axis}"].values.ravel() for axis in AXES])
    if n_bad := int((~(np.isfinite(losses) & (losses > 0))).sum()):
        return f"{n_bad} of {losses.size} test losses are not finite and greater than 0; give a lower --lr"
    return None


def plot(result: xr.Dataset):
    """Test loss against n and against width, on logarithmic axes."""
    figure = new_panels(TITLE, ("along n", "along the width"), reference=REFERENCE, row_height=380)
    for column, axis in enumerate(AXES, start=1):
        where = {"row": 1, "col": column}
        drawn: list[float] = []
        for (taken, when), color in zip(TAKEN.items(), PALETTE, strict=False):
            sizes, losses = curve(result, axis, taken)
            drawn += losses.ravel().tolist()
            dots = {"mode": "markers", "marker": {"color": color, "size": 6, "opacity": 0.6}}
            figure.add_scatter(
                x=np.repeat(sizes, losses.shape[1]),
                y=losses.ravel(),
                name=when,
                showlegend=column == 1,
                **dots,
                **where,
            )
            region = None if failed_precondition(result) else power_law.region(sizes, losses)
            if region is not None:
                everywhere = np.geomspace(sizes[0], sizes[-1], 100)
                held = everywhere[(everywhere >= sizes[region.first]) & (everywhere <= sizes[region.last] * 1.0001)]
                for x, look in ((everywhere, {"width": 1.2, "dash": "dot"}), (held, {"width": 2.4})):
                    line = {"mode": "lines", "line": {"color": color} | look, "showlegend": False}
                    figure.add_scatter(x=x, y=region.law(x), hoverinfo="skip", **line, **where)
        figure.update_xaxes(title_text=AXES[axis], **plain_log_axis(result[axis].values), **where)
        figure.update_yaxes(title_text="test loss (nats)", **plain_log_axis(drawn), **where)
    figure.update_layout(legend={"orientation": "h", "y": -0.2})
    return figure
