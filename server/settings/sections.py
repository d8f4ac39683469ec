"""The settings: one frozen Struct for each section of `config.toml`. A nested section is a field that is a Struct.

**Law:** every setting has a default here and is listed in `config.toml` with a comment. Tests compare the two. The
comments there explain the settings; here only reasons for bounds are given.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

from server.settings.types import (
    DAY_S,
    GIB,
    Algorithm,
    Bytes,
    Claim,
    Count,
    File,
    Issued,
    KeysUrl,
    Lifetime,
    Nameserver,
    Network,
    Origin,
    Prefix,
    SafeUrl,
    Secret,
    Size,
    Wait,
    WaitOrNone,
    at_least_32_bytes,
    base64_of_something,
    lines_of_32_bytes,
    within,
)


class BadSetting(ValueError):
    """A setting with which the server does not start. The message is for its author."""


class ServerSettings(Struct, frozen=True, kw_only=True):
    host: Annotated[str, Meta(min_length=1, description="a host name or an address")] = "127.0.0.1"
    port: Annotated[int, within(0, 65_535)] = 8080
    public_url: Annotated[
        str, Meta(pattern=r"^(https?://\S+)?$", description='a URL such as "https://live.example.org", or empty')
    ] = ""
    cors_origins: tuple[Origin, ...] = ("http://localhost:3000",)
    trusted_proxies: tuple[Network, ...] = ()
    metrics: Literal["open", "local", "off"] = "local"
    metrics_token: Annotated[Secret, Meta(description="32 bytes or more", extra={"check": at_least_32_bytes})] = (
        Secret()
    )
    metrics_token_file: File = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    drain_s: WaitOrNone = 10.0


class DataSettings(Struct, frozen=True, kw_only=True):
    dir: Annotated[str, Meta(min_length=1, description="the path of a directory")] = "data"


class DatabaseSettings(Struct, frozen=True, kw_only=True):
    dsn: Secret = Secret()
    dsn_file: File = ""
    pool_size: Annotated[int, within(1, 1_000)] = 8
    connect_timeout_s: Wait = 5.0
    statement_timeout_s: Wait = 10.0


class IssuerSettings(Struct, frozen=True, kw_only=True):
    """An external issuer of tokens: a section of `[auth.issuers]` under any name."""

    issuer: Issued = ""
    audience: Issued = ""
    algorithms: Annotated[tuple[Algorithm, ...], Meta(max_length=11)] = ("RS256",)
    secret: Annotated[Secret, Meta(description="32 bytes or more", extra={"check": at_least_32_bytes})] = Secret()
    secret_file: File = ""
    public_key_file: File = ""
    jwks_file: File = ""
    jwks_url: KeysUrl = ""
    jwks_ttl_s: Lifetime = 3_600
    jwks_cooldown_s: Wait = 10.0
    jwks_timeout_s: Annotated[float, within(0.01, 60)] = 3.0
    subject_claim: Annotated[Claim, Meta(min_length=1, description="the name of a claim")] = "sub"
    name_claim: Claim = "name"
    email_claim: Claim = "email"
    role_claim: Claim = "role"
    teachers: Annotated[tuple[Issued, ...], Meta(max_length=100)] = ("teacher",)
    leeway_s: Annotated[float, within(0, 300)] = 30.0

    @property
    def symmetric(self) -> bool:
        return bool(self.secret or self.secret_file)

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield the settings that contradict others: their keys, and what each must be."""
        if not self.issuer:
            yield "issuer", 'the "iss" claim of the tokens to accept'
        given = [self.symmetric, self.public_key_file, self.jwks_file, self.jwks_url]
        if sum(map(bool, given)) != 1:
            yield "secret", "set, or one of public_key_file, jwks_file and jwks_url: exactly one of the four"
        # A public key must never pass for a shared secret.
        if not self.algorithms or any(name.startswith("HS") != self.symmetric for name in self.algorithms):
            yield "algorithms", "HS256 with a secret; with public keys any others, but not HS256"


class AuthSettings(Struct, frozen=True, kw_only=True):
    issuer: Annotated[str, Meta(min_length=1)] = "homeroom"
    audience: Annotated[str, Meta(min_length=1)] = "homeroom"
    # RFC 7518, 3.2: a key for HS256 has at least as many bits as the hash.
    signing_key: Annotated[Secret, Meta(description="32 bytes or more", extra={"check": at_least_32_bytes})] = Secret()
    signing_key_file: File = ""
    earlier_signing_keys: Annotated[
        Secret, Meta(description="keys of 32 bytes or more, one a line", extra={"check": lines_of_32_bytes})
    ] = Secret()
    earlier_signing_keys_file: File = ""
    access_ttl_s: Lifetime = 1_800
    refresh_ttl_s: Lifetime = 30 * DAY_S
    ticket_ttl_s: Lifetime = 30
    session_token_ttl_s: Lifetime = 6 * 3_600
    registration: bool = True
    hash_workers: Annotated[int, within(1, 64)] = 2
    hash_queue: Count = 64
    argon2_time_cost: Annotated[int, within(1, 64)] = 2
    # Argon2 needs 8 KiB per lane: the lower bound suffices for the most lanes.
    argon2_memory_kib: Annotated[int, within(128, 4 * GIB // 1_024)] = 19_456
    argon2_parallelism: Annotated[int, within(1, 16)] = 1
    login_attempts_per_minute: Count = 20
    address_attempts_per_minute: Count = 300
    issuers: Mapping[str, IssuerSettings] = {}


class SessionsSettings(Struct, frozen=True, kw_only=True):
    default_capacity: Annotated[int, within(1, 10_000)] = 100
    grace_s: WaitOrNone = 10.0
    passivate_after_s: Lifetime = 300
    snapshot_events: Count = 500
    snapshot_s: Lifetime = 60
    idempotency_ttl_s: Lifetime = DAY_S


class DialectSettings(Struct, frozen=True, kw_only=True):
    enabled: bool = True
    prefix: Prefix = ""


class TutoriumSettings(DialectSettings, frozen=True, kw_only=True):
    prefix: Prefix = "/tutorium"
    cors_origins: tuple[Origin, ...] = ("http://localhost:8000",)
    """In addition to the server's."""


class SeedsSettings(DialectSettings, frozen=True, kw_only=True):
    prefix: Prefix = "/seeds"
    trust_user_id: bool = False


class LessonSettings(DialectSettings, frozen=True, kw_only=True):
    prefix: Prefix = "/lesson"


class LiveSettings(DialectSettings, frozen=True, kw_only=True):
    prefix: Prefix = "/live"


class InterviewSettings(DialectSettings, frozen=True, kw_only=True):
    prefix: Prefix = "/interview"
    open: bool = False
    ttl_s: Lifetime = DAY_S


class DialectsSettings(Struct, frozen=True, kw_only=True):
    tutorium: TutoriumSettings = TutoriumSettings()
    seeds: SeedsSettings = SeedsSettings()
    lesson: LessonSettings = LessonSettings()
    live: LiveSettings = LiveSettings()
    interview: InterviewSettings = InterviewSettings()


class RecordingsSettings(Struct, frozen=True, kw_only=True):
    url_ttl_s: Lifetime = 3_600


class LimitsSettings(Struct, frozen=True, kw_only=True):
    mailbox: Count = 1_000
    log_queue_rows: Count = 10_000
    user_commands_per_s: Count = 20
    user_burst: Count = 40
    session_commands_per_s: Count = 200
    user_reads_per_s: Count = 200
    address_reads_per_s: Count = 1_000
    join_attempts_per_minute: Count = 10
    guests_per_minute: Count = 60
    connections_per_ip: Count = 50
    streams_per_user: Count = 10
    body_bytes: Bytes = 65_536
    header_bytes: Bytes = 16_384
    # The decoder runs out of stack at about a thousand levels.
    json_depth: Annotated[int, within(1, 256)] = 32
    header_timeout_s: Wait = 10.0
    keepalive_s: Wait = 75.0
    body_timeout_s: Wait = 30.0


class StreamsSettings(Struct, frozen=True, kw_only=True):
    heartbeat_s: Wait = 15.0
    lifetime_s: Wait = 3_600.0
    buffer_bytes: Bytes = 262_144
    send_buffer_bytes: Bytes = 65_536
    replay_events: Count = 256
    replay_bytes: Bytes = 262_144
    notifications_look_s: Wait = 5.0


class CommitSettings(Struct, frozen=True, kw_only=True):
    batch_rows: Annotated[int, within(1, 10_000)] = 256
    batch_bytes: Bytes = 262_144


class AudioSettings(Struct, frozen=True, kw_only=True):
    max_bytes: Size = GIB // 2
    quota_bytes: Size = 5 * GIB
    uploads_per_user: Annotated[int, within(1, 100)] = 2
    uploads: Annotated[int, within(1, 1_000)] = 8
    min_bytes_per_s: Count = 16_384
    url_ttl_s: Lifetime = 3_600


class BlobsSettings(Struct, frozen=True, kw_only=True):
    store: Literal["local", "s3"] = "local"
    s3_bucket: str = ""
    s3_endpoint: Annotated[
        str, Meta(pattern=r"^(https?://\S+)?$", description='a URL such as "https://s3.example.org", or empty')
    ] = ""
    s3_region: Annotated[str, Meta(min_length=1)] = "us-east-1"
    s3_access_key: Secret = Secret()
    s3_access_key_file: File = ""
    s3_secret_key: Secret = Secret()
    s3_secret_key_file: File = ""
    s3_path_style: bool = True


class PushSettings(Struct, frozen=True, kw_only=True):
    provider: Literal["none", "fcm"] = "none"
    fcm_key_file: File = ""
    fcm_url: SafeUrl = "https://fcm.googleapis.com"
    fcm_token_url: KeysUrl = ""
    timeout_s: Wait = 5.0


class RoomsSettings(Struct, frozen=True, kw_only=True):
    provider: Literal["builtin", "daily"] = "builtin"
    daily_api_key: Secret = Secret()
    daily_api_key_file: File = ""
    daily_api_url: SafeUrl = "https://api.daily.co/v1"
    daily_webhook_secret: Annotated[
        Secret, Meta(description="base64, as Daily returned it", extra={"check": base64_of_something})
    ] = Secret()
    daily_webhook_secret_file: File = ""
    timeout_s: Wait = 10.0
    tries: Annotated[int, within(1, 10)] = 3
    pause_s: Wait = 0.5
    patience_s: Wait = 20.0
    room_ttl_s: Lifetime = 7 * DAY_S
    token_ttl_s: Lifetime = 4 * 3_600
    overdue_s: Wait = 120.0


class OutboxSettings(Struct, frozen=True, kw_only=True):
    poll_s: Wait = 1.0
    concurrency: Annotated[int, within(1, 10_000)] = 256
    per_target: Annotated[int, within(1, 100)] = 4
    attempt_s: Annotated[float, within(0.01, 300)] = 10.0
    margin_s: Annotated[float, within(0.01, 300)] = 15.0
    backoff_s: Wait = 5.0
    backoff_max_s: Wait = 3_600.0
    give_up_s: Annotated[float, within(0.01, 30 * DAY_S)] = float(DAY_S)
    pause_after: Annotated[int, within(1, 1_000)] = 5
    pause_s: Wait = 60.0
    backlog_rows: Annotated[int, within(1, 100_000_000)] = 100_000
    delivered_kept_s: Lifetime = 3 * DAY_S
    dead_kept_s: Lifetime = 30 * DAY_S


class WebhooksSettings(Struct, frozen=True, kw_only=True):
    allow_private: bool = False
    allow_http: bool = False
    endpoints_per_user: Annotated[int, within(1, 1_000)] = 10
    probes_per_minute: Count = 20
    rotation_s: Annotated[int, within(0, 30 * DAY_S)] = DAY_S
    reread_s: Wait = 2.0
    answer_bytes: Annotated[int, within(1, 1_048_576)] = 4_096
    replay_rows: Annotated[int, within(1, 100_000)] = 10_000
    nameservers: tuple[Nameserver, ...] = ()
    dns_timeout_s: Wait = 3.0


class Settings(Struct, frozen=True, kw_only=True):
    server: ServerSettings = ServerSettings()
    data: DataSettings = DataSettings()
    database: DatabaseSettings = DatabaseSettings()
    auth: AuthSettings = AuthSettings()
    sessions: SessionsSettings = SessionsSettings()
    recordings: RecordingsSettings = RecordingsSettings()
    limits: LimitsSettings = LimitsSettings()
    streams: StreamsSettings = StreamsSettings()
    commit: CommitSettings = CommitSettings()
    audio: AudioSettings = AudioSettings()
    blobs: BlobsSettings = BlobsSettings()
    dialects: DialectsSettings = DialectsSettings()
    rooms: RoomsSettings = RoomsSettings()
    outbox: OutboxSettings = OutboxSettings()
    push: PushSettings = PushSettings()
    webhooks: WebhooksSettings = WebhooksSettings()
