"""The model of a plan: found, traced, and tried on a few examples."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.errors import InputError, few, warn
from ltu_jax.models import MODELS, build, check_training_pass, wrap
from ltu_jax.models.outputs import warn_of_probabilities
from ltu_jax.plugins import call
from ltu_jax.training.supervised import predict
from ltu_jax.types import Array, Dataset, Examples, Model, Variables


def as_model(model: Any, dataset: Dataset) -> Model:
    """Return the model that is named or given; None chooses one that suits the data."""
    if not isinstance(model, str | None):
        name = getattr(model, "__name__", type(model).__name__)
        return call(wrap, model, argument="model", name=name)
    if model is not None and model not in MODELS:
        return build(model, dataset.num_classes)
    if dataset.train.inputs.dtype == np.int32:
        raise InputError(
            "model",
            f"is {model}, but the inputs are integer tokens, which no built-in model reads",
            "give your own model, or features as float32",
        )
    if model is None:
        shape = dataset.train.inputs.shape
        small = len(shape) != 4 or min(shape[1:3]) < 16
        model = "mlp" if small else "cnn"
    return build(model, dataset.num_classes)


def trace(model: Model, dataset: Dataset) -> Variables:
    """Return the shapes of the model's variables.

    Raises:
      InputError: the model does not take the inputs, does not return `[B, C]` logits, or has arrays
        that cannot be trained or stored.
    """
    inputs = jnp.asarray(dataset.train.inputs[:1])
    try:
        like = jax.eval_shape(model.init, jax.random.key(0), inputs)
        logits, _ = jax.eval_shape(model.apply, like, inputs)
    except InputError:
        raise
    except Exception as error:  # the user's own model may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(
            "model",
            f"{model.name} does not take inputs of shape {list(inputs.shape)} ({reason})",
            "give a model that does",
        ) from error
    _check_arrays(model.name, like)
    shape = getattr(logits, "shape", None)
    if shape != (1, dataset.num_classes):
        found = f"a {type(logits).__name__}" if shape is None else f"logits of shape {list(shape)}"
        one_logit = shape in ((1,), (1, 1)) and dataset.num_classes == 2
        raise InputError(
            "model",
            f"{model.name} returns {found} for one example",
            "turn its one logit into two with ltu_jax.models.binary_head"
            if one_logit
            else f"give a model that returns {[1, dataset.num_classes]} for {dataset.name}",
        )
    return like


def check_own(model: Model, dataset: Dataset, like: Variables, seed: int) -> None:
    """Try a model of the user with new weights on a few examples.

    Raises:
      InputError: its logits are not finite.
    """
    inputs = dataset.train.inputs
    check_training_pass(model, like, jax.ShapeDtypeStruct((2, *inputs.shape[1:]), inputs.dtype))
    rows = spread(len(inputs), 32)

    @jax.jit
    def first_pass(inputs: Array) -> jax.Array:
        return model.apply(model.init(jax.random.key(seed), inputs[:1]), inputs)[0]

    logits = first_pass(inputs[rows])
    _check_finite("model", f"{model.name} with new weights", logits, dataset)
    warn_of_probabilities(logits, is_trained=False)


class Accuracy(NamedTuple):
    """Accuracy of a given model on at most a thousand examples each, in percent."""

    train: float
    heldout: float


def check_given(
    argument: str, model: Model, variables: Variables, dataset: Dataset, *, strict: bool = True
) -> Accuracy:
    """Return the accuracy of a model that the user gave.

    Args:
      argument: `params` or `checkpoint`, for errors.
      model: takes raw inputs.
      variables: of the given model.
      dataset: its training set and held-out examples.
      strict: whether an accuracy that looks wrong is an error.

    Raises:
      InputError: logits are not finite, or the accuracy is far below that of the most frequent
        class or of the nearest class mean of the model's own outputs.
    """
    train, heldout = (_sample(examples) for examples in (dataset.train, dataset.heldout))
    logits = [np.asarray(predict(model, variables, part.inputs)) for part in (train, heldout)]
    for outputs in logits:
        _check_finite(argument, "the given model", outputs, dataset)
    warn_of_probabilities(logits[0], is_trained=True)
    accuracy = Accuracy(
        *(
            100 * float(np.mean(outputs.argmax(-1) == part.labels))
            for outputs, part in zip(logits, (train, heldout), strict=True)
        )
    )
    if strict:
        _check_accuracy(argument, logits[0], np.asarray(train.labels), accuracy, dataset)
    return accuracy


def spread(length: int, size: int) -> np.ndarray:
    """Return at most `size` rows at equal distances."""
    return np.linspace(0, length - 1, min(length, size)).astype(int)


def _sample(examples: Examples) -> Examples:
    rows = spread(len(examples.labels), 1000)
    return Examples(examples.inputs[rows], np.asarray(examples.labels)[rows])


def _check_arrays(name: str, like: Variables) -> None:
    """Raise `InputError` if an array of the model cannot be trained or stored."""
    if not jax.tree.leaves(like.params):
        raise InputError("model", f"{name} has no parameters", "give a model that can be trained")
    for path, leaf in jax.tree_util.tree_leaves_with_path(like):
        where = f"{name} has {leaf.dtype} in {jax.tree_util.keystr(path)}"
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise InputError("model", where, "hold jax.random.key_data(key) in the state instead")
        if path[0].name == "params" and not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise InputError(
                "model",
                f"{where}, which gradients cannot train",
                "hold it in the model state (a Linen collection such as `constants`, an "
                "nnx.Variable) or in the functions",
            )


def _check_finite(argument: str, whose: str, logits: Array, dataset: Dataset) -> None:
    wrong = ~np.isfinite(np.asarray(logits))
    if wrong.any():
        classes = [dataset.class_names[c] for c in np.flatnonzero(wrong.any(axis=0))]
        raise InputError(
            argument,
            f"{whose} gives logits that are not finite for {int(wrong.any(axis=1).sum())} of "
            f"{len(wrong)} examples (class {few(classes)})",
            "mask classes with a large negative number such as -1e9, or look for a division by "
            "zero or an overflow",
        )


def _check_accuracy(
    argument: str, logits: np.ndarray, labels: np.ndarray, accuracy: Accuracy, dataset: Dataset
) -> None:
    """Raise `InputError` if the outputs know the classes far better than their largest logit.

    Classes count equally, so that a model of unbalanced data may prefer the frequent ones. The
    margin is three standard deviations of the difference of two accuracies.
    """
    found, possible = logits.argmax(-1), _nearest_class_mean(logits, labels)
    margin = max(0.2, 3 * np.sqrt(0.5 / len(labels)))
    share = float(np.bincount(labels).max() / len(labels))
    chance = 1 / len(np.unique(labels))
    reached, could = _balanced(found, labels), _balanced(possible, labels)
    measured = (
        f"gives a model that is right on {accuracy.train:.0f} % of its training examples and "
        f"{accuracy.heldout:.0f} % of the held-out ones"
    )
    remedy = (
        "give the model and the order of classes that belong together, and the preprocessing it "
        f"was trained with (`mean` is {few(dataset.mean or ())}, `std` {few(dataset.std or ())})"
    )
    if could - reached > margin:
        problem = (
            f"{measured}; the nearest class mean of its outputs is right on {100 * could:.0f} %"
        )
        order = _order_of_classes(found, labels, dataset.num_classes)
        if order is not None:
            names = few(dataset.class_names[c] for c in order)
            problem += f", and its outputs look like those of the classes in the order {names}"
        raise InputError(argument, problem, remedy)
    if share - accuracy.train / 100 > margin and reached < chance + margin / 2:
        problem = f"{measured}; the most frequent class is {100 * share:.0f} %"
        raise InputError(argument, problem, remedy)
    if accuracy.train / 100 <= share:
        warn(
            f"the given model is right on {accuracy.train:.0f} % of its training examples, no more "
            f"than the share of the most frequent class ({100 * share:.0f} %); check that data, "
            "mean and std are those it was trained with"
        )


def _nearest_class_mean(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the class whose mean of the other examples' logits is nearest."""
    classes, counts = np.unique(labels, return_counts=True)
    means = np.stack([logits[labels == c].mean(0) for c in classes])
    distances = np.linalg.norm(logits[:, None] - means, axis=-1)
    # Without the example itself, its class mean is farther by n / (n - 1).
    own = labels[:, None] == classes
    with np.errstate(divide="ignore", invalid="ignore"):
        farther = np.where(counts > 1, counts / (counts - 1), np.inf)
    return classes[np.where(own, distances * farther, distances).argmin(-1)]


def _balanced(found: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean([np.mean(found[labels == c] == c) for c in np.unique(labels)]))


def _order_of_classes(found: np.ndarray, labels: np.ndarray, num_classes: int) -> list[int] | None:
    """Return the class that each output mostly stands for, if they are a permutation."""
    counts = np.zeros((num_classes, num_classes), int)
    np.add.at(counts, (found, labels), 1)
    order = counts.argmax(1).tolist()
    is_permuted = sorted(order) == list(range(num_classes)) and order != sorted(order)
    return order if is_permuted and counts.max(1).sum() > 0.8 * counts.sum() else None
