"""Every command and every Python example of README and docs is run. Training is cut to a few steps of a small network."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from interp.cli import main

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]
SMALL = ["--training.steps", "20", "--model.d-model", "8", "--model.d-mlp", "16", "--model.n-heads", "2"]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


# An experiment on a few networks of a few steps.
TINY = shlex.split("--p 11 --sizes 10 60 --weight-decays 1 --seeds 1 --duration 0.05 --d-model 8 --d-mlp 16 --processes 1")


def _cut_down(words: list[str]) -> list[str]:
    if words[1] == "experiment":
        return TINY
    if words[1] != "train":
        return []
    return SMALL[:-2] if "mlp" in words else SMALL  # an MLP has no heads


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder like a checkout: the reference run is there, and so is every file that a page shows."""
    reference = tmp_path / "checkpoints" / "reference"
    shutil.copytree(ROOT / "checkpoints" / "reference", reference, ignore=shutil.ignore_patterns("__pycache__", "__init__.py"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_every_command_works(page, workplace, capsys):
    for text in blocks(page, "toml"):
        (workplace / text.splitlines()[0].removeprefix("# ")).write_text(text, encoding="utf-8")
    for line in "\n".join(blocks(page, "bash")).splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[0] == "interp" and words[1] == "resume":
            # The page speaks of a run that was stopped; the one before was not.
            assert main(words[1:]) == 2
            assert "complete" in capsys.readouterr().err
        elif words[0] == "interp":
            assert main([*words[1:], *_cut_down(words)]) == 0, (line, capsys.readouterr().err)
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), line
        else:
            # Installing is what the Makefile does, and a clean clone shows it.
            assert words[:4] == ["pip", "install", "-c", "constraints.txt"], f"{page} shows a command that no test knows: {line}"
            assert (ROOT / words[3]).is_file()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_every_python_example_works(page, workplace):
    for number, text in enumerate(blocks(page, "python")):
        exec(compile(text, f"{page}, example {number + 1}", "exec"), {"__name__": "__main__"})


def test_what_the_pages_say_of_the_reference_run():
    import interp

    run = interp.open_run(interp.reference_path())
    assert run.key_frequencies == [3, 11, 12]
    assert run.steps[:4] == [0, 1, 2, 3]
    assert int((run.result("neuron_periodicity").fraction_explained.sel(step=3000) >= 0.85).sum()) == 121
    metrics = run.metrics.sel(step=400)
    assert metrics.test_accuracy == pytest.approx(0.4, abs=0.05)
    assert metrics.unmirrored_test_accuracy < 0.05
