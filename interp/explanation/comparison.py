"""Two or more checkpoints side by side, of one run or of several: configurations, verdicts, numbers, and what differs
most.

Only the checkpoints that are compared are measured, and nothing is written but the learning curves. Measures that refer
to key frequencies (restricted and excluded loss, the key parts of norms) take those of each run, of its last checkpoint
that has a circuit; a side's own key frequencies are those of the checkpoint itself. How far apart two numbers are, and
so what differs most, is defined in `interp.explanation.quantities`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from markupsafe import Markup

from interp.analysis import Scale, discover, find, results_at, stored_result
from interp.errors import InputError
from interp.explanation.quantities import MEASURES, REPEATS, Quantity, difference, quantities
from interp.explanation.states import Known, state_of
from interp.mathematics import grokking
from interp.models import weight_shapes
from interp.printable import one_line
from interp.runs import Checkpoint, Run, check_has_phases, configuration_differences, open_run

MOST_SIDES = 6
CURVES = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")


@dataclass(frozen=True)
class Side:
    """One checkpoint of a comparison: what was asked of it, what it answered, and the curves of its run (None where
    they are not known for every checkpoint).

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> side = Side("the end", run, run.last, {}, None, {})
    >>> side.step, side.key_frequencies
    (3000, [3, 11, 12])
    """

    label: str
    run: Run
    checkpoint: Checkpoint
    results: dict[str, xr.Dataset]
    curves: xr.Dataset | None
    quantities: dict[str, Quantity]

    @property
    def step(self) -> int:
        return self.checkpoint.step

    @property
    def key_frequencies(self) -> list[int]:
        """The checkpoint's own."""
        return self.checkpoint.key_frequencies

    @property
    def facts(self) -> dict[str, Any]:
        """What happened in the run, and the state of the checkpoint; None where unknown."""
        happened: dict[str, Any] = {"verdict": "unknown", "memorized_at": None, "generalized_at": None}
        if self.curves is not None:
            events = grokking.events_of(self.curves)
            times = {name: events.times[name] for name in ("memorized_at", "generalized_at")}
            happened = {"verdict": events.verdict} | times
        return happened | {"state": state_of(self._known), "key_frequencies": self.key_frequencies}

    @property
    def _known(self) -> Known:
        checkpoint, task = self.checkpoint, self.checkpoint.task
        before = math.nan
        if self.curves is not None:
            earlier = self.curves.accuracy.sel(split="train").values[self.curves.step.values <= self.step]
            before = float(np.nanmax(earlier)) if np.isfinite(earlier).any() else math.nan
        split = self.results.get("circuit_split")
        steps = self.run.steps
        return Known(
            train_accuracy=checkpoint.accuracy("train"),
            held_out_accuracy=checkpoint.accuracy("held_out"),
            train_loss=checkpoint.trained_loss("train"),
            has_circuit=task.has_phase and checkpoint.spectrum.has_circuit,
            part_answers=None if split is None else find("circuit_split").summary(split)["generalizing_part_answers"],
            knew_before=before,
            norm=_norm(checkpoint),
            first_norm=_norm(self.run[steps[0]]) if steps else math.nan,
            held_out_pairs=int(task.mask("held_out").sum()),
            independent=task.n_held_out,
            classes=task.n_classes,
            guessed=task.guessing_accuracy,
            guess_loss=checkpoint.trained_on.of_guessing(task.n_classes),
        )


def _norm(checkpoint: Checkpoint) -> float:
    return math.sqrt(sum(float(weight.double().square().sum()) for weight in checkpoint.weights.values()))


@dataclass(frozen=True)
class Row:
    """One number on every side, and how far apart the sides are; None where it cannot be known."""

    name: str
    label: str
    group: str
    scale: Scale
    values: tuple[float | None, ...]
    difference: float | None


@dataclass(frozen=True)
class Comparison:
    """The sides, the fields in which their configurations differ (field → one value per side), the numbers in reading
    order, and what cannot be compared.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> sides = tuple(Side(f"step {step}", run, run[step], {}, None, {}) for step in (0, 3000))
    >>> rows = (Row("loss", "loss", "losses", "magnitude", (4.0, 0.4), 1.0),)
    >>> Comparison(sides, {}, rows, ()).same_run, Comparison(sides, {}, rows, ()).ranking[0].difference
    (True, 1.0)
    """

    sides: tuple[Side, ...]
    configuration: dict[str, list[Any]]
    rows: tuple[Row, ...]
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        from interp.explanation.comparison_tables import plain

        return plain(self)

    def _repr_html_(self) -> str:
        return str(Markup("<pre>{}</pre>").format(str(self)))

    @property
    def same_run(self) -> bool:
        """Whether all sides are checkpoints of one run."""
        return len({side.run.path.resolve() for side in self.sides}) == 1

    @property
    def ranking(self) -> list[Row]:
        """What differs, most first; of a number that repeats another only where that other is unknown."""
        apart = {row.name: row.difference for row in self.rows}
        rows = [
            row
            for row in self.rows
            if row.difference and (row.name not in REPEATS or apart.get(REPEATS[row.name]) is None)
        ]
        return sorted(rows, key=lambda row: -(row.difference or 0))

    @property
    def numbers(self) -> dict[str, Any]:
        """All of it as JSON values (documented in docs/guide.md); None where unknown."""
        return {
            "sides": [
                {"label": side.label, "run": str(side.run.path), "hash": side.run.hash, "step": side.step} | side.facts
                for side in self.sides
            ],
            "same_run": self.same_run,
            "configuration": [{"field": name, "values": values} for name, values in self.configuration.items()],
            "numbers": {
                row.name: {
                    "label": row.label,
                    "values": list(row.values),
                    "scale": row.scale,
                    "difference": row.difference,
                }
                for row in self.rows
            },
            "ranking": [row.name for row in self.ranking],
            "left_out": list(self.left_out),
        }


def compare(
    *sides: str | Path | Run | tuple[Run, int], progress: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps
) -> Comparison:
    """Lay two or more checkpoints side by side.

    A side is a run, for its last checkpoint; a run and a step; or the path of a run, with @STEP behind it for one step:
    `compare("checkpoints/a@100", "checkpoints/a")`. Raises InputError for a run or a step that there is not (naming the
    nearest), for fewer than two sides, and for a checkpoint that is given twice.

    >>> import interp
    >>> from interp.testing import circuit_checkpoint, circuit_neurons
    >>> from tempfile import TemporaryDirectory
    >>> pizza = circuit_checkpoint(interp.Task(7), circuit_neurons([1, 2]))
    >>> with TemporaryDirectory() as folder:
    ...     with interp.RunWriter.create(f"{folder}/run", pizza.task, pizza.model) as writer:
    ...         writer.append(0, {name: weight / 8 for name, weight in pizza.weights.items()})
    ...         writer.append(1, pizza.weights)
    ...     comparison = compare(f"{folder}/run@0", f"{folder}/run@1")
    >>> norm = next(row for row in comparison.rows if row.name == "l2.total")
    >>> comparison.same_run, norm.label, round(10**norm.difference)  # a factor of 8
    (True, 'norm of all weights', 8)
    """
    if not 2 <= len(sides) <= MOST_SIDES:
        raise InputError(
            f"a comparison needs 2 to {MOST_SIDES} sides, as in `interp compare RUN@100 RUN@2000`; got {len(sides)}"
        )
    opened: dict[Path, Run] = {}
    found = [_run_and_step(side, opened) for side in sides]
    seen: set[tuple[Path, int]] = set()
    for run, step in found:
        check_has_phases(run, "a comparison")
        if run.model.is_recorded:
            raise InputError(
                f"a comparison lays circuits side by side, and {run.path} has only the recorded answers of a module; "
                "`interp explain` and `interp report` tell of it alone"
            )
        if (run.path.resolve(), step) in seen:
            raise InputError(
                f"step {step} of {run.path} is on both sides; it has steps {run.steps[0]} to {run.steps[-1]}: "
                "name one by @STEP"
            )
        seen.add((run.path.resolve(), step))
    labels, checkpoints = _labels(found), [run[step] for run, step in found]
    measured = []
    for index, _ in enumerate(progress([step for _, step in found])):
        measured.append(_side(labels[index], found[index][0], checkpoints[index]))
    rows = _rows(measured)
    return Comparison(
        tuple(measured), configuration_differences([run for run, _ in found]), rows, tuple(_left_out(measured))
    )


def _run_and_step(side: str | Path | Run | tuple[Run, int], opened: dict[Path, Run]) -> tuple[Run, int]:
    """A side, taken apart; two sides of one run share it, and with it its last checkpoint."""
    if isinstance(side, tuple):
        return side
    if isinstance(side, Run):
        return side, _last_step(side)
    path, at, step = str(side).rpartition("@")
    if not at or Path(side).is_dir():
        run = _opened(Path(side), opened)
        return run, _last_step(run)
    try:
        number = int(step)
    except ValueError:
        raise InputError(
            f"the step in {str(side)!r} must be an integer, got {step!r}; write RUN@STEP, as in {path}@100"
        ) from None
    return _opened(Path(path), opened), number


def _opened(path: Path, opened: dict[Path, Run]) -> Run:
    if path.resolve() not in opened:
        opened[path.resolve()] = open_run(path)
    return opened[path.resolve()]


def _last_step(run: Run) -> int:
    return run.steps[-1] if run.steps else run.at(-1).step


def _labels(found: Sequence[tuple[Run, int]]) -> list[str]:
    """The step, after the name of the run where there are several; after its path where the names are the same."""
    paths = [run.path.resolve() for run, _ in found]
    if len(set(paths)) == 1:
        return [f"step {step:,}" for _, step in found]
    unique = len({path.name for path in paths}) == len(set(paths))
    names = [one_line(str(path.name if unique else run.path)) for path, (run, _) in zip(paths, found, strict=True)]
    return [f"{name}, step {step:,}" for name, (_, step) in zip(names, found, strict=True)]


def _side(label: str, run: Run, checkpoint: Checkpoint) -> Side:
    results = results_at(run, checkpoint, MEASURES)
    for analysis in discover().values():
        if analysis.scales and analysis.name not in MEASURES and not (analysis.of_run or analysis.on_request):
            with suppress(InputError):  # it cannot be asked of this side
                results |= results_at(run, checkpoint, [analysis.name])
    return Side(
        label, run, checkpoint, results, _curves(run), {each.name: each for each in quantities(checkpoint, results)}
    )


def _curves(run: Run) -> xr.Dataset | None:
    """The learning curves, unless every checkpoint of the run would have to be run for them."""
    stored = stored_result(run, "learning_curves")
    if stored is not None:
        return stored
    logged = run.metrics.drop_duplicates("step", keep="last").reindex(step=run.steps)
    known = all(name in logged and not np.isnan(logged[name].values).any() for name in CURVES)
    knowable = run.task.mask("train").any()
    return run.result("learning_curves") if known or not knowable else None


def _rows(sides: Sequence[Side]) -> tuple[Row, ...]:
    """Every number that any side has; the norms of tensors of different shapes stand there and are not ranked."""
    first = {name: quantity for side in reversed(sides) for name, quantity in side.quantities.items()}
    names = dict.fromkeys(name for side in sides for name in side.quantities)
    shapes = [weight_shapes(side.run.model, side.run.task.p) for side in sides]
    rows = []
    for name in names:
        known = tuple(side.quantities[name].value if name in side.quantities else None for side in sides)
        tensor = name.removeprefix("l2.")
        unequal = name.startswith("l2.") and any(
            (shape != shapes[0]) if tensor == "total" else shape.get(tensor) != shapes[0].get(tensor)
            for shape in shapes
        )
        apart = None if unequal else difference(first[name].scale, known)
        rows.append(Row(name, first[name].label, first[name].group, first[name].scale, known, apart))
    return tuple(rows)


def _left_out(sides: Sequence[Side]) -> Iterable[str]:
    """What cannot be compared, and why."""
    for side in {str(side.run.path): side for side in sides}.values():
        name = side.run.path.resolve().name
        if not side.run.task.split_known:
            yield (
                f"The split of {name} is unknown: nothing can be said of its training and test pairs apart, "
                "nor of its verdict."
            )
        elif side.curves is None:
            mend = f"`interp analyze {side.run.path} learning_curves`"
            yield (
                f"The curves of {name} are not recorded at every checkpoint, so there is no verdict; {mend} gives one."
            )
    moduli, operations = {side.run.task.p for side in sides}, {side.run.task.operation for side in sides}
    if len(moduli) > 1:
        yield (
            f"The moduli differ ({_listed(moduli)}): a frequency of one is none of the other, and a guess "
            "costs ln p, which differs."
        )
    if len(operations) > 1:
        yield f"The operations differ ({_listed(operations)}): their frequencies are of different coordinates."
    if len({side.run.model.family for side in sides}) > 1:
        yield "The families of models differ: of the tensors only those with the same name stand side by side."
    shapes = [weight_shapes(side.run.model, side.run.task.p) for side in sides]
    if any(shape != shapes[0] for shape in shapes):
        yield (
            "The networks have different shapes: norms of tensors that differ in shape, and of all weights, "
            "are shown and not ranked."
        )
    if len({tuple(sorted(side.results)) for side in sides}) > 1:
        yield "Some analyses can be asked of some sides only; what they say is shown where it is known."


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(map(str, sorted(values)))
