-- What reaches people outside of sessions: their devices, and notices.

-- A device belongs to whoever registered it last. `login` is the login that did: when it is revoked, the device goes.
create table device (
    token text primary key check (length(token) between 1 and 2048),
    user_id uuid not null references users on delete cascade,
    login text not null,
    platform text not null check (platform in ('android', 'ios', 'web')),
    registered_at timestamptz not null default clock_timestamp()
);
create index device_user on device (user_id, registered_at desc);
create index device_login on device (login);

-- Notices of one user, numbered without gaps in the order of their commits: a commit holds the user's head while it
-- numbers. No reference to users: a commit must not fail because a guest has been forgotten.
create table notice_head (
    user_id uuid primary key,
    last_seq integer not null check (last_seq > 0),
    last_at timestamptz not null
);
create table notice (
    user_id uuid not null,
    seq integer not null check (seq > 0),
    at timestamptz not null,
    session_id uuid not null,
    body jsonb not null,
    primary key (user_id, seq)
);
create index notice_age on notice (at);
create index notice_invitation on notice (user_id, session_id, seq desc) where body ->> 'type' = 'session_invitation';
