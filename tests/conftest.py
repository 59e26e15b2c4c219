"""Before anything imports interp: check every annotation, shapes included, while the tests run; and one thread for
small models."""

import inspect
import shutil
import signal
from collections.abc import Callable
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
from interp.experiment import Samples  # noqa: E402
from interp.models import Weights, initial_weights  # noqa: E402

# These check what they are given themselves, with errors for a person, which a type checker in front of them would
# hide.
for configuration in (Task, Samples, ModelConfig, TrainingConfig):
    configuration.__init__ = inspect.unwrap(configuration.__init__)

torch.set_num_threads(1)
# What a shell starts in the background ignores Ctrl-C, and so does all that it starts; some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def run(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sound run that a file of tests has as its `original`, called `run` in the folder we stand in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("interp.cli.progress.LINE_INTERVAL_SECONDS", 1000)  # a busy machine has more to say
    return Path(shutil.copytree(original, "run"))


@pytest.fixture(scope="session")
def adds_without_equals() -> Callable[[int, float], tuple[ModelConfig, Weights]]:
    """Zhong et al.'s kind of network, planted: the prompt is `ab`, and at any attention rate a uniform head brings E_a
    + E_b to the last position, where 16 neurons for each of three frequencies make a pizza of it."""

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
    results = analyze(run)
    path = tmp_path_factory.mktemp("reference") / "report.html"
    path.write_text(render(run, results), encoding="utf-8")
    return ReferenceReport(run, results, path)
