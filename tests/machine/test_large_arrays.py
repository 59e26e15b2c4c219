"""Arrays of which only a part is in memory."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_array_equal

import interp
from interp.analysis import rows
from interp.machine import LargeArray, large_arrays

LINUX = sys.platform.startswith("linux")
SIZE = 64 * 1024 * 1024


def in_memory() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if LINUX else 0


def test_what_is_let_go_is_not_in_memory_and_not_lost(tmp_path: Path):
    array = LargeArray((SIZE // 8,), np.dtype("float64"), tmp_path)
    array.values[:] = np.arange(len(array.values))
    filled = in_memory()
    array.let_go()
    freed = filled - in_memory()
    assert freed > 0.9 * SIZE or not LINUX
    assert_array_equal(array.values[::4096], np.arange(0, len(array.values), 4096))
    assert not list(tmp_path.iterdir())  # the file has no name


def test_without_room_for_a_file_it_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(large_arrays.os, "posix_fallocate", full, raising=False)
    for folder in (tmp_path, tmp_path / "missing"):
        array = LargeArray((SIZE // 8,), np.dtype("float64"), folder)
        array.values[:10] = 1
        array.let_go()
        assert array.values[:10].sum() == 10


def test_results_are_the_same_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def found(folder: str) -> xr.Dataset:
        # Without its results: a copy of the run that is shipped.
        shutil.copytree(interp.reference_path(), tmp_path / folder, ignore=shutil.ignore_patterns("results", "*.py"))
        run = interp.open_run(tmp_path / folder)
        return interp.analyze(run, ["neuron_periodicity"], steps=run.steps[::8])["neuron_periodicity"]

    before = found("in memory")
    monkeypatch.setattr(large_arrays, "LARGE", 1)
    monkeypatch.setattr(rows, "KEPT_IN_MEMORY", 2)
    assert found("in a file").drop_attrs().identical(before.drop_attrs())
    assert sorted(os.listdir(tmp_path / "in a file")) == sorted(os.listdir(tmp_path / "in memory"))
