"""Processes that share work hear their parent alone."""

import subprocess
import sys

SPAWNING = """
import signal
from multiprocessing import get_context
from interp.processes import interrupts_held_back

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
    said = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, check=True)
    assert said.stdout.split() == ["True", "True", "False"]
