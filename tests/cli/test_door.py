"""Errors that data alone can cause are one line that names the file; those that are ours are not hidden."""

import csv
import json
import os
import struct
import tomllib
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from interp.cli import door, main

READER = """
def read(path, act):
    kept = path, 1
    return act()

def command(path, act):
    folder = path.parent
    return read(path, act)
"""


def error_of(path: Path, act: Callable[[], object], module: str = "interp.somewhere") -> BaseException:
    """What `act` raises in a reader of ours that is at work on a file."""
    names: dict = {"__name__": module}
    exec(READER, names)
    try:
        names["command"](path, act)
    except Exception as error:
        return error
    raise AssertionError(f"{act} raises nothing")


def raising(error: BaseException) -> Callable[[], object]:
    def act() -> object:
        raise error

    return act


def deeper(n: int = 0) -> int:
    return deeper(n + 1)


OF_DATA = {
    "no memory": (raising(MemoryError()), "needs more memory than there is (none is left); end other programs"),
    "no memory for numpy": (
        lambda: torch.zeros(1).numpy().repeat(10**15),
        "needs more memory than there is (Un",
    ),
    "no memory for torch": (lambda: torch.empty(2**60, dtype=torch.uint8), "needs more memory than there is ("),
    "recursion": (deeper, "is nested too deeply to be read"),
    "recursion in C": (lambda: json.loads("[" * 10**6), "is nested too deeply to be read"),
    "bytes": (b"\xff".decode, "holds text that cannot be read or written ('utf-8' codec can't decode byte"),
    "letters": ("\udcff".encode, "holds text that cannot be read or written ('utf-8' codec can't encode"),
    "overflow": (lambda: int(float("inf")), "holds a number that is too large (cannot convert float infinity"),
    "digits": (lambda: int("9" * 5000), "holds a number that is too large (Exceeds the limit"),
    "end": (raising(EOFError("Ran out of input")), "ends too early"),
    "zlib": (lambda: zlib.decompress(b"x"), "is damaged (Error -"),
    "struct": (lambda: struct.unpack("<q", b"1"), "is damaged (unpack requires a buffer of 8 bytes)"),
    "csv": (raising(csv.Error("line contains NUL")), "is damaged (line contains NUL)"),
    "zip": (raising(zipfile.BadZipFile("File is not a zip file")), "is damaged (File is not a zip file)"),
    "json": (lambda: json.loads("{"), "is damaged (Expecting property name"),
    "toml": (lambda: tomllib.loads("="), "is damaged (Invalid statement"),
    "safetensors": (raising(SafetensorError("HeaderTooLarge")), "is damaged (HeaderTooLarge)"),
}
OURS = (KeyError("x"), ValueError("x"), TypeError("x"), IndexError(1), AttributeError("x"), RuntimeError("x"))


@pytest.mark.parametrize("kind", OF_DATA)
def test_what_data_can_cause_names_the_file_and_what_mends_it(kind: str, tmp_path: Path):
    act, words = OF_DATA[kind]
    file = tmp_path / "weights.pt"
    file.touch()
    said = door.of_data(error_of(file, act))
    assert said is not None
    assert said.startswith(f"{file} {words}")
    assert len(said.splitlines()) == 1
    assert said.endswith(("get it from its source again", "take a machine that has more"))


def test_of_a_file_of_a_run_the_command_says_what_is_damaged(tmp_path: Path):
    for place in ("run.json", "steps/step_000000000.safetensors"):
        file = tmp_path / "my run" / place
        file.parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "my run/run.json").touch()
        file.touch()
        said = str(door.of_data(error_of(file, OF_DATA["zlib"][0])))
        assert said.startswith(f"{file} is damaged (")
        assert said.endswith(f"; `interp verify '{tmp_path}/my run'` says what is damaged")


def test_the_innermost_of_ours_is_asked_and_then_the_command(tmp_path: Path, run: Path, monkeypatch, capsys):
    """What a library was given is not ours, and where no function of ours has a path it is the command's."""
    assert str(door.of_data(error_of(tmp_path, deeper, module="json.decoder"))) == (
        "the input is nested too deeply to be read"
    )

    def describe(run):
        raise MemoryError

    monkeypatch.setattr("interp.runs.describe", describe)
    assert main(["info", "run"]) == 2
    assert capsys.readouterr().err == (
        "interp: run needs more memory than there is (none is left); end other programs, or take a machine that has "
        "more\n"
    )


@pytest.mark.parametrize("error", OURS, ids=lambda error: type(error).__name__)
def test_a_defect_of_ours_is_not_hidden(error: Exception, run: Path, monkeypatch):
    monkeypatch.setattr("interp.runs.describe", lambda run: raising(error)())
    with pytest.raises(type(error)):
        main(["info", "run"])


def test_ctrl_c_while_python_makes_a_class_is_ctrl_c(capsys: pytest.CaptureFixture[str]):
    class Interrupted:
        def __set_name__(self, owner: type, name: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises((RuntimeError, KeyboardInterrupt)) as caught:
        type("Made", (), {"field": Interrupted()})
    assert door.leave(caught.value) == 130
    assert capsys.readouterr().err == "interp: interrupted\n"


def test_what_there_was_no_room_for_is_let_go(tmp_path: Path):
    held = []

    class Large:
        def __del__(self) -> None:
            held.append("gone")

    def act() -> object:
        large = Large()
        raise MemoryError(str(large)[:0])

    error = error_of(tmp_path, act)
    assert held == []
    door.of_data(error)
    assert held == ["gone"]


FOREIGN = {
    "deep": b"[" * 10**5,
    "deep objects": b'{"a":' * 10**5,
    "digits": b'{"step": ' + b"9" * 5000 + b"}",
    "bytes": b"\xff\xfe\x00{",
    "holes": b"\0" * 100,
    "lone surrogate": b'{"step": "\\udcff"}',
    "infinite": b'{"step": 1e400, "train_acc": [NaN, Infinity]}',
    "dots": b".".join([b"a"] * 20_000) + b" = 1",
    "field": b'step,train_acc\n1,"' + b"a" * 200_000,
}
READING = (
    ("curves", "it.json"),
    ("curves", "it.csv"),
    ("train", "--config", "it.toml"),
    ("import", "it.pt", "--dry-run"),
    ("import", "it.safetensors", "--dry-run"),
    ("info", "run"),
    ("report", "study"),
)


@pytest.mark.parametrize("kind", FOREIGN)
def test_files_of_any_content_are_one_line(kind: str, run: Path, capfd: pytest.CaptureFixture[str]):
    Path("study").mkdir()
    for name in ("it.json", "it.csv", "it.toml", "it.pt", "it.safetensors", "run/run.json", "study/summary.json"):
        Path(name).write_bytes(FOREIGN[kind])
    for arguments in READING:
        assert main(arguments) == 2, arguments
        out, err = capfd.readouterr()
        assert err.startswith("interp: ")
        assert len(err.splitlines()) == 1, arguments
        if arguments[0] != "curves":  # which tells of columns
            assert next(part for part in arguments[::-1] if not part.startswith("-")) in err
        assert out == "" or "--dry-run" in arguments


def test_a_file_of_settings_that_is_none(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    os.mkfifo(tmp_path / "fifo.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * 10**6 + b"\n")
    for name, words in (
        ("/dev/zero", "is no plain file, expected one of TOML"),
        (str(tmp_path / "fifo.toml"), "is no plain file, expected one of TOML"),
        (str(tmp_path / "large.toml"), "has more than 1,000,000 bytes; no file of settings has"),
    ):
        assert main(["train", "--config", name]) == 2
        assert capfd.readouterr().err == f"interp: {name} {words}\n"
