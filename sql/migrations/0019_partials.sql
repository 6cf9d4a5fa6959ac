-- Uploads that come in more than one request: each part is bytes of its own until all are there.

-- The user who brings it. 0: nobody has said who he is.
alter table partials add column user_id bigint not null default 0;
-- Bytes that are there.
alter table partials add column received bigint not null default 0;
-- Bytes that will be there when the request that runs now is through, if it says how many it brings.
alter table partials add column promised bigint not null default 0;
-- Media type of the whole. NULL: the client names none.
alter table partials add column content_type text;
-- What the client says of it, as he wrote it; given back to him.
alter table partials add column metadata text not null default '';
-- It never becomes a node itself: others are put together from it.
alter table partials add column part boolean not null default false;
-- Upload-Concat, as the client wrote it.
alter table partials add column concat text not null default '';
-- It is put together from these, in this order. NULL: its bytes are its own.
alter table partials add column parts text[];
-- The container that quotas look at, as it was when bytes came last.
alter table partials add column container_id bigint;
-- Who will own the node, likewise.
alter table partials add column owner_id bigint;
-- Bytes that quotas count: those that are there beyond what they will replace.
alter table partials add column reserved bigint not null default 0;
-- The request that writes to it: the fence. NULL: none.
alter table partials add column attempt text;
-- End of its lease, unless it is renewed. Whoever makes the whole has a lease of the node instead.
alter table partials add column until timestamptz;
-- Digests of all bytes so far. NULL: not known.
alter table partials add column md5 bytea;
-- The same as SHA-256.
alter table partials add column sha256 bytea;
-- When it became the node's bytes. NULL: it has not.
alter table partials add column finished timestamptz;
create index partials_user on partials (user_id) where finished is null;
create index partials_attempt on partials (attempt) where attempt is not null;

create trigger partials_state before insert on partials for each statement execute function refuse_writers();

-- Where the request that brought it began: what is taken back is taken back by whole requests.
alter table segments add column request bigint not null default 0;
-- Digests of all bytes up to its end. NULL: not known.
alter table segments add column md5 bytea;
-- The same as SHA-256.
alter table segments add column sha256 bytea;

-- What is there, what uploads that are under way have reserved, and what has come of those that are not complete. A
-- lease that is over counts for longer than a transaction may take: who began to store in time may be about to commit.
create or replace function taken_of(q quotas, out bytes bigint, out nodes bigint) language plpgsql stable as $$
begin
    select u.bytes + coalesce(r.bytes, 0), u.nodes + coalesce(r.nodes, 0) into taken_of.bytes, taken_of.nodes
      from used_of(q) u
     cross join lateral (
         select sum(w.bytes)::bigint as bytes, sum(w.nodes)::bigint as nodes
           from (select reserved_bytes as bytes, reserved_nodes as nodes, parent_id, owner_id
                   from writers
                  where until > now() - interval '2 minutes' and (reserved_bytes > 0 or reserved_nodes > 0)
                 union all
                 select reserved, 0, container_id, owner_id from partials where reserved > 0) w
          where case when q.container_id is not null then exists (
                         select from containers c join containers top on top.id = q.container_id
                          where c.id = w.parent_id and c.path >= top.path and c.path < (top.path::text || '0')::ltree)
                     when q.user_id is not null then w.owner_id = q.user_id
                     else w.owner_id in (select members_of(q.group_uri)) end
     ) r;
end
$$;

-- The job of an upload in parts, locked, with the rights of its owner checked now.
create function job_of_partial(of_uuid uuid, of_id text) returns jobs language plpgsql as $$
declare
    of_storage integer := own_storage(of_uuid);
    of_job text := (select p.job_id from partials p
                     where p.id = of_id and p.storage_id = of_storage and p.expires > now());
    job jobs;
begin
    if of_job is null then
        perform raise_fault('NotFound', 'there is no such upload, or not any more');
    end if;
    job := live_push(of_job, (select j.owner_id from jobs j where j.id = of_job), of_storage);
    perform caller_of(job.owner_id);
    if not job.discard then
        perform push_target(job, false);
    end if;
    return job;
end
$$;

-- Whether a request writes to it, or makes the whole of it.
create function is_busy(p partials) returns boolean language plpgsql stable as $$
begin
    return p.attempt is not null and (
        coalesce(p.until > now(), false)
        or exists (select from writers w where w.attempt = p.attempt and w.until > now()));
end
$$;

-- An upload in parts, locked, if nobody else is at it. Its job is locked before.
create function idle_partial(of_id text) returns partials language plpgsql as $$
declare
    p partials;
begin
    select * into p from partials where id = of_id for update;
    if not found then
        perform raise_fault('NotFound', 'there is no such upload, or not any more');
    elsif is_busy(p) then
        perform raise_fault('UploadBusy', 'another request is writing to this upload');
    end if;
    return p;
end
$$;

-- The bytes of a segment are of no use any more. Nobody else ever read them, so they may go at once.
create function drop_segments(of_partial text, from_request bigint, but text) returns void language plpgsql as $$
begin
    perform turn_away(s.storage_id, s.location)
       from segments s
      where s.partial_id = of_partial and s.request >= from_request and s.location is distinct from but;
    update obsolete o set since = '-infinity'
      from segments s
     where s.partial_id = of_partial and s.request >= from_request and s.location is distinct from but
       and o.storage_id = s.storage_id and o.location = s.location;
    delete from segments where partial_id = of_partial and request >= from_request;
end
$$;

-- Bytes of somebody's uploads that are not complete.
create function unfinished_of(of_user bigint, out bytes bigint, out number bigint) language plpgsql stable as $$
begin
    select coalesce(sum(greatest(p.received, p.promised)), 0), count(*) into bytes, number
      from partials p where p.user_id = of_user and p.finished is null and p.expires > now();
end
$$;

-- Begin an upload in parts. `most_bytes`, `most_number`: that one user may have unfinished.
create function storage_api.begin_partial(
    of_uuid uuid, of_job text, of_user bigint, new_id text, new_size bigint, new_type text, new_metadata text,
    is_part boolean, of_parts text[], new_concat text, life double precision, repeat_window double precision, most_bytes bigint,
    most_number bigint
) returns void language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    job jobs;
    node nodes;
    theirs record;
    total bigint := new_size;
begin
    perform set_config('synchronous_commit', 'off', true);
    job := usable_push(of_job, of_user, of_storage);
    if job.phase = 'COMPLETED' and job.ended < now() - make_interval(secs => repeat_window) then
        perform raise_fault('EndpointUsed', 'the bytes are there already; negotiate again to replace them');
    end if;
    if of_parts is not null then
        if exists (select from unnest(of_parts) as x left join partials p
                       on p.id = x and p.job_id = of_job and p.part and p.finished is null and p.expires > now()
                          and p.received = p.size
                    where p.id is null) then
            perform raise_fault('InvalidArgument', 'a part is not there, is not complete, or is of another transfer');
        end if;
        total := (select coalesce(sum(p.size), 0) from partials p where p.id = any (of_parts));
    end if;
    if total > job.size_limit then
        perform raise_fault('RequestEntityTooLarge',
                            format('%s bytes are more than the limit of %s', total, job.size_limit));
    end if;
    if not job.discard then
        node := push_target(job, false);
        if of_parts is null then
            perform admit_push(coalesce(node.parent_id, job.parent_id), node.id, coalesce(job.owner_id, 0), total);
        end if;
    end if;
    perform pg_advisory_xact_lock(8419, (coalesce(of_user, 0) % 2147483647)::integer);
    select * into theirs from unfinished_of(coalesce(of_user, 0));
    if theirs.number >= most_number then
        perform raise_fault('QuotaExceeded', format('%s uploads are unfinished already', theirs.number));
    elsif of_parts is null and theirs.bytes + coalesce(new_size, 0) > most_bytes then
        perform raise_fault('QuotaExceeded', format('more than %s bytes in unfinished uploads', most_bytes));
    end if;
    insert into partials (id, job_id, storage_id, size, expires, user_id, content_type, metadata, part, parts,
                          concat)
    values (new_id, of_job, of_storage, total, now() + make_interval(secs => life), coalesce(of_user, 0), new_type,
            new_metadata, is_part, of_parts, new_concat);
    update jobs
       set started = coalesce(started, now()), expires = greatest(expires, now() + make_interval(secs => life)),
           destruction = greatest(destruction, now() + make_interval(secs => life))
     where id = of_job;
end
$$;

-- What is known of an upload in parts.
create function storage_api.partial(of_uuid uuid, of_id text)
returns table (job_id text, user_id bigint, node_id bigint, size bigint, received bigint, expires timestamptz,
               finished boolean, part boolean, final boolean, concat text, metadata text, content_type text,
               md5 bytea, sha256 bytea)
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    job jobs := job_of_partial(of_uuid, of_id);
begin
    return query
    select p.job_id, job.owner_id, job.node_id, p.size, p.received, p.expires, p.finished is not null, p.part,
           p.parts is not null, p.concat, p.metadata, p.content_type, p.md5, p.sha256
      from partials p where p.id = of_id;
end
$$;

-- Bytes that quotas count of an upload in parts, and for whom: beyond what they will replace.
create function count_partial(job jobs, of_id text, node nodes) returns void language plpgsql as $$
declare
    container bigint := coalesce(node.parent_id, job.parent_id);
    owner bigint := coalesce(node.owner_id, job.owner_id, (select p.owner_id from nodes p where p.id = job.parent_id));
    old partials;
    more bigint;
begin
    if job.discard then
        return;
    end if;
    select * into old from partials where id = of_id;
    more := greatest(greatest(old.received, old.promised) - coalesce(node.size, 0), 0);
    update partials set reserved = more, container_id = container, owner_id = owner where id = of_id;
    if more > old.reserved then
        perform require_quotas(array[container], array[owner], more - old.reserved, 0, job.owner_id);
    end if;
end
$$;

-- Let a request write behind what is there. `announced`: bytes that it brings. NULL: it does not say.
create function storage_api.claim_segment(
    of_uuid uuid, of_id text, new_attempt text, lease double precision, at_offset bigint, told_size bigint,
    announced bigint, life double precision, most_bytes bigint
) returns table (size_limit bigint, room bigint, words text)
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    job jobs;
    p partials;
    node nodes;
    theirs record;
    quota record;
    after bigint := at_offset + coalesce(announced, 0);
begin
    perform set_config('synchronous_commit', 'off', true);
    perform require_state(true);
    job := job_of_partial(of_uuid, of_id);
    p := idle_partial(of_id);
    if p.parts is not null then
        perform raise_fault('PermissionDenied', 'this upload is put together from others');
    elsif p.finished is not null or p.received <> at_offset then
        perform raise_fault('OffsetMismatch', format('%s bytes are there', p.received));
    elsif told_size <> coalesce(p.size, told_size) or told_size < p.received then
        perform raise_fault('InvalidArgument', 'the length was another one before, or less has come already');
    end if;
    p.size := coalesce(p.size, told_size);
    if after > p.size then
        perform raise_fault('RequestEntityTooLarge', format('the upload has %s bytes', p.size));
    elsif greatest(after, p.size) > job.size_limit then
        perform raise_fault('RequestEntityTooLarge', format('more than the limit of %s bytes', job.size_limit));
    end if;
    perform pg_advisory_xact_lock(8419, (p.user_id % 2147483647)::integer);
    select * into theirs from unfinished_of(p.user_id);
    if theirs.bytes + coalesce(announced, 0) > most_bytes then
        perform raise_fault('QuotaExceeded', format('more than %s bytes in unfinished uploads', most_bytes));
    end if;
    update partials
       set attempt = new_attempt, until = now() + make_interval(secs => lease), promised = after, size = p.size,
           expires = now() + make_interval(secs => life)
     where id = of_id;
    select null::bigint as room, null::text as words into quota;
    if not job.discard then
        node := push_target(job, false);
        perform count_partial(job, of_id, node);
        if announced is null then
            select greatest(r.room, 0) + greatest(coalesce(node.size, 0) - at_offset, 0) as room, r.words into quota
              from quota_room(coalesce(node.parent_id, job.parent_id), coalesce(node.owner_id, job.owner_id),
                              job.owner_id) r where r.room is not null;
        end if;
    end if;
    return query select least(coalesce(p.size, job.size_limit, most_bytes + at_offset) - at_offset,
                              most_bytes - theirs.bytes), quota.room, quota.words;
end
$$;

-- Extend the lease of a request that writes; false: it was lost.
create function storage_api.renew_segment(of_uuid uuid, of_id text, of_attempt text, lease double precision)
returns boolean language plpgsql security definer set search_path = public, pg_temp as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    update partials p set until = now() + make_interval(secs => lease)
      from jobs j
     where p.id = of_id and p.storage_id = own_storage(of_uuid) and p.attempt = of_attempt and j.id = p.job_id
       and j.phase in ('EXECUTING', 'COMPLETED');
    return found;
end
$$;

-- Give it back after a failure.
create function storage_api.release_segment(of_uuid uuid, of_id text, of_attempt text) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    update partials
       set attempt = null, until = null, promised = 0,
           reserved = greatest(reserved - greatest(promised - received, 0), 0)
     where id = of_id and storage_id = own_storage(of_uuid) and attempt = of_attempt;
end
$$;

-- Have so many bytes of a request counted that did not say how many it brings.
create function storage_api.reserve_segment(of_uuid uuid, of_id text, of_attempt text, new_size bigint) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    job jobs := job_of_partial(of_uuid, of_id);
begin
    perform set_config('synchronous_commit', 'off', true);
    update partials set promised = received + new_size where id = of_id and attempt = of_attempt;
    perform count_partial(job, of_id, case when not job.discard then push_target(job, false) end);
end
$$;

-- Keep what a request has brought: from here on it is not lost.
create function storage_api.store_segment(
    of_uuid uuid, of_id text, of_attempt text, of_request bigint, new_location text, new_size bigint, new_md5 bytea,
    new_sha256 bytea, life double precision
) returns void language plpgsql security definer set search_path = public, pg_temp as $$
declare
    job jobs := job_of_partial(of_uuid, of_id);
    p partials;
begin
    select * into p from partials where id = of_id for update;
    if p.attempt is distinct from of_attempt then
        perform raise_fault('UploadBusy', 'another request took this upload over');
    end if;
    insert into segments (partial_id, start, size, storage_id, location, request, md5, sha256)
    values (of_id, p.received, new_size, p.storage_id, new_location, of_request, new_md5, new_sha256);
    update partials
       set received = p.received + new_size, promised = 0, attempt = null, until = null, md5 = new_md5,
           sha256 = new_sha256, expires = now() + make_interval(secs => life)
     where id = of_id;
    perform count_partial(job, of_id, case when not job.discard then push_target(job, false) end);
    update jobs
       set expires = greatest(expires, now() + make_interval(secs => life)),
           destruction = greatest(destruction, now() + make_interval(secs => life))
     where id = job.id;
end
$$;

-- Take back what the last request has brought; gives the bytes that are left.
create function storage_api.revert_partial(of_uuid uuid, of_id text) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    job jobs := job_of_partial(of_uuid, of_id);
    p partials := idle_partial(of_id);
    last bigint := (select max(s.request) from segments s where s.partial_id = of_id);
begin
    if last is null or p.finished is not null then
        perform raise_fault('InvalidArgument', 'nothing has come that could be taken back');
    end if;
    perform drop_segments(of_id, last, null);
    update partials
       set received = last,
           md5 = (select s.md5 from segments s where s.partial_id = of_id order by s.start desc limit 1),
           sha256 = (select s.sha256 from segments s where s.partial_id = of_id order by s.start desc limit 1)
     where id = of_id;
    perform count_partial(job, of_id, case when not job.discard then push_target(job, false) end);
    return last;
end
$$;

-- Forget an upload in parts that will not be complete.
create function storage_api.drop_partial(of_uuid uuid, of_id text) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    p partials;
begin
    if not exists (select from partials q
                    where q.id = of_id and q.storage_id = own_storage(of_uuid) and q.expires > now()) then
        perform raise_fault('NotFound', 'there is no such upload, or not any more');
    end if;
    p := idle_partial(of_id);
    perform drop_segments(of_id, 0, null);
    delete from partials where id = of_id;
end
$$;

-- Forget up to `at_most` uploads whose time is over, or whose job has ended otherwise; gives how many these were.
create function storage_api.drop_expired(of_uuid uuid, at_most integer) returns integer
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    p partials;
    number integer := 0;
begin
    for p in
        select * from partials x
         where x.storage_id = of_storage and not is_busy(x)
           and (x.expires <= now()
                or not exists (select from jobs j where j.id = x.job_id and j.phase in ('EXECUTING', 'COMPLETED')))
         limit at_most for update skip locked
    loop
        perform drop_segments(p.id, 0, null);
        delete from partials where id = p.id;
        number := number + 1;
    end loop;
    return number;
end
$$;

-- Where the bytes are of which a whole is made, in their order.
create function storage_api.segments_of(of_uuid uuid, of_id text) returns table (location text, size bigint)
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
begin
    return query
    select s.location, s.size
      from partials p
     cross join lateral unnest(coalesce(p.parts, array[p.id])) with ordinality as x(id, place)
      join segments s on s.partial_id = x.id
     where p.id = of_id and p.storage_id = of_storage
     order by x.place, s.start;
end
$$;

-- Take the writer's lease of the node that an upload becomes. Its bytes are counted as those of the node from here on.
create function storage_api.claim_whole(
    of_uuid uuid, of_id text, new_attempt text, lease double precision, repeat_window double precision
) returns table (size_limit bigint, discard boolean, location text, size bigint, md5 bytea, sha256 bytea,
                 content_type text, room bigint, words text)
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    job jobs;
    p partials;
    node nodes;
    source text;
begin
    perform set_config('synchronous_commit', 'off', true);
    job := job_of_partial(of_uuid, of_id);
    p := idle_partial(of_id);
    if p.finished is not null
       or job.phase = 'COMPLETED' and job.ended < now() - make_interval(secs => repeat_window) then
        perform raise_fault('EndpointUsed', 'the bytes are there already; negotiate again to replace them');
    elsif p.part or p.size is null or p.parts is null and p.received <> p.size then
        perform raise_fault('InvalidArgument', 'not all bytes have come');
    end if;
    for source in select x from unnest(p.parts) as x group by x order by x loop
        perform idle_partial(source);
    end loop;
    update partials set attempt = new_attempt, until = null, reserved = 0 where id = of_id or id = any (p.parts);
    if not job.discard then
        node := push_target(job, false);
        perform take_lease(job, node, new_attempt, lease, p.size);
    end if;
    return query select job.size_limit, job.discard, node.location, node.size, node.md5, node.sha256,
                        node.properties ->> 'ivo://ivoa.net/vospace/core#type', null::bigint, null::text;
end
$$;

-- Give the lease of a whole back after a failure: the bytes are parts as before.
create function storage_api.release_whole(of_attempt text, reason text) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    perform storage_api.release(of_attempt, reason);
    update partials set attempt = null, reserved = received where attempt = of_attempt and finished is null;
end
$$;

-- Turn the node to the whole: to its only segment, or to what was made of several.
create function storage_api.store_whole(
    of_uuid uuid, of_id text, of_attempt text, new_location text, new_size bigint, new_md5 bytea, new_sha256 bytea,
    new_type text, life double precision
) returns void language plpgsql security definer set search_path = public, pg_temp as $$
declare
    job jobs := job_of_partial(of_uuid, of_id);
    p partials;
    source text;
begin
    select * into p from partials where id = of_id for update;
    if p.attempt is distinct from of_attempt then
        perform raise_fault('UploadBusy', 'another request took this upload over');
    elsif new_size <> p.size then
        raise exception 'the whole has % bytes, its parts %', new_size, p.size;
    end if;
    perform storage_api.store(of_uuid, job.id, job.owner_id, of_attempt, new_location, new_size, new_md5, new_sha256,
                              new_type);
    foreach source in array coalesce(p.parts, array[of_id]) loop
        perform drop_segments(source, 0, new_location);
        delete from partials where id = source and id <> of_id;
    end loop;
    update partials
       set finished = now(), received = size, promised = 0, reserved = 0, attempt = null, until = null,
           md5 = new_md5, sha256 = new_sha256, expires = now() + make_interval(secs => life)
     where id = of_id;
end
$$;

revoke all on all functions in schema storage_api from public;
grant execute on all functions in schema storage_api to pyvospace_storage;
