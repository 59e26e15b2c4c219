"""Every notebook of examples/ runs from its first cell to its last, and is kept without outputs; one that is read for
its figures is kept with them, and shows what it shows here."""

import ast
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

import interp
from interp.runs import verify
from interp.training import train
from tests.jax_draws import initial_weights

EXAMPLES = Path(__file__).parent.parent / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
EXPECTED = {"analyze_a_run", "decision_boundaries", "memorize_or_generalize", "two_circuits", "your_own_checkpoint"}
STORED = "memorize_or_generalize"  # with its outputs (`tests.store_outputs`), and its run beside it


def run_cells(path: Path) -> dict:
    """Runs the code cells in order; returns the names they made, with what the last expressions of the cells gave as
    `shown`."""
    names: dict = {"__name__": "__main__"}
    shown = []
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        where = f"{path.name}, cell {number}"
        exec(compile(tree, where, "exec"), names)
        if isinstance(last, ast.Expr):
            shown.append(eval(compile(ast.Expression(last.value), where, "eval"), names))
    return names | {"shown": shown}


def test_the_notebooks_are_there():
    assert {path.stem for path in NOTEBOOKS} >= EXPECTED


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_clean(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    assert notebook["cells"][0]["source"][0].startswith("# ")
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and path.stem == STORED:
            assert len(cell["outputs"]) == 1
        elif cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    shutil.copytree(EXAMPLES / STORED, tmp_path / STORED)
    monkeypatch.chdir(tmp_path)
    made = run_cells(path)
    assert len(made["shown"]) >= 4
    if path.stem == "two_circuits":
        assert {circuit: summary["verdict"] for circuit, summary in made["summaries"].items()} == {
            "clock": "clock",
            "pizza": "pizza",
        }
    if path.stem == "decision_boundaries":
        # The simplest of each way is near the truth; the most complex knows what is wrong, and is worse for it.
        for simple, complex in (("30 nearest", "1 nearest"), ("polynomial of degree 1", "polynomial of degree 10")):
            (train, test), (knows, worse) = (made["table"][name].mean(0) for name in (simple, complex))
            assert train > 0.15 > knows
            assert test < 0.2 < worse
        (train, test), (knows, worse) = (made["table"][f"network of {n} neurons"].mean(0) for n in (2, 256))
        assert train > 0.15
        assert knows < 0.02
        assert test + 0.03 < worse
    if path.stem == STORED:
        code = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
        stored = [cell["outputs"][0]["data"] for cell in code]
        now = [repr(value) for value in made["shown"]]
        assert ["image/png" in data or "".join(data["text/plain"]) for data in stored] == [
            "image/png" in data or text for data, text in zip(stored, now, strict=True)
        ]
        assert made["recipe"] == made["run"].experiment
        assert dict(zip(made["frequencies"].tolist(), made["counts"].tolist(), strict=True)) == {8: 8, 17: 7, 30: 9}
        assert abs(made["turned"]).max() < 10  # degrees from twice the angle


def test_the_network_that_generalizes_begins_with_what_jax_draws():
    """From the seed of the published training alone: its pairs as numpy permutes them, its weights as JAX draws."""
    run, (p, seed) = interp.open_run(EXAMPLES / STORED), (67, 174)
    for name, weight in initial_weights(seed, p, d_model=500, d_mlp=24).items():
        assert_allclose(run[0].weights[name], weight, rtol=0, atol=1e-7)
    pairs = np.array([(a, b) for a in range(p) for b in range(a, p)])
    first, second = pairs[np.random.RandomState(seed).permutation(len(pairs))[:911]].T
    assert run.task.train_indices.tolist() == sorted((first * p + second).tolist())


def test_the_network_that_generalizes_was_trained_by_its_recipe(tmp_path):
    """What its notebook says of it: its first updates, again; and every sum and every metric of what is kept."""
    shutil.copytree(EXAMPLES / STORED, tmp_path / STORED)
    run = interp.open_run(tmp_path / STORED)
    assert verify(run).contradictions == []
    again = next(snapshot for snapshot in train(run.experiment, run[0].weights) if snapshot.step == 100)
    logged = run.metrics.sel(step=100)
    for name in ("train_loss", "unmirrored_test_loss", "weight_norm", "gradient_norm"):
        assert again.metrics[name] == pytest.approx(float(logged[name]), rel=1e-5)
