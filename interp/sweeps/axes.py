"""A sweep: an experiment, varied along axes."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from interp.errors import InputError, check_integer, flag, unknown_name
from interp.experiment import SECTIONS, Experiment, experiment_from_dict, preset, read_toml, recorded_section
from interp.sweeps.planned_run import GridRun

SEED = "seed"  # that of split, initial weights and batches
MOST_RUNS = 100_000
ALL_FIELDS = "`interp train --help` shows them all"
PARTS = ("preset", *SECTIONS, "axes")  # of a grid file


class Point(NamedTuple):
    """One place on an axis: what it is called, and the fields that it sets."""

    label: Any
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Sweep:
    """An experiment with every combination of places on some axes; `interp.sweep` trains them.

    An axis is a field with a list of values; or `seed` with a number of seeds or a list of them (of split, initial
    weights and batches alike); or a name of your own, with fields that are set together: a list of tables with a `name`
    each, or a table of lists of one length. Raises InputError for anything else, and for a field on two axes.

    >>> from interp.experiment import Experiment
    >>> sweep = Sweep(Experiment(), {"training.weight-decay": (0.3, 1.0), "seed": 5})
    >>> len(sweep), sweep.runs()[9].experiment.training.weight_decay, sweep.runs()[9].experiment.model.seed
    (10, 1.0, 4)
    >>> small, large = {"name": "small", "model.d-mlp": 64}, {"name": "large", "model.d-mlp": 512}
    >>> conditions = Sweep(Experiment(), {"size": [small, large], "seed": [7]})
    >>> list(conditions.coordinates.values())
    [{'size': 'small', 'seed': 7}, {'size': 'large', 'seed': 7}]
    """

    base: Experiment
    axes: Mapping[str, Any]

    def __post_init__(self) -> None:
        set_by: dict[str, str] = {}
        for axis, points in self.points.items():
            for name in dict.fromkeys(name for point in points for name in _fields_of_seed(point.fields)):
                other = next((one for one in set_by if _overlap(one, name)), None)
                if other is not None and set_by[other] != axis:
                    raise InputError(f"{name} is set by two axes, {set_by[other]!r} and {axis!r}")
                set_by[name] = axis
        if len(self) > MOST_RUNS:
            raise InputError(f"the sweep has {len(self):,} runs, expected at most {MOST_RUNS:,}")

    def __len__(self) -> int:
        return math.prod(map(len, self.points.values()))

    @cached_property
    def points(self) -> dict[str, Sequence[Point]]:
        """The places on every axis."""
        known, points = [SEED, *_field_names(self.base)], {}
        for axis, values in _flat(self.axes):
            name = flag(axis)
            points[name] = _points(name, values, known)
            labels = [json.dumps(point.label) for point in points[name]]
            if not labels:
                raise InputError(f"the axis {axis!r} has no values")
            if len(set(labels)) < len(labels) and name not in known:
                twice = next(label for label in labels if labels.count(label) > 1)
                raise InputError(f"the axis {axis!r} has two places called {twice}")
        return points

    def runs(self) -> list[GridRun]:
        """A run for every combination, the last axis fastest, each named by its key. Raises InputError for a value that
        cannot be, and for two that are the same."""
        return list(self._placed)

    @property
    def coordinates(self) -> dict[str, dict[str, Any]]:
        """Where every run stands, by its name: the labels of its places by axis."""
        return {run.name: labels for run, labels in zip(self._placed, self._labels(), strict=True)}

    def _labels(self) -> Iterator[dict[str, Any]]:
        for points in product(*self.points.values()):
            yield {axis: point.label for axis, point in zip(self.points, points, strict=True)}

    @cached_property
    def _placed(self) -> tuple[GridRun, ...]:
        kinds = {name: recorded_section(getattr(self.base, name)).get("kind") for name in SECTIONS}
        runs: dict[str, GridRun] = {}
        for points in product(*self.points.values()):
            chosen: dict[str, dict[str, Any]] = {name: {"kind": kind} if kind else {} for name, kind in kinds.items()}
            for point in points:
                for name, value in _fields_of_seed(point.fields).items():
                    *within, field = name.split(".")
                    table = chosen
                    for part in within:
                        table = table.setdefault(part, {})
                    table[field] = value
            where = zip(self.points, points, strict=True)
            experiment = experiment_from_dict(chosen, self.base)
            key = GridRun("", experiment).key
            if key in runs:
                same = ", ".join(f"{axis} {point.label!r}" for axis, point in where)
                raise InputError(f"the sweep has an experiment twice: {same}")
            runs[key] = GridRun(key, experiment)
        return tuple(runs.values())


def sweep_from_toml(path: Path) -> Sweep:
    """The sweep that a grid file describes: a `preset` (by default `quick`), tables [task], [model] and [training] of
    what differs from it, and [axes].

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "grid.toml")
    ...     characters = path.write_text("task.p = 97\\naxes.training.weight-decay = [0.3, 1.0]\\naxes.seed = 5")
    ...     len(sweep_from_toml(path))
    10
    """
    values = read_toml(path, "the grid")
    try:
        for name in values:
            if name not in PARTS:
                raise unknown_name("part of a grid", name, PARTS)
        given = {name: values[name] for name in SECTIONS if name in values}
        base = experiment_from_dict(given, preset(str(values.get("preset", "quick"))))
        axes = values.get("axes")
        if not isinstance(axes, Mapping) or not axes:
            raise InputError('it needs axes, such as [axes] with "training.weight-decay" = [0.3, 1.0] and seed = 5')
        return Sweep(base, axes)
    except InputError as error:
        raise InputError(f"{path}: {error}{_misplaced(values)}") from None


def _misplaced(values: Mapping[str, Any]) -> str:
    """What mends a list of values that stands where one value belongs, if there is one."""
    for section in ("task", "model", "training"):
        table = values.get(section)
        for name, value in table.items() if isinstance(table, Mapping) else ():
            if isinstance(value, list) and flag(name) not in ("betas", "checkpoint-steps", "prompt", "split"):
                return f'; several values of a field are an axis: "{section}.{flag(name)}" under [axes]'
    return ""


def _flat(axes: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Axes by their full names: training.weight-decay without quotes is a table within a table in TOML."""
    for name, value in axes.items():
        if isinstance(value, Mapping) and (before or name in SECTIONS):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _points(axis: str, values: Any, known: Sequence[str]) -> list[Point]:
    is_field, values = axis in known, values.tolist() if hasattr(values, "tolist") else values  # numpy's
    if axis == SEED and isinstance(values, int):
        check_integer("axes.seed, the number of seeds,", values, 1, MOST_RUNS)
        values = range(values)
    if not is_field and isinstance(values, Mapping):
        return [_together(axis, row, known) for row in _rows(axis, values)]
    if isinstance(values, str | Mapping) or not isinstance(values, Sequence):
        if "." not in axis and axis != SEED:
            raise unknown_name("axis", axis, known, ALL_FIELDS)
        raise InputError(f"the axis {axis!r} must be a list of values, got {values!r:.80}; a single one is no axis")
    if is_field:
        plain = [value.item() if hasattr(value, "item") else value for value in values]
        return [Point(_label(value), {axis: value}) for value in plain]
    if not values or not all(isinstance(value, Mapping) for value in values):
        raise unknown_name("axis", axis, known, ALL_FIELDS)
    return [_together(axis, row, known) for row in values]


def _rows(axis: str, columns: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Fields whose lists go together, one table for each place; without names the values are the names."""
    columns = dict(_flat_fields(columns))
    lengths = {name: len(values) if isinstance(values, list | tuple) else None for name, values in columns.items()}
    if len(set(lengths.values())) != 1 or None in lengths.values():
        told = ", ".join(f"{name} {'one value' if n is None else n}" for name, n in lengths.items())
        raise InputError(f"the lists of the axis {axis!r} must be of one length, got {told}")
    for values in zip(*columns.values(), strict=True):
        row = dict(zip(columns, values, strict=True))
        yield row if "name" in row else {"name": ", ".join(str(_label(value)) for value in values)} | row


def _together(axis: str, row: Mapping[str, Any], known: Sequence[str]) -> Point:
    table = {flag(name): value for name, value in _flat_fields(row)}
    label = table.pop("name", None)
    if not isinstance(label, str) or not label or len(label) > 80:
        raise InputError(f"every table of the axis {axis!r} needs a name of up to 80 letters, got {label!r:.80}")
    for name in table:
        if name not in known:
            raise unknown_name(f"field of the axis {axis!r}", name, known, ALL_FIELDS)
    return Point(label, table)


def _flat_fields(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat_fields(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _label(value: Any) -> Any:
    """A value as the coordinate of a table: numbers and words as they are, lists and tables as text."""
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)


def _fields_of_seed(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields by their full names: `seed` is three of them."""
    of_seed = {f"{section}.{SEED}": given[SEED] for section in SECTIONS} if SEED in given else {}
    return {name: value for name, value in given.items() if name != SEED} | of_seed


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def _field_names(base: Any, before: str = "") -> Iterator[str]:
    """Every field of an experiment, those of nested configurations with a dot."""
    for field in fields(base):
        if field.metadata.get("option", True):
            name, value = f"{before}{flag(field.name)}", getattr(base, field.name)
            if before:
                yield name
            if is_dataclass(value):
                yield from _field_names(value, f"{name}.")
