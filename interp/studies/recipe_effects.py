"""What each recipe did beside its base: its times of generalization against those of the base, and a table of it.

It cannot tell that two rows which are no different from their base are alike: few seeds see large effects alone.
"""

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy import stats

from interp.studies.generalization_times import arrived, censored_median, median_time
from interp.studies.recipe_methods import BASES, NOTHING
from interp.studies.time_ratios import ratio

FALSE_CALLS = 0.05  # of the rows that are called different
MOST_WAYS = 99_999  # of 5 and 10 runs there are 3,003
CALLS = ("sooner", "later", "no difference shown")


@dataclass(frozen=True)
class Effect:
    """A chosen setting beside its base: how many of the runs that report generalized, their median step (NaN where
    fewer than half did), the ratio of the base's time to its own, the probability that ranks differ as much by chance,
    and what it is called."""

    base: str
    method: str
    setting: str
    generalized: int
    median: float
    ratio: str
    p: float
    call: str


def effects(result: xr.Dataset) -> list[Effect]:
    """Every method on every base, the base itself left out."""
    reporters = result.isel(seed=slice(result.sizes["reporter"]))
    came = arrived(reporters, "generalized")
    medians = median_time(reporters, "generalized")
    rows = [row for row in np.flatnonzero(result.chosen.values) if str(result.method.values[row]) != NOTHING]
    names = result.setting.values.tolist()
    bases = {name: f"{name}: {NOTHING}" for name in BASES}
    own = {name: _steps(result, bases[name]) for name in BASES}
    chances = [rank_probability(_steps(reporters, names[row]), own[str(result.base.values[row])]) for row in rows]
    adjusted = np.empty(len(rows))
    for base in BASES:
        of_base = [place for place, row in enumerate(rows) if result.base.values[row] == base]
        adjusted[of_base] = stats.false_discovery_control([chances[place] for place in of_base])
    found = []
    for row, chance, probability in zip(rows, adjusted, chances, strict=True):
        base = str(result.base.values[row])
        is_sooner = mean_rank(_steps(reporters, names[row]), own[base]) < 0.5
        call = CALLS[2] if chance >= FALSE_CALLS else CALLS[0] if is_sooner else CALLS[1]
        times = str(ratio(reporters, bases[base], names[row], axis="setting"))
        method = str(result.method.values[row])
        found.append(Effect(base, method, names[row], int(came[row]), float(medians[row]), times, probability, call))
    return found


def _steps(result: xr.Dataset, setting: str) -> Float[np.ndarray, " seed"]:
    """The steps of a setting's runs, infinite where they had not come."""
    steps = result.time.sel(setting=setting, event="generalized").values
    return np.where(np.isnan(steps), np.inf, steps)


def mean_rank(some: Float[np.ndarray, " n"], others: Float[np.ndarray, " m"]) -> float:
    """The share of pairs of one and another in which the first is later, ties as halves.

    >>> mean_rank(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
    0.125
    """
    return float(((some[:, None] > others) + 0.5 * (some[:, None] == others)).mean())


def rank_probability(some: Float[np.ndarray, " n"], others: Float[np.ndarray, " m"]) -> float:
    """The probability that the ranks of two samples differ so much or more, if they were of one distribution: over all
    ways to share them out, or MOST_WAYS drawn ones where there are more (Wilcoxon, Mann and Whitney; with ties, of
    which infinite ones are some, Gehan 1965).

    >>> early, late = np.arange(5.0), np.full(10, np.inf)
    >>> round(rank_probability(early, late) * math.comb(15, 5), 6)  # of all ways these two alone
    2.0
    """
    ranks = stats.rankdata(np.r_[some, others])
    if (ranks == ranks[0]).all():
        return 1.0
    found = stats.permutation_test(
        (ranks[: len(some)], ranks[len(some) :]),
        lambda one, other, axis: np.mean(one, axis=axis) - np.mean(other, axis=axis),
        vectorized=True,
        n_resamples=MOST_WAYS,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def effect_table(result: xr.Dataset) -> list[dict[str, str]]:
    """The effect table: a row for each base, and below it one for each method at the strength that was chosen."""
    called = {effect.setting: effect for effect in effects(result)}
    reporters = result.isel(seed=slice(result.sizes["reporter"]))
    medians = median_time(reporters, "generalized")
    rows = []
    for row in np.flatnonzero(result.chosen.values):
        name, base = str(result.setting.values[row]), str(result.base.values[row])
        effect, times = called.get(name), reporters.time.isel(setting=row)
        came = np.isfinite(times.sel(event="generalized").values)
        rows.append(
            {
                "base": base,
                "recipe": name.removeprefix(f"{base}: "),
                "generalized": f"{came.sum()} of {len(came)}",
                "memorized at": _median(times.sel(event="memorized").values, reporters.censored_at.values[row]),
                "first 99 %": _median(result["first"].values[row], reporters.censored_at.values[row]),
                "99 % that holds": _plain(medians[row]),
                "base ÷ this": "" if effect is None else effect.ratio,
                "called": "" if effect is None else effect.call,
                "p": "" if effect is None else f"{effect.p:.2g}",
                **{title: _mean(result[key].values[row], digits) for key, (title, digits) in _COLUMNS.items()},
                "ms a step": _mean(result.milliseconds.values[row : row + 1], 1),
            }
        )
    return rows


_COLUMNS = {
    "weight_norm": ("norm", 1),
    "keys": ("keys", 1),
    "periodic_neurons": ("periodic neurons", 0),
    "r_C": ("r_C", 2),
    "r_M": ("r_M", 2),
}


def _median(times: Float[np.ndarray, " seed"], last: Float[np.ndarray, " seed"]) -> str:
    return _plain(censored_median(times, last))


def _plain(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else "never"


def _mean(values: Float[np.ndarray, " seed"], digits: int) -> str:
    """Of what is known; a dash where nothing is."""
    known = values[np.isfinite(values)]
    return f"{known.mean():.{digits}f}" if len(known) else "–"
