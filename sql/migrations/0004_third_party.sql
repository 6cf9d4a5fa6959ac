-- Transfers that the service drives itself: jobs of the storage servers.

-- Take the oldest job that waits for a storage server, or (`lost`) one whose worker is dead unless `at_most` have
-- tried, if the state of the service lets jobs of its kind begin. Bytes are fetched by whoever has room, and sent by
-- who has them; if their node is gone, anybody tells so.
create function storage_api.claim_job(
    of_uuid uuid, of_kinds text[], new_attempt text, lease double precision, lost boolean, at_most integer
) returns table (id text, kind text, owner_id bigint, request jsonb, node_id bigint, parent_id bigint, name text,
                 node_uri text, attempt text, attempts integer, started timestamptz, execution_duration integer,
                 "now" timestamptz, bytes_done bigint, bytes_total bigint, files_done bigint, files_total bigint)
language plpgsql security definer set search_path = public, pg_temp as $$
#variable_conflict use_column
declare
    of_storage integer := own_storage(of_uuid);
    next text;
    kinds text[] := open_kinds(of_kinds);
begin
    if lost then
        select j.id into next from jobs j left join nodes n on n.id = j.node_id
         where j.phase = 'EXECUTING' and j.attempt is not null and j.until < now() and j.attempts < at_most
           and j.kind = any (kinds) and third_party_of(j.kind, n.storage_id, of_storage)
         order by j.until limit 1 for update of j skip locked;
    else
        select j.id into next from jobs j left join nodes n on n.id = j.node_id
         where j.phase = 'QUEUED' and j.kind = any (kinds) and third_party_of(j.kind, n.storage_id, of_storage)
         order by j.created limit 1 for update of j skip locked;
    end if;
    return query
    update jobs j
       set phase = 'EXECUTING', started = coalesce(j.started, now()), attempt = new_attempt,
           attempts = j.attempts + 1, until = now() + make_interval(secs => lease), storage_id = of_storage,
           discard = coalesce(j.name = '.null', false)
     where j.id = next
    returning j.id, j.kind, j.owner_id, j.request, j.node_id, j.parent_id, j.name, j.node_uri, j.attempt, j.attempts,
              j.started, j.execution_duration, now(), j.bytes_done, j.bytes_total, j.files_done, j.files_total;
end
$$;

-- Whether a job is for `of_storage`, given who has the bytes of its node.
create function third_party_of(kind text, node_storage integer, of_storage integer) returns boolean
language plpgsql stable as $$
begin
    if kind = 'pull_to' then
        return (select s.free is distinct from 0 from storages s where s.id = of_storage);
    end if;
    return kind = 'push_from' and coalesce(node_storage, of_storage) = of_storage;
end
$$;

-- Go on with an attempt and tell how far it is; false: the job was taken away.
create function storage_api.renew_job(
    of_uuid uuid, of_attempt text, lease double precision, new_done bigint, new_total bigint
) returns boolean language plpgsql security definer set search_path = public, pg_temp as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    update jobs
       set until = now() + make_interval(secs => lease), bytes_done = new_done, bytes_total = new_total
     where attempt = of_attempt and phase = 'EXECUTING' and storage_id = own_storage(of_uuid);
    return found;
end
$$;

-- Let another worker have the job at once, and do not count this one.
create function storage_api.give_back_job(of_uuid uuid, of_attempt text) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    update jobs set until = now(), attempts = attempts - 1
     where attempt = of_attempt and phase = 'EXECUTING' and storage_id = own_storage(of_uuid);
    perform pg_notify('pyvospace_queue', kind) from jobs where attempt = of_attempt;
end
$$;

-- End an attempt without bytes for a node: COMPLETED after they were sent, ERROR or ABORTED after a failure. False:
-- the job was taken away.
create function storage_api.end_job(
    of_uuid uuid, of_attempt text, new_phase text, new_fault text, new_message text, new_done bigint, new_total bigint
) returns boolean language plpgsql security definer set search_path = public, pg_temp as $$
begin
    update jobs
       set phase = new_phase, fault = new_fault, message = left(new_message, 4000), ended = clock_timestamp(),
           attempt = null, until = null, bytes_done = new_done, bytes_total = new_total
     where attempt = of_attempt and phase = 'EXECUTING' and storage_id = own_storage(of_uuid)
       and (kind = 'push_from' or kind = 'pull_to' and new_phase in ('ERROR', 'ABORTED'))
       -- Its owner may have given it more time meanwhile.
       and (new_phase <> 'ABORTED'
            or execution_duration > 0 and started <= now() - make_interval(secs => execution_duration));
    return found;
end
$$;

-- The job of an attempt to fetch bytes, locked, unless it is in other hands.
create function held_pull(of_attempt text, of_storage integer) returns jobs language plpgsql as $$
declare
    job jobs;
begin
    select * into job from jobs
     where attempt = of_attempt and kind = 'pull_to' and phase = 'EXECUTING' and storage_id = of_storage
       for update;
    if not found then
        perform raise_fault('NodeBusy', 'this job is in other hands by now');
    end if;
    return job;
end
$$;

-- Take the writer's lease of the node that bytes were found for, with the rights of the job's owner checked now.
create function storage_api.claim_pull(of_uuid uuid, of_attempt text, new_writer text, lease double precision)
returns table (size_limit bigint, discard boolean)
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    job jobs := held_pull(of_attempt, own_storage(of_uuid));
    node nodes;
begin
    perform set_config('synchronous_commit', 'off', true);
    perform caller_of(job.owner_id);
    if not job.discard then
        node := push_target(job, false);
        insert into writers (parent_id, name, job_id, attempt, until)
        values (coalesce(node.parent_id, job.parent_id), coalesce(node.name, job.name), job.id, new_writer,
                now() + make_interval(secs => lease))
        on conflict (parent_id, name) do update
           set job_id = excluded.job_id, attempt = excluded.attempt, until = excluded.until
         where writers.until < now() or writers.job_id = excluded.job_id;
        if not found then
            perform raise_fault('NodeBusy', 'another transfer is writing to this node');
        end if;
    end if;
    return query select job.size_limit, job.discard;
end
$$;

-- Turn the node to bytes that were fetched, and complete the job (see storage_api.store).
create function storage_api.store_pulled(
    of_uuid uuid, of_attempt text, of_writer text, new_location text, new_size bigint,
    new_md5 bytea, new_sha256 bytea, new_type text
) returns void language plpgsql security definer set search_path = public, pg_temp as $$
declare
    job jobs := held_pull(of_attempt, own_storage(of_uuid));
begin
    perform storage_api.store(of_uuid, job.id, job.owner_id, of_writer, new_location, new_size, new_md5, new_sha256,
                              new_type);
    update jobs
       set attempt = null, until = null, bytes_done = coalesce(new_size, bytes_done),
           bytes_total = coalesce(new_size, bytes_done)
     where id = job.id;
end
$$;

-- Passwords that a user put into URLs are for as long as the job needs them.
create function forget_passwords() returns trigger language plpgsql as $$
begin
    new.request := jsonb_set(new.request, '{protocols}', (
        select coalesce(jsonb_agg(p.one - 'user' order by p.place), '[]')
          from jsonb_array_elements(new.request -> 'protocols') with ordinality as p(one, place)));
    return new;
end
$$;
create trigger jobs_passwords before insert or update of phase on jobs
    for each row when (new.kind in ('pull_to', 'push_from')
                       and new.phase in ('COMPLETED', 'ERROR', 'ABORTED', 'ARCHIVED'))
    execute function forget_passwords();

revoke all on all functions in schema storage_api from public;
grant execute on all functions in schema storage_api to pyvospace_storage;
