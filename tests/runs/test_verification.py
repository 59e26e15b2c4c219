"""What `interp verify` finds: every way in which a run can contradict itself, and nothing in a sound one."""

import math
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from interp import reference_path
from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.machine import read_tensors, tensor_bytes
from interp.runs import RunWriter, open_run, step_name, thin, verify, weights_digest
from interp.runs.format import step_header, with_sum
from interp.runs.lines import line_bytes
from interp.runs.verification import ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE
from interp.sweeps import run_experiment


def found(run: Path | str) -> list[str]:
    return verify(open_run(run)).contradictions


def rewrite(run: Path, change: Callable[[dict], dict | None]) -> None:
    """Every line of metrics.jsonl, changed or left out, with sums that agree, and without a note of its end."""
    sound = open_run(run)
    lines, total = b"", sound.hash
    for row in filter(None, map(change, sound.rows)):
        content, total = line_bytes(row, total, sound.format)
        lines += content
    (run / "metrics.jsonl").write_bytes(lines)
    for state in (run / "state").iterdir():
        state.unlink()
    without_end(run)


def without_end(run: Path) -> None:
    info = {name: value for name, value in open_run(run).info.items() if name != "end"}
    (run / "run.json").write_bytes(with_sum(info))


def test_a_sound_run_has_no_differences(run: Path):
    assert found(run) == []


def test_every_checkpoint_is_walked_over_once(run: Path):
    walked = []
    assert verify(open_run(run), lambda steps: walked.extend(steps) or steps).contradictions == []
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


@pytest.mark.parametrize("name", ["loss", "accuracy"])
def test_what_is_logged_of_validation_pairs_is_recomputed(name: str, tmp_path: Path):
    training = TrainingConfig(steps=10, checkpoint_every=5, log_every=5)
    model = ModelConfig(d_model=8, n_heads=2, d_mlp=8)
    run = run_experiment(Experiment(Task(7, validation_fraction=0.5), model, training), tmp_path / "run").path
    assert found(run) == []
    column = f"validation_{name}"
    rewrite(run, lambda row: row | {column: row[column] + 0.9} if row["step"] == 10 else row)
    [line] = found(run)
    assert re.search(rf"step 10: the validation {name} is [\d.]+, recorded was [\d.]+$", line)


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
    header = step_header(open_run(run).hash, 10, weights=weights_digest(weights))
    (run / "steps" / step_name(10)).write_bytes(tensor_bytes(weights, header))
    rewrite(run, lambda row: {name: value for name, value in row.items() if name != "weights"})
    lines = [line for line in found(run) if "metrics.jsonl has no digest of the checkpoint of step" not in line]
    assert lines
    assert all(line.startswith("run: step 10: the ") for line in lines)


def test_everything_is_found_at_once(run: Path):
    (run / "steps" / step_name(0)).unlink()
    (run / "steps" / step_name(5)).write_bytes(b"")
    (run / "steps" / step_name(10)).write_bytes((run / "steps" / step_name(10)).read_bytes()[:-4])
    assert [re.search(r"step[_ ]0*(\d+)", line)[1] for line in found(run)] == ["0", "5", "10"]


def test_a_checkpoint_that_the_schedule_does_not_keep(run: Path):
    weights = open_run(run)[10].weights
    header = step_header(open_run(run).hash, 11, weights=weights_digest(weights))
    (run / "steps" / step_name(11)).write_bytes(tensor_bytes(weights, header))
    assert found(run) == ["run: there is a checkpoint of step 11, which the schedule does not keep"]


def test_thinning_is_no_difference(run: Path):
    thin(open_run(run), 10)
    assert found(run) == []
    (run / "steps" / step_name(10)).unlink()
    assert found(run) == ["run/steps/step_000000010.safetensors is missing, though metrics.jsonl records it"]


def test_a_run_without_training_metrics_or_a_known_split(run: Path):
    sound = open_run(run)
    weights = sound[0].weights
    with RunWriter.create("bare", replace(sound.task, split="unknown"), sound.model) as writer:
        writer.append(0, weights)
        writer.append(3, weights, {"train_loss": math.nan})
    assert found("bare") == []
    assert open_run("bare").rows[0]["weights"] == weights_digest(weights)


# ---- what must be there ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["metrics.jsonl", "steps", "split.safetensors"])
def test_a_part_that_is_missing_is_missed(name: str, run: Path):
    without_end(run)
    for state in (run / "state").iterdir():
        state.unlink()
    (shutil.rmtree if name == "steps" else Path.unlink)(run / name)
    if name == "split.safetensors":
        with pytest.raises(InputError, match=r"cannot read run/split.safetensors: No such file"):
            open_run(run)
    else:
        assert f"run/{name} is missing" in found(run)


@pytest.mark.parametrize("step", [0, 2, 5, 18])
def test_a_line_that_the_schedule_promises(step: int, run: Path):
    rewrite(run, lambda row: row if row["step"] != step else None)
    assert any(re.search(rf"metrics.jsonl has no line of step {step}; the next one is of", line) for line in found(run))


def test_a_line_that_no_schedule_logs_and_metrics_that_others_lack(run: Path):
    rewrite(run, lambda row: row | {"step": 3} if row["step"] == 4 else row)
    assert any("metrics.jsonl has a line of step 3, which the schedule does not log" in line for line in found(run))


def test_a_metric_that_is_gone(run: Path):
    rewrite(run, lambda row: {k: v for k, v in row.items() if k != "weight_norm" or row["step"] != 4})
    assert found(run) == ["run/metrics.jsonl has other metrics at step 4 than at step 0: ['weight_norm']"]


def test_lines_lost_at_the_end_of_a_finished_run(run: Path):
    """By the note in run.json, by the state, and where both are gone it is an unfinished run, as it says."""
    lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run / "metrics.jsonl").write_bytes(b"".join(lines[:-2]))
    [line] = found(run)
    assert re.search(
        r"metrics.jsonl ends at step \d+, and run.json says that it ended at step 20 with other sums", line
    )
    without_end(run)
    [line] = found(run)
    assert re.search(r"state/step_000000020.safetensors was written after other lines than .*: some are missing", line)
    for state in (run / "state").iterdir():
        state.unlink()
    sound = verify(open_run(run))
    assert sound.contradictions == []
    assert not open_run(run).is_complete
    assert "1 checkpoint against the line of its step, which is not there (yet)" in sound.unchecked


def test_the_state_is_that_of_its_step(run: Path):
    sound = open_run(run)
    [file] = (run / "state").iterdir()
    tensors, header = read_tensors(file)
    name = next(name for name in tensors if name.startswith("weights|"))
    tensors[name] = tensors[name] + 1
    file.write_bytes(tensor_bytes(tensors, header | {"tensors": weights_digest(tensors)}))
    assert found(run) == [f"{file} was altered: its weights are not those of step {sound.steps[-1]}"]


def test_norms_are_recomputed(run: Path):
    for name, factor in {"weight_norm": 1.01, "gradient_norm": 1.1}.items():
        rewrite(run, lambda row, name=name, factor=factor: row | {name: row[name] * factor})
    lines = found(run)
    assert len(lines) == 2 * len(open_run(run))
    assert sum("the weight norm is" in line for line in lines) == sum("the gradient norm is" in line for line in lines)


def test_what_was_not_checked_is_said(run: Path):
    (run / "notes.txt").write_text("mine")
    told = verify(open_run(run))
    assert told.contradictions == []
    assert [line.split(",")[0] for line in told.checked] == [
        "13 lines of metrics.jsonl: sums",
        "5 of 5 checkpoints: sums",
        "the state to go on from: its sums",
    ]
    assert told.unchecked == [
        "8 lines without a checkpoint against weights: their sums alone",
        "metrics that the weights do not give: train_loss_max, train_loss_max_step",
        "what is not part of a run: notes.txt",
    ]


def test_a_run_without_checkpoints_says_so(run: Path):
    """And does not say that none of none were checked."""
    for path in [*(run / "steps").iterdir(), *(run / "state").iterdir()]:
        path.unlink()
    (run / "thinned.json").write_bytes(with_sum({"steps": open_run(run).metrics.step.values.tolist()}))
    told = verify(open_run(run))
    assert told.contradictions == []
    assert [line.split(",")[0] for line in told.checked] == ["13 lines of metrics.jsonl: sums"]
    assert told.unchecked[0] == "checkpoints: there are none; thinned.json notes that 13 were removed"


def test_a_schedule_of_a_thousand_million_steps_costs_nothing(run: Path):
    """Its steps are asked for one by one, and never listed."""
    experiment = open_run(run).experiment
    training = replace(experiment.training, steps=999_999_999, checkpoint_every=1, log_every=1)
    with RunWriter.create("long", experiment.task, experiment.model, training) as writer:
        writer.append(0, open_run(run)[0].weights)
    began = time.process_time()  # whatever else the machine is doing
    assert found("long") == []
    assert time.process_time() - began < 5


def test_a_run_of_the_first_format_verifies_and_says_what_it_has_no_sums_for():
    told = verify(open_run(reference_path()), lambda steps: steps[-1:])
    assert told.contradictions == []
    assert any("format 1 has no sums for" in line for line in told.unchecked)
