"""One HTML page about an experiment: the question, the verdict on every prediction with its numbers, figures, every
run, and the method. It is made from the files of the experiment's folder, and needs no network."""

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from interp import __version__
from interp.errors import InputError
from interp.figures import as_percent, readable
from interp.machine import read_bytes, read_json
from interp.mathematics.grokking import LEVEL
from interp.pages.fitting import without_title
from interp.pages.frame import rendered
from interp.pages.story import method
from interp.runs import open_run
from interp.studies import NAMES, VERDICTS, RunOutcome, find, outcomes, phase_diagram, read_outcome


def is_experiment(folder: Path) -> bool:
    """Whether a folder is that of an experiment, and not of a run."""
    return (folder / "summary.json").is_file() and not (folder / "run.json").exists()


def render_experiment(folder: Path) -> str:
    """The page about the experiment in `folder`: its result.nc, which has a copy of summary.json, and runs. What comes
    from files is escaped.

    Raises InputError for files that are missing or not what they should be, naming the command that makes them anew.
    """
    found = read_outcome(folder)
    if found is None:
        raise InputError(
            f"{folder / 'result.nc'} is missing, damaged, of another version, or not yours; make it anew: "
            f"interp experiment {_name_in(folder)} --out {folder}"
        )
    summary, result = _checked(folder / "result.nc", found[0]), found[1]
    experiment = find(summary["experiment"])
    again = f"make it anew: interp experiment {summary['experiment']} --out {folder}"
    paths = sorted((folder / "runs").glob("*/run.json"), key=lambda path: _natural(path.parent.name))
    runs = {path.parent.name: open_run(path.parent) for path in paths}
    told = outcomes({name: run for name, run in runs.items() if len(run.metrics.step)})
    columns = _columns(told)
    try:
        figures = {"result": experiment.plot(result)}
    except (AttributeError, KeyError, ValueError, IndexError, TypeError) as error:
        raise InputError(f"{folder / 'result.nc'} is no result of {summary['experiment']} ({error}); {again}") from None
    axes = getattr(experiment, "PHASES", ())
    if not told or not set(axes) <= set(told[0].fields):
        axes = ()
    if (diagram := phase_diagram(told, *axes)) is not None:
        figures["phase-diagram"] = diagram
    headings = {name: without_title(figure) for name, figure in figures.items()}
    captions = CAPTIONS | {"result": getattr(experiment, "CAPTION", CAPTIONS["result"])}
    title, _, text = (experiment.__doc__ or "").partition("\n\n")
    short, _, question = " ".join(title.split()).partition(". ")
    return rendered(
        "experiment.html",
        figures,
        styles=["sheet", "experiment"],
        title=experiment.TITLE,
        short=short,
        question=question,
        method=method(text),
        reference=experiment.REFERENCE,
        p=summary["design"].get("p"),
        failed_precondition=summary.get("failed_precondition"),
        predictions=[_prediction(name, values) for name, values in summary["predictions"].items()],
        sections=[
            {"name": name, "heading": headings[name], "caption": captions[name], "height": figures[name].layout.height}
            for name in figures
        ],
        table=experiment.table(result) if hasattr(experiment, "table") and not summary["failed_precondition"] else [],
        head=_head(columns),
        rows=[_row(run, columns) for run in told],
        said_of_runs=summary["runs"],
        level=as_percent(LEVEL, 0),
        provenance=list(_provenance(folder, summary)),
    )


CAPTIONS = {
    "result": "Lines: means over seeds. Bands: 95 % intervals over seeds, Student’s t. Dots: every run.",
    "phase-diagram": "A cell is one setting: what became of most of its seeds, and of how many (gray: as many had "
    "another end, and all are named); their mean accuracy. Empty: not trained.",
}


def _name_in(folder: Path) -> str:
    """Which experiment it seems to be, for a command to type."""
    with contextlib.suppress(InputError, TypeError, KeyError):
        if (name := read_json(folder / "summary.json")["experiment"]) in NAMES:
            return name
    return "NAME"


def _checked(path: Path, summary: dict[str, Any]) -> dict[str, Any]:
    try:
        sound = all(
            set(values) >= {"prediction", "verdict", "because", "numbers"}
            and values["verdict"] in VERDICTS
            and isinstance(values["numbers"], dict)
            for values in summary["predictions"].values()
        )
        if (
            sound
            and isinstance(summary["experiment"], str)
            and isinstance(summary["design"], dict)
            and isinstance(summary["runs"], int)
            and isinstance(summary.get("failed_precondition"), str | None)
        ):
            return summary
        missing = "a field is not what it should be"
    except (AttributeError, KeyError, TypeError) as error:
        missing = f"{error!s} is missing" if isinstance(error, KeyError) else str(error)
    raise InputError(f"{path} has no summary of an experiment ({missing}); make it anew with `interp experiment`")


def _prediction(name: str, values: dict[str, Any]) -> dict[str, Any]:
    return values | {
        "name": name,
        "class": values["verdict"].replace(" ", "-"),
        "numbers": list(_flat(values["numbers"])),
    }


def _flat(numbers: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Names in words and values: one line for every number, or pair or list of them."""
    for name, value in numbers.items():
        words = f"{before}{str(name).replace('_', ' ')}"
        if isinstance(value, dict):
            yield from _flat(value, f"{words}: ")
        elif isinstance(value, list) and len(value) == 2 and "interval" in words:
            yield words, " to ".join(map(readable, value))
        else:
            yield words, readable(value)


def _head(columns: Sequence[tuple[str, ...]]) -> list[str]:
    return [
        "run",
        *(", ".join(names) for names in columns),
        "what happened",
        "memorized at",
        "generalized at",
        "train",
        "test",
        "norm",
    ]


def _columns(found: Sequence[RunOutcome]) -> list[tuple[str, ...]]:
    """Fields by their values over all runs: `task.seed` and `model.seed`, say, are one."""
    by_values: dict[str, list[str]] = {}
    for field in found[0].fields if found else ():
        by_values.setdefault(json.dumps([run.fields[field] for run in found]), []).append(field)
    return [tuple(names) for names in by_values.values()]


def _row(run: RunOutcome, columns: Sequence[tuple[str, ...]]) -> list[str]:
    numbers = [
        f"{run.memorized_at:,.0f}",
        f"{run.generalized_at:,.0f}",
        as_percent(run.train_accuracy),
        as_percent(run.test_accuracy),
    ]
    fields = [readable(run.fields[names[0]]) for names in columns]
    return [
        run.name,
        *fields,
        run.verdict,
        *(number if "nan" not in number else "–" for number in numbers),
        f"{run.weight_norm:.1f}",
    ]


def _provenance(folder: Path, summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "folder", str(folder.absolute())
    yield "design", ", ".join(f"{name} {readable(value)}" for name, value in summary["design"].items())
    yield "result.nc", f"sha256 {hashlib.sha256(read_bytes(folder / 'result.nc')).hexdigest()}"
    yield "page by", f"interp {__version__}"


def _natural(name: str) -> list[Any]:
    """For sorting: D200 before D1000."""
    return [
        (float(part), "") if part.replace(".", "", 1).isdigit() else (math.inf, part)
        for part in re.split(r"(\d+\.?\d*)", name)
        if part
    ]
