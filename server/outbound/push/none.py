"""No provider: nobody is reached. Invitations still show on people's own streams."""

from server.outbound.push.messages import Message, Reception, Refused


class NoPush:
    reaches = False

    async def send(self, token: str, message: Message) -> Reception:
        return Refused("push messages are switched off")
