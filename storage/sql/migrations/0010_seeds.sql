-- A classroom's log as its product has it: people, sessions and pieces of audio by their numbers, times in UTC.
--
-- Of the log's rows those that the product has a name for; one that means several of its rows is several here. Direct
-- messages are left out: the product has none, and they are their two sides' alone.

create view logs as
select
    -- The session's number, the row in its log, and which of the people that it is about.
    s.number * 100000000000 + l.seq * 10000 + named.place - 1 as log_id,
    s.number as session_id,
    case when l.type in ('participant_joined', 'participant_left') then whom.number else (
        select u.number from users u where u.user_id = l.actor_id
    ) end as user_id,
    case l.type
        when 'session_cancelled' then 'session_ended'
        when 'all_muted' then 'participant_muted'
        when 'hand_called' then 'hand_lowered'
        when 'hands_lowered' then 'hand_lowered'
        when 'audio_speed' then 'audio_play'
        when 'audio_stop' then 'audio_pause'
        else l.type
    end as event_type,
    case
        when l.type = 'session_created' then json_build_object('title', l.event -> 'title')
        when l.type in ('session_ended', 'session_cancelled') then json_build_object('ended_at', moment.printed)
        when l.type = 'participant_joined' then json_build_object(
            'user_name', l.event -> 'name', 'participant_id', l.event -> 'number', 'joined_at', moment.printed)
        when l.type = 'participant_kicked' then json_build_object(
            'kicked_user_id', whom.number, 'reason', coalesce(l.event ->> 'reason', 'Removed by teacher'))
        when l.type = 'participant_invited' then json_build_object('invited_user_id', whom.number)
        when l.type in ('participant_muted', 'all_muted') then json_build_object(
            'participant_id', whom.place, 'target_user_id', whom.number, 'is_self_mute', whom.acted)
        when l.type = 'participant_unmuted' then json_build_object(
            'participant_id', whom.place, 'target_user_id', whom.number, 'is_self_unmute', whom.acted)
        when l.type in ('participant_left', 'hand_raised', 'hand_lowered', 'hand_called', 'hands_lowered') then
            json_build_object('participant_id', whom.place)
        when l.type = 'chat_message' then json_build_object(
            'message', l.event -> 'text', 'message_length', length(l.event ->> 'text'))
        when l.type = 'audio_uploaded' then json_build_object(
            'title', l.event -> 'title', 'duration', l.event -> 'duration')
        when l.type = 'audio_selected' then json_build_object(
            'audio_id', l.event -> 'number', 'audio_title', l.event -> 'title')
        when l.type in ('audio_play', 'audio_speed') then json_build_object(
            'audio_id', l.event -> 'number', 'position', l.event -> 'position', 'speed', l.event -> 'speed')
        when l.type = 'audio_pause' then json_build_object('position', l.event -> 'position')
        when l.type = 'audio_stop' then json_build_object('position', 0.0)
        when l.type = 'audio_seek' then json_build_object(
            'audio_id', l.event -> 'number', 'position', l.event -> 'position')
    end as event_details,
    l.at at time zone 'UTC' as created_at
from sessions s
join session_log l on l.session_id = s.session_id
cross join lateral jsonb_array_elements_text(
    coalesce(l.event -> 'user_ids', jsonb_build_array(l.event -> 'user_id'))
) with ordinality as named (user_id, place)
-- Looked up for the rows alone that are asked for: these are no joins.
cross join lateral (
    select to_char(l.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') as printed
) moment
cross join lateral (
    select
        (select p.number from participants p
            where p.session_id = l.session_id and p.user_id = named.user_id::uuid) as place,
        (select u.number from users u where u.user_id = named.user_id::uuid) as number,
        coalesce(l.actor_id = named.user_id::uuid, false) as acted
) whom
where s.kind = 'classroom'
    and l.type in (
        'session_created', 'session_ended', 'session_cancelled', 'participant_joined', 'participant_left',
        'participant_kicked', 'participant_invited', 'participant_muted', 'all_muted', 'participant_unmuted', 'hand_raised', 'hand_lowered',
        'hand_called', 'hands_lowered', 'chat_message', 'audio_uploaded', 'audio_selected', 'audio_play', 'audio_pause',
        'audio_seek', 'audio_speed', 'audio_stop')
    -- Whoever leaves the lobby has not been here.
    and (l.type <> 'participant_left' or exists (
        select from participants p
        where p.session_id = l.session_id and p.user_id = named.user_id::uuid and p.joined_at <= l.at))
    and (l.type <> 'chat_message' or l.event -> 'to' is null)
    -- Another speed is heard only while it plays.
    and (l.type <> 'audio_speed' or l.event -> 'playing' = 'true');

create index sessions_live on sessions (kind, number desc) where status = 'live' and not deleted;
create index users_students on users (number) where role = 'student';
