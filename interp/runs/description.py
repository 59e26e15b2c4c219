"""Runs in words: the lines of `interp list` and `interp info`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from interp.errors import InputError, flag
from interp.experiment import FIELDS_OF_OTHERS, Task, hash_of, section_to_dict
from interp.figures import readable
from interp.models import method
from interp.runs.run import Run, open_run


def list_runs(folder: Path) -> Iterator[str]:
    """One line per run under `folder`; a run that cannot be read is named with the reason.

    >>> import interp
    >>> [line] = list_runs(interp.reference_path())
    >>> "add modulo 43" in line, line.endswith("test accuracy 100.0%")
    (True, True)
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    found = sorted(path.parent for path in folder.rglob("run.json") if ".tmp" not in path.parent.name)
    if not found:
        yield f"no runs under {folder}; `interp train` makes one"
    for path in found:
        try:
            run = open_run(path)
            yield f"{path!s:<36} {_task(run):<26} {_progress(run)}"
        except InputError as error:
            yield f"{path!s:<36} unreadable: {error}"


def describe(run: Run) -> Iterator[str]:
    """What a run is, line by line.

    >>> import interp
    >>> run = open_run(interp.reference_path())
    >>> next(line for line in describe(run) if line.startswith("task"))
    'task         add modulo 43; 832 of 1,849 pairs trained on (45.0%), 305 independent ones held out, seed 0'
    """
    steps = run.steps
    yield f"run          {run.path}"
    yield f"hash         {run.hash}"
    yield f"task         {_task(run)}; {_split(run)}"
    told = f"module {run.model.module.in_words}" if run.model.is_recorded else _fields(run.info["experiment"]["model"])
    yield f"model        {_printable(told)}"
    yield f"computed by  {method(run.model)}"
    training = run.info["experiment"]["training"]
    yield f"training     {_fields(training) if training else 'not trained here'}"
    if "imported" in run.info:
        yield from _import(run.info["imported"])
    if "initial_weights" in run.info:
        yield f"begins with  given weights, of digest {run.info['initial_weights']}"
    if "recorder" in run.info:
        noted = run.info["recorder"]
        layout = noted.get("layout") if isinstance(noted, dict) else None
        given = f"; weights in the layout {layout}" if layout else ""
        yield _printable(f"recorded     by a training loop of its own{given}")
    yield f"checkpoints  {_progress(run)}" + (f", from step {steps[0]:,} to {steps[-1]:,}" if steps else "")
    yield f"on disk      {sum(file.stat().st_size for file in run.path.rglob('*') if file.is_file()) / 1e6:,.1f} MB"
    yield f"created      {run.info.get('created', 'unknown')}"
    yield f"versions     {_fields(run.info.get('versions', {}))}"
    yield f"host         {_fields(run.info.get('host', {}))}"


def _import(imported: Any) -> Iterator[str]:
    """How an import was read and what was checked. Its words are from other people's files: only what can be printed
    is."""
    try:
        proof = imported["proof"]
        lines = [
            f"imported     {_files(imported['files'])} ({imported['taken']}), layout "
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
    yield from map(_printable, lines)


def _files(names: Sequence[str]) -> str:
    """Three of them, the last among them: it is the one that was proved."""
    if len(names) <= 3:
        return ", ".join(names)
    return f"{', '.join(names[:2])}, … and {len(names) - 3:,} more, {names[-1]}"


def _printable(line: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def _task(run: Run) -> str:
    return run.task.title


def _split(run: Run) -> str:
    if not run.task.split_known:
        return "split unknown"
    n_pairs, n_train = int(run.task.defined.sum()), len(run.task.train_indices)
    what, noise = ("pairs", run.task.label_noise) if isinstance(run.task, Task) else ("examples", 0)
    noisy = f", {noise:.0%} label noise" if noise else ""
    trained = f"{n_train:,} of {n_pairs:,} {what} trained on ({n_train / n_pairs:.1%})"
    return f"{trained}, {run.task.n_held_out:,} independent ones held out, seed {run.task.seed}{noisy}"


def _progress(run: Run) -> str:
    steps = run.steps
    if not steps:
        return "no checkpoints yet"
    state = (
        "recorded"  # whether it is to go on only its own loop knows
        if run.training is None and "recorder" in run.info
        else "complete"
        if run.is_complete
        else f"unfinished ({steps[-1]:,} of {run.training.steps if run.training else 0:,} steps)"
    )
    rows = [row for row in run.rows if row.get("test_accuracy") is not None]
    accuracy = f", test accuracy {rows[-1]['test_accuracy']:.1%}" if rows else ""
    return f"{len(steps):,} checkpoints, {state}{accuracy}"


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
    >>> run = open_run(interp.reference_path())
    >>> configuration_differences([run, run])
    {}
    """
    described = [_configuration(run) for run in runs]
    names = dict.fromkeys(name for fields in described for name in fields)
    values = {name: [fields.get(name) for fields in described] for name in names}
    return {name: entries for name, entries in values.items() if any(entry != entries[0] for entry in entries)}


def _configuration(run: Run) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for section, config in (("task", run.task), ("model", run.model), ("training", run.training)):
        for name, value in section_to_dict(config).items() if config is not None else ():
            if section != "model" or name not in FIELDS_OF_OTHERS[run.model.family]:
                fields |= _flat({name: value}, f"{section}.")
    if isinstance(split := fields.get("task.split"), list):
        fields["task.split"] = f"{len(split)} listed pairs ({hash_of(sorted(split))[:6]})"
    return fields | ({} if run.training is not None else {"training": "not trained here"})
