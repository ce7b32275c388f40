"""The next request of a model: from the unlearned model of a finished run, with its history.

Each run of a sequence has its own folder. `history.npz` holds what was forgotten before. The run
extends the ledger, and writes `continued.json` into the folder of the run before it, so that no two
requests start from the same model without knowing of each other.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import ltu_jax.data.history as histories
import ltu_jax.files as files
import ltu_jax.runs.sequential.ledger as ledger
import ltu_jax.unlearners as unlearners
from ltu_jax.errors import InputError
from ltu_jax.runs import lock
from ltu_jax.runs.calls import as_call
from ltu_jax.runs.folder import RunFolder, RunState, new_run
from ltu_jax.runs.loading import load_plan, save_plan
from ltu_jax.runs.pipeline import Result, carry_out, check_start
from ltu_jax.runs.plan import Forget, Plan, make_plan
from ltu_jax.runs.progress import Log
from ltu_jax.runs.sequential.earlier import dated
from ltu_jax.runs.spec import SAVE_EVERY, InMemory, Reference, Rule, separate
from ltu_jax.training import hosts
from ltu_jax.types import Dataset, Model
from ltu_jax.unlearners.base import Method
from ltu_jax.unlearners.parameter_subset import Only


def unlearn_next(
    run: str | os.PathLike,
    forget: Forget,
    *,
    method: str | Method | None = None,
    config: Any = None,
    only: Only | None = None,
    retain_fraction: float | None = None,
    reference: Reference = "retrain",
    retrain: Any = None,
    trials: int | None = None,
    select: Rule = "oracle_free",
    data: Dataset | None = None,
    model: Model | None = None,
    out: str | os.PathLike | None = None,
    quiet: bool = False,
    log: Log = "text",
    tensorboard: bool = False,
    wandb: str | None = None,
    save_every: int = SAVE_EVERY,
    devices: int | None = None,
    completed: tuple[str, ...] = (),
    command: str | None = None,
) -> Result:
    """Complete the next request, starting from the unlearned model of a finished run.

    Data, model, training recipe and seed are the run's. Examples forgotten before are in no set of
    this run: the method, the report's retain set and Retrain's training set exclude them.
    Validation and test sets are the first run's. The method keeps its accessible share, except what
    is forgotten of it.

    Args:
      run: the folder of the finished run to continue from.
      forget: as for `pipeline.unlearn`, out of the remaining training set; it has no default.
      method: another method than the run's; also the run's, if that was made in Python.
      config: the method's options; None takes the run's, or the defaults of another method.
      only: the parameters that may change; None takes the run's.
      retain_fraction: share of the retain set that the method may see, drawn from scratch.
      retrain: as for `pipeline.unlearn`; not taken from the run.
      reference: this and all arguments not named here are as for `pipeline.unlearn`.
      trials: number of trials that tune the options.
      select: rule by which a trial is chosen.
      data: the data set, if it was made in Python.
      model: the model, if it was made in Python.
      out: folder of the new run.
      quiet: show no progress.
      log: format of the progress.
      tensorboard: also write every step for TensorBoard.
      wandb: project of Weights & Biases that receives every step.
      save_every: steps between two checkpoints.
      devices: number of devices that share each step.
      completed: names of the queued requests that this run completes, for the ledger.
      command: how the report says that the run was started; None writes this call.

    Returns:
      See `pipeline.Result`; `original` is the unlearned model of `run`.

    Raises:
      InputError: the run is unfinished or was continued before, its ledger is not what was written,
        an id was forgotten before, or an argument is wrong; nothing was computed.
      DivergedError: training or unlearning became NaN.

    Example:
      >>> import ltu_jax
      >>> ltu_jax.unlearn_next("runs/digits-ltu-001", ["17", "41"])  # doctest: +SKIP
    """
    command = as_call(unlearn_next, locals()) if command is None else command
    folder = RunFolder(run)
    if forget is None:
        raise InputError("forget", "is missing", "say which examples to forget next")
    changes, given = separate(method=method, config=config, only=only, retrain=retrain)
    parent = load_plan(run, InMemory(data, model, method=given.method))
    check_not_continued(folder)
    lock.check_free(folder.path, "run")
    ledger.verify(folder)
    same_method = method is None or unlearners.find(method).name == parent.method.name
    if config is None and trials is None and same_method:
        given = given._replace(config=parent.config)
    made = [name for name in parent.spec.in_python if name in ("data", "model")]
    made += changes.pop("in_python")
    if method is None:
        changes.pop("method")
    if only is None:
        changes.pop("only")
    spec = replace(
        parent.spec,
        **changes,
        options={},
        checkpoint=str(folder.unlearned),
        reference=reference,
        trials=trials,
        select=select,
        save_every=save_every,
        devices=devices,
        tensorboard=tensorboard,
        wandb=wandb,
        completed=completed,
        command=command,
        in_python=tuple(made),
    )
    if retain_fraction is not None:
        spec = replace(spec, retain_fraction=retain_fraction)
    objects = given._replace(data=data, model=model)
    check_start(spec, objects, out)
    history = history_after(folder, parent, redraw=retain_fraction is not None)
    total = len(parent.dataset.train.labels) + len(history.forgotten) - len(parent.split.forget)
    with dated(folder, total):
        plan = make_plan(spec, forget, objects, history=history)
    return _start(plan, history, folder, out, quiet=quiet, log=log)


def _start(
    plan: Plan,
    history: histories.DeletionHistory,
    parent: RunFolder,
    out: str | os.PathLike | None,
    *,
    quiet: bool,
    log: Log,
) -> Result:
    with ExitStack() as parent_claim:
        parent_claim.enter_context(lock.claim(parent.path, "run"))
        check_not_continued(parent)  # another process may have been faster
        with new_run(out, f"{plan.dataset.name}-{plan.method.name}") as folder:
            state = RunState(folder)
            state.begin()
            if hosts.is_main():
                ledger.copy(parent, state.folder.running)
            histories.save_history(folder.history, history)
            save_plan(plan, folder)
            if hosts.is_main():
                note_continued(parent, folder)
            parent_claim.close()
            return carry_out(plan, folder, quiet=quiet, log=log)


def history_after(
    folder: RunFolder, plan: Plan, *, redraw: bool = False
) -> histories.DeletionHistory:
    """Return the deletion history after a run.

    Args:
      folder: the folder of the run.
      plan: its plan.
      redraw: whether the next request draws the accessible share from scratch.
    """
    history = histories.load_history(folder.history)
    total = len(plan.dataset.train.labels) + (0 if history is None else len(history.forgotten))
    return histories.extend(history, plan.split, total, redraw=redraw)


def continued(folder: RunFolder) -> RunFolder | None:
    """Return the run that continues from `folder`, or None if there is none."""
    path = folder.continued
    try:
        name = json.loads(path.read_text(encoding="utf-8"))["run"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("run", f"{path} is damaged ({error})", "restore or delete it") from error
    after = RunFolder(os.path.normpath(folder.path / name))
    return after if after.spec.exists() else None


def newest(run: str | os.PathLike) -> RunFolder:
    """Return the last run of the sequence that a run belongs to."""
    folder = RunFolder(run)
    while (after := continued(folder)) is not None:
        folder = after
    return folder


def check_not_continued(folder: RunFolder) -> None:
    """Raise `InputError` if another run continues from this one."""
    last = newest(folder)
    if last.path == folder.path:
        return
    if last.is_unfinished():
        lock.check_free(last.path, "run")
        raise InputError(
            "run",
            f"{folder} is continued by {last}, which is unfinished",
            f"finish {last} with `resume`",
        )
    raise InputError(
        "run",
        f"{folder} was continued before",
        f"give {last}, or delete {folder.continued} to branch off from here",
    )


def note_continued(folder: RunFolder, after: RunFolder) -> None:
    """Write into `folder` that the sequence continues in `after`."""
    content = {"run": os.path.relpath(after.path.resolve(), folder.path.resolve())}
    files.write(folder.continued, json.dumps(content).encode())
