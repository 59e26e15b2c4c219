"""Watching a run: it ends with the run, says when nobody writes any more, and draws what is there."""

import io
import math

import pytest
from rich.console import Console

import interp
from interp.cli import main
from interp.cli.watching import chart, is_being_written, picture, watch
from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.figures import TEST, TRAIN
from interp.training import train

TINY = Experiment(
    Task(7, train_fraction=0.5),
    ModelConfig(d_model=8, n_heads=2, d_mlp=8),
    TrainingConfig(steps=6, checkpoint_every=2, log_every=1),
)


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, height=40)


@pytest.mark.parametrize("terminal", [False, True])
def test_it_ends_with_the_run(tmp_path, terminal):
    """Every look is followed by one more snapshot; after the last, watching ends by itself."""
    snapshots = train(TINY)
    out = console(terminal=terminal)
    with interp.RunWriter.create(tmp_path / "run", TINY.task, TINY.model, TINY.training) as writer:
        last = watch(interp.open_run(tmp_path / "run"), console=out, sleep=lambda _: writer.write(next(snapshots)))
    assert "is complete" in last
    assert next(snapshots, None) is None
    assert "step 6/6" in out.file.getvalue()
    assert ("\x1b[" in out.file.getvalue()) == terminal


def test_it_says_that_nobody_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("interp.cli.watching.QUIET_SECONDS", -1)
    with interp.RunWriter.create(tmp_path / "run", TINY.task, TINY.model, TINY.training) as writer:
        writer.write(next(train(TINY)))
        assert is_being_written(tmp_path / "run")
    assert not is_being_written(tmp_path / "run")
    last = watch(interp.open_run(tmp_path / "run"), console=console(terminal=False))
    assert "stands at step 0" in last
    assert "interp resume" in last


def test_a_curve_goes_where_its_values_are():
    rising = chart([([0, 1, 2], [0, 0.5, 1], TRAIN)], 10, 5, (0, 1))
    cells = [line.plain[6:] for line in rising]
    assert cells[-1][0] != " "
    assert cells[0][9] != " "
    assert cells[0][0] == cells[-1][9] == " "
    assert [line.plain[:6].strip() for line in rising] == ["1", "", "", "", "0"]


@pytest.mark.parametrize("values", [[], [math.nan], [1.0], [1.0, math.nan, 1.0]])
def test_few_or_unknown_values_are_no_trouble(values):
    assert len(chart([(range(len(values)), values, TEST)], 10, 5)) == 5


def test_it_ends_with_a_run_that_diverged(tmp_path):
    """Nothing goes on with that."""
    with interp.RunWriter.create(tmp_path / "run", TINY.task, TINY.model, TINY.training) as writer:
        writer.write(next(iter(train(TINY))))
        writer.log_divergence(3)
    last = watch(interp.open_run(tmp_path / "run"), console=console(terminal=False), sleep=lambda _: 1 / 0)
    assert "run diverged at step 3; " in last
    assert "resume" not in last


def test_the_spectrum_names_the_loudest_frequencies():
    run = interp.open_run(interp.reference_path())
    out = console(terminal=False)
    out.print(picture(run, run.rows))
    line = next(line for line in out.file.getvalue().splitlines() if line.startswith("W_L"))
    assert sorted(map(int, line.split("loudest: ")[1].split(","))) == run.key_frequencies


def test_the_command(capsys):
    assert main(["watch", str(interp.reference_path())]) == 0
    assert "is complete" in capsys.readouterr().out
    assert main(["watch", str(interp.reference_path()), "--interval", "-1"]) == 2
    assert "interval" in capsys.readouterr().err


def test_there_is_no_run(tmp_path):
    with pytest.raises(InputError, match="there is no run"):
        interp.open_run(tmp_path / "nothing")
