"""Somebody's own loop, recorded: what is kept is what was trained, it can be read while it grows, and the loop goes on
after a stop as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import interp
import interp.explanation
from interp import Recorder
from interp.cli import main
from interp.errors import InputError
from interp.experiment import ModelConfig, Task, TrainingConfig
from interp.interchange.layouts.matching import written
from interp.interchange.layouts.tables import LAYOUTS
from interp.models import initial_weights
from interp.runs import describe, load_loop_state, open_run, save_loop_state

P = 7
TASK = Task(P, train_fraction=0.6)
PAIRS = torch.from_numpy(TASK.pairs)[torch.from_numpy(TASK.train_indices)]
LABELS = PAIRS.sum(1) % P


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Embedding(P, 8), nn.Flatten(), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, P))


def adam(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.5)


def update(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(PAIRS), LABELS).backward()
    optimizer.step()


def test_what_is_kept_is_what_was_trained():
    net, states = network(), {}
    optimizer = adam(net)
    with Recorder("run", TASK, net, neurons="3", embedding="0.weight") as recorder:
        for step in range(31):
            if step % 10 == 0:
                recorder.save(step, learning_rate=0.01, train_loss=99.0)
                states[step] = {name: weight.clone() for name, weight in net.state_dict().items()}
            update(net, optimizer)
    run = open_run("run")
    assert run.steps == [0, 10, 20, 30]
    assert run.task == TASK
    for step, state in states.items():
        checkpoint = run[step]
        assert torch.equal(checkpoint.weights["module.0.weight"], state["0.weight"])
        assert torch.equal(checkpoint.W_E, state["0.weight"])
        other = network(1)
        other.load_state_dict(state)
        assert torch.equal(checkpoint.logits.flatten(0, 1), other(torch.from_numpy(TASK.pairs)).detach())
        row = next(row for row in run.rows if row["step"] == step)
        assert row["train_loss"] == pytest.approx(checkpoint.loss("train"))
        assert (row["given_train_loss"], row["learning_rate"]) == (99.0, 0.01)
        norm = sum(weight.square().sum().item() for weight in other.state_dict().values()) ** 0.5
        assert row["weight_norm"] == pytest.approx(norm)
    assert main(["verify", "run"]) == 0
    assert main(["explain", "run"]) == 0
    assert main(["report", "run"]) == 0


def test_curves_can_be_finer_than_checkpoints():
    net = network()
    with Recorder("run", TASK, net) as recorder:
        for step in range(5):
            recorder.save(step, keep=step % 4 == 0, lr=0.1)
            update(net, adam(net))
    run = open_run("run")
    assert run.steps == [0, 4]
    assert [row["step"] for row in run.rows] == [0, 1, 2, 3, 4]
    assert all({"train_loss", "test_accuracy", "lr"} <= row.keys() for row in run.rows)
    assert main(["verify", "run"]) == 0


def test_a_recorded_run_of_our_model_is_told_as_the_one_it_was_taken_from():
    """All of it, forces and circuit too: but for the steps that were logged between checkpoints."""
    original = open_run(interp.reference_path())
    steps = original.steps[::6] + [3000] * (original.steps[-1] not in original.steps[::6])
    with Recorder("recorded", original.task, original.model, training=original.training) as recorder:
        for step in steps:
            recorder.save(step, original[step].weights)
    with interp.RunWriter.create("written", original.task, original.model, original.training) as writer:
        for step in steps:
            writer.append(step, original[step].weights)
    told = [interp.explanation.explain(open_run(name)) for name in ("recorded", "written")]
    assert str(told[0]) == str(told[1])
    assert told[0].numbers == told[1].numbers


def test_a_state_dict_goes_into_a_copy():
    net, other = network(), network(1)
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    with Recorder("run", TASK, net) as recorder:
        recorder.save(0, {f"module.{name}": weight for name, weight in other.state_dict().items()})
        recorder.save(1, other)
        recorder.save(2)
    run = open_run("run")
    assert torch.equal(run[0].logits, run[1].logits)
    assert not torch.equal(run[0].logits, run[2].logits)
    assert all(torch.equal(before[name], weight) for name, weight in net.state_dict().items())
    with pytest.raises(InputError, match="the weights is no state dict of the module"):
        Recorder("other", TASK, net).save(0, {"x": torch.ones(2), "y": torch.ones(2)})


@pytest.mark.parametrize("layout", ["transformer-lens", "nanda", "pytorch-per-head", "pytorch-linear"])
def test_weights_in_a_known_layout_become_ours(layout: str):
    model = ModelConfig(d_model=12, n_heads=2, d_mlp=20)
    weights = initial_weights(model, P)
    theirs = written(LAYOUTS[layout], weights, {"n_layers": 1, "n_heads": 2, "d_head": 6})
    with Recorder("run", TASK, model) as recorder:
        recorder.save(0, theirs)
        recorder.save(5, {name: 2 * weight for name, weight in theirs.items()})
    run = open_run("run")
    for name, weight in weights.items():
        assert torch.equal(run[0].weights[name], weight)
        assert torch.equal(run[5].weights[name], 2 * weight)
    assert run.info["recorder"]["layout"] == (None if layout == "transformer-lens" else layout)


def test_weights_of_another_model_are_refused():
    model = ModelConfig(d_model=12, n_heads=2, d_mlp=20)
    other = initial_weights(ModelConfig(d_model=12, n_heads=2, d_mlp=24), P)
    with Recorder("run", TASK, model) as recorder:
        with pytest.raises(InputError, match=r"in no layout of this model: .*d_mlp|d-mlp"):
            recorder.save(0, other)
        theirs = written(LAYOUTS["nanda"], other, {"n_layers": 1, "n_heads": 2, "d_head": 6})
        with pytest.raises(InputError, match=r"the weights are in no layout of this model: .*Module itself"):
            recorder.save(0, theirs)
        with pytest.raises(InputError, match="in no layout of this model"):
            recorder.save(0, network().state_dict())
        with pytest.raises(InputError, match="this recorder has no module: give save the weights too"):
            recorder.save(0)
    assert open_run("run").steps == []


def test_steps_ascend_and_one_writes():
    net = network()
    with Recorder("run", TASK, net) as recorder:
        recorder.save(5)
        recorder.save(5)  # the same once more
        assert recorder.run.steps == [5]
        with pytest.raises(InputError, match="has step 5 already, with other weights; steps ascend"):
            recorder.save(5, network(seed=1).state_dict())
        with pytest.raises(InputError, match="step 4 cannot follow; steps ascend"):
            recorder.save(4)
        with pytest.raises(InputError, match=r"run .*(writ|lock|use)"):
            Recorder("run", TASK, net, resume=True)
    with pytest.raises(InputError, match="already exists; resume=True goes on with it, overwrite=True replaces it"):
        Recorder("run", TASK, net)
    Recorder("run", TASK, net, overwrite=True).close()
    assert open_run("run").steps == []


def test_a_loop_that_was_stopped_goes_on_to_the_same_bits():
    whole, net = network(), network()
    optimizer = adam(whole)
    for _ in range(40):
        update(whole, optimizer)

    def until(last: int, recorder: Recorder, optimizer: torch.optim.Optimizer, first: int = 0) -> None:
        for step in range(first, last + 1):
            if step % 10 == 0 and step not in recorder.run.steps:
                recorder.save(step, optimizer=optimizer if step % 20 == 0 else None)
            update(net, optimizer)

    with Recorder("run", TASK, net) as recorder:
        until(35, recorder, adam(net))
    assert open_run("run").steps == [0, 10, 20, 30]
    net = network(1)
    optimizer = adam(net)
    with Recorder("run", TASK, net, resume=True) as recorder:
        state = recorder.load_state()
        assert state is not None
        assert state.step == 20
        assert recorder.run.steps == [0, 10, 20]  # what came later is written again
        net.load_state_dict(state.weights)
        optimizer.load_state_dict(state.optimizer)
        until(39, recorder, optimizer, first=20)
        recorder.save(40)
    run = open_run("run")
    assert run.steps == [row["step"] for row in run.rows] == [0, 10, 20, 30, 40]
    for name, weight in whole.state_dict().items():
        assert torch.equal(run[40].weights[f"module.{name}"], weight)


def test_resuming_needs_the_same_run():
    net = network()
    assert Recorder("new", TASK, net, resume=True).load_state() is None  # there is none yet: it begins
    Recorder("run", TASK, net).close()
    with pytest.raises(InputError, match=r"has another task: train_fraction 0\.5 in place of 0\.6"):
        Recorder("run", Task(P, train_fraction=0.5), net, resume=True)
    with pytest.raises(InputError, match="has another model: "):
        Recorder("run", TASK, net, neurons="3", resume=True)
    with interp.RunWriter.create("ours", TASK, ModelConfig(d_mlp=4)):
        pass
    with pytest.raises(InputError, match="was not written by a recorder"):
        Recorder("ours", TASK, ModelConfig(d_mlp=4), resume=True)
    Recorder("run", TASK, net, resume=True).close()  # and none of these kept the lock


def test_our_own_commands_do_not_train_it(capsys: pytest.CaptureFixture[str]):
    model = ModelConfig(d_model=8, n_heads=2, d_mlp=8)
    training = TrainingConfig(steps=100, lr=0.01)
    with Recorder("run", TASK, model, training=training) as recorder:
        recorder.save(3, initial_weights(model, P))
    before = Path("run/metrics.jsonl").read_bytes()
    assert main(["resume", "run"]) == 2
    assert "recorded by a training loop of its own" in capsys.readouterr().err
    assert Path("run/metrics.jsonl").read_bytes() == before
    assert main(["verify", "run"]) == 0  # its loop keeps what it likes
    assert main(["info", "run"]) == 0
    assert "recorded     by a training loop of its own" in capsys.readouterr().out


def test_an_unknown_split_is_no_divergence():
    with Recorder("run", Task(P, split="unknown"), network()) as recorder:
        recorder.save(0)
    assert "train_loss" not in open_run("run").rows[0]
    assert "checkpoints  1 checkpoint, recorded, from step 0 to 0" in describe(open_run("run"))
    assert main(["explain", "run"]) == 0


def test_weights_that_are_not_finite_are_kept_and_told(capsys: pytest.CaptureFixture[str]):
    net = network()
    with Recorder("run", TASK, net) as recorder:
        recorder.save(0)
        nn.init.constant_(net[4].bias, torch.nan)
        recorder.save(1)
    assert open_run("run").rows[1]["train_loss"] is None
    assert main(["explain", "run"]) == 0
    assert "diverged" in capsys.readouterr().out


# ---- the state of a loop ---------------------------------------------------------------------------------------------


def test_a_state_comes_back_as_it_was():
    values = {
        "adam": {"state": {0: {"step": torch.tensor(3.0), "m": torch.randn(2, 3).double()}}, "betas": (0.9, 0.98)},
        "random": torch.get_rng_state(),
        "half": torch.randn(3).bfloat16(),
        "empty": [],
        "numbers": [1, True, None, 0.1, float("inf"), -float("inf"), "word"],
        "numpy": np.float64(0.3),
    }
    with interp.RunWriter.create("run", TASK, ModelConfig(d_mlp=4)) as writer:
        save_loop_state(writer, 7, values)
        step, found = load_loop_state(writer.run) or (None, {})
    assert step == 7
    assert _same(found, values)
    assert found["adam"]["betas"] == (0.9, 0.98)
    assert type(found["numbers"][1]) is bool


def _same(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return type(one) is type(other) and all(map(_same, one, other))
    return one == other


def test_a_state_that_cannot_be_kept_says_where():
    with Recorder("run", TASK, network()) as recorder:
        with pytest.raises(InputError, match=r"the state\['optimizer'\]\['rule'\] is a function, which cannot be kept"):
            recorder.save(0, optimizer={"rule": lambda step: step})
        assert recorder.load_state() is None
        with pytest.raises(InputError, match=r"\['x'\] is a tensor that is not plain \(.*complex"):
            recorder.save(0, optimizer={"x": torch.ones(2, dtype=torch.complex64)})
        assert recorder.run.steps == []
        assert recorder.run.rows == []
        recorder.save(0, optimizer={"rule": 1})  # what was refused left no step behind
        assert recorder.run.steps == [0]


@pytest.mark.parametrize(
    ("step", "metrics", "expected"),
    [
        (310.0, {}, "step must be an integer, got 310.0"),
        (True, {}, "step must be an integer, got True"),
        ("3", {}, "step must be an integer, got '3'"),
        (1, {"mine": None}, "the metric 'mine' is None, expected a number"),
        (1, {"mine": "0.5"}, "the metric 'mine' is '0.5', expected a number"),
        (1, {"mine": torch.ones(3)}, r"the metric 'mine' is a tensor of shape \[3\], expected one number"),
        (1, {"mine": np.ones(2)}, r"the metric 'mine' is a tensor of shape \[2\], expected one number"),
        (1, {"mine": torch.tensor(1j)}, "the metric 'mine' is 1j, expected a number"),
    ],
)
def test_a_step_or_metric_that_is_no_number_is_named(step: Any, metrics: dict[str, Any], expected: str):
    with Recorder("run", TASK, network()) as recorder:
        with pytest.raises(InputError, match=expected):
            recorder.save(step, **metrics)
        assert recorder.run.steps == recorder.run.rows == []
        mine = {"a": np.float32(0.5), "b": torch.ones(1), "c": np.array([2]), "d": 10**400, "e": True}
        recorder.save(np.int64(1), **mine)
        [row] = recorder.run.rows
        assert [row[name] for name in mine] == [0.5, 1.0, 2.0, None, 1.0]


def test_a_damaged_state_is_named():
    with Recorder("run", TASK, network()) as recorder:
        recorder.save(0, optimizer={"a": 1})
    path = Path("run/state/loop.safetensors")
    path.write_bytes(path.read_bytes().replace(b'"dict"', b'"dixt"'))
    with (
        Recorder("run", TASK, network(), resume=True) as recorder,
        pytest.raises(InputError, match=r"loop\.safetensors was altered: its tensors have digest"),
    ):
        recorder.load_state()


# ---- while it grows --------------------------------------------------------------------------------------------------

LOOP = """
import sys, torch
from torch import nn
import interp
torch.manual_seed(0)
net = nn.Sequential(nn.Embedding(7, 8), nn.Flatten(), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 7))
with interp.Recorder("run", interp.Task(7, train_fraction=0.6), net) as recorder:
    for step in range(1_000_000):
        recorder.save(step, optimizer={"step": step})
        print(step, flush=True)
"""


def test_a_kill_leaves_a_run_that_is_watched_and_gone_on_with(capsys: pytest.CaptureFixture[str]):
    process = subprocess.Popen([sys.executable, "-c", LOOP], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 5:
            break
    assert len(open_run("run").steps) >= 5  # it grows
    started = time.process_time()  # whatever else the machine is doing
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert main(["watch", "run"]) == 0
    assert "is not being written" in capsys.readouterr().out
    assert main(["verify", "run"]) == 0
    with Recorder("run", Task(7, train_fraction=0.6), network(), resume=True) as recorder:
        state = recorder.load_state()
        assert state is not None
        assert recorder.run.steps[-1] == state.step == state.optimizer["step"]
        recorder.save(state.step + 1)
    assert time.process_time() - started < 60


def test_a_loop_killed_before_its_first_state_begins_anew():
    """What it saves again is what is there; anything else is told."""
    net = network()
    with Recorder("run", TASK, net) as recorder:
        recorder.save(0)  # killed before its state was written
        recorder.save(1, keep=False, learning_rate=0.1)
    with Recorder("run", TASK, net, resume=True) as recorder:
        assert recorder.load_state() is None
        recorder.save(0, optimizer={"n": 1})
        with pytest.raises(InputError, match="has step 1 already, with other numbers; steps ascend"):
            recorder.save(1, keep=False, learning_rate=0.2)
        recorder.save(1, keep=False, learning_rate=0.1)
        recorder.save(2)
        assert [row["step"] for row in recorder.run.rows] == [0, 1, 2]
        state = recorder.load_state()
        assert state is not None
        assert (state.step, state.optimizer) == (0, {"n": 1})
        assert [row["step"] for row in recorder.run.rows] == [0]


def test_a_run_says_from_its_beginning_that_it_was_recorded(monkeypatch):
    """Or a kill in between would leave one that no recorder goes on with."""
    monkeypatch.setattr(interp.RunWriter, "note", None)
    with Recorder("run", TASK, network()) as recorder:
        assert recorder.run.info["recorder"] == {"layout": None}


def test_losses_and_accuracies_of_validation_pairs_are_recorded_where_there_are_any(tmp_path: Path):
    task = Task(7, train_fraction=0.5, validation_fraction=0.5)
    net = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 7))
    parts = {"neurons": "3", "embedding": "0.weight", "unembedding": "4.weight"}
    with Recorder(tmp_path / "run", task, net, **parts) as recorder:
        recorder.save(0)
    run = interp.open_run(tmp_path / "run")
    assert run.rows[0]["validation_accuracy"] == run.last.accuracy("validation")
    assert run.curves.loss.sel(split="validation", step=0) == pytest.approx(run.last.loss("validation"))
