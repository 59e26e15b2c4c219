"""Before anything imports interp: check every annotation, shapes included, while the tests run; and one thread for
small models."""

import errno
import inspect
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jaxtyping
import pytest
import torch
import xarray as xr

# The numeric tower of PEP 484, where an int may stand for a float: `lr=1`.
jaxtyping.install_import_hook("interp", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

# Not at the top, as ruff would have it (E402): the hook must be there before interp is first imported.
import interp  # noqa: E402
from interp import ModelConfig, Task, TrainingConfig  # noqa: E402
from interp.cli import main  # noqa: E402
from interp.experiment import Operations, Samples  # noqa: E402
from interp.machine import read_tensors, tensor_bytes  # noqa: E402
from interp.models import Weights, initial_weights  # noqa: E402

# These check what they are given themselves, with errors for a person, which a type checker in front of them would
# hide.
for configuration in (Task, Samples, Operations, ModelConfig, TrainingConfig):
    configuration.__init__ = inspect.unwrap(configuration.__init__)

torch.set_num_threads(1)
# What a shell starts in the background ignores Ctrl-C, and so does all that it starts; some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _key_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Results are sealed with a key of the user's (`interp.analysis.seal`); tests make one of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """What a process writes outlives it unflushed too; only a power cut tells the difference, and no test makes one.
    Tests of the order in which files are flushed, or of flushing that fails, put their own `fsync` in this one's place;
    programs that tests start have the system's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: os.fstat(descriptor) and None)  # a closed file is an error still
        yield


# Files that take long by themselves: begun last, one of them would keep one process busy long after the others.
LONG = ("test_documentation", "test_strangers", "test_benchmarks", "test_executors", "test_exporting", "test_grid")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; the others in their order."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


# ---- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound run of 20 steps with a checkpoint every 5, trained by the command line."""
    task = ("--task.p=7", "--task.train-fraction=0.5")
    model = ("--model.d-model=8", "--model.n-heads=2", "--model.d-mlp=8")
    training = ("--training.steps=20", "--training.checkpoint-every=5", "--training.log-every=2")
    folder = tmp_path_factory.mktemp("original") / "run"
    assert main(["train", *task, *model, *training, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def run(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the original, called `run` in the folder we stand in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("interp.cli.progress.LINE_INTERVAL_SECONDS", 1000)  # a busy machine has more to say
    return Path(shutil.copytree(original, "run"))


@pytest.fixture(scope="session")
def written_run() -> Callable[..., interp.Run]:
    """Writes a run that was not trained: at each of `steps` the `weights` of the step, by default those that a network
    begins with whose seed is the step, and its `metrics`."""

    def written_run(
        path: Path,
        task: Task,
        model: ModelConfig,
        steps: Iterable[int] = (0, 10, 20),
        training: TrainingConfig | None = None,
        *,
        weights: Callable[[int], Weights] | None = None,
        metrics: Callable[[int], dict[str, float]] = lambda step: {},
        overwrite: bool = False,
    ) -> interp.Run:
        weights = weights or (lambda step: initial_weights(replace(model, seed=abs(step)), task.p))
        with interp.RunWriter.create(path, task, model, training, overwrite=overwrite) as writer:
            for step in steps:
                writer.append(step, weights(step), metrics(step))
        return writer.run

    return written_run


# ---- damages ---------------------------------------------------------------------------------------------------------


class Damage(NamedTuple):
    """What can become of the file of a checkpoint."""

    happen_to: Callable[[Path], object]
    words: str  # a pattern: what a complaint about it says
    in_trajectory: bool = True  # whether one sees it who reads nothing but embed.W_E


def other_bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(change(file.read_bytes()))


def bit_flipped(place: float) -> Callable[[Path], object]:
    """One bit of the weights is another; `place` is between 0 and 1."""

    def flipped(content: bytes) -> bytes:
        start = 8 + int.from_bytes(content[:8], "little")
        byte = start + int(place * (len(content) - 1 - start))
        return content[:byte] + bytes([content[byte] ^ 1]) + content[byte + 1 :]

    return other_bytes(flipped)


def written_anew(change: Callable[[Weights, dict], object]) -> Callable[[Path], object]:
    """A sound file of other tensors, or under another header: what `change` leaves of both."""

    def write(file: Path) -> None:
        tensors, header = read_tensors(file)
        change(tensors, header)
        file.write_bytes(tensor_bytes(tensors, header))

    return write


def another_W_E(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], object]:
    return written_anew(lambda tensors, _: tensors.update({"embed.W_E": change(tensors["embed.W_E"])}))


ALTERED = "was altered: its weights have digest"
DAMAGES = {
    "empty": Damage(other_bytes(lambda content: b""), "is damaged: not a safetensors file"),
    "cut off in the header": Damage(other_bytes(lambda content: content[:100]), "is damaged"),
    "cut off in the weights": Damage(other_bytes(lambda content: content[:-1]), r"should have \d+ bytes, and has \d+"),
    "longer": Damage(other_bytes(lambda content: content + b"x"), r"is damaged: it should have \d+ bytes, and has \d+"),
    "altered in the first number": Damage(bit_flipped(0), ALTERED, in_trajectory=False),
    "altered within": Damage(bit_flipped(0.33), ALTERED, in_trajectory=False),
    "altered in the last number": Damage(bit_flipped(1), ALTERED, in_trajectory=False),
    "other weights": Damage(
        written_anew(lambda tensors, _: tensors.update({name: 2 * weight for name, weight in tensors.items()})),
        ALTERED,
        in_trajectory=False,
    ),
    "missing": Damage(Path.unlink, "is missing, though metrics.jsonl records it", in_trajectory=False),
    "a folder": Damage(lambda file: (file.unlink(), file.mkdir()), "Is a directory"),
    "a pickle": Damage(
        lambda file: torch.save(read_tensors(file)[0], file),
        r"is a pickle \(torch.save\), not safetensors; nothing is unpickled here",
    ),
    "of another step": Damage(
        written_anew(lambda _, header: header.update(step="000000020")),
        "holds step 000000020 of .*, expected step 000000010",
    ),
    "of another run": Damage(
        written_anew(lambda _, header: header.update(experiment="0" * 16)), "of experiment 0000000000000000"
    ),
    "of other people": Damage(
        written_anew(lambda _, header: (header.clear(), header.update(format="pt"))), "is it of another run"
    ),
    "a tensor less": Damage(written_anew(lambda tensors, _: tensors.pop("embed.W_E")), "'embed.W_E'"),
    "a tensor more": Damage(
        written_anew(lambda tensors, _: tensors.update({"blocks.1.attn.W_Q": torch.zeros(2)})),
        r"unexpected tensor 'blocks.1.attn.W_Q' \[2\]",
        in_trajectory=False,
    ),
    "another length": Damage(another_W_E(lambda W_E: W_E[1:]), r"'embed.W_E' .*\[7, 8\], expected.*\[8, 8\]"),
    "another shape": Damage(another_W_E(torch.flatten), r"'embed.W_E' .*\[64\], expected.*\[8, 8\]"),
    "another float": Damage(another_W_E(torch.Tensor.double), "'embed.W_E' .*(F|float)64.*, expected"),
    "no float": Damage(another_W_E(torch.Tensor.long), "'embed.W_E' .*(I|int)64.*, expected"),
}


@pytest.fixture(params=DAMAGES)
def damage(request: pytest.FixtureRequest) -> Damage:
    """Every one of the damages that a checkpoint's file can have."""
    return DAMAGES[request.param]


@pytest.fixture
def within() -> Callable[[float, BaseException], AbstractContextManager[None]]:
    """`within(seconds, error)`: what takes more of the processor is ended by the error, and what waits for something
    that does not come after five minutes. How busy the machine is has no part in it."""

    @contextmanager
    def within(seconds: float, error: BaseException) -> Iterator[None]:
        def too_long(*_: object) -> None:
            raise error

        limits = {signal.SIGPROF: (signal.ITIMER_PROF, seconds), signal.SIGALRM: (signal.ITIMER_REAL, 300.0)}
        before = {name: signal.signal(name, too_long) for name in limits}
        for timer, limit in limits.values():
            signal.setitimer(timer, limit)
        try:
            yield
        finally:
            for timer, _ in limits.values():
                signal.setitimer(timer, 0)
            for name, handler in before.items():
                signal.signal(name, handler)

    return within


@pytest.fixture
def full_disk() -> Callable[[str, int], AbstractContextManager[None]]:
    """`full_disk("bytes", n)`: the system itself refuses to make a file longer: a real short write, then a real error.
    `full_disk("fsync", n)` and `full_disk("write", n)`: every such call fails, from the one after n others."""

    @contextmanager
    def full_disk(what: str, n: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        with pytest.MonkeyPatch.context() as patch:
            if what == "bytes":
                resource.setrlimit(resource.RLIMIT_FSIZE, (n, hard))
            else:
                real, turns = getattr(os, what), iter(range(n))
                patch.setattr(os, what, lambda *given: refuse() if next(turns, None) is None else real(*given))
            try:
                yield
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def refuse() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return full_disk


# ---- networks and pages ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def adds_without_equals() -> Callable[[int, float], tuple[ModelConfig, Weights]]:
    """Zhong et al.'s kind of network, planted: the prompt is `ab`, and at any attention rate a uniform head
    brings E_a + E_b to the last position, where 16 neurons for each of three frequencies make a pizza of it."""

    def plant(p: int, rate: float) -> tuple[ModelConfig, Weights]:
        model = ModelConfig(d_model=18, n_heads=1, d_head=6, d_mlp=48, prompt="ab", causal=False, attention_rate=rate)
        weights = {name: torch.zeros_like(weight) for name, weight in initial_weights(model, p).items()}
        turns = 2 * torch.pi * torch.arange(p)[:, None] * torch.tensor([1, 2, 3]) / p
        waves = torch.stack([turns.cos(), turns.sin()], 2).flatten(1)  # [p, 6]
        weights["embed.W_E"][:, :6] = waves
        weights["blocks.0.attn.W_V"][0, :6] = torch.eye(6)
        weights["blocks.0.attn.W_O"][0, :, 6:12] = torch.eye(6) / (rate / 2 + 1 - rate)
        angle = torch.arange(16) * 2 * torch.pi / 16
        read, said = (torch.stack([(n * angle).cos(), (n * angle).sin()]) for n in (1, 2))
        for k in range(3):
            weights["blocks.0.mlp.W_in"][6 + 2 * k : 8 + 2 * k, 16 * k : 16 * k + 16] = read
            weights["blocks.0.mlp.W_out"][16 * k : 16 * k + 16, 12 + 2 * k : 14 + 2 * k] = said.T
        weights["unembed.W_U"][12:] = 10 * waves.T
        return model, weights

    return plant


@pytest.fixture(scope="session")
def browser():
    """The system's Chromium, in which pages are tested."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found, "the report is tested in a browser: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def open_page(browser):
    """Opens a report from its file, after a `script` of the test's own, and waits until it is ready. The page remembers
    in `trouble` everything that went wrong in it, and in `requests` every address that was asked for."""

    def open_page(path: Path, address: str = "", script: str = "", **options):
        page = browser.new_page(**({"viewport": {"width": 1200, "height": 900}} | options))
        page.set_default_timeout(120_000)  # plotly takes seconds to start, and a busy machine ten times as long
        page.trouble, page.requests = [], []
        page.on("pageerror", lambda error: page.trouble.append(str(error)))
        page.on(
            "console",
            lambda message: page.trouble.append(message.text) if message.type in ("error", "warning") else None,
        )
        page.on("request", lambda request: page.requests.append(request.url))
        page.add_init_script(script)
        page.goto(path.as_uri() + address)
        page.wait_for_selector("html[data-ready=yes]", state="attached")
        return page

    return open_page


class ReferenceReport(NamedTuple):
    """The page about the reference run, and what it was made of."""

    run: interp.Run
    results: dict[str, xr.Dataset]
    path: Path


@pytest.fixture(scope="session")
def reference_report(tmp_path_factory) -> ReferenceReport:
    from interp.analysis import analyze
    from interp.pages import render

    run = interp.open_run(interp.reference_path())
    results = analyze(run, ["all"])
    path = tmp_path_factory.mktemp("reference") / "report.html"
    path.write_text(render(run, results), encoding="utf-8")
    return ReferenceReport(run, results, path)
