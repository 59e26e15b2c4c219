"""Speed beside what people use today; `python -m benchmarks` runs all and makes the table in README.md."""

from interp.machine import wait_without_spinning

# before torch is loaded: waiting threads that spin would flatter us, whenever the machine is not idle
wait_without_spinning()
