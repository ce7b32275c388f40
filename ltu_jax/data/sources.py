"""Data sets by name: scikit-learn's digits, TFDS, or a function of the user's package."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

import ltu_jax.data.on_disk as on_disk
import ltu_jax.paths as paths
from ltu_jax.data.arrays import from_arrays, stratified_rows, take_train, validate
from ltu_jax.errors import InputError, check_integer, warn
from ltu_jax.plugins import call, import_function
from ltu_jax.types import Array, Dataset, Examples

HANDED = ("svhn_cropped",)  # colour images that change their meaning when mirrored


def load(
    name: str,
    *,
    data_dir: str | None = None,
    train_size: int | None = None,
    seed: int = 0,
    stream: bool = False,
) -> Dataset:
    """Return the data set called `name`.

    Args:
      name: "digits" (shipped with scikit-learn), an image classification set of TFDS such as
        "cifar10" or "tiny_imagenet", or "package.module:function", a function without arguments
        that returns a `Dataset`, a tuple `(train_x, train_y, test_x, test_y)` or a mapping with
        these four keys.
      data_dir: folder of prepared TFDS data. Default: that of TFDS. Digits and functions ignore
        it.
      train_size: number of training examples to keep, stratified by class; they keep their ids.
      seed: of that subset only.
      stream: keep the training images on disk (see `data.on_disk`); TFDS sets only.

    Raises:
      InputError: the data set does not exist, cannot be read, or is not image classification.

    >>> load("digits").train.inputs.shape
    (1195, 8, 8, 1)
    """
    if seed < 0:
        raise InputError("seed", f"is {seed}", "give a number of at least 0")
    function = name.partition(":")[2].isidentifier()  # "cifar10:3.0.2" is a TFDS version.
    if stream and (function or name == "digits"):
        problem = f"is True, but {name} is in memory already"
        raise InputError("stream", problem, "leave it out, or give a TFDS data set as `data`")
    if name == "digits":
        dataset = _digits()
    elif function:
        dataset = _from_function(name)
    else:
        return _from_tfds(name, data_dir, train_size, seed, stream)
    return take_train(dataset, _train_rows(dataset.train.labels, train_size, seed))


def _train_rows(labels: Array, train_size: int | None, seed: int) -> np.ndarray:
    if train_size is None:
        return np.arange(len(labels))
    check_integer("train_size", train_size)
    smallest = 2 * len(np.unique(labels))
    if not smallest <= train_size <= len(labels):
        raise InputError(
            "train_size",
            f"is {train_size}",
            f"give {smallest} (two examples per class) to {len(labels)} (the whole training set)",
        )
    return stratified_rows(labels, train_size, seed)


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    bunch = cast(Any, load_digits())
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    # Rows are ordered by writer. Every third example of a class spreads writers and classes evenly;
    # one random division, shared by all seeds, might hold out the easy ones.
    heldout = np.concatenate([np.flatnonzero(bunch.target == digit)[::3] for digit in range(10)])
    train = np.setdiff1d(np.arange(len(images)), heldout)
    heldout.sort()
    return from_arrays(
        Examples(images[train], bunch.target[train]),
        Examples(images[heldout], bunch.target[heldout]),
        name="digits",
        ids=train,
        mean=(0.5,),
        std=(0.25,),
    )


def _from_function(name: str) -> Dataset:
    try:
        result = call(import_function(name, "data"), argument="data", name=name)
        if isinstance(result, Dataset):
            return validate(result)
        train, heldout = _four_arrays(name, result)
        return from_arrays(train, heldout, name=name)
    except InputError as error:
        if error.argument == "data":
            raise
        problem = f"{name}: {error.argument} {error.problem}"
        raise InputError("data", problem, error.remedy) from error


def _four_arrays(name: str, result: object) -> tuple[Examples, Examples]:
    keys = ("train_x", "train_y", "test_x", "test_y")
    if isinstance(result, Mapping) and set(result) == set(keys):
        result = tuple(result[key] for key in keys)
    if not isinstance(result, tuple | list) or len(result) != len(keys):
        shown = f"the keys {sorted(map(str, result))}" if isinstance(result, Mapping) else result
        shown = shown if isinstance(shown, str) else f"a {type(result).__name__}"
        remedy = f"return a Dataset, a tuple ({', '.join(keys)}) or a mapping with these keys"
        raise InputError("data", f"{name} returned {shown}", remedy)
    return Examples(*result[:2]), Examples(*result[2:])


def _from_tfds(
    name: str, data_dir: str | None, train_size: int | None, seed: int, stream: bool
) -> Dataset:
    builder = _tfds_builder(name, data_dir)
    image_key, group_keys = _columns(name, builder.info)
    heldout_splits = [split for split in ("test", "validation") if split in builder.info.splits]
    if "train" not in builder.info.splits or not heldout_splits:
        problem = f"{name} has the splits {', '.join(builder.info.splits)}"
        remedy = "choose a data set with 'train' and 'test' or 'validation'"
        raise InputError("data", problem, remedy)
    features = builder.info.features
    source = _source(name, builder, "train", image_key)
    if stream:
        train_rows, digests, shape = on_disk.scan(
            name, source, image_key, features[image_key].shape
        )
    else:
        train_rows = source.__getitems__(range(len(source)))
    labels = np.array([row["label"] for row in train_rows])
    if labels.min() < 0:
        problem = f"{name} has examples without a label in 'train' (label {labels.min()})"
        raise InputError("data", problem, "choose a data set whose training labels are public")
    chosen = _train_rows(labels, train_size, seed)
    ids = [train_rows[i]["id"] if "id" in features else i for i in chosen]
    train_rows = [train_rows[i] for i in chosen]
    if stream:
        images = on_disk.OnDisk(
            lambda rows: [row[image_key] for row in source.__getitems__(rows)],
            features[image_key].decode_example_np,
            chosen,
            digests[chosen],
            shape,
        )
    else:
        images = _decode(name, features[image_key], [row[image_key] for row in train_rows])
    heldout_rows = _labelled_rows(name, builder, heldout_splits, image_key)
    heldout = _decode(name, features[image_key], [row[image_key] for row in heldout_rows])
    return from_arrays(
        (images, labels[chosen]),
        (heldout, np.array([row["label"] for row in heldout_rows])),
        name=name,
        ids=ids,
        class_names=features["label"].names,
        groups={key: _group(features[key], train_rows, key) for key in group_keys},
        augment=images.shape[-1] == 3 and re.split(r"[/:]", name)[0] not in HANDED,
    )


def _tfds_builder(name: str, data_dir: str | None) -> Any:
    """Return the TFDS builder of prepared data; prepare the data if that is possible here."""
    import tensorflow_datasets as tfds

    if data_dir is not None:
        data_dir = paths.anywhere("data_dir", data_dir)
    if data_dir is not None and not (paths.is_bucket(data_dir) or Path(data_dir).exists()):
        remedy = f"give the folder that TFDS prepared {name!r} in, or create it"
        raise InputError("data_dir", f"{data_dir} does not exist", remedy)
    if name == "tiny_imagenet":
        import ltu_jax.data.tiny_imagenet as tiny_imagenet

        return tiny_imagenet.open_or_build(data_dir)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (ValueError, AssertionError, ImportError) as error:
        if isinstance(error, ImportError) and data_dir is not None and paths.is_bucket(data_dir):
            problem = f"{data_dir} cannot be reached ({' '.join(str(error).split())[-80:]})"
            raise InputError("data_dir", problem, "install it, or copy the data") from error
        reason = str(error).strip().partition("\n")[0]
        problem = f"{name} is neither 'digits' nor a TFDS data set ({reason})"
        remedy = "see tensorflow.org/datasets/catalog, or name a package.module:function"
        raise InputError("data", problem, remedy) from error
    if not builder.data_path.exists():
        _download(name, builder)
    return builder


def _download(name: str, builder) -> None:
    """Download and prepare the data of `builder` by TFDS."""
    problem = f"{name} is not prepared at {builder.data_path}"
    remedy = "give the folder of data prepared as array_record as `data_dir`"
    if importlib.util.find_spec("tensorflow") is None:
        problem += ", and TFDS needs TensorFlow once to prepare it"
        raise InputError("data", problem, f"pip install tensorflow, or {remedy}")
    try:
        builder.download_and_prepare(file_format="array_record")
    except OSError as error:
        problem += f", and the download failed ({' '.join(str(error).split())[:200]})"
        raise InputError("data", problem, remedy) from error


def _columns(name: str, info) -> tuple[str, list[str]]:
    """Return the key of the image and those of the scalar columns other than label and id."""
    import tensorflow_datasets as tfds

    features = dict(getattr(info.features, "items", dict)())
    images = [key for key, f in features.items() if isinstance(f, tfds.features.Image)]
    if len(images) != 1 or not isinstance(features.get("label"), tfds.features.ClassLabel):
        columns = ", ".join(sorted(features)) or "none"
        problem = f"{name} is not image classification; its columns are {columns}"
        raise InputError("data", problem, "choose a data set with one image and a 'label'")
    scalars = [key for key, f in features.items() if f.shape == () and key not in ("label", "id")]
    return images[0], scalars


def _source(name: str, builder, split: str, image_key: str):
    """Return the rows of a split, read on access, with images still encoded."""
    import tensorflow_datasets as tfds

    try:
        return builder.as_data_source(split=split, decoders={image_key: tfds.decode.SkipDecoding()})
    except NotImplementedError as error:
        file_format = builder.info.file_format.value
        problem = f"{name} is prepared as {file_format}, which cannot be read by row"
        command = f"tfds build {name} --file_format=array_record"
        remedy = f"prepare it again in another `data_dir`: {command}"
        raise InputError("data", problem, remedy) from error


def _labelled_rows(name: str, builder, splits: list[str], image_key: str) -> list[dict]:
    """Return the rows of the first split with labels; a hidden label is stored as -1."""
    for split in splits:
        source = _source(name, builder, split, image_key)
        rows = source.__getitems__(range(len(source)))
        if min(row["label"] for row in rows) >= 0:
            return rows
        if split != splits[-1]:
            warn(f"{name} hides labels of {split!r}; {splits[-1]!r} is the held-out set")
    shown = " and ".join(map(repr, splits))
    remedy = "choose a data set with public labels, or hold out a part in a package.module:function"
    raise InputError("data", f"{name} hides labels of {shown}", remedy)


def _decode(name: str, feature, encoded: list[bytes]) -> np.ndarray:
    first = feature.decode_example_np(encoded[0])
    images = np.empty((len(encoded), *first.shape), first.dtype)
    for row, data in enumerate(encoded):
        image = feature.decode_example_np(data)
        if image.shape != first.shape:
            problem = f"{name} has images of {first.shape} in row 0 and {image.shape} in row {row}"
            remedy = "choose images of one shape, or resize them in a package.module:function"
            raise InputError("data", problem, remedy)
        images[row] = image
    return images


def _group(feature, rows: list[dict], key: str) -> np.ndarray:
    """Return a scalar column, with class labels as names and bytes as text."""
    import tensorflow_datasets as tfds

    values = [row[key] for row in rows]
    if isinstance(feature, tfds.features.ClassLabel):
        return np.array([feature.int2str(int(value)) for value in values])
    return np.array([v.decode() if isinstance(v, bytes) else v for v in values])
