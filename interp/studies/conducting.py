"""Conducting an experiment: from its design to runs, a result, figures and a verdict on every prediction."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from interp.analysis import save_result
from interp.errors import InputError
from interp.figures import write_figure
from interp.machine import read_json, refusals_as, write_atomically
from interp.studies.design import Design, Prediction
from interp.studies.directory import find
from interp.sweeps import GridReport, run_grid


@dataclass(frozen=True)
class Outcome:
    """What an experiment came to, and where it lies."""

    result: xr.Dataset
    predictions: Sequence[Prediction]
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

    `full` follows the published setup (days on a laptop); `design` is that of the experiment when it is not given.
    Raises InputError for a design that cannot be, and what `interp.sweeps.grid.run_grid` raises.
    """
    experiment = find(name)
    chosen: Design = design or (experiment.FULL if full else experiment.DESIGN)
    grid = experiment.grid(chosen, full=full)
    with refusals_as(f"cannot write to {out}"):
        out.mkdir(parents=True, exist_ok=True)
    runs = run_grid(out / "runs", grid, processes=processes, report=report)
    result = experiment.measure(runs, chosen)
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
        "predictions": {prediction.name: prediction.to_dict() for prediction in predictions},
    }
    write_atomically(files["summary.json"], json.dumps(summary, indent=2, allow_nan=False).encode() + b"\n")
    figure = experiment.plot(result)
    for key in ("figure.html", "figure.json"):
        write_figure(figure, files[key])
    return Outcome(result, predictions, files)


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
