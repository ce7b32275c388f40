"""A deletion, end to end: request, model, unlearning, audit, report."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import ltu_jax.unlearners as unlearners
from ltu_jax.audit.measure import Measurements, measure_models
from ltu_jax.audit.summary import Row
from ltu_jax.errors import InputError, Interrupted
from ltu_jax.files import write_json
from ltu_jax.report import ReportContent, given_accuracy, notebook, verdict, write_report
from ltu_jax.report.content import plain
from ltu_jax.runs import lock, tuning
from ltu_jax.runs.calls import as_call
from ltu_jax.runs.folder import RunFolder, RunState, check_folder, new_run
from ltu_jax.runs.loading import load_spec, load_unfinished, save_options, save_plan
from ltu_jax.runs.models import (
    by_label,
    original_model,
    reference_models,
    unlearned_model,
)
from ltu_jax.runs.plan import Forget, Plan, make_plan, with_method
from ltu_jax.runs.progress import Log, Progress, check_installed, open_trackers
from ltu_jax.runs.record import record
from ltu_jax.runs.results import preprocessing, report_content
from ltu_jax.runs.spec import SAVE_EVERY, InMemory, Reference, Rule, RunSpec, separate
from ltu_jax.training import hosts
from ltu_jax.training.compilation import relaxed
from ltu_jax.training.devices import find_devices, over_devices
from ltu_jax.training.loop import History
from ltu_jax.training.resume import exit_on_signals
from ltu_jax.training.supervised import Recipe
from ltu_jax.types import Dataset, Model, Split, TrainedModel, Variables
from ltu_jax.unlearners.base import Method
from ltu_jax.unlearners.ltu import diagnostics
from ltu_jax.unlearners.parameter_subset import Only

_log = logging.getLogger(__name__)


class Result(NamedTuple):
    """The result of a deletion.

    Attributes:
      folder: the folder of the run: checkpoints, report, scores, metrics.
      unlearned: parameters and model state of the unlearned model.
      model: the model as pure functions of raw inputs.
      metrics: the audit's row of each model, by `original`, `retrain`, `retrain_2` and `unlearned`.
      split: which examples played which part.
      history: per-step diagnostics of the method.
      content: everything that the report says.
    """

    folder: Path
    unlearned: Variables
    model: Model
    metrics: dict[str, Row]
    split: Split
    history: History
    content: ReportContent

    @property
    def verdict(self) -> str:
        """The sentence with which the report begins its results."""
        return verdict(self.content).sentence

    def __repr__(self) -> str:
        return notebook.result_text(self.content, str(RunFolder(self.folder).page))

    def _repr_html_(self) -> str:
        return notebook.result_html(self.content, str(RunFolder(self.folder).page))


def unlearn(
    data: str | Dataset = "digits",
    forget: Forget = None,
    *,
    model: Any = None,
    params: Any = None,
    retrain: Any = None,
    method: str | Method = "ltu",
    config: Any = None,
    only: Only | None = None,
    checkpoint: str | os.PathLike | None = None,
    retain_fraction: float = 0.3,
    reference: Reference = "retrain",
    trials: int | None = None,
    select: Rule = "oracle_free",
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
    command: str | None = None,
) -> Result:
    """Unlearn training examples, audit the result and write the report.

    `resume` continues a run that was stopped at any moment. On SIGTERM the run saves its state and
    the process exits with code 143; on Ctrl-C it saves its state and raises `KeyboardInterrupt`.

    Args:
      data: `"digits"`, a TFDS name, `"package.module:function"`, or a `Dataset` from
        `ltu_jax.from_arrays`.
      forget: a request from `by_ids`, `by_class`, `by_group` or `by_fraction`, or the ids
        themselves, or a file of ids; `None` forgets the digit 4 of `"digits"`, and a random tenth
        of other data.
      model: a name in `ltu_jax.models.MODELS`, `"package.module:function"`, or your own model: a
        Linen module, a class or function that makes an NNX module from `nnx.Rngs`, or a `Model`.
        `None` takes `mlp` for tables and images below 16 pixels, else `cnn`.
      params: trained parameters to start from: an NNX module, Linen variables, or the parameters of
        a model without state. `None` trains a model, or reads `checkpoint`.
      retrain: your own training: a function `(key, train_data, eval_data)` that returns what
        `params` takes, for data `(inputs, labels)`. It trains Retrain, and the original if none is
        given. Or one or two models that were trained without the forget set, as for `params` or as
        paths of checkpoints. `None` trains by `recipe`.
      method: a name in `ltu_jax.unlearners.METHODS`, `"package.module:OBJECT"`, or your own
        `Method`.
      config: the method's options, such as `LTUConfig(steps=100)`; `None` takes its defaults.
      only: change only these parameters: patterns over their paths such as `"head/*"`, or a
        function from a path to whether it is chosen. All others stay bit-identical.
      checkpoint: trained model to start from, see `training.foreign_checkpoints`; `None` trains the
        original.
      retain_fraction: share of the retain set that the method may see.
      reference: `"retrain"` also trains two models without the forget set, to compare with.
      trials: number of trials that tune the method's options (`ltu_jax.runs.tuning`); `None` takes
        `config`.
      select: `"oracle_free"` chooses without Retrain, `"oracle"` by the gap to it.
      recipe: how original and references are trained; `None` takes the model's own.
      epochs: training epochs, in place of the recipe's.
      seed: seed of subset, splits and all training.
      out: folder of the run, new or empty; `None` makes a new one under `runs/`.
      data_dir: folder in which TFDS keeps its data.
      train_size: size of a stratified subset to train on.
      stream: leave the training images of a TFDS data set on disk. The forget set, the accessible
        share and the held-out set are in memory nevertheless.
      quiet: show no progress.
      log: `"json"` writes progress to stdout as one JSON object a line, instead of bars.
      tensorboard: also write every step for TensorBoard, into the folder of the run.
      wandb: also send every step to this project of Weights & Biases.
      save_every: steps between two checkpoints of the unfinished run.
      devices: number of devices that share each step; `None` takes all. Their number changes the
        results only by rounding.
      command: how the report says that the run was started; `None` writes this call.

    Returns:
      See `Result`.

    Raises:
      InputError: an argument is wrong; nothing was computed or written.
      DivergedError: training or unlearning became NaN; files written before stay.

    Example:
      >>> import ltu_jax
      >>> result = ltu_jax.unlearn("digits", ltu_jax.by_class(3))  # doctest: +SKIP
      >>> result.folder / "report.html"  # doctest: +SKIP
    """
    command = as_call(unlearn, locals()) if command is None else command
    named, objects = separate(
        data=data,
        model=model,
        params=params,
        retrain=retrain,
        method=method,
        config=config,
        only=only,
    )
    spec = RunSpec(
        **named,
        data_dir=data_dir,
        train_size=train_size,
        stream=stream,
        checkpoint=checkpoint,
        retain_fraction=retain_fraction,
        reference=reference,
        recipe=recipe,
        epochs=epochs,
        seed=seed,
        trials=trials,
        select=select,
        save_every=save_every,
        devices=devices,
        tensorboard=tensorboard,
        wandb=wandb,
        command=command,
    )
    return start(spec, forget, objects, out=out, quiet=quiet, log=log)


def start(
    spec: RunSpec,
    forget: Forget,
    objects: InMemory,
    *,
    out: str | os.PathLike | None = None,
    quiet: bool = False,
    log: Log = "text",
) -> Result:
    """Start a run from its specification; see `unlearn`."""
    check_start(spec, objects, out)
    plan = make_plan(spec, forget, objects)
    with new_run(out, f"{plan.dataset.name}-{plan.method.name}") as folder:
        RunState(folder).begin()
        save_plan(plan, folder)
        return carry_out(plan, folder, quiet=quiet, log=log)


def resume(
    run: str | os.PathLike,
    *,
    data: Dataset | None = None,
    model: Any = None,
    method: Method | None = None,
    retrain: Any = None,
    quiet: bool = False,
    log: Log = "text",
) -> Result:
    """Continue a run that was stopped. The result is that of an uninterrupted run.

    Finished models are not made again. Damaged files are named in a warning and made again.

    Args:
      run: the folder of the run.
      data: the data set, if it was made in Python.
      model: the model, if it was made in Python.
      method: the method, if it was made in Python.
      retrain: the training function or models, if they were given in Python.
      quiet: show no progress.
      log: as for `unlearn`.

    Returns:
      See `Result`.

    Raises:
      InputError: the folder holds no unfinished run, or its data or checkpoint have changed.
      DivergedError: training or unlearning became NaN.

    Example:
      >>> import ltu_jax
      >>> result = ltu_jax.resume("runs/digits-ltu-001")  # doctest: +SKIP
    """
    folder = RunFolder(run)
    load_spec(run)
    with lock.claim(folder.path, "run"), hosts.results_folder(folder.path) as results:
        plan = load_unfinished(run, InMemory(data, model, retrain=retrain, method=method))
        RunState(folder).reopen()
        return carry_out(plan, RunFolder(results or folder.path), quiet=quiet, log=log)


def check_start(spec: RunSpec, objects: InMemory, out: str | os.PathLike | None) -> None:
    """Raise `InputError` unless a new run can be started with these settings."""
    find_devices()
    check_folder(out)
    if spec.trials is not None and (objects.config is not None or spec.options):
        raise InputError("config", "is what `trials` chooses", "give one of the two")
    if spec.tensorboard:
        check_installed("tensorboard", "tensorboardX", "tensorboard")
    if spec.wandb is not None:
        check_installed("wandb", "wandb", "wandb")
    over_devices(spec.devices)


@relaxed()
def carry_out(plan: Plan, folder: RunFolder, *, quiet: bool, log: Log = "text") -> Result:
    """Do every part of a run that is not done yet.

    Args:
      plan: the plan of the run.
      folder: where results go; another folder than the run's in all processes but the first.
      quiet: show no progress.
      log: as for `unlearn`.
    """
    started = time.perf_counter()
    spec = plan.spec
    plan = plan._replace(parallel=over_devices(spec.devices))
    state = RunState(folder, spec.save_every)
    trackers = open_trackers(folder.path, spec.tensorboard, spec.wandb)
    progress = Progress(folder.metrics, quiet=quiet, trackers=trackers, log=log)
    with _resumable(state.folder), exit_on_signals(), progress:
        if plan.accuracy is not None:
            progress.note(given_accuracy(plan.accuracy._asdict(), preprocessing(plan)))
        models = {"original": original_model(plan, state, progress)}
        if spec.trials is not None and spec.select == "oracle":
            models |= reference_models(plan, models["original"], state, progress)
        plan, tuned = _tune(plan, models, state, progress, folder)
        unlearned, history = unlearned_model(plan, models["original"], state, progress)
        for sign in diagnostics.diagnose(history):
            _log.warning("a sign of failure: %s", sign)
        if spec.reference == "retrain" and "retrain" not in models:
            models |= reference_models(plan, models["original"], state, progress)
        models["unlearned"] = unlearned
        on_info = progress.phase("audit", len(models))
        measured = measure_models(
            plan.problem, by_label(plan, models), on_done=lambda done: on_info(done, {})
        )
        metrics = dict(zip(models, measured.rows, strict=True))
        _save_scores(measured, folder)
        if hosts.is_main():
            save_options(plan, folder)
        content = report_content(plan, measured, history, spec.command, tuned)
        entry, facts = record(plan, models, metrics, state, folder)
        facts["time"] |= {"seconds": time.perf_counter() - started}
        content = content._replace(run={**content.run, **facts}, ledger=entry)
        write_report(content, folder.path)
        state.end()
    return Result(
        folder.path, unlearned.variables, plan.model, metrics, plan.split, history, content
    )


@contextmanager
def _resumable(folder: RunFolder) -> Iterator[None]:
    """Name the run in the exception of Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(str(folder)) from error


def _tune(
    plan: Plan,
    models: Mapping[str, TrainedModel],
    state: RunState,
    progress: Progress,
    folder: RunFolder,
) -> tuple[Plan, tuning.Selection | None]:
    """Return the plan with tuned options, and all trials; None if nothing was to be tuned."""
    spec = plan.spec
    if spec.trials is None:
        return plan, None
    if "chosen" in state.records():
        tuned = tuning.read(plan.method, state.records()["chosen"])
    else:
        on_info = progress.phase(f"choose options ({plan.method.name})", spec.trials)

        def gap(model: TrainedModel) -> float:
            compared = {"retrain": models["retrain"], "unlearned": model}
            found = (
                measure_models(plan.problem, compared, on_done=lambda done: None).rows[1].avg_gap
            )
            return float("nan") if found is None else found

        tuned = tuning.select(
            plan,
            models["original"].variables,
            trials=spec.trials,
            oracle=gap if spec.select == "oracle" else None,
            on_trial=lambda number, trial: on_info(
                number, trial.score._asdict() if trial.score else {}
            ),
        )
        write_json(folder.tuning, plain(tuned.describe()))
        state.note("chosen", plain(tuned.describe()))
    return with_method(plan, plan.method, unlearners.configure(plan.method, tuned.options)), tuned


def _save_scores(measured: Measurements, folder: RunFolder) -> None:
    """Write the per-example scores from which every number of the report can be recomputed."""
    flat: dict[str, Any] = {
        f"{model}/{name}": values
        for model, scores in measured.signals.items()
        for name, values in scores.items()
    }
    np.savez_compressed(folder.scores, **flat)
