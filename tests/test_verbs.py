"""Every verb of the command line in Python, of the same name; and mistakes that are answered in a line."""

import inspect
import pydoc
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import interp
from interp import Experiment, ModelConfig, Task
from interp.cli import COMMANDS, main
from interp.errors import InputError
from interp.runs import weights_digest

SMALL = Experiment(
    Task(7, train_fraction=0.5),
    ModelConfig(d_model=8, n_heads=2, d_mlp=8),
    replace(interp.preset("quick").training, steps=20, checkpoint_every=5, log_every=2),
)  # as the run `original` of the tests, which the command line trained
# What the command line has that has no function of its own: what it is in Python.
OTHERWISE = {
    "train": "interp.run",
    "resume": "interp.sweeps.resume_run",
    "import": "interp.import_run",
    "export": "interp.export_run",
    "extract": "interp.runs.extract",
    "thin": "interp.runs.thin",
    "list": "interp.runs.list_runs",
    "info": "interp.runs.describe",
    "analyses": "interp.analysis.discover",
    "presets": "interp.preset",
    "experiment": "interp.studies",
    "watch": "a terminal",
}


def test_every_verb_of_the_command_line_is_one_of_python():
    assert {*COMMANDS} - {*interp.__all__} - {"train"} == {*OTHERWISE} - {"train"}
    assert {"run", "explain", "report", "compare", "analyze", "plot", "import_run", "export_run", "verify"} <= {
        *dir(interp)
    }
    for name in OTHERWISE.values():
        if name.startswith("interp."):
            assert pydoc.locate(name) is not None, name


def test_run_trains_what_the_command_line_trains(original: Path, tmp_path: Path):
    trained = interp.run(SMALL, tmp_path / "mine")
    assert trained.hash == interp.open_run(original).hash
    assert trained.digests == interp.open_run(original).digests
    assert weights_digest(trained.last.weights) == trained.digests[20]


def test_run_takes_the_name_of_a_preset_and_says_what_else_it_takes(tmp_path: Path):
    run = inspect.unwrap(interp.run)
    with pytest.raises(interp.InputError, match="unknown preset 'quik'; did you mean 'quick'"):
        run("quik", tmp_path / "mine")
    with pytest.raises(interp.InputError, match="expected an Experiment or the name of a preset, got Task"):
        run(SMALL.task, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_report_shows_every_snapshot(tmp_path: Path):
    steps = []
    interp.run(SMALL, tmp_path / "mine", report=lambda snapshot: steps.append(snapshot.step))
    assert {0, 5, 10, 15, 20} <= {*steps}


def test_python_and_the_command_line_tell_the_same(run: Path, capsys: pytest.CaptureFixture):
    opened = interp.open_run(run)
    assert main(["explain", "run"]) == 0
    assert capsys.readouterr().out.rstrip("\n") == str(opened.explain()) == str(interp.explain(run))
    assert main(["report", "run"]) == 0
    assert capsys.readouterr().out.strip() == str(opened.report()) == str(interp.report("run"))
    assert main(["plot", "run", "weight_norms", "-o", "norms.json"]) == 0
    figure = opened.plot("weight_norms", "mine.json")
    assert Path("norms.json").read_bytes() == Path("mine.json").read_bytes()
    assert figure == interp.plot("run", "weight_norms")
    assert interp.verify("run").contradictions == interp.verify(opened).contradictions == []
    assert interp.export_run("run", "numpy", "arrays").is_dir()
    capsys.readouterr()


def test_one_name_is_enough(run: Path):
    opened = interp.open_run(run)
    [one] = interp.analyze(opened, "weight_norms").values()
    assert one.identical(interp.analyze("run", ["weight_norms"])["weight_norms"])
    assert one.identical(opened.results.weight_norms)
    assert one.identical(opened.results["weight_norms"])
    with pytest.raises(interp.InputError, match="did you mean 'weight_norms'"):
        interp.analyze(opened, "weight_norm")


def test_analyses_of_a_run_complete_and_help_names_their_questions_and_parameters(run: Path):
    analyses = interp.open_run(run).analyses()
    assert set(analyses) <= set(dir(analyses))
    assert "gradient_spectrum" not in analyses  # nothing was observed
    told = pydoc.plain(pydoc.render_doc(analyses))
    assert "Does each neuron respond to one frequency of its inputs?" in told
    assert "threshold = 0.85" in told
    assert " weight_norms" in repr(analyses)
    _ = analyses.weight_norms
    assert "✓ weight_norms" in repr(analyses)
    assert "<code>weight_norms</code>" in analyses._repr_html_()
    with pytest.raises(AttributeError, match="did you mean 'weight_norms'"):
        _ = analyses.weight_norm
    with pytest.raises(interp.InputError, match="did you mean 'weight_norms'"):
        _ = analyses["weight_norm"]


def test_a_run_is_asked_for_a_checkpoint_by_its_step(run: Path):
    opened = interp.open_run(run)
    getitem = inspect.unwrap(type(opened).__getitem__)
    with pytest.raises(interp.InputError, match=r"by its step, as in run\[20\], not by 'embed'; .*run.trajectory"):
        getitem(opened, "embed")
    with pytest.raises(interp.InputError, match=r"no checkpoint of step -1; run.last is the last, and run.at\(-1\)"):
        opened[-1]
    with pytest.raises(interp.InputError, match=r"by its step, as in run\[20\], not by 1\.5"):
        getitem(opened, 1.5)


def test_a_path_is_no_weights():
    train = inspect.unwrap(interp.train)
    with pytest.raises(interp.InputError, match=r"'out' is a path, .* interp.run\(experiment, 'out'\) trains into"):
        train(SMALL, "out")  # at once, and not when the first step is asked for
    with pytest.raises(interp.InputError, match=r"interp.preset\('quick'\) makes one"):
        train("quick")


# In a process of its own: where tests run, a wrong type is refused before the function sees it.
MISTAKES = """
import sys, interp
run = interp.open_run(sys.argv[1])
for call in (
    lambda: interp.explain(run[10]),
    lambda: interp.report(run[10].weights),
    lambda: interp.analyze(run[10], "weight_norms"),
    lambda: interp.open_run(3),
    lambda: interp.plot("weight_norms", run),
    lambda: interp.Experiment(interp.Task(11), interp.TrainingConfig(steps=5)),
    lambda: interp.open_run(f"{sys.argv[1]}@10"),
):
    try:
        call()
    except interp.InputError as error:
        print(error)
"""
ANSWERED = (
    *["a run or its folder is needed, not a "] * 4,
    "unknown analysis",
    "model cannot be a TrainingConfig; write training=",
    "[10], on the command line --step 10",
)


def test_likely_mistakes_are_answered_in_a_line(run: Path):
    done = subprocess.run([sys.executable, "-c", MISTAKES, str(run)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for line, answer in zip(done.stdout.splitlines(), ANSWERED, strict=True):
        assert answer in line


def test_axes_of_a_table_may_be_a_list(run: Path):
    norms = interp.open_run(run).results.weight_norms
    assert interp.table(norms, ["tensor"]).equals(interp.table(norms, "tensor"))


def test_an_open_run_keeps_no_answer_of_what_it_was(run: Path):
    """What it read when it was opened is not what is in the folder now."""
    opened = interp.open_run(run)
    (run / "split.safetensors").unlink()
    with pytest.raises(InputError, match="split"):
        opened.explain()
    with pytest.raises(InputError, match="split"):
        interp.explain(run)


def test_a_writer_takes_an_experiment(tmp_path: Path):
    with interp.RunWriter.create(tmp_path / "mine", SMALL) as writer:
        assert writer.run.experiment == SMALL
    with pytest.raises(interp.InputError, match="an experiment alone, or a task and a model"):
        interp.RunWriter.create(tmp_path / "other", SMALL.task)
    with pytest.raises(interp.InputError, match="an experiment alone, or a task and a model"):
        interp.RunWriter.create(tmp_path / "other", SMALL, SMALL.model)
    assert not (tmp_path / "other").exists()
