"""Runs in words: the lines of `interp info`, and how far a run is."""

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from interp.errors import flag
from interp.experiment import FIELDS_OF_OTHERS, Operations, Task, hash_of, section_to_dict
from interp.figures import as_count, as_size, readable
from interp.models import method
from interp.printable import one_line
from interp.runs.absences import missing_steps
from interp.runs.run import Run


def describe(run: Run) -> Iterator[str]:
    """What a run is, line by line.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> next(line for line in describe(run) if line.startswith("task"))
    'task         add modulo 43; 832 of 1,849 pairs trained on (45.0%), 305 independent ones held out, seed 0'
    """
    steps = run.steps
    yield f"run          {run.path}"
    yield f"hash         {run.hash}"
    yield f"task         {_task(run)}; {_split(run)}"
    told = f"module {run.model.module.in_words}" if run.model.is_recorded else _fields(run.info["experiment"]["model"])
    yield f"model        {one_line(told)}"
    noted = run.info.get("arithmetic")
    if run.training is not None and run.training.regularizers.dropout:
        noted = "general, autograd (dropout)"  # of its metrics, which are without, `arithmetic` stays true
    in_training = f"{one_line(str(noted))} in training; in analyses " if noted is not None else ""
    yield f"computed by  {in_training}{method(run.model)}"
    training = run.info["experiment"]["training"]
    yield f"training     {_fields(training) if training else 'not trained here'}"
    if "imported" in run.info:
        yield from _import(run.info["imported"])
    if "initial_weights" in run.info:
        yield f"begins with  given weights, of digest {run.info['initial_weights']}"
    if isinstance(noted := run.info.get("extracted"), dict):
        of = ", ".join(map(str, noted.get("operations", ())))
        yield one_line(f"extracted    {noted.get('operation')} of a network of {of}: run {noted.get('of_run')}")
    if "recorder" in run.info:
        noted = run.info["recorder"]
        layout = noted.get("layout") if isinstance(noted, dict) else None
        given = f"; weights in the layout {layout}" if layout else ""
        yield one_line(f"recorded     by a training loop of its own{given}")
    yield f"checkpoints  {progress_of(run)}" + (f", from step {steps[0]:,} to {steps[-1]:,}" if steps else "")
    yield f"on disk      {as_size(_size_on_disk(run.path))}"
    yield f"created      {run.info.get('created', 'unknown')}"
    yield f"versions     {_fields(run.info.get('versions', {}))}"
    yield f"host         {_fields(run.info.get('host', {}))}"


def _size_on_disk(path: Path) -> int:
    """Bytes in the plain files below a folder; no link is followed."""
    files = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
    found = map(os.lstat, files)
    return sum(one.st_size for one in found if stat.S_ISREG(one.st_mode))


def _import(imported: Any) -> Iterator[str]:
    """How an import was read and what was checked. Its words are from other people's files: only what can be printed
    is."""
    try:
        proof = imported["proof"]
        lines = [
            f"imported     {_files(imported['files'], imported.get('n_files'))} ({imported['taken']}), layout "
            f"{imported['layout']}; split {imported['split']}"
        ]
        right, loss = readable(proof["accuracy"]), readable(proof["loss"])
        lines += [f"proof        {'verified' if proof['verified'] else 'NOT VERIFIED'} at step {proof['step']}: "]
        lines[-1] += f"accuracy {right}, loss {loss} over all pairs; {proof['operation']}; {proof['activation']}"
        said = [f"{c['name']} {readable(c['stored'])} (found {readable(c['found'])})" for c in proof["claims"]]
        lines += [f"stored       {', '.join(said)}"] if said else []
        lines += [f"doubt        {line}" for line in proof["doubts"]] + [
            f"note         {line}" for line in imported["notes"]
        ]
    except (KeyError, TypeError, IndexError, AttributeError):
        lines = ["imported     run.json does not say how"]
    yield from map(one_line, lines)


def _files(names: Sequence[str], n_files: int | None = None) -> str:
    """Three of them, the last among them: it is the one that was proved. `n_files` where not all are named."""
    if len(names) <= 3:
        return ", ".join(names)
    if cut := re.fullmatch(r"and (\d+) more", names[-1]):  # as it was written before `n_files`: the last is not known
        return f"{', '.join(names[:2])}, … and {len(names) - 3 + int(cut[1]):,} more"
    return f"{', '.join(names[:2])}, … and {(n_files or len(names)) - 3:,} more, {names[-1]}"


def _task(run: Run) -> str:
    return run.task.title


def _split(run: Run) -> str:
    if not run.task.split_known:
        return "split unknown"
    n_pairs, n_train = int(run.task.defined.sum()), len(run.task.train_indices)
    what = "pairs" if isinstance(run.task, Task) else "examples"
    noise = 0 if isinstance(run.task, Operations) else run.task.label_noise
    noisy = f", {noise:.0%} label noise" if noise else ""
    trained = f"{n_train:,} of {n_pairs:,} {what} trained on ({n_train / n_pairs:.1%})"
    if isinstance(run.task, Task) and run.task.augmentation == "mirror":
        trained += f", {n_train - len(run.task.drawn_indices):,} of them mirrors that were added"
    if n_validation := int(run.task.mask("validation").sum()):
        trained += f", {n_validation:,} to choose on (validation)"
    return f"{trained}, {run.task.n_held_out:,} independent ones held out, seed {run.task.seed}{noisy}"


def progress_of(run: Run) -> str:
    """How many checkpoints a run has, whether it is done, and its last test accuracy."""
    steps, lines = run.steps, run.lines
    if not steps and (missing := len(missing_steps(run))):
        return f"no checkpoints, though metrics.jsonl records {missing:,}"
    if not steps and not run.thinned and not lines:
        return "no checkpoints yet"
    # By the lines, as whoever goes on: where training begins anew there are checkpoints beyond.
    reached = lines[-1].step if lines else max([*steps, *run.thinned], default=0)
    last = run.training.steps if run.training else 0
    state = (
        "recorded"  # whether it is to go on only its own loop knows
        if run.training is None and "recorder" in run.info
        else "complete"
        if run.is_complete
        else f"diverged at step {reached:,} of {last:,}"
        if run.diverged_at is not None
        else f"unfinished ({reached:,} of {last:,} steps)"
    )
    rows = [line.row for line in lines if line.row.get("test_accuracy") is not None]
    before = " before" if run.diverged_at is not None else ""
    accuracy = f", test accuracy {rows[-1]['test_accuracy']:.1%}{before}" if rows else ""
    return f"{as_count(len(steps), 'checkpoint')}, {state}{accuracy}"


def _fields(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in _flat(values) if value not in (None, []))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Fields by their flags, those of nested configurations with a dot: `norm.kind`."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{flag(name)}.")
        else:
            yield f"{prefix}{flag(name)}", value


def configuration_differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """One value per run of the fields of task, model and training that differ; None where a side has no such field.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> configuration_differences([run, run])
    {}
    """
    described = [configuration(run) for run in runs]
    names = dict.fromkeys(name for fields in described for name in fields)
    values = {name: [fields.get(name) for fields in described] for name in names}
    return {name: entries for name, entries in values.items() if any(entry != entries[0] for entry in entries)}


def configuration(run: Run) -> dict[str, Any]:
    """The fields of task, model and training by their full names.

    >>> import interp
    >>> configuration(interp.open_run(interp.reference_path()))["training.weight-decay"]
    1.0
    """
    fields: dict[str, Any] = {}
    for section, config in (("task", run.task), ("model", run.model), ("training", run.training)):
        for name, value in section_to_dict(config).items() if config is not None else ():
            if section != "model" or name not in FIELDS_OF_OTHERS[run.model.family]:
                fields |= _flat({name: value}, f"{section}.")
    if isinstance(split := fields.get("task.split"), list):
        fields["task.split"] = f"{len(split)} listed pairs ({hash_of(sorted(split))[:6]})"
    if given_away := fields.pop("task.given-away", None):
        fields["task.given-away"] = f"{len(given_away)} pairs ({hash_of(given_away)[:6]})"
    return fields | ({} if run.training is not None else {"training": "not trained here"})
