-- name: newest
-- The key that signs, unless it is older than $1 seconds.
select id, secret from endpoint_keys
 where created > now() - make_interval(secs => $1) order by created desc limit 1;

-- name: lock
-- One process at a time makes a key.
select pg_advisory_xact_lock(8410);

-- name: insert
insert into endpoint_keys (id, secret) values ($1, $2);

-- name: forget
-- No endpoint lives that long any more.
delete from endpoint_keys where created < now() - make_interval(secs => $1);

-- name: visible
-- All keys, as a storage server sees them.
select id, secret from storage_api.endpoint_keys;
