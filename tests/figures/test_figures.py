"""The look that all figures share."""

import math
import re

import pytest

from interp.figures import (
    CONFIG,
    NEUTRAL,
    PALETTE,
    PHASE_COLORS,
    across_panels,
    band,
    color_of_frequency,
    new_figure,
    new_panels,
    percent_axis,
    plain_log_axis,
    power_of_ten_axis,
    shade_phases,
)
from interp.figures.style import FREQUENCY_PALETTE


def test_the_colors_of_the_palette_are_colors_and_differ():
    assert all(re.fullmatch("#[0-9A-F]{6}", color) for color in (*PALETTE, *FREQUENCY_PALETTE, NEUTRAL))
    assert len({*PALETTE, NEUTRAL}) == len(PALETTE) + 1
    assert len({*PALETTE, NEUTRAL, *FREQUENCY_PALETTE}) == len(PALETTE) + 1 + len(FREQUENCY_PALETTE), (
        "a frequency looks like nothing else"
    )


def test_key_frequencies_have_colors_and_the_others_none():
    key = [42, 14, 35]
    assert [color_of_frequency(k, key) for k in (14, 35, 42)] == list(FREQUENCY_PALETTE[:3])
    assert color_of_frequency(15, key) == NEUTRAL
    assert color_of_frequency(15, []) == NEUTRAL


def test_more_frequencies_than_colors_begin_again():
    many = range(1, len(FREQUENCY_PALETTE) + 2)
    assert color_of_frequency(len(FREQUENCY_PALETTE) + 1, many) == color_of_frequency(1, many)


def test_a_figure_says_what_it_shows_and_where_it_comes_from():
    figure = new_figure("Loss", x="step", y="nats", reference="Power et al. 2022", height=333)
    assert figure.layout.title.text.startswith("<b>Loss</b><br>")
    assert "Power et al. 2022" in figure.layout.title.text
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text, figure.layout.height) == (
        "step",
        "nats",
        333,
    )
    assert figure.layout.colorway == PALETTE
    assert new_figure("Loss", x="step", y="nats").layout.title.text == "<b>Loss</b>"


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 2, 1), (2, 2, 1), (3, 2, 2), (6, 2, 3), (4, 3, 2)])
def test_panels_are_filled_row_by_row(count, columns, rows):
    titles = [f"panel {number}" for number in range(count)]
    figure = new_panels("All", titles, columns=columns, row_height=100)
    assert [annotation.text for annotation in figure.layout.annotations] == titles
    assert figure.layout.height - new_panels("All", ["one"], columns=columns, row_height=100).layout.height == 100 * (
        rows - 1
    )
    across = [annotation.x for annotation in figure.layout.annotations]
    down = [-annotation.y for annotation in figure.layout.annotations]
    assert sorted(zip(down, across, strict=True)) == list(zip(down, across, strict=True))


def test_an_axis_is_changed_where_it_is_said():
    figure = new_panels("All", ["one", "two"])
    power_of_ten_axis(figure, row=1, col=1, title_text="loss")
    percent_axis(figure, row=1, col=2)
    assert (figure.layout.yaxis.type, figure.layout.yaxis.title.text) == ("log", "loss")
    assert figure.layout.yaxis2.type is None
    assert figure.layout.yaxis2.tickformat == ".0%"
    assert figure.layout.yaxis.tickformat is None


@pytest.mark.parametrize(
    ("values", "within", "first"),
    [
        ([30, 2000, -1, math.nan], ["50", "100", "200", "500", "1,000", "2,000"], "10"),
        ([0.25, 4], ["0.5", "1", "2"], "0.1"),
        ([16, 29], ["20", "25"], "10"),
    ],
)
def test_a_short_logarithmic_axis_writes_its_ticks_out(values, within, first):
    axis = plain_log_axis(values)
    ticks = dict(zip(axis["tickvals"], axis["ticktext"], strict=True))
    known = [value for value in values if value > 0]
    assert [text for tick, text in ticks.items() if min(known) <= tick <= max(known)] == within
    assert axis["ticktext"][0] == first


def test_a_logarithmic_axis_without_positive_values_is_an_axis_still():
    assert plain_log_axis([0.0, math.nan])["ticktext"][0] == "1"


def test_no_figure_offers_to_send_anything_anywhere():
    assert CONFIG["showSendToCloud"] is False
    assert CONFIG["plotlyServerURL"] == ""


def test_phases_are_shaded_behind_every_panel_over_steps():
    figure = new_panels("All", ["one", "two", "three"])
    figure.update_xaxes(title_text="step (updates)", row=1)
    figure.update_xaxes(title_text="frequency k", row=2, col=1)
    phases = [{"name": "memorization", "start": 0, "end": 10}, {"name": "cleanup", "start": 10, "end": 30}]
    shade_phases(figure, phases, named=True)
    where = [(shape.xref, shape.yref, shape.x0, shape.x1) for shape in figure.layout.shapes]
    assert where == [
        (x, f"{y} domain", start, end) for x, y in (("x", "y"), ("x2", "y2")) for start, end in ((0, 10), (10, 30))
    ]
    assert re.findall("color:(#.{6})'>■</span> ([a-z]+)", figure.layout.title.text) == [
        (PHASE_COLORS["memorization"], "memorization"),
        (PHASE_COLORS["cleanup"], "cleanup"),
    ]


def test_a_shared_axis_is_one_over_steps_too():
    figure = new_panels("All", ["one", "two"], columns=1, shared_xaxes=True)
    figure.update_xaxes(title_text="step (updates)", row=2)
    shade_phases(figure, [{"name": "stable", "start": 0, "end": 1}])
    assert [shape.xref for shape in figure.layout.shapes] == ["x", "x2"]
    without_steps = new_figure("Loss", x="phase", y="1")
    shade_phases(without_steps, [{"name": "stable", "start": 0, "end": 1}], named=True)
    assert without_steps.layout.title.text == new_figure("Loss", x="phase", y="1").layout.title.text


def test_a_line_goes_across_every_panel_that_has_something_in_it():
    figure, by_plotly = (new_panels("All", ["one", "two", "three"]) for _ in range(2))
    for each in (figure, by_plotly):
        each.add_scatter(y=[1, 2], row=1, col=1)
        each.add_scatter(y=[1, 2], row=2, col=1)
    across_panels(figure, [{"type": "line", "x0": 1, "x1": 1}, {"type": "rect", "x0": 2, "x1": 3}])
    by_plotly.add_vline(x=1)
    by_plotly.add_vrect(x0=2, x1=3)
    assert len(figure.layout.shapes) == 4
    assert figure.layout.shapes == by_plotly.layout.shapes


def test_a_band_has_a_piece_for_every_stretch_that_is_known():
    figure = new_figure("Band", x="x", y="y")
    band(figure, [1, 2, 3, 4, 5], [[0, 1, math.nan, 2, 3], [2, 3, 4, 4, 5]], "#0072B2")
    assert [(list(piece.x), list(piece.y)) for piece in figure.data] == [
        ([1, 2, 2, 1], [2, 3, 1, 0]),
        ([4, 5, 5, 4], [4, 5, 3, 2]),
    ]
    band(figure, [1], [[0], [1]], "#0072B2")
    assert len(figure.data) == 2


def test_powers_of_ten_are_as_many_as_fit():
    figure = new_panels("Loss", ["twelve decades", "two"])
    figure.add_scatter(y=[1e-11, None, 3.0], row=1, col=1)
    figure.add_scatter(y=[0.0, 0.1, 2.0, math.nan], row=1, col=2)
    power_of_ten_axis(figure, row=1)
    assert (figure.layout.yaxis.dtick, figure.layout.yaxis2.dtick) == (2, 1)
