"""Isolated circuits of tiny runs: how many there are, one file each, resumed when stopped, several at a time."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from interp.errors import Notice
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.runs import Checkpoint, Run
from interp.studies import isolated_circuits
from interp.studies.isolated_circuits import isolate_circuits, nothing_isolated
from interp.studies.isolation import Parts
from interp.sweeps import GridProgress, GridRun, run_grid

SIZES, STRENGTHS = (12, 20), (1.0, 2.0)
CONFIG = TrainingConfig(steps=10, lr=0.01, eps=1e-4)
Isolate = Callable[..., xr.Dataset]


@pytest.fixture
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Isolate:
    """Both circuits of two networks of ten steps, whose last checkpoint has them by decree."""
    profile = torch.cos(2 * math.pi * torch.arange(11, dtype=torch.float64) / 11)

    def decreed(run: Run) -> tuple[Checkpoint, Parts]:
        return run.last, Parts(profile, profile)

    monkeypatch.setattr(isolated_circuits, "with_both_circuits", decreed)
    model = ModelConfig(d_model=8, n_heads=2, d_mlp=16)
    seeds = [GridRun(f"seed{seed}", Experiment(Task(11, train_pairs=70, seed=seed), model, CONFIG)) for seed in (0, 1)]
    runs = list(run_grid(tmp_path / "runs", seeds, processes=1).values())
    return lambda folder, **options: isolate_circuits(runs, SIZES, STRENGTHS, CONFIG, folder, **options)


def test_memory_of_some_pairs_and_the_circuit_of_all(isolated: Isolate, tmp_path: Path):
    found = isolated(tmp_path / "isolated", processes=1)
    assert found.isolated_size.values.tolist() == [12, 20, 121]
    known = np.isfinite(found.isolated_weight_norm)
    assert known.isel(kind=0).sum(("strength", "seed")).values.tolist() == [4, 4, 0]
    assert known.isel(kind=1).sum(("strength", "seed")).values.tolist() == [0, 0, 4]
    assert np.isnan(found.isolated_other_share.isel(kind=1)).all()  # no pair is held out of all
    assert found.checkpoint_step.values.tolist() == [10, 10]
    assert not found.isolated_kept.any()  # ten steps are no rest


def test_stopped_it_goes_on_to_the_same_numbers(isolated: Isolate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole, isolate, begun = isolated(tmp_path / "whole", processes=1), isolated_circuits.isolate, []

    def stopped(*arguments: Any) -> Any:
        if len(begun) == 3:
            raise KeyboardInterrupt
        begun.append(arguments)
        return isolate(*arguments)

    monkeypatch.setattr(isolated_circuits, "isolate", stopped)
    folder = tmp_path / "isolated"
    with pytest.raises(KeyboardInterrupt):
        isolated(folder, processes=1)
    before = {file: file.read_bytes() for file in folder.iterdir()}
    assert len(before) == 3
    monkeypatch.setattr(isolated_circuits, "isolate", isolate)
    progress = list[GridProgress]()
    found = isolated(folder, processes=1, report=progress.append)
    assert [(one.done, one.total) for one in progress] == [(n, 12) for n in range(4, 13)]
    assert {file: file.read_bytes() for file in before} == before
    xr.testing.assert_identical(found, whole)
    xr.testing.assert_identical(isolated(folder, processes=1, report=progress.append), whole)
    assert len(progress) == 9  # nothing is trained again


def test_two_processes_give_what_one_gives(isolated: Isolate, tmp_path: Path):
    one, two = (isolated(tmp_path / str(n), processes=n) for n in (1, 2))
    xr.testing.assert_identical(one, two)


def test_what_this_user_did_not_write_is_trained_anew(
    isolated: Isolate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "isolated"
    whole = isolated(folder, processes=1)
    [path] = folder.glob("memorizing-D12-strength1-seed0-*.nc")
    sound, trained, numbers = path.read_bytes(), [], isolated_circuits.Isolated.numbers
    monkeypatch.setattr(isolated_circuits.Isolated, "numbers", lambda one: trained.append(one.name) or numbers(one))
    stranger = xr.load_dataset(path, engine="scipy")
    stranger["weight_norm"] = 0.0
    stranger.to_netcdf(path, engine="scipy")
    other = next(file for file in folder.iterdir() if file != path)
    for content in (path.read_bytes(), b"", sound[:-1], b"x" + sound[1:], other.read_bytes()):
        path.write_bytes(content)
        xr.testing.assert_identical(isolated(folder, processes=1), whole)
        assert path.read_bytes() == sound
    assert trained == ["memorizing-D12-strength1-seed0"] * 5


def test_where_nothing_can_be_kept_the_numbers_are_told(isolated: Isolate, tmp_path: Path):
    whole = isolated(tmp_path / "isolated", processes=1)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "linked").symlink_to("elsewhere")
    with pytest.warns(
        Notice, match="linked is a symbolic link, .*; not kept: memorizing-D12-strength1-seed0, "
    ) as told:
        xr.testing.assert_identical(isolated(tmp_path / "linked", processes=1), whole)
    assert len(told) == 1
    assert not list((tmp_path / "elsewhere").iterdir())


def test_another_design_has_files_of_its_own(isolated: Isolate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    isolated(tmp_path / "isolated", processes=1)
    before = {file: file.read_bytes() for file in (tmp_path / "isolated").iterdir()}
    monkeypatch.setitem(isolated.__globals__, "CONFIG", TrainingConfig(steps=11, lr=0.01, eps=1e-4))
    isolated(tmp_path / "isolated", processes=1)
    assert len(list((tmp_path / "isolated").iterdir())) == 2 * len(before)
    assert {file: file.read_bytes() for file in before} == before


def test_a_run_without_both_circuits_gives_nothing(isolated: Isolate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(isolated_circuits, "with_both_circuits", lambda run: None)
    found = isolated(tmp_path / "isolated", processes=1)
    xr.testing.assert_identical(found, nothing_isolated(SIZES, 11, STRENGTHS, 2))
