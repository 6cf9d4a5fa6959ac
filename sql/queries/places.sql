-- name: page
-- Up to $2 storages behind the number $1.
select s.id, s.uuid::text, s.name, s.url, s.state, s.labels, s.cold, s.free, s.total, s.last_seen,
       s.state <> 'retired' and is_there(s.last_seen) as live,
       (select coalesce(sum(v.busy), 0) from servers v where v.storage_id = s.id and is_there(v.last_seen))::bigint as busy
  from storages s where s.id > $1::bigint order by s.id limit $2;

-- name: servers
-- The servers of the storage $1.
select v.url, v.name, v.site, v.busy, v.last_seen, is_there(v.last_seen) as live
  from servers v where v.storage_id = $1::bigint order by v.url;

-- name: holdings
-- What is kept at the storage $1, and what is on the way.
select h.nodes as homes, h.bytes as home_bytes, o.versions, o.bytes as version_bytes, c.copies, c.bytes as copy_bytes,
       case when s.state = 'active' then 0 else h.nodes + o.versions + c.copies end as to_move,
       t.waiting, t.under_way, t.bytes_done, t.failing, t.message,
       (select count(*) from damages d where d.storage_id = s.id) as damaged
  from storages s
 cross join lateral (select count(*) as nodes, coalesce(sum(x.size), 0)::bigint as bytes
                       from (select distinct on (n.location) n.size from nodes n
                              where n.storage_id = s.id and n.location is not null order by n.location) x) h
 cross join lateral (select count(*) as versions, coalesce(sum(v.size), 0)::bigint as bytes
                       from versions v where v.storage_id = s.id) o
 cross join lateral (select count(*) as copies, coalesce(sum(b.size), 0)::bigint as bytes
                       from replicas r cross join lateral bytes_of(r.storage_id, r.location) b
                      where r.at_storage = s.id) c
 cross join lateral (select count(*) as waiting, count(*) filter (where r.until > now()) as under_way,
                            coalesce(sum(r.bytes_done) filter (where r.until > now()), 0)::bigint as bytes_done,
                            count(*) filter (where r.message is not null) as failing, max(r.message) as message
                       from replications r where r.at_storage = s.id) t
 where s.id = $1::bigint;

-- name: rename
update storages set name = $2 where id = $1::bigint returning id;

-- name: lock
-- The storage $1: whether it was heard of lately, whether it keeps bytes, and whether it is the only place of some.
select is_there(s.last_seen) as live,
       exists (select from nodes n where n.storage_id = s.id and n.location is not null)
       or exists (select from versions v where v.storage_id = s.id)
       or exists (select from segments g where g.storage_id = s.id)
       or exists (select from replicas r where r.at_storage = s.id) as holds,
       exists (select from obsolete o where o.storage_id = s.id) as leaves,
       exists (select from nodes n where n.storage_id = s.id and n.location is not null)
       or exists (select from versions v where v.storage_id = s.id)
       or exists (select from segments g where g.storage_id = s.id)
       or exists (select from replicas r
                   where r.at_storage = s.id
                     and not exists (select from copies_of(r.storage_id, r.location, $2) c
                                      where c.storage <> s.id and c.sound)) as needed
  from storages s where s.id = $1::bigint for update;

-- name: turn
-- Put the storage $1 into the state $2; only active ones get copies.
with undone as (
    delete from replications where at_storage = $1::bigint and $2::text <> 'active'
)
update storages set state = $2, kept = '-infinity' where id = $1::bigint returning id;

-- name: let_go_copies
-- Turn away from all copies at the storage $1.
with gone as (
    delete from replicas where at_storage = $1::bigint returning at_storage, at_location
)
insert into obsolete (storage_id, location) select at_storage, at_location from gone
on conflict (storage_id, location) do update set since = now();

-- name: let_go_jobs
update jobs set storage_id = null where storage_id = $1::bigint and phase not in ('PENDING', 'QUEUED', 'EXECUTING');

-- name: let_go_rest
-- Nobody is left who could delete them.
delete from obsolete where storage_id = $1::bigint;

-- name: forget
delete from storages s
 where s.id = $1::bigint and not exists (select from jobs j where j.storage_id = s.id)
returning s.id;
