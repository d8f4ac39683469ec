"""aiohttp-sse with a queue per subscriber, like the chat example of aiohttp-sse. Run as a program: PORT."""

import asyncio
import json
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime

import uvloop
from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response


@dataclass
class Room:
    events: list[dict[str, object]] = field(default_factory=list)
    queues: set[asyncio.Queue[tuple[str, str]]] = field(default_factory=set)


ROOMS = web.AppKey("rooms", defaultdict[str, Room])


async def ready(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def send(request: web.Request) -> web.Response:
    room = request.app[ROOMS][request.match_info["room_id"]]
    message = await request.json()
    event: dict[str, object] = {
        "seq": len(room.events) + 1,
        "type": "chat_message",
        "at": datetime.now(UTC).isoformat(),
        "text": message["text"],
    }
    room.events.append(event)
    item = (str(event["seq"]), json.dumps(event))
    for queue in room.queues:
        queue.put_nowait(item)
    return web.json_response(event)


async def events(request: web.Request) -> EventSourceResponse:
    room = request.app[ROOMS][request.match_info["room_id"]]
    queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    async with sse_response(request) as response:
        room.queues.add(queue)
        try:
            while response.is_connected():
                seq, data = await queue.get()
                await response.send(data, id=seq, event="chat_message")
        finally:
            room.queues.discard(queue)
    return response


def app() -> web.Application:
    app = web.Application()
    app[ROOMS] = defaultdict(Room)
    app.add_routes(
        [
            web.get("/readyz", ready),
            web.post("/rooms/{room_id}/messages", send),
            web.get("/rooms/{room_id}/events", events),
        ]
    )
    return app


if __name__ == "__main__":
    loop = uvloop.new_event_loop()
    web.run_app(app(), host="127.0.0.1", port=int(sys.argv[1]), loop=loop, access_log=None, print=None)
