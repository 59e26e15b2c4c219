"""Figures of a sweep: medians and quartiles of planted curves, and cells of planted outcomes."""

from typing import Any

import numpy as np
import pytest
import xarray as xr

from interp.errors import InputError
from interp.studies import group_curves, sweep_phases

STEPS = np.array([0, 10, 20, 30])


def planted(n_seeds: int, **changes: Any) -> xr.Dataset:
    """The accuracy of seed s at step t is (s + 1)·t/300, and that with twice the decay twice as much."""
    dims = ("weight_decay", "size", "seed")
    decays, sizes, seeds = np.array([1.0, 2.0]), np.array(["small", "large"]), np.arange(n_seeds)
    final = np.broadcast_to(decays[:, None, None] * (seeds + 1) / 10, (2, 2, n_seeds))
    shape = final.shape
    data = {
        "run": (dims, np.arange(4 * n_seeds).astype(str).reshape(shape)),
        "state": (dims, np.full(shape, "complete", dtype="U10")),
        "verdict": (dims, np.where(final > 0.25, "grokking", "memorization")),
        "final_test_accuracy": (dims, final.copy()),
        "test_accuracy": ((*dims, "step"), final[..., None] * STEPS / 30),
        "test_loss": ((*dims, "step"), np.ones((*shape, 4))),
    }
    names = {"weight_decay": "training.weight-decay", "size": "size", "seed": "seed"}
    coords = {name: (name, values) for name, values in zip(dims, (decays, sizes, seeds), strict=True)}
    table = xr.Dataset(data, coords | {"step": STEPS}, {"folder": "mine"})
    for name, full in names.items():
        table[name].attrs["long_name"] = full
    for name, change in changes.items():
        change(table[name])
    table["verdict"] = table.verdict.where(table.state != "diverged", "diverged")  # as `collect` has it
    return table


def lines(figure: Any, name: str) -> list[Any]:
    return [trace for trace in figure.data if trace.name == name and trace.line.width == 2]


def test_the_line_is_the_median_and_the_band_the_quartiles() -> None:
    figure = group_curves(planted(n_seeds=5))
    assert [len(lines(figure, name)) for name in ("1", "2")] == [2, 2]  # a panel for each size
    for trace in lines(figure, "2"):
        np.testing.assert_allclose(trace.y, 0.6 * STEPS / 30)  # 2·3/10
    bands = [trace for trace in figure.data if trace.fill == "toself"]
    assert len(bands) == 4
    np.testing.assert_allclose(bands[0].y, [*0.4 * STEPS / 30, *0.2 * STEPS[::-1] / 30])  # the fourth and the second
    assert "line: median of 5 runs that differ in seed, band: quartiles" in figure.layout.title.text


def test_of_few_runs_every_curve_is_drawn() -> None:
    figure = group_curves(planted(n_seeds=3), ["size"])
    assert not [trace for trace in figure.data if trace.fill == "toself" and len(trace.x) == 0]
    thin = [trace for trace in group_curves(planted(n_seeds=3)).data if trace.line.width == 1]
    assert len(thin) == 12
    assert "every run; thick: median of 3 runs" in group_curves(planted(n_seeds=3)).layout.title.text


def test_what_differs_in_axes_that_are_not_named_is_one_group() -> None:
    figure = group_curves(planted(n_seeds=3), ["size"])
    [line] = lines(figure, "small")
    np.testing.assert_allclose(line.y[-1], 0.25)  # of 1, 2, 3, 2, 4 and 6 tenths 2 and 3 are in the middle
    assert "median of 6 runs that differ in weight decay and seed" in figure.layout.title.text


def test_runs_that_diverged_are_left_out_and_counted() -> None:
    def diverge(state: xr.DataArray) -> None:
        state[0, 0, 4] = "diverged"

    table = planted(n_seeds=5, state=diverge)
    figure = group_curves(table)
    assert "left out: 1 of 20 runs, diverged or not finished" in figure.layout.title.text
    first = lines(figure, "1")[0]
    assert first.y[-1] == pytest.approx(0.25)  # of 1, 2, 3 and 4 tenths


def test_cells_tell_the_most_frequent_outcome_and_the_mean() -> None:
    figure = sweep_phases(planted(n_seeds=5))
    happened, accuracy = figure.data[:2]
    assert happened.x == ("1", "2")
    assert happened.y == ("small", "large")
    # Of decay 1 the seeds 2 to 4 are above 0.25, of decay 2 the seeds 1 to 4.
    assert happened.text.tolist() == [["3/5", "4/5"]] * 2
    assert happened.customdata.tolist() == [["grokking", "grokking"]] * 2
    np.testing.assert_allclose(accuracy.z, [[0.3, 0.6]] * 2)
    assert sweep_phases(planted(n_seeds=5), ["seed", "training.weight-decay"]).data[0].x == tuple("01234")


def test_runs_that_are_not_there_have_no_cell_and_those_that_diverged_have() -> None:
    def change(state: xr.DataArray) -> None:
        state[0, 0] = "not begun"
        state[1, 0] = "diverged"

    happened, accuracy, *_ = sweep_phases(planted(n_seeds=5, state=change)).data
    assert happened.text.tolist() == [["", "5/5"], ["3/5", "4/5"]]
    assert happened.customdata[0, 1] == "diverged"
    assert np.isnan(accuracy.z[0, 0])
    assert "left out: 5 runs not finished" in sweep_phases(planted(n_seeds=5, state=change)).layout.title.text


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: group_curves(planted(2), ["sead"]), "unknown axis 'sead'; did you mean 'seed'?"),
        (lambda: group_curves(planted(2), ["seed", "seed"]), "give one axis or two different ones, got seed seed"),
        (lambda: group_curves(planted(2), metric="test-los"), "unknown metric 'test_los'; did you mean 'test_loss'?"),
        (lambda: sweep_phases(planted(2), ["size"]), "a phase diagram needs two axes with several values"),
        (lambda: group_curves(planted(30), ["seed"]), "curves are drawn of at most 24 groups in at most 12 panels"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        draw()
    assert str(caught.value).startswith(words)


def test_phases_show_any_number_of_the_table() -> None:
    """The mean over what differs on other axes; of steps the power of ten."""
    table = planted(n_seeds=2)
    norms = np.arange(8.0).reshape(2, 2, 2)
    steps = np.where(norms > 3, 1000.0, np.nan)
    dims = table.state.dims
    event = {"long_name": "step at which it had generalized"}
    table = table.assign(final_weight_norm=(dims, norms), generalized_at=(dims, steps, event))
    shown = sweep_phases(table, ["size", "weight_decay"], "weight-norm").data[1]
    np.testing.assert_allclose(shown.z, [[0.5, 2.5], [4.5, 6.5]])
    assert shown.zmax is None
    shown = sweep_phases(table, ["size", "weight_decay"], "generalized-at").data[1]
    np.testing.assert_allclose(shown.z, [[np.nan, np.nan], [3, 3]])
    with pytest.raises(InputError, match="unknown color 'weigth-norm'; did you mean 'weight-norm'"):
        sweep_phases(table, ["size", "weight_decay"], "weigth-norm")
