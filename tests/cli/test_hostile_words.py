"""Every command before a run that means harm: its folder, its notes, its metrics and its neighbors are named with codes
for the terminal, line ends, marks that turn the reading order around, and a million letters. What is printed is lines
that can be printed, and what is written holds none of it either."""

import json
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from interp.cli import COMMANDS, main
from interp.cli.output import MOST_OF_A_LIST
from interp.experiment import ModelConfig, ModuleRecord, Task
from interp.models import weight_shapes
from interp.printable import MOST_OF_A_LINE
from interp.runs import RunWriter
from interp.runs.format import run_info

CODES = "\x1b[2J\x9b31m\nFORGED verified\r\x85FORGED\u2028FORGED\u202eRTL\u2066\u200b\ufeff\x07"
NAME = f"x{CODES}\udcff"  # of files, whose bytes need be no text
WORDS = f"x{CODES}<img src=x onerror=alert(1)>"
LONG = f"{WORDS} " * (10**6 // len(WORDS))
HARM = frozenset(CODES) - frozenset("[]2J31m FORGED verified RTL\n")
NOTES = {
    "created": LONG,
    "versions": {WORDS: LONG, LONG[:1000]: WORDS},
    "recorder": {"layout": LONG},
    "imported": {
        "proof": {
            **{"accuracy": 1.0, "loss": 0.1, "verified": True, "step": 0, "operation": WORDS, "activation": LONG},
            **{"claims": [{"name": LONG, "stored": 1.0, "found": 1.0}], "doubts": [WORDS, LONG]},
        },
        **{"notes": [LONG], "files": [WORDS] * 5, "taken": LONG, "layout": WORDS, "split": LONG},
    },
}
LOGGED = {"train_loss": 2.0, "test_loss": 3.0, "train_accuracy": 0.5, "test_accuracy": 0.1}
ROWS = [LOGGED | {WORDS: 1.0, LONG[:90_000]: 2.0}] * 3


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run, the run of a module, and files of others."""
    folder = tmp_path_factory.mktemp("hostile")
    task, model = Task(7, train_fraction=0.5), ModelConfig(d_model=8, n_heads=2, d_mlp=8)
    record = ModuleRecord(source=LONG, parameters=((WORDS, (2, 2)), (LONG[:5000], (3,))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_module("interp.runs.beginning"), "run_info", lambda *given: run_info(*given) | NOTES)
        for name, one in ((NAME, model), ("module", ModelConfig(family="module", module=record))):
            with RunWriter.create(folder / name, task, one) as writer:
                for step, row in enumerate(ROWS):
                    draw = torch.Generator().manual_seed(step)
                    shapes = weight_shapes(one, 7).items()
                    writer.append(step, {name: torch.randn(shape, generator=draw) for name, shape in shapes}, row)
    rows = [f"{step},{min(1, step / 50)},{min(1, step / 90)},1" for step in range(0, 200, 10)]
    (folder / f"{NAME}.csv").write_text("\n".join([f'step,train_acc,test_acc,"{WORDS}"', *rows]))
    (folder / f"{NAME}.json").write_text(json.dumps([{LONG: 1, WORDS: 2}] * 3))
    (folder / f"{NAME}.toml").write_text(f"[{json.dumps(WORDS)}]\nx = 1\n")
    torch.save({WORDS: torch.zeros(3, 3), "b": torch.ones(4, 4), "c": torch.ones(4, 4)}, folder / f"{NAME}.pt")
    save_file({WORDS: torch.zeros(3, 3), LONG[:400]: torch.ones(4, 4)}, folder / "theirs.safetensors")
    return folder


@pytest.fixture
def here(hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    shutil.copytree(hostile, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("interp.cli.progress.LINE_INTERVAL_SECONDS", -1)
    yield tmp_path / "here"
    shutil.rmtree(tmp_path / "here")


DONE = [
    *(["list", "."], ["list", NAME], ["info", NAME], ["info", "module"], ["watch", NAME], ["watch", "module"]),
    *(["analyze", NAME, "weight_norms"], ["analyze", NAME, "weight_norms", "--csv", WORDS]),
    *(["analyze", "module", "all"], ["analyze", NAME, "weight_norms", "--json"]),
    *(["explain", NAME], ["explain", NAME, "--long"], ["explain", "module"], ["compare", f"{NAME}@0", NAME]),
    ["compare", f"{NAME}@0", NAME, "-o", f"{NAME}.html", "--no-sliders"],
    *(["plot", NAME, "weight_norms"], ["plot", "module", "weight_norms"], ["report", NAME], ["report", "module"]),
    ["plot", NAME, "weight_norms", "-o", f"{NAME}.html"],
    *(["export", NAME, "--to", form, "--out", f"{NAME}-{form}"] for form in ("numpy", "huggingface")),
    *(["thin", NAME, "--keep-every", "2"], ["analyses"], ["presets"]),
    *(["collect", "."], ["collect", ".", "--csv", f"{NAME}.table.csv"]),
    *(["curves", f"{NAME}.csv"], ["curves", f"{NAME}.csv", "--long", "-o", f"{NAME}.html"]),
]
REFUSED = [
    *(["list", LONG], ["info", LONG], ["info", f"{NAME}/none"], ["verify", NAME], ["verify", "module"]),
    *(["resume", NAME], ["analyze", NAME, NAME], ["explain", NAME, "--step", NAME], ["compare", NAME, "module"]),
    *(["compare", NAME, f"{NAME}@{NAME}"], ["plot", NAME, WORDS], ["plot", NAME, "weight_norms", "-o", NAME]),
    *(["report", NAME, "-o", f"{NAME}/no/page.html"], ["export", "module", "--to", "numpy"]),
    *(["export", NAME, "--to", WORDS], ["thin", NAME, "--keep-every", WORDS], ["curves", f"{NAME}.json"]),
    ["curves", f"{NAME}.csv", "--step", LONG],
    *(["import", f"{NAME}.pt", "--dry-run"], ["import", f"{NAME}.pt", "--out", WORDS], ["import", LONG, "--dry-run"]),
    *(["import", "theirs.safetensors", "--dry-run"], ["import", f"hf://{WORDS}", "--dry-run"]),
    *(["import", f"{NAME}.pt", "--layout", WORDS, "--dry-run"], ["import", NAME, "--dry-run"]),
    *(["train", "--config", f"{NAME}.toml"], ["train", "--preset", WORDS], ["train", f"--{WORDS}", "1"]),
    *(["train", "--task.p", LONG], ["train", WORDS], ["train", "--out", NAME], ["train", "--out", f"{NAME}.csv/x"]),
    *(
        ["sweep", f"{NAME}.toml", "--out", "s"],
        ["sweep", WORDS, "--out", "s"],
        ["collect", LONG],
        ["plot", ".", "curves"],
    ),
    *(["best", "."], ["best", LONG], ["extract", NAME, WORDS], ["extract", LONG, "add"]),
    *(["experiment", WORDS], ["experiment", "ungrokking", "--out", f"{NAME}.csv"], [WORDS], [LONG]),
]


def test_every_command_is_among_them():
    assert {arguments[0] for arguments in DONE + REFUSED} >= COMMANDS.keys()


@pytest.mark.parametrize("arguments", DONE + REFUSED, ids=lambda arguments: ascii(" ".join(arguments))[1:60])
def test_what_is_printed_and_written(arguments: list[str], here: Path, capfd: pytest.CaptureFixture[str]):
    before = {path for path in here.rglob("*") if path.is_file()}
    capfd.readouterr()
    assert main(arguments) == (0 if arguments in DONE else 2)
    printed = capfd.readouterr()
    lines = [line for text in printed for line in text.split("\n")]
    assert [line for line in lines if not line.isprintable()] == []
    assert [line for line in lines if line.lstrip().startswith("FORGED")] == []
    most = MOST_OF_A_LIST if "--dry-run" in arguments or arguments[0] in ("analyze", "collect") else MOST_OF_A_LINE
    assert max(map(len, lines)) <= most + 10
    assert len(lines) < 1_000
    for path in {path for path in here.rglob("*") if path.is_file()} - before:
        if path.suffix in (".html", ".md"):
            text = path.read_text("utf-8")
            assert not HARM & {*text}
            assert "<img src=x" not in text or path.suffix == ".md"  # in which it stands in a block of code
            assert path.suffix == ".html" or len(text) < 20_000
            assert not [line for line in text.split("\n") if line.startswith("FORGED")]
            assert path.suffix == ".md" or 'http-equiv="Content-Security-Policy" content="default-src \'none\'' in text


@pytest.mark.parametrize("arguments", [["info", NAME], ["info", "module"], ["list", "."]], ids=["a", "b", "c"])
def test_notes_are_told_in_some_hundred_letters(arguments: list[str], here: Path, capfd: pytest.CaptureFixture[str]):
    assert main(arguments) == 0
    out = capfd.readouterr().out
    assert len(out) < 20 * MOST_OF_A_LINE
    assert "[…]" in out or arguments[0] == "list"
    assert r"x\x1b[2J\x9b31m\nFORGED verified\r\x85FORGED\u2028" in out
