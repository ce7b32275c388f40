"""What a compiled program sends is counted right, loops included."""

import pytest

from experiments.performance.scaling import Traffic, traffic

pytestmark = pytest.mark.experiments

PROGRAM = """HloModule jit_step, num_partitions=2

%inner (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  ROOT %r = f32[4]{0} all-reduce(%p), replica_groups={{0,1}}
}

%outer (p: f32[4]) -> f32[4] {
  %r = (f32[2,3]{1,0}, bf16[5]{0}) all-reduce(%a, %b), to_apply=%add
  ROOT %w = f32[4] while(%p), condition=%c, body=%inner, backend_config={"known_trip_count":{"n":"2"}}
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %g = s32[7]{0} all-gather(%p), dimensions={0}
  %s = f32[] all-reduce-start(%p), to_apply=%add
  %d = f32[] all-reduce-done(%s)
  ROOT %w = f32[4] while(%p), condition=%c, body=%outer, backend_config={"known_trip_count":{"n":"3"}}
}
"""  # noqa: E501


def test_collectives_in_loops_count_once_for_every_turn():
    assert traffic(PROGRAM) == {
        "all-gather": Traffic(1, 28),
        "all-reduce": Traffic(1 + 3 + 6, 4 + 3 * (24 + 10) + 6 * 16),
    }


def test_a_program_that_sends_nothing_has_no_traffic():
    assert traffic("ENTRY %main (p: f32[4]) -> f32[4] {\n}") == {}
