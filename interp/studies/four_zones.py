"""Four zones. Do two curves, what a network can memorize and what it needs to generalize, say how it will learn?

Huang et al. draw two curves over the size of the network: D_mem, how many facts the network can memorize, and D_crit,
from how many training pairs on it generalizes. They make four zones:

    progression     D > D_mem            it cannot memorize, and learns both at once
    grokking        D_crit < D < D_mem   it memorizes first
    ungrokking      D < D_crit, D_mem    it memorizes and stays there
    semi-grokking   around D_crit        it generalizes in part

D_mem(width) is the share of a random table, the same for (a, b) and (b, a), that the same training comes to know of all
p² pairs, times the p(p + 1)/2 facts that it has; what a run of addition is asked to memorize is counted in facts too.
D_crit(width) is where final held-out accuracy passes ½, over log D; within half of the 10 to 90 % width of it is
semi-grokking.

What a zone says is compared with what each run is, told from its own curves (`curve_label`), by Cohen's κ. The zone of
a run comes of the other seeds alone. Even so D_crit is told from the same kind of run, so that "ungrokking" is right
wherever seeds resemble each other; what can fail is D_mem, which never saw addition: it has a prediction of its own.
Confirmed where the interval of κ over seeds lies above 0.6, and permuting whole cells comes so far in at most 5 %.

It cannot tell the mechanism: two runs of one zone may compute in different ways. D_mem and "never" are of this budget
and this weight decay.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from interp.errors import InputError, check_integer, check_number
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.figures import as_count
from interp.mathematics.agreement import SUBSTANTIAL, cohens_kappa, kappa_null
from interp.mathematics.intervals import seed_interval
from interp.runs import Run, events_of
from interp.studies.design import Design, Prediction, Verdict
from interp.studies.four_zones_figure import four_zones_figure
from interp.studies.zone_borders import HALF, border, zone
from interp.sweeps import GridRun

TITLE = "Four zones: what is memorized and what is learned, by size"
REFERENCE = "Huang et al. 2024, arXiv:2402.15175"
HEADS = 4


@dataclass(frozen=True, kw_only=True)
class ZoneDesign(Design):
    """Sizes of a one-layer transformer and of its training set, and how all of them train."""

    p: int = 43
    """The modulus of a + b."""
    seeds: int = 3
    """Seeds 0 … N−1, each of table or split and of initial weights."""
    widths: tuple[int, ...] = (4, 12, 32)
    """Widths of the residual stream (4 heads): multiples of 4."""
    sizes: tuple[int, ...] = (450, 700, 1000, 1400)
    """Training pairs D."""
    d_mlp: int = 128
    """Neurons of the widest network; the others have them in proportion to their width."""
    steps: int = 3000
    """Steps of a run."""
    lr: float = 5e-3
    """AdamW's learning rate."""
    weight_decay: float = 1.0
    """AdamW's weight decay."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("widths", "sizes"):
            values = getattr(self, name)
            if not values:
                raise InputError(f"{name} is empty; give at least one")
            if len(set(values)) != len(values):
                raise InputError(f"{name} names a value twice: {' '.join(map(str, values))}")
        for width in self.widths:
            check_integer("widths", width, HEADS)
            if width % HEADS:
                raise InputError(f"widths are multiples of {HEADS}, the number of heads; got {width}")
        for size in self.sizes:
            check_integer("sizes", size, 1, self.p**2)
        check_integer("d-mlp", self.d_mlp, 1)
        check_integer("steps", self.steps, 1)
        check_number("lr", self.lr, 0, above=True)
        check_number("weight-decay", self.weight_decay, 0)

    def experiment(self, task: Task, width: int, seed: int) -> Experiment:
        """A run: a line of metrics at every 150th part of it, weights at its ends alone."""
        neurons = max(1, round(self.d_mlp * width / max(self.widths)))
        training = TrainingConfig(
            steps=self.steps,
            lr=self.lr,
            weight_decay=self.weight_decay,
            checkpoint_every=None,
            log_every=max(1, self.steps // 150),
        )
        return Experiment(task, ModelConfig(d_model=width, n_heads=HEADS, d_mlp=neurons, seed=seed), training)


DESIGN = ZoneDesign()
FULL = ZoneDesign(
    p=113,
    seeds=11,
    widths=(8, 16, 24, 32, 48, 64),
    sizes=(2000, 2600, 3000, 3500, 4000, 5000),
    d_mlp=256,
    steps=40_000,
    lr=1e-3,
)


def grid(design: ZoneDesign, *, full: bool = False) -> list[GridRun]:
    """By seed and width a run on random labels of all pairs, (b, a) labeled as (a, b), and one on a + b for each D."""
    runs = []
    for seed in range(design.seeds):
        for width in design.widths:
            labels = Task(design.p, operation="random", symmetric=True, train_pairs=design.p**2, seed=seed)
            runs.append(GridRun(name(width, None, seed), design.experiment(labels, width, seed)))
            for size in design.sizes:
                task = Task(design.p, train_pairs=size, seed=seed)
                runs.append(GridRun(name(width, size, seed), design.experiment(task, width, seed)))
    return runs


def name(width: int, size: int | None, seed: int) -> str:
    """The folder of a run; of random labels without a D.

    >>> name(16, 800, 2), name(16, None, 2)
    ('width16-D800-seed2', 'width16-random-seed2')
    """
    return f"width{width}-{'random' if size is None else f'D{size}'}-seed{seed}"


ZONES = ("progression", "grokking", "semi-grokking", "ungrokking")
ZONE_OF = {
    "grokking": "grokking",
    "comprehension": "grokking",
    "memorization": "ungrokking",
}  # other words are their own
SEMI_LOW, SEMI_HIGH, FLAT, LATE = 0.2, 0.9, 0.05, 0.8
KNOWN = 0.99


def curve_label(
    steps: Int[np.ndarray, " step"],
    train: Float[np.ndarray, " step"],
    held_out: Float[np.ndarray, " step"],
    verdict: str,
) -> str:
    """What the accuracies of a run are called, looking at no other run: "progression" where held-out accuracy passed ½
    while training accuracy was below 99 %; "semi-grokking" where training pairs are known and held-out accuracy ends
    between 20 and 90 %, and moved by less than 5 points in the last fifth; else its `verdict`, that of
    `interp.mathematics.grokking`.

    >>> steps, held_out = np.arange(10), np.array([0, 0, 0, 0.1, 0.4, 0.6, 0.6, 0.6, 0.6, 0.6])
    >>> curve_label(steps, np.minimum(steps / 8, 1), held_out, "memorization")
    'progression'
    >>> curve_label(steps, np.minimum(steps / 3, 1), held_out, "memorization")
    'semi-grokking'
    """
    passed = np.flatnonzero(held_out >= HALF)
    if len(passed) and train[passed[0]] < KNOWN:
        return "progression"
    late = held_out[steps >= LATE * steps[-1]]
    if train[-1] >= KNOWN and SEMI_LOW < held_out[-1] < SEMI_HIGH and np.ptp(late) < FLAT:
        return "semi-grokking"
    return verdict


def norm_change(train: Float[np.ndarray, " step"], norms: Float[np.ndarray, " step"]) -> float:
    """ln of the last weight norm over that at the first logged step at which half of the training pairs were right; NaN
    where they never were.

    >>> round(norm_change(np.array([0.0, 0.6, 1.0]), np.array([1.0, 8.0, 2.0])), 3)  # ln(2/8)
    -1.386
    """
    reached = np.flatnonzero(train >= HALF)
    return float(np.log(norms[-1] / norms[reached[0]])) if len(reached) else math.nan


def n_facts(task: Task) -> int:
    """How many different facts a + b = c the training pairs are: (a, b) and (b, a) are one.

    >>> n_facts(Task(7, train_fraction=1.0))
    28
    """
    return len({tuple(sorted(pair)) for pair in task.pairs[task.train_indices].tolist()})


def measure(runs: Mapping[str, Run], design: ZoneDesign) -> xr.Dataset:
    """`label` [width, size, seed] of each run, its final `train_accuracy` and `held_out_accuracy`, and `norm_change`;
    the `facts` [size, seed] it was trained on; and the `memory` [width, seed], facts of a random table that the same
    training comes to know."""
    widths, sizes = sorted(design.widths), sorted(design.sizes)
    shape = (len(widths), len(sizes), design.seeds)
    labels = np.full(shape, "", dtype="<U16")
    train, held_out, change = (np.full(shape, np.nan) for _ in range(3))
    memory, facts = np.full(shape[::2], np.nan), np.full(shape[1:], np.nan)
    for i, j, seed in np.ndindex(*shape):
        run = runs[name(widths[i], sizes[j], seed)]
        steps, norms = run.metrics.step.values, run.metrics.weight_norm.values
        known, unseen = run.curves.accuracy.sel(split=["train", "held_out"]).values.T
        labels[i, j, seed] = curve_label(steps, known, unseen, events_of(run).verdict)
        change[i, j, seed] = norm_change(known, norms)
        train[i, j, seed], held_out[i, j, seed] = known[-1], unseen[-1]
        facts[j, seed] = n_facts(run.task)
    for i, seed in np.ndindex(*memory.shape):
        known = runs[name(widths[i], None, seed)].metrics.train_accuracy.values[-1]
        memory[i, seed] = known * design.p * (design.p + 1) / 2
    axes, unit = ("width", "size", "seed"), {"units": "1"}
    return xr.Dataset(
        {
            "label": (axes, labels, {"long_name": "what the curves of the run are called", "units": "name"}),
            "train_accuracy": (axes, train, {"long_name": "final train accuracy"} | unit),
            "held_out_accuracy": (axes, held_out, {"long_name": "final held-out accuracy"} | unit),
            "norm_change": (axes, change, {"long_name": "change of the log norm since half was known"} | unit),
            "memory": (axes[::2], memory, {"long_name": "facts of a random table known at the end", "units": "facts"}),
            "facts": (axes[1:], facts, {"long_name": "facts trained on", "units": "facts"}),
        },
        coords={
            "width": ("width", np.array(widths, dtype=np.int32), {"long_name": "width"} | unit),
            "size": ("size", np.array(sizes, dtype=np.int32), {"long_name": "training pairs D", "units": "pairs"}),
            "seed": ("seed", np.arange(design.seeds, dtype=np.int32), {"long_name": "seed"} | unit),
        },
    )


def zones(result: xr.Dataset) -> np.ndarray:
    """The zone of every run [width, size, seed], from the curves of all other seeds: a run has no say in its own."""
    sizes, found = result["size"].values, np.full(result.label.shape, "", dtype="<U16")
    n = result.sizes["seed"]
    for i, seed in np.ndindex(result.sizes["width"], n):
        others = [other for other in range(n) if other != seed]
        at = border(sizes, result.held_out_accuracy.values[i][:, others])
        memory = float(result.memory.values[i, others].mean())
        for j, size in enumerate(sizes):
            found[i, j, seed] = zone(float(size), float(result.facts.values[j, seed]), memory, at, sizes)
    return found


def called(result: xr.Dataset) -> np.ndarray:
    """The zone that the label of each run belongs to [width, size, seed]; a label of no zone stays what it is."""
    return np.vectorize(lambda label: ZONE_OF.get(label, label), otypes=["<U16"])(result.label.values)


def failed_precondition(result: xr.Dataset) -> str | None:
    """Why nothing can be said: a zone is told from other seeds, and an interval needs two at least."""
    if result.sizes["seed"] < 3:
        return f"{as_count(result.sizes['seed'], 'seed')} cannot be compared with curves of others; three are needed"
    return None


_STATEMENTS = {
    "zones": "runs are what the zone of their width and D says",
    "memory": "of runs that generalize, those with more facts than the network can memorize are progression",
    "norm": "the norm falls in the zone of grokking and rises in that of progression",
}


def predictions(result: xr.Dataset) -> list[Prediction]:
    """Agreement of labels with zones by Cohen's κ; the same for what capacity alone says; and the norm."""
    if (because := failed_precondition(result)) is not None:
        return [Prediction(key, text, "not shown", because, {}) for key, text in _STATEMENTS.items()]
    told, labels = zones(result), called(result)
    generalized = np.isin(labels, ("progression", "grokking"))
    exceeds = np.where(generalized, np.where(told == "progression", "more", "fewer"), "")
    progress = np.where(generalized, np.where(labels == "progression", "more", "fewer"), "")
    return [_agreement("zones", told, labels), _agreement("memory", exceeds, progress), _norms(result, told)]


def _agreement(key: str, told: np.ndarray, labels: np.ndarray) -> Prediction:
    """Confirmed where the interval of κ over seeds lies above 0.6 and permuted cells agree so well in at most 5 % of
    cases, not confirmed where the interval lies below. Empty words have no say."""
    n = told.shape[-1]

    def kappa(seeds: list[int]) -> float:
        one, other = told[..., seeds], labels[..., seeds]
        return cohens_kappa(one[one != ""], other[one != ""])

    value, (low, high) = kappa([*range(n)]), np.clip(seed_interval(n, kappa), -1, 1).tolist()
    cells, others = told.reshape(-1, n), labels.reshape(-1, n)
    whole = (cells != "").all(1)  # cells of which every run has a say
    null = kappa_null(cells[whole], others[whole])
    numbers = {"kappa": value, "kappa_interval_95": (low, high), "runs": int((told != "").sum())}
    numbers |= {"agree": int(((told == labels) & (told != "")).sum())}
    numbers |= {"null_95": null.quantile_95, "null_p": null.p_value}
    because = f"{numbers['agree']} of {numbers['runs']} agree, κ {value:.2f} ({low:.2f} to {high:.2f}, 95 %)"
    because += f"; of permuted cells 95 % have at most {null.quantile_95:.2f}"
    if not math.isfinite(low):
        return Prediction(key, _STATEMENTS[key], "not shown", "too few labels differ to tell agreement", numbers)
    verdict: Verdict = "not confirmed" if high < SUBSTANTIAL else "not shown"
    if low >= SUBSTANTIAL and null.p_value <= 0.05:
        verdict = "confirmed"
    return Prediction(key, _STATEMENTS[key], verdict, because, numbers)


def _norms(result: xr.Dataset, told: np.ndarray) -> Prediction:
    """By the mean change of the log norm in either zone, and its interval over seeds."""
    change, key = result.norm_change.values, "norm"
    numbers: dict[str, Any] = {}
    for one in ("grokking", "progression"):
        inside = np.where((told == one) & np.isfinite(change), change, np.nan)

        def mean(seeds: list[int], inside: np.ndarray = inside) -> float:
            values = inside[..., seeds]
            return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan

        n = change.shape[-1]
        numbers[one] = {"mean": mean([*range(n)]), "interval_95": seed_interval(n, mean).tolist()}
    (_, falls), (rises, _) = numbers["grokking"]["interval_95"], numbers["progression"]["interval_95"]
    low, high = numbers["grokking"]["interval_95"][0], numbers["progression"]["interval_95"][1]
    if not np.isfinite([low, falls, rises, high]).all():
        return Prediction(key, _STATEMENTS[key], "not shown", "one of the two zones has no runs of every seed", numbers)
    because = ", ".join(
        f"{one} {of['mean']:+.2f} ({of['interval_95'][0]:+.2f} to {of['interval_95'][1]:+.2f}, 95 %)"
        for one, of in numbers.items()
    )
    verdict: Verdict = "confirmed" if falls < 0 < rises else "not confirmed" if low > 0 or high < 0 else "not shown"
    return Prediction(key, _STATEMENTS[key], verdict, f"ln of the norm changes by: {because}", numbers)


def numbers(result: xr.Dataset) -> dict[str, Any]:
    """A sentence for each width and D, and the two curves."""
    if failed_precondition(result) is not None:
        return {}
    sizes, told = result["size"].values, zones(result)
    borders = [border(sizes, of) for of in result.held_out_accuracy.values]
    sentences = [
        f"At width {row['width']} and D = {row['D']} theory says {row['zone']}, {row['runs']}."
        for row in _rows(result, told)
    ]
    return {
        "sentences": sentences,
        "d_mem_facts": dict(zip(map(str, result.width.values), result.memory.values.mean(1).tolist(), strict=True)),
        "d_crit": {str(width): at.critical for width, at in zip(result.width.values, borders, strict=True)},
    }


def table(result: xr.Dataset) -> list[dict[str, str]]:
    """A row for each width and D: its facts, the zone, and what its runs are called."""
    return _rows(result, zones(result))


def _rows(result: xr.Dataset, told: np.ndarray) -> list[dict[str, str]]:
    rows = []
    for i, j in np.ndindex(*result.label.shape[:2]):
        n = result.sizes["seed"]
        counts = Counter(result.label.values[i, j].tolist()).most_common()
        rows.append(
            {
                "width": str(result.width.values[i]),
                "D": str(result["size"].values[j]),
                "facts": f"{result.facts.values[j].mean():.0f}",
                "memorizes": f"{result.memory.values[i].mean():.0f}",
                "zone": " or ".join(dict.fromkeys(told[i, j].tolist())),
                "runs": ", ".join(f"{count} of {n} are {label}" for label, count in counts),
            }
        )
    return rows


def plot(result: xr.Dataset):
    """What most runs are called at every width and number of facts, with D_mem and D_crit; and the change of the
    norm."""
    return four_zones_figure(result, TITLE, REFERENCE)
