"""The critical size. Four ways to D_crit, at one modulus, one weight decay, one eps and one width of network: do they
give one number?

D_crit is the number of training pairs at which memorizing them costs what the rule costs (Varma et al. 2023). Each way
reads it of each seed by itself, between neighbors in log D by a straight line:

    efficiency   the norm of networks that memorized random labels (C_mem) passes that of grokked ones (C_gen) at one
                 logit of the label, as in `interp.studies.circuit_efficiency`; but C_gen is measured at small D too, in
                 networks that grokked on 60 % of the pairs and go on with D of them. Where memory has more than a tenth
                 of the label's logit they are C_gen no more, and it cannot be measured: there it is a straight line of
                 log norm against log D through the D at which it can ("own slope"). `efficiency_flat` takes its mean
                 over these for all D
    isolated     the same, of the two circuits of one checkpoint, each isolated by training a network on it alone at
                 several strengths until it rests (`interp.studies.isolation`). At one logit of the label, as in
                 efficiency; `isolated_demanded` is at one strength that was demanded, of which a memory gives more: its
                 label must be ahead of crosstalk too
    ungrokking   the held-out accuracy of the networks that go on with D pairs passes ½
    growth       r_C passes r_M, the growth ratios of networks from scratch on D pairs, in the window of
                 `interp.studies.growth_at_a_moment`

The seed draws the split, the order of the pairs and the initial weights, and is the same for all four, so ratios are
taken within a seed. For each two of the four: they are the same to within 10 % where the 95 % interval over seeds
(Student's t of the logarithm) of the ratio lies between 1/1.1 and 1.1, not the same where it lies outside, each of the
six then covering 1 − 0.05/6, and it is not shown otherwise, as where one of them has no D_crit on some seed.

The ways assume different things, and none of them is D_crit by definition. Efficiency and isolation take a circuit to
cost alone what it costs beside another; random labels take memorizing true ones to be no cheaper; ungrokking takes the
end of training to be rest; growth reads networks that are far from rest, where ratios need not tell what costs less.
And what isolation gives hangs on what is held equal: at one lead over the next class instead of one logit, circuits
cost more.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from interp.errors import InputError
from interp.experiment import Experiment, Task
from interp.figures import as_percent
from interp.runs import Run
from interp.studies import circuit_efficiency, ungrokking
from interp.studies.circuit_efficiency import KINDS
from interp.studies.critical_size_figure import critical_size_figure
from interp.studies.critical_size_numbers import numbers_beside
from interp.studies.design import DecayDesign, Prediction
from interp.studies.growth_at_a_moment import CIRCUITS, measure_growth
from interp.studies.isolated_circuits import isolate_circuits, nothing_isolated
from interp.studies.isolation import LATE, least_separation, memory_share, parts_of
from interp.studies.size_crossings import geometric_mean
from interp.studies.ways_to_critical_size import METHODS, compare, counts, critical_sizes, told
from interp.sweeps import GridReport, GridRun

TITLE = "The critical size: four ways to D_crit"
REFERENCE = "Varma et al. 2023, arXiv:2309.02390, §3–5; isolation and growth ratios: ours"
DESIGN = DecayDesign(
    p=43,
    sizes=(120, 160, 200, 250, 310, 380, 500, 740),
    weight_decays=(0.3, 1.0, 3.0, 10.0),
    seeds=8,
    duration=10,
    eps=3e-4,
    d_model=64,
    d_mlp=256,
)
FULL = DecayDesign(
    sizes=(280, 390, 488, 610, 763, 955, 1194, 1494, 2000, 3000, 5000),
    weight_decays=(0.3, 1.0, 3.0),
    seeds=10,
    duration=40,
    lr=1e-3,
    rescale_lr=False,
    eps=1e-5,
)
# Of all pairs: what networks grok on before they go on with fewer; up to where memories are trained; and from where on
# networks that go on with fewer pairs do so at every weight decay (below, they leave their circuit: one shows that).
START_SHARE, MEMORIZED_UP_TO, HELD_FROM = 0.6, 0.21, 0.13
# Weights are kept every so many units of 1/(lr·wd), of networks that grok for so long, and of those from scratch.
SPACING, BOTH_UNTIL, GROWTH_DURATION = 0.1, 6.0, 2.0
# Those from scratch have half the learning rate, and with it twice the steps in the window.
GROWTH_RATE = 0.5
# In logits, of the label: what isolated circuits are to hold.
STRENGTHS = (4.0, 10.0, 25.0)


def grid(design: DecayDesign, *, full: bool = False) -> list[GridRun]:
    """For every seed a network that groks on 60 % of the pairs; those that go on with D pairs, and those that memorize
    random labels of few pairs, over weight decays; and networks from scratch on D pairs, for a short time."""
    middle, runs = middle_weight_decay(design), []
    if not _start_task(design, 0).mask("held_out").any():
        raise InputError(
            f"with {max(design.sizes)} of {design.p**2} pairs, the most of sizes, no pair is held out of training, so "
            "that none could tell whether a network has grokked; choose fewer"
        )
    for seed in range(design.seeds):
        start = _kept(design, _start_task(design, seed), duration=design.duration, until=BOTH_UNTIL, spacing=SPACING)
        runs.append(GridRun(f"start-seed{seed}", start))
        for size in sorted(design.sizes):
            task = Task(design.p, train_pairs=size, seed=seed)
            labels = Task(design.p, operation="random", symmetric=True, train_pairs=size, seed=seed)
            for decay in design.weight_decays:
                if decay == middle or size >= HELD_FROM * design.p**2:
                    name = circuit_efficiency.name("generalizing", size, decay, seed)
                    experiment = circuit_efficiency.at_weight_decay(design, task, decay, seed)
                    runs.append(GridRun(name, experiment, start=f"start-seed{seed}"))
                if size in memorized_sizes(design):
                    name = circuit_efficiency.name("memorizing", size, decay, seed)
                    runs.append(GridRun(name, circuit_efficiency.at_weight_decay(design, labels, decay, seed)))
            slower, spacing = replace(design, lr=GROWTH_RATE * design.lr), GROWTH_RATE * SPACING
            scratch = _kept(slower, task, duration=GROWTH_DURATION, until=GROWTH_DURATION, spacing=spacing)
            runs.append(GridRun(f"growth-D{size}-seed{seed}", scratch))
    return runs


def _start_task(design: DecayDesign, seed: int) -> Task:
    return Task(design.p, train_pairs=max(round(START_SHARE * design.p**2), *design.sizes), seed=seed)


def _kept(design: DecayDesign, task: Task, *, duration: float, until: float, spacing: float) -> Experiment:
    """A run of the middle weight decay whose weights are kept at even steps."""
    design = replace(design, duration=duration)
    experiment = circuit_efficiency.at_weight_decay(design, task, middle_weight_decay(design), task.seed)
    steps = experiment.training.steps
    every = max(1, round(steps * spacing / duration))
    kept = tuple(range(0, round(min(1, until / duration) * steps) + 1, every))
    return replace(experiment, training=replace(experiment.training, checkpoint_steps=kept, log_every=every))


def middle_weight_decay(design: DecayDesign) -> float:
    """The one weight decay at which the four are compared."""
    return sorted(design.weight_decays)[(len(design.weight_decays) - 1) // 2]


def memorized_sizes(design: DecayDesign) -> list[int]:
    """The D of which memories are trained."""
    return sorted(size for size in design.sizes if size <= MEMORIZED_UP_TO * design.p**2)


def measure(runs: Mapping[str, Run], design: DecayDesign) -> xr.Dataset:
    """What `circuit_efficiency.measure` gives of the networks that memorized and of those that went on, [kind, size,
    weight_decay, seed], those alone `kept` that are at rest by the `norm_range` over the last quarter too, and of one
    circuit by the `memory_share`; at the middle weight decay `held_out_accuracy` [size, seed] of those that went on,
    over pairs that neither training could have memorized, and the `rest_separation` [seed] of that with most;
    `growth_ratio` [circuit, size, seed]; `start_accuracy` [seed], held-out, of those that were begun with; and the
    numbers of isolated circuits, not there yet (`beyond_grid`)."""
    sizes, middle = sorted(design.sizes), middle_weight_decay(design)
    result = circuit_efficiency.measure(runs, design)
    share, norm_range = (np.full(result.kept.shape, np.nan) for _ in range(2))
    for index in np.ndindex(*share.shape):
        kind, size, decay = KINDS[index[0]], sizes[index[1]], sorted(design.weight_decays)[index[2]]
        if (run := runs.get(circuit_efficiency.name(kind, size, decay, index[3]))) is not None:
            norm_range[index] = late_range(run.metrics.step.values, run.metrics.weight_norm.values)
            share[index] = memory_share(run.last) if kind == "generalizing" else np.nan
    accuracy = np.full((len(sizes), design.seeds), np.nan)
    ratio = np.full((len(CIRCUITS), len(sizes), design.seeds), np.nan)
    starts = [runs[f"start-seed{seed}"].last for seed in range(design.seeds)]
    for row, size in enumerate(sizes):
        for seed, start in enumerate(starts):
            run = runs.get(circuit_efficiency.name("generalizing", size, middle, seed))
            if run is not None:
                unseen = run.task.mask("held_out") & start.task.mask("held_out")
                accuracy[row, seed] = run.last.correct[unseen].mean() if unseen.any() else np.nan
    names = {
        f"growth-D{size}-seed{seed}": (row, seed) for row, size in enumerate(sizes) for seed in range(design.seeds)
    }
    if scratch := {name: runs[name] for name in names if name in runs}:
        growth = measure_growth(scratch)
        for name, place in names.items():
            if name in scratch:
                ratio[:, *place] = growth.ratio.sel(run=name).values
    last = [runs.get(circuit_efficiency.name("generalizing", sizes[-1], middle, seed)) for seed in range(design.seeds)]
    separation = np.array([math.nan if run is None else least_separation(parts_of(run.last).circuit) for run in last])
    started = np.array([start.accuracy("held_out") for start in starts])
    words = {
        "held_out_accuracy": "final accuracy on pairs that neither training could have memorized",
        "growth_ratio": "growth ratio in the window",
        "memory_share": "share of memory in the logit of the label",
        "norm_range": "range of the norm over the last quarter, relative",
        "start_accuracy": "held-out accuracy of the network that was begun with",
        "rest_separation": "how far the label of the circuit is ahead of the next class, over its logit, at most pairs",
    }
    values = {
        "held_out_accuracy": (("size", "seed"), accuracy),
        "growth_ratio": (("circuit", "size", "seed"), ratio),
        "start_accuracy": ("seed", started),
        "rest_separation": ("seed", separation),
        "memory_share": (result.kept.dims, share),
        "norm_range": (result.kept.dims, norm_range),
    }
    ours = {key: (axes, of, {"long_name": words[key], "units": "1"}) for key, (axes, of) in values.items()}
    circuit = {"circuit": ("circuit", np.array(CIRCUITS), {"long_name": "circuit", "units": "name"})}
    isolated = nothing_isolated(memorized_sizes(design), design.p, STRENGTHS, design.seeds)
    result = counts(result.assign(ours).assign_coords(circuit).assign_attrs(middle_weight_decay=middle))
    return result.merge(isolated)


def late_range(steps: Int[np.ndarray, " step"], norms: Float[np.ndarray, " step"]) -> float:
    """The highest norm of the last quarter of a training over the lowest, less one.

    >>> late_range(np.arange(9), np.array([5.0, 4.0, 3.0, 9.0, 2.0, 2.0, 2.0, 2.5, 2.0]))
    0.25
    """
    late = norms[steps >= (1 - LATE) * steps[-1]]
    return float(late.max() / late.min() - 1)


def beyond_grid(
    result: xr.Dataset,
    runs: Mapping[str, Run],
    design: DecayDesign,
    out: Path,
    *,
    processes: int | None = None,
    report: GridReport = lambda progress: None,
) -> xr.Dataset:
    """The result with the circuits that are isolated out of the networks that were begun with, under `out`/isolated."""
    starts = [runs[f"start-seed{seed}"] for seed in range(design.seeds)]
    config = circuit_efficiency.at_weight_decay(design, starts[0].task, middle_weight_decay(design), 0).training
    isolated = isolate_circuits(
        starts, memorized_sizes(design), STRENGTHS, config, out / "isolated", processes=processes, report=report
    )
    return result.assign(isolated.data_vars)


def failed_precondition(result: xr.Dataset) -> str | None:
    """Why nothing can be said, where nothing can: a network to begin with had not grokked."""
    lowest = float(result.start_accuracy.min())
    if lowest >= ungrokking.START_LEVEL:
        return None
    return f"a network to begin with has a held-out accuracy of {as_percent(lowest)}: it had not grokked"


def predictions(result: xr.Dataset) -> list[Prediction]:
    """For every two of the four ways, whether they give one D_crit; each has the table of all of them in its
    numbers."""
    pairs = list(combinations(METHODS, 2))
    if (because := failed_precondition(result)) is not None:
        return [Prediction(f"{a}-{b}", _statement(a, b), "not shown", because, {}) for a, b in pairs]
    found = critical_sizes(result)
    table = {way: told(values) for way, values in found.items()}
    return [_same(a, b, found, len(pairs), {"d_crit": table}) for a, b in pairs]


def _statement(a: str, b: str) -> str:
    return f"{METHODS[a]} and {METHODS[b]} have one D_crit, to within 10 %"


def _same(a: str, b: str, found: Mapping[str, np.ndarray], n: int, shared: dict) -> Prediction:
    ratios = found[b] / found[a]
    verdict, (low, high), wider = compare(ratios, n)
    values = {"ratio": geometric_mean(ratios), "ratio_interval_95": (low, high), "ratio_interval_of_several": wider}
    lacking = {way: known for way in (a, b) if (known := int(np.isfinite(found[way]).sum())) < len(ratios)}
    if lacking:
        of_n = f"of {len(ratios)} seeds have a D_crit"
        because = "; ".join(f"{METHODS[way]}: {known} {of_n}" for way, known in lacking.items())
    elif not np.isfinite([low, high]).all():
        because = "one seed says nothing of others"
    else:
        side = "holds 1" if low <= 1 <= high else "lies above 1" if low > 1 else "lies below 1"
        because = f"the second over the first is {values['ratio']:.2f} ({low:.2f} to {high:.2f}, 95 %), which {side}"
    return Prediction(f"{a}-{b}", _statement(a, b), verdict, because, values | shared)


def numbers(result: xr.Dataset) -> dict:
    """What stands beside the table (`interp.studies.critical_size_numbers.numbers_beside`); nothing where nothing can
    be said."""
    return {} if failed_precondition(result) is not None else numbers_beside(result)


def plot(result: xr.Dataset):
    """Norm against strength of both isolated circuits; norm at one logit against D; what is read for the other two; and
    D_crit by each way."""
    return critical_size_figure(result, TITLE, REFERENCE)
