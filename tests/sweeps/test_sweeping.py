"""A folder that says what it is a sweep of: it goes on, grows, and refuses what leaves something out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import interp
from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.runs import with_sum
from interp.sweeps import Sweep, cost_of, done_runs, read_sweep, sweep
from interp.sweeps.estimate import bytes_kept
from interp.sweeps.record import begin_sweep, check_can_begin

TRAINING = TrainingConfig(steps=12, checkpoint_every=4, log_every=4)
BASE = Experiment(Task(p=7, train_fraction=0.5), ModelConfig(d_model=8, n_heads=2, d_mlp=8), TRAINING)
AXES: dict[str, Any] = {"training.weight-decay": [0.3, 1.0], "seed": 1}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("swept")
    runs = sweep(BASE, AXES, folder, processes=1, keep="ends")
    assert [run.steps for run in runs.values()] == [[0, 12], [0, 12]]
    return folder


def test_the_folder_says_by_itself_what_it_is(swept: Path) -> None:
    found = read_sweep(swept)
    assert found is not None
    assert (found.base, found.axes, found.keep) == (BASE, {"training.weight-decay": [0.3, 1.0], "seed": [0]}, "ends")
    assert list(found.runs.values()) == [{"training.weight-decay": decay, "seed": 0} for decay in (0.3, 1.0)]
    assert {interp.open_run(swept / name).training.weight_decay for name in found.runs} == {0.3, 1.0}
    assert done_runs(Sweep(BASE, AXES).coordinates, swept) == {*found.runs}
    assert read_sweep(swept / "nowhere") is None


def test_the_same_call_trains_nothing_and_more_seeds_only_what_is_missing(swept: Path) -> None:
    def refuse(progress: Any) -> None:
        raise AssertionError("nothing is to be trained")

    sweep(BASE, AXES, swept, report=refuse)
    began: list[str] = []
    more = sweep(BASE, AXES | {"seed": 2}, swept, processes=1, report=lambda progress: began.extend(progress.running))
    assert len(more) == 4
    assert set(began) == {name for name, run in more.items() if run.model.seed == 1}
    assert all(run.steps == [0, 12] for run in more.values())  # what is kept is remembered
    wider = Sweep(BASE, AXES | {"seed": 2, "training.lr": [0.01, 0.02]})  # what was there has one of them
    assert check_can_begin(swept, wider) == "ends"


@pytest.mark.parametrize(
    ("sweep", "keep", "words"),
    [
        (Sweep(BASE, {"training.weight-decay": [0.3], "seed": 2}), None, r"leaves out .: training.weight-decay 1.0; "),
        (
            Sweep(replace(BASE, training=replace(TRAINING, steps=13)), AXES),
            None,
            r"leaves out .: training.steps 12 there, 13 here; runs can be added",
        ),
        (Sweep(BASE, AXES | {"seed": 2}), "all", r"was begun with --keep ends, and this one says --keep all: "),
        (
            Sweep(BASE, AXES | {"seed": 2, "training.lr": [0.3, 0.4]}),
            None,
            r"leaves out .: those there have the value 0.01, which is not on the new axis training.lr: add it",
        ),
    ],
)
def test_what_leaves_something_out_is_refused_and_says_what(sweep: Sweep, keep: Any, words: str, swept: Path) -> None:
    with pytest.raises(InputError, match=words):
        check_can_begin(swept, sweep, keep)


def test_a_run_is_no_folder_of_runs(swept: Path) -> None:
    with pytest.raises(InputError, match="is a run itself"):
        begin_sweep(next(swept.glob("*/run.json")).parent, Sweep(BASE, AXES))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda values: values | {"format": 2}, "has format version 2; this version of interp reads 1"),
        (lambda values: values | {"runs": {"../../etc": {"seed": 0}}}, "a run has no name"),
        (lambda values: values | {"axes": {"seed": [0]}}, "does not stand on its axes"),
        (lambda values: values | {"runs": dict(list(values["runs"].items())[:1])}, "not the product of its axes"),
        (lambda values: {**values, "runs": []}, "does not describe a base, axes and runs"),
        (lambda values: values | {"keep": "some"}, "keep must be all, ends, metrics"),
        (lambda values: values | {"base": {"task": {"q": 7}}}, "unknown field"),
    ],
)
def test_a_record_that_cannot_be_is_refused_by_name(change: Any, words: str, swept: Path, tmp_path: Path) -> None:
    values = json.loads((swept / "sweep.json").read_text())
    (tmp_path / "sweep.json").write_bytes(with_sum(change(values)))
    with pytest.raises(InputError, match=words) as caught:
        read_sweep(tmp_path)
    assert str(tmp_path / "sweep.json") in str(caught.value)


def test_a_record_that_was_altered_is_refused(swept: Path, tmp_path: Path) -> None:
    text = (swept / "sweep.json").read_text()
    (tmp_path / "sweep.json").write_text(text.replace("0.3", "0.4"))
    with pytest.raises(InputError, match="was altered"):
        read_sweep(tmp_path)


def test_the_cost_is_that_of_what_is_left() -> None:
    runs = Sweep(BASE, AXES | {"seed": 3}).runs()
    whole = cost_of(runs, set(), "all", processes=2)
    none = cost_of(runs, {run.name for run in runs}, "all", processes=2)
    assert (whole.n_runs, whole.n_left, none.n_left, none.hours) == (6, 6, 0, (0.0, 0.0))
    assert 0 < whole.hours[0] <= whole.hours[1] < 1
    assert none.n_bytes == whole.n_bytes == 6 * bytes_kept(runs[0], "all")


def test_the_bytes_are_about_those_on_the_disk(tmp_path: Path) -> None:
    for keep in ("all", "ends", "metrics"):
        folder = tmp_path / keep
        (run,) = sweep(BASE, {"seed": 1}, folder, processes=1, keep=keep)
        found = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        counted = bytes_kept(Sweep(BASE, {"seed": 1}).runs()[0], keep)
        assert found / 2 < counted < 3 * found, (keep, run, found, counted)


def test_what_diverges_at_once_does_not_make_a_sweep_look_short() -> None:
    """The seconds of a step are those of steps that are taken."""
    slow, broken = (
        cost_of(Sweep(BASE, {"training.lr": [rate], "training.steps": [20_000]}).runs(), set(), "metrics").hours
        for rate in (1e-2, 1e30)
    )
    assert broken[1] > slow[0] / 5
