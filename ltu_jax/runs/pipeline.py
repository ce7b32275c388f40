"""A deletion, end to end: request, model, unlearning, audit, report, as one readable function."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import ltu_jax.data.request as requests
import ltu_jax.runs.tuning as selection
import ltu_jax.runs.stages as stages
import ltu_jax.unlearners as unlearners
from ltu_jax.audit.summary import Row
from ltu_jax.errors import InputError, check_integer
from ltu_jax.audit.measure import measure
from ltu_jax.unlearners.ltu import diagnostics as diagnosis
from ltu_jax.runs.plan import Plan, check_folder, make_folder, make_plan, with_method
from ltu_jax.runs.progress import Log, Progress, check_installed, open_trackers
from ltu_jax.runs.recording import record
from ltu_jax.runs.results import report_content
from ltu_jax.report import sentences as words
from ltu_jax.report import write as report
from ltu_jax.report.read import read_content
from ltu_jax.runs.folder import SAVE_EVERY, Running
from ltu_jax.runs.settings import (Asked, load_unfinished, save_chosen, save_request, save_settings)
from ltu_jax.training import hosts
from ltu_jax.training.loop import History
from ltu_jax.training.devices import over_devices
from ltu_jax.training.resume import exit_on_sigterm
from ltu_jax.training.supervised import Recipe
from ltu_jax.types import Dataset, Model, Split, Variables
from ltu_jax.unlearners.base import Method
from ltu_jax.unlearners.parameter_subset import Only

_log = logging.getLogger(__name__)


class Result(NamedTuple):
    """What a deletion leaves.

    Attributes:
      folder: of the run: checkpoints, report, scores, metrics.
      unlearned: parameters and model state of the unlearned network.
      model: the network as pure functions of raw inputs.
      rows: one per audited network, gaps to Retrain included where there is one.
      split: which examples played which part.
      history: per-step diagnostics of the method.
    """

    folder: Path
    unlearned: Variables
    model: Model
    rows: list[Row]
    split: Split
    history: History

    @property
    def verdict(self) -> str:
        """The sentence that the report begins its results with."""
        return words.verdict(read_content(self.folder)).sentence


def unlearn(
    data: str | Dataset = "digits",
    forget: requests.Request | str | os.PathLike | Iterable | None = None,
    *,
    model: Any = None,
    params: Any = None,
    method: str | Method = "ltu",
    config: Any = None,
    only: Only | None = None,
    checkpoint: str | os.PathLike | None = None,
    retain_fraction: float = 0.3,
    reference: Literal["retrain", "none"] = "retrain",
    trials: int | None = None,
    select: selection.Rule = "oracle_free",
    recipe: Recipe | None = None,
    epochs: int | None = None,
    seed: int = 0,
    out: str | os.PathLike | None = None,
    data_dir: str | None = None,
    train_size: int | None = None,
    stream: bool = False,
    quiet: bool = False,
    log: Log = "text",
    tensorboard: bool = False,
    wandb: str | None = None,
    save_every: int = SAVE_EVERY,
    devices: int | None = None,
    command: str = "ltu_jax.unlearn(...)",
) -> Result:
    """Unlearn training examples, audit the result and write the report.

    A run that is stopped, at any moment and in any way, is gone on with by `resume`. SIGTERM has it
    save its state, and ends the process with code 143.

    Args:
      data: `"digits"`, a TFDS name, `"package.module:function"`, or a `Dataset` from
        `ltu_jax.from_arrays`.
      forget: a request from `by_ids`, `by_class`, `by_group` or `by_fraction`, or the ids
        themselves, or a file of ids; `None` forgets a random tenth.
      model: a name in `ltu_jax.models.MODELS`, `"package.module:function"`, or a network of yours:
        a Linen module, a class or function that makes an NNX module of `nnx.Rngs`, or a `Model`.
        `None` takes `mlp` for tables and images below 16 pixels, else `cnn`.
      params: the trained network to start from, in memory: an NNX module, Linen variables, or the
        pytree of parameters of a network without state; `None` trains one, or reads `checkpoint`.
      method: a name in `ltu_jax.unlearners.METHODS`, `"package.module:OBJECT"`, or a `Method` of
        your own.
      config: the method's options, such as `LTUConfig(steps=100)`; `None` takes its defaults.
      only: unlearn these parameters alone: a pattern over their paths such as `"head/*"`, several,
        or a function from a path to whether it is chosen. All others come out equal to the bit.
      checkpoint: an exported network to start from; `None` trains the original.
      retain_fraction: share of the retain set that the method may see.
      reference: `"retrain"` also trains two networks without the forget set, to compare with.
      trials: choose the method's options among so many (`ltu_jax.runs.tuning`); None takes `config`.
      select: `"oracle_free"` chooses without Retrain, `"oracle"` by the gap to it.
      recipe: how original and references are trained; `None` takes the model's own.
      epochs: passes over the data when training, in place of the recipe's.
      seed: of subset, splits and all training.
      out: folder of the run, new or empty; `None` makes a fresh one under `runs/`.
      data_dir: where TFDS keeps its data.
      train_size: train on a stratified subset of this size.
      stream: leave the training images on disk, for TFDS sets that no memory holds. What the method
        sees (the forget set, the accessible share) and the held-out set are in memory all the same.
      quiet: show no progress.
      log: `"json"` writes progress to stdout as one JSON object a line, in place of bars.
      tensorboard: also write every step for TensorBoard, into the run's folder.
      wandb: also send every step to this project of Weights & Biases.
      save_every: steps between two checkpoints of the running state.
      devices: how many share the work of every step; None takes all. Their number changes the
        results by rounding alone.
      command: what the report names as the way to make it again.

    Returns:
      See `Result`.

    Raises:
      InputError: something asked for is wrong; nothing was computed or written.
      DivergedError: training or unlearning became NaN; what had been written stays.

    Example:
      >>> import ltu_jax
      >>> result = ltu_jax.unlearn("digits", ltu_jax.by_class(3))  # doctest: +SKIP
      >>> result.folder / "report.html"  # doctest: +SKIP
    """
    asked = Asked(command, trials, select, tensorboard, save_every, devices, wandb)
    check_asked(asked, out, config, reference)
    plan = make_plan(
        data,
        forget,
        model=model,
        params=params,
        method=method,
        config=config,
        only=only,
        checkpoint=checkpoint,
        retain_fraction=retain_fraction,
        reference=reference,
        recipe=recipe,
        epochs=epochs,
        seed=seed,
        data_dir=data_dir,
        train_size=train_size,
        stream=stream,
    )
    folder = make_folder(out, f"{plan.dataset.name}-{plan.method.name}")
    Running(folder).begin()
    save_request(plan, folder)
    save_settings(
        plan,
        folder,
        data=data,
        model=model,
        method=method,
        data_dir=data_dir,
        train_size=train_size,
        stream=stream,
        checkpoint=checkpoint,
        asked=asked,
    )
    return carry_out(plan, folder, asked, quiet=quiet, log=log)


def resume(
    folder: str | os.PathLike,
    *,
    data: Dataset | None = None,
    model: Any = None,
    method: Method | None = None,
    quiet: bool = False,
    log: Log = "text",
) -> Result:
    """Go on with a run that was stopped; the result is that of a run which never was.

    Networks that are finished are not made again. Whatever is damaged is named in a warning and
    made again.

    Args:
      folder: of the run.
      data: the data set, where the run was given one made in Python; so for the next two.
      model: the network.
      method: the method.
      quiet: show no progress.
      log: as for `unlearn`.

    Returns:
      See `Result`.

    Raises:
      InputError: there is no run to go on with, or its data are no longer what they were.
      DivergedError: training or unlearning became NaN.

    Example:
      >>> import ltu_jax
      >>> result = ltu_jax.resume("runs/digits-ltu-001")  # doctest: +SKIP
    """
    folder = Path(folder)
    plan, asked = load_unfinished(folder, data=data, model=model, method=method)
    Running(folder).reopen()
    with hosts.results_folder(folder) as results:
        return carry_out(plan, results or folder, asked, quiet=quiet, log=log)


def check_asked(asked: Asked, out: str | os.PathLike | None, config: Any, reference: str) -> None:
    """Raise `InputError` unless a run could be begun so; the names are `unlearn`'s."""
    check_folder(out)
    check_integer("--save-every", asked.save_every)
    if not asked.save_every > 0:
        raise InputError(f"--save-every {asked.save_every}: give a number of steps above 0")
    if asked.trials is not None:
        selection.check_trials(asked.trials, asked.select, reference)
        if config is not None:
            raise InputError("config: is what --trials is to choose; give one of the two")
    if asked.tensorboard:
        check_installed("tensorboard", "tensorboardX", "tensorboard")
    if asked.wandb is not None:
        check_installed("wandb", "wandb", "wandb")
    over_devices(asked.devices)


def carry_out(plan: Plan, folder: Path, asked: Asked, *, quiet: bool, log: Log = "text") -> Result:
    """Do all of a run that is not done yet; arguments as for `unlearn` and `resume`."""
    plan = plan._replace(parallel=over_devices(asked.devices))
    running = Running(folder, asked.save_every)
    metrics = folder / "metrics.jsonl"
    chosen = None
    trackers = open_trackers(folder, asked.tensorboard, asked.wandb)
    progress = Progress(metrics, quiet=quiet, trackers=trackers, log=log)
    with exit_on_sigterm(), progress:
        networks = {"original": stages.original_network(plan, running, progress)}
        if asked.trials is not None:
            if asked.select == "oracle":
                networks |= stages.references(plan, networks["original"], running, progress)
            chosen = stages.choose(plan, networks, asked, running, progress, folder)
            options = unlearners.configure(plan.method, chosen.options)
            plan = with_method(plan, plan.method, options)
        unlearned, history = stages.unlearned_network(plan, networks["original"], running, progress)
        for sign in diagnosis.signs(history):
            _log.warning("a sign of failure: %s", sign)
        if plan.reference == "retrain" and "retrain" not in networks:
            networks |= stages.references(plan, networks["original"], running, progress)
        networks[plan.method.name] = unlearned
        on_info = progress.phase("audit", len(networks))
        measured = measure(plan.problem, networks, on_done=lambda done: on_info(done, {}))
        stages.save_scores(measured, folder)
        if hosts.is_main():
            save_chosen(plan, folder)
        content = report_content(plan, measured, history, asked.command, chosen)
        entry = record(plan, networks, measured, asked, running, folder)
        report.write_report(content._replace(ledger=entry), folder)
        running.end()
    return Result(folder, unlearned.variables, plan.model, measured.rows, plan.split, history)
