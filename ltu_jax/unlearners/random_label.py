"""Random labels: teach the forget set wrong classes while going on with the retain set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ltu_jax.errors import InputError, check_range
from ltu_jax.training.losses import cross_entropy, distilled_cross_entropy
from ltu_jax.training.supervised import predict
from ltu_jax.types import (
    DataSpec,
    Examples,
    Info,
    Invariants,
    Key,
    Model,
    PyTree,
    UnlearnData,
    Unlearner,
    Variables,
)
from ltu_jax.unlearners.base import Choice, LogUniform, Method
from ltu_jax.unlearners.gradient_method import SGDConfig, descend
from ltu_jax.unlearners.sampling import batches_per_pass, mean_loss, shuffled_rows, take, take_joint

MaskFn = Callable[[Variables, UnlearnData], PyTree]


@dataclass(frozen=True)
class RandomLabelConfig(SGDConfig):
    """Options of random labels.

    One wrong label per example, drawn once, among shuffled retain examples: the Amnesiac baseline
    (Graves et al. 2021) as Foster et al. 2024 (arXiv 2308.07707) run it, with Adam at 1e-4 for 3
    epochs in batches of 128. SGD with momentum 0.9, weight decay, 10 epochs and learning rate 0.01
    are the defaults of the Unlearn-Saliency scripts (Fan et al. 2024), whose batches hold 256; the
    cosine schedule is ours.

    Attributes:
      order: `"joint"` shuffles forget and retain examples together; `"sequential"` makes a pass
        over the forget set and then one over the retain set in every epoch, as Unlearn-Saliency
        does on CIFAR-10.
      redraw: draw the labels anew in every epoch, as Unlearn-Saliency does.
      allow_true_label: draw from all classes, as Unlearn-Saliency does; one example in C then
        keeps its label and is taught instead of forgotten.
      distill: share of the retain examples' loss that is KL to the original model's outputs.
      temperature: of that KL.
    """

    epochs: int = 10
    learning_rate: float = 0.01
    order: Literal["sequential", "joint"] = "joint"
    redraw: bool = False
    allow_true_label: bool = False
    distill: float = 0.0
    temperature: float = 2.0

    def __post_init__(self):
        super().__post_init__()
        check_range(self, ("distill",), lambda x: 0 <= x <= 1, "a share from 0 to 1")
        check_range(self, ("temperature",), lambda x: x > 0, "a number above 0")
        check_range(self, ("order",), lambda x: x in ("sequential", "joint"), "sequential or joint")


class RandomLabelState(NamedTuple):
    """What random labels carry.

    Attributes:
      variables: the network.
      opt_state: of the optimizer.
      draw_key: of the labels and of the order in which examples come.
      teacher: `[n, C]` logits of the original on the retain set; None without distillation.
      trainable_mask: booleans like the parameters, True where a weight may move; None: all may.
    """

    variables: Variables
    opt_state: optax.OptState
    draw_key: Key
    teacher: jax.Array | None
    trainable_mask: PyTree | None


class RandomLabelBatch(NamedTuple):
    """What a step looks at.

    Attributes:
      examples: `[B, ...]` with the labels to be taught.
      retained: `[B]` booleans, True for examples of the retain set.
      teacher: `[B, C]` the original's logits, of use where `retained`; None without distillation.
    """

    examples: Examples
    retained: jax.Array
    teacher: jax.Array | None


def random_label(
    model: Model,
    spec: DataSpec,
    config: RandomLabelConfig = RandomLabelConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
    mask: MaskFn | None = None,
    update: Callable = descend,
) -> Unlearner:
    """Build random labels on the forget set with the accessible retain set.

    BatchNorm normalises with the batch, and its statistics follow, also on forget examples.

    Args:
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: see `RandomLabelConfig`; an epoch is a pass over the forget and the accessible retain
        set.
      tx: the optimizer; None takes the config's.
      mask: which weights may move, found before the first step; None: all.
      update: takes the step that the loss asks for; `descend` or a function like it.

    Returns:
      The unlearner.

    Raises:
      InputError: there is no wrong class to draw.
    """
    if spec.num_classes < 2 and not config.allow_true_label:
        raise InputError(
            "num_classes", f"is {spec.num_classes}", "random labels need at least 2 classes"
        )
    num_forget, num_retain = spec.num_forget, spec.num_retain
    order = (_joint if config.order == "joint" else _sequential)(num_forget, num_retain, config)
    num_steps = config.epochs * order.steps_per_epoch
    tx = tx or config.optimizer(num_steps)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> RandomLabelState:
        teacher = predict(model, variables, data.retain.inputs) if config.distill else None
        trainable_mask = mask(variables, data) if mask else None
        return RandomLabelState(variables, tx.init(variables.params), key, teacher, trainable_mask)

    def sample(
        key: Key, t: jax.Array, state: RandomLabelState, data: UnlearnData
    ) -> RandomLabelBatch:
        del key
        order_key, label_key = jax.random.split(state.draw_key)
        label_key = jax.random.fold_in(
            label_key, t // order.steps_per_epoch if config.redraw else 0
        )
        labels = data.forget.labels
        labels = draw_labels(label_key, labels, spec.num_classes, config.allow_true_label)
        rows = order.rows(order_key, t)
        examples = take_joint(Examples(data.forget.inputs, labels), data.retain, rows)
        teacher = take(state.teacher, jnp.maximum(rows - num_forget, 0))
        return RandomLabelBatch(examples, rows >= num_forget, teacher)

    def step(
        key: Key, state: RandomLabelState, batch: RandomLabelBatch
    ) -> tuple[RandomLabelState, Info]:
        loss_fn = mean_loss(
            model,
            state.variables.state,
            batch.examples.inputs,
            lambda logits: _losses(logits, batch, config),
            train=True,
            key=key,
        )
        variables, opt_state, loss = update(
            tx, loss_fn, state.variables, state.opt_state, trainable_mask=state.trainable_mask
        )
        return state._replace(variables=variables, opt_state=opt_state), {"loss": loss}

    invariants = Invariants(trainable_mask=(lambda state: state.trainable_mask) if mask else None)
    return Unlearner(prepare, sample, step, lambda state: state.variables, num_steps, invariants)


def draw_labels(
    key: Key, labels: jax.Array, num_classes: int, allow_true_label: bool = False
) -> jax.Array:
    """Return `[N]` labels drawn uniformly from the C classes, without the true one unless allowed.

    >>> import jax.numpy as jnp
    >>> draw_labels(jax.random.key(0), jnp.array([0, 1, 1]), num_classes=2).tolist()
    [1, 0, 0]
    """
    if allow_true_label:
        return jax.random.randint(key, labels.shape, 0, num_classes, labels.dtype)
    shift = jax.random.randint(key, labels.shape, 1, num_classes, labels.dtype)
    return (labels + shift) % num_classes


def _losses(logits: jax.Array, batch: RandomLabelBatch, config: RandomLabelConfig) -> jax.Array:
    """Return `[B]` losses; the original is no model of what it should have forgotten."""
    labels = batch.examples.labels
    retained = distilled_cross_entropy(
        logits, labels, batch.teacher, config.distill, config.temperature
    )
    return jnp.where(batch.retained, retained, cross_entropy(logits, labels))


class _Order(NamedTuple):
    """How many steps an epoch takes, and `(key, t) -> [B]` rows of forget followed by retain."""

    steps_per_epoch: int
    rows: Callable[[Key, jax.Array], jax.Array]


def _joint(num_forget: int, num_retain: int, config: RandomLabelConfig) -> _Order:
    num_examples = num_forget + num_retain
    batch_size = min(config.batch_size, num_examples)
    return _Order(
        batches_per_pass(num_examples, batch_size),
        lambda key, t: shuffled_rows(key, t, num_examples, batch_size),
    )


def _sequential(num_forget: int, num_retain: int, config: RandomLabelConfig) -> _Order:
    batch_size = min(config.batch_size, num_retain)
    forget_steps = batches_per_pass(num_forget, batch_size)
    retain_steps = batches_per_pass(num_retain, batch_size)
    steps = forget_steps + retain_steps

    def rows(key: Key, t: jax.Array) -> jax.Array:
        forget_key, retain_key = jax.random.split(key)
        epoch, within = t // steps, t % steps
        # Both are drawn; the one that is not due is clipped to its nearest batch and dropped.
        forget = epoch * forget_steps + jnp.minimum(within, forget_steps - 1)
        retain = epoch * retain_steps + jnp.maximum(within - forget_steps, 0)
        return jnp.where(
            within < forget_steps,
            shuffled_rows(forget_key, forget, num_forget, batch_size),
            num_forget + shuffled_rows(retain_key, retain, num_retain, batch_size),
        )

    return _Order(steps, rows)


METHOD = Method(
    name="random_label",
    summary="teach the forget set wrong labels, go on with the retain set",
    reference="Graves, Nagisetty & Ganesh 2021, arXiv 2010.10981",
    build=random_label,
    config=RandomLabelConfig(),
    space={
        "learning_rate": LogUniform(1e-3, 1e-1),
        "epochs": Choice((5, 10)),
        "distill": Choice((0.0, 0.9)),
    },
)
