"""Ensembles of a deletion: many models of each type, made once and kept on disk.

================ ========================== ===========================
type             trained on                 then
================ ========================== ===========================
original         everything
retrain          the retain set
unlearned        (the ensemble `original`)  unlearned by the run's method
shadow           see `data.inclusion`
shadow_unlearned (the ensemble `shadow`)    unlearned by the run's method
shadow_retrain   what no `shadow` unlearns
================ ========================== ===========================

An ensemble's folder is named after a digest of everything that it depends on. It is made in parts;
an interrupted command resumes after the last complete part.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax import paths
from ltu_jax.data import inclusion as bits
from ltu_jax.errors import InputError, check_integer, warn
from ltu_jax.files import new_folder, write_json
from ltu_jax.models.fingerprint import fingerprint, program
from ltu_jax.report.content import plain
from ltu_jax.report.write import versions
from ltu_jax.runs import lock
from ltu_jax.runs.plan import Plan, on_device, visible_data, with_method
from ltu_jax.runs.plan_model import trace
from ltu_jax.runs.progress import OnInfo, Progress
from ltu_jax.training.checkpoint import export, restore
from ltu_jax.training.compilation import relaxed
from ltu_jax.training.ensembles import AT_ONCE, train_members, unlearn_members
from ltu_jax.training.supervised import train_steps
from ltu_jax.types import UnlearnData, Variables

PARENT = {"unlearned": "original", "shadow_unlearned": "shadow"}
TYPES = ("original", "retrain", "unlearned", "shadow", "shadow_unlearned", "shadow_retrain")
# Random streams far from those of a run's own models, so that no ensemble repeats one of them.
_FIRST_STREAM = 2**16
# An audit needs so many a side; half of them fit the attack, the other half evaluate it.
MIN_SIZE = 8
MAX_SIZE = 10_000  # a side: the rows of every model are held in memory


class Ensemble(NamedTuple):
    """Trained models of one type.

    Attributes:
      type: one of `TYPES`.
      variables: with a leading axis `[M]`.
      inclusion: inclusion bits `[M, m]`, see `data.inclusion`; None for types without.
      streams: `[M]` integers, the models' random streams; paired models share one.
      seconds: wall time to make it, without its parent.
      folder: where it is kept.
    """

    type: str
    variables: Variables
    inclusion: np.ndarray | None
    streams: np.ndarray
    seconds: float
    folder: Path


class _Members(NamedTuple):
    """How the models of an ensemble differ: `[M, ...]` training rows, and their random streams."""

    train_rows: np.ndarray
    forget_rows: np.ndarray
    accessible: np.ndarray
    inclusion: np.ndarray | None
    streams: np.ndarray


@relaxed()
def make_ensembles(
    plan: Plan, types: Sequence[str], size: int, folder: str | os.PathLike, *, quiet: bool = False
) -> Iterator[Ensemble]:
    """Yield the ensembles of a plan, each when it is complete; see `make_ensemble`."""
    if not types:
        raise InputError("types", "is empty", f"choose among {', '.join(TYPES)}")
    folder = paths.local("ensembles", folder)
    for name in types:
        _members(plan, name, size)  # bad input is found before any model is trained
    if size < MIN_SIZE:
        warn(f"an audit needs at least {MIN_SIZE} models a side; these ensembles have {size}")
    with Progress(None, quiet=quiet) as progress:
        for name in types:
            yield make_ensemble(plan, name, size, folder, progress)


def make_ensemble(plan: Plan, name: str, size: int, folder: Path, progress: Progress) -> Ensemble:
    """Make an ensemble, complete it, or read it.

    Args:
      plan: of the deletion; method and options matter to the unlearned types only.
      name: one of `TYPES`.
      size: models on each side of a comparison; shadow types have two for each.
      folder: of all ensembles.
      progress: receives a phase for what is not on disk yet.

    Raises:
      InputError: unknown type, size out of range, or a request without matched canary pairs.
      DivergedError: a model became NaN.
    """
    entry = ensemble_folder(plan, name, size, folder)
    if not (entry / "about.json").exists():
        parent = name in PARENT and make_ensemble(plan, PARENT[name], size, folder, progress)
        members = _members(plan, name, size)
        entry.mkdir(parents=True, exist_ok=True)
        with lock.claim(entry, "ensembles"):
            _make(plan, name, members, parent.variables if parent else None, entry, progress)
    return read_ensemble(plan, name, size, folder)


def read_ensemble(plan: Plan, name: str, size: int, folder: Path) -> Ensemble:
    """Read an ensemble from disk; see `make_ensemble`.

    Raises:
      InputError: the ensemble is damaged.
    """
    members = _members(plan, name, size)
    entry = ensemble_folder(plan, name, size, folder)
    seconds = _seconds(entry)
    like = _stacked(trace(plan.model, plan.dataset), len(members.streams))
    variables = restore(entry / "models", like, argument="ensembles")
    return Ensemble(name, variables, members.inclusion, members.streams, seconds, entry)


def ensemble_folder(plan: Plan, name: str, size: int, folder: Path) -> Path:
    """Return an ensemble's folder: type, size and a digest of everything that it depends on."""
    members = _members(plan, name, size)
    train, heldout = plan.dataset.train, plan.dataset.heldout
    arrays = {"inputs": train.inputs, "labels": train.labels, "rows": members.train_rows}
    settings = {"recipe": asdict(plan.recipe), "seed": int(plan.seed), "type": name}
    if name in PARENT:
        validation = plan.split.validation
        arrays |= {
            "forget": members.forget_rows,
            "accessible": members.accessible,
            "validation": np.asarray(heldout.inputs)[validation],
            "validation_labels": np.asarray(heldout.labels)[validation],
        }
        settings |= {
            "method": plan.method.name,
            "options": plain(asdict(plan.config)),
            "only": plan.spec.only,
            "ltu-jax": versions()["ltu-jax"],
        }
    digest = fingerprint(arrays, settings, program(plan.model, train.inputs))
    return folder / f"{name}-{size}-{digest[:16]}"


def canary_pairs(plan: Plan) -> bits.CanaryPairs:
    """Return the matched canary pairs of a plan's shadow ensembles."""
    return bits.pair_canaries(np.asarray(plan.dataset.train.labels), plan.split, seed=plan.seed)


def _members(plan: Plan, name: str, size: int) -> _Members:
    if name not in TYPES:
        raise InputError("types", f"{name!r} is unknown", f"choose among {', '.join(TYPES)}")
    check_integer("size", size)
    if not 2 <= size <= MAX_SIZE:
        raise InputError("size", f"is {size}", f"give 2 to {MAX_SIZE:,} models a side")
    split = plan.split
    if not name.startswith("shadow"):
        rows = split.retain if name == "retrain" else np.arange(len(plan.dataset.train.labels))
        rows, forget = (np.tile(part, (size, 1)) for part in (rows, split.forget))
        return _Members(rows, forget, split.accessible, None, np.arange(size))
    pairs = canary_pairs(plan)
    inclusion = bits.draw_inclusion(2 * size, len(pairs.first), seed=plan.seed)
    trained, streams = bits.trained_rows(pairs, inclusion), np.arange(2 * size) // 2
    if name == "shadow_retrain":
        # These models never depended on the bits, so any guess of the bits is right by chance.
        trained, streams = np.tile(pairs.base, (2 * size, 1)), np.arange(2 * size)
    forgotten = bits.forgotten_rows(pairs, inclusion)
    return _Members(trained, forgotten, pairs.accessible, inclusion, streams)


def _make(
    plan: Plan,
    name: str,
    members: _Members,
    parent: Variables | None,
    entry: Path,
    progress: Progress,
) -> None:
    """Make all missing parts and join them."""
    if name in PARENT:  # built once for all parts, so that its steps are compiled once
        plan = with_method(plan, plan.method, plan.config, _visible(plan, members, 0))
        steps = plan.unlearner.num_steps
    else:
        steps = train_steps(members.train_rows.shape[1], plan.recipe)
    parts = entry / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    size = len(members.streams)
    on_info = progress.phase(f"ensemble {name}", size * steps)
    names = []
    for first in range(0, size, AT_ONCE):
        some = slice(first, min(first + AT_ONCE, size))
        names.append(f"{some.start:05d}-{some.stop:05d}")
        if (parts / names[-1] / "about.json").exists():
            continue

        def on_step(step, info, before=first * steps):
            on_info(before + step, info)

        start = time.perf_counter()
        made = jax.block_until_ready(_make_part(plan, name, members, parent, some, on_step))
        with new_folder(parts / names[-1]) as part:
            export(part / "models", made)
            write_json(part / "about.json", {"seconds": time.perf_counter() - start})
    _join(plan, name, size, [parts / part for part in names], entry)


def _make_part(
    plan: Plan,
    name: str,
    members: _Members,
    parent: Variables | None,
    some: slice,
    on_info: OnInfo,
) -> Variables:
    streams = jax.random.key(plan.seed)
    streams = jax.random.fold_in(streams, _FIRST_STREAM + TYPES.index(name))
    keys = jax.vmap(lambda i: jax.random.fold_in(streams, i))(jnp.asarray(members.streams[some]))
    train = plan.dataset.train
    if name not in PARENT:
        examples = on_device(train, np.arange(len(train.labels)))
        rows = members.train_rows[some]
        return train_members(plan.model, examples, rows, plan.recipe, keys=keys, on_info=on_info)
    data: UnlearnData | Sequence[UnlearnData] = _visible(plan, members, 0)
    if name == "shadow_unlearned":
        data = [data._replace(forget=on_device(train, rows)) for rows in members.forget_rows[some]]
    originals = jax.tree.map(lambda x: x[some], parent)
    return unlearn_members(plan.unlearner, plan.model, originals, data, keys=keys, on_info=on_info)


def _visible(plan: Plan, members: _Members, i: int) -> UnlearnData:
    """Return the data that the method sees for model `i`; sizes are the same for all models."""
    train = plan.dataset.train
    return visible_data(plan.dataset, plan.split)._replace(
        forget=on_device(train, members.forget_rows[i]),
        retain=on_device(train, members.accessible),
    )


def _join(plan: Plan, name: str, size: int, parts: Sequence[Path], entry: Path) -> None:
    """Write all parts as one array tree; `about.json` comes last and marks it as complete."""
    like = trace(plan.model, plan.dataset)
    loaded, seconds = [], 0.0
    for part in parts:
        first, last = map(int, part.name.split("-"))
        loaded.append(restore(part / "models", _stacked(like, last - first), argument="ensembles"))
        seconds += _seconds(part)
    shutil.rmtree(entry / "models", ignore_errors=True)
    export(entry / "models", jax.tree.map(lambda *x: jnp.concatenate(x), *loaded))
    about = {"type": name, "models": size, "seconds": seconds, "seed": int(plan.seed)}
    if name in PARENT:
        about |= {"method": plan.method.name, "options": plain(asdict(plan.config))}
    write_json(entry / "about.json", {**about, "versions": versions()})
    shutil.rmtree(entry / "parts")


def _seconds(folder: Path) -> float:
    try:
        return json.loads((folder / "about.json").read_text(encoding="utf-8"))["seconds"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"{folder} is damaged (about.json: {error})"
        remedy = "delete the folder and make the ensemble again with `make_ensembles`"
        raise InputError("ensembles", problem, remedy) from error


def _stacked(like: Variables, size: int) -> Variables:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape), x.dtype), like)
