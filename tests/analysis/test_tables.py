"""CSV tables hold exactly the numbers of the result, and no table takes the place of another."""

import csv
import inspect
import itertools
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from interp.analysis import analyze, find, table, write_tables
from interp.errors import InputError
from interp.experiment import ModelConfig, Task

NAMES = ["embedding_spectrum", "learning_curves", "neuron_periodicity", "weight_norms"]


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def holds(cell: str, value) -> bool:
    """Whether a cell says the value exactly, in the value's own type; an empty cell says NaN."""
    if value.dtype.kind in "Ub":
        return cell == str(value)
    number = value.dtype.type(cell or "nan")
    return bool(number == value or (np.isnan(number) and np.isnan(value)))


def check(table: list[dict[str, str]], result: xr.Dataset, variable: str) -> None:
    """Every value of a variable is in the row of its coordinates."""
    values = result[variable]
    dimensions = list(values.dims)
    labels = [[str(label) for label in result[dimension].values] for dimension in dimensions]
    by_label = {tuple(row[dimension] for dimension in dimensions): row for row in table}
    assert len(by_label) == len(table) == values.size
    for index in np.ndindex(values.shape):
        row = by_label[tuple(names[i] for names, i in zip(labels, index, strict=True))]
        assert holds(row[variable], values.values[index])


@pytest.fixture(scope="module")
def results(tmp_path_factory, written_run) -> dict[str, xr.Dataset]:
    task, model = Task(5, train_fraction=1.0), ModelConfig(d_model=8, n_heads=2, d_mlp=6)
    return analyze(written_run(tmp_path_factory.mktemp("runs") / "run", task, model, (0, 7)), NAMES)


def test_the_tables_hold_the_results(results, tmp_path):
    written = write_tables(results, tmp_path / "new" / "tables")
    assert sorted(path.name for path in written) == [
        "embedding_spectrum.csv",
        "embedding_spectrum.frequency.csv",
        "learning_curves.csv",
        "learning_curves.split.csv",
        "neuron_periodicity.frequency.csv",
        "neuron_periodicity.neuron.csv",
        "neuron_periodicity.share.csv",
        "weight_norms.csv",
        "weight_norms.part.csv",
        "weight_norms.tensor.csv",
    ]
    for name, result in results.items():
        for variable, values in result.data_vars.items():
            if len(values.dims) < 3:
                path = tmp_path / "new" / "tables" / ".".join([name, *map(str, values.dims[1:]), "csv"])
                check(rows(path), result, str(variable))


def test_three_dimensions_run_along_rows_and_columns(results, tmp_path):
    write_tables(results, tmp_path)
    shares = results["neuron_periodicity"].share
    table = rows(tmp_path / "neuron_periodicity.share.csv")
    assert list(table[0]) == ["step", "neuron", "1", "2"]
    assert len(table) == 2 * 6
    for row, (step, neuron) in zip(table, itertools.product((0, 7), range(6)), strict=True):
        assert (row["step"], row["neuron"]) == (str(step), str(neuron))
        for frequency in (1, 2):
            assert holds(row[str(frequency)], shares.sel(step=step, neuron=neuron, frequency=frequency).values)


def test_what_does_not_depend_on_the_step_has_tables_of_its_own(tmp_path):
    result = xr.Dataset(
        {
            "scalar": ((), 0.1),
            "verdict": ((), "grokking"),
            "over_training": ("step", np.array([0.1, np.nan], dtype=np.float32)),
            "spectrum": ("frequency", [1.0, 2.0, 3.0]),
            "is_key": (("step", "frequency"), np.array([[True, False, False], [False, True, True]])),
            "map": (("frequency", "head", "neuron"), np.arange(12.0).reshape(3, 2, 2)),
        },
        coords={"step": [0, 5], "frequency": [1, 2, 3], "head": ["a", "b"], "neuron": [0, 1]},
    )
    written = {path.name: rows(path) for path in write_tables({"all": result}, tmp_path)}
    assert set(written) == {"all.run.csv", "all.csv", "all.run.frequency.csv", "all.frequency.csv", "all.map.csv"}
    assert written["all.run.csv"] == [{"scalar": "0.1", "verdict": "grokking"}]
    assert written["all.csv"] == [{"step": "0", "over_training": "0.1"}, {"step": "5", "over_training": ""}]
    check(written["all.run.frequency.csv"], result, "spectrum")
    check(written["all.frequency.csv"], result, "is_key")
    assert [row["head"] for row in written["all.map.csv"]] == ["a", "b"] * 3
    assert [float(row["1"]) for row in written["all.map.csv"]] == [1, 3, 5, 7, 9, 11]


def test_a_folder_that_cannot_be_made_is_named(results, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match=r"cannot write to .*taken/tables: Not a directory"):
        write_tables(results, tmp_path / "taken" / "tables")


def test_the_same_tables_in_python(results, tmp_path):
    """A frame for each file, of the same rows and columns in the same order."""
    written = {path.name: path.read_text() for path in write_tables(results, tmp_path)}
    for name, result in results.items():
        for key, frame in table(result).items():
            told = written.pop(f"{name}.csv" if key == "step" else f"{name}.{key}.csv")
            assert frame.to_csv(index=False) == told
            assert table(result, key).equals(frame)
    assert not written


def test_axes_that_have_nothing_to_do_with_each_other_are_never_crossed():
    """Three variables of 5, 7 and 11 values are 23 rows, and not 385."""
    result = xr.Dataset({f"of_{name}": (name, np.arange(n)) for name, n in (("x", 5), ("y", 7), ("z", 11))})
    assert {name: len(frame) for name, frame in table(result).items()} == {"run.x": 5, "run.y": 7, "run.z": 11}


def test_an_analysis_says_which_axes_make_a_table(monkeypatch):
    """circuit_split says that estimator, circuit and split do: a row for each; without it the last are columns."""
    axes = {"step": [0, 9], "estimator": ["published", "held_out"], "circuit": ["G", "M"], "split": ["train", "test"]}
    values = np.arange(16.0).reshape(2, 2, 2, 2)
    variables = {name: (tuple(axes), values + shift) for name, shift in (("strength", 0), ("loss", 100))}
    result = xr.Dataset(variables, axes, {"analysis": "circuit_split"})
    long = table(result, "estimator.circuit.split")
    assert list(long.columns) == [*axes, "strength", "loss"]
    assert len(long) == 16
    check(long.astype(str).to_dict("records"), result, "strength")
    monkeypatch.delattr(find("circuit_split").module, "TABLES")
    assert set(table(result)) == {"strength", "loss"}
    assert list(table(result, "loss").columns) == ["step", "estimator", "circuit", "train", "test"]


def test_no_table_of_such_axes(results):
    with pytest.raises(InputError, match="unknown table of this result 'parts'; did you mean 'part'"):
        table(results["weight_norms"], "parts")


def test_a_table_is_of_one_result(results):
    with pytest.raises(InputError, match="a table is made of one result, not of dict"):
        inspect.unwrap(table)(results)
