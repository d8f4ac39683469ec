"""Chromium as a user of the pages: headless, driven over its DevTools protocol."""

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome")
START_S = 30.0
WAIT_S = 20.0


def found() -> str | None:
    """Return the path of this machine's Chromium."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One window. `complaints` collects the page's errors, including refusals by its policy."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.complaints: list[str] = []

    async def listen(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                answer = self._answers.pop(said["id"])
                if not answer.done():
                    answer.set_result(said)
            elif said["method"] == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(said["params"]["exceptionDetails"]))
            elif said["method"] == "Log.entryAdded" and said["params"]["entry"]["level"] == "error":
                entry = said["params"]["entry"]
                self.complaints.append(f"{entry['text']} {entry.get('url', '')}")

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(WAIT_S):
            said = await answer
        if "error" in said:
            raise RuntimeError(f"{method}: {said['error']}")
        result: dict[str, Any] = said["result"]
        return result

    async def open(self, url: str) -> None:
        await self.ask("Page.navigate", url=url)
        await self.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    async def follow(self, url: str) -> None:
        """Open a link that redirects."""
        await self.ask("Page.navigate", url=url)

    async def run(self, script: str) -> Any:
        """Evaluate JavaScript; return its value."""
        result = await self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    async def until(self, script: str) -> Any:
        """Wait until a script's value is true, evaluated at every animation frame; return the value."""
        async with asyncio.timeout(WAIT_S):
            while True:
                with contextlib.suppress(RuntimeError):  # between two documents
                    if value := await self.run(f"new Promise(r => requestAnimationFrame(() => r({script})))"):
                        return value

    async def fill(self, selector: str, text: str) -> None:
        """Type into a field, as a keyboard would."""
        await self.run(f"document.querySelector({json.dumps(selector)}).select()")
        await self.ask("Input.insertText", text=text)

    async def click(self, selector: str) -> None:
        await self.run(f"document.querySelector({json.dumps(selector)}).click()")

    async def text(self, selector: str) -> str:
        return str(await self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    async def sees(self, selector: str, text: str) -> None:
        """Wait until an element shows a text."""
        try:
            await self.until(
                f"(document.querySelector({json.dumps(selector)})?.innerText ?? '').includes({json.dumps(text)})"
            )
        except TimeoutError:
            raise AssertionError(f"{selector} shows {await self.text(selector)!r}, not {text!r}") from None

    async def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """Set the page's screen size and colour scheme."""
        mobile = width < 600
        await self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.ask("Emulation.setEmulatedMedia", features=[scheme])

    async def screenshot(self, path: Path) -> None:
        shot = await self.ask("Page.captureScreenshot", format="png")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(shot["data"]))


class Chromium:
    """A running browser."""

    def __init__(self, http: aiohttp.ClientSession, address: str, stack: contextlib.AsyncExitStack) -> None:
        self._http = http
        self._address = address
        self._stack = stack

    async def begin(self) -> Self:
        async with self._http.get(f"http://{self._address}/json/version") as response:
            version = await response.json(content_type=None)
        self._browser = await self._connected(version["webSocketDebuggerUrl"])
        return self

    async def page(self) -> Page:
        """Open a window: a browser draws only one of two tabs."""
        target = await self._browser.ask("Target.createTarget", url="about:blank", newWindow=True)
        page = await self._connected(f"ws://{self._address}/devtools/page/{target['targetId']}")
        for domain in ("Page", "Runtime", "Log"):
            await page.ask(f"{domain}.enable")
        await page.ask("Emulation.setFocusEmulationEnabled", enabled=True)
        await page.look(1280, 800)
        return page

    async def _connected(self, url: str) -> Page:
        socket = await self._http.ws_connect(url, max_msg_size=1 << 26)
        page = Page(socket)
        self._stack.push_async_callback(closed, asyncio.create_task(page.listen()), socket)
        return page


async def closed(listening: "asyncio.Task[None]", socket: aiohttp.ClientWebSocketResponse) -> None:
    await socket.close()
    await listening


@contextlib.asynccontextmanager
async def running(binary: str, profile: Path) -> AsyncIterator[Chromium]:
    """Run a browser with a fresh profile during the block."""
    process = await asyncio.create_subprocess_exec(
        binary,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-backgrounding-occluded-windows",
        "--disable-renderer-backgrounding",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        address = await debugging_address(process.stderr)
        draining = asyncio.create_task(process.stderr.read())
        async with aiohttp.ClientSession() as http, contextlib.AsyncExitStack() as stack:
            yield await Chromium(http, address, stack).begin()
    finally:
        process.terminate()
        await process.wait()
    await draining


async def debugging_address(output: asyncio.StreamReader) -> str:
    said = []
    async with asyncio.timeout(START_S):
        async for line in output:
            said.append(line.decode(errors="replace"))
            if "DevTools listening on ws://" in said[-1]:
                return said[-1].split("ws://")[1].split("/")[0]
    raise RuntimeError(f"Chromium did not start: {''.join(said)}")
