-- What a push and a pull ask the database for, in fewer statements and with fewer entries of indexes.

-- The key locked the row of a storage, which all transfers share, in each negotiation. A storage is not forgotten as
-- long as jobs name it (places.sql); a job that comes in that moment has an endpoint that leads nowhere.
alter table jobs drop constraint jobs_storage_id_fkey;

-- Few jobs have a worker.
alter table jobs drop constraint jobs_attempt_key;
create unique index jobs_attempt on jobs (attempt) where attempt is not null;

-- One index for the lists of owners and for the ended jobs among them.
drop index jobs_owner;
drop index jobs_ended;
create index jobs_owner on jobs (owner_id, created, id) include (phase);

-- When the bytes of the lease's push first began to move: its job is told when they have come, or have failed to.
alter table writers add column began timestamptz not null default now();

-- What happens to a job is told in one place: each condition of a trigger is read anew by each statement.
drop trigger jobs_changed on jobs;
drop trigger jobs_queued on jobs;
drop trigger jobs_stored on jobs;
create trigger jobs_queued after insert on jobs
    for each row when (new.phase = 'QUEUED') execute function tell_workers();

-- Wake a worker for a job that waits for one; those who wait for another phase, and the worker whose job was taken from
-- it; and write that bytes have been stored. Nobody else is told: a transaction that notifies waits for all others that
-- do.
create function note_phase() returns trigger language plpgsql as $$
begin
    if new.phase = 'QUEUED' then
        perform pg_notify('pyvospace_queue', new.kind);
    end if;
    if new.phase <> old.phase and (new.watched > now() or new.attempt is not null and new.phase <> 'EXECUTING') then
        perform pg_notify('pyvospace_jobs', old.id);
    end if;
    if new.phase = 'COMPLETED' and new.kind in ('push', 'pull_to') and not new.discard
       and new.ended is distinct from old.ended then
        perform audit_stored(new);
    end if;
    return null;
end
$$;

drop function audit_stored();

-- Write that the bytes of a job have been stored, in one statement.
create function audit_stored(job jobs) returns void language plpgsql as $$
declare
    told jsonb := nullif(current_setting('pyvospace.caller', true), '');
begin
    insert into audit (user_id, name, credential, remote, request, action, node_id, path, owner_id, details)
    select coalesce(job.owner_id, 0), coalesce((select u.name from users u where u.id = job.owner_id), ''),
           'endpoint' || coalesce(' by token ' || job.token_id, ''),
           coalesce(told -> 'who' ->> 2, ''), coalesce(told -> 'who' ->> 3, ''),
           case when n.type = 'ContainerNode' then 'unpackArchive' else 'storeBytes' end, n.id,
           '/' || coalesce(w.names || '/', '') || n.name, n.owner_id,
           case when n.type = 'ContainerNode' then jsonb_build_object('nodes', told -> 'nodes', 'job', job.id)
                else jsonb_build_object('size', n.size, 'job', job.id) end
      from (select job.node_id) j
      left join nodes n on n.id = j.node_id
      left join containers k on k.id = n.parent_id
      left join lateral (
          select string_agg(a.name, '/' order by step.place) as names
            from unnest(string_to_array(k.path::text, '.')::bigint[]) with ordinality as step(node, place)
            join nodes a on a.id = step.node
           where step.place > 1) w on true;
end
$$;

create trigger jobs_turned after update of phase on jobs for each row execute function note_phase();

-- The job of a push, locked, unless it was withdrawn. If a use of its endpoint `begins` now, it may not have expired, nor
-- the token by which it was made; what began in time may take as long as it keeps its lease.
drop function live_push(text, bigint, integer);
create function live_push(of_job text, of_user bigint, of_storage integer, begins boolean default false) returns jobs
language plpgsql as $$
declare
    job jobs;
begin
    select * into job from jobs where id = of_job for update;
    if not found or job.name is null or job.owner_id is distinct from of_user
       or job.storage_id is distinct from of_storage then
        perform raise_fault('PermissionDenied', 'this endpoint was withdrawn; negotiate again');
    elsif job.phase = 'ABORTED' or job.phase = 'ERROR' then
        perform raise_fault('PermissionDenied', 'the transfer of this endpoint was aborted; negotiate again');
    elsif begins and job.expires <= now() then
        perform raise_fault('PermissionDenied', 'this endpoint has expired; negotiate again');
    end if;
    if job.token_id is not null then
        perform live_token(job.token_id, begins);
    end if;
    return job;
end
$$;

-- The same for a use of its endpoint that begins now.
create or replace function usable_push(of_job text, of_user bigint, of_storage integer) returns jobs
language plpgsql as $$
declare
    job jobs := live_push(of_job, of_user, of_storage, true);
begin
    -- What his groups are is asked where his rights are.
    if of_user is not null and not exists (select from users u where u.id = of_user and not u.disabled) then
        perform raise_fault('PermissionDenied', 'the user of this endpoint is not known any more');
    end if;
    return job;
end
$$;

-- The node that a push writes to, with the writer's rights checked now; NULL: it is still to be made. To be locked, its
-- container is shared first, as whoever changes nodes does: who deletes a tree locks them in this order too. What a
-- writer may without his groups he may with them: only who may not is asked for them.
create or replace function push_target(job jobs, lock boolean) returns nodes language plpgsql as $$
declare
    node nodes;
    c record;
    caller_groups text[] := '{}';
begin
    if job.node_id is null then
        if lock then
            perform from containers where id = job.parent_id and nlevel(path) <= 200 for share;
            if not found then
                perform raise_fault('ContainerNotFound', 'the container was deleted or moved meanwhile');
            end if;
            select * into node from nodes where parent_id = job.parent_id and name = job.name for update;
        else
            select * into node from nodes where parent_id = job.parent_id and name = job.name;
        end if;
    elsif lock then
        perform from nodes n join containers k on k.id = n.parent_id where n.id = job.node_id for share of k;
        select * into node from nodes where id = job.node_id for update;
        -- It may have been moved in this very moment: in this order nobody waits for its new container.
        perform from containers k where k.id = node.parent_id for share skip locked;
        if not found and node.id is not null then
            raise serialization_failure using message = 'the node was moved meanwhile';
        end if;
    else
        select * into node from nodes where id = job.node_id;
    end if;
    loop
        select u.id as caller, p.id as parent, coalesce(node.immutable, p.immutable) as immutable,
               coalesce(node.locked, p.locked) as locked,
               may_write(case when node.id is null then p.owner_id else node.owner_id end,
                         case when node.id is null then p.group_write else node.group_write end,
                         coalesce(u.id, 0), caller_groups, a.admin)
               and (select bool_and(may_read(n.owner_id, n.public, n.group_read, n.group_write,
                                             coalesce(u.id, 0), caller_groups, a.admin)) and min(n.id) = 1
                      from nodes n where n.id = any (string_to_array(k.path::text, '.')::bigint[])) as allowed
          into c
          from (select coalesce(node.parent_id, job.parent_id) as id) x
          left join containers k on k.id = x.id
          left join nodes p on p.id = x.id
          left join users u on u.id = job.owner_id and not u.disabled
         cross join lateral (
             select coalesce(u.admin and (job.scope is null or job.scope -> 'rights' ? 'admin'), false) as admin) a;
        exit when c.allowed or c.caller is null or caller_groups <> '{}';
        caller_groups := groups_of(c.caller);
        exit when caller_groups = '{}';
    end loop;
    if job.owner_id is not null and c.caller is null then
        perform raise_fault('PermissionDenied', 'the user of this endpoint is not known any more');
    elsif job.node_id is not null and node.id is null then
        perform raise_fault('NodeNotFound', 'the node was deleted meanwhile');
    elsif job.node_id is null and c.parent is null then
        perform raise_fault('ContainerNotFound', 'the container was deleted meanwhile');
    elsif c.allowed is not true then
        if exists (select from containers k where k.id = coalesce(node.parent_id, job.parent_id) and k.path < '1') then
            perform raise_fault('NodeNotFound', 'the node was deleted meanwhile');
        end if;
        perform raise_fault('PermissionDenied', 'the right to write there was withdrawn');
    elsif c.immutable then
        perform raise_fault('PermissionDenied', 'the node is immutable');
    elsif c.locked then
        perform raise_fault('NodeLocked', 'the node is locked');
    elsif node.id is not null and node.type not like '%DataNode' then
        perform raise_fault('DuplicateNode', 'there is a node of another type by now');
    end if;
    return node;
end
$$;

-- Every upload begins with a lease on the name it writes to: renewing one, or storing under it, goes on.
create or replace function refuse_writers() returns trigger language plpgsql as $$
begin
    if (select state from space) <> 'ReadWrite' then
        perform require_state(true);
    end if;
    return null;
end
$$;

-- Take the writer's lease of the node of a push, and reserve what it will need. `announced`: bytes that will come; if
-- nobody knows, they are reserved when they are there (storage_api.reserve), and `room` says how many that may be.
create or replace function take_lease(
    job jobs, node nodes, new_attempt text, lease double precision, announced bigint, out room bigint, out words text
) language plpgsql as $$
declare
    container bigint := coalesce(node.parent_id, job.parent_id);
    owner bigint := coalesce(node.owner_id, job.owner_id);
    freed bigint := freed_by_store(node);
    more_bytes bigint := greatest(coalesce(announced, 0) - freed, 0);
    more_nodes bigint := case when node.id is null then 1 else 0 end;
begin
    if owner is null then
        owner := (select p.owner_id from nodes p where p.id = job.parent_id);
    end if;
    insert into writers (parent_id, name, job_id, attempt, until, owner_id, reserved_bytes, reserved_nodes, path)
    values (container, coalesce(node.name, job.name), job.id, new_attempt, now() + make_interval(secs => lease), owner,
            more_bytes, more_nodes, (select k.path from containers k where k.id = container))
    on conflict (parent_id, name) do update
       set job_id = excluded.job_id, attempt = excluded.attempt, until = excluded.until, owner_id = excluded.owner_id,
           reserved_bytes = excluded.reserved_bytes, reserved_nodes = excluded.reserved_nodes, path = excluded.path,
           began = case when writers.job_id = excluded.job_id then writers.began else excluded.began end
     where writers.until < now() or writers.job_id = excluded.job_id;
    if not found then
        perform raise_fault('NodeBusy', 'another transfer is writing to this node');
    end if;
    if (select limited from space) then
        perform require_quotas(array[container], array[owner], more_bytes, more_nodes, job.owner_id);
        if announced is null then
            select greatest(r.room, 0) + freed, r.words into room, words
              from quota_room(container, owner, job.owner_id) r where r.room is not null;
        end if;
    end if;
end
$$;

-- Take the writer's lease. The loss of this row in a crash of the database costs an upload its lease and nothing
-- else, so that it need not wait for the disk. The job is told when its bytes began to move if it may not execute for
-- long, or has no lease; else its lease knows.
drop function storage_api.claim_upload(uuid, text, bigint, text, double precision, bigint, double precision);
create function storage_api.claim_upload(
    of_uuid uuid, of_job text, of_user bigint, new_attempt text, lease double precision,
    announced bigint, repeat_window double precision
) returns table (size_limit bigint, discard boolean, location text, size bigint, md5 bytea, sha256 bytea,
                 content_type text, room bigint, words text, structured boolean, view text)
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    job jobs;
    node nodes;
begin
    perform set_config('synchronous_commit', 'off', true);
    job := live_push(of_job, of_user, own_storage(of_uuid), true);
    if job.phase = 'COMPLETED' and job.ended < now() - make_interval(secs => repeat_window) then
        perform raise_fault('EndpointUsed', 'the bytes are there already; negotiate again to replace them');
    elsif announced > job.size_limit then
        perform raise_fault('RequestEntityTooLarge',
                            format('%s bytes are more than the limit of %s', announced, job.size_limit));
    end if;
    if job.discard then
        perform caller_of(of_user);
    else
        node := push_target(job, false);
        select l.room, l.words into claim_upload.room, claim_upload.words
          from take_lease(job, node, new_attempt, lease, announced) l;
    end if;
    if job.started is null and (job.discard or job.execution_duration > 0) then
        update jobs set started = now() where id = of_job;
    end if;
    size_limit := job.size_limit;
    discard := job.discard;
    location := node.location;
    size := node.size;
    md5 := node.md5;
    sha256 := node.sha256;
    content_type := node.properties ->> 'ivo://ivoa.net/vospace/core#type';
    structured := coalesce(job.node_id is not null and node.type = 'StructuredDataNode', false);
    view := job.request -> 'view' ->> 'uri';
    return next;
end
$$;

-- Give a lease back after a failure; the job goes on waiting for its bytes.
create or replace function storage_api.release(of_attempt text, reason text) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    held writers;
begin
    perform set_config('synchronous_commit', 'off', true);
    select * into held from writers where attempt = of_attempt;
    -- The job before the lease, as in all that locks both: the client may be trying again at this moment.
    perform from jobs where id = held.job_id for update;
    delete from writers where attempt = of_attempt;
    if found then
        update jobs set message = left(reason, 1000), started = coalesce(started, held.began)
         where id = held.job_id and phase = 'EXECUTING';
    end if;
end
$$;

-- Turn the node to new bytes, or make it with them, and complete the job. `new_time` and `new_mode` are what their
-- sender says of his file.
create or replace function storage_api.store(
    of_uuid uuid, of_job text, of_user bigint, of_attempt text, new_location text, new_size bigint,
    new_md5 bytea, new_sha256 bytea, new_type text, new_time text default null, new_mode text default null
) returns void language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    job jobs := live_push(of_job, of_user, of_storage);
    node nodes;
    held writers;
    more_bytes bigint;
    more_nodes bigint := 0;
    moment timestamptz;
    made boolean := false;
begin
    if not job.discard then
        select * into held from writers where attempt = of_attempt for update;
        if not found then
            perform raise_fault('NodeBusy', 'another transfer took this node over');
        end if;
        perform hold_homes();
        loop
            node := push_target(job, true);
            -- Not now(), which is when the transaction began: who waited for the node writes a later time.
            moment := clock_timestamp();
            exit when node.id is not null;
            insert into nodes (parent_id, name, type, owner_id, public, group_read, group_write, size, md5, sha256,
                               storage_id, location, stored_by, changed, modified, properties)
            select p.id, job.name, 'DataNode', coalesce(job.owner_id, p.owner_id), p.inherit and p.public,
                   case when p.inherit then p.group_read else '{}' end,
                   case when p.inherit then p.group_write else '{}' end, new_size, new_md5, new_sha256, of_storage,
                   new_location, coalesce(job.owner_id, 0), moment, moment,
                   properties_with_bytes('{}', false, new_type, new_time, new_mode)
              from nodes p where p.id = job.parent_id
            on conflict (parent_id, name) do nothing
            returning * into node;
            made := node.id is not null;
            exit when made;
            -- Somebody made it in the same moment: his node, if we may, unless it is gone again.
        end loop;
        if made then
            more_bytes := new_size;
            more_nodes := 1;
        else
            -- Bytes that become a version stay: only those that go make room.
            more_bytes := greatest(new_size - freed_by_store(node), 0);
            perform part_with_bytes(node);
            update nodes
               set size = new_size, md5 = new_md5, sha256 = new_sha256, storage_id = of_storage,
                   location = new_location, stored_by = coalesce(job.owner_id, 0), changed = moment,
                   modified = moment,
                   properties = properties_with_bytes(properties, job.keep_properties, new_type, new_time, new_mode)
             where id = node.id;
        end if;
        delete from writers where attempt = of_attempt;
        -- The container has the same id when another one that it is in has been moved; its row is shared by now.
        if held.until < now() or (held.parent_id, held.owner_id) is distinct from (node.parent_id, node.owner_id)
           or held.path is distinct from (select k.path from containers k where k.id = node.parent_id)
           or more_bytes > held.reserved_bytes or more_nodes > held.reserved_nodes then
            perform require_quotas(array[node.parent_id], array[node.owner_id], more_bytes, more_nodes, job.owner_id);
        end if;
    end if;
    update jobs
       set phase = 'COMPLETED', ended = clock_timestamp(), started = coalesce(started, held.began, now()),
           message = null, node_id = node.id
     where id = of_job;
end
$$;

-- Where the bytes of a node are, if the caller may still read them: here, at home or as a copy. Who may read without
-- his groups may with them: only who may not is asked for them.
create or replace function storage_api.claim_download(of_uuid uuid, of_node bigint, of_job text, of_user bigint,
                                                      of_token bigint)
returns table (name text, modified timestamptz, location text, size bigint, md5 bytea, sha256 bytea,
               content_type text, waiting boolean)
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    node nodes;
    job jobs;
    c record;
    caller_groups text[] := '{}';
begin
    if of_token is not null then
        perform live_token(of_token, true);
    end if;
    if of_job is not null then
        select * into job from jobs where id = of_job;
        if not found or job.name is not null or job.owner_id is distinct from of_user
           or job.node_id is distinct from of_node or job.phase not in ('EXECUTING', 'COMPLETED')
           or job.expires <= now() then
            perform raise_fault('PermissionDenied', 'this endpoint was withdrawn; negotiate again');
        elsif job.token_id is not null then
            perform live_token(job.token_id, true);
        end if;
    end if;
    select * into node from nodes where id = of_node;
    loop
        select u.id as caller,
               may_read(node.owner_id, node.public, node.group_read, node.group_write,
                        coalesce(u.id, 0), caller_groups, coalesce(u.admin, false))
               and (select bool_and(may_read(n.owner_id, n.public, n.group_read, n.group_write,
                                             coalesce(u.id, 0), caller_groups, coalesce(u.admin, false)))
                           and min(n.id) = 1
                      from nodes n where n.id = any (string_to_array(k.path::text, '.')::bigint[])) as allowed
          into c
          from (select node.parent_id as id) x
          left join containers k on k.id = x.id
          left join users u on u.id = of_user and not u.disabled;
        exit when c.allowed or c.caller is null or caller_groups <> '{}';
        caller_groups := groups_of(c.caller);
        exit when caller_groups = '{}';
    end loop;
    if of_user is not null and c.caller is null then
        perform raise_fault('PermissionDenied', 'the user of this endpoint is not known any more');
    elsif node.id is null then
        perform raise_fault('NodeNotFound', 'the node was deleted meanwhile');
    elsif c.allowed is not true then
        perform raise_fault('PermissionDenied', 'the right to read was withdrawn');
    end if;
    if node.location is not null then
        location := place_at(node.storage_id, node.location, of_storage);
        if location is null then
            perform refuse_place(node.storage_id, node.location);
        end if;
    end if;
    name := node.name;
    modified := coalesce(node.modified, node.created);
    size := coalesce(node.size, 0);
    md5 := node.md5;
    sha256 := node.sha256;
    content_type := node.properties ->> 'ivo://ivoa.net/vospace/core#type';
    waiting := coalesce(job.phase = 'EXECUTING', false);
    return next;
end
$$;

revoke all on all functions in schema storage_api from public;
grant execute on all functions in schema storage_api to pyvospace_storage;
