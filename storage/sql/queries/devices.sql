-- name: put
-- Drop the oldest above the limit. Two concurrent calls may leave one too many: it is not read, and dropped next time.
with mine as (
    insert into device as d (token, user_id, login, platform)
    select %(token)s, %(user_id)s, %(login)s, %(platform)s
    where not exists (select from logins where login_id = %(login_id)s and revoked_at is not null)
    on conflict (token) do update set user_id = excluded.user_id, login = excluded.login,
        platform = excluded.platform, registered_at = excluded.registered_at
    returning (extract(epoch from registered_at) * 1000)::bigint as at
), dropped as (
    delete from device where token in (
        select token from device where user_id = %(user_id)s and token <> %(token)s
        order by registered_at desc offset %(most)s - 1)
)
select at from mine

-- name: remove
delete from device where token = %(token)s and user_id = %(user_id)s

-- name: forget
delete from device where token = %(token)s

-- name: of_user
select token, platform, (extract(epoch from registered_at) * 1000)::bigint
from device where user_id = %(user_id)s order by registered_at desc, token limit %(most)s

-- name: waiting
-- Devices that have not received an invitation yet, while it is open.
select d.token from device d
where d.user_id = %(user_id)s
    and exists (select from participants p
        where p.session_id = %(session_id)s and p.user_id = %(user_id)s and p.status = 'invited')
    and not exists (select from push_settled s where s.outbox_id = %(outbox_id)s and s.token = d.token)
order by d.registered_at desc, d.token limit %(most)s

-- name: settle
insert into push_settled (outbox_id, token)
select id, %(token)s from outbox where id = %(outbox_id)s
on conflict do nothing
