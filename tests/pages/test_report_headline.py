"""The figure that the report begins with: drawn before plotly, with the numbers of the results, and a line at the step
shown."""

import re
from importlib.resources import files

import numpy as np
import pytest

SCRIPT = files("interp.pages").joinpath("browser", "headline.js").read_text(encoding="utf-8")
LEFT, RIGHT = (int(width) for width in re.findall(r"\b(?:LEFT|RIGHT) = (\d+)", SCRIPT))  # the margins of the figure


@pytest.fixture(scope="module")
def page(open_page, reference_report):
    page = open_page(reference_report.path)
    yield page
    assert page.trouble == []
    page.close()


def show(page, index: int) -> None:
    """Move the slider, and wait until that is drawn."""
    set_state = "interp.explorers[0].state.set({ index })"
    frames = "for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame)"
    page.evaluate(f"async (index) => {{ {set_state}; {frames}; }}", index)


def tip_at(page, canvas, place: dict) -> str:
    """What hovering over a place of a canvas says."""
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + place["x"], box["y"] + place["y"])
    page.wait_for_selector(".tip:visible")
    return page.inner_text(".tip")


def test_a_line_in_the_headline_figure_follows(page, reference_report):
    box = page.locator("[data-headline] canvas").bounding_box()
    left, right = box["x"] + LEFT, box["x"] + box["width"] - RIGHT
    places = []
    for step in (0, 1000, 3000):
        show(page, reference_report.run.steps.index(step))
        line = page.locator("[data-headline] .cursor:not(.cross)").bounding_box()
        assert line["width"] == 2
        assert line["height"] > 400
        places.append((line["x"] + 1 - left) / (right - left))
    assert places == pytest.approx([0, 1 / 3, 1], abs=2e-3)
    page.click("[data-headline] button")
    show(page, reference_report.run.steps.index(1000))
    line = page.locator("[data-headline] .cursor:not(.cross)").bounding_box()
    assert (line["x"] + 1 - left) / (right - left) == pytest.approx(np.log(1001) / np.log(3001), abs=2e-3)
    page.click("[data-headline] button")


def test_the_headline_figure_tells_its_numbers(page, reference_report):
    """Hovering at two thirds of a run of 3,000 steps tells all curves at step 2,000; a click leads there."""
    canvas = page.locator("[data-headline] canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    place = {"x": LEFT + (box["width"] - LEFT - RIGHT) * 2 / 3, "y": 100}
    told = dict(line.rsplit(": ", 1) for line in tip_at(page, canvas, place).splitlines()[1:])
    transitions = reference_report.results["transitions"].sel(step=2000)
    assert float(told["held-out loss"]) == pytest.approx(transitions.loss.sel(loss_of="held_out").item(), rel=1e-4)
    assert float(told["excluded loss (without them, train)"]) == pytest.approx(
        transitions.loss.sel(loss_of="excluded").item(), rel=1e-4
    )
    assert float(told["weight norm"]) == pytest.approx(transitions.sum_of_squares.item() ** 0.5, rel=1e-4)
    assert float(told["Gini of W_E"]) == pytest.approx(transitions.gini.item(), rel=1e-4)
    assert told["train accuracy"] == "100.00 %"
    canvas.click(position=place)
    page.wait_for_selector(".step[aria-valuetext='step 2,000']")
    assert "held-out loss: " in canvas.get_attribute("aria-label")


def test_the_headline_figure_does_not_wait_for_plotly(open_page, reference_report):
    """plotly takes seconds to start: the figure, the slider and the panels stand before that begins."""
    noticed = """Object.defineProperty(window, "Plotly", { configurable: true, set(value) {
        const drawn = "[data-headline][data-drawn], html[data-ready=yes], [data-panel]";
        window.drawnBefore = [...document.querySelectorAll(drawn)].length;
        Object.defineProperty(window, "Plotly", { value });
    } })"""
    page = open_page(reference_report.path, script=noticed)
    assert page.evaluate(
        "window.Plotly === undefined && document.querySelector('[data-headline]').dataset.drawn === 'light'"
    )
    page.locator("#weight_norms .figure").scroll_into_view_if_needed()
    page.wait_for_selector("#weight_norms .main-svg")
    assert page.evaluate("window.drawnBefore") == 2 + 10
    assert page.trouble == []
    page.close()
