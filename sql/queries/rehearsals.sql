-- name: leaves
-- Those of the nodes $2 in the container $1 that would stay if the caller $3 (groups $4, administrator $5) deleted them
-- all (see delete_leaves): how many, and the first $6 of them; and how many would go.
with here as (
    select n.id, n.name,
           not n.locked and not n.immutable and n.type <> 'ContainerNode' and not p.locked and not p.immutable
           and may_write(p.owner_id, p.group_write, $3, $4::text[], $5) and way_is_readable(p.id, $3, $4::text[], $5)
               as goes
      from nodes n
      join nodes p on p.id = n.parent_id
     where n.id = any ($2::bigint[]) and n.parent_id is not distinct from $1
)
select count(*) as seen, null as last, count(*) filter (where goes) as done,
       (array_agg(id order by name) filter (where not goes))[1:$6::integer] as stay, (select epoch from space) as epoch
  from here;

-- name: size
-- How many nodes the container at the path $1 and all below it are.
select 1 + count(*)
  from containers c
  join nodes n on n.parent_id = c.id
 where c.path >= $1::text::ltree and c.path < ($1::text || '0')::ltree;

-- name: set_below
-- What would come of `set_below` (see recursive.sql) for the same nodes of the containers $1, the caller $2 (groups $3,
-- administrator $4), properties $5 to take away and $6 to set: how many it would look at, the last, how many it would
-- change, and the first $11 of the others. $7: the change needs the owner.
with place as (
    select p.id
      from unnest($1::bigint[]) as p (id)
     where way_is_readable(p.id, $2, $3::text[], $4)
), page as (
    select n.id, n.name, n.changes
      from place p
     cross join lateral (
        select c.id, c.name,
               may_write(c.owner_id, c.group_write, $2, $3::text[], $4)
               and (not $7::boolean or c.owner_id = $2 or $4)
               and (select count(*) from jsonb_object_keys((c.properties - $5::text[]) || $6::jsonb)) <= $10 as changes
          from nodes c where c.parent_id = p.id and c.name > $8 order by c.name limit $9
     ) n
)
select count(*) as seen, max(name) as last, count(*) filter (where changes) as done,
       (array_agg(id order by name) filter (where not changes))[1:$11::integer] as stay,
       (select epoch from space) as epoch
  from page;

-- name: names
-- The names that lead to the nodes $1.
select case when n.parent_id is null then '{}' else names_of(n.parent_id) || n.name::text end as names
  from unnest($1::bigint[]) with ordinality as wanted (id, place)
  join nodes n on n.id = wanted.id
 order by wanted.place;
