"""What an explanation has to know of a run besides the summaries of its analyses: its task and model, and how far
training came."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from interp.experiment import ModelConfig, Task
from interp.mathematics import grokking
from interp.runs import Run

# A training loss that stays so many times above that of a uniform guess is none that training could have wanted.
DIVERGED = 10
# Below this a network that had known its training pairs has lost what it knew, as in a slingshot, for however few
# steps.
FALLEN = 0.9
LATE_SHARE, CHANGE_OF_ACCURACY, CHANGE_OF_LOSS = 0.1, 0.01, 0.1


@dataclass(frozen=True)
class Setting:
    """The task and the model; the steps that training was to take (None: not trained here); the last step that was
    logged or saved; where training is known to have diverged; the last known accuracies, with their step; what changed
    on test pairs late in training; and the step and training accuracy of the deepest fall below FALLEN after 99 % had
    been reached, if there was one."""

    task: Task
    model: ModelConfig
    planned_steps: int | None
    is_complete: bool
    last_step: int
    diverged_at: int | None
    accuracy_at: int
    accuracy: Mapping[str, float]
    late_changes: tuple[str, ...]
    fall: tuple[int, float] | None = None

    @property
    def has_test_pairs(self) -> bool:
        return bool(self.task.test_mask.any())

    @property
    def trains_on_all(self) -> bool:
        """The split is known, and leaves no pair to test on."""
        return self.task.split_known and not self.has_test_pairs

    @property
    def guessing(self) -> float:
        """The loss of a uniform guess, ln p, in nats."""
        return math.log(self.task.p)

    @property
    def gradients_are_equal(self) -> bool:
        """Whether a and b enter by one linear map and nothing tells them apart, so that gradient symmetricity is 1
        whatever was learned: an MLP of their sum; one layer of uniform attention, read at `=`."""
        model = self.model
        if model.family == "mlp":
            return model.inputs == "sum"
        return model.n_layers == 1 and model.prompt == "ab=" and model.attention_rate == 0

    @property
    def what_is_embedded(self) -> str:
        """The weights by which the residues enter, for a sentence."""
        return "input weights" if self.model.family == "mlp" and self.model.embedding == "none" else "embedding"


def setting_of(run: Run, results: Mapping[str, xr.Dataset]) -> Setting:
    """From a run and the results of `learning_curves` and `weight_norms`, which has no row for weights that are not
    finite."""
    curves = results["learning_curves"]
    steps, accuracy = curves.step.values, curves.accuracy
    known = np.flatnonzero(np.isfinite(accuracy.sel(split="train").values))
    last = int(known[-1]) if len(known) else len(steps) - 1
    return Setting(
        run.task,
        run.model,
        run.training.steps if run.training is not None else None,
        run.is_complete,
        int(steps[-1]),
        _diverged_at(run, results),
        int(steps[last]),
        {split: float(accuracy.sel(split=split).values[last]) for split in ("train", "test")},
        tuple(_late_changes(curves.isel(step=slice(last + 1)))),
        _fall(steps, accuracy.sel(split="train").values),
    )


def _fall(steps: np.ndarray, accuracy: np.ndarray) -> tuple[int, float] | None:
    knew = np.logical_or.accumulate(accuracy >= grokking.LEVEL) & np.isfinite(accuracy)
    if not knew.any() or (lowest := float(accuracy[knew].min())) >= FALLEN:
        return None
    return int(steps[knew][accuracy[knew].argmin()]), lowest


def _diverged_at(run: Run, results: Mapping[str, xr.Dataset]) -> int | None:
    """The first step whose weights or training loss are known not to be finite, or from which on that loss stays far
    above a guess."""
    curves = results["learning_curves"]
    broken = set(run.steps) - {int(step) for step in results["weight_norms"].step.values}
    broken |= {row["step"] for row in run.rows if row.get("train_loss", 0.0) is None}
    steps, loss = curves.step.values, curves.loss.sel(split="train").values
    known = np.isfinite(loss)
    far = np.logical_and.accumulate((loss[known] > DIVERGED * math.log(run.task.p))[::-1])[::-1]
    broken |= {int(step) for step in steps[known][far][:1]}
    return min(broken, default=None)


def _late_changes(curves: xr.Dataset) -> list[str]:
    """What changed on test pairs over the last tenth of the logged steps."""
    steps = curves.step.values
    late = curves.isel(step=steps >= steps[-1] - LATE_SHARE * (steps[-1] - steps[0])).sel(split="test")
    changes = []
    for name in ("accuracy", "loss"):
        values = late[name].values[np.isfinite(late[name].values)]
        before, after = (float(values[0]), float(values[-1])) if len(values) else (math.nan, math.nan)
        if name == "accuracy" and abs(after - before) > CHANGE_OF_ACCURACY:
            changes.append(f"test accuracy from {100 * before:.0f} to {100 * after:.0f} %")
        if name == "loss" and abs(after - before) > CHANGE_OF_LOSS * before:
            changes.append(f"test loss from {before:.2g} to {after:.2g} nats")
    return changes
