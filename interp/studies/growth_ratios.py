"""Growth ratios. Do the forces on the plateau tell who will generalize, and when?

The growth ratio r of a circuit is what the loss pushes it up by, over what weight decay pulls it down by
(`circuit_forces`): above 1 it grows, at 1 it rests. r_C, of the rule, and r_M, of memory, are read in one window that
is chosen before anything is known of the end: from 1.5 to 3 times the step at which the training pairs were known. The
forecasts, and what they have to beat, are those of `growth_forecasts`. Networks are trained from scratch on D pairs, at
several weight decays, at a second modulus, without weight decay, and on random labels.

sign: r_C > r_M tells who generalizes (99 % of the held-out pairs, for good): confirmed where the 95 % interval (exact,
binomial) of the share of networks that generalized of which it says so, and of those that did not of which it denies
it, lie above 80 %, not confirmed where one of the two lies below. data: r_C is the same for every D, confirmed where
the 95 % interval over seeds of its slope against log₂ D lies within ±0.01 (what counts as rest), not confirmed where it
lies outside. alone, over-memory: the forecasts have a lower error than both baselines, by the constants of the other
seeds: confirmed where the 95 % interval over seeds of the difference of median errors lies below 0 for both and at most
a fifth of the forecasts are unknown, not confirmed where for one it lies above 0 or more are unknown. Not shown
otherwise. The rule over memory was chosen on the seeds 0 and 1 of the first modulus, at weight decay 1.

It cannot tell never from later than we trained: 20 units of 1/(lr·wd). On random labels C is of the frequencies that
stood out most, of which none need be a circuit.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy import stats

from interp.experiment import Task
from interp.mathematics import account
from interp.mathematics.intervals import COVERAGE, mean_interval, seed_interval, slope
from interp.runs import Run
from interp.studies import growth_forecasts as forecasts
from interp.studies.design import DecayDesign, Prediction, Verdict
from interp.studies.growth_at_a_moment import (
    TARGETS,
    by_size,
    mean_of_known,
    measure_growth,
    of_grid,
    outcome,
    still_to_come,
    told_by_size,
)
from interp.studies.growth_figure import growth_figure
from interp.sweeps import GridRun

TITLE = "Growth ratios: who generalizes, and when"
REFERENCE = "ours; circuits and their costs after Varma et al. 2023, arXiv:2309.02390, §3"
DESIGN = DecayDesign(
    p=43,
    sizes=(370, 462, 555, 647, 740, 832, 1017),
    weight_decays=(1.0, 2.0),
    seeds=5,
    duration=20,
    lr=5e-3,
    rescale_lr=False,
    d_model=32,
    d_mlp=128,
)
FULL = DecayDesign(
    sizes=(2300, 3064, 3830, 4596, 5745), weight_decays=(0.5, 1.0, 2.0), seeds=5, duration=40, lr=1e-3, rescale_lr=False
)
OTHER_MODULUS = 59 / 43
# Of the sizes: with fewer pairs none generalizes in this time, with more they have before there is a forecast.
ELSEWHERE = slice(-5, -1)
# Checkpoints: every so many steps at first, then every so many units of 1/(lr·wd), then every one.
DENSE, DENSE_UNTIL = 10, 400
CLOSE, CLOSE_UNTIL = 0.1, 5
SHARE, MOST_UNKNOWN = 0.8, 0.2


def grid(design: DecayDesign, *, full: bool = False) -> list[GridRun]:
    """A run per size, weight decay and seed; per seed, at the middle weight decay, four of the shares of the pairs at
    another modulus, and as controls, of the second largest size, one run without weight decay and one on random
    labels (on a pair less, so that it is a setting of its own)."""
    middle, other = _middle(design), other_modulus(design.p)
    elsewhere = [round(size * (other / design.p) ** 2) for size in sorted(design.sizes)[ELSEWHERE]]
    size = sorted(design.sizes)[-2:][0]
    runs = []
    for seed in range(design.seeds):
        tasks = [Task(design.p, train_pairs=size, seed=seed) for size in design.sizes]
        runs += [_run(design, task, decay) for decay in design.weight_decays for task in tasks]
        runs += [_run(design, Task(other, train_pairs=size, seed=seed), middle) for size in elsewhere]
        runs.append(_run(design, Task(design.p, train_pairs=size - 1, label_noise=1.0, seed=seed), middle))
        runs.append(_run(design, Task(design.p, train_pairs=size, seed=seed), middle, decays=False))
    return runs


def other_modulus(p: int) -> int:
    """The first prime from 59/43 of p on.

    >>> other_modulus(43), other_modulus(11)
    (59, 17)
    """
    return next(n for n in range(round(p * OTHER_MODULUS), 4 * p) if all(n % d for d in range(2, math.isqrt(n) + 1)))


def _middle(design: DecayDesign) -> float:
    return sorted(design.weight_decays)[(len(design.weight_decays) - 1) // 2]


def _run(design: DecayDesign, task: Task, decay: float, *, decays: bool = True) -> GridRun:
    """A run; as long, and with as many weights kept, where nothing decays."""
    steps = kept(design.steps(decay), design.duration)
    found = design.experiment(task, decay, task.seed, log_every=10, checkpoint_steps=steps)
    if not decays:
        found = replace(found, training=replace(found.training, weight_decay=0.0))
    return GridRun(name(task, found.training.weight_decay), found)


def kept(steps: int, duration: float) -> tuple[int, ...]:
    """The steps at which weights are kept, of a run of so many units of 1/(lr·wd).

    >>> kept(2000, 20)[38:42], kept(2000, 20)[-2:]
    ((380, 390, 400, 410), (1900, 2000))
    """
    unit = steps / duration
    close = [round(unit * CLOSE * n) for n in range(round(CLOSE_UNTIL / CLOSE) + 1)]
    sparse = [round(unit * (CLOSE_UNTIL + n)) for n in range(max(0, int(duration - CLOSE_UNTIL)) + 1)]
    every = {*range(0, DENSE_UNTIL, DENSE), *(step for step in close if step >= DENSE_UNTIL), *sparse}
    return tuple(sorted(step for step in every if step <= steps))


def name(task: Task, decay: float) -> str:
    """The folder of a run."""
    labels = "-random" if task.label_noise else ""
    return f"p{task.p}-D{len(task.train_indices)}-wd{decay:g}{labels}-seed{task.seed}"


def measure(runs: Mapping[str, Run], design: DecayDesign) -> xr.Dataset:
    """`interp.studies.growth_at_a_moment`, of every run."""
    return measure_growth(runs).assign_attrs(p=design.p, middle_weight_decay=_middle(design))


def failed_precondition(result: xr.Dataset) -> str | None:
    """Why nothing can be said, where nothing can."""
    ours = of_grid(result, int(result.attrs["p"]))
    if len(np.unique(ours.seed)) < 2:
        return "there is one seed, which says nothing of others; two are needed"
    if not (ours.known_from > 0).any():
        return "no network knew its training pairs at any checkpoint"
    did = np.isfinite(ours.generalized.values)
    if did.all() or not did.any():
        return f"{'all' if did.all() else 'none'} of {len(did)} networks generalized in the time given"
    if not (ours.generalized > ours.moment).any():
        return "none generalized after the moment that forecasts are read at"
    return None


def predictions(result: xr.Dataset) -> list[Prediction]:
    """Who, by the sign; whether r_C hangs on D; and when, by two forecasts."""
    numbers = {"runs": result.sizes["run"]}
    if (because := failed_precondition(result)) is not None:
        return [Prediction(key, text, "not shown", because, numbers) for key, text in _STATEMENTS.items()]
    alone, over = (_when(result, key, method) for key, method in _METHODS.items())
    return [_sign(result), _data(result), alone, over]


_STATEMENTS = {
    "sign": "on the plateau r_C > r_M tells who generalizes",
    "data": "r_C is the same for every D",
    "alone": "the growth of the rule tells when it generalizes, better than both baselines",
    "over-memory": "the growth of the rule over memory tells when it generalizes, better than both baselines",
}
_METHODS = dict(zip(("alone", "over-memory"), forecasts.FORECASTS, strict=True))


# ---- who -------------------------------------------------------------------------------------------------------------


def _sign(result: xr.Dataset) -> Prediction:
    asked = of_grid(result)
    numbers = {
        "in_the_window": _counts(asked, asked.ratio),
        "on_the_plateau_known_afterwards": _counts(asked, asked.plateau_ratio),
        "area_under_curve": {
            f"p_{modulus}": {target: _areas(of_grid(result, modulus), target) for target in TARGETS}
            for modulus in np.unique(asked.modulus).tolist()
        },
        "not_in_the_grid": {
            name: _counts(some, some.ratio)
            for name, some in (
                ("random_labels", result.isel(run=np.flatnonzero(result.random_labels == 1))),
                ("no_weight_decay", result.isel(run=np.flatnonzero(result.weight_decay == 0))),
            )
        },
    }
    told = numbers["in_the_window"]
    shares = [told["share_of_those_that_generalized_interval_95"], told["share_of_the_others_interval_95"]]
    because = (
        f"of {told['generalized']} networks that generalized r_C > r_M in {told['generalized_and_above']}, of "
        f"{told['others']} that did not r_C ≤ r_M in {told['others_and_not_above']}"
    )
    verdict: Verdict = "not shown"
    if all(low > SHARE for low, _ in shares):
        verdict = "confirmed"
    elif any(high < SHARE for _, high in shares):
        verdict = "not confirmed"
    return Prediction("sign", _STATEMENTS["sign"], verdict, because, numbers)


def _counts(some: xr.Dataset, ratio: xr.DataArray) -> dict:
    """How the sign of r_C − r_M and what became of the runs go together."""
    difference = (ratio.sel(circuit="circuit") - ratio.sel(circuit="memorizing")).values
    known, became = np.isfinite(difference), outcome(some)
    did, above = np.isfinite(some.generalized.values), difference > 0
    right, denied = int((above & did).sum()), int((known & ~above & ~did).sum())
    n_did, n_others = int((known & did).sum()), int((known & ~did).sum())
    return {
        "runs": len(did),
        "unknown": int((~known).sum()),
        "generalized": n_did,
        "generalized_and_above": right,
        "in_part": int((known & (became == 1)).sum()),
        "in_part_and_above": int((above & (became == 1)).sum()),
        "others": n_others,
        "others_and_not_above": denied,
        "share_of_those_that_generalized_interval_95": _exact(right, n_did),
        "share_of_the_others_interval_95": _exact(denied, n_others),
    }


def _exact(successes: int, n: int) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share."""
    if not n:
        return math.nan, math.nan
    found = stats.binomtest(successes, n).proportion_ci(COVERAGE, method="exact")
    return float(found.low), float(found.high)


def _areas(some: xr.Dataset, target: str) -> dict[str, float]:
    """How well one number of a run tells who comes so far: the area under the ROC curve (½: not at all)."""
    rule, memory = some.ratio.transpose("circuit", "run").values
    strength, of_memory = some.strength.transpose("circuit", "run").values
    did = np.isfinite(some[target].values)
    told = {"r_C_minus_r_M": rule - memory, "r_C": rule, "minus_r_M": -memory, "C_over_M": strength / of_memory}
    told |= {"training_pairs": some["size"].values, "C": strength}
    return {key: forecasts.area_under_curve(np.asarray(values, float), did) for key, values in told.items()}


# ---- how much data ---------------------------------------------------------------------------------------------------


def _data(result: xr.Dataset) -> Prediction:
    numbers = {}
    for modulus in np.unique(of_grid(result).modulus).tolist():
        some = of_grid(result, modulus, decay=float(result.attrs["middle_weight_decay"]))
        tables = {key: by_size(some, values) for key, values in told_by_size(some).items()}
        sizes, n = np.unique(some["size"].values), len(np.unique(some.seed))
        numbers[f"p_{modulus}"] = {"sizes": sizes.tolist()} | {
            key: {"means": mean_of_known(table).tolist()} | _slope(sizes, table, n) for key, table in tables.items()
        }
    ours = numbers[f"p_{result.attrs['p']}"]["r_C"]
    low, high = ours["slope_interval_95"]
    because = f"it changes by {ours['slope']:+.3f} ({low:+.3f} to {high:+.3f}, 95 %) where D doubles"
    verdict: Verdict = "not shown"
    if low >= -account.REST and high <= account.REST:
        verdict = "confirmed"
    elif low > account.REST or high < -account.REST:
        verdict = "not confirmed"
    return Prediction("data", _STATEMENTS["data"], verdict, because, numbers)


def _slope(sizes: np.ndarray, table: Float[np.ndarray, "size seed"], n: int) -> dict:
    def against_size(seeds: list[int] | slice = slice(None)) -> float:
        return slope(np.log2(sizes), mean_of_known(table[:, seeds]))

    return {"slope": against_size(), "slope_interval_95": seed_interval(n, against_size).tolist()}


# ---- when ------------------------------------------------------------------------------------------------------------


def _when(result: xr.Dataset, key: str, method: str) -> Prediction:
    """By the constants of the other seeds at the first modulus, and by those of all of it at the other."""
    p = int(result.attrs["p"])
    here, there = of_grid(result, p), of_grid(result.isel(run=np.flatnonzero(result.modulus != p)))
    methods = (method, *forecasts.BASELINES)
    ours, true, came = still_to_come(here)
    other, steps, _ = still_to_come(there)
    constants = {one: forecasts.fit(ours, one, true, came) for one in methods}
    found = {
        "other_seeds": {one: _score(ours, true, forecasts.without_own_seed(ours, one, true, came)) for one in methods},
        "other_modulus": {one: _score(other, steps, forecasts.forecast(other, one, constants[one])) for one in methods},
    }
    same = _score(ours, true, forecasts.of_the_same_setting(ours, true))
    numbers: dict = {
        "constants": constants,
        "came_before_the_moment": here.sizes["run"] - ours.sizes["run"],
        **{where: {one: told.to_dict() for one, told in of.items()} for where, of in found.items()},
        "median_of_the_other_seeds_of_the_same_setting": same.to_dict(),
        "median_errors_of_other_targets": {target: _medians(here, methods, target) for target in TARGETS},
    }
    for label, some in (("random_labels", result.random_labels == 1), ("no_weight_decay", result.weight_decay == 0)):
        control, of_control, _ = still_to_come(result.isel(run=np.flatnonzero(some)))
        numbers[label] = _score(control, of_control, forecasts.forecast(control, method, constants[method])).to_dict()
    intervals = {
        where: {one: _difference(of[method], of[one]) for one in forecasts.BASELINES} for where, of in found.items()
    }
    shares = {where: of[method].unknown / max(1, of[method].runs) for where, of in found.items()}
    numbers |= {"difference_interval_95": intervals, "unknown_share": shares}
    because = "; ".join(
        f"{words}, median |log₁₀(forecast/true)| "
        + ", ".join(f"{told.median:.2f} ({one}, {told.scored} networks)" for one, told in found[where].items())
        for where, words in (("other_seeds", "other seeds"), ("other_modulus", "other modulus"))
    )
    every = [interval for of in intervals.values() for interval in of.values()]
    verdict: Verdict = "not shown"
    if max(shares.values()) > MOST_UNKNOWN or any(low > 0 for low, _ in every):
        verdict = "not confirmed"
    elif all(high < 0 for _, high in every):
        verdict = "confirmed"
    return Prediction(key, _STATEMENTS[key], verdict, because, numbers)


def _medians(here: xr.Dataset, methods: tuple[str, ...], target: str) -> dict[str, float]:
    some, steps, came = still_to_come(here, target)
    return {one: _score(some, steps, forecasts.without_own_seed(some, one, steps, came)).median for one in methods}


def _difference(of_one: forecasts.Score, of_other: forecasts.Score) -> list[float]:
    """Student's interval over seeds of the difference of median errors."""
    return mean_interval(np.array([np.subtract(of_one.of_seed, of_other.of_seed)]))[:, 0].tolist()


def _score(some: xr.Dataset, true: np.ndarray, told: np.ndarray) -> forecasts.Score:
    return forecasts.score(told, true, some.last_step.values, some.seed.values)


def plot(result: xr.Dataset):
    """Growth ratios against D; what became of whom; forecasts against what came; and errors, beside the baselines'."""
    return growth_figure(result, TITLE, REFERENCE)
