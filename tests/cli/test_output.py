"""The one place where the command line speaks: what it prints can be printed anywhere, or is given up with one line."""

import ast
import io
import os
import pty
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

import interp
from interp.cli import main, output

INTERP = Path(sysconfig.get_path("scripts")) / "interp"
REFERENCE = interp.reference_path()
CODES = "x\x1b[2J\nFORGED\u2028FORGED\u202e\udcff"


def shell(words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", words], capture_output=True, text=True, env=os.environ | environment, check=False
    )


def test_nothing_else_writes_to_a_terminal():
    """Every print of the package, and every write to a stream, is in output.py; a console of rich is given `drawn`
    texts, and its own, in watching.py alone, hold curves and numbers."""
    root, found = Path(interp.__file__).parent, []
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root).as_posix()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and place != "cli/output.py":
                called = ast.unparse(node.func)
                given = ast.unparse(node.args[0]) if node.args else "grid"
                if (
                    called in ("print", "sys.stdout.write", "sys.stderr.write")
                    or (called.endswith("console.print") and not given.startswith(("drawn(", "grid")))
                    or (called == "Text" and place != "cli/watching.py")
                ):
                    found.append(f"{place}:{node.lineno}: {called}")
    assert found == []


def test_one_call_is_one_line(capsys: pytest.CaptureFixture[str]):
    output.say(CODES)
    output.say(CODES, on_stderr=True)
    output.say_lines(f"one\ntwo {CODES[:6]}")
    output.say_json({CODES: 1.5})
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        r"x\x1b[2J\nFORGED\u2028FORGED\u202e\xff",
        "one",
        r"two x\x1b[2J",
        "",
        "{",
        r'  "x\u001b[2J\nFORGED\u2028FORGED\u202e\udcff": 1.5',
        "}",
    ]
    assert told.err == "x\\x1b[2J\\nFORGED\\u2028FORGED\\u202e\\xff\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_few_letters_are_enough(encoding: str, monkeypatch: pytest.MonkeyPatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    output.prepare()
    output.say("W → ½ · λ ≥ 1,000 … Σ₁ 東 ⣿▆")
    told = raw.getvalue().decode(encoding)
    assert told.isascii() or encoding != "ascii"
    assert "W -> " in told
    assert ">=" in told or encoding == "cp437"  # which has it
    assert r"\u6771" in told


@pytest.mark.parametrize("locale", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_a_terminal_without_our_letters_is_told_the_same(locale: dict[str, str]):
    done = shell(f"{INTERP} presets && {INTERP} nowhere·", **locale)
    assert done.returncode == 2
    assert done.stdout.isascii() or "LC_ALL" in locale
    assert done.stdout.splitlines()[0].startswith("quick ")
    assert done.stderr.startswith("interp: unknown command")


@pytest.mark.parametrize(
    ("streams", "code"), [(">&-", 0), ("2>&-", 0), ("<&-", 0), ("2>/dev/full", 0), (">/dev/full", 2), ("| true", 141)]
)
def test_streams_that_are_closed_or_full(streams: str, code: int):
    done = shell(f"set -o pipefail; {INTERP} presets {streams}")
    assert done.returncode == code
    assert done.stderr == ("interp: cannot write the output: No space left on device\n" if code == 2 else "")


def test_nothing_that_was_meant_for_a_closed_stream_ends_up_in_a_file(tmp_path: Path):
    small = "--task.p=7 --model.d-model=8 --model.n-heads=2 --model.d-mlp=8 --training.steps=20"
    assert shell(f"cd {tmp_path}; {INTERP} train {small} --out run <&- >&- 2>&-").returncode == 0
    assert interp.open_run(tmp_path / "run").is_complete
    assert main(["verify", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize("streams", ["2>&-", "2>/dev/full"])
def test_an_error_that_nobody_can_be_told_is_told_by_the_code(streams: str):
    done = shell(f"{INTERP} nowhere {streams}")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.6, 1.5])
def test_ctrl_c_at_any_moment_is_one_line(seconds: float, tmp_path: Path):
    """Pressed twice, too: the second time while it goes down."""
    arguments = [INTERP, "report", REFERENCE, "-o", tmp_path / "page.html"]
    began = time.monotonic()
    subprocess.run([INTERP, "--version"], check=True, capture_output=True)
    start = time.monotonic() - began  # of Python itself, which takes longer where others are busy, and is not ours
    running = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0)
    time.sleep(start + seconds)
    os.killpg(running.pid, signal.SIGINT)
    time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=900)
    assert "Traceback" not in err
    assert (running.returncode, out) in ((130, ""), (-signal.SIGINT, ""), (0, f"{tmp_path}/page.html\n"))
    assert not list(tmp_path.glob(".*"))


def on_a_terminal(*arguments: str | Path) -> str:
    """What a command shows on a terminal, codes and all."""
    parent, child = pty.openpty()
    running = subprocess.Popen([INTERP, *arguments], stdout=child, stderr=child, env=os.environ | {"COLUMNS": "150"})
    os.close(child)
    shown = b""
    while True:
        try:
            shown += (piece := os.read(parent, 65536))
        except OSError:  # as Linux says that the other end is closed
            piece = b""
        if not piece:
            break
    os.close(parent)
    assert running.wait() == 0
    return shown.decode()


@pytest.mark.parametrize("command", ["watch", "compare", "info"])
def test_screens_of_a_terminal_hold_no_codes_but_ours(command: str, run: Path):
    named = run.rename(CODES)
    shown = on_a_terminal(command, *((f"{CODES}@0", REFERENCE) if command == "compare" else (named,)))
    assert r"x\x1b[2J\nFORGED\u2028" in shown.replace("\r\n", "").replace(" ", "")
    assert "\x1b[2J" not in shown
    assert not {"\u2028", "\u202e"} & {*shown}
    assert not [line for line in shown.splitlines() if line.startswith("FORGED")]
