"""The page about an experiment: made of its files alone, it says what they say, asks for nothing, and what files say
stays text."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from interp.analysis import save_result
from interp.cli import main
from interp.errors import InputError
from interp.pages import render_experiment
from interp.runs import open_run, run_folders
from interp.studies import DecayDesign, RunOutcome, conduct, outcomes, phase_diagram, read_outcome, ungrokking
from interp.studies.conducting import IDENTITY
from interp.studies.outcomes import KEPT, KEPT_IN_PART
from interp.studies.phase_diagram import COLORS, TIE_COLOR

EVIL = "</script><img src=x onerror=alert(1)><script>alert(2)</script>{{ 7 * 7 }}"
DESIGN = DecayDesign(p=11, sizes=(8, 14), weight_decays=(1.0, 3.0), seeds=2, duration=0.1, d_model=8, d_mlp=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("experiments") / "ungrokking"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ungrokking, "START_DURATION", 1)
        patch.setattr(ungrokking, "START_LEVEL", 0)
        conduct("ungrokking", folder, DESIGN, processes=1)
    (folder / "report.html").write_text(render_experiment(folder), encoding="utf-8")
    return folder


@pytest.fixture
def copied(folder, tmp_path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "ungrokking"))


def summary_instead(folder: Path, change: Callable[[dict], object]) -> None:
    """Another summary in the result, sealed, as if this user had written it."""
    summary, result = read_outcome(folder)
    changed = change(summary) or summary
    save_result(folder / "result.nc", result.assign_attrs(identity=IDENTITY, summary=json.dumps(changed)))


def test_the_page_says_what_the_files_say(folder, open_page):
    summary = json.loads((folder / "summary.json").read_text())
    page = open_page(folder / "report.html", viewport={"width": 390, "height": 800}, color_scheme="dark")
    assert page.inner_text("h1") == "Ungrokking"
    assert page.locator(".prediction").count() == len(summary["predictions"])
    for name, prediction in summary["predictions"].items():
        said = page.locator(f"[aria-label='Prediction {name}']")
        assert said.locator(".verdict").inner_text() == prediction["verdict"]
        assert prediction["because"] in said.inner_text()
        assert "start accuracy lowest" in said.locator("table").text_content()
    # By the keyboard: a figure above that is drawn between the button's going down and up moves the line away under it.
    page.locator("#runs summary").press("Enter")
    page.locator("#runs tr").last.wait_for()  # what is still folded up has no text
    rows = page.locator("#runs tbody tr, #runs table > tr").all_inner_texts()
    assert len(rows) == summary["runs"] == 10
    last = open_run(folder / "runs" / "D8-wd1-seed0").metrics.isel(step=-1)
    (row,) = [row for row in rows if row.startswith("D8-wd1-seed0")]
    for value in (last.train_accuracy, last.test_accuracy):
        assert f"{100 * value.item():.1f} %" in row
    for name in ("result", "phase-diagram"):
        page.locator(f"#{name} .figure").scroll_into_view_if_needed()
        page.wait_for_selector(f"#{name} .main-svg")
    assert page.evaluate("document.documentElement.scrollWidth") <= 391
    assert page.trouble == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    page.close()


def test_report_makes_it_from_the_folder(copied, capsys, monkeypatch):
    (copied / "report.html").unlink()
    monkeypatch.chdir(copied.parent)
    assert main(["report", "ungrokking"]) == 0
    assert capsys.readouterr().out == "ungrokking/report.html\n"
    shutil.rmtree("ungrokking/runs")
    assert main(["report", "ungrokking", "-o", "without.html"]) == 0
    assert "The runs are not in this folder any more." in Path("without.html").read_text()


def test_hostile_text_stays_text(copied):
    def hostile(summary: dict) -> None:
        summary["predictions"]["P2"] |= {"prediction": EVIL, "because": EVIL, "numbers": {EVIL: {EVIL: EVIL}}}
        summary["predictions"][EVIL] = summary["predictions"]["P2"]
        summary["design"][EVIL] = EVIL

    summary_instead(copied, hostile)
    (copied / "runs" / "D8-wd1-seed0").rename(copied / "runs" / "<img src=x onerror=alert(3)>")
    page = render_experiment(copied)
    assert "<img" not in page
    assert page.count("<script") == page.count("</script>")
    assert "49" not in re.findall(r"alert\(2\)[^ ]* ([^<]{1,10})", page)


@pytest.mark.parametrize("summary", ["summary.json as it was", "no summary of an experiment"])
def test_a_result_that_is_damaged_or_of_a_stranger_is_named(copied, summary):
    path, name = copied / "summary.json", "ungrokking" if summary == "summary.json as it was" else "NAME"
    if name == "NAME":
        path.write_text('{"experiment": "<b>"}')
    stranger = xr.load_dataset(copied / "result.nc", engine="scipy")
    stranger.to_netcdf(copied / "result.nc", engine="scipy")
    expected = (
        f"result.nc is missing, damaged, of another version, or not yours; make it anew: interp experiment {name}"
    )
    for content in ((copied / "result.nc").read_bytes(), b"no"):
        (copied / "result.nc").write_bytes(content)
        with pytest.raises(InputError, match=re.escape(expected)):
            render_experiment(copied)


def test_a_verdict_that_was_written_into_summary_json_is_not_told(copied):
    """It is for people; the page is made of the copy in the result, which is sealed."""
    before = render_experiment(copied)
    path = copied / "summary.json"
    path.write_text(path.read_text().replace('"not shown"', '"confirmed"').replace('"not confirmed"', '"confirmed"'))
    assert render_experiment(copied) == before


def test_a_summary_that_makes_no_sense_is_refused(copied):
    """As of another version, which this user may have run."""

    def another_verdict(summary: dict) -> None:
        summary["predictions"]["P2"]["verdict"] = "confirmed' onclick="

    for change, expected in (
        (lambda summary: {"experiment": "ungrokking"}, "has no summary of an experiment ('predictions' is missing)"),
        (lambda summary: summary | {"design": []}, "a field is not what it should be"),
        (another_verdict, "a field is not what it should be"),
    ):
        kept = (copied / "result.nc").read_bytes()
        summary_instead(copied, change)
        with pytest.raises(InputError, match=re.escape(expected)):
            render_experiment(copied)
        (copied / "result.nc").write_bytes(kept)
    summary_instead(copied, lambda summary: summary | {"experiment": "ungroking"})
    with pytest.raises(InputError, match="did you mean 'ungrokking'"):
        render_experiment(copied)


def test_what_goes_on_from_other_weights_cannot_grok(folder):
    """Its curves begin where others end: it still generalizes, in full or in part, or it collapsed; and the networks it
    begins with are no part of the grid."""
    found = {run.name: run for run in outcomes({path.name: open_run(path) for path in run_folders(folder / "runs")})}
    assert {name for name, run in found.items() if run.is_start} == {"start-seed0", "start-seed1"}
    assert {run.verdict for run in found.values() if not run.is_start} <= {KEPT, KEPT_IN_PART, "collapse"}
    assert all(np.isnan(run.generalized_at) for run in found.values() if not run.is_start)


def outcome(pairs: int, decay: float, seed: int, verdict: str, accuracy: float) -> RunOutcome:
    fields = {"task.train-pairs": pairs, "training.weight-decay": decay, "task.seed": seed}
    return RunOutcome("name", fields, verdict, np.nan, np.nan, 1.0, accuracy, 30.0, False)


def test_the_phase_diagram_counts_and_averages_over_seeds():
    found = [
        outcome(100, 1, 0, "grokking", 1.0),
        outcome(100, 1, 1, "grokking", 0.9),
        outcome(100, 1, 2, "memorization", 0.2),
    ]
    found += [outcome(20, 3, 0, "memorization", 0.0)]
    diagram = phase_diagram(found)
    assert diagram is not None
    kinds, accuracies = diagram.data[:2]
    assert (list(kinds.x), list(kinds.y)) == (["20", "100"], ["1", "3"])
    assert kinds.customdata.tolist() == [["", "grokking"], ["memorization", ""]]
    assert kinds.text.tolist() == [["", "2/3"], ["", ""]]
    np.testing.assert_allclose(accuracies.z, [[np.nan, 0.7], [0.0, np.nan]])
    assert phase_diagram(found[:1]) is None
    families = ("mlp", "transformer", "mlp", "mlp")
    other = [replace(run, fields=run.fields | {"model.family": one}) for run, one in zip(found, families, strict=True)]
    assert phase_diagram(other) is None  # of different networks no cell is one setting


def test_a_phase_diagram_has_any_two_axes_and_any_number():
    """The mean over the runs of a cell, of steps the power of ten; names as on the command line."""
    found = [
        RunOutcome(
            "name",
            {"training.lr": lr, "training.weight-decay": decay, "task.operation": "add"},
            "grokking",
            10.0 / lr,
            100.0 / lr,
            1.0,
            1.0,
            30.0 * decay,
            False,
        )
        for lr in (0.1, 0.01)
        for decay in (1.0, 2.0)
    ]
    diagram = phase_diagram(found, "lr", "training.weight_decay", "weight-norm")
    assert diagram is not None
    assert (diagram.layout.xaxis.title.text, diagram.layout.yaxis.title.text) == ("lr", "weight decay")
    assert list(diagram.data[1].x) == ["0.01", "0.1"]
    np.testing.assert_allclose(diagram.data[1].z, [[30, 30], [60, 60]])
    steps = phase_diagram(found, "weight-decay", "lr", "generalized-at")
    assert steps is not None
    np.testing.assert_allclose(steps.data[1].z, [[4, 4], [3, 3]])
    for names, said in (
        (("lt", "weight-decay"), "unknown axis 'lt'; did you mean 'lr'"),
        (("lr", "training.lr"), "two different axes, got lr twice"),
        (("lr", None), "up is not named"),
        ((None, "lr"), "across is not named"),
        (("lr", "weight-decay", "wieght-norm"), "unknown color 'wieght-norm'; did you mean 'weight-norm'"),
    ):
        with pytest.raises(InputError, match=said):
            phase_diagram(found, *names)


def test_a_tie_is_not_the_color_of_either():
    """As many runs ended one way as the other: the cell is gray and names both, and so does the legend."""
    found = [
        outcome(100, 1, 0, "grokking", 1.0),
        outcome(100, 1, 1, "memorization", 0.1),
        outcome(20, 3, 0, "memorization", 0.0),
    ]
    diagram = phase_diagram(found)
    assert diagram is not None
    kinds = diagram.data[0]
    assert kinds.customdata.tolist() == [["", "as many of each"], ["memorization", ""]]
    assert set(kinds.text[0][1].split("<br>")) == {"grokking 1/2", "memorization 1/2"}
    share = (kinds.z[0][1] - kinds.zmin) / (kinds.zmax - kinds.zmin)
    assert kinds.colorscale[2 * int(share * len(kinds.colorscale) / 2)][1] == TIE_COLOR
    assert TIE_COLOR not in COLORS.values()
    assert [trace.name for trace in diagram.data[2:]] == ["grokking", "memorization", "as many of each"]
