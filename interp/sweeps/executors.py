"""Executors for `run_grid` beside the processes of this machine: the tasks of a Ray cluster."""

import contextlib
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any, TypeVar

from interp.errors import InputError, Notice, check_number
from interp.machine import first_line

Result = TypeVar("Result")
Piece = TypeVar("Piece")

SECONDS_TO_CONNECT = 10.0
SECONDS_TO_SAVE = 15.0  # what is cancelled may save its state so long
AHEAD = 2  # tasks handed over for each that has room: whoever joins finds work, and an autoscaler sees that there is
PIECES_AHEAD = 4  # of what a task sends back, before it waits for us


class LostProcessError(BrokenExecutor):
    """The machine or the process that had a task is gone. The task can be given again."""


class RayExecutor(Executor):
    """The tasks of a Ray cluster as `concurrent.futures` has them, each with `cpus` and `gpus` of a machine to itself:

        with RayExecutor("10.0.0.1:6379", shared_disk=False) as cluster:
            run_grid(folder, sweep.runs(), executor=cluster)

    This process runs on a machine of the cluster. Without an address it is the cluster that was started here (or that
    RAY_ADDRESS names), and where there is none, this machine alone. With `shared_disk` every machine has to see the
    folder of the grid under its path; runs are written there, and one whose machine dies goes on from its last state.
    Without, a run is trained in a temporary folder of its machine and sent back when it is at its end, so that one
    whose machine dies begins anew.

    What a machine runs has to be installed there: this version of interp, for one. Ray's tasks run code that whoever
    reaches the cluster sends, unasked: it belongs in a network of its own.

    Raises InputError where Ray is not installed or the cluster cannot be reached.
    """

    def __init__(
        self, address: str | None = None, *, cpus: float = 1, gpus: float = 0, shared_disk: bool = True
    ) -> None:
        check_number("cpus", cpus, 0)
        check_number("gpus", gpus, 0)
        if not cpus and not gpus:
            raise InputError("a task takes some of a machine: cpus or gpus must be greater than 0")
        self.shared_disk = shared_disk
        self._needs = {name: number for name, number in (("CPU", cpus), ("GPU", gpus)) if number}
        self._ray = _ray()
        self._is_ours = not self._ray.is_initialized()
        if self._is_ours:
            self._connect(address)
        self._options: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": 0}
        self._carriers: list[tuple[threading.Thread, _RayFuture]] = []
        if not self._room():
            needs = " and ".join(f"{number:g} {name}" for name, number in self._needs.items())
            warnings.warn(
                f"no machine of the Ray cluster has {needs}; the runs wait until one joins", Notice, stacklevel=2
            )

    def _connect(self, address: str | None) -> None:
        address = address or os.environ.get("RAY_ADDRESS")
        if address is not None:
            _check_reachable(address)
        elif _is_cluster_gone():
            address = "local"  # Ray would wait for the one that it noted
        # Ray would end this process at SIGTERM, which is ours to hear.
        before = signal.getsignal(signal.SIGTERM)
        try:
            self._ray.init(
                address=address,
                log_to_driver=False,
                logging_level="ERROR",
                **({} if address not in (None, "local") else {"include_dashboard": False}),
            )
        except (self._ray.exceptions.RayError, OSError, ValueError, RuntimeError) as error:
            where = f"the Ray cluster at {address}" if address else "a Ray cluster on this machine"
            raise InputError(f"cannot reach {where}: {first_line(error)}") from None
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)

    def _room(self) -> int:
        """How many tasks all machines that live have room for, others' tasks aside."""
        of_machines = (node["Resources"] for node in self._ray.nodes() if node["Alive"])
        return sum(int(min(has.get(name, 0) / number for name, number in self._needs.items())) for has in of_machines)

    @property
    def at_once(self) -> int:
        """How many tasks are worth having submitted now; it follows who joins and who dies."""
        return max(1, AHEAD * self._room())

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        task = self._ray.remote(fn).options(**self._options).remote(*args, **kwargs)
        return self._carried(task, lambda: self._ray.get(task))

    def submit_pieces(
        self, receive: Callable[[Iterator[Piece]], Result], fn: Callable[..., Iterator[Piece]], /, *args: Any
    ) -> Future[Result]:
        """What the generator function `fn` yields elsewhere is given to `receive`, in this process and in a thread of
        its own, as it comes; the future has what that returns."""
        options = {"num_returns": "streaming", "_generator_backpressure_num_objects": PIECES_AHEAD}
        task = self._ray.remote(fn).options(**self._options, **options).remote(*args)
        return self._carried(task, lambda: receive(self._ray.get(piece) for piece in task))

    def _carried(self, task: Any, fetch: Callable[[], Result]) -> Future[Result]:
        """The future of a task, whose result, or error, a thread brings."""
        future = _RayFuture(self._ray, task)
        future.set_running_or_notify_cancel()

        def carry() -> None:
            try:
                result = fetch()
            except BaseException as error:
                if not isinstance(error, self._ray.exceptions.RayError):
                    future.cancel()  # what came was refused, and there may be more to come
                future.set_exception(self._translated(error))
            else:
                future.set_result(result)

        carrier = threading.Thread(target=carry, daemon=True)
        self._carriers = [(one, its) for one, its in self._carriers if one.is_alive()] + [(carrier, future)]
        carrier.start()
        return future

    def _translated(self, error: Any) -> BaseException:
        """An error without Ray's wrapping: that of the function itself, that its process was lost, or in a line what
        Ray says."""
        known = self._ray.exceptions
        if isinstance(error, known.TaskCancelledError):
            return KeyboardInterrupt("the task was cancelled")
        if isinstance(error, known.RayTaskError):
            return error.cause if isinstance(error.cause, BaseException) else error
        lost = (
            *(known.NodeDiedError, known.WorkerCrashedError, known.OutOfMemoryError),
            *(known.ObjectLostError, known.LocalRayletDiedError, known.TaskPlacementGroupRemoved),
        )
        if isinstance(error, lost):
            return LostProcessError(first_line(error))
        return InputError(f"Ray: {first_line(error)}") if isinstance(error, known.RayError) else error

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster, and wait for all tasks before; those that were cancelled have 15 seconds to end."""
        deadline = time.monotonic() + SECONDS_TO_SAVE
        for carrier, future in self._carriers:
            if cancel_futures:
                future.cancel()
            if wait:
                carrier.join(max(0.0, deadline - time.monotonic()) if future.is_cancelled else None)
        if self._is_ours:
            self._ray.shutdown()


class _RayFuture(Future[Any]):
    """Its task can be cancelled while it runs, too: it gets KeyboardInterrupt, and may save what it has."""

    def __init__(self, ray: Any, task: Any) -> None:
        super().__init__()
        self._ray, self._task, self.is_cancelled = ray, task, False

    def cancel(self) -> bool:
        first, self.is_cancelled = not self.is_cancelled, True  # once: Ray has ended us for a task that was over
        if first and not self.done() and self._ray.is_initialized():  # it would begin a cluster of its own
            with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
                self._ray.cancel(self._task)
        return False


def _ray() -> Any:
    # What Ray prints on stdout of machines that come and go reaches us as errors of tasks; it is told nothing of us.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray  # half a second, and it is not there for everybody
    except ImportError:
        raise InputError("a Ray cluster needs Ray; install it with: pip install 'interp[ray]'") from None
    return ray


def _is_cluster_gone() -> bool:
    """Whether Ray has the note of a cluster on this machine at whose address nobody answers any more."""
    from ray._private.utils import read_ray_address

    try:
        _check_reachable(read_ray_address() or "")
    except InputError:
        return True
    return False


def _check_reachable(address: str) -> None:
    """Raises InputError where nobody answers at HOST:PORT: Ray itself would try for minutes."""
    if "://" in address:
        raise InputError(
            f"{address} is the address of a Ray Client, through which runs cannot be trained: start this on a machine "
            "of the cluster, with its HOST:PORT"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return  # "auto", or a name of Ray's own
    try:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"cannot reach a Ray cluster at {address}: {error}; `ray start --head` begins one") from None
