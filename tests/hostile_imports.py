"""Files built to hang, to fill the memory, or to run forever, in every place that an import reads from: each must end
in one line that names the file, or be read rightly, within seconds and a gigabyte.

    .venv/bin/python -m tests.hostile_imports

Each is given to the command line in a process of its own, which is ended after 25 seconds, or at 4 GB. The table says
how each ended; with exit code 1 where one ended badly. `--only=WORD` runs those whose names hold a word.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from interp.cli import main as interp
from tests.interchange.hostile_places import CURVES, GIVEN, LONE, Case, folders, odd_files, placed, written
from tests.interchange.hostile_tensors import claiming_gigabytes, tensors
from tests.interchange.hostile_texts import texts

SECONDS, MEGABYTES = 20, 1000  # that an import may take, and
LONGEST, MOST = 25, 4000  # that it is given before it is ended
MOST_LETTERS = 2500  # of what is said


class Ended(NamedTuple):
    """How an import ended: exit code (None: it was ended), what it said, and what it took."""

    code: int | None
    said: str
    seconds: float
    megabytes: float


def hostile_contents() -> Iterator[Case]:
    """Hostile bytes in the places that they are for."""
    for place, what, make in (*texts(), *tensors()):
        yield placed(place, lambda path, make=make: path.write_bytes(make()), what)


def cases() -> list[Case]:
    """All of them."""
    return [*odd_files(), *hostile_contents(), *claiming_gigabytes(), *folders()]


# ---- running one -----------------------------------------------------------------------------------------------------


def loaded(place: Path) -> None:
    """Load, once, what every child needs."""
    os.chdir(place)
    written(LONE | {"c.csv": CURVES})
    with contextlib.redirect_stdout(io.StringIO()):
        interp(["import", "w.safetensors", *GIVEN])
        interp(["curves", "c.csv"])
    shutil.rmtree("run")


def run(case: Case, seconds: float = LONGEST, megabytes: float = MOST) -> Ended:
    """Give a case to the command line, in a process of its own, in the present folder, and watch it."""
    case.make()
    said = Path("said.txt")
    child = os.fork()
    if child == 0:
        os.setsid()
        descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        code = 99
        try:
            code = interp(case.arguments)
        except BaseException as error:  # what no person should see
            print(f"Traceback: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
        sys.stdout.flush()
        os._exit(code)
    began, before, most = time.monotonic(), _resident("self"), 0.0
    while True:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            break
        most = max(most, _resident(child))
        if time.monotonic() - began > seconds or most - before > megabytes:
            os.kill(child, signal.SIGKILL)
            _, status, used = os.wait4(child, 0)
            status = -1
            break
        time.sleep(0.005)
    took = time.monotonic() - began
    most = max(most, used.ru_maxrss / 1024)
    code = os.waitstatus_to_exitcode(status) if status != -1 else None
    return Ended(code, said.read_text(errors="replace"), took, max(0.0, most - before))


def _resident(process: int | str) -> float:
    """The memory of a process, MB."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    except (OSError, IndexError, ValueError):
        return 0.0


def what_is_wrong(case: Case, ended: Ended) -> str:
    """Why an end is none that is promised; empty for one that is."""
    said, is_import = ended.said.rstrip("\n"), case.arguments[0] == "import"
    is_refused = ended.code == 2
    wrongs = {
        f"ended after {ended.seconds:.0f} s at {ended.megabytes:,.0f} MB": ended.code is None,
        f"exit {ended.code}: {said[-200:]!r}": ended.code not in (None, 0, 2),
        f"took {ended.seconds:.0f} s": ended.seconds > SECONDS,
        f"took {ended.megabytes:,.0f} MB": ended.megabytes > MEGABYTES,
        "was executed": Path("executed").exists(),
        f"unprintable: {said[:200]!r}": not all(line.isprintable() for line in said.splitlines()),
        f"{len(said.splitlines())} lines, {len(said):,} letters: {said[:200]!r}": is_refused
        and ("\n" in said or len(said) > MOST_LETTERS),
        f"does not name {case.file}: {said[:200]!r}": is_refused and case.file not in said,
        "left a run behind": is_import and is_refused and Path("run").exists(),
        "no run is there": is_import and ended.code == 0 and not Path("run").exists(),
    }
    return next((said for said, is_wrong in wrongs.items() if is_wrong), "")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="those whose names hold this word")
    parser.add_argument("--skip", type=int, default=0, help="how many, of a table that was begun")
    parser.add_argument("--json", help="also write the table here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [case for case in cases() if options.only in case.name][options.skip :]
    rows, bad = [], []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        loaded(Path(temporary))
        for case in chosen:
            place = Path(temporary, "case")
            place.mkdir()
            os.chdir(place)
            ended = run(case)
            wrong = what_is_wrong(case, ended)
            word = "ENDED" if ended.code is None else {0: "read", 2: "refused"}.get(ended.code, f"exit {ended.code}")
            line = " ".join(ended.said.split())[:110] if not wrong else f"WRONG: {wrong}"
            print(f"{case.name:<70} {word:<8} {ended.seconds:5.1f} s {ended.megabytes:6,.0f} MB  {line}", flush=True)
            rows.append([case.name, word, round(ended.seconds, 2), round(ended.megabytes), wrong, ended.said[:500]])
            bad += [case.name] if wrong else []
            os.chdir(temporary)
            subprocess.run(["rm", "-rf", place], check=True)  # a tree can be deeper than Python follows
        os.chdir("/")
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=0))
    print(f"{len(chosen)} hostile imports: {len(chosen) - len(bad)} ended as promised, {len(bad)} did not")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
