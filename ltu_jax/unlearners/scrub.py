"""SCRUB: disobey the original on the forget set, obey it on the retain set, in turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltu_jax.errors import InputError, check_range
from ltu_jax.training.losses import cross_entropy, distillation
from ltu_jax.training.supervised import predict
from ltu_jax.types import (
    DataSpec,
    Examples,
    Info,
    Invariants,
    Key,
    Model,
    UnlearnData,
    Unlearner,
    Variables,
)
from ltu_jax.unlearners.base import Choice, LogUniform, Method
from ltu_jax.unlearners.gradient_method import descend, torch_sgd
from ltu_jax.unlearners.sampling import batches_per_pass, mean_loss, shuffled_rows, take, take_joint


@dataclass(frozen=True)
class ScrubConfig:
    """Options of SCRUB.

    Learning rate, momentum, weight decay and decay rate are those of the paper's large-scale runs;
    epochs, max epochs, decay epochs, alpha, gamma, temperature and batch size those of the authors'
    notebooks for them. The authors cut the forget set into smaller batches than the retain set, to
    get more maximising steps; here one size serves both, and the learning rate does that work.

    Attributes:
      epochs: passes over the accessible retain set.
      max_epochs: how many of them, from the first, open with a maximising pass over the forget set.
      batch_size: examples per step, in both passes; cut down to the accessible retain set.
      learning_rate: of the first epochs.
      momentum: of SGD; one buffer serves both passes.
      weight_decay: added to the gradient before momentum, as torch's SGD does.
      decay_epochs: after each of these many epochs the learning rate falls by `decay_rate`.
      decay_rate: factor on the learning rate.
      alpha: weight of the KL to the original on the retain set.
      gamma: weight of the cross-entropy on the retain set.
      temperature: of the KL, in both passes.
      rewind: return, of all epochs' networks, not the last but the one whose error on the forget
        set is closest to what the last one makes of validation examples of the same classes
        (SCRUB+R). The paper advises it against membership inference, and plain SCRUB against bias
        and confusion. Off by default, because it looks at validation examples, which no other
        baseline does, and holds as many copies of the network as there are epochs.

    Raises:
      InputError: a value is out of its range.
    """

    epochs: int = 3
    max_epochs: int = 2
    batch_size: int = 128
    learning_rate: float = 5e-4
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_epochs: tuple[int, ...] = (3, 5, 9)
    decay_rate: float = 0.1
    alpha: float = 0.001
    gamma: float = 0.99
    temperature: float = 4.0
    rewind: bool = False

    def __post_init__(self):
        positive = ("epochs", "max_epochs", "batch_size", "learning_rate", "temperature")
        check_range(self, positive, lambda x: x > 0, "a number above 0")
        check_range(self, ("momentum",), lambda x: 0 <= x < 1, "0 or more and below 1")
        weights = ("weight_decay", "alpha", "gamma")
        check_range(self, weights, lambda x: x >= 0, "a number of at least 0")
        check_range(self, ("decay_rate",), lambda x: 0 < x <= 1, "a factor above 0 and up to 1")
        check_range(
            self, ("decay_epochs",), lambda x: all(e > 0 for e in x), "numbers of epochs above 0"
        )


class Phases(NamedTuple):
    """How steps fall into epochs, and epochs into a maximising and a minimising pass.

    Attributes:
      epochs: of them all.
      max_epochs: the first epochs, which have a maximising pass.
      max_steps: steps of a maximising pass.
      min_steps: steps of a minimising pass.
    """

    epochs: int
    max_epochs: int
    max_steps: int
    min_steps: int

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return self.max_epochs * self.max_steps + self.epochs * self.min_steps

    def at(self, t: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return of step `t`: the epoch, whether it minimises, how many such steps came before."""
        both = self.max_steps + self.min_steps
        later = t - self.max_epochs * both
        epoch = jnp.where(later < 0, t // both, self.max_epochs + later // self.min_steps)
        position = jnp.where(later < 0, t % both - self.max_steps, later % self.min_steps)
        minimise = position >= 0
        # A maximising step has a position from -max_steps to -1.
        passed = jnp.where(minimise, self.min_steps * epoch, self.max_steps * (epoch + 1))
        return epoch, minimise, passed + position


def phases(config: ScrubConfig, num_forget: int, num_retain: int) -> Phases:
    """Return the phases of a run on sets of these sizes."""
    batch_size = min(config.batch_size, num_retain)
    return Phases(
        config.epochs,
        min(config.max_epochs, config.epochs),
        batches_per_pass(num_forget, batch_size),
        batches_per_pass(num_retain, batch_size),
    )


def learning_rates(config: ScrubConfig, run: Phases) -> optax.Schedule:
    """Return the learning rate as a function of the step: constant within an epoch."""

    def rate(t: jax.Array) -> jax.Array:
        falls = jnp.sum(jnp.asarray(config.decay_epochs) <= run.at(t)[0])
        return config.learning_rate * config.decay_rate**falls

    return rate


class Rewind(NamedTuple):
    """What choosing among the epochs takes; it grows with the network, times the epochs.

    Attributes:
      networks: variables with a leading axis `[epochs]`, each epoch's newest.
      forget: the forget examples of classes that validation has, too.
      reference: the validation examples of those classes.
      weights: `[n]` of the reference examples; they give it the class distribution of `forget`.
    """

    networks: Variables
    forget: Examples
    reference: Examples
    weights: jax.Array


class ScrubState(NamedTuple):
    """What SCRUB carries.

    Attributes:
      variables: the student.
      opt_state: of the optimizer.
      order_key: of the order in which examples come.
      teacher: `[N_f + N_r, C]` logits of the original, on the forget and then the retain set.
      rewind: see `Rewind`; None without it.
    """

    variables: Variables
    opt_state: optax.OptState
    order_key: Key
    teacher: jax.Array
    rewind: Rewind | None


class ScrubBatch(NamedTuple):
    """What one step looks at.

    Attributes:
      examples: `[B]` of the retain set where `minimise`, else of the forget set.
      teacher: `[B, C]` the original's logits for them.
      minimise: scalar, whether the step obeys the teacher.
      epoch: scalar, from 0.
    """

    examples: Examples
    teacher: jax.Array
    minimise: jax.Array
    epoch: jax.Array


def scrub(
    model: Model,
    spec: DataSpec,
    config: ScrubConfig = ScrubConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    r"""Build SCRUB, or SCRUB+R with `config.rewind` (Kurmanji et al. 2023, section 3).

    A maximising step descends :math:`-KL(p_{teacher} \| p)` on forget examples, a minimising one
    :math:`\gamma\, CE + \alpha\, KL` on retain examples. The student starts as its teacher, where
    the KL has its minimum: unless BatchNorm or dropout tell the two apart, the very first step has
    no gradient and does weight decay alone. A forget set of one batch and `max_epochs=1` therefore
    make SCRUB mere fine-tuning.

    BatchNorm normalises with the batch, and its statistics follow, in both passes; the teacher's
    outputs are those of evaluation mode.

    Args:
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: see `ScrubConfig`.
      tx: the optimizer; None takes the config's.

    Returns:
      The unlearner. With `config.rewind`, `prepare` raises `InputError` where validation has
      examples of no class that is forgotten. Forget examples of classes that validation lacks take
      no part in the choice. A class that the retain set lacks altogether does: the last network
      has not been shown it either, so its error on validation examples is a fair aim.

    Raises:
      InputError: the first maximising step would be the only one.
    """
    num_forget, num_retain = spec.num_forget, spec.num_retain
    batch_size = min(config.batch_size, num_retain)
    run = phases(config, num_forget, num_retain)
    tx = tx or torch_sgd(learning_rates(config, run), config.momentum, config.weight_decay)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> ScrubState:
        rewind = start_rewind(variables, data, config.epochs) if config.rewind else None
        parts = [predict(model, variables, part.inputs) for part in (data.forget, data.retain)]
        opt_state = tx.init(variables.params)
        return ScrubState(variables, opt_state, key, jnp.concatenate(parts), rewind)

    def sample(key: Key, t: jax.Array, state: ScrubState, data: UnlearnData) -> ScrubBatch:
        del key
        epoch, minimise, index = run.at(t)
        forget_key, retain_key = jax.random.split(state.order_key)
        rows = jnp.where(
            minimise,
            num_forget + shuffled_rows(retain_key, index, num_retain, batch_size),
            shuffled_rows(forget_key, index, num_forget, batch_size),
        )
        examples = take_joint(data.forget, data.retain, rows)
        return ScrubBatch(examples, take(state.teacher, rows), minimise, epoch)

    def step(key: Key, state: ScrubState, batch: ScrubBatch) -> tuple[ScrubState, Info]:
        def per_example(logits: jax.Array) -> jax.Array:
            kl = distillation(logits, batch.teacher, config.temperature)
            obey = config.gamma * cross_entropy(logits, batch.examples.labels) + config.alpha * kl
            return jnp.where(batch.minimise, obey, -kl)

        loss_fn = mean_loss(
            model, state.variables.state, batch.examples.inputs, per_example, train=True, key=key
        )
        variables, opt_state, loss = descend(tx, loss_fn, state.variables, state.opt_state)
        rewind = state.rewind and keep_network(state.rewind, variables, batch.epoch)
        state = state._replace(variables=variables, opt_state=opt_state, rewind=rewind)
        return state, {"loss": loss}

    def finish(state: ScrubState) -> Variables:
        return rewound(model, state.rewind) if config.rewind else state.variables

    return Unlearner(
        prepare, sample, step, finish, run.num_steps, Invariants(uses_validation=config.rewind)
    )


def start_rewind(variables: Variables, data: UnlearnData, epochs: int) -> Rewind:
    """Return room for each epoch's network, and the examples that will choose among them.

    Raises:
      InputError: no forget example has the class of a validation example.
    """
    forget_labels = np.asarray(data.forget.labels)
    labels = np.asarray(data.validation.labels)
    rows, matched = np.isin(forget_labels, labels), np.isin(labels, forget_labels)
    if not matched.any():
        raise InputError(
            "rewind is True, but validation has examples of no forgotten class "
            f"({', '.join(map(str, np.unique(forget_labels)))}); give some, or rewind=False"
        )
    classes, wanted = np.unique(forget_labels[rows], return_counts=True)
    there = np.unique(labels[matched], return_counts=True)[1]
    weights = (wanted / wanted.sum() / there)[np.searchsorted(classes, labels[matched])]
    return Rewind(
        jax.tree.map(lambda x: jnp.repeat(x[None], epochs, axis=0), variables),
        take(data.forget, np.flatnonzero(rows)),
        take(data.validation, np.flatnonzero(matched)),
        jnp.asarray(weights),
    )


def keep_network(rewind: Rewind, variables: Variables, epoch: jax.Array) -> Rewind:
    """Return `rewind` with `variables` as the network of `epoch`, in place of earlier steps'."""
    networks = jax.tree.map(lambda kept, x: kept.at[epoch].set(x), rewind.networks, variables)
    return rewind._replace(networks=networks)


def rewound(model: Model, rewind: Rewind) -> Variables:
    """Return the epoch's network whose forget error is closest to the last one's reference error.

    Among equals the latest: it has had the longest repair.
    """

    def network(epoch: int) -> Variables:
        return jax.tree.map(lambda x: x[epoch], rewind.networks)

    def errors(epoch: int, examples: Examples) -> np.ndarray:
        logits = predict(model, network(epoch), examples.inputs)
        return np.asarray(logits.argmax(-1) != examples.labels)

    epochs = range(len(jax.tree.leaves(rewind.networks)[0]))
    aim = np.sum(np.asarray(rewind.weights) * errors(epochs[-1], rewind.reference))
    misses = {epoch: abs(errors(epoch, rewind.forget).mean() - aim) for epoch in reversed(epochs)}
    return network(min(misses, key=misses.get))


METHOD = Method(
    name="scrub",
    summary="disobey the original on the forget set, obey it on the retain set, in turns",
    reference="Kurmanji et al. 2023, arXiv 2302.09880",
    build=scrub,
    config=ScrubConfig(),
    space={
        "learning_rate": LogUniform(5e-4, 5e-2),
        "epochs": Choice((3, 5, 10)),
        "max_epochs": Choice((1, 2, 3)),
    },
)
