"""A small vision transformer (Flax Linen), trained by its own loop, forgets a class.

python docs/examples/small_vit.py     # about a minute on one CPU core, nothing is downloaded

Only the last block and the head unlearn; all else comes out equal to the bit. Prints the result
table's last row, within two points of Retrain, and the verdict; leaves a report under runs/.
"""

import flax.linen as nn
import jax
import numpy as np
import optax
from sklearn.datasets import load_digits

import ltu_jax


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(x))
        return x + nn.Dense(x.shape[-1])(nn.gelu(nn.Dense(64)(nn.LayerNorm()(x))))


class ViT(nn.Module):
    @nn.compact
    def __call__(self, images):
        patches = nn.Conv(32, (2, 2), strides=(2, 2), name="patches")(images)
        x = patches.reshape(len(images), -1, 32)
        x = x + self.param("position", nn.initializers.normal(0.02), x.shape[1:])
        for number in range(2):
            x = Block(name=f"block_{number}")(x)
        return nn.Dense(10, name="head")(nn.LayerNorm(name="norm")(x).mean(1))


def main():
    images, labels = load_digits(return_X_y=True)
    images = (images / 8 - 1).astype(np.float32).reshape(-1, 8, 8, 1)
    x, y, test_x, test_y = images[:600], labels[:600], images[600:1000], labels[600:1000]

    vit, tx = ViT(), optax.adam(3e-3)
    variables = vit.init(jax.random.key(0), x[:1])

    @jax.jit
    def train_step(variables, opt_state, x, y):
        def loss(variables):
            logits = vit.apply(variables, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        updates, opt_state = tx.update(jax.grad(loss)(variables), opt_state)
        return optax.apply_updates(variables, updates), opt_state

    opt_state, rng = tx.init(variables), np.random.default_rng(0)
    for _ in range(200):
        rows = rng.choice(len(x), 64)
        variables, opt_state = train_step(variables, opt_state, x[rows], y[rows])

    data = ltu_jax.from_arrays((x, y), (test_x, test_y), name="digits", mean=(0.0,), std=(1.0,))
    result = ltu_jax.unlearn(
        data,
        ltu_jax.by_class(3),
        model=vit,
        params=variables,
        method="random_label",
        only=["block_1", "norm", "head"],
        recipe=ltu_jax.Recipe(epochs=30, learning_rate=0.1),  # of the networks to compare with
        quiet=True,
    )
    print(result.metrics["unlearned"])
    print(result.verdict)


if __name__ == "__main__":
    main()
