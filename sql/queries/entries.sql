-- name: page
-- Up to $5 children of container $1 behind the name $6, as the caller $2 (groups $3, administrator $4) may see them:
-- one piece of text, a line of JSON for each; how many they are, and the last name. $7: he sees every node but
-- containers; $8: he may change what he may write to. The text is put together by hand: it takes half as long as by
-- json_build_object, of which members that tell nothing would have to be taken away again. Of a child that he may not
-- see, name and type are told, and a date that tells nothing.
with page as (
    select n.name, n.type, n.owner_id, n.public, n.group_write, n.locked, n.immutable, n.properties, n.target, n.size,
           n.md5, n.sha256, n.changed, n.modified,
           may_read(n.owner_id, n.public, n.group_read, n.group_write, $2, $3::text[], $4) as readable
      from nodes n
     where n.parent_id = $1 and n.name > $6
     order by n.name
     limit $5
)
select convert_to(string_agg(x.line, ''), 'UTF8') as text, count(*) as number, max(x.name) as name
  from (
    select n.name,
           '{"name":' || to_json(n.name)::text
           || case n.type when 'ContainerNode' then ',"type":"container"' when 'LinkNode' then ',"type":"link"'
                          when 'StructuredDataNode' then ',"type":"structured"' else ',"type":"data"' end
           || case when not (n.readable or $7 and n.type <> 'ContainerNode') then
                  ',"mtime":"2000-01-01T00:00:00Z","ctime":"2000-01-01T00:00:00Z"'
              else
                  case when n.type like '%DataNode' then ',"length":' || coalesce(n.size, 0) else '' end
                  || ',"mtime":"' || to_char(coalesce(n.modified, n.changed) at time zone 'UTC',
                                             'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                  || '","ctime":"' || to_char(n.changed at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                  || '","owner":' || to_json(u.name)::text
                  || coalesce(',"etag":"' || encode(n.sha256, 'hex') || '","md5":"' || encode(n.md5, 'hex') || '"', '')
                  || case when n.public then ',"public":true' else '' end
                  || case when n.readable then ',"readable":true' else '' end
                  || case when $8 and not n.locked and not n.immutable
                               and may_write(n.owner_id, n.group_write, $2, $3::text[], $4)
                          then ',"writable":true' else '' end
                  || case when n.locked then ',"locked":true' else '' end
                  || case when n.name in (select b.name from writers b where b.parent_id = $1 and b.until > now())
                          then ',"busy":true' else '' end
                  || coalesce(',"target":' || to_json(n.target)::text, '')
                  || case when n.properties = '{}' then '' else
                         coalesce(',"content_type":'
                                  || to_json(n.properties ->> 'ivo://ivoa.net/vospace/core#type')::text, '')
                         || case when n.properties ?| array['ivo://pyvospace#mtime', 'ivo://pyvospace#mode'] then
                                ',"props":' || jsonb_strip_nulls(jsonb_build_object(
                                    'ivo://pyvospace#mtime', n.properties -> 'ivo://pyvospace#mtime',
                                    'ivo://pyvospace#mode', n.properties -> 'ivo://pyvospace#mode'))::text
                            else '' end
                     end
              end
           || E'}\n' as line
      from page n
      join users u on u.id = n.owner_id
     order by n.name
) x;

-- name: tightest
-- The quota of bytes that leaves least to the user $2 in the container $1, and what is used of it.
select q.bytes as most, greatest(t.bytes, 0) as used
  from quotas_over(array[$1::bigint], array[$2::bigint]) q
 cross join lateral taken_of(q) t
 where q.bytes is not null
 order by q.bytes - t.bytes
 limit 1;
