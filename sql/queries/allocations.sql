-- name: allocations
-- Up to $2 containers behind the id $1 that have a quota of their own, or are in one of the containers $3.
with found as (
    (select q.container_id as id from quotas q join containers c on c.id = q.container_id
      where q.container_id > $1 and c.path >= '1' order by q.container_id limit $2)
    union
    (select n.id from nodes n
      where n.parent_id = any ($3::bigint[]) and n.type = 'ContainerNode' and n.id > $1 order by n.id limit $2)
)
select n.id, names_of(n.id) as names, u.name as owner, n.group_read, n.group_write, q.bytes, q.nodes,
       s.bytes as used_bytes, s.nodes as used_nodes
  from found f
  join nodes n on n.id = f.id
  join users u on u.id = n.owner_id
  left join quotas q on q.container_id = n.id
 cross join lateral usage_of(n.id) s
 order by n.id limit $2;

-- name: quotas
-- Up to $2 quotas behind the number $1, with what is used.
select q.id, case when q.container_id is not null then 'container' when q.user_id is not null then 'user'
                  else 'group' end as kind,
       case when q.container_id is not null then '/' || array_to_string(names_of(q.container_id), '/')
            else coalesce(q.group_uri, (select p.name from users p where p.id = q.user_id)) end as name,
       q.bytes, q.nodes, s.bytes as used_bytes, s.nodes as used_nodes
  from quotas q cross join lateral used_of(q) s
 where q.id > $1::bigint
   and (q.container_id is null or exists (select from containers c where c.id = q.container_id and c.path >= '1'))
 order by q.id limit $2;

-- name: user_id
select id from users where name = $1;
