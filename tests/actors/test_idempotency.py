"""The Idempotency-Keys that a session remembers."""

from actors.idempotency import IdempotencyKeys
from actors.messages import Key, KeyReused, Repeated
from actors.ports import KeyRow
from actors.session.ids import Millis, UserId

ANN, BEN = UserId("ann"), UserId("ben")


def used(key: str, user_id: UserId = ANN, seq: int = 1) -> KeyRow:
    return KeyRow(user_id, key, "digest", seq, seq, Millis(0))


def test_a_key_repeats_its_answer_for_the_same_body_only() -> None:
    keys = IdempotencyKeys()
    keys.add(used("k", seq=7))
    assert keys.outcome(ANN, Key("k", "digest")) == Repeated(7, 7)
    assert keys.outcome(ANN, Key("k", "another digest")) == KeyReused()


def test_keys_belong_to_their_user() -> None:
    keys = IdempotencyKeys()
    keys.add(used("k"))
    assert keys.outcome(BEN, Key("k", "digest")) is None
    keys.add(used("k", BEN, seq=2))
    assert keys.outcome(ANN, Key("k", "digest")) == Repeated(1, 1)


def test_the_oldest_key_is_forgotten_beyond_the_limit() -> None:
    keys = IdempotencyKeys(limit=2)
    for name in ("first", "second", "third"):
        keys.add(used(name))
    known = [name for name in ("first", "second", "third") if keys.outcome(ANN, Key(name, "digest"))]
    assert known == ["second", "third"]
