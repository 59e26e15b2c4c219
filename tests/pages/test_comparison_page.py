"""The page of a comparison in a real browser: sliders that move together and show what the results say, the same axes
on all sides, nothing asked of the network, hostile names escaped."""

import base64
import json
import re
import zlib

import numpy as np
import pytest

import interp
from interp.analysis import analyze
from interp.explanation import Comparison, compare
from interp.pages import explored, render_comparison
from interp.pages.comparison_figures import figures
from interp.testing import circuit_model, circuit_neurons, circuit_weights

LEFT, RIGHT = "interp.explorers[0]", "interp.explorers[1]"


@pytest.fixture(scope="module")
def grokking() -> Comparison:
    run = interp.open_run(interp.reference_path())
    return compare((run, 100), run)


def written(folder, steps, frequencies=(1, 2), **model):
    """A run that is a planted circuit, the louder the later."""
    task, neurons = interp.Task(7, train_fraction=0.5), circuit_neurons(frequencies)
    with interp.RunWriter.create(folder, task, circuit_model(neurons, **model)) as writer:
        for step in steps:
            writer.append(step, circuit_weights(task, circuit_model(neurons, **model), neurons, strength=0.1 + step))
    return folder


@pytest.fixture(scope="module")
def page(grokking, open_page, tmp_path_factory):
    path = tmp_path_factory.mktemp("comparison") / "page.html"
    results = {side.run.path.resolve(): analyze(side.run) for side in explored(grokking)}
    path.write_text(render_comparison(grokking, results), encoding="utf-8")
    page = open_page(path)
    yield page
    assert page.trouble == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    page.close()


def packed_figure(html: str, name: str) -> dict:
    text = re.search(f'id="figure-{name}">([^<]*)<', html)
    assert text
    return json.loads(zlib.decompress(base64.b64decode(text[1])))


def test_hostile_names_stay_text(tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    runs = [interp.open_run(written(tmp_path / name, [0])) for name in (evil, "harmless")]
    html = render_comparison(compare(*runs), {run.path.resolve(): analyze(run) for run in runs})
    assert evil not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
    norms = packed_figure(html, "norms")
    assert evil not in json.dumps(norms)
    assert norms["data"][0]["name"].startswith("&lt;img")


def test_both_sides_have_the_same_axes_and_color_scale(grokking):
    drawn = {name: figure.to_plotly_json() for name, figure in figures(grokking).items()}
    maps = drawn["neurons"]
    assert [trace["coloraxis"] for trace in maps["data"]] == ["coloraxis", "coloraxis"]
    assert (maps["layout"]["coloraxis"]["cmin"], maps["layout"]["coloraxis"]["cmax"]) == (0, 1)
    spectra = drawn["spectra"]["layout"]
    assert [spectra[f"yaxis{n}"]["matches"] for n in (2, 4, 6, 8)] == ["y", "y3", "y5", "y7"]
    assert list(drawn) == [
        name for name in ("curves", "losses", "circuits", "spectra", "neurons", "norms", "ranks") if name in drawn
    ]


def test_the_sliders_begin_at_the_checkpoints_that_are_compared(page, grokking):
    assert page.inner_text("h1").replace("\n", " ") == "step 100 beside step 3,000"
    assert "3, 11, 12" in page.inner_text(".story")
    assert page.locator(".now").all_inner_texts() == ["step 100", "step 3,000"]
    assert page.locator("script[id^=run-]").count() == 1, "one run is embedded once"


def test_moving_one_slider_moves_the_other(page, grokking):
    """Both show the values of the results at their step: exactly, or to the error that quantizing has."""
    run = grokking.sides[0].run
    results = analyze(run, ["weight_norms", "neuron_periodicity"])
    assert not page.locator(".together input").is_checked(), (
        "two checkpoints of one run, moved together, would be the same"
    )
    for together, left, right in ((False, 400, 3000), (True, 1000, 1000)):
        if together:
            page.locator(".together input").check()
        page.locator(".step").first.fill(str(run.steps.index(left)))
        page.wait_for_selector(f"[data-step='100'] .step[aria-valuetext='step {left:,}']")
        page.wait_for_selector(f"[data-step='3000'] .step[aria-valuetext='step {right:,}']")
        for side, step in ((LEFT, left), (RIGHT, right)):
            shown = page.evaluate(f"Array.from({side}.arrays.norms.row({side}.state.now.index))")
            np.testing.assert_allclose(shown, results["weight_norms"].l2.sel(step=step), rtol=1e-6)
            share = page.evaluate(f"Array.from({side}.arrays.share.row({side}.state.now.index))")
            order = page.evaluate(f"{side}.run.neurons")
            expected = results["neuron_periodicity"].share.sel(step=step).values[order]
            np.testing.assert_allclose(share, expected.ravel(), atol=0.002)
            place = 0 if side == LEFT else 1
            norm = page.locator("[data-scalar=l2]").nth(place).inner_text()
            assert float(norm) == pytest.approx(results["weight_norms"].total_l2.sel(step=step).item(), rel=6e-4)
    page.locator(".step").nth(1).press("ArrowLeft")  # who follows can lead as well
    before = run.steps[run.steps.index(1000) - 1]
    page.wait_for_selector(f"[data-step='100'] .step[aria-valuetext='step {before:,}']")
    page.wait_for_url(f"**/page.html#step={before}&step2={before}")


def test_panels_stand_side_by_side_on_a_wide_screen_and_below_each_other_on_a_narrow_one(page):
    places = [
        page.locator(f"[data-panel={name}]").nth(side).bounding_box()
        for name in ("norms", "spectra")
        for side in (0, 1)
    ]
    assert [place["y"] for place in places[::2]] == [place["y"] for place in places[1::2]]
    assert places[0]["x"] + places[0]["width"] < places[1]["x"]
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 391
    places = [page.locator("[data-panel=norms]").nth(side).bounding_box() for side in (0, 1)]
    assert places[0]["x"] == places[1]["x"]
    assert places[0]["y"] + places[0]["height"] < places[1]["y"]
    page.set_viewport_size({"width": 1200, "height": 900})


def test_runs_of_different_length_move_by_their_share_of_training(open_page, tmp_path):
    """Nothing happens in these, so that there are no phases; and one of them has no attention."""
    short = written(tmp_path / "short", (0, 2, 4, 10))
    long = written(tmp_path / "long", (0, 5, 40, 100), frequencies=(1, 3), family="mlp", embedding="tied")
    comparison = compare(short, long)
    path = tmp_path / "page.html"
    path.write_text(
        render_comparison(comparison, {s.run.path.resolve(): analyze(s.run) for s in comparison.sides}),
        encoding="utf-8",
    )
    page = open_page(path, color_scheme="dark")
    assert page.locator(".together option").all_inner_texts() == ["at the same step", "at the same share of training"]
    assert page.locator(".together input").is_checked()
    page.locator(".step").first.fill("2")
    page.wait_for_selector("[data-label=long] .step[aria-valuetext='step 40']")
    page.locator(".together select").select_option("step")
    page.wait_for_selector("[data-label=long] .step[aria-valuetext='step 5']")
    limits = [page.evaluate(f"{side}.run.limits") for side in (LEFT, RIGHT)]
    assert limits[0] == limits[1]
    every = [analyze(side.run, ["weight_norms"])["weight_norms"].l2.values.max() for side in comparison.sides]
    assert limits[0]["norms"][1] == pytest.approx(max(every))
    colors = [page.evaluate(f"{side}.run.colors") for side in (LEFT, RIGHT)]
    assert {k: colors[0][k] for k in colors[0] if k in colors[1]} == {
        k: colors[1][k] for k in colors[1] if k in colors[0]
    }
    assert page.locator(".panel.empty").all_inner_texts() == ["This network has none."]
    assert page.trouble == []
    page.close()


def test_without_results_there_are_no_sliders(grokking, open_page, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(render_comparison(grokking), encoding="utf-8")
    page = open_page(path, viewport={"width": 390, "height": 800})
    assert page.locator("input").count() == 0
    page.locator("#ranks .figure").scroll_into_view_if_needed()
    page.wait_for_selector("#ranks .main-svg")
    assert page.evaluate("document.documentElement.scrollWidth") <= 391
    assert page.trouble == []
    page.close()
