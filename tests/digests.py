"""Digests of all that a restructuring of the code must not change: recorded before it and after it, and compared.

    python tests/digests.py record build/before.json
    python tests/digests.py compare build/before.json build/after.json

Weights and metrics by every way of training, also resumed; what the commands print and write, pages, experiments and
results included; the names in the wheel. Only the command line and the public names of `interp` are used, so that this
file needs no change of its own. Both recordings are to be of one machine: another one rounds in other places.
"""

import argparse
import base64
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain, takewhile, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

import interp

ROOT = Path(__file__).resolve().parent.parent
BEGAN = time.monotonic()
THREADS = (1, 2)

SMALL = """
task.p=23 task.train_fraction=0.5 model.d_model=32 model.n_heads=4 model.d_mlp=64
training.steps=50 training.checkpoint_every=25 training.log_every=10
"""
MLP = "model.family=mlp"
SGD = "training.optimizer=sgd training.lr=0.02 training.weight_decay=0.001"
# What differs from SMALL, which is the factored form; that with p = 113 has several parts of a batch. All others stay
# below 32,768 embedded numbers: beyond that several threads of torch add up their gradient in no fixed order.
WAYS_TO_TRAIN = (
    *("", "model.attention_rate=0.5", "model.vocabularies=two", "model.d_head=5"),
    *("model.activation=gelu", "model.activation=square"),
    "task.p=113 model.d_model=128 model.d_mlp=512 training.steps=10 training.checkpoint_every=5",
    *("model.prompt=ab", "model.prompt=ab model.vocabularies=two model.activation=gelu", "model.n_layers=2"),
    *("model.n_layers=2 model.causal=false", "model.n_layers=2 training.batch_size=100"),
    *(f"{MLP} model.inputs={i} model.embedding={e}" for i in ("sum", "concatenated") for e in ("untied", "tied")),
    *(f"{MLP} model.d_model=128 model.inputs={inputs}" for inputs in ("sum", "concatenated")),
    f"{MLP} model.d_model=128 model.activation=square training.batch_size=100",
    *("training.optimizer=adam training.weight_decay=0.001", SGD, f"{SGD} training.momentum=0"),
    *("training.batch_size=100", "training.warmup=0", "training.warmup=40", "task.label_noise=0.2"),
    *(f"task.operation={operation}" for operation in ("subtract", "multiply", "divide", "x2+xy+y2", "random")),
    *("task.operation=random task.symmetric=true", "task.seed=3 model.seed=4 training.seed=5 training.batch_size=50"),
)
TRAINED_BY_COMMAND = ("", "model.n_layers=2", f"{MLP} model.embedding=untied")
HEADS = "attention_structure"  # which an MLP cannot be asked about
# By name: without names a later version may run fewer.
EVERY = " ".join(sorted(path.stem for path in (ROOT / "analyses").rglob("*.py") if path.stem != "__init__"))
# In this order: what one writes, the next may read. No path of a machine gets into what they say and write.
COMMANDS = """
info run | verify run | analyze run EVERY --json --csv tables
explain run | explain run --json | explain run --step 400 --json
compare run@100 run | compare run@100 run --json | compare run@100 run -o compare.html | report run -o report.html
export run --to transformer-lens --out lens | export run --to numpy --out arrays
import lens/checkpoints --out imported | thin imported --keep-every 1000
list . | presets | analyses
experiment circuit-efficiency --sizes 10 20 60 --weight-decays 1 3 TINY --out experiments/circuit-efficiency
experiment ungrokking --sizes 8 14 --weight-decays 1 3 TINY --out experiments/ungrokking
experiment semi-grokking --sizes 30 50 TINY --out experiments/semi-grokking
experiment data-fraction --sizes 30 60 90 TINY --out experiments/data-fraction
experiment growth-ratios --sizes 30 60 --weight-decays 1 TINY --out experiments/growth-ratios
experiment critical-size --sizes 12 60 --weight-decays 1 TINY --out experiments/critical-size
experiment weight-decay --sizes 60 --weight-decays 0.5 1 2 TINY --out experiments/weight-decay
--help
""".replace("EVERY", EVERY).replace("TINY", "--p 11 --d-model 8 --d-mlp 16 --processes 1 --duration 0.1 --seeds 2")
# Each argument is a command; a form feed ends what it prints.
PROGRAM = """
import sys
from interp.cli import main

for command in sys.argv[1:]:
    if code := main(command.split()):
        sys.exit(code)
    print("\\f")
"""


def record() -> dict[str, Any]:
    """Everything, by name."""
    progress(f"of the code in {Path(interp.__file__).parent}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        by_command = trainings_by_command(folder / "trained")
        return dict(chain(trainings(), by_command, reference(folder / "reference"), wheel(folder)))


def trainings() -> Iterator[tuple[str, Any]]:
    """The hashes that name experiments; then every way to train, to its end and resumed in the middle, with one thread
    and with two."""
    yield "surroundings", [sys.version, torch.__version__, np.__version__, torch.backends.cpu.get_cpu_capability()]
    yield "hash/default", interp.Experiment().hash
    yield from (
        (f"hash/preset {name}", interp.preset(name).hash)
        for name in ("quick", "spiky", "fastest", "nanda", "reference")
    )
    for threads, way in ((threads, way) for threads in THREADS for way in WAYS_TO_TRAIN):
        progress(f"training, threads {threads}: {way}")
        torch.set_num_threads(threads)
        chosen = experiment(way)
        snapshots = {snapshot.step: snapshot for snapshot in interp.train(chosen)}
        *_, resumed = interp.train(chosen, resume=snapshots[chosen.training.steps // 2])
        yield f"hash/{way}", chosen.hash
        name = f"threads {threads}/{way}"
        yield f"trained/{name}", {str(step): moment(snapshot) for step, snapshot in snapshots.items()}
        yield f"resumed/{name}", moment(resumed)
        yield f"resumed as uninterrupted/{name}", same(moment(resumed), moment(snapshots[resumed.step]))


def fields(way: str) -> dict[str, str]:
    """The fields of an experiment that are not at their defaults, as text."""
    return dict(part.split("=") for part in f"{SMALL} {way}".split())


def experiment(way: str) -> interp.Experiment:
    """The experiment of a way to train."""
    sections: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, text in fields(way).items():
        section, field = name.split(".")
        sections[section][field] = json.loads(text) if re.fullmatch(r"[\d.]+|true|false", text) else text
    task, model, training = (sections[section] for section in ("task", "model", "training"))
    return interp.Experiment(interp.Task(**task), interp.ModelConfig(**model), interp.TrainingConfig(**training))


def moment(snapshot: interp.Snapshot) -> dict[str, Any]:
    """Digests of the weights and of what the optimizer remembers, and the metrics as they are."""
    tensors = {"weights": snapshot.weights, "optimizer": snapshot.state}
    return {name: digest(safetensors.torch.save(values)) for name, values in tensors.items()} | snapshot.metrics


def trainings_by_command(folder: Path) -> Iterator[tuple[str, Any]]:
    """The files of runs: trained, begun here and resumed by the command, of several seeds; and what is found in such
    small networks."""
    for threads, way in ((threads, way) for threads in THREADS for way in TRAINED_BY_COMMAND):
        progress(f"training by command, threads {threads}: {way}")
        place = folder / f"threads {threads}" / (way or "factored")
        place.mkdir(parents=True)
        flags = " ".join(f"--{name.replace('_', '-')} {text}" for name, text in fields(way).items())
        printed([f"train {flags} --out run", f"train {flags} --out seeds --seeds 2"], place, threads)
        chosen = interp.open_run(place / "run").experiment
        torch.set_num_threads(threads)
        with interp.RunWriter.create(place / "resumed", chosen.task, chosen.model, chosen.training) as writer:
            for snapshot in interp.train(chosen):
                writer.write(snapshot)
                if snapshot.step == chosen.training.steps // 2:
                    writer.save_state(snapshot)
                    break
        said = printed(
            ["resume resumed", f"analyze run {EVERY.replace(HEADS, '')} --json", "explain run"], place, threads
        )
        name = place.relative_to(folder)
        yield f"resumed as uninterrupted/{name}", same(*(dict(files_in(place / run)) for run in ("run", "resumed")))
        yield f"interp analyze/{name}", json.loads(said[1])
        yield f"interp explain/{name}", said[2]
    yield from files_in(folder)


def reference(folder: Path) -> Iterator[tuple[str, Any]]:
    """What the commands print and write about the reference run, and the results that they keep."""
    left_out = shutil.ignore_patterns("__pycache__", "results", ".*", "*.py")
    shutil.copytree(interp.reference_path(), folder / "run", ignore=left_out)
    commands = re.split(r" \| |\n", COMMANDS.strip())
    progress(f"interp {', '.join(command.split()[0] for command in commands)}")
    said = printed(commands, folder)
    helps = [f"{line.split()[0]} --help" for line in said[-1].splitlines() if re.match(r"  [a-z]", line)]
    for command, text in zip(commands + helps, said + printed(helps, folder), strict=True):
        if "--json" in command:
            yield f"interp {command}", json.loads(text)
        elif "--processes" not in command:  # of an experiment, which says how long it took
            yield f"interp {command}", re.sub(r"(?m)^(created|host) .*\n", "", text)
    yield from files_in(folder)
    for name, result in interp.analyze(interp.open_run(folder / "run"), EVERY.split()).items():
        # A new version of the source gives a result another version, and with it another identity.
        yield f"result/{name}", {key: str(result.attrs[key]) for key in result.attrs.keys() - {"version", "identity"}}
        yield from (
            (f"result/{name}/{variable}", sums_of(values.values)) for variable, values in result.variables.items()
        )


def wheel(folder: Path) -> Iterator[tuple[str, Any]]:
    """The names in it, built from a copy of what git has or would add, so that nothing is left behind in the tree."""
    progress("the wheel")
    listing = ["git", "ls-files", "-z", "-co", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / "sources" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "sources" / name)
    output(["-m", "build", "--wheel", "--no-isolation", "--outdir", "built", "sources"], folder)
    yield "wheel", sorted(zipfile.ZipFile(next((folder / "built").glob("*.whl"))).namelist())


# ---- how it is recorded ----------------------------------------------------------------------------------------------


def printed(commands: list[str], folder: Path, threads: int = 1) -> list[str]:
    """What each of some commands of `interp` prints, standing in `folder`. One process does them all, since most of the
    time of a command goes into imports."""
    return output(["-c", PROGRAM, *commands], folder, threads).split("\f\n")[:-1]


def output(arguments: list[str], folder: Path, threads: int = 1) -> str:
    """What another Python prints; any exit code but 0 is the end."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "COLUMNS": "100"}
    whole = [sys.executable, *arguments]
    done = subprocess.run(whole, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"exit code {done.returncode}: {' '.join(arguments)}\n{done.stdout}{done.stderr}")
    return done.stdout


def files_in(folder: Path) -> Iterator[tuple[str, Any]]:
    """Every file under a folder, without when, where and by what it was written."""
    for path in sorted(folder.rglob("*")):
        name = f"files/{path.relative_to(folder)}"
        # Results are read, not compared as files, and plotly gives the element of a figure a name by chance.
        if not path.is_file() or path.name in (".lock", "figure.html", "result.nc") or path.parent.name == "results":
            continue
        if path.suffix == ".html":
            yield from page(name, path.read_text().replace(f"{folder.resolve()}/", ""))
        elif path.name == "run.json":
            content = json.loads(path.read_text())
            yield name, {key: content[key] for key in content.keys() - {"created", "versions", "host"}}
        elif path.suffix == ".json":
            yield name, json.loads(path.read_text())
        else:
            yield name, {"exact": digest(path.read_bytes())} if path.suffix == ".csv" else digest(path.read_bytes())


def page(name: str, html: str) -> Iterator[tuple[str, Any]]:
    """A page in its parts: the markup, and each script, which is code, JSON, or something packed."""
    html = re.sub(r'(nonce[-="]+|\banalysis )([0-9a-f]{16}){1,2}\b', r"\1…", html)
    scripts = re.compile(r"<script([^>]*)>(.*?)</script>", re.DOTALL)
    yield f"{name}/markup", scripts.sub(r"<script\1></script>", html)
    for attributes, content in scripts.findall(html):
        known_as = re.search(r'(?:id|class)="([^"]+)"', attributes)
        text = zlib.decompress(base64.b64decode(content)).decode() if "text/plain" in attributes else content
        if known_as is None or known_as[1] == "plotly":
            yield f"{name}/{known_as[1] if known_as else 'code'}", digest(text.encode()) if known_as else text
        else:
            sums = sums_of(np.concatenate([np.zeros(1), *numbers_in(json.loads(text))]))
            yield f"{name}/{known_as[1]}", sums | {"exact": digest(text.encode())}


def numbers_in(value: Any) -> Iterator[np.ndarray]:
    """All numbers of a JSON value, also those that plotly or a page of ours has packed."""
    if isinstance(value, dict) and "bdata" in value:
        yield np.frombuffer(base64.b64decode(value["bdata"]), value["dtype"]).astype(float)
    elif isinstance(value, dict) and isinstance(value.get("data"), str):
        yield np.frombuffer(zlib.decompress(base64.b64decode(value["data"])), value["type"]).astype(float)
    elif isinstance(value, dict | list):
        yield from chain.from_iterable(map(numbers_in, value.values() if isinstance(value, dict) else value))
    elif is_number(value):
        yield np.array([value], dtype=float)


def sums_of(values: np.ndarray) -> dict[str, Any]:
    """The digest of an array, and by how much it differs from another: sums in which nothing cancels, by place."""
    content = f"{values.dtype} {values.shape}\n".encode() + np.ascontiguousarray(values).tobytes()
    found: dict[str, Any] = {"exact": digest(content)}
    if values.dtype.kind in "biuf":
        numbers = values.astype(np.float64).ravel()
        known = np.where(np.isfinite(numbers), numbers, 0) * np.linspace(1, 2, len(numbers))
        found |= {"positive": float(known[known > 0].sum()), "negative": float(known[known < 0].sum())}
        found |= {"not finite": int((~np.isfinite(numbers)).sum())}
    return found


def digest(content: bytes) -> str:
    """16 hex digits of the SHA-256."""
    return hashlib.sha256(content).hexdigest()[:16]


def progress(what: str) -> None:
    """A line for who waits."""
    print(f"{time.monotonic() - BEGAN:4.0f} s  {what}", file=sys.stderr, flush=True)


# ---- comparing -------------------------------------------------------------------------------------------------------


def same(before: Any, after: Any) -> bool:
    """Byte for byte, as JSON; there NaN is NaN."""
    return json.dumps(before, sort_keys=True) == json.dumps(after, sort_keys=True)


def difference(before: Any, after: Any, tolerance: float) -> str:
    """What differs between two values of one name, in words; empty where nothing does."""
    old, new = dict(leaves(before)), dict(leaves(after))
    alone = {"before": old.keys() - new.keys(), "after": new.keys() - old.keys()}
    said = [f"{len(keys)} only {when}, as {min(keys)!r}" for when, keys in alone.items() if keys]
    changed = [key for key in old if key in new and not same(old[key], new[key])]
    by = {key: relative(old[key], new[key]) for key in changed if is_number(old[key]) and is_number(new[key])}
    if by and max(by.values()) > tolerance:
        largest = max(by, key=by.__getitem__)
        said.append(f"{len(by)} numbers differ, relatively by up to {by[largest]:.1e}{largest and f' ({largest})'}")
    # Beside a digest called so are the numbers that it is of, which are to be judged where a tolerance is given.
    others = [key for key in changed if key not in by and not (tolerance and key.split("/")[-1] == "exact")]
    if others:
        lines = zip_longest(str(old[others[0]]).split("\n"), str(new[others[0]]).split("\n"))
        pair = next(([str(line) for line in pair] for pair in lines if pair[0] != pair[1]), ["", "another type"])
        equal = sum(1 for _ in takewhile(lambda letters: letters[0] == letters[1], zip(*pair, strict=False)))
        start = max(0, equal - 40)
        first = " → ".join(line[start : start + 100].strip() for line in pair)
        said.append(f"{len(others)} texts or digests differ, as {others[0] and f'{others[0]}: '}{first}")
    return "; ".join(said)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values in a JSON value, by their paths."""
    if isinstance(value, dict | list) and value:
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(part, f"{path}/{key}" if path else str(key))
    else:
        yield path, value


def is_number(value: Any) -> bool:
    """Whether a value can be more or less different from another."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def relative(old: float, new: float) -> float:
    """The difference as a share of the larger number, or of 1e-9: what is smaller is nothing but rounding."""
    share = abs(old - new) / max(abs(old), abs(new), 1e-9)
    return math.inf if math.isnan(share) else share


def moved(before: list[str], after: list[str]) -> Iterator[str]:
    """The names in the wheel that are gone and that are new, a line for each folder."""
    folders = defaultdict(lambda: ([], []))
    for place, names in enumerate((set(before) - set(after), set(after) - set(before))):
        for name in sorted(names):
            folder, _, file = name.rpartition("/")
            folders[folder][place].append(file)
    for folder, (gone, come) in sorted(folders.items()):
        yield f"wheel, {folder}/: {len(gone)} gone ({' '.join(gone)}), {len(come)} new ({' '.join(come)})"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("record", help="write a recording").add_argument("file", type=Path)
    comparing = commands.add_parser("compare", help="exit code 1, and a line for each difference")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    comparing.add_argument(
        "--tolerance", type=float, default=0.0, help="of numbers, relative; not of weights and texts (default: 0)"
    )
    options = parser.parse_args()
    if options.command == "record":
        # Torch reads it when it is loaded; threads that spin are slow in company.
        if "OMP_WAIT_POLICY" not in os.environ:
            os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"OMP_WAIT_POLICY": "passive"})
        recording = record()
        options.file.write_text(json.dumps(recording, sort_keys=True, indent=0) + "\n")
        found = [
            name for name, value in recording.items() if name.startswith("resumed as uninterrupted/") and not value
        ]
        summary = f"{len(recording)} names in {time.monotonic() - BEGAN:.0f} s; {len(found)} resumed trainings differ"
    else:
        before, after = (json.loads(path.read_text()) for path in (options.before, options.after))
        for line in moved(before.pop("wheel"), after.pop("wheel")):
            print(line)
        found = [f"{name}: only {'before' if name in before else 'after'}" for name in before.keys() ^ after.keys()]
        for name in before.keys() & after.keys():
            if words := difference(before[name], after[name], options.tolerance):
                found.append(f"{name}: {words}")
        found.sort()
        summary = f"{len(before)} names before, {len(after)} after: {len(found) or 'nothing'} different"
    print(*found, summary, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
