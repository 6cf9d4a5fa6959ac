-- name: backwards
-- Ids of up to $2 children of container $1 in the order of their names, backwards, from the name $3 on (itself
-- included if $4), and the last name.
with page as (
    select n.id, n.name from nodes n
     where n.parent_id = $1 and n.name <= $3 and ($4 or n.name < $3)
     order by n.name desc
     limit $2
)
select array(select id from page order by name desc) as ids, (select min(name) from page) as name;

-- name: sorted
-- Ids of up to $5 children of container $1 for the caller $2 (groups $3, administrator $4), in the order of their
-- lengths ($6) or else their dates, backwards if $7, and of their names where these are the same; behind the key $8
-- and the name $9, or from the child named $9 on if $10. A node that he may not see counts with what documents tell of
-- it: no length, and 1 January 2000; a container that he may not write to has no length either. $11: he sees every
-- node but containers.
with keyed as not materialized (
    select n.id, n.name, case when $7 then -k.value else k.value end as key
      from nodes n
     cross join lateral (
         select case when not (may_read(n.owner_id, n.public, n.group_read, n.group_write, $2, $3::text[], $4)
                               or $11 and n.type <> 'ContainerNode')
                     then case when $6 then 0 else 946684800000000 end
                     when $6 and n.type = 'ContainerNode' then
                         case when may_write(n.owner_id, n.group_write, $2, $3::text[], $4)
                              then (select b.bytes from usage_of(n.id) b) else 0 end
                     when $6 then coalesce(n.size, 0)
                     else (extract(epoch from coalesce(n.modified, n.changed)) * 1000000)::bigint
                end as value
     ) k
     where n.parent_id = $1
), start as (
    select case when $10 then (select key from keyed where name = $9) else $8::bigint end as key
), page as (
    select k.id, k.key, k.name
      from keyed k
     cross join start s
     where $9::text is null or (k.key, k.name) > (s.key, $9) or $10 and k.name = $9
     order by k.key, k.name
     limit $5
)
select (select key from start) as start, array(select id from page order by key, name) as ids,
       (select key from page order by key desc, name desc limit 1) as key,
       (select name from page order by key desc, name desc limit 1) as name;

-- name: chosen
-- The nodes $5 as far as they are still children of container $1, in this order, as the caller $2 (groups $3,
-- administrator $4) may see them.
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
  from unnest($5::bigint[]) with ordinality as wanted (id, place)
  join nodes n on n.id = wanted.id and n.parent_id = $1
  join users u on u.id = n.owner_id
  left join lateral (select b.bytes from usage_of(n.id) b where n.type = 'ContainerNode') c on true
  left join quotas q on q.container_id = n.id
 order by wanted.place;
