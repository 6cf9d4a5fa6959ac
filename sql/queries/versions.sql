-- name: versions
-- Up to $3 versions of the node $1, the newest first, of those before the number $2.
select v.number, v.size, v.md5, v.content_type, coalesce(u.name, '') as stored_by, v.modified, v.replaced
  from versions v
  left join users u on u.id = v.stored_by
 where v.node_id = $1 and v.number < $2
 order by v.number desc limit $3;

-- name: place
-- Whether there is the version $2 of the node $1, and where it can be read now by somebody who is near $3.
select p.url, p.uuid::text as storage
  from versions v
  left join lateral (select * from places_of(v.storage_id, v.location, $3, false) limit 1) p on true
 where v.node_id = $1 and v.number = $2;

-- name: hold_homes
-- Nobody takes bytes to another home meanwhile (see storage_api.store).
select pg_advisory_xact_lock_shared(8413);

-- name: lock
-- Lock the node $1, still the child of $2 named $3, for the caller $4 (groups $5, administrator $6), identified at the
-- epoch $7, if he may write to it; its container is shared before. Tells whether somebody is bringing it other bytes. No
-- row: something has changed.
with place as materialized (
    select id from containers where id = $2 for share
)
select coalesce((select w.until > now() from writers w where w.parent_id = n.parent_id and w.name = n.name), false)
           as busy
  from place k
  join nodes n on n.parent_id = k.id
 where n.id = $1 and n.name = $3 and not n.locked and not n.immutable and (select epoch from space) = $7
   and may_write(n.owner_id, n.group_write, $4, $5::text[], $6) and way_is_readable(n.parent_id, $4, $5::text[], $6)
   for update of n;

-- name: has
select exists (select from versions where node_id = $1 and number = $2);

-- name: restore
-- Give the node $1 the bytes of its version $2, by the user $3.
select restore_version($1, $2, $3);

-- name: remove
delete from versions where node_id = $1 and number = $2;

-- name: note
-- Tell the audit log that the caller $1 (`Caller.who` $2) has done $3 to the version $5 of the node $4.
insert into audit (user_id, name, credential, remote, request, action, node_id, path, owner_id, details)
select $1, ($2::text[])[1], ($2::text[])[2], ($2::text[])[3], ($2::text[])[4], $3, n.id, path_of(n.parent_id, n.name),
       n.owner_id, jsonb_build_object('version', $5::integer)
  from nodes n where n.id = $4;
