"""Results of many steps are written some steps at a time, and read as if they had been written at once."""

import tracemalloc

import numpy as np
import pytest
import xarray as xr
from scipy.io import netcdf_file

from interp.analysis import results
from interp.analysis.results import load_result, save_result


def result(n_steps: int) -> xr.Dataset:
    """Every kind of number and of axis that results have."""
    random = np.random.default_rng(0)
    return xr.Dataset(
        {
            "share": (("step", "neuron"), random.random((n_steps, 7), dtype=np.float32), {"units": "1"}),
            "loss": ("step", np.where(np.arange(n_steps) % 3, random.random(n_steps), np.nan)),
            "is_key": (("step", "neuron"), random.random((n_steps, 7)) > 0.5),
            "count": (("step", "neuron"), random.integers(-9, 9, (n_steps, 7)).astype(np.int32)),
            "level": ("neuron", random.random(7)),
        },
        {"step": np.arange(n_steps, dtype=np.int32), "neuron": [f"neuron {n}" for n in range(7)]},
        {"identity": "mine", "threshold": 0.85},
    )


@pytest.mark.parametrize("n_steps", [1, 2, 5, 64])
@pytest.mark.parametrize("piece", [1, 200, 900, 1 << 24])
def test_pieces_make_the_same_result(tmp_path, monkeypatch, n_steps, piece):
    monkeypatch.setattr(results, "PIECE", piece)
    saved = result(n_steps)
    save_result(tmp_path / "results" / "one.nc", saved)
    found = load_result(tmp_path / "results" / "one.nc", "mine")
    assert found is not None
    assert found.identical(saved)
    assert {name: found[name].dtype for name in found.variables} == {n: saved[n].dtype for n in saved.variables}
    with netcdf_file(tmp_path / "results" / "one.nc", mmap=False) as file:  # as anybody reads it
        assert file.variables["count"].data.tolist() == saved["count"].values.tolist()


def test_without_steps_it_is_one_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "PIECE", 1)
    saved = result(3).isel(step=0, drop=True)
    save_result(tmp_path / "results" / "one.nc", saved)
    found = load_result(tmp_path / "results" / "one.nc", "mine")
    assert found is not None
    assert found.identical(saved)


def large(n_steps: int = 2000) -> xr.Dataset:
    values = np.random.default_rng(0).random((n_steps, 500))
    step = np.arange(n_steps, dtype=np.int32)
    return xr.Dataset({"power": (("step", "neuron"), values)}, {"step": step}, {"identity": "mine"})


def test_reading_takes_little_more_memory_than_the_result(tmp_path, monkeypatch):
    """One copy of it, the piece in hand and a head; read at once it is three copies."""
    monkeypatch.setattr(results, "PIECE", 1 << 18)
    path, saved = tmp_path / "results" / "one.nc", large()
    save_result(path, saved)
    load_result(path, "mine")  # what is imported for it is not counted
    tracemalloc.start()
    try:
        found = load_result(path, "mine")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found is not None
    assert found.identical(saved)
    assert peak < 1.5 * saved.nbytes


def test_a_change_while_pieces_are_read_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "PIECE", 1 << 18)
    path = tmp_path / "results" / "one.nc"
    save_result(path, large())
    digest_of_file = results._digest

    def then_changed(file, length):
        found = digest_of_file(file, length)
        content = bytearray(path.read_bytes())
        content[-5000] ^= 1  # a number of the last step
        path.write_bytes(content)
        return found

    monkeypatch.setattr(results, "_digest", then_changed)
    assert load_result(path, "mine") is None
