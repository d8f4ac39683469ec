-- name: announce
insert into loose_blob (blob_key, due_at) values (%(blob_key)s, now() + make_interval(secs => %(seconds)s))

-- name: hold
-- Serialise the uploads of one user, so that their total is exact.
select pg_advisory_xact_lock(hashtextextended(%(owner_id)s, 0))

-- name: used
select coalesce(sum(size_bytes), 0)::bigint from audio where owner_id = %(owner_id)s

-- name: add
-- The blob gets its owner and is no longer loose. If it is not in loose_blob, it was deleted meanwhile: add nothing.
with owned as (
    delete from loose_blob where blob_key = %(blob_key)s and due_at > now() returning blob_key
)
insert into audio (
    audio_id, owner_id, session_id, title, content_type, size_bytes, duration_s, tags, sha256, blob_key, created_at
)
select %(audio_id)s, %(owner_id)s, %(session_id)s, %(title)s, %(content_type)s, %(size_bytes)s, %(duration_s)s,
    %(tags)s::jsonb, %(sha256)s, blob_key, to_timestamp(%(created_at)s / 1000.0)
from owned
returning number

-- name: find
-- The user's own audio, or audio that was used in a session of the user.
select a.audio_id::text, a.number, a.owner_id::text, a.session_id::text, a.title, a.content_type, a.size_bytes,
    a.duration_s, a.tags::text, a.sha256, a.blob_key, (extract(epoch from a.created_at) * 1000)::bigint
from audio a
where a.audio_id = %(audio_id)s and ((a.owner_id = %(user_id)s and %(scope)s::uuid is null) or exists (
    select from audio_use u join sessions s on s.session_id = u.session_id and not s.deleted
    where u.audio_id = a.audio_id and (%(scope)s::uuid is null or u.session_id = %(scope)s)
        and (u.to_id is null or %(user_id)s in (u.to_id, u.sender_id))
        and (s.owner_id = %(user_id)s or exists (
            select from participants p where p.session_id = u.session_id and p.user_id = %(user_id)s
                and p.status in ('joined', 'left') and p.joined_at is not null))))

-- name: track
-- The user's own audio, or audio shared with the user in this session. The session itself checks the membership.
select a.audio_id::text, a.title, a.duration_s, a.number
from audio a
where a.audio_id = %(audio_id)s and ((a.owner_id = %(user_id)s and %(owned)s) or exists (
    select from audio_use u where u.session_id = %(session_id)s and u.audio_id = a.audio_id
        and (u.to_id is null or %(user_id)s in (u.to_id, u.sender_id))))

-- name: id_by_number
select audio_id::text from audio where number = %(number)s

-- name: page
select a.audio_id::text, a.number, a.owner_id::text, a.session_id::text, a.title, a.content_type, a.size_bytes,
    a.duration_s, a.tags::text, a.sha256, a.blob_key, (extract(epoch from a.created_at) * 1000)::bigint
from audio a
where a.owner_id = %(owner_id)s
    and (%(session_id)s::uuid is null or a.session_id = %(session_id)s)
    and (%(before)s::int is null or a.number < %(before)s)
order by a.number desc limit %(limit)s

-- name: playing_in
-- A live session in which this audio was selected last.
select s.session_id::text from sessions s
where s.status = 'live' and not s.deleted
    and s.session_id in (select u.session_id from audio_use u where u.audio_id = %(audio_id)s and u.selected)
    and (select u.audio_id from audio_use u where u.session_id = s.session_id and u.selected
        order by u.seq desc limit 1) = %(audio_id)s
limit 1

-- name: remove
-- Remove the audio from the library and make its blob loose, in one statement.
with gone as (
    delete from audio where audio_id = %(audio_id)s and owner_id = %(owner_id)s returning audio_id, blob_key
), uses as (
    delete from audio_use u using gone where u.audio_id = gone.audio_id
)
insert into loose_blob (blob_key, due_at) select blob_key, now() from gone returning blob_key

-- name: due
-- One minute after they fell due: by then no upload can give them an owner.
select blob_key from loose_blob where due_at <= now() - interval '1 minute' order by due_at limit %(limit)s

-- name: postpone
-- Retry a failed deletion later, without delaying the others.
update loose_blob set due_at = now() + interval '10 minutes' where blob_key = %(blob_key)s

-- name: deleted
delete from loose_blob where blob_key = %(blob_key)s

-- name: history
select epoch, seq, (extract(epoch from at) * 1000)::bigint, actor_id::text, event::text
from session_log
where session_id = %(session_id)s and seq > %(after)s and type in (
    'audio_selected', 'audio_play', 'audio_pause', 'audio_seek', 'audio_speed', 'audio_stop', 'audio_ended')
order by seq limit %(limit)s
