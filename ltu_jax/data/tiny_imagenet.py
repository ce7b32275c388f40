"""Tiny-ImageNet as a TFDS data set, built from the official zip without TensorFlow.

Zips of the official layout are accepted, with any top folder and number of classes: `wnids.txt`,
`words.txt`, `train/<wnid>/images/*.JPEG`, `val/images/*.JPEG` and `val/val_annotations.txt`. The
official test images have no public labels and are left out.
"""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, cast

import tensorflow_datasets as tfds
from PIL import Image

from ltu_jax.errors import InputError
from ltu_jax.files import digest

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
SIDE = 64
LARGEST = 16 * 2**20  # bytes of a member; those of the official zip are below a fifth of it
REMEDY = "use a zip of the layout of tiny-imagenet-200.zip"
# Errors of damaged, encrypted or unusually packed zips.
UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    UnicodeDecodeError,
    zipfile.BadZipFile,
    zlib.error,
)


class Row(NamedTuple):
    """One image: its id (the file's stem), its member of the zip and its class's name."""

    id: str
    member: str
    label: str


class Archive(NamedTuple):
    """Content of a zip.

    Attributes:
      path: of the zip.
      digest: SHA-256 of the members' paths and checksums, without the top folder's name.
      class_names: in the order of `wnids.txt`.
      train: the images under `train/`.
      validation: the images under `val/`, labelled by `val_annotations.txt`.
    """

    path: Path
    digest: str
    class_names: tuple[str, ...]
    train: tuple[Row, ...]
    validation: tuple[Row, ...]


class TinyImagenet(tfds.core.GeneratorBasedBuilder):
    """Tiny-ImageNet: 64x64 colour images of up to 200 of ImageNet's classes."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 - TFDS declares it so

    def __init__(self, *, archive: Archive | None = None, **kwargs):
        """Read images from `archive`; None downloads the official zip."""
        self._archive = archive
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        # The zip names the classes: they are set when it is read and kept with the built data.
        return self.dataset_info_from_configs(
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=(SIDE, SIDE, 3)),
                    "label": tfds.features.ClassLabel(),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="http://cs231n.stanford.edu/",
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        archive = self._archive or read_archive(dl_manager.download(URL))
        info = cast(Any, self.info)
        info.features["label"].names = list(archive.class_names)
        info.metadata["digest"] = archive.digest
        return {
            "train": self._generate_examples(archive.path, archive.train),
            "validation": self._generate_examples(archive.path, archive.validation),
        }

    def _generate_examples(self, path: Path, rows: tuple[Row, ...]) -> Iterator[tuple[str, dict]]:
        with zipfile.ZipFile(path) as archive:
            for row in rows:
                try:
                    encoded = archive.read(row.member)
                except UNREADABLE as error:
                    raise _error(path, f"cannot read {row.member} ({error})") from error
                image = _rgb_bytes(encoded, path, row.member)
                yield row.id, {"id": row.id, "image": image, "label": row.label}


def open_or_build(data_dir: str | os.PathLike | None) -> TinyImagenet:
    """Return the builder of the Tiny-ImageNet in `data_dir`, built if necessary.

    Args:
      data_dir: a folder with built data, a folder with the zip (`*tiny*imagenet*.zip`), or the
        zip itself, whose folder receives the data. Without a zip the official one is downloaded.

    Raises:
      InputError: there are several zips, the data were built from another zip, or the download
        failed.
    """
    if data_dir is not None:
        found = Path(data_dir)
        zips = [found] if found.is_file() else sorted(found.glob("*tiny*imagenet*.zip"))
        if len(zips) > 1:
            names = ", ".join(path.name for path in zips)
            raise _error(data_dir, f"holds {len(zips)} zips: {names}", "give one of them")
        if zips:
            return prepare(zips[0], zips[0].parent)
    builder = TinyImagenet(data_dir=data_dir)
    if not builder.data_path.exists():
        try:
            builder.download_and_prepare(file_format="array_record")
        except OSError as error:
            reason = " ".join(str(error).split())[:200]
            problem = f"holds no Tiny-ImageNet, and the download of {URL} failed ({reason})"
            folder = builder.data_path.parent.parent
            raise _error(folder, problem, "put the zip there") from error
    return builder


def prepare(zip_path: str | os.PathLike, data_dir: str | os.PathLike) -> TinyImagenet:
    """Build the zip into `data_dir`, unless the same zip was built there before.

    Returns:
      The builder; `as_data_source(split)` reads "train" and "validation".

    Raises:
      InputError: the zip is missing or of another layout, or the folder cannot be written or holds
        the data of another zip.
    """
    archive = read_archive(zip_path)
    builder = TinyImagenet(data_dir=data_dir, archive=archive)
    if builder.data_path.exists():
        if cast(Any, builder.info).metadata.get("digest") != archive.digest:
            remedy = f"give another folder, or delete {builder.data_path}"
            raise _error(data_dir, f"was built from another zip than {zip_path}", remedy)
        return builder
    try:
        builder.download_and_prepare(file_format="array_record")
    except OSError as error:
        remedy = "put the zip into a writable folder with enough space"
        raise _error(data_dir, f"cannot be written ({error})", remedy) from error
    return builder


def read_archive(zip_path: str | os.PathLike) -> Archive:
    """Return the content of a zip from its listing and text files; no image is read.

    Raises:
      InputError: the zip is missing, of another layout, or has paths outside its folder.
    """
    try:
        with zipfile.ZipFile(zip_path) as archive:
            members = _members(archive, zip_path)
            names = _class_names(archive, members, zip_path)
            train = _train(members, names)
            validation = _validation(archive, members, names, zip_path)
    except UNREADABLE as error:
        raise _error(zip_path, f"is not a readable zip ({error})") from error
    present = {row.label for row in train}
    if missing := [wnid for wnid, name in names.items() if name not in present]:
        raise _error(zip_path, f"has no images in train/{missing[0]}/images")
    for rows in (train, validation):
        (image_id, count), *_ = Counter(row.id for row in rows).most_common(1) or [("", 0)]
        if count > 1:
            raise _error(zip_path, f"has two images named {image_id}")
    if not validation:
        raise _error(zip_path, "has no images in val/images")
    return Archive(
        path=Path(zip_path),
        digest=_digest(members),
        class_names=tuple(names.values()),
        train=train,
        validation=validation,
    )


def _members(archive: zipfile.ZipFile, zip_path: str | os.PathLike) -> dict[str, zipfile.ZipInfo]:
    """Return the files below the top folder by their paths relative to it."""
    files = [info for info in archive.infolist() if not info.filename.endswith("/")]
    for info in files:
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            problem = f"has a member {info.filename!r} outside its folder"
            raise _error(zip_path, problem, "use a zip from a source that you trust")
        if info.file_size > LARGEST:
            raise _error(zip_path, f"has a member {info.filename!r} of {info.file_size:,} bytes")
    tops = [
        info.filename.removesuffix("wnids.txt")
        for info in files
        if PurePosixPath(info.filename).name == "wnids.txt" and info.filename.count("/") <= 1
    ]
    if len(tops) != 1:
        raise _error(zip_path, f"has {len(tops)} files wnids.txt")
    top = tops[0]
    return {f.filename.removeprefix(top): f for f in files if f.filename.startswith(top)}


def _lines(archive: zipfile.ZipFile, members: dict, path: str, zip_path) -> list[list[str]]:
    """Return the non-empty lines of a text file of the zip, split at tabs."""
    if path not in members:
        raise _error(zip_path, f"has no {path}")
    lines = archive.read(members[path]).decode("utf-8").splitlines()
    return [line.strip().split("\t") for line in lines if line.strip()]


def _class_names(archive: zipfile.ZipFile, members: dict, zip_path) -> dict[str, str]:
    """Return each wnid's first name in `words.txt`, with the wnid where two classes share it."""
    wnids = [line[0] for line in _lines(archive, members, "wnids.txt", zip_path)]
    if len(set(wnids)) != len(wnids):
        raise _error(zip_path, "names a class twice in wnids.txt")
    words = {line[0]: line[-1] for line in _lines(archive, members, "words.txt", zip_path)}
    first = {wnid: words.get(wnid, wnid).split(",")[0].strip() for wnid in wnids}
    shared = Counter(first.values())
    return {wnid: f"{name} ({wnid})" if shared[name] > 1 else name for wnid, name in first.items()}


def _train(members: dict[str, zipfile.ZipInfo], names: dict[str, str]) -> tuple[Row, ...]:
    rows = []
    for path, info in sorted(members.items()):
        parts = PurePosixPath(path).parts
        if len(parts) == 4 and (parts[0], parts[2]) == ("train", "images") and parts[1] in names:
            rows += _row(parts[3], info, names[parts[1]])
    return tuple(rows)


def _validation(archive: zipfile.ZipFile, members: dict, names: dict, zip_path) -> tuple[Row, ...]:
    lines = _lines(archive, members, "val/val_annotations.txt", zip_path)
    wnids = {line[0]: line[1] for line in lines if len(line) > 1}
    rows = []
    for path, info in sorted(members.items()):
        folder, _, file = path.rpartition("/")
        if folder == "val/images":
            if wnids.get(file) not in names:
                problem = f"gives {file} the class {wnids.get(file)!r}, which wnids.txt lacks"
                raise _error(zip_path, problem)
            rows += _row(file, info, names[wnids[file]])
    return tuple(rows)


def _row(file: str, info: zipfile.ZipInfo, label: str) -> list[Row]:
    path = PurePosixPath(file)
    is_image = path.suffix.lower() in (".jpeg", ".jpg") and not file.startswith(".")
    return [Row(path.stem, info.filename, label)] if is_image else []


def _digest(members: dict[str, zipfile.ZipInfo]) -> str:
    listing = sorted(f"{path} {info.CRC:08x} {info.file_size}" for path, info in members.items())
    return digest("\n".join(listing).encode())


def _rgb_bytes(encoded: bytes, path: Path, member: str) -> bytes:
    """Return a colour JPEG unchanged, and any other image as a lossless colour PNG."""
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            size = image.size
            if size == (SIDE, SIDE) and image.mode != "RGB":
                png = io.BytesIO()
                image.convert("RGB").save(png, format="PNG")
                encoded = png.getvalue()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _error(path, f"cannot decode {member} ({error})") from error
    if size != (SIDE, SIDE):
        raise _error(path, f"has {member} of {size[0]}x{size[1]} pixels, not {SIDE}x{SIDE}")
    return encoded


def _error(path: str | os.PathLike, problem: str, remedy: str = REMEDY) -> InputError:
    return InputError("data_dir", f"{path} {problem}", remedy)
