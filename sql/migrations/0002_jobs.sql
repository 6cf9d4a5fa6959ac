-- Durable jobs: made by clients, run by any number of workers, watched by who waits.

alter table jobs rename column transfer to request;
do $$
begin
    if exists (select from pg_constraint where conname = 'jobs_transfer_not_null') then  -- PostgreSQL 18 names them
        alter table jobs rename constraint jobs_transfer_not_null to jobs_request_not_null;
    end if;
end
$$;
alter table jobs
    alter column expires drop not null,
    -- The list that shows it: last segment of the list's URL.
    add column list text not null default 'transfers',
    -- What it does. push and pull are driven by the client, all else by workers.
    add column kind text,
    -- What came out: pairs of an id and a link.
    add column results jsonb not null default '[]',
    -- The client's own name for it.
    add column run_id text,
    -- Seconds that it may execute. 0: no limit.
    add column execution_duration integer not null default 0 check (execution_duration >= 0),
    -- The worker's attempt: the fence. NULL: no worker has it.
    add column attempt text unique,
    -- End of the worker's lease, unless it is renewed.
    add column until timestamptz,
    -- How often workers have begun it.
    add column attempts integer not null default 0,
    -- Until then somebody may be waiting for another phase. NULL: nobody ever did.
    add column watched timestamptz,
    -- How far it is. NULL: that is not counted, or not known.
    add column bytes_done bigint,
    add column bytes_total bigint,
    add column files_done bigint,
    add column files_total bigint;
update jobs set kind = case when name is null then 'pull' else 'push' end;
alter table jobs alter column kind set not null;

create index jobs_owner on jobs (owner_id, created, id);
-- Of each user, 0 for all who are anonymous.
create index jobs_waiting on jobs (coalesce(owner_id, 0)) where phase in ('PENDING', 'QUEUED');
create index jobs_queue on jobs (created) where phase = 'QUEUED';
create index jobs_leases on jobs (until) where phase = 'EXECUTING' and attempt is not null;
create index jobs_limited on jobs (started) where phase = 'EXECUTING' and execution_duration > 0;

-- Wake a worker for a job that waits for one.
create function tell_workers() returns trigger language plpgsql as $$
begin
    perform pg_notify('pyvospace_queue', new.kind);
    return null;
end
$$;
create trigger jobs_queued after insert or update of phase on jobs
    for each row when (new.phase = 'QUEUED') execute function tell_workers();

-- Wake those who wait for another phase, and the worker whose job was taken from it. Nobody else is told: a
-- transaction that notifies waits for all others that do.
create function tell_waiting() returns trigger language plpgsql as $$
begin
    perform pg_notify('pyvospace_jobs', old.id);
    return null;
end
$$;
create trigger jobs_changed after update of phase on jobs
    for each row when (new.phase <> old.phase and (new.watched > now() or new.attempt is not null
                                                   and new.phase <> 'EXECUTING')) execute function tell_waiting();
create trigger jobs_gone after delete on jobs
    for each row when (old.watched > now() or old.attempt is not null) execute function tell_waiting();
