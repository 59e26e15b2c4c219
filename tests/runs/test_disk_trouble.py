"""A full disk, a closed folder, a run that another process has: one line, exit code 2, and what was sound stays
sound."""

import contextlib
import os
import re
import shutil
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from interp.cli import main
from interp.runs import RunWriter, open_run
from interp.sweeps import driver

# As in tests/conftest.py: what is trained with these is the original.
TINY = (
    *("--task.p", "7", "--task.train-fraction", "0.5"),
    *("--model.d-model", "8", "--model.n-heads", "2", "--model.d-mlp", "8"),
    *("--training.steps", "20", "--training.checkpoint-every", "5", "--training.log-every", "2"),
)
NOBODY = 65534
Refused = Callable[..., str]
FullDisk = Callable[[str, int], contextlib.AbstractContextManager[None]]


@pytest.fixture(scope="module")
def original(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(original, tmp_path_factory.mktemp("analyzed") / "run"))
    assert main(["analyze", str(folder), "weight_norms", "transitions"]) == 0
    return folder


@pytest.fixture
def refused(run: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """The line with which a command is refused, after those which say what is not kept; it has written nothing, but for
    a run that it had begun."""

    def refused(*arguments: str, but: str = "") -> str:
        before = contents(Path(), but)
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert contents(Path(), but) == before
        assert out == "" or but or "--csv" in arguments  # an answer is printed before its tables are written
        *notices, line = err.splitlines()
        assert all(re.fullmatch("interp: .+; not kept: .+", notice) for notice in notices), err
        assert re.fullmatch("interp: .+", line), err
        return line.removeprefix("interp: ")

    capsys.readouterr()
    return refused


def contents(folder: Path, but: str = "") -> dict[str, bytes | None]:
    paths = (path for path in sorted(folder.rglob("*")) if not but or not path.is_relative_to(but))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


def what_training_determines(folder: Path, but: str) -> dict[str, bytes | None]:
    """All of a run but when and how it was made, and what was computed from it."""
    kept = contents(folder, str(folder / but) if but else "").items()
    return {name: content for name, content in kept if not re.match(r"run\.json|results|\.lock", name)}


# ---- a full disk -----------------------------------------------------------------------------------------------------


def test_the_estimate_is_made_before_anything_is_written(refused: Refused, monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**9, 10**9 - 1000, 1000))
    complaint = refused("train", *TINY, "--out", "new")
    assert complaint.startswith("the checkpoints need about 38.0 kB and ")
    assert complaint.endswith(" has 1.0 kB left; raise training.checkpoint-every, or choose another --out")


def test_the_estimate_is_that_of_the_files(run: Path):
    written = sum(path.stat().st_size for path in [*run.glob("steps/*"), *run.glob("state/*")])
    assert written <= driver.size_on_disk(open_run(run).experiment) <= 1.5 * written + 10_000


def test_a_model_that_no_memory_holds(refused: Refused, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1}.__getitem__)
    complaint = "training needs more than 6.5 kB of memory and this machine has 4.1 kB; use a smaller model"
    assert refused("train", *TINY, "--out", "new") == complaint


@pytest.mark.parametrize("moment", [*(("fsync", n) for n in range(7)), ("bytes", 100)], ids=repr)
def test_a_disk_that_is_full_from_the_start(moment: tuple[str, int], full_disk: FullDisk, refused: Refused):
    with full_disk(*moment):
        complaint = refused("train", *TINY, "--out", "new")
    assert re.fullmatch(r"cannot write new\S*: (No space left on device|File too large)", complaint)
    with full_disk(*moment):
        assert "cannot write run" in refused("train", *TINY, "--out", "run", "--overwrite")


@pytest.mark.parametrize(
    "moment",
    [
        *(("fsync", n) for n in (7, 8, 11, 16, 17)),
        *(("write", n) for n in (0, 1, 5, 12)),
        *(("bytes", n) for n in (3000, 5200, 6500)),
    ],
    ids=repr,
)
def test_a_disk_that_fills_up_while_training(
    moment: tuple[str, int], full_disk: FullDisk, run: Path, refused: Refused, capsys: pytest.CaptureFixture[str]
):
    with full_disk(*moment):
        complaint = refused("train", *TINY, "--out", "new", but="new")
    refusal = r"cannot write (to )?new/\S+: (No space left on device|File too large); go on with: interp resume new"
    assert re.fullmatch(refusal, complaint)
    assert not list(Path("new").rglob("*.tmp"))
    # The disk has room again.
    assert main(["verify", "new"]) == 0
    # If it is complete, only the last state found no room, and no one needs that any more.
    complete = open_run("new").is_complete
    assert main(["resume", "new"]) == (2 if complete else 0)
    assert what_training_determines(Path("new"), but=complete * "state") == what_training_determines(
        run, but=complete * "state"
    )
    assert capsys.readouterr().err == complete * "interp: new is complete: it has reached step 20\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("analyze", "run", "weight_norms", "--csv", "run"),
        ("plot", "run", "weight_norms"),
        ("plot", "run", "weight_norms", "-o", "figure.json"),
        ("thin", "run", "--keep-every", "10"),
    ],
    ids=" ".join,
)
def test_no_room_for_what_a_command_writes(arguments: tuple[str, ...], full_disk: FullDisk, refused: Refused):
    with full_disk("fsync", 0):
        assert re.fullmatch(r"cannot write \S+: No space left on device(; make room .*)?", refused(*arguments))
    with full_disk("bytes", 5):
        assert re.fullmatch(r"cannot write \S+: File too large", refused(*arguments))


def test_thinning_for_want_of_room_says_what_may_be_removed(full_disk: FullDisk, run: Path, refused: Refused):
    assert list((run / "results").iterdir())
    with full_disk("fsync", 0):
        complaint = refused("thin", "run", "--keep-every", "10")
    words = "cannot write run/thinned.json: No space left on device; make room first by rm -r run/results, which is "
    assert complaint == f"{words}computed again when asked for"


def test_who_runs_out_of_room_keeps_what_there_is_room_for(full_disk: FullDisk, refused: Refused):
    """The state of the last snapshot that was written: from then on training goes on."""
    with full_disk("write", 5):
        refused("train", *TINY, "--out", "new", but="new")
    assert open_run("new").state_step == open_run("new").rows[-1]["step"]


# ---- a folder that cannot be written to ------------------------------------------------------------------------------


@contextlib.contextmanager
def as_an_ordinary_user() -> Iterator[None]:
    """The superuser may write anywhere, so the tests that it runs give up being it for a moment."""
    superuser = os.geteuid() == 0
    if superuser:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if superuser:
            os.seteuid(0)


@pytest.fixture
def readable(run: Path, tmp_path: Path) -> Iterator[None]:
    """All that is there may be read by everyone and written to by no one."""
    outer = [
        folder
        for folder in tmp_path.parents
        if folder.stat().st_uid == os.geteuid() and folder.stat().st_mode & 0o055 != 0o055
    ]
    modes = {folder: folder.stat().st_mode for folder in [*outer, tmp_path, *tmp_path.rglob("*")]}
    for path, mode in modes.items():
        path.chmod(mode | 0o055 if path in outer else 0o555 if path.is_dir() else 0o444)
    yield
    for path, mode in modes.items():
        path.chmod(mode)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("train", *TINY, "--out", "new"), "cannot write to {cwd}: Permission denied"),
        (("train", *TINY, "--out", "run", "--overwrite"), "cannot write to run: Permission denied"),
        (("thin", "run", "--keep-every", "10"), "cannot write to run: Permission denied"),
        (("plot", "run", "weight_norms"), "cannot write weight_norms.html: Permission denied"),
        (("analyze", "run", "weight_norms", "--csv", "tables"), "cannot write to tables: Permission denied"),
        (
            ("analyze", "run", "weight_norms", "--csv", "run"),
            "cannot write run/weight_norms.tensor.csv: Permission denied",
        ),
    ],
    ids=lambda value: " ".join(value[::3]) if isinstance(value, tuple) else "",
)
@pytest.mark.usefixtures("readable")
def test_a_folder_that_cannot_be_written_to(
    arguments: tuple[str, ...], expected: str, refused: Refused, tmp_path: Path
):
    with as_an_ordinary_user():
        complaint = refused(*arguments)
    assert complaint == expected.format(cwd=tmp_path)


@pytest.mark.usefixtures("readable")
def test_a_run_that_cannot_be_written_to_is_read_all_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with as_an_ordinary_user():
        for command in ("info", "verify"):
            assert main([command, "run"]) == 0
        assert main(["resume", "run"]) == 2
    assert re.fullmatch(r"interp: .*run.*\n", capsys.readouterr().err)


def test_a_folder_that_cannot_be_entered(tmp_path: Path, refused: Refused):
    Path("closed").mkdir(mode=0o700)
    Path("closed/run").mkdir()
    tmp_path.chmod(0o755)
    Path("closed").chmod(0)
    try:
        with as_an_ordinary_user():
            for arguments in (
                ("info", "closed/run"),
                ("train", *TINY, "--out", "closed/run"),
                ("train", "--config", "closed/my.toml"),
            ):
                assert main(arguments) == 2
    finally:
        Path("closed").chmod(0o700)


# ---- a run that another process has ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [("resume", "busy"), ("thin", "busy", "--keep-every", "2"), ("train", *TINY, "--out", "busy", "--overwrite")],
    ids=" ".join,
)
def test_one_writer_at_a_time(arguments: tuple[str, ...], run: Path, refused: Refused):
    with RunWriter.create("busy", *experiment_of(run)):
        assert refused(*arguments) == "busy is being written by another process"


def test_any_number_of_readers_while_it_is_written(run: Path, capsys: pytest.CaptureFixture[str]):
    finished = open_run(run)
    with RunWriter.create("busy", *experiment_of(run)) as writer:
        for step in (0, 2, 4, 5, 6, 8, 10):
            if step % 5:
                writer.log(step, {"train_loss": 1.0})
                continue
            writer.append(step, finished[step].weights, {"train_loss": finished[step].loss("train")})
            capsys.readouterr()
            for command in (["info"], ["verify"], ["analyze", "weight_norms"], ["plot", "weight_norms"]):
                assert main([command[0], "busy", *command[1:]]) == 0
            assert capsys.readouterr().err == ""
    assert open_run("busy").result("weight_norms").step.values.tolist() == [0, 5, 10]


def experiment_of(path: Path) -> tuple:
    run = open_run(path)
    return run.task, run.model, run.training
