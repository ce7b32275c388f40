"""Sharded `jit` and `pmap` give the results of a single device."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.errors import InputError
from ltu_jax.models import from_functions
from ltu_jax.training import loop, steps
from ltu_jax.training.devices import gathered, over_devices, split_batch
from ltu_jax.training.supervised import Recipe, train
from ltu_jax.types import Examples, Model, UnlearnData, Variables
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.finetune import FineTuneConfig, finetune
from ltu_jax.unlearners.ltu import (
    HeldoutDistillation,
    LTUConfig,
    MembershipSpec,
    Objective,
    ltu,
)
from ltu_jax.unlearners.random_label import RandomLabelConfig, random_label
from ltu_jax.unlearners.scrub import ScrubConfig, scrub

ROOT = Path(__file__).parents[2]
STEPS = 20
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
# No number of devices here divides 13, and 8 does not divide 12: shares are padded.
LTU = LTUConfig(
    steps=STEPS,
    support_size=13,
    audit_size=12,
    query_sampling=("uniform", "class"),
    query_size=12,
    objective=Objective(specs=(MembershipSpec("log_odds"), MembershipSpec("hinge")), support=1),
)
METHODS = {
    "ltu": lambda model, data: ltu(model, spec_of(data, 3), LTU),
    "ltu_joint": lambda model, data: ltu(
        model,
        spec_of(data, 3),
        replace(
            LTU,
            objective=Objective("sliced_wasserstein", projections=7),
            heldout_distillation=HeldoutDistillation(1.0, 13),
        ),
    ),
    "random_label": lambda model, data: random_label(
        model, spec_of(data, 3), RandomLabelConfig(epochs=5, batch_size=26)
    ),
    "scrub": lambda model, data: scrub(
        model,
        spec_of(data, 3),
        ScrubConfig(epochs=4, max_epochs=4, batch_size=26, learning_rate=0.05),
    ),
    "finetune": lambda model, data: finetune(
        model, spec_of(data, 3), FineTuneConfig(epochs=10, batch_size=40)
    ),
}


def network(dtype):
    """A hand-written MLP of six inputs; evaluation and training are the same."""

    def init(key, inputs):
        first, second = jax.random.split(key)
        return {
            "in": jax.random.normal(first, (inputs.shape[-1], 16), dtype) / 2,
            "bias": jnp.zeros(16, dtype),
            "out": jax.random.normal(second, (16, 3), dtype) / 4,
        }

    return from_functions(
        init, lambda p, x: jnp.tanh(x @ p["in"] + p["bias"]) @ p["out"], name="hand-written"
    )


def table(dtype):
    rng = np.random.default_rng(0)
    centres = 2.0 * rng.normal(size=(3, 6))

    def examples(size):
        labels = np.arange(size) % 3
        inputs = centres[labels] + rng.normal(size=(size, 6))
        return Examples(jnp.asarray(inputs, dtype), jnp.asarray(labels, jnp.int32))

    return UnlearnData(examples(24), examples(80), examples(60))


def trained(model, data, parallel=None):
    recipe = Recipe(epochs=10, batch_size=40, learning_rate=0.2)
    return train(model, data.retain, recipe, key=jax.random.key(0), parallel=parallel)[0]


def runner(name, dtype):
    """Return `parallel -> flat parameters` after a whole run of 20 steps."""
    model, data = gathered(network(dtype)), table(dtype)
    method = METHODS[name](model, data) if name in METHODS else None
    start = trained(model, data) if method else None

    def run(parallel):
        if method is None:
            variables = trained(model, data, parallel)
        else:
            assert method.num_steps == STEPS, (name, method.num_steps)
            key = jax.random.key(1)
            variables, _ = loop.unlearn(method, start, data, key=key, parallel=parallel)
        leaves = jax.tree.leaves(variables.params)
        assert all(leaf.dtype == dtype and len(leaf.devices()) == 1 for leaf in leaves)
        return np.concatenate([np.ravel(leaf) for leaf in leaves])

    return run


def differences():
    """Return by case how far each way of running is from one device, relative to the largest."""
    found = {}
    for dtype in ("float32", "float64"):
        with jax.enable_x64(dtype == "float64"):
            for name in ("train", *METHODS):
                run = runner(name, dtype)
                wanted = run(None)
                ways = [(8, False)]
                if dtype == "float64" or name == "ltu":
                    ways += [(8, True)]
                if dtype == "float64" and name == "ltu":
                    ways += [(2, False), (4, False)]
                for count, pmap in ways:
                    got = run(over_devices(count, pmap=pmap))
                    case = f"{name} {dtype} {'pmap' if pmap else 'jit'} {count}"
                    found[case] = float(np.abs(got - wanted).max() / np.abs(wanted).max())
    return found


def noisy_network():
    """A network whose training pass is random and whose examples meet in its state."""

    def apply(variables, inputs, *, train=False, key=None):
        hidden = inputs @ variables.params["w"]
        if not train:
            return hidden - variables.state["mean"], variables.state
        mean = hidden.mean(0)
        return hidden - mean + jax.random.normal(key, hidden.shape), {"mean": mean}

    def init(key, inputs):
        params = {"w": jax.random.normal(key, (inputs.shape[-1], 3))}
        return Variables(params, {"mean": jnp.zeros(3)})

    return Model(init, apply, "noisy")


def noisy_difference():
    """Return how far `pmap` is from one device where a training pass cannot be split."""
    one, eight = (
        trained(gathered(noisy_network()), table("float32"), parallel)
        for parallel in (None, over_devices(8, pmap=True))
    )
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


def programs():
    """Return the LTU step of eight devices: compiled by sharded jit, and as pmap traces it."""
    model, data = gathered(network("float32")), table("float32")
    method, start = METHODS["ltu"](model, data), model.init(jax.random.key(0), data.retain.inputs)
    key = jax.random.key(0)
    advance = steps.compiled(loop.as_step(method), over_devices(8, pmap=True))
    state = method.prepare(key, start, data)
    return {
        "jit": loop.compile_step(method, start, data, over_devices(8)).as_text(),
        "pmap": str(jax.make_jaxpr(partial(advance, 1))(key, 0, state, data)),
    }


def refused(**options):
    with pytest.raises(InputError) as caught:
        over_devices(**options)
    return caught.value.argument


def everything():
    """Return what the tests below check, from one process with eight devices."""
    return {
        "differences": differences(),
        "noisy": noisy_difference(),
        "programs": programs(),
        "too many": refused(count=9),
        "one": over_devices(1) is None,
        "all": over_devices().mesh.size,
    }


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    path = tmp_path_factory.mktemp("eight") / "found.json"
    code = (
        "import jax; jax.config.update('jax_num_cpu_devices', 8); import json, sys; "
        "from tests.training.test_devices import everything; "
        "json.dump(everything(), open(sys.argv[1], 'w'))"
    )
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",  # compiling is nearly all of the time
    }
    subprocess.run([sys.executable, "-c", code, path], env=environment, check=True, timeout=600)
    return json.loads(path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train", *METHODS])
def test_parameters_do_not_depend_on_the_number_of_devices(eight, name):
    cases = {case: x for case, x in eight["differences"].items() if case.split()[0] == name}
    assert len(cases) >= 3
    for case, difference in cases.items():
        assert difference < TOLERANCE[case.split()[1]], (case, difference)


@pytest.mark.slow
def test_training_passes_with_interactions_are_not_split(eight):
    assert eight["noisy"] < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "shares", "whole"), [("jit", {3, 13}, {12, 24}), ("pmap", {2, 3}, {12, 13, 24})]
)
def test_every_device_computes_its_share_of_the_examples(eight, way, shares, whole):
    """By the rows of hidden layers: 13, 12 and 24 examples go over 8 devices.

    Sharded: 13 divide over none, 12 over four, 24 over all of them. By pmap all are padded.
    """
    rows = {int(size) for size in re.findall(r"f32\[(\d+),16\]", eight["programs"][way])}
    assert shares <= rows
    assert not whole & rows


@pytest.mark.slow
def test_the_number_of_devices_is_checked(eight):
    assert eight["one"]
    assert eight["all"] == 8
    assert eight["too many"] == "devices"


@pytest.mark.parametrize("count", [0, -1])
def test_zero_devices_are_refused(count):
    assert refused(count=count) == "devices"


def test_one_device_needs_no_mesh():
    batch = Examples(jnp.ones([3, 2]), jnp.zeros(3))
    assert split_batch(batch, None) is batch
    model = gathered(network("float32"))
    variables = model.init(jax.random.key(0), batch.inputs)
    for train_pass in (False, True):
        plain, other = (
            str(
                jax.make_jaxpr(lambda v, x, m=m: m.apply(v, x, train=train_pass))(  # noqa: B023
                    variables, batch.inputs
                )
            )
            for m in (network("float32"), model)
        )
        assert plain == other
