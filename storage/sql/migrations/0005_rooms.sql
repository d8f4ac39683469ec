-- Rooms at providers; what providers tell us; who was in a room, as its provider saw it.

-- A room is held by a session, or it is due: to be deleted at its provider from then on. It is here, and due, from before the
-- provider is asked for it, and due again in the commit that ends its session. A crash leaves a row, never a room that
-- nobody knows. What a session held stays, gone, for words about it that come late.
create table rooms (
    provider text not null,
    name text not null,
    session_id uuid constraint rooms_session unique references sessions,
    due_at timestamptz,
    tries integer not null default 0,
    gone_at timestamptz,
    primary key (provider, name),
    check (session_id is not null or due_at is not null)
);
create index rooms_due on rooms (due_at) where due_at is not null;

-- What a provider has told us, from before it is answered; due until it is done, and kept for a while to know it when it
-- is told again.
create table provider_events (
    number bigint generated always as identity primary key,
    provider text not null,
    event_id text not null,
    type text not null,
    body text not null,
    received_at timestamptz not null default now(),
    due_at timestamptz default now(),
    tries integer not null default 0,
    constraint provider_events_id unique (provider, event_id)
);
create index provider_events_due on provider_events (due_at) where due_at is not null;
create index provider_events_age on provider_events (received_at);

-- One connection of somebody to a room. Not in the session's log: it is told late, and in any order.
create table room_visits (
    session_id uuid not null references sessions,
    visit_id text not null,
    user_id text,
    name text not null,
    owner boolean not null,
    joined_at timestamptz not null,
    left_at timestamptz,
    primary key (session_id, visit_id)
);
