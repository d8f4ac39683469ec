-- name: create
with keyed as (
    -- Of concurrent requests with one Idempotency-Key, all but one fail here.
    insert into creation (user_id, key, digest, made_id, last_seq)
    select %(created_by)s, %(key)s, %(key_digest)s, %(booking_id)s, 0 where %(key)s::text is not null
    returning key
)
insert into bookings (booking_id, tutor_id, student_id, starts_at, ends_at, title, created_by)
select %(booking_id)s, %(tutor_id)s, %(student_id)s, to_timestamp(%(starts_at)s / 1000.0),
    to_timestamp(%(ends_at)s / 1000.0), %(title)s, %(created_by)s
where %(key)s::text is null or exists (select from keyed)

-- name: find
select b.booking_id::text, b.tutor_id::text, t.name, b.student_id::text, p.name,
    (extract(epoch from b.starts_at) * 1000)::bigint, (extract(epoch from b.ends_at) * 1000)::bigint, b.title,
    b.created_by::text, (extract(epoch from b.created_at) * 1000)::bigint, b.session_id::text, s.status
from bookings b
join users t on t.user_id = b.tutor_id
join users p on p.user_id = b.student_id
left join sessions s on s.session_id = b.session_id
where b.booking_id = %(booking_id)s

-- name: page
-- One branch for tutors and one for students, so that each uses its index.
with mine as (
    select booking_id, starts_at, ends_at from bookings where tutor_id = %(user_id)s
    union all
    select booking_id, starts_at, ends_at from bookings where student_id = %(user_id)s
)
select b.booking_id::text, b.tutor_id::text, t.name, b.student_id::text, p.name,
    (extract(epoch from b.starts_at) * 1000)::bigint, (extract(epoch from b.ends_at) * 1000)::bigint, b.title,
    b.created_by::text, (extract(epoch from b.created_at) * 1000)::bigint, b.session_id::text, s.status
from mine
join bookings b using (booking_id)
join users t on t.user_id = b.tutor_id
join users p on p.user_id = b.student_id
left join sessions s on s.session_id = b.session_id
where (%(since)s::bigint is null or mine.ends_at > to_timestamp(%(since)s / 1000.0))
    and (%(until)s::bigint is null or mine.starts_at < to_timestamp(%(until)s / 1000.0))
    and (%(after)s::uuid is null
        or (mine.starts_at, mine.booking_id) > (select a.starts_at, a.booking_id from mine a where a.booking_id = %(after)s))
order by mine.starts_at, mine.booking_id limit %(limit)s
