-- name: queue
-- Jobs that wait for a worker: how many of each kind, and for how long the oldest has waited.
select kind, count(*) as number, extract(epoch from now() - min(created))::double precision as oldest
  from jobs where phase = 'QUEUED' group by kind;

-- name: places
-- What each storage is like.
select s.id, s.name, s.state, coalesce(s.free, -1) as free, coalesce(s.total, -1) as total,
       extract(epoch from now() - s.last_seen)::double precision as silent,
       (select count(*) from servers v where v.storage_id = s.id and v.last_seen > now() - interval '30 seconds') as servers,
       (select count(*) from obsolete o where o.storage_id = s.id) as obsolete,
       (select count(*) from damages d where d.storage_id = s.id) as damages
  from storages s order by s.id;
