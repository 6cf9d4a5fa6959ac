-- name: insert_pull
-- A negotiated pull of the node $4 from the storage $8 that has its bytes, or from any if there are none.
-- No row: it was not heard of lately.
with place as (
    select id, url, uuid from storages
     where last_seen > now() - interval '30 seconds' and ($8::uuid is null or uuid = $8)
     order by random()
     limit 1
), job as (
    insert into jobs (id, owner_id, phase, transfer, node_id, storage_id, node_uri, expires, destruction)
    select $1, $2, 'EXECUTING', $3::jsonb, $4, p.id, $5, now() + make_interval(secs => $6),
           now() + make_interval(secs => $7)
      from place p
    returning expires
)
select j.expires, p.url, p.uuid from job j, place p;

-- name: insert_push
-- A negotiated push, to a storage with space for $13 bytes that was heard of lately. No row: there is none.
with place as (
    select id, url, uuid from storages
     where last_seen > now() - interval '30 seconds' and (free is null or free > coalesce($13::bigint, 0))
     order by random()
     limit 1
), job as (
    insert into jobs (id, owner_id, phase, transfer, node_id, parent_id, name, storage_id, node_uri, discard,
                      keep_properties, size_limit, expires, destruction)
    select $1, $2, 'EXECUTING', $3::jsonb, $4, $5, $6, p.id, $7, $8, $9, $10, now() + make_interval(secs => $11),
           now() + make_interval(secs => $12)
      from place p
    returning expires
)
select j.expires, p.url, p.uuid from job j, place p;

-- name: insert_failed
-- A transfer that was refused: its job tells why.
insert into jobs (id, owner_id, phase, transfer, fault, message, ended, expires, destruction)
values ($1, $2, 'ERROR', $3::jsonb, $4, $5, now(), now(), now() + make_interval(secs => $6));

-- name: select
-- The job $1 with the storage of its endpoints.
select j.id, j.owner_id, u.name as owner, j.phase, j.transfer, j.node_uri, j.node_id, j.parent_id, j.name, j.discard,
       j.fault, j.message, j.created, j.started, j.ended, j.expires, j.destruction, j.expires <= now() as expired,
       t.url as storage_url, t.uuid as storage, s.epoch
  from jobs j
 cross join space s
  left join users u on u.id = j.owner_id
  left join storages t on t.id = j.storage_id
 where j.id = $1;

-- name: abort
-- End the job $1 unless it has ended; its endpoints die with it.
with job as (
    update jobs set phase = 'ABORTED', ended = now(), message = $2
     where id = $1 and phase in ('PENDING', 'QUEUED', 'EXECUTING', 'HELD', 'SUSPENDED')
    returning id
), lease as (
    delete from writers w using job where w.job_id = job.id
)
select id from job;

-- name: expire
-- Up to $1 jobs whose endpoints ran out unused. An upload that is under way is left alone.
with due as (
    select j.id from jobs j
     where j.phase = 'EXECUTING' and j.expires < now()
       and not exists (select from writers w where w.job_id = j.id and w.until > now())
     order by j.expires limit $1 for update skip locked
)
update jobs j set phase = 'ABORTED', ended = now(), message = coalesce(message, 'the endpoint expired unused')
  from due where j.id = due.id
returning j.id;

-- name: forget
-- Up to $1 jobs past their destruction time.
with due as (
    select id from jobs where destruction < now() order by destruction limit $1 for update skip locked
)
delete from jobs j using due where j.id = due.id returning j.id;

-- name: forget_leases
-- Leases that nobody renewed and nobody took over.
delete from writers where until < now() - interval '1 hour';
