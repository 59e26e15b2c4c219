"""Pages of runs that are unlike the reference run, and of runs that mean harm."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

import interp
from interp.analysis import analyze
from interp.cli import main
from interp.experiment import ModelConfig, Task
from interp.models import initial_weights
from interp.pages import render
from interp.pages.page import in_script

SMALL = ModelConfig(d_model=16, n_heads=2, d_mlp=24)
EVIL = "</script><img src=x onerror=alert(1)><script>alert(2)</script>{{ 7 * 7 }}"


def written(folder, task, model, steps, broken=()) -> interp.Run:
    """A run of untrained networks; the weights of `broken` steps are NaN."""
    with interp.RunWriter.create(folder, task, model) as writer:
        for step in steps:
            weights = initial_weights(replace(model, seed=abs(step)), task.p)
            writer.append(
                step, {key: weight * (float("nan") if step in broken else 1) for key, weight in weights.items()}
            )
    return interp.open_run(folder)


@pytest.fixture
def shown(open_page, tmp_path):
    """The page of a run, with every panel brought into sight."""
    pages = []

    def shown(run, results):
        path = tmp_path / "report.html"
        path.write_text(render(run, results), encoding="utf-8")
        page = open_page(path)
        pages.append(page)
        page.on("dialog", lambda dialog: page.trouble.append(dialog.message))
        if len(results["transitions"].step) > 1:
            page.wait_for_selector("[data-headline][data-drawn]")
        for panel in page.locator("[data-panel]").all():
            panel.scroll_into_view_if_needed()
            page.wait_for_selector(f"[data-panel={panel.get_attribute('data-panel')}][data-step]")
        for text in (
            page.inner_text("header"),
            page.inner_text(".readouts"),
            page.locator(".circuit svg").text_content() or "",
        ):
            assert not re.search(r"\b(NaN|nan|undefined|null|Infinity)\b", text)
        assert page.trouble == []
        return page

    yield shown
    for page in pages:
        page.close()  # left open, it would go on to draw its figures


def test_one_checkpoint_without_a_split(shown, tmp_path):
    run = written(tmp_path / "run", Task(11, split="unknown"), SMALL, [-1])
    page = shown(run, analyze(run))
    assert page.inner_text("h1") == "What happened cannot be told: the split is unknown"
    assert page.locator(".step").is_disabled()
    assert page.locator("[data-headline]").count() == 0, "one checkpoint makes no curve"
    assert page.locator(".readouts dd").first.inner_text() == "unknown"


def test_two_residues_and_two_layers(shown, tmp_path):
    run = written(tmp_path / "run", Task(2, train_fraction=0.5), replace(SMALL, n_layers=2), [0, 1])
    page = shown(run, analyze(run))
    assert page.locator("[data-panel=attention]").count() == 1
    assert page.evaluate("interp.explorers[0].run.circles") == [1]


def test_a_run_that_diverged_is_shown_to_where_it_did(shown, tmp_path):
    run = written(tmp_path / "run", Task(7), SMALL, [0, 1, 2], broken=[2])
    page = shown(run, analyze(run))
    assert "Training diverged" in page.inner_text("header")
    assert page.inner_text(".now") == "step 1"


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], "has no checkpoints to analyze"),
        ([0, 1], "holds NaN or infinity: training diverged at once; train again with a smaller"),
    ],
)
def test_what_has_nothing_to_show_is_refused(tmp_path, capsys, steps, expected):
    written(tmp_path / "run", Task(7), SMALL, steps, broken=steps)
    assert main(["report", str(tmp_path / "run")]) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "run" / "report.html").exists()


def test_of_a_large_modulus_maps_show_a_window(shown, tmp_path, monkeypatch):
    """As modulo 509, whose maps would have a quarter of a million values; all else is whole."""
    monkeypatch.setattr("interp.pages.frames.WINDOW", 6)
    monkeypatch.setattr("interp.pages.frames.NARROW_WINDOW", 4)
    monkeypatch.setattr("interp.pages.frames.MOST_MAPS", 100)
    run = written(tmp_path / "run", Task(11, train_fraction=0.5), SMALL, [0, 1])
    page = shown(run, analyze(run))
    assert "The first 6 of 11 residues." in page.inner_text("[data-panel=logits]")
    assert "the first 4 of 11 residues" in page.inner_text("[data-panel=attention]")
    sizes = {
        name: page.evaluate(f"interp.explorers[0].arrays.{name}.shape")
        for name in ("logits_by_sum", "attention", "responses")
    }
    assert sizes == {"logits_by_sum": [2, 6, 6], "attention": [2, 2, 4, 4], "responses": [2, 24, 11]}


def test_hostile_text_stays_text(shown, tmp_path):
    """Of an MLP whose phases are those of units, with notes and parameters that would be scripts."""
    run = written(
        tmp_path / "run", Task(5, operation="multiply", train_fraction=0.5), ModelConfig(family="mlp", d_mlp=12), [0, 1]
    )
    run.info = run.info | {"created": EVIL, "versions": {EVIL: EVIL}}
    results = {name: result.assign_attrs(parameters=json.dumps({EVIL: EVIL})) for name, result in analyze(run).items()}
    page = shown(run, results)
    assert EVIL not in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert EVIL in page.locator("#provenance td").all_inner_texts()
    assert page.locator("img").count() == 0
    assert page.locator("[data-panel=attention]").count() == 0


def test_json_in_a_script_holds_no_markup():
    value = {"</script>": "<!-- \u2028 -->"}
    text = str(in_script(value))
    assert "<" not in text
    assert "\u2028" not in text
    assert json.loads(text) == {"</script>": "<!-- \\u2028 -->"}


def test_of_two_thousand_checkpoints_two_hundred_are_shown(shown, tmp_path, monkeypatch):
    """Measured at eight, whose results stand for all the others: what grows with their number is the page."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    task, model = Task(3, train_fraction=0.5), ModelConfig(family="mlp", d_mlp=6)
    of_eight = analyze(written(tmp_path / "eight", task, model, range(8)))
    run = written(tmp_path / "run", task, model, range(2000))
    steps = np.arange(2000, dtype=np.int32)
    of_all = {name: result.isel(step=steps % 8).assign_coords(step=steps) for name, result in of_eight.items()}
    intervals = {"interval": steps[1:], "start": ("interval", steps[:-1])}
    of_all["circuit_forces"] = of_all["circuit_forces"].isel(interval=steps[1:] % 7).assign_coords(intervals)
    page = shown(run, of_all)
    assert "Shown are 200 of 2,000 checkpoints" in page.inner_text(".explore")
    chosen = page.evaluate("interp.explorers[0].run.steps")
    assert len(chosen) == 200
    assert (chosen[0], chosen[-1]) == (0, 1999)
    assert max(np.diff(chosen)) <= 11, "evenly chosen"
    assert (tmp_path / "report.html").stat().st_size < 6e6


def test_of_a_modulus_beyond_the_window_the_page_stays_small(tmp_path):
    """A modulus just above the limit is as well as one far above it: what is drawn no longer grows with it."""
    run = written(tmp_path / "run", Task(131), ModelConfig(d_model=8, n_heads=1, d_mlp=8), [0])
    page = render(run, analyze(run))
    assert len(page) < 2e6
    data = re.search(r'id="run-data">([^<]*)<', page)
    assert data
    drawn = json.loads(data[1])
    shapes = {name: block["shape"] for name, block in drawn["arrays"].items()}
    assert [shapes["logits_by_sum"], shapes["attention"], shapes["logits_of_class"]] == [
        [1, 128, 128],
        [1, 1, 128, 128],
        [1, 3, 128, 128],
    ]
    assert (drawn["p"], shapes["circle"][2], shapes["share"]) == (131, 131, [1, 8, 65])
