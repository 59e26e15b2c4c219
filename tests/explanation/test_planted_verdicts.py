"""What `explain` says of runs whose weights are planted: a lookup table that knows the training pairs alone, a circuit
that adds, and what a network begins with, which knows nothing. What happened is known by construction."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import interp
from interp.explanation import explain
from interp.models import Weights, initial_weights
from interp.testing import LookupTable, circuit_model, circuit_neurons, circuit_weights

TASK = interp.Task(11, train_fraction=0.4)
NEURONS, TABLE = circuit_neurons([1, 3], per_frequency=16, circuit="clock"), LookupTable(strength=20.0)
STEPS = tuple(range(0, 130, 10))

# Since which step it has a table, and a circuit; and since when it has neither any more.
RUNS = {
    "grokking": (20, 80, None),
    "comprehension": (40, 60, None),
    "memorization": (20, None, None),
    "confusion": (None, None, None),
    "collapse": (20, 40, 100),
}


@pytest.fixture(params=["mlp", "transformer"])
def planted(request: pytest.FixtureRequest, written_run: Callable[..., interp.Run], tmp_path: Path):
    """Writes a run from since when it has what."""
    model = circuit_model(NEURONS, family=request.param, task=TASK, lookup=TABLE)

    def planted(table: int | None, circuit: int | None, lost: int | None, steps: tuple[int, ...] = STEPS) -> interp.Run:
        def weights(step: int) -> Weights:
            has_table, has_circuit = (since is not None and step >= since for since in (table, circuit))
            if (lost is not None and step >= lost) or not (has_table or has_circuit):
                return initial_weights(replace(model, seed=step), TASK.p)
            strength, lookup = 10.0 if has_circuit else 0.0, TABLE if has_table else None
            planted = circuit_weights(TASK, model, NEURONS, strength=strength, lookup=lookup)
            return {name: weight.to(torch.float32) for name, weight in planted.items()}

        return written_run(tmp_path / "run", TASK, model, steps, weights=weights, overwrite=True)

    return planted


@pytest.mark.parametrize("verdict", RUNS)
def test_explain_says_what_was_planted(verdict: str, planted: Callable[..., interp.Run]):
    run = planted(*RUNS[verdict])
    assert explain(run).numbers["run"]["verdict"] == verdict


def test_where_steps_are_too_far_apart_it_does_not_say(planted: Callable[..., interp.Run]):
    """It memorized at step 20 and generalized at 80, or at 40 and 60: at 0, 50 and 100 both look alike."""
    for table, circuit in ((20, 80), (40, 60)):
        found = explain(planted(table, circuit, None, steps=tuple(range(0, 400, 50))))
        assert found.numbers["run"]["verdict"] == "unknown"
