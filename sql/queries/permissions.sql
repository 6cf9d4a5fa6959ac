-- name: owned_groups
-- URIs of the local groups that belong to the user $1.
select prefix || g.name as uri
  from groups g
 cross join space s
 cross join unnest(s.group_prefixes) as prefix
 where g.owner_id = $1;

-- name: way
-- Who may do what with the nodes along the names $1, from the root down, as far as they are there.
with recursive walk as (
    select n.id, n.owner_id, n.public, n.group_read, n.group_write, n.locked, n.immutable, 0 as depth
      from nodes n where n.id = 1
    union all
    select c.id, c.owner_id, c.public, c.group_read, c.group_write, c.locked, c.immutable, w.depth + 1
      from walk w
      join nodes c on c.parent_id = w.id and c.name = ($1::text[])[w.depth + 1]
     where w.depth < cardinality($1::text[])
)
select owner_id, public, group_read, group_write, locked, immutable from walk order by depth;
