"""Every damage to every file of a run: each command does what it does for the sound run, or says one line that names
the file; nothing outside of the run is touched, nothing hangs, nothing fills the memory."""

import os
import re
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from interp.cli import main
from tests.runs.test_disk_trouble import NOBODY, as_an_ordinary_user
from tests.small_runs import recorded, thinned, trained

SECONDS, GIGABYTES = 20, 2  # of the processor
HUGE = 20 * 10**9


class Subject(NamedTuple):
    """A file: of which run, and where."""

    run: str
    path: str


FILES = {
    "run.json": Subject("unfinished", "run.json"),
    "the split": Subject("unfinished", "split.safetensors"),
    "the lines": Subject("thinned", "metrics.jsonl"),
    "a checkpoint": Subject("unfinished", "steps/step_000000005.safetensors"),
    "the state": Subject("unfinished", "state/step_000000010.safetensors"),
    "the state of a loop": Subject("recorded", "state/loop.safetensors"),
    "the note of thinned steps": Subject("thinned", "thinned.json"),
    "a result": Subject("unfinished", "results/weight_norms.nc"),
    "the lock": Subject("unfinished", ".lock"),
}


class Places(NamedTuple):
    """Where a damage happens: the file; the same file of a neighbour of the run; a folder outside."""

    file: Path
    neighbour: Path
    outside: Path


# ---- damages ---------------------------------------------------------------------------------------------------------


def truncate(at: Places) -> None:
    os.truncate(at.file, at.file.stat().st_size // 2)


def flip(at: Places) -> None:
    content = bytearray(at.file.read_bytes())
    if content:
        content[len(content) * 2 // 3] ^= 1
    at.file.write_bytes(content)


def swap(at: Places) -> None:
    at.file.write_bytes(at.neighbour.read_bytes())


def link_to_its_twin(at: Places) -> None:
    twin = at.outside / "twin"
    at.file.rename(twin)
    at.file.symlink_to(twin)


def link_to_a_stranger(at: Places) -> None:
    (at.outside / "stranger").write_text("precious\n")
    at.file.unlink()
    at.file.symlink_to(at.outside / "stranger")


def hard_link(at: Places) -> None:
    os.link(at.file, at.outside / "hard")


def pipe(at: Places) -> None:
    at.file.unlink()
    os.mkfifo(at.file)


def folder(at: Places) -> None:
    at.file.unlink()
    at.file.mkdir()


def endless(at: Places) -> None:
    at.file.unlink()
    at.file.symlink_to("/dev/zero")


def huge(at: Places) -> None:
    os.truncate(at.file, HUGE)


def empty(at: Places) -> None:
    at.file.write_bytes(b"")


def unreadable(at: Places) -> None:
    at.file.chmod(0)


FINE = ""  # every command does what it does for the sound run


@dataclass(frozen=True)
class Damage:
    """What happens; a pattern for the line about it; and one for the files of which something else is said."""

    happen: Callable[[Places], None]
    words: str
    but: dict[str, str]


# A result that cannot be read is computed again; the lock is looked at by whoever writes, and its bytes by nobody.
COMPUTED_AGAIN = {"a result": FINE}
NOT_READ = {"a result": FINE, "the lock": FINE}
DAMAGES = {
    "truncated": Damage(truncate, "is damaged", NOT_READ | {"the lines": "ends at step"}),
    "a bit flipped": Damage(flip, "is damaged|altered|damaged at line|of another run", NOT_READ),
    # Of both the same steps were thinned.
    "of a neighbour": Damage(
        swap, "altered|differ from|of another run|other sums", NOT_READ | {"the note of thinned steps": FINE}
    ),
    "a link to its twin": Damage(link_to_its_twin, "symbolic link", COMPUTED_AGAIN),
    "a link to a stranger": Damage(link_to_a_stranger, "symbolic link", COMPUTED_AGAIN),
    "a hard link": Damage(hard_link, FINE, {}),
    "a named pipe": Damage(pipe, "named pipe", COMPUTED_AGAIN),
    "a folder": Damage(folder, "Is a directory|is a folder", {}),
    "endless": Damage(endless, "symbolic link", COMPUTED_AGAIN),
    "huge": Damage(huge, "bytes", NOT_READ),
    "empty": Damage(empty, "is damaged|has no lines", NOT_READ),
    "unreadable": Damage(unreadable, "Permission denied", COMPUTED_AGAIN),
}

# What `interp verify` says where a file is not there, and its exit code: what may be missing is a state, without which
# training begins anew, results, and the lock.
ABSENT = {
    "run.json": (2, "run is not a run: it has no run.json"),
    "the split": (2, "split.safetensors.*No such file"),
    "the lines": (2, "metrics.jsonl is missing"),
    "a checkpoint": (2, "step_000000005.safetensors is missing, though metrics.jsonl records it"),
    "the state": (0, "not checked +a state"),
    "the state of a loop": (0, "not checked"),
    "the note of thinned steps": (2, "step_000000005.safetensors and 1 more, up to step 15, are missing"),
    "a result": (0, "checked"),
    "the lock": (0, "checked"),
}
# Who must tell of a damage, if anybody does: `interp verify`, and of the lock whoever writes.
TELLS = {"the lock": "resume", "a result": "nobody"}


# ---- commands --------------------------------------------------------------------------------------------------------

COMMANDS = {
    "resume": ("resume", "run"),
    "thin": ("thin", "run", "--keep-every", "10"),
    "analyze": ("analyze", "run", "weight_norms"),
    "list": ("list", "run"),
    "info": ("info", "run"),
    "verify": ("verify", "run"),
}
READ_ONLY = ("list", "info", "verify")  # after analyze, which writes results alone


class TooLongError(BaseException):
    """No answer within SECONDS; nobody who catches any Exception catches it."""


class Said(NamedTuple):
    """What a command came to: its exit code, its answer, and the lines for a person."""

    code: int
    answer: str
    lines: list[str]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs, with results, and a neighbour of each: of the same kind and another seed."""
    place = tmp_path_factory.mktemp("sources")
    makers = {"unfinished": lambda path, seed: trained(path, 10, seed), "recorded": recorded, "thinned": thinned}
    for kind, make in makers.items():
        for seed, name in enumerate((kind, f"neighbour of {kind}")):
            make(place / name, seed=seed)
            assert main(["analyze", str(place / name), "weight_norms"]) == 0
    return place


def said(name: str, capsys: pytest.CaptureFixture[str], but: str) -> Said:
    """What a command says. Of one that writes, the answer is what it has written, `but` for one file."""
    capsys.readouterr()
    code = main(COMMANDS[name])
    out, err = capsys.readouterr()
    lines = [line.removeprefix("interp: ") for line in err.splitlines()]
    if name == "list" and "unreadable: " in out:
        return Said(2, "", out.splitlines())
    if code == 0 and name in ("resume", "thin"):
        out = repr(
            {
                path.as_posix(): path.read_bytes()
                for path in sorted(Path("run/steps").iterdir())
                if path.as_posix() != f"run/{but}"
            }
        )
    return Said(code, re.sub("on disk .*", "", out), lines)


@pytest.fixture(scope="module")
def sound(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Said]:
    """What a command says of a sound run; asked once."""
    known: dict[tuple[str, str, str], Said] = {}

    def sound(kind: str, command: str, but: str, capsys: pytest.CaptureFixture[str]) -> Said:
        if (kind, command, but) not in known:
            copied(sources / kind)
            known[kind, command, but] = said(command, capsys, but)
        return known[kind, command, but]

    return sound


@pytest.fixture(autouse=True)
def limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A short time, and not much more memory than there is in use."""
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("interp.cli.progress.LINE_INTERVAL_SECONDS", 1000)

    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + GIGABYTES * 2**30, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    return tmp_path / "outside"


def as_whom(damage: str) -> AbstractContextManager[None]:
    """The superuser may read everything, and is not asked about what is unreadable."""
    if damage != "unreadable":
        return nullcontext()
    for path in [Path("run"), *Path("run").rglob("*")] if os.geteuid() == 0 else []:
        os.chown(path, NOBODY, NOBODY)
    return as_an_ordinary_user()


@pytest.fixture(scope="module", autouse=True)
def open_to_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The folders above, so that an ordinary user comes to the run."""
    above = [path for path in tmp_path_factory.getbasetemp().parents if path.stat().st_uid == os.geteuid()]
    modes = {path: path.stat().st_mode for path in [tmp_path_factory.getbasetemp(), *above]}
    for path, mode in modes.items():
        if mode & 0o055 != 0o055:
            path.chmod(mode | 0o055)
    yield
    for path, mode in modes.items():
        path.chmod(mode)


def untouched(outside: Path) -> dict[str, bytes]:
    return {str(path.relative_to(outside)): path.read_bytes() for path in outside.rglob("*") if path.is_file()}


def copied(source: Path) -> None:
    shutil.rmtree("run", ignore_errors=True)
    shutil.copytree(source, "run")
    Path("run/.lock").touch()  # which is there once somebody has written


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage(  # noqa: PLR0917
    damage: str,
    kind: str,
    sources: Path,
    sound: Callable[..., Said],
    outside: Path,
    within: Callable[[float, BaseException], AbstractContextManager[None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    subject, what = FILES[kind], DAMAGES[damage]
    words = what.but.get(kind, what.words)
    file = Path("run", subject.path)
    answers = {command: sound(subject.run, command, subject.path, capsys) for command in COMMANDS}
    before: dict[str, bytes] = {}
    for command, expected in answers.items():
        if command not in READ_ONLY:
            copied(sources / subject.run)
            shutil.rmtree(outside)
            outside.mkdir()
            what.happen(Places(file, sources / f"neighbour of {subject.run}" / subject.path, outside))
            before = untouched(outside)
        with as_whom(damage), within(SECONDS, TooLongError()):
            found = said(command, capsys, subject.path)
        where = f"{damage}, {kind}, {command}: {found}"
        assert untouched(outside) == before, where
        if found[:2] != expected[:2]:
            assert words != FINE, where
            assert found.code == 2, where
            assert len(found.lines) == 1 or command == "verify", where
            assert any((file.name in line or kind == "the lock") and re.search(words, line) for line in found.lines), (
                where
            )
        elif command == TELLS.get(kind, "verify"):
            assert words == FINE, where


@pytest.mark.parametrize("kind", FILES)
def test_what_is_not_there(kind: str, sources: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, words = ABSENT[kind]
    for command in ("list", "info", "verify", "thin", "resume"):
        copied(sources / FILES[kind].run)
        Path("run", FILES[kind].path).unlink()
        found = said(command, capsys, "")
        assert found.code in (0, 2), found
        if command == "verify":
            assert found.code == code, found
            assert re.search(words, "\n".join([found.answer, *found.lines])), found


@pytest.mark.parametrize("name", ["steps", "state", "results"])
def test_a_folder_that_is_a_link(
    name: str, sources: Path, sound: Callable[..., Said], outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {command: sound("unfinished", command, name, capsys) for command in COMMANDS}
    for command, expected in answers.items():
        copied(sources / "unfinished")
        shutil.rmtree(outside)
        Path("run", name).rename(outside)
        Path("run", name).symlink_to(outside)
        before = untouched(outside)
        found = said(command, capsys, name)
        assert untouched(outside) == before, f"{command}: {found}"
        if found[:2] != expected[:2]:
            assert found.code == 2, found
            assert any(f"run/{name} is a symbolic link" in line for line in found.lines), found
        elif command == "verify":
            assert name == "results", found
