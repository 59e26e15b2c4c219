"""The page of a comparison in a real browser: the same axes on all sides, nothing asked of the network, hostile names escaped."""

import json

import pytest

import interp
from interp.comparison import Comparison, compare
from interp.report.comparison import render_comparison
from interp.testing import circuit_model, circuit_neurons, circuit_weights


@pytest.fixture(scope="module")
def grokking() -> Comparison:
    run = interp.open_run(interp.reference_path())
    return compare((run, 100), run)


def test_hostile_names_stay_text(tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    task, model = interp.Task(7, train_fraction=0.5), circuit_model(circuit_neurons([1, 2]))
    for name in (evil, "harmless"):
        with interp.RunWriter.create(tmp_path / name, task, model) as writer:
            writer.append(0, circuit_weights(task, model, circuit_neurons([1, 2])))
    html = render_comparison(compare(tmp_path / evil, tmp_path / "harmless"))
    assert evil not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
    figures = json.loads(html.split('id="figures">')[1].split("</script>")[0])
    assert evil not in json.dumps(figures)
    assert figures["norms"]["data"][0]["name"].startswith("&lt;img")


def test_both_sides_have_the_same_axes_and_color_scale(grokking):
    html = render_comparison(grokking)
    figures = json.loads(html.split('id="figures">')[1].split("</script>")[0])
    maps = figures["neurons"]
    assert [trace["coloraxis"] for trace in maps["data"]] == ["coloraxis", "coloraxis"]
    assert (maps["layout"]["coloraxis"]["cmin"], maps["layout"]["coloraxis"]["cmax"]) == (0, 1)
    spectra = figures["spectra"]["layout"]
    assert [spectra[f"yaxis{n}"]["matches"] for n in (2, 4, 6, 8)] == ["y", "y3", "y5", "y7"]
    assert list(figures) == [name for name in ("curves", "losses", "circuits", "spectra", "neurons", "norms", "ranks") if name in figures]


def test_the_page_opens_on_a_narrow_screen_without_error_and_without_network(grokking, browser, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(render_comparison(grokking), encoding="utf-8")
    page, trouble, requests = browser.new_page(viewport={"width": 390, "height": 800}), [], []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("console", lambda message: trouble.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector("#ranks .main-svg", state="attached")
    assert trouble == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert page.inner_text("h1").replace("\n", " ") == "step 100 beside step 3,000"
    assert "3, 11, 12" in page.inner_text(".story")
    assert page.evaluate("document.documentElement.scrollWidth") <= 391
    page.close()
