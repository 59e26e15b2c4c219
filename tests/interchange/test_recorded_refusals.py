"""Files that hold no curves, and what a person is told: one line, with what was seen and what mends it."""

import html
import json
import zipfile

import numpy as np
import pytest

from interp import reference_path
from interp.cli import main
from interp.errors import InputError
from interp.interchange import curves
from interp.interchange.recorded import tables
from interp.pages import render_curves

GOOD = {"step": [0, 10, 20], "train_acc": [0.0, 1.0, 1.0], "test_acc": [0.0, 0.1, 0.2]}
HOSTILE = {
    "page.csv": ("<!DOCTYPE html>\n<html></html>", "is a web page, not a table"),
    "pointer.csv": ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "is a Git LFS pointer"),
    "empty.csv": ("", "is empty"),
    "binary.csv": ("step,loss\0\n", "is no text"),
    "headless.csv": ("0,4.7,4.7\n1,0.1,4.8\n", "has no line of column names"),
    "ragged.csv": ("step,loss\n0,4.7,9\n", "row 1 has 3 fields, the line of names 2"),
    "words.csv": ("step,train_acc\n0,good\n", "column 'train_acc' has 'good' in row 1"),
    "steps.csv": ("step,train_acc\nlate,0.1\n", "column 'step' has 'late' in row 1"),
    "nothing.csv": ("step,train_acc\n0,nan\n1,\n", "only columns that hold no number"),
    "fractions.csv": ("epoch,train_acc\n0.5,0.1\n", "'epoch' holds fractions"),
    "backward.csv": ("step,train_acc\n-5,0.1\n", "must hold steps from 0"),
    "negative.csv": ("step,train_loss\n0,-1\n", "has a negative value"),
    "large.csv": ("step,test_acc\n0,900\n", "as shares; no accuracy does"),
    "others.csv": ("step,reward,lr\n0,1,2\n", "seen: 'step', 'reward', 'lr'"),
    "two.csv": ("step,a - val_acc,b - val_acc\n0,0.1,0.2\n", "say --test-accuracy COLUMN"),
    "wrong.json": ("{]", "is no JSON"),
    "number.json": ("3", "holds one value"),
    "deep.json": ("[" * 100_000, "is no JSON"),
    "lengths.json": ('{"step": [0, 1], "test_acc": [0.1]}', "'test_acc' has 1 values and 'step' 2"),
    "torn.jsonl": ('{"step": 0}\n{"st\n{"step": 2}\n', "is damaged at line 2"),
    "huge.json": ('{"step": [1' + "0" * 400 + '], "test_acc": [0.1]}', "column 'step' has '1000"),
    "no.npz": ("PK", "cannot be read"),
    "weights.pt": ("", "is none of .csv"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_table_of_curves_is_told(name, tmp_path, capsys):
    content, complaint = HOSTILE[name]
    (tmp_path / name).write_text(content)
    assert main(["curves", str(tmp_path / name), "--out", str(tmp_path / "page.html")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert complaint in err
    assert err.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / "objects.npz", train_acc=np.array([object()], dtype=object))
    with pytest.raises(InputError, match="objects in it, which nothing unpickles"):
        curves(tmp_path / "objects.npz")


def test_sizes_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MOST_BYTES", 1000)
    (tmp_path / "long.csv").write_text("step,train_acc\n" + "0,0.1\n" * 1000)
    with pytest.raises(InputError, match="at most"):
        curves(tmp_path / "long.csv")
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train_acc.npy", b"\0" * 100_000)
    with pytest.raises(InputError, match="MB; at most"):
        curves(tmp_path / "bomb.npz")
    monkeypatch.setattr(tables, "MOST_ROWS", 2)
    with pytest.raises(InputError, match="has more than 2 rows"):
        curves(GOOD)


def test_a_misspelt_column_is_named():
    with pytest.raises(InputError, match="unknown column 'tets_acc'; did you mean 'test_acc'"):
        curves(GOOD, test_accuracy="tets_acc")


def test_a_folder_and_a_run(tmp_path):
    with pytest.raises(InputError, match="it is a run: interp explain"):
        curves(reference_path())
    with pytest.raises(InputError, match="name the file of curves in it"):
        curves(tmp_path)


def test_an_accuracy_that_does_not_say_of_what_is_asked_about():
    with pytest.raises(InputError, match="--train-accuracy COLUMN"):
        curves({"step": [0, 1], "accuracy": [0.1, 1.0]})
    named = curves({"step": [0, 1], "accuracy": [0.1, 1.0]}, test_accuracy="accuracy")
    assert named.recorded.has("test_accuracy")


def test_several_runs_in_one_file_are_told_of():
    twice = curves({name: 2 * values for name, values in GOOD.items()})
    assert any("several runs in one file" in note for note in twice.recorded.notes)


def test_names_are_escaped(tmp_path):
    name = "test_acc<script>alert(1)</script>"
    told = curves({"step": [0, 10, 20], "train_acc": [0.0, 1.0, 1.0], name: [0.0, 0.1, 0.2]}, test_accuracy=name)
    page = render_curves(told)
    assert "<script>alert" not in page
    assert html.escape(name) in page
    assert "\x1b" not in str(curves({"step": [0, 1], "a\x1b[31m": [0.0, 1.0]}, test_accuracy="a\x1b[31m"))


def test_the_card_of_a_notebook_says_the_verdict():
    card = curves(GOOD)._repr_html_()
    assert "It memorized" in card


def test_the_command_prints_json_and_writes_a_page(tmp_path, capsys):
    (tmp_path / "curves.json").write_text(json.dumps(GOOD))
    assert main(["curves", str(tmp_path / "curves.json"), "--json", "-o", str(tmp_path / "page.html")]) == 0
    assert json.loads(capsys.readouterr().out)["run"]["verdict"] == "memorization"
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
