"""sweep.json: what a folder of runs is a sweep of, and where on its axes every run stands."""

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, cast, get_args

from interp import __version__
from interp.errors import InputError
from interp.experiment import Experiment, experiment_from_dict
from interp.machine import Folder, read_json, refusals_as, write_atomically
from interp.runs import check_sum, with_sum
from interp.sweeps.axes import Sweep
from interp.sweeps.failures import read_failures
from interp.sweeps.planned_run import UNFINISHED

Keep = Literal["all", "ends", "metrics"]
SWEEP_JSON, FORMAT = "sweep.json", 1
_RUN_NAME = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class SweepRecord:
    """What sweep.json says: the experiment that is varied, the labels on every axis, the coordinates of every run by
    its name (all combinations, the last axis fastest), and what is kept of the runs."""

    base: Experiment
    axes: Mapping[str, Sequence[Any]]
    runs: Mapping[str, Mapping[str, Any]]
    keep: Keep


def begin_sweep(folder: Path, sweep: Sweep, keep: Keep | None = None) -> Keep:
    """Write sweep.json into `folder`, which is made if need be, and return what is kept of the runs: what the folder
    already says where `keep` is None, and otherwise everything.

    A folder that holds a sweep is gone on with where the new one has all of its runs, and perhaps more: so seeds and
    values can be added at any time. Raises InputError, which says what differs, where it leaves out any.
    """
    keep = check_can_begin(folder, sweep, keep)
    axes = {axis: [point.label for point in points] for axis, points in sweep.points.items()}
    fields = {axis: [dict(point.fields) for point in points] for axis, points in sweep.points.items()}
    content = {
        "format": FORMAT,
        "interp": __version__,
        "base": sweep.base.to_dict(),
        "axes": axes,
        "fields": fields,
        "runs": sweep.coordinates,
        "keep": keep,
    }
    with refusals_as(f"cannot write to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / SWEEP_JSON, with_sum(content))
    return keep


def read_sweep(folder: Path) -> SweepRecord | None:
    """What sweep.json of a folder says; None where there is none. Raises InputError for one that is damaged, or of
    another version."""
    path = folder / SWEEP_JSON
    if not path.exists():
        return None
    values = read_json(path)
    version = values.get("format") if isinstance(values, dict) else None
    if version != FORMAT:
        raise InputError(f"{path} has format version {version!r:.40}; this version of interp reads {FORMAT}")
    check_sum(path, values)
    try:
        base, axes, runs = experiment_from_dict(values["base"]), values["axes"], values["runs"]
        if not all(_RUN_NAME.fullmatch(name) and labels.keys() == axes.keys() for name, labels in runs.items()):
            raise InputError("a run has no name, or does not stand on its axes")
        if [list(labels.values()) for labels in runs.values()] != list(map(list, product(*axes.values()))):
            raise InputError("its runs are not the product of its axes")
        if values["keep"] not in get_args(Keep):
            raise InputError(f"keep must be {', '.join(get_args(Keep))}, got {values['keep']!r:.40}")
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{path} is damaged: it does not describe a base, axes and runs") from None
    except InputError as error:
        raise InputError(f"{path} is damaged: {error}") from None
    return SweepRecord(base, axes, runs, cast(Keep, values["keep"]))


def check_can_begin(folder: Path, sweep: Sweep, keep: Keep | None = None) -> Keep:
    """What is kept of the runs, where the sweep can be trained into `folder`. Raises InputError where it cannot."""
    if (folder / "run.json").exists():
        raise InputError(f"{folder} is a run itself; choose another --out for a folder of runs")
    there = read_sweep(folder)
    if there is None:
        return keep or "all"
    missing = there.runs.keys() - sweep.coordinates.keys()
    if missing:
        differing = _differences(there.base, sweep.base) or _left_out(there, sweep) or _not_contained(there, sweep)
        raise InputError(
            f"{folder} holds another sweep, of {len(there.runs):,} runs, of which this one leaves out "
            f"{len(missing):,}: {differing}; runs can be added to a sweep, none left out: choose another --out"
        )
    if keep is not None and keep != there.keep:
        raise InputError(
            f"{folder} holds a sweep of {len(there.runs):,} runs that was begun with --keep {there.keep}, and this one "
            f"says --keep {keep}: all runs of a sweep keep the same. Leave --keep out to go on, or to add runs, with "
            f"{there.keep}; or choose another --out"
        )
    return there.keep


def what_is_left(folder: Path) -> Iterator[str]:
    """A line for every sweep in `folder`, or below it, of which runs are not at their end: how many have not begun, are
    unfinished or failed, and what goes on with them.

    >>> import interp
    >>> list(what_is_left(interp.reference_path()))
    []
    """
    for parent, names, files in os.walk(folder):
        names.sort()
        if SWEEP_JSON in files or "run.json" in files:
            names.clear()  # there are runs below, and within a run nothing that is asked for
        if SWEEP_JSON in files and "run.json" not in files:
            try:
                yield from _what_is_left_of(Path(parent))
            except InputError as error:
                yield f"{parent}: unreadable: {error}"


def _what_is_left_of(folder: Path) -> Iterator[str]:
    sweep = read_sweep(folder)
    assert sweep is not None
    open_ones = [name for name in sweep.runs if not (folder / name / "run.json").exists()]
    begun = {name for name in open_ones if (folder / UNFINISHED / name / "run.json").exists()}
    failed = {name for name, one in read_failures(folder).items() if not one.diverged} & set(open_ones)
    not_begun, unfinished = len(set(open_ones) - begun - failed), len(begun - failed)
    counts = {
        f"{'has' if not_begun == 1 else 'have'} not begun": not_begun,
        f"{'is' if unfinished == 1 else 'are'} unfinished": unfinished,
        "failed (failures.jsonl says why)": len(failed),
    }
    told = ", ".join(f"{n:,} {what}" for what, n in counts.items() if n)
    if told:
        with Folder(folder) as held:
            is_trained = held.is_locked()
        command = f"go on with its grid file: interp sweep GRID.toml --out {shlex.quote(str(folder))}"
        goes_on = "it is being trained now" if is_trained else command
        yield f"of the {len(sweep.runs):,} runs of the sweep in {folder} {told}; {goes_on}"


def _differences(there: Experiment, here: Experiment) -> str:
    """The fields in which what is varied differs."""
    told = []
    for section, values in here.to_dict().items():
        before = there.to_dict()[section]
        for name in dict.fromkeys((*before, *values)):
            if before.get(name) != values.get(name):
                field = f"{section}.{name.replace('_', '-')}"
                told.append(f"{field} {before.get(name)} there, {values.get(name)} here")
    return "; ".join(told)


def _not_contained(there: SweepRecord, sweep: Sweep) -> str:
    """Of axes that are new here, that none of their places is what the runs that are there have."""
    new = [axis for axis in sweep.points if axis not in there.axes]
    told = []
    for axis in new:
        value: Any = there.base.to_dict()
        for part in axis.replace("-", "_").split("."):
            value = value.get(part) if isinstance(value, dict) else None
        what = f"the value {value}" if value is not None else "what the grid has without it"
        told.append(f"those there have {what}, which is not on the new axis {axis}: add it to that")
    return "; ".join(told) or "their experiments are others"


def _left_out(there: SweepRecord, sweep: Sweep) -> str:
    """The axes, and places on them, that are there and not here."""
    told = []
    for axis, labels in there.axes.items():
        here = [point.label for point in sweep.points.get(axis, ())]
        gone = [str(label) for label in labels if label not in here]
        if gone:
            told.append(f"{axis} {', '.join(gone)}")
    return "; ".join(told)
