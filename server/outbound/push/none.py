"""The provider that sends nothing. Users still see invitations in their own streams."""

from server.outbound.push.messages import PushMessage, PushRefused, PushResult


class NoPush:
    """The choice `push.provider = "none"`."""

    reaches = False

    async def send(self, token: str, message: PushMessage) -> PushResult:
        return PushRefused("push messages are switched off")
