"""Several processes: the same rows, Ctrl-C, a process that is lost, and an error in one of them."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch
import xarray as xr

import interp.analysis.walk
from interp.analyses import neuron_periodicity
from interp.analysis import analyze, find, workers
from interp.errors import InputError, Notice
from interp.experiment import ModelConfig, Task
from interp.models import initial_weights
from interp.runs import Run, RunWriter, open_run

TASK = Task(7, train_fraction=0.5)
MODEL = ModelConfig(d_model=8, n_heads=2, d_mlp=6)
STEPS = range(0, 120, 10)
NAMES = ["clock_pizza", "neuron_periodicity", "progress_measures"]


def written(folder: Path) -> Run:
    with RunWriter.create(folder, TASK, MODEL) as writer:
        for step in STEPS:
            writer.append(
                step, {name: weight * (1 + step / 10) for name, weight in initial_weights(MODEL, TASK.p).items()}
            )
    return open_run(folder)


@pytest.fixture
def two(monkeypatch):
    monkeypatch.setattr(interp.analysis.walk, "processes_for", lambda run, steps: 2)


@pytest.mark.usefixtures("two")
def test_two_processes_give_the_rows_of_one_and_each_step_once(tmp_path, monkeypatch):
    here = []
    rows = workers._rows
    monkeypatch.setattr(workers, "_rows", lambda run, orders, step: here.append(step) or rows(run, orders, step))
    together = analyze(written(tmp_path / "two"), NAMES, parallel=True)
    assert 0 < len(here) <= len(STEPS) - 2  # the other process had its part: two steps are given to it beforehand
    assert len(here) == len(set(here))
    alone = analyze(written(tmp_path / "one"), NAMES)
    for name in NAMES:
        assert together[name].drop_attrs(deep=False).identical(alone[name].drop_attrs(deep=False))
        assert together[name].step.values.tolist() == list(STEPS)


def test_a_row_is_measured_with_one_thread_of_torch(tmp_path, monkeypatch):
    threads = []
    measure = neuron_periodicity.measure
    monkeypatch.setattr(
        neuron_periodicity, "measure", lambda checkpoint: threads.append(torch.get_num_threads()) or measure(checkpoint)
    )
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        analyze(written(tmp_path / "run"), ["neuron_periodicity"], progress=lambda steps: asked(steps, threads))
    finally:
        torch.set_num_threads(before)
    assert threads == [2, 1] * len(STEPS)  # between rows whoever walks has the threads it had


def asked(steps, threads):
    for step in steps:
        threads.append(torch.get_num_threads())
        yield step


def test_little_work_stays_in_one_process(tmp_path):
    assert workers.processes_for(written(tmp_path / "run"), STEPS) == 1


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("at", [1, 5])
def test_a_process_that_is_lost_is_replaced_by_this_one(at, tmp_path, monkeypatch):
    here = []
    rows = workers._rows

    def kill(run, orders, step):
        here.append(step)
        if len(here) == at:
            for other in multiprocessing.active_children():  # as the system does for want of memory
                other.kill()
                other.join()
        time.sleep(0.1)
        return rows(run, orders, step)

    monkeypatch.setattr(workers, "_rows", kill)
    with pytest.warns(Notice, match="a process that shared the work was ended by the system") as told:
        result = analyze(written(tmp_path / "run"), ["neuron_periodicity"], parallel=True)["neuron_periodicity"]
    assert len(told) == 1
    assert result.step.values.tolist() == list(STEPS)
    assert len(here) == len(set(here)) > len(STEPS) // 2


def test_few_steps_are_under_way_at_once(tmp_path, monkeypatch):
    given, submit = [], ProcessPoolExecutor.submit
    monkeypatch.setattr(ProcessPoolExecutor, "submit", lambda *work: given.append(work[-1]) or submit(*work))
    orders = [workers.Order(find("neuron_periodicity"), {}, frozenset(STEPS))]
    got = []
    for step, _ in workers.measured(written(tmp_path / "run"), orders, STEPS, 2):
        got.append(step)
        assert len(set(given) - set(got)) <= workers._AHEAD
    assert sorted(got) == list(STEPS)
    assert len(given) >= workers._AHEAD


@pytest.mark.usefixtures("two")
def test_a_damaged_checkpoint_is_named_whoever_reads_it(tmp_path):
    run = written(tmp_path / "run")
    for path in sorted((tmp_path / "run" / "steps").iterdir())[1:]:
        path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"step_0000"):
        analyze(run, ["neuron_periodicity"], parallel=True)
    kept = tmp_path / "run" / "results" / "neuron_periodicity.nc"
    assert not kept.exists() or xr.load_dataset(kept, engine="scipy").step.values.tolist() == [0]


INTERRUPTED = """
import sys, time
import interp.analysis.walk
from interp.analysis import workers
from interp.runs import open_run

if __name__ == "__main__":
    interp.analysis.walk.processes_for = lambda run, steps: 2
    rows = workers._rows
    workers._rows = lambda run, orders, step: time.sleep(0.3) or rows(run, orders, step)

    def progress(steps):
        for step in steps:
            print("step", flush=True)
            yield step

    try:
        interp.analysis.walk.analyze(open_run(sys.argv[1]), ["neuron_periodicity"], progress=progress, parallel=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def test_ctrl_c_keeps_what_was_computed_and_says_nothing_more(tmp_path):
    run = written(tmp_path / "run")
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    # A terminal sends Ctrl-C to the whole group.
    process = subprocess.Popen(
        [sys.executable, script, run.path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for _ in range(3):
        assert process.stdout.readline() == "step\n"
    os.killpg(process.pid, signal.SIGINT)
    said, complaints = process.communicate(timeout=900)
    assert said.endswith("interrupted\n")
    assert complaints == ""
    assert process.returncode == 0
    kept = open_run(run.path)
    walked = []
    analyze(kept, ["neuron_periodicity"], progress=lambda steps: walked.extend(steps) or steps)
    assert 0 < len(walked) < len(STEPS)
