"""Effective model complexity. How many samples does a training procedure fit, and does test error peak where that is n?

The effective model complexity of a procedure is the largest number n of samples that it fits to a training error of at
most ε, in the mean over draws (Nakkiran et al. 2020; `interp.mathematics.effective_complexity`). The procedure here: an
MLP of one hidden layer on handwritten digits, all of them at every step, a fixed number of steps of Adam
(`interp.studies.digit_networks`). With a fixed number of *steps* more samples are also trained less. Labels are part of
the distribution, wrong ones too: with more noise a procedure fits fewer samples.

The hypothesis: test error as a function of width peaks where EMC ≈ n, whatever n and the noise. It is tried on one
axis, EMC/n. Peaks are those that `interp.mathematics.double_descent` calls a double descent in the test error. A peak
lies at an interval of EMC/n: the complexities at both ends of the interval of its width, each with its own interval
over draws. The critical band, ½ to 2, is a label: the authors give it no width.

    rises      the widest networks fit more samples than the narrowest
    noise      with more wrong labels no width fits more samples, and some fit fewer
    peaks-ε    at every peak where EMC is a number EMC/n is within the critical band, and at none surely outside
    bisection  the crossing of one width, halved anew with other draws, is where the grid says
    promise    of networks that fit labels of which half are wrong, Rademacher bounds promise no better than guessing,
               and trained on better labels the same networks are better than that

It cannot tell where between two sizes of the grid a curve turns: a crossing is known to their ratio, whatever its
interval over draws, and of a small ε it comes out too low. Nor which side of the band is better, nor anything of more
digits than there are: "≥ n_max" is no number, and a peak there has a lower bound of EMC/n alone. Draws of n of 1,000
digits overlap: near 1,000 they are hardly draws.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from interp.errors import InputError, check_integer, check_number
from interp.mathematics.effective_complexity import Bracket, Complexity, bisect
from interp.mathematics.rademacher import from_noisy_labels
from interp.runs import Run
from interp.studies.complexity_figure import complexity_figure
from interp.studies.complexity_sentences import (
    bisected,
    complexities,
    epsilons,
    parameters,
    peaks,
    peaks_line_up,
    promises_nothing,
    shrinks_with_noise,
    widens,
)
from interp.studies.design import Design, Prediction
from interp.studies.digit_networks import N_OTHERS, STEPS, digit_run, digit_scores
from interp.sweeps import GridReport, GridRun, run_grid

TITLE = "Effective model complexity"
REFERENCE = "Nakkiran et al. 2020 (Deep Double Descent), arXiv:1912.02292, Definition 1"
CAPTION = (
    "Above: samples that are fitted to a training error ε, with 95 % intervals over draws; triangles: the most that "
    "there are are fitted (up), or the fewest are not (down), larger for less noise. Below: test error against EMC/n, "
    "a line for each n, fainter for fewer; open triangles: EMC is beyond the grid. Shaded: the critical band."
)
HALF = 0.5  # the noise at which a training error bounds the Rademacher complexity


@dataclass(frozen=True, kw_only=True)
class ComplexityDesign(Design):
    """Widths, sizes, noise levels and the ε that a training error is compared with."""

    seeds: int = 5
    """Draws 0 … N−1, each of the digits, their wrong labels and the initial weights."""
    widths: tuple[int, ...] = (4, 8, 12, 16, 24, 40)
    """Hidden neurons."""
    sizes: tuple[int, ...] = (200, 300, 450, 640, 900)
    """Digits that are trained on, at most 1,000."""
    noises: tuple[float, ...] = (0.2, 0.5)
    """Shares of wrong labels; at 0.5 the Rademacher complexity is bounded too."""
    epsilons: tuple[float, ...] = (0.1, 0.01)
    """Training errors up to which samples count as fitted."""
    steps: int = STEPS
    """Steps of a run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("widths", 2), ("sizes", 2), ("noises", 1), ("epsilons", 1)):
            values = getattr(self, name)
            if len(values) < least or len(set(values)) < len(values):
                raise InputError(f"{name} needs {least} or more, each once; got {' '.join(map(str, values)) or 'none'}")
        for width in self.widths:
            check_integer("widths", width, 1)
        for size in self.sizes:
            check_integer("sizes", size, 2, N_OTHERS)
        for noise in self.noises:
            check_number("noises", noise, 0, 1)
        for epsilon in self.epsilons:
            check_number("epsilons", epsilon, 0, 1)
        check_integer("steps", self.steps, 1)


DESIGN = ComplexityDesign()
FULL = ComplexityDesign(
    seeds=10,
    widths=(2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64),
    sizes=(128, 160, 200, 250, 312, 390, 488, 610, 763, 953),
    noises=(0.0, 0.1, 0.2, 0.5),
)


def grid(design: ComplexityDesign, *, full: bool = False) -> list[GridRun]:
    """A run per noise, width, size and draw; a draw has a seed of its own."""
    return [
        digit_run(width, n, noise, draw, draw, steps=design.steps)
        for noise in design.noises
        for width in design.widths
        for n in design.sizes
        for draw in range(design.seeds)
    ]


# ---- what was measured -----------------------------------------------------------------------------------------------

AXES = ("noise", "width", "n", "draw")
OF_RUN = {
    "training_error": "training error on the labels trained on",
    "test_error": "test error on clean labels",
    "brier": "Brier score on clean test labels",
    "rademacher": "lower bound of the Rademacher complexity of right answers",
}


def measure(runs: Mapping[str, Run], design: ComplexityDesign) -> xr.Dataset:
    """`training_error`, `test_error`, `brier` and `rademacher` [noise, width, n, draw] at the end (the last NaN where
    the noise is not one half); and the bracket of a bisection, not there yet (`beyond_grid`)."""
    widths, sizes, noises = sorted(design.widths), sorted(design.sizes), sorted(design.noises)
    shape = len(noises), len(widths), len(sizes), design.seeds
    values = {name: np.full(shape, np.nan) for name in OF_RUN}
    for index in np.ndindex(*shape):
        noise, width, n, draw = noises[index[0]], widths[index[1]], sizes[index[2]], index[3]
        run = runs[digit_run(width, n, noise, draw, draw, steps=design.steps).name]
        scores = digit_scores(run)
        found = {"training_error": scores.training_error, "test_error": scores.test_error, "brier": scores.brier}
        if noise == HALF:
            found["rademacher"] = _rademacher(run)
        for name, value in found.items():
            values[name][index] = value
    return xr.Dataset(
        {name: (AXES, of, {"long_name": OF_RUN[name], "units": "1"}) for name, of in values.items()},
        coords={
            "noise": ("noise", np.array(noises, dtype=np.float64), {"long_name": "wrong labels", "units": "1"}),
            "width": ("width", np.array(widths, dtype=np.int32), {"long_name": "hidden neurons", "units": "1"}),
            "n": ("n", np.array(sizes, dtype=np.int32), {"long_name": "training examples", "units": "1"}),
            "draw": ("draw", np.arange(design.seeds, dtype=np.int32), {"long_name": "draw", "units": "1"}),
        },
        attrs={"epsilons": np.array(design.epsilons, dtype=np.float64), "steps": design.steps} | _not_bisected(),
    )


def _rademacher(run: Run) -> float:
    task, last = run.task, run.last
    train = task.train_indices
    changed = np.isin(train, task.noisy_indices)
    answers = np.asarray(last.logits.reshape(-1, task.n_classes).argmax(-1))
    return from_noisy_labels(answers[train] == task.true_labels[train], changed)


# ---- a crossing that is halved anew ----------------------------------------------------------------------------------


def beyond_grid(
    result: xr.Dataset,
    runs: Mapping[str, Run],
    design: ComplexityDesign,
    out: Path,
    *,
    processes: int | None = None,
    report: GridReport = lambda progress: None,
) -> xr.Dataset:
    """The result with the bracket of one procedure, found by bisection with draws of its own, under `out`/bisection."""
    chosen = _in_the_middle(result)
    if chosen is None:
        return result
    noise, width, epsilon = chosen

    def errors_of(n: int, draws: Any) -> list[float]:
        anew = [
            digit_run(width, n, noise, design.seeds + draw, design.seeds + draw, steps=design.steps) for draw in draws
        ]
        trained = run_grid(out / "bisection", anew, processes=processes, report=report)
        return [digit_scores(trained[run.name]).training_error for run in anew]

    sizes = result.n.values.tolist()
    found = bisect(errors_of, sizes[0], sizes[-1], epsilon, draws=design.seeds)
    return result.assign_attrs(_bisected(noise, width, epsilon, found))


def _in_the_middle(result: xr.Dataset) -> tuple[float, int, float] | None:
    """The noise, width and ε whose crossing is nearest to the middle of the sizes, in log n; None where no crossing is
    on the grid."""
    sizes = result.n.values
    middle = math.log(sizes[0] * sizes[-1]) / 2
    found = [(key, of.crossing) for key, of in complexities(result).items() if 0 < of.crossing < math.inf]
    return min(found, key=lambda one: abs(math.log(one[1]) - middle))[0] if found else None


BISECTED = ("noise", "width", "epsilon", "low", "high", "probability", "sizes")


def _not_bisected() -> dict[str, float]:
    return {f"bisected_{name}": math.nan for name in BISECTED}


def _bisected(noise: float, width: int, epsilon: float, found: Bracket) -> dict[str, float]:
    values = noise, width, epsilon, found.low, found.high, found.probability, len(found.tried)
    return {f"bisected_{name}": float(value) for name, value in zip(BISECTED, values, strict=True)}


# ---- what it says ----------------------------------------------------------------------------------------------------


def failed_precondition(result: xr.Dataset) -> str | None:
    """Why nothing can be said: too few draws, or no training error comes to any ε, or all do."""
    if result.sizes["draw"] < 3:
        return f"there are {result.sizes['draw']} draws; three are needed for an interval"
    found = list(complexities(result).values())
    if all(of.crossing == 0 for of in found):
        return (
            f"no width fits {int(result.n[0])} samples to any of the ε: train longer (--steps), or on fewer (--sizes)"
        )
    if all(math.isinf(of.crossing) for of in found):
        return f"every width fits all {int(result.n[-1])} samples: give narrower ones (--widths)"
    return None


def predictions(result: xr.Dataset) -> list[Prediction]:
    """A verdict on every statement of the module."""
    failed, found, there = failed_precondition(result), complexities(result), peaks(result)
    told = [
        widens(result, found),
        shrinks_with_noise(result, found),
        *(peaks_line_up(result, found, there, epsilon) for epsilon in epsilons(result)),
        bisected(result, found),
        promises_nothing(result),
    ]
    if failed is None:
        return told
    return [Prediction(one.name, one.statement, "not shown", failed, {}) for one in told]


def table(result: xr.Dataset) -> list[dict[str, str]]:
    """A row for each noise, ε and width: how many samples are fitted, and the regime of each n."""
    rows = []
    for (noise, width, epsilon), found in complexities(result).items():
        regimes = [found.regime(n) for n in result.n.values.tolist()]
        rows.append(
            {
                "wrong labels": f"{100 * noise:g} %",
                "ε": f"{epsilon:g}",
                "width": str(width),
                "parameters": f"{parameters(width):,}",
                "EMC": str(found),
                "regimes": "; ".join(_stretches(result.n.values.tolist(), regimes)),
            }
        )
    return rows


def _stretches(sizes: list[int], regimes: list[str]) -> list[str]:
    """Neighboring sizes of one regime, told once.

    >>> _stretches([100, 200, 400], ["critical", "critical", "not known"])
    ['n = 100 … 200 critical', 'n = 400 not known']
    """
    starts = [0, *(at for at in range(1, len(sizes)) if regimes[at] != regimes[at - 1]), len(sizes)]
    return [
        f"n = {sizes[start]}{f' … {sizes[end - 1]}' if end - start > 1 else ''} {regimes[start]}"
        for start, end in pairwise(starts)
    ]


def numbers(result: xr.Dataset) -> dict[str, Any]:
    """Every effective model complexity: its crossing (null off the grid), its interval, and in words."""
    return {
        "effective_model_complexity": {
            f"noise {noise:g}, width {width}, ε {epsilon:g}": _number(found)
            for (noise, width, epsilon), found in complexities(result).items()
        }
    }


def _number(found: Complexity) -> dict[str, Any]:
    return {"crossing": found.crossing or math.nan, "interval_95": [found.low, found.high], "in_words": str(found)}


def plot(result: xr.Dataset):
    """Samples fitted against width, for each ε; and test error against EMC/n, for each ε."""
    return complexity_figure(result, TITLE, REFERENCE)
