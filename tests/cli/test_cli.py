"""The commands, run for real on tiny runs: what they print, what they write, and the code they end with."""

import ast
import csv
import json
import math
import re
import resource
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from interp.analysis import discover
from interp.cli import COMMANDS, commands, main, progress
from interp.cli.options import option_names
from interp.experiment import PRESETS, Operations, Samples, preset
from interp.runs import RunWriter, open_run
from interp.studies import NAMES

INTERP = Path(sysconfig.get_path("scripts")) / "interp"

TINY = (
    *("--task.p", "7", "--task.train-fraction", "0.5"),
    *("--model.d-model", "8", "--model.n-heads", "2", "--model.d-mlp", "8"),
    *("--training.steps", "20", "--training.checkpoint-every", "5", "--training.log-every", "2"),
)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "LINE_INTERVAL_SECONDS", 1000)  # a busy machine has more to say


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["train", *TINY, "--out", "run"]) == 0
    capsys.readouterr()
    return Path("run")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that succeeds prints; without a terminal it has nothing to say on stderr."""
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def refuse(constant: str):
    raise AssertionError(f"{constant} is not JSON")


# ---- help ------------------------------------------------------------------------------------------------------------


def test_the_commands_that_are_listed_are_those_that_there_are():
    found = {
        f"{module.stem}.{node.name}"
        for module in Path(str(commands.__file__)).parent.glob("*.py")
        for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.ClassDef) and any(getattr(part, "name", "") == "run" for part in node.body)
    }
    assert sorted(place for place, _ in COMMANDS.values()) == sorted(found)


def test_the_help_of_experiments_names_them_all():
    assert all(name in str(commands.command_class("experiment").__doc__) for name in NAMES)


def test_help_comes_at_once():
    """Within less than half a second of the processor's time: that of the clock depends on what else is running."""

    def used() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime

    seconds = []
    for _ in range(3):
        before = used()
        done = subprocess.run([INTERP, "--help"], capture_output=True, text=True, check=True)
        seconds.append(used() - before)
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    assert min(seconds) < 0.4


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_every_way_to_ask_for_help(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    assert said(capsys, *arguments).startswith("usage: interp COMMAND")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_its_options(name: str, capsys: pytest.CaptureFixture[str]):
    text = said(capsys, name, "--help")
    assert text.startswith(f"usage: interp {name} ")
    assert ">>>" not in text
    kind = commands.command_class(name)
    default = kind.defaults([]) if hasattr(kind, "defaults") else None
    assert set(re.findall(r"(?<=[ ,])--[a-z][a-z0-9.-]*", text)) == set(option_names(kind, default=default))


@pytest.mark.parametrize("name", ["experiment", "compare", "import"])
def test_what_a_command_needs_is_shown_as_required(name: str, capsys: pytest.CaptureFixture[str]):
    needed = said(capsys, name, "--help").split("positional arguments")[1].split("-h, --help")[0]
    assert "(required)" in needed
    assert "(default:" not in needed


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]):
    from importlib.metadata import version

    assert said(capsys, "--version") == f"interp {version('interp')}\n"


# ---- train, resume, list, info, thin ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "announced", "progress"),
    [
        (["--task.train-fraction", "1.0"], "20 steps, 5 checkpoints", "no test pairs"),
        (["--training.steps", "0"], "0 steps, 1 checkpoint, about", "test accuracy"),
        (["--seeds", "2"], "2 seeds, 20 steps, 5 checkpoints", "mean over 2 seeds: loss train"),
    ],
)
def test_progress_says_what_its_numbers_are(
    options: list[str], announced: str, progress: str, capsys: pytest.CaptureFixture[str]
):
    headline, *lines = said(capsys, "train", *TINY, *options, "--out", "run").splitlines()
    assert announced in headline
    assert progress in lines[0]
    assert "nan" not in "".join(lines)


def test_a_run_is_announced_with_its_size(capsys: pytest.CaptureFixture[str]):
    out = said(capsys, "train", *TINY, "--out", "deep/run").splitlines()
    assert out[0] == "training deep/run: 20 steps, 5 checkpoints, about 38.0 kB"
    assert out[1].startswith("step  0/20  loss train ")
    assert out[-2].startswith("step 20/20  loss train ")
    assert out[-1] == "done: interp report deep/run"


def test_without_a_name_every_run_gets_a_fresh_one(capsys: pytest.CaptureFixture[str]):
    for _ in range(3):
        said(capsys, "train", *TINY)
    first, second, third = sorted(Path("checkpoints").iterdir())
    assert first.name == f"add-p7-{open_run(first).hash[:6]}"
    assert (second.name, third.name) == (f"{first.name}-2", f"{first.name}-3")


def test_overwriting_replaces_the_run(run: Path, capsys: pytest.CaptureFixture[str]):
    said(capsys, "train", *TINY, "--training.steps", "10", "--out", str(run), "--overwrite")
    assert open_run(run).steps == [0, 5, 10]


def test_runs_are_listed_at_any_depth(run: Path, capsys: pytest.CaptureFixture[str]):
    said(capsys, "train", *TINY, "--out", "deep/er/second", "--task.operation", "subtract")
    Path("broken").mkdir()
    Path("broken/run.json").write_text("{")
    broken, second, first = said(capsys, "list", ".").splitlines()
    assert broken.split()[:2] == ["broken", "unreadable:"]
    assert second.startswith("deep/er/second ")
    assert "subtract modulo 7" in second
    assert f"5 checkpoints, complete, test accuracy {open_run(run).metrics.test_accuracy.values[-1]:.1%}" in first
    Path("empty").mkdir()
    assert said(capsys, "list", "empty") == "no runs under empty; `interp train` makes one\n"


def test_info_says_what_a_run_is(run: Path, capsys: pytest.CaptureFixture[str]):
    lines = dict(line.split(maxsplit=1) for line in said(capsys, "info", str(run)).splitlines())
    assert lines["hash"] == open_run(run).hash
    assert lines["task"] == "add modulo 7; 24 of 49 pairs trained on (49.0%), 9 independent ones held out, seed 0"
    assert "d-model 8, n-heads 2" in lines["model"]
    assert "steps 20, optimizer adamw" in lines["training"]
    assert lines["checkpoints"].endswith("from step 0 to 20")


def test_info_and_list_of_a_run_without_training_and_of_one_without_checkpoints(capsys: pytest.CaptureFixture[str]):
    experiment = preset("reference")
    RunWriter.create("bare", experiment.task, experiment.model).close()
    assert "not trained here" in said(capsys, "info", "bare")
    assert "no checkpoints yet" in said(capsys, "list", ".")


def test_thinning_keeps_the_ends_and_the_metrics(run: Path, capsys: pytest.CaptureFixture[str]):
    before = (run / "metrics.jsonl").read_bytes()
    assert said(capsys, "thin", str(run), "--keep-every", "10") == "run: removed 2 checkpoints, kept 3\n"
    assert open_run(run).steps == [0, 10, 20]
    assert (run / "metrics.jsonl").read_bytes() == before
    said(capsys, "thin", str(run), "--keep-every", "1000")
    assert open_run(run).steps == [0, 20]
    said(capsys, "verify", str(run))


# ---- analyses and figures --------------------------------------------------------------------------------------------


def test_the_json_of_all_analyses_is_strict(run: Path, capsys: pytest.CaptureFixture[str]):
    summaries = json.loads(said(capsys, "analyze", str(run), "all", "--json"), parse_constant=refuse)
    assert list(summaries) == of_one_table()
    last = open_run(run).metrics.sel(step=20)
    assert math.isclose(summaries["learning_curves"]["final_test_loss"], float(last.test_loss), rel_tol=1e-12)


def of_one_table() -> list[str]:
    """The analyses that "all" stands for, of a run of one operation."""
    return [
        name for name, one in discover().items() if not (one.observes or one.on_request) and one.asks != "operations"
    ]


def core() -> set[str]:
    return {name for name in of_one_table() if discover()[name].core}


def test_without_names_the_core_is_analyzed_and_a_group_by_its_name(run: Path, capsys: pytest.CaptureFixture[str]):
    assert set(json.loads(said(capsys, "analyze", str(run), "--json"))) == core()
    of_group = set(json.loads(said(capsys, "analyze", str(run), "norms", "clock_pizza", "--json")))
    assert of_group == {"weight_norms", "norm_account", "norm_landscape", "clock_pizza"}
    assert main(["analyze", str(run), "norm"]) == 2
    assert capsys.readouterr().err == "interp: unknown analysis 'norm'; did you mean 'norms'?\n"


def test_the_report_shows_the_core_what_is_there_and_what_is_asked_for(run: Path, capsys: pytest.CaptureFixture[str]):
    def shown(*names: str) -> set[str]:
        said(capsys, "report", str(run), *names)
        return {name for name in discover() if f'<section id="{name}"' in Path("run/report.html").read_text()}

    assert shown() == core()
    said(capsys, "analyze", str(run), "representation")
    assert shown() == core() | {"representation"}
    assert shown("norms") == core() | {"representation", "norm_account", "norm_landscape"}
    (run / "results" / "representation.nc").write_bytes(b"damaged")
    assert shown() == core() | {"norm_account", "norm_landscape"}


def test_one_analysis_in_words(run: Path, capsys: pytest.CaptureFixture[str]):
    text = said(capsys, "analyze", str(run), "weight_norms")
    assert text.startswith(f"weight_norms: {discover()['weight_norms'].title}\n  first step: 0\n")
    assert "learning_curves" not in text


def test_an_explanation_in_words_and_in_strict_json(run: Path, capsys: pytest.CaptureFixture[str]):
    assert said(capsys, "explain", str(run)).strip()
    numbers = json.loads(said(capsys, "explain", str(run), "--step", "10", "--json"), parse_constant=refuse)
    assert numbers != json.loads(said(capsys, "explain", str(run), "--json"), parse_constant=refuse)
    assert main(["explain", str(run), "--step", "11"]) == 2
    assert capsys.readouterr().err == "interp: run has no checkpoint of step 11; the nearest is 10\n"


def test_tables_hold_the_numbers_of_the_results(run: Path, capsys: pytest.CaptureFixture[str]):
    said(capsys, "analyze", str(run), "all", "--csv", "new/tables")
    names = {path.name.split(".")[0] for path in Path("new/tables").iterdir()}
    assert names == {*of_one_table()}
    result = open_run(run).result("weight_norms")
    for name, variables in {"weight_norms.csv": "step", "weight_norms.tensor.csv": "tensor"}.items():
        with open(f"new/tables/{name}", newline="") as file:
            rows = list(csv.DictReader(file))
        wanted = [v for v in result.data_vars if result[v].dims[-1] == variables and result[v].ndim <= 2]
        assert wanted
        for variable in wanted:
            values = np.array([float(row[variable]) for row in rows])
            np.testing.assert_allclose(values, result[variable].values.ravel(), rtol=1e-6)


def test_a_figure_is_a_page_or_json(run: Path, capsys: pytest.CaptureFixture[str]):
    assert said(capsys, "plot", str(run), "learning_curves") == "learning_curves.html\n"
    assert said(capsys, "plot", str(run), "learning_curves", "-o", "figure.json") == "figure.json\n"
    page, figure = (
        Path("learning_curves.html").read_text(),
        json.loads(Path("figure.json").read_text(), parse_constant=refuse),
    )
    assert page.lower().startswith("<!doctype html>")
    assert "<script src=" not in page
    title = figure["layout"]["title"]["text"]
    assert title.startswith("<b>Learning curves")
    assert title.split("<br>")[0].removeprefix("<b>").removesuffix("</b>") in page
    assert figure["data"]


def test_the_report_is_one_page(run: Path, capsys: pytest.CaptureFixture[str]):
    assert said(capsys, "report", str(run)) == "run/report.html\n"
    assert said(capsys, "report", str(run), "-o", "elsewhere.html") == "elsewhere.html\n"
    assert Path("elsewhere.html").read_text().lower().startswith("<!doctype html>")


def test_long_work_says_how_far_it_is(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress, "LINE_INTERVAL_SECONDS", -1)
    assert main(["verify", str(run)]) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [f"{done} of 5 checkpoints" for done in range(5)]
    assert captured.out.endswith("run: nothing contradicts anything else\n")


def test_analyses_and_presets_are_listed_with_what_they_are(capsys: pytest.CaptureFixture[str]):
    *lines, told, of_modules = said(capsys, "analyses").splitlines()
    of_several = " [of several operations in one network]"
    groups: dict[str, dict[str, str]] = {}
    for line in lines:
        if not line.startswith(" "):
            groups[line] = {}
        else:
            mark, name, title = re.fullmatch(r"  ([* ]) (\w+) +(.*)", line).groups()
            groups[list(groups)[-1]][name] = mark
            title, _, observed = title.partition(" [of runs trained with --observe ")
            assert observed == "gradients]" * (name == "gradient_spectrum")
            assert (discover()[name].asks == "operations") == title.endswith(of_several)
            title = title.removesuffix(of_several)
            title, _, too = title.partition(" [modules too")
            assert title.endswith(" (not among all)") == discover()[name].on_request
            title = title.removesuffix(" (not among all)")
            assert title == discover()[name].title
            reads = {"": ("network",), "]": (), ", with neurons]": ("neurons",)}[too]
            assert discover()[name].reads == reads
    assert {name: group for group, names in groups.items() for name in names} == {
        name: analysis.group for name, analysis in discover().items()
    }
    marked = {name for names in groups.values() for name, mark in names.items() if mark == "*"}
    assert marked == core() | {"operations"}
    assert next(iter(groups)) == "dynamics"
    assert list(groups["dynamics"])[:2] == ["transitions", "learning_curves"]  # what happened comes first
    assert told.startswith("* the core")
    assert of_modules.startswith("[modules too]: ")
    assert [line.split()[0] for line in said(capsys, "presets").splitlines()] == list(PRESETS)


# ---- the output itself -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sink", "code"), [("exec >/dev/full", 2), ("exec > >(exit)", 141), ("exec >&-", 0)])
def test_an_output_that_takes_nothing_is_no_traceback(sink: str, code: int):
    # The little sleep lets the reader of the pipe go away first.
    done = subprocess.run(
        ["bash", "-c", f"{sink}; sleep 0.3; exec {INTERP} --help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert done.stderr == ("interp: cannot write the output: No space left on device\n" if code == 2 else "")


def test_the_module_is_what_the_command_runs():
    code = "import sys; from interp.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, "presets"], capture_output=True, text=True, check=True)
    assert done.stdout == subprocess.run([INTERP, "presets"], capture_output=True, text=True, check=True).stdout


def test_a_file_whose_task_is_of_vectors_has_their_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "digits.toml"
    file.write_text('[task]\nkind = "samples"\nn-train = 60\nn-test = 40\n[model]\nfamily = "mlp"\nd-mlp = 8\n')
    given = ["--config", str(file), "--task.n-train", "50", "--training.steps", "3", "--out", str(tmp_path / "run")]
    assert main(["train", *given]) == 0
    assert open_run(tmp_path / "run").task == Samples(n_train=50, n_test=40)
    assert main(["train", "--config", str(file), "--task.p", "7"]) == 2
    assert "unknown option --task.p" in capsys.readouterr().err


def test_several_operations_are_named_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    small = ["--model.d-model", "8", "--model.d-mlp", "8", "--task.p", "7", "--training.steps", "3"]
    run = tmp_path / "run"
    given = ["--task.operations", "add", "random", "--task.train-fraction", "0.4", "0.8", "--task.seed", "2"]
    assert main(["train", *small, *given, "--out", str(run)]) == 0
    assert open_run(run).task == Operations(7, ("add", "random"), (0.4, 0.8), seed=2)
    assert open_run(run).model.prompt == "aob="
    # The share of the preset is that of each.
    mlp = ["--model.family", "mlp", "--model.d-mlp", "8", "--task.p", "7", "--training.steps", "3"]
    assert main(["train", *mlp, "--task.operations", "add", "subtract", "--out", str(tmp_path / "mlp")]) == 0
    assert open_run(tmp_path / "mlp").task == Operations(7, train_fraction=(0.36,))
    assert main(["extract", str(run), "add"]) == 0
    assert open_run(tmp_path / "run-add").task.title == "add modulo 7"
    capsys.readouterr()
    refused = {
        ("extract", str(run), "multiply"): "this network has the operations add, random, and not 'multiply'",
        ("train", "--task.operations", "add"): "--task.operation",
        (
            "train",
            "--task.operations",
            "add",
            "subtract",
            "--task.operation",
            "add",
        ): "unknown option --task.operation;",
        ("train", "--task.operations", "add", "substract"): "did you mean 'subtract'",
        ("train", "--task.operations", "add", "random", "--model.prompt", "ab="): "give 'aob='",
        ("explain", str(tmp_path / "none")): "there is no run",
    }
    for arguments, words in refused.items():
        assert main([*arguments]) == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1
