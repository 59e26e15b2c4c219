"""What was told of a run is told again at once, as long as nothing that it was told from has changed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from interp.analysis import Answers, answers, tell
from interp.cli import main
from interp.explanation import REQUESTED, explain
from interp.explanation.explaining import REQUESTED_NAMES

ASKED = {
    "explain": ["explain", "run"],
    "its numbers": ["explain", "run", "--step", "10", "--json"],
    "analyze": ["analyze", "run", "--json"],
    "its lines": ["analyze", "run", "weight_norms", "learning_curves"],
    "report": ["report", "run"],
    "info": ["info", "run"],
    "list": ["list", "."],
}

# Runs commands in a fresh interpreter; tells what they printed, what was loaded, and the checkpoints that were opened.
LOOKING = """
import contextlib, io, json, sys
opened = []
sys.addaudithook(lambda event, given: opened.append(str(given[0])) if event == "open" else None)
from interp.cli import main
told = []
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main(arguments) == 0
    told.append(said.getvalue())
heavy = {"torch", "xarray", "pandas", "scipy", "sklearn", "plotly", "transformer_lens"}
read = [name for name in opened if "step_" in name and name.endswith("safetensors")]
print(json.dumps({"told": told, "loaded": sorted(heavy & sys.modules.keys()), "read": len(read)}))
"""


def looked_at(*commands: list[str]) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", LOOKING, json.dumps(commands)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_what_was_told_is_told_again_without_torch_and_without_a_checkpoint(run, capsys):
    told = {}
    for name, arguments in ASKED.items():
        assert main(arguments) == 0
        told[name] = capsys.readouterr().out
    page = Path("run/report.html")
    written = page.stat().st_mtime_ns
    again = looked_at(*ASKED.values())
    assert dict(zip(ASKED, again["told"], strict=True)) | {"info": ""} == told | {"info": ""}  # which tells its size
    assert (again["loaded"], again["read"]) == ([], 0)
    assert page.stat().st_mtime_ns == written


def test_what_is_told_again_is_equal_in_every_value(run):
    assert explain(run, 10) == explain(run, 10)
    assert tell(run, ["transitions", "circuit_split"]) == tell(run, ["transitions", "circuit_split"])
    assert len(list(run.glob("results/*.answer"))) == 2


def test_the_look_itself_can_see_a_checkpoint_and_torch(run):
    looked = looked_at(["analyze", "run", "weight_norms", "--json"])
    assert "torch" in looked["loaded"]
    assert looked["read"] >= 5


def append_a_line(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write("{}\n")


CHANGES = {
    "a checkpoint was touched": lambda run: os.utime(run / "steps/step_000000010.safetensors"),
    "a checkpoint is gone": lambda run: (run / "steps/step_000000005.safetensors").unlink(),
    "a line more": append_a_line,
    "it was copied": lambda run: (shutil.copytree(run, "copy"), shutil.rmtree(run), os.rename("copy", run)),
    "the answer was changed": lambda run: change(run / "results/count.answer"),
    "it is the answer to something else": lambda run: os.rename(
        run / "results/count-0e1b2e.answer", run / "results/count.answer"
    ),
    "the answer is a link": lambda run: link(run / "results/count.answer"),
}


def change(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"53", b"54", 1))


def link(file: Path) -> None:
    os.rename(file, "elsewhere")
    file.symlink_to(Path("elsewhere").resolve())


@pytest.mark.parametrize("what", CHANGES)
def test_of_a_run_that_changed_nothing_is_told_again(run, what):
    Answers(run).keep("count", {}, 53)
    Answers(run).keep("count", {"step": 10}, 53)
    [other] = run.glob("results/count-*.answer")
    os.rename(other, run / "results/count-0e1b2e.answer")
    assert Answers(run).find("count", {}) == 53
    CHANGES[what](run)
    assert Answers(run).find("count", {}) is None


def test_other_code_tells_anew(run, monkeypatch):
    Answers(run).keep("count", {}, 53)
    monkeypatch.setattr(answers, "of_code", lambda: "another")
    assert Answers(run).find("count", {}) is None


def test_what_was_told_of_a_run_that_grew_meanwhile_is_not_kept(run):
    before = Answers(run)
    append_a_line(run)
    before.keep("count", {}, 53)
    assert not list(run.glob("results/*.answer"))


def test_a_page_that_was_changed_or_lacks_a_result_is_made_again(run, capsys):
    page = run / "report.html"
    assert main(["report", "run"]) == 0
    whole = page.read_text()
    page.write_text("mine")
    assert main(["report", "run"]) == 0
    assert "mine" not in page.read_text()[:10]
    assert main(["analyze", "run", "norm_account"]) == 0
    assert main(["report", "run"]) == 0
    assert "norm_account" in page.read_text()
    assert "norm_account" not in whole
    capsys.readouterr()


def test_what_was_asked_for_since_is_told(run, capsys):
    """An explanation has a sentence for every result that was asked for by name, also where it was kept before."""
    assert set(REQUESTED_NAMES) == set(REQUESTED)
    assert main(["explain", "run", "--long"]) == 0
    assert "Graduation" not in capsys.readouterr().out
    assert main(["analyze", "run", "graduation"]) == 0
    assert main(["explain", "run", "--long"]) == 0
    assert "Graduation" in capsys.readouterr().out


def test_an_error_is_not_kept(run, capsys):
    for _ in range(2):
        assert main(["explain", "run", "--step", "11"]) == 2
        assert "the nearest is 10" in capsys.readouterr().err
