"""The scripts of the demo's classes."""

from typing import Any

from msgspec import Struct

TEACHER = "Ms Okafor"
MIA, LEO, ZOE, SAM, NOAH = "Mia", "Leo", "Zoe", "Sam", "Noah"
STUDENTS = (MIA, LEO, ZOE, SAM, NOAH)


class Cue(Struct, frozen=True):
    """What one member of the cast does next, as a command to the session.

    A name in `user_id` or `to` stands for that user, one in `message_id` or `reply_to` for their latest message."""

    who: str
    # Any: JSON of any shape.
    do: dict[str, Any]


class Lesson(Struct, frozen=True):
    """A class and its script."""

    title: str
    description: str
    cues: tuple[Cue, ...]


def says(who: str, text: str, **more: str) -> Cue:
    """Return the cue to write a message."""
    return Cue(who, {"type": "send_message", "text": text, **more})


def likes(who: str, whose: str, emoji: str = "👍") -> Cue:
    """Return the cue to react to another user's latest message."""
    return Cue(who, {"type": "react", "message_id": whose, "emoji": emoji})


def does(who: str, command: str, **more: str) -> Cue:
    """Return the cue to send a command."""
    return Cue(who, {"type": command, **more})


OPENING = (
    does(MIA, "join"),
    does(LEO, "join"),
    says(TEACHER, "Good morning, everyone! We start in a moment."),
    does(ZOE, "join"),
    says(MIA, "Good morning!"),
    does(SAM, "join"),
    says(LEO, "Hello 👋"),
    likes(ZOE, TEACHER, "👋"),
    says(TEACHER, "I mute you all while I introduce this. Raise a hand whenever you like."),
    does(TEACHER, "mute_all"),
)
CLOSING = (
    says(TEACHER, "That is all for today. What will you remember?"),
    does(MIA, "raise_hand"),
    does(NOAH, "raise_hand"),
    does(TEACHER, "call_next"),
    says(MIA, "That it pays to guess first and to check afterwards."),
    likes(TEACHER, MIA, "⭐"),
    does(TEACHER, "call_next"),
    says(NOAH, "That I should come on time 🙂"),
    likes(MIA, NOAH, "😄"),
    likes(SAM, NOAH, "😄"),
    does(TEACHER, "lower_all"),
    says(TEACHER, "Thank you, all of you. See you next time!"),
    says(SAM, "Thank you! Bye"),
    likes(LEO, TEACHER, "❤️"),
)

SKY = Lesson(
    "Physics: why is the sky blue?",
    "Light, air and colour. Bring a question.",
    (
        *OPENING,
        says(TEACHER, "Look out of the window. Why is the sky blue, and not green or white?"),
        does(MIA, "raise_hand"),
        does(SAM, "raise_hand"),
        does(TEACHER, "call_next"),
        does(TEACHER, "request_unmute", user_id=MIA),
        does(MIA, "unmute"),
        says(MIA, "Because it mirrors the sea?"),
        says(TEACHER, "A good guess, and many people think so. But what about the sky over a desert?", reply_to=MIA),
        likes(ZOE, TEACHER),
        does(MIA, "mute"),
        does(TEACHER, "call_next"),
        does(SAM, "unmute"),
        says(SAM, "Then it must be the air itself."),
        likes(TEACHER, SAM, "⭐"),
        does(SAM, "mute"),
        says(TEACHER, "Yes. Air scatters blue light about five times as much as red light."),
        says(LEO, "What does scatter mean here?"),
        says(TEACHER, "The light bounces off in all directions, so blue reaches you from everywhere.", reply_to=LEO),
        likes(LEO, TEACHER),
        says(LEO, "Could you repeat the number? I was too slow.", to=TEACHER),
        says(TEACHER, "About five times, for blue against red.", to=LEO),
        does(NOAH, "join"),
        says(NOAH, "Sorry that I am late, the bus…"),
        says(TEACHER, "No harm done, Noah. We are asking why the sky is blue.", reply_to=NOAH),
        says(ZOE, "Why is the evening sky red, then?"),
        likes(NOAH, ZOE),
        likes(MIA, ZOE),
        says(TEACHER, "Who wants to try?"),
        does(NOAH, "raise_hand"),
        does(ZOE, "raise_hand"),
        does(LEO, "raise_hand"),
        does(TEACHER, "call_next"),
        does(NOAH, "unmute"),
        says(NOAH, "The sun is lower, so its light comes a longer way through the air?"),
        says(TEACHER, "Exactly. On the long way the blue is scattered out, and the red arrives.", reply_to=NOAH),
        likes(SAM, NOAH, "🎉"),
        does(ZOE, "lower_hand"),
        says(ZOE, "That was my idea too!"),
        does(TEACHER, "lower_all"),
        does(SAM, "leave"),
        says(TEACHER, "Noah, there is some noise at your side; I mute you for a moment."),
        does(TEACHER, "mute", user_id=NOAH),
        says(MIA, "And why is it not violet? That is scattered even more."),
        likes(TEACHER, MIA, "🤔"),
        says(TEACHER, "Well asked, Mia. The sun sends less violet, and our eyes see it badly.", reply_to=MIA),
        does(SAM, "join"),
        says(SAM, "I am back, my connection was gone. What did I miss?"),
        says(ZOE, "Violet! Read above 🙂", reply_to=SAM),
        likes(SAM, ZOE),
        *CLOSING,
    ),
)

HANDSHAKES = Lesson(
    "Mathematics: how many handshakes?",
    "Counting without counting.",
    (
        *OPENING,
        says(TEACHER, "Six people meet, and everyone shakes hands with everyone. How many handshakes is that?"),
        says(LEO, "36?"),
        says(SAM, "30?"),
        does(ZOE, "raise_hand"),
        does(MIA, "raise_hand"),
        does(TEACHER, "call_next"),
        does(ZOE, "unmute"),
        says(ZOE, "Nobody shakes their own hand, so six times five."),
        likes(SAM, ZOE),
        says(TEACHER, "Nearly! Whose handshakes have you counted twice?", reply_to=ZOE),
        does(ZOE, "mute"),
        does(TEACHER, "call_next"),
        does(MIA, "unmute"),
        says(MIA, "All of them: mine with Leo is also Leo's with me. So 15."),
        likes(TEACHER, MIA, "⭐"),
        likes(LEO, MIA, "🎉"),
        does(MIA, "mute"),
        does(NOAH, "join"),
        says(NOAH, "Hello, sorry! Is it still about handshakes?"),
        says(TEACHER, "It is. With you here we are one more: how many now?", reply_to=NOAH),
        does(NOAH, "raise_hand"),
        does(LEO, "raise_hand"),
        does(TEACHER, "call_next"),
        says(NOAH, "Six more, because I greet each of you: 21."),
        likes(ZOE, NOAH),
        likes(MIA, NOAH),
        says(TEACHER, "Very good. And for a hundred people?"),
        does(TEACHER, "call_next"),
        does(LEO, "unmute"),
        says(LEO, "100 times 99, and half of that: 4,950."),
        likes(TEACHER, LEO, "⭐"),
        does(LEO, "mute"),
        does(SAM, "leave"),
        says(ZOE, "Is it the same as adding 1 + 2 + 3 and so on?"),
        says(TEACHER, "It is, Zoe! Can somebody say why?", reply_to=ZOE),
        does(TEACHER, "unmute", user_id=NOAH),
        says(NOAH, "Everyone who arrives greets those who are there already: 1, then 2, then 3."),
        does(SAM, "join"),
        says(SAM, "My tablet needed a restart. Back now!"),
        likes(ZOE, SAM),
        says(SAM, "May I hand in the exercise tomorrow?", to=TEACHER),
        says(TEACHER, "Of course.", to=SAM),
        likes(SAM, TEACHER, "🙏"),
        *CLOSING,
    ),
)

LESSONS = (SKY, HANDSHAKES)
