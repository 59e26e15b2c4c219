"""The report in a real browser: it shows what the results say, asks the network for nothing, and escapes what it is
given."""

import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

STATE = "interp.explorers[0].state"
SPECTRA = files("interp.pages").joinpath("browser", "panel_embedding.js").read_text(encoding="utf-8")
((LEFT, RIGHT),) = (
    [int(width) for width in found] for found in re.findall(r"\[left, right\] = \[(\d+), width - (\d+)\]", SPECTRA)
)


def place_of(frequency: int, width: float, frequencies: int) -> float:
    """Where the bar of a frequency stands in the panel of spectra."""
    return LEFT + (frequency - 0.5) * (width - LEFT - RIGHT) / frequencies


@pytest.fixture(scope="module")
def reference(reference_report):
    return reference_report.run


@pytest.fixture(scope="module")
def results(reference_report):
    return reference_report.results


@pytest.fixture(scope="module")
def path(reference_report) -> Path:
    return reference_report.path


@pytest.fixture(scope="module")
def one_page(open_page, path):
    page = open_page(path)
    yield page
    assert page.trouble == []
    page.close()


@pytest.fixture
def page(one_page):
    """The page that most tests share, as it is when it opens."""
    one_page.evaluate("interp.explorers[0].stop()")
    show(
        one_page,
        "{index: interp.explorers[0].run.steps.length - 1, pinned: null, frequency: null, neuron: null, head: null}",
    )
    one_page.evaluate("window.scrollTo(0, 0); document.activeElement.blur()")
    return one_page


def show(page, changes: str) -> None:
    """Change what is shown, and wait until it is drawn."""
    page.evaluate(
        f"async () => {{ {STATE}.set({changes}); for (let i = 0; i < 3; i++) await new "
        f"Promise(requestAnimationFrame); }}"
    )


def bring(page, name: str):
    """A panel, in sight and drawn."""
    canvas = page.locator(f"[data-panel={name}] canvas").first
    canvas.scroll_into_view_if_needed()
    page.wait_for_selector(f"[data-panel={name}][data-step]")
    return canvas


def tip_at(page, canvas, x: float, y: float) -> str:
    """What hovering over a place of a canvas says."""
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.wait_for_selector(".tip:visible")
    return page.inner_text(".tip")


def test_is_small(path):
    assert path.stat().st_size < 6e6


def test_says_what_happened(page):
    heading = page.inner_text("h1").replace("\xa0", " ")
    assert heading == "It grokked: 100 % of the held-out pairs, 99 % from step 950 on"
    facts = page.inner_text(".facts")
    for value in ("100", "950", "3, 11, 12", "121 of 128"):
        assert value in facts
    assert "121 of 128" in page.inner_text(".controls-table")


def test_the_slider_comes_first(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.type") == "range"
    assert page.locator("input").count() == 1


@pytest.mark.parametrize("step", [0, 400, 3000])
def test_the_slider_shows_the_values_of_the_results(page, reference, results, step):
    """Everything decoded in the page is what the results say: exactly, or to the error that the page states."""
    index = reference.steps.index(step)
    page.locator(".step").fill(str(index))
    page.wait_for_selector(f".step[aria-valuetext='step {step:,}']")
    shown = dict(page.eval_on_selector_all(".readouts dd", "all => all.map(dd => [dd.dataset.scalar, dd.textContent])"))
    metrics, progress = reference.metrics.sel(step=step), results["progress_measures"].sel(step=step)
    assert shown["test_accuracy"] == f"{100 * metrics.test_accuracy.item():.1f} %"
    assert float(shown["restricted_all"]) == pytest.approx(progress.restricted_loss.sel(split="all").item(), rel=6e-3)
    assert float(shown["l2"]) == pytest.approx(results["weight_norms"].total_l2.sel(step=step).item(), rel=6e-4)

    def row(name):
        return np.array(
            page.evaluate(f"Array.from(interp.explorers[0].arrays.{name}.row({index}), x => x === x ? x : null)"),
            dtype=float,
        )

    order = page.evaluate("interp.explorers[0].run.neurons")
    share = results["neuron_periodicity"].share.sel(step=step).values[order]
    np.testing.assert_allclose(row("share"), share.ravel(), atol=0.002)
    np.testing.assert_allclose(row("output_norm"), results["embedding_spectrum"].output_norm.sel(step=step), rtol=1e-6)
    np.testing.assert_allclose(row("norms"), results["weight_norms"].l2.sel(step=step), rtol=1e-6)
    checkpoint = reference[step]
    attention = checkpoint.attention[..., 0].permute(2, 0, 1).numpy()
    np.testing.assert_allclose(row("attention"), attention.ravel(), atol=0.002)
    logits = checkpoint.logits - checkpoint.logits.mean(-1, keepdim=True)
    classes = page.evaluate("interp.explorers[0].run.classes")
    expected = logits[..., classes].permute(2, 0, 1).numpy()
    np.testing.assert_allclose(row("logits_of_class"), expected.ravel(), atol=0.002 * np.ptp(expected))


def test_hovering_tells_the_numbers(page, results):
    canvas = bring(page, "spectra")
    box = canvas.bounding_box()
    frequencies = results["embedding_spectrum"].sizes["frequency"]
    text = tip_at(page, canvas, place_of(11, box["width"], frequencies), 60)
    last = results["embedding_spectrum"].isel(step=-1).sel(frequency=11)
    assert text.splitlines()[0] == "frequency 11"
    assert float(text.splitlines()[1].rpartition(" ")[2]) == pytest.approx(last.embedding_norm.item(), rel=6e-3)
    assert float(text.splitlines()[3].rpartition(": ")[2].rstrip(" %")) == pytest.approx(
        100 * last.logit_share.item(), abs=0.051
    )
    text = tip_at(page, bring(page, "norms"), 100, 10)
    assert float(re.search("L2 norm ([0-9.]+)", text)[1]) == pytest.approx(
        results["weight_norms"].l2.values[-1, 0], rel=1e-5
    )


def test_a_click_picks_out_everywhere(page):
    canvas = bring(page, "spectra")
    before = [canvas.screenshot(), bring(page, "circles").screenshot()]
    bring(page, "spectra").click(position={"x": place_of(11, canvas.bounding_box()["width"], 21), "y": 60})
    page.locator(".circuit svg").scroll_into_view_if_needed()
    page.wait_for_selector(".circuit [data-frequency='3'][opacity='0.25']", state="attached")
    assert page.locator(".choices select").first.input_value() == "11"
    assert bring(page, "spectra").screenshot() != before[0]
    assert bring(page, "circles").screenshot() != before[1]
    page.locator(".choices select").first.select_option("3")
    page.locator(".circuit svg").scroll_into_view_if_needed()
    page.wait_for_selector(".circuit [data-frequency='3'][opacity='1']", state="attached")


PANELS = {
    "attention",
    "circles",
    "forces",
    "logits",
    "neuron_lines",
    "neuron_map",
    "norms",
    "progress",
    "spectra",
    "two_circuits",
}


def test_every_panel_moves(page, reference):
    panels = page.eval_on_selector_all("[data-panel]", "all => all.map(panel => panel.dataset.panel)")
    assert set(panels) == PANELS
    for name in panels:
        canvas = bring(page, name)
        pictures = {canvas.screenshot()}
        for step in (0, 400):
            show(page, f"{{index: {reference.steps.index(step)}}}")
            page.wait_for_selector(f"[data-panel={name}][data-step='{step}']")
            pictures.add(canvas.screenshot())
            assert f"step {step}" in canvas.get_attribute("aria-label")
        assert len(pictures) == 3, name
        show(page, f"{{index: {len(reference.steps) - 1}}}")


def test_the_circuit_says_what_was_measured(page, results):
    page.locator(".circuit svg").scroll_into_view_if_needed()
    page.wait_for_selector(".circuit .row")
    said = page.locator(".circuit svg").get_attribute("aria-label")
    counts = results["neuron_periodicity"].periodic_neurons.isel(step=-1)
    shares = results["embedding_spectrum"].logit_share.isel(step=-1)
    for k in (3, 11, 12):
        assert (
            f"{int(counts.sel(frequency=k))} neurons, {100 * shares.sel(frequency=k).item():.1f} % of the logits"
            in said
        )


def test_it_opens_in_the_transition(open_page, path, results):
    """Not in the gray afterwards: where half of the held-out pairs are first known."""
    page = open_page(path)
    step = int(page.inner_text(".now").removeprefix("step ").replace(",", ""))
    known = results["learning_curves"].accuracy.sel(split="held_out")
    assert 0.5 <= float(known.sel(step=step)) < 0.8
    assert step <= 850
    page.close()


def test_keys_play_and_pin(page, reference):
    show(page, f"{{index: {len(reference.steps) - 1}}}")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(f".step[aria-valuetext='step {reference.steps[-2]:,}']")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".step[aria-valuetext='step 3,000']")  # or what was there before is taken for playing
    page.keyboard.press("p")
    page.wait_for_selector(".explorer.pinned")
    page.keyboard.press(" ")
    page.wait_for_selector(".play[aria-pressed=true]")
    page.wait_for_selector(".step:not([aria-valuetext='step 0']):not([aria-valuetext='step 3,000'])")
    page.keyboard.press(" ")
    page.wait_for_selector(".play[aria-pressed=false]")
    assert " → " in page.inner_text(".readouts")
    bring(page, "circles")
    labels = page.locator("[data-panel=circles] .which").all_inner_texts()
    assert labels[0] == "pinned, step 3,000"
    assert re.fullmatch(r"now, step [\d,]+", labels[1])
    assert page.locator("[data-panel=circles] canvas:visible").count() == 2
    page.click(".pin")
    page.wait_for_selector(".explorer:not(.pinned)")


def test_it_ends_when_played_to_the_end(page, reference):
    show(page, f"{{index: {len(reference.steps) - 3}}}")
    page.click(".play")
    page.wait_for_selector(".play[aria-pressed=false]")
    assert page.inner_text(".now") == "step 3,000"


def test_a_step_has_an_address(open_page, path):
    page = open_page(path, "#step=399")
    assert page.inner_text(".now") == "step 400"
    page.evaluate("location.hash = '#step=1000'")
    page.wait_for_selector(".step[aria-valuetext='step 1,000']")
    page.locator(".step").press("ArrowLeft")
    page.wait_for_url("**/report.html#step=9*")
    page.click("header a[href='#step=100']")
    page.wait_for_selector(".step[aria-valuetext='step 100']")
    page.close()


def test_stills_for_who_wants_less_motion_and_no_script_of_others(open_page, path, tmp_path):
    """The last line of defense: of scripts that got into the page, none knows the nonce."""
    planted = tmp_path / "planted.html"
    planted.write_text(
        path.read_text(encoding="utf-8").replace(
            "<h1>", "<script>window.planted = 1</script><h1 onclick='planted = 2'>"
        )
    )
    page = open_page(planted, reduced_motion="reduce")
    page.click("h1")
    assert page.evaluate("window.planted === undefined")
    show(page, "{index: 1000}")  # the last
    page.click(".play")
    page.wait_for_timeout(400)
    assert page.evaluate(f"{STATE}.now.index") == 0
    page.close()


def test_shows_every_analysis_with_its_numbers_and_without_network(open_page, path, results):
    page = open_page(path)
    for name in results:
        page.locator(f"#{name} .figure").scroll_into_view_if_needed()
        page.wait_for_selector(f"#{name} .main-svg")
    values = page.evaluate("document.querySelector('#weight_norms .figure').calcdata[0].map(point => point.y)")
    assert values == pytest.approx(results["weight_norms"].total_l2.values.tolist())
    titles = page.eval_on_selector_all(".modebar-btn", "buttons => buttons.map(b => b.getAttribute('data-title'))")
    assert titles
    assert not [title for title in titles if title and re.search("cloud|share|plotly", title, re.IGNORECASE)]
    assert page.locator("#weight_norms details.method").inner_text().startswith("Formula")
    assert page.locator("#learning_curves path[fill-rule]").count() > 2, "the phases are shaded"
    assert page.trouble == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    page.close()


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_both_themes(open_page, path):
    page = open_page(path, color_scheme="dark")
    pictures = set()
    for theme in ("dark", "light"):
        page.wait_for_selector(f"[data-theme={theme}] [data-headline][data-drawn={theme}]")
        colors = {name: page.evaluate(f"interp.color('{name}')") for name in ("ink", "soft", "accent", "paper", "back")}
        for text in ("ink", "soft", "accent"):
            for ground in ("paper", "back"):
                dark, light = sorted(luminance(colors[name]) for name in (text, ground))
                assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{text} on {ground}"
        pictures.add(bring(page, "norms").screenshot())
        page.evaluate("window.scrollTo(0, 0)")
        page.locator(".theme").first.click()
    assert len(pictures) == 2
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    show(page, "{index: 0}")
    up_to_date = "document.querySelectorAll('[data-panel][data-step=\"0\"]').length"
    assert page.evaluate(up_to_date) < len(PANELS), "out of sight nothing is drawn"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(f"[document.documentElement.dataset.theme, {up_to_date}]") == ["light", len(PANELS)]
    assert page.locator(".circuit .row").count() > 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.trouble == []
    page.close()


def test_everything_that_is_operated_has_a_name(page):
    unnamed = page.evaluate("""[
        ...document.querySelectorAll('button, input, select, canvas[role=img], svg[role=img]')
    ].filter(element =>
        !(element.textContent.trim() || element.getAttribute('aria-label') || element.closest('label'))
        && !element.closest('[hidden]')
    ).map(element => element.outerHTML)""")
    assert [html for html in unnamed if "modebar" not in html and "main-svg" not in html] == []
