"""Whatever lies where a run should be is one clear InputError that names the file, never another exception, never a
wrong number."""

import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interp.errors import InputError
from interp.experiment import hash_of
from interp.machine import tensor_bytes
from interp.runs import Run, open_run, step_name
from interp.runs.format import FORMAT, split_arrays

STEP_10 = f"steps/{step_name(10)}"


@pytest.fixture
def path(run: Path) -> Path:
    return run.absolute()


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
    """Change run.json, and its hash and its sum so that they agree."""
    info = json.loads((path / "run.json").read_text())
    change(info)
    info["hash"] = hash_of(info["experiment"])
    info["sum"] = hash_of({name: value for name, value in info.items() if name != "sum"})
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


@pytest.mark.parametrize("version", [0, 3, "1", None, True])
def test_an_unknown_format_version_is_refused_by_name(version: object, path: Path) -> None:
    rewrite_info(path, lambda info: info.update(format=version))
    with pytest.raises(
        InputError, match=rf"run\.json has format version {version!r}; this version of interp reads 1 and {FORMAT}"
    ):
        open_run(path)


def test_a_field_that_is_not_there_has_its_default_and_one_that_is_not_known_is_named(path: Path) -> None:
    training = open_run(path).training
    rewrite_info(path, lambda info: info["experiment"]["training"].pop("eps"))  # a run from before the field
    assert open_run(path).training == training
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
    tensors = {name: torch.from_numpy(values) for name, values in split_arrays(open_run(path).task).items()}
    (path / "split.safetensors").write_bytes(tensor_bytes(tensors | {name: change(tensors[name])}, {"format": FORMAT}))
    with pytest.raises(InputError, match=rf"split\.safetensors: {name} differ from those of the task"):
        open_run(path)


def test_a_split_with_more_or_less_in_it(path: Path) -> None:
    tensors = {name: torch.from_numpy(values) for name, values in split_arrays(open_run(path).task).items()}
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


def test_a_damaged_step_file_is_one_clear_line_that_names_it(damage: Any, path: Path) -> None:
    damage.happen_to(path / STEP_10)
    run = open_run(path)
    for read in (lambda: run[10], *([lambda: run.trajectory("embed.W_E")] if damage.in_trajectory else [])):
        with pytest.raises(InputError, match=f"^(cannot read )?{path / STEP_10}.*({damage.words})") as caught:
            read()
        assert "\n" not in str(caught.value)
    assert run[5].step == 5  # the others are as good as before
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
    assert json.loads(lines[6])["step"] == 10
    (path / "metrics.jsonl").write_text("\n".join([*lines[:7], line, ""]))
    with pytest.raises(InputError, match=r"metrics\.jsonl is damaged at line 8: "):
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
    original, sound = (path / name).read_bytes(), open_run(path)[10].weights
    noticed = 0
    for _ in range(60):
        (path / name).write_bytes(mutated(original, generator))
        found = outcomes(path)
        messages = [message for message in found.values() if message is not None]
        assert all(str(path) in message and "\n" not in message for message in messages)
        noticed += bool(messages)
        if name == STEP_10 and found["run[10]"] is None:  # then it was no change
            assert all(torch.equal(weight, sound[key]) for key, weight in open_run(path)[10].weights.items())
    assert noticed > 30


# ---- sums that agree with a lie --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda info: info["host"].update(threads=10**9), "host.threads must be an integer from 1 to 4096"),
        (
            lambda info: info["experiment"]["task"].update(p=4096),
            r"split\.safetensors is damaged: it has [\d,]+ by",
        ),
    ],
)
def test_what_would_cost_this_machine_dear_is_refused_first(
    change: Callable[[dict], object], words: str, path: Path
) -> None:
    rewrite_info(path, change)
    began = time.process_time()  # whatever else the machine is doing
    with pytest.raises(InputError, match=words):
        open_run(path)
    assert time.process_time() - began < 1
