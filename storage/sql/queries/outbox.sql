-- name: claim
-- The first pending row of each queue, if it is due and not leased, for targets below their limit. It uses the
-- index to go from queue to queue and from target to target, and never reads the rows behind a first one.
with recursive target as (
    (select kind, target_id from outbox where status = 'pending' order by kind, target_id limit 1)
    union all
    select n.kind, n.target_id from target t, lateral (
        select o.kind, o.target_id from outbox o
        where o.status = 'pending' and (o.kind, o.target_id) > (t.kind, t.target_id)
        order by o.kind, o.target_id limit 1
    ) n
), open as (
    select t.kind, t.target_id,
        -- A failing target gets one attempt at a time, until one succeeds.
        case when f.failures >= %(pause_after)s then 1 else %(per_target)s end - (
            select count(*) from outbox l
            where l.kind = t.kind and l.target_id = t.target_id and l.leased_until > now()
        ) as places
    from target t left join outbox_failing f using (kind, target_id)
    where t.kind = any(%(kinds)s) and (f.paused_until is null or f.paused_until <= now())
), head as (
    select h.id from open p, lateral (
        with recursive lane as (
            (select session_id, id, next_at, leased_until from outbox
                where status = 'pending' and kind = p.kind and target_id = p.target_id
                order by session_id, seq limit 1)
            union all
            select n.* from lane l, lateral (
                select session_id, id, next_at, leased_until from outbox
                where status = 'pending' and kind = p.kind and target_id = p.target_id and session_id > l.session_id
                order by session_id, seq limit 1
            ) n
        )
        select id from lane where next_at <= now() and (leased_until is null or leased_until <= now())
        order by next_at limit greatest(p.places, 0)
    ) h
), picked as (
    select o.id from outbox o join head using (id)
    -- Checked again after the row is locked.
    where o.status = 'pending' and o.next_at <= now() and (o.leased_until is null or o.leased_until <= now())
    order by o.next_at limit %(limit)s
    for update of o skip locked
)
update outbox o set attempts = o.attempts + 1, leased_until = now() + %(lease_s)s * interval '1 s',
    first_at = coalesce(o.first_at, now())
from picked, session_log l, sessions s
where o.id = picked.id and l.session_id = o.session_id and l.seq = o.seq and s.session_id = o.session_id
returning o.id, o.kind, o.target_id::text, o.attempts, (extract(epoch from o.first_at) * 1000)::bigint,
    s.body::text, l.epoch, l.seq, (extract(epoch from l.at) * 1000)::bigint, l.actor_id::text, l.event::text

-- name: delivered
-- With `advance`, the next row of the queue is leased at once. A failing target has recovered: the first rows
-- of its other queues become due.
with done as (
    update outbox set status = 'delivered', done_at = now(), leased_until = null,
        history = (case when jsonb_array_length(history) < %(kept)s then history else history - 0 end) || %(tried)s::jsonb
    where id = %(id)s and attempts = %(attempt)s and status = 'pending'
    returning kind, target_id, session_id
), well as (
    delete from outbox_failing f using done d where f.kind = d.kind and f.target_id = d.target_id
    returning f.kind, f.target_id, f.failures, d.session_id
), sooner as (
    update outbox o set next_at = now() from well w
    where w.failures >= %(pause_after)s and o.kind = w.kind and o.target_id = w.target_id and o.status = 'pending'
        and o.session_id <> w.session_id and o.next_at > now()
), following as (
    select o.id from outbox o join done d using (kind, target_id, session_id)
    where %(advance)s and o.status = 'pending' and o.id <> %(id)s
    order by o.seq limit 1
    for update of o skip locked
)
update outbox o set attempts = o.attempts + 1, leased_until = now() + %(lease_s)s * interval '1 s',
    first_at = coalesce(o.first_at, now())
from following n, session_log l, sessions s
where o.id = n.id and o.next_at <= now() and (o.leased_until is null or o.leased_until <= now())
    and l.session_id = o.session_id and l.seq = o.seq and s.session_id = o.session_id
returning o.id, o.kind, o.target_id::text, o.attempts, (extract(epoch from o.first_at) * 1000)::bigint,
    s.body::text, l.epoch, l.seq, (extract(epoch from l.at) * 1000)::bigint, l.actor_id::text, l.event::text

-- name: failed
-- Due again after `delay_s`; null makes it a dead letter. Returns for how long the target has been failing.
with failed as (
    update outbox set leased_until = null,
        status = case when %(delay_s)s::float is null then 'dead' else 'pending' end,
        done_at = case when %(delay_s)s::float is null then now() end,
        next_at = now() + coalesce(%(delay_s)s::float, 0) * interval '1 s',
        history = (case when jsonb_array_length(history) < %(kept)s then history else history - 0 end) || %(tried)s::jsonb
    where id = %(id)s and attempts = %(attempt)s and status = 'pending'
    returning kind, target_id
)
insert into outbox_failing as t (kind, target_id, failures, paused_until)
select kind, target_id, 1, case when 1 >= %(pause_after)s then now() + %(pause_s)s * interval '1 s' end from failed
on conflict (kind, target_id) do update set failures = t.failures + 1,
    paused_until = case when t.failures + 1 >= %(pause_after)s then now() + %(pause_s)s * interval '1 s' end
returning extract(epoch from now() - t.since)::float

-- name: release
update outbox set leased_until = null where id = %(id)s and attempts = %(attempt)s and status = 'pending'

-- name: abandon
-- Give up on a target: its pending rows become dead letters.
with forgotten as (
    delete from outbox_failing where kind = %(kind)s and target_id = %(target_id)s
)
update outbox set status = 'dead', done_at = now(), leased_until = null
where kind = %(kind)s and target_id = %(target_id)s and status = 'pending'

-- name: forget
-- One branch per status, so that dead letters, which stay longer, are not scanned for the others.
delete from outbox where id = any(array(
    (select id from outbox where status = 'delivered' and done_at < now() - %(delivered_s)s * interval '1 s'
        order by done_at limit %(limit)s)
    union all
    (select id from outbox where status = 'dead' and done_at < now() - %(dead_s)s * interval '1 s'
        order by done_at limit %(limit)s)))

-- name: forget_failing
-- A target without pending rows gets no attempts, so it does not count as failing.
delete from outbox_failing f where not exists (
    select from outbox o where o.kind = f.kind and o.target_id = f.target_id and o.status = 'pending')

-- name: backlog
select kind, count(*), extract(epoch from now() - min(created_at))::float,
    (select count(*) from outbox_failing f where f.kind = o.kind and f.paused_until > now())
from outbox o where status = 'pending' group by kind

-- name: behind
-- Targets with more pending rows than allowed.
select kind, target_id::text from outbox where status = 'pending'
group by kind, target_id having count(*) > %(limit)s
