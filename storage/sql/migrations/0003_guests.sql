-- Guests: people without an account, in one session.

alter table users drop constraint users_role_check;
alter table users add constraint users_role_check check (role in ('teacher', 'student', 'guest'));
alter table users add column colour text check (colour ~ '^#[0-9a-fA-F]{6}$');
alter table users add constraint users_guest
    check (role <> 'guest' or (email is null and phone is null and password_hash is null));
create index users_guests on users (created_at) where role = 'guest';
