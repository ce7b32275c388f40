"""A toy TFDS data set, built from encoded images without TensorFlow."""

import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

COLOURS = ("red", "blue")
OBJECTS = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def png(array):
    out = io.BytesIO()
    Image.fromarray(array.squeeze()).save(out, format="PNG")
    return out.getvalue()


# Unregistered, so that it is read from its files alone.
class ToyImages(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A few images with every type of column."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        *,
        sides=(8,),
        channels=3,
        size=12,
        noise=0,
        heldout="test",
        with_label=True,
        hidden=(),
        **kwargs,
    ):
        self.sides, self.channels, self.size, self.noise = sides, channels, size, noise
        self.heldout, self.with_label, self.hidden = heldout, with_label, hidden
        super().__init__(**kwargs)

    def _info(self):
        side = self.sides[0] if len(self.sides) == 1 else None
        features = {
            "image": tfds.features.Image(shape=(side, side, self.channels)),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            "coarse_label": tfds.features.ClassLabel(names=COLOURS),
            "sensor": np.int64,
            "site": tfds.features.Text(),
        }
        if not self.with_label:
            del features["label"]
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        """A third and a fourth of the training set's size, so that shapes show the split."""
        sizes = {"train": self.size}
        sizes |= {name: self.size // (3 + i) for i, name in enumerate(self.heldout.split())}
        return {
            name: self._generate_examples(size, name in self.hidden) for name, size in sizes.items()
        }

    def _generate_examples(self, count, hidden):
        for i in range(count):
            side = self.sides[i % len(self.sides)]
            row = {
                "image": png(self._image(i, side)),
                "label": -1 if hidden else i % 2,
                "coarse_label": i // 2 % 2,
                "sensor": i,
                "site": f"site {i % 3}",
            }
            yield i, {key: row[key] for key in self.info.features}

    def _image(self, i, side):
        noise = np.random.default_rng(i).integers(0, self.noise + 1, (side, side, self.channels))
        return ((i + noise) % 256).astype(np.uint8)


class Cifar10(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A hundred images in the form in which TFDS keeps CIFAR-10."""

    VERSION = tfds.core.Version("3.0.2")

    def _info(self):
        features = {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(32, 32, 3)),
            "label": tfds.features.ClassLabel(names=OBJECTS),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples("train", 80),
            "test": self._generate_examples("test", 20),
        }

    def _generate_examples(self, split, count):
        rng = np.random.default_rng(count)
        for i in range(count):
            image = rng.integers(0, 256, (32, 32, 3), np.uint8)
            name = f"{split}_{OBJECTS[i % 10]}_{i}"
            yield i, {"id": name, "image": png(image), "label": i % 10}


@pytest.fixture
def cifar10_dir(tmp_path):
    """A folder of TFDS that holds a small CIFAR-10."""
    Cifar10(data_dir=tmp_path).download_and_prepare(file_format="array_record")
    return str(tmp_path)


@pytest.fixture
def toy_dir(tmp_path):
    """Return a function that builds `ToyImages` in a folder and returns the folder."""

    def build(stated_format="array_record", **arguments):
        builder = ToyImages(data_dir=tmp_path, **arguments)
        builder.download_and_prepare(file_format="array_record")
        info = builder.data_path / "dataset_info.json"
        info.write_text(info.read_text().replace("array_record", stated_format))
        return str(tmp_path)

    return build
