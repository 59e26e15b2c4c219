"""Running analyses over a run, with results kept on disk.

Results are kept with a hash of what they were computed from; asking again computes only the steps that are missing or
stale. A keyword parameter called `key_frequencies` whose default is None is given those of the run: of its last
checkpoint that has a circuit.

What was computed is not thrown away: not for a result that cannot be kept, nor for a checkpoint that is thinned out
meanwhile, nor for another analysis that cannot be computed.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import xarray as xr

from interp.analysis.contract import Analysis, find, select
from interp.analysis.keeping import Keeper, Shelf, keeper
from interp.analysis.partly_analyzed import PartlyAnalyzed
from interp.analysis.places import result_path
from interp.analysis.provenance import (
    digests_of,
    identity_of_whole,
    path_of,
    provenance,
    provenance_in_run,
    resolved_parameters,
    step_axis,
)
from interp.analysis.results import load_result
from interp.analysis.rows import RowsOfRun
from interp.analysis.thinned import is_thinned_out, while_thinned
from interp.analysis.workers import Order, measured, processes_for
from interp.errors import InputError, Notice, unknown_name
from interp.machine import give_back_freed_memory, keep_freed_memory
from interp.models import are_finite
from interp.runs import Checkpoint, Run, run_of, weights_digest

Progress = Callable[[Sequence[int]], Iterable[int]]  # wraps the steps that are walked over

# What `compute` of an analysis of a whole run asks the run for, while it is computed.
_in_hand: ContextVar[tuple[Run, Mapping[str, xr.Dataset]] | None] = ContextVar("_in_hand", default=None)


def analyze(
    run: Run | str | Path,
    names: str | Analysis | Iterable[str | Analysis] = ("core",),
    *,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    steps: Iterable[int] | None = None,
    progress: Progress = lambda steps: steps,
    parallel: bool = False,
) -> dict[str, xr.Dataset]:
    """The results of analyses over a run, or over that in a folder, read from disk where they are fresh. `names` are
    names of analyses, groups, "core" (`Analysis.core`) or "all", several of them or one; a word for several analyses
    leaves out those that cannot be asked about the examples and the model of the run.

    `parameters` maps the name of an analysis to keyword parameters other than its defaults, and `steps` restricts the
    checkpoints that are measured; analyses of a whole run are then refused, or left out where they were not asked for
    by name. Each checkpoint is read once, with one forward pass for all analyses, and not kept in memory. When
    interrupted, or met by an error, the rows computed so far are saved. Checkpoints whose weights are not finite,
    because training diverged, have no row; InputError when there are no others. With `parallel`, other processes share
    long work (`interp.analysis.workers`); a script that asks for it needs the guard `if __name__ == "__main__":`.

    Where an analysis cannot be computed, `PartlyAnalyzed` has the results of the others. Results that cannot be kept,
    on a full disk say, and checkpoints that are thinned out meanwhile, whose rows are left out, are told by an
    `interp.errors.Notice`.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> norm = interp.analyze(run, ["weight_norms"])["weight_norms"].total_l2
    >>> norm.sizes["step"], bool(norm[-1] < norm.max())  # cleanup lowers it
    (53, True)
    >>> interp.analyze(run, ["weight_norms"], steps=[0, 3000])["weight_norms"].step.values.tolist()
    [0, 3000]
    """
    run, names = run_of(run), [names] if isinstance(names, str | Analysis) else list(names)
    if steps is None and parameters is None and (there := _from_hand(run, names)) is not None:
        return there
    with keeper() as shelf:
        return _analyzed(
            run, names, shelf, parameters=parameters or {}, steps=steps, progress=progress, parallel=parallel
        )


def analyze_anew(
    run: Run,
    names: Iterable[str],
    parameters: Mapping[str, Mapping[str, Any]],
    progress: Progress = lambda steps: steps,
    *,
    parallel: bool = False,
) -> dict[str, xr.Dataset]:
    """What `analyze` gives, with nothing read from results that were kept before, and nothing kept.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> analyze_anew(run, ["learning_curves"], {})["learning_curves"].sizes["step"]
    143
    """
    return _analyzed(run, list(names), Shelf(), parameters=parameters, steps=None, progress=progress, parallel=parallel)


def _analyzed(
    run: Run,
    names: Sequence[str | Analysis],
    shelf: Shelf,
    *,
    parameters: Mapping[str, Mapping[str, Any]],
    steps: Iterable[int] | None,
    progress: Progress,
    parallel: bool,
) -> dict[str, xr.Dataset]:
    asked = _asked(run, names, of_steps=steps is not None)
    chosen = _with_needs(asked)
    for analysis in chosen:
        analysis.check_is_for(run.task, run.model)
    if not run.steps:
        removed = "; they were removed (`interp list` tells what the lines tell)" if run.thinned else ""
        raise InputError(f"{run.path} has no checkpoints to analyze{removed}")
    keep_freed_memory()
    given = {name: dict(values) for name, values in parameters.items()}
    for name in given.keys() - {analysis.name for analysis in chosen}:
        raise unknown_name("analysis", name, [analysis.name for analysis in chosen])

    def look() -> tuple[dict[str, dict[str, Any]], dict[int, str]]:
        resolved = {one.name: resolved_parameters(run, one, given.get(one.name, {})) for one in chosen}
        return resolved, digests_of(run)

    resolved, digests = while_thinned(run, look)
    wanted = list(digests) if steps is None else sorted(set(steps))
    for step in wanted:
        if step not in digests:
            run[step]  # raises, naming the nearest
    tables = [RowsOfRun(run, one, resolved[one.name], shelf) for one in chosen if not one.of_run]
    results, refused = dict[str, xr.Dataset](), dict[str, InputError]()
    _fill(run, tables, digests, wanted, progress=progress, parallel=parallel)
    for table in tables:
        try:
            results[table.analysis.name] = table.result()
        except InputError as error:
            refused[table.analysis.name] = error
    for analysis in (a for a in chosen if a.of_run):
        hand = {name: result for name, result in results.items() if name not in given}
        try:
            with _having(run, hand):
                found = _whole(run, analysis, resolved[analysis.name], digests, shelf=shelf, progress=progress)
            results[analysis.name] = found
        except InputError as error:
            refused[analysis.name] = error
    wished = {name: results[name] for name in sorted({analysis.name for analysis in asked}) if name in results}
    for name in sorted(refused):  # of several, one: they mostly come of the same
        raise PartlyAnalyzed(str(refused[name]), wished) from None
    return wished


def _fill(
    run: Run,
    tables: Sequence[RowsOfRun],
    digests: Mapping[int, str],
    wanted: Sequence[int],
    *,
    progress: Progress,
    parallel: bool,
) -> None:
    """Measure what is missing in all tables, in one walk, and save them: also where it ends before its end."""
    missing = {table.analysis.name: table.missing(digests, wanted) for table in tables}
    walked = sorted(set().union(*missing.values())) if missing else []
    orders = [Order(table.analysis, table.parameters, frozenset(missing[table.analysis.name])) for table in tables]
    rows = measured(run, orders, walked, processes_for(run, walked) if parallel else 1)
    to_save = [table for table in tables if missing[table.analysis.name]]
    # What cannot be done at the end, for a checkpoint that is missing or damaged, is not begun.
    for step in set(walked) - {*run.steps}:
        if not is_thinned_out(run, step):
            run[step]  # raises
    for table in to_save:
        _ = table.provenance
    try:
        for _ in progress(walked) if walked else ():
            step, found = next(rows)
            for table in tables:
                if table.analysis.name in found:
                    table.add(step, found[table.analysis.name], digests[step])
    except BaseException:
        _save_all(to_save)
        raise
    finally:
        rows.close()
    give_back_freed_memory()  # what the walk needed: writing doubles the largest result for a moment
    # Also those that were measured before: what is asked next may read the checkpoint of every row.
    gone = sorted((set(wanted) - {*run.steps}) & run.thinned)
    for table in tables:
        table.leave_out(gone)
    _save_all(to_save)
    if gone:
        several = f"the checkpoints of steps {', '.join(map(str, gone[:10]))}{' …' * (len(gone) > 10)} were"
        which = several if len(gone) > 1 else f"the checkpoint of step {gone[0]} was"
        warnings.warn(f"{which} thinned out of {run.path} meanwhile, and left out", Notice, stacklevel=4)


def _save_all(tables: Sequence[RowsOfRun]) -> None:
    """Ctrl-C waits until all are saved: what took an hour to compute is written in a second."""
    interrupted = None
    for table in tables:
        for _ in range(2):
            try:
                table.save()
                break
            except KeyboardInterrupt as error:
                interrupted = error
    if interrupted is not None:
        raise interrupted


def _whole(
    run: Run,
    analysis: Analysis,
    parameters: dict[str, Any],
    digests: Mapping[int, str],
    *,
    shelf: Shelf,
    progress: Progress,
) -> xr.Dataset:
    """The result of an analysis of a whole run, computed unless it is kept. It is computed again where checkpoints that
    it reads are thinned out meanwhile."""
    path, shown = path_of(run, analysis, parameters), {"progress": progress} if analysis.shows_progress else {}

    def result() -> xr.Dataset:
        there, thinned = {*run.steps}, run.thinned
        current = {step: digest for step, digest in digests.items() if step in there or step not in thinned}
        identity = identity_of_whole(run, analysis, parameters, current)
        stored = shelf.load(path, identity)
        if stored is None:
            for step in current.keys() - there:
                run[step]  # raises: a recorded checkpoint is missing, and must not be passed over
            stored = analysis.function(run, **parameters, **shown)
            described = provenance_in_run(run, analysis, parameters) | {"identity": identity}
            stored = stored.assign_attrs(stored.attrs | described)
            shelf.save(analysis.name, path, stored)
        return stored

    return while_thinned(run, result)


def _from_hand(run: Run, names: Sequence[str | Analysis]) -> dict[str, xr.Dataset] | None:
    """What an analysis of a whole run asks for while it is computed was computed before it, and need not be on disk."""
    of, results = _in_hand.get() or (None, {})
    if of is not run or not all(isinstance(name, str) and name in results for name in names):
        return None
    return {str(name): results[str(name)] for name in names}


@contextmanager
def _having(run: Run, results: Mapping[str, xr.Dataset]):
    token = _in_hand.set((run, results))
    try:
        yield
    finally:
        _in_hand.reset(token)


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

    >>> from interp.experiment import Task
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
    step = step_axis([checkpoint.step])
    result = analysis.function(checkpoint, **resolved).expand_dims("step").assign_coords(step=step)
    return result.assign_attrs(provenance(analysis, resolved, "in memory"))


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
        parameters = resolved_parameters(run, analysis, {})
        table = None if analysis.of_run else RowsOfRun(run, analysis, parameters, Keeper())
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

    def stored() -> xr.Dataset | None:
        parameters, digests = resolved_parameters(run, analysis, {}), digests_of(run)
        if analysis.of_run:
            return load_result(path, identity_of_whole(run, analysis, parameters, digests))
        table = RowsOfRun(run, analysis, parameters, Keeper())
        missing = table.missing(digests, list(digests))
        if table.stored is None or any(are_finite(run[step].weights) for step in missing):
            return None
        return table.result()

    return while_thinned(run, stored) if path.is_file() else None


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
