"""One step of LTU and of SGD: against its operation count, and against PyTorch's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.performance.counting import (
    GRADIENT,
    forward_flops,
    ltu_units,
    plain_units,
)
from experiments.performance.subjects import CLASSES, Subject, first_order, scaled
from experiments.performance.timing import (
    PRODUCT,
    TORCH,
    Compiled,
    Product,
    Seconds,
    Way,
    compile_ahead,
    fastest,
    interleave,
    large_product,
    median,
    ratios,
    share_of_product,
    torch_in,
)
from ltu_jax.training import loop
from ltu_jax.training.compilation import jit
from ltu_jax.training.losses import cross_entropy
from ltu_jax.types import Examples, Key, PyTree, UnlearnData, Unlearner, Variables
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.ltu.algorithm import ltu
from ltu_jax.unlearners.random_label import RandomLabelConfig, random_label

Row = dict[str, Any]
PeerWays = Callable[..., Mapping[str, Way]]


class Prepared(NamedTuple):
    """A method's whole step, drawing its batch included, compiled ahead of time.

    Attributes:
      compiled: takes `(key, t, state, data)` and donates the state.
      once: takes one step from where the last one ended, and waits for it.
    """

    compiled: Compiled
    once: Way


def prepare_step(method: Unlearner, variables: Variables, data: UnlearnData) -> Prepared:
    """Compile the step of a method that has been prepared on `data`."""
    key = jax.random.key(0)
    state = method.prepare(key, variables, data)
    return prepare_training(loop.as_step(method), key, state, data)


def prepare_training(step: loop.Step, key: Key, state: PyTree, data: PyTree) -> Prepared:
    """Compile a step of `training.loop.run` as one program, which donates a copy of `state`.

    On a CPU a run itself compiles the draw of the batch and the update apart.
    """
    first = jnp.zeros((), int)
    compiled = compile_ahead(
        lambda: jit(lambda *parts: step(*parts), donate_argnums=2).lower(key, first, state, data)
    )
    held = jax.tree.map(jnp.copy, state)

    def once() -> None:
        nonlocal held
        held, _ = jax.block_until_ready(compiled.call(key, first, held, data))

    return Prepared(compiled, once)


def prepare_plain(subject: Subject, jit: Callable = jit) -> Prepared:
    """Compile the gradient of mean cross-entropy on as many images as an LTU step looks at."""
    total = subject.images.total
    images = jax.tree.map(
        lambda *parts: jnp.concatenate(parts)[:total], subject.data.forget, subject.data.retain
    )

    def loss(params: PyTree, images: Examples) -> jax.Array:
        logits, _ = subject.model.apply(Variables(params, subject.variables.state), images.inputs)
        return cross_entropy(logits, images.labels).mean()

    params = subject.variables.params
    compiled = compile_ahead(lambda: jit(jax.grad(loss)).lower(params, images))
    return Prepared(compiled, lambda: jax.block_until_ready(compiled.call(params, images)))


def ltu_step(
    subject: Subject, repeats: int, peer: PeerWays, *, with_first_order: bool = True
) -> Row:
    """Return the cost of an LTU step of second and first order, and its operation count.

    Args:
      subject: see `Subject`.
      repeats: rounds in which all ways are timed.
      peer: makes PyTorch's ways; none where it is missing.
      with_first_order: whether the step of first order is measured as well.
    """
    configs = {"second": subject.config}
    if with_first_order:
        configs["first"] = first_order(subject.config)
    methods = {
        name: ltu(subject.model, spec_of(subject.data, CLASSES), config)
        for name, config in configs.items()
    }
    key = jax.random.key(0)
    state = methods["second"].prepare(key, subject.variables, subject.data)
    steps = {
        name: prepare_training(loop.as_step(method), key, state, subject.data)
        for name, method in methods.items()
    }
    steps["plain"] = prepare_plain(subject)
    ways = {name: step.once for name, step in steps.items()}
    product = large_product()
    seconds = interleave({**ways, PRODUCT: product.once, **fastest(peer(subject, state))}, repeats)

    images = subject.images
    flops = forward_flops(subject.model, subject.data.forget.inputs[:1])
    plain = plain_units(images.total)
    rows = {}
    for name in configs:
        units = ltu_units(images, 2 if name == "second" else 1, subject.has_statistics)
        to_plain = ratios(seconds, name, "plain")
        rows[name] = {
            **costs(steps[name].compiled, seconds, name, sum(units.values()) * flops, product),
            "units": units,
            "count_ratio": sum(units.values()) / plain,
            "ratio_to_plain": to_plain,
            "ratio_to_count": [each * plain / sum(units.values()) for each in to_plain],
        }
    return {
        **rows["second"],
        **against_torch(seconds, "second"),
        **({"first_order": rows["first"]} if with_first_order else {}),
        "plain": costs(steps["plain"].compiled, seconds, "plain", plain * flops, product),
        "images": images._asdict(),
    }


def sgd_step(subject: Subject, repeats: int, peer: PeerWays) -> Row:
    """Return what a step of random labels takes, as the field runs it; arguments as above."""
    config = sgd_config(subject)
    method = random_label(subject.model, spec_of(subject.data, CLASSES), config)
    step = prepare_step(method, subject.variables, subject.data)
    product = large_product()
    seconds = interleave(
        {"jax": step.once, PRODUCT: product.once, **fastest(peer(subject))}, repeats
    )
    flops = forward_flops(subject.model, subject.data.forget.inputs[:1])
    return {
        **costs(step.compiled, seconds, "jax", config.batch_size * GRADIENT * flops, product),
        **against_torch(seconds, "jax"),
        "batch": config.batch_size,
    }


def sgd_config(subject: Subject) -> RandomLabelConfig:
    """Return the options of random labels, with the subject's share of their batch."""
    default = RandomLabelConfig()
    return replace(default, batch_size=scaled(default.batch_size, subject.share))


def against_torch(seconds: Seconds, name: str) -> Row:
    """Return the time of PyTorch's fastest way over that of `name`; None without PyTorch."""
    torch = torch_in(seconds)
    return {
        "torch_over_jax": ratios(seconds, torch, name),
        "torch_seconds": median(seconds, torch),
        "torch_threads": int(torch.removeprefix(TORCH)) if torch else None,
    }


def costs(compiled: Compiled, seconds: Seconds, name: str, flops: float, product: Product) -> Row:
    """Return the costs of one program as a row of the results.

    Args:
      compiled: the program.
      seconds: of all ways.
      name: of the program's way.
      flops: of one run, counted by hand.
      product: the large product that was timed with them.
    """
    return {
        "compile_seconds": compiled.seconds,
        "step_seconds": median(seconds, name),
        "flops_by_xla": compiled.flops,
        "flops_by_hand": flops,
        "share_of_matmul_rate": share_of_product(seconds, name, flops, product),
        "matmul_flops_per_second": product.flops / median(seconds, PRODUCT),
        "peak_bytes": compiled.peak_bytes,
    }
