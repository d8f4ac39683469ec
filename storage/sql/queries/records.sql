-- name: rows
-- Rows of some types or all, as many as fit into `bytes`; the first row always.
select epoch, seq, at, actor_id, event from (
    select epoch, seq, (extract(epoch from at) * 1000)::bigint as at, actor_id::text, event,
        sum(octet_length(event)) over (order by seq) - octet_length(event) as before
    from (
        select epoch, seq, at, actor_id, event::text as event from session_log
        where session_id = %(session_id)s and seq > %(after)s and seq <= %(upto)s
            and (%(types)s::text[] is null or type = any(%(types)s))
        order by seq limit %(limit)s
    ) wanted
) summed
where before < %(bytes)s
order by seq

-- name: last_seq
select last_seq from session_head where session_id = %(session_id)s

-- name: at_position
-- The last row at or before a time.
select coalesce(max(seq), 0) from session_log
where session_id = %(session_id)s and seq <= %(upto)s and at <= to_timestamp(%(at)s / 1000.0)

-- name: started
select (extract(epoch from at) * 1000)::bigint from session_log
where session_id = %(session_id)s and type = 'session_started' order by seq limit 1

-- name: snapshot
select seq, body from session_snapshot where session_id = %(session_id)s and seq <= %(upto)s

-- name: chat
-- The latest messages before a row that a viewer may read, latest first.
select epoch, seq, (extract(epoch from at) * 1000)::bigint, actor_id::text, event::text
from session_log
where session_id = %(session_id)s and type = 'chat_message' and seq < %(before)s
    and (event -> 'to' is null or (%(direct)s and %(viewer)s in (event ->> 'to', actor_id::text)))
order by seq desc limit %(limit)s

-- name: reactions
-- The users of each emoji on these messages; the last row of a user decides.
select message_id, emoji, actor_id from (
    select distinct on (event -> 'message_id', event ->> 'emoji', actor_id)
        (event ->> 'message_id')::int as message_id, event ->> 'emoji' as emoji, actor_id::text,
        coalesce((event ->> 'removed')::boolean, false) as removed, seq
    from session_log
    where session_id = %(session_id)s and seq > %(after)s and type = 'message_reacted'
        and (event ->> 'message_id')::int = any(%(message_ids)s)
    order by event -> 'message_id', event ->> 'emoji', actor_id, seq desc
) latest
where not removed
order by seq

-- name: names
select user_id::text, name from participants
where session_id = %(session_id)s and user_id = any(%(user_ids)s::uuid[])

-- name: chat_count
select count(*) from session_log
where session_id = %(session_id)s and seq <= %(upto)s and type = 'chat_message' and event -> 'to' is null

-- name: edits
-- Versions of the code, latest first, with their sizes in characters: the size of the last full text before, plus the
-- difference of every change since.
with page as (
    select seq from session_log
    where session_id = %(session_id)s and type = 'code_edited' and (event ->> 'version')::int < %(before)s
    order by seq desc limit %(limit)s
), edits as (
    select seq, at, actor_id, (event ->> 'version')::int as version, length(event ->> 'text') as whole,
        (select coalesce(sum(length(c ->> 'insert') - (c ->> 'delete')::int), 0)
            from jsonb_array_elements(event -> 'changes') c) as added
    from session_log
    where session_id = %(session_id)s and type = 'code_edited' and seq <= (select max(seq) from page)
        and seq >= coalesce((
            select max(w.seq) from session_log w
            where w.session_id = %(session_id)s and w.type = 'code_edited' and w.event -> 'text' is not null
                and w.seq <= (select min(seq) from page)
        ), 0)
), based as (
    select *, count(whole) over (order by seq) as base from edits
), sized as (
    select *, (sum(coalesce(whole, added)) over (partition by base order by seq))::int as size from based
)
select version, actor_id::text, (extract(epoch from at) * 1000)::bigint, size
from sized where seq in (select seq from page)
order by version desc

-- name: edit_at
-- The row of a version, and the row of the last full text at or before it (0: none).
select v.seq, v.actor_id::text, (extract(epoch from v.at) * 1000)::bigint, coalesce((
    select max(w.seq) from session_log w
    where w.session_id = v.session_id and w.type = 'code_edited' and w.seq <= v.seq and w.event -> 'text' is not null
), 0)
from session_log v
where v.session_id = %(session_id)s and v.type = 'code_edited' and (v.event ->> 'version')::int = %(version)s

-- name: statistics
with rows as not materialized (
    select seq, at, actor_id, type, event from session_log where session_id = %(session_id)s
), people as (
    select actor_id::text as user_id, sum(n)::int as total, json_object_agg(type, n order by type) as by_type
    from (select actor_id, type, count(*) as n from rows where actor_id is not null group by actor_id, type) counted
    group by actor_id order by total desc, user_id limit %(people)s
), minutes as (
    select (extract(epoch from date_trunc('minute', at)) * 1000)::bigint as at, count(*)::int as messages
    from rows where type = 'chat_message' group by 1 order by 1 desc limit %(minutes)s
), joined as (
    select count(distinct event ->> 'user_id')::int as n from rows where type = 'participant_joined'
), polls as (
    select (o.event ->> 'poll_id')::int as poll_id, o.event ->> 'question' as question,
        (select count(*) from rows v where v.type = 'poll_voted' and v.event -> 'poll_id' = o.event -> 'poll_id')::int
            as voters
    from rows o where o.type = 'poll_opened' order by o.seq limit %(polls)s
)
select json_build_object(
    'participants', (select coalesce(json_agg(people order by total desc, user_id), '[]') from people),
    'messages_per_minute', (select coalesce(json_agg(minutes order by at), '[]') from minutes),
    'joined', (select n from joined),
    'hands', (select json_build_object(
        'raised', count(*) filter (where type = 'hand_raised'),
        'called', count(*) filter (where type = 'hand_called')) from rows),
    'questions', (select json_build_object(
        'asked', count(*) filter (where type = 'question_asked'),
        'answered', count(*) filter (where type = 'question_answered'),
        'dismissed', count(*) filter (where type = 'question_dismissed'),
        'upvotes', count(*) filter (where type = 'question_upvoted' and event -> 'removed' is null)
            - count(*) filter (where type = 'question_upvoted' and event -> 'removed' is not null)) from rows),
    'polls', (select coalesce(json_agg(polls order by poll_id), '[]') from polls)
)::text

-- name: client_events
-- The latest client events, of a type and a user or all, latest first.
select epoch, seq, (extract(epoch from at) * 1000)::bigint, actor_id::text, event::text
from session_log
where session_id = %(session_id)s and type = 'event_logged'
    and (%(event_type)s::text is null or event ->> 'event_type' = %(event_type)s)
    and (%(user_id)s::uuid is null or actor_id = %(user_id)s)
order by seq desc limit %(limit)s

-- name: client_event_counts
select event ->> 'event_type', count(*)
from session_log
where session_id = %(session_id)s and type = 'event_logged'
    and (%(user_id)s::uuid is null or actor_id = %(user_id)s)
group by 1 order by 1
