"""A sweep: an experiment, varied along axes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

from interp.errors import InputError, flag, unknown_name
from interp.experiment import SECTIONS, Experiment, experiment_from_dict, recorded_section
from interp.sweeps.grid import GridRun

SEED = "seed"  # that of split, initial weights and batches alike


@dataclass(frozen=True)
class Sweep:
    """An experiment with every combination of values of some of its fields; `run_grid` trains them.

    >>> from interp.experiment import Experiment
    >>> sweep = Sweep(Experiment(), {"training.weight-decay": (0.3, 1.0), "seed": range(5)})
    >>> len(sweep.runs())
    10
    >>> sweep.runs()[9].experiment.training.weight_decay, sweep.runs()[9].experiment.model.seed
    (1.0, 4)
    """

    base: Experiment
    axes: Mapping[str, Sequence[Any]]

    def __post_init__(self) -> None:
        sections = {name: fields(getattr(self.base, name)) for name in SECTIONS}
        known = [SEED, *(f"{name}.{flag(field.name)}" for name, own in sections.items() for field in own)]
        for axis, values in self.axes.items():
            if flag(axis) not in known:
                raise unknown_name("axis", axis, known)
            if not len(values):
                raise InputError(f"the axis {axis!r} has no values")

    def runs(self) -> list[GridRun]:
        """A run for every combination, the last axis fastest, each named by its key. Raises InputError for a value that
        cannot be, and for two that are the same."""
        kinds = {name: recorded_section(getattr(self.base, name)).get("kind") for name in SECTIONS}
        runs: dict[str, GridRun] = {}
        for values in product(*self.axes.values()):
            chosen: dict[str, dict[str, Any]] = {name: {"kind": kind} if kind else {} for name, kind in kinds.items()}
            for axis, value in zip(self.axes, values, strict=True):
                for name in [f"{section}.{SEED}" for section in SECTIONS] if axis == SEED else [axis]:
                    section, _, field = name.partition(".")
                    chosen[section][field] = value
            experiment = experiment_from_dict(chosen, self.base)
            key = GridRun("", experiment).key
            if key in runs:
                same = ", ".join(f"{axis} {value!r}" for axis, value in zip(self.axes, values, strict=True))
                raise InputError(f"the sweep has an experiment twice: {same}")
            runs[key] = GridRun(key, experiment)
        return list(runs.values())
