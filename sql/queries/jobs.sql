-- name: insert
-- A job of the kind $4 in the list $3 for the owner $2 (token $11 with the scope $12), in the phase $6. No row: he has
-- $9 jobs that wait; of who is anonymous those from the same address $13 count.
insert into jobs (id, owner_id, list, kind, request, phase, run_id, destruction, execution_duration, token_id, scope,
                  client)
select $1, $2::bigint, $3, $4, $5::jsonb, $6, $7, now() + make_interval(secs => $8), $10, $11, $12::jsonb,
       case when $2::bigint is null then $13::text end
 where case when $2::bigint is null then
           (select count(*) from (select from jobs
                                   where owner_id is null and client = $13::text and phase in ('PENDING', 'QUEUED')
                                   limit $9) waiting)
       else
           (select count(*) from (select from jobs
                                   where coalesce(owner_id, 0) = $2::bigint and phase in ('PENDING', 'QUEUED')
                                   limit $9) waiting)
       end < $9
returning id;

-- name: begin
-- A job of the kind $4 in the list $3 for the owner $2 (token $7 with the scope $8), which the attempt $9 does at once,
-- under a lease of $10 seconds. No row: the state of the service does not let jobs of that kind begin, or the owner was
-- identified at another epoch than $12.
insert into jobs (id, owner_id, list, kind, request, phase, destruction, token_id, scope, client, started, attempt,
                  attempts, until)
select $1, $2::bigint, $3, $4, $5::jsonb, 'EXECUTING', now() + make_interval(secs => $6), $7, $8::jsonb,
       case when $2::bigint is null then $11::text end, now(), $9, 1, now() + make_interval(secs => $10)
 where $4 = any (open_kinds(array[$4::text])) and ($2::bigint is null or (select epoch from space) = $12::bigint)
returning id, kind, owner_id, request, node_id, parent_id, name, node_uri, attempt, attempts, started,
          execution_duration, now() as "now", bytes_done, bytes_total, files_done, files_total, token_id, scope;

-- name: insert_pull
-- A negotiated pull of the node $4: a new job, or one that waited to be run, from the best server that has its bytes,
-- or from any if there are none ($8: the storage that has them). One that is shared with others ($9) is not forgotten
-- before its endpoint expires. The client is at the site $12. The row is empty if no such server is there, or the job does
-- not wait.
-- A new one that is not shared need not wait for the disk: it is an offer, and nothing has come of it yet.
with quick as materialized (
    select set_config('synchronous_commit', 'off', true) where not $9 and not exists (select from jobs where id = $1)
), places as materialized (
    select array_agg(p.url) as urls, array_agg(p.uuid::text) as storages, (array_agg(p.id))[1] as id
      from places_to_read(case when $8::uuid is not null then $4::bigint end, $12) p
), job as (
    insert into jobs (id, owner_id, kind, phase, request, node_id, storage_id, node_uri, expires, destruction, shared,
                      token_id, scope)
    select $1, $2, 'pull', 'EXECUTING', $3::jsonb, $4, p.id, $5, now() + make_interval(secs => $6),
           now() + make_interval(secs => case when $9 then greatest($6, $7) else $7 end), $9, $10, $11::jsonb
      from places p
      left join quick on true
     where p.id is not null
    on conflict (id) do update
       set phase = 'EXECUTING', request = excluded.request, node_id = excluded.node_id,
           storage_id = excluded.storage_id, node_uri = excluded.node_uri, expires = excluded.expires,
           destruction = greatest(jobs.destruction, case when excluded.shared then excluded.expires end),
           shared = excluded.shared
     where jobs.phase = 'PENDING'
    returning expires
)
select j.expires, p.urls, p.storages from places p left join job j on true;

-- name: insert_pulls
-- The same for several, as arrays of the same values, that are all new and not shared: a row for each, in their order.
-- Nobody waits long for a lock that another one of them needs: if this fails each is alone.
with asked as materialized (
    select a.*, p.urls, p.storages, p.place
      from (select set_config('synchronous_commit', 'off', true) || set_config('lock_timeout', '100ms', true) as said) quick,
           unnest(case when said is not null then $1::text[] end, $2::bigint[], $3::jsonb[], $4::bigint[], $5::text[],
                  $6::double precision[], $7::double precision[], $8::uuid[], $9::boolean[], $10::bigint[], $11::jsonb[],
                  $12::text[])
             with ordinality a (id, owner, request, node, uri, life, destruction, storage, shared, token, scope, site,
                                number),
           lateral (select array_agg(p.url) as urls, array_agg(p.uuid::text) as storages,
                           (array_agg(p.id))[1] as place
                      from places_to_read(case when a.storage is not null then a.node end, a.site) p) p
), job as (
    insert into jobs (id, owner_id, kind, phase, request, node_id, storage_id, node_uri, expires, destruction, shared,
                      token_id, scope)
    select a.id, a.owner, 'pull', 'EXECUTING', a.request, a.node, a.place, a.uri, now() + make_interval(secs => a.life),
           now() + make_interval(secs => a.destruction), a.shared, a.token, a.scope
      from asked a
     where a.place is not null
    returning id, expires
)
select j.expires, a.urls, a.storages from asked a left join job j on j.id = a.id order by a.number;

-- name: await_recall
-- Let the job $1, a pull of the node $3 at $4 that waited to be run, wait for bytes of a cold storage; endpoints of $5
-- seconds are made when they have come.
with job as (
    update jobs set phase = 'EXECUTING', request = $2::jsonb, node_id = $3, node_uri = $4, storage_id = null
     where id = $1 and phase = 'PENDING'
    returning id
), waiting as (
    insert into recalls (job_id, life) select id, $5 from job
)
select id from job;

-- name: insert_push
-- A negotiated push, to a server of a place with room for $13 bytes, for a client at the site $16: a new job, or one
-- that waited to be run. The row is empty if there is none, or the job does not wait. It fails if a quota leaves no room
-- for it now.
-- A new one need not wait for the disk: it is an offer, and who stores its bytes waits for both.
with quick as materialized (
    select set_config('synchronous_commit', 'off', true) where not exists (select from jobs where id = $1)
), place as materialized (
    select id, url, uuid
      from place_for_upload(coalesce((select k.id from containers k where k.id = $4), $5), $13, $16)
     where id is not null
), job as (
    insert into jobs (id, owner_id, kind, phase, request, node_id, parent_id, name, storage_id, node_uri, discard,
                      keep_properties, size_limit, expires, destruction, token_id, scope)
    select $1, $2, 'push', 'EXECUTING', $3::jsonb, $4, $5, $6, p.id, $7, $8, $9, $10,
           now() + make_interval(secs => $11), now() + make_interval(secs => $12), $14, $15::jsonb
      from place p
      left join quick on true
    on conflict (id) do update
       set phase = 'EXECUTING', request = excluded.request, node_id = excluded.node_id,
           parent_id = excluded.parent_id, name = excluded.name, storage_id = excluded.storage_id,
           node_uri = excluded.node_uri, discard = excluded.discard, keep_properties = excluded.keep_properties,
           size_limit = excluded.size_limit, expires = excluded.expires
     where jobs.phase = 'PENDING'
    returning expires
)
select j.expires, array[p.url] as urls, array[p.uuid::text] as storages,
       case when j.expires is not null and (select limited from space) and not $8 then
           admit_push($5, $4, coalesce($2, 0), $13)
       end as admitted
  from (select) asked
  left join place p on true
  left join job j on true;

-- name: insert_pushes
-- The same for several that are all new, as `insert_pulls`.
with asked as materialized (
    select a.*, p.id as place, p.url, p.uuid
      from (select set_config('synchronous_commit', 'off', true) || set_config('lock_timeout', '100ms', true) as said) quick,
           unnest(case when said is not null then $1::text[] end, $2::bigint[], $3::jsonb[], $4::bigint[], $5::bigint[],
                  $6::text[], $7::text[], $8::boolean[], $9::boolean[], $10::bigint[], $11::double precision[],
                  $12::double precision[], $13::bigint[], $14::bigint[], $15::jsonb[], $16::text[])
             with ordinality a (id, owner, request, node, parent, name, uri, discard, keep_properties, size_limit, life,
                                destruction, announced, token, scope, site, number),
           place_for_upload(
               coalesce((select k.id from containers k where k.id = a.node), a.parent), a.announced, a.site) p
), job as (
    insert into jobs (id, owner_id, kind, phase, request, node_id, parent_id, name, storage_id, node_uri, discard,
                      keep_properties, size_limit, expires, destruction, token_id, scope)
    select a.id, a.owner, 'push', 'EXECUTING', a.request, a.node, a.parent, a.name, a.place, a.uri, a.discard,
           a.keep_properties, a.size_limit, now() + make_interval(secs => a.life),
           now() + make_interval(secs => a.destruction), a.token, a.scope
      from asked a
     where a.place is not null
    returning id, expires
)
select j.expires, array[a.url] as urls, array[a.uuid::text] as storages,
       case when j.expires is not null and (select limited from space) and not a.discard then
           admit_push(a.parent, a.node, coalesce(a.owner, 0), a.announced)
       end as admitted
  from asked a
  left join job j on j.id = a.id
 order by a.number;

-- name: insert_failed
-- A transfer that was refused: its job, new or one that waited to be run, tells why.
insert into jobs (id, owner_id, kind, phase, request, fault, message, ended, destruction, token_id, scope)
values ($1, $2, $7, 'ERROR', $3::jsonb, $4, $5, now(), now() + make_interval(secs => $6), $8, $9::jsonb)
on conflict (id) do update
   set phase = 'ERROR', fault = excluded.fault, message = excluded.message, ended = now()
 where jobs.phase = 'PENDING';

-- name: select
-- The jobs $1 with the storages of their endpoints: a row for each, in their order, that is empty if there is none. While
-- the bytes of a push come, its lease knows since when.
select j.id, j.list, j.kind, j.owner_id, u.name as owner, j.phase, j.request, j.results, j.node_uri, j.node_id,
       j.parent_id, j.name, j.discard, j.fault, j.message, j.created,
       coalesce(j.started, (select w.began from writers w where w.job_id = j.id)) as started, j.ended, j.expires,
       j.destruction,
       coalesce(j.expires <= now(), false) as expired, j.destruction <= now() as destroyed, j.run_id,
       j.execution_duration, j.bytes_done, j.bytes_total, j.files_done, j.files_total, now() as "now",
       t.url as storage_url, t.uuid as storage, j.token_id, j.scope, s.epoch,
       (select count(*) from servers) > 1 as many_servers
  from unnest($1::text[]) with ordinality asked (id, number)
 cross join space s
  left join jobs j on j.id = asked.id
  left join users u on u.id = j.owner_id
  left join storages t on t.id = j.storage_id
 order by asked.number;

-- name: watch
-- Have phase changes of the job $1 told for $2 seconds from now. Longer if this needs a change: who comes soon after
-- need not change it again. Nobody waits for the disk: who waits would only ask again.
with quick as materialized (select set_config('synchronous_commit', 'off', true))
update jobs set watched = now() + make_interval(secs => 2 * $2)
  from quick
 where id = $1 and (watched is null or watched < now() + make_interval(secs => $2));

-- name: page
-- Up to $8 jobs of the owner $1 in the list $2, oldest first, created after $5, behind the job $7 created at $6.
-- Those past their destruction are shown for $4 seconds more, as ARCHIVED; the phases $3 are wanted. A token that may
-- not everything ($9) sees those that were made by it; another credential with a scope ($10) those made with the same.
select j.id, j.phase, j.run_id, j.created
  from (select id, run_id, created, case when destruction > now() then phase else 'ARCHIVED' end as phase
          from jobs
         where owner_id = $1 and list = $2 and destruction > now() - make_interval(secs => $4)
           and ($9::bigint is null or token_id = $9) and ($10::jsonb is null or token_id is null and scope = $10)
           and created > $5 and (created, id) > ($6, $7)) j
 where j.phase = any ($3::text[])
 order by j.created, j.id
 limit $8;

-- name: page_backwards
-- The same, newest first: those before the job $7 created at $6.
select j.id, j.phase, j.run_id, j.created
  from (select id, run_id, created, case when destruction > now() then phase else 'ARCHIVED' end as phase
          from jobs
         where owner_id = $1 and list = $2 and destruction > now() - make_interval(secs => $4)
           and ($9::bigint is null or token_id = $9) and ($10::jsonb is null or token_id is null and scope = $10)
           and created > $5 and (created, id) < ($6, $7)) j
 where j.phase = any ($3::text[])
 order by j.created desc, j.id desc
 limit $8;

-- name: queue
-- Hand the job $1, which its owner has not run yet, to the workers; whoever runs it looks for its end at once.
update jobs set phase = 'QUEUED', watched = now() + interval '10 seconds'
 where id = $1 and phase = 'PENDING'
returning id;

-- name: prepare
-- The same, with what it turned out to mean: the node $2, or the name $4 in the container $3, at the URI $5, the
-- storage $6.
update jobs
   set phase = 'QUEUED', watched = now() + interval '10 seconds', node_id = $2, parent_id = $3, name = $4, node_uri = $5,
       size_limit = $7, storage_id = (select id from storages where uuid = $6), keep_properties = $8
 where id = $1 and phase = 'PENDING' returning id;

-- name: set_run_id
update jobs set run_id = $2 where id = $1 and phase = 'PENDING' returning id;

-- name: set_destruction
-- Let the job $1 be forgotten at $2, but not before now nor before a shared endpoint expires, and not later than $3
-- seconds after it was made. No row: its time is over already.
update jobs
   set destruction = greatest(now(), least($2, created + make_interval(secs => $3)), case when shared then expires end)
 where id = $1 and destruction > now()
returning id;

-- name: set_duration
-- Let the job $1 execute for $2 seconds.
update jobs
   set execution_duration = $2,
       started = coalesce(started, (select w.began from writers w where w.job_id = $1 and jobs.phase = 'EXECUTING'))
 where id = $1 and phase in ('PENDING', 'QUEUED', 'EXECUTING', 'HELD', 'SUSPENDED')
returning id;

-- name: delete
-- Forget the job $1; whoever brings its bytes has no lease any more.
with job as (
    delete from jobs where id = $1 returning id
)
delete from writers w using job where w.job_id = job.id;

-- name: claim
-- The oldest job of the kinds $1 that waits for a worker, for the attempt $2 under a lease of $3 seconds, if the state
-- of the service lets jobs of that kind begin.
with next as (
    select id from jobs
     where phase = 'QUEUED' and destruction > now() and kind = any (array(select unnest(open_kinds($1::text[]))))
     order by created limit 1 for update skip locked
)
update jobs j
   set phase = 'EXECUTING', started = now(), attempt = $2, attempts = attempts + 1,
       until = now() + make_interval(secs => $3)
  from next
 where j.id = next.id
returning j.id, j.kind, j.owner_id, j.request, j.node_id, j.parent_id, j.name, j.node_uri, j.attempt, j.attempts,
          j.started, j.execution_duration, now() as "now", j.bytes_done, j.bytes_total, j.files_done, j.files_total,
          j.token_id, j.scope;

-- name: take_over
-- The same of a job whose worker is dead, unless $4 workers have tried.
with next as (
    select id from jobs
     where phase = 'EXECUTING' and attempt is not null and until < now() and attempts < $4 and destruction > now()
       and kind = any (array(select unnest(open_kinds($1::text[]))))
     order by until limit 1 for update skip locked
)
update jobs j
   set attempt = $2, attempts = attempts + 1, until = now() + make_interval(secs => $3)
  from next
 where j.id = next.id
returning j.id, j.kind, j.owner_id, j.request, j.node_id, j.parent_id, j.name, j.node_uri, j.attempt, j.attempts,
          j.started, j.execution_duration, now() as "now", j.bytes_done, j.bytes_total, j.files_done, j.files_total,
          j.token_id, j.scope;

-- name: renew
-- Go on with the attempt $1 for $2 seconds, and tell how far it is; what was noted in a transaction in this moment may
-- be more than the worker knows. No row: the job was taken away.
update jobs
   set until = now() + make_interval(secs => $2), bytes_done = $3, bytes_total = $4,
       files_done = greatest(files_done, $5), files_total = $6
 where attempt = $1 and phase = 'EXECUTING'
returning id;

-- name: advance
-- Note that the attempt $1 is done with $2 nodes. No row: the job was taken away.
update jobs set files_done = $2 where attempt = $1 and phase = 'EXECUTING' returning id;

-- name: give_back
-- Let another worker go on with the attempt $1 at once, and do not count it.
with job as (
    update jobs set until = now(), attempts = attempts - 1 where attempt = $1 and phase = 'EXECUTING' returning kind
)
select pg_notify('pyvospace_queue', kind) from job;

-- name: overrun
-- Abort the attempt $1 with the words $2 if it has executed for longer than it may.
update jobs set phase = 'ABORTED', ended = clock_timestamp(), message = $2
 where attempt = $1 and phase = 'EXECUTING' and execution_duration > 0
   and started <= now() - make_interval(secs => execution_duration);

-- name: finish
-- End the attempt $1 in the phase $2 with the results $3, the fault $4 and the words $5. No row: the job was taken
-- away.
update jobs
   set phase = $2, results = coalesce($3::jsonb, results), fault = $4, message = $5, ended = clock_timestamp(),
       attempt = null, until = null, bytes_done = $6, bytes_total = $7, files_done = $8, files_total = $9
 where attempt = $1 and phase = 'EXECUTING'
returning id;

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
-- Up to $1 jobs whose endpoints ran out unused; a share has done its duty. An upload that is under way is left alone.
with due as (
    select j.id from jobs j
     where j.phase = 'EXECUTING' and j.expires < now()
       and not exists (select from writers w where w.job_id = j.id and w.until > now())
     order by j.expires limit $1 for update skip locked
)
update jobs j
   set phase = case when j.shared then 'COMPLETED' else 'ABORTED' end, ended = now(),
       message = case when not j.shared then coalesce(message, 'the endpoint expired unused') end
  from due where j.id = due.id
returning j.id;

-- name: exceed
-- Up to $1 jobs that have executed for longer than they may: they end as by their owner's word.
with due as (
    select j.id from jobs j
     where j.phase = 'EXECUTING' and j.execution_duration > 0
       and j.started < now() - make_interval(secs => j.execution_duration)
     order by j.started limit $1 for update skip locked
), lease as (
    delete from writers w using due where w.job_id = due.id
)
update jobs j set phase = 'ABORTED', ended = now(), message = 'it has executed for longer than executionDuration'
  from due where j.id = due.id
returning j.id;

-- name: give_up
-- Up to $1 jobs that $2 workers have begun and none has ended.
with due as (
    select j.id from jobs j
     where j.phase = 'EXECUTING' and j.attempt is not null and j.until < now() and j.attempts >= $2
     order by j.until limit $1 for update skip locked
)
update jobs j
   set phase = 'ERROR', ended = now(), fault = 'InternalFault', attempt = null, until = null,
       message = 'Internal Fault: all workers that began this job have died'
  from due where j.id = due.id
returning j.id;

-- name: forsake
-- Up to $1 jobs of the kinds $2 whose worker is dead, and that nobody took over for $3 seconds.
with due as (
    select j.id from jobs j
     where j.phase = 'EXECUTING' and j.attempt is not null and j.until < now() - make_interval(secs => $3)
       and j.kind = any ($2::text[])
     order by j.until limit $1 for update skip locked
)
update jobs j
   set phase = 'ERROR', ended = now(), fault = 'InternalFault', attempt = null, until = null,
       message = 'Internal Fault: the server that did this job has died, and none took its place'
  from due where j.id = due.id
returning j.id;

-- name: archive
-- Up to $1 jobs past their destruction time: they are stopped, and their results are forgotten.
with due as (
    select id from jobs where destruction < now() and phase <> 'ARCHIVED'
     order by destruction limit $1 for update skip locked
), lease as (
    delete from writers w using due where w.job_id = due.id
)
update jobs j set phase = 'ARCHIVED', results = '[]', ended = coalesce(ended, now()) from due where j.id = due.id
returning j.id;

-- name: forget
-- Up to $1 jobs that were past their destruction time $2 seconds ago.
with due as (
    select id from jobs where destruction < now() - make_interval(secs => $2)
     order by destruction limit $1 for update skip locked
), lease as (
    delete from writers w using due where w.job_id = due.id
)
delete from jobs j using due where j.id = due.id returning j.id;

-- name: forget_oldest
-- Up to $2 of the ended jobs of each owner who has more than $1 of them, the oldest first; all who are anonymous count
-- as one.
with recursive owners as (
    (select owner_id from jobs where owner_id is not null order by owner_id limit 1)
     union all
    select (select j.owner_id from jobs j where j.owner_id > o.owner_id order by j.owner_id limit 1)
      from owners o
     where o.owner_id is not null
), due as (
    select d.id
      from owners o
     cross join lateral (select j.id from jobs j
                          where j.owner_id = o.owner_id and j.phase in ('COMPLETED', 'ERROR', 'ABORTED', 'ARCHIVED')
                          order by j.created desc, j.id desc offset $1 limit $2) d
     union all
    select d.id
      from (select j.id from jobs j
             where j.owner_id is null and j.phase in ('COMPLETED', 'ERROR', 'ABORTED', 'ARCHIVED')
             order by j.created desc, j.id desc offset $1 limit $2) d
)
delete from jobs j using due where j.id = due.id returning j.id;

-- name: forget_leases
-- Leases that nobody renewed and nobody took over.
delete from writers where until < now() - interval '1 hour';
