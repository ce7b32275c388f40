"""Checkpoints of a running loop; a resumed run gives the same results bit by bit.

Step t of `loop.run` depends on the state and on `fold_in(key, t)`. So a checkpoint holds the state
(model, optimizer, membership models, teacher), the step, the key and the diagnostics so far; the
position in the data follows from key and step.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.errors import DamagedError
from ltu_jax.files import PART, remove
from ltu_jax.training import hosts
from ltu_jax.training.checkpoint import load_state, save_state
from ltu_jax.training.devices import is_key
from ltu_jax.types import Key, PyTree

AGREE_EVERY = 10  # steps between two agreements of several processes on whether to stop
KEEP = 2  # checkpoints per run; the older one is used if the newer is damaged
# Signals after which a run saves its state: termination, Ctrl-C, and the end of a session.
SIGNALS = (signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))

_log = logging.getLogger(__name__)


class Restored(NamedTuple):
    """Point from which a run continues.

    Attributes:
      step: next step.
      state: before that step.
      infos: diagnostics of every earlier step.
    """

    step: int
    state: PyTree
    infos: list[dict[str, float]]


class Saver:
    """A context in which `loop.run` saves its state and continues from the last checkpoint.

    The state is copied to the host immediately, since the next step may overwrite it, and written
    while later steps run; several processes write it together before they continue. On SIGTERM,
    SIGHUP or Ctrl-C to any process within the context, the run saves after its current step; then
    it exits with code 143 or 129, or raises `KeyboardInterrupt`. A second Ctrl-C raises it at once.

    Args:
      folder: of this run's checkpoints; created if absent.
      config: of the run, such as a digest of its settings; other runs' checkpoints are not used.
      every: steps between two checkpoints.

    Attributes:
      seconds_before: wall time in seconds before the restored checkpoint.

    Example:
      >>> with Saver(folder, "adam, seed 0", every=200) as saver:  # doctest: +SKIP
      ...     state, history = run(step, state, data, key=key, num_steps=1000, saver=saver)
    """

    def __init__(self, folder: Path, config: str, every: int):
        self.seconds_before = 0.0
        self._folder, self._config, self._every = hosts.common(folder), config, every
        self._saved_at = 0
        self._signal = 0
        self._stopping = False
        self._start = time.perf_counter()
        self._writer = ThreadPoolExecutor(1)
        self._writing: Future | None = None

    def __enter__(self) -> Saver:
        self._before = _on_signals(self._note_signal, SIGNALS)
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.shutdown()
        _restore_signals(self._before)
        if error is None:
            self._wait()
            if hosts.in_any(self._signal != 0):
                raise _stopped_by(self._signal)
        elif self._writing is not None and self._writing.exception() not in (None, error):
            _log.warning("the last checkpoint was not written: %s", self._writing.exception())

    def restore(self, like: PyTree, key: Key) -> Restored:
        """Return the newest valid checkpoint, or the initial state.

        Checkpoints that are damaged or of another run are named in a warning and deleted. Several
        processes read the checkpoint that process 0 chooses.

        Args:
          like: initial state, for structure, shapes and types.
          key: of the run.
        """
        if hosts.is_main():
            for part in self._folder.glob(f"{PART}*"):
                remove(part)
        while step := hosts.agree(self._newest()):
            folder = self._checkpoint(step)
            try:
                restored, seconds = _read(folder, self._config, like, key)
            except DamagedError as error:
                if hosts.is_main():
                    _log.warning("checkpoint %s is not used: %s", folder, error)
                    remove(folder)
                continue
            self._saved_at, self.seconds_before = step, seconds
            return restored
        return Restored(0, like, [])

    def due(self, step: int, num_steps: int) -> bool:
        """Return whether to save before step `step`; after the last one only to stop."""
        if jax.process_count() == 1 or step % AGREE_EVERY == 0:
            # Two attributes, since the signal may arrive while the processes are agreeing.
            self._stopping = hosts.in_any(self._signal != 0)
        return self._stopping or (step < num_steps and step - self._saved_at >= self._every)

    def save(self, step: int, state: PyTree, key: Key, infos: list[dict[str, float]]) -> None:
        """Save the state before step `step`.

        Raises:
          OSError: this or the last checkpoint could not be written; earlier ones are unchanged.
          SystemExit: SIGTERM or SIGHUP was received; code 143 or 129.
          KeyboardInterrupt: Ctrl-C was pressed.
        """
        self._wait()
        names = list(infos[0]) if infos else []
        arrays = _host_arrays(state) | {"key": _host(key)}
        if names:
            arrays["infos"] = np.array([[info[name] for name in names] for info in infos])
        about = {
            "config": self._config,
            "step": step,
            "state": _shapes(state),
            "infos": names,
            "seconds": self.seconds_before + time.perf_counter() - self._start,
        }
        self._saved_at = step
        if jax.process_count() > 1:  # collective calls must not overlap
            self._write(step, arrays, about)
        else:
            self._writing = self._writer.submit(self._write, step, arrays, about)
        if self._stopping:
            self._wait()
            _log.warning("stopped by %s; %d steps are saved", _name_of(self._signal), step)
            raise _stopped_by(self._signal)

    def _write(self, step: int, arrays: dict[str, np.ndarray], about: dict[str, Any]) -> None:
        save_state(self._checkpoint(step), arrays, about)
        for old in self._checkpoints()[:-KEEP] if hosts.is_main() else ():
            remove(old)

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()

    def _checkpoint(self, step: int) -> Path:
        return self._folder / f"{step:09d}"

    def _newest(self) -> int:
        return max((int(folder.name) for folder in self._checkpoints()), default=0)

    def _checkpoints(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("*") if path.name.isdigit())

    def _note_signal(self, number: int, frame: Any) -> None:
        if number == signal.SIGINT:
            if self._signal:
                raise KeyboardInterrupt
            _log.warning("Ctrl-C: the run saves its state; press again to stop at once")
        self._signal = number


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Raise `SystemExit` on SIGTERM and SIGHUP, so that files and progress bars are closed."""

    def stop(number: int, frame: Any) -> None:
        raise _stopped_by(number)

    before = _on_signals(stop, [number for number in SIGNALS if number != signal.SIGINT])
    try:
        yield
    finally:
        _restore_signals(before)


def _stopped_by(number: int) -> BaseException:
    """Return what ends the process; 0 is a signal that another process received."""
    if number == signal.SIGINT:
        return KeyboardInterrupt()
    return SystemExit(128 + (number or signal.SIGTERM))


def _name_of(number: int) -> str:
    """Return the name of a signal; 0 is one that another process received."""
    if number == signal.SIGINT:
        return "Ctrl-C"
    return signal.Signals(number or signal.SIGTERM).name


def _on_signals(handler: Any, numbers: Iterable[int]) -> dict[int, Any]:
    """Install a handler and return the previous ones; possible in the main thread only.

    A signal that is ignored stays so: `nohup` and background jobs rely on it.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    caught = [n for n in numbers if signal.getsignal(n) not in (signal.SIG_IGN, None)]
    return {number: signal.signal(number, handler) for number in caught}


def _restore_signals(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)


def _read(folder: Path, config: str, like: PyTree, key: Key) -> tuple[Restored, float]:
    arrays, about = load_state(folder, config)
    if about["step"] != int(folder.name):
        raise DamagedError(f"is the checkpoint of step {about['step']}")
    if about["state"] != _shapes(like) or not np.array_equal(arrays["key"], _host(key)):
        raise DamagedError("holds the state of another run")
    leaves, structure = jax.tree.flatten(like)
    state = [_device(arrays.get(_name(i)), leaf) for i, leaf in enumerate(leaves)]
    rows = arrays["infos"].tolist() if about["infos"] else []
    infos = [dict(zip(about["infos"], row, strict=True)) for row in rows]
    return Restored(about["step"], jax.tree.unflatten(structure, state), infos), about["seconds"]


def _host_arrays(state: PyTree) -> dict[str, np.ndarray]:
    """Return copies of all non-empty leaves; Orbax does not accept empty ones."""
    leaves = enumerate(jax.tree.leaves(state))
    return {_name(i): _host(leaf) for i, leaf in leaves if leaf.size}


def _shapes(state: PyTree) -> list[str]:
    """Return path, type and shape of every leaf."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return [f"{jax.tree_util.keystr(path)} {leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves]


def _name(i: int) -> str:
    return f"leaf_{i:05d}"


def _host(leaf: jax.Array) -> np.ndarray:
    """Return a copy on the host; a JAX array may be a view of device memory."""
    return np.array(jax.random.key_data(leaf) if is_key(leaf) else leaf)


def _device(array: np.ndarray | None, like: jax.Array) -> jax.Array:
    if array is None:
        return like
    if is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(like))
    return jnp.asarray(array)
