"""A run of every kind of table, from training to explanation: stopped and gone on with, listed, verified, brought as
somebody else's, and told in sentences that are true of it."""

import contextlib
from pathlib import Path

import pytest

import interp
from interp.errors import InputError
from interp.experiment import MIXTURES, Operation
from interp.explanation import explain
from interp.interchange import export_run, import_run
from interp.interchange.importing.proof import operations_to_try
from interp.interchange.importing.search import Judge
from interp.runs import describe, list_runs, open_run, verify
from interp.sweeps import InterruptedTrainingError, resume_run, run_experiment

TASKS = [
    (interp.Task(6, "permutations-ab", train_fraction=0.5), "permutations-ab of S_3", 18),
    (interp.Task(7, "x3+xy2+y", train_fraction=0.5), "x3+xy2+y modulo 7", 25),
    (interp.Task(7, "divide-or-subtract", train_fraction=0.5), "divide-or-subtract modulo 7", 19),
]


def experiment_on(task: interp.Task) -> interp.Experiment:
    model = interp.ModelConfig(d_model=8, n_heads=2, d_mlp=8)
    return interp.Experiment(task, model, interp.TrainingConfig(steps=10, checkpoint_every=5, log_every=5))


def files(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.rglob("*.safetensors")}


@pytest.mark.parametrize(("task", "title", "held_out"), TASKS, ids=[title for _, title, _ in TASKS])
def test_a_run_goes_on_to_the_same_bytes_and_says_what_it_is(
    task: interp.Task, title: str, held_out: int, tmp_path: Path
) -> None:
    def stop(snapshot: interp.Snapshot) -> None:
        if snapshot.step == 5:
            raise KeyboardInterrupt

    run = run_experiment(experiment_on(task), tmp_path / "whole" / "run")
    with contextlib.suppress(InterruptedTrainingError):
        run_experiment(experiment_on(task), tmp_path / "cut" / "run", report=stop)
    assert open_run(tmp_path / "cut" / "run").steps == [0, 5]
    resume_run(tmp_path / "cut" / "run")
    assert files(run.path) == files(tmp_path / "cut" / "run")
    assert open_run(run.path).task == task
    assert not verify(run).contradictions
    said = "\n".join(describe(run))
    assert f"{title}; " in said
    assert f"{held_out} independent ones held out" in said
    assert title in "\n".join(list_runs(tmp_path / "whole"))


def test_a_network_of_somebody_else_whose_operation_is_given(tmp_path: Path) -> None:
    run = run_experiment(experiment_on(interp.Task(6, "permutations-ab", train_fraction=0.5)), tmp_path / "run")
    export_run(run, "numpy", tmp_path / "arrays")
    given = {"operation": "permutations-ab"}
    taken = import_run(tmp_path / "arrays", tmp_path / "taken", task=given, accept_unverified=True)
    assert taken.task.title == "permutations-ab of S_3"


def test_a_mixture_is_never_guessed() -> None:
    """Half of its answers are those of a part, so that whoever answers the part would be half a mixture."""
    assert not set(operations_to_try(None)) & {"random", *MIXTURES}
    assert operations_to_try("add-or-subtract") == ("add-or-subtract",)
    assert {"x2+xy+y2+x", "x3+xy2+y", "permutations-ab"} <= set(operations_to_try(None))


def test_what_is_asked_of_a_p_that_is_no_factorial_is_refused_with_those_that_are() -> None:
    with pytest.raises(InputError, match=r"task.p is one of 6 \(S_3\), 24 \(S_4\)"):
        Judge(("permutations-ab",)).tasks(7)
    assert "permutations-ab" not in Judge(operations_to_try(None)).tasks(7)


@pytest.mark.parametrize(
    ("p", "operation", "sentences"),
    [
        (6, "permutations-aba", ["permutations-aba of S_3 is no addition in other coordinates"]),
        (
            7,
            "add-or-subtract",
            [
                "add-or-subtract modulo 7 is no addition in other coordinates",
                "Where a is even it is to add, where a is odd to subtract.",
                "those that no symmetry of the operation which answers them makes of a training pair of that operation",
            ],
        ),
    ],
)
def test_what_is_told_of_it(p: int, operation: Operation, sentences: list[str], tmp_path: Path) -> None:
    run = run_experiment(experiment_on(interp.Task(p, operation, train_fraction=0.5)), tmp_path / "run")
    told = " ".join(explain(run).long.split())
    assert [sentence for sentence in sentences if sentence not in told] == []
    with pytest.raises(InputError, match="is no addition in disguise"):
        _ = run.task.phase
