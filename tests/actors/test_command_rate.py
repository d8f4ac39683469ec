"""The rate of commands of one session."""

from hypothesis import given
from hypothesis import strategies as st

from actors.command_rate import CommandRate


def test_a_burst_of_one_second_and_then_an_even_pace() -> None:
    rate = CommandRate(per_s=4)
    assert [rate.allow(100.0) for _ in range(6)] == [True] * 4 + [False] * 2
    assert [rate.allow(100.25), rate.allow(100.25)] == [True, False]


def test_a_refused_command_costs_nothing() -> None:
    rate = CommandRate(per_s=2)
    assert [rate.allow(10.0) for _ in range(100)].count(True) == 2
    assert rate.allow(10.5)


@given(st.lists(st.floats(0, 1), max_size=200), st.integers(1, 50))
def test_no_window_has_more_than_its_share_and_a_burst(pauses: list[float], per_s: int) -> None:
    rate, now, allowed = CommandRate(per_s), 0.0, []
    for pause in pauses:
        now += pause
        if rate.allow(now):
            allowed.append(now)
    for index, start in enumerate(allowed):
        for count, end in enumerate(allowed[index:], 1):
            assert count <= per_s * (end - start + 1) + 1e-6
