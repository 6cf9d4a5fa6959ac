-- name: lock_bytes
-- Nobody deletes bytes as long as a copy may be giving them another name (see storage_api.take_obsolete).
select pg_advisory_xact_lock_shared(8413);

-- name: copy
-- Copy the node $1, still the child of $2 named $3, with all that is below it, into the container $4 under the name $5,
-- for the caller $6 (groups $7, administrator $8), identified at the epoch $9. The tree is taken as it is at one
-- moment, so that a copy into itself ends. It belongs to the caller; rights are the container's, if it hands them down;
-- bytes are named once more, not copied. No row: something has changed. A refusal: nothing is copied. $10: `Caller.who`.
with recursive place as (
    select p.id, c.path, p.public, p.group_read, p.group_write, p.inherit
      from containers c
      join nodes p on p.id = c.id
     where c.id = $4 and c.path >= '1' and not c.immutable and not p.locked and (select epoch from space) = $9
       and may_write(p.owner_id, p.group_write, $6, $7::text[], $8) and way_is_readable(p.id, $6, $7::text[], $8)
       for share of c
), tree as (
    select n.id, nextval('nodes_id_seq') as new_id, p.id as new_parent, p.path as above, $5::text collate "C" as name, n.type,
           may_read(n.owner_id, n.public, n.group_read, n.group_write, $6, $7::text[], $8) as readable,
           n.properties, n.target, n.size, n.md5, n.sha256, n.storage_id, n.location, n.stored_by, n.modified,
           n.structure
      from place p
      join nodes n on n.id = $1
     where n.parent_id = $2 and n.name = $3 and way_is_readable(n.parent_id, $6, $7::text[], $8)
    union all
    select n.id, nextval('nodes_id_seq'), t.new_id, t.above || t.new_id::text, n.name, n.type,
           may_read(n.owner_id, n.public, n.group_read, n.group_write, $6, $7::text[], $8),
           n.properties, n.target, n.size, n.md5, n.sha256, n.storage_id, n.location, n.stored_by, n.modified,
           n.structure
      from tree t
      join nodes n on n.parent_id = t.id
     where t.type = 'ContainerNode' and t.readable
), whole as (
    select count(*) as number, sum(size)::bigint as bytes, bool_and(readable) as readable, max(nlevel(above)) <= 200 as writable
      from tree
), copied as (
    insert into nodes (id, parent_id, name, type, owner_id, public, group_read, group_write, inherit, properties,
                       target, size, md5, sha256, storage_id, location, stored_by, modified, structure)
    select t.new_id, t.new_parent, t.name, t.type, $6, p.inherit and p.public,
           case when p.inherit then p.group_read else '{}' end, case when p.inherit then p.group_write else '{}' end,
           p.inherit and t.type = 'ContainerNode', t.properties, t.target, t.size, t.md5, t.sha256, t.storage_id,
           t.location, t.stored_by, t.modified, t.structure
      from tree t
     cross join place p
     cross join whole w
     where w.readable and w.writable
), folders as (
    insert into containers (id, path)
    select t.new_id, t.above || t.new_id::text
      from tree t
     cross join whole w
     where t.type = 'ContainerNode' and w.readable and w.writable
), audited as (
    insert into audit (user_id, name, credential, remote, request, action, node_id, path, owner_id, details)
    select $6, ($10::text[])[1], ($10::text[])[2], ($10::text[])[3], ($10::text[])[4], 'copyNode', t.new_id, path_of($4, $5), $6,
           audit_details($10, jsonb_build_object('from', path_of($2, $3), 'nodes', w.number))
      from tree t
     cross join whole w
     where t.id = $1 and t.new_parent = $4 and w.readable and w.writable
)
select number, bytes, (select limited from space) as limited,
       case when not readable then 'PermissionDenied' when not writable then 'InvalidArgument' end as refusal
  from whole
 where number > 0;
