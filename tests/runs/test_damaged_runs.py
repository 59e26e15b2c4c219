"""Whatever lies where a run should be is one clear InputError that names the file, never another exception, never a
wrong number."""

import json
import math
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from interp.errors import InputError
from interp.experiment import ModelConfig, Task, TrainingConfig, hash_of
from interp.machine import tensor_bytes
from interp.models import initial_weights
from interp.runs import Run, RunWriter, open_run, step_name
from interp.runs.format import FORMAT, split_tensors, step_header

TASK, MODEL, TRAINING = Task(p=7, train_pairs=20), ModelConfig(d_model=8, n_heads=2, d_mlp=12), TrainingConfig(steps=20)
STEP_10 = f"steps/{step_name(10)}"


def weights_of(step: int) -> dict[str, Tensor]:
    return initial_weights(replace(MODEL, seed=step), TASK.p)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damaged") / "run"
    with RunWriter.create(path, TASK, MODEL, TRAINING) as writer:
        for step in (0, 10, 20):
            writer.append(step, weights_of(step), {"train_loss": 1 / (step + 1), "test_loss": math.nan})
    return path


@pytest.fixture
def path(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "run")


READS: dict[str, Callable[[Run], object]] = {
    "steps": lambda run: run.steps,
    "metrics": lambda run: run.metrics,
    "thinned": lambda run: run.thinned,
    "is_complete": lambda run: run.is_complete,
    "run[10]": lambda run: run[10].weights,
    "trajectory": lambda run: run.trajectory("embed.W_E"),
}


def outcomes(path: Path) -> dict[str, str | None]:
    """What opening a run and each way of reading it came to: None, or the words of an InputError; nothing else may come
    out."""
    try:
        run = open_run(path)
    except InputError as error:
        return {"open": str(error)}
    found: dict[str, str | None] = {"open": None}
    for name, read in READS.items():
        try:
            read(run)
            found[name] = None
        except InputError as error:
            found[name] = str(error)
    return found


def rewrite_info(path: Path, change: Callable[[dict], object]) -> None:
    """Change run.json, and its hash so that it agrees."""
    info = json.loads((path / "run.json").read_text())
    change(info)
    info["hash"] = hash_of(info["experiment"])
    (path / "run.json").write_text(json.dumps(info))


# ---- run.json and the split ------------------------------------------------------------------------------------------


def test_no_run_and_no_such_thing(tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "file").touch()
    for name, message in {
        "none": "no run at",
        "file": "no run at",
        "foreign": "has no run.json",
        "long" * 100: "name too long",
    }.items():
        with pytest.raises(InputError, match=message) as caught:
            open_run(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("version", [0, 2, "1", None, True])
def test_an_unknown_format_version_is_refused_by_name(version: object, path: Path) -> None:
    rewrite_info(path, lambda info: info.update(format=version))
    with pytest.raises(
        InputError, match=rf"run\.json has format version {version!r}; this version of interp reads {FORMAT}"
    ):
        open_run(path)


def test_a_field_that_is_not_there_has_its_default_and_one_that_is_not_known_is_named(path: Path) -> None:
    rewrite_info(path, lambda info: info["experiment"]["training"].pop("eps"))  # a run from before the field
    assert open_run(path).training == TRAINING
    rewrite_info(path, lambda info: info["experiment"]["training"].update(epz=1.0))  # a run from a later version
    with pytest.raises(
        InputError, match=r"run\.json is damaged: unknown field in \[training\] 'epz'; did you mean 'eps'"
    ):
        open_run(path)


@pytest.mark.parametrize(
    "value", [None, "", -1, 1.5, math.nan, math.inf, 10**400, True, [], {}, [None], "\ud800"], ids=ascii
)
def test_impossible_values_in_a_run_whose_hash_agrees_with_them(value: object, path: Path) -> None:
    original = (path / "run.json").read_text()
    info = json.loads(original)
    places = [("experiment",), ("host",), ("host", "threads"), ("split_digest",), ("versions",), ("created",)]
    places += [("experiment", section) for section in info["experiment"]]
    places += [("experiment", section, field) for section, fields in info["experiment"].items() for field in fields]
    for *parents, last in places:
        if last == "n_layers" and value == 10**400:
            continue  # 10⁴⁰⁰ layers are a valid configuration, of a network that nobody can list the weights of

        def put(info: dict, parents: list[str] = parents, last: str = last) -> None:
            for parent in parents:
                info = info[parent]
            info[last] = value

        (path / "run.json").write_text(original)
        rewrite_info(path, put)
        outcomes(path)


@pytest.mark.parametrize("name", ["train_indices", "labels"])
@pytest.mark.parametrize("change", [lambda x: x + 1, lambda x: x[1:], lambda x: x.double(), lambda x: x.bfloat16()])
def test_a_split_that_is_not_the_one_of_the_task(name: str, change: Callable[[Tensor], Tensor], path: Path) -> None:
    tensors = split_tensors(TASK)
    (path / "split.safetensors").write_bytes(tensor_bytes(tensors | {name: change(tensors[name])}, {"format": FORMAT}))
    with pytest.raises(InputError, match=rf"split\.safetensors: {name} differ from those of the task"):
        open_run(path)


def test_a_split_with_more_or_less_in_it(path: Path) -> None:
    tensors = split_tensors(TASK)
    for held in (tensors | {"more": torch.ones(2).bfloat16()}, {"labels": tensors["labels"]}):
        (path / "split.safetensors").write_bytes(tensor_bytes(held, {"format": FORMAT}))
        with pytest.raises(
            InputError, match=rf"split\.safetensors holds {', '.join(sorted(held))}; expected labels, train_indices"
        ):
            open_run(path)


def test_a_split_digest_that_is_not_the_one_of_the_split(path: Path) -> None:
    rewrite_info(path, lambda info: info.update(split_digest="0" * 16))
    with pytest.raises(InputError, match=r"split\.safetensors has digest .*, run\.json recorded '0000"):
        open_run(path)


# ---- step files ------------------------------------------------------------------------------------------------------


def rewrite_step(path: Path, *, step: int = 10, experiment: str | None = None, **changed: Tensor | None) -> None:
    """A step file of this run, sound but for what is changed; None leaves a tensor out."""
    weights = {name: weight for name, weight in (weights_of(10) | changed).items() if weight is not None}
    content = tensor_bytes(weights, step_header(experiment or open_run(path).hash, step))
    (path / STEP_10).write_bytes(content)


def flip_last_bit(path: Path) -> None:
    content = bytearray((path / STEP_10).read_bytes())
    content[-1] ^= 1
    (path / STEP_10).write_bytes(content)


def cut(path: Path, keep: float) -> None:
    content = (path / STEP_10).read_bytes()
    (path / STEP_10).write_bytes(content[: int(keep * len(content))])


def make_folder(path: Path) -> None:
    (path / STEP_10).unlink()
    (path / STEP_10).mkdir()


W_E = torch.zeros(8, 8)
# What was done, what run[10] says, and whether a trajectory of W_E sees it too.
DAMAGE: dict[str, tuple[Callable[[Path], object], str, bool]] = {
    "empty": (lambda path: cut(path, 0), "damaged", True),
    "truncated in the header": (lambda path: cut(path, 0.1), "damaged", True),
    "truncated in the weights": (lambda path: cut(path, 0.999), "damaged: it should have", True),
    "one bit altered": (flip_last_bit, "was altered: its weights have digest", False),
    "other weights": (lambda path: rewrite_step(path, **weights_of(20)), "was altered: its weights have digest", False),
    "missing": (lambda path: (path / STEP_10).unlink(), "is missing, though metrics.jsonl records it", False),
    "a folder": (make_folder, "Is a directory", True),
    "a pickle": (lambda path: torch.save(weights_of(10), path / STEP_10), "is a pickle", True),
    "of another step": (lambda path: rewrite_step(path, step=20), "holds step 000000020", True),
    "of another run": (lambda path: rewrite_step(path, experiment="0" * 16), "of experiment 0000000000000000", True),
    "of others": (
        lambda path: (path / STEP_10).write_bytes(tensor_bytes(weights_of(10), {"format": "pt"})),
        "is it of another run",
        True,
    ),
    "a tensor less": (lambda path: rewrite_step(path, **{"embed.W_E": None}), "'embed.W_E'", True),
    "a tensor more": (lambda path: rewrite_step(path, foreign=torch.zeros(1)), "unexpected tensor 'foreign'", False),
    "another shape": (
        lambda path: rewrite_step(path, **{"embed.W_E": W_E[1:]}),
        r"'embed.W_E' .*\[7, 8\], expected.*\[8, 8\]",
        True,
    ),
    "another float": (
        lambda path: rewrite_step(path, **{"embed.W_E": W_E.double()}),
        "'embed.W_E' .*(F|float)64.*, expected",
        True,
    ),
    "no float": (
        lambda path: rewrite_step(path, **{"embed.W_E": W_E.long()}),
        "'embed.W_E' .*(I|int)64.*, expected",
        True,
    ),
}


@pytest.mark.parametrize(("damage", "message", "trajectory_sees_it"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_step_file_is_one_clear_line_that_names_it(
    damage: Callable, message: str, trajectory_sees_it: bool, path: Path
) -> None:
    damage(path)
    run = open_run(path)
    reads: list[Callable[[], object]] = [
        lambda: run[10],
        *([lambda: run.trajectory("embed.W_E")] if trajectory_sees_it else []),
    ]
    for read in reads:
        with pytest.raises(InputError, match=f"^(cannot read )?{path / STEP_10}.*({message})") as caught:
            read()
        assert "\n" not in str(caught.value)
    assert run[0].step == 0  # the others are as good as before
    assert run[20].step == 20


# ---- metrics.jsonl and thinned.json ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "{}",
        '{"step": "20"}',
        '{"step": 10.0}',
        '{"step": true}',
        '{"step": 10}',
        '{"step": 5}',
        '{"step": 1000000000}',
    ]
    + [
        f'{{"step": 20, "{name}": {value}}}'
        for name, value in [("weights", 3), ("loss", '"low"'), ("loss", "[1]"), ("loss", "9" * 400)]
    ],
)
def test_a_damaged_line_is_named_by_its_number(line: str, path: Path) -> None:
    lines = (path / "metrics.jsonl").read_text().splitlines()
    (path / "metrics.jsonl").write_text("\n".join([*lines[:2], line, ""]))
    with pytest.raises(InputError, match=r"metrics\.jsonl is damaged at line 3: "):
        _ = open_run(path).metrics


@pytest.mark.parametrize("content", ["", "{}", "3", '["10"]', "[[10]]", "[true]"])
def test_a_damaged_note_of_thinned_steps(content: str, path: Path) -> None:
    (path / "thinned.json").write_text(content)
    with pytest.raises(InputError, match=r"thinned\.json is damaged"):
        _ = open_run(path).thinned


# ---- anything at all -------------------------------------------------------------------------------------------------


def mutated(content: bytes, generator: random.Random) -> bytes:
    """One to three changes: a byte, a bit, something cut out, something put in, or the end cut off."""
    changed = bytearray(content)
    for _ in range(generator.randint(1, 3)):
        at = generator.randrange(len(changed) + 1)
        kind = generator.randrange(5)
        if kind == 0:
            changed[at : at + 1] = generator.randbytes(1)
        elif kind == 1 and at < len(changed):
            changed[at] ^= 1 << generator.randrange(8)
        elif kind == 2:
            del changed[at : at + generator.randint(1, 9)]
        elif kind == 3:
            changed[at:at] = generator.choice(
                [b"0", b"9", b"-", b"[", b"{}", b"null", b"\x00", b"1e999", b'"', b"\n", b"\xff"]
            )
        elif generator.random() < 0.3:
            del changed[at:]
    return bytes(changed)


@pytest.mark.parametrize("name", ["run.json", "split.safetensors", "metrics.jsonl", STEP_10])
def test_whatever_becomes_of_a_file_only_an_input_error_comes_out(name: str, path: Path) -> None:
    generator = random.Random(name)
    original = (path / name).read_bytes()
    noticed = 0
    for _ in range(60):
        (path / name).write_bytes(mutated(original, generator))
        found = outcomes(path)
        messages = [message for message in found.values() if message is not None]
        assert all(str(path) in message and "\n" not in message for message in messages)
        noticed += bool(messages)
        if name == STEP_10 and found["run[10]"] is None:  # then it was no change
            assert all(torch.equal(weight, weights_of(10)[key]) for key, weight in open_run(path)[10].weights.items())
    assert noticed > 30
