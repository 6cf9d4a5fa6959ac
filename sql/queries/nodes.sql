-- name: resolve
-- Walk from the root along the names $1 for the caller $2 (groups $3, administrator $4): one row, the deepest node
-- on the way, which is the node itself if depth is the number of names. (What usage_of and free_space would say is written
-- out: this is the hottest statement, and a call of a function costs as much as three of its joins.)
with recursive walk as (
    select n.id, n.owner_id, n.public, n.group_read, n.group_write, n.locked, n.immutable, 0 as depth,
           true as visible, null::bigint as parent_owner_id, false as parent_public,
           null::text[] as parent_group_read, null::text[] as parent_group_write, false as parent_locked,
           false as parent_immutable
      from nodes n where n.id = 1
    union all
    select c.id, c.owner_id, c.public, c.group_read, c.group_write, c.locked, c.immutable, w.depth + 1,
           w.visible and may_read(w.owner_id, w.public, w.group_read, w.group_write, $2, $3::text[], $4),
           w.owner_id, w.public, w.group_read, w.group_write, w.locked, w.immutable
      from walk w
      join nodes c on c.parent_id = w.id and c.name = ($1::text[])[w.depth + 1]
     where w.depth < cardinality($1::text[])
)
select w.depth, w.visible, w.parent_owner_id, w.parent_public, w.parent_group_read,
       w.parent_group_write, w.parent_locked, w.parent_immutable, s.epoch, s.limited,
       n.id, n.parent_id, n.name, n.type, n.owner_id, u.name as owner, n.public, n.group_read, n.group_write,
       n.inherit, n.locked, n.immutable, n.properties, n.target, n.size, n.md5, n.created, n.changed, n.modified,
       n.structure, n.sha256,
       t.url as storage_url, t.uuid as storage,
       may_read(n.owner_id, n.public, n.group_read, n.group_write, $2, $3::text[], $4) as readable,
       may_write(n.owner_id, n.group_write, $2, $3::text[], $4) as writable,
       coalesce((select b.until > now() from writers b where b.parent_id = n.parent_id and b.name = n.name), false)
           as busy,
       case when n.type = 'ContainerNode' then
           coalesce((select b.bytes from usage b where b.container_id = n.id), 0)
           + coalesce((select sum(g.bytes)::bigint from containers k
                         join usage_changes g on g.path >= k.path and g.path < (k.path::text || '0')::ltree
                        where k.id = n.id), 0)
       end as used, q.bytes as quota, q.warned as quota_state,
       case when n.type <> 'ContainerNode' then null
            when s.limited then room_for(n.id, $2)
            else (select sum(o.free)::bigint from storages o where is_there(o.last_seen) and o.state = 'active' and not o.cold)
       end as available,
       case when t.cold then tier_of(n.storage_id, n.location) end as tier, d.kind as damage, d.found as damaged,
       case when d.kind is not null then has_good_place(n.storage_id, n.location) end as has_copy, c.passed as checked
  from (select * from walk order by depth desc limit 1) w
  join nodes n on n.id = w.id
  join users u on u.id = n.owner_id
 cross join space s
  left join storages t on t.id = n.storage_id
  left join quotas q on q.container_id = n.id
  left join damages d on d.storage_id = n.storage_id and d.location = n.location
  left join scrubs c on c.storage_id = n.storage_id;

-- name: resolve_several
-- The same for several, in their order: along the names of $1, divided by "/", for the callers $2 (administrators $3),
-- whose groups are those of $4 from the place $5 to the place $6. (To begin a statement costs many times what it costs to
-- find one node. For one the statement above is cheaper.)
select w.depth, w.visible, w.parent_owner_id, w.parent_public, w.parent_group_read,
       w.parent_group_write, w.parent_locked, w.parent_immutable, s.epoch, s.limited,
       n.id, n.parent_id, n.name, n.type, n.owner_id, u.name as owner, n.public, n.group_read, n.group_write,
       n.inherit, n.locked, n.immutable, n.properties, n.target, n.size, n.md5, n.created, n.changed, n.modified,
       n.structure, n.sha256,
       t.url as storage_url, t.uuid as storage,
       may_read(n.owner_id, n.public, n.group_read, n.group_write, a.caller, a.groups, a.admin) as readable,
       may_write(n.owner_id, n.group_write, a.caller, a.groups, a.admin) as writable,
       coalesce((select b.until > now() from writers b where b.parent_id = n.parent_id and b.name = n.name), false)
           as busy,
       case when n.type = 'ContainerNode' then
           coalesce((select b.bytes from usage b where b.container_id = n.id), 0)
           + coalesce((select sum(g.bytes)::bigint from containers k
                         join usage_changes g on g.path >= k.path and g.path < (k.path::text || '0')::ltree
                        where k.id = n.id), 0)
       end as used, q.bytes as quota, q.warned as quota_state,
       case when n.type <> 'ContainerNode' then null
            when s.limited then room_for(n.id, a.caller)
            else (select sum(o.free)::bigint from storages o where is_there(o.last_seen) and o.state = 'active' and not o.cold)
       end as available,
       case when t.cold then tier_of(n.storage_id, n.location) end as tier, d.kind as damage, d.found as damaged,
       case when d.kind is not null then has_good_place(n.storage_id, n.location) end as has_copy, c.passed as checked
  from (select string_to_array(path, '/') as names, caller, admin, ($4::text[])[first:last] as groups, number
          from unnest($1::text[], $2::bigint[], $3::boolean[], $5::int[], $6::int[])
               with ordinality as given (path, caller, admin, first, last, number) offset 0) a
 cross join lateral (
    with recursive walk as (
        select n.id, n.owner_id, n.public, n.group_read, n.group_write, n.locked, n.immutable, 0 as depth,
               true as visible, null::bigint as parent_owner_id, false as parent_public,
               null::text[] as parent_group_read, null::text[] as parent_group_write, false as parent_locked,
               false as parent_immutable
          from nodes n where n.id = 1
        union all
        select c.id, c.owner_id, c.public, c.group_read, c.group_write, c.locked, c.immutable, w.depth + 1,
               w.visible and may_read(w.owner_id, w.public, w.group_read, w.group_write, a.caller, a.groups, a.admin),
               w.owner_id, w.public, w.group_read, w.group_write, w.locked, w.immutable
          from walk w
          join nodes c on c.parent_id = w.id and c.name = a.names[w.depth + 1]
         where w.depth < cardinality(a.names)
    )
    select * from walk order by depth desc limit 1
  ) w
  join nodes n on n.id = w.id
  join users u on u.id = n.owner_id
 cross join space s
  left join storages t on t.id = n.storage_id
  left join quotas q on q.container_id = n.id
  left join damages d on d.storage_id = n.storage_id and d.location = n.location
  left join scrubs c on c.storage_id = n.storage_id
 order by a.number;

-- name: children
-- Up to $5 children of container $1 in the order of their names, from the name $6 on (itself included if $7),
-- as the caller $2 (groups $3, administrator $4) may see them.
select n.id, n.parent_id, n.name, n.type, n.owner_id, u.name as owner, n.public, n.group_read, n.group_write,
       n.inherit, n.locked, n.immutable, n.properties, n.target, n.size, n.md5, n.created, n.changed, n.modified,
       null as storage_url, null::uuid as storage,
       may_read(n.owner_id, n.public, n.group_read, n.group_write, $2, $3::text[], $4) as readable,
       may_write(n.owner_id, n.group_write, $2, $3::text[], $4) as writable,
       coalesce((select b.until > now() from writers b where b.parent_id = n.parent_id and b.name = n.name), false)
           as busy, c.bytes as used, q.bytes as quota, q.warned as quota_state,
       case when n.type = 'ContainerNode' then
           greatest(least((select room_for($1, $2)), q.bytes - c.bytes), case when q.bytes is not null then 0 end)
       end as available
  from nodes n
  join users u on u.id = n.owner_id
  left join lateral (select b.bytes from usage_of(n.id) b where n.type = 'ContainerNode') c on true
  left join quotas q on q.container_id = n.id
 where n.parent_id = $1 and n.name >= $6 and ($7 or n.name > $6)
 order by n.name
 limit $5;

-- name: insert
-- Make a node named $6 in the container at the end of the names $1 for the caller $2 (groups $3, administrator $4),
-- identified at the epoch $5, if he may write there and read the way to it; it belongs to $15. Rights that are NULL are
-- the container's, if it hands them down. No row: it cannot be, or something has just changed. $17: `Caller.who`.
with recursive walk as (
    select n.id, 0 as depth, may_read(n.owner_id, n.public, n.group_read, n.group_write, $2, $3::text[], $4) as readable
      from nodes n where n.id = 1
    union all
    select c.id, w.depth + 1, may_read(c.owner_id, c.public, c.group_read, c.group_write, $2, $3::text[], $4)
      from walk w
      join nodes c on c.parent_id = w.id and c.name = ($1::text[])[w.depth + 1]
     where w.depth < cardinality($1::text[]) and w.readable
), parent as (
    select p.id, p.public, p.group_read, p.group_write, p.inherit, c.path
      from walk w
      join containers c on c.id = w.id
      join nodes p on p.id = c.id
     where w.depth = cardinality($1::text[]) and w.readable and nlevel(c.path) <= 200
       and c.path >= '1' and not p.locked and not c.immutable and (select epoch from space) = $5
       and may_write(p.owner_id, p.group_write, $2, $3::text[], $4)
       for share of c
), node as (
    insert into nodes (parent_id, name, type, owner_id, public, group_read, group_write, inherit, locked,
                       properties, target, immutable)
    select p.id, $6, $7, $15, coalesce($8, p.inherit and p.public),
           coalesce($9::text[], case when p.inherit then p.group_read else '{}' end),
           coalesce($10::text[], case when p.inherit then p.group_write else '{}' end),
           coalesce($11, p.inherit and $7 = 'ContainerNode'), $12, $13::jsonb, $14, $16
      from parent p
    returning *
), container as (
    insert into containers (id, path, immutable)
    select n.id, p.path || n.id::text, n.immutable from node n, parent p where n.type = 'ContainerNode'
), audited as (
    insert into audit (user_id, name, credential, remote, request, action, node_id, path, owner_id, details)
    select $2, ($17::text[])[1], ($17::text[])[2], ($17::text[])[3], ($17::text[])[4], 'createNode', n.id,
           '/' || array_to_string($1::text[] || $6::text, '/'), n.owner_id, jsonb_build_object('type', $7)
      from node n
)
select n.id, n.parent_id, n.name, n.type, n.owner_id, u.name as owner, n.public, n.group_read, n.group_write,
       n.inherit, n.locked, n.immutable, n.properties, n.target, n.size, n.md5, n.created, n.changed, n.modified,
       null as storage_url, null::uuid as storage, true as readable, true as writable, false as busy,
       case when n.type = 'ContainerNode' then room_for(n.parent_id, $2) end as available,
       case when (select limited from space) then admit_node(n.parent_id, n.owner_id, $2) end as admitted
  from node n
  join users u on u.id = n.owner_id;

-- name: insert_several
-- The same for several: a row for each in their order, without an id if it cannot be. $1: the ways to their containers,
-- each with who goes it; $2: the nodes with the number of their way. `apart`: he is to ask alone, since somebody may be in
-- his way: the container is locked, there is such a name, or another of them wants it, or nodes are counted there.
-- Containers are locked by their ids, without waiting for any, and names taken in their order: so no two groups are in each
-- other's way for ever.
with way as materialized (
    select a.number, a.names, a.caller, w.id
      from (select set_config('lock_timeout', '100ms', true) as said) patience,
           rows from (json_to_recordset(case when said is not null then $1::json end)
                      as (names text[], caller bigint, groups text[], admin boolean, epoch bigint))
               with ordinality as a (names, caller, groups, admin, epoch, number)
     cross join lateral (
         with recursive walk as (
             select n.id, 0 as depth,
                    may_read(n.owner_id, n.public, n.group_read, n.group_write, a.caller, a.groups, a.admin) as readable
               from nodes n where n.id = 1
             union all
             select c.id, w.depth + 1,
                    may_read(c.owner_id, c.public, c.group_read, c.group_write, a.caller, a.groups, a.admin)
               from walk w
               join nodes c on c.parent_id = w.id and c.name = a.names[w.depth + 1]
              where w.depth < cardinality(a.names) and w.readable
         )
         select p.id
           from walk w
           join containers c on c.id = w.id
           join nodes p on p.id = c.id
          where w.depth = cardinality(a.names) and w.readable and nlevel(c.path) <= 200
            and c.path >= '1' and not p.locked and not c.immutable and (select epoch from space) = a.epoch
            and may_write(p.owner_id, p.group_write, a.caller, a.groups, a.admin)
     ) w
), parent as materialized (
    select p.id, p.public, p.group_read, p.group_write, p.inherit, c.path
      from containers c
      join nodes p on p.id = c.id
     where c.id = any (array(select id from way)) and nlevel(c.path) <= 200 and c.path >= '1' and not p.locked
       and not c.immutable
     order by c.id
       for share of c skip locked
), asked as materialized (
    select a.*, w.id as parent, w.names, w.caller
      from rows from (json_to_recordset($2::json)
                      as (way bigint, name text collate "C", type text, owner bigint, public boolean, group_read text[],
                          group_write text[], inherit boolean, locked boolean, properties text, target text,
                          immutable boolean, who text[]))
               with ordinality as a (way, name, type, owner, public, group_read, group_write, inherit, locked,
                                     properties, target, immutable, who, number)
      left join way w on w.number = a.way
), node as (
    insert into nodes (parent_id, name, type, owner_id, public, group_read, group_write, inherit, locked,
                       properties, target, immutable)
    select p.id, a.name, a.type, a.owner, coalesce(a.public, p.inherit and p.public),
           coalesce(a.group_read, case when p.inherit then p.group_read else '{}' end),
           coalesce(a.group_write, case when p.inherit then p.group_write else '{}' end),
           coalesce(a.inherit, p.inherit and a.type = 'ContainerNode'), a.locked, a.properties::jsonb, a.target, a.immutable
      from (select distinct on (parent, name) * from asked order by parent, name, number) a
      join parent p on p.id = a.parent
     where case when (select limited from space) then not exists (
               select from quotas_over(array[a.parent], array[a.owner]) q where q.nodes is not null) else true end
    on conflict (parent_id, name) do nothing
    returning *
), made as materialized (
    select distinct on (n.id) a.number, a.names, a.caller, a.who, n.*
      from node n
      join asked a on a.parent = n.parent_id and a.name = n.name
     order by n.id, a.number
), container as (
    insert into containers (id, path, immutable)
    select n.id, p.path || n.id::text, n.immutable
      from made n join parent p on p.id = n.parent_id where n.type = 'ContainerNode'
), audited as (
    insert into audit (user_id, name, credential, remote, request, action, node_id, path, owner_id, details)
    select n.caller, n.who[1], n.who[2], n.who[3], n.who[4], 'createNode', n.id,
           '/' || array_to_string(n.names || n.name::text, '/'), n.owner_id, jsonb_build_object('type', n.type)
      from made n
)
select n.id, n.parent_id, n.name, n.type, n.owner_id, u.name as owner, n.public, n.group_read, n.group_write,
       n.inherit, n.locked, n.immutable, n.properties, n.target, n.size, n.md5, n.created, n.changed, n.modified,
       null as storage_url, null::uuid as storage, true as readable, true as writable, false as busy,
       case when n.type = 'ContainerNode' then room_for(n.parent_id, n.caller) end as available,
       a.parent is not null and n.id is null as apart
  from asked a
  left join made n on n.number = a.number
  left join users u on u.id = n.owner_id
 order by a.number;

-- name: update
-- Change the node $1, still the child of $2 named $3, for the caller $4 (groups $5, administrator $6), identified at
-- the epoch $7: properties $8 are taken away and $9 set, rights and the rest set where not NULL; $16: the change needs
-- the owner; $17 makes it immutable, or lets an administrator change it again unless its container is immutable.
-- $20 names its new owner, if an administrator wants another one.
-- No row: something has changed. $18: `Caller.who`, $19 what the audit log says of it besides rights.
with old as materialized (
    select * from nodes where id = $1 for update
), node as (
    update nodes n
       set properties = (n.properties - $8::text[]) || $9::jsonb, public = coalesce($10, n.public),
           group_read = coalesce($11::text[], n.group_read), group_write = coalesce($12::text[], n.group_write),
           inherit = coalesce($13, n.inherit), locked = coalesce($14, n.locked), target = coalesce($15, n.target),
           immutable = coalesce($17, n.immutable),
           owner_id = coalesce((select u.id from users u where u.name = $20::text), n.owner_id), changed = now()
      from old o
     where n.id = o.id and n.parent_id is not distinct from $2 and n.name = $3 and (select epoch from space) = $7
       and may_write(n.owner_id, n.group_write, $4, $5::text[], $6)
       and (n.parent_id is null or way_is_readable(n.parent_id, $4, $5::text[], $6))
       and (not $16::boolean or n.owner_id = $4 or $6)
       and ($15::text is null or not n.immutable)
       and ($20::text is null or $6 and exists (select from users u where u.name = $20::text))
       and ($17 is distinct from false
            or $6 and not coalesce((select p.immutable from nodes p where p.id = n.parent_id), false))
    returning n.*
), audited as (
    insert into audit (user_id, name, credential, remote, request, action, node_id, path, owner_id, details)
    select $4, ($18::text[])[1], ($18::text[])[2], ($18::text[])[3], ($18::text[])[4], 'setNode', n.id,
           path_of(n.parent_id, n.name), n.owner_id,
           audit_details($18, $19::jsonb || case when $16 or $14 is not null or $17 is not null
               then changed_rights(o, n.public, n.group_read, n.group_write, n.inherit, n.locked, n.immutable)
               else '{}' end)
      from node n, old o
)
select n.id, n.parent_id, n.name, n.type, n.owner_id, u.name as owner, n.public, n.group_read, n.group_write,
       n.inherit, n.locked, n.immutable, n.properties, n.target, n.size, n.md5, n.created, n.changed, n.modified,
       n.structure,
       t.url as storage_url, t.uuid as storage, true as readable, true as writable,
       coalesce((select b.until > now() from writers b where b.parent_id = n.parent_id and b.name = n.name), false)
           as busy,
       case when n.type = 'ContainerNode' then (select b.bytes from usage_of(n.id) b) end as used, q.bytes as quota,
       q.warned as quota_state,
       case when n.type = 'ContainerNode' then room_for(n.id, $4) end as available
  from node n
  join users u on u.id = n.owner_id
  left join storages t on t.id = n.storage_id
  left join quotas q on q.container_id = n.id;

-- name: mark_tree
-- Make all below the container at the path $1 immutable, or not any more: $2.
with tree as (
    update containers set immutable = $2
     where path >= $1::text::ltree and path < ($1::text || '0')::ltree
    returning id
)
update nodes n set immutable = $2, changed = now() from tree t where n.parent_id = t.id and n.immutable <> $2;

-- name: delete_leaf
-- Delete the node $1, no container, still the child of $2 named $3, for the caller $4 (groups $5, administrator $6),
-- identified at the epoch $7; if the policy of its container says so, into the trash. The row of its container is shared
-- before its own: who deletes a tree locks them in this order too. No row: something has changed. $8: `Caller.who`.
with place as materialized (
    select id, trash_days_of(id) as days from containers where id = $2 for share
), gone as (
    delete from nodes n
     using nodes p, place k
     where n.id = $1 and n.parent_id = $2 and n.name = $3 and n.type <> 'ContainerNode' and not n.locked
       and not n.immutable and p.id = k.id and k.days = 0 and not p.locked and (select epoch from space) = $7
       and may_write(p.owner_id, p.group_write, $4, $5::text[], $6) and way_is_readable(p.id, $4, $5::text[], $6)
    returning n.id, n.owner_id, n.storage_id, n.location
), kept as (
    insert into obsolete (storage_id, location) select storage_id, location from gone where location is not null
    on conflict (storage_id, location) do update set since = now()
), binned as (
    update nodes n set parent_id = 0, name = n.id::text, changed = now()
      from nodes p, place k
     where n.id = $1 and n.parent_id = $2 and n.name = $3 and n.type <> 'ContainerNode' and not n.locked
       and not n.immutable and p.id = k.id and k.days > 0 and not p.locked and (select epoch from space) = $7
       and may_write(p.owner_id, p.group_write, $4, $5::text[], $6) and way_is_readable(p.id, $4, $5::text[], $6)
    returning n.id, n.owner_id, k.days
), entry as (
    insert into trash (node_id, names, owner_id, deleted_by, until)
    select id, names_of($2) || $3::text, owner_id, $4, now() + make_interval(days => days) from binned
    returning id, node_id
), done as (
    select id, owner_id, '{}'::jsonb as details from gone
    union all
    select b.id, b.owner_id, jsonb_build_object('trash', e.id) from binned b join entry e on e.node_id = b.id
), audited as (
    insert into audit (user_id, name, credential, remote, request, action, node_id, path, owner_id, details)
    select $4, ($8::text[])[1], ($8::text[])[2], ($8::text[])[3], ($8::text[])[4], 'deleteNode', id,
           path_of($2, $3), owner_id, audit_details($8, details)
      from done
)
select id from done;

-- name: lock_trees
-- Deletes and moves of containers take turns.
select pg_advisory_xact_lock(8411);

-- name: path
-- Where container $1 stands.
select path::text from containers where id = $1;

-- name: lock_tree
-- Lock the containers from the path $1 down, in the order of their ids; who creates in one of them waits or is
-- waited for. To be repeated until the number stays the same: what was being created meanwhile shows only then.
select count(*) from (
    select from containers where path >= $1::text::ltree and path < ($1::text || '0')::ltree order by id for update
) locked;

-- name: obstacle
-- What forbids the caller $2 (groups $3, administrator $4) to delete the tree at the path $1: an immutable or locked
-- node, or a container with children in which he may not write. (The limit keeps the planner from reading all nodes
-- that are immutable, which may be nearly all there are.)
select case when exists (
           select from containers c
            cross join lateral (select from nodes n where n.parent_id = c.id and n.immutable limit 1) one
            where c.path >= $1::text::ltree and c.path < ($1::text || '0')::ltree
       ) then 'immutable'
       when exists (
           select from nodes n
            where n.locked and (
                n.parent_id in (
                    select id from containers where path >= $1::text::ltree and path < ($1::text || '0')::ltree)
                or n.id in (
                    select id from containers where path >= $1::text::ltree and path < ($1::text || '0')::ltree))
       ) then 'NodeLocked'
       when exists (
           select from containers c join nodes n on n.id = c.id
            where c.path >= $1::text::ltree and c.path < ($1::text || '0')::ltree
              and not may_write(n.owner_id, n.group_write, $2, $3::text[], $4)
              and exists (select from nodes k where k.parent_id = c.id)
       ) then 'PermissionDenied' end;

-- name: has_children
-- Whether something is in the container $1.
select exists (select from nodes where parent_id = $1);

-- name: delete_tree
-- Delete the container $1 at the path $2 with all that is in it, for the caller $3 (`Caller.who` $4); count them.
with doomed as (
    select id from containers where path >= $2::text::ltree and path < ($2::text || '0')::ltree
), gone as (
    delete from nodes n using doomed d where n.parent_id = d.id
    returning n.storage_id, n.location
), top as (
    delete from nodes where id = $1 returning id, parent_id, name, owner_id
), folders as (
    delete from containers c using doomed d where c.id = d.id
), kept as (
    insert into obsolete (storage_id, location)
    select distinct storage_id, location from gone where location is not null
    on conflict (storage_id, location) do update set since = now()
), audited as (
    insert into audit (user_id, name, credential, remote, request, action, node_id, path, owner_id, details)
    select $3, ($4::text[])[1], ($4::text[])[2], ($4::text[])[3], ($4::text[])[4], 'deleteNode', id,
           path_of(parent_id, name), owner_id, audit_details($4, jsonb_build_object('nodes', (select count(*) from gone) + 1))
      from top
)
select (select count(*) from gone) + (select count(*) from top);

-- name: days_of_tree
-- For how many days the container $1 could be restored, if it were deleted now.
select trash_days_of_tree($1);

-- name: bin_tree
-- Put the container $1, whose containers have been turned to the trash, there for $2 days, for the caller $3
-- (`Caller.who` $4); count its nodes. It was at the names $5.
with node as (
    update nodes set parent_id = 0, name = id::text, changed = now() where id = $1 returning id, owner_id
), entry as (
    insert into trash (node_id, names, owner_id, deleted_by, until)
    select id, $5, owner_id, $3, now() + make_interval(days => $2) from node
    returning id, node_id, owner_id
), number as (
    select u.nodes + 1 as nodes from usage_of($1) u
), audited as (
    insert into audit (user_id, name, credential, remote, request, action, node_id, path, owner_id, details)
    select $3, ($4::text[])[1], ($4::text[])[2], ($4::text[])[3], ($4::text[])[4], 'deleteNode', e.node_id,
           '/' || array_to_string($5::text[], '/'), e.owner_id,
           audit_details($4, jsonb_build_object('nodes', m.nodes, 'trash', e.id))
      from entry e, number m
)
select m.nodes from entry e, number m;

-- name: names
-- The names that lead to the container $1.
select names_of($1);

-- name: removable
-- Where the node $1 stands, and whether the caller $2 (groups $3, administrator $4) may take it from there.
select n.parent_id, n.name, (select epoch from space) as epoch,
       not n.locked and not n.immutable and not p.locked
       and may_write(p.owner_id, p.group_write, $2, $3::text[], $4) and way_is_readable(p.id, $2, $3::text[], $4)
           as removable
  from nodes n
  join nodes p on p.id = n.parent_id
 where n.id = $1
   for update of n;

-- name: enterable
-- Where the container $1 stands, and whether the caller $2 (groups $3, administrator $4) may write to it.
select n.parent_id, n.name,
       (select nlevel(c.path) <= 200 from containers c where c.id = n.id)
       and not n.locked and not n.immutable and may_write(n.owner_id, n.group_write, $2, $3::text[], $4)
       and way_is_readable(n.id, $2, $3::text[], $4) as enterable
  from nodes n
 where n.id = $1;

-- name: fixed_below
-- What keeps the tree below the container at the path $1 from being moved: an immutable or locked node.
select case when exists (
           select from containers c
            cross join lateral (select from nodes n where n.parent_id = c.id and n.immutable limit 1) one
            where c.path >= $1::text::ltree and c.path < ($1::text || '0')::ltree
       ) then 'immutable'
       when exists (
           select from nodes n
            where n.locked and n.parent_id in (
               select id from containers where path >= $1::text::ltree and path < ($1::text || '0')::ltree)
       ) then 'NodeLocked' end;

-- name: too_deep
-- Whether a node of the tree at the path $1 had more than 200 names above it, itself counted, $2 levels further down.
select exists (
    select from containers c
     where c.path >= $1::text::ltree and c.path < ($1::text || '0')::ltree
       and (nlevel(c.path) + $2 > 201
            or nlevel(c.path) + $2 = 201 and exists (select from nodes n where n.parent_id = c.id)));

-- name: share_containers
-- Hold the containers $1 against deletion and removal, in the order of their ids.
select id from containers where id = any ($1::bigint[]) order by id for share;

-- name: turn_tree
-- Give all containers from the path $1 down, which are locked, their place below the path $2, and what is counted there
-- with them.
with counted as (
    update usage_changes
       set path = $2::text::ltree || subpath(path, nlevel($1::text::ltree) - 1)
     where path >= $1::text::ltree and path < ($1::text || '0')::ltree
)
update containers
   set path = $2::text::ltree || subpath(path, nlevel($1::text::ltree) - 1)
 where path >= $1::text::ltree and path < ($1::text || '0')::ltree;

-- name: rename
-- Put the node $1 into the container $2 under the name $3, and show it to the caller $4 (groups $5, administrator $6,
-- `Caller.who` $7). It was in the container $8, named $9.
with node as (
    update nodes set parent_id = $2, name = $3, changed = now() where id = $1
    returning *
), audited as (
    insert into audit (user_id, name, credential, remote, request, action, node_id, path, owner_id, details)
    select $4, ($7::text[])[1], ($7::text[])[2], ($7::text[])[3], ($7::text[])[4], 'moveNode', n.id,
           path_of($8, $9), n.owner_id, audit_details($7, jsonb_build_object('to', path_of($2, $3)))
      from node n
)
select n.id, n.parent_id, n.name, n.type, n.owner_id, u.name as owner, n.public, n.group_read, n.group_write,
       n.inherit, n.locked, n.immutable, n.properties, n.target, n.size, n.md5, n.created, n.changed, n.modified,
       t.url as storage_url, t.uuid as storage,
       may_read(n.owner_id, n.public, n.group_read, n.group_write, $4, $5::text[], $6) as readable,
       may_write(n.owner_id, n.group_write, $4, $5::text[], $6) as writable,
       coalesce((select b.until > now() from writers b where b.parent_id = n.parent_id and b.name = n.name), false)
           as busy,
       case when n.type = 'ContainerNode' then (select b.bytes from usage_of(n.id) b) end as used, q.bytes as quota,
       q.warned as quota_state, case when n.type = 'ContainerNode' then room_for(n.id, $4) end as available
  from node n
  join users u on u.id = n.owner_id
  left join storages t on t.id = n.storage_id
  left join quotas q on q.container_id = n.id;

-- name: names_in_use
-- Property URIs, up to $4, of those of the newest 10,000 nodes that the caller $1 (groups $2, administrator $3) may
-- read, and whether one of these is locked or immutable.
with seen as (
    select n.properties, n.locked, n.immutable
      from (select * from nodes order by id desc limit 10000) as n
     where (n.properties <> '{}' or n.locked or n.immutable)
       and may_read(n.owner_id, n.public, n.group_read, n.group_write, $1, $2::text[], $3)
       and way_is_readable(n.parent_id, $1, $2::text[], $3)
)
select (select epoch from space) as epoch, array(
    select distinct key from seen cross join jsonb_object_keys(properties) as key order by key limit $4
) as names, exists (select from seen where locked) as locked, exists (select from seen where immutable) as immutable;
