"""Kill every command that writes, again and again, at random moments: each file under its own name is the old one or
the new one, whole, or not there; every run opens and verifies; and the same command again ends with the same bytes.

    python -m tests.kill_commands --kills 1000

A command is killed with SIGKILL, SIGTERM or SIGINT, after a random time or just before one of its file operations. Then

    torn        a file is neither what it was, nor what it is to be, nor the beginning of its lines (metrics.jsonl)
    gone        something that was there and is not to be removed is not there
    unsound     a run does not open, or does not verify
    half        a folder that comes at once (a new run, an export) has not all its files
    not again   the command, or `interp resume`, does not succeed afterwards
    other       what it leaves then is not what it leaves in peace
    leftover    a temporary name of the dead process is still there after that
    words       it was ended with a traceback, or with an exit code of its own

are counted, and end the script with 1. Whatever differs between two runs in peace is compared by its last bytes alone.
`tests/kill_and_resume.py` does the same to training and its resumption, for every optimizer.
"""

import argparse
import contextlib
import datetime
import io
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch
import xarray as xr

from interp.analysis import load_result
from interp.cli import main as interp
from interp.errors import InputError
from tests.kill_and_resume import SIGNALS, end_of, forked
from tests.writing_commands import CASES, Case, in_peace

Files = dict[str, bytes]
# Of a page: another where results were read, and not computed; and how much there is on disk, the page among it.
NONCE = re.compile(rb'nonce[-="]+[0-9a-f]{32}|on disk</th><td>[^<]*')
NOT_COMPARED = re.compile(r"(^|/)\.lock$|(^|/)state/")
TEMPORARY = re.compile(r"(^|/)\.[^/]*\.tmp(/|$)")


# ---- one kill --------------------------------------------------------------------------------------------------------


@dataclass
class Peace:
    """A command left in peace: the files before and after it, those that differ from time to time, how long it takes,
    and how many file operations it has."""

    before: Files
    after: Files
    volatile: set[str]
    seconds: float
    operations: int


def files() -> Files:
    """All files under here but temporary ones and locks."""
    paths = (path for path in Path().rglob("*") if path.is_file())
    return {
        name: NONCE.sub(b"nonce", path.read_bytes())
        for path in paths
        if not TEMPORARY.search(name := path.as_posix()) and path.name != ".lock"
    }


def leftovers() -> list[str]:
    return sorted(path.as_posix() for path in Path().rglob("*") if TEMPORARY.search(path.as_posix()))


def peace(case: Case, place: Path) -> Peace:
    """The command twice in peace: here, which also imports all that it needs, and in a process of its own."""
    template, first, second = place / "template", place / "first", place / "second"
    template.mkdir(parents=True)
    os.chdir(template)
    case.prepare()
    before = files()
    for folder in (first, second):
        shutil.copytree(template, folder)
    os.chdir(first)
    in_peace(case.command)
    after = files()
    os.chdir(second)
    with open(place / "operations", "wb", buffering=0) as tally:
        began = time.monotonic()
        code = end_of(forked(case.command, place / "log", lambda name: tally.write(b".")))
        seconds = time.monotonic() - began
    assert code == 0, (place / "log").read_text()
    again = files()
    assert again.keys() == after.keys(), again.keys() ^ after.keys()
    volatile = {name for name in after if after[name] != again[name]}
    return Peace(before, after, volatile, seconds, (place / "operations").stat().st_size)


def kill_once(case: Case, known: Peace, log: Path, chance: random.Random) -> tuple[str, list[str]]:
    """Run the command and kill it; in words how, and what is wrong with its end."""
    kill, state_every = chance.choice(SIGNALS), chance.choice((0, 0.02, 1000))
    if known.operations and chance.random() < 0.6:
        place, counter = chance.randrange(known.operations), count()

        def before(name: str) -> None:
            if next(counter) == place:
                os.kill(os.getpid(), kill)

        how, process = f"{kill.name} before file operation {place}", forked(case.command, log, before, state_every)
    else:
        moment = chance.uniform(0, known.seconds)
        process = forked(case.command, log, state_every=state_every)
        time.sleep(moment)
        os.kill(process, kill)
        how = f"{kill.name} after {moment:.2f} s"
    code, said = end_of(process), log.read_text()
    fine = code in (0, 130, -signal.SIGTERM, -signal.SIGKILL) and "Traceback" not in said
    return how, [] if fine else [f"words: exit code {code}: {said[-300:]!r}"]


def faults(case: Case, known: Peace) -> list[str]:
    """What is wrong with the files after a kill."""
    now, found = files(), []
    for name, content in now.items():
        old, new = known.before.get(name), known.after.get(name, b"")
        if NOT_COMPARED.search(name) or content in (old, new) or is_whole_result(name):
            continue
        if name in known.volatile and content[-16:] == new[-16:]:
            continue
        # run.json notes the end when it comes; whether it is one of this run is told by `interp verify`, below.
        if not (name.endswith("run.json") or (name.endswith("metrics.jsonl") and new.startswith(content))):
            found.append(f"torn: {name}")
    runs = {path.parent.as_posix() for path in Path().rglob("run.json") if not TEMPORARY.search(path.as_posix())}
    found += [
        f"gone: {name}" for name in sorted(known.before.keys() & known.after.keys() - now.keys()) if kept(case, name)
    ]
    found += [f"unsound: {line}" for run in sorted(runs) for line in contradictions(run)]
    for folder in filter(os.path.exists, case.whole):
        needed = {name for name in known.after if name.startswith(f"{folder}/")}
        if f"{folder}/run.json" in needed:
            needed = {f"{folder}/{name}" for name in ("run.json", "split.safetensors", "metrics.jsonl")}
        found += [f"half: {name} is not there" for name in sorted(needed - now.keys())]
    return found


def is_whole_result(name: str) -> bool:
    """Whether it is a stored result with a sum that is right: an interrupted analysis keeps the rows that it has, and
    whether a row was read or computed just now decides how its file is arranged."""
    if not name.endswith(".nc"):
        return False
    with contextlib.suppress(Exception), xr.open_dataset(name, engine="scipy") as stored:
        return load_result(Path(name), stored.attrs.get("identity")) is not None
    return False


def kept(case: Case, name: str) -> bool:
    """Whether a file that was there is to be there at every moment: of a run that is replaced, run.json alone."""
    return not NOT_COMPARED.search(name) and (
        "overwrite" not in case.name or name in ("run/run.json", "arrays/steps.npy")
    )


def contradictions(run: str) -> list[str]:
    """What `interp verify` says of a run, where it is not content."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = interp(["verify", run])
    return [] if code == 0 else [said.getvalue().strip()[:300]]


def faults_at_the_end(case: Case, known: Peace, log: Path) -> list[str]:
    """What is wrong when the command was given again."""
    try:
        command = case.again() if case.again is not None else case.command
    except InputError as error:
        return [f"not again: {error}"]
    code = end_of(forked(command, log))
    if code != 0:
        return [f"not again: exit code {code}: {log.read_text()[-300:]!r}"]
    now = files()
    found = [f"other: {name}" for name in sorted(now.keys() ^ known.after.keys()) if not NOT_COMPARED.search(name)]
    for name in sorted(now.keys() & known.after.keys()):
        last = 16 if name in known.volatile else 0  # 0: all of it
        mine, peaceful = (without_end(name, one)[-last:] for one in (now[name], known.after[name]))
        if mine != peaceful and not (NOT_COMPARED.search(name) or is_whole_result(name)):
            found.append(f"other: {name}")
    if command != ("verify", "run"):  # which writes nothing
        found += [f"leftover: {name}" for name in leftovers()]
    return found


def without_end(name: str, content: bytes) -> bytes:
    """The content of a file; of run.json without the note that training has ended, and the sum over it: a kill between
    the last line and this note leaves a run that is complete all the same."""
    if not name.endswith("run.json"):
        return content
    info = json.loads(content)
    return json.dumps({key: value for key, value in info.items() if key not in ("end", "sum")}).encode()


def stop_the_clock() -> None:
    """What notes the hour notes one and the same."""

    class Still(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "Still":
            return cls(2026, 1, 1, tzinfo=tz)

    for name, loaded in list(sys.modules.items()):
        if name.startswith("interp.") and getattr(loaded, "datetime", None) is datetime.datetime:
            loaded.__dict__["datetime"] = Still


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="how many that hit (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and signals (default: 0)")
    parser.add_argument("--only", help="one command alone, by its name here")
    options = parser.parse_args()
    torch.set_num_threads(1)  # no threads before a fork
    stop_the_clock()
    chance, began = random.Random(options.seed), time.monotonic()
    counts: dict[str, Counter] = {}
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as temporary:
        cases = [case for case in CASES if options.only in (None, case.name)]
        places = [Path(temporary) / str(n) for n in range(len(cases))]
        known = [peace(case, place) for case, place in zip(cases, places, strict=True)]
        while sum(row["kills"] for row in counts.values()) < options.kills:
            # What takes long is killed less often.
            at = chance.choices(range(len(cases)), [1 / (1 + one.seconds) for one in known])[0]
            case, work = cases[at], places[at] / "work"
            os.chdir(temporary)
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(places[at] / "template", work)
            os.chdir(work)
            how, found = kill_once(case, known[at], places[at] / "log", chance)
            found = found or faults(case, known[at])
            found = found + faults_at_the_end(case, known[at], places[at] / "log")
            row = counts.setdefault(case.name, Counter())
            row["kills"] += 1
            row.update({line.partition(":")[0] for line in found})
            row["wrong"] += bool(found)
            if found:
                print(f"{case.name}, {how}: {'; '.join(found)[:400]}", flush=True)
        os.chdir("/")
    print(table(counts))
    total, seconds = sum(counts.values(), Counter()), time.monotonic() - began
    print(f"{total['kills']:,} kills, {total['wrong']:,} with something wrong, seed {options.seed}, {seconds:.0f} s")
    sys.exit(1 if total["wrong"] else 0)


def table(counts: Mapping[str, Counter]) -> str:
    """Commands × what was wrong."""
    names = ["kills", "wrong", "torn", "gone", "unsound", "half", "not again", "other", "leftover", "words"]
    lines = [
        ["command", *names],
        *([name, *(f"{row[one]:,}" for one in names)] for name, row in sorted(counts.items())),
    ]
    return "\n".join(" | ".join([f"{line[0]:<24}", *(f"{cell:>9}" for cell in line[1:])]) for line in lines)


if __name__ == "__main__":
    main()
