"""A CNN in the shape of Flax's MNIST tutorial (NNX), trained by its own loop, forgets ten images.

python docs/examples/mnist_cnn.py     # about a minute on one CPU core, nothing is downloaded

Prints the unlearned model's row and the verdict, and writes a report under runs/. Scikit-learn's
digits of 8x8 pixels replace MNIST.
"""

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

import ltu_jax
from ltu_jax.models import update_nnx


class CNN(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(1, 8, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(8, 16, (3, 3), rngs=rngs)
        self.dense1 = nnx.Linear(2 * 2 * 16, 32, rngs=rngs)
        self.dense2 = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.avg_pool(nnx.relu(self.conv1(x)), (2, 2), strides=(2, 2))
        x = nnx.avg_pool(nnx.relu(self.conv2(x)), (2, 2), strides=(2, 2))
        return self.dense2(nnx.relu(self.dense1(x.reshape(len(x), -1))))


@nnx.jit
def train_step(net, optimizer, x, y):
    def loss(net):
        return optax.softmax_cross_entropy_with_integer_labels(net(x), y).mean()

    optimizer.update(net, nnx.grad(loss)(net))


def main():
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    x, y, test_x, test_y = images[:900], labels[:900], images[900:1500], labels[900:1500]

    net = CNN(rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(net, optax.adam(3e-3), wrt=nnx.Param)
    rng = np.random.default_rng(0)
    for _ in range(300):
        rows = rng.choice(len(x), 128)
        train_step(net, optimizer, jnp.asarray(x[rows]), jnp.asarray(y[rows]))

    # Images are given as the network takes them: nothing is to be subtracted or divided.
    data = ltu_jax.from_arrays((x, y), (test_x, test_y), name="digits", mean=(0.0,), std=(1.0,))
    forget = range(0, 900, 90)
    result = ltu_jax.unlearn(
        data,
        forget,
        model=CNN,
        params=net,
        method="mi_match",
        recipe=ltu_jax.Recipe(epochs=20, learning_rate=0.1),  # of the networks to compare with
        quiet=True,
    )
    print(result.metrics["unlearned"])
    print(result.verdict)
    update_nnx(net, result.unlearned)  # the module goes on as one that has forgotten


if __name__ == "__main__":
    main()
