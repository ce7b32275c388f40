"""The next request of a model: from a finished run's unlearned network on, without its past.

Each run of a chain has a folder of its own. It knows what was forgotten before (`past.npz`), goes
on with the ledger, and leaves in its parent's folder a note of where the chain goes on
(`continued.json`), so that no two requests go on from the same network without knowing each other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import ltu_jax.files as durable
import ltu_jax.runs.sequential.ledger as ledger
import ltu_jax.data.history as pasts
import ltu_jax.runs.settings as saved
import ltu_jax.runs.tuning as selection
import ltu_jax.unlearners as unlearners
from ltu_jax.errors import InputError
from ltu_jax.data.history import Past
from ltu_jax.runs.pipeline import Result, carry_out, check_asked
from ltu_jax.runs.plan import Plan, make_folder, make_plan
from ltu_jax.runs.progress import Log
from ltu_jax.data.request import Request
from ltu_jax.runs.folder import SAVE_EVERY, Running
from ltu_jax.runs.settings import (Asked, load_plan, read_settings, save_request, save_settings)
from ltu_jax.training import hosts
from ltu_jax.types import Dataset, Model
from ltu_jax.unlearners.base import Method
from ltu_jax.unlearners.parameter_subset import Only

CONTINUED = "continued.json"


def unlearn_next(
    run: str | os.PathLike,
    forget: Request | str | os.PathLike | Iterable,
    *,
    method: str | Method | None = None,
    config: Any = None,
    only: Only | None = None,
    retain_fraction: float | None = None,
    reference: Literal["retrain", "none"] = "retrain",
    trials: int | None = None,
    select: selection.Rule = "oracle_free",
    data: Dataset | None = None,
    model: Model | None = None,
    out: str | os.PathLike | None = None,
    quiet: bool = False,
    log: Log = "text",
    tensorboard: bool = False,
    wandb: str | None = None,
    save_every: int = SAVE_EVERY,
    devices: int | None = None,
    served: tuple[str, ...] = (),
    command: str = "ltu_jax.unlearn_next(...)",
) -> Result:
    """Answer the next request, from the network that a run has left.

    Data, network, training recipe and seed are the run's. What was forgotten so far is in no set of
    this run: neither in what the method sees, nor in the report's retain set, nor in what Retrain
    is trained on. Validation and test are the first run's, and the method goes on seeing the same
    accessible share, less what is forgotten of it.

    Args:
      run: folder of the finished run to go on from.
      forget: as for `pipeline.unlearn`, of what is left of the training set; there is no default.
      method: another method than the run's; also the run's, where that was made in Python.
      config: the method's options; None takes the run's, or the defaults of another method.
      only: which parameters may move; None takes the run's.
      retain_fraction: draws the share that the method may see anew.
      reference: as for `pipeline.unlearn`, and so for all others that are not named here.
      trials: how many options are tried; None takes `config`.
      select: the rule they are chosen by.
      data: the data set, where the run was given one made in Python.
      model: the network, likewise.
      out: folder of the new run.
      quiet: show no progress.
      log: as for `pipeline.unlearn`.
      tensorboard: also write every step for TensorBoard.
      wandb: as for `pipeline.unlearn`.
      save_every: steps between two checkpoints of the running state.
      devices: how many share the work.
      served: names of the queued requests that this one answers, for the ledger.
      command: what the report names as the way to make it again.

    Returns:
      See `pipeline.Result`; the row `original` is the network that the run had left.

    Raises:
      InputError: the run is not finished or was gone on from already, its ledger is not what was
        written, an id was forgotten before, or anything else is wrong; nothing was computed.
      DivergedError: training or unlearning became NaN.

    Example:
      >>> import ltu_jax
      >>> ltu_jax.unlearn_next("runs/digits-ltu-001", ["17", "41"])  # doctest: +SKIP
    """
    run = Path(run)
    if forget is None:
        raise InputError(f"--run {run}: says from where, not whom to forget; give a --forget-*")
    asked = Asked(command, trials, select, tensorboard, save_every, devices, wandb, served)
    check_asked(asked, out, config, reference)
    settings = read_settings(run, "finished run", "--run")
    given = {
        "data": settings["data"] or data,
        "model": settings["model"] or model,
        "method": method or settings["method"],
    }
    own = method if isinstance(method, Method) else None
    parent = load_plan(run, data=data, model=model, method=own, argument="--run")
    check_not_continued(run)
    ledger.verify(run, argument="--run")
    same = method is None or unlearners.find(method).name == parent.method.name
    past = past_after(run, parent, redraw=retain_fraction is not None)
    plan = make_plan(
        given["data"],
        forget,
        model=given["model"],
        method=given["method"],
        config=parent.config if config is None and trials is None and same else config,
        only=_kept(parent) if only is None else only,
        checkpoint=run / "unlearned",
        retain_fraction=settings["retain_fraction"] if retain_fraction is None else retain_fraction,
        reference=reference,
        recipe=parent.recipe,
        seed=parent.seed,
        data_dir=settings["data_dir"],
        train_size=settings["train_size"],
        stream=settings.get("stream", False),
        past=past,
    )
    folder = make_folder(out, f"{plan.dataset.name}-{plan.method.name}")
    running = Running(folder)
    running.begin()
    if hosts.is_main():
        ledger.copy(run, running.folder)
    pasts.save(folder, past)
    save_request(plan, folder)
    save_settings(
        plan,
        folder,
        **given,
        data_dir=settings["data_dir"],
        train_size=settings["train_size"],
        stream=settings.get("stream", False),
        checkpoint=run / "unlearned",
        asked=asked,
    )
    if hosts.is_main():
        note_continued(run, folder)
    return carry_out(plan, folder, asked, quiet=quiet, log=log)


def _kept(parent: Plan) -> Only | None:
    """Return which parameters the run's own method could move, by their paths."""
    return None if parent.only is None else set(parent.only).__contains__


def method_of(run: Path) -> str:
    """Return the name of a run's method, where it has one that options could be read for."""
    name = read_settings(run, "finished run", "--run")["method"]
    if name is None:
        raise InputError(f"--run {run}: its method was made in Python; go on from there")
    return name


def past_after(run: Path, plan: Plan, *, redraw: bool = False) -> Past:
    """Return the past of the request after that of `run`, whose plan is given.

    With `redraw` the share that the method may see is to be drawn anew.
    """
    past = pasts.load(run)
    total = len(plan.dataset.train.labels) + (0 if past is None else len(past.forgotten))
    return pasts.after(past, plan.split, total, redraw=redraw)


def continued(run: Path) -> Path | None:
    """Return the folder of the run that goes on from `run`, or None if no such run is there."""
    try:
        name = json.loads((run / CONTINUED).read_text(encoding="utf-8"))["run"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{run / CONTINUED}: is damaged ({error}); restore or delete it"
        ) from error
    folder = Path(os.path.normpath(run / name))
    return folder if (folder / saved.SETTINGS).exists() else None


def newest(run: Path) -> Path:
    """Return the last run of the chain that `run` is a part of."""
    while (after := continued(run)) is not None:
        run = after
    return run


def check_not_continued(run: Path) -> None:
    """Raise `InputError` if another run goes on from `run`; both would not know each other."""
    last = newest(run)
    if last == run:
        return
    if Running(last).under_way():
        raise InputError(
            f"--run {run}: run {last} goes on from it and is not finished; "
            f"finish it with ltu unlearn --resume {last}"
        )
    raise InputError(
        f"--run {run}: was gone on from already; give --run {last}, or delete {run / CONTINUED} "
        "for a branch that does not know what that run has forgotten"
    )


def note_continued(run: Path, folder: Path) -> None:
    """Write into the folder of `run` that the chain goes on in `folder`."""
    content = {"run": os.path.relpath(folder.resolve(), run.resolve())}
    durable.write(run / CONTINUED, json.dumps(content).encode())
