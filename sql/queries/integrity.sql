-- name: allow_scans
-- Until the transaction ends: whole tables are read, which no request may.
select set_config('enable_seqscan', 'on', true), set_config('enable_hashjoin', 'on', true),
       set_config('enable_mergejoin', 'on', true), set_config('plan_cache_mode', 'force_custom_plan', true),
       set_config('statement_timeout', '1h', true), set_config('lock_timeout', '1min', true);

-- name: lock_trees
-- Nobody deletes or moves trees until the transaction ends.
select pg_advisory_xact_lock(8411);

-- name: note_repairs
-- Write that the kinds $1 of damage were repaired, of the subjects $2.
select write_audit(a.actor, a.who, 'repair', null, null, null,
                   jsonb_build_object('kind', f.kind, 'subject', f.subject))
  from unnest($1::text[], $2::text[]) as f(kind, subject) cross join acting() a;

-- name: find_tree
-- Places of containers that do not follow from the tree of names. It has two roots: 1, and 0 of what is in the trash,
-- which is no node.
with recursive boxes as materialized (
    select id, parent_id, immutable from nodes where type = 'ContainerNode'
), way as (
    select id, id::text as path from (values (0::bigint), (1)) as root (id)
    union all
    select b.id, w.path || '.' || b.id from boxes b join way w on b.parent_id = w.id where length(w.path) < 5000
)
select case when w.id is null then 'unreachable' when c.id is null then 'place' else 'path' end as kind,
       coalesce(c.id, w.id)::text as subject,
       case when w.id is null then 'no way leads from the root to this container'
            when c.id is null then 'the container has no place in the tree'
            else format('its place is %s and should be %s', c.path, w.path) end as details
  from containers c full join way w on w.id = c.id
 where c.path::text is distinct from w.path
 order by 1, 2 limit $1;

-- name: mend_tree
with recursive boxes as materialized (
    select id, parent_id, immutable from nodes where type = 'ContainerNode'
), way as (
    select id, id::text as path, false as immutable from (values (0::bigint), (1)) as root (id)
    union all
    select b.id, w.path || '.' || b.id, b.immutable
      from boxes b join way w on b.parent_id = w.id where length(w.path) < 5000
), moved as (
    update containers c set path = w.path::ltree from way w where w.id = c.id and c.path::text <> w.path
    returning c.id
), made as (
    insert into containers (id, path, immutable)
    select w.id, w.path::ltree, w.immutable from way w where not exists (select from containers c where c.id = w.id)
    returning id
), gone as (
    delete from containers c
     where c.id <> 0 and not exists (select from boxes b where b.id = c.id)
       and not exists (select from nodes n where n.parent_id = c.id)
    returning id
)
select 'path' as kind, id::text as subject from moved
union all select 'place', id::text from made
union all select 'unreachable', id::text from gone;

-- name: find_immutable
select 'immutable' as kind, c.id::text as subject, 'its place says otherwise than the container' as details
  from containers c join nodes n on n.id = c.id where n.immutable <> c.immutable order by 2 limit $1;

-- name: mend_immutable
update containers c set immutable = n.immutable from nodes n where n.id = c.id and n.immutable <> c.immutable
returning 'immutable' as kind, c.id::text as subject;

-- name: find_facts
-- Nodes whose facts contradict each other.
select 'facts' as kind, n.id::text as subject,
       case when n.location is not null and s.id is null then format('its storage %s is unknown', n.storage_id)
            when u.id is null then format('its owner %s is unknown', n.owner_id)
            when p.id is not null then 'it is mutable in an immutable container'
            else 'size, digests, place and time of its bytes are there only in part, or it can have none' end as details
  from nodes n
  left join storages s on s.id = n.storage_id
  left join users u on u.id = n.owner_id
  left join nodes p on p.id = n.parent_id and p.immutable and not n.immutable
 where n.storage_id is not null and s.id is null or u.id is null or p.id is not null
    or num_nulls(n.size, n.md5, n.sha256, n.storage_id, n.location, n.stored_by, n.modified) not in (0, 7)
    or n.location is not null and n.type not like '%DataNode'
 order by n.id limit $1;

-- name: find_bytes
-- Names of the same bytes that do not agree on what they are.
select 'bytes' as kind, b.storage_id || ':' || b.location as subject,
       'nodes or versions with these bytes have different sizes or digests of them' as details
  from named_bytes b where b.size is not null
 group by b.storage_id, b.location
having count(*) > 1 and (min(b.size) <> max(b.size) or count(distinct b.sha256) > 1)
 order by 2 limit $1;

-- name: find_versions
select 'version' as kind, v.node_id || '/' || v.number as subject, 'its node is gone' as details
  from orphan_versions() v order by 2 limit $1;

-- name: mend_versions
with gone as (
    delete from versions v using orphan_versions() o where o.node_id = v.node_id and o.number = v.number returning v.*
)
select 'version' as kind, g.node_id || '/' || g.number as subject, turn_away(g.storage_id, g.location) from gone g;

-- name: find_kept
-- Nodes that say otherwise than their versions how many bytes these have.
select 'kept' as kind, n.id::text as subject,
       format('%s bytes of versions are counted, %s are there', n.kept, coalesce(v.bytes, 0)) as details
  from nodes n left join (select node_id, sum(size)::bigint as bytes from versions group by node_id) v on v.node_id = n.id
 where n.kept <> coalesce(v.bytes, 0) order by n.id limit $1;

-- name: mend_kept
with right_ones as (
    select n.id, coalesce(v.bytes, 0) as bytes
      from nodes n
      left join (select node_id, sum(size)::bigint as bytes from versions group by node_id) v on v.node_id = n.id
     where n.kept <> coalesce(v.bytes, 0) order by n.id for update of n
)
update nodes n set kept = r.bytes from right_ones r where r.id = n.id returning 'kept' as kind, n.id::text as subject;

-- name: find_segments
select 'segment' as kind, s.partial_id || '/' || s.start as subject, 'its upload is gone' as details
  from segments s where not exists (select from partials p where p.id = s.partial_id)
 order by 2 limit $1;

-- name: mend_segments
with gone as (
    delete from segments s where not exists (select from partials p where p.id = s.partial_id) returning s.*
)
select 'segment' as kind, g.partial_id || '/' || g.start as subject, turn_away(g.storage_id, g.location) from gone g;

-- name: find_replicas
select 'replica' as kind, r.at_storage || ':' || r.at_location as subject,
       format('nothing names its home %s:%s', r.storage_id, r.location) as details
  from replicas r
 where not is_named(r.storage_id, r.location)
   and not exists (select from obsolete o where o.storage_id = r.storage_id and o.location = r.location)
 order by 2 limit $1;

-- name: mend_replicas
with gone as (
    delete from replicas r
     where not is_named(r.storage_id, r.location)
       and not exists (select from obsolete o where o.storage_id = r.storage_id and o.location = r.location)
    returning r.*
)
select 'replica' as kind, g.at_storage || ':' || g.at_location as subject, turn_away(g.at_storage, g.at_location)
  from gone g;

-- name: find_copies
-- Data nodes with fewer copies than their policy asks for, an hour after their bytes came.
select 'copies' as kind, n.id::text as subject,
       format('%s of %s copies are there', 1 + r.number - d.number, p.replicas) as details
  from containers c
 cross join lateral policy_of(c.id) p
  join nodes n on n.parent_id = c.id
 cross join lateral (select count(*) as number from replicas r
                      where r.storage_id = n.storage_id and r.location = n.location) r
 cross join lateral (select count(*) as number from damages d
                      where d.storage_id = n.storage_id and d.location = n.location
                         or (d.storage_id, d.location) in (
                             select r.at_storage, r.at_location from replicas r
                              where r.storage_id = n.storage_id and r.location = n.location)) d
 where exists (select from policies x where x.replicas > 1)
   and p.replicas > 1 and n.location is not null and n.modified < now() - interval '1 hour'
   and 1 + r.number - d.number < p.replicas
 order by n.id limit $1;

-- name: find_jobs
-- Jobs that execute and that no worker has: nobody will ever end them.
select 'job' as kind, j.id as subject,
       case when j.attempt is null then 'it executes without a worker' else 'its worker is silent, and none took over' end
           as details
  from jobs j
 where j.phase = 'EXECUTING'
   and (j.attempt is null and j.kind not in ('push', 'pull')
        or j.attempt is not null and (j.until is null or j.until < now() - interval '10 minutes'))
 order by j.created limit $1;

-- name: mend_jobs
update jobs j
   set phase = 'ERROR', ended = now(), fault = 'InternalFault', attempt = null, until = null,
       message = 'Internal Fault: the server that did this job has died, and none took its place'
 where j.phase = 'EXECUTING'
   and (j.attempt is null and j.kind not in ('push', 'pull')
        or j.attempt is not null and (j.until is null or j.until < now() - interval '10 minutes'))
returning 'job' as kind, j.id as subject;

-- name: find_leases
select 'lease' as kind, w.attempt as subject, 'its job is gone' as details
  from writers w
 where w.until < now() - interval '10 minutes' and not exists (select from jobs j where j.id = w.job_id)
 order by 2 limit $1;

-- name: mend_leases
delete from writers w
 where w.until < now() - interval '10 minutes' and not exists (select from jobs j where j.id = w.job_id)
returning 'lease' as kind, w.attempt as subject;

-- name: find_limits
select kind, subject, details
  from (select 'quota' as kind, q.id::text as subject, 'its container is gone' as details
          from quotas q
         where q.container_id is not null and not exists (select from containers c where c.id = q.container_id)
        union all
        select 'policy', p.container_id::text, 'its container is gone'
          from policies p where not exists (select from containers c where c.id = p.container_id)
        union all
        select 'limited', 'space', 'it says otherwise than the quotas whether there are any'
          from space s where s.limited <> exists (select from quotas)) f
 order by 1, 2 limit $1;

-- name: mend_limits
with quota as (
    delete from quotas q
     where q.container_id is not null and not exists (select from containers c where c.id = q.container_id)
    returning q.id
), policy as (
    delete from policies p where not exists (select from containers c where c.id = p.container_id)
    returning p.container_id
), mark as (
    update space s set limited = not s.limited where s.limited <> exists (select from quotas) returning true
)
select 'quota' as kind, id::text as subject from quota
union all select 'policy', container_id::text from policy
union all select 'limited', 'space' from mark;

-- name: find_damages
-- What is said to be damaged, and is nothing that anybody has.
select 'damage' as kind, d.storage_id || ':' || d.location as subject, 'nothing names these bytes' as details
  from damages d where not is_named(d.storage_id, d.location) order by 2 limit $1;

-- name: mend_damages
delete from damages d where not is_named(d.storage_id, d.location)
returning 'damage' as kind, d.storage_id || ':' || d.location as subject;

-- name: find_storages
-- Storages with bytes that nobody serves.
select 'storage' as kind, s.id::text as subject,
       format('%s is silent since %s and has bytes', s.name, to_char(s.last_seen, 'YYYY-MM-DD"T"HH24:MI:SS')) as details
  from storages s
 where s.last_seen < now() - interval '30 seconds'
   and exists (select from named_bytes b where b.storage_id = s.id)
 order by s.id limit $1;

-- name: damaged
-- How many bytes are known to be damaged.
select count(*) from damages;

-- name: refuse_damaged
-- Fail if there are no good bytes of the node $1, or of its version $2, wherever.
select refuse_place(b.storage_id, b.location)
  from (select n.storage_id, n.location from nodes n where n.id = $1 and n.location is not null and $2::bigint is null
        union all
        select v.storage_id, v.location from versions v where v.node_id = $1 and v.number = $2) b
 where not has_good_place(b.storage_id, b.location);

-- name: fsck_begin
select storage_api.fsck_begin($1);

-- name: fsck_end
select storage_api.fsck_end($1, $2, $3);

-- name: fsck_listed
select * from storage_api.fsck_listed($1, $2, $3, $4);

-- name: fsck_missing
select * from storage_api.fsck_missing($1, $2, $3, $4);

-- name: bytes_at
select * from storage_api.bytes_at($1, $2);

-- name: unknown
select * from storage_api.unknown($1, $2);

-- name: take_unknown
select * from storage_api.take_unknown($1, $2, $3);

-- name: overdue
select * from storage_api.overdue($1, $2, $3);

-- name: note_obsolete
select storage_api.note_obsolete($1, $2);

-- name: take_obsolete
select * from storage_api.take_obsolete($1, $2, $3);

-- name: note_damage
select storage_api.note_damage($1, $2, $3, $4);

-- name: clear_damage
select storage_api.clear_damage($1, $2);

-- name: known_damages
select * from storage_api.damaged($1, $2, $3);

-- name: note_repair
select storage_api.note_repair($1, $2, $3, $4);

-- name: claim_scrub
select * from storage_api.claim_scrub($1, $2, $3, $4, $5);

-- name: renew_scrub
select storage_api.renew_scrub($1, $2, $3);

-- name: end_scrub
select storage_api.end_scrub($1, $2);
