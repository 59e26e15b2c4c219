"""One table over runs: where each stands, and what came of it, as the runs themselves say."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import interp
from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.runs import ending_of
from interp.studies import collect
from interp.sweeps import sweep

TRAINING = TrainingConfig(steps=12, checkpoint_every=4, log_every=4)
BASE = Experiment(Task(p=7, train_fraction=0.5), ModelConfig(d_model=8, n_heads=2, d_mlp=8), TRAINING)
SIZES = [{"name": "small", "model.d-mlp": 8}, {"name": "large", "model.d-mlp": 16}]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("swept")
    sweep(BASE, {"training.weight-decay": [0.3, 1.0], "size": SIZES, "seed": [5, 2]}, folder, processes=1)
    return folder


def test_every_run_stands_at_its_place_with_what_came_of_it(swept: Path) -> None:
    table = collect(swept, curves=True)
    assert table.state.dims == ("weight_decay", "size", "seed")
    assert table.weight_decay.values.tolist() == [0.3, 1.0]
    assert table["size"].values.tolist() == ["small", "large"]
    assert table.seed.values.tolist() == [5, 2]
    assert (table.state == "complete").all()
    for place in np.ndindex(2, 2, 2):
        run = interp.open_run(swept / str(table.run.values[place]))
        expected = ([0.3, 1.0][place[0]], [8, 16][place[1]], [5, 2][place[2]])
        assert (run.training.weight_decay, run.model.d_mlp, run.task.seed) == expected
        end = ending_of(run)
        assert table.verdict.values[place] == end.verdict
        for name, value in end.metrics.items():
            assert table[f"final_{name}"].values[place] == pytest.approx(value, nan_ok=True)
        assert table.test_loss.values[place].tolist() == run.metrics.test_loss.values.tolist()
    frame = table.drop_dims("step").to_dataframe()
    assert len(frame) == 8
    assert frame.loc[(1.0, "large", 2), "run"] == table.run.sel(weight_decay=1.0, size="large", seed=2).item()


def test_a_run_that_is_not_there_has_no_numbers(swept: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(swept, folder)
    gone = next(folder.glob("*/run.json")).parent
    shutil.rmtree(gone)
    table = collect(folder, curves=True)
    place = table.where(table.run == gone.name, drop=True)
    assert place.state.values.ravel().tolist() == ["not begun"]
    assert np.isnan(place.final_test_loss.values).all()
    assert np.isnan(place.test_loss.values).all()
    assert int((table.state == "complete").sum()) == 7


def test_analyses_and_measures_of_ones_own_are_columns(swept: Path) -> None:
    table = collect(swept, ["weight_norms"])
    own = collect(swept, {"norm": lambda run: sum(float((w**2).sum()) for w in run.last.weights.values()) ** 0.5})
    np.testing.assert_allclose(table.weight_norms_last_l2, own.norm, rtol=1e-5)
    np.testing.assert_allclose(own.norm, own.final_weight_norm, rtol=1e-5)
    with pytest.raises(InputError, match="unknown analysis 'weight_norm'; did you mean 'weight_norms'"):
        collect(swept, ["weight_norm"])


def test_runs_of_no_sweep_are_a_list_with_the_fields_in_which_they_differ(swept: Path, tmp_path: Path) -> None:
    for path in swept.glob("*/run.json"):
        shutil.copytree(path.parent, tmp_path / path.parent.name)
    table = collect(tmp_path)
    assert table.state.dims == ("run",)
    assert sorted(table.training_weight_decay.values) == [0.3] * 4 + [1.0] * 4
    assert {*table.coords} >= {"run", "model_d_mlp", "task_seed"}
    with pytest.raises(InputError, match="no runs under"):
        collect(next(tmp_path.glob("*/steps")))


def test_the_table_goes_to_a_file_and_back(swept: Path, tmp_path: Path) -> None:
    import xarray as xr

    table: Any = collect(swept, curves=True)
    (tmp_path / "table.nc").write_bytes(table.to_netcdf(engine="scipy"))
    back = xr.load_dataset(tmp_path / "table.nc", engine="scipy")
    assert back.run.values.tolist() == table.run.values.tolist()
    xr.testing.assert_equal(back.test_loss, table.test_loss)
