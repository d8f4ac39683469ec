-- What was made under an Idempotency-Key outside of any session: written by the statement that makes it.

create table creation (
    user_id uuid not null,
    key text not null check (length(key) <= 64),
    digest text not null,
    -- A session or a booking. A session's first commit goes up to `last_seq`; a booking has no log.
    made_id uuid not null,
    last_seq integer not null,
    at timestamptz not null default now(),
    constraint creation_key primary key (user_id, key)
);
create index creation_age on creation (at);
