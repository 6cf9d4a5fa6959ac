-- name: try_lock
-- Whether nobody deletes or moves trees, who is kept from it now until the transaction ends.
select pg_try_advisory_xact_lock(8411);

-- name: lock
-- The same, waiting for whoever does.
select pg_advisory_xact_lock(8411);

-- name: has_changed
-- Whether there are changes that are in no sum yet.
select exists (select from usage_changes);

-- name: fold
-- Take up to $1 changes into the sums of all containers above them and of their owners; count them, and name the quotas
-- that may be nearer now.
with taken as (
    delete from usage_changes where ctid = any (array(select ctid from usage_changes limit $1))
    returning path, owner_id, bytes, nodes
), above as (
    insert into usage (container_id, bytes, nodes)
    select step::bigint, sum(p.bytes)::bigint, sum(p.nodes)::bigint
      from (select path, sum(bytes) as bytes, sum(nodes) as nodes from taken where path is not null group by path) p
     cross join unnest(string_to_array(p.path::text, '.')) as step
     group by step
    on conflict (container_id) do update
       set bytes = usage.bytes + excluded.bytes, nodes = usage.nodes + excluded.nodes
    returning container_id
), owners as (
    insert into usage_of_owners (owner_id, bytes, nodes)
    select owner_id, sum(bytes)::bigint, sum(nodes)::bigint from taken where owner_id is not null group by owner_id
    on conflict (owner_id) do update
       set bytes = usage_of_owners.bytes + excluded.bytes, nodes = usage_of_owners.nodes + excluded.nodes
    returning owner_id
)
select (select count(*) from taken) as changes, array(
    select q.id from quotas q
     where q.container_id in (select container_id from above) or q.user_id in (select owner_id from owners)
        or q.group_uri is not null and exists (select from owners)
) as quotas;

-- name: sweep
vacuum (index_cleanup on, skip_locked, truncate off) usage_changes;

-- name: of_container
-- What is below the container $1.
select bytes, nodes from usage_of($1);

-- name: of_owner
-- What the user $1 owns.
select bytes, nodes from usage_of_owner($1);

-- name: check
-- Containers and owners whose usage differs from the sum of the tree, all as of one moment.
with kept as (
    select n.parent_id, sum(coalesce(n.size, 0) + n.kept) as bytes, count(*) as nodes
      from nodes n where n.parent_id is not null group by n.parent_id
), below as (
    select step::bigint as id, sum(k.bytes)::bigint as bytes, sum(k.nodes)::bigint as nodes
      from kept k join containers c on c.id = k.parent_id
     cross join unnest(string_to_array(c.path::text, '.')) as step
     group by step
), pending as (
    select step::bigint as id, sum(u.bytes)::bigint as bytes, sum(u.nodes)::bigint as nodes
      from usage_changes u cross join unnest(string_to_array(u.path::text, '.')) as step
     group by step
), counted as (
    select id, sum(bytes)::bigint as bytes, sum(nodes)::bigint as nodes
      from (select container_id as id, bytes, nodes from usage union all select id, bytes, nodes from pending) s
     group by id
), owned as (
    select n.owner_id as id, sum(coalesce(n.size, 0) + n.kept)::bigint as bytes, count(*) as nodes
      from nodes n where n.parent_id is not null group by n.owner_id
), counted_owned as (
    select id, sum(bytes)::bigint as bytes, sum(nodes)::bigint as nodes
      from (select owner_id as id, bytes, nodes from usage_of_owners
            union all
            select owner_id, bytes, nodes from usage_changes where owner_id is not null) s
     group by id
)
select true as of_container, id, coalesce(c.bytes, 0) as bytes, coalesce(c.nodes, 0) as nodes,
       coalesce(b.bytes, 0) as real_bytes, coalesce(b.nodes, 0) as real_nodes
  from counted c full join below b using (id)
 where (coalesce(c.bytes, 0), coalesce(c.nodes, 0)) <> (coalesce(b.bytes, 0), coalesce(b.nodes, 0))
union all
select false, id, coalesce(c.bytes, 0), coalesce(c.nodes, 0), coalesce(b.bytes, 0), coalesce(b.nodes, 0)
  from counted_owned c full join owned b using (id)
 where (coalesce(c.bytes, 0), coalesce(c.nodes, 0)) <> (coalesce(b.bytes, 0), coalesce(b.nodes, 0))
 order by 1, 2;

-- name: correct_container
-- Add $2 bytes and $3 nodes to the sum of the container $1.
insert into usage (container_id, bytes, nodes) values ($1, $2, $3)
on conflict (container_id) do update
   set bytes = usage.bytes + excluded.bytes, nodes = usage.nodes + excluded.nodes;

-- name: correct_owner
-- Add $2 bytes and $3 nodes to the sum of the user $1.
insert into usage_of_owners (owner_id, bytes, nodes) values ($1, $2, $3)
on conflict (owner_id) do update
   set bytes = usage_of_owners.bytes + excluded.bytes, nodes = usage_of_owners.nodes + excluded.nodes;

-- name: of_group
-- What the members of the group $1 own.
select sum(u.bytes)::bigint as bytes, sum(u.nodes)::bigint as nodes
  from members_of($1) as m cross join lateral usage_of_owner(m) u;

-- name: require_quotas
-- Fail if $3 bytes and $4 nodes that this transaction has brought into the container $1 for the user $2 are too many.
select require_quotas(array[$1]::bigint[], array[$2]::bigint[], $3, $4, $2);

-- name: lock_quotas
-- Those who change quotas take turns.
lock table quotas in share row exclusive mode;

-- name: quotas
-- The quotas of the container $1, of the user $2 and of the group $3; all of them, if none is named. With what is used.
select q.id, q.container_id, q.user_id, q.group_uri, q.bytes, q.nodes, q.warned, u.bytes as used_bytes,
       u.nodes as used_nodes,
       case when q.container_id is not null then '/' || array_to_string(names_of(q.container_id), '/')
            else coalesce(q.group_uri, (select p.name from users p where p.id = q.user_id)) end as name
  from quotas q cross join lateral used_of(q) u
 where q.container_id = $1 or q.user_id = $2 or q.group_uri = $3
    or $1::bigint is null and $2::bigint is null and $3::text is null
 order by q.container_id, q.user_id, q.group_uri;

-- name: add_quota
-- At the most $4 bytes and $5 nodes for the container $1, the user $2 or the group $3, which has no quota yet.
insert into quotas (container_id, user_id, group_uri, bytes, nodes)
select $1::bigint, $2::bigint, $3, $4, $5
 where $1 is null or exists (select from containers c where c.id = $1);

-- name: change_quota
-- At the most $2 bytes and $3 nodes by the quota $1.
update quotas set bytes = $2, nodes = $3, warned = null where id = $1;

-- name: remove_quota
delete from quotas where id = $1;

-- name: warn
-- Note of the quotas $1, and of those that nobody has looked at, which of the per cents $2 are used by now: those of
-- which it is another one than before.
with seen as (
    select q.id, coalesce(max(t.percent), 0) as percent
      from quotas q
     cross join lateral used_of(q) u
      left join unnest($2::integer[]) as t (percent)
        on u.bytes * 100.0 >= q.bytes::numeric * t.percent or u.nodes * 100.0 >= q.nodes::numeric * t.percent
     where q.id = any ($1::integer[]) or q.warned is null
     group by q.id
), changed as (
    update quotas q set warned = s.percent
      from seen s, quotas before
     where q.id = s.id and before.id = s.id and q.warned is distinct from s.percent
    returning q.id, q.warned, coalesce(before.warned, 0) as before
)
select c.warned, c.before, q.container_id, q.user_id, q.group_uri, q.bytes, q.nodes, u.bytes as used_bytes,
       u.nodes as used_nodes,
       case when q.container_id is not null then '/' || array_to_string(names_of(q.container_id), '/')
            else coalesce(q.group_uri, (select p.name from users p where p.id = q.user_id)) end as name
  from changed c
  join quotas q on q.id = c.id
 cross join lateral used_of(q) u;
