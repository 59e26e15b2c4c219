"""Running analyses over a run, with results kept on disk.

Results are kept with a hash of what they were computed from; asking again computes only the steps that are missing or
stale. A keyword parameter called `key_frequencies` whose default is None is given those of the run: of its last
checkpoint that has a circuit.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from interp.analysis.contract import Analysis, find, select
from interp.analysis.results import load_result, result_path, save_result
from interp.analysis.steps import steps_to_show
from interp.analysis.workers import Order, measured, processes_for
from interp.errors import InputError, unknown_name
from interp.experiment import Task, hash_of
from interp.machine import give_back_freed_memory, keep_freed_memory
from interp.models import are_finite
from interp.runs import Checkpoint, Run, weights_digest

Progress = Callable[[Sequence[int]], Iterable[int]]  # wraps the steps that are walked over

_STEP = {"long_name": "step", "units": "updates"}


def analyze(
    run: Run,
    names: Iterable[str | Analysis] = ("core",),
    *,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    steps: Iterable[int] | None = None,
    progress: Progress = lambda steps: steps,
    parallel: bool = False,
) -> dict[str, xr.Dataset]:
    """The results of analyses over a run, read from disk where they are fresh. `names` are names of analyses, groups,
    "core" (`Analysis.core`) or "all"; a word for several analyses leaves out those that cannot be asked about the
    examples and the model of the run.

    `parameters` maps the name of an analysis to keyword parameters other than its defaults, and `steps` restricts the
    checkpoints that are measured; analyses of a whole run are then refused, or left out where they were not asked for
    by name. Each checkpoint is read once, with one forward pass for all analyses, and not kept in memory. When
    interrupted, the rows computed so far are saved. Checkpoints whose weights are not finite, because training
    diverged, have no row; InputError when there are no others. With `parallel`, other processes share long work
    (`interp.analysis.workers`); a script that asks for it needs the guard `if __name__ == "__main__":`.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> norm = interp.analyze(run, ["weight_norms"])["weight_norms"].total_l2
    >>> norm.sizes["step"], bool(norm[-1] < norm.max())  # cleanup lowers it
    (53, True)
    >>> interp.analyze(run, ["weight_norms"], steps=[0, 3000])["weight_norms"].step.values.tolist()
    [0, 3000]
    """
    asked = _asked(run, list(names), of_steps=steps is not None)
    chosen = _with_needs(asked)
    for analysis in chosen:
        analysis.check_is_for(run.task, run.model)
    if not run.steps:
        raise InputError(f"{run.path} has no checkpoints to analyze")
    keep_freed_memory()
    parameters = dict(parameters or {})
    resolved = {analysis.name: _resolved(run, analysis, parameters.pop(analysis.name, {})) for analysis in chosen}
    for name in parameters:
        raise unknown_name("analysis", name, resolved)
    digests = _digests(run)
    wanted = list(digests) if steps is None else sorted(set(steps))
    for step in wanted:
        if step not in digests:
            run[step]  # raises, naming the nearest
    tables = [_Table(run, analysis, resolved[analysis.name]) for analysis in chosen if not analysis.of_run]
    missing = {table.analysis.name: table.missing(digests, wanted) for table in tables}
    walked = sorted(set().union(*missing.values())) if missing else []
    orders = [Order(table.analysis, table.parameters, frozenset(missing[table.analysis.name])) for table in tables]
    rows = measured(run, orders, walked, processes_for(run, walked) if parallel else 1)
    try:
        for _ in progress(walked) if walked else ():
            step, found = next(rows)
            for table in tables:
                if table.analysis.name in found:
                    table.add(step, found[table.analysis.name], digests[step])
    except KeyboardInterrupt:
        _save_all(tables, missing)
        raise
    finally:
        rows.close()
    give_back_freed_memory()  # what the walk needed: writing doubles the largest result for a moment
    # After any other error, a damaged checkpoint say, nothing is written.
    _save_all(tables, missing)
    results = {table.analysis.name: table.result() for table in tables}
    for analysis in (a for a in chosen if a.of_run):
        results[analysis.name] = _computed(run, analysis, resolved[analysis.name], digests, progress)
    return {name: results[name] for name in sorted({analysis.name for analysis in asked})}


def _asked(run: Run, names: Sequence[str | Analysis], *, of_steps: bool) -> list[Analysis]:
    """The analyses that the names select; without those of a whole run where certain steps are asked for."""
    asked = select(names, run.task, run.model)
    if not of_steps:
        return asked
    for analysis in asked:
        if analysis.of_run and (analysis in names or analysis.name in names):
            raise InputError(f"{analysis.name} is an analysis of a whole run; it cannot be asked about some steps")
    return [analysis for analysis in asked if not analysis.of_run]


def measure_checkpoint(checkpoint: Checkpoint, name: str, **parameters: Any) -> xr.Dataset:
    """One analysis of one checkpoint, in memory, with its provenance.

    >>> from interp.testing import circuit_checkpoint, circuit_neurons
    >>> pizza = circuit_checkpoint(Task(11), circuit_neurons([2, 5]), step=100)
    >>> result = measure_checkpoint(pizza, "embedding_spectrum")
    >>> result.step.values.tolist(), result.frequency[result.is_key[0]].values.tolist()
    ([100], [2, 5])
    """
    analysis = find(name)
    if analysis.of_run:
        raise InputError(f"{name} is an analysis of a whole run; this is one checkpoint")
    analysis.check_is_for(checkpoint.task, checkpoint.model)
    resolved = analysis.resolve(parameters)
    step = xr.Variable("step", np.array([checkpoint.step], dtype=np.int32), _STEP)
    result = analysis.function(checkpoint, **resolved).expand_dims("step").assign_coords(step=step)
    return result.assign_attrs(_provenance(analysis, resolved, "in memory"))


def results_at(run: Run, checkpoint: Checkpoint, names: Iterable[str]) -> dict[str, xr.Dataset]:
    """The results of analyses at one checkpoint of a run, with a dimension `step` of length 1: the rows that `analyze`
    kept, where they are fresh, and otherwise measured now. The rest of the run is not walked, and nothing is written.

    Raises InputError for an analysis of a whole run, and for one that cannot be asked about this model.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> result = results_at(run, run[100], ["weight_norms"])["weight_norms"]
    >>> result.step.values.tolist()
    [100]
    """
    results = {}
    digest = run.digests.get(checkpoint.step) or weights_digest(checkpoint.weights)
    for name in names:
        analysis = find(name)
        parameters = _resolved(run, analysis, {})
        table = None if analysis.of_run else _Table(run, analysis, parameters)
        if table is not None and table.stored is not None and table.known.get(checkpoint.step) == digest:
            results[name] = table.stored.sel(step=[checkpoint.step])
        else:
            results[name] = measure_checkpoint(checkpoint, name, **parameters)
    return results


def stored_result(run: Run, name: str) -> xr.Dataset | None:
    """The result of an analysis with its default parameters, if it was computed before and is fresh and whole.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> curves = interp.analyze(run, ["learning_curves"])["learning_curves"]
    >>> stored_result(run, "learning_curves").identical(curves)
    True
    """
    analysis, path = find(name), result_path(run.path, run.hash, name)
    if not path.is_file():
        return None
    parameters, digests = _resolved(run, analysis, {}), _digests(run)
    if analysis.of_run:
        return load_result(path, _identity(run, analysis, parameters, digests))
    table = _Table(run, analysis, parameters)
    missing = table.missing(digests, list(digests))
    if table.stored is None or any(are_finite(run[step].weights) for step in missing):
        return None
    return table.result()


def _save_all(tables: Sequence["_Table"], missing: Mapping[str, set[int]]) -> None:
    for table in tables:
        if missing[table.analysis.name]:
            table.save()


class _Table:
    """The result of one `measure` over a run: arrays allocated once along step, filled row by row."""

    def __init__(self, run: Run, analysis: Analysis, parameters: dict[str, Any]) -> None:
        self.analysis, self.parameters, self.run = analysis, parameters, run
        self.path = _path(run, analysis, parameters)
        self.identity = hash_of([analysis.name, analysis.version, parameters, run.hash])
        stored = load_result(self.path, self.identity)
        self.stored = stored
        self.known: dict[int, str] = {}
        if stored is not None:
            self.known = dict(
                zip((int(s) for s in stored.step.values), json.loads(stored.attrs["digests"]), strict=True)
            )
        self.arrays: dict[str, np.ndarray] = {}
        self.wanted: list[int] = []  # of the result
        self.steps: list[int] = []  # of the file: these and others that are fresh
        self.template: xr.Dataset | None = None
        self.row: dict[int, int] = {}

    def missing(self, digests: Mapping[int, str], wanted: Sequence[int]) -> set[int]:
        """Those of the wanted steps (at most MOST_STEPS of them) whose row is absent or was computed from other
        weights. Rows of other steps stay, as long as they are fresh."""
        self.wanted = steps_to_show(wanted, (), self.analysis.most_steps or len(wanted))
        fresh = {step for step in digests if self.known.get(step) == digests[step]}
        missing = {*self.wanted} - fresh
        self.steps = sorted({*self.wanted} | fresh)
        if self.stored is not None and (missing or len(self.known) != len(fresh)):
            rows = sorted(fresh)
            self.stored, kept = None, self.stored.sel(step=rows)
            self.known = {step: self.known[step] for step in rows}
            if rows:
                self._allocate(kept.isel(step=0, drop=True))
                self._fill(rows, kept)
                if not missing:
                    self.stored = self._dataset(rows)
        return missing

    def add(self, step: int, row: xr.Dataset, digest: str) -> None:
        """Keep what was measured at one step, with the digest of its weights."""
        if self.template is None:
            self._allocate(row)
        for name, array in self.arrays.items():
            values = row.variables[name].values  # row[name] would gather the coordinates of every variable
            if values.dtype != array.dtype or values.shape != array.shape[1:]:
                seen, expected = (f"{a.dtype} {list(a.shape)}" for a in (values, array[0]))
                raise InputError(
                    f"{self.analysis.name}: {name} is {seen} at step {step}, {expected} at others; "
                    "an analysis must give the same types and shapes at every step"
                )
            array[self.row[step]] = values
        self.known[step] = digest

    def _allocate(self, template: xr.Dataset) -> None:
        self.template = template
        self.row = {step: index for index, step in enumerate(self.steps)}
        self.arrays = {
            str(name): np.empty((len(self.steps), *v.shape), dtype=v.dtype) for name, v in template.data_vars.items()
        }

    def _fill(self, steps: Sequence[int], rows: xr.Dataset) -> None:
        index = [self.row[step] for step in steps]
        for name, array in self.arrays.items():
            array[index] = rows[name].values

    def _dataset(self, steps: Sequence[int]) -> xr.Dataset:
        assert self.template is not None
        whole = len(steps) == len(self.steps)
        index = slice(None) if whole else [self.row[step] for step in steps]
        data = {
            name: (("step", *self.template[name].dims), array[index], self.template[name].attrs)
            for name, array in self.arrays.items()
        }
        coordinates = {name: value.variable for name, value in self.template.coords.items()}
        coordinates["step"] = xr.Variable("step", np.array(steps, dtype=np.int32), _STEP)
        attrs = self.template.attrs | _of_run(self.run, self.analysis, self.parameters)
        attrs |= {"identity": self.identity, "digests": json.dumps([self.known[step] for step in steps])}
        return xr.Dataset(data, coordinates, attrs)

    def save(self) -> None:
        """Keep on disk what is known so far."""
        done = [step for step in self.steps if step in self.known]
        if self.template is not None and done:
            self.stored = self._dataset(done)
            save_result(self.path, self.stored)

    def result(self) -> xr.Dataset:
        rows = [step for step in self.wanted if step in self.known]
        if self.stored is None or not rows:
            _last_finite(self.run)  # says that there is none
            raise InputError(f"training of {self.run.path} diverged: no weights at the steps asked for are finite")
        if len(rows) == self.stored.sizes["step"]:
            return self.stored
        return self.stored.sel(step=rows).assign_attrs(digests=json.dumps([self.known[step] for step in rows]))


def _path(run: Run, analysis: Analysis, parameters: Mapping[str, Any]) -> Path:
    """Where the result with these parameters is kept."""
    defaults = _resolved(run, analysis, {})
    others = {name: value for name, value in parameters.items() if hash_of(value) != hash_of(defaults[name])}
    return result_path(run.path, run.hash, analysis.name, others)


def _identity(run: Run, analysis: Analysis, parameters: Mapping[str, Any], digests: Mapping[int, str]) -> str:
    """What the result of an analysis of a whole run was computed from."""
    return hash_of([analysis.name, analysis.version, dict(parameters), run.hash, list(digests.items()), run.rows])


def _computed(
    run: Run, analysis: Analysis, parameters: dict[str, Any], digests: Mapping[int, str], progress: Progress
) -> xr.Dataset:
    identity = _identity(run, analysis, parameters, digests)
    path = _path(run, analysis, parameters)
    stored = load_result(path, identity)
    if stored is None:
        for step in digests.keys() - {*run.steps}:
            run[step]  # raises: a recorded checkpoint is missing, and must not be passed over
        shown = {"progress": progress} if analysis.shows_progress else {}
        stored = analysis.function(run, **parameters, **shown)
        stored = stored.assign_attrs(stored.attrs | _of_run(run, analysis, parameters) | {"identity": identity})
        save_result(path, stored)
    return stored


def _with_needs(asked: Iterable[Analysis]) -> list[Analysis]:
    """These analyses with all that they need, each after what it needs."""
    ordered: dict[str, Analysis] = {}

    def add(analysis: Analysis, around: tuple[str, ...] = ()) -> None:
        if analysis.name in around:
            raise InputError(f"these analyses need each other: {' → '.join((*around, analysis.name))}")
        if analysis.name not in ordered:
            for needed in analysis.needs:
                add(find(needed), (*around, analysis.name))
            ordered[analysis.name] = analysis

    for analysis in asked:
        add(analysis)
    return list(ordered.values())


def _resolved(run: Run, analysis: Analysis, given: Mapping[str, Any]) -> dict[str, Any]:
    resolved = analysis.resolve(dict(given))
    if resolved.get("key_frequencies", ()) is None and isinstance(run.task, Task):
        resolved["key_frequencies"] = run.key_frequencies
    return resolved


def _last_finite(run: Run) -> Checkpoint:
    if are_finite(run.last.weights):
        return run.last
    finite = (checkpoint for checkpoint in map(run.__getitem__, reversed(run.steps)) if are_finite(checkpoint.weights))
    checkpoint = next(finite, None)
    if checkpoint is None:
        raise InputError(
            f"every checkpoint of {run.path} holds NaN or infinity: training diverged at once; train again with "
            "a smaller --training.lr"
        )
    return checkpoint


def _digests(run: Run) -> dict[int, str]:
    """The digest of the weights of every step, from metrics.jsonl where it stands there."""
    logged = {row["step"]: row["weights"] for row in run.rows if "weights" in row}
    # A recorded checkpoint that is not there stays in the list: reading it will say that it is missing.
    steps = sorted({*run.steps, *(logged.keys() - run.thinned)})
    return {step: logged[step] if step in logged else weights_digest(run[step].weights) for step in steps}


def _of_run(run: Run, analysis: Analysis, parameters: Mapping[str, Any]) -> dict[str, str | int]:
    circuit = run.last_circuit if isinstance(run.task, Task) else None
    key, step = ([], -1) if circuit is None else (circuit.key_frequencies, circuit.step)
    known = {"key_frequencies": json.dumps(key), "key_frequencies_of_step": step}
    return _provenance(analysis, parameters, run.hash) | known


def _provenance(analysis: Analysis, parameters: Mapping[str, Any], run_hash: str) -> dict[str, str | int]:
    return {
        "analysis": analysis.name,
        "title": analysis.title,
        "reference": analysis.module.REFERENCE,
        "version": analysis.version,
        "interp": version("interp"),
        "run": run_hash,
        "parameters": json.dumps(dict(parameters), sort_keys=True),
    }
