-- What reaches people outside of sessions: their devices, and notifications.

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

-- Notifications of one user, numbered without gaps in the order of their commits. Nothing refers to users: a commit must not
-- fail because a guest has been forgotten.
create table notification_head (
    user_id uuid primary key,
    last_seq integer not null check (last_seq > 0)
);
create table notification (
    user_id uuid not null,
    seq integer not null check (seq > 0),
    at timestamptz not null,
    session_id uuid not null,
    body jsonb not null,
    primary key (user_id, seq)
);
create index notification_age on notification (at);
create index notification_invitation on notification (user_id, session_id, seq desc) where body ->> 'type' = 'session_invitation';

-- The user's head stays locked until the commit, so that nobody sees a number before the one below it. Whoever inserts
-- several does so in order of user_id, or two commits could wait for each other.
create function number_notification() returns trigger language plpgsql as $$
begin
    insert into notification_head as h (user_id, last_seq) values (new.user_id, 1)
    on conflict (user_id) do update set last_seq = h.last_seq + 1
    returning last_seq into new.seq;
    return new;
end $$;
create trigger number_notification before insert on notification for each row execute function number_notification();

-- Devices that a push of the outbox has got to, or never will: it is not tried with them again.
create table push_settled (
    outbox_id bigint not null references outbox on delete cascade,
    token text not null,
    primary key (outbox_id, token)
);
