"""Conducting an experiment: from its design to runs, a result, figures and a verdict on every prediction."""

import csv
import io
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import xarray as xr

from interp.analysis import load_result, save_result
from interp.errors import InputError, Notice
from interp.experiment import json_values
from interp.figures import as_count, write_figure
from interp.machine import refusals_as, write_atomically
from interp.runs import Run
from interp.studies.design import Design, Prediction
from interp.studies.directory import find
from interp.sweeps import GridProgress, GridReport, GridRun, run_grid

RESULT, TABLE, IDENTITY = "result.nc", "table.csv", "of an experiment"


@dataclass(frozen=True)
class Outcome:
    """What an experiment came to, and where it lies. `failed_precondition`: why nothing could be shown, where nothing
    could."""

    result: xr.Dataset
    predictions: Sequence[Prediction]
    failed_precondition: str | None
    files: Mapping[str, Path]


def conduct(
    name: str,
    out: Path,
    design: Design | None = None,
    *,
    full: bool = False,
    processes: int | None = None,
    report: GridReport = lambda progress: None,
) -> Outcome:
    """Train the grid under `out`/runs, as far as it is not there, and write result.nc, summary.json, figure.html and
    figure.json, and of an experiment that has one (`table`) table.csv; `interp.pages.study` makes a page of them.

    Runs that others start from are trained first. Where they are not what the experiment needs (its
    `failed_precondition`), it stops there. What no run of a grid can be, an experiment trains after it (`beyond_grid`).

    `full` follows the published setup (days on a laptop); `design` is that of the experiment when it is not given.
    Raises InputError for a design that cannot be, and what `interp.sweeps.grid.run_grid` raises. Files that cannot be
    written are told by a Notice, and `files` of the outcome is empty.
    """
    experiment = find(name)
    chosen: Design = design or (experiment.FULL if full else experiment.DESIGN)
    grid = experiment.grid(chosen, full=full)
    with refusals_as(f"cannot write to {out}"):
        out.mkdir(parents=True, exist_ok=True)
    train_one = getattr(experiment, "train_one", None)  # an experiment may train its runs in a way of its own
    # Where training can diverge by itself, that is an outcome like others.
    failures = "record" if getattr(experiment, "MAY_DIVERGE", False) else "raise"
    train = partial(run_grid, out / "runs", processes=processes, train_one=train_one, failures=failures)
    runs = _runs(experiment, chosen, grid, train, report)
    if failures == "record" and (lost := [run.name for run in grid if run.name not in runs]):
        raise InputError(
            f"{as_count(len(lost), 'run')} of {len(grid):,} failed, {lost[0]} first ({out / 'runs' / 'failures.jsonl'} "
            "says why); the same command tries them again"
        )
    result = experiment.measure(runs, chosen)
    failed = experiment.failed_precondition(result)
    if failed is None and hasattr(experiment, "beyond_grid"):
        result = experiment.beyond_grid(result, runs, chosen, out, processes=processes, report=report)
    result = result.assign_attrs(
        experiment=name, reference=experiment.REFERENCE, design=json.dumps(chosen.to_dict()), runs=len(runs)
    )
    predictions = experiment.predictions(result, **_beside(name, out, chosen))
    summary = {
        "experiment": name,
        "reference": experiment.REFERENCE,
        "design": chosen.to_dict(),
        "runs": len(runs),
        "runs_of_the_design": len(grid),
        "failed_precondition": failed,
        "predictions": {prediction.name: prediction.to_dict() for prediction in predictions},
    }
    if hasattr(experiment, "numbers"):
        summary["numbers"] = json_values(experiment.numbers(result))
    rows = experiment.table(result) if failed is None and hasattr(experiment, "table") else []
    try:
        files = _written(out, result, summary, experiment.plot(result), rows)
    except InputError as error:  # what was found is told all the same; the same command writes it when it can
        warnings.warn(str(error), Notice, stacklevel=2)
        files = {}
    return Outcome(result, predictions, failed, files)


def _written(
    out: Path, result: xr.Dataset, summary: dict[str, Any], figure: Any, rows: Sequence[Mapping[str, str]]
) -> dict[str, Path]:
    """The files, in the order in which they are told of."""
    files = {key: out / key for key in (RESULT, "summary.json", "figure.html", "figure.json")}
    text = json.dumps(summary, indent=2, allow_nan=False)
    write_atomically(files["summary.json"], text.encode() + b"\n")
    # The summary is for people; what is read again is the copy of it in the result, which is sealed.
    save_result(_sealed(out), result.assign_attrs(identity=IDENTITY, summary=text))
    for key in ("figure.html", "figure.json"):
        write_figure(figure, files[key])
    if rows:
        files[TABLE] = out / TABLE
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(files[TABLE], text.getvalue().encode())
    return files


def read_outcome(folder: Path) -> tuple[dict[str, Any], xr.Dataset] | None:
    """The summary and the result that `conduct` left in a folder, as this user's own: None where there is no result, or
    one that is damaged or somebody else's. Both are read from result.nc, and summary.json is not.

    >>> read_outcome(Path("no", "such", "folder")) is None
    True
    """
    result = load_result(_sealed(folder), IDENTITY)
    if result is None:
        return None
    attrs = dict(result.attrs)
    summary = json.loads(attrs.pop("summary"))
    return summary, result.drop_attrs(deep=False).assign_attrs(attrs)


def _sealed(folder: Path) -> Path:
    """A folder that is a link is named by whoever asks, and followed; what lies in it is not."""
    return folder.resolve() / RESULT


def _runs(
    experiment: ModuleType,
    design: Design,
    grid: Sequence[GridRun],
    train: Callable[..., dict[str, Run]],
    report: GridReport,
) -> dict[str, Run]:
    """The runs of the grid; only those that others start from, where these already fail the precondition."""
    names = {run.start for run in grid}
    starts = [run for run in grid if run.name in names]
    work = sum(run.work for run in grid)

    def of_all(progress: GridProgress) -> None:
        report(replace(progress, total=len(grid), work_total=work))

    if starts:
        runs = train(starts, report=of_all)
        if experiment.failed_precondition(experiment.measure(runs, design)) is not None:
            return runs
    return train(grid, report=report)


def _beside(name: str, out: Path, design: Design) -> dict[str, float]:
    """The D_crit of ungrokking for circuit-efficiency, and the other way about, where that experiment lies in the
    folder beside."""
    keys = {
        "circuit-efficiency": ("ungrokking", "P3", "d_crit_mean"),
        "ungrokking": ("circuit-efficiency", "D_crit", "d_crit"),
    }
    if name not in keys:
        return {}
    other, prediction, number = keys[name]
    folder = out.absolute().parent / other
    found = read_outcome(folder)
    if found is None:
        if (folder / RESULT).exists():
            warnings.warn(
                f"{folder / RESULT} is damaged, of another version, or not yours, and left aside; make it anew: "
                f"interp experiment {other} --out {folder}",
                Notice,
                stacklevel=3,
            )
        return {}
    summary, _ = found
    if summary["experiment"] != other or summary["design"]["p"] != getattr(design, "p", None):
        return {}
    value = summary["predictions"][prediction]["numbers"].get(number)
    return {} if value is None else {other.replace("-", "_"): float(value)}
