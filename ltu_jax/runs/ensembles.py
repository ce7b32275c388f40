"""Pools of a deletion: the same network many times over, so that single examples can be audited.

================ ============================ ===========================
kind             trained on                   then
================ ============================ ===========================
original         everything
retrain          the retain set
unlearned        everything (pool `original`) unlearned by the run's method
shadow           see `coins`
shadow_unlearned see `coins` (pool `shadow`)  unlearned by the run's method
shadow_retrain   what `shadow` never forgets
================ ============================ ===========================

A pool is kept in a folder named after all that it follows from. It is made in parts; what is
finished stays on disk, and an interrupted command goes on from there.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import ltu_jax.data.inclusion as coins
from ltu_jax.errors import InputError, check_integer
from ltu_jax.models.fingerprint import fingerprint, program
from ltu_jax.runs.plan import Plan, on_device, trace, visible_data, with_method
from ltu_jax.runs.progress import Progress
from ltu_jax.report.content import plain
from ltu_jax.report.write import versions, write_json
from ltu_jax.training.checkpoint import export, restore
from ltu_jax.training.ensembles import AT_ONCE, train_members, unlearn_members
from ltu_jax.training.supervised import train_steps
from ltu_jax.types import UnlearnData, Variables

PARENT = {"unlearned": "original", "shadow_unlearned": "shadow"}
KINDS = ("original", "retrain", "unlearned", "shadow", "shadow_unlearned", "shadow_retrain")
# Far from the streams of a run's own networks, so that no pool repeats one of them.
_FIRST_STREAM = 2**16
MOST_NETWORKS = 10_000  # a side: which rows each of them sees is in memory


class Pool(NamedTuple):
    """Networks of one kind.

    Attributes:
      kind: one of `KINDS`.
      variables: with a leading axis `[M]`.
      coins: `[M, m]`, see `coins.toss`; None for kinds without.
      couples: `[M]` integers, equal for networks that share a seed.
      seconds: wall time that making it took, its parent's not counted.
      folder: where it is kept.
    """

    kind: str
    variables: Variables
    coins: np.ndarray | None
    couples: np.ndarray
    seconds: float
    folder: Path


class _Recipe(NamedTuple):
    """How the members of a pool differ: `[M, ...]` rows of the training set, and their streams."""

    train_rows: np.ndarray
    forget_rows: np.ndarray
    accessible: np.ndarray
    coins: np.ndarray | None
    couples: np.ndarray


def make_pools(
    plan: Plan, kinds: Sequence[str], size: int, folder: Path, *, quiet: bool = False
) -> Iterator[Pool]:
    """Yield the pools of a plan, each as soon as it is there; arguments as for `make_pool`."""
    if not kinds:
        raise InputError(f"--kind: names no pool; choose among {', '.join(KINDS)}")
    for kind in kinds:
        _members(plan, kind, size)  # bad input is to be found before the first pool is made
    with Progress(None, quiet=quiet) as progress:
        for kind in kinds:
            yield make_pool(plan, kind, size, folder, progress)


def make_pool(plan: Plan, kind: str, size: int, folder: Path, progress: Progress) -> Pool:
    """Return a pool, made now, finished now, or read from an earlier time.

    Args:
      plan: of the deletion; method and options matter to the unlearned kinds alone.
      kind: one of `KINDS`.
      size: networks on each side of a comparison: kinds with coins have a couple for each.
      folder: in which pools are kept.
      progress: receives a phase for what is still to be made.

    Raises:
      InputError: there is no such kind, the size is below 2, or the request suits no coins.
      DivergedError: a member became NaN.
    """
    entry = pool_folder(plan, kind, size, folder)
    if not (entry / "about.json").exists():
        parent = kind in PARENT and make_pool(plan, PARENT[kind], size, folder, progress)
        members = _members(plan, kind, size)
        _make(plan, kind, members, parent.variables if parent else None, entry, progress)
    return read_pool(plan, kind, size, folder)


def read_pool(plan: Plan, kind: str, size: int, folder: Path) -> Pool:
    """Return a pool that was made before; arguments as for `make_pool`.

    Raises:
      InputError: the pool is damaged.
    """
    members = _members(plan, kind, size)
    entry = pool_folder(plan, kind, size, folder)
    seconds = _seconds(entry)
    like = _many(trace(plan.model, plan.dataset), len(members.couples))
    variables = restore(entry / "networks", like, argument="--pool")
    return Pool(kind, variables, members.coins, members.couples, seconds, entry)


def pool_folder(plan: Plan, kind: str, size: int, folder: Path) -> Path:
    """Return where the pool is or will be: its kind, size and the hash of what it follows from."""
    members = _members(plan, kind, size)
    train = plan.dataset.train
    arrays = {"inputs": train.inputs, "labels": train.labels, "rows": members.train_rows}
    settings = {"recipe": asdict(plan.recipe), "seed": int(plan.seed), "kind": kind}
    if kind in PARENT:
        validation = plan.split.validation
        arrays |= {
            "forget": members.forget_rows,
            "accessible": members.accessible,
            "validation": np.asarray(plan.dataset.heldout.inputs)[validation],
            "validation_labels": np.asarray(plan.dataset.heldout.labels)[validation],
        }
        settings |= {
            "method": plan.method.name,
            "options": plain(asdict(plan.config)),
            "only": plan.only,
            "ltu-jax": versions()["ltu-jax"],
        }
    digest = fingerprint(arrays, settings, program(plan.model, train.inputs))
    return folder / f"{kind}-{size}-{digest[:16]}"


def pairs_of(plan: Plan) -> coins.Pairs:
    """Return the pairs that the coins of a plan's shadow pools decide about."""
    return coins.pair(plan.dataset.train.labels, plan.split, seed=plan.seed)


def _members(plan: Plan, kind: str, size: int) -> _Recipe:
    if kind not in KINDS:
        raise InputError(f"--kind {kind}: no such pool; choose among {', '.join(KINDS)}")
    check_integer("--size", size)
    if not 2 <= size <= MOST_NETWORKS:
        bound = "at least 2" if size < 2 else f"at most {MOST_NETWORKS:,}"
        raise InputError(f"--size {size}: a pool needs {bound} networks; give another number")
    split = plan.split
    if not kind.startswith("shadow"):
        rows = split.retain if kind == "retrain" else np.arange(len(plan.dataset.train.labels))
        same = (np.tile(part, (size, 1)) for part in (rows, split.forget))
        return _Recipe(*same, split.accessible, None, np.arange(size))
    pairs = pairs_of(plan)
    tossed = coins.toss(size, len(pairs.first), seed=plan.seed)
    trained = coins.trained_rows(pairs, tossed)
    couples = np.arange(2 * size) // 2
    if kind == "shadow_retrain":
        # Its coins are of networks that it never was: what is guessed of them is guessed by chance.
        trained, couples = np.tile(pairs.base, (2 * size, 1)), np.arange(2 * size)
    forgotten = coins.forgotten_rows(pairs, tossed)
    return _Recipe(trained, forgotten, pairs.accessible, tossed, couples)


def _make(
    plan: Plan,
    kind: str,
    members: _Recipe,
    parent: Variables | None,
    entry: Path,
    progress: Progress,
) -> None:
    """Make all parts that are not there yet, join them, and only then call the pool finished."""
    if kind in PARENT:  # once for all parts, so that its steps are compiled once
        plan = with_method(plan, plan.method, plan.config, _visible(plan, members, 0))
    parts = entry / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    size = len(members.couples)
    steps = _steps(plan, kind, members)
    on_info = progress.phase(f"pool {kind}", size * steps)
    names = []
    for first in range(0, size, AT_ONCE):
        some = slice(first, min(first + AT_ONCE, size))
        names.append(f"{some.start:05d}-{some.stop:05d}")
        if (parts / names[-1] / "about.json").exists():
            continue
        start = time.perf_counter()
        made = _make_part(
            plan,
            kind,
            members,
            parent,
            some,
            lambda step, info, before=first * steps: on_info(before + step, info),
        )
        jax.block_until_ready(made)
        with tempfile.TemporaryDirectory(dir=parts, prefix=".part-") as unfinished:
            part = Path(unfinished) / "part"
            export(part / "networks", made)
            write_json(part / "about.json", {"seconds": time.perf_counter() - start})
            part.rename(parts / names[-1])
    _join(plan, kind, size, [parts / name for name in names], entry)


def _steps(plan: Plan, kind: str, members: _Recipe) -> int:
    if kind in PARENT:
        return plan.unlearner.num_steps
    return train_steps(members.train_rows.shape[1], plan.recipe)


def _make_part(plan, kind, members, parent, some: slice, on_info) -> Variables:
    streams = jax.random.key(plan.seed)
    streams = jax.random.fold_in(streams, _FIRST_STREAM + KINDS.index(kind))
    keys = jax.vmap(lambda i: jax.random.fold_in(streams, i))(jnp.asarray(members.couples[some]))
    train = plan.dataset.train
    if kind not in PARENT:
        examples = on_device(train, np.arange(len(train.labels)))
        rows = members.train_rows[some]
        return train_members(plan.model, examples, rows, plan.recipe, keys=keys, on_info=on_info)
    data: UnlearnData | Sequence[UnlearnData] = _visible(plan, members, 0)
    if kind == "shadow_unlearned":
        data = [data._replace(forget=on_device(train, rows)) for rows in members.forget_rows[some]]
    originals = jax.tree.map(lambda x: x[some], parent)
    return unlearn_members(plan.unlearner, plan.model, originals, data, keys=keys, on_info=on_info)


def _visible(plan: Plan, members: _Recipe, i: int) -> UnlearnData:
    """Return what the method sees of member `i`; every member's is of these sizes."""
    train = plan.dataset.train
    return visible_data(plan.dataset, plan.split)._replace(
        forget=on_device(train, members.forget_rows[i]),
        retain=on_device(train, members.accessible),
    )


def _join(plan: Plan, kind: str, size: int, parts: Sequence[Path], entry: Path) -> None:
    """Write all parts as one array tree; `about.json` comes last and says that it is whole."""
    like = trace(plan.model, plan.dataset)
    loaded, seconds = [], 0.0
    for part in parts:
        first, last = map(int, part.name.split("-"))
        loaded.append(restore(part / "networks", _many(like, last - first), argument="--pool"))
        seconds += _seconds(part)
    shutil.rmtree(entry / "networks", ignore_errors=True)
    export(entry / "networks", jax.tree.map(lambda *x: jnp.concatenate(x), *loaded))
    about = {"kind": kind, "networks": size, "seconds": seconds, "seed": int(plan.seed)}
    if kind in PARENT:
        about |= {"method": plan.method.name, "options": plain(asdict(plan.config))}
    write_json(entry / "about.json", {**about, "versions": versions()})
    shutil.rmtree(entry / "parts")


def _seconds(folder: Path) -> float:
    try:
        return json.loads((folder / "about.json").read_text(encoding="utf-8"))["seconds"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"--pool {folder}: is damaged (about.json: {error}); delete the folder and make the "
            "pool again with ltu pool"
        ) from error


def _many(like: Variables, size: int) -> Variables:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape), x.dtype), like)
