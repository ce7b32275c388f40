"""A data set and a method so small that a whole deletion takes seconds."""

import jax
import numpy as np

import ltu_jax
from ltu_jax.models import with_preprocessing, wrap
from ltu_jax.runs.plan import make_plan
from ltu_jax.runs.spec import RunSpec, separate
from ltu_jax.training.supervised import train
from ltu_jax.unlearners.ltu import MembershipSpec, Objective

# Two one-line membership models and one query set: little to compile, every branch taken.
TINY_LTU = ltu_jax.LTUConfig(
    steps=3,
    audit_size=8,
    query_sampling=("uniform",),
    query_size=16,
    objective=Objective(specs=(MembershipSpec("log_odds"), MembershipSpec("entropy")), support=1),
)

FORGOTTEN = [f"patient-{i:04d}" for i in range(0, 120, 10)]


def table(num_train=120, num_heldout=60, **options):
    """Three classes in six columns, ids that no other text contains, one group column."""
    rng = np.random.default_rng(0)
    centres = 3.0 * rng.normal(size=(3, 6))

    def examples(size):
        labels = np.arange(size) % 3
        inputs = centres[labels] + rng.normal(size=(size, 6))
        return inputs.astype(np.float32), labels

    return ltu_jax.from_arrays(
        examples(num_train),
        examples(num_heldout),
        **{
            "name": "table",
            "ids": [f"patient-{i:04d}" for i in range(num_train)],
            "class_names": ["healthy", "ill", "recovered"],
            "groups": {"site": np.array(["north", "south"])[np.arange(num_train) % 5 // 4]},
            **options,
        },
    )


def two_sites(size=240):
    """Two classes and two sites; what is one class at the first is the other at the second."""
    rng = np.random.default_rng(0)
    site, labels = np.arange(2 * size) % 2, np.arange(2 * size) // 2 % 2
    inputs = rng.normal(size=(2 * size, 6)).astype(np.float32)
    inputs[:, 0] += 6 * np.where(site == 0, labels, 1 - labels) - 3
    inputs[:, 1] += 4 * site
    return ltu_jax.from_arrays(
        (inputs[:size], labels[:size]),
        (inputs[size:], labels[size:]),
        name="sites",
        groups={"site": np.array(["north", "south"])[site[:size]]},
    )


def plan(data=None, forget=None, **options):
    """A plan from the arguments of `ltu_jax.unlearn`; without a method and without references."""
    named = ("model", "params", "retrain", "method", "config", "only")
    given = {name: options.pop(name) for name in named if name in options}
    values, objects = separate(data=table() if data is None else data, **given)
    return make_plan(
        RunSpec(**{"method": "nothing", "reference": "none", **values, **options}), forget, objects
    )


def trained(model, data=None, epochs=10):
    """Variables of a model of the user's, trained on a data set; they fit `wrap(model)`."""
    data = table() if data is None else data
    model = with_preprocessing(
        wrap(model), mean=data.mean or (0.0,), std=data.std or (1.0,), augment=False
    )
    recipe = ltu_jax.Recipe(epochs=epochs, batch_size=30)
    return train(model, data.train, recipe, key=jax.random.key(0))[0]


def argument(error):
    """The argument that an `InputError` names."""
    name = error.argument.removeprefix("--").split(":")[0].split(" ")[0].replace("-", "_")
    return "forget" if name.startswith("forget_") else name
