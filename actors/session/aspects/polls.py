"""Polls: each participant votes once, and the votes add up to the results."""

from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis
from actors.session.permissions import require
from actors.session.state import Poll, State

MAX_POLLS = 100


def open_poll(state: State, command: c.OpenPoll, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "moderate")
    if not state.session.features.polls:
        raise Rejected(Reason.FEATURE_OFF, "Polls are switched off in this session.")
    if len(state.polls) >= MAX_POLLS:
        raise Rejected(Reason.TOO_MANY, f"A session has at most {MAX_POLLS} polls.")
    if len(set(command.options)) < len(command.options):
        raise Rejected(Reason.NOT_ALLOWED, "`options` must all be different.", field="options")
    return [
        e.PollOpened(
            poll_id=state.last_poll_id + 1,
            question=command.question,
            options=command.options,
            multiple=command.multiple,
            anonymous=command.anonymous,
        )
    ]


def existing_poll(state: State, poll_id: int) -> Poll:
    """Return a poll. Raise Rejected if there is none of this id."""
    poll = state.polls.get(poll_id)
    if poll is None:
        raise Rejected(Reason.UNKNOWN_POLL, f"There is no poll {poll_id}.", field="poll_id")
    return poll


def vote(state: State, command: c.Vote, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "vote")
    poll = existing_poll(state, command.poll_id)
    if not poll.open:
        raise Rejected(Reason.POLL_CLOSED, "The poll is closed.", field="poll_id")
    if by.user_id in poll.votes:
        raise Rejected(Reason.ALREADY_VOTED, "You have already voted in this poll.", field="poll_id")
    chosen = sorted(set(command.options))
    if chosen[-1] >= len(poll.options):
        raise Rejected(Reason.NOT_ALLOWED, f"`options` must be from 0 to {len(poll.options) - 1}.", field="options")
    if len(chosen) > 1 and not poll.multiple:
        raise Rejected(Reason.NOT_ALLOWED, "Choose one option in this poll.", field="options")
    return [e.PollVoted(poll_id=poll.poll_id, options=chosen, anonymous=poll.anonymous)]


def close_poll(state: State, command: c.ClosePoll, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "moderate")
    poll = existing_poll(state, command.poll_id)
    return [e.PollClosed(poll_id=poll.poll_id, results=results(poll))] if poll.open else []


def results(poll: Poll) -> list[int]:
    """Return the number of votes for each option, in the order of the options."""
    counts = [0] * len(poll.options)
    for chosen in poll.votes.values():
        for option in chosen:
            counts[option] += 1
    return counts


def on_opened(state: State, event: e.PollOpened, recorded: e.Recorded) -> None:
    state.last_poll_id = event.poll_id
    state.polls[event.poll_id] = Poll(
        poll_id=event.poll_id,
        user_id=recorded.actor_id or state.session.owner_id,
        question=event.question,
        options=event.options,
        at=recorded.at,
        multiple=event.multiple,
        anonymous=event.anonymous,
    )


def on_voted(state: State, event: e.PollVoted, recorded: e.Recorded) -> None:
    poll = state.polls[event.poll_id]
    if recorded.actor_id is not None:
        poll.votes = {**poll.votes, recorded.actor_id: event.options}


def on_closed(state: State, event: e.PollClosed, recorded: e.Recorded) -> None:
    state.polls[event.poll_id].open = False


HANDLERS = {c.OpenPoll: open_poll, c.Vote: vote, c.ClosePoll: close_poll}
APPLIERS = {e.PollOpened: on_opened, e.PollVoted: on_voted, e.PollClosed: on_closed}
