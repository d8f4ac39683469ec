-- name: put
insert into provider_events (provider, event_id, type, body)
values (%(provider)s, %(event_id)s, %(type)s, %(body)s)
on conflict on constraint provider_events_id do nothing
returning number

-- name: claim
-- A claim postpones the row, as for rooms.
update provider_events e
set tries = e.tries + 1, due_at = now() + make_interval(secs => least(3600, 30 * 2 ^ least(e.tries, 7)))
from (
    select number from provider_events where due_at <= now() order by number limit %(limit)s for update skip locked
) due
where e.number = due.number
returning e.number, e.provider, e.type, e.body, e.tries

-- name: done
update provider_events set due_at = null where number = %(number)s

-- name: forget
delete from provider_events where number = any(array(
    select number from provider_events
    where due_at is null and received_at < now() - make_interval(secs => %(seconds)s) order by received_at limit %(limit)s))
