-- name: find
select digest, made_id::text, last_seq from creation where user_id = %(user_id)s and key = %(key)s

-- name: forget
delete from creation where ctid = any(array(
    select ctid from creation where at < now() - %(ttl_s)s * interval '1 s' order by at limit %(limit)s))
