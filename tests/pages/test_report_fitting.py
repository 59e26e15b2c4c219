"""What a page does to a figure that was made to stand alone."""

import math

import plotly.graph_objects as go

from interp.figures import new_panels
from interp.pages.fitting import say_what_is_unknown, without_title


def test_the_title_goes_and_so_does_its_room():
    figure = new_panels("Clock &amp; pizza", ["one", "two"], reference="Zhong et al. 2023")
    high, top = figure.layout.height, figure.layout.margin.t
    assert without_title(figure) == "Clock & pizza"
    assert not figure.layout.title.text
    assert high - figure.layout.height == top - figure.layout.margin.t > 0
    above = new_panels("Losses", ["one"]).update_layout(legend={"orientation": "h", "y": 1.1})
    assert without_title(above) == "Losses"
    assert above.layout.margin.t > figure.layout.margin.t, "room for the legend above the panels"


def test_a_figure_of_somebody_else_keeps_its_title():
    figure = go.Figure(layout={"title": "Mine", "height": 300})
    assert without_title(figure) == ""
    assert (figure.layout.title.text, figure.layout.height) == ("Mine", 300)


def test_a_panel_without_a_number_says_so():
    figure = new_panels("All", ["curve", "nothing", "only NaN", "map", "bars", "lying bars"])
    figure.add_scatter(x=[0, 1], y=[math.nan, 2.0], row=1, col=1)
    figure.add_scatter(x=[0, 1], y=[math.nan, None], row=2, col=1)
    figure.add_heatmap(z=[[1.0]], row=2, col=2)
    figure.add_bar(x=["k = 1"], y=[3], row=3, col=1)
    figure.add_bar(x=[3], y=["W_E"], orientation="h", row=3, col=2)
    say_what_is_unknown(figure)
    said = [annotation.xref for annotation in figure.layout.annotations if annotation.text == "not known"]
    assert said == ["x2 domain", "x3 domain"]
    assert {trace.xaxis or "x" for trace in figure.data} == {"x", "x2", "x3", "x4", "x5", "x6"}, (
        "every panel has its axes drawn"
    )


def test_marks_at_names_are_shown_and_no_marks_are_not():
    figure = new_panels("Marks", ["some", "none"])
    figure.add_scatter(x=[3, 5], y=["this rule", "this rule"], mode="markers", row=1, col=1)
    figure.add_scatter(x=[], y=[], mode="markers", row=1, col=2)
    say_what_is_unknown(figure)
    assert [one.xref for one in figure.layout.annotations if one.text == "not known"] == ["x2 domain"]


def test_a_corner_of_the_grid_that_is_left_over_says_nothing():
    figure = new_panels("Five", ["one", "two", "three", "nothing", "five"])
    for row, column in ((1, 1), (1, 2), (2, 1), (3, 1)):
        figure.add_scatter(x=[0, 1], y=[1.0, 2.0], row=row, col=column)
    say_what_is_unknown(figure)
    assert [annotation.xref for annotation in figure.layout.annotations if annotation.text == "not known"] == [
        "x4 domain"
    ]
    assert "x6" not in {trace.xaxis for trace in figure.data}


def test_in_a_grid_titled_along_its_edge_every_panel_counts():
    figure = new_panels("Grid", ["left", "right", "", ""])
    for row, column in ((1, 1), (1, 2), (2, 1)):
        figure.add_scatter(x=[0, 1], y=[1.0, 2.0], row=row, col=column)
    say_what_is_unknown(figure)
    assert [annotation.xref for annotation in figure.layout.annotations if annotation.text == "not known"] == [
        "x4 domain"
    ]
