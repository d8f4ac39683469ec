-- Guests whose own client has made up the id and the colour that they go by.

alter table users drop constraint users_colour_check;
-- What CSS takes for a colour; nothing that could end an attribute, or begin a URL.
alter table users add constraint users_colour_check check (colour ~ '^[A-Za-z0-9#(),.% -]{1,64}$');
