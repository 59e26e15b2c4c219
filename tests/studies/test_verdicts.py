"""Whether verdicts are right: what a network leaves for `explain`, what is counted of it, and the scores."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from interp.analysis import save_result
from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.explanation import explain
from interp.mathematics.grokking import VERDICTS
from interp.studies import verdicts
from interp.studies.every_step import count_wrong, questions
from interp.studies.verdict_networks import KINDS, kind_of, networks, seed_of
from interp.studies.verdict_scores import TRUE, scores
from interp.sweeps import GridRun, InterruptedTrainingError, run_experiment, run_grid

EXPERIMENT = Experiment(
    Task(7, train_fraction=0.5),
    ModelConfig(d_model=8, n_heads=2, d_mlp=8),
    TrainingConfig(steps=20, checkpoint_every=10, log_every=10),
)
GRID = [
    GridRun("few-steps-0-seed0", EXPERIMENT),
    GridRun("few-steps-0-seed1", replace(EXPERIMENT, task=replace(EXPERIMENT.task, seed=1))),
]


def test_what_explain_sees_is_what_training_leaves(tmp_path: Path):
    """To the last bit, weights and metrics; and the counts are those of every step, to four times the budget."""
    runs = run_grid(tmp_path / "runs", GRID[:1], processes=1, train_one=verdicts.train_one)
    [seen], plain = runs.values(), run_experiment(EXPERIMENT, tmp_path / "plain")
    assert (seen.hash, seen.steps, seen.is_complete) == (plain.hash, [0, 10, 20], True)
    assert seen.rows == plain.rows
    for step in seen.steps:
        assert seen[step].weights.keys() == plain[step].weights.keys()
        assert all((weight == plain[step].weights[name]).all() for name, weight in seen[step].weights.items())
    long = run_experiment(
        replace(EXPERIMENT, training=TrainingConfig(steps=80, checkpoint_every=1)), tmp_path / "every"
    )
    asked, counted = questions(EXPERIMENT.task), verdicts.counts_of(seen)
    assert counted.pairs.values.tolist() == [24, asked.unordered]
    assert counted.step.values.tolist() == long.steps
    for step in long.steps[::7]:
        weights = {name: weight.numpy() for name, weight in long[step].weights.items()}
        assert tuple(counted.wrong.sel(step=step).values) == count_wrong(weights, EXPERIMENT.model, asked)
        accuracy = 1 - counted.wrong.sel(step=step, split="trained").item() / 24
        assert accuracy == pytest.approx(long[step].accuracy("train"))


def test_what_is_said_is_what_explain_says(tmp_path: Path):
    """The study reads the logged metrics of a run, `explain` its result: they are one."""
    runs = run_grid(tmp_path / "runs", GRID, processes=1, train_one=verdicts.train_one)
    said = verdicts.measure(runs, verdicts.DESIGN).said.values.tolist()
    assert said == [explain(run).numbers["run"]["verdict"] for run in runs.values()]


def test_an_interrupted_study_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run that was done stays, and the one that was not is the same as without the interruption."""
    whole = run_grid(tmp_path / "whole" / "runs", GRID, processes=1, train_one=verdicts.train_one)
    asked, calls = verdicts.count_wrong, []

    def interrupting(*arguments) -> tuple[int, int]:
        calls.append(1)
        if len(calls) == 120:  # in the middle of the second
            raise KeyboardInterrupt
        return asked(*arguments)

    monkeypatch.setattr(verdicts, "count_wrong", interrupting)
    folder = tmp_path / "cut" / "runs"
    with pytest.raises(InterruptedTrainingError, match="interrupted with 1 of 2 runs done; the same command goes on"):
        run_grid(folder, GRID, processes=1, train_one=verdicts.train_one)
    monkeypatch.setattr(verdicts, "count_wrong", asked)
    [done] = folder.glob("[!.]*")
    before = (done / "metrics.jsonl").stat().st_mtime_ns
    runs = run_grid(folder, GRID, processes=1, train_one=verdicts.train_one)
    assert (done / "metrics.jsonl").stat().st_mtime_ns == before
    for name, run in runs.items():
        assert run.rows == whole[name].rows
        assert verdicts.counts_of(run).identical(verdicts.counts_of(whole[name]))


def test_counts_that_are_gone_or_impossible_are_refused(tmp_path: Path):
    run = GridRun("random-labels-0-seed0", EXPERIMENT)
    runs = run_grid(tmp_path / "runs", [run], processes=1, train_one=verdicts.train_one)
    path = verdicts.counts_path(runs[run.name].path)
    counted = verdicts.counts_of(runs[run.name])
    assert verdicts.measure(runs, verdicts.DESIGN).true.item() == "confusion"
    save_result(path, counted.assign(wrong=0 * counted.wrong))
    with pytest.raises(InputError, match="random-labels-0-seed0 generalized, which is impossible"):
        verdicts.measure(runs, verdicts.DESIGN)
    of_another = counted.assign_attrs(identity="of another run")
    for part in (counted.isel(step=slice(None, -1)), counted.drop_vars("pairs"), of_another):
        save_result(path, part)
        with pytest.raises(InputError, match=r"seed0.nc is missing or damaged"):
            verdicts.measure(runs, verdicts.DESIGN)
    counted.to_netcdf(path, engine="scipy")  # by somebody else
    expected = r"seed0.nc is missing or damaged, or not counted by you; remove .*, and the same command trains"
    with pytest.raises(InputError, match=expected):
        verdicts.measure(runs, verdicts.DESIGN)


def test_what_a_person_read_is_beside_the_verdicts(tmp_path: Path):
    runs = run_grid(tmp_path / "runs", GRID, processes=1, train_one=verdicts.train_one)
    assert verdicts.measure(runs, verdicts.DESIGN).read.values.tolist() == ["not read"] * 2
    answers = tmp_path / verdicts.ANSWERS
    answers.write_text(json.dumps({GRID[1].name: "confusion"}))
    assert verdicts.measure(runs, verdicts.DESIGN).read.values.tolist() == ["not read", "confusion"]
    answers.write_text(json.dumps({"elsewhere": "confusion"}))
    with pytest.raises(InputError, match=r"blind.json names runs that are not among those of .*: elsewhere"):
        verdicts.measure(runs, verdicts.DESIGN)
    answers.write_text(json.dumps({GRID[1].name: "groking"}))
    with pytest.raises(InputError, match=r"blind.json must give a verdict for each run that it names, one of grokking"):
        verdicts.measure(runs, verdicts.DESIGN)


@pytest.mark.parametrize("size", [31, 120])
def test_sizes_that_are_not_far_too_few_are_refused(size: int):
    with pytest.raises(InputError, match=f"give at most 30 of the 121 modulo 11, not {size}"):
        verdicts.grid(replace(verdicts.DESIGN, p=11, sizes=(20, size)))
    assert verdicts.grid(replace(verdicts.DESIGN, p=11, sizes=(30,)))


def test_every_kind_is_drawn_anew_and_always_the_same():
    """More seeds change nothing of those there were; no two networks are one; enough pairs are held out of each."""
    few, more = (networks(replace(verdicts.DESIGN, seeds=n)) for n in (2, 3))
    assert {run.name: run.experiment.hash for run in few}.items() <= {
        run.name: run.experiment.hash for run in more
    }.items()
    assert len({run.experiment.hash for run in more}) == len(more) == 3 * sum(kind.copies for kind in KINDS.values())
    assert {kind_of(run.name) for run in more} == set(KINDS)
    assert {seed_of(run.name) for run in more} == {0, 1, 2}
    for run in networks(verdicts.DESIGN):
        assert run.experiment.task.n_held_out >= 20, run.name
        assert 10 <= run.experiment.training.log_every <= 50


# ---- scores ----------------------------------------------------------------------------------------------------------


def result_of(rows: list[tuple[str, str]], *, seed: int = 1, plain: int = 0, borderline: int = 0) -> xr.Dataset:
    """A result of runs with these true verdicts, and those said."""
    n = len(rows)
    columns = {
        "true": [true for true, _ in rows],
        "said": [said for _, said in rows],
        "folder": [f"mlp-{row}-seed{seed}" for row in range(n)],
        "read": ["not read"] * n,
        "seed": [seed] * n,
        "borderline": [borderline] * n,
        "by_construction": [0] * n,
        "plain": [plain] * n,
    }
    return xr.Dataset({key: ("run", np.array(values)) for key, values in columns.items()})


PERFECT = [(verdict, verdict) for verdict in TRUE for _ in range(50)]


def verdicts_of(result: xr.Dataset) -> dict[str, str]:
    return {one.name: one.verdict for one in verdicts.predictions(result)}


def test_scores_by_hand():
    rows = [("grokking", "grokking")] * 7 + [("grokking", "unknown")] * 2 + [("grokking", "comprehension")]
    found = scores(result_of([*rows, *[("confusion", "confusion")] * 10]))
    assert found["right"]["share"] == 17 / 18
    assert found["unknown"]["share"] == 2 / 20
    assert found["recall"]["grokking"]["share"] == 0.7
    assert found["recall"]["confusion"]["share"] == 1
    assert np.isnan(found["recall"]["collapse"]["share"])
    assert found["confusion_matrix"]["grokking"] == dict(zip(VERDICTS, (7, 1, 0, 0, 0, 2), strict=True))
    # Wilson 1927 for 7 of 10, as printed in textbooks: 0.397 to 0.892.
    assert np.round(found["recall"]["grokking"]["interval_95"], 3).tolist() == [0.397, 0.892]


def test_what_is_confirmed_and_what_is_not():
    clean = verdicts_of(result_of(PERFECT, plain=1))
    assert clean == dict.fromkeys(("right", "unknown", "recall", "decided"), "confirmed")
    few = verdicts_of(result_of(PERFECT[::10]))
    assert few == {"right": "not shown", "unknown": "not shown", "recall": "not shown", "decided": "not shown"}
    for said in ("memorization", "unknown"):  # of every true verdict a fifth
        rows = [(true, true if place % 5 else said) for place, (true, _) in enumerate(PERFECT)]
        found = verdicts_of(result_of(rows, plain=1))
        assert found["recall"] == "not confirmed"
        assert found["right"] == ("not confirmed" if said == "memorization" else "confirmed")
        assert found["unknown"] == ("confirmed" if said == "memorization" else "not confirmed")
        assert found["decided"] == ("confirmed" if said == "memorization" else "not confirmed")


def test_only_clear_runs_with_odd_seeds_judge():
    wrong = [(verdict, "unknown") for verdict in TRUE for _ in range(50)]
    judged = result_of(PERFECT, plain=1)
    others = (result_of(wrong, seed=2), result_of(wrong, borderline=1))
    result = xr.concat([judged, *others], dim="run")
    assert set(verdicts_of(result).values()) == {"confirmed"}
    numbers = verdicts.predictions(result)[0].numbers
    assert numbers["constants_checked_on"]["unknown"]["share"] == numbers["borderline"]["unknown"]["share"] == 1
    assert len(numbers["not_the_true_one"]) == 500
    assert verdicts.failed_precondition(others[0]) == (
        "there is no seed that judges, which those with odd numbers do; two seeds are needed"
    )
    assert verdicts.failed_precondition(judged.isel(run=slice(200))) == "no network that judges came to collapse"


def test_the_figure_counts_all(tmp_path: Path):
    wrong = [("grokking", "unknown"), ("collapse", "grokking")]
    result = xr.concat([result_of(PERFECT + wrong), result_of(wrong, borderline=1)], dim="run")
    figure = verdicts.plot(result)
    drawn = [np.array(trace.text) for trace in figure.data if trace.type == "heatmap"]
    assert [[int(word) for word in text[text != "·"]] for text in drawn] == [[50, 1, 50, 50, 50, 1, 50], [], [1, 1]]
