-- name: entries
-- Up to $4 entries before the number $3, the newest first: those of the user $1, or ($2) of everybody.
select t.id, t.node_id, t.names, n.type, u.name as owner, coalesce(d.name, '') as deleted_by, t.deleted, t.until,
       case when n.type = 'ContainerNode' then s.bytes else coalesce(n.size, 0) + n.kept end as bytes,
       case when n.type = 'ContainerNode' then s.nodes + 1 else 1 end as nodes
  from trash t
  join nodes n on n.id = t.node_id
  join users u on u.id = n.owner_id
  left join users d on d.id = t.deleted_by
  left join lateral (select * from usage_of(n.id) where n.type = 'ContainerNode') s on true
 where (t.owner_id = $1 or t.deleted_by = $1 or $2) and t.id < $3 and t.until > now()
 order by t.id desc limit $4;

-- name: entry
-- The entry $3, if it is of the user $1, or ($2) in any case.
select t.id, t.node_id, t.names, n.type, u.name as owner, coalesce(d.name, '') as deleted_by, t.deleted, t.until,
       case when n.type = 'ContainerNode' then s.bytes else coalesce(n.size, 0) + n.kept end as bytes,
       case when n.type = 'ContainerNode' then s.nodes + 1 else 1 end as nodes
  from trash t
  join nodes n on n.id = t.node_id
  join users u on u.id = n.owner_id
  left join users d on d.id = t.deleted_by
  left join lateral (select * from usage_of(n.id) where n.type = 'ContainerNode') s on true
 where (t.owner_id = $1 or t.deleted_by = $1 or $2) and t.id = $3 and t.until > now();

-- name: hold
-- Lock the entry $1, if it can still be restored; the epoch.
select (select epoch from space) as epoch from trash where id = $1 and until > now() for update;

-- name: restore
-- Put the node of the entry $1 into the container $2 under the name $3, for the caller $4 (`Caller.who` $5).
with entry as (
    delete from trash where id = $1 returning id, node_id, names
), node as (
    update nodes n set parent_id = $2, name = $3, changed = now() from entry e where n.id = e.node_id
    returning n.id, n.owner_id
)
insert into audit (user_id, name, credential, remote, request, action, node_id, path, owner_id, details)
select $4, ($5::text[])[1], ($5::text[])[2], ($5::text[])[3], ($5::text[])[4], 'restoreNode', n.id, path_of($2, $3),
       n.owner_id, jsonb_build_object('trash', e.id, 'from', '/' || array_to_string(e.names, '/'))
  from node n, entry e;

-- name: give_up
-- Begin to remove the entry $1, which cannot be restored from here on, for the caller $2 (`Caller.who` $3).
with entry as (
    update trash set until = '-infinity' where id = $1 and until > now() returning id, node_id, names, owner_id
), audited as (
    insert into audit (user_id, name, credential, remote, request, action, node_id, path, owner_id, details)
    select $2, ($3::text[])[1], ($3::text[])[2], ($3::text[])[3], ($3::text[])[4], 'purgeNode', node_id,
           '/' || array_to_string(names, '/'), owner_id, jsonb_build_object('trash', id)
      from entry
)
select id from entry;

-- name: give_up_due
-- The same with up to $1 entries whose time is over (who is restoring one in this moment keeps it); these, and up to $1 of
-- those that were given up before.
with due as (
    select id from trash where until <= now() and until > '-infinity' order by until limit $1 for update skip locked
), entry as (
    update trash t set until = '-infinity' from due d where t.id = d.id returning t.id, node_id, names, owner_id
), audited as (
    insert into audit (user_id, name, credential, remote, request, action, node_id, path, owner_id, details)
    select 0, '', 'service', '', '', 'purgeNode', node_id, '/' || array_to_string(names, '/'), owner_id,
           jsonb_build_object('trash', id)
      from entry
)
select id from entry
union all
(select id from trash where until = '-infinity' order by id limit $1);

-- name: take
-- Lock the entry $1 to remove some of it, unless somebody else does so; its node.
select node_id from trash where id = $1 and until = '-infinity' for update skip locked;

-- name: purge_leaves
-- Remove up to $2 nodes below the path $1 that are no containers; count them.
with chosen as (
    select n.id
      from containers c
      join nodes n on n.parent_id = c.id
     where c.path >= $1::text::ltree and c.path < ($1::text || '0')::ltree and n.type <> 'ContainerNode'
     limit $2
), gone as (
    delete from nodes n using chosen c where n.id = c.id returning n.storage_id, n.location
), kept as (
    insert into obsolete (storage_id, location)
    select distinct storage_id, location from gone where location is not null
    on conflict (storage_id, location) do update set since = now()
)
select count(*) from gone;

-- name: purge_rest
-- Remove the node $1 with the containers from the path $2 down and all that is still in them, and its entry.
with doomed as (
    select id from containers where path >= $2::text::ltree and path < ($2::text || '0')::ltree
), gone as (
    delete from nodes n where n.id = $1 or n.parent_id in (select id from doomed)
    returning n.id, n.storage_id, n.location
), folders as (
    delete from containers c using doomed d where c.id = d.id
), kept as (
    insert into obsolete (storage_id, location)
    select distinct storage_id, location from gone where location is not null
    on conflict (storage_id, location) do update set since = now()
), entry as (
    delete from trash where node_id = $1
)
select count(*) from gone;
