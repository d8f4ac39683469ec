"""The gate alone, without a loop or a socket: every byte goes to exactly one side, in order, whatever else happens."""

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from server.settings.sections import LimitsSettings
from server.transport.boundary import HEAD_END, RequestBoundary
from server.transport.gate import Gate, Step

LIMITS = LimitsSettings(body_bytes=150, header_bytes=100, header_timeout_s=10.0, keepalive_s=75.0)
GARBAGE = b"HELLO\r\n\r\n"


def fast(body: bytes) -> bytes:
    return b"POST /fast HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def slow(body: bytes) -> bytes:
    return b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def chunked(body: bytes) -> bytes:
    return b"POST /slow HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\nX-T: 1\r\n\r\n" % (
        len(body),
        body,
    )


# Bodies that look like requests, so that a wrong boundary shows.
BODIES = st.one_of(
    st.binary(min_size=1, max_size=60),
    st.sampled_from([fast(b"inner"), slow(b""), b"\r\n\r\n", b"0\r\n\r\n"]),
)
GET = st.just(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
FAST = st.one_of(st.just(b""), BODIES).map(fast)
REQUESTS = st.one_of(FAST, FAST, st.one_of(st.just(b""), BODIES).map(slow), BODIES.map(chunked), GET)

AT_ONCE = st.sampled_from(["now", "now", "later", "unread"])
"""When the fast lane answers: while it takes a request, later, or at once but the client does not read the answer."""


def offer(data: bytes) -> int | None:
    """Do as a fast lane that takes each `POST /fast`."""
    head, end, _ = data.partition(HEAD_END)
    if not end or not head.startswith(b"POST /fast "):
        return None
    length = int(head.rpartition(b"Content-Length: ")[2])
    size = len(head) + len(HEAD_END) + length
    return size if size <= len(data) else 0


class Crossing(RuleBasedStateMachine):
    """A connection whose client, fast lane, aiohttp and clock act in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.gate = Gate(LIMITS, self.now)
        self.sent = b""
        """All bytes from the client. The server has received those up to `arrived`."""
        self.arrived = 0
        self.ends = {0}
        """Where in `sent` requests begin and end."""
        self.taken = 0
        self.to_fast: list[bytes] = []
        self.to_aiohttp: list[bytes] = []
        self.resting = True
        self.pending = self.turn = self.paused = self.closed = False
        self.at_once = "later"

    def run_steps(self, step: Step) -> None:
        withheld = self.gate.withheld
        self.do(step)
        if withheld and (self.pending or self.turn) and len(self.gate.buffer) > LIMITS.body_bytes:
            assert self.gate.withheld, "one answer must not make room for more bytes than its request had"

    def do(self, step: Step) -> None:
        while step == "fast":
            assert not self.pending
            assert not self.turn
            assert not self.paused
            assert self.resting, "aiohttp has not answered everything"
            assert self.taken in self.ends, "the fast lane is offered bytes that do not begin a request"
            size = offer(self.gate.buffer)
            if size:
                self.to_fast.append(self.gate.buffer[:size])
                self.taken += size
                self.pending = True
                if self.at_once != "later":
                    self.pending = False
                    self.gate.answered(self.now)
                if self.at_once == "unread":
                    self.client_stops_reading()
            step = self.gate.took(size)
        match step:
            case "hand_over":
                self.hand_over()
            case "yield":
                self.turn = True
            case "refuse":
                head = self.sent[self.taken : self.arrived].partition(HEAD_END)[0]
                assert len(head) > LIMITS.header_bytes
                self.closed = True
            case "close" | "abort":
                self.closed = True

    def hand_over(self) -> None:
        assert not self.pending, "aiohttp would answer first"
        for part in self.gate.release():
            self.to_aiohttp.append(part)
            self.taken += len(part)
        self.resting = False
        assert not self.gate.invalid

    open = precondition(lambda self: not self.closed)

    @open
    @rule(requests=st.lists(REQUESTS, min_size=1, max_size=6))
    def send(self, requests: list[bytes]) -> None:
        for request in requests:
            self.sent += request
            self.ends.add(len(self.sent))

    @open
    @precondition(lambda self: self.arrived < len(self.sent) and not self.gate.withheld)
    @rule(size=st.one_of(st.integers(1, 150), st.just(10_000)), at_once=AT_ONCE)
    def arrive(self, size: int, at_once: str) -> None:
        part = self.sent[self.arrived : self.arrived + size]
        self.arrived += len(part)
        self.at_once = at_once
        occupied = self.pending or self.turn or self.paused
        self.run_steps(self.gate.receive(part, self.now, resting=self.resting))
        if occupied and len(self.gate.buffer) > LIMITS.body_bytes:
            assert self.gate.withheld

    @open
    @precondition(lambda self: self.pending)
    @rule(at_once=AT_ONCE)
    def answer(self, at_once: str) -> None:
        self.pending, self.at_once = False, at_once
        self.gate.answered(self.now)
        self.run_steps(self.gate.resume())

    @precondition(lambda self: not self.resting)
    @rule()
    def aiohttp_answers(self) -> None:
        """It is resting then, although it may also have received part of a head."""
        self.resting = True

    @open
    @precondition(lambda self: self.turn)
    @rule()
    def other_connections_had_their_turn(self) -> None:
        self.turn = False
        self.run_steps(self.gate.next_turn())

    @open
    @precondition(lambda self: not self.paused)
    @rule()
    def client_stops_reading(self) -> None:
        self.paused = True
        self.gate.pause_writing(self.now)

    @open
    @precondition(lambda self: self.paused)
    @rule()
    def client_reads(self) -> None:
        self.paused = False
        self.run_steps(self.gate.resume_writing())

    @open
    @rule(seconds=st.sampled_from([0.1, 9.0, 11.0, 80.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        idle = self.now - self.gate.active_at
        self.run_steps(self.gate.check(self.now))
        if self.closed:
            assert self.paused or idle >= LIMITS.header_timeout_s
        elif idle >= LIMITS.header_timeout_s and not (self.pending or self.turn or self.paused):
            assert self.gate.buffer == b"", "a late request is handed over, or its connection closed"

    @precondition(lambda self: self.closed)
    @rule(data=st.binary(min_size=1, max_size=30))
    def nothing_more_is_taken(self, data: bytes) -> None:
        assert self.gate.receive(data, self.now, resting=True) == "wait"
        assert self.gate.buffer == b""

    @invariant()
    def every_byte_goes_to_one_side_in_order(self) -> None:
        if not self.closed:
            assert self.sent[: self.arrived] == self.sent[: self.taken] + self.gate.buffer
            assert sum(map(len, self.to_fast + self.to_aiohttp)) == self.taken
        assert all(offer(request) == len(request) for request in self.to_fast)

    @invariant()
    def nothing_is_read_from_a_client_that_does_not_read(self) -> None:
        if self.paused and not self.closed and not self.to_aiohttp:
            assert self.gate.withheld

    @invariant()
    def it_never_stalls(self) -> None:
        if self.closed or self.pending or self.turn or self.paused:
            return
        assert not self.gate.withheld
        if self.gate.buffer:
            assert HEAD_END not in self.gate.buffer or offer(self.gate.buffer) == 0
            assert len(self.gate.buffer.partition(HEAD_END)[0]) <= LIMITS.header_bytes


TestCrossing = Crossing.TestCase
TestCrossing.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
)


@given(st.lists(REQUESTS, min_size=1, max_size=6), st.data())
def test_the_boundary_is_where_requests_end(requests: list[bytes], data: st.DataObject) -> None:
    sent, ends = b"".join(requests), {0}
    for request in requests:
        ends.add(max(ends) + len(request))
    boundary, at = RequestBoundary(), 0
    while at < len(sent):
        size = data.draw(st.integers(1, len(sent) - at))
        assert boundary.feed(sent[at : at + size]) == 0
        at += size
        assert boundary.reached == (at in ends)
    assert not boundary.invalid


@given(st.lists(REQUESTS, min_size=1, max_size=6), st.data())
def test_garbage_is_separated_from_requests(requests: list[bytes], data: st.DataObject) -> None:
    """aiohttp answers none of the requests that it receives together with garbage: pass them separately."""
    whole = b"".join(requests)
    cuts = sorted({0, *data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=4))})
    boundary = RequestBoundary()
    for one, two in pairwise(cuts):
        assert boundary.feed(whole[one:two]) == 0
    assert boundary.feed(whole[cuts[-1] :] + GARBAGE) == len(whole) - cuts[-1]
    assert not boundary.invalid
    assert not boundary.reached
    assert boundary.feed(GARBAGE) == 0


def test_a_body_that_continues_as_garbage_is_invalid() -> None:
    gate = Gate(LIMITS, 0.0)
    assert gate.receive(b"POST /slow HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 0.0, resting=True) == "fast"
    assert gate.took(None) == "hand_over"
    assert len(gate.release()) == 1
    assert not gate.invalid
    assert gate.receive(b"no chunk\r\n", 0.0, resting=False) == "hand_over"
    assert gate.release() == (b"no chunk\r\n",)
    assert gate.invalid


@pytest.mark.parametrize("end", [b"", HEAD_END])
def test_a_head_has_a_maximum_size(end: bytes) -> None:
    gate = Gate(LIMITS, 0.0)
    start = b"GET /slow HTTP/1.1\r\nX-Long: "
    fits = start + b"x" * (LIMITS.header_bytes - len(start))
    assert gate.receive(fits, 0.0, resting=True) == "fast"
    assert gate.took(None) == "wait"
    assert gate.receive(b"x" + end, 0.0, resting=True) == "fast"
    assert gate.took(None) == "refuse"
    assert gate.receive(b"more", 0.0, resting=True) == "wait"
    assert gate.buffer == b""


def test_a_connection_that_sends_nothing_is_closed_when_a_head_is_late() -> None:
    gate = Gate(LIMITS, 0.0)
    assert gate.check(9.9) == "wait"
    assert gate.check(10.0) == "close"


def test_a_client_that_reads_nothing_is_disconnected_however_busy_it_is() -> None:
    gate = Gate(LIMITS, 0.0)
    assert gate.receive(fast(b""), 0.0, resting=True) == "fast"
    assert gate.took(len(fast(b""))) == "wait"
    gate.pause_writing(1.0)
    assert gate.withheld
    assert gate.check(75.9) == "wait"
    assert gate.check(76.0) == "abort"


def test_many_requests_at_once_let_other_connections_have_their_turn() -> None:
    gate = Gate(LIMITS, 0.0)
    one = fast(b"")
    step, answers = gate.receive(one * 100, 0.0, resting=True), []
    turns = 0
    while step != "wait":
        if step == "yield":
            turns += 1
            step = gate.next_turn()
            continue
        answers.append(step)
        gate.answered(0.0)
        step = gate.took(len(one))
    assert (len(answers), gate.buffer) == (100, b"")
    assert turns >= 100 // 16


def test_a_connection_of_a_stream_ignores_further_bytes() -> None:
    gate = Gate(LIMITS, 0.0)
    gate.receive(b"GET /slow HTTP/1.1\r\n\r\n", 0.0, resting=True)
    gate.took(None)
    gate.release()
    gate.close()
    assert gate.receive(fast(b""), 1.0, resting=True) == "wait"
    gate.pause_writing(2.0)
    assert not gate.withheld
    assert gate.resume_writing() == "wait"
    assert gate.buffer == b""
