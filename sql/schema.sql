-- The catalogue of a space: what `pyvospace migrate` leaves behind.
--
-- The migrations in migrations/ make this schema step by step; a test proves that both are the same. Names of users
-- of the database: the tables belong to the role of the metadata servers; storage servers log in as members of the
-- group role pyvospace_storage and reach nothing but the schema storage_api.

create extension if not exists ltree;

do $$
begin
    if not exists (select from pg_roles where rolname = 'pyvospace_storage') then
        create role pyvospace_storage nologin;
    end if;
exception
    when duplicate_object or unique_violation then null;  -- another space of this cluster was quicker
    when insufficient_privilege then
        raise exception 'the role pyvospace_storage is missing and % may not create it', current_user
            using hint = 'Let an administrator of the database run: create role pyvospace_storage nologin';
end
$$;

-- ---------------------------------------------------------------------------------------------------------- space

-- The space itself: exactly one row.
create table space (
    -- Makes a second row impossible.
    only_row       boolean primary key default true check (only_row),
    -- Authority of all node URIs, normalised: lower case, with ~. A database belongs to one space for ever.
    authority      text not null,
    -- What stands before the name of a local group in a group URI; the first is the one that is written.
    group_prefixes text[] not null,
    -- Raised by each change of users, tokens, groups and members (triggers below). Every statement that decides
    -- about rights compares it with the epoch at which the caller was identified: that is how processes may
    -- remember callers and yet a revoked token is dead at once.
    epoch          bigint not null default 1
);

-- ---------------------------------------------------------------------------------------------------- identities

-- People. Never deleted, since nodes and jobs name them: disabled instead.
create table users (
    -- In nodes, jobs and endpoints; 0, which is none of these, stands for an anonymous caller.
    id       bigint generated always as identity primary key,
    -- Name at login and in core#creator.
    name     text collate "C" not null unique check (name ~ '^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$'),
    -- argon2id, in its usual text form. NULL: no login by password.
    password text,
    -- May do everything.
    admin    boolean not null default false,
    -- May do nothing: every credential is refused, every endpoint is dead.
    disabled boolean not null default false,
    -- When he was added.
    created  timestamptz not null default now()
);

-- API tokens. The token itself is shown once and stored nowhere.
create table tokens (
    -- By which it is revoked.
    id      bigint generated always as identity primary key,
    -- For whom it speaks.
    user_id bigint not null references users,
    -- What the user calls it.
    name    text not null,
    -- SHA-256 of the token, which has 256 random bits: no salt is needed.
    hash    bytea not null unique check (octet_length(hash) = 32),
    -- When it was made.
    created timestamptz not null default now(),
    -- NULL: until it is revoked.
    expires timestamptz
);
create index tokens_user on tokens (user_id);

-- Local groups.
create table groups (
    -- Of no meaning outside of the database: nodes name groups by URI.
    id      bigint generated always as identity primary key,
    -- What follows a prefix of the space in the group's URIs.
    name    text collate "C" not null unique check (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    -- When it was added.
    created timestamptz not null default now()
);

-- Who belongs to which group.
create table members (
    -- The group.
    group_id bigint not null references groups on delete cascade,
    -- A user who belongs to it.
    user_id  bigint not null references users,
    primary key (group_id, user_id)
);
create index members_user on members (user_id);

-- Make every caller that processes remember a stranger.
create function raise_epoch() returns trigger language plpgsql as $$
begin
    update space set epoch = epoch + 1;
    return null;
end
$$;
create trigger users_epoch after update or delete or truncate on users execute function raise_epoch();
create trigger tokens_epoch after update or delete or truncate on tokens execute function raise_epoch();
create trigger groups_epoch after update or delete or truncate on groups execute function raise_epoch();
create trigger members_epoch after insert or update or delete or truncate on members execute function raise_epoch();
create trigger space_epoch after update of group_prefixes on space execute function raise_epoch();

-- URIs of the local groups of a user. (plpgsql, as everything below that is no mere expression: it plans once for
-- each connection, a function in SQL plans at each call before PostgreSQL 18.)
create function groups_of(of_user bigint) returns text[] language plpgsql stable as $$
begin
    return (select coalesce(array_agg(prefix || g.name), '{}')
              from members m
              join groups g on g.id = m.group_id
             cross join space s
             cross join unnest(s.group_prefixes) as prefix
             where m.user_id = of_user);
end
$$;

-- --------------------------------------------------------------------------------------------------------- rights

-- Who may read a node: everybody if it is public, the owner, members of its groups, an administrator.
-- Anonymous callers have the id 0 and no groups. This function and the next are the only places that know; what they
-- do not know (NULL) they deny.
create function may_read(
    owner_id bigint, public boolean, group_read text[], group_write text[],
    caller bigint, caller_groups text[], admin boolean
) returns boolean language sql immutable parallel safe as $$
    select coalesce(public or admin or owner_id = caller or group_read && caller_groups or group_write && caller_groups,
                    false)
$$;

-- Who may write to a node: its bytes and properties, and for a container its children.
create function may_write(
    owner_id bigint, group_write text[], caller bigint, caller_groups text[], admin boolean
) returns boolean language sql immutable parallel safe as $$
    select coalesce(admin or owner_id = caller or group_write && caller_groups, false)
$$;

-- ---------------------------------------------------------------------------------------------------------- nodes

-- Where each container stands: ids from the root (1) down to the container itself, for whole trees in one range.
-- Only containers are here, for the place of any other node follows from its container: a tree of 100,000 files in
-- 1,000 folders moves by 1,000 rows. Ids are digits, so that `path >= p and path < (p::text || '0')::ltree` is
-- exactly the tree below p; p || '0' on an ltree would append a label instead.
create table containers (
    -- The node. No foreign key: it would lock the node's row where children come and go.
    id   bigint primary key,
    -- '1' for the root, '1.25.7' for the container 7 in the container 25 in the root.
    path ltree not null
);
create index containers_path on containers using btree (path);

-- The nodes of the space: the truth about the tree, the rights and the bytes.
create table nodes (
    -- The root is 1. An id is never used twice: endpoints are bound to it.
    id          bigint generated by default as identity (start with 2) primary key,
    -- The container. NULL: the root. The key forbids children without container and children below data and links.
    parent_id   bigint references containers,
    -- As sent, never normalised; C collation, so that the order of a listing is the same everywhere. '' : the root.
    name        text collate "C" not null check (octet_length(name) <= 255 and (name = '') = (id = 1)),
    -- As the standard calls it; it never changes.
    type        text not null check (type in (
                    'Node', 'DataNode', 'UnstructuredDataNode', 'StructuredDataNode', 'ContainerNode', 'LinkNode')),
    -- A user. No foreign key: its check would lock the row of a busy user at each creation, and users stay for ever.
    owner_id    bigint not null check (owner_id > 0),
    -- Anybody may read.
    public      boolean not null default false,
    -- URIs of groups that may read.
    group_read  text[] not null default '{}',
    -- URIs of groups that may read and write.
    group_write text[] not null default '{}',
    -- Of a container: new children take over its permissions.
    inherit     boolean not null default false,
    -- Closed to changes of bytes, children and place.
    locked      boolean not null default false,
    -- What clients set: URI of the property to its value. Facts of the service are never here.
    properties  jsonb not null default '{}',
    -- Of a link: any URI.
    target      text,
    -- Number of bytes. NULL, as all up to stored_by: none have come yet, which documents show as length 0.
    size        bigint check (size >= 0),
    -- Digest of the bytes, for core#MD5 and for clients.
    md5         bytea check (octet_length(md5) = 16),
    -- Digest of the bytes that can be trusted.
    sha256      bytea check (octet_length(sha256) = 32),
    -- Who keeps them. No foreign key, as for the owner: its check would lock one row in each upload.
    storage_id  integer,
    -- Name that the storage gave them; written once, named by one node.
    location    text,
    -- The user who brought the bytes; 0: anonymous. NULL without bytes.
    stored_by   bigint,
    -- Birth of the node: btime.
    created     timestamptz not null default now(),
    -- Last change of its metadata, its place or its bytes: ctime.
    changed     timestamptz not null default now(),
    -- When the bytes came: mtime. NULL without bytes.
    modified    timestamptz,
    check ((parent_id is null) = (id = 1)),
    check ((type = 'LinkNode') = (target is not null)),
    check (num_nulls(size, md5, sha256, storage_id, location, stored_by, modified) in (0, 7)),
    check (location is null or type like '%DataNode')
);
create unique index nodes_name on nodes (parent_id, name);
create unique index nodes_location on nodes (storage_id, location) where location is not null;
create index nodes_locked on nodes (id) where locked;

-- Whether every container on the way down to `container`, that one included, may be read.
create function way_is_readable(container bigint, caller bigint, caller_groups text[], admin boolean)
returns boolean language plpgsql stable as $$
begin
    return (select coalesce(bool_and(may_read(n.owner_id, n.public, n.group_read, n.group_write,
                                              caller, caller_groups, admin)), false)
              from nodes n
             where n.id = any (string_to_array((select c.path::text from containers c where c.id = container),
                                               '.')::bigint[]));
end
$$;

-- ------------------------------------------------------------------------------------------------------- storages

-- Places for bytes. All processes that serve one place share its row.
create table storages (
    -- In nodes and jobs.
    id        integer generated always as identity primary key,
    -- From the control file of the place.
    uuid      uuid not null unique,
    -- For people.
    name      text not null,
    -- Public base URL.
    url       text not null,
    -- Bytes that still fit. NULL: unknown.
    free      bigint,
    -- Login role of its servers: another role cannot speak for it.
    role      name not null,
    -- Of its last heartbeat: who is silent for 30 seconds gets no new transfers.
    last_seen timestamptz not null default now(),
    -- When a process last began to sweep it.
    swept     timestamptz not null default '-infinity'
);

-- Bytes that no node names any more. The row goes first, then the bytes.
create table obsolete (
    -- Who keeps the bytes.
    storage_id integer not null references storages,
    -- Name that the storage gave them.
    location   text not null,
    -- When their node turned away from them: readers that had begun may finish.
    since      timestamptz not null default now(),
    primary key (storage_id, location)
);
create index obsolete_since on obsolete (storage_id, since);

-- Keys that sign endpoints. They are made by metadata servers and rotate.
create table endpoint_keys (
    -- `kid` in the head of an endpoint's token.
    id      text primary key check (id ~ '^[0-9a-f]{16}$'),
    -- For HS256.
    secret  bytea not null check (octet_length(secret) = 32),
    -- When it began to sign; it stops by its age.
    created timestamptz not null default now()
);

-- ----------------------------------------------------------------------------------------------------------- jobs

-- UWS jobs: made by clients, run by clients or by workers, watched by who waits.
create table jobs (
    -- 160 random bits: whoever knows the id of an anonymous job may see it.
    id          text primary key check (id ~ '^[0-9a-f]{40}$'),
    -- NULL: anonymous.
    owner_id    bigint,
    -- Of UWS 1.1. A negotiated transfer is EXECUTING until its bytes have moved.
    phase       text not null check (phase in ('PENDING', 'QUEUED', 'EXECUTING', 'COMPLETED', 'ERROR', 'UNKNOWN',
                                               'HELD', 'SUSPENDED', 'ABORTED', 'ARCHIVED')),
    -- What was asked for, packed by its kind. A negotiated transfer has no endpoints: they are signed anew each time
    -- they are shown.
    request     jsonb not null,
    -- URI of the node that the transfer turned out to mean (links followed, .auto named).
    node_uri    text,
    -- The node, if there was one when the transfer was negotiated.
    node_id     bigint,
    -- Of a push: the container that the node is in, or will be.
    parent_id   bigint,
    -- Of a push: the node's name there. A pull has none, which tells the two apart.
    name        text collate "C",
    -- Where its endpoints lead. NULL: it has none.
    storage_id  integer references storages,
    -- Push to .null: the bytes are counted and dropped.
    discard     boolean not null default false,
    -- A push keeps the user's properties (interop = opencadc).
    keep_properties boolean not null default false,
    -- Most bytes of a push. NULL: no limit.
    size_limit  bigint,
    -- Of a job in phase ERROR: name of the fault.
    fault       text,
    -- The words of errorSummary. In phase EXECUTING: what went wrong with the last attempt.
    message     text,
    -- When it was negotiated.
    created     timestamptz not null default now(),
    -- When bytes first began to move. NULL: not yet.
    started     timestamptz,
    -- When it came to its final phase, or a push was repeated.
    ended       timestamptz,
    -- Its endpoints are dead from here on. NULL: it has none.
    expires     timestamptz,
    -- The job is forgotten from here on.
    destruction timestamptz not null,
    -- The list that shows it: last segment of the list's URL.
    list        text not null default 'transfers',
    -- What it does. push and pull are driven by the client, all else by workers.
    kind        text not null,
    -- What came out: pairs of an id and a link.
    results     jsonb not null default '[]',
    -- The client's own name for it.
    run_id      text,
    -- Seconds that it may execute. 0: no limit.
    execution_duration integer not null default 0 check (execution_duration >= 0),
    -- The worker's attempt: the fence. NULL: no worker has it.
    attempt     text unique,
    -- End of the worker's lease, unless it is renewed.
    until       timestamptz,
    -- How often workers have begun it.
    attempts    integer not null default 0,
    -- Until then somebody may be waiting for another phase. NULL: nobody ever did.
    watched     timestamptz,
    -- How far it is. NULL: that is not counted, or not known.
    bytes_done  bigint,
    bytes_total bigint,
    files_done  bigint,
    files_total bigint
);
create index jobs_destruction on jobs (destruction);
create index jobs_expires on jobs (expires) where phase = 'EXECUTING';
create index jobs_owner on jobs (owner_id, created, id);
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

-- Uploads that are under way: a lease on a name in a container, so that a node that is only coming has one too.
create table writers (
    -- The container, as it was when the upload began.
    parent_id bigint not null,
    -- The node's name in it.
    name      text collate "C" not null,
    -- The push that holds the lease; it may try again before the lease is over.
    job_id    text not null,
    -- Unique for each attempt: the fence. Whoever finds another value here has lost the lease.
    attempt   text not null unique,
    -- End of the lease, unless it is renewed.
    until     timestamptz not null,
    primary key (parent_id, name)
);
create index writers_job on writers (job_id);

-- ---------------------------------------------------------------------------------------------------- storage_api
-- All that storage servers can do. A function raises SQLSTATE VS001 with the name of a fault, a space and details.

create schema storage_api;
revoke all on schema public from public;
grant usage on schema storage_api to pyvospace_storage;

-- What verifies the tokens of endpoints.
create view storage_api.endpoint_keys as select id, secret, created from public.endpoint_keys;
-- Whose endpoints these are.
create view storage_api.space as select authority from public.space;
grant select on storage_api.endpoint_keys, storage_api.space to pyvospace_storage;

-- Fail with a fault of the standard.
create function raise_fault(code text, details text) returns void language plpgsql as $$
begin
    raise exception using errcode = 'VS001', message = code || ' ' || details;
end
$$;

-- The row of a storage, for its own role only.
create function own_storage(of_uuid uuid) returns integer language plpgsql stable as $$
declare
    found_id integer;
begin
    select id into found_id from storages where uuid = of_uuid and role = session_user;
    if not found then
        raise exception 'the storage % is not announced, or not by %', of_uuid, session_user;
    end if;
    return found_id;
end
$$;

-- Enter a storage, or renew what is known of it.
create function storage_api.announce(of_uuid uuid, new_name text, new_url text, new_free bigint)
returns void language plpgsql security definer set search_path = public, pg_temp as $$
begin
    insert into storages (uuid, name, url, free, role) values (of_uuid, new_name, new_url, new_free, session_user)
    on conflict (uuid) do update set name = new_name, url = new_url, free = new_free, last_seen = now()
     where storages.role = session_user;
    perform own_storage(of_uuid);
end
$$;

-- Who calls, as of now: a user who was disabled is nobody and gets a fault.
create function caller_of(of_user bigint, out caller bigint, out caller_groups text[], out admin boolean)
language plpgsql stable as $$
begin
    if of_user is null then
        caller := 0; caller_groups := '{}'; admin := false;
        return;
    end if;
    select u.id, groups_of(u.id), u.admin into caller, caller_groups, admin
      from users u where u.id = of_user and not u.disabled;
    if not found then
        perform raise_fault('PermissionDenied', 'the user of this endpoint is not known any more');
    end if;
end
$$;

-- The job of a push, locked, unless it was withdrawn.
create function live_push(of_job text, of_user bigint, of_storage integer) returns jobs language plpgsql as $$
declare
    job jobs;
begin
    select * into job from jobs where id = of_job for update;
    if not found or job.name is null or job.owner_id is distinct from of_user
       or job.storage_id is distinct from of_storage then
        perform raise_fault('PermissionDenied', 'this endpoint was withdrawn; negotiate again');
    elsif job.phase = 'ABORTED' or job.phase = 'ERROR' then
        perform raise_fault('PermissionDenied', 'the transfer of this endpoint was aborted; negotiate again');
    end if;
    return job;
end
$$;

-- The same for a use of the endpoint that begins now. What began in time may take as long as it keeps its lease.
create function usable_push(of_job text, of_user bigint, of_storage integer) returns jobs language plpgsql as $$
declare
    job jobs := live_push(of_job, of_user, of_storage);
begin
    if job.expires <= now() then
        perform raise_fault('PermissionDenied', 'this endpoint has expired; negotiate again');
    end if;
    perform caller_of(of_user);
    return job;
end
$$;

-- The node that a push writes to, with the writer's rights checked now; NULL: it is still to be made.
create function push_target(job jobs, lock boolean) returns nodes language plpgsql as $$
declare
    node nodes;
    parent nodes;
    c record;
begin
    select * into c from caller_of(job.owner_id);
    if job.node_id is not null then
        if lock then
            select * into node from nodes where id = job.node_id for update;
        else
            select * into node from nodes where id = job.node_id;
        end if;
        if not found then
            perform raise_fault('NodeNotFound', 'the node was deleted meanwhile');
        end if;
    else
        if lock then
            perform from containers where id = job.parent_id and nlevel(path) <= 200 for share;
            if not found then
                perform raise_fault('ContainerNotFound', 'the container was deleted or moved meanwhile');
            end if;
        end if;
        select * into parent from nodes where id = job.parent_id;
        if not found then
            perform raise_fault('ContainerNotFound', 'the container was deleted meanwhile');
        end if;
        if lock then
            select * into node from nodes where parent_id = job.parent_id and name = job.name for update;
        else
            select * into node from nodes where parent_id = job.parent_id and name = job.name;
        end if;
    end if;
    if not way_is_readable(coalesce(node.parent_id, job.parent_id), c.caller, c.caller_groups, c.admin)
       or node.id is not null and not may_write(node.owner_id, node.group_write, c.caller, c.caller_groups, c.admin)
       or node.id is null and not may_write(parent.owner_id, parent.group_write, c.caller, c.caller_groups, c.admin)
    then
        perform raise_fault('PermissionDenied', 'the right to write there was withdrawn');
    elsif coalesce(node.locked, parent.locked) then
        perform raise_fault('NodeLocked', 'the node is locked');
    elsif node.id is not null and node.type not like '%DataNode' then
        perform raise_fault('DuplicateNode', 'there is a node of another type by now');
    end if;
    return node;
end
$$;

-- What the node of an upload endpoint holds now; no row: nothing.
create function storage_api.current(of_uuid uuid, of_job text, of_user bigint)
returns table (location text, size bigint, md5 bytea, sha256 bytea, content_type text)
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    job jobs := usable_push(of_job, of_user, own_storage(of_uuid));
    node nodes;
begin
    if job.discard then
        return;
    end if;
    node := push_target(job, false);
    if node.location is not null then
        return query select node.location, node.size, node.md5, node.sha256,
                            node.properties ->> 'ivo://ivoa.net/vospace/core#type';
    end if;
end
$$;

-- Take the writer's lease. The loss of this row in a crash of the database costs an upload its lease and nothing
-- else, so that it need not wait for the disk.
create function storage_api.claim_upload(
    of_uuid uuid, of_job text, of_user bigint, new_attempt text, lease double precision,
    announced bigint, repeat_window double precision
) returns table (size_limit bigint, discard boolean, location text, size bigint, md5 bytea, sha256 bytea,
                 content_type text)
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    job jobs;
    node nodes;
begin
    perform set_config('synchronous_commit', 'off', true);
    job := usable_push(of_job, of_user, own_storage(of_uuid));
    if job.phase = 'COMPLETED' and job.ended < now() - make_interval(secs => repeat_window) then
        perform raise_fault('EndpointUsed', 'the bytes are there already; negotiate again to replace them');
    elsif announced > job.size_limit then
        perform raise_fault('RequestEntityTooLarge',
                            format('%s bytes are more than the limit of %s', announced, job.size_limit));
    end if;
    if not job.discard then
        node := push_target(job, false);
        insert into writers (parent_id, name, job_id, attempt, until)
        values (coalesce(node.parent_id, job.parent_id), coalesce(node.name, job.name), of_job, new_attempt,
                now() + make_interval(secs => lease))
        on conflict (parent_id, name) do update
           set job_id = excluded.job_id, attempt = excluded.attempt, until = excluded.until
         where writers.until < now() or writers.job_id = excluded.job_id;
        if not found then
            perform raise_fault('NodeBusy', 'another transfer is writing to this node');
        end if;
    end if;
    if job.started is null then
        update jobs set started = now() where id = of_job;
    end if;
    return query select job.size_limit, job.discard, node.location, node.size, node.md5, node.sha256,
                        node.properties ->> 'ivo://ivoa.net/vospace/core#type';
end
$$;

-- Extend a lease; false: it was lost.
create function storage_api.renew(of_attempt text, lease double precision) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    update writers w set until = now() + make_interval(secs => lease)
      from jobs j
     where w.attempt = of_attempt and j.id = w.job_id and j.phase in ('EXECUTING', 'COMPLETED');
    return found;
end
$$;

-- Give a lease back after a failure; the job goes on waiting for its bytes.
create function storage_api.release(of_attempt text, reason text) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_job text;
begin
    perform set_config('synchronous_commit', 'off', true);
    select job_id into of_job from writers where attempt = of_attempt;
    -- The job before the lease, as in all that locks both: the client may be trying again at this moment.
    perform from jobs where id = of_job for update;
    delete from writers where attempt = of_attempt;
    if found then
        update jobs set message = left(reason, 1000) where id = of_job and phase = 'EXECUTING';
    end if;
end
$$;

-- Turn the node to new bytes, or make it, and complete the job. The caller publishes the bytes before he commits.
create function storage_api.store(
    of_uuid uuid, of_job text, of_user bigint, of_attempt text, new_location text, new_size bigint,
    new_md5 bytea, new_sha256 bytea, new_type text
) returns void language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    job jobs := live_push(of_job, of_user, of_storage);
    node nodes;
    moment timestamptz;
    type_property constant text := 'ivo://ivoa.net/vospace/core#type';
begin
    if not job.discard then
        perform from writers where attempt = of_attempt for update;
        if not found then
            perform raise_fault('NodeBusy', 'another transfer took this node over');
        end if;
        loop
            node := push_target(job, true);
            exit when node.id is not null;
            insert into nodes (parent_id, name, type, owner_id, public, group_read, group_write)
            select p.id, job.name, 'DataNode', coalesce(job.owner_id, p.owner_id), p.inherit and p.public,
                   case when p.inherit then p.group_read else '{}' end,
                   case when p.inherit then p.group_write else '{}' end
              from nodes p where p.id = job.parent_id
            on conflict (parent_id, name) do nothing
            returning * into node;
            exit when node.id is not null;
            -- Somebody made it in the same moment: his node, if we may, unless it is gone again.
        end loop;
        insert into obsolete (storage_id, location)
        select node.storage_id, node.location where node.location is not null;
        -- Not now(), which is when the transaction began: who waited for the node writes a later time.
        moment := clock_timestamp();
        update nodes
           set size = new_size, md5 = new_md5, sha256 = new_sha256, storage_id = of_storage,
               location = new_location, stored_by = coalesce(job.owner_id, 0), changed = moment, modified = moment,
               properties = case when job.keep_properties then properties - type_property else '{}' end
                            || case when new_type is null then '{}' else jsonb_build_object(type_property, new_type) end
         where id = node.id;
        delete from writers where attempt = of_attempt;
    end if;
    update jobs
       set phase = 'COMPLETED', ended = clock_timestamp(), started = coalesce(started, now()), message = null,
           node_id = node.id
     where id = of_job;
end
$$;

-- Where the bytes of a node are, if the caller may still read them.
create function storage_api.claim_download(of_uuid uuid, of_node bigint, of_job text, of_user bigint)
returns table (name text, modified timestamptz, location text, size bigint, md5 bytea, sha256 bytea,
               content_type text, waiting boolean)
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    node nodes;
    job jobs;
    c record;
begin
    select * into c from caller_of(of_user);
    if of_job is not null then
        select * into job from jobs where id = of_job;
        if not found or job.name is not null or job.owner_id is distinct from of_user
           or job.node_id is distinct from of_node or job.phase not in ('EXECUTING', 'COMPLETED')
           or job.expires <= now() then
            perform raise_fault('PermissionDenied', 'this endpoint was withdrawn; negotiate again');
        end if;
    end if;
    select * into node from nodes where id = of_node;
    if not found then
        perform raise_fault('NodeNotFound', 'the node was deleted meanwhile');
    elsif not (may_read(node.owner_id, node.public, node.group_read, node.group_write,
                        c.caller, c.caller_groups, c.admin)
               and way_is_readable(node.parent_id, c.caller, c.caller_groups, c.admin)) then
        perform raise_fault('PermissionDenied', 'the right to read was withdrawn');
    elsif node.location is not null and node.storage_id <> of_storage then
        perform raise_fault('NodeNotFound', 'the bytes are elsewhere by now; negotiate again');
    end if;
    return query select node.name, coalesce(node.modified, node.created), node.location, coalesce(node.size, 0),
                        node.md5, node.sha256, node.properties ->> 'ivo://ivoa.net/vospace/core#type',
                        coalesce(job.phase = 'EXECUTING', false);
end
$$;

-- Complete a pull.
create function storage_api.delivered(of_job text) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    update jobs set phase = 'COMPLETED', started = coalesce(started, created), ended = now()
     where id = of_job and name is null and phase = 'EXECUTING';
end
$$;

-- True for one process of the storage in each interval.
create function storage_api.claim_sweep(of_uuid uuid, at_most_every double precision) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    update storages set swept = now()
     where id = own_storage(of_uuid) and swept < now() - make_interval(secs => at_most_every);
    return found;
end
$$;

-- Those of `known_there` that nothing in the catalogue names.
create function storage_api.unknown(of_uuid uuid, known_there text[]) returns setof text
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
begin
    return query
    select place from unnest(known_there) as place
     where not exists (select from nodes n where n.storage_id = of_storage and n.location = place)
       and not exists (select from obsolete o where o.storage_id = of_storage and o.location = place);
end
$$;

-- Forget up to `at_most` locations that have been obsolete for `grace` seconds; the caller deletes their bytes then.
create function storage_api.take_obsolete(of_uuid uuid, grace double precision, at_most integer) returns setof text
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
begin
    return query
    delete from obsolete o
     using (select d.location from obsolete d
             where d.storage_id = of_storage and d.since < now() - make_interval(secs => grace)
             order by d.since limit at_most for update skip locked) as due
     where o.storage_id = of_storage and o.location = due.location
    returning o.location;
end
$$;

revoke all on all functions in schema storage_api from public;
grant execute on all functions in schema storage_api to pyvospace_storage;
