"""The audit sees the right examples, and its numbers are those of networks known in advance."""

import jax.numpy as jnp
import numpy as np
import pytest

import ltu_jax
import ltu_jax.audit.measure as evaluate
from ltu_jax.audit import summary
from ltu_jax.audit.measure import measure_models
from ltu_jax.models import from_functions
from ltu_jax.types import TrainedModel, Variables
from tests.runs.test_plan import make

HEIGHT = 6.0  # of the right logit above the others


def numbered(num_train=120, num_heldout=60, heldout_labels=None):
    """A data set whose inputs are `(row, label)`, heldout rows from 1000 on."""
    train = np.arange(num_train) % 3
    heldout = np.arange(num_heldout) % 3 if heldout_labels is None else heldout_labels

    def inputs(labels, first):
        return np.stack([first + np.arange(len(labels)), labels], 1).astype(np.float32)

    return ltu_jax.from_arrays(
        (inputs(train, 0), train),
        (inputs(heldout, 1000), heldout),
        name="numbered",
        groups={"half": np.arange(num_train) * 2 // num_train},
        mean=(0.0,),
        std=(1.0,),
    )


def oracle(num_classes=3):
    """A network whose only parameter is added to the class it answers: 0 is always right."""

    def apply(params, inputs):
        answer = (inputs[:, 1] + params["shift"]).astype(int) % num_classes
        return HEIGHT * (answer[:, None] == jnp.arange(num_classes))

    return from_functions(lambda key, inputs: {"shift": jnp.zeros(())}, apply, name="oracle")


def plan_of(forget=None, data=None, **options):
    return make(numbered() if data is None else data, forget, model=oracle(), **options)


def network(shift, seconds=1.0):
    return TrainedModel(Variables({"shift": jnp.asarray(shift, float)}, {}), seconds)


def test_rows_of_networks_that_are_always_right_and_always_wrong():
    done = []
    networks = {"original": network(0, 7.0), "retrain": network(1), "ltu": network(0)}
    measured = measure_models(plan_of().problem, networks, done.append)
    assert done == [0, 1, 2]
    original, retrain, ltu = measured.rows
    assert (original.ua, original.ra, original.ta, original.seconds) == (0, 100, 100, 7)
    assert (retrain.ua, retrain.ra, retrain.ta) == (100, 0, 0)
    assert original.auc == retrain.auc == 50  # all losses are alike
    assert ltu.gaps == {"ua": -100, "ra": 100, "ta": 100, "mia": ltu.mia - retrain.mia}
    assert retrain.avg_gap == 0
    right = np.exp(HEIGHT) / (np.exp(HEIGHT) + 2)
    np.testing.assert_allclose(measured.signals["ltu"]["forget_confidence"], right)
    np.testing.assert_allclose(measured.signals["ltu"]["test_loss"], -np.log(right))
    assert measured.signals["ltu"]["test_loss"].shape == (len(plan_of().split.test),)


def named(name):
    """A signal of that name that looks at nothing."""

    def signal(logits, labels):
        return np.zeros(len(labels))

    signal.__name__ = name
    return signal


@pytest.mark.parametrize("retain_fraction", [0.3, 1.0])
def test_each_set_of_the_audit_holds_its_own_examples(monkeypatch, retain_fraction):
    plan = plan_of(ltu_jax.by_class(1), retain_fraction=retain_fraction)
    seen = {}

    def keep(name, logits, labels, **options):
        seen.update({part: values[:, 0] for part, values in logits.items()})
        for part, values in logits.items():
            np.testing.assert_array_equal(labels[part], values[:, 1])
        return summary.Row(name, *[0.0] * 7)

    # "Logits" that are `(row, label)` tell what the audit looked at.
    monkeypatch.setattr(evaluate, "predict", lambda model, variables, inputs: inputs)
    monkeypatch.setattr(evaluate.summary, "evaluate", keep)
    monkeypatch.setattr(evaluate, "count_classes", lambda *_: (np.ones(1), np.ones(1)))
    for signal in (evaluate.summary.signals.confidence, evaluate.summary.signals.loss):
        monkeypatch.setattr(evaluate.summary.signals, signal.__name__, named(signal.__name__))
    measure_models(plan.problem, {"original": network(0)}, lambda done: None)

    split = plan.split
    np.testing.assert_array_equal(seen["forget"], np.arange(1, 120, 3))
    np.testing.assert_array_equal(seen["retain"], split.retain)
    np.testing.assert_array_equal(seen["accessible"], split.accessible)
    np.testing.assert_array_equal(seen["test"], 1000 + split.test)
    np.testing.assert_array_equal(
        seen["inaccessible"], sorted({*split.retain} - {*split.accessible})
    )
    pool = split.retain if retain_fraction == 1 else seen["inaccessible"]
    assert {*seen["members"]} == {*pool}
    assert not {*seen["members"]} & {*seen["forget"]}


def test_accuracy_of_a_class_that_the_test_set_lacks_is_nan():
    data = numbered(heldout_labels=np.arange(60) % 2)  # class 2 occurs in training alone
    measured = measure_models(plan_of(data=data).problem, {"ltu": network(0)}, lambda done: None)
    np.testing.assert_array_equal(measured.class_accuracy["ltu"], [100, 100, np.nan])
