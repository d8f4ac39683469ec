-- name: create
insert into users (user_id, name, email, phone, role, password_hash, colour)
values (%(user_id)s, %(name)s, %(email)s, %(phone)s, %(role)s, %(password_hash)s, %(colour)s)
returning number, (extract(epoch from created_at) * 1000)::bigint

-- name: save_guest
-- An id belongs to the first guest who got a login with it; until then, to the last one who presented it. The id of a
-- user belongs to no guest.
insert into users (user_id, name, role, colour, issuer, subject)
select %(user_id)s, %(name)s, 'guest', %(colour)s, %(issuer)s, %(subject)s
where not exists (select from users where user_id = %(subject)s)
on conflict on constraint users_subject do update set name = excluded.name, colour = excluded.colour
    where not exists (select from logins l where l.user_id = users.user_id)
returning user_id::text, number, name, email, phone, role, password_hash, colour,
    (extract(epoch from created_at) * 1000)::bigint

-- name: find
select user_id::text, number, name, email, phone, role, password_hash, colour,
    (extract(epoch from created_at) * 1000)::bigint
from users where user_id = %(user_id)s

-- name: find_login
select user_id::text, number, name, email, phone, role, password_hash, colour,
    (extract(epoch from created_at) * 1000)::bigint
from users
where email = %(email)s or phone = %(phone)s limit 1

-- name: find_number
select user_id::text, number, name, email, phone, role, password_hash, colour,
    (extract(epoch from created_at) * 1000)::bigint
from users where number = %(number)s

-- name: find_subject
-- The last column: whether the row is as new as the token, so that nothing has to be stored.
select user_id::text, number, name, email, phone, role, password_hash, colour,
    (extract(epoch from created_at) * 1000)::bigint,
    claimed_at > %(issued_at)s or (claimed_at = %(issued_at)s and name = %(name)s and role = %(role)s)
from users where issuer = %(issuer)s and subject = %(subject)s

-- name: save_external
insert into users (user_id, name, email, role, issuer, subject, claimed_at)
values (
    %(new_id)s, %(name)s,
    (select %(email)s where not exists (select from users where email = %(email)s)),
    %(role)s, %(issuer)s, %(subject)s, %(issued_at)s
)
on conflict on constraint users_subject do update set
    name = excluded.name, role = excluded.role, email = coalesce(excluded.email, users.email),
    claimed_at = excluded.claimed_at
where users.claimed_at <= excluded.claimed_at
returning user_id::text, number, name, email, phone, role, password_hash, colour,
    (extract(epoch from created_at) * 1000)::bigint

-- name: people
select user_id::text, name, number from users where user_id = any(%(user_ids)s::uuid[])

-- name: change
update users set name = coalesce(%(name)s, name), email = coalesce(%(email)s, email),
    phone = coalesce(%(phone)s, phone), password_hash = coalesce(%(password_hash)s, password_hash)
where user_id = %(user_id)s
returning user_id::text, number, name, email, phone, role, password_hash, colour,
    (extract(epoch from created_at) * 1000)::bigint

-- name: open_login
insert into logins (login_id, user_id, refresh_digest, expires_at)
values (%(login_id)s, %(user_id)s, %(digest)s, to_timestamp(%(expires_at)s / 1000.0))

-- name: open_only_login
insert into logins (login_id, user_id, refresh_digest, expires_at)
values (%(user_id)s, %(user_id)s, %(digest)s, to_timestamp(%(expires_at)s / 1000.0))
on conflict (login_id) do nothing

-- name: rotate
-- One concurrent request wins: the digest changes only while it is the current one.
update logins set refresh_digest = %(new_digest)s, expires_at = to_timestamp(%(expires_at)s / 1000.0),
    used_digests = (used_digests || refresh_digest)[greatest(1, cardinality(used_digests) + 2 - %(kept)s):]
where login_id = %(login_id)s and refresh_digest = %(digest)s and revoked_at is null and expires_at > now()
returning user_id::text

-- name: used
select 1 from logins where login_id = %(login_id)s and %(digest)s = any(used_digests)

-- name: revoke
-- Devices registered under a login are deleted when it ends.
with over as (
    update logins set revoked_at = now() where login_id = %(login_id)s and revoked_at is null returning login_id
), silenced as (
    delete from device d using over where d.login = over.login_id::text
)
select login_id from over

-- name: end_login
with over as (
    insert into logins (login_id, user_id, expires_at, revoked_at)
    values (%(login_id)s, %(user_id)s, to_timestamp(%(expires_at)s), now())
    on conflict (login_id) do update set revoked_at = coalesce(logins.revoked_at, excluded.revoked_at)
    returning login_id
)
delete from device d using over where d.login = over.login_id::text

-- name: revoke_all
with over as (
    update logins set revoked_at = now()
    where user_id = %(user_id)s and login_id <> %(but)s and revoked_at is null
    returning login_id
), silenced as (
    delete from device d using over where d.login = over.login_id::text
)
select login_id::text from over

-- name: revoked
select login_id::text, case when refresh_digest is null then extract(epoch from expires_at) else 0 end from logins
where revoked_at > now() - make_interval(secs => %(seconds)s)
    or (revoked_at is not null and refresh_digest is null and expires_at > now())

-- name: forget_logins
-- Their devices are deleted too, as for revoked logins.
with over as (
    delete from logins where ctid = any(array(
        select ctid from logins where expires_at < now() - interval '7 days' order by expires_at limit %(limit)s))
    returning login_id
), silenced as (
    delete from device d using over where d.login = over.login_id::text
)
select count(*) from over

-- name: forget_guests
delete from users where user_id = any(array(
    select user_id from users u
    where role = 'guest' and created_at < now() - interval '7 days'
        and not exists (select from logins l where l.user_id = u.user_id)
    limit %(limit)s))

-- name: students
select user_id::text, number, name, email, phone, role, password_hash, colour,
    (extract(epoch from created_at) * 1000)::bigint
from users where role = 'student' order by number offset %(skip)s limit %(limit)s
