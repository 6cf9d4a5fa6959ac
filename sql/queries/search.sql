-- name: page
-- Nodes below the container $1 as `search_tree` finds them from the place $2 and the name $3 on: those as wanted by
-- $4 that the caller $5 (groups $6, administrator $7) may read, up to $8 of them, looking at up to $9. The last row
-- has no id, and tells where to go on.
select f.way, f.place, f.place_name, (select epoch from space) as epoch,
       n.id, n.parent_id, n.name, n.type, n.owner_id, u.name as owner, n.public, n.group_read, n.group_write,
       n.inherit, n.locked, n.immutable, n.properties, n.target, n.size, n.md5, n.created, n.changed, n.modified,
       null as storage_url, null::uuid as storage, true as readable,
       may_write(n.owner_id, n.group_write, $5, $6::text[], $7) as writable,
       coalesce((select b.until > now() from writers b where b.parent_id = n.parent_id and b.name = n.name), false)
           as busy,
       case when n.type = 'ContainerNode' then (select b.bytes from usage_of(n.id) b) end as used, q.bytes as quota,
       q.warned as quota_state
  from search_tree($1, $2, $3, $4::jsonb, $5, $6::text[], $7, $8, $9)
       with ordinality as f (id, way, place, place_name, number)
  left join nodes n on n.id = f.id
  left join users u on u.id = n.owner_id
  left join quotas q on q.container_id = n.id
 order by f.number;

-- name: forget
-- What the job $1 has found until now, before it starts over.
delete from found where job_id = $1;

-- name: keep
-- Let the job $1, which the worker's attempt $2 still has, have found the nodes $3 behind the position $4.
insert into found (job_id, position, node_id)
select j.id, $4 + n.number, n.id
  from (select id from jobs where id = $1 and attempt = $2 for share) j
 cross join unnest($3::bigint[]) with ordinality as n (id, number)
returning position;

-- name: last
-- Position of the last node that the job $1 has found.
select max(position) from found where job_id = $1;

-- name: found
-- The nodes that the job $1 has found behind the position $2, up to $3, as far as they are still there and the caller
-- $4 (groups $5, administrator $6) may read them.
select names_of(n.parent_id) as way,
       n.id, n.parent_id, n.name, n.type, n.owner_id, u.name as owner, n.public, n.group_read, n.group_write,
       n.inherit, n.locked, n.immutable, n.properties, n.target, n.size, n.md5, n.created, n.changed, n.modified,
       null as storage_url, null::uuid as storage, true as readable,
       may_write(n.owner_id, n.group_write, $4, $5::text[], $6) as writable,
       coalesce((select b.until > now() from writers b where b.parent_id = n.parent_id and b.name = n.name), false)
           as busy,
       case when n.type = 'ContainerNode' then (select b.bytes from usage_of(n.id) b) end as used, q.bytes as quota,
       q.warned as quota_state
  from found f
  join nodes n on n.id = f.node_id
  join users u on u.id = n.owner_id
  left join quotas q on q.container_id = n.id
 where f.job_id = $1 and f.position > $2 and f.position <= $2 + $3
   and may_read(n.owner_id, n.public, n.group_read, n.group_write, $4, $5::text[], $6)
   and way_is_readable(n.parent_id, $4, $5::text[], $6)
 order by f.position;
