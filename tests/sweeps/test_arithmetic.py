"""By which arithmetic a run is trained: chosen once, written down, and kept when it is resumed."""

import json

import pytest

from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.runs import TOKEN_TABLES, describe, open_run, verify
from interp.runs.format import with_sum
from interp.sweeps import driver, resume_run, run_experiment, run_seeds
from interp.training import tables_are_faster, train

TASK, MODEL = Task(17, train_fraction=0.5), ModelConfig(d_model=32, n_heads=1, d_mlp=16)
TRAINING = TrainingConfig(steps=12, checkpoint_every=4, log_every=2)
EXPERIMENT = Experiment(TASK, MODEL, TRAINING)


def interrupted(path, experiment: Experiment, after: int) -> None:
    """A run that was stopped once it had written the snapshot of a step."""

    def report(snapshot) -> None:
        if snapshot.step == after:
            raise KeyboardInterrupt

    with pytest.raises(driver.InterruptedTrainingError):
        run_experiment(experiment, path, report=report)


def same_weights(one, other) -> bool:
    return dict(open_run(one).digests) == dict(open_run(other).digests)


@pytest.mark.parametrize("changed", [{}, {"batch_size": 140}], ids=["full batch", "mini-batches"])
def test_a_run_by_tables_says_so_and_resumes_to_the_same_bits(tmp_path, changed) -> None:
    experiment = Experiment(TASK, MODEL, TrainingConfig(steps=12, checkpoint_every=4, log_every=2, **changed))
    assert tables_are_faster(experiment)
    whole = run_experiment(experiment, tmp_path / "whole")
    assert whole.info["arithmetic"] == TOKEN_TABLES
    assert any(line.startswith(f"computed by  {TOKEN_TABLES} in training; in analyses ") for line in describe(whole))

    interrupted(tmp_path / "cut", experiment, after=6)
    resume_run(tmp_path / "cut")
    assert same_weights(tmp_path / "cut", tmp_path / "whole")
    assert not verify(open_run(tmp_path / "cut")).contradictions


def test_an_older_run_goes_on_without_tables(tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as before:
        before.setattr(driver, "tables_are_faster", lambda *_: False)
        whole = run_experiment(EXPERIMENT, tmp_path / "whole")
        interrupted(tmp_path / "cut", EXPERIMENT, after=6)
    assert "arithmetic" not in whole.info
    resume_run(tmp_path / "cut")
    assert same_weights(tmp_path / "cut", tmp_path / "whole")
    by_tables = run_experiment(EXPERIMENT, tmp_path / "tables")
    assert not same_weights(tmp_path / "tables", tmp_path / "whole")
    for name in ("train_loss", "test_loss"):
        one, other = (run.metrics[name].values for run in (whole, by_tables))
        assert abs(one - other).max() < 1e-5


def test_seeds_side_by_side_have_the_bits_of_each_alone(tmp_path) -> None:
    runs = run_seeds(EXPERIMENT, 2, tmp_path / "seeds")
    for run in runs:
        assert run.info["arithmetic"] == TOKEN_TABLES
        alone = run_experiment(run.experiment, tmp_path / f"alone-{run.model.seed}")
        assert dict(run.digests) == dict(alone.digests)


def test_what_is_small_keeps_the_products() -> None:
    small = Experiment(Task(17, train_fraction=0.4), MODEL, TRAINING)
    assert not tables_are_faster(small)
    first, second = ([one.metrics["train_loss"] for one in train(small, by_tables=way)] for way in (None, False))
    assert first == second


def test_an_arithmetic_of_a_later_version_is_refused(tmp_path) -> None:
    interrupted(tmp_path / "run", EXPERIMENT, after=6)
    path = tmp_path / "run" / "run.json"
    info = json.loads(path.read_text()) | {"arithmetic": "quantum\n"}
    info.pop("sum")
    path.write_bytes(with_sum(info))
    with pytest.raises(InputError, match=r"trained by 'quantum\\n', which this version of interp does not know"):
        resume_run(tmp_path / "run")
