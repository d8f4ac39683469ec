-- name: append
-- The group commit: one statement for a whole batch. A session that another owner has claimed, or whose
-- Idempotency-Key is in use, drops out in f, with all its rows in this batch.
prepare append (jsonb, text) as
with v as (
    select * from jsonb_to_recordset($1 -> 'heads')
        as v(session_id uuid, epoch int, old_seq int, new_seq int, wake_at bigint)
), used as (
    select c.session_id from jsonb_to_recordset($1 -> 'keys') as k(session_id uuid, user_id uuid, key text)
    join command_key c using (session_id, user_id, key)
), f as (
    update session_head h set last_seq = v.new_seq,
        wake_at = case v.wake_at when 0 then timestamptz '-infinity' else to_timestamp(v.wake_at / 1000.0) end
    from v
    where h.session_id = v.session_id and h.owner = $2 and h.epoch = v.epoch and h.last_seq = v.old_seq
        and not exists (select from used where used.session_id = v.session_id)
    returning h.session_id
), log as (
    insert into session_log (session_id, epoch, seq, at, actor_id, type, event)
    select session_id, r.epoch, r.seq, to_timestamp(r.at / 1000.0), r.actor_id, r.type, r.event
    from jsonb_to_recordset($1 -> 'rows')
        as r(session_id uuid, epoch int, seq int, at bigint, actor_id uuid, type text, event jsonb)
    join f using (session_id)
), keys as (
    insert into command_key (session_id, user_id, key, digest, first_seq, last_seq, at)
    select session_id, k.user_id, k.key, k.digest, k.first_seq, k.last_seq, to_timestamp(k.at / 1000.0)
    from jsonb_to_recordset($1 -> 'keys') as k(
        session_id uuid, user_id uuid, key text, digest text, first_seq int, last_seq int, at bigint)
    join f using (session_id)
), facts as (
    update sessions s set status = b.body ->> 'status', course_id = b.body ->> 'course_id',
        deleted = (b.body ->> 'deleted')::boolean, body = b.body
    from jsonb_to_recordset($1 -> 'sessions') as b(session_id uuid, body jsonb)
    join f using (session_id)
    where s.session_id = b.session_id
    returning s.session_id, s.status, s.deleted
), vacated as (
    -- The session has ended: its room is due for deletion.
    update rooms r set due_at = now() from facts
    where r.session_id = facts.session_id and r.due_at is null and r.gone_at is null
        and (facts.deleted or facts.status in ('ended', 'cancelled'))
), people as (
    insert into participants as p (session_id, user_id, number, name, role, status, joined_at, left_at)
    select session_id, r.user_id, r.number, r.name, r.role, r.status,
        to_timestamp(r.joined_at / 1000.0), to_timestamp(r.left_at / 1000.0)
    from jsonb_to_recordset($1 -> 'participants') as r(
        session_id uuid, user_id uuid, number int, name text, role text, status text,
        joined_at bigint, left_at bigint)
    join f using (session_id)
    on conflict (session_id, user_id) do update set name = excluded.name, role = excluded.role,
        status = excluded.status, joined_at = excluded.joined_at, left_at = excluded.left_at
), redacted as (
    update session_log l set event = r.event
    from jsonb_to_recordset($1 -> 'redactions') as r(session_id uuid, seq int, event jsonb)
    join f using (session_id)
    where l.session_id = r.session_id and l.seq = r.seq
), uses as (
    insert into audio_use (session_id, seq, audio_id, selected, sender_id, to_id)
    select session_id, u.seq, u.audio_id, u.selected, u.sender_id, u.to_id
    from jsonb_to_recordset($1 -> 'audio_uses') as u(
        session_id uuid, seq int, audio_id uuid, selected boolean, sender_id uuid, to_id uuid)
    join f using (session_id)
), unused as (
    delete from audio_use u
    using jsonb_to_recordset($1 -> 'redactions') as r(session_id uuid, seq int) join f using (session_id)
    where u.session_id = r.session_id and u.seq = r.seq
), noticed as (
    insert into outbox (kind, target_id, session_id, seq)
    select n.kind, coalesce(w.endpoint_id, n.user_id), session_id, n.seq
    from jsonb_to_recordset($1 -> 'outbox_rows') as n(session_id uuid, seq int, kind text, type text, user_id uuid)
    join f using (session_id)
    left join webhook_endpoint w on n.kind = 'webhook' and w.owner_id = n.user_id and w.disabled is null
        and (w.types = '{}' or n.type = any(w.types))
    where n.kind <> 'webhook' or w.endpoint_id is not null
    on conflict do nothing
), forgotten as (
    delete from session_snapshot s
    using jsonb_to_recordset($1 -> 'redactions') as r(session_id uuid, seq int) join f using (session_id)
    where s.session_id = r.session_id and s.seq >= r.seq
), notified as (
    -- The order in which the heads of the users are locked; see the trigger on notification.
    insert into notification (user_id, at, session_id, body)
    select n.user_id, to_timestamp(n.at / 1000.0), session_id, n.body
    from jsonb_to_recordset($1 -> 'notifications') as n(position int, session_id uuid, user_id uuid, at bigint, body jsonb)
    join f using (session_id)
    order by n.user_id, n.position
)
select session_id::text from f

-- name: append_rows
-- The same for a batch of rows alone, as most are. `append` takes a fifth longer, even if the other lists are empty.
prepare append_rows (jsonb, text) as
with f as (
    update session_head h set last_seq = v.new_seq,
        wake_at = case v.wake_at when 0 then timestamptz '-infinity' else to_timestamp(v.wake_at / 1000.0) end
    from jsonb_to_recordset($1 -> 'heads')
        as v(session_id uuid, epoch int, old_seq int, new_seq int, wake_at bigint)
    where h.session_id = v.session_id and h.owner = $2 and h.epoch = v.epoch and h.last_seq = v.old_seq
    returning h.session_id
), log as (
    insert into session_log (session_id, epoch, seq, at, actor_id, type, event)
    select session_id, r.epoch, r.seq, to_timestamp(r.at / 1000.0), r.actor_id, r.type, r.event
    from jsonb_to_recordset($1 -> 'rows')
        as r(session_id uuid, epoch int, seq int, at bigint, actor_id uuid, type text, event jsonb)
    join f using (session_id)
)
select session_id::text from f

-- name: next_number
select nextval('session_number')

-- name: create
-- Head, list row, first log rows and first participants together. A booking gets a session only if it has none: of
-- concurrent statements, all but one wait here for the first and then write nothing. The session claims its room. One
-- that is about to be deleted gets no session, and nothing is written; a minute is more than this takes.
with booked as (
    update bookings set session_id = %(session_id)s
    where booking_id = %(booking_id)s and session_id is null
    returning booking_id
), housed as (
    update rooms set session_id = %(session_id)s, due_at = null
    where provider = %(provider)s and name = %(room)s and session_id is null and tries = 0
        and due_at > now() + interval '1 minute'
    returning name
), free as (
    select where (%(booking_id)s::uuid is null or exists (select from booked))
        and (%(room)s::text is null or exists (select from housed))
), keyed as (
    -- First of all: of concurrent requests with one Idempotency-Key, all but one fail here.
    insert into creation (user_id, key, digest, made_id, last_seq)
    select %(key_user_id)s, %(key)s, %(key_digest)s, %(session_id)s, %(last_seq)s
    from free where %(key)s::text is not null
    returning key
), wanted as (
    select from free where %(key)s::text is null or exists (select from keyed)
), s as (
    insert into sessions (session_id, number, name, code, kind, status, owner_id, course_id, body)
    select %(session_id)s, %(number)s, %(name)s, %(code)s, %(kind)s, %(status)s, %(owner_id)s, %(course_id)s,
        %(body)s::jsonb
    from wanted
), h as (
    insert into session_head (session_id, owner, epoch, last_seq, wake_at)
    select %(session_id)s, %(owner)s, 1, %(last_seq)s, to_timestamp(%(wake_at)s / 1000.0)
    from wanted
), people as (
    insert into participants (session_id, user_id, number, name, role, status, joined_at, left_at)
    select %(session_id)s::uuid, r.user_id, r.number, r.name, r.role, r.status,
        to_timestamp(r.joined_at / 1000.0), to_timestamp(r.left_at / 1000.0)
    from wanted, jsonb_to_recordset(%(participants)s::jsonb) as r(
        user_id uuid, number int, name text, role text, status text, joined_at bigint, left_at bigint)
), noticed as (
    insert into outbox (kind, target_id, session_id, seq)
    select n.kind, coalesce(w.endpoint_id, n.user_id), %(session_id)s::uuid, n.seq
    from wanted cross join jsonb_to_recordset(%(outbox_rows)s::jsonb) as n(seq int, kind text, type text, user_id uuid)
    left join webhook_endpoint w on n.kind = 'webhook' and w.owner_id = n.user_id and w.disabled is null
        and (w.types = '{}' or n.type = any(w.types))
    where n.kind <> 'webhook' or w.endpoint_id is not null
    on conflict do nothing
), notified as (
    insert into notification (user_id, at, session_id, body)
    select n.user_id, to_timestamp(n.at / 1000.0), n.session_id, n.body
    from wanted, jsonb_to_recordset(%(notifications)s::jsonb)
        as n(position int, session_id uuid, user_id uuid, at bigint, body jsonb)
    order by n.user_id, n.position
)
insert into session_log (session_id, epoch, seq, at, actor_id, type, event)
select r.session_id, r.epoch, r.seq, to_timestamp(r.at / 1000.0), r.actor_id, r.type, r.event
from wanted, jsonb_to_recordset(%(rows)s::jsonb)
    as r(session_id uuid, epoch int, seq int, at bigint, actor_id uuid, type text, event jsonb)

-- name: claim
update session_head set owner = %(owner)s, epoch = epoch + 1 where session_id = %(session_id)s returning epoch

-- name: snapshot
select seq, body from session_snapshot where session_id = %(session_id)s

-- name: read
select epoch, seq, (extract(epoch from at) * 1000)::bigint, actor_id::text, event::text
from session_log where session_id = %(session_id)s and seq > %(after)s
    -- `seq` has no gaps, so this excludes nothing. It keeps a planner without statistics from sorting the whole log.
    and seq <= %(after)s::bigint + %(limit)s
order by seq limit %(limit)s

-- name: recent_keys
select user_id::text, key, digest, first_seq, last_seq, (extract(epoch from at) * 1000)::bigint
from command_key where session_id = %(session_id)s
order by last_seq desc limit %(limit)s

-- name: find_key
select user_id::text, key, digest, first_seq, last_seq, (extract(epoch from at) * 1000)::bigint
from command_key where session_id = %(session_id)s and user_id = %(user_id)s and key = %(key)s

-- name: forget_keys
delete from command_key where ctid = any(array(
    select ctid from command_key where at < to_timestamp(%(before)s / 1000.0) order by at limit %(limit)s))

-- name: save_snapshot
-- Never ahead of the log, and only if nothing after `seq` was redacted: the snapshot would undo the redaction.
insert into session_snapshot as s (session_id, seq, body)
select h.session_id, %(seq)s, %(body)s from session_head h
where h.session_id = %(session_id)s and h.last_seq >= %(seq)s
    and not exists (
        select from session_log l where l.session_id = h.session_id and l.seq > %(seq)s and l.type = 'message_deleted')
on conflict (session_id) do update set seq = excluded.seq, body = excluded.body where s.seq < excluded.seq

-- name: due
select session_id::text from session_head h
where wake_at > '-infinity' and wake_at <= to_timestamp(%(now)s / 1000.0)
    and not exists (
        select from nodes n where n.owner = h.owner and n.owner <> %(owner)s and n.seen_at > now() - interval '6 s')
order by wake_at limit %(limit)s

-- name: interrupted
select session_id::text from session_head h
where wake_at = '-infinity' and owner <> %(owner)s
    and not exists (select from nodes n where n.owner = h.owner and n.seen_at > now() - interval '6 s')

-- name: heartbeat
insert into nodes (owner) values (%(owner)s) on conflict (owner) do update set seen_at = now()

-- name: deregister
delete from nodes where owner = %(owner)s or seen_at < now() - interval '1 day'

-- name: page
select epoch, seq, (extract(epoch from at) * 1000)::bigint, actor_id::text, event::text
from session_log
where session_id = %(session_id)s and seq > coalesce(%(after)s, 0)
    and (%(types)s::text[] is null or type = any(%(types)s))
    and (%(user_id)s::uuid is null or actor_id = %(user_id)s)
    and (%(since)s::bigint is null or at >= to_timestamp(%(since)s / 1000.0))
    and (%(until)s::bigint is null or at < to_timestamp(%(until)s / 1000.0))
order by seq limit %(limit)s

-- name: page_descending
select epoch, seq, (extract(epoch from at) * 1000)::bigint, actor_id::text, event::text
from session_log
where session_id = %(session_id)s and seq < coalesce(%(after)s, 2147483647)
    and (%(types)s::text[] is null or type = any(%(types)s))
    and (%(user_id)s::uuid is null or actor_id = %(user_id)s)
    and (%(since)s::bigint is null or at >= to_timestamp(%(since)s / 1000.0))
    and (%(until)s::bigint is null or at < to_timestamp(%(until)s / 1000.0))
order by seq desc limit %(limit)s

-- name: summary
select coalesce(sum(n), 0)::int, coalesce(json_object_agg(type, n order by type), '{}')::text,
    (select count(distinct event ->> 'user_id') from session_log
        where session_id = %(session_id)s and type = 'participant_joined')::int,
    (select count(*) from session_log where session_id = %(session_id)s and type = 'participant_left')::int,
    (extract(epoch from min(first_at)) * 1000)::bigint, (extract(epoch from max(last_at)) * 1000)::bigint
from (
    select type, count(*) as n, min(at) as first_at, max(at) as last_at
    from session_log where session_id = %(session_id)s group by type
) by_type
