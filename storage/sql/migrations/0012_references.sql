-- Brings 0006 and 0009 to what they were for a while where they had been edited: from either of their texts to the same.

-- Old rows are dropped by their status and age.
drop index if exists outbox_done;
create index outbox_done on outbox (status, done_at) where status <> 'pending';

-- Whoever makes a booking is one of the two. A third reference to users would be a walk through this table for each of
-- them that is dropped.
alter table bookings drop constraint if exists bookings_created_by_fkey;
alter table bookings drop constraint if exists bookings_creator;
alter table bookings add constraint bookings_creator check (created_by in (tutor_id, student_id));
