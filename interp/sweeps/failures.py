"""What went wrong with runs of a grid, kept beside them: a line each in failures.jsonl, which is written whole."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from interp.errors import InputError
from interp.machine import Folder, write_atomically
from interp.machine import json_lines as lines_of
from interp.printable import one_line

FAILURES = "failures.jsonl"
_TYPES = {"name": str, "what": str, "when": str, "diverged": bool}


@dataclass(frozen=True)
class Failure:
    """Why a run of a grid is not there, or not whole: the name of the run, what happened, and when (ISO 8601, UTC).
    One that `diverged` has come to its end, and lies in its place; every other one is tried again.

    >>> print(Failure("seed3", "needs more memory than there is", "2026-01-31T12:00:00+00:00"))
    seed3: needs more memory than there is
    """

    name: str
    what: str
    when: str
    diverged: bool = False

    def __str__(self) -> str:
        return one_line(f"{self.name}: {self.what}")


def failure(name: str, what: str, *, diverged: bool = False) -> Failure:
    """A failure of just now, in words that fit on a line.

    >>> failure("seed3", "what a library\\nsaid").what == "what a library\\\\nsaid"
    True
    """
    return Failure(name, one_line(what), datetime.now(UTC).isoformat(timespec="seconds"), diverged)


def read_failures(folder: Path) -> dict[str, Failure]:
    """The failures that `run_grid` noted in a folder, by the name of the run; none where it noted nothing. Raises
    InputError, naming it, for a file that is not such a list.

    >>> read_failures(Path("no", "such", "folder"))
    {}
    """
    if not (folder / FAILURES).exists():
        return {}
    found = dict[str, Failure]()
    with Folder(folder) as held, held.open(FAILURES) as file:
        for number, (_, row) in enumerate(lines_of(file), start=1):
            if {name: type(value) for name, value in row.items()} != _TYPES:
                expected = ", ".join(_TYPES)
                raise InputError(
                    f"{folder / FAILURES} is damaged at line {number}: expected {expected}; without the file all "
                    "that failed is tried again"
                )
            values: Mapping[str, Any] = row
            found[row["name"]] = Failure(**{**values, "what": one_line(row["what"]), "when": one_line(row["when"])})
    return found


def write_failures(folder: Path, failures: Mapping[str, Failure]) -> None:
    """Keep them in the place of those that were kept; nothing is written where there are none and were none.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_failures(Path(folder), {"seed3": Failure("seed3", "diverged", "2026-01-31T12:00:00+00:00", True)})
    ...     read_failures(Path(folder))["seed3"].diverged
    True
    """
    if failures or (folder / FAILURES).exists():
        lines = (json.dumps(asdict(one)) + "\n" for one in failures.values())
        write_atomically(folder / FAILURES, "".join(lines).encode())
