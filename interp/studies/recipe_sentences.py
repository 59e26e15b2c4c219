"""Sentences of the literature on what makes networks grok, and how each is judged by the runs of recipes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Bool

from interp.mathematics import grokking
from interp.mathematics.intervals import wilson_interval
from interp.studies.design import Prediction, Verdict
from interp.studies.recipe_methods import NOTHING


@dataclass(frozen=True)
class Sentence:
    """A sentence of the literature: of which base and method it speaks, which runs count for it, and whether most of
    them should. Of runs that did not learn their training pairs nothing `of_memorized` can be told."""

    statement: str
    base: str
    method: str
    most: bool
    counts: Callable[[xr.Dataset, str], Bool[np.ndarray, " seed"]]
    setting: str | None = None
    of_memorized: bool = False

    def judged(self, name: str, result: xr.Dataset) -> Prediction:
        of_method = (result.base == self.base) & (result.method == self.method) & result.chosen
        setting = self.setting or str(result.setting.values[of_method.values][0])
        # Nothing is chosen of the base alone, so that all seeds may report.
        seeds = result.sizes["seed"] if self.method == NOTHING else result.sizes["reporter"]
        n = int(self.counts(result.isel(seed=slice(seeds)), setting).sum())
        low, high = wilson_interval(n, seeds)
        is_most, is_few = low > 0.5, high < 0.5
        verdict: Verdict = "not shown"
        if is_most or is_few:
            verdict = "confirmed" if is_most == self.most else "not confirmed"
        because = f"“{setting}”: {n} of {seeds} runs (95 % interval of the share {low:.0%} to {high:.0%})"
        knew = int(_memorized(result.isel(seed=slice(seeds)), setting).sum())
        if self.of_memorized and 2 * knew < seeds:
            verdict = "not shown"
            because = f"“{setting}”: {knew} of {seeds} runs ever knew 99 % of their training pairs"
        return Prediction(
            name, self.statement, verdict, because, {"runs": n, "of": seeds, "share_interval_95": [low, high]}
        )


def _memorized(result: xr.Dataset, setting: str) -> np.ndarray:
    return np.isfinite(result.time.sel(setting=setting, event="memorized").values)


def _generalized(result: xr.Dataset, setting: str) -> np.ndarray:
    return np.isfinite(result.time.sel(setting=setting, event="generalized").values)


def _without_delay(result: xr.Dataset, setting: str) -> np.ndarray:
    times = result.time.sel(setting=setting)
    late = grokking.DELAY_FACTOR * times.sel(event="memorized").values
    with np.errstate(invalid="ignore"):
        return times.sel(event="generalized").values < late


SENTENCES = {
    "no-decay": Sentence("without weight decay networks do not generalize", "no decay", NOTHING, False, _generalized),
    "decay": Sentence("with weight decay 1 they do", "decay 1", NOTHING, True, _generalized),
    "embeddings": Sentence(
        "weight decay of the embeddings alone does not make networks generalize",
        "no decay",
        "decay of embeddings alone",
        False,
        _generalized,
    ),
    "dropout": Sentence(
        "dropout makes networks generalize without weight decay", "no decay", "dropout", True, _generalized
    ),
    "l1": Sentence(
        "L1 in the loss does not make networks generalize", "no decay", "L1 in the loss", False, _generalized
    ),
    "clamp": Sentence(
        "where the norm is held at 0.8 of its usual start, networks generalize without a delay: before three times "
        "the step at which they memorized",
        "no decay",
        "norm clamp",
        True,
        _without_delay,
        "no decay: norm clamp 0.8",
        of_memorized=True,
    ),
}
