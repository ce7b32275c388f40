"""The clock of compilation: nested events count once, compiled programs take none."""

import time

import jax
import jax.numpy as jnp

from ltu_jax.training.compilation import CompileClock, compile_clock


def test_a_new_program_takes_time_and_the_same_again_next_to_none():
    program = jax.jit(lambda x: jnp.sin(x) @ x.T + 17.25)
    x = jnp.ones((7, 7))
    with compile_clock() as first:
        program(x).block_until_ready()
    with compile_clock() as again:
        program(x).block_until_ready()
    assert first.seconds > 0
    assert again.seconds == 0


def test_an_event_inside_another_is_part_of_it():
    clock, start = CompileClock(), time.perf_counter()
    time.sleep(0.02)
    clock.add(0.01)
    clock.add(0.005)
    clock.add(time.perf_counter() - start)
    assert clock.seconds <= time.perf_counter() - start
    assert clock.seconds >= 0.02


def test_clocks_may_be_nested():
    program = jax.jit(lambda x: jnp.cos(x) * 3.125)
    with compile_clock() as outer, compile_clock() as inner:
        program(jnp.ones(3)).block_until_ready()
    assert abs(outer.seconds - inner.seconds) < 0.1
