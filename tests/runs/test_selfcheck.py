"""The checker's check: right on this code, and wrong where the audit is broken."""

import numpy as np
import pytest

from ltu_jax.audit import distances, epsilon
from ltu_jax.cli import main
from ltu_jax.runs import selfcheck
from tests.refusals import refused


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(selfcheck, "MODELS", 12)
    monkeypatch.setattr(selfcheck, "EPOCHS", 8)
    monkeypatch.setattr(selfcheck, "DRAWS", 40)


@pytest.mark.slow
def test_all_answers_are_right(few, capsys):
    main(["selfcheck", "--seed", "1"])
    shown = capsys.readouterr().out
    assert "WRONG" not in shown
    assert shown.count("right") >= 10


def test_evidence_in_noise_is_noticed(few, monkeypatch):
    found = epsilon.Bound(1.0, 2.0, 3.0)
    monkeypatch.setattr(epsilon, "epsilon_lower_bound", lambda *scores, **options: found)
    wrong = [check.name for check in selfcheck.statistics(0) if not check.passed]
    assert wrong == ["epsilon, split threshold on noise", "epsilon, fixed threshold on noise"]


def test_a_distance_from_itself_is_noticed(few, monkeypatch):
    monkeypatch.setattr(distances, "klom", lambda a, b: np.ones(a.shape[1]))
    wrong = [check.name for check in selfcheck.statistics(0) if not check.passed]
    assert wrong == ["KLoM of an ensemble and itself"]


def test_a_wrong_answer_ends_with_exit_code_1(monkeypatch, capsys):
    wrong = selfcheck.Check("a case", "0", "1", False)
    monkeypatch.setattr(selfcheck, "run", lambda seed: [wrong])
    with pytest.raises(SystemExit) as stopped:
        main(["selfcheck"])
    assert stopped.value.code == 1
    assert "a case" in capsys.readouterr().err


def test_a_negative_seed_is_refused():
    with refused("seed"):
        selfcheck.run(-1)
