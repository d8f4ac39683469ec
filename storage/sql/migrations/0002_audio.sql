-- The audio library, who has been shown what of it, and the blobs that nothing owns.

create table audio (
    audio_id uuid primary key,
    number integer generated always as identity unique,
    owner_id uuid not null,
    session_id uuid references sessions,
    title text not null check (length(title) between 1 and 500),
    content_type text not null,
    size_bytes bigint not null check (size_bytes > 0),
    duration_s double precision check (duration_s >= 0),
    tags jsonb not null default '{}',
    sha256 text not null check (sha256 ~ '^[0-9a-f]{64}$'),
    blob_key text not null constraint audio_blob_key unique,
    created_at timestamptz not null default now()
);
create index audio_owner on audio (owner_id, number desc);

-- Where a piece was selected or sent, by the row of the log that says so. Written by the very commit of that row, so
-- who hears of a piece may read it from then on. No reference to audio: a commit must not fail because a piece is gone.
create table audio_use (
    session_id uuid not null,
    seq integer not null,
    audio_id uuid not null,
    selected boolean not null,
    sender_id uuid,
    to_id uuid,
    primary key (session_id, seq)
);
create index audio_use_audio on audio_use (audio_id, session_id);
create index audio_use_selected on audio_use (session_id, seq desc) where selected;

-- Blobs to delete once their time has come, unless they get an owner before: written before an upload begins, and in
-- the same statement that takes a piece out of the library. A crash leaves a row here, never a blob nobody knows of.
create table loose_blob (
    blob_key text primary key,
    due_at timestamptz not null
);
create index loose_blob_due on loose_blob (due_at);

create index session_log_playback on session_log (session_id, seq) where type in (
    'audio_selected', 'audio_play', 'audio_pause', 'audio_seek', 'audio_speed', 'audio_stop', 'audio_ended');
