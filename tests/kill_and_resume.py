"""Kill training at random moments, again and again: every run must open, verify, and end with the same bytes as one
left in peace.

    python tests/kill_and_resume.py --kills 20

A training or its resumption is killed with SIGKILL, SIGTERM or SIGINT, either after a random time or just before one of
its file operations, picked at random; after each kill the run is verified and resumed, and the resumption may be killed
in its turn. Each process is a fork of this one, which has loaded torch already: hence many kills a second.
"""

import argparse
import contextlib
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
import traceback
from collections.abc import Callable, Iterator
from itertools import count, cycle
from pathlib import Path
from typing import NamedTuple

import torch

from interp.cli import main as interp
from interp.runs import open_run
from interp.sweeps import driver

SMALL = (
    *("--task.p", "7", "--task.train-fraction", "0.5"),
    *("--model.d-model", "8", "--model.n-heads", "2", "--model.d-mlp", "8"),
    *("--training.steps", "60", "--training.checkpoint-every", "4", "--training.log-every", "3"),
)
WAYS_TO_TRAIN = {
    "AdamW": (),
    "SGD": ("--training.optimizer", "sgd", "--training.lr", "0.02", "--training.weight-decay", "0.001"),
    "Adam, mini-batches": (
        "--training.optimizer",
        "adam",
        "--training.weight-decay",
        "0",
        "--training.batch-size",
        "9",
    ),
    "AdamW, mini-batches, two layers, label noise": (
        "--training.batch-size",
        "11",
        "--model.n-layers",
        "2",
        "--task.label-noise",
        "0.1",
    ),
    "RMSProp": ("--training.optimizer", "rmsprop", "--training.weight-decay", "0.001"),
    "Muon": ("--training.optimizer", "muon"),
    "AdamW, polar gradients": ("--training.filter.kind", "polar"),
    "AdamW, a queue of gradients": (
        *("--training.filter.kind", "ma", "--training.filter.window", "9"),
        *("--training.filter.strength", "2"),
    ),
    "AdamW, dropout, noise, a norm that is held": (
        *("--training.regularizers.dropout", "0.2", "--training.regularizers.weight-noise", "0.01"),
        *("--training.regularizers.norm", "global"),
    ),
    "AdamW, StableMax, ⊥Grad": ("--training.loss", "stablemax", "--training.filter.orthogonal"),
}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
FILE_OPERATIONS = ("open", "write", "fsync", "rename", "replace", "unlink", "rmdir", "mkdir", "ftruncate", "close")
SECONDS_TO_END = 300


class Undisturbed(NamedTuple):
    """A run left in peace."""

    contents: dict[str, bytes]
    seconds: float  # that it took
    operations: int  # on files


Command = tuple[str, ...] | Callable[[], int]
Before = Callable[[str], object]  # is told the name of each file operation before it is done


def forked(arguments: Command, log: Path, before: Before = lambda operation: None, state_every: float = 0.05) -> int:
    """The id of a new process that runs the command `interp` with these arguments, or a function that gives an exit
    code, and writes what it says into `log`."""
    log.write_bytes(b"")
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS[1:])  # until it is the command that they would end
    process = os.fork()
    if process:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS[1:])
        return process
    code = 70
    try:
        output = os.open(log, os.O_WRONLY)
        os.dup2(output, 1)
        os.dup2(output, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background switches it off
        driver.STATE_INTERVAL_SECONDS = state_every
        for name in FILE_OPERATIONS:
            setattr(os, name, told(before, name, getattr(os, name)))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS[1:])
        code = arguments() if callable(arguments) else interp(arguments)
    except KeyboardInterrupt:  # before the command had begun, or after its end
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS[1:])
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def told(before: Before, name: str, operation: Callable) -> Callable:
    """A file operation that says so before it is done."""

    def tell(*arguments: object, **options: object) -> object:
        before(name)
        return operation(*arguments, **options)

    return tell


def end_of(process: int) -> int:
    """The exit code of a process, as in Python's subprocess: the negative number of the signal that ended it."""
    deadline = time.monotonic() + SECONDS_TO_END
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGKILL)
            raise AssertionError(f"process {process} did not end within {SECONDS_TO_END} seconds")
        time.sleep(0.001)


def kill_once(arguments: tuple[str, ...], log: Path, peace: Undisturbed, chance: random.Random) -> tuple[str, bool]:
    """Run a command and kill it; in words how, and whether it was hit before its end."""
    kill, state_every = chance.choice(SIGNALS), chance.choice((0, 0.02, 1000))
    if chance.random() < 0.5:
        place = chance.randrange(peace.operations)
        counter = count()
        process = forked(
            arguments, log, lambda name: os.kill(os.getpid(), kill) if next(counter) == place else None, state_every
        )
        how = f"{kill.name} before file operation {place}"
    else:
        moment = chance.uniform(0, peace.seconds)
        process = forked(arguments, log, state_every=state_every)
        time.sleep(moment)
        os.kill(process, kill)
        how = f"{kill.name} after {moment:.2f} s"
    code = end_of(process)
    # −15: SIGTERM before training has begun, or after it has ended, does what it does to any program.
    assert code in (0, 130, -signal.SIGTERM, -signal.SIGKILL), f"{how}: exit code {code}\n{log.read_text()}"
    complaints = [
        line for line in log.read_text().splitlines() if not re.match(r"(training|resuming|step|done)\b", line)
    ]
    assert complaints == [] or (
        code == 130 and len(complaints) == 1 and complaints[0].startswith("interp: interrupted")
    ), log.read_text()
    return how, code != 0


def ends_well(arguments: tuple[str, ...], log: Path) -> None:
    """Run a command that must succeed."""
    code = end_of(forked(arguments, log))
    assert code == 0, f"interp {' '.join(arguments)}: exit code {code}\n{log.read_text()}"


def contents(run: Path) -> dict[str, bytes]:
    """All of a run but the lock, and run.json without what depends on the hour."""
    files = {
        str(path.relative_to(run)): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    info = json.loads(files["run.json"])
    files["run.json"] = json.dumps({name: info[name] for name in sorted(info.keys() - {"created", "sum"})}).encode()
    return files


def check(run: Path, expected: dict[str, bytes], log: Path) -> None:
    """The run opens and verifies, and what it has is what the undisturbed run has."""
    ends_well(("verify", str(run)), log)
    found = open_run(run)
    for step in found.steps:
        name = f"steps/step_{step:09d}.safetensors"
        assert (run / name).read_bytes() == expected[name], f"{name} differs"
    written = (run / "metrics.jsonl").read_bytes()
    assert written[: written.rfind(b"\n") + 1] == expected["metrics.jsonl"][: written.rfind(b"\n") + 1], (
        "metrics.jsonl is not a beginning of what it should be"
    )


def rounds(way: str, folder: Path, peace: Undisturbed, chance: random.Random) -> Iterator[str]:
    """Train once, with a kill in the training and in every resumption, until one of them reaches the end; a line per
    kill."""
    run, log = folder / "run", folder / "log"
    shutil.rmtree(run, ignore_errors=True)
    while True:
        resuming = run.exists()
        arguments = ("resume", str(run)) if resuming else ("train", *SMALL, *WAYS_TO_TRAIN[way], "--out", str(run))
        how, hit = kill_once(arguments, log, peace, chance)
        if run.exists():
            check(run, peace.contents, log)
        if not hit:
            killed_at_its_end = False
            break
        at = f"{len(open_run(run))} checkpoints" if run.exists() else "not begun"
        yield f"{how:<36} {'resuming' if resuming else 'training'} by {way}; {at}: opens, verifies, continues"
        if killed_at_its_end := run.exists() and open_run(run).is_complete:
            break
        if chance.random() < 0.4 and run.exists():
            ends_well(("resume", str(run)), log)
            break
    final, expected = contents(run), peace.contents
    if killed_at_its_end:
        # After its last line, and perhaps before its last state, which is of no more use.
        final = {name: content for name, content in final.items() if not name.startswith("state/")}
        expected = {name: content for name, content in expected.items() if not name.startswith("state/")}
    assert final.keys() == expected.keys(), f"files {sorted(final.keys() ^ expected.keys())}"
    for name, content in final.items():
        assert content == expected[name], f"{name} differs from that of the undisturbed run"


def undisturbed_run(way: str, folder: Path) -> Undisturbed:
    """The run that all others of its kind must equal."""
    run, log, counted = folder / "undisturbed", folder / "log", folder / "operations"
    with open(counted, "wb", buffering=0) as tally:
        began = time.monotonic()
        code = end_of(
            forked(("train", *SMALL, *WAYS_TO_TRAIN[way], "--out", str(run)), log, lambda name: tally.write(b"."))
        )
    assert code == 0, log.read_text()
    return Undisturbed(contents(run), time.monotonic() - began, counted.stat().st_size)


def load_everything() -> None:
    """What the commands import when they need it is inherited by every fork."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        assert interp(["train", *SMALL, "--training.steps", "1", "--out", f"{folder}/run"]) == 0
        assert interp(["verify", f"{folder}/run"]) == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="how many kills; each must hit (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and signals (default: 0)")
    options = parser.parse_args()
    torch.set_num_threads(1)  # no threads before a fork
    load_everything()
    chance, done, began = random.Random(options.seed), 0, time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folders = {way: Path(temporary) / str(number) for number, way in enumerate(WAYS_TO_TRAIN)}
        known: dict[str, Undisturbed] = {}
        for way in cycle(WAYS_TO_TRAIN):
            if way not in known:
                folders[way].mkdir()
                known[way] = undisturbed_run(way, folders[way])
            for line in rounds(way, folders[way], known[way], chance):
                done += 1
                print(f"{done:3} {line}", flush=True)
            if done >= options.kills:
                break
    print(f"{done} kills in {time.monotonic() - began:.0f} s: every run ended with the bytes of the undisturbed one")


if __name__ == "__main__":
    main()
