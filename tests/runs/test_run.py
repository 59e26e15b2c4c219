"""Reading runs: what was written comes back, also to a reader that knows the specification alone, also while training
goes on."""

import hashlib
import itertools
import json
import math
import re
import shutil
import struct
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch import Tensor
from torch.testing import assert_close

from interp.errors import InputError
from interp.experiment import ModelConfig, Task, TrainingConfig
from interp.models import initial_weights
from interp.runs import Run, RunWriter, open_run, step_name

TASK, MODEL, TRAINING = Task(p=7, train_pairs=20), ModelConfig(d_model=8, n_heads=2, d_mlp=12), TrainingConfig(steps=30)
STEPS = [0, 10, 20, 30]
ROOT = Path(__file__).parents[2]
STEP_10 = Path("steps") / step_name(10)


def weights_of(step: int) -> dict[str, Tensor]:
    return initial_weights(replace(MODEL, seed=step), TASK.p)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "run"
    with RunWriter.create(path, TASK, MODEL, TRAINING) as writer:
        for step in STEPS:
            writer.append(step, weights_of(step), {"train_loss": 1 / (step + 1), "test_loss": math.nan})
            if step < 30:
                writer.log(step + 5, {"train_loss": 2.0, "extra": 3.0})
    return path


@pytest.fixture
def path(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "run")


# ---- what was written comes back -------------------------------------------------------------------------------------


def test_a_run_comes_back(path: Path) -> None:
    run = open_run(path)
    assert (run.task, run.model, run.training) == (TASK, MODEL, TRAINING)
    assert run.hash == run.experiment.hash
    assert run.steps == STEPS
    assert len(run) == len(STEPS)
    assert [checkpoint.step for checkpoint in run] == STEPS
    assert [run.at(index).step for index in (0, 1, -1)] == [0, 10, 30]
    for step in STEPS:
        read = run[step].weights
        assert list(read) == list(weights_of(step))
        for name, weight in weights_of(step).items():
            assert_close(read[name], weight, rtol=0, atol=0)


def test_a_trajectory_is_the_stack_of_the_checkpoints(path: Path) -> None:
    run = open_run(path)
    for name in weights_of(0):
        stacked = torch.stack([checkpoint.weights[name] for checkpoint in run])
        assert_close(run.trajectory(name), stacked, rtol=0, atol=0)
    with pytest.raises(InputError, match=r"unknown tensor 'embed\.W_e'; did you mean 'embed\.W_E'"):
        run.trajectory("embed.W_e")


def test_equal_weights_give_equal_bytes_and_all_headers_have_one_length(tmp_path: Path) -> None:
    steps = [-1, 0, 7, 123_456_789, 999_999_999]
    contents = []
    for name, order in {"one": list, "two": lambda items: reversed(list(items))}.items():
        with RunWriter.create(tmp_path / name, TASK, MODEL) as writer:
            for step in steps:
                writer.append(step, dict(order(weights_of(0).items())))
        assert writer.run.steps == steps
        contents.append([(tmp_path / name / "steps" / step_name(step)).read_bytes() for step in steps])
    assert contents[0] == contents[1]
    assert len({struct.unpack("<Q", content[:8]) for content in contents[0]}) == 1
    length = 8 + struct.unpack("<Q", contents[0][0][:8])[0]
    assert len({content[length:] for content in contents[0]}) == 1


def test_the_digest_is_the_one_of_the_specification(path: Path) -> None:
    expected = hashlib.sha256()
    for name, weight in sorted(weights_of(10).items()):
        expected.update(f"{name} F32 [{', '.join(map(str, weight.shape))}]\n".encode())
        expected.update(struct.pack(f"<{weight.numel()}f", *weight.flatten().tolist()))
    assert open_run(path).digests[10] == expected.hexdigest()[:16]
    indices = TASK.train_indices
    split = hashlib.sha256(b"labels I64 [49]\n" + struct.pack("<49q", *TASK.labels))
    split.update(f"train_indices I64 [{len(indices)}]\n".encode() + struct.pack(f"<{len(indices)}q", *indices))
    assert json.loads((path / "run.json").read_text())["split_digest"] == split.hexdigest()[:16]


def test_a_reader_written_from_the_specification_alone_sees_the_same(path: Path) -> None:
    info = json.loads((path / "run.json").read_text())
    content = (path / STEP_10).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    text = json.dumps(info["experiment"], sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == info["hash"]
    assert json.loads(header.pop("__metadata__")["interp"]) == {
        "experiment": info["hash"],
        "format": 2,
        "step": "000000010",
        "weights": open_run(path).digests[10],
    }
    read = open_run(path)[10].weights
    assert header.keys() == read.keys()
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        assert_array_equal(np.frombuffer(content[begin:end], "<f4").reshape(entry["shape"]), read[name].numpy())


def test_the_reader_in_the_specification_reads_the_reference_run(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    (program,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "checkpoints" / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    found: dict[str, Any] = {}
    exec(program, found)
    run = open_run(ROOT / "checkpoints" / "reference")
    assert_array_equal(found["W_E"], run.at(-1).weights["embed.W_E"].numpy())
    assert found["metrics"] == run.rows


def test_metrics_are_those_logged_with_nan_where_there_is_none(path: Path) -> None:
    metrics = open_run(path).metrics
    assert metrics.step.values.tolist() == [0, 5, 10, 15, 20, 25, 30]
    assert set(metrics.data_vars) == {"train_loss", "test_loss", "extra"}
    assert_array_equal(metrics.train_loss, [1, 2, 1 / 11, 2, 1 / 21, 2, 1 / 31])
    assert_array_equal(metrics.extra, [math.nan, 3, math.nan, 3, math.nan, 3, math.nan])
    assert metrics.test_loss.isnull().all()


def test_an_unknown_split_and_no_training_come_back(written_run: Callable[..., Run], tmp_path: Path) -> None:
    task = Task(p=7, split="unknown")
    run = open_run(written_run(tmp_path / "run", task, MODEL, steps=()).path)
    assert (run.task, run.training, run.experiment, run.is_complete) == (task, None, None, True)
    assert len(run.metrics.step) == 0
    for read in (lambda: run[0], lambda: run.at(-1), lambda: run.last, lambda: run.trajectory("embed.W_E")):
        with pytest.raises(InputError, match=r"no checkpoints yet|has 0 checkpoints"):
            read()


def test_an_unfinished_last_line_is_not_there_yet(path: Path) -> None:
    content = (path / "metrics.jsonl").read_bytes()
    begin = content.rindex(b"\n", 0, -1) + 1
    run = open_run(path)
    for end in range(begin, len(content)):
        (path / "metrics.jsonl").write_bytes(content[:end])
        assert [row["step"] for row in run.rows] == [0, 5, 10, 15, 20, 25]
        assert run.metrics.sizes["step"] == 6
        assert run[30].step == 30


def test_a_reader_sees_whole_checkpoints_and_lines_while_they_are_written(tmp_path: Path) -> None:
    seen: set[int] = set()
    failures: list[BaseException] = []
    done = threading.Event()
    # As many steps as the reader is behind by, at most: a reading takes as long as there are steps, and a writer that
    # waits for nobody would be a longer way ahead at each.
    ahead = threading.Semaphore(5)

    def read() -> None:
        try:
            run = open_run(tmp_path / "run")
            while not done.is_set():
                logged = [row["step"] for row in run.rows]
                steps = run.steps
                assert logged == list(range(len(logged)))
                assert steps == list(range(len(steps)))
                assert len(logged) <= len(steps)  # the checkpoint comes first, its line after it
                if steps:
                    assert run[steps[-1]].weights["embed.W_E"][0, 0] == steps[-1]
                    assert run.trajectory("unembed.W_U")[: len(steps), 0, 0].tolist() == steps
                    seen.add(steps[-1])
                ahead.release(5)
        except BaseException as error:
            failures.append(error)
            ahead.release()

    with RunWriter.create(tmp_path / "run", TASK, MODEL) as writer:
        reader = threading.Thread(target=read)
        reader.start()
        for step in itertools.count():
            ahead.acquire()
            writer.append(
                step, {name: torch.full_like(weight, step) for name, weight in weights_of(0).items()}, {"loss": 1.0}
            )
            if failures or len(seen) > 10:
                break
    done.set()
    reader.join()
    assert failures == []
    assert len(seen) > 10


def test_an_unsaved_step_names_the_nearest(path: Path) -> None:
    run = open_run(path)
    with pytest.raises(InputError, match="no checkpoint of step 24; the nearest is 20"):
        run[24]
    with pytest.raises(InputError, match="no checkpoint of step 9999999999; the nearest is 30"):
        run[9_999_999_999]
    with pytest.raises(InputError, match="has 4 checkpoints; there is none at index 4"):
        run.at(4)


def test_only_step_files_are_steps(path: Path) -> None:
    arabic = "step_٠٠٠٠٠٠٠٤٠.safetensors"
    for name in (
        ".step_000000040.safetensors.1.tmp",
        "step_40.safetensors",
        "step_-00000000.safetensors",
        arabic,
        "notes",
    ):
        (path / "steps" / name).touch()
    assert open_run(path).steps == STEPS


def test_a_run_is_complete_when_the_line_of_its_last_step_is_there(path: Path) -> None:
    run = open_run(path)
    assert run.is_complete
    lines = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (path / "metrics.jsonl").write_text("".join(lines[:-1]))  # killed after the last checkpoint, before its line
    assert not run.is_complete
    assert run[30].step == 30
