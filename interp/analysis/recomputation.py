"""Are the results that are kept with a run those that its checkpoints give? Every one is computed anew and compared."""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum, auto
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from interp.analysis.contract import Analysis, discover, find
from interp.analysis.places import result_path
from interp.analysis.provenance import path_of
from interp.analysis.results import open_result, parsed
from interp.analysis.seal import unsealed
from interp.analysis.walk import PartlyAnalyzed, analyze_anew
from interp.errors import InputError
from interp.runs import Run, Verification

# On the machine that computed them the numbers come out the same to the last bit, with any number of processes. On
# another one float32 sums are taken in another order, as `interp.runs.verification` allows for; and a number near zero
# is as uncertain as those that it is a difference of. Integers, booleans and words have to be the same.
RELATIVE_TOLERANCE = 2e-3
ABSOLUTE_TOLERANCE = 1e-6  # of the largest number of the variable
MOST_OF_A_STRANGER = 1 << 26  # bytes of a file that somebody else wrote

_FILE = re.compile(r"(?P<name>[A-Za-z]\w*?)(?P<others>-[0-9a-f]{6})?\.nc", re.ASCII)


# Which of the two it is nobody can tell: what a seal was made for is gone when the bytes are others.
NO_SEAL = "has no seal of yours that fits (it was altered, or somebody else wrote it), and is not used"


class _NotComparedError(InputError):
    """A file that contradicts nothing, and that nothing is computed for."""


class _Kept(NamedTuple):
    """A result as it lies on disk: whether it was sealed by this user, and with which parameters other than the
    defaults it was computed."""

    path: Path
    analysis: Analysis
    result: xr.Dataset
    is_sealed: bool
    parameters: dict[str, Any]


def verify_results(
    run: Run, walk: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps, *, parallel: bool = False
) -> Verification:
    """Whether the results that are kept with a run are those that are computed now: a contradiction for each value,
    dimension, name, type or attribute that is not; how many were compared; and what was not, and why. Nothing is
    written.

    NaN equals NaN, and numbers may differ by RELATIVE_TOLERANCE of the computed one and ABSOLUTE_TOLERANCE of the
    largest of the variable. What `analyze` would not use is not compared: results of other code, those of a whole run
    that has grown or was thinned out since, rows of checkpoints that are gone. A result without a seal of this user is
    not used either: with the default parameters it is compared, and contradicts only where it differs; with others it
    is not computed anew, for they could be anything.

    >>> import interp, shutil, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     left_out = shutil.ignore_patterns("results")
    ...     run = interp.open_run(shutil.copytree(interp.reference_path(), f"{folder}/run", ignore=left_out))
    ...     _ = interp.analyze(run, ["weight_norms"])
    ...     found = verify_results(run)
    >>> found.contradictions, found.checked
    ([], ['1 of 1 result: computed anew'])
    """
    found, every = Verification(), list[_Kept]()
    files = list(_files(run))
    for path in files:
        try:
            every.append(_read(run, path))
        except _NotComparedError as error:
            found.unchecked.append(str(error))
        except InputError as error:
            found.contradictions.append(str(error))
    defaults, outcomes = [kept for kept in every if not kept.parameters], Counter[_Outcome]()
    for together in (defaults, *([kept] for kept in every if kept.parameters)):
        if together:
            outcomes += _compare(run, together, found, walk, parallel)
    if not files:
        found.unchecked.append("results: none are kept")
    if n := outcomes[_Outcome.COMPARED]:
        found.checked.append(f"{n:,} of {_results(len(files))}: computed anew")
    if n := outcomes[_Outcome.STRANGER]:
        whose = "without a seal of yours, not used: what is computed now agrees"
        found.checked.append(f"{n:,} of {_results(len(files))}, {whose}")
    if n := outcomes[_Outcome.PASSED_OVER]:
        found.unchecked.append(f"{n:,} of {_results(len(files))}: of other checkpoints or other code, not used")
    folder = result_path(run.path, run.hash, "any").parent
    if n := len([name for name in (os.listdir(folder) if folder.is_dir() else ()) if name.endswith(".answer")]):
        answers = f"{n:,} answer{'s' * (n > 1)} of explain, analyze or report"
        found.unchecked.append(f"{answers}: said from results, and used only while nothing that they stand on changes")
    return found


class _Outcome(Enum):
    """What came of a result, where nothing is wrong with it."""

    COMPARED = auto()
    STRANGER = auto()  # compared, and it agrees, but is not used
    PASSED_OVER = auto()


def _compare(
    run: Run,
    together: Sequence[_Kept],
    found: Verification,
    walk: Callable[[Sequence[int]], Iterable[int]],
    parallel: bool,
) -> Counter[_Outcome]:
    """The contradictions of results of different analyses, computed in one walk, and what came of the others."""
    names, given = [kept.analysis.name for kept in together], {k.analysis.name: k.parameters for k in together}
    try:
        anew = analyze_anew(run, names, {n: of for n, of in given.items() if of}, walk, parallel=parallel)
    except InputError as error:
        found.contradictions.append(f"{run.path}: results cannot be computed anew: {error}")
        anew = error.results if isinstance(error, PartlyAnalyzed) else {}
    outcomes = Counter[_Outcome]()
    for kept in together:
        if (computed := anew.get(kept.analysis.name)) is None:
            continue
        computed = parsed(bytes(computed.to_netcdf(engine="scipy")))  # as it would be read
        assert computed is not None
        if not kept.is_sealed:
            outcomes += _compare_stranger(run, kept, computed, found)
        elif kept.result.attrs.get("identity") != computed.attrs["identity"] or not _has_common_rows(kept, computed):
            outcomes[_Outcome.PASSED_OVER] += 1
        else:
            lines = [f"{kept.path}: {line}" for line in _differences(kept.result, computed)]
            found.contradictions += lines
            outcomes[_Outcome.COMPARED] += 1
    return outcomes


def _compare_stranger(run: Run, kept: _Kept, computed: xr.Dataset, found: Verification) -> Counter[_Outcome]:
    try:
        # By which code it was computed does not matter: it is not used, and the question is whether its numbers agree.
        results = (one.assign_attrs(identity="") for one in (kept.result, computed))
        lines = list(_differences(*results))
    except Exception:  # what a stranger wrote can be anything
        lines = ["it is made in another way"]
    if not lines:
        return Counter([_Outcome.STRANGER])
    said = f"it differs from what is computed now: {lines[0]}"
    found.contradictions.append(f"{kept.path} {NO_SEAL}; {said}; {_replaced(run, kept.analysis.name)}")
    return Counter()


def _has_common_rows(kept: _Kept, computed: xr.Dataset) -> bool:
    """Whether there is anything to compare: of what is measured row by row, rows of the same weights."""
    if "digests" not in computed.attrs:
        return True
    now = _digests(computed)
    return any(now.get(step) == digest for step, digest in _digests(kept.result).items())


def _results(n: int) -> str:
    return f"{n:,} result{'s' * (n != 1)}"


def _replaced(run: Run, name: str) -> str:
    return f"`interp analyze {run.path} {name}` replaces it"


# ---- reading ---------------------------------------------------------------------------------------------------------


def _files(run: Run) -> Iterator[Path]:
    """The files of results, with the run and where else they are kept for one that cannot be written to."""
    for folder in sorted({run.path / "results", result_path(run.path, run.hash, "any").parent}):
        if folder.is_dir():
            yield from sorted(folder / name for name in os.listdir(folder) if _FILE.fullmatch(name))


def _read(run: Run, path: Path) -> _Kept:
    """A result. Raises InputError, which says why, for one that cannot be compared."""
    named = _FILE.fullmatch(path.name)
    assert named is not None
    if named["name"] not in discover():
        raise _NotComparedError(f"{path}: no analysis of this name is known here")
    try:
        analysis = find(named["name"])
        analysis.check_is_for(run.task, run.model)
        with open_result(path) as file:
            content = unsealed(file)
            is_sealed = content is not None
            if content is None:
                content = _of_stranger(file)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except InputError as error:
        raise InputError(f"{path} cannot be compared: {error}") from None
    if not is_sealed and named["others"]:
        raise _NotComparedError(f"{path} {NO_SEAL}; with parameters of its own it is not computed anew")
    result = None if content is None else parsed(content)
    if result is None:
        raise InputError(f"{path} {NO_SEAL}; nothing in it can be compared; {_replaced(run, analysis.name)}")
    parameters = _parameters(run, path, analysis, result) if is_sealed else {}
    return _Kept(path, analysis, result, is_sealed, parameters if named["others"] else {})


def _parameters(run: Run, path: Path, analysis: Analysis, result: xr.Dataset) -> dict[str, Any]:
    """All parameters of a result that this user sealed, which may have been for another place."""
    if result.attrs.get("analysis") != analysis.name or result.attrs.get("run") != run.hash:
        raise InputError(f"{path} is of another run or analysis, and is not used")
    parameters = json.loads(result.attrs["parameters"])
    if parameters.keys() != analysis.parameters.keys() or path_of(run, analysis, parameters).name != path.name:
        raise InputError(f"{path} is of other parameters than its name says, or of none that there are; it is not used")
    return parameters


def _of_stranger(file: Any) -> bytes | None:
    """All of a file, if it is short and its header speaks of no more numbers than it has bytes."""
    from scipy.io import netcdf_file

    file.seek(0)
    content = file.read(MOST_OF_A_STRANGER + 1)
    if len(content) > MOST_OF_A_STRANGER:
        return None
    try:
        with netcdf_file(BytesIO(content), mmap=False) as read:
            shapes = [variable.shape for variable in read.variables.values()]
    except Exception:  # whatever its reader makes of it
        return None
    return content if all(prod(max(1, n) for n in shape) <= len(content) for shape in shapes) else None


# ---- comparing -------------------------------------------------------------------------------------------------------


def _differences(kept: xr.Dataset, computed: xr.Dataset) -> Iterator[str]:
    """What is different, beginning with what is there at all."""
    if "digests" in computed.attrs:  # measured row by row
        mine, now = _digests(kept), _digests(computed)
        both = [step for step in mine if mine[step] == now.get(step)]
        if len(both) < len(now):  # these attributes follow from all checkpoints
            kept, computed = (one.drop_attrs(deep=False).assign_attrs(_of_rows(one.attrs)) for one in (kept, computed))
        kept, computed = (one.sel(step=both).assign_attrs(digests="") for one in (kept, computed))
    yield from _other_names("variable ", kept.variables, computed.variables)
    yield from _other_attributes("", kept.attrs, computed.attrs)
    for name in sorted(map(str, kept.variables.keys() & computed.variables.keys())):
        yield from _other_variable(name, kept.variables[name], computed.variables[name])


def _digests(result: xr.Dataset) -> dict[int, str]:
    """The digest of the weights of every row."""
    return dict(zip(result.step.values.tolist(), json.loads(result.attrs["digests"]), strict=True))


def _of_rows(attrs: dict[Any, Any]) -> dict[Any, Any]:
    return {name: value for name, value in attrs.items() if name not in ("key_frequencies", "key_frequencies_of_step")}


def _other_names(what: str, kept: Iterable[Any], computed: Iterable[Any]) -> Iterator[str]:
    kept, computed = set(map(str, kept)), set(map(str, computed))
    yield from (f"{what}{name!r:.100} is kept, and is none" for name in sorted(kept - computed))
    yield from (f"{what}{name!r:.100} is missing" for name in sorted(computed - kept))


def _other_attributes(of: str, kept: dict[Any, Any], computed: dict[Any, Any]) -> Iterator[str]:
    kept, computed = ({k: v for k, v in attrs.items() if k != "interp"} for attrs in (kept, computed))
    yield from _other_names(f"attribute {of}", kept, computed)
    for name in sorted(map(str, kept.keys() & computed.keys())):
        mine, now = (np.asarray(attrs[name]).tolist() for attrs in (kept, computed))
        if mine != now:
            yield f"attribute {of}{name!r:.100} is {mine!r:.100}, computed {now!r:.100}"


def _other_variable(name: str, kept: xr.Variable, computed: xr.Variable) -> Iterator[str]:
    if (kept.dims, kept.shape) != (computed.dims, computed.shape):
        yield f"{name!r} has {_shape(kept)}, computed {_shape(computed)}"
        return
    if kept.dtype.kind != computed.dtype.kind or (kept.dtype.kind != "U" and kept.dtype != computed.dtype):
        yield f"{name!r} is {kept.dtype}, computed {computed.dtype}"
        return
    yield from _other_attributes(f"{name}.", kept.attrs, computed.attrs)
    mine, now = kept.values, computed.values
    wrong = mine != now
    if now.dtype.kind == "f":
        wrong &= ~(np.isnan(mine) & np.isnan(now))
        largest = np.abs(now[np.isfinite(now)]).max(initial=0.0)
        with np.errstate(invalid="ignore", over="ignore"):
            near = np.abs(mine - now) <= RELATIVE_TOLERANCE * np.abs(now) + ABSOLUTE_TOLERANCE * largest
        wrong &= ~(near & np.isfinite(mine) & np.isfinite(now))
    if wrong.any():
        place = tuple(int(index[0]) for index in np.nonzero(wrong)) if wrong.ndim else ()
        where = f" at {dict(zip(map(str, kept.dims), place, strict=True))}" if place else ""
        number = f" in {int(wrong.sum()):,} of {wrong.size:,} numbers, first" if place else ""
        yield f"{name!r} differs{number}{where}: kept {mine[place].item()!r:.60}, computed {now[place].item()!r:.60}"


def _shape(variable: xr.Variable) -> str:
    return f"[{', '.join(f'{dimension!s:.60}: {size}' for dimension, size in variable.sizes.items())}]"
