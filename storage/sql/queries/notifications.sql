-- name: after
-- For several users at once: `seqs` holds the cursor of each of `user_ids`.
select n.user_id::text, n.seq, (extract(epoch from n.at) * 1000)::bigint, n.body::text
from unnest(%(user_ids)s::uuid[], %(seqs)s::int[]) as since(user_id, seq)
cross join lateral (
    select * from notification n where n.user_id = since.user_id and n.seq > since.seq order by n.seq limit %(limit)s
) n
order by n.user_id, n.seq

-- name: newer
-- The users with notifications after their cursors.
select h.user_id::text
from unnest(%(user_ids)s::uuid[], %(seqs)s::int[]) as since(user_id, seq)
join notification_head h on h.user_id = since.user_id and h.last_seq > since.seq

-- name: since
-- The cursor's own row, and the rows after it.
select user_id::text, seq, (extract(epoch from at) * 1000)::bigint, body::text
from notification where user_id = %(user_id)s and seq >= %(seq)s order by seq limit %(limit)s

-- name: open
-- Both in one snapshot: the last notification (always one row), and the open invitations, newest first.
with here as (
    select coalesce((select (extract(epoch from n.at) * 1000)::bigint from notification n
        join notification_head h on h.user_id = n.user_id and h.last_seq = n.seq where n.user_id = %(user_id)s), 0) as at,
        coalesce((select last_seq from notification_head where user_id = %(user_id)s), 0) as seq
), invited as (
    select s.number, s.body::text as session, n.body::text as notification, (extract(epoch from n.at) * 1000)::bigint as at
    from participants p
    join sessions s on s.session_id = p.session_id and not s.deleted and s.status in ('scheduled', 'live')
    left join lateral (
        select body, at from notification n
        where n.user_id = p.user_id and n.session_id = p.session_id and n.body ->> 'type' = 'session_invitation'
        order by seq desc limit 1
    ) n on true
    where p.user_id = %(user_id)s and p.status = 'invited' and s.owner_id <> p.user_id
    order by s.number desc limit %(limit)s
)
select here.at, here.seq, invited.session, invited.notification, invited.at from here left join invited on true
order by invited.number desc

-- name: forget
-- Delete old rows, and those above the limit. The last row of a user stays, so that its cursor remains valid.
delete from notification where (user_id, seq) in (
    (select n.user_id, n.seq from notification n join notification_head h using (user_id)
        where n.at < now() - make_interval(secs => %(seconds)s) and n.seq < h.last_seq order by n.at limit %(limit)s)
    union all
    (select n.user_id, n.seq from notification_head h join notification n using (user_id)
        where h.last_seq > %(most)s and n.seq <= h.last_seq - %(most)s limit %(limit)s)
)
