-- name: offer
select storage_api.offer($1, $2, $3::jsonb);

-- name: offered
-- The protocols that every storage offers which takes bytes now.
with living as (
    select v.storage_id, v.url
      from servers v join storages t on t.id = v.storage_id
     where v.last_seen > now() - interval '30 seconds' and t.state = 'active'
)
select o.protocol
  from offers o join living l using (storage_id, url)
 group by o.protocol
having count(distinct o.storage_id) = (select count(distinct storage_id) from living);

-- name: endpoints
-- What the storage $1 offers, at the server $2 of several if it can.
select distinct on (o.protocol) o.protocol, o.endpoint, o.params
  from offers o
  join servers v using (storage_id, url)
  join storages t on t.id = o.storage_id
 where t.uuid = $1::text::uuid and v.last_seen > now() - interval '30 seconds'
 order by o.protocol, o.url <> $2, v.last_seen desc;
