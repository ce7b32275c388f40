"""Data sets made from arrays, and the checks that every data set passes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ltu_jax.data.columns import as_array, is_missing
from ltu_jax.data.labels import as_classes
from ltu_jax.data.on_disk import OnDisk
from ltu_jax.errors import InputError, is_text, short, warn
from ltu_jax.types import Array, Dataset, Examples, Triggered

_Values = Sequence | np.ndarray


def from_arrays(
    train: Examples | tuple,
    heldout: Examples | tuple,
    *,
    name: str = "arrays",
    ids: _Values | None = None,
    class_names: Sequence[str] | None = None,
    groups: Mapping[str, _Values] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augment: bool = False,
    triggered: Triggered | tuple | None = None,
) -> Dataset:
    """Make a `Dataset` from arrays `(inputs [N, ...], labels [N])`.

    Args:
      train: training set; inputs uint8 (images), floats (features, kept as float32) or other
        integers (tokens, kept as int32); labels integers in `[0, C)`, names, one-hot rows or a
        column `[N, 1]`, see `data.labels.as_classes`.
      heldout: examples that no model trains on, of the same dtype and shape.
      name: name of the data set in reports.
      ids: `[N]` unique ids of the training examples. Default: their row indices.
      class_names: `C` names. Default: those of the labels, or "0", "1", ... up to the largest.
      groups: named columns of `[N]` values, by which a request may select examples.
      mean: one constant, or one per channel, subtracted from the inputs; uint8 is divided by 255
        first, and tokens are not changed. Statistics of the training set would keep a trace of the
        forget set, so these are constants. Default: 0 for a model that you trained, which then gets
        the inputs as they are (uint8 divided by 255), else 0.5.
      std: one constant, or one per channel, that divides after `mean` is subtracted. Default: 1
        for a model that you trained, else 0.25.
      augment: whether cropped or mirrored images keep their class; a `Recipe` with `augment` then
        pads, crops and flips images in training.
      triggered: `(inputs [T, ...], target)`: test inputs of other classes with the trigger of a
        backdoor, and its target class (index or name). The report measures its success rate.

    Raises:
      InputError: the arrays do not fit together; names the argument.

    >>> x, y = np.zeros((6, 4), np.float32), np.array([0, 1, 2, 0, 1, 2])
    >>> from_arrays((x, y), (x, y)).num_classes
    3
    """
    given = {"train": _pair("train", train), "heldout": _pair("heldout", heldout)}
    inputs = {argument: _inputs(argument, part.inputs) for argument, part in given.items()}
    labels = {argument: part.labels for argument, part in given.items()}
    labels, class_names = as_classes(labels, class_names)
    train, heldout = (Examples(inputs[part], labels[part]) for part in given)
    if ids is None:
        ids = np.arange(len(train.labels))
    fields = (name, train, heldout, ids, class_names, groups or {}, mean, std, augment, triggered)
    return validate(Dataset._make(fields))


def validate(dataset: Dataset) -> Dataset:
    """Return `dataset` as NumPy arrays of the documented dtypes.

    Args:
      dataset: any `Dataset`; float64 inputs are cast to float32, integers other than uint8 to
        int32, ids and class names to strings.

    Raises:
      InputError: shapes or dtypes of the two sets differ, inputs hold NaN or infinity, labels are
        not integers in `[0, C)`, ids are not unique, or a length differs from the training set's.
    """
    train = _examples("train", dataset.train)
    heldout = _examples("heldout", dataset.heldout)
    _check_alike("heldout", heldout.inputs, train.inputs)
    class_names = tuple(_texts("class_names", dataset.class_names))
    _check_classes(class_names, {"train": train.labels, "heldout": heldout.labels})
    for field in ("mean", "std"):
        if getattr(dataset, field) is not None:
            _check_constants(field, getattr(dataset, field), train.inputs.shape[-1])
    if dataset.augment and train.inputs.ndim != 4:
        problem = f"is True, but the inputs have shape {train.inputs.shape}, not [N, H, W, C]"
        raise InputError("augment", problem, "give False")
    return Dataset(
        name=_texts("name", [dataset.name])[0],
        train=train._replace(labels=train.labels.astype(np.int32)),
        heldout=heldout._replace(labels=heldout.labels.astype(np.int32)),
        train_ids=_ids(dataset.train_ids, len(train.labels)),
        class_names=class_names,
        groups=_groups(dataset.groups, len(train.labels)),
        mean=None if dataset.mean is None else tuple(map(float, dataset.mean)),
        std=None if dataset.std is None else tuple(map(float, dataset.std)),
        augment=bool(dataset.augment),
        triggered=_triggered(dataset.triggered, train.inputs, class_names),
    )


def stratified_rows(labels: Array, size: int, seed: int) -> np.ndarray:
    """Return `size` sorted row indices, each class within one of its proportional share.

    Rows are shuffled, sorted by class and picked at equal distances.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    return np.sort(order[(2 * np.arange(size) + 1) * len(labels) // (2 * size)])


def take_train(dataset: Dataset, rows: np.ndarray) -> Dataset:
    """Return `dataset` with these rows of its training set only, ids and groups included."""
    inputs, labels = dataset.train
    inputs = inputs.take(rows) if isinstance(inputs, OnDisk) else inputs[rows]
    return dataset._replace(
        train=Examples(inputs, labels[rows]),
        train_ids=dataset.train_ids[rows],
        groups={column: values[rows] for column, values in dataset.groups.items()},
    )


def _pair(argument: str, examples: Examples | tuple) -> Examples:
    """Return inputs and labels, neither of them checked."""
    try:
        inputs, labels = examples
    except (TypeError, ValueError) as error:
        problem = f"is not a pair of arrays ({error})"
        raise InputError(argument, problem, "give (inputs [N, ...], labels [N])") from error
    return Examples(inputs, labels)


def _examples(argument: str, examples: Examples | tuple) -> Examples:
    inputs, labels = _pair(argument, examples)
    inputs = _inputs(argument, inputs)
    return Examples(inputs, _labels(argument, as_array(argument, labels), len(inputs)))


def _inputs(argument: str, inputs: Any) -> Any:
    inputs = inputs if isinstance(inputs, OnDisk) else as_array(argument, inputs)
    if inputs.ndim < 2 or 0 in inputs.shape:
        problem = f"has inputs of shape {inputs.shape}"
        raise InputError(
            argument,
            problem if inputs.ndim else f"has inputs that are a {type(inputs.item()).__name__}",
            "give a non-empty array [N, ...], all inputs of one shape",
        )
    inputs = _numbers(argument, inputs)
    if inputs.dtype.kind == "f" and inputs.dtype != np.float32:
        with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused below
            inputs = inputs.astype(np.float32)
    if inputs.dtype.kind in "iu" and inputs.dtype != np.uint8:
        low, high = inputs.min(), inputs.max()
        if low < 0 or high >= 2**31:
            problem = f"has tokens from {low} to {high}"
            remedy = "number tokens from 0 to 2**31 - 1, or give features as float32"
            raise InputError(argument, problem, remedy)
        return inputs.astype(np.int32)
    if inputs.dtype not in (np.uint8, np.float32):
        remedy = "give uint8 images, float32 features or integer tokens"
        raise InputError(argument, f"has inputs of type {inputs.dtype}", remedy)
    if inputs.dtype == np.float32 and not (finite := np.isfinite(inputs)).all():
        row = int(np.argwhere(~finite)[0, 0])
        problem = f"has NaN or infinity in the inputs, first in row {row}"
        raise InputError(argument, problem, "remove or repair such rows")
    return inputs


def _check_alike(argument: str, inputs: Array, train: Array | OnDisk) -> None:
    """Raise `InputError` unless inputs have shape and dtype of the training inputs."""
    if inputs.shape[1:] != train.shape[1:] or inputs.dtype != train.dtype:
        problem = (
            f"has inputs {inputs.dtype}{list(inputs.shape[1:])}, but the training set has "
            f"{train.dtype}{list(train.shape[1:])}"
        )
        raise InputError(argument, problem, "convert both to one shape and dtype")


def _numbers(argument: str, inputs: Any) -> Any:
    """Return inputs of this machine's byte order, objects and bfloat16 as floats."""
    if isinstance(inputs, OnDisk):
        return inputs
    if inputs.dtype.name == "bfloat16":
        return inputs.astype(np.float32)
    if inputs.dtype != object:
        return inputs.astype(inputs.dtype.newbyteorder("="), copy=False)
    # A data frame whose columns differ in type.
    values = inputs.ravel()
    texts = [value for value in values.tolist() if isinstance(value, str | bytes)]
    try:
        if texts:
            raise TypeError(f"text such as {short(texts[0])}")
        return inputs.astype(np.float32)
    except (TypeError, ValueError) as error:
        problem = f"has inputs that are not numbers ({error})"
        raise InputError(argument, problem, "encode them as numbers") from error


def _labels(argument: str, labels: np.ndarray, length: int) -> np.ndarray:
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        problem = f"has labels {labels.dtype}{list(labels.shape)}"
        remedy = "make the data set with ltu_jax.from_arrays, or give integers [N]"
        raise InputError(argument, problem, remedy)
    if len(labels) != length:
        problem = f"has {length} inputs but {len(labels)} labels"
        raise InputError(argument, problem, "give one label per input")
    if (low := int(labels.min())) < 0:
        raise InputError(argument, f"has the label {low}", "number the classes from 0")
    return labels


def _check_classes(class_names: tuple[str, ...], labels: Mapping[str, Array]) -> None:
    if len(class_names) < 2 or len(set(class_names)) != len(class_names):
        problem = f"has {len(class_names)} names, {len(set(class_names))} of them distinct"
        raise InputError("class_names", problem, "give two or more different names")
    for argument, values in labels.items():
        if (high := int(values.max())) >= len(class_names):
            remedy = f"give labels from 0 to {len(class_names) - 1}, or more `class_names`"
            raise InputError(argument, f"has the label {high}", remedy)


def _check_constants(argument: str, values: Sequence[float], channels: int) -> None:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if array.ndim != 1 or len(array) not in (1, channels) or not np.isfinite(array).all():
        remedy = f"give a tuple of one finite number, or of one for each of {channels} channels"
        raise InputError(argument, f"is {short(values)}", remedy)
    if argument == "std" and (array <= 0).any():
        raise InputError(argument, f"is {short(values)}", "give positive numbers")


def _ids(ids: _Values, length: int) -> np.ndarray:
    if np.ma.is_masked(ids):
        raise InputError("ids", "has masked entries", "give one id per training example")
    values = np.asarray(ids) if hasattr(ids, "__array__") else ids
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    texts = _texts("ids", values)
    for row, value in enumerate(values):
        if is_missing(value) or not texts[row]:
            raise InputError("ids", f"has no id in row {row}", "give one id per training example")
    if all(
        isinstance(value, float | np.floating) and float(value).is_integer() for value in values
    ):
        warn("the ids are floats without fractions; they are taken as integers")
        texts = [str(int(value)) for value in values]
    ids = np.asarray(texts, dtype=np.str_)
    if len(ids) != length:
        problem = f"has {len(ids)} entries for {length} training examples"
        raise InputError("ids", problem, "give one id per example")
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) != length:
        twice = str(unique[counts > 1][0])
        raise InputError("ids", f"has {twice!r} more than once", "make ids unique")
    return ids


def _groups(groups: Mapping[str, _Values], length: int) -> dict[str, np.ndarray]:
    if not isinstance(groups, Mapping):
        problem = f"is a {type(groups).__name__}"
        raise InputError("groups", problem, "give a mapping from names to columns")
    columns = dict(zip(_texts("groups", groups), map(_column, groups.values()), strict=True))
    for column, values in columns.items():
        if values.shape != (length,):
            problem = f"has a column {column!r} of shape {values.shape}"
            remedy = f"give one value for each of {length} training examples"
            raise InputError("groups", problem, remedy)
        if values.dtype.kind in "OSU":
            _texts("groups", values)
    return columns


def _column(values: _Values) -> np.ndarray:
    """Return a column as a NumPy array; entries that are masked become None."""
    if np.ma.is_masked(values):
        masked = np.ma.asarray(values)
        column = masked.data.astype(object)
        column[np.ma.getmaskarray(masked)] = None
        return column
    try:
        column = np.asarray(values)
    except ValueError:  # rows of unequal length
        return np.asarray(values, dtype=object)
    if column.dtype.kind in "SU" and not isinstance(values, np.ndarray):
        kinds = {type(value) for value in values}
        if len(kinds) > 1:  # NumPy would make 12 and "12" the same string
            return np.array(list(values), dtype=object)
    return column[:, 0] if column.ndim == 2 and column.shape[1] == 1 else column


def _triggered(
    triggered: Triggered | tuple | None, train: Array | OnDisk, class_names: tuple[str, ...]
) -> Triggered | None:
    if triggered is None:
        return None
    try:
        inputs, target = triggered
    except (TypeError, ValueError) as error:
        remedy = "give (inputs [T, ...], target class)"
        raise InputError("triggered", f"is not a pair ({error})", remedy) from error
    inputs = _inputs("triggered", inputs)
    _check_alike("triggered", inputs, train)
    if isinstance(target, str) and target in class_names:
        target = class_names.index(target)
    if (
        not isinstance(target, int | np.integer)
        or isinstance(target, bool)
        or not 0 <= target < len(class_names)
    ):
        remedy = f"give its index, 0 to {len(class_names) - 1}, or its name"
        raise InputError("triggered", f"has the target {short(target)}, not a class", remedy)
    return Triggered(inputs, int(target))


def _texts(argument: str, values: Iterable) -> list[str]:
    """Return `values` as strings that can be written to a report."""
    try:
        texts = [v.decode() if isinstance(v, bytes) else str(v) for v in values]
    except (TypeError, UnicodeDecodeError) as error:
        problem = f"is {short(values)} ({error})"
        raise InputError(argument, problem, "give a sequence of strings") from error
    wrong = [text for text in texts if not is_text(text)]
    if wrong:
        raise InputError(argument, f"contains {short(wrong[0])}, which is not UTF-8", "rename it")
    return texts
