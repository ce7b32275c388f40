"""Checkpoints that other libraries wrote are read, or refused with what they are."""

import json
import pickle
import zipfile

import flax.core
import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training import train_state
from flax.traverse_util import flatten_dict

from ltu_jax.errors import InputError, collect_warnings
from ltu_jax.models import wrap
from ltu_jax.training.checkpoint import as_variables, restore, save_checkpoint

X = jnp.ones([2, 4])


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.BatchNorm(use_running_average=not train, name="norm")(nn.Dense(5, name="body")(x))
        return nn.Dense(2, name="head")(x)


class Plain(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.relu(nn.Dense(5)(x)))


class Own(nnx.Module):
    def __init__(self, *, rngs):
        self.blocks = nnx.List([nnx.Linear(4, 5, rngs=rngs), nnx.BatchNorm(5, rngs=rngs)])
        self.drop, self.head = nnx.Dropout(0.1, rngs=rngs), nnx.Linear(5, 2, rngs=rngs)

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(self.drop(x))


class WithStatistics(train_state.TrainState):
    batch_stats: dict


NET = dict(Net().init(jax.random.key(1), X))
PLAIN = Plain().init(jax.random.key(2), X)["params"]
LIKE = {m: jax.eval_shape(wrap(m).init, jax.random.key(0), X) for m in (Net(), Plain(), Own)}
TX = optax.adamw(1e-3)
STATE = WithStatistics.create(
    apply_fn=None, params=NET["params"], tx=TX, batch_stats=NET["batch_stats"]
)
PLAIN_STATE = train_state.TrainState.create(apply_fn=None, params=PLAIN, tx=TX)


def orbax(path, tree):
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)
    return path


def orbax_v1(path, tree):
    from orbax.checkpoint import v1 as ocp

    ocp.save(str(path), tree)
    return path


def manager(path, tree):
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager(path) as checkpoints:
        for step in (5, 40):
            checkpoints.save(step, args=ocp.args.StandardSave(tree))
    return path


def items(path, tree):
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager(path) as checkpoints:
        save = ocp.args.StandardSave
        both = ocp.args.Composite(
            network=save(tree), optimizer=save({"mu": tree}), config=ocp.args.JsonSave({"a": 1})
        )
        checkpoints.save(7, args=both)
    return path / "7"


def msgpack(path, tree):
    path = path.with_suffix(".msgpack")
    path.write_bytes(flax.serialization.to_bytes(tree))
    return path


def npz(path, tree, sep="/"):
    np.savez(path.with_suffix(".npz"), **flatten_dict(tree, sep=sep))
    return path.with_suffix(".npz")


def npz_with_points(path, tree):
    return npz(path, tree, sep=".")


def safetensors(path, tree):
    from safetensors.flax import save_file

    save_file(flatten_dict(tree, sep="."), path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def hugging_face(path, tree):
    path.mkdir()
    (path / "config.json").write_text("{}")
    msgpack(path / "x", tree).rename(path / "flax_model.msgpack")
    return path


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize(
    ("write", "tree"),
    [
        (orbax, NET),
        (orbax, STATE),
        (orbax, {"model": NET, "opt_state": {"mu": NET}, "epoch": np.int32(4)}),
        (orbax, {"weights": {"net": NET}}),
        (orbax, {"params": NET["params"], "model_state": {"batch_stats": NET["batch_stats"]}}),
        (orbax_v1, NET),
        (orbax_v1, STATE),
        (items, NET),
        (msgpack, NET),
        (msgpack, STATE),
        (npz, NET),
        (npz_with_points, {"net": NET}),
        (safetensors, NET),
        (hugging_face, NET),
        (save_checkpoint, STATE),
        (save_checkpoint, flax.core.freeze(NET)),
    ],
)
def test_variables_of_linen_are_read_from_everything_that_holds_them(tmp_path, write, tree):
    path = write(tmp_path / "net", tree) or tmp_path / "net"
    found = restore(path, LIKE[Net()])
    assert_same(found.params, NET["params"])
    assert_same(found.state, {"batch_stats": NET["batch_stats"]})


@pytest.mark.parametrize(
    ("write", "tree"),
    [
        (orbax, PLAIN),
        (orbax, PLAIN_STATE),
        (orbax, {"params": PLAIN, "ema_params": PLAIN}),
        (hugging_face, PLAIN),
        (msgpack, PLAIN_STATE),
        (npz, PLAIN),
        (save_checkpoint, PLAIN),
    ],
)
def test_parameters_alone_are_read(tmp_path, write, tree):
    path = write(tmp_path / "net", tree) or tmp_path / "net"
    assert_same(restore(path, LIKE[Plain()]).params, PLAIN)


def module():
    module = Own(rngs=nnx.Rngs(4))
    module(X)  # statistics other than 0 and 1
    return module


def plain_dict(module):
    return nnx.to_pure_dict(nnx.state(module))


@pytest.mark.parametrize("write", [orbax, save_checkpoint])
@pytest.mark.parametrize("form", [nnx.state, plain_dict])
def test_states_of_nnx_are_read(tmp_path, write, form):
    trained = module()
    expected = as_variables(trained, LIKE[Own])
    write(tmp_path / "net", form(trained))
    assert_same(restore(tmp_path / "net", LIKE[Own]), expected)
    assert_same(as_variables({"epoch": 3, "net": form(trained)}, LIKE[Own]), expected)


def test_the_newest_step_is_read_and_named(tmp_path):
    with collect_warnings() as warnings:
        restore(manager(tmp_path / "run", STATE), LIKE[Net()])
    assert "40" in warnings[0]
    for step in ("5", "40", "40/default"):
        assert_same(restore(tmp_path / "run" / step, LIKE[Net()]).params, NET["params"])


def pickled(path, tree):
    path = path.with_suffix(".ckpt")
    path.write_bytes(pickle.dumps(jax.tree.map(np.asarray, tree)))
    return path


def torch_zip(path, tree):
    with zipfile.ZipFile(path.with_suffix(".pth"), "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    return path.with_suffix(".pth")


def keras(path, tree):
    path.with_suffix(".h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(20))
    return path.with_suffix(".h5")


def text(path, tree):
    path.write_text("weights: 1")
    return path


def truncated(path, tree):
    path = msgpack(path, tree)
    path.write_bytes(path.read_bytes()[:60])
    return path


def a_run(path, tree):
    path.mkdir()
    (path / "run.json").write_text(json.dumps({}))
    return path


def empty(path, tree):
    path.mkdir()
    return path


def several(path, tree):
    return orbax(path, {"generator": tree, "critic": tree})


def larger(path, tree):
    return orbax(path, {"params": {**tree, "Dense_2": tree["Dense_1"]}})


def one_of_two(path, tree):
    return orbax(path, {"encoder": {"kernel": np.ones((3, 3))}, "classifier": tree})


def with_nan(path, tree):
    return orbax(path, jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), tree))


@pytest.mark.parametrize(
    ("write", "word"),
    [
        (lambda path, tree: path, "does not exist"),
        (pickled, "pickle"),
        (torch_zip, "torch"),
        (keras, "HDF5"),
        (text, "not known"),
        (truncated, "damaged"),
        (a_run, "run"),
        (empty, "empty"),
        (several, "critic"),
        (larger, "Dense_2"),
        (one_of_two, "encoder"),
        (with_nan, "NaN"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, write, word):
    with pytest.raises(InputError) as caught:
        restore(write(tmp_path / "net", PLAIN), LIKE[Plain()])
    assert caught.value.argument == "checkpoint"
    assert word in caught.value.problem
    assert "\n" not in str(caught.value)


def test_infinity_is_allowed_in_the_state_and_nan_is_not():
    state = {"batch_stats": {"norm": {"mean": np.full(5, -np.inf), "var": np.ones(5)}}}
    assert np.isinf(
        as_variables({**NET, **state}, LIKE[Net()]).state["batch_stats"]["norm"]["mean"]
    ).all()
    state["batch_stats"]["norm"]["var"][2] = np.nan
    with pytest.raises(InputError) as caught:
        as_variables({**NET, **state}, LIKE[Net()])
    assert caught.value.argument == "params"
