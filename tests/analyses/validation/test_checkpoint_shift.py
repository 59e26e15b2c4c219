"""Shifts between checkpoints: planted ones, none, and those of a run that grokked."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import interp
from interp.analyses import checkpoint_shift
from interp.analysis import find
from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.runs import Checkpoint, Run
from interp.sweeps import run_experiment

P = 29
SMALL = ModelConfig(d_model=8, n_heads=2, d_mlp=8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    experiment = Experiment(Task(P, train_fraction=0.3), SMALL, TrainingConfig(steps=4, checkpoint_every=1))
    return run_experiment(experiment, Path(tmp_path_factory.mktemp("runs"), "run"))


@pytest.fixture
def planted(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """The result where the margin of the label of every pair is what a function of the step says."""

    def make(margins: Callable[[int], np.ndarray], **parameters):
        def logits(self: Checkpoint) -> torch.Tensor:
            found = np.full((P * P, P), -1e3)
            labels = run.task.labels
            found[np.arange(P * P), labels] = margins(self.step)
            found[np.arange(P * P), (labels + 1) % P] = 0
            return torch.from_numpy(found).reshape(P, P, P)

        monkeypatch.setattr(Checkpoint, "logits", property(logits))
        return checkpoint_shift.compute(run, **parameters)

    return make


def test_no_change_is_none(planted: Callable) -> None:
    drawn = np.random.default_rng(0).normal(size=P * P)
    found = planted(lambda step: drawn)
    assert (found.psi == 0).all()
    assert (found.shift_ks == 0).all()
    assert (found.churn == 0).all()
    assert (found.mcnemar == 1).all()
    assert (found.changed == 0).all()
    told = find("checkpoint_shift").summary(found)["held_out"]
    assert told["unstable"] == 0
    assert told["largest"]["band"] == "stable"
    assert told["stable_from"] == 0


def test_a_shift_is_where_it_was_planted(planted: Callable) -> None:
    """Margins move by 2 σ from step 2 to 3 alone, up: what was wrong becomes right."""
    drawn = np.random.default_rng(0).normal(size=P * P)
    found = planted(lambda step: drawn + 2 * (step > 2))
    told = find("checkpoint_shift").summary(found)["held_out"]
    assert told["largest"] | {"from": 2, "to": 3, "band": "unstable", "lost": 0} == told["largest"]
    assert told["unstable"] == 1
    assert told["stable_from"] == 3
    assert told["first_unstable"] == told["first_by_mcnemar"] == {"from": 2, "to": 3}
    gained = float(found.churn.sel(split="held_out", interval=3))
    assert gained == pytest.approx(0.477, abs=0.1)  # Φ(0) − Φ(−2)
    assert found.changed.sel(split="held_out", interval=3).values[0] == round(gained * found.examples.values[1])


def test_the_only_change_is_of_places(planted: Callable) -> None:
    """Half of the margins change sign with another's: the distribution stays, and the answers do not."""
    drawn = np.random.default_rng(1).normal(size=P * P)
    drawn = (drawn + drawn.reshape(P, P).T.ravel()) / 2
    found = planted(lambda step: drawn if step < 3 else -drawn).sel(split="train")
    assert float(found.churn.sel(interval=3)) > 0.95
    assert float(found.shift_ks.sel(interval=3)) < 0.2


@pytest.mark.parametrize("transform", [np.exp, lambda values: values**3])
def test_increasing_functions_change_nothing(planted: Callable, transform: Callable) -> None:
    random = np.random.default_rng(2)
    drawn = [random.normal(size=P * P) + 0.2 * step + 5 for step in range(5)]
    found, other = planted(lambda step: drawn[step]), planted(lambda step: transform(drawn[step]))
    assert_array_equal(found.psi, other.psi)
    assert_array_equal(found.shift_ks, other.shift_ks)


def test_networks_that_did_not_change_but_were_drawn_anew_are_rarely_unstable(planted: Callable) -> None:
    random = np.random.default_rng(3)
    called, total = 0, 0
    for _ in range(12):
        drawn = random.normal(size=(5, P * P))
        found = planted(lambda step, drawn=drawn: drawn[step])
        called += int(((found.psi > 0.2) & (found.psi > found.psi_95)).sum())
        total += found.psi.size
    assert total == 96
    assert called <= 8


def test_a_pair_and_its_mirror_are_one(run: Run, planted: Callable) -> None:
    found = planted(lambda step: np.ones(P * P))
    assert int(found.examples.sel(split="held_out")) == run.task.n_held_out
    assert np.isnan(found.psi).all()
    assert (found.churn == 0).all()
    assert find("checkpoint_shift").summary(found)["held_out"] is None


def test_against_one_step(run: Run, planted: Callable) -> None:
    drawn = np.random.default_rng(0).normal(size=P * P)
    found = planted(lambda step: drawn + step, reference=2)
    assert found.interval.values.tolist() == [0, 1, 2, 3, 4]
    assert (found.start == 2).all()
    assert (found.psi.sel(interval=2) == 0).all()
    assert_allclose(found.psi.sel(interval=3), planted(lambda step: drawn + step).psi.sel(interval=3))
    with pytest.raises(InputError, match="77"):
        checkpoint_shift.compute(run, reference=77)
    with pytest.raises(InputError, match="reference must be"):
        checkpoint_shift.compute(run, reference=-1)


def test_a_run_that_grokked_moves_twice_and_then_rests() -> None:
    """Held-out margins move when labels are memorized, where no answer gets right, and when the rule is learned."""
    found = checkpoint_shift.compute(interp.open_run(interp.reference_path()))
    psi = found.psi.sel(split="held_out")
    memorizing, between, learning, late = (
        psi[(found.interval > low) & (found.interval <= high)]
        for low, high in ((16, 100), (100, 600), (600, 1000), (1500, 3000))
    )
    assert memorizing.max() > 1
    assert learning.max() > 1
    assert between.max() < 0.1
    assert late.max() < 0.1
    told = find("checkpoint_shift").summary(found)["held_out"]
    assert told["first_unstable"]["to"] < 100 < told["first_by_mcnemar"]["from"]
