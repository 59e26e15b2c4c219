"""Several writers of one name at once: one wins, the others are refused in one line, and no reader sees a torn file.

    python -m tests.two_writers --rounds 200

Three processes start at the same moment, each with random pauses before its file operations. In every second round all
of them have one and the same process id, as in containers that share a folder and not their processes. They

    train       into one new folder: exactly one succeeds, and its run is there, whole
    overwrite   train with --overwrite into one run: whoever succeeds has left a whole run, which is there unless a
                later one replaced it after it was written to its end
    output      analyze one run and write one page, while this process reads both: every read is a whole file

Counted, and ended with 1, are rounds with

    winners     not exactly one winner (of `train`), or none
    lost        a winner whose run is gone, or was replaced while it was still being written
    unsound     a run that does not verify, or is not complete
    torn        a read of a page or a result that is not whole
    leftover    a temporary name that stayed
    words       another end than success, or one line and exit code 2
"""

import argparse
import contextlib
import io
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import xarray as xr

from interp.analysis import load_result
from interp.cli import main as interp
from interp.runs import open_run
from tests.kill_and_resume import SECONDS_TO_END, end_of, forked
from tests.small_runs import finished

WRITERS, PAUSE = 3, 0.004  # the longest, in seconds
SMALL = (
    *("--task.p=7", "--task.train-fraction=0.5", "--model.d-model=8", "--model.n-heads=2", "--model.d-mlp=8"),
    *("--training.steps=12", "--training.checkpoint-every=4", "--training.log-every=4", "--out=run"),
)
FAULTS = ("winners", "lost", "unsound", "torn", "leftover", "words")
RUN = Path("run")


class End(NamedTuple):
    """How a writer ended."""

    code: int
    said: str
    last_sync: float  # when it last made something durable


def at_once(commands: list[tuple[str, ...]], chance: random.Random, *, one_id: bool) -> list[int]:
    """The processes of these commands, which begin at the same moment."""
    gate, opened = os.pipe()
    processes = []
    for number, command in enumerate(commands):
        pauses, syncs = random.Random(chance.random()), [0.0]

        def before(name: str, pauses: random.Random = pauses, syncs: list[float] = syncs) -> None:
            if name == "fsync":
                syncs[0] = time.time()
            time.sleep(pauses.random() * PAUSE * (pauses.random() < 0.3))

        def work(command: tuple[str, ...] = command, syncs: list[float] = syncs) -> int:
            os.close(opened)
            os.read(gate, 1)  # until all have closed it
            if one_id:
                os.getpid = lambda: 4242
            code = interp(command)
            print(f"last sync {syncs[0]!r}", flush=True)
            return code

        processes.append(forked(work, Path(f"../log{number}"), before, state_every=0.01))
    os.close(gate)
    os.close(opened)
    return processes


def ends(
    commands: list[tuple[str, ...]], chance: random.Random, *, one_id: bool, meanwhile: Callable[[], object]
) -> list[End]:
    """Run commands at once, doing something else meanwhile; how each ended."""
    waiting = at_once(commands, chance, one_id=one_id)
    codes: dict[int, int] = {}
    deadline = time.monotonic() + SECONDS_TO_END
    while len(codes) < len(waiting) and time.monotonic() < deadline:
        meanwhile()
        for process in waiting:
            if process not in codes and os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                codes[process] = end_of(process)
    assert len(codes) == len(waiting), f"{waiting} did not end within {SECONDS_TO_END} seconds"
    found = []
    for number, process in enumerate(waiting):
        said, _, last = Path(f"../log{number}").read_text().rpartition("last sync ")
        found.append(End(codes[process], said, float(last or 0)))
    return found


def leftovers() -> list[str]:
    return [f"leftover: {path}" for path in Path().rglob("*") if re.fullmatch(r"\..*\.tmp", path.name)]


def contradictions() -> list[str]:
    """What `interp verify` says against the run."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = interp(["verify", str(RUN)])
    if code == 0 and not open_run(RUN).is_complete:
        return ["unsound: not complete"]
    return [] if code == 0 else [f"unsound: {said.getvalue()}"]


def strange_words(found: list[End]) -> list[str]:
    """Ends other than success, or exit code 2 with one line."""
    lines = [[line for line in one.said.splitlines() if not re.match(r"training |step |done: ", line)] for one in found]
    fine = [
        (one.code == 0 and not said) or (one.code == 2 and len(said) == 1 and said[0].startswith("interp: "))
        for one, said in zip(found, lines, strict=True)
    ]
    return [f"words: {one.code} {one.said!r}" for one, good in zip(found, fine, strict=True) if not good]


# ---- rounds ----------------------------------------------------------------------------------------------------------


def training(chance: random.Random, *, one_id: bool, overwrite: bool) -> list[str]:
    """Three trainings into one folder; what is wrong with it."""
    commands = [("train", *SMALL, f"--model.seed={n}", *(["--overwrite"] * overwrite)) for n in range(WRITERS)]
    found = ends(commands, chance, one_id=one_id, meanwhile=lambda: time.sleep(0.002))
    faults, winners = strange_words(found), [n for n, one in enumerate(found) if one.code == 0]
    if not winners or (len(winners) > 1 and not overwrite):
        faults.append(f"winners: {winners}")
    if not (RUN / "run.json").is_file():
        return [*faults, "lost: there is no run"]
    there = open_run(RUN).model.seed
    if there not in winners:
        faults.append(f"lost: the run is that of {there}, and {winners} succeeded")
    replaced = RUN.stat().st_ctime
    faults += [
        f"lost: {n} was replaced while it was writing" for n in winners if n != there and found[n].last_sync > replaced
    ]
    return faults + contradictions() + leftovers()


def new_run(chance: random.Random, *, one_id: bool) -> list[str]:
    return training(chance, one_id=one_id, overwrite=False)


def overwritten_run(chance: random.Random, *, one_id: bool) -> list[str]:
    with contextlib.redirect_stdout(io.StringIO()):
        assert interp(["train", *SMALL, "--model.seed=9"]) == 0
    return training(chance, one_id=one_id, overwrite=True)


def one_output(chance: random.Random, *, one_id: bool) -> list[str]:
    """Three times the same page and the same results, which are read all the time."""
    finished(RUN)
    reads, torn = Counter[str](), []

    def read() -> None:
        page = Path("page.html")
        if page.exists():
            reads["page"] += 1
            if not page.read_bytes().rstrip().endswith(b"</html>"):
                torn.append("torn: page.html")
        for path in (RUN / "results").glob("[!.]*.nc"):
            reads["result"] += 1
            if not is_whole(path):
                torn.append(f"torn: {path}")

    command = ("plot", "run", "weight_norms", "-o", "page.html")
    found = ends([command] * WRITERS, chance, one_id=one_id, meanwhile=read)
    READS.update(reads)
    read()
    strange = [f"words: {one.code} {one.said!r}" for one in found if one.code != 0]
    return torn + strange + leftovers()


def is_whole(path: Path) -> bool:
    """Whether a result has the sum that it says."""
    try:
        with xr.open_dataset(path, engine="scipy") as stored:
            identity = stored.attrs.get("identity")
    except Exception:
        return False
    return load_result(path, identity) is not None


READS = Counter[str]()
ROUNDS = {"train": new_run, "overwrite": overwritten_run, "output": one_output}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="of each kind (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the pauses (default: 0)")
    options = parser.parse_args()
    torch.set_num_threads(1)  # no threads before a fork
    began, counts = time.monotonic(), {kind: Counter[str]() for kind in ROUNDS}
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as temporary:
        place = Path(temporary) / "place"
        for number in range(-1, options.rounds):  # the first to import everything, in this process
            for kind, play in ROUNDS.items():
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir()
                os.chdir(place)
                if number < 0:
                    finished(RUN)
                    with contextlib.redirect_stdout(io.StringIO()):
                        assert interp(["plot", "run", "weight_norms", "-o", "page.html"]) == 0
                    continue
                faults = play(random.Random(f"{options.seed}/{number}/{kind}"), one_id=number % 2 == 1)
                counts[kind].update({"rounds": 1, "wrong": bool(faults)})
                counts[kind].update({fault.partition(":")[0] for fault in faults})
                if faults:
                    print(f"{kind}, round {number}: {'; '.join(faults)[:500]}", flush=True)
        os.chdir("/")
    names = ("rounds", "wrong", *FAULTS)
    for line in [["writers", *names], *([kind, *(f"{row[n]:,}" for n in names)] for kind, row in counts.items())]:
        print(" | ".join(f"{cell:>9}" for cell in line))
    reads = ", ".join(f"{n:,} reads of a {what}" for what, n in sorted(READS.items()))
    print(f"{reads}; seed {options.seed}, {time.monotonic() - began:.0f} s")
    sys.exit(1 if any(row["wrong"] for row in counts.values()) else 0)


if __name__ == "__main__":
    main()
