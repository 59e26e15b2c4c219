"""Work is not thrown away: results that cannot be kept, checkpoints that are thinned out meanwhile, Ctrl-C, and other
analyses that cannot be computed."""

import functools
import json
import os
import re
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import xarray as xr

import interp.analysis.walk
from interp.analyses import circuit_forces, neuron_periodicity, transitions
from interp.analysis import PartlyAnalyzed, analyze, results, stored_result
from interp.analysis.seal import key_path
from interp.cli import main
from interp.errors import InputError, Notice
from interp.experiment import ModelConfig, Task
from interp.runs import Run, open_run, thin

TASK, MODEL = Task(7, train_fraction=0.5), ModelConfig(d_model=8, n_heads=2, d_mlp=6)
STEPS = (0, 10, 20, 30, 40)
NAME = "neuron_periodicity"


@pytest.fixture
def written(tmp_path: Path, written_run) -> Run:
    return written_run(tmp_path / "run", TASK, MODEL, STEPS)


def a_file(run: Path) -> None:
    (run / "results").write_text("a file")


def a_link(run: Path) -> None:
    (run.parent / "elsewhere").mkdir(exist_ok=True)
    (run / "results").symlink_to(run.parent / "elsewhere")


def a_link_to_nothing(run: Path) -> None:
    (run / "results").symlink_to("nowhere")


def a_result_that_is_a_folder(run: Path) -> None:
    for name in (NAME, "learning_curves"):
        (run / "results" / f"{name}.nc").mkdir(parents=True)


def no_key(run: Path) -> None:
    key_path().unlink(missing_ok=True)
    key_path().mkdir()


OBSTACLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "results are a file": (a_file, "cannot write RUN/results: (File exists|Not a directory)"),
    "results are a link": (a_link, "RUN/results is a symbolic link"),
    "results are a link to nothing": (a_link_to_nothing, "RUN/results is a symbolic link"),
    "a folder in the place of a file": (a_result_that_is_a_folder, "cannot write RUN/results: Is a directory"),
    "there can be no key": (no_key, "there is no key to seal results with, .*: it is not a plain file"),
}


@pytest.fixture
def obstacle(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], str]:
    """Puts something in the way of results, and gives the pattern of the line that tells of it."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    key_path().parent.mkdir(parents=True)

    def put(run: Path) -> str:
        act, words = OBSTACLES[request.param]
        act(run)
        return words.replace("RUN", str(run))

    return put


# ---- what cannot be kept ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("obstacle", OBSTACLES, indirect=True)
def test_what_cannot_be_kept_is_computed_and_told_in_one_line(obstacle, written, tmp_path):
    sound = analyze(open_run(written.path), [NAME, "learning_curves"])
    run = open_run(shutil.copytree(written.path, tmp_path / "same", ignore=shutil.ignore_patterns("results")))
    words = obstacle(run.path)
    with pytest.warns(Notice) as told:
        found = analyze(run, [NAME, "learning_curves"])
    assert len(told) == 1
    assert told[0].message.args[0].endswith(f"; not kept: {NAME}, learning_curves")
    assert re.match(words, told[0].message.args[0])
    for name, result in found.items():
        assert result.drop_attrs(deep=False).identical(sound[name].drop_attrs(deep=False))
    if (run.path / "results").is_symlink():
        assert not any((tmp_path / "elsewhere").glob("*"))


@pytest.mark.parametrize("what", ["bytes", "fsync"])
def test_on_a_full_disk_the_answer_is_printed(what, run, full_disk, capsys):
    assert main(["analyze", str(run), "--json"]) == 0
    expected = capsys.readouterr()
    for file in (run / "results").iterdir():
        file.unlink()
    with full_disk(what, 0):
        assert main(["analyze", str(run), "--json"]) == 0
    said = capsys.readouterr()
    assert said.out == expected.out
    assert len(json.loads(said.out)) > 5
    reason = "File too large" if what == "bytes" else "No space left on device"
    [line] = said.err.splitlines()
    assert line.startswith(f"interp: cannot write {run}/results: {reason}; not kept: ")
    assert not list((run / "results").iterdir())


@pytest.mark.parametrize("command", [["analyze"], ["explain"], ["explain", "--json"]])
def test_a_command_says_in_one_line_what_it_could_not_keep(command, run, capsys):
    assert main([command[0], str(run), *command[1:]]) == 0
    expected = capsys.readouterr().out
    for file in (run / "results").iterdir():
        file.unlink()
    (run / "results").rmdir()
    (run / "results").write_text("")
    assert main([command[0], str(run), *command[1:]]) == 0
    said = capsys.readouterr()
    assert said.out == expected
    assert [line.partition(";")[0] for line in said.err.splitlines()] == [
        f"interp: cannot write {run}/results: File exists"
    ]


def test_figures_and_pages_are_made_without_a_place_for_results(run, capsys):
    (run / "results").write_text("")
    assert main(["report", str(run)]) == 0
    assert main(["plot", str(run), NAME, "-o", "figure.json"]) == 0
    said = capsys.readouterr()
    assert said.out.split() == [f"{run}/report.html", "figure.json"]
    assert all(line.startswith(f"interp: cannot write {run}/results: ") for line in said.err.splitlines())
    assert len(said.err.splitlines()) == 2


def test_a_run_asked_for_a_result_gives_it(written):
    (written.path / "results").write_text("")
    with pytest.warns(Notice, match="not kept: weight_norms"):
        assert written.result("weight_norms").sizes["step"] == len(STEPS)


def test_what_is_not_kept_is_not_computed_twice_for_those_who_need_it(written, monkeypatch):
    """`transitions` asks the run for the results of four others."""
    (written.path / "results").write_text("")
    walks = []
    with pytest.warns(Notice) as told:
        analyze(written, ["transitions"], progress=lambda steps: walks.append(list(steps)) or steps)
    assert walks == [list(STEPS)]
    assert len(told) == 1
    monkeypatch.setattr(interp.analysis.walk, "_from_hand", lambda run, names: None)
    with pytest.warns(Notice) as told:
        analyze(written, ["transitions"])
    assert len(told) == 5  # so it would be


def test_with_notices_as_errors_nothing_else_is_lost(written):
    (written.path / "results").write_text("")
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        with pytest.raises(Notice):
            analyze(written, [NAME])


# ---- checkpoints that are thinned out meanwhile ----------------------------------------------------------------------


def thinning(run: Run, at: int, keep_every: int = 20) -> Callable[[Sequence[int]], Iterator[int]]:
    """A walk during which another process thins the run."""

    def walk(steps: Sequence[int]) -> Iterator[int]:
        for place, step in enumerate(steps):
            if place == at:
                thin(open_run(run.path), keep_every)
            yield step

    return walk


@pytest.mark.parametrize(("processes", "at"), [(1, 1), (1, 4), (2, 1)])
def test_a_step_that_is_gone_is_left_out(processes, at, written, monkeypatch):
    """Also one that was measured before it went."""
    monkeypatch.setattr(interp.analysis.walk, "processes_for", lambda run, steps: processes)
    words = f"the checkpoints of steps 10, 30 were thinned out of {written.path} meanwhile, and left out"
    with pytest.warns(Notice, match=re.escape(words)) as told:
        found = analyze(written, [NAME, "weight_norms"], progress=thinning(written, at), parallel=True)
    assert len(told) == 1
    assert [found[name].step.values.tolist() for name in found] == [[0, 20, 40]] * 2
    assert analyze(written, [NAME])[NAME].identical(found[NAME])
    monkeypatch.setattr(interp.analysis.walk, "measured", lambda *given: pytest.fail("measured again"))
    assert stored_result(written, NAME).identical(found[NAME])


def test_a_page_is_made_of_what_is_left(run, capsys, monkeypatch):
    monkeypatch.setattr("interp.cli.progress.walk", thinning(open_run(run), 4, keep_every=10))
    assert main(["report", str(run)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{run}/report.html\n"
    assert said.err == f"interp: the checkpoints of steps 5, 15 were thinned out of {run} meanwhile, and left out\n"


def test_the_command_prints_what_is_left(run, capsys, monkeypatch):
    monkeypatch.setattr("interp.cli.progress.walk", thinning(open_run(run), 1, keep_every=10))
    assert main(["analyze", str(run), NAME, "transitions", "--json"]) == 0
    said = capsys.readouterr()
    assert list(json.loads(said.out)) == [NAME, "transitions"]
    assert said.err == f"interp: the checkpoints of steps 5, 15 were thinned out of {run} meanwhile, and left out\n"


def test_a_step_that_is_missing_without_a_note_is_damage(written):
    def removing(steps: Sequence[int]) -> Iterator[int]:
        for place, step in enumerate(steps):
            if place == 1:
                (written.path / "steps" / "step_000000020.safetensors").unlink()
            yield step

    with pytest.raises(InputError, match=r"000020\.safetensors is missing, though metrics.jsonl records it"):
        analyze(written, ["weight_norms"], progress=removing)


def test_an_analysis_of_a_whole_run_is_computed_again_without_the_step(written, monkeypatch):
    compute, turns = circuit_forces.compute, []

    def thinned_under_its_hands(run: Run, **parameters):
        turns.append(run.steps)
        if len(turns) == 1:
            thin(open_run(run.path), 20)
            run[10]
        return compute(run, **parameters)

    monkeypatch.setattr(circuit_forces, "compute", thinned_under_its_hands)
    found = analyze(written, ["circuit_forces"])["circuit_forces"]
    assert turns == [list(STEPS), [0, 20, 40]]
    assert stored_result(written, "circuit_forces").identical(found)


def test_all_steps_gone_is_said(written):
    with pytest.raises(InputError, match="that were asked for were thinned out meanwhile"), pytest.warns(Notice):
        analyze(written, [NAME], steps=[10, 30], progress=thinning(written, 0))


# ---- the others ------------------------------------------------------------------------------------------------------


def test_what_one_analysis_cannot_do_is_no_loss_to_the_others(written, monkeypatch, capsys):
    def refused(run: Run, **parameters):
        raise InputError("a checkpoint is damaged")

    monkeypatch.setattr(transitions, "compute", refused)
    with pytest.raises(PartlyAnalyzed, match="a checkpoint is damaged") as refusal:
        analyze(written, [NAME, "transitions", "learning_curves"])
    assert list(refusal.value.results) == ["learning_curves", NAME]
    assert stored_result(written, NAME).identical(refusal.value.results[NAME])
    assert main(["analyze", str(written.path), NAME, "transitions", "--json"]) == 2
    said = capsys.readouterr()
    assert list(json.loads(said.out)) == [NAME]
    assert said.err == "interp: a checkpoint is damaged\n"


def test_an_error_of_an_analysis_keeps_the_rows_before_it(written, monkeypatch):
    measure = neuron_periodicity.measure

    @functools.wraps(measure)
    def failing(checkpoint, **parameters):
        if checkpoint.step == 20:
            raise MemoryError
        return measure(checkpoint, **parameters)

    monkeypatch.setattr(neuron_periodicity, "measure", failing)
    with pytest.raises(MemoryError):
        analyze(written, [NAME])
    monkeypatch.setattr(neuron_periodicity, "measure", measure)
    walked = []
    analyze(written, [NAME], progress=lambda steps: walked.extend(steps) or steps)
    assert walked == [20, 30, 40]


def test_ctrl_c_while_results_are_written_waits_for_all_of_them(written, monkeypatch):
    save, names = results.save_result, [NAME, "weight_norms", "clock_pizza"]
    turns = []

    def pressed(path, result, after_piece):
        turns.append(path.stem)
        if len(turns) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        save(path, result, after_piece)

    monkeypatch.setattr("interp.analysis.keeping.save_result", pressed)
    with pytest.raises(KeyboardInterrupt):
        analyze(written, names)
    assert len(turns) == 4  # the one in which it was pressed is written again
    assert all(stored_result(written, name) is not None for name in names)


@pytest.mark.parametrize(
    "moment", ["xarray.Dataset.to_netcdf", "interp.analysis.results.seal", "os.fsync", "os.rename"]
)
def test_ctrl_c_while_a_result_is_written_leaves_it_whole(moment, written, monkeypatch):
    pressed, (owner, name) = [], moment.rsplit(".", 1)
    owner = {"os": os, "xarray.Dataset": xr.Dataset, "interp.analysis.results": results}[owner]
    real = getattr(owner, name)

    def press(*given, **options):
        pressed.append(moment)
        if len(pressed) <= 2:  # twice, for the first press is answered by writing the result once more
            raise KeyboardInterrupt
        return real(*given, **options)

    monkeypatch.setattr(owner, name, press)
    with pytest.raises(KeyboardInterrupt):
        analyze(written, [NAME, "weight_norms"])
    assert [file.name for file in (written.path / "results").iterdir()] == ["weight_norms.nc"]
    assert stored_result(written, "weight_norms") is not None
