-- People, their logins, sessions and the log.

create table users (
    user_id uuid primary key,
    number integer generated always as identity unique,
    name text not null,
    email text constraint users_email unique check (email = lower(email)),
    phone text constraint users_phone unique,
    role text not null check (role in ('teacher', 'student')),
    password_hash text,
    issuer text,
    subject text,
    created_at timestamptz not null default now(),
    constraint users_subject unique (issuer, subject)
);

-- A login and what became of its refresh token; every access token names its login.
create table logins (
    login_id uuid primary key,
    user_id uuid not null references users,
    refresh_digest text not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    revoked_at timestamptz
);
create index logins_user on logins (user_id);
create index logins_expiry on logins (expires_at);

create sequence session_number as integer;

-- A session as lists show it; body is the core's Session struct.
create table sessions (
    session_id uuid primary key,
    number integer not null constraint sessions_number unique,
    name text not null constraint sessions_name unique,
    code text not null constraint sessions_code unique,
    kind text not null,
    status text not null check (status in ('scheduled', 'live', 'ended', 'cancelled')),
    owner_id uuid not null,
    course_id text,
    deleted boolean not null default false,
    body jsonb not null
);
create index sessions_owner on sessions (owner_id, number desc);

create table participants (
    session_id uuid not null references sessions,
    user_id uuid not null,
    number integer not null,
    name text not null,
    role text not null,
    status text not null check (status in ('invited', 'waiting', 'joined', 'left', 'kicked', 'denied')),
    joined_at timestamptz,
    left_at timestamptz,
    primary key (session_id, user_id),
    constraint participants_number unique (session_id, number)
);
create index participants_user on participants (user_id, session_id);

-- Who may append to a session's log, and from where. The fence of every commit.
create table session_head (
    session_id uuid primary key references sessions,
    owner text not null,
    epoch integer not null check (epoch > 0),
    last_seq integer not null check (last_seq > 0),
    wake_at timestamptz
);
create index session_head_wake on session_head (wake_at) where wake_at is not null;

create table session_log (
    session_id uuid not null,
    epoch integer not null,
    seq integer not null check (seq > 0),
    at timestamptz not null,
    actor_id uuid,
    type text not null,
    event jsonb not null,
    primary key (session_id, seq)
);

create table command_key (
    session_id uuid not null,
    user_id uuid not null,
    key text not null check (length(key) <= 64),
    digest text not null,
    first_seq integer not null,
    last_seq integer not null,
    at timestamptz not null,
    primary key (session_id, user_id, key)
);
create index command_key_recent on command_key (session_id, last_seq);
create index command_key_age on command_key (at);

create table session_snapshot (
    session_id uuid primary key,
    seq integer not null,
    body bytea not null
);

-- Server processes on this database; one that has not been seen for a while has stopped.
create table nodes (
    owner text primary key,
    seen_at timestamptz not null default now()
);
