-- name: resolve_id
select session_id::text, kind, body ->> 'dialect' from sessions where session_id = %(ref)s and not deleted

-- name: resolve_number
select session_id::text, kind, body ->> 'dialect' from sessions where number = %(ref)s and not deleted

-- name: resolve_name
select session_id::text, kind, body ->> 'dialect' from sessions where name = %(ref)s and not deleted

-- name: resolve_code
select session_id::text, kind, body ->> 'dialect' from sessions where code = %(ref)s and not deleted

-- name: resolve_deleted
select session_id::text from sessions
where deleted and (session_id = %(id)s or number = %(number)s or code = %(code)s or name = %(name)s) limit 1

-- name: find
select s.body::text, p.status, p.role, p.joined_at is not null
from sessions s left join participants p on p.session_id = s.session_id and p.user_id = %(user_id)s
where s.session_id = %(session_id)s and not s.deleted

-- name: page
-- Sessions that a user owns or participates in, newest first. The array makes PostgreSQL start at the user's rows of
-- participants; `exists` beside an `or` would scan all sessions.
select s.number, s.body::text
from sessions s
where not s.deleted
    and (s.owner_id = %(viewer)s
        or s.session_id = any(array(select p.session_id from participants p
            where p.user_id = %(viewer)s and p.status not in ('kicked', 'denied'))))
    and (%(before)s::int is null or s.number < %(before)s)
    and (%(status)s::text is null or s.status = %(status)s)
    and (%(kind)s::text is null or s.kind = %(kind)s)
    and (%(owner)s::uuid is null or s.owner_id = %(owner)s)
    and (%(course_id)s::text is null or s.course_id = %(course_id)s)
    and (%(participant)s::uuid is null or s.session_id = any(array(
        select p.session_id from participants p where p.user_id = %(participant)s)))
order by s.number desc limit %(limit)s

-- name: slice
select s.body::text from sessions s
where not s.deleted and s.kind = %(kind)s and (%(dialect)s::text is null or s.body ->> 'dialect' = %(dialect)s)
    and (%(owner)s::uuid is null or s.owner_id = %(owner)s)
    and (%(status)s::text is null or s.status = %(status)s)
    and (%(participant)s::uuid is null or s.session_id = any(array(
        select p.session_id from participants p
        where p.user_id = %(participant)s and p.status not in ('kicked', 'denied'))))
order by s.number desc offset %(skip)s limit %(limit)s

-- name: slice_total
select count(*) from sessions s
where not s.deleted and s.kind = %(kind)s and (%(dialect)s::text is null or s.body ->> 'dialect' = %(dialect)s)
    and (%(owner)s::uuid is null or s.owner_id = %(owner)s)
    and (%(status)s::text is null or s.status = %(status)s)
    and (%(participant)s::uuid is null or s.session_id = any(array(
        select p.session_id from participants p
        where p.user_id = %(participant)s and p.status not in ('kicked', 'denied'))))

-- name: counts
select status, count(*) from sessions where not deleted group by status
