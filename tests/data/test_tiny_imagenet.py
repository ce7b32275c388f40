"""Tiny-ImageNet from small zips of the official layout."""

import io
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from ltu_jax.data import load
from ltu_jax.data.tiny_imagenet import URL, TinyImagenet, prepare, read_archive
from tests.refusals import refused

WNIDS = ("n02", "n01", "n03")
WORDS = "n00\tother\nn01\tcrane, lifting device\nn02\ttailed frog, bell toad\nn03\tcrane\n"


def jpeg(seed, mode="RGB", side=64):
    # One smooth colour ramp per seed, which JPEG keeps within a few grey levels.
    ramp = np.add.outer(np.arange(side), np.arange(side)) + 10 * seed
    array = np.repeat(ramp[..., None] % 256, 3, axis=-1).astype(np.uint8)
    image = Image.fromarray(array // np.array([1, 2, 3], np.uint8)).convert(mode)
    out = io.BytesIO()
    image.save(out, format="JPEG", quality=95)
    return out.getvalue()


def layout(wnids=WNIDS, per_class=3):
    """Return the files of a small zip; the second class's first image is in grayscale."""
    files = {"wnids.txt": "\n".join(wnids) + "\n", "words.txt": WORDS}
    for number, wnid in enumerate(wnids):
        files[f"train/{wnid}/{wnid}_boxes.txt"] = f"{wnid}_0.JPEG\t0\t0\t62\t62\n"
        for i in range(per_class):
            mode = "L" if (number, i) == (1, 0) else "RGB"
            files[f"train/{wnid}/images/{wnid}_{i}.JPEG"] = jpeg(3 * number + i, mode)
        files[f"val/images/val_{number}.JPEG"] = jpeg(number)
    files["val/val_annotations.txt"] = "".join(
        f"val_{number}.JPEG\t{wnid}\t0\t0\t62\t62\n" for number, wnid in enumerate(wnids)
    )
    files["test/images/test_0.JPEG"] = jpeg(0)
    return files


def write_zip(path, files, top="tiny-imagenet-200/"):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(top + name, content)
    return path


def test_a_zip_in_the_folder_is_built_once_and_read(tmp_path, monkeypatch):
    write_zip(tmp_path / "my-tiny-imagenet-3.zip", layout())
    dataset = load("tiny_imagenet", data_dir=str(tmp_path))
    assert dataset.class_names == ("tailed frog", "crane (n01)", "crane (n03)")
    assert sorted(dataset.train_ids) == [f"n0{c}_{i}" for c in (1, 2, 3) for i in range(3)]
    assert dataset.train.inputs.shape == (9, 64, 64, 3)
    assert dataset.train.inputs.dtype == np.uint8
    assert dataset.heldout.inputs.shape == (3, 64, 64, 3)
    assert sorted(dataset.heldout.labels) == [0, 1, 2]
    assert dataset.augment
    assert [WNIDS[k] for k in dataset.train.labels] == [i[:3] for i in dataset.train_ids]

    at = {name: row for row, name in enumerate(dataset.train_ids)}
    for name, seed in (("n02_1", 1), ("n03_2", 8)):
        with Image.open(io.BytesIO(jpeg(seed))) as image:
            expected = np.asarray(image, int)
        # Two decoders of JPEG may differ by a few levels.
        assert np.abs(dataset.train.inputs[at[name]] - expected).max() <= 4
    gray = dataset.train.inputs[at["n01_0"]]
    assert (gray == gray[..., :1]).all()
    assert gray.std() > 0

    monkeypatch.setattr(TinyImagenet, "download_and_prepare", None)  # It is built already.
    again = load("tiny_imagenet", data_dir=str(tmp_path / "my-tiny-imagenet-3.zip"))
    np.testing.assert_array_equal(again.train_ids, dataset.train_ids)
    (tmp_path / "my-tiny-imagenet-3.zip").unlink()
    assert load("tiny_imagenet", data_dir=str(tmp_path)).class_names == dataset.class_names
    assert "tensorflow" not in sys.modules


def test_tfds_downloads_the_official_zip(tmp_path, monkeypatch):
    fetched = []

    def download(self, url):
        fetched.append(url)
        return write_zip(tmp_path / "fetched.zip", layout())

    monkeypatch.setattr("tensorflow_datasets.download.DownloadManager.download", download)
    dataset = load("tiny_imagenet", data_dir=str(tmp_path))
    assert fetched == [URL]
    assert len(dataset.train.labels) == 9


def test_the_top_folder_may_have_any_name_or_none(tmp_path):
    archives = [
        read_archive(write_zip(tmp_path / f"{number}.zip", layout(), top))
        for number, top in enumerate(("tiny-imagenet-200/", "mine/", ""))
    ]
    assert len({archive.digest for archive in archives}) == 1
    assert {len(archive.train) for archive in archives} == {9}


def test_two_zips_are_not_mixed_in_one_folder(tmp_path):
    prepare(write_zip(tmp_path / "one.zip", layout()), tmp_path)
    other = write_zip(tmp_path / "other.zip", layout(wnids=("n00", "n02")))
    with refused("data_dir"):
        prepare(other, tmp_path)
    with refused("data_dir"):
        load("tiny_imagenet", data_dir=str(other))
    fewer = write_zip(tmp_path / "fewer.zip", layout(per_class=2))
    with refused("data_dir"):
        prepare(fewer, tmp_path)


def test_several_zips_are_refused(tmp_path):
    for name in ("tiny-imagenet-200.zip", "tiny-imagenet-20.zip"):
        write_zip(tmp_path / name, layout())
    with refused("data_dir", "2 zips"):
        load("tiny_imagenet", data_dir=str(tmp_path))


def without(*names):
    return {name: content for name, content in layout().items() if not name.startswith(names)}


@pytest.mark.parametrize(
    ("files", "value"),
    [
        (without("wnids.txt"), "0 files wnids.txt"),
        (without("words.txt"), "words.txt"),
        (without("val/val_ann"), "val/val_annotations.txt"),
        (without("val/images"), "val/images"),
        (without("train/n03/images"), "train/n03/images"),
        ({**layout(), "wnids.txt": "n01\nn01\n"}, "wnids.txt"),
        ({**layout(), "val/images/val_9.JPEG": jpeg(9)}, "val_9.JPEG"),
        ({**layout(), "../../evil.JPEG": b""}, "evil.JPEG"),
        ({**layout(), "..\\evil.JPEG": b""}, "evil.JPEG"),
        ({**layout(), "train/n01/images/n01_9.JPEG": jpeg(9, side=32)}, "32x32"),
        ({**layout(), "train/n01/images/n01_9.JPEG": b"no image"}, "n01_9.JPEG"),
        ({**layout(), "train/n01/images/n02_0.JPEG": jpeg(9)}, "n02_0"),
    ],
)
def test_zips_that_are_refused(tmp_path, files, value):
    path = write_zip(tmp_path / "tiny-imagenet.zip", files)
    with refused("data_dir", str(path), value):
        prepare(path, tmp_path / "out")
    assert not (tmp_path / "out" / "tiny_imagenet" / "1.0.0").exists()


def test_a_damaged_image_is_named(tmp_path):
    path = write_zip(tmp_path / "tiny-imagenet.zip", layout())
    content = bytearray(path.read_bytes())
    content[content.find(b"n02_1.JPEG") + 200] ^= 255
    path.write_bytes(content)
    with refused("data_dir", "n02_1.JPEG", "Bad CRC"):
        prepare(path, tmp_path / "out")
    assert not (tmp_path / "out" / "tiny_imagenet" / "1.0.0").exists()


@pytest.mark.parametrize("member", ["/etc/evil.JPEG", "C:/evil.JPEG"])
def test_absolute_members_are_refused(tmp_path, member):
    path = write_zip(tmp_path / "tiny-imagenet.zip", {**layout(), member: b""}, top="")
    with refused("data_dir", member):
        read_archive(path)


def test_missing_zip_and_no_zip(tmp_path):
    (tmp_path / "text.zip").write_text("no zip")
    for name in ("absent.zip", "text.zip"):
        with refused("data_dir", name):
            prepare(tmp_path / name, tmp_path)


def test_a_subset_of_many_classes_keeps_images_and_names(tmp_path):
    wnids = [f"n{number:02}" for number in range(1, 21)]
    words = "".join(f"{wnid}\tword {wnid}\n" for wnid in wnids)
    files = {**layout(wnids, per_class=6), "words.txt": words}
    path = write_zip(tmp_path / "tiny-imagenet-20.zip", files)
    dataset = load("tiny_imagenet", data_dir=str(path), train_size=60)
    assert dataset.class_names[:2] == ("word n01", "word n02")
    assert dataset.train.inputs.shape == (60, 64, 64, 3)
    assert dataset.heldout.inputs.shape == (20, 64, 64, 3)
    assert np.bincount(dataset.train.labels).tolist() == [3] * 20
    assert np.bincount(dataset.heldout.labels).tolist() == [1] * 20
    for row in (0, 30, 59):
        name, wnid = dataset.train_ids[row], wnids[dataset.train.labels[row]]
        with Image.open(io.BytesIO(files[f"train/{wnid}/images/{name}.JPEG"])) as image:
            expected = np.asarray(image.convert("RGB"), int)
        # Two decoders of JPEG may differ by a few levels.
        assert np.abs(dataset.train.inputs[row] - expected).mean() < 2
