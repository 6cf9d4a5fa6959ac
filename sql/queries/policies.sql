-- name: policies
-- Up to $2 containers behind the number $1 that have a policy of their own, and what it says.
select p.container_id as id, names_of(p.container_id) as names, p.label, p.replicas, p.versions, p.trash_days,
       p.tier_days
  from policies p
  join containers c on c.id = p.container_id
 where p.container_id > $1::bigint and c.path >= '1'
 order by p.container_id limit $2;

-- name: above
-- The policies of the container $1 and of all above it, from the root down.
select a.id = c.id as own, names_of(a.id) as names, p.label, p.replicas, p.versions, p.trash_days, p.tier_days
  from containers c
 cross join unnest(string_to_array(c.path::text, '.')::bigint[]) with ordinality as a (id, depth)
  join policies p on p.container_id = a.id
 where c.id = $1
 order by a.depth;

-- name: hold
-- Hold the container $1 if it belongs to the user $2, or $3 says that this does not matter.
select c.id
  from containers c
  join nodes n on n.id = c.id
 where c.id = $1 and (n.owner_id = $2 or $3)
   for share of c;

-- name: lock
-- Those who change policies take turns.
lock table policies in share row exclusive mode;

-- name: put
-- What the policy of the container $1 says.
insert into policies (container_id, label, replicas, versions, trash_days, tier_days) values ($1, $2, $3, $4, $5, $6)
on conflict (container_id) do update
   set label = excluded.label, replicas = excluded.replicas, versions = excluded.versions,
       trash_days = excluded.trash_days, tier_days = excluded.tier_days;

-- name: remove
-- Let the container $1 have no policy of its own.
delete from policies where container_id = $1;
