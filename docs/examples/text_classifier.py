"""A text classifier over tokens (NNX), trained by its own loop, forgets sixty texts.

python docs/examples/text_classifier.py     # about a minute on one CPU core, nothing is downloaded

Tokens are integers, and reach the network as they are: only uint8 is taken for images. Prints the
result table's last row and the verdict, here that the attack still finds the texts: the default
options are those of image networks, and `trials=8` would choose others. Leaves a report in runs/.
"""

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import ltu_jax

VOCABULARY, LENGTH, TOPICS = 500, 20, ["sports", "politics", "science"]


class TextClassifier(nnx.Module):
    def __init__(self, num_classes: int = 3, *, rngs: nnx.Rngs):
        self.embed = nnx.Embed(VOCABULARY, 32, rngs=rngs)
        self.hidden = nnx.Linear(32, 32, rngs=rngs)
        self.out = nnx.Linear(32, num_classes, rngs=rngs)

    def __call__(self, tokens):
        return self.out(nnx.relu(self.hidden(self.embed(tokens).mean(1))))


def make_texts(count, rng):
    """Texts of a topic share some words; a fifth are filed under the wrong one."""
    words = np.random.default_rng(7).dirichlet(np.full(VOCABULARY, 0.05), len(TOPICS))
    topics = rng.integers(len(TOPICS), size=count)
    texts = np.stack([rng.choice(VOCABULARY, LENGTH, p=words[topic]) for topic in topics])
    return texts, np.where(rng.random(count) < 0.2, rng.integers(len(TOPICS), size=count), topics)


@nnx.jit
def train_step(net, optimizer, tokens, topics):
    def loss(net):
        return optax.softmax_cross_entropy_with_integer_labels(net(tokens), topics).mean()

    optimizer.update(net, nnx.grad(loss)(net))


def main():
    rng = np.random.default_rng(0)
    (texts, topics), heldout = make_texts(600, rng), make_texts(300, rng)

    net = TextClassifier(rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(net, optax.adam(1e-2), wrt=nnx.Param)
    for _ in range(200):
        rows = rng.choice(len(texts), 128)
        train_step(net, optimizer, jnp.asarray(texts[rows]), jnp.asarray(topics[rows]))

    names = [f"text-{row}" for row in range(len(texts))]
    data = ltu_jax.from_arrays(
        (texts, topics), heldout, name="texts", ids=names, class_names=TOPICS
    )
    result = ltu_jax.unlearn(
        data,
        names[:60],
        model=TextClassifier,
        params=net,
        method="mi_match",
        recipe=ltu_jax.Recipe(epochs=60, learning_rate=1.0),  # of the networks to compare with
        quiet=True,
    )
    print(result.metrics["unlearned"])
    print(result.verdict)


if __name__ == "__main__":
    main()
