"""Thousands of small damages to the files of runs: whatever is read then must be what it was, or one line that names
the file.

    python -m tests.flip_bits --flips 10000

Of a finished run, an unfinished one, an imported, a recorded and a thinned one, each with results, a file is picked at
random and a bit of it flipped, two bytes swapped, its end cut off, a line removed or doubled, or a page zeroed. Then
the run is read in every way, verified, and gone on with. What came of it is one of

    refused     one line that names the file, by whoever reads it, or by `interp verify`'s readers
    recomputed  every answer is that of the sound run, and the file was written anew (results)
    verify      every answer is that of the sound run, and `interp verify` tells of the damage
    equal       every answer is that of the sound run, and `interp verify` finds nothing: the bytes say the same, or
                nobody reads them (spaces, the state of a finished run)
    earlier     metrics.jsonl was cut off at the end of a line or within its last: a run that grows is so at an earlier
                moment, and who only reads its lines cannot know better; to go on is refused, or ends as the sound run

or, each of which ends the script with 1,

    SILENT      another answer, and no word by those who gave it
    MISSED      `interp verify` passes, and a reader refuses
    UNNAMED     a line that does not name the file
    TRACEBACK   an exception that is not for a person
    HANG        no answer within SECONDS

Each damage is drawn from the seed and its number alone: `--only NUMBER` repeats one and tells all about it.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr

from interp.analysis import analyze
from interp.cli import main as command
from interp.cli.commands.runs import Verify
from interp.errors import InputError
from interp.models import weight_shapes
from interp.runs import Run, describe, list_runs, load_loop_state, open_run
from interp.sweeps import resume_run
from tests.byte_damages import damaged
from tests.small_runs import KINDS, Contents, contents, module, recorder

SECONDS, GIGABYTES = 20, 3
ANALYSES = ("weight_norms", "learning_curves", "neuron_periodicity", "transitions")
FINE = ("refused", "recomputed", "verify", "equal", "earlier")
WRONG = ("SILENT", "MISSED", "UNNAMED", "TRACEBACK", "HANG")
RUN = Path("run")


def put(files: Contents) -> None:
    shutil.rmtree(RUN, ignore_errors=True)
    for folder in ("steps", "state", "results"):
        (RUN / folder).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (RUN / name).write_bytes(content)


# ---- damages ---------------------------------------------------------------------------------------------------------


def kind_of(name: str) -> str:
    """The kind of file, as tables list it."""
    folder, _, last = name.rpartition("/")
    return folder + "/loop" if last.startswith("loop") else f"{folder}/" if folder else last


class Damage(NamedTuple):
    """What is done to which file of which run."""

    number: int
    kind: str
    name: str
    words: str
    content: bytes

    def __str__(self) -> str:
        return f"{self.number}: {self.kind} run, {self.name}, {self.words}"


def damage(number: int, seed: int, runs: Mapping[str, Contents]) -> Damage:
    """The damage of this number: every kind of file is hit as often as every other."""
    chance = random.Random(f"{seed}/{number}")
    kind = chance.choice(sorted(runs))
    files = {name: content for name, content in runs[kind].items() if content}
    chosen = chance.choice(sorted({kind_of(name) for name in files}))
    name = chance.choice([name for name in files if kind_of(name) == chosen])
    return Damage(number, kind, name, *damaged(files[name], chance))


# ---- readers ---------------------------------------------------------------------------------------------------------


def in_short(value: Any) -> str:
    """A digest of tensors, arrays, data sets and plain values, nested; equal exactly where these are, but that an
    integer is one in any size, as NetCDF has it."""
    if isinstance(value, xr.Dataset):
        return in_short(
            [{name: (one.dims, one.attrs, one.values) for name, one in value.variables.items()}, value.attrs]
        )
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        plain = repr(np.asarray(value).tolist())
        return f"{np.shape(value)} {hashlib.sha256(plain.encode()).hexdigest()}" if np.shape(value) else plain
    if isinstance(value, Mapping):
        return f"{{{', '.join(sorted(f'{name}: {in_short(one)}' for name, one in value.items()))}}}"
    if isinstance(value, list | tuple | set):
        return f"{type(value).__name__} [{', '.join(map(in_short, value))}]"
    return repr(value)


def said(*arguments: str) -> str:
    """What a command prints; an InputError where it ends with 2, an AssertionError for any other end."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command(list(arguments))
    if code == 2:
        raise InputError(err.getvalue())
    assert code == 0, f"exit code {code}: {err.getvalue()}"
    return out.getvalue()


def gone_on_with() -> Any:
    """The run after `resume`: its last weights and lines. One that is complete already, or not ours to go on with, is
    as it was."""
    run = open_run(RUN)
    if "recorder" in run.info:
        with recorder(RUN, module(), resume=True) as kept:
            state = kept.load_state()
            return state, kept.run.steps, kept.run.rows
    if run.training is None:
        return None
    try:
        resume_run(RUN)
    except InputError as error:
        if "is complete" not in str(error):
            raise
    finally:
        torch.set_num_threads(1)
    run = open_run(RUN)
    return run.steps[-1], run.last.weights, run.rows


def trajectories(run: Run) -> dict[str, torch.Tensor]:
    """Every tensor at every step."""
    return {name: run.trajectory(name) for name in weight_shapes(run.model, run.task.sizes)}


def lines_of(run: Run) -> list[str]:
    """What `interp info` says, but for the size, which a cut file has another of."""
    return [line for line in describe(run) if not line.startswith("on disk")]


READERS: dict[str, Callable[[], Any]] = {
    "info": lambda: lines_of(open_run(RUN)),
    "run.info": lambda: open_run(RUN).info,
    "list": lambda: list(list_runs(RUN)),
    "steps": lambda: open_run(RUN).steps,
    "run[step]": lambda: {one.step: one.weights for one in open_run(RUN)},
    "trajectory": lambda: trajectories(open_run(RUN)),
    "metrics": lambda: open_run(RUN).metrics,
    "rows": lambda: (open_run(RUN).rows, open_run(RUN).thinned, open_run(RUN).is_complete),
    "loop state": lambda: load_loop_state(open_run(RUN)),
    "verify": lambda: said("verify", str(RUN), *(["--deep"] if "deep" in Verify.__dataclass_fields__ else [])) and None,
    "analyze": lambda: analyze(open_run(RUN), ANALYSES),
    "resume": gone_on_with,  # it writes, hence last
}


class Answer(NamedTuple):
    """What a reader came to: a value in short, or the words it refused with, or an exception."""

    kind: str  # value, refused, exception
    words: str


def answer(read: Callable[[], Any]) -> Answer:
    """What a reader comes to."""
    try:
        value = read()
        if isinstance(value, list) and len(value) == 1 and "unreadable: " in str(value[0]):  # `interp list` goes on
            return Answer("refused", str(value[0]))
        return Answer("value", in_short(value))
    except InputError as error:
        return Answer("refused", str(error))
    except Exception as error:
        return Answer("exception", f"{type(error).__name__}: {error}")


def outcome(damage: Damage, sound: Mapping[str, Answer], files: Contents) -> tuple[str, str]:
    """One of FINE or WRONG, and why."""
    put(files | {damage.name: damage.content})
    found = {name: answer(read) for name, read in READERS.items()}
    raised = [f"{name}: {one.words}" for name, one in found.items() if one.kind == "exception"]
    refused = {name: one.words for name, one in found.items() if one.kind == "refused"}
    differ = [name for name, one in found.items() if one.kind == "value" and one != sound[name]]
    unnamed = [f"{name}: {words}" for name, words in refused.items() if Path(damage.name).name not in words]
    by_readers = {name: words for name, words in refused.items() if name != "verify"}
    is_earlier = has_fewer_lines(damage, files) and not {"resume", "loop state"} & {*differ}
    kinds = {
        "TRACEBACK": raised,
        "SILENT": [] if is_earlier else differ,
        "UNNAMED": unnamed,
        "MISSED": [] if "verify" in refused else list(by_readers.values()),
        "earlier": differ,
        "refused": list(by_readers.values()),
        "verify": list(refused.values()),
    }
    for kind, reasons in kinds.items():
        if reasons:
            return kind, "; ".join(reasons)
    written = (RUN / damage.name).read_bytes() if (RUN / damage.name).is_file() else None
    return "recomputed" if damage.name.startswith("results/") and written != damage.content else "equal", ""


def has_fewer_lines(damage: Damage, files: Contents) -> bool:
    """Whether metrics.jsonl is as it was when its last lines were not yet written."""
    left = damage.content[: damage.content.rfind(b"\n") + 1]
    return damage.name == "metrics.jsonl" and files[damage.name].startswith(left)


# ---- many at once ----------------------------------------------------------------------------------------------------


class Sound(NamedTuple):
    """The sound runs, what every reader says of them, and the seed of what happens to them."""

    runs: dict[str, Contents]
    answers: dict[str, dict[str, Answer]]
    seed: int

    def hit(self, number: int) -> tuple[Damage, str, str]:
        """The damage of this number, and what came of it."""
        one = damage(number, self.seed, self.runs)
        return one, *outcome(one, self.answers[one.kind], self.runs[one.kind])


def sound_runs(place: Path, seed: int) -> Sound:
    """A run of every kind, with results."""
    runs, answers = {}, {}
    for kind, make in KINDS.items():
        folder = place / kind
        folder.mkdir()
        make(folder / "run")
        analyze(open_run(folder / "run"), ANALYSES)
        runs[kind] = contents(folder / "run")
        put(runs[kind])
        answers[kind] = {name: answer(read) for name, read in READERS.items()}
        refused = {name: one.words for name, one in answers[kind].items() if one.kind != "value"}
        assert not refused, f"the sound {kind} run: {refused}"
    return Sound(runs, answers, seed)


class Worker:
    """A process that tries the damages of these numbers, one after the other, in a folder of its own and in limited
    memory, and writes a line for each."""

    def __init__(self, numbers: range, sound: Sound, place: Path) -> None:
        self.numbers, self.since, self._rest = numbers, time.monotonic(), b""
        self.reading, writing = os.pipe()
        self.process = os.fork()
        if self.process:
            os.close(writing)
            return
        try:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            most = used + GIGABYTES * 2**30
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            place.mkdir(exist_ok=True)
            os.chdir(place)
            for number in numbers:
                os.write(writing, json.dumps([number, *sound.hit(number)[1:]]).encode() + b"\n")
        finally:
            os._exit(0)

    def lines(self) -> Iterator[tuple[int, str, str]]:
        """What it has written since."""
        content = os.read(self.reading, 1 << 16)
        *lines, self._rest = (self._rest + content).split(b"\n")
        for line in lines:
            self.numbers, self.since = self.numbers[1:], time.monotonic()
            yield tuple(json.loads(line))

    def has_ended(self) -> bool:
        """Whether it is gone; where it has not answered for SECONDS it is ended here."""
        if time.monotonic() - self.since > SECONDS:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
        elif os.waitpid(self.process, os.WNOHANG) == (0, 0):
            return False
        return True


def outcomes(sound: Sound, n_damages: int, processes: int, place: Path) -> Iterator[tuple[int, str, str]]:
    """Number, outcome and why of every damage, as they come; a process that hangs or dies is replaced by another."""
    workers = {n: Worker(range(n, n_damages, processes), sound, place / str(n)) for n in range(processes)}
    while workers:
        ready = select.select([one.reading for one in workers.values()], [], [], 1)[0]
        for n, one in list(workers.items()):
            ended = one.has_ended()  # before its last lines are read
            while one.reading in ready or ended:
                found = list(one.lines())
                yield from found
                if not (ended and found):
                    break
            if ended:
                os.close(one.reading)
                del workers[n]
                if one.numbers:
                    yield one.numbers[0], "HANG", f"no answer within {SECONDS} s, or the process died"
                    workers[n] = Worker(one.numbers[1:], sound, place / str(n))


def table(counts: Mapping[str, Counter]) -> str:
    """Kinds of files × outcomes."""
    columns = [name for name in FINE + WRONG if any(row[name] for row in counts.values()) or name in WRONG]
    lines = [["file", "damages", *columns]]
    for kind, row in [*sorted(counts.items()), ("all", sum(counts.values(), Counter()))]:
        lines.append([kind, f"{sum(row.values()):,}", *(f"{row[name]:,}" for name in columns)])
    return "\n".join(" | ".join([f"{line[0]:<17}", *(f"{cell:>9}" for cell in line[1:])]) for line in lines)


def tell_all(sound: Sound, number: int) -> None:
    """What every reader says of one damage."""
    print(*sound.hit(number))
    one = damage(number, sound.seed, sound.runs)
    put(sound.runs[one.kind] | {one.name: one.content})
    for name, read in READERS.items():
        found = answer(read)
        print(f"{name:<12}", "as of the sound run" if found == sound.answers[one.kind][name] else found)


def tell_counts(sound: Sound, n_damages: int, processes: int, place: Path) -> int:
    """A line for every outcome that is wrong, and the table of all; how many are wrong."""
    counts: dict[str, Counter] = {}
    began = time.monotonic()
    for number, found, why in outcomes(sound, n_damages, processes, place):
        one = damage(number, sound.seed, sound.runs)
        counts.setdefault(kind_of(one.name), Counter())[found] += 1
        if found in WRONG:
            print(f"{found:<9} {one}: {why[:300]!r}", flush=True)
    print(table(counts))
    print(f"{n_damages:,} damages, seed {sound.seed}, {time.monotonic() - began:.0f} s")
    return sum(row[found] for row in counts.values() for found in WRONG)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--flips", type=int, default=300, help="how many damages (default: 300)")
    parser.add_argument("--seed", type=int, default=0, help="of the damages (default: 0)")
    parser.add_argument("--processes", type=int, default=2, help="how many at a time (default: 2)")
    parser.add_argument("--only", type=int, help="repeat the damage of this number, and tell all about it")
    options = parser.parse_args()
    torch.set_num_threads(1)  # no threads before a fork
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as temporary:
        os.chdir(temporary)
        sound, wrong = sound_runs(Path(temporary), options.seed), 0
        if options.only is not None:
            tell_all(sound, options.only)
        else:
            wrong = tell_counts(sound, options.flips, options.processes, Path(temporary))
        os.chdir("/")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
