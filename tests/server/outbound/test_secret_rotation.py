"""Changing the signing key: webhooks keep their secrets."""

from pathlib import Path

import pytest

from server.outbound.webhooks import parse_secret
from server.security.secret_box import SecretBox
from server.settings.types import Secret
from tests.support.serving import KEY, serving
from tests.support.webhook_calls import hooked

pytestmark = pytest.mark.asyncio(loop_scope="session")

NEW_KEY = "another signing key of thirty-two bytes or more"
MISSING_KEY = "a signing key of thirty-two bytes or more that is in no setting"


async def test_webhooks_keep_their_secrets_when_the_signing_key_changes(dsn: str, data: Path) -> None:
    async with hooked(dsn, data) as here:
        owner = await here.town.teacher()
        plain, rotated, lost = [await here.hook(owner, path) for path in ("/plain", "/rotated", "/lost")]
        new_secret = (await owner.post(f"{rotated.url}/rotate")).ok()["secret"]
        stored = SecretBox(MISSING_KEY).encrypt(b"secret", lost.id)
        here.town.query("update webhook_endpoint set secret = %s where endpoint_id = %s", stored, lost.id)
    auth = {"signing_key": Secret(NEW_KEY), "earlier_signing_keys": Secret(f"{MISSING_KEY} and more\n{KEY}\n")}
    # The second start changes nothing.
    for _ in range(2):
        async with serving(dsn, data, auth=auth) as town:
            rows = town.query("select endpoint_id::text, secret, old_secret from webhook_endpoint")
    secrets = {endpoint_id: (bytes(secret), old and bytes(old)) for endpoint_id, secret, old in rows}
    box = SecretBox(NEW_KEY)
    assert box.decrypt(secrets[plain.id][0], plain.id) == parse_secret(plain.secret)
    assert secrets[plain.id][1] is None
    assert [box.decrypt(each, rotated.id) for each in secrets[rotated.id] if each] == [
        parse_secret(new_secret),
        parse_secret(rotated.secret),
    ]
    assert secrets[lost.id] == (stored, None)
