"""Observed gradients on disk: of an interrupted run the same as of one that was not; a damage is told of by name."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import interp
from interp.cli import main
from interp.errors import InputError
from interp.runs import observed_gradients, open_run, thin, verify
from interp.sweeps import driver, resume_run, run_experiment

EXPERIMENT = interp.Experiment(
    interp.Task(7, train_fraction=0.5),
    interp.ModelConfig(d_model=8, n_heads=2, d_mlp=8),
    interp.TrainingConfig(steps=20, checkpoint_every=10, log_every=2),
)
BLOCK = 16  # shorter here
FIRST, SECOND = (f"observations/gradients/step_{step:09d}.safetensors" for step in (0, BLOCK))


@pytest.fixture(scope="module", autouse=True)
def short_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in ("training.observers", "runs.observations", "sweeps.driver"):
            patch.setattr(f"interp.{module}.BLOCK", BLOCK)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("observed") / "run"
    run_experiment(EXPERIMENT, path, observe="gradients")
    return path


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def observe_until(path: Path, step: int) -> None:
    def stop(snapshot: Any) -> None:
        if snapshot.step == step:
            raise KeyboardInterrupt

    with contextlib.suppress(driver.InterruptedTrainingError):
        run_experiment(EXPERIMENT, path, observe="gradients", report=stop)


@pytest.mark.parametrize("stop_at", [0, 14, 16, 18])
def test_an_interrupted_run_has_the_bytes_of_one_that_was_not(whole: Path, tmp_path: Path, stop_at: int) -> None:
    path = tmp_path / "run"
    observe_until(path, stop_at)
    assert not verify(open_run(path)).contradictions
    assert (path / FIRST).exists() == (stop_at >= 16)
    resume_run(path)
    assert not verify(open_run(path)).contradictions
    for name in (FIRST, SECOND):
        assert (path / name).read_bytes() == (whole / name).read_bytes()


def test_resuming_does_not_go_on_without_what_was_observed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    observe_until(path, 18)
    (path / FIRST).unlink()
    with pytest.raises(InputError, match=r"the observed gradients of step 0 to 15 are missing; put a copy back"):
        resume_run(path)
    assert open_run(path).steps[-1] < EXPERIMENT.training.steps


def test_all_steps_are_there_and_the_run_is_the_same_without(whole: Path, tmp_path: Path) -> None:
    found = observed_gradients(open_run(whole))
    assert found.steps.tolist() == list(range(21))
    assert found.rows.shape == (21, 11, 64)
    run_experiment(EXPERIMENT, tmp_path / "plain")
    for name in ("metrics.jsonl", "steps/step_000000020.safetensors"):
        assert (tmp_path / "plain" / name).read_bytes() == (whole / name).read_bytes()
    with pytest.raises(InputError, match="no observed gradients; train it with `interp train --observe gradients`"):
        observed_gradients(open_run(tmp_path / "plain"))


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:3000])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-999] ^= 1
    file.write_bytes(content)


def swap(file: Path) -> None:
    file.write_bytes((file.parent / Path(SECOND if file.name in FIRST else FIRST).name).read_bytes())


@pytest.mark.parametrize("name", [FIRST, SECOND])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (Path.unlink, "is missing"),
        (truncate, "damaged"),
        (flip, "altered"),
        (swap, "holds step"),
        (lambda file: file.write_bytes(b""), "damaged"),
        (lambda file: file.write_bytes(b"\x80" * 3_000_000), "bytes"),
    ],
)
def test_a_damaged_file_is_told_of_by_name(copied: Path, name: str, damage: Any, words: str) -> None:
    damage(copied / name)
    (said,) = verify(open_run(copied)).contradictions
    assert name in said
    assert words in said
    with pytest.raises(InputError, match=words):
        observed_gradients(open_run(copied))


def test_a_link_is_refused(copied: Path, tmp_path: Path) -> None:
    (copied / SECOND).rename(tmp_path / "outside")
    (copied / SECOND).symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match="symbolic link"):
        observed_gradients(open_run(copied))
    assert main(["verify", str(copied)]) == 2


def test_thinning_and_listing_leave_them_alone(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = observed_gradients(open_run(copied)).rows
    thin(open_run(copied), keep_every=20)
    assert np.array_equal(observed_gradients(open_run(copied)).rows, before)
    assert main(["list", str(copied.parent)]) == 0
    assert "run" in capsys.readouterr().out
    assert main(["verify", str(copied)]) == 0
    assert "the observed gradients: sums" in capsys.readouterr().out


def test_what_led_to_a_divergence_is_kept(tmp_path: Path) -> None:
    wild = replace(EXPERIMENT, training=interp.TrainingConfig(optimizer="sgd", lr=1e4, steps=20, log_every=1))
    with pytest.raises(InputError, match="diverged"):
        run_experiment(wild, tmp_path / "run", observe="gradients")
    run = open_run(tmp_path / "run")
    assert len(observed_gradients(run).steps) == run.diverged_at
    assert not verify(run).contradictions
