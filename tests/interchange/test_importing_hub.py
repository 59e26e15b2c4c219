"""Imports from the Hugging Face Hub, against a server on this machine that answers as it does."""

import hashlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import safetensors.torch
import torch

import interp
from interp.cli import main
from interp.errors import InputError
from interp.interchange import import_run
from interp.interchange.importing import hub
from interp.runs import open_run

Repository = dict[str, dict[str, bytes]]  # revision → file → content


class Server:
    """Repositories, and what was asked for."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.sizes: dict[str, int] = {}  # that are listed in place of the true ones
        self.fetched: list[str] = []
        self.told: dict[str, str] = {}  # headers of files, and fields of listings, in place of the true ones

    def commit(self, repository: str, revision: str) -> str:
        return hashlib.sha1(f"{repository}@{revision}".encode()).hexdigest()

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        path = path.partition("?")[0].strip("/")
        parts = path.split("/")
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if name not in self.repositories:
            return 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, b"{}"
        revisions = self.repositories[name]
        if parts[0] == "api":
            if parts[4:] == ["refs"]:
                branches = [{"name": one, "ref": f"refs/heads/{one}", "targetCommit": "0"} for one in revisions]
                return 200, {}, json.dumps({"branches": branches, "converts": [], "tags": []}).encode()
            revision = parts[5] if parts[4:5] == ["revision"] else "main"
            if revision not in revisions:
                return (
                    404,
                    {"X-Error-Code": "RevisionNotFound", "X-Error-Message": f"Invalid rev id: {revision}"},
                    b"{}",
                )
            files = [
                {"rfilename": file, "size": self.sizes.get(file, len(content)), "blobId": "0"}
                for file, content in revisions[revision].items()
            ]
            said = {"id": name, "sha": self.commit(name, revision), "siblings": files, "private": False, **self.told}
            return 200, {}, json.dumps(said).encode()
        commit, file = parts[3], "/".join(parts[4:])
        revision = next(one for one in revisions if self.commit(name, one) == commit)
        content = revisions[revision][file]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(content).hexdigest()}"', **self.told}
        return 200, headers, content


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    there = Server()

    class Handler(BaseHTTPRequestHandler):
        def reply(self, *, whole: bool) -> None:
            status, headers, content = there.answer(self.path)
            if whole and "/resolve/" in self.path:
                there.fetched.append(self.path.partition("/resolve/")[2].partition("/")[2])
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            if whole:
                self.wfile.write(content)

        def do_GET(self) -> None:
            self.reply(whole=True)

        def do_HEAD(self) -> None:
            self.reply(whole=False)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    at_home(monkeypatch, tmp_path, f"http://127.0.0.1:{server.server_port}")
    yield there
    server.shutdown()
    server.server_close()
    thread.join()


def at_home(monkeypatch: pytest.MonkeyPatch, folder: Path, endpoint: str) -> None:
    """The client asks this machine, and keeps its cache in a folder of the test."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(folder / "token"))


def safe(step: int) -> bytes:
    return safetensors.torch.save(interp.open_run(interp.reference_path())[step].weights)


OTHERS = {"README.md": b"# grokking", "modeling.py": b"import os; os.mkdir('executed')", "tokenizer.json": b"{}"}


def test_a_repository_is_imported_by_its_name(server: Server, capsys: pytest.CaptureFixture):
    known = {"prime": 43, "act_fn": "relu"}
    server.repositories["me/grokked"] = {
        "main": {
            **OTHERS,
            "config.json": json.dumps(known).encode(),
            "checkpoint-1000/model.safetensors": safe(1000),
            "checkpoint-1000/pytorch_model.bin": b"the same, in another format",
            "checkpoint-1000/optimizer.pt": b"not wanted",
            "checkpoint-3000/model.safetensors": safe(3000),
        }
    }
    assert main(["import", "hf://me/grokked", "--out", "run"]) == 0
    output = capsys.readouterr()
    commit = server.commit("me/grokked", "main")
    assert output.err.splitlines() == [
        "hf://me/grokked: 3 files, 124.4 kB, into the cache of the Hub",
        "main: 3 files, 124.4 kB of 124.4 kB",
    ]
    assert f"note         from hf://me/grokked@main, commit {commit}" in output.out
    assert 'config.json says: p 43, activation "relu"' in output.out
    assert sorted(server.fetched) == [
        "checkpoint-1000/model.safetensors",
        "checkpoint-3000/model.safetensors",
        "config.json",
    ]
    run = open_run("run")
    assert run.steps == [1000, 3000]
    assert run.info["imported"]["hub"] == [{"repository": "me/grokked", "revision": "main", "commit": commit}]
    # What is in the cache is not fetched again.
    assert import_run("hf://me/grokked@main", "again").steps == [1000, 3000]
    assert len(server.fetched) == 3
    assert not Path("executed").exists()


def test_revisions_called_steps_are_a_series(server: Server, capsys: pytest.CaptureFixture):
    steps = (1000, 2000, 3000)
    server.repositories["me/steps"] = {
        "main": {"model.safetensors": safe(3000)},
        **{f"step{step}": {"model.safetensors": safe(step)} for step in steps},
    }
    lines: list[str] = []
    run = import_run(Path("hf://me/steps"), "run", say=lines.append)
    assert run.steps == list(steps)
    assert lines[0] == "hf://me/steps: 3 revisions called steps are the series; @main would name that of main"
    assert [one["revision"] for one in run.info["imported"]["hub"]] == ["step1000", "step2000", "step3000"]
    assert import_run("hf://me/steps@step2000", "one").steps == [-1]
    assert main(["import", "hf://me/steps@step2000", "--dry-run"]) == 0
    assert "layout 'transformer-lens'" in capsys.readouterr().out


def test_a_folder_of_a_repository_and_runs_that_are_named(server: Server):
    server.repositories["me/runs"] = {
        "main": {f"{run}/step_{step}.safetensors": safe(step) for run in "AB" for step in (1000, 3000)}
    }
    with pytest.raises(InputError, match=r"holds 2 runs: hf://me/runs/A, hf://me/runs/B; name one of them"):
        import_run("hf://me/runs", "run")
    assert import_run("hf://me/runs@main/B", "run").steps == [1000, 3000]
    assert set(server.fetched) == {"B/step_1000.safetensors", "B/step_3000.safetensors"}


def test_more_than_is_downloaded_without_a_word(server: Server):
    server.repositories["big/model"] = {"main": {"model.safetensors": safe(3000)}}
    server.sizes["model.safetensors"] = 9_000_000_000
    with pytest.raises(
        InputError,
        match=r"would download 1 files, 9.0 GB, more than 5,000 files or 4.0 GB; name one revision or folder, "
        r"hf://big/model@REVISION/FOLDER, or download what you want \(hf download big/model",
    ):
        import_run("hf://big/model", "run")
    server.sizes["model.safetensors"] = 7
    with pytest.raises(InputError, match=r"'model.safetensors' has [\d,]+ bytes, and 7 were listed|Consistency"):
        import_run("hf://big/model", "run")
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("hf://no/thing", "hf://no/thing: there is no such repository on the Hub, or it is private: hf auth login"),
        ("hf://me/net@v9", "hf://me/net@v9: there is no such revision of it on the Hub"),
        (
            "hf://me/flax",
            r"hf://me/flax has no weights that are read here .* among its 1 files; its .msgpack is a Flax",
        ),
        ("hf://me", "'hf://me' is no address on the Hub, expected hf://OWNER/NAME"),
        ("hf://me/../../etc", "is no address on the Hub"),
        ("hf://me/evil", "hf://me/evil has no weights that are read here"),
    ],
)
def test_what_cannot_be_had(server: Server, address: str, expected: str):
    server.repositories["me/net"] = {"main": {"model.safetensors": safe(3000)}}
    server.repositories["me/flax"] = {"main": {"flax_model.msgpack": b"\x81"}}
    server.repositories["me/evil"] = {"main": {"../../evil.safetensors": safe(3000), "a\n.pt": b""}}
    with pytest.raises(InputError, match=expected) as caught:
        import_run(address, "run")
    assert "\n" not in str(caught.value)
    assert server.fetched == []


def test_code_in_a_file_of_the_hub_is_named_and_never_executed(server: Server):
    class Malicious:
        def __reduce__(self) -> tuple:
            return os.mkdir, ("executed",)

    torch.save({"model": Malicious()}, "bad.pt")
    server.repositories["me/bad"] = {"main": {"model.pt": Path("bad.pt").read_bytes()}}
    with pytest.raises(InputError, match=r"would run 'posix.mkdir'.* nothing of it was executed"):
        import_run("hf://me/bad", "run")
    assert not Path("executed").exists()


def test_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        at_home(monkeypatch, tmp_path, f"http://127.0.0.1:{nobody.getsockname()[1]}")
        assert main(["import", "hf://me/net", "--out", "run"]) == 2
    assert capsys.readouterr().err == (
        "interp: hf://me/net: the Hub cannot be reached from here; download it elsewhere (hf download OWNER/NAME "
        "--local-dir FOLDER) and import that folder\n"
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert main(["import", "hf://me/net", "--out", "run"]) == 2
    assert "the Hub cannot be reached from here" in capsys.readouterr().err
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    assert main(["import", "hf://me/net", "--out", "run"]) == 2
    assert capsys.readouterr().err == (
        "interp: hf:// needs huggingface_hub; install it with: pip install 'interp[hub]'\n"
    )


def test_what_is_no_address():
    assert not hub.is_on_the_hub("theirs/hf/net.pt")
    with pytest.raises(InputError, match="there is no file or folder"):
        import_run("theirs/hf/net.pt", "run")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"sha": "../../../escaped"}, r"gave '../../../escaped' as a commit, expected 40 hexadecimal digits"),
        ({"sha": None}, r"gave 'None' as a commit"),
        ({"ETag": '"../../../../escaped"'}, r"the tag of 'model.safetensors' on the Hub is '../../../../escaped'"),
        ({"X-Linked-Etag": '"../../../escaped"'}, r"the tag of 'model.safetensors' on the Hub is '../../../escaped'"),
        ({"X-Repo-Commit": "../../escaped"}, r"'model.safetensors' on the Hub is of commit '../../escaped', not"),
        ({"siblings": [{"rfilename": 5, "size": 1}]}, r"the Hub listed '5' of 1 bytes, expected files and sizes"),
        ({"siblings": [{"rfilename": "a.pt", "size": -1}]}, r"the Hub listed 'a.pt' of -1 bytes"),
        ({"siblings": [{"rfilename": "a.pt", "size": "x"}]}, r"the Hub listed 'a.pt' of x bytes"),
    ],
)
def test_a_server_does_not_lead_out_of_the_cache(server: Server, told: dict, expected: str):
    server.repositories["me/evil"] = {"main": {"model.safetensors": safe(3000)}}
    server.told = told
    before = set(Path().resolve().parent.rglob("*escaped*"))
    with pytest.raises(InputError, match=expected):
        import_run("hf://me/evil", "run")
    assert set(Path().resolve().parent.rglob("*escaped*")) == before
    assert not any(path.is_file() and path.stat().st_size > 1000 for path in Path("cache").rglob("*"))
