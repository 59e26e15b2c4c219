"""What `interp verify` finds: every way in which a run can contradict itself, and nothing in a sound one."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.runs import RunWriter, differences, open_run, step_name, thin, weights_digest
from interp.runs.format import step_header
from interp.runs.verification import ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE
from interp.runs.writer import tensor_bytes
from interp.sweeps import run_experiment


def found(run: Path) -> list[str]:
    return list(differences(open_run(run)))


def rewrite(run: Path, change: Callable[[dict], dict]) -> None:
    """Every line of metrics.jsonl, changed."""
    rows = [change(json.loads(line)) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_sound_run_has_no_differences(run: Path):
    assert found(run) == []


def test_every_checkpoint_is_walked_over_once(run: Path):
    walked = []
    assert list(differences(open_run(run), lambda steps: walked.extend(steps) or steps)) == []
    assert walked == [0, 5, 10, 15, 20]


@pytest.mark.parametrize(
    "name",
    ["train_loss", "test_loss", "unmirrored_test_loss", "train_accuracy", "test_accuracy", "unmirrored_test_accuracy"],
)
def test_losses_and_accuracies_are_recomputed(name: str, run: Path):
    rewrite(run, lambda row: row | {name: row.get(name, 0) + 0.3} if row["step"] == 10 else row)
    [line] = found(run)
    assert re.fullmatch(
        rf"run: step 10: the {name.replace('_', '.')} is [\d.]+, recorded was [\d.]+",
        line.replace("the unmirrored_test ", "the unmirrored.test "),
    )


@pytest.mark.parametrize("name", ["loss", "accuracy"])
def test_what_is_logged_of_held_out_pairs_is_recomputed(name: str, tmp_path: Path):
    """Of x² + y², where they are fewer than the unmirrored ones."""
    training = TrainingConfig(steps=10, checkpoint_every=5, log_every=5)
    model = ModelConfig(d_model=8, n_heads=2, d_mlp=8)
    run = run_experiment(Experiment(Task(7, "x2+y2", train_fraction=0.3), model, training), tmp_path / "run").path
    assert found(run) == []
    column = f"held_out_{name}"
    rewrite(run, lambda row: row | {column: row[column] + 0.9} if row["step"] == 10 else row)
    [line] = found(run)
    assert re.search(rf"step 10: the held_out {name} is [\d.]+, recorded was [\d.]+$", line)


def test_what_is_equal_to_rounding_is_equal(run: Path):
    rewrite(
        run,
        lambda row: row | {"train_loss": row["train_loss"] * (1 + RELATIVE_TOLERANCE / 2) + ABSOLUTE_TOLERANCE / 2},
    )
    assert found(run) == []
    rewrite(run, lambda row: row | {"train_loss": row["train_loss"] * (1 + 3 * RELATIVE_TOLERANCE)})
    assert len(found(run)) == len(open_run(run))


def test_a_loss_that_is_not_recorded_is_not_compared(run: Path):
    rewrite(
        run,
        lambda row: {name: value for name, value in row.items() if not name.endswith("loss")} | {"test_loss": None},
    )
    assert found(run) == []


def test_an_altered_digest(run: Path):
    rewrite(run, lambda row: row | {"weights": "0" * 16} if row["step"] == 10 else row)
    [line] = found(run)
    assert re.match(
        r"run/steps/step_000000010.safetensors was altered: its weights have digest [0-9a-f]{16}, metrics.jsonl "
        r"recorded 0{16}",
        line,
    )


def test_losses_without_digests_still_tell(run: Path):
    """Somebody removes the digests and puts other weights in place."""
    weights = {name: 2 * weight for name, weight in open_run(run)[10].weights.items()}
    (run / "steps" / step_name(10)).write_bytes(tensor_bytes(weights, step_header(open_run(run).hash, 10)))
    rewrite(run, lambda row: {name: value for name, value in row.items() if name != "weights"})
    lines = found(run)
    assert lines
    assert all(line.startswith("run: step 10: the ") for line in lines)


def test_everything_is_found_at_once(run: Path):
    (run / "steps" / step_name(0)).unlink()
    (run / "steps" / step_name(5)).write_bytes(b"")
    (run / "steps" / step_name(10)).write_bytes((run / "steps" / step_name(10)).read_bytes()[:-4])
    assert [re.search(r"step[_ ]0*(\d+)", line)[1] for line in found(run)] == ["0", "5", "10"]


def test_a_checkpoint_that_the_schedule_does_not_keep(run: Path):
    weights = open_run(run)[10].weights
    (run / "steps" / step_name(11)).write_bytes(tensor_bytes(weights, step_header(open_run(run).hash, 11)))
    assert found(run) == ["run: there is a checkpoint of step 11, which the schedule does not keep"]


def test_thinning_is_no_difference(run: Path):
    thin(open_run(run), 10)
    assert found(run) == []
    (run / "steps" / step_name(10)).unlink()
    assert found(run) == ["run: the checkpoint of step 10 is missing, though metrics.jsonl records it"]


def test_a_run_without_training_metrics_or_a_known_split(run: Path):
    sound = open_run(run)
    weights = sound[0].weights
    with RunWriter.create("bare", replace(sound.task, split="unknown"), sound.model) as writer:
        writer.append(0, weights)
        writer.append(3, weights, {"train_loss": math.nan})
    assert found("bare") == []
    assert open_run("bare").rows[0]["weights"] == weights_digest(weights)
