"""Numbers are never cut, every encoding is served, and a reader may go away."""

import io
import os
import re
import sys

import pytest
from rich.table import Table

from ltu_jax.cli.main import main
from ltu_jax.errors import Interrupted
from ltu_jax.report import result_table
from ltu_jax.terminal import Terminal, accept_any_text, write_line

NAMES = ("original", "retrain", "retrain_2", "a_method_whose_name_is_longer_than_any_table")


def rows():
    values = {"ua": 100.0, "ra": 99.9, "ta": 1.2, "mia": 12.3, "avg_gap": 55.5, "auc": 51.2}
    values |= {"ra_accessible": 100.0, "ra_inaccessible": 98.1, "seconds": 3599.0}
    gaps = dict.fromkeys(("ua", "ra", "ta", "mia"), -10.2)
    return [{"model": name, "gaps": gaps, **values} for name in NAMES]


@pytest.mark.parametrize("width", [12, 30, 41, 66, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_numbers_are_whole_at_every_width(width, encoding):
    shown = io.TextIOWrapper(io.BytesIO(), encoding, errors="ltu_plain")
    Terminal(file=shown, width=width).show(result_table(rows()))
    shown.seek(0)
    text = shown.read()
    assert not re.search(r"[\d.](\N{HORIZONTAL ELLIPSIS}|\.\.\.)", text)
    assert set(re.findall(r"\d+\.\d", text)) <= {"100.0", "99.9", "1.2", "12.3", "55.5", "51.2"} | {
        "98.1",
        "10.2",
    }
    assert "100.0" in text
    assert ("Not shown" in text) == (width < 77)


def test_words_wrap_instead_of_being_cut():
    table = Table("name", "what", "value")
    table.add_row("x" * 50, "many words that wrap " * 3, "123.456")
    shown = io.StringIO()
    Terminal(file=shown, width=50).show(table)
    assert "123.456" in shown.getvalue()


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", b"-1 x \\u732b"),
        ("cp1252", b"-1 \xd7 \\u732b"),
        ("utf-8", "\u22121 \xd7 \u732b".encode()),
    ],
)
def test_what_an_encoding_lacks_is_replaced(monkeypatch, encoding, shown):
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    accept_any_text()
    write_line("\u22121 \xd7 \u732b")
    assert stream.buffer.getvalue().rstrip() == shown


def test_a_reader_that_is_gone_is_no_failure():
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as stream:
        write_line("lost", stream)
        write_line("lost too", stream)
        Terminal(file=stream).show(result_table(rows()))


@pytest.mark.parametrize(
    ("arguments", "raised", "said"),
    [
        (["unlearn"], Interrupted("my runs/1"), "ltu unlearn --resume 'my runs/1'"),
        (["tune"], Interrupted("r"), "ltu unlearn --resume r"),
        (["queue", "run", "r"], Interrupted("r"), "pending"),
        (["ensemble"], KeyboardInterrupt(), "repeat"),
        (["audit", "r"], KeyboardInterrupt(), "nothing was kept"),
    ],
)
def test_ctrl_c_ends_with_130_and_one_line(monkeypatch, capsys, arguments, raised, said):
    def interrupted(*args):
        raise raised

    monkeypatch.setattr(sys.modules["ltu_jax.cli.main"], "run", interrupted)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    error = capsys.readouterr().err
    assert (stopped.value.code, error.count("\n")) == (130, 1)
    assert said in error
