"""Answers that are kept, so that what was told once is told again at once: with neither torch nor xarray loaded, and no
checkpoint read.

An answer is the JSON that a verb (`explain`, `analyze`, `report`) made of a run, with a digest of all that it was told
from:

    run.json, metrics.jsonl (with the digest of every checkpoint's weights), thinned.json and split.safetensors,
    byte by byte
    checkpoints and observations: name, size, inode, and the times of their last change
    the sources of interp, its pages and plug-ins; the versions of the libraries that compute and draw

Where any of these is not the one that it was, there is no answer, and the verb looks for itself; so it does for a run
that was copied, or a checkpoint that was touched. An answer is sealed as results are (`interp.analysis.seal`): one that
came with a run from elsewhere is not believed.
"""

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from interp.analysis.places import answer_path
from interp.analysis.seal import seal, unsealed
from interp.errors import InputError
from interp.machine import Folder, refusals_as

# Of a run: what enters byte by byte, and the folders whose files enter by what the system says of them.
_READ = ("run.json", "metrics.jsonl", "thinned.json", "split.safetensors")
_LISTED = ("steps", "observations")
_SOURCES = (".py", ".js", ".css", ".html")
_LIBRARIES = ("numpy", "scipy", "scikit-learn", "ruptures", "torch", "xarray", "plotly")


class Answers:
    """The answers that are kept with a run. What cannot be read or kept is as if it had not been asked before.

    >>> import interp, shutil, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(shutil.copytree(interp.reference_path(), f"{folder}/run"))
    ...     Answers(path).keep("count", {}, {"checkpoints": 53})
    ...     again = Answers(path).find("count", {})
    ...     (path / "steps/step_000003000.safetensors").unlink()
    ...     again, Answers(path).find("count", {})
    ({'checkpoints': 53}, None)
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self._state, self._hash = _state_of(run)

    def find(self, verb: str, asked: Mapping[str, Any]) -> Any | None:
        """What the verb answered, asked the same of the same run before; None where it has to look for itself."""
        if self._state is None:
            return None
        path = answer_path(self.run, self._hash, verb, asked)
        with contextlib.suppress(OSError, InputError, ValueError, RecursionError):
            with Folder(path.parent.parent) as folder, folder.open(f"{path.parent.name}/{path.name}") as file:
                content = unsealed(io.BytesIO(file.read_all()))
            kept = json.loads(content) if content is not None else {}
            if (kept.get("of"), kept.get("verb"), kept.get("asked")) == (self._state, verb, dict(asked)):
                return kept["answer"]
        return None

    def keep(self, verb: str, asked: Mapping[str, Any], answer: Any) -> None:
        """Keep an answer, unless the run changed since this was made: it may be told from either."""
        if self._state is None or _state_of(self.run)[0] != self._state:
            return
        path = answer_path(self.run, self._hash, verb, asked)
        kept = {"verb": verb, "asked": dict(asked), "of": self._state, "answer": answer}
        content = json.dumps(kept, allow_nan=False).encode()

        def write(file: io.BufferedRandom) -> None:
            file.write(content)
            seal(file)

        # Results that cannot be kept are told of by whoever keeps them, which is at the same place.
        with contextlib.suppress(OSError, InputError):
            with refusals_as(f"cannot write {path.parent}"):
                path.parent.parent.mkdir(parents=True, exist_ok=True)
            with Folder(path.parent.parent) as folder:
                folder.make(path.parent.name)
                folder.write(f"{path.parent.name}/{path.name}", write)

    def results(self, of: Iterable[str] = ("",)) -> str:
        """A digest of which results are kept with the run now, for an answer that is told from whatever is there: all,
        or those of some analyses."""
        folder, begins = answer_path(self.run, self._hash, "any", {}).parent, tuple(of)
        with contextlib.suppress(OSError):
            kept = [entry for entry in os.scandir(folder) if entry.name.endswith(".nc")]
            return _digest(_listed(Path(entry.path)) for entry in kept if entry.name.startswith(begins))
        return ""


def _state_of(run: Path) -> tuple[str | None, str]:
    """The digest of all that an answer about a run is told from, and the hash of the run; None where there is no run
    that could be read."""
    try:
        with Folder(run) as folder:
            told = [(name, _of_bytes(folder.read(name))) for name in _READ if folder.stat(name) is not None]
            said = folder.read_json("run.json").get("hash")
        listed = [line for name in _LISTED for line in sorted(map(_listed, _files(run / name)))]
    except (OSError, InputError, AttributeError):
        return None, ""
    if not isinstance(said, str) or not said.isalnum():
        return None, ""
    return _digest([*map(str, told), *listed, of_code()]), said


@cache
def of_code() -> str:
    """A digest of everything that makes answers of numbers: the sources of interp and its analyses, what a page is made
    of, the sources of plug-ins, and the versions of libraries. Of a process once, as its modules are loaded once."""
    spec = find_spec("interp.analyses")  # in a folder of its own, where interp is installed from its source
    places = [Path(__file__).parent.parent, *map(Path, (spec and spec.submodule_search_locations) or ())]
    files = [file for place in places for file in _files(place) if file.suffix in _SOURCES]
    told = [f"{file.name} {_of_bytes(file.read_bytes())}" for file in files]
    told += [f"{point.name} {point.value} {_source_of(point.value)}" for point in entry_points(group="interp.analyses")]
    return _digest([*sorted(told), *(f"{name} {_version(name)}" for name in _LIBRARIES)])


def _source_of(plug_in: str) -> str:
    with contextlib.suppress(Exception):  # what cannot be found is told where it is asked for
        spec = find_spec(plug_in.partition(":")[0])
        if spec is not None and spec.origin is not None:
            return _of_bytes(Path(spec.origin).read_bytes())
    return "not found"


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"


def _files(folder: Path) -> Iterator[Path]:
    return (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)


def _listed(file: Path) -> str:
    found = file.lstat()
    return f"{file.name} {found.st_size} {found.st_ino} {found.st_mtime_ns} {found.st_ctime_ns}"


def _of_bytes(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest(lines: Iterable[str]) -> str:
    return _of_bytes("\n".join(sorted(lines)).encode())
