-- Bookings: a tutor's time with a student, and the one session that is made for it.

create table bookings (
    booking_id uuid primary key,
    tutor_id uuid not null references users,
    student_id uuid not null references users,
    starts_at timestamptz not null,
    ends_at timestamptz not null,
    title text not null check (length(title) between 1 and 500),
    created_by uuid not null references users,
    -- Set by the very statement that creates the session: there is none that a booking does not know of.
    session_id uuid constraint bookings_session unique references sessions,
    created_at timestamptz not null default now(),
    constraint bookings_order check (ends_at > starts_at),
    constraint bookings_people check (tutor_id <> student_id)
);
create index bookings_tutor on bookings (tutor_id, starts_at, booking_id);
create index bookings_student on bookings (student_id, starts_at, booking_id);

-- What clients note of a lesson, looked through by its people while it goes on.
create index session_log_noted on session_log (session_id, seq) where type = 'event_logged';
