"""A user's arrays as a `Dataset`, and the one check that every `Dataset` passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ltu_jax.data.on_disk import OnDisk
from ltu_jax.errors import InputError, is_text, short
from ltu_jax.types import Dataset, Examples, Triggered


def from_arrays(
    train: Examples | tuple,
    heldout: Examples | tuple,
    *,
    name: str = "arrays",
    ids: Sequence | None = None,
    class_names: Sequence[str] | None = None,
    groups: Mapping[str, Sequence] | None = None,
    mean: Sequence[float] = (0.5,),
    std: Sequence[float] = (0.25,),
    augment: bool = False,
    triggered: Triggered | tuple | None = None,
) -> Dataset:
    """Make a `Dataset` of arrays `(inputs [N, ...], labels [N])`.

    Args:
      train: the training set; inputs uint8 (images), float32 (features) or other integers (tokens,
        kept as int32), labels integers in `[0, C)`.
      heldout: examples that no model trains on, of the same dtype and shape.
      name: what the data set is called in reports.
      ids: `[N]` unique ids of the training examples; their row indices if absent.
      class_names: `C` names; "0", "1", ... up to the largest label if absent.
      groups: named columns of `[N]` values by which examples may be selected for forgetting.
      mean: one constant, or one per channel, subtracted from the inputs; uint8 is divided by 255
        first, and tokens are left as they are. The constants are deliberately no statistics of the
        training set, for those would keep a trace of the forget set.
      std: one constant, or one per channel, that divides after `mean` is subtracted.
      augment: whether a cropped or mirrored image is still one of its class; a `Recipe` with
        `augment` then pads, crops and flips while training.
      triggered: `(inputs [T, ...], target)`: test inputs of other classes that carry the trigger of
        a backdoor, and the class (index or name) that it pushes them to. The report then says how
        often it succeeds.

    Raises:
      InputError: the arrays do not fit together.

    >>> x, y = np.zeros((6, 4), np.float32), np.array([0, 1, 2, 0, 1, 2])
    >>> from_arrays((x, y), (x, y)).num_classes
    3
    """
    train = _examples(name, "train", train)
    heldout = _examples(name, "heldout", heldout)
    if ids is None:
        ids = np.arange(len(train.labels))
    if class_names is None:
        class_names = range(_count_classes(name, train.labels, heldout.labels))
    return validate(
        Dataset(name, train, heldout, ids, class_names, groups or {}, mean, std, augment, triggered)
    )


def validate(dataset: Dataset) -> Dataset:
    """Return `dataset` as NumPy arrays of the promised dtypes, or raise.

    Args:
      dataset: any `Dataset`; float64 inputs are cast to float32, integers other than uint8 to
        int32, ids and class names to strings.

    Raises:
      InputError: shapes or dtypes of the two sets differ, inputs hold NaN or infinity, labels are
        no integers in `[0, C)`, ids are not unique, or a length differs from the training set's.
    """
    name = _texts("name", "name", [dataset.name])[0]
    train = _examples(name, "train", dataset.train)
    heldout = _examples(name, "heldout", dataset.heldout)
    if train.inputs.shape[1:] != heldout.inputs.shape[1:]:
        raise InputError(
            f"{name}: train inputs are of shape {train.inputs.shape[1:]}, heldout inputs of "
            f"{heldout.inputs.shape[1:]}; bring both to one shape"
        )
    if train.inputs.dtype != heldout.inputs.dtype:
        raise InputError(
            f"{name}: train inputs are {train.inputs.dtype}, heldout inputs "
            f"{heldout.inputs.dtype}; bring both to one dtype"
        )
    class_names = tuple(_texts(name, "class_names", dataset.class_names))
    _check_classes(name, class_names, {"train": train.labels, "heldout": heldout.labels})
    for field in ("mean", "std"):
        _check_constants(name, field, getattr(dataset, field), train.inputs.shape[-1])
    if dataset.augment and train.inputs.ndim != 4:
        raise InputError(
            f"{name}: augment=True needs images [N, H, W, C], the inputs are of shape "
            f"{train.inputs.shape}; pass augment=False"
        )
    return Dataset(
        name=name,
        train=train._replace(labels=train.labels.astype(np.int32)),
        heldout=heldout._replace(labels=heldout.labels.astype(np.int32)),
        train_ids=_ids(name, dataset.train_ids, len(train.labels)),
        class_names=class_names,
        groups=_groups(name, dataset.groups, len(train.labels)),
        mean=tuple(float(value) for value in dataset.mean),
        std=tuple(float(value) for value in dataset.std),
        augment=bool(dataset.augment),
        triggered=_triggered(name, dataset.triggered, train.inputs, class_names),
    )


def _triggered(
    name: str,
    triggered: Triggered | tuple | None,
    like: np.ndarray | OnDisk,
    class_names: tuple[str, ...],
) -> Triggered | None:
    if triggered is None:
        return None
    try:
        inputs, target = triggered
        inputs = np.asarray(inputs)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name}: triggered must be a pair (inputs [T, ...], target class) ({error})"
        ) from error
    inputs = _inputs(name, "triggered", inputs)
    if inputs.shape[1:] != like.shape[1:] or inputs.dtype != like.dtype:
        raise InputError(
            f"{name}: triggered inputs are {inputs.dtype} of shape {inputs.shape[1:]}, train "
            f"inputs {like.dtype} of {like.shape[1:]}; bring both to one"
        )
    if isinstance(target, str) and target in class_names:
        target = class_names.index(target)
    is_index = isinstance(target, int | np.integer) and not isinstance(target, bool)
    if not (is_index and 0 <= target < len(class_names)):
        raise InputError(
            f"{name}: triggered target {short(target)} is no class; give its index, 0 to "
            f"{len(class_names) - 1}, or its name"
        )
    return Triggered(inputs, int(target))


def stratified_rows(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Return `size` sorted row indices, each class within one of its proportional share.

    The rows are shuffled, sorted by class and taken at even distances.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    return np.sort(order[(2 * np.arange(size) + 1) * len(labels) // (2 * size)])


def take_train(dataset: Dataset, rows: np.ndarray) -> Dataset:
    """Return `dataset` with the given rows of its training set only; ids and groups follow."""
    inputs, labels = dataset.train
    inputs = inputs.take(rows) if isinstance(inputs, OnDisk) else inputs[rows]
    return dataset._replace(
        train=Examples(inputs, labels[rows]),
        train_ids=dataset.train_ids[rows],
        groups={column: values[rows] for column, values in dataset.groups.items()},
    )


def _examples(name: str, part: str, examples: Examples | tuple) -> Examples:
    try:
        inputs, labels = examples
        inputs = inputs if isinstance(inputs, OnDisk) else np.asarray(inputs)
        labels = np.asarray(labels)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name}: {part} must be a pair of arrays (inputs [N, ...], labels [N]), "
            f"all inputs of one shape ({error})"
        ) from error
    inputs = _inputs(name, part, inputs)
    return Examples(inputs, _labels(name, part, labels, len(inputs)))


def _inputs(name: str, part: str, inputs: np.ndarray) -> np.ndarray:
    if inputs.ndim < 2 or 0 in inputs.shape:
        raise InputError(
            f"{name}: {part} inputs have shape {inputs.shape}; pass a non-empty array [N, ...]"
        )
    if inputs.dtype == np.float64:
        with np.errstate(over="ignore"):  # What overflows becomes infinite and is refused below.
            inputs = inputs.astype(np.float32)
    if inputs.dtype.kind in "iu" and inputs.dtype != np.uint8:
        return _tokens(name, part, inputs)
    if inputs.dtype not in (np.uint8, np.float32):
        raise InputError(
            f"{name}: {part} inputs are {inputs.dtype}; pass uint8 images, float32 values or "
            "integer tokens"
        )
    if inputs.dtype == np.float32 and not (finite := np.isfinite(inputs)).all():
        row = int(np.argwhere(~finite)[0, 0])
        raise InputError(
            f"{name}: {part} inputs hold NaN or infinity, first in row {row}; "
            "remove or repair such rows"
        )
    return inputs


def _tokens(name: str, part: str, inputs: np.ndarray) -> np.ndarray:
    if inputs.min() < 0 or inputs.max() >= 2**31:
        raise InputError(
            f"{name}: {part} inputs are tokens from {inputs.min()} to {inputs.max()}; number them "
            "from 0 and below 2**31, or pass features as float32"
        )
    return inputs.astype(np.int32)


def _labels(name: str, part: str, labels: np.ndarray, length: int) -> np.ndarray:
    if labels.ndim == 2:
        raise InputError(
            f"{name}: {part} labels are of shape {labels.shape}; of one-hot rows pass "
            "labels.argmax(1). Several labels an example (multi-label) are not supported: losses, "
            "membership signals and metrics here are those of one class an example"
        )
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise InputError(
            f"{name}: {part} labels are {labels.dtype} of shape {labels.shape}; "
            "pass a one-dimensional array of integers"
        )
    if len(labels) != length:
        raise InputError(
            f"{name}: {part} has {length} inputs but {len(labels)} labels; pass one label an input"
        )
    if (low := int(labels.min())) < 0:
        raise InputError(f"{name}: {part} labels go down to {low}; number the classes from 0")
    return labels


def _count_classes(name: str, *labels: np.ndarray) -> int:
    largest = max(int(part.max()) for part in labels)
    if largest >= sum(len(part) for part in labels):
        raise InputError(
            f"{name}: the largest label is {largest}, more than there are examples; "
            "number the classes 0, 1, 2, ... or pass class_names"
        )
    return largest + 1


def _check_classes(name: str, class_names: tuple[str, ...], labels: dict[str, np.ndarray]) -> None:
    if len(class_names) < 2 or len(set(class_names)) != len(class_names):
        raise InputError(
            f"{name}: class_names has {len(class_names)} names, {len(set(class_names))} of them "
            "distinct; pass two or more different names"
        )
    for part, values in labels.items():
        if (high := int(values.max())) >= len(class_names):
            raise InputError(
                f"{name}: {part} labels go up to {high}; with {len(class_names)} classes "
                f"they must lie in 0 to {len(class_names) - 1}"
            )


def _check_constants(name: str, field: str, values: Sequence[float], channels: int) -> None:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if array.ndim != 1 or len(array) not in (1, channels) or not np.isfinite(array).all():
        raise InputError(
            f"{name}: {field}={values!r}; pass one finite number, or one for each of the "
            f"{channels} channels, as a tuple"
        )
    if field == "std" and (array <= 0).any():
        raise InputError(f"{name}: std={values!r}; pass positive numbers")


def _ids(name: str, ids: Sequence, length: int) -> np.ndarray:
    ids = np.asarray(_texts(name, "ids", ids), dtype=np.str_)
    if len(ids) != length:
        raise InputError(
            f"{name}: {len(ids)} ids for {length} training examples; pass one id an example"
        )
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) != length:
        raise InputError(
            f"{name}: id {str(unique[counts > 1][0])!r} occurs more than once; make ids unique"
        )
    return ids


def _groups(name: str, groups: Mapping[str, Sequence], length: int) -> dict[str, np.ndarray]:
    if not isinstance(groups, Mapping):
        raise InputError(
            f"{name}: groups is a {type(groups).__name__}; pass a mapping from names to columns"
        )
    columns = dict(zip(_texts(name, "groups", groups), map(_column, groups.values()), strict=True))
    for column, values in columns.items():
        if values.shape == (length,) and values.dtype.kind in "OSU":
            _texts(name, f"group {column!r}", values)
        if values.shape != (length,):
            raise InputError(
                f"{name}: group {column!r} has shape {values.shape}; pass one value for each of "
                f"the {length} training examples"
            )
    return columns


def _column(values: Sequence) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError:  # NumPy's word for rows of unequal length: no column either
        return np.asarray(values, dtype=object)


def _texts(name: str, what: str, values: Sequence) -> list[str]:
    """Return `values` as strings that a report can be written with."""
    try:
        texts = [v.decode() if isinstance(v, bytes) else str(v) for v in values]
    except (TypeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{name}: {what} is {short(values)} ({error}); pass a sequence of strings"
        ) from error
    wrong = [text for text in texts if not is_text(text)]
    if wrong:
        raise InputError(f"{name}: {what} holds {short(wrong[0])}, which is not UTF-8; rename it")
    return texts
