"""Which files of interp a module stands on: its own, and what that imports, directly or not.

A name is followed through the faces of packages (`__init__.py`, or `__init__.pyi` where names are loaded when they are
asked for) to the file that defines it. The imports are read from the text by a pattern, in a tenth of the time of
a syntax tree (7 ms and 190 ms for all that the analyses stand on).
"""

import hashlib
import inspect
import re
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from interp.experiment import hash_of

# What changes no number: how figures and complaints look, and the doors of a run, which lead to everything.
_LEFT_OUT = ("interp.errors.", "interp.figures.", "interp.analysis.walk.", "interp.runs.asking.")
_IMPORT = re.compile(
    r"^[ \t]*(?:from (?P<module>\.\w+|interp\b[\w.]*) import (?P<names>\([^)]*\)|.*)|import (?P<whole>interp\b[\w.]*))",
    re.MULTILINE,
)


def source_digest(module: ModuleType, given: str) -> str:
    """A hash of the sources that a module stands on, among them those of the class in `interp.runs` that it is given,
    whether it imports it or not; of the version of interp for a module that has no source."""
    path = inspect.getsourcefile(module)
    if path is None:
        return version("interp")
    return hash_of(sorted(map(_digest, sources(Path(path)).union(*map(sources, _defining("interp.runs", given))))))


@cache
def sources(path: Path) -> frozenset[Path]:
    """A file of Python, and all files of interp that it imports, directly or not."""
    found, waiting = {path}, [path]
    while waiting:
        file = waiting.pop()
        new = frozenset[Path]().union(*(_defining(module, name) for module, name in imports(file))) - found
        found |= new
        waiting += new
    return frozenset(found)


@cache
def imports(path: Path) -> tuple[tuple[str, str], ...]:
    """What a file imports of interp, or by a leading dot: (module, name) pairs, without a name for a module as a
    whole."""
    found = []
    for match in _IMPORT.finditer(_content(path).decode()):
        if match["whole"]:
            found.append((match["whole"], ""))
        names = re.sub(r"#.*|\bas \w+", "", match["names"] or "")
        found += [(match["module"], name) for name in re.findall(r"\w+", names)]
    return tuple(found)


@cache
def _defining(module: str, name: str) -> frozenset[Path]:
    """The file that defines a name of a module of interp, found through the faces of packages; for a package as a
    whole, and for a name that its face does not import, all that the face knows."""
    if module.startswith(".") or f"{module}.".startswith(_LEFT_OUT):
        return frozenset()
    package, *folders = module.split(".")
    if folders[:1] == ["analyses"]:  # in a folder of its own, where interp is installed from its source
        package, folders = "interp.analyses", folders[1:]
    place = Path(str(import_module(package).__file__)).parent.joinpath(*folders)
    if not place.is_dir():
        return frozenset({file for file in [place.with_suffix(".py")] if file.is_file()})
    face = next(face for face in (place / "__init__.pyi", place / "__init__.py") if face.is_file())
    known = {one: f"{module}{source}" if source.startswith(".") else source for source, one in imports(face)}
    if name in known:
        return _defining(known[name], name)
    if name and ((place / name).is_dir() or (place / f"{name}.py").is_file()):
        return _defining(f"{module}.{name}", "")
    if name and module == "interp.analyses":  # by its own name, whichever folder it is in
        return frozenset(place.glob(f"*/{name}.py"))
    return frozenset({place / "__init__.py"}).union(*(_defining(source, one) for one, source in known.items()))


@cache
def _digest(path: Path) -> str:
    return hashlib.sha256(_content(path)).hexdigest()


@cache
def _content(path: Path) -> bytes:
    return path.read_bytes()
