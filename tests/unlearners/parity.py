"""Reference runs of the authors' own code, and the small network that they were made with.

The files are in `parity_cases/`, whose README says where each comes from. `LTU_PARITY_DIR` names
another folder of files `<case>_<suffix>.npz`, `LTU_PARITY_SUFFIX` their suffix (default `open`); a
case that such a folder lacks is skipped. The network is the reference's in Flax's layout: inputs
`[B, H, W, C]`, kernels HWIO, dense kernels `[in, out]` with rows in the order height, width,
channel.
"""

import json
import os
from functools import cached_property
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.types import Examples, Model, UnlearnData, Variables

CASES = Path(__file__).parent / "parity_cases"
TOLERANCE = 1e-9  # of the largest distance that any weight travelled
PADDING = -1
SETS = ("forget", "retain", "test")


def read_case(name):
    """Return the arrays of a case and the options that it was made with."""
    folder = Path(os.environ.get("LTU_PARITY_DIR", CASES))
    path = folder / f"{name}_{os.environ.get('LTU_PARITY_SUFFIX', 'open')}.npz"
    if folder != CASES and not path.exists():
        pytest.skip(f"{folder} has no {path.name}")
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    return arrays, json.loads(str(arrays.pop("meta_json")))


class Case:
    """One reference run: `arrays` are the file's, `meta` the options that it was made with."""

    def __init__(self, name):
        self.arrays, self.meta = read_case(name)
        self.names = [str(name) for name in self.arrays["param_names"]]

    def __getitem__(self, name):
        return self.arrays[name]

    def __contains__(self, name):
        return name in self.arrays

    @cached_property
    def data(self):
        """All examples as `UnlearnData`; the reference's test set is the validation set."""
        return UnlearnData(*(self.examples(which) for which in range(3)))

    def examples(self, which, rows=None, labels=None):
        """Rows (all by default) of set 0 forget, 1 retain or 2 test, under `labels` if given."""
        rows = np.arange(len(self[f"y_{SETS[which]}"])) if rows is None else rows
        inputs = self[f"x_{SETS[which]}"][rows].transpose(0, 2, 3, 1) / 255.0
        labels = self[f"y_{SETS[which]}"][rows] if labels is None else labels
        return Examples(jnp.asarray(inputs), jnp.asarray(labels))

    def batch(self, t, *, prefix="steps", labels=True):
        """The examples that step `t` really saw, under the labels that it really used."""
        rows = self[f"{prefix}/idx"][t]
        valid = rows != PADDING
        sets = self[f"{prefix}/set"][t][valid] if f"{prefix}/set" in self else 0 * rows[valid]
        parts = [self.examples(which, rows[valid][sets == which]) for which in range(3)]
        order = np.argsort(np.concatenate([np.flatnonzero(sets == w) for w in range(3)]))
        inputs, own = (np.concatenate([part[i] for part in parts])[order] for i in (0, 1))
        used = self[f"{prefix}/label"][t][valid] if labels and f"{prefix}/label" in self else own
        return Examples(jnp.asarray(inputs), jnp.asarray(used))

    def rates(self):
        """The learning rates as a schedule over steps."""
        rates = jnp.asarray(self["steps/lr"])
        return lambda step: rates[step]

    def variables(self, prefix="init"):
        """The stored network `prefix/*` as variables of `net()`."""
        tensors = {
            name.removeprefix(f"{prefix}/"): value
            for name, value in self.arrays.items()
            if name.startswith(f"{prefix}/")
        }
        params, state = {}, {}
        for name, value in tensors.items():
            layer, kind = name.split(".")
            if kind in ("weight", "bias"):
                params.setdefault(layer, {})[kind if kind == "bias" else "kernel"] = _to_flax(value)
            elif kind.startswith("running"):
                state.setdefault(layer, {})[kind.removeprefix("running_")] = jnp.asarray(value)
        return Variables(params, state)

    def tree(self, prefix):
        """Stored tensors `prefix/*` (a mask, say) in the layout of the parameters."""
        return self.variables(prefix).params

    def from_flat(self, flat, like="init"):
        """A stored flat vector in the layout of the parameters."""
        params, start = {}, 0
        for name in self.names:
            layer, kind = name.split(".")
            shape = self[f"{like}/{name}"].shape
            value = flat[start : start + int(np.prod(shape))].reshape(shape)
            start += value.size
            params.setdefault(layer, {})[kind if kind == "bias" else "kernel"] = _to_flax(value)
        return params

    def flat(self, params):
        """Parameters in the reference's flat order."""
        values = []
        for name in self.names:
            layer, kind = name.split(".")
            value = np.asarray(params[layer][kind if kind == "bias" else "kernel"])
            channels = params["conv2"]["bias"].shape[0]
            values.append(_to_torch(value, channels).ravel())
        return np.concatenate(values)

    def assert_follows(self, trajectory):
        """Parameter trees after 0, 1, ... steps are the reference's, step by step."""
        wanted = self["traj"]
        assert len(trajectory) == len(wanted)
        movement = np.abs(wanted[-1] - wanted[0]).max()
        errors = [np.abs(self.flat(p) - w).max() / movement for p, w in zip(trajectory, wanted)]
        assert max(errors) <= TOLERANCE, f"step {np.argmax(errors)}: {max(errors):.1e} of movement"

    def assert_close(self, params, wanted, movement):
        """Parameters are a stored flat vector, up to the tolerance of `movement`."""
        assert np.abs(self.flat(params) - wanted).max() <= TOLERANCE * movement

    def assert_state(self, state, prefix):
        """Model state is the stored BatchNorm state of `prefix/*`."""
        wanted = self.variables(prefix).state
        assert jax.tree.structure(state) == jax.tree.structure(wanted)
        for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(wanted)):
            np.testing.assert_allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE)


def net():
    """The reference's network; layers `bn1`, `bn2` take part where the variables have them."""

    def apply(variables, inputs, *, train=False, key=None):
        del key
        params, state, x = variables.params, dict(variables.state), inputs
        for index in (1, 2):
            conv, norm = params[f"conv{index}"], f"bn{index}"
            x = jax.lax.conv_general_dilated(
                x, conv["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = x + conv["bias"]
            if norm in params:
                x, state[norm] = _batch_norm(params[norm], variables.state[norm], x, train)
            x = jax.nn.relu(x)
            x = x.reshape(x.shape[0], x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).mean((2, 4))
        x = x.reshape(len(x), -1)
        return x @ params["fc"]["kernel"] + params["fc"]["bias"], state

    return Model(init=None, apply=apply, name="reference")


def _batch_norm(params, state, x, train):
    mean, var = state["mean"], state["var"]
    if train:
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        count = x.size // x.shape[-1]
        state = {
            "mean": 0.9 * state["mean"] + 0.1 * mean,
            "var": 0.9 * state["var"] + 0.1 * var * count / (count - 1),
        }
    x = (x - mean) / jnp.sqrt(var + 1e-5)
    return x * params["kernel"] + params["bias"], state


def _to_flax(value):
    value = np.asarray(value)
    if value.ndim == 4:
        value = value.transpose(2, 3, 1, 0)
    if value.ndim == 2:  # columns come channel by channel of 2 x 2 pixels
        value = value.reshape(len(value), -1, 2, 2).transpose(2, 3, 1, 0).reshape(-1, len(value))
    return jnp.asarray(value)


def _to_torch(value, channels):
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    if value.ndim == 2:
        classes = value.shape[1]
        return value.reshape(2, 2, channels, classes).transpose(3, 2, 0, 1).reshape(classes, -1)
    return value
