"""What an explanation has to know of a run besides the summaries of its analyses: its task and model, what its curves
tell, and how far training came."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from interp.experiment import ModelConfig, Task, TrainingConfig
from interp.explanation.states import is_above_chance
from interp.figures import of_last_layer
from interp.mathematics import grokking
from interp.mathematics.held_out import FEWEST_HELD_OUT
from interp.runs import Run

# A training loss that stays so many times above that of a uniform guess is none that training could have wanted.
DIVERGED = 10
# Below this a network that had known its training pairs has lost what it knew, as in a slingshot, for however few
# steps.
FALLEN = 0.9
LATE_SHARE, LATE_POINTS, RANGE_OF_ACCURACY, RANGE_OF_LOSS = 0.1, 3, 0.01, 0.1


@dataclass(frozen=True, kw_only=True)
class FromCurves:
    """What learning curves tell, whoever recorded them: the events of train and held-out pairs; the steps that training
    was to take (None: nobody knows); the last step that was logged or saved; where training is known to have diverged;
    the last known accuracies, with their step; what moved on held-out pairs over the last tenth of the steps (None: too
    few were logged there to tell)."""

    learned: grokking.Events
    planned_steps: int | None
    last_step: int
    diverged_at: int | None
    accuracy_at: int
    accuracy: Mapping[str, float]
    late_changes: tuple[str, ...] | None

    @property
    def unseen(self) -> str:
        """What the pairs are called that the verdict is told from."""
        return "test pairs"

    def pairs(self, split: str) -> int:
        """How many pairs a split has; 0 where it is unknown."""
        return 0


@dataclass(frozen=True, kw_only=True)
class Setting(FromCurves):
    """The task and the model; what the curves tell; the key frequencies of the run, with their step (None: it has
    none); what it was trained on, where that is not the cross-entropy; and in words what its gradients went through
    before the optimizer, and what acted beside loss and uniform weight decay (None: nothing, or nobody knows)."""

    task: Task
    model: ModelConfig
    key_frequencies: tuple[int, ...]
    key_frequencies_of_step: int | None
    trained_on: str | None = None
    gradient_filter: str | None = None
    regularizers: str | None = None

    def pairs(self, split: str) -> int:
        return int(self.task.mask(split).sum())

    @property
    def has_test_pairs(self) -> bool:
        return bool(self.task.test_mask.any())

    @property
    def trains_on_all(self) -> bool:
        """The split is known, and leaves no pair to test on."""
        return self.task.split_known and not self.has_test_pairs

    @property
    def has_too_few_held_out(self) -> bool:
        """The split is known, and too few pairs are held out for anything to be told from them."""
        return self.task.split_known and self.task.n_held_out < FEWEST_HELD_OUT

    @property
    def unseen(self) -> str:
        """What the pairs are called that the verdict is told from."""
        return "held-out pairs" if self.task.split_known else "test pairs"

    @property
    def guessing(self) -> float:
        """The cross-entropy of a uniform guess, ln p, in nats."""
        return math.log(self.task.p)

    @property
    def guessed(self) -> float:
        """The accuracy of whoever always gives the most frequent answer."""
        return self.task.guessing_accuracy

    @property
    def knows_in_part(self) -> bool:
        """Whether so much of the held-out pairs was known, and held, that guessing does not account for it."""
        independent = self.task.n_held_out if self.task.split_known else len(self.task.pairs)
        return is_above_chance(self.learned.reached, self.guessed, independent)

    @property
    def fall(self) -> grokking.Episode | None:
        """The deepest fall of train accuracy below FALLEN after it had been known."""
        deep = [fall for fall in self.learned.train_falls if fall.lowest < FALLEN]
        return min(deep, key=lambda fall: fall.lowest, default=None)

    @property
    def what_is_embedded(self) -> str:
        """The weights by which the residues enter, for a sentence."""
        return "input weights" if self.model.family == "mlp" and self.model.embedding == "none" else "embedding"

    @property
    def of_last_layer(self) -> str:
        """Whose the neurons are that are told of (`interp.figures.of_last_layer`)."""
        return of_last_layer(self.model)

    @property
    def has_frequencies(self) -> bool:
        """Whether the operation is addition in coordinates of its own, so that frequencies can be its circuit."""
        return self.task.has_phase


def setting_of(run: Run, results: Mapping[str, xr.Dataset]) -> Setting:
    """From a run and the results of `learning_curves` and `weight_norms`, which has no row for weights that are not
    finite."""
    curves = results["learning_curves"]
    steps, accuracy = curves.step.values, curves.accuracy
    known = np.flatnonzero(np.isfinite(accuracy.sel(split="train").values))
    last = int(known[-1]) if len(known) else len(steps) - 1
    circuit = run.last_circuit
    unseen = "held_out" if run.task.split_known else "test"
    return Setting(
        task=run.task,
        model=run.model,
        learned=grokking.events_of(curves),
        planned_steps=run.training.steps if run.training is not None else None,
        last_step=int(steps[-1]),
        diverged_at=_diverged_at(run, results),
        accuracy_at=int(steps[last]),
        accuracy={split: float(accuracy.sel(split=split).values[last]) for split in ("train", "test", unseen)},
        late_changes=late_changes(curves.isel(step=slice(last + 1)).sel(split=unseen)),
        key_frequencies=() if circuit is None else tuple(circuit.key_frequencies),
        key_frequencies_of_step=None if circuit is None else circuit.step,
        trained_on=None if curves.attrs["losses_decide"] else str(curves.loss.attrs["long_name"]),
        gradient_filter=run.training.filter.in_words if run.training and run.training.filter.is_used else None,
        regularizers=_regularizers(run.training) if run.training else None,
    )


def _regularizers(training: TrainingConfig) -> str | None:
    by_group = f"weight decay by group ({training.decay.in_words})" if training.decay.is_used else ""
    return ", ".join(filter(None, (training.regularizers.in_words, by_group))) or None


def _diverged_at(run: Run, results: Mapping[str, xr.Dataset]) -> int | None:
    """The first step whose weights or training loss are known not to be finite, or from which on that loss stays far
    above a guess."""
    curves = results["learning_curves"]
    broken = set(run.steps) - {int(step) for step in results["weight_norms"].step.values}
    broken |= {row["step"] for row in run.rows if row.get("train_loss", 0.0) is None}
    steps, loss = curves.step.values, curves.loss.sel(split="train").values
    known = np.isfinite(loss)
    far = np.logical_and.accumulate((loss[known] > DIVERGED * curves.attrs["chance_loss"])[::-1])[::-1]
    broken |= {int(step) for step in steps[known][far][:1]}
    return min(broken, default=None)


def late_changes(curves: xr.Dataset) -> tuple[str, ...] | None:
    """What moved over the last tenth of the logged steps, by its range; None where fewer than LATE_POINTS are known
    there of a curve that was recorded, or none was."""
    steps = curves.step.values
    late = curves.isel(step=steps >= steps[-1] - LATE_SHARE * (steps[-1] - steps[0]))
    changes = []
    recorded = [name for name in ("accuracy", "loss") if np.isfinite(curves[name].values).any()]
    if not recorded:
        return None
    for name in recorded:
        values = late[name].values[np.isfinite(late[name].values)]
        if len(values) < LATE_POINTS:
            return None
        low, high = float(values.min()), float(values.max())
        if name == "accuracy" and high - low > RANGE_OF_ACCURACY:
            changes.append(f"accuracy between {100 * low:.0f} and {100 * high:.0f} %")
        if name == "loss" and high - low > RANGE_OF_LOSS * high:
            unit = "" if curves.loss.attrs.get("units") == "1" else " nats"
            changes.append(f"loss between {low:.2g} and {high:.2g}{unit}")
    return tuple(changes)
