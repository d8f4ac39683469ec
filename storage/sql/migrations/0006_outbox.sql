-- What is to be told to somebody outside, and the endpoints of users whom their sessions' events are sent to.

create table webhook_endpoint (
    endpoint_id uuid primary key,
    number integer generated always as identity unique,
    owner_id uuid not null,
    url text not null check (length(url) <= 2000),
    -- Empty: all.
    types text[] not null default '{}',
    description text not null default '' check (length(description) <= 500),
    -- Sealed (server/sealing.py). The old one signs too, up to a time.
    secret bytea not null,
    old_secret bytea,
    old_secret_until timestamptz,
    -- Why nothing is sent to it; null: it is enabled.
    disabled text check (disabled in ('owner', 'gone', 'failing', 'behind')),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index webhook_endpoint_owner on webhook_endpoint (owner_id, number desc);

-- Rows of the log that somebody is to hear of, written by the commit that writes them. `target_id` is, by kind, an
-- endpoint or a user. Only the first pending row of a lane (kind, target_id, session_id) is ever tried: the others wait.
create table outbox (
    id bigint generated always as identity primary key,
    kind text not null check (kind in ('webhook', 'push')),
    target_id uuid not null,
    session_id uuid not null,
    seq integer not null,
    status text not null default 'pending' check (status in ('pending', 'delivered', 'dead')),
    -- Counted when one begins and never set back: who has the number may write down what came of it.
    attempts integer not null default 0,
    next_at timestamptz not null default now(),
    leased_until timestamptz,
    created_at timestamptz not null default now(),
    -- When the first attempt began; of a replay, the first since.
    first_at timestamptz,
    done_at timestamptz,
    -- The latest attempts: [{"at": ms, "status", "ms", "error"}, …].
    history jsonb not null default '[]',
    constraint outbox_once unique (session_id, seq, target_id, kind)
)
-- Rows come, change twice and are done: what the pending index is to be walked by must not fill up with them.
with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
-- No other index has this order. A planner whose statistics are of another hour, when most rows were pending, would walk
-- that one, and look at every row that is done.
create index outbox_pending on outbox (kind, target_id, session_id, seq) where status = 'pending';
create index outbox_leased on outbox (kind, target_id) where leased_until is not null;
create index outbox_newest on outbox (target_id, id desc);
create index outbox_dead on outbox (target_id, id desc) where status = 'dead';
create index outbox_done on outbox (done_at) where status <> 'pending';

-- Targets whose latest attempts have all failed: nothing is tried for them until `paused_until`.
create table outbox_failing (
    kind text not null,
    target_id uuid not null,
    failures integer not null,
    since timestamptz not null default now(),
    paused_until timestamptz,
    primary key (kind, target_id)
);
