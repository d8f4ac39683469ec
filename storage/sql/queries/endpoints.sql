-- name: hold
-- Serialise the creations of one user, so that the count is exact.
select pg_advisory_xact_lock(hashtextextended(%(owner_id)s, 6))

-- name: count
select count(*) from webhook_endpoint where owner_id = %(owner_id)s

-- name: create
insert into webhook_endpoint (endpoint_id, owner_id, url, types, description, secret)
values (%(endpoint_id)s, %(owner_id)s, %(url)s, %(types)s, %(description)s, %(secret)s)

-- name: page
select w.endpoint_id::text, w.number, w.owner_id::text, w.url, w.types, w.description, w.disabled,
    (extract(epoch from w.created_at) * 1000)::bigint, (extract(epoch from w.updated_at) * 1000)::bigint,
    case when w.old_secret_until > now() then (extract(epoch from w.old_secret_until) * 1000)::bigint end,
    coalesce(f.failures, 0), (extract(epoch from f.since) * 1000)::bigint,
    case when f.paused_until > now() then (extract(epoch from f.paused_until) * 1000)::bigint end
from webhook_endpoint w left join outbox_failing f on f.kind = 'webhook' and f.target_id = w.endpoint_id
where w.owner_id = %(owner_id)s and (%(endpoint_id)s::uuid is null or w.endpoint_id = %(endpoint_id)s)
    and (%(before)s::int is null or w.number < %(before)s)
order by w.number desc limit %(limit)s

-- name: change
-- Null means unchanged. Enabling an endpoint resets its failures.
with well as (
    delete from outbox_failing where kind = 'webhook' and target_id = %(endpoint_id)s and %(enabled)s
), sooner as (
    update outbox set next_at = now()
    where kind = 'webhook' and target_id = %(endpoint_id)s and status = 'pending' and next_at > now() and %(enabled)s
)
update webhook_endpoint set url = coalesce(%(url)s, url), types = coalesce(%(types)s, types),
    description = coalesce(%(description)s, description), updated_at = now(),
    disabled = case when %(enabled)s then null when not %(enabled)s then 'owner' else disabled end
where endpoint_id = %(endpoint_id)s and owner_id = %(owner_id)s

-- name: rotate
update webhook_endpoint set old_secret = secret, old_secret_until = now() + %(keep_s)s * interval '1 s',
    secret = %(secret)s, updated_at = now()
where endpoint_id = %(endpoint_id)s and owner_id = %(owner_id)s

-- name: secrets
select endpoint_id::text, secret, old_secret from webhook_endpoint
where %(after)s::uuid is null or endpoint_id > %(after)s order by endpoint_id limit %(limit)s

-- name: reencrypt
-- Only if the secret was not rotated meanwhile.
update webhook_endpoint set secret = %(secret)s, old_secret = %(old_secret)s
where endpoint_id = %(endpoint_id)s and secret = %(before)s

-- name: disable
update webhook_endpoint set disabled = %(reason)s, updated_at = now()
where endpoint_id = %(endpoint_id)s and disabled is null

-- name: remove
delete from webhook_endpoint where endpoint_id = %(endpoint_id)s and owner_id = %(owner_id)s

-- name: target
select url, secret, case when old_secret_until > now() then old_secret end from webhook_endpoint
where endpoint_id = %(endpoint_id)s and (disabled is null or %(disabled_too)s)

-- name: subscriptions
select owner_id::text, types from webhook_endpoint
where disabled is null and (%(owner_id)s::uuid is null or owner_id = %(owner_id)s)

-- name: deliveries
-- The deliveries of one endpoint, latest first.
select o.id, o.session_id::text, o.seq, l.type, o.status, o.attempts, (extract(epoch from o.created_at) * 1000)::bigint,
    case when o.status = 'pending' then (extract(epoch from o.next_at) * 1000)::bigint end,
    (extract(epoch from o.done_at) * 1000)::bigint, o.history::text
from outbox o join session_log l using (session_id, seq)
where o.kind = 'webhook' and o.target_id = %(endpoint_id)s
    and (%(status)s::text is null or o.status = %(status)s) and (%(before)s::bigint is null or o.id < %(before)s)
    and (%(session_id)s::uuid is null or (o.session_id = %(session_id)s and o.seq = %(seq)s))
order by o.id desc limit %(limit)s

-- name: replay
-- A pending delivery becomes due now; a finished one becomes pending again. A leased one is left alone.
update outbox set status = 'pending', next_at = now(), done_at = null,
    first_at = case when status = 'pending' then first_at end
where kind = 'webhook' and target_id = %(endpoint_id)s and session_id = %(session_id)s and seq = %(seq)s
    and (leased_until is null or leased_until <= now())

-- name: replay_since
-- Read the log and not the outbox, to include events from before the endpoint existed, from while it was disabled, and
-- from before the delivery log begins. Sessions without a row since then are skipped.
with past as (
    select l.session_id, l.seq, l.at
    from webhook_endpoint w
    join sessions s on s.owner_id = w.owner_id
    join session_head h on h.session_id = s.session_id
    join session_log newest on newest.session_id = h.session_id and newest.seq = h.last_seq
        and newest.at >= to_timestamp(%(since)s / 1000.0)
    join session_log l on l.session_id = h.session_id and l.at >= to_timestamp(%(since)s / 1000.0)
    where w.endpoint_id = %(endpoint_id)s and l.type = any(case when w.types = '{}' then %(every)s else w.types end)
    order by l.at fetch first %(limit)s rows with ties
), again as (
    insert into outbox as o (kind, target_id, session_id, seq)
    select 'webhook', %(endpoint_id)s::uuid, session_id, seq from past order by at, session_id, seq
    on conflict on constraint outbox_once do update set status = 'pending', next_at = now(), first_at = null, done_at = null
    where o.status <> 'pending'
)
select count(*), (extract(epoch from max(at)) * 1000)::bigint from past
