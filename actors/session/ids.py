"""Types of values that cross every boundary: ids, times and bounded texts."""

from typing import Annotated, NewType

from msgspec import Meta

SessionId = NewType("SessionId", str)
"""UUIDv7 in its canonical text form."""

UserId = NewType("UserId", Annotated[str, Meta(max_length=64)])
"""UUIDv7 in its canonical text form. Bounded, because clients send it to refer to others."""

Millis = NewType("Millis", int)
"""A UTC instant as milliseconds since 1970, for computation in the machine. Each API encodes it in its own form."""

MessageId = NewType("MessageId", int)
"""The number of a chat message in its session, from 1."""

CONTROLS = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufff9-\uffff"
"""Control and direction characters, and line breaks: they would change how the text around a name reads."""
INVISIBLE = (
    r" \u00a0\u00ad\u034f\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200d\u202f\u205f-\u2065\u2800\u3000\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff"
)
"""Characters that are invisible by themselves. Names may contain them, since some scripts and emoji need joiners."""
VISIBLE = rf"^[{INVISIBLE}]*[^{CONTROLS}{INVISIBLE}][^{CONTROLS}]*$(?!\n)"
VISIBLE_TEXT = "text with at least one visible character, and without control or direction characters"

Title = Annotated[str, Meta(min_length=1, max_length=500, pattern=VISIBLE, description=VISIBLE_TEXT)]
Description = Annotated[str, Meta(max_length=5_000)]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=VISIBLE, description=VISIBLE_TEXT)]
MessageText = Annotated[str, Meta(min_length=1, max_length=2_000, pattern=r"\S")]
Emoji = Annotated[
    str, Meta(min_length=1, max_length=32, pattern=r"^\S+$(?!\n)", description="an emoji, without spaces")
]
KickReason = Annotated[str, Meta(max_length=500)]
Id = Annotated[str, Meta(min_length=1, max_length=64)]
Capacity = Annotated[int, Meta(ge=1, le=10_000)]
Seconds = Annotated[int, Meta(ge=1, le=366 * 24 * 3600)]
Language = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=35,
        pattern=r"^[A-Za-z0-9-]+$(?!\n)",
        description="a language's tag, such as `en` or `pt-BR`",
    ),
]
EventType = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        pattern=r"^[a-z][a-z0-9_]*$(?!\n)",
        description="a word of lower-case letters, digits and `_`, such as `student_focused`",
    ),
]
QuestionText = Annotated[str, Meta(min_length=1, max_length=1_000, pattern=r"\S")]
AnswerText = Annotated[str, Meta(max_length=2_000)]
OptionText = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S")]
Position = Annotated[float, Meta(ge=0, le=24 * 3600)]
"""Seconds from the start of a track."""
Speed = Annotated[float, Meta(ge=0.5, le=2.0)]
CodeLanguage = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=32,
        pattern=r"^[a-z0-9+#._-]+$(?!\n)",
        description="a language's name in lower case, such as `python` or `c++`",
    ),
]
Colour = Annotated[
    str, Meta(max_length=7, pattern=r"^#[0-9a-fA-F]{6}$(?!\n)", description="a colour such as `#ff8800`")
]
AudioId = Annotated[
    str,
    Meta(
        max_length=36,
        pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$(?!\n)",
        description="the id of audio in the library, a UUID",
    ),
]
