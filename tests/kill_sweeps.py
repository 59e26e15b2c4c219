"""Kill the process that trains a grid at random moments, again and again, and give the same command until it comes to
the end: nothing is lost, nothing is there twice, and all is as if it had been left in peace.

    python -m tests.kill_sweeps --kills 200

Each grid has a run that starts from another and one that diverges, and keeps all checkpoints, the first and last, or
none. It is killed with SIGKILL after a random time or just before one of its file operations; every tenth has two
processes of its own beside it, of which one may be killed too. After every kill

    lost       a run that was in its place is not there, or is another than it was
    twice      a run is in its place and among the unfinished
    other      a run in its place has other bytes than in peace, or an unfinished one is no beginning of that
    unsound    a run does not open, or does not verify

are counted, and at the end what is `left over`, what was `not noted`, and a command that `fails`. Any of them ends the
script with 1.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import torch

from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.runs import open_run, verify
from interp.sweeps import GridRun, read_failures, run_grid
from interp.sweeps.grid_run import KEEP, is_settled
from interp.sweeps.planned_run import UNFINISHED
from tests.kill_and_resume import end_of, forked

Files = dict[str, bytes]
LATEST = 0.9  # of the time that it takes in peace: later there is nothing to kill


def grid(steps: int) -> list[GridRun]:
    """Five small runs: two of a seed each, one that goes on from the first, one that diverges, and one from that."""
    training = TrainingConfig(steps=steps, checkpoint_every=steps // 6, log_every=steps // 12)
    base = Experiment(Task(p=7, train_fraction=0.5), ModelConfig(d_model=8, n_heads=2, d_mlp=8), training)
    other = replace(base, task=replace(base.task, seed=1))
    too_fast = replace(base, training=replace(training, optimizer="sgd", lr=1e30, weight_decay=0))
    return [
        GridRun("seed0", base),
        GridRun("seed1", other),
        GridRun("on", other, start="seed0"),
        GridRun("too-fast", too_fast),
        GridRun("on-too-fast", base, start="too-fast"),
    ]


def command(folder: Path, runs: list[GridRun], keep: str, processes: int) -> Callable[[], int]:
    """What is killed, and given again."""

    def train() -> int:
        found = run_grid(folder, runs, processes=processes, keep=keep, failures="record")
        return 0 if len(found) == len(runs) - 1 else 1

    return train


def files(folder: Path) -> Files:
    """All of a folder but locks; of run.json what does not depend on the hour."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name != ".lock":
            content = path.read_bytes()
            if path.name == "run.json":
                info = json.loads(content)
                content = json.dumps({name: info[name] for name in sorted(info.keys() - {"created", "sum"})}).encode()
            elif path.name == "failures.jsonl":
                rows = [json.loads(line) for line in content.splitlines()]
                told = [(row["name"], row["what"].replace(str(folder), ""), row["diverged"]) for row in rows]
                content = json.dumps(sorted(told)).encode()
            found[path.relative_to(folder).as_posix()] = content
    return found


@dataclass
class Peace:
    """A grid that was left in peace, as it is at its end and with all checkpoints; how long it takes, and how many file
    operations it has."""

    runs: list[GridRun]
    keep: str
    processes: int
    at_the_end: Files
    whole: Files
    seconds: float
    operations: int


def peace(runs: list[GridRun], keep: str, processes: int, place: Path) -> Peace:
    place.mkdir(parents=True)
    with open(place / "operations", "wb", buffering=0) as tally:
        train, began = command(place / keep, runs, keep, processes), time.monotonic()
        code = end_of(forked(train, place / "log", lambda name: tally.write(b".")))
        seconds = time.monotonic() - began
    assert code == 0, (place / "log").read_text()
    command(place / "whole", runs, "all", 1)()
    operations = (place / "operations").stat().st_size
    return Peace(runs, keep, processes, files(place / keep), files(place / "whole"), seconds, operations)


def kill_once(known: Peace, folder: Path, log: Path, chance: random.Random) -> tuple[str, int]:
    """Give the command and kill it; in words how, and its exit code."""
    train, state_every = command(folder, known.runs, known.keep, known.processes), chance.choice((0, 0.02, 1000))
    if chance.random() < 0.6:
        place, counter = chance.randrange(known.operations), count()

        def before(name: str) -> None:
            if next(counter) == place:
                os.kill(os.getpid(), signal.SIGKILL)

        return f"before file operation {place}", end_of(forked(train, log, before, state_every))
    moment = chance.uniform(0, LATEST * known.seconds)
    process = forked(train, log, state_every=state_every)
    time.sleep(moment)
    if known.processes > 1 and chance.random() < 0.5:
        for child in children(process)[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        time.sleep(chance.uniform(0, 1))
    os.kill(process, signal.SIGKILL)
    return f"after {moment:.2f} s", end_of(process)


def children(process: int) -> list[int]:
    """The processes that one has started, but for the one that Python starts for itself."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process and b"spawn_main" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


def placed(folder: Path) -> dict[str, int]:
    """The runs that are in their place, and which folder each is."""
    return {path.parent.name: path.parent.stat().st_ino for path in folder.glob("*/run.json")}


def faults(known: Peace, folder: Path, before: dict[str, int]) -> list[str]:
    """What is wrong after a kill. Processes beside the killed one may still be saving what they have."""
    there = placed(folder)
    found = [f"lost: {name}" for name, which in before.items() if there.get(name) != which]
    unfinished = {path.parent.name for path in folder.glob(f"{UNFINISHED}/*/run.json") if ".tmp" not in str(path)}
    found += [f"twice: {name}" for name in there.keys() & unfinished]
    for name in there:
        now, then = files(folder / name), {}
        for path, content in known.at_the_end.items():
            if path.startswith(f"{name}/"):
                then[path.removeprefix(f"{name}/")] = content
        found += [f"other: {name}/{path}" for path in sorted(now.keys() | then) if now.get(path) != then.get(path)]
        found += [f"other: {name} is not at its end"] * (not is_settled(open_run(folder / name)))
        found += unsound(folder / name)
    for name in unfinished:
        path = folder / UNFINISHED / name
        try:
            found += unsound(path)
            written = (path / "metrics.jsonl").read_bytes()
            if not known.whole[f"{name}/metrics.jsonl"].startswith(written[: written.rfind(b"\n") + 1]):
                found.append(f"other: the lines of {name}")
        except FileNotFoundError:  # a process beside the killed one moved it to its place meanwhile
            found += [f"lost: {name}"] * ((folder / name / "run.json").exists() is False)
    return found


def unsound(path: Path) -> list[str]:
    try:
        return [f"unsound: {line}" for line in verify(open_run(path)).contradictions]
    except InputError as error:
        return [f"unsound: {error}"] * path.exists()


def faults_at_the_end(known: Peace, folder: Path, log: Path) -> list[str]:
    """What is wrong when the same command was left in peace."""
    code = end_of(forked(command(folder, known.runs, known.keep, known.processes), log))
    if code != 0:
        return [f"fails: exit code {code}: {log.read_text()[-500:]}"]
    now = files(folder)
    found = [f"left over: {name}" for name in sorted(now.keys() - known.at_the_end.keys())]
    found += [f"other: {name}" for name, content in known.at_the_end.items() if now.get(name) != content]
    if {name: one.diverged for name, one in read_failures(folder).items()} != {"too-fast": True, "on-too-fast": False}:
        found.append("not noted: what diverged, and what starts from it")
    return found + [f"left over: {UNFINISHED}"] * (folder / UNFINISHED).exists()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="how many kills; each must hit (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    options = parser.parse_args()
    torch.set_num_threads(1)  # no threads before a fork
    chance, done, began, wrong = random.Random(options.seed), 0, time.monotonic(), list[str]()
    known: dict[tuple[str, int], Peace] = {}
    with tempfile.TemporaryDirectory() as temporary:
        log = Path(temporary, "log")
        for number in count():
            keep, processes = KEEP[number % len(KEEP)], 2 if number % 10 == 9 else 1
            if (keep, processes) not in known:
                runs = grid(24 if processes == 1 else 3000)
                known[keep, processes] = peace(runs, keep, processes, Path(temporary, f"peace-{keep}-{processes}"))
            this, folder, before = known[keep, processes], Path(temporary, f"grid-{number}"), dict[str, int]()
            while True:
                how, code = kill_once(this, folder, log, chance)
                if code != -signal.SIGKILL:
                    wrong += [f"fails: exit code {code}: {log.read_text()[-500:]}"] * (code != 0)
                    break
                done += 1
                found = faults(this, folder, before) if folder.exists() else []
                before, wrong = placed(folder), wrong + found
                told = "; ".join(found) or f"{len(before)} runs in their place"
                print(f"{done:4} {how:<28} {processes} processes, keeps {keep:<7}  {told}", flush=True)
                if chance.random() < 0.2 or done >= options.kills:
                    break
            found = faults_at_the_end(this, folder, log)
            wrong += found
            print(f"     at the end: {'; '.join(found) or 'as in peace'}", flush=True)
            shutil.rmtree(folder)
            if done >= options.kills:
                break
    print(f"{done} kills of {number + 1} grids in {time.monotonic() - began:.0f} s, {len(wrong)} faults")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
