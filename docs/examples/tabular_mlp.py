"""A hand-written network with one logit, on scikit-learn's breast-cancer data, forgets patients.

python docs/examples/tabular_mlp.py     # about a minute on one CPU core, nothing is downloaded

No neural-network library: parameters are a list of arrays, the network is a function. Prints the
result table's last row and the verdict, and leaves a report under runs/.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_breast_cancer

import ltu_jax
from ltu_jax.models import binary_head, from_functions


def init(key, inputs):
    widths = [inputs.shape[-1], 32, 1]
    keys = jax.random.split(key, 2)
    shapes = zip(keys, widths[:-1], widths[1:], strict=True)
    return [(jax.random.normal(k, (i, o)) / i**0.5, jnp.zeros(o)) for k, i, o in shapes]


def apply(params, x):
    (w1, b1), (w2, b2) = params
    return jnp.tanh(x @ w1 + b1) @ w2 + b2


def main():
    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:400], order[400:]
    # Scaled by held-out patients: statistics of the others would keep a trace of the forgotten.
    x = ((x - x[test].mean(0)) / x[test].std(0)).astype(np.float32)

    params, tx = init(jax.random.key(0), x), optax.adam(1e-2)

    @jax.jit
    def train_step(params, opt_state):
        def loss(params):
            return optax.sigmoid_binary_cross_entropy(
                apply(params, x[train])[:, 0], y[train]
            ).mean()

        updates, opt_state = tx.update(jax.grad(loss)(params), opt_state)
        return optax.apply_updates(params, updates), opt_state

    opt_state = tx.init(params)
    for _ in range(300):
        params, opt_state = train_step(params, opt_state)

    patients = [f"patient-{row:03d}" for row in train]
    data = ltu_jax.from_arrays(
        (x[train], y[train]),
        (x[test], y[test]),
        name="breast_cancer",
        ids=patients,
        class_names=["malignant", "benign"],
        mean=(0.0,),
        std=(1.0,),
    )
    model = binary_head(from_functions(init, apply, name="tabular"))
    result = ltu_jax.unlearn(data, patients[:40], model=model, params=params, quiet=True)
    print(result.metrics["unlearned"])
    print(result.verdict)


if __name__ == "__main__":
    main()
