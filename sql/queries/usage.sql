-- name: try_lock
-- Whether nobody deletes or moves trees, who is kept from it now until the transaction ends.
select pg_try_advisory_xact_lock(8411);

-- name: lock
-- The same, waiting for whoever does.
select pg_advisory_xact_lock(8411);

-- name: fold
-- Take up to $1 changes into the sums of all containers above them and of their owners; count them.
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
), owners as (
    insert into usage_of_owners (owner_id, bytes, nodes)
    select owner_id, sum(bytes)::bigint, sum(nodes)::bigint from taken where owner_id is not null group by owner_id
    on conflict (owner_id) do update
       set bytes = usage_of_owners.bytes + excluded.bytes, nodes = usage_of_owners.nodes + excluded.nodes
)
select count(*) from taken;

-- name: of_container
-- What is below the container $1.
select bytes, nodes from usage_of($1);

-- name: of_owner
-- What the user $1 owns.
select bytes, nodes from usage_of_owner($1);

-- name: check
-- Containers and owners whose usage differs from the sum of the tree, all as of one moment.
with kept as (
    select n.parent_id, sum(coalesce(n.size, 0)) as bytes, count(*) as nodes
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
    select n.owner_id as id, sum(coalesce(n.size, 0))::bigint as bytes, count(*) as nodes
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
