"""Random labels: teach the forget set wrong classes, keep training on the retain set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ltu_jax.errors import InputError
from ltu_jax.training.losses import cross_entropy, distilled_cross_entropy
from ltu_jax.training.supervised import predict
from ltu_jax.types import (
    Array,
    DataSpec,
    Examples,
    Invariants,
    Key,
    Model,
    PyTree,
    UnlearnData,
    Unlearner,
    Variables,
)
from ltu_jax.unlearners.base import Choice, LogUniform, Method, PositiveFloat, PositiveInt, Share
from ltu_jax.unlearners.gradient_method import (
    SGD_NUMBERS,
    SGDConfig,
    State,
    gradient_method,
    masked,
    mean_loss,
)
from ltu_jax.unlearners.sampling import Epochs, batches_per_pass, shuffled_rows, take, take_joint

MaskFn = Callable[[Variables, UnlearnData], PyTree]


@dataclass(frozen=True)
class RandomLabelConfig(SGDConfig):
    """Options of random labels.

    By default each example gets one wrong label, drawn once, and retain and forget examples are
    shuffled together: the Amnesiac baseline (Graves et al. 2021) as Foster et al. 2024 (arXiv
    2308.07707) run it, with Adam at 1e-4 for 3 epochs in batches of 128. SGD with momentum 0.9,
    weight decay, 10 epochs and learning rate 0.01 are the defaults of the Unlearn-Saliency scripts
    (Fan et al. 2024), whose batches hold 256; the cosine schedule is ours.

    Attributes:
      order: `"joint"` shuffles forget and retain examples together; `"sequential"` makes a pass
        over the forget set and then one over the retain set in every epoch, as Unlearn-Saliency
        does on CIFAR-10.
      redraw: draw new labels in every epoch, as Unlearn-Saliency does.
      distill: share of the retain examples' loss that is KL to the original model's outputs.
      temperature: softmax temperature of that KL.
    """

    epochs: PositiveInt = 10
    learning_rate: PositiveFloat = 0.01
    order: Literal["sequential", "joint"] = "joint"
    redraw: bool = False
    distill: Share = 0.0
    temperature: PositiveFloat = 2.0


class RandomLabelBatch(NamedTuple):
    """What a step looks at.

    Attributes:
      inputs: `[B, ...]`.
      labels: `[B]`, random ones for forget examples.
      retained: `[B]` booleans, True for examples of the retain set.
      teacher: `[B, C]` the original's logits, valid where `retained`; None without distillation.
    """

    inputs: Array
    labels: Array
    retained: jax.Array
    teacher: jax.Array | None


def random_label(
    model: Model,
    spec: DataSpec,
    config: RandomLabelConfig = RandomLabelConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
    mask: MaskFn | None = None,
) -> Unlearner:
    r"""Build random labels; an epoch is a pass over the forget and the accessible retain set.

    .. math:: L(\theta) = CE(f_\theta(x_r), y_r) + CE(f_\theta(x_f), \tilde y_f), \qquad
        \tilde y_f \sim U(\{1, \dots, C\} \setminus y_f)

    as a mean over the examples of the batch. A share `distill` of the retain term may be KL to the
    original. `mask`, `(variables, data) -> booleans like the parameters`, computes which weights
    are trained; None trains all.

    Returns:
      The unlearner. Info: `loss`.

    Raises:
      InputError: there is only one class.

    Example:
      >>> from ltu_jax.training.loop import unlearn
      >>> from ltu_jax.unlearners.base import toy_problem
      >>> model, variables, data, spec = toy_problem()
      >>> method = random_label(model, spec, RandomLabelConfig(epochs=20))
      >>> _, history = unlearn(method, variables, data, key=jax.random.key(0))
      >>> bool(history["loss"][-1] < history["loss"][0])
      True

    References:
      Graves, Nagisetty and Ganesh, "Amnesiac Machine Learning", 2021,
      https://arxiv.org/abs/2010.10981
    """
    if spec.num_classes < 2:
        raise InputError("method", "random labels need at least 2 classes", "choose another method")
    order = _joint(spec, config) if config.order == "joint" else _sequential(spec, config)
    num_steps = config.epochs * order.steps_per_epoch

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> State:
        teacher = predict(model, variables, data.retain.inputs) if config.distill else None
        return State(variables, key, teacher, mask(variables, data) if mask else None)

    def sample(t: jax.Array, state: State, data: UnlearnData) -> RandomLabelBatch:
        order_key, label_key = jax.random.split(state.order_key)
        epoch = t // order.steps_per_epoch if config.redraw else 0
        label_key = jax.random.fold_in(label_key, epoch)
        labels = draw_labels(label_key, data.forget.labels, spec.num_classes)
        rows = order.rows(order_key, t)
        examples = take_joint(Examples(data.forget.inputs, labels), data.retain, rows)
        teacher = take(state.extra, jnp.maximum(rows - spec.num_forget, 0))
        return RandomLabelBatch(*examples, rows >= spec.num_forget, teacher)

    def per_example(logits: jax.Array, batch: RandomLabelBatch) -> jax.Array:
        retained = distilled_cross_entropy(
            logits, batch.labels, batch.teacher, config.distill, config.temperature
        )
        return jnp.where(batch.retained, retained, cross_entropy(logits, batch.labels))

    return gradient_method(
        tx or config.optimizer(num_steps),
        num_steps,
        sample=sample,
        loss=mean_loss(model, per_example),
        prepare=prepare,
        invariants=Invariants(trainable_mask=masked if mask else None),
    )


def draw_labels(key: Key, labels: Array, num_classes: int) -> jax.Array:
    """Return `[N]` labels drawn uniformly from the C classes without the true one.

    >>> draw_labels(jax.random.key(0), jnp.array([0, 1, 1]), num_classes=2).tolist()
    [1, 0, 0]
    """
    shift = jax.random.randint(key, labels.shape, 1, num_classes, labels.dtype)
    return jnp.asarray(labels + shift) % num_classes


class _Order(NamedTuple):
    """How many steps an epoch takes, and `(key, t) -> [B]` rows of forget followed by retain."""

    steps_per_epoch: int
    rows: Callable[[Key, jax.Array], jax.Array]


def _joint(spec: DataSpec, config: RandomLabelConfig) -> _Order:
    epochs = Epochs(spec.num_forget + spec.num_retain, config.batch_size, config.epochs)
    return _Order(epochs.steps_per_epoch, epochs.rows)


def _sequential(spec: DataSpec, config: RandomLabelConfig) -> _Order:
    retain = Epochs(spec.num_retain, config.batch_size, config.epochs)
    forget_steps = batches_per_pass(spec.num_forget, retain.batch_size)
    steps = forget_steps + retain.steps_per_epoch

    def rows(key: Key, t: jax.Array) -> jax.Array:
        forget_key, retain_key = jax.random.split(key)
        epoch, within = t // steps, t % steps
        # Both are drawn; the index of the one that is not due is clipped to its nearest batch.
        forget = epoch * forget_steps + jnp.minimum(within, forget_steps - 1)
        index = epoch * retain.steps_per_epoch + jnp.maximum(within - forget_steps, 0)
        return jnp.where(
            within < forget_steps,
            shuffled_rows(forget_key, forget, spec.num_forget, retain.batch_size),
            spec.num_forget + retain.rows(retain_key, index),
        )

    return _Order(steps, rows)


METHOD = Method(
    name="random_label",
    summary="teach the forget set wrong labels, keep training on the retain set",
    reference="Graves, Nagisetty & Ganesh 2021, arXiv 2010.10981",
    build=random_label,
    traced=(*SGD_NUMBERS, "temperature"),
    config=RandomLabelConfig(),
    space={
        "learning_rate": LogUniform(1e-3, 1e-1),
        "epochs": Choice((5, 10)),
        "distill": Choice((0.0, 0.9)),
    },
)
