"""Where a data set comes from: scikit-learn's digits, TFDS by name, or a function of the user's."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import ltu_jax.data.on_disk as on_disk
from ltu_jax.data.arrays import from_arrays, stratified_rows, take_train, validate
from ltu_jax.errors import InputError, check_integer, check_path
from ltu_jax.plugins import call, import_function
from ltu_jax.types import Dataset, Examples

HANDED = ("svhn_cropped",)  # colour images that a flip would make into something else


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
      data_dir: the folder of prepared TFDS data; TFDS's own default if absent. Digits and
        functions do not read it.
      train_size: keep this many training examples, drawn by class in proportion; they keep the
        ids they have in the whole set.
      seed: draws that subset and nothing else.
      stream: leave the training images on disk (see `data.on_disk`); for TFDS sets alone.

    Raises:
      InputError: no such data set, nothing there to read, or data of a kind this cannot be.

    >>> load("digits").train.inputs.shape
    (1195, 8, 8, 1)
    """
    if seed < 0:
        raise InputError(f"--seed {seed}: pass a number of at least 0")
    function = name.partition(":")[2].isidentifier()  # "cifar10:3.0.2" is a TFDS version.
    if stream and (function or name == "digits"):
        raise InputError(
            f"--stream: --data {name} is in memory already; leave it out, or give a TFDS set"
        )
    if name == "digits":
        dataset = _digits()
    elif function:
        dataset = _from_function(name)
    else:
        return _from_tfds(name, data_dir, train_size, seed, stream)
    return take_train(dataset, _train_rows(dataset.train.labels, train_size, seed))


def _train_rows(labels: np.ndarray, train_size: int | None, seed: int) -> np.ndarray:
    if train_size is None:
        return np.arange(len(labels))
    check_integer("--train-size", train_size)
    smallest = 2 * len(np.unique(labels))
    if not smallest <= train_size <= len(labels):
        raise InputError(
            f"--train-size {train_size}: pass a number from {smallest} (two examples a class) "
            f"to {len(labels)} (the whole training set)"
        )
    return stratified_rows(labels, train_size, seed)


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    # Rows come writer by writer. Every third of a class spreads writers and classes evenly; one
    # random division for all seeds may by bad luck hold out the easy ones, and all would share it.
    heldout = np.concatenate([np.flatnonzero(bunch.target == digit)[::3] for digit in range(10)])
    train = np.setdiff1d(np.arange(len(images)), heldout)
    heldout.sort()
    return from_arrays(
        Examples(images[train], bunch.target[train]),
        Examples(images[heldout], bunch.target[heldout]),
        name="digits",
        ids=train,
    )


def _from_function(name: str) -> Dataset:
    function = import_function(name, "--data")
    try:
        result = call(function, flag="--data", name=name)
        if isinstance(result, Dataset):
            return validate(result)
        return from_arrays(*_four_arrays(result), name=name)
    except InputError as error:
        # Checks of arrays know no flag; they begin with the data set's name.
        problem = str(error).removeprefix("--data ").removeprefix(f"{name}: ")
        raise InputError(f"--data {name}: {problem}") from error


def _four_arrays(result: object) -> tuple[Examples, Examples]:
    keys = ("train_x", "train_y", "test_x", "test_y")
    if isinstance(result, Mapping) and set(result) == set(keys):
        result = tuple(result[key] for key in keys)
    if not isinstance(result, tuple | list) or len(result) != len(keys):
        shown = f"the keys {sorted(map(str, result))}" if isinstance(result, Mapping) else result
        shown = shown if isinstance(shown, str) else f"a {type(result).__name__}"
        raise InputError(
            f"the function returned {shown}; return a Dataset, a tuple "
            f"({', '.join(keys)}) or a mapping with just these keys"
        )
    return Examples(*result[:2]), Examples(*result[2:])


def _from_tfds(
    name: str, data_dir: str | None, train_size: int | None, seed: int, stream: bool
) -> Dataset:
    builder = _tfds_builder(name, data_dir)
    image_key, group_keys = _columns(name, builder.info)
    heldout_split = next((s for s in ("test", "validation") if s in builder.info.splits), None)
    if "train" not in builder.info.splits or heldout_split is None:
        raise InputError(
            f"--data {name}: its splits are {', '.join(builder.info.splits)}; "
            "choose a data set with 'train' and 'test' or 'validation'"
        )
    features = builder.info.features
    source = _source(name, builder, "train", image_key)
    if stream:
        train_rows, digests, shape = on_disk.look_through(
            name, source, image_key, features[image_key].shape
        )
    else:
        train_rows = source.__getitems__(range(len(source)))
    chosen = _train_rows(np.array([row["label"] for row in train_rows]), train_size, seed)
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
    heldout_source = _source(name, builder, heldout_split, image_key)
    heldout_rows = heldout_source.__getitems__(range(len(heldout_source)))
    heldout = _decode(name, features[image_key], [row[image_key] for row in heldout_rows])
    return from_arrays(
        Examples(images, np.array([row["label"] for row in train_rows])),
        Examples(heldout, np.array([row["label"] for row in heldout_rows])),
        name=name,
        ids=ids,
        class_names=features["label"].names,
        groups={key: _group(features[key], train_rows, key) for key in group_keys},
        augment=images.shape[-1] == 3 and re.split(r"[/:]", name)[0] not in HANDED,
    )


def _tfds_builder(name: str, data_dir: str | None):
    """Return the TFDS builder of prepared data, preparing it where that can be done here."""
    import tensorflow_datasets as tfds

    if data_dir is not None:
        check_path("--data-dir", data_dir)
    if data_dir is not None and not Path(data_dir).exists():
        raise InputError(
            f"--data-dir {data_dir}: there is no such folder; name the one that holds {name!r} as "
            "TFDS prepared it, or create it to have it prepared there"
        )
    if name == "tiny_imagenet":
        import ltu_jax.data.tiny_imagenet as tiny_imagenet

        return tiny_imagenet.open_or_build(data_dir)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (ValueError, AssertionError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"--data {name}: neither 'digits' nor a data set of TFDS nor package.module:function "
            f"({reason}); see tensorflow.org/datasets/catalog"
        ) from error
    if not builder.data_path.exists():
        _download(name, builder)
    return builder


def _download(name: str, builder) -> None:
    """Have TFDS download and prepare `builder`'s data, once."""
    where = f"--data {name}: {builder.data_path} is not there"
    if importlib.util.find_spec("tensorflow") is None:
        raise InputError(
            f"{where}, and preparing it needs TensorFlow once; pip install tensorflow, "
            "or name the folder of data already prepared as array_record by --data-dir"
        )
    try:
        builder.download_and_prepare(file_format="array_record")
    except OSError as error:
        raise InputError(
            f"{where} and TFDS could not fetch it ({' '.join(str(error).split())[:200]}); "
            "name the folder of data already prepared as array_record by --data-dir"
        ) from error


def _columns(name: str, info) -> tuple[str, list[str]]:
    """Return the key of the image and those of the scalar columns besides image, label and id."""
    import tensorflow_datasets as tfds

    features = dict(getattr(info.features, "items", dict)())
    images = [key for key, f in features.items() if isinstance(f, tfds.features.Image)]
    if len(images) != 1 or not isinstance(features.get("label"), tfds.features.ClassLabel):
        raise InputError(
            f"--data {name}: no image classification, its columns are "
            f"{', '.join(sorted(features)) or 'none'}; choose a data set with one image and a "
            "'label'"
        )
    scalars = [key for key, f in features.items() if f.shape == () and key not in ("label", "id")]
    return images[0], scalars


def _source(name: str, builder, split: str, image_key: str):
    """Return the rows of a split, read when they are asked for, images still encoded."""
    import tensorflow_datasets as tfds

    try:
        return builder.as_data_source(split=split, decoders={image_key: tfds.decode.SkipDecoding()})
    except NotImplementedError as error:
        raise InputError(
            f"--data {name}: {builder.data_path} is prepared as {builder.info.file_format.value}, "
            "which cannot be read by row; prepare it again in another --data-dir by "
            f"`tfds build {name} --file_format=array_record`"
        ) from error


def _decode(name: str, feature, encoded: list[bytes]) -> np.ndarray:
    first = feature.decode_example_np(encoded[0])
    images = np.empty((len(encoded), *first.shape), first.dtype)
    for row, data in enumerate(encoded):
        image = feature.decode_example_np(data)
        if image.shape != first.shape:
            raise InputError(
                f"--data {name}: images differ in shape, {first.shape} in row 0 and "
                f"{image.shape} in row {row}; choose a data set of equal images, or pass resized "
                "ones by package.module:function"
            )
        images[row] = image
    return images


def _group(feature, rows: list[dict], key: str) -> np.ndarray:
    """Return a scalar column, class labels by their names and bytes as text."""
    import tensorflow_datasets as tfds

    values = [row[key] for row in rows]
    if isinstance(feature, tfds.features.ClassLabel):
        return np.array([feature.int2str(int(value)) for value in values])
    return np.array([v.decode() if isinstance(v, bytes) else v for v in values])
