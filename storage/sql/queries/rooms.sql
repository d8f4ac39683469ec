-- name: announce
insert into rooms (provider, name, due_at)
values (%(provider)s, %(name)s, now() + make_interval(secs => %(seconds)s))

-- name: release
-- If no session holds the room, it is due now.
update rooms set due_at = now() where provider = %(provider)s and name = %(name)s and session_id is null and tries = 0

-- name: forget
delete from rooms where provider = %(provider)s and name = %(name)s and session_id is null

-- name: claim_due
-- A claim postpones the rows: if the process ends before it has deleted the rooms, they become due again.
update rooms r
set tries = r.tries + 1, due_at = now() + make_interval(secs => least(3600, 30 * 2 ^ least(r.tries, 7)))
from (
    select provider, name from rooms where due_at <= now() order by due_at limit %(limit)s for update skip locked
) due
where r.provider = due.provider and r.name = due.name
returning r.provider, r.name, r.tries

-- name: confirm_deleted
with kept as (
    update rooms set gone_at = now(), due_at = null
    where provider = %(provider)s and name = %(name)s and session_id is not null
)
delete from rooms where provider = %(provider)s and name = %(name)s and session_id is null

-- name: overdue
select count(*)::int from rooms where due_at is not null and tries > 0

-- name: session_of
select session_id::text from rooms where provider = %(provider)s and name = %(name)s and session_id is not null

-- name: record_visit
-- A provider may repeat an event, or report the end before the beginning: an end that is stored stays.
insert into room_visits as v (session_id, visit_id, user_id, name, owner, joined_at, left_at)
values (%(session_id)s, %(visit_id)s, %(user_id)s, %(name)s, %(owner)s, to_timestamp(%(joined_at)s / 1000.0),
    to_timestamp(%(left_at)s::bigint / 1000.0))
on conflict (session_id, visit_id) do update set left_at = coalesce(v.left_at, excluded.left_at)

-- name: visits
select visit_id, user_id, name, owner, (extract(epoch from joined_at) * 1000)::bigint,
    (extract(epoch from left_at) * 1000)::bigint
from room_visits
where session_id = %(session_id)s and (%(user_id)s::text is null or user_id = %(user_id)s)
order by joined_at, visit_id limit %(limit)s
