"""The exact meta-gradient in three forms, LTU and other methods, and the memory of steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax
import optax

from experiments.performance.steps import Row, prepare_plain, prepare_step
from experiments.performance.subjects import CLASSES, Subject, first_order
from experiments.performance.timing import compile_ahead, interleave, median, ratios
from ltu_jax.training import loop
from ltu_jax.training.compilation import jit
from ltu_jax.types import PyTree
from ltu_jax.unlearners import METHODS
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.ltu import Memory, ltu
from ltu_jax.unlearners.ltu.algorithm import ltu_tasks
from ltu_jax.unlearners.ltu.meta import (
    InnerStep,
    QueryLosses,
    TuneLoss,
    meta_gradient,
    meta_objective,
    meta_test,
    meta_tune,
)

INNER = InnerStep()  # without clipping, which would add the same to all forms
COMPARED = ("ltu", "ltu_first_order", "mi_match", "random_label", "salun", "scrub", "finetune")


def reverse_over_reverse(tune: TuneLoss, query: QueryLosses, params: PyTree) -> PyTree:
    """The definition: the gradient of what meta-update descends."""
    return jax.grad(lambda p: meta_objective(tune, query, p, INNER))(params)


def forward_over_reverse(tune: TuneLoss, query: QueryLosses, params: PyTree) -> PyTree:
    """The Hessian product by `jvp` of a gradient, which takes that gradient a second time."""
    adapted = meta_tune(tune, params, INNER)
    behind = jax.grad(lambda p: meta_test(query, p)[0])(adapted)
    gradient, curved = jax.jvp(jax.grad(tune), (params,), (behind,))
    return jax.tree.map(lambda v, h, g: v - INNER.lr * h + g, behind, curved, gradient)


def linearize(tune: TuneLoss, query: QueryLosses, params: PyTree) -> PyTree:
    """What the library does: one linearisation for the step and the Hessian product."""
    return meta_gradient(tune, query, params, INNER)[0]


FORMS = {form.__name__: form for form in (reverse_over_reverse, forward_over_reverse, linearize)}


def variants(subject: Subject, repeats: int) -> Row:
    """Return what the forms of the remembering branch take, and how far they are from each other.

    `difference` is the norm of the difference to the definition over the definition's norm.
    """
    spec, config = spec_of(subject.data, CLASSES), subject.config
    method = ltu(subject.model, spec, config)
    tasks = ltu_tasks(subject.model, spec, config, config.objective.build())
    key = jax.random.key(0)
    state = method.prepare(key, subject.variables, subject.data)
    batch = method.sample(key, 0, state, subject.data)

    def gradient(form, params, state, batch):
        losses = tasks.losses(state, batch)
        return form(losses.random_labels, losses.queries, params)

    params = subject.variables.params
    programs = {
        name: compile_ahead(
            lambda form=form: jit(gradient, static_argnums=0).lower(form, params, state, batch)
        )
        for name, form in FORMS.items()
    }
    results = {name: program.call(params, state, batch) for name, program in programs.items()}
    seconds = interleave(
        {
            name: lambda call=program.call: jax.block_until_ready(call(params, state, batch))
            for name, program in programs.items()
        },
        repeats,
    )
    exact = results["reverse_over_reverse"]
    return {
        name: {
            "seconds": median(seconds, name),
            "over_definition": ratios(seconds, name, "reverse_over_reverse"),
            "difference": float(
                optax.tree.norm(optax.tree.sub(results[name], exact)) / optax.tree.norm(exact)
            ),
            "compile_seconds": program.seconds,
            "flops_by_xla": program.flops,
            "temporary_bytes": program.temporary_bytes,
        }
        for name, program in programs.items()
    }


def methods(subject: Subject, repeats: int, names: Sequence[str] = COMPARED) -> Row:
    """Return what a step of each method takes, by its own default options."""
    steps = {
        name: prepare_step(
            METHODS[name].build(
                subject.model, spec_of(subject.data, CLASSES), METHODS[name].config
            ),
            subject.variables,
            subject.data,
        )
        for name in names
    }
    steps["plain"] = prepare_plain(subject)
    seconds = interleave({name: step.once for name, step in steps.items()}, repeats)
    return {
        name: {
            "step_seconds": median(seconds, name),
            "over_plain": ratios(seconds, name, "plain"),
            "compile_seconds": step.compiled.seconds,
            "flops_by_xla": step.compiled.flops,
            "peak_bytes": step.compiled.peak_bytes,
        }
        for name, step in steps.items()
    }


def memory(subject: Subject) -> Row:
    """Return the memory of a step by its order, with and without `remat`; nothing is run."""
    config = subject.config
    state = ltu(subject.model, spec_of(subject.data, CLASSES), config).prepare(
        jax.random.key(0), subject.variables, subject.data
    )
    rows = {}
    for order, chosen in (("second", config), ("first", first_order(config))):
        for remat in (False, True):
            method = ltu(
                subject.model, spec_of(subject.data, CLASSES), replace(chosen, memory=Memory(remat))
            )
            step = loop.as_step(method)
            step = jit(lambda *parts, step=step: step(*parts), donate_argnums=2)
            compiled = compile_ahead(
                lambda step=step: step.lower(jax.random.key(0), 0, state, subject.data)
            )
            rows[f"{order}_remat" if remat else order] = {
                "peak_bytes": compiled.peak_bytes,
                "temporary_bytes": compiled.temporary_bytes,
                "flops_by_xla": compiled.flops,
                "compile_seconds": compiled.seconds,
            }
    whole = rows["first"]["peak_bytes"]
    return {
        "model": subject.model.name,
        "images": subject.images.total,
        **{
            name: {**row, "over_first_order": row["peak_bytes"] / whole}
            for name, row in rows.items()
        },
    }
