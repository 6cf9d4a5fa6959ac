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

-- name: page
-- Children of container $1 as the caller $2 (groups $3, administrator $4) may see them: one piece of text, how many they
-- are, and the last name. They are the nodes $8, in this order, as far as they are still there; or, if that is NULL, up
-- to $5 in the order of their names, from the name $6 on (itself included if $7). $9: he sees every node but containers;
-- $10: how much is told, as parameter `detail` says it.
-- The text is shorthand: what comes again and again is a control character, and pyvospace/wire/shorthand.py puts the
-- words there; so PostgreSQL puts together, and sends, a fifth of the document. They are
--   01 type 02 name, then 03, 04 or 05   a node (and if it holds bytes: is anybody writing to it?), to its 0F
--   06 ... 07                            its properties
--   08 name, then 0B or 0C value 0E      a property of the standard, to be set or read-only
--   10 URI, then 0B or 0C value 0E       any other
--   11; 12 target 14; 13 name 14         no children; a target; a target that is not told: the link itself
--   15, 16 or 17 hex 18                  a name, text or attribute that does not stand in a document as it is
-- A time is written once if it is the same: ctime NULL is btime, mtime NULL is ctime. (The order of `told` is more than
-- that: it keeps PostgreSQL from writing each time anew wherever it stands.)
with page as (
    (select n.*, 0::bigint as place
       from nodes n
      where $8::bigint[] is null and n.parent_id = $1 and n.name >= $6 and ($7 or n.name > $6)
      order by n.name
      limit $5)
    union all
    select n.*, w.place
      from unnest($8::bigint[]) with ordinality as w (id, place)
      join nodes n on n.id = w.id and n.parent_id = $1
), told as (
    select p.name, p.type, p.public, p.inherit, p.locked, p.immutable, p.properties, p.target, p.size, p.md5,
           u.name as owner, p.type like '%DataNode' as holds_bytes,
           case when p.group_read <> '{}' then array_to_string(p.group_read, ' ') end as readers,
           case when p.group_write <> '{}' then array_to_string(p.group_write, ' ') end as writers,
           case when p.name ~ '^[-A-Za-z0-9._~!$''()*+,;=:@ ]*$' then replace(p.name, ' ', '%20')
                else E'\x15' || encode(convert_to(p.name, 'UTF8'), 'hex') || E'\x18' end as segment,
           to_char(p.created at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as btime,
           case when p.changed <> p.created then
               to_char(p.changed at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') end as ctime,
           case when p.modified <> p.changed then
               to_char(p.modified at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') end as mtime,
           r.readable, r.writable, r.readable or $9 and p.type <> 'ContainerNode' as seen,
           p.name in (select b.name from writers b where b.parent_id = $1 and b.until > now()) as busy,
           case when r.writable and p.type = 'ContainerNode' then (select b.bytes from usage_of(p.id) b) end as used,
           q.bytes as quota, q.warned as quota_state
      from page p
      join users u on u.id = p.owner_id
     cross join lateral (
         select may_read(p.owner_id, p.public, p.group_read, p.group_write, $2, $3::text[], $4) as readable,
                may_write(p.owner_id, p.group_write, $2, $3::text[], $4) as writable
     ) r
      left join quotas q on q.container_id = p.id
     order by p.place, p.name
)
select convert_to(string_agg(
           E'\x01' || t.type || E'\x02' || t.segment
           || case when not t.holds_bytes then E'\x03' when t.seen and t.busy then E'\x05' else E'\x04' end
           || case when $10 = 'min' then ''
                   when not t.seen then E'\x06\x08date\x0c2000-01-01T00:00:00.000Z\x0e\x07'
              else
                  E'\x06'
                  || case when t.type = 'LinkNode' then ''
                          else E'\x08length\x0c' || coalesce(t.used, t.size, 0) || E'\x0e' end
                  || coalesce(E'\x08MD5\x0c' || encode(t.md5, 'hex') || E'\x0e', '')
                  || E'\x08date\x0c' || coalesce(t.mtime, t.ctime, t.btime) || E'\x0e\x08btime\x0c' || t.btime
                  || E'\x0e\x08ctime\x0c' || coalesce(t.ctime, t.btime)
                  || case when t.size is null then E'\x0e' else
                         E'\x0e\x08mtime\x0c' || coalesce(t.mtime, t.ctime, t.btime)
                         || E'\x0e\x08content-date\x0c' || coalesce(t.mtime, t.ctime, t.btime) || E'\x0e' end
                  || case when t.type <> 'ContainerNode' then '' else
                         case when t.writable then coalesce(
                             E'\x08availableSpace\x0c' || greatest(least((select room_for($1, $2)), t.quota - t.used),
                                                                   case when t.quota is not null then 0 end)
                             || E'\x0e', '') else '' end
                         || coalesce(E'\x08quota\x0c' || t.quota || E'\x0e', '')
                         || case when t.writable and t.quota_state > 0 then
                                E'\x10ivo://pyvospace#quotaState\x0c' || t.quota_state || E'\x0e' else '' end
                     end
                  || E'\x08creator\x0c' || t.owner
                  || case when t.public then E'\x0e\x08ispublic\x0btrue\x0e\x08publicread\x0btrue\x0e'
                          else E'\x0e\x08ispublic\x0bfalse\x0e\x08publicread\x0bfalse\x0e' end
                  || coalesce(E'\x08groupread\x0b' || case
                         when t.readers !~ '[\u0001-\u001f"&<>\\\ufffe\uffff]' then t.readers
                         else E'\x16' || encode(convert_to(t.readers, 'UTF8'), 'hex') || E'\x18' end || E'\x0e', '')
                  || coalesce(E'\x08groupwrite\x0b' || case
                         when t.writers !~ '[\u0001-\u001f"&<>\\\ufffe\uffff]' then t.writers
                         else E'\x16' || encode(convert_to(t.writers, 'UTF8'), 'hex') || E'\x18' end || E'\x0e', '')
                  || case when not t.inherit then ''
                          else E'\x10ivo://cadc.nrc.ca/vospace/core#inheritPermissions\x0btrue\x0e' end
                  || case when not t.locked then ''
                          else E'\x10ivo://cadc.nrc.ca/vospace/core#islocked\x0btrue\x0e\x08islocked\x0btrue\x0e' end
                  || case when t.immutable then E'\x08immutable\x0ctrue\x0e' else '' end
                  || case when $10 <> 'max' then '' else
                         E'\x10ivo://cadc.nrc.ca/vospace/core#readable\x0c' || t.readable
                         || E'\x0e\x10ivo://cadc.nrc.ca/vospace/core#writable\x0c' || t.writable || E'\x0e' end
                  || case when t.properties = '{}' then '' else (
                         select string_agg(
                             E'\x10'
                             || case when k.uri || (t.properties ->> k.uri) !~ '[\u0001-\u001f"&<>\\\ufffe\uffff]'
                                     then k.uri || E'\x0b' || (t.properties ->> k.uri)
                                     else E'\x17' || encode(convert_to(k.uri, 'UTF8'), 'hex') || E'\x18\x0b\x16'
                                          || encode(convert_to(t.properties ->> k.uri, 'UTF8'), 'hex') || E'\x18' end
                             || E'\x0e', '')
                           from (select jsonb_object_keys(t.properties) as uri) k) end
                  || E'\x07'
              end
           || case t.type when 'ContainerNode' then E'\x11\x0f'
                          when 'LinkNode' then coalesce(
                              E'\x12\x16' || encode(convert_to(
                                  case when t.seen then nullif(t.target, '') end, 'UTF8'), 'hex') || E'\x18\x14\x0f',
                              E'\x13' || t.segment || E'\x14\x0f')
                          else E'\x0f' end, ''), 'UTF8') as text,
       count(*) as number, max(t.name) as name
  from told t;
