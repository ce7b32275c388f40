"""Losses against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import scipy.stats

from ltu_jax.training.losses import cross_entropy, distillation, distilled_cross_entropy

RNG = np.random.default_rng(0)
LOGITS, TEACHER = RNG.normal(size=(2, 5, 4)).astype(np.float32)
LABELS = jnp.array([0, 3, 1, 2, 2])


def softmax(logits):
    return scipy.special.softmax(np.asarray(logits, np.float64), axis=1)


def test_cross_entropy_is_that_of_the_label():
    wanted = -np.log(softmax(LOGITS)[np.arange(5), LABELS])
    np.testing.assert_allclose(cross_entropy(LOGITS, LABELS), wanted, rtol=1e-5)


def test_distillation_is_the_divergence_from_the_teacher():
    for temperature in (1.0, 4.0):
        p, q = softmax(TEACHER / temperature), softmax(LOGITS / temperature)
        wanted = temperature**2 * scipy.stats.entropy(p, q, axis=1)
        np.testing.assert_allclose(distillation(LOGITS, TEACHER, temperature), wanted, rtol=1e-4)
    np.testing.assert_allclose(distillation(TEACHER, TEACHER, 2.0), 0, atol=1e-6)


def test_the_gradient_keeps_its_size_as_the_temperature_grows():
    def gradient(temperature):
        return jax.grad(lambda x: distillation(x, TEACHER, temperature).sum())(LOGITS)

    # At high temperature it is the difference of centred logits over C.
    difference = LOGITS - TEACHER
    wanted = (difference - difference.mean(1, keepdims=True)) / 4
    np.testing.assert_allclose(gradient(200.0), wanted, atol=5e-3)


def test_a_share_of_the_loss_is_distillation():
    args = (LOGITS, LABELS)
    plain, kl = cross_entropy(*args), distillation(LOGITS, TEACHER, 2.0)
    mixed = distilled_cross_entropy(*args, TEACHER, 0.25, 2.0)
    np.testing.assert_allclose(mixed, 0.75 * plain + 0.25 * kl, rtol=1e-6)
    np.testing.assert_array_equal(distilled_cross_entropy(*args, None, 0.0, 2.0), plain)
