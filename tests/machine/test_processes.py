"""Processes that share work hear their parent alone."""

import os
import signal
import subprocess
import sys

import pytest

from interp.machine.processes import interrupts_put_off

SPAWNING = """
import signal
from multiprocessing import get_context
from interp.machine.processes import interrupts_held_back

def mask(answer):
    answer.send(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))

if __name__ == "__main__":
    here, there = get_context("spawn").Pipe()
    for _ in range(2):
        process = get_context("spawn").Process(target=mask, args=(there,))
        with interrupts_held_back():
            process.start()
        print(here.recv())
        process.join()
    print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


def test_the_first_process_of_an_interpreter_is_deaf_to_ctrl_c_too_and_its_parent_is_not(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SPAWNING)
    said = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=900, check=True)
    assert said.stdout.split() == ["True", "True", "False"]


@pytest.mark.parametrize(("given", "policy"), [(None, "passive"), ("active", "active")])
def test_torch_is_told_to_wait_without_spinning_unless_the_environment_says_otherwise(given, policy):
    """By the command line, before torch is there to be told."""
    program = """
import os, sys
from interp import cli
from interp.cli import commands
commands.run_command = lambda name, rest: print(os.environ["OMP_WAIT_POLICY"], "torch" in told) or 0
from interp.machine import processes
told, wait = [], processes.wait_without_spinning
processes.wait_without_spinning = lambda: told.extend(sys.modules) or wait()
cli.main(["presets"])
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": given} if given else {}
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert said.stdout.split() == [policy, "False"]


def test_an_interrupt_that_is_put_off_comes_at_the_end() -> None:
    """The wait of an executor holds locks that its own thread needs to end."""
    reached = []

    def interrupted() -> None:
        with interrupts_put_off():
            signal.raise_signal(signal.SIGINT)
            reached.append("the end")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert reached == ["the end"]
    with interrupts_put_off():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
