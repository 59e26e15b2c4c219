"""Conducting an experiment: from its design to runs, a result, figures and a verdict on every prediction."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType

import xarray as xr

from interp.analysis import save_result
from interp.errors import InputError
from interp.experiment import json_values
from interp.figures import write_figure
from interp.machine import read_json, refusals_as, write_atomically
from interp.runs import Run
from interp.studies.design import Design, Prediction
from interp.studies.directory import find
from interp.sweeps import GridProgress, GridReport, GridRun, run_grid


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
    figure.json; `interp.pages.study` makes a page of them.

    Runs that others start from are trained first. Where they are not what the experiment needs (its
    `failed_precondition`), it stops there. What no run of a grid can be, an experiment trains after it (`beyond_grid`).

    `full` follows the published setup (days on a laptop); `design` is that of the experiment when it is not given.
    Raises InputError for a design that cannot be, and what `interp.sweeps.grid.run_grid` raises.
    """
    experiment = find(name)
    chosen: Design = design or (experiment.FULL if full else experiment.DESIGN)
    grid = experiment.grid(chosen, full=full)
    with refusals_as(f"cannot write to {out}"):
        out.mkdir(parents=True, exist_ok=True)
    train_one = getattr(experiment, "train_one", None)  # an experiment may train its runs in a way of its own
    train = partial(run_grid, out / "runs", processes=processes, train_one=train_one)
    runs = _runs(experiment, chosen, grid, train, report)
    result = experiment.measure(runs, chosen)
    failed = experiment.failed_precondition(result)
    if failed is None and hasattr(experiment, "beyond_grid"):
        result = experiment.beyond_grid(result, runs, chosen, out, processes=processes, report=report)
    result = result.assign_attrs(
        experiment=name, reference=experiment.REFERENCE, design=json.dumps(chosen.to_dict()), runs=len(runs)
    )
    predictions = experiment.predictions(result, **_beside(name, out, chosen))
    files = {key: out / key for key in ("result.nc", "summary.json", "figure.html", "figure.json")}
    save_result(files["result.nc"], result)
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
    write_atomically(files["summary.json"], json.dumps(summary, indent=2, allow_nan=False).encode() + b"\n")
    figure = experiment.plot(result)
    for key in ("figure.html", "figure.json"):
        write_figure(figure, files[key])
    return Outcome(result, predictions, failed, files)


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
    path = out.absolute().parent / other / "summary.json"
    if not path.is_file():
        return {}
    try:
        summary = read_json(path)
        value = summary["predictions"][prediction]["numbers"][number]
        same = summary["design"]["p"] == design.p
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no summary of {other}: {error!s} is missing; remove it or run: interp experiment {other}"
        ) from None
    return {other.replace("-", "_"): float(value)} if same and value is not None else {}
