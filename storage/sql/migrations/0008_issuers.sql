-- Users of outside issuers, and logins that Homeroom has not opened.

-- When the token was issued that the user's name, email and role are from (unix s).
alter table users add column claimed_at double precision;

-- Null: no refresh token continues it.
alter table logins alter column refresh_digest drop not null;
-- Of the latest refresh tokens that were exchanged: one that comes again has been stolen; others were never ours.
alter table logins add column used_digests text[] not null default '{}';
