-- name: is_large
-- Whether the container $1 and all below it are more than $2 nodes; it is not counted further.
select count(*) >= $2 from (
    select from containers c
      join nodes n on n.parent_id = c.id
     where c.path >= (select path from containers where id = $1)
       and c.path < (select (path::text || '0')::ltree from containers where id = $1)
     limit $2
) counted;

-- name: delete_leaves
-- Delete the nodes $2 if they are in the container $1 and no containers, as far as the caller $3 (groups $4,
-- administrator $5), identified at the epoch $6, may; if the policy of the container says so, into the trash. The
-- container's row is shared before theirs. $7: `Caller.who`. (No index is used for `is not distinct from`: it would be
-- that of all nodes in the container.)
with place as materialized (
    select p.id, trash_days_of(p.id) as days from nodes p
      join containers c on c.id = p.id
     where p.id = $1 and not p.locked and not p.immutable and (select epoch from space) = $6
       and may_write(p.owner_id, p.group_write, $3, $4::text[], $5) and way_is_readable(p.id, $3, $4::text[], $5)
       for share of c
), gone as (
    delete from nodes n
     using place p
     where n.id = any ($2::bigint[]) and n.parent_id is not distinct from p.id and n.type <> 'ContainerNode'
       and p.days = 0 and not n.locked and not n.immutable
    returning n.id, n.name, n.owner_id, n.storage_id, n.location
), kept as (
    insert into obsolete (storage_id, location)
    select distinct storage_id, location from gone where location is not null
    on conflict (storage_id, location) do update set since = now()
), wanted as materialized (
    select n.id, n.name, n.owner_id, p.days
      from place p
      join nodes n on n.id = any ($2::bigint[]) and n.parent_id is not distinct from p.id
     where p.days > 0 and n.type <> 'ContainerNode' and not n.locked and not n.immutable
     order by n.id for update of n
), binned as (
    update nodes n set parent_id = 0, name = n.id::text, changed = now() from wanted w where n.id = w.id
    returning n.id, w.name, w.owner_id, w.days
), entries as (
    insert into trash (node_id, names, owner_id, deleted_by, until)
    select b.id, names_of($1) || b.name::text, b.owner_id, $3, now() + make_interval(days => b.days) from binned b
    returning id, node_id
), done as (
    select id, name, owner_id, '{}'::jsonb as details from gone
    union all
    select b.id, b.name, b.owner_id, jsonb_build_object('trash', e.id) from binned b join entries e on e.node_id = b.id
), above as materialized (
    select path_of($1, '') as path from done limit 1
), audited as (
    insert into audit (user_id, name, credential, remote, request, action, node_id, path, owner_id, details)
    select $3, ($7::text[])[1], ($7::text[])[2], ($7::text[])[3], ($7::text[])[4], 'deleteNode', d.id,
           a.path || d.name, d.owner_id, audit_details($7, d.details)
      from done d, above a
)
select count(*) from done;

-- name: remaining
-- How many of the nodes $2 are in the container $1.
select count(*), (select epoch from space) as epoch
  from nodes n
 where n.id = any ($2::bigint[]) and n.parent_id is not distinct from $1;

-- name: folders
-- Up to $3 of the containers below the container $1, in an order in which each comes before those in it, behind the one
-- at the place $2 (as seen from $1); with the number of their children, counted up to $4.
select c.id, substr(c.path::text, (select length(path::text) + 1 from containers where id = $1)) as place,
       (select count(*) from (select from nodes n where n.parent_id = c.id limit $4) counted) as children
  from containers c
 where c.path > (select (path::text || $2::text)::ltree from containers where id = $1)
   and c.path < (select (path::text || '0')::ltree from containers where id = $1)
 order by c.path
 limit $3;

-- name: set_below
-- Change up to $15 nodes in each of those of the containers $1 that the caller $2 (groups $3, administrator $4), identified at
-- the epoch $5, may read, from behind the name $14 on: properties $6 are taken away and $7 set unless there would be
-- more than $16, rights and the rest set where not NULL; $13: the change needs the owner. $17: `Caller.who`, $18 what the
-- audit log says of it: for each container and owner how many nodes were changed.
with place as (
    select p.id
      from unnest($1::bigint[]) as p (id)
     where (select epoch from space) = $5 and way_is_readable(p.id, $2, $3::text[], $4)
), page as (
    select n.id, n.name
      from place p
     cross join lateral (
        select c.id, c.name from nodes c where c.parent_id = p.id and c.name > $14 order by c.name limit $15
     ) n
), changed as (
    update nodes n
       set properties = (n.properties - $6::text[]) || $7::jsonb, public = coalesce($8, n.public),
           group_read = coalesce($9::text[], n.group_read), group_write = coalesce($10::text[], n.group_write),
           inherit = case when n.type = 'ContainerNode' then coalesce($11, n.inherit) else n.inherit end,
           locked = coalesce($12, n.locked), changed = now()
      from page g
     where n.id = g.id and may_write(n.owner_id, n.group_write, $2, $3::text[], $4)
       and (not $13::boolean or n.owner_id = $2 or $4)
       and (select count(*) from jsonb_object_keys((n.properties - $6::text[]) || $7::jsonb)) <= $16
    returning n.id, n.parent_id, n.owner_id
), audited as (
    insert into audit (user_id, name, credential, remote, request, action, node_id, path, owner_id, details)
    select $2, ($17::text[])[1], ($17::text[])[2], ($17::text[])[3], ($17::text[])[4], 'setNode', c.parent_id, path_of(p.parent_id, p.name),
           c.owner_id, audit_details($17, $18::jsonb || jsonb_build_object('nodes', c.nodes))
      from (select parent_id, owner_id, count(*) as nodes from changed group by parent_id, owner_id) c
      join nodes p on p.id = c.parent_id
)
select count(*) as seen, max(name) as last, (select count(*) from changed) as changed,
       (select epoch from space) as epoch
  from page;
