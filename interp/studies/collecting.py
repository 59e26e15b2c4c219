"""One table over many runs: where each stands on the axes of its sweep, and what came of it."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from interp.analysis import analyze, find
from interp.errors import InputError
from interp.printable import one_line
from interp.runs import Run, configuration_differences, ending_of, open_run, run_folders
from interp.sweeps import SweepRecord, read_failures, read_sweep

Measure = Callable[[Run], Any]
NOT_BEGUN = "not begun"
_EVENTS = {
    "memorized_at": "step at which it had memorized",
    "generalized_after": "last step before it generalized",
    "generalized_at": "step at which it had generalized",
}


class _Axis(NamedTuple):
    name: str  # as a dimension
    full: str  # as it is in the sweep, or in the configuration
    labels: Sequence[Any]


def collect(
    folder: str | Path,
    measures: Iterable[str] | Mapping[str, Measure] = (),
    *,
    curves: bool = False,
    progress: Callable[[Sequence[Any]], Iterable[Any]] = lambda runs: runs,
) -> xr.Dataset:
    """One table over the runs in a folder. Of a sweep its dimensions are the axes, by the ends of their names
    (`weight_decay`, `seed`); of other runs it is `run`, and the fields in which they differ are coordinates of it.

    It has the `run` (its folder), its `state` ("complete", "diverged", "unfinished", "failed", "not begun"), the
    `verdict` and the steps that curves tell (`interp.mathematics.grokking`; NaN: it did not, or nobody can tell), and
    the last metrics, `final_test_accuracy` and so on: of a run that diverged those before. With `curves` every metric
    over `step`. `measures` are names of analyses, whose summaries follow as `ANALYSIS_NUMBER`, or a mapping of names
    to functions of a run, which return a number or a word.

    Raises InputError where there are no runs, and for a run that is damaged or cannot be analyzed.

    >>> import interp
    >>> table = collect(interp.reference_path(), {"norm": lambda run: run.last.weights["embed.W_E"].norm().item()})
    >>> table.to_dataframe()[["verdict", "generalized_at"]].values.tolist(), round(table.norm.item(), 1)
    ([['grokking', 950.0]], 9.3)
    """
    folder = Path(folder)
    sweep = read_sweep(folder)
    found, axes = _of_sweep(folder, sweep) if sweep is not None else _of_folder(folder)
    named = measures if isinstance(measures, Mapping) else None
    analyses = [] if named is not None else list(measures)
    for name in analyses:
        find(name)
    failed = {name for name, one in read_failures(folder).items() if not one.diverged}
    rows = []
    for name, run in progress(list(found.items())):
        row = {"run": name, "state": "failed" if name in failed else NOT_BEGUN} if run is None else _row(run, name)
        if run is not None and len(run):
            row |= {key: _plain(measure(run)) for key, measure in (named or {}).items()}
            row |= _summaries(run, analyses) if analyses else {}
        rows.append(row)
    dims = [axis.name for axis in axes] if sweep is not None else ["run"]
    shape = [len(axis.labels) for axis in axes] if sweep is not None else [len(rows)]
    data = {name: (dims, _column(name, rows).reshape(shape), _words(name)) for name in _names(rows)}
    coords: dict[str, Any] = {}
    for axis in axes:
        at = axis.name if sweep is not None else "run"
        coords[axis.name] = (at, _labels(axis.labels), {"long_name": axis.full, "units": "1"})
    if sweep is None:
        coords["run"] = data.pop("run")
    table = xr.Dataset(data, coords, {"folder": str(folder)})
    return table.assign(_curves(list(found.values()), dims, shape)) if curves else table


def _of_sweep(folder: Path, sweep: SweepRecord) -> tuple[dict[str, Run | None], list[_Axis]]:
    """The runs in the order of the axes, the last one fastest; None for one that is not there."""
    unfinished = {path.name: path for path in run_folders(folder / "unfinished")}
    paths = {name: folder / name for name in sweep.runs}
    there = {name: path if (path / "run.json").exists() else unfinished.get(name) for name, path in paths.items()}
    ends = [axis.rpartition(".")[2] for axis in sweep.axes]
    axes = [
        _Axis((end if ends.count(end) == 1 else axis).replace("-", "_").replace(".", "_"), axis, labels)
        for end, (axis, labels) in zip(ends, sweep.axes.items(), strict=True)
    ]
    return {name: None if path is None else open_run(path) for name, path in there.items()}, axes


def _of_folder(folder: Path) -> tuple[dict[str, Run | None], list[_Axis]]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    runs = {one_line(str(path.relative_to(folder))): open_run(path) for path in run_folders(folder)}
    if not runs:
        raise InputError(f"no runs under {folder}; `interp sweep` makes some")
    differing = configuration_differences(list(runs.values()))
    axes = [_Axis(name.replace("-", "_").replace(".", "_"), name, values) for name, values in differing.items()]
    return dict(runs), axes


def _row(run: Run, name: str) -> dict[str, Any]:
    ending = ending_of(run)
    events: dict[str, Any] = {event: getattr(ending, event) for event in _EVENTS}
    for operation, one in ending.of_each.items():
        told = {"verdict": one.verdict} | {event: getattr(one, event) for event in _EVENTS}
        events |= {f"{operation}.{name}": value for name, value in told.items()}
    metrics = {f"final_{one_line(metric)}": value for metric, value in ending.metrics.items()}
    return {"run": name, "state": ending.state, "verdict": ending.verdict} | events | metrics


def _summaries(run: Run, analyses: Sequence[str]) -> dict[str, Any]:
    """The numbers and words of the summaries, and lists as JSON."""
    try:
        results = analyze(run, analyses)
    except InputError as error:
        raise InputError(f"{run.path} cannot be analyzed: {error}") from None
    return {
        f"{name}_{key}": value for name, result in results.items() for key, value in _flat(find(name).summary(result))
    }


def _flat(summary: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in summary.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}_")
        else:
            yield f"{before}{name}", _plain(value)


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every column that a row has, what all have first."""
    first = ["run", "state", "verdict", *_EVENTS]
    return list(dict.fromkeys([*first, *(name for row in rows for name in row)]))


def _column(name: str, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    values = [row.get(name) for row in rows]
    if name in _EVENTS or not any(isinstance(value, str) for value in values):
        return np.array([math.nan if value is None else float(value) for value in values])
    return np.array(["" if value is None else one_line(str(value)) for value in values])


def _labels(labels: Sequence[Any]) -> np.ndarray:
    """Numbers as numbers, everything else as words."""
    is_number = all(isinstance(label, int | float) and not isinstance(label, bool) for label in labels)
    if not is_number:
        return np.array([one_line(str(label)) for label in labels])
    numbers = np.array(labels)
    return numbers if np.abs(numbers).max() < 2**31 else numbers.astype(float)  # NetCDF-3 has no larger integers


def _words(name: str) -> dict[str, str]:
    unit = "step" if name in _EVENTS else "1"
    return {"long_name": _EVENTS.get(name, name.replace("_", " ")), "units": unit}


def _curves(runs: Sequence[Run | None], dims: list[str], shape: list[int]) -> dict[str, Any]:
    """Every metric [axes, step] over all steps at which some run logged; NaN where a run has none."""
    logged = [run.metrics.drop_duplicates("step", keep="last") if run is not None else None for run in runs]
    steps = sorted({int(step) for metrics in logged if metrics is not None for step in metrics.step.values})
    names = dict.fromkeys(
        one_line(str(name)) for metrics in logged if metrics is not None for name in metrics.data_vars
    )
    places = np.array(steps, dtype=np.int64)
    found = {name: np.full((len(runs), len(steps)), np.nan) for name in names}
    for row, metrics in enumerate(logged):
        if metrics is not None:
            at = np.searchsorted(places, metrics.step.values)
            for name in metrics.data_vars:
                found[one_line(str(name))][row, at] = metrics[name].values
    step = xr.Variable("step", places, {"long_name": "step", "units": "updates"})
    return {
        "step": step,
        **{name: ([*dims, "step"], values.reshape(*shape, len(steps)), _words(name)) for name, values in found.items()},
    }
