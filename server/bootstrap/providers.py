"""Constructs the providers that the settings choose for uploads, push messages and rooms.

**Law:** if a chosen provider lacks a setting, the start fails with the setting's name.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from server.outbound.push.fcm import Fcm
from server.outbound.push.messages import PushProvider
from server.outbound.push.none import NoPush
from server.outbound.push.oauth import AccessTokens, read_account
from server.rooms.builtin import BuiltinRooms
from server.rooms.daily import Daily
from server.rooms.providers import RoomProvider
from server.security.tokens import Tokens
from server.settings.sections import BadSetting, Settings
from storage.blobs import Blobs, BlobsUnavailable


async def push_provider(settings: Settings, stack: contextlib.AsyncExitStack) -> PushProvider:
    """Return the provider of push messages. Raise BadSetting."""
    chosen = settings.push
    if chosen.provider == "none":
        return NoPush()
    if not chosen.fcm_key_file:
        raise BadSetting('push.fcm_key_file = "": with push.provider = "fcm" it must name a key file')
    try:
        account = await asyncio.to_thread(read_account, Path(chosen.fcm_key_file))
    except ValueError as error:
        raise BadSetting(f"push.fcm_key_file = {chosen.fcm_key_file!r}: {error}") from error
    timeout = aiohttp.ClientTimeout(total=chosen.timeout_s)
    http = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
    tokens = AccessTokens(account, http, url=chosen.fcm_token_url)
    return Fcm(http, tokens, url=chosen.fcm_url, project_id=account.project_id)


async def room_providers(
    settings: Settings, tokens: Tokens, stack: contextlib.AsyncExitStack
) -> Mapping[str, RoomProvider]:
    """Return all configured providers of rooms by name, also those that only serve earlier rooms. Raise BadSetting."""
    chosen = settings.rooms
    providers: dict[str, RoomProvider] = {"builtin": BuiltinRooms(tokens, settings.server.public_url)}
    if chosen.daily_api_key:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        providers["daily"] = Daily(
            http,
            url=chosen.daily_api_url,
            key=chosen.daily_api_key.reveal(),
            timeout_s=chosen.timeout_s,
            tries=chosen.tries,
            pause_s=chosen.pause_s,
            patience_s=chosen.patience_s,
        )
    elif chosen.provider == "daily":
        raise BadSetting('rooms.daily_api_key = "": with rooms.provider = "daily" it must be the key of an account')
    return providers


async def blob_store(settings: Settings) -> Blobs:
    """Open the store of uploads and write a test file. Raise BadSetting if that fails."""
    chosen = settings.blobs
    if chosen.store == "s3":
        if not chosen.s3_bucket:
            raise BadSetting('blobs.s3_bucket = "": with blobs.store = "s3" it must name a bucket')
        blobs = Blobs.s3(
            chosen.s3_bucket,
            endpoint=chosen.s3_endpoint,
            region=chosen.s3_region,
            access_key=chosen.s3_access_key.reveal(),
            secret_key=chosen.s3_secret_key.reveal(),
            path_style=chosen.s3_path_style,
        )
        where = f"blobs.s3_bucket = {chosen.s3_bucket!r}"
    else:
        where = f"data.dir = {settings.data.dir!r}"
        try:
            blobs = Blobs.local(Path(settings.data.dir) / "blobs")
        except OSError as error:
            raise BadSetting(f"{where}: uploads cannot be stored there: {error}") from error
    try:
        await blobs.probe()
    except BlobsUnavailable as error:
        raise BadSetting(f"{where}: uploads cannot be stored there: {error}") from error
    return blobs
