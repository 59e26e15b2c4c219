"""Bias and variance. What is the error of a network made of, and does the lever that this names lower it?

The squared error of probabilities (Brier score) on clean test labels is bias² plus variance, and the variance that of
the data drawn plus that of the initial weights (`interp.mathematics.bias_variance`). Measured of D draws of the
training set, its wrong labels included, times S initial weights: across width and along training, of an MLP on
handwritten digits with a share of wrong labels, and of a transformer on modular addition, which groks. Both have one
test set that no draw trains on.

    bias-falls    on digits the widest networks have less bias² than the narrowest
    variance-peak their variance rises with width and falls again (Yang et al. 2020)
    seed-part     past that peak more of what is left is the data's
    overfitting   at the width of the peak, from the step of least risk to the end, risk rises, and most of it is
                  variance
    grokking      on addition the networks disagree most on the way: at the end less than half of that is left
    lever-*       at the narrowest, the peak's and the widest width the lever that is named lowers the risk
    ensemble      at all three, the mean of S other networks of each draw has the risk that the decomposition foretells,
                  risk − V_s·(1 − 1/S)

The lever is named by a rule that sees the decomposition and the training error alone: *wider* where bias² is more than
half of the risk; else *ensemble* where the initial weights' part of the variance is the larger one; else *regularize*
(weight decay) where the networks fit their wrong labels, and *more data* (twice as many) where they do not. Then all
four are pulled on the same draws, and whether the named one lowered the risk is told with its interval, and which one
lowered it most.

It cannot tell what draws have in common: two draws of n of 1,000 digits share n/1000 of theirs, and what they share
counts as bias. Each lever has one strength; another might do more.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from interp.errors import InputError, check_integer, check_number
from interp.mathematics.bias_variance import cross_entropy_parts, unbiased, vote
from interp.runs import Run
from interp.studies.addition_networks import addition_run, answers
from interp.studies.bias_variance_figure import bias_variance_figure
from interp.studies.bias_variance_sentences import STATEMENTS, judged
from interp.studies.design import Prediction, TableDesign
from interp.studies.digit_networks import N_OTHERS, STEPS, digit_labels, digit_probabilities, digit_run, digit_scores
from interp.studies.variance_levers import estimates, lever_rows, places, shares
from interp.sweeps import GridReport, GridRun, run_grid

TITLE = "Bias and variance, and the lever they name"
REFERENCE = "Yang et al. 2020, arXiv:2002.11328; Neal et al. 2018, arXiv:1810.08591; Heskes 1998"
CAPTION = (
    "Areas: bias², variance by the draw of the data and by the initial weights, unbiased; the line is the risk as it "
    "was measured, and lies on top of them."
)
PARTS = ("risk", "bias", "data", "initialization")
LEVERS = ("none", "wider", "ensemble", "regularize", "more data")
WORDS = {
    "cross_entropy": "cross-entropy, nats",
    "cross_entropy_bias": "cross-entropy of the geometric mean, nats",
    "cross_entropy_data": "variance of the cross-entropy by the data, nats",
    "cross_entropy_initialization": "variance of the cross-entropy by the initialization, nats",
    "mean_error": "0-1 error of a member, 1",
    "vote_error": "0-1 error of the majority vote, 1",
    "disagreement": "how often a member disagrees with the vote, 1",
}


@dataclass(frozen=True, kw_only=True)
class BiasVarianceDesign(TableDesign):
    """Draws times seeds, on digits and on addition."""

    p: int = 31
    """The modulus of addition."""
    draws: int = 5
    """Draws 0 … D−1 of the training set and its wrong labels."""
    seeds: int = 3
    """Seeds 0 … S−1 of the initial weights, of each draw; as many again test what an ensemble does."""
    widths: tuple[int, ...] = (4, 8, 12, 24, 64)
    """Hidden neurons of the networks on digits."""
    n: int = 400
    """Digits that are trained on; at most 500, because one lever is twice as many."""
    noise: float = 0.2
    """Share of wrong labels of the digits."""
    steps: int = STEPS
    """Steps of a run on digits."""
    addition_steps: int = 2 * STEPS
    """Steps of a run on addition."""
    decay: float = 0.3
    """AdamW's weight decay on digits where the lever is to regularize."""
    neurons: tuple[int, ...] = (8, 64)
    """Neurons of the networks on addition."""
    fraction: float = 0.7
    """Share of the pairs beside the test set that a draw of addition trains on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("p", self.p, 3, 4096)
        check_integer("draws", self.draws, 1, 1000)
        for name, least in (("widths", 2), ("neurons", 1)):
            values = getattr(self, name)
            if len(values) < least or len(set(values)) < len(values):
                raise InputError(f"{name} needs {least} or more, each once; got {' '.join(map(str, values)) or 'none'}")
            for value in values:
                check_integer(name, value, 1)
        check_integer("n", self.n, 2, N_OTHERS // 2)
        check_number("noise", self.noise, 0, 1)
        check_integer("steps", self.steps, 1)
        check_integer("addition_steps", self.addition_steps, 1)
        check_number("decay", self.decay, 0, above=True)
        check_number("fraction", self.fraction, 0, 1, above=True)


DESIGN = BiasVarianceDesign()
FULL = BiasVarianceDesign(
    p=113,
    draws=10,
    seeds=5,
    widths=(3, 4, 6, 8, 12, 16, 24, 32, 64),
    steps=10_000,
    addition_steps=10_000,
    neurons=(32, 128, 512),
)
KEPT = 16  # checkpoints of a run, evenly spaced in the logarithm of the step


def grid(design: BiasVarianceDesign, *, full: bool = False) -> list[GridRun]:
    """A run per width, draw and seed, on digits and on addition."""
    return [
        *(one for width in sorted(design.widths) for row in _digits(design, width) for one in row),
        *(one for neurons in sorted(design.neurons) for row in _addition(design, neurons) for one in row),
    ]


def _digits(design: BiasVarianceDesign, width: int, *, kept: int | None = KEPT, first: int = 0, **how: Any):
    """The runs of a width: a row for each draw, seeds from `first` on."""
    given: dict[str, Any] = {"n": design.n, "noise": design.noise, "steps": design.steps} | how
    return [
        [digit_run(width, draw=draw, seed=first + seed, checkpoint_log=kept, **given) for seed in range(design.seeds)]
        for draw in range(design.draws)
    ]


def _addition(design: BiasVarianceDesign, neurons: int):
    return [
        [
            addition_run(
                design.p, neurons, design.fraction, draw, seed, steps=design.addition_steps, checkpoint_log=KEPT
            )
            for seed in range(design.seeds)
        ]
        for draw in range(design.draws)
    ]


# ---- what was measured -----------------------------------------------------------------------------------------------

Members = Float[np.ndarray, "draw seed example output"]  # log-probabilities


def measure(runs: Mapping[str, Run], design: BiasVarianceDesign) -> xr.Dataset:
    """`digits` [width, step, part, left_out] and `addition` [neurons, addition_step, part, left_out], the unbiased
    parts of the Brier score of all draws (left_out −1) and of all but one; the same members in other words
    (`digits_words` [width, word], at the end); the `training_error` [width]; and what the levers did, not there yet
    (`beyond_grid`)."""
    widths, neurons = sorted(design.widths), sorted(design.neurons)
    digits = [_of_networks(runs, _digits(design, width), _digit_answers) for width in widths]
    addition = [_of_networks(runs, _addition(design, width), answers) for width in neurons]
    of_runs = [[runs[one.name] for row in _digits(design, width) for one in row] for width in widths]
    errors = [np.mean([digit_scores(run).training_error for run in some]) for some in of_runs]
    axes = ("width", "step", "part", "left_out")
    kind = {"long_name": "parts of the Brier score", "units": "1"}
    empty = np.full((3, len(LEVERS), len(PARTS), design.draws + 1), np.nan)
    return xr.Dataset(
        {
            "digits": (axes, np.array([table for _, table, _ in digits]), kind),
            "addition": (
                ("neurons", "addition_step", *axes[2:]),
                np.array([table for _, table, _ in addition]),
                kind,
            ),
            "digits_words": (("width", "word"), np.array([words for _, _, words in digits]), {"units": "nats or 1"}),
            "training_error": ("width", np.array(errors), {"long_name": "training error", "units": "1"}),
            "levers": (("place", "lever", *axes[2:]), empty, kind),
        },
        coords={
            "width": ("width", np.array(widths, dtype=np.int32), {"long_name": "hidden neurons", "units": "1"}),
            "step": ("step", np.array(digits[0][0]), {"long_name": "step", "units": "updates"}),
            "neurons": ("neurons", np.array(neurons, dtype=np.int32), {"long_name": "neurons", "units": "1"}),
            "addition_step": ("addition_step", np.array(addition[0][0]), {"long_name": "step", "units": "updates"}),
            "part": ("part", np.array(PARTS), {"long_name": "part", "units": "name"}),
            "word": ("word", np.array(list(WORDS)), {"long_name": "number", "units": "name"}),
            "left_out": (
                "left_out",
                np.arange(-1, design.draws, dtype=np.int32),
                {"long_name": "draw that is left out, -1: none", "units": "1"},
            ),
            "place": ("place", np.array(["narrow", "peak", "wide"]), {"long_name": "width", "units": "name"}),
            "lever": ("lever", np.array(LEVERS), {"long_name": "lever", "units": "name"}),
        },
        attrs={"noise": design.noise, "n": design.n, "seeds": design.seeds, "decay": design.decay, "p": design.p},
    )


def _digit_answers(run: Run, step: int) -> tuple[Float[np.ndarray, "example output"], Int[np.ndarray, " example"]]:
    # A probability of 0 in float64 is a logit 745 below the others.
    return np.log(np.maximum(digit_probabilities(run, step).numpy(), 1e-300)), digit_labels(run).numpy()


def _of_networks(
    runs: Mapping[str, Run], names: list[list[GridRun]], read: Callable[..., Any]
) -> tuple[list[int], Float[np.ndarray, "step part left_out"], list[float]]:
    """The steps that are kept, the parts at each, and the words at the last."""
    steps = runs[names[0][0].name].steps
    table = []
    members, labels = np.zeros((1, 1, 1, 1)), np.zeros(1, dtype=int)
    for step in steps:
        members, labels = _members(runs, names, lambda run, step=step: read(run, step))
        table.append(parts_without(np.exp(members), labels))
    targets = np.eye(members.shape[-1])[labels]
    entropy, found = cross_entropy_parts(members, targets), vote(members.argmax(-1), labels)
    words = [entropy.risk, entropy.bias, entropy.data, entropy.initialization]
    return steps, np.array(table), [*words, found.mean_error, found.vote_error, found.disagreement]


def _members(
    runs: Mapping[str, Run], names: list[list[GridRun]], read: Callable[[Run], Any]
) -> tuple[Members, Int[np.ndarray, " example"]]:
    found = [[read(runs[one.name]) for one in row] for row in names]
    return np.array([[answer for answer, _ in row] for row in found]), found[0][0][1]


def parts_without(
    probabilities: Float[np.ndarray, "draw seed example output"], labels: Int[np.ndarray, " example"]
) -> Float[np.ndarray, "part left_out"]:
    """The unbiased parts, of all draws, and of all but each: NaN where one draw is left.

    >>> parts_without(np.full((2, 2, 1, 2), 0.5), np.array([0]))[:, 0].tolist()
    [0.5, 0.5, 0.0, 0.0]
    """
    targets, n_draws = np.eye(probabilities.shape[-1])[labels], len(probabilities)
    of = [range(n_draws), *([one for one in range(n_draws) if one != left] for left in range(n_draws))]
    table = np.full((len(PARTS), n_draws + 1), np.nan)
    for column, draws in enumerate(of):
        if len(draws) > 1:
            parts = unbiased(probabilities[list(draws)], targets)
            table[:, column] = parts.risk, parts.bias, parts.data, parts.initialization
    return table


# ---- the levers ------------------------------------------------------------------------------------------------------


def beyond_grid(
    result: xr.Dataset,
    runs: Mapping[str, Run],
    design: BiasVarianceDesign,
    out: Path,
    *,
    processes: int | None = None,
    report: GridReport = lambda progress: None,
) -> xr.Dataset:
    """The result with what each lever did at three widths, on the same draws, trained under `out`/levers."""
    at = places(result)
    pulled = {(place, lever): _pulled(design, width, lever) for place, width in at.items() for lever in LEVERS}
    of_all = {one.name: one for rows in pulled.values() for row in rows for one in row}
    anew = [one for name, one in of_all.items() if name not in runs]
    trained = dict(runs) | run_grid(out / "levers", anew, processes=processes, report=report)
    table = result.levers.copy(deep=True)
    last = int(result.step[-1])
    for (place, lever), names in pulled.items():
        members, labels = _members(trained, names, lambda run: _digit_answers(run, last))
        probabilities = np.exp(members)
        if lever == "ensemble":
            probabilities = probabilities.mean(1, keepdims=True)
        table.loc[{"place": place, "lever": lever}] = parts_without(probabilities, labels)
    return result.assign(levers=table)


def _pulled(design: BiasVarianceDesign, width: int, lever: str) -> list[list[GridRun]]:
    """The runs that a lever is tried with; without one those of the grid."""
    if lever == "none":
        return _digits(design, width)
    if lever == "wider":
        return _digits(design, 2 * width, kept=KEPT if 2 * width in design.widths else None)
    if lever == "ensemble":
        return _digits(design, width, kept=None, first=design.seeds)
    if lever == "regularize":
        return _digits(design, width, kept=None, weight_decay=design.decay)
    return _digits(design, width, kept=None, n=2 * design.n)


# ---- what it says ----------------------------------------------------------------------------------------------------


def failed_precondition(result: xr.Dataset) -> str | None:
    """Why nothing can be said: too few draws or seeds for an interval of the parts."""
    n_draws, n_seeds = result.sizes["left_out"] - 1, int(result.attrs["seeds"])
    if n_draws < 3 or n_seeds < 2:
        return f"there are {n_draws} draws of {n_seeds} seeds; three of two are needed"
    return None


def predictions(result: xr.Dataset) -> list[Prediction]:
    """A verdict on every statement of the module."""
    failed = failed_precondition(result)
    return [
        judged(name, result) if failed is None else Prediction(name, statement, "not shown", failed, {})
        for name, statement in STATEMENTS.items()
    ]


def table(result: xr.Dataset) -> list[dict[str, str]]:
    """A row for each width and lever: the risk, and by how much it is lower."""
    return lever_rows(result)


def numbers(result: xr.Dataset) -> dict[str, Any]:
    """At the end, of each width: the parts with their intervals, the shares in words, and cross-entropy and votes."""
    words = {
        int(width): dict(zip(WORDS, result.digits_words.sel(width=width).values.tolist(), strict=True))
        for width in result.width.values
    }
    return {
        "digits": {
            f"width {width}": estimates(result.digits.sel(width=width).isel(step=-1))
            | words[width]
            | {"in_words": shares(result, width)}
            for width in result.width.values.tolist()
        },
        "addition": {
            f"{neurons} neurons": estimates(result.addition.sel(neurons=neurons).isel(addition_step=-1))
            for neurons in result.neurons.values.tolist()
        },
    }


def plot(result: xr.Dataset):
    """Stacked parts against width and against step, on digits and on addition."""
    return bias_variance_figure(result, TITLE, REFERENCE)
