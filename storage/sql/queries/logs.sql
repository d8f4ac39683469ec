-- name: latest
select log_id, event_type, user_id, event_details::text, (extract(epoch from created_at) * 1000)::bigint
from logs
where session_id = %(number)s and (%(types)s::text[] is null or event_type = any(%(types)s))
order by log_id desc limit %(limit)s

-- name: summary
select coalesce(sum(n), 0)::int, coalesce(json_object_agg(event_type, n order by event_type), '{}')::text,
    (select count(distinct user_id) from logs
        where session_id = %(number)s and event_type = 'participant_joined')::int,
    (select count(*) from logs where session_id = %(number)s and event_type = 'participant_left')::int,
    (extract(epoch from min(first_at)) * 1000)::bigint, (extract(epoch from max(last_at)) * 1000)::bigint
from (
    select event_type, count(*) as n, min(created_at) as first_at, max(created_at) as last_at
    from logs where session_id = %(number)s group by event_type
) by_type
