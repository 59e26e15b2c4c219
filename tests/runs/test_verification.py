"""What `interp verify` finds: every way in which a run can contradict itself, and nothing in a sound one."""

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.runs import RunWriter, differences, open_run, step_name, thin, weights_digest
from interp.runs.format import step_header
from interp.runs.verification import ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE
from interp.runs.writer import tensor_bytes
from interp.sweeps import run_experiment

EXPERIMENT = Experiment(
    Task(p=7, train_fraction=0.5),
    ModelConfig(d_model=8, n_heads=2, d_mlp=8),
    TrainingConfig(steps=20, checkpoint_every=5, log_every=2),
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_experiment(EXPERIMENT, tmp_path_factory.mktemp("original") / "run").path


@pytest.fixture
def path(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(original, "run"))


def found(path: Path) -> list[str]:
    return list(differences(open_run(path)))


def rewrite(path: Path, change: Callable[[dict], dict]) -> None:
    """Every line of metrics.jsonl, changed."""
    rows = [change(json.loads(line)) for line in (path / "metrics.jsonl").read_text().splitlines()]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_sound_run_has_no_differences(path: Path):
    assert found(path) == []


def test_every_checkpoint_is_walked_over_once(path: Path):
    walked = []
    assert list(differences(open_run(path), lambda steps: walked.extend(steps) or steps)) == []
    assert walked == [0, 5, 10, 15, 20]


@pytest.mark.parametrize(
    "name",
    ["train_loss", "test_loss", "unmirrored_test_loss", "train_accuracy", "test_accuracy", "unmirrored_test_accuracy"],
)
def test_losses_and_accuracies_are_recomputed(name: str, path: Path):
    rewrite(path, lambda row: row | {name: row.get(name, 0) + 0.3} if row["step"] == 10 else row)
    [line] = found(path)
    assert re.fullmatch(
        rf"run: step 10: the {name.replace('_', '.')} is [\d.]+, recorded was [\d.]+",
        line.replace("the unmirrored_test ", "the unmirrored.test "),
    )


def test_what_is_equal_to_rounding_is_equal(path: Path):
    rewrite(
        path,
        lambda row: row | {"train_loss": row["train_loss"] * (1 + RELATIVE_TOLERANCE / 2) + ABSOLUTE_TOLERANCE / 2},
    )
    assert found(path) == []
    rewrite(path, lambda row: row | {"train_loss": row["train_loss"] * (1 + 3 * RELATIVE_TOLERANCE)})
    assert len(found(path)) == len(open_run(path))


def test_a_loss_that_is_not_recorded_is_not_compared(path: Path):
    rewrite(
        path,
        lambda row: {name: value for name, value in row.items() if not name.endswith("loss")} | {"test_loss": None},
    )
    assert found(path) == []


def test_weights_of_another_step_under_this_ones_name(path: Path):
    """Sound files, in the wrong place: only the recorded digest knows."""
    weights = open_run(path)[5].weights
    (path / "steps" / step_name(10)).write_bytes(tensor_bytes(weights, step_header(open_run(path).hash, 10)))
    [line] = found(path)
    assert line.startswith("run/steps/step_000000010.safetensors was altered")


def test_an_altered_digest(path: Path):
    rewrite(path, lambda row: row | {"weights": "0" * 16} if row["step"] == 10 else row)
    [line] = found(path)
    assert re.match(
        r"run/steps/step_000000010.safetensors was altered: its weights have digest [0-9a-f]{16}, metrics.jsonl "
        r"recorded 0{16}",
        line,
    )


def test_losses_without_digests_still_tell(path: Path):
    """Somebody removes the digests and puts other weights in place."""
    weights = {name: 2 * weight for name, weight in open_run(path)[10].weights.items()}
    (path / "steps" / step_name(10)).write_bytes(tensor_bytes(weights, step_header(open_run(path).hash, 10)))
    rewrite(path, lambda row: {name: value for name, value in row.items() if name != "weights"})
    lines = found(path)
    assert lines
    assert all(line.startswith("run: step 10: the ") for line in lines)


def test_everything_is_found_at_once(path: Path):
    (path / "steps" / step_name(0)).unlink()
    (path / "steps" / step_name(5)).write_bytes(b"")
    (path / "steps" / step_name(10)).write_bytes((path / "steps" / step_name(10)).read_bytes()[:-4])
    assert [re.search(r"step[_ ]0*(\d+)", line)[1] for line in found(path)] == ["0", "5", "10"]


def test_a_checkpoint_that_the_schedule_does_not_keep(path: Path):
    weights = open_run(path)[10].weights
    (path / "steps" / step_name(11)).write_bytes(tensor_bytes(weights, step_header(open_run(path).hash, 11)))
    assert found(path) == ["run: there is a checkpoint of step 11, which the schedule does not keep"]


def test_thinning_is_no_difference(path: Path):
    thin(open_run(path), 10)
    assert found(path) == []
    (path / "steps" / step_name(10)).unlink()
    assert found(path) == ["run: the checkpoint of step 10 is missing, though metrics.jsonl records it"]


def test_a_run_without_training_metrics_or_a_known_split(tmp_path: Path):
    task, weights = Task(p=7, split="unknown"), open_run_weights()
    with RunWriter.create(tmp_path / "bare", task, EXPERIMENT.model) as writer:
        writer.append(0, weights)
        writer.append(3, weights, {"train_loss": math.nan})
    assert found(tmp_path / "bare") == []
    assert open_run(tmp_path / "bare").rows[0]["weights"] == weights_digest(weights)


def open_run_weights() -> dict[str, torch.Tensor]:
    from interp.models import initial_weights

    return initial_weights(EXPERIMENT.model, 7)


def test_a_tensor_that_does_not_belong(path: Path):
    file = path / "steps" / step_name(10)
    content = safetensors.torch.load(file.read_bytes()) | {"blocks.1.attn.W_Q": torch.zeros(2)}
    file.write_bytes(tensor_bytes(content, step_header(open_run(path).hash, 10)))
    [line] = found(path)
    assert "unexpected tensor 'blocks.1.attn.W_Q' [2]" in line
