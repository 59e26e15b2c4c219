"""The presets: what they are called, what they say, and what pages and Makefile say of them."""

import re
from pathlib import Path

import pytest

from interp.errors import InputError
from interp.experiment import PRESETS, Experiment, Task, TrainingConfig, preset

ROOT = Path(__file__).parents[2]


def test_presets_are_what_they_say() -> None:
    quick, spiky, fastest, nanda, reference = (preset(name) for name in PRESETS)
    assert nanda == Experiment(training=TrainingConfig(steps=40_000, lr=1e-3, checkpoint_every=100))
    assert {(one.task, len(one.task.train_indices), one.model.d_mlp) for one in (spiky, fastest, nanda)} == {
        (Task(), 3830, 512)
    }
    assert (quick.task, len(quick.task.train_indices), quick.model) == (Task(train_fraction=0.36), 4596, spiky.model)
    assert (quick.training.lr, quick.training.weight_decay, quick.training.betas) == (8e-3, 1.0, (0.95, 0.95))
    assert (spiky.training.lr, spiky.training.weight_decay, spiky.training.betas) == (2e-2, 1.0, (0.9, 0.95))
    assert (fastest.training.lr, fastest.training.weight_decay, fastest.training.betas) == (2e-2, 2.0, (0.9, 0.95))
    assert (reference.task.p, reference.model.head_size, reference.training.lr, reference.training.steps) == (
        43,
        8,
        5e-3,
        3000,
    )
    assert 45 <= len(reference.training.kept_steps()) <= 55


def test_what_quick_was_has_the_hash_that_it_had() -> None:
    """Sweeps and folders know an experiment by it."""
    assert preset("spiky").hash == "ff00b6110d66fc3f"


def test_quick_spiky_and_fastest_keep_enough_to_watch_and_no_more() -> None:
    for name, at_most in {"quick": 1000, "spiky": 1000, "fastest": 180}.items():
        training = preset(name).training
        assert training.steps <= at_most
        assert 30 <= len(training.kept_steps()) <= 60
        assert training.steps % training.checkpoint_every == training.checkpoint_every % training.log_every == 0


def test_the_demo_is_the_preset_and_the_readme_counts_its_checkpoints() -> None:
    (demo,) = re.findall(r"interp train (.*) --out \$\(DEMO\)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert demo == "--preset quick"
    assert f"analyzes its {len(preset('quick').training.kept_steps())} checkpoints" in (ROOT / "README.md").read_text(
        encoding="utf-8"
    )


def test_a_summary_tells_the_learning_rate_and_the_steps_that_are_set() -> None:
    for name, lr in {"quick": "8e-3", "spiky": "2e-2"}.items():
        summary, chosen = PRESETS[name]
        assert (chosen.training.lr, chosen.training.steps) == (float(lr), 1000)
        assert f"lr {lr}" in summary
        assert "1,000 steps" in summary


def test_runs_without_a_preset_keep_the_values_they_always_had() -> None:
    """What a field of run.json that is not there means must not change: only a preset may."""
    assert TrainingConfig() == TrainingConfig(
        steps=2000, lr=1e-2, weight_decay=1.0, betas=(0.9, 0.98), checkpoint_every=10, log_every=10
    )
    assert Experiment().hash == "909d76fd9682baa3"


def test_an_unknown_preset() -> None:
    with pytest.raises(InputError, match="unknown preset 'nada'; did you mean 'nanda'"):
        preset("nada")
