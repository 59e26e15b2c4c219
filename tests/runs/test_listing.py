"""Lists of runs: which, in which order, and what their curves tell."""

import math
from pathlib import Path
from typing import Any

import pytest

import interp
from interp.errors import InputError
from interp.mathematics import grokking
from interp.models import initial_weights
from interp.runs import Run, RunWriter, ending_of, events_of, list_runs, open_run

STEPS = range(0, 2000, 50)


def written(path: Path, *, generalized_at: float, weight_decay: float, seed: int = 0, diverged: bool = False) -> Run:
    """A run whose curves are planted: train pairs are known from step 100 on, held-out pairs from another."""
    task = interp.Task(43, train_fraction=0.45, seed=seed)
    model = interp.ModelConfig(d_model=4, n_heads=1, d_mlp=4, seed=seed)
    training = interp.TrainingConfig(steps=STEPS[-1], weight_decay=weight_decay, seed=seed)
    with RunWriter.create(path, task, model, training) as writer:
        for step in STEPS:
            known = {"train": float(step >= 100), "test": 1.0 if step >= generalized_at else 0.1}
            accuracy = known | {"unmirrored_test": known["test"]}
            metrics = {f"{name}_accuracy": value for name, value in accuracy.items()}
            metrics |= {f"{name}_loss": 0.001 if value == 1 else 5.0 for name, value in accuracy.items()}
            if step == STEPS[-1] and not diverged:
                writer.append(step, initial_weights(model, task.p), metrics)
            elif step < STEPS[-1]:
                writer.log(step, metrics)
        if diverged:
            writer.log_divergence(STEPS[-1])
        writer.finish()
    return open_run(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    written(folder / "a", generalized_at=1000, weight_decay=1.0)
    written(folder / "b", generalized_at=500, weight_decay=3.0, seed=1)
    written(folder / "c", generalized_at=math.inf, weight_decay=0.1)
    written(folder / "deep" / "d", generalized_at=math.inf, weight_decay=0.3, diverged=True)
    return folder


def names(folder: Path, **options: Any) -> list[str]:
    return [Path(line.split()[0]).name for line in list_runs(folder, **options)]


def test_the_line_tells_what_happened(folder: Path) -> None:
    a, _, c, d = list_runs(folder)
    assert a.endswith("1 checkpoint, complete, test accuracy 100.0%; grokking, generalized at step 1,000")
    assert c.endswith("; memorization, from step 100 on")
    assert d.endswith("diverged at step 1,950 of 1,950, test accuracy 10.0% before")


def test_the_ending_of_a_run(folder: Path) -> None:
    end = ending_of(open_run(folder / "a"))
    assert (end.state, end.step, end.verdict) == ("complete", 1950, "grokking")
    assert (end.memorized_at, end.generalized_after, end.generalized_at) == (100, 950, 1000)
    lost = ending_of(open_run(folder / "deep" / "d"))
    assert (lost.state, lost.verdict, lost.in_words) == ("diverged", "diverged", "diverged")
    assert lost.metrics["test_accuracy"] == 0.1  # the last that were finite


def test_the_events_are_those_of_the_curves(folder: Path) -> None:
    """Without datasets, the same."""
    for path in (folder / "a", folder / "deep" / "d", interp.reference_path()):
        run = open_run(path)
        known = {f"{split}_pairs": int(run.task.mask(split).sum()) for split in ("train", "held_out")}
        known |= {"independent_held_out_pairs": run.task.n_held_out, "chance_loss": math.log(run.task.n_classes)}
        assert repr(events_of(run)) == repr(grokking.events_of(run.curves.assign_attrs(known)))


def test_a_run_that_logged_nothing_has_no_verdict(tmp_path: Path) -> None:
    RunWriter.create(tmp_path / "bare", interp.Task(7), interp.ModelConfig(d_model=4, n_heads=1, d_mlp=4)).close()
    assert ending_of(open_run(tmp_path / "bare")).verdict == "unknown"
    [line] = list_runs(tmp_path)
    assert line.endswith("no checkpoints yet")


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (["training.weight-decay>=1"], "ab"),
        (["weight-decay >= 1", "seed=0"], "a"),
        (["weight_decay<1"], "cd"),
        (["verdict=grokking"], "ab"),
        (["verdict!=Grokking"], "cd"),
        (["state=diverged"], "d"),
        (["generalized-at<=500"], "b"),
        (["generalized-at!=500"], "acd"),  # c and d never did
        (["task.train-pairs!=7"], "abcd"),  # none is given
        (["test-accuracy==1"], "ab"),
    ],
)
def test_only_runs_that_meet_the_conditions(where: list[str], expected: str, folder: Path) -> None:
    assert names(folder, where=where) == [*expected]


def test_what_is_asked_for_by_name_stands_in_the_line(folder: Path) -> None:
    lines = list(list_runs(folder, where=["weight-decay<=1", "verdict!=diverged"], sort="-generalized-at"))
    assert [line.partition("; ")[2].partition("; ")[2] for line in lines] == [
        "training.weight-decay 1; generalized-at 1000",
        "training.weight-decay 0.1; generalized-at unknown",
    ]
    [line] = list_runs(folder / "a", sort="batch-size")
    assert line.endswith("; training.batch-size none")
    [line] = list_runs(folder / "a", where=["seed=0"], coordinates={"a": {"seed": 0}})
    assert " seed 0 " in line  # where the axes stand
    assert line.count("seed") == 1


def test_sorted_by_a_number_or_a_word_and_last_what_has_none(folder: Path) -> None:
    assert names(folder, sort="weight-decay") == [*"cdab"]
    assert names(folder, sort="generalized-at") == [*"bacd"]
    assert names(folder, sort="generalized-at", reverse=True) == [*"abcd"]
    assert names(folder, sort="-generalized-at") == [*"abcd"]
    assert names(folder, sort="verdict")[:3] == [*"dab"]  # diverged, grokking


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"where": ["weight-decay"]}, "no condition, expected such as training.weight-decay>=1"),
        ({"where": ["weigth-decay>1"]}, "unknown field of a run 'weigth-decay'; did you mean"),
        ({"sort": "weight-decai"}, "unknown field of a run 'weight-decai'; did you mean 'training.weight-decay'?"),
        ({"sort": "wd"}, "unknown field of a run 'wd'; did you mean 'training.weight-decay'?"),
        ({"sort": "zzz"}, "more; `interp info RUN` shows the fields of task, model and training"),
        ({"where": ["verdict=groking"]}, "unknown verdict 'groking'; did you mean 'grokking'?"),
        ({"where": ["verdict!='groking'"]}, "unknown verdict 'groking'; did you mean 'grokking'?"),
        ({"where": ["state=done"]}, "unknown state 'done'; known: complete, diverged, unfinished, recorded"),
        ({"where": ["optimizer=adamww"]}, "unknown training.optimizer 'adamww'; did you mean 'adamw'?"),
        (
            {"where": ["size=smal"], "coordinates": {"a": {"size": "small"}}},
            "unknown size 'smal'; did you mean 'small'",
        ),
        ({"where": ["weight-decay>much"]}, "weight-decay is a number, such as 1.0, and 'much' is none"),
        ({"where": ["verdict>grokking"]}, "verdict is no number but 'grokking'; it can be compared by = and != alone"),
    ],
)
def test_what_cannot_be_asked_is_refused(options: Any, words: str, folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        list(list_runs(folder, **options))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("where", "values"),
    [
        (["verdict=collapse"], "verdict is grokking (2 runs), memorization (1 run), diverged (1 run)"),
        (["weight-decay>7", "seed=1"], "training.weight-decay is from 0.1 to 3.0; seed is from 0 to 1"),
        (["task.train-pairs=7"], "none of them has a task.train-pairs"),
    ],
)
def test_an_empty_answer_says_which_values_there_are(where: list[str], values: str, folder: Path) -> None:
    assert list(list_runs(folder, where=where)) == [f"no run of 4 meets {' and '.join(where)}; {values}"]


def test_coordinates_of_a_sweep_stand_in_the_place_of_the_task(folder: Path) -> None:
    known = {"a": {"training.weight-decay": 1.0, "size": "small"}}
    [line] = list_runs(folder, where=["size=small"], coordinates=known | {"b": {"size": "large"}})
    assert "weight-decay 1, size small" in line


def test_a_condition_that_some_runs_cannot_be_asked_leaves_them_out(folder: Path) -> None:
    assert names(folder, where=["size!=large"], coordinates={"a": {"size": "large"}}) == [*"bcd"]
    assert names(folder, sort="size", coordinates={"c": {"size": "small"}}) == [*"cabd"]
