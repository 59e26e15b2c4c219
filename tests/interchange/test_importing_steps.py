"""Steps in the names of files, and numbers there that are something else."""

from pathlib import Path

import pytest

from interp.interchange.importing.steps import step_in_name


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("1000.pth", 1000),
        ("checkpoint_e010000.pt", 10_000),
        ("step000300.safetensors", 300),
        ("checkpoint_epoch_20.pt", 20),
        ("epoch=7-step=3000.ckpt", 3000),
        ("epoch=7-val_loss=0.12.ckpt", 7),
        ("step_1000_seed_0.pt", 1000),
        ("epoch_100_20240501.pt", 100),
        ("mod_113_epoch_50.pt", 50),
        ("model_0.pt", 0),
        ("e100.pt", 100),
        ("init.pth", 0),
        ("model_seed_0.pt", None),
        ("grok_p_43.pt", None),
        ("model_v2.pt", None),
        ("run_3.pt", None),
        ("lr_0.001.pt", None),
        ("model_frac_0.3.pt", None),
        ("model-final-20240501.pt", None),
        ("model_2k4ohj6bhd.pt", None),
        ("checkpoint.pt", None),
    ],
)
def test_the_step_in_a_name(name: str, step: int | None):
    assert step_in_name(Path(name)) == step


@pytest.mark.parametrize(("name", "step"), [("epoch_010.tar", 10), ("epoch_5.pth.tar", 5), ("1000.pth.tar", 1000)])
def test_the_step_in_the_name_of_a_tar(name: str, step: int):
    assert step_in_name(Path(name)) == step
