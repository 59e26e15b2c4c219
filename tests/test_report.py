"""The report in a real browser: it shows what the results say, asks the network for nothing, and escapes what it is given."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import interp
from interp.analysis import analyze
from interp.report.page import in_script, render

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def page_html() -> str:
    run = interp.open_run(interp.reference_path())
    return render(run, analyze(run))


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    assert BROWSER, "the report is tested in a browser: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu", "--disable-quic"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, page_html, tmp_path):
    """The page, opened from a file, with everything that went wrong in it and every request that left it."""
    path: Path = tmp_path / "report.html"
    path.write_text(page_html, encoding="utf-8")
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.trouble, page.requests = [], []
    page.on("pageerror", lambda error: page.trouble.append(str(error)))
    page.on("console", lambda message: page.trouble.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_function("document.querySelectorAll('.main-svg').length >= 4")
    yield page
    page.close()


def test_opens_without_error_and_without_network(opened):
    assert opened.trouble == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:", "blob:"))] == []


def test_says_what_happened(opened):
    assert opened.inner_text("h1") == "It grokked"
    facts = opened.inner_text(".facts")
    for value in ("100", "950", "3, 11, 12", "121 of 128"):
        assert value in facts


def test_shows_every_analysis_with_its_numbers(opened):
    run = interp.open_run(interp.reference_path())
    for name in analyze(run):
        assert opened.locator(f"#{name} .main-svg").count() >= 1, name
    values = opened.evaluate("document.querySelector('#weight_norms .figure').calcdata[0].map(point => point.y)")
    assert values == pytest.approx(run.result("weight_norms").total_l2.values.tolist())


def test_offers_no_upload(opened):
    titles = opened.eval_on_selector_all(".modebar-btn", "buttons => buttons.map(b => b.getAttribute('data-title'))")
    assert titles
    assert not [title for title in titles if title and re.search("cloud|share|plotly", title, re.IGNORECASE)]


def test_fits_a_narrow_screen(browser, page_html, tmp_path):
    path = tmp_path / "narrow.html"
    path.write_text(page_html, encoding="utf-8")
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(path.as_uri())
    page.wait_for_function("document.querySelectorAll('.main-svg').length >= 4")
    assert page.evaluate("document.documentElement.scrollWidth") <= 391
    page.close()


def test_hostile_text_stays_text(page_html):
    run = interp.open_run(interp.reference_path())
    evil = "</script><img src=x onerror=alert(1)>{{ 7 * 7 }}"
    run.info = run.info | {"created": evil, "versions": {evil: evil}}
    results = {name: result.assign_attrs(parameters=json.dumps({evil: evil})) for name, result in analyze(run).items()}
    html = render(run, results)
    assert evil not in html
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;{{ 7 * 7 }}" in html
    assert "49" not in html.split("&lt;img src=x onerror=alert(1)&gt;", 1)[1][:12]


def test_json_in_a_script_holds_no_markup():
    value = {"</script>": "<!-- \u2028 -->"}
    text = str(in_script(value))
    assert "<" not in text
    assert "\u2028" not in text
    assert json.loads(text) == value


def test_a_run_of_one_checkpoint_and_no_split(tmp_path):
    reference = interp.open_run(interp.reference_path())
    task = replace(reference.task, split="unknown")
    with interp.RunWriter.create(tmp_path / "lone", task, reference.model) as writer:
        writer.append(-1, reference.at(-1).weights)
    run = interp.open_run(tmp_path / "lone")
    html = render(run, analyze(run))
    assert "What happened cannot be told" in html
    assert "NaN" not in html.split('id="figures"')[0].split("<header>")[1].split("</header>")[0]
