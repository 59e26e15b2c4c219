"""Semi-grokking. Near D_crit, does a network from scratch come to rest between memorizing and generalizing?

Where both circuits are about equally efficient, weight decay gains little by exchanging one for the other, and a
network may settle with a test accuracy that is neither low nor high (P4). Networks are trained from scratch on D pairs
around D_crit. A run is *semi-grokked* when its test accuracy on unmirrored pairs (no trained mirror gives them away)
lies between 10 % and 90 % at the end and has changed by less than 2 points over the last quarter of training, at a
training accuracy of 100 %.

It can confirm P4, never refute it: the published example waited 10⁷ steps on a plateau and then generalized. What
stands still here may go on later, and what has not begun may begin.
"""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from interp.experiment import Task
from interp.figures import PALETTE, band, new_panels, percent_axis, threshold_line
from interp.mathematics.intervals import mean_interval
from interp.runs import Run
from interp.studies.design import DecayDesign, Prediction
from interp.sweeps import GridRun

TITLE = "Semi-grokking: from scratch near D_crit"
REFERENCE = "Varma et al. 2023, arXiv:2309.02390, §5 (prediction P4)"
DESIGN = DecayDesign(p=59, sizes=(350, 450, 550, 650, 750, 850, 950), seeds=3, duration=40, eps=1e-5)
FULL = DecayDesign(sizes=(1200, 1400, 1532, 1700, 2000, 2500), seeds=5, duration=1000, lr=1e-3)
LOWEST, HIGHEST, LARGEST_CHANGE = 0.1, 0.9, 0.02


def grid(design: DecayDesign, *, full: bool = False) -> list[GridRun]:
    """A run per size, weight decay and seed."""
    runs = []
    for size in design.sizes:
        for decay in design.weight_decays:
            for seed in range(design.seeds):
                experiment = design.experiment(Task(design.p, train_pairs=size, seed=seed), decay, seed)
                runs.append(GridRun(name(size, decay, seed), experiment))
    return runs


def name(size: int, weight_decay: float, seed: int) -> str:
    """The folder of a run."""
    return f"D{size}-wd{weight_decay:g}-seed{seed}"


def measure(runs: Mapping[str, Run], design: DecayDesign) -> xr.Dataset:
    """Final `test_accuracy`, `unmirrored_test_accuracy`, `train_accuracy`, `change` of the unmirrored one over the last
    quarter, and `semi_grokked` [size, weight_decay, seed]."""
    sizes, decays = sorted(design.sizes), sorted(design.weight_decays)
    shape = (len(sizes), len(decays), design.seeds)
    long_names = {
        "test_accuracy": "final test accuracy",
        "unmirrored_test_accuracy": "final test accuracy, mirror (b, a) not trained on",
        "train_accuracy": "final train accuracy",
        "change": "range of the unmirrored accuracy over the last quarter",
    }
    table = {column: np.full(shape, np.nan) for column in long_names}
    for index in np.ndindex(*shape):
        metrics = runs[name(sizes[index[0]], decays[index[1]], index[2])].metrics
        for column in ("test_accuracy", "unmirrored_test_accuracy", "train_accuracy"):
            table[column][index] = metrics[column].values[-1]
        last = metrics.unmirrored_test_accuracy.values[metrics.step.values >= 0.75 * metrics.step.values[-1]]
        # Of fewer than three points nobody can say that they stood still.
        table["change"][index] = last.max() - last.min() if len(last) >= 3 else np.nan
    accuracy = table["unmirrored_test_accuracy"]
    semi = (
        (accuracy > LOWEST) & (accuracy < HIGHEST) & (table["change"] < LARGEST_CHANGE) & (table["train_accuracy"] == 1)
    )
    axes = ("size", "weight_decay", "seed")
    data = {column: (axes, values, {"long_name": long_names[column], "units": "1"}) for column, values in table.items()}
    steps = np.array([design.steps(decay) for decay in decays], dtype=np.int32)
    return xr.Dataset(
        data
        | {
            "semi_grokked": (axes, semi, {"long_name": "at rest between memorizing and generalizing", "units": "1"}),
            "steps": ("weight_decay", steps, {"long_name": "length of training", "units": "updates"}),
        },
        coords={
            "size": ("size", np.array(sizes, dtype=np.int32), {"long_name": "training pairs D", "units": "pairs"}),
            "weight_decay": ("weight_decay", np.array(decays), {"long_name": "weight decay", "units": "1"}),
            "seed": ("seed", np.arange(design.seeds, dtype=np.int32), {"long_name": "seed", "units": "1"}),
        },
    )


def predictions(result: xr.Dataset) -> list[Prediction]:
    """P4, as far as these runs go."""
    semi = result.semi_grokked.values.astype(bool)
    accuracy = result.unmirrored_test_accuracy
    if (none := failed_precondition(result)) is not None:
        numbers = {"runs": int(semi.size), "train_accuracy_highest": float(result.train_accuracy.max())}
        return [Prediction("P4", _STATEMENT, "not shown", none, numbers)]
    between = (accuracy.values > LOWEST) & (accuracy.values < HIGHEST)
    longest = int(result.steps.max())
    numbers = {
        "semi_grokked_runs": int(semi.sum()),
        "runs_between_10_and_90_percent": int(between.sum()),
        "runs": int(semi.size),
        "sizes": result["size"].values.tolist(),
        "mean_unmirrored_accuracy_by_size": accuracy.mean(("weight_decay", "seed")).values.tolist(),
        "semi_grokked_sizes": sorted({int(result["size"].values[i]) for i, _, _ in np.argwhere(semi)}),
        "longest_training_steps": longest,
    }
    because = (
        f"{semi.sum()} of {semi.size} runs rest between 10 % and 90 %, {between.sum() - semi.sum()} more "
        "are between and still moving"
    )
    because += f", after {longest:,} steps (the paper: 10,000,000)"
    return [Prediction("P4", _STATEMENT, "confirmed" if semi.any() else "not shown", because, numbers)]


_STATEMENT = "near D_crit networks settle in between"


def failed_precondition(result: xr.Dataset) -> str | None:
    """Why nothing can be said, where nothing can: no network had memorized."""
    if bool((result.train_accuracy == 1).any()):
        return None
    return "no network had all of its training pairs right at the end: none had memorized"


def plot(result: xr.Dataset):
    """Final accuracy against D, semi-grokked runs filled; and how much it still moved."""
    import plotly.graph_objects as go

    panels = ("Final test accuracy, unmirrored pairs", "Range of it over the last quarter")
    figure = new_panels(TITLE, panels, reference=REFERENCE, row_height=380, horizontal_spacing=0.12)
    sizes = result["size"].values
    for index, decay in enumerate(result.weight_decay.values):
        color, of_decay = PALETTE[index % len(PALETTE)], result.sel(weight_decay=decay)
        for column, variable in enumerate(("unmirrored_test_accuracy", "change"), start=1):
            values, semi = of_decay[variable].values, of_decay.semi_grokked.values.astype(bool)
            band(figure, sizes, mean_interval(values), color, row=1, col=column)
            line = go.Scatter(
                x=sizes, y=values.mean(1), mode="lines", line={"color": color}, name=f"weight decay {decay:g}"
            )
            figure.add_trace(line.update(showlegend=column == 1), row=1, col=column)
            for mask, symbol, label in ((semi, "circle", "semi-grokked"), (~semi, "circle-open", "not semi-grokked")):
                x, y = np.broadcast_to(sizes[:, None], mask.shape)[mask], values[mask]
                points = go.Scatter(
                    x=x, y=y, mode="markers", marker={"color": color, "symbol": symbol, "size": 8}, name=label
                )
                figure.add_trace(points.update(showlegend=column == 1 and index == 0), row=1, col=column)
    for level in (LOWEST, HIGHEST):
        threshold_line(figure, level, row=1, column=1)
    threshold_line(figure, LARGEST_CHANGE, row=1, column=2)
    figure.update_xaxes(title_text="training pairs D")
    percent_axis(figure, row=1, col=1, title_text="accuracy")
    figure.update_yaxes(title_text="range", tickformat=".0%", row=1, col=2)
    return figure
