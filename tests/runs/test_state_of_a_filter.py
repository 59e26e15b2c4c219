"""What a gradient filter remembers on disk: a run that is stopped and gone on with is the same to the last bit."""

import contextlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import interp
from interp.errors import InputError
from interp.experiment import GradientFilter
from interp.machine import read_tensors, tensor_bytes
from interp.runs import Run, verify, weights_digest
from interp.runs.state import MOST_WEIGHTS
from interp.sweeps import driver, resume_run, run_experiment

FILTERS = (
    GradientFilter(kind="ema", orthogonal=True),
    GradientFilter(kind="ma", window=8),
    GradientFilter(kind="ma", window=2 * MOST_WEIGHTS),  # a state that is larger than any other may be
)


def trained(path: Path, one: GradientFilter, stop_at: int | None = None) -> Run:
    """A run of 20 steps, interrupted after a snapshot of step `stop_at`."""
    training = interp.TrainingConfig(steps=20, checkpoint_every=10, log_every=2, filter=one)
    model = interp.ModelConfig(d_model=8, n_heads=2, d_mlp=8)

    def stop(snapshot: Any) -> None:
        if snapshot.step == stop_at:
            raise KeyboardInterrupt

    with contextlib.suppress(driver.InterruptedTrainingError):
        run_experiment(interp.Experiment(interp.Task(7, train_fraction=0.5), model, training), path, report=stop)
    return interp.open_run(path)


@pytest.mark.parametrize("one", FILTERS, ids=lambda one: one.in_words)
def test_gone_on_with_it_is_the_same_to_the_last_bit(one: GradientFilter, tmp_path: Path) -> None:
    whole, stopped = trained(tmp_path / "whole", one), trained(tmp_path / "stopped", one, stop_at=12)
    assert not stopped.is_complete
    [state] = (stopped.path / "state").iterdir()
    names = [name for name in read_tensors(state)[0] if name.startswith("filter|")]
    assert len(names) == 11 * {"ema": 1, "ma": 1 + min(one.window, stopped.state_step or 0)}[one.kind]
    assert not verify(stopped).contradictions
    again = resume_run(stopped.path)
    assert weights_digest(again[20].weights) == weights_digest(whole[20].weights)
    assert [row["train_loss"] for row in again.rows] == [row["train_loss"] for row in whole.rows]
    assert not verify(again).contradictions


def test_a_state_without_it_is_refused_by_name(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", FILTERS[1], stop_at=12)
    [state] = (run.path / "state").iterdir()
    tensors, header = read_tensors(state)
    name = "filter|embed.W_E|3"
    tensors = {other: tensor for other, tensor in tensors.items() if other != name}
    state.write_bytes(tensor_bytes(tensors, header))
    with pytest.raises(InputError, match="was altered"):
        resume_run(run.path)
    # As by somebody who mends the sum too.
    state.write_bytes(tensor_bytes(tensors, header | {"tensors": weights_digest(tensors)}))
    with pytest.raises(InputError, match=re.escape(f"has no {name!r}")):
        resume_run(run.path)
    other = tensors | {"filters|x": torch.zeros(1)}
    state.write_bytes(tensor_bytes(other, header | {"tensors": weights_digest(other)}))
    with pytest.raises(InputError, match=r"unexpected tensor 'filters\|x'; names begin with weights\|, optimizer\| or"):
        resume_run(run.path)


def test_what_a_window_takes_is_asked_of_the_disk(tmp_path: Path) -> None:
    def bytes_with(one: GradientFilter) -> int:
        return driver.size_on_disk(interp.Experiment(training=interp.TrainingConfig(filter=one)))

    queue = bytes_with(GradientFilter(kind="ma", window=100)) - bytes_with(GradientFilter())
    assert queue > 2 * 100 * 900_000  # 226,688 weights, for the state and for the one that replaces it
