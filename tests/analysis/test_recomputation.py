"""Results that are kept, computed anew: nothing is said of sound ones, and every difference is."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from interp.analysis import analyze, save_result, verify_results
from interp.analysis.keeping import Keeper
from interp.analysis.recomputation import RELATIVE_TOLERANCE
from interp.experiment import ModelConfig, Task
from interp.runs import Run, open_run, thin

TASK, MODEL = Task(7, train_fraction=0.5), ModelConfig(d_model=8, n_heads=2, d_mlp=6)
NAME, OF_RUN = "neuron_periodicity", "transitions"


@pytest.fixture
def run(tmp_path: Path, written_run) -> Run:
    """A run with results: three measured at each checkpoint, one with other parameters too, two of the whole run."""
    run = written_run(tmp_path / "run", TASK, MODEL, (0, 10, 20, 30))
    analyze(run, [NAME, "weight_norms", OF_RUN])
    analyze(run, [NAME], parameters={NAME: {"threshold": 0.3}})
    return run


def file_of(run: Run, name: str = NAME) -> Path:
    return run.path / "results" / f"{name}.nc"


def read(path: Path) -> xr.Dataset:
    stored = xr.load_dataset(path, engine="scipy")
    return stored.assign({n: stored[n].astype(str) for n in stored.variables if stored[n].dtype == object})


def differences(run: Run) -> list[str]:
    return verify_results(run).contradictions


def changed(run: Run, change: Callable[[xr.Dataset], xr.Dataset], name: str = NAME) -> list[str]:
    """What is said of a result that was changed, and sealed by this user all the same."""
    path, before = file_of(run, name), file_of(run, name).read_bytes()
    save_result(path, change(read(path)))
    said = differences(run)
    path.write_bytes(before)
    return said


def test_sound_results_are_said_nothing_of_and_stay(run, monkeypatch):
    before = {path: path.read_bytes() for path in (run.path / "results").iterdir()}
    assert len(before) == 7
    saved, loaded = [], []
    monkeypatch.setattr(Keeper, "save", lambda *given: saved.append(given))
    monkeypatch.setattr(Keeper, "load", lambda *given: loaded.append(given))
    walks = []
    assert verify_results(run, lambda steps: walks.append(list(steps)) or steps).contradictions == []
    assert walks == [[0, 10, 20, 30]] * 2  # the defaults, and the other parameters
    assert saved == loaded == []
    assert {path: path.read_bytes() for path in (run.path / "results").iterdir()} == before


def test_a_run_without_results_has_none_to_compare(tmp_path, written_run):
    assert differences(written_run(tmp_path / "bare", TASK, MODEL)) == []


def scaled(factor: float) -> Callable[[xr.Dataset], xr.Dataset]:
    return lambda result: result.assign(total_l2=result.total_l2 * factor)


def test_a_number_that_differs_is_told_with_both_values(run):
    def other(result: xr.Dataset) -> xr.Dataset:
        result["total_l2"].values[1] += 1
        return result

    [line] = changed(run, other, "weight_norms")
    sound = read(file_of(run, "weight_norms")).total_l2.values[1].item()
    where = "'total_l2' differs in 1 of 4 numbers, first at {'step': 1}"
    assert line == f"{file_of(run, 'weight_norms')}: {where}: kept {sound + 1!r}, computed {sound!r}"


def test_numbers_may_differ_as_float32_sums_do(run):
    assert changed(run, scaled(1 + 0.5 * RELATIVE_TOLERANCE), "weight_norms") == []
    [line] = changed(run, scaled(1 + 2 * RELATIVE_TOLERANCE), "weight_norms")
    assert "'total_l2' differs in 4 of 4 numbers" in line


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_no_number(value, run):
    [line] = changed(run, scaled(value), "weight_norms")
    assert f"kept {value!r}, computed" in line


def test_nan_is_nan(run):
    """`transitions` of a run that logged nothing knows no times."""
    assert any(
        np.isnan(values.values).any()
        for values in read(file_of(run, OF_RUN)).data_vars.values()
        if values.dtype.kind == "f"
    )
    assert differences(run) == []


DAMAGES: dict[str, tuple[Callable[[xr.Dataset], xr.Dataset], str]] = {
    "a variable less": (lambda result: result.drop_vars("share"), "variable 'share' is missing"),
    "a variable more": (lambda result: result.assign(mine=1.0), "variable 'mine' is kept, and is none"),
    "another unit": (
        lambda result: result.assign(share=result.share.assign_attrs(units="%")),
        "attribute share.'units' is",
    ),
    "no unit": (lambda result: result.assign(share=result.share.drop_attrs()), "attribute share.'units' is missing"),
    "another title": (
        lambda result: result.assign_attrs(title="Mine"),
        "attribute 'title' is 'Mine', computed 'Neuron",
    ),
    "an attribute more": (lambda result: result.assign_attrs(note="x"), "attribute 'note' is kept, and is none"),
    "another coordinate": (
        lambda result: result.assign_coords(frequency=result.frequency + 1),
        "'frequency' differs in 3 of 3 numbers",
    ),
    "another type": (
        lambda result: result.assign(share=result.share.astype("f8").drop_encoding()),
        "'share' is float64, computed float32",
    ),
    "other dimensions": (
        lambda result: result.rename(frequency="k"),
        "variable 'frequency' is missing",
    ),
    "another shape": (lambda result: result.isel(frequency=[0, 1]), "[frequency: 2], computed [frequency: 3]"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_what_is_different_is_told(what, run):
    change, words = DAMAGES[what]
    said = changed(run, change)
    assert any(line.startswith(f"{file_of(run)}: ") and words in line for line in said), said


def some(rows: list[int]) -> Callable[[xr.Dataset], xr.Dataset]:
    def of(result: xr.Dataset) -> xr.Dataset:
        digests = json.loads(result.attrs["digests"])
        return result.isel(step=rows).assign_attrs(digests=json.dumps([digests[row] for row in rows]))

    return of


def test_what_is_not_there_any_more_or_not_yet_is_no_difference(run):
    """Results of some checkpoints, of a run before it was thinned, and from when it was shorter."""
    assert changed(run, some([0, 2])) == []
    thin(open_run(run.path), 20)
    assert differences(open_run(run.path)) == []
    assert changed(open_run(run.path), some([0])) == []


@pytest.mark.parametrize("name", [NAME, OF_RUN])
def test_what_is_not_used_is_passed_over(name, run):
    """Other code, or rows of other weights: asked for again, they are computed anew."""
    wrong = {NAME: "share", OF_RUN: "step"}[name]
    assert (
        changed(run, lambda result: result.assign({wrong: result[wrong] + 1}).assign_attrs(identity="old"), name) == []
    )
    if name == NAME:
        others = json.dumps(["0" * 16] * 4)
        assert changed(run, lambda result: result.assign(share=result.share + 1).assign_attrs(digests=others)) == []


def test_a_result_in_the_place_of_another_is_named(run):
    shutil.copy(file_of(run, "weight_norms"), file_of(run))
    assert differences(run) == [f"{file_of(run)} is of another run or analysis, and is not used"]
    [others] = (run.path / "results").glob(f"{NAME}-*.nc")
    shutil.copy(others, file_of(run))
    [line] = differences(run)
    assert line.startswith(f"{file_of(run)} is of other parameters than its name says")


NO_SEAL = "has no seal of yours that fits (it was altered, or somebody else wrote it), and is not used; "


def test_a_result_without_a_seal_contradicts_where_its_numbers_do(run):
    path = file_of(run)
    read(path).to_netcdf(path, engine="scipy")
    found = verify_results(run)
    assert found.contradictions == []
    words = "1 of 7 results, without a seal of yours, not used: what is computed now agrees"
    assert found.checked == ["6 of 7 results: computed anew", words]
    # By which code it was computed is no difference, nor which version of interp it names.
    read(path).assign_attrs(identity="old", interp="0.0.1").to_netcdf(path, engine="scipy")
    assert words in verify_results(run).checked
    doctored = read(path)
    doctored["share"] = doctored.share + 1
    doctored.to_netcdf(path, engine="scipy")
    [line] = differences(run)
    assert line.startswith(f"{path} {NO_SEAL}it differs from what is computed now: 'share' differs in ")
    assert line.endswith(f"; `interp analyze {run.path} {NAME}` replaces it")


def test_one_byte_of_a_result_of_ones_own_is_not_called_somebody_elses(run):
    path = file_of(run, OF_RUN)
    path.write_bytes(path.read_bytes().replace(b"reference", b"referencX", 1))
    [line] = differences(run)
    assert line.startswith(f"{path} {NO_SEAL}it differs")
    analyze(run, [OF_RUN])
    assert differences(run) == []


def test_with_parameters_of_its_own_a_result_without_a_seal_is_not_computed(run):
    [others] = (run.path / "results").glob(f"{NAME}-*.nc")
    read(others).assign_attrs(parameters='{"threshold": 1e9}').to_netcdf(others, engine="scipy")
    found = verify_results(run)
    assert found.contradictions == []
    assert found.unchecked == [f"{others} {NO_SEAL}with parameters of its own it is not computed anew"]


def test_what_was_compared_is_counted_and_what_was_passed_over_too(run, tmp_path, written_run):
    assert verify_results(run).checked == ["7 of 7 results: computed anew"]
    thin(run, 20)
    found = verify_results(open_run(run.path))
    assert found.checked == ["5 of 7 results: computed anew"]
    assert found.unchecked == ["2 of 7 results: of other checkpoints or other code, not used"]
    bare = verify_results(written_run(tmp_path / "bare", TASK, MODEL))
    assert (bare.checked, bare.unchecked) == ([], ["results: none are kept"])


def no_netcdf(path: Path) -> None:
    path.write_bytes(b"CDF\x01" + b"\xff" * 100)


def huge_dimension(path: Path) -> None:
    """Two thousand million empty words, in a file of some hundred bytes."""
    xr.Dataset({"x": (("n", "m"), np.zeros((3, 0)))}).to_netcdf(path, engine="scipy")
    content = path.read_bytes()
    assert content.count(b"\x00\x00\x00\x03") == 1
    path.write_bytes(content.replace(b"\x00\x00\x00\x03", b"\x7f\xff\xff\xff"))


def sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(1 << 40)


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no NetCDF": (no_netcdf, "nothing in it can be compared"),
    "empty": (Path.touch, "nothing in it can be compared"),
    "a huge dimension": (huge_dimension, "nothing in it can be compared"),
    "a terabyte of nothing": (sparse, "of its [0-9,]+ bytes only 0 were ever written"),
    "a pipe": (os.mkfifo, "is a named pipe, expected a plain file"),
    "a link": (lambda path: path.symlink_to("weight_norms.nc"), "is a symbolic link, and none below a run is followed"),
    "a folder": (Path.mkdir, "cannot be (read|compared)"),
}


@pytest.mark.parametrize("what", ODD)
def test_what_is_no_result_is_named(what, run):
    put, words = ODD[what]
    file_of(run).unlink()
    put(file_of(run))
    [line] = differences(run)
    assert line.startswith(str(file_of(run)))
    assert re.search(words, line)


def test_files_with_other_names_are_no_results(run):
    for name in ("notes.txt", ".weight_norms.nc.1.tmp", "weight_norms-abc.nc"):
        (run.path / "results" / name).write_text("")
    assert differences(run) == []
    (run.path / "results" / "of_a_plug_in.nc").write_text("")
    found = verify_results(run)
    assert found.contradictions == []
    assert found.unchecked == [f"{run.path}/results/of_a_plug_in.nc: no analysis of this name is known here"]


def test_of_a_damaged_checkpoint_it_is_said_that_nothing_can_be_computed(run):
    path = run.path / "steps" / "step_000000020.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    first, *others = differences(open_run(run.path))
    assert first.startswith(f"{run.path}: results cannot be computed anew: {path} is damaged") or others
    assert all(f"{path} is damaged" in line for line in (first, *others))
