"""What is said to mend a damaged run mends it, and nobody goes on over what is missing."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from interp.cli import main
from interp.errors import InputError
from interp.experiment import ModelConfig, Task, TrainingConfig
from interp.runs import Run, RunWriter, open_run, step_name, thin, verify
from interp.runs.format import with_sum
from interp.runs.lines import line_bytes
from interp.runs.listing import list_runs
from interp.sweeps import resume_run
from tests.small_runs import trained

TASK, MODEL = Task(7, train_fraction=0.5), ModelConfig(d_model=8, n_heads=2, d_mlp=6)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that was interrupted in the middle."""
    path = tmp_path_factory.mktemp("interrupted") / "run"
    trained(path, 10)
    return path


@pytest.fixture
def unfinished(interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, called `my run` in the folder we stand in."""
    monkeypatch.chdir(tmp_path)
    assert not open_run(interrupted).is_complete
    return Path(shutil.copytree(interrupted, "my run"))


def bytes_of(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def altered(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a line": lambda run: altered(run / "metrics.jsonl"),
    "no lines": lambda run: (run / "metrics.jsonl").unlink(),
    "a checkpoint": lambda run: altered(run / "steps" / step_name(5)),
    "no checkpoints": lambda run: shutil.rmtree(run / "steps"),
    "a state": lambda run: altered(next((run / "state").iterdir())),
    "a note": lambda run: (run / "thinned.json").write_text("{"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_command_that_is_named_mends_an_unfinished_run(damage: str, unfinished: Path, capsys) -> None:
    expected = Path(shutil.copytree(unfinished, "sound"))
    resume_run(expected)
    DAMAGES[damage](unfinished)
    capsys.readouterr()
    assert main(["verify", str(unfinished)]) == 2
    *contradictions, verdict = capsys.readouterr().err.splitlines()
    assert verdict.startswith(f"interp: my run: {len(contradictions)} contradiction")
    removal, resumption = re.search(r": (rm -rf .*) && interp resume '(.*)'$", verdict).groups()
    subprocess.run(removal, shell=True, check=True)
    resume_run(resumption)
    assert verify(open_run(unfinished)).contradictions == []
    assert bytes_of(unfinished) == bytes_of(expected)


def test_of_a_complete_run_a_damaged_state_can_be_removed(run: Path, capsys) -> None:
    altered(next((run / "state").iterdir()))
    assert main(["verify", str(run)]) == 2
    removal = re.search(
        r"a run that is complete needs no state, which may be removed: (rm .*)", capsys.readouterr().err
    )
    subprocess.run(removal[1], shell=True, check=True)
    assert main(["verify", str(run)]) == 0


def test_verify_says_what_it_checked_also_where_something_is_wrong(run: Path, capsys) -> None:
    for step in (0, 5, 10):
        (run / "steps" / step_name(step)).unlink()
    assert main(["verify", str(run)]) == 2
    out, err = capsys.readouterr()
    assert "checked      2 of 2 checkpoints: sums, shapes, and 8 metrics of each recomputed" in out
    assert "nothing contradicts" not in out
    assert err.splitlines() == [
        "interp: run/steps/step_000000000.safetensors and 2 more, up to step 10, are missing, though metrics.jsonl "
        "records them",
        "interp: run: 1 contradiction; put a copy back, or train it again with the same options and --overwrite",
    ]


# ---- going on --------------------------------------------------------------------------------------------------------


def test_resuming_does_not_go_on_over_what_is_missing(unfinished: Path) -> None:
    before = open_run(unfinished).steps
    (unfinished / "steps" / step_name(5)).unlink()
    with pytest.raises(
        InputError, match=r"step_000000005\.safetensors is missing, .*; put a copy back, or train all of"
    ):
        resume_run(unfinished)
    assert open_run(unfinished).steps == [step for step in before if step != 5]
    shutil.rmtree(unfinished / "state")
    resume_run(unfinished)  # begins anew, and writes it again
    assert verify(open_run(unfinished)).contradictions == []


def test_resuming_goes_on_over_what_was_removed_on_purpose(unfinished: Path) -> None:
    thin(open_run(unfinished), 1000)
    resume_run(unfinished)
    assert verify(open_run(unfinished)).contradictions == []


def test_a_complete_run_with_a_hole_is_not_merely_complete(run: Path) -> None:
    (run / "steps" / step_name(10)).unlink()
    words = r"is complete: it has reached step 20\. But .*step_000000010\.safetensors is missing, .* --overwrite"
    with pytest.raises(InputError, match=words):
        resume_run(run)


# ---- in words --------------------------------------------------------------------------------------------------------


def test_a_training_that_begins_anew_is_at_the_step_of_its_lines(
    written_run: Callable[..., Run], tmp_path: Path
) -> None:
    training = TrainingConfig(steps=60, checkpoint_every=10, log_every=10)
    path = written_run(
        tmp_path / "run", TASK, MODEL, (0, 10, 20, 30), training, metrics=lambda step: {"test_accuracy": step / 100}
    ).path
    with RunWriter.reopen(path) as writer:
        weights = writer.run[0].weights
        writer.load_state()
        writer.append(0, weights, {"test_accuracy": 0.0})
        writer.append(10, weights, {"test_accuracy": 0.1})
    [line] = list_runs(tmp_path)
    assert "4 checkpoints, unfinished (10 of 60 steps), test accuracy 10.0%" in line


def test_where_training_diverged_is_said(written_run: Callable[..., Run], tmp_path: Path) -> None:
    run = written_run(
        tmp_path / "run", TASK, MODEL, (0, 10), TrainingConfig(steps=60, checkpoint_every=10, log_every=10)
    )
    with RunWriter.reopen(run.path) as writer:
        writer.log_divergence(17)
    [line] = list_runs(tmp_path)
    assert "2 checkpoints, diverged at step 17 of 60" in line
    told = verify(open_run(run.path)).unchecked
    assert "a state to go on from: there is none; training diverged at step 17" in told


def test_a_complete_run_without_checkpoints_is_not_called_new(run: Path) -> None:
    shutil.rmtree(run / "steps")
    [line] = list_runs(Path())
    assert "no checkpoints, though metrics.jsonl records 5" in line


# ---- more lines than there can be ------------------------------------------------------------------------------------


def with_lines(run: Path, steps: list[int]) -> Path:
    """The run with such lines after its own, with sums that agree, and no end."""
    sound = open_run(run)
    total = sound.lines[-1].sum
    with open(run / "metrics.jsonl", "ab") as file:
        for step in steps:
            content, total = line_bytes({"step": step, "train_loss": 1.0}, total, sound.format)
            file.write(content)
    (run / "run.json").write_bytes(with_sum({name: value for name, value in sound.info.items() if name != "end"}))
    return run


def test_no_line_is_beyond_the_last_step_of_a_training(run: Path) -> None:
    with_lines(run, [21, 22])
    with pytest.raises(
        InputError, match=r"metrics\.jsonl is damaged at line 14: step 21, and its training ends at step 20"
    ):
        _ = open_run(run).lines


def test_a_writer_does_not_write_what_no_reader_takes(written_run: Callable[..., Run], tmp_path: Path) -> None:
    run = written_run(tmp_path / "run", TASK, MODEL, (0, 10), TrainingConfig(steps=10))
    with RunWriter.reopen(run.path) as writer, pytest.raises(InputError, match="ends at step 10, got step 11"):
        writer.log(11, {"train_loss": 1.0})
