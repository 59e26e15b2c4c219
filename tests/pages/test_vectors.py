"""The whole way of a run that is not about pairs: an MLP on digits, from training to a page without what it lacks."""

import pytest

from interp import Experiment, InputError, ModelConfig, TrainingConfig, analyze, compare
from interp.analysis import find
from interp.cli import main
from interp.experiment import Samples
from interp.explanation import explain
from interp.runs import Run, open_run
from interp.sweeps import run_experiment

ANSWERED = {"learning_curves", "norm_landscape", "weight_norms"}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    task, model = Samples(n_train=300, n_test=400), ModelConfig(family="mlp", d_mlp=32)
    training = TrainingConfig(steps=60, lr=3e-3, weight_decay=0.1, checkpoint_every=20, batch_size=100)
    return run_experiment(Experiment(task, model, training), tmp_path_factory.mktemp("vectors") / "digits")


def test_it_learns_what_the_checkpoints_say(run: Run) -> None:
    last = run.last
    assert last.logits.shape == (700, 10)
    assert last.accuracy("train") > 0.9
    assert last.accuracy("test") > 0.8  # ten classes: chance is 0.1
    logged = run.metrics.isel(step=-1)
    assert float(logged.test_accuracy) == last.accuracy("test") == last.accuracy("unmirrored")
    assert float(logged.train_loss) == pytest.approx(last.loss("train"), rel=1e-6)


def test_analyses_that_ask_for_phases_are_left_out_or_refused_by_name(run: Run) -> None:
    assert set(analyze(run)) <= ANSWERED
    assert all(find(name).is_for(run.task, run.model) for name in ANSWERED)
    with pytest.raises(InputError, match="neuron_periodicity is about pairs over Z_p, and these examples are vectors"):
        analyze(run, ["neuron_periodicity"])
    for ask in (lambda: explain(run), lambda: compare((run, 0), run)):
        with pytest.raises(InputError, match="tells of circuits on Z_p"):
            ask()
    with pytest.raises(InputError, match="frequencies are those of pairs"):
        str(run.last.key_frequencies)


@pytest.mark.parametrize("command", ["info", "verify", "analyze", "report"])
def test_commands_take_it(run: Run, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, str(run.path)]) == 0
    assert "nan" not in capsys.readouterr().out


def test_the_page_has_what_there_is_and_nothing_else(run: Run, open_page) -> None:
    assert main(["report", str(run.path)]) == 0
    page = open_page(run.path / "report.html")
    assert page.inner_text("h1") == "700 digits"
    assert "of the training examples" in page.inner_text("header")
    sections = {section.get_attribute("id") for section in page.query_selector_all("section.card")}
    assert sections - {"provenance"} == set(analyze(run))
    assert sections > {"learning_curves", "weight_norms"}
    assert page.locator(".explorer").count() == 0
    assert page.locator(".readouts").count() == 0
    page.wait_for_selector("#weight_norms .js-plotly-plot")
    assert "Embedding" not in page.inner_text("#weight_norms")
    assert page.trouble == []


def test_a_resumed_run_ends_with_the_same_weights(run: Run, tmp_path) -> None:
    again = run_experiment(run.experiment, tmp_path / "again")
    assert open_run(again.path).digests == run.digests


def test_what_needs_pairs_refuses_to_be_exported(run: Run, tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run.path), "--to", "numpy", "--out", str(tmp_path / "arrays")]) == 0
    assert main(["export", str(run.path), "--to", "huggingface", "--out", str(tmp_path / "card")]) == 2
    assert "a model card tells of circuits on Z_p" in capsys.readouterr().err
    assert not (tmp_path / "card").exists()


def test_a_notebook_shows_its_checkpoints_and_a_group_without_an_analysis_for_it_is_refused(run: Run, capsys) -> None:
    assert "key frequencies" not in run.last._repr_html_()
    assert main(["analyze", str(run.path), "circuit"]) == 2
    assert "no analysis of 'circuit' can be asked about 700 digits" in capsys.readouterr().err
