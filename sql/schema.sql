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
    epoch          bigint not null default 1,
    -- ReadWrite; ReadOnly: what would change anything is refused; Offline: everything but VOSI is refused.
    state          text not null default 'ReadWrite' check (state in ('ReadWrite', 'ReadOnly', 'Offline')),
    -- What the operator says about it, to everybody.
    note           text not null default '',
    -- When he means to take the service down. Nothing happens by itself then.
    down_at        timestamptz,
    -- When he means to have it back.
    back_at        timestamptz,
    -- When it last went Offline, or came back from there. NULL: never.
    turned         timestamptz
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
    id        bigint primary key,
    -- '1' for the root, '1.25.7' for the container 7 in the container 25 in the root.
    path      ltree not null,
    -- As of its node. Here as well, since who makes a node holds this row and not that of the container's node.
    immutable boolean not null default false
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
    -- Name that the storage gave them; written once; copies name it too.
    location    text,
    -- The user who brought the bytes; 0: anonymous. NULL without bytes.
    stored_by   bigint,
    -- Birth of the node: btime.
    created     timestamptz not null default now(),
    -- Last change of its metadata, its place or its bytes: ctime.
    changed     timestamptz not null default now(),
    -- When the bytes came: mtime. NULL without bytes.
    modified    timestamptz,
    -- Bytes, children, target and place stay as they are, for everybody. What is in an immutable container is
    -- immutable too, down to the last node.
    immutable   boolean not null default false,
    -- Of a StructuredDataNode with bytes: name of the structured type that a storage server found them to be of.
    -- NULL: of none that it knows.
    structure   text,
    constraint nodes_structure check (structure is null or type = 'StructuredDataNode' and location is not null),
    check ((parent_id is null) = (id = 1)),
    check ((type = 'LinkNode') = (target is not null)),
    check (num_nulls(size, md5, sha256, storage_id, location, stored_by, modified) in (0, 7)),
    check (location is null or type like '%DataNode')
);
create unique index nodes_name on nodes (parent_id, name);
create index nodes_locked on nodes (id) where locked;
create index nodes_location on nodes (storage_id, location) where location is not null;
create index nodes_immutable on nodes (parent_id) where immutable;

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
    -- How far it is: bytes that have moved. NULL, as in the next three: that is not counted, or not known.
    bytes_done  bigint,
    -- Of so many.
    bytes_total bigint,
    -- Nodes that are done with.
    files_done  bigint,
    -- Of so many.
    files_total bigint,
    -- Of a pull: its endpoint is handed on to others and serves them until it expires. The job executes for so long.
    shared      boolean not null default false
);
create index jobs_destruction on jobs (destruction);
create index jobs_expires on jobs (expires) where phase = 'EXECUTING';
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

-- The names that lead to a container.
create function names_of(container bigint) returns text[] language plpgsql stable as $$
begin
    return array(select a.name::text
                   from containers k
                  cross join unnest(string_to_array(k.path::text, '.')::bigint[]) with ordinality as step(node, place)
                   join nodes a on a.id = step.node
                  where k.id = container and step.place > 1
                  order by step.place);
end
$$;

-- Fail if a node that an archive meets is in its way: of another type, closed, or somebody else's.
create function refuse_clash(met nodes, fits boolean, c record) returns void language plpgsql stable as $$
begin
    if met.id is null then
        return;
    elsif not fits then
        perform raise_fault('DuplicateNode', format('%s is there already, as a %s', met.name, met.type));
    elsif met.locked then
        perform raise_fault('NodeLocked', format('%s is locked', met.name));
    elsif met.immutable then
        perform raise_fault('PermissionDenied', format('%s is immutable', met.name));
    end if;
    perform raise_fault('PermissionDenied', format('you may not write to %s', met.name));
end
$$;

-- Refuse what no statement should have tried: each of them asks before, and this makes sure that none forgets it.
create function refuse_change() returns trigger language plpgsql as $$
begin
    perform raise_fault('PermissionDenied', 'the node is immutable');
    return null;
end
$$;

create trigger nodes_immutable_kept before delete on nodes
    for each row when (old.immutable) execute function refuse_change();

create trigger nodes_immutable_fixed before update of parent_id, name, target, location on nodes
    for each row when (old.immutable and (old.parent_id, old.name, old.target, old.location)
                                         is distinct from (new.parent_id, new.name, new.target, new.location))
    execute function refuse_change();

-- Bytes that all storages which are there have room for. NULL: none of them knows.
create function free_space() returns bigint language plpgsql stable as $$
begin
    return (select sum(free) from storages where last_seen > now() - interval '30 seconds');
end
$$;

-- What was said of the bytes before says nothing of other ones.
create function forget_structure() returns trigger language plpgsql as $$
begin
    new.structure := null;
    return new;
end
$$;

create trigger nodes_structure_of_bytes before update of location on nodes
    for each row when (old.structure is not null and new.location is distinct from old.location)
    execute function forget_structure();

-- What jobs of the list `searches` have found.
create table found (
    -- The job; they go together.
    job_id   text not null references jobs on delete cascade,
    -- Counted from 1, without a gap.
    position integer not null,
    -- The node. No foreign key: it may be moved, hidden or deleted meanwhile, and whoever reads looks again.
    node_id  bigint not null,
    primary key (job_id, position)
);

-- Nodes below the container `top` that the caller may read and that are as `wanted`, container by container in the
-- order of their paths, and by name in each.
--
-- It looks at up to `to_examine` nodes and containers and gives up to `at_most` nodes, after which comes one row
-- without an id: where to go on, as `from_place` (a path below `top`) and `from_name`, or NULL at the end. What is in
-- a container that the caller may not read is passed over without a look, so that nothing there, not even the time
-- that it takes, depends on it.
create function search_tree(
    top bigint, from_place text, from_name text, wanted jsonb, caller bigint, caller_groups text[], admin boolean,
    at_most integer, to_examine integer
) returns table (id bigint, way text[], place text, place_name text) language plpgsql stable as $$
declare
    root text;
    here ltree;
    ending ltree;
    box record;
    node record;
    last text;
    resumed boolean := true;
    examined integer := 0;
    seen integer;
    allowed integer;
    given integer := 0;
    name_like text := coalesce(wanted ->> 'name', '%');
    low text := coalesce(wanted ->> 'low', '');
    high text := coalesce(wanted ->> 'low', '') || repeat(chr(1114111), 64);
    types text[] := (select array_agg(t) from jsonb_array_elements_text(wanted -> 'types') as t);
    of_owner bigint := case when wanted ? 'owner' then
                           coalesce((select u.id from users u where u.name = wanted ->> 'owner'), 0) end;
    size_from bigint := (wanted ->> 'size_from')::bigint;
    size_to bigint := (wanted ->> 'size_to')::bigint;
    date_from timestamptz := (wanted ->> 'date_from')::timestamptz;
    date_to timestamptz := (wanted ->> 'date_to')::timestamptz;
    btime_from timestamptz := (wanted ->> 'btime_from')::timestamptz;
    btime_to timestamptz := (wanted ->> 'btime_to')::timestamptz;
    ctime_from timestamptz := (wanted ->> 'ctime_from')::timestamptz;
    ctime_to timestamptz := (wanted ->> 'ctime_to')::timestamptz;
    mtime_from timestamptz := (wanted ->> 'mtime_from')::timestamptz;
    mtime_to timestamptz := (wanted ->> 'mtime_to')::timestamptz;
    uris text[] := (select array_agg(p ->> 0) from jsonb_array_elements(wanted -> 'properties') as p);
    likes text[] := (select array_agg(p ->> 1) from jsonb_array_elements(wanted -> 'properties') as p);
begin
    select c.path::text into root from containers c where c.id = top;
    if not found or not way_is_readable(top, caller, caller_groups, admin) then
        return next;
        return;
    end if;
    here := (root || case when from_place = '' then '' else '.' || from_place end)::ltree;
    ending := (root || '0')::ltree;
    loop
        select c.id, c.path,
               may_read(n.owner_id, n.public, n.group_read, n.group_write, caller, caller_groups, admin) as readable
          into box
          from containers c
          join nodes n on n.id = c.id
         where c.path >= here and c.path < ending
         order by c.path limit 1;
        if not found then
            id := null; way := null; place := null; place_name := null;
            return next;
            return;
        end if;
        examined := examined + 1;
        last := case when resumed and box.path = here then from_name else '' end;
        resumed := false;
        here := box.path;
        way := null;
        seen := 0;
        allowed := greatest(to_examine - examined, 1);
        if box.readable then
            for node in
                select k.id, k.name,
                       may_read(k.owner_id, k.public, k.group_read, k.group_write, caller, caller_groups, admin)
                       and k.name like name_like
                       and (types is null or k.type = any (types))
                       and (of_owner is null or k.owner_id = of_owner)
                       and (size_from is null or k.type like '%DataNode' and coalesce(k.size, 0) >= size_from)
                       and (size_to is null or k.type like '%DataNode' and coalesce(k.size, 0) <= size_to)
                       and (date_from is null or coalesce(k.modified, k.changed) >= date_from)
                       and (date_to is null or coalesce(k.modified, k.changed) <= date_to)
                       and (btime_from is null or k.created >= btime_from)
                       and (btime_to is null or k.created <= btime_to)
                       and (ctime_from is null or k.changed >= ctime_from)
                       and (ctime_to is null or k.changed <= ctime_to)
                       and (mtime_from is null or k.modified >= mtime_from)
                       and (mtime_to is null or k.modified <= mtime_to)
                       and (uris is null or (
                           select bool_and(coalesce(case when p.pattern is null then k.properties ? p.uri
                                                         else k.properties ->> p.uri like p.pattern end, false))
                             from unnest(uris, likes) as p (uri, pattern))) as matches
                  from nodes k
                 where k.parent_id = box.id and k.name > last and k.name >= low and k.name <= high
                 order by k.name
                 limit allowed
            loop
                examined := examined + 1;
                seen := seen + 1;
                last := node.name;
                if node.matches then
                    id := node.id;
                    way := coalesce(way, names_of(box.id));
                    return next;
                    given := given + 1;
                    exit when given = at_most;
                end if;
            end loop;
        end if;
        if given < at_most and seen < allowed then
            -- The first place behind the container, or behind all that is below one that may not be read.
            here := (here::text || case when box.readable then '.0' else '0' end)::ltree;
            last := '';
        end if;
        if given = at_most or examined >= to_examine then
            id := null; way := null; place := substr(here::text, length(root) + 2); place_name := last;
            return next;
            return;
        end if;
    end loop;
end
$$;

-- Processes remember the state with the epoch at which they read it: who writes with a caller of an older epoch is
-- found out by the statement itself, however late the notice comes.
create function tell_state() returns trigger language plpgsql as $$
begin
    update space set epoch = epoch + 1;
    perform pg_notify('pyvospace_state', new.state), pg_notify('pyvospace_queue', '');
    return null;
end
$$;

create trigger space_state after update of state on space for each row execute function tell_state();

-- Fail if the service is closed: at all, or for changes. Its SQLSTATE asks to come back later than a busy service.
create function require_state(changes boolean) returns void language plpgsql stable as $$
declare
    s record;
begin
    select state, note into s from space;
    if s.state = 'Offline' then
        raise exception using errcode = 'VS002', message = coalesce(nullif(s.note, ''), 'the service is offline');
    elsif changes and s.state = 'ReadOnly' then
        raise exception using errcode = 'VS002', message = coalesce(nullif(s.note, ''), 'the service is read-only');
    end if;
end
$$;

-- Every upload begins with a lease on the name it writes to: renewing one, or storing under it, goes on.
create function refuse_writers() returns trigger language plpgsql as $$
begin
    perform require_state(true);
    return null;
end
$$;

create trigger writers_state before insert on writers for each statement execute function refuse_writers();

-- Those kinds of jobs that workers may begin now: in ReadOnly, what changes no node.
create function open_kinds(kinds text[]) returns text[] language plpgsql stable as $$
begin
    return (select case s.state when 'ReadWrite' then kinds
                                when 'ReadOnly' then array(select k from unnest(kinds) as k
                                                            where k in ('push_from', 'search'))
                                else '{}' end
              from space s);
end
$$;

-- ---------------------------------------------------------------------------------------------------- storage_api
-- All that storage servers can do. A function raises SQLSTATE VS001 with the name of a fault, a space and details.

create schema storage_api;
revoke all on schema public from public;
grant usage on schema storage_api to pyvospace_storage;

-- What verifies the tokens of endpoints.
create view storage_api.endpoint_keys as select id, secret, created from public.endpoint_keys;
-- Storage servers refuse everybody while the service is offline.
create view storage_api.space as
    select authority, state, note, down_at, back_at, turned, epoch from public.space;
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
    elsif coalesce(node.immutable, parent.immutable) then
        perform raise_fault('PermissionDenied', 'the node is immutable');
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
        select node.storage_id, node.location where node.location is not null
        on conflict (storage_id, location) do update set since = now();
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
     where id = of_job and name is null and phase = 'EXECUTING' and not shared;
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

-- Give up to `at_most` locations that have been obsolete for `grace` seconds and that no node names, and forget them;
-- the caller deletes their bytes then. Those that a node still names are forgotten too: who turns that one away notes
-- them again.
--
-- Between the moment at which a copy reads a node and that at which its own node can be seen, the node that it has read
-- may go: bytes that nobody seems to name would get a name again. So copies hold the lock 8413 together, and we look
-- only while nobody holds it. From a location without a name no copy can begin any more: it stays without.
--
-- The rows are locked first and looked at in a statement of its own, which sees whatever has been done by those whom we
-- have waited for; who turns a node away in this moment waits for us, and notes the location anew.
create function storage_api.take_obsolete(of_uuid uuid, grace double precision, at_most integer)
returns setof text language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '1s' as $$
declare
    of_storage integer := own_storage(of_uuid);
    due text[];
begin
    begin
        perform pg_advisory_xact_lock(8413);
    exception
        when lock_not_available then return;  -- a large copy: next time
    end;
    loop
        due := array(select o.location from obsolete o
                      where o.storage_id = of_storage and o.since < now() - make_interval(secs => grace)
                      order by o.since limit at_most for update skip locked);
        exit when cardinality(due) = 0;
        return query
        with taken as (
            delete from obsolete o where o.storage_id = of_storage and o.location = any (due) returning o.location
        )
        select t.location from taken t
         where not exists (select from nodes n where n.storage_id = of_storage and n.location = t.location);
        exit when found;
    end loop;
end
$$;

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

-- The job of an archive that leaves, unless it was withdrawn.
create function live_pack(of_job text, of_user bigint, of_storage integer) returns jobs language plpgsql stable as $$
declare
    job jobs;
begin
    select * into job from jobs where id = of_job;
    if not found or job.kind <> 'pull' or job.owner_id is distinct from of_user
       or job.storage_id is distinct from of_storage or job.phase not in ('EXECUTING', 'COMPLETED') then
        perform raise_fault('PermissionDenied', 'this endpoint was withdrawn; negotiate again');
    end if;
    return job;
end
$$;

-- What an archive is to be: the transfer as negotiated, and whether its job waits for a complete delivery.
create function storage_api.claim_pack(of_uuid uuid, of_job text, of_user bigint)
returns table (request jsonb, waiting boolean)
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
    job jobs := live_pack(of_job, of_user, own_storage(of_uuid));
begin
    if job.expires <= now() then
        perform raise_fault('PermissionDenied', 'this endpoint has expired; negotiate again');
    end if;
    perform caller_of(of_user);
    return query select job.request, job.phase = 'EXECUTING';
end
$$;

-- Those of the nodes `ids`, with the names that lead to them, that the caller may read now. The storage is told of
-- bytes that are elsewhere.
create function storage_api.pack_nodes(of_uuid uuid, of_job text, of_user bigint, ids bigint[])
returns table (id bigint, parent_id bigint, name text, type text, size bigint, modified timestamptz, target text,
               location text, storage uuid, url text, path text[])
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    job jobs := live_pack(of_job, of_user, of_storage);
    c record;
begin
    select * into c from caller_of(of_user);
    return query
    select n.id, n.parent_id, n.name, n.type, n.size, coalesce(n.modified, n.changed), n.target, n.location, t.uuid,
           t.url,
           case when n.parent_id is null then '{}' else names_of(n.parent_id) || n.name::text end
      from unnest(ids) with ordinality as wanted(node, place)
      join nodes n on n.id = wanted.node
      left join storages t on t.id = n.storage_id and n.storage_id <> of_storage
     where may_read(n.owner_id, n.public, n.group_read, n.group_write, c.caller, c.caller_groups, c.admin)
       and (n.parent_id is null or way_is_readable(n.parent_id, c.caller, c.caller_groups, c.admin))
     order by wanted.place;
end
$$;

-- Up to `at_most` children of `parents`, container by container in the order of the names, that the caller may read
-- now; of the first container those behind the name `after`.
create function storage_api.pack_children(
    of_uuid uuid, of_job text, of_user bigint, parents bigint[], after text, at_most integer
) returns table (id bigint, parent_id bigint, name text, type text, size bigint, modified timestamptz, target text,
                 location text, storage uuid, url text)
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    job jobs := live_pack(of_job, of_user, of_storage);
    c record;
    parent bigint;
    behind text collate "C" := after;
    room integer := at_most;
    found_here integer;
begin
    select * into c from caller_of(of_user);
    foreach parent in array parents loop
        if way_is_readable(parent, c.caller, c.caller_groups, c.admin) then
            return query
            select n.id, n.parent_id, n.name, n.type, n.size, coalesce(n.modified, n.changed), n.target, n.location,
                   t.uuid, t.url
              from nodes n
              left join storages t on t.id = n.storage_id and n.storage_id <> of_storage
             where n.parent_id = parent and n.name > behind
               and may_read(n.owner_id, n.public, n.group_read, n.group_write, c.caller, c.caller_groups, c.admin)
             order by n.name limit room;
            get diagnostics found_here = row_count;
            room := room - found_here;
        end if;
        exit when room = 0;
        behind := '';
    end loop;
end
$$;

-- The container that an archive is unpacked in, with the writer's rights checked now.
create function unpack_target(job jobs) returns nodes language plpgsql as $$
declare
    node nodes;
    c record;
begin
    select * into c from caller_of(job.owner_id);
    select * into node from nodes where id = job.node_id;
    if not found then
        perform raise_fault('NodeNotFound', 'the container was deleted meanwhile');
    elsif not way_is_readable(node.id, c.caller, c.caller_groups, c.admin)
       or not may_write(node.owner_id, node.group_write, c.caller, c.caller_groups, c.admin) then
        perform raise_fault('PermissionDenied', 'the right to write there was withdrawn');
    elsif node.immutable then
        perform raise_fault('PermissionDenied', 'the node is immutable');
    elsif node.locked then
        perform raise_fault('NodeLocked', 'the node is locked');
    end if;
    return node;
end
$$;

-- Take the writer's lease of the container, as storage_api.claim_upload does of a data node; `path`: its names.
create function storage_api.claim_unpack(
    of_uuid uuid, of_job text, of_user bigint, new_attempt text, lease double precision, announced bigint,
    repeat_window double precision
) returns table (size_limit bigint, request jsonb, path text[])
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    job jobs;
    node nodes;
begin
    perform set_config('synchronous_commit', 'off', true);
    job := usable_push(of_job, of_user, own_storage(of_uuid));
    if job.phase = 'COMPLETED' and job.ended < now() - make_interval(secs => repeat_window) then
        perform raise_fault('EndpointUsed', 'the archive is unpacked already; negotiate again to do it once more');
    elsif announced > job.size_limit then
        perform raise_fault('RequestEntityTooLarge',
                            format('%s bytes are more than the limit of %s', announced, job.size_limit));
    end if;
    node := unpack_target(job);
    insert into writers (parent_id, name, job_id, attempt, until)
    values (coalesce(node.parent_id, 0), node.name, of_job, new_attempt, now() + make_interval(secs => lease))
    on conflict (parent_id, name) do update
       set job_id = excluded.job_id, attempt = excluded.attempt, until = excluded.until
     where writers.until < now() or writers.job_id = excluded.job_id;
    if not found then
        perform raise_fault('NodeBusy', 'another archive is being unpacked there');
    end if;
    if job.started is null then
        update jobs set started = now() where id = of_job;
    end if;
    return query select job.size_limit, job.request, names_of(node.id);
end
$$;

-- Make one level of the containers of an archive, or find those that are there; their ids, in order.
create function unpack_folders(job jobs, parents bigint[], names text[]) returns bigint[] language plpgsql as $$
declare
    c record;
    met nodes;
    ids bigint[];
begin
    select * into c from caller_of(job.owner_id);
    with made as (
        insert into nodes (parent_id, name, type, owner_id, public, group_read, group_write, inherit)
        select p.id, f.name, 'ContainerNode', job.owner_id, p.inherit and p.public,
               case when p.inherit then p.group_read else '{}' end,
               case when p.inherit then p.group_write else '{}' end, p.inherit
          from unnest(parents, names) as f(parent, name)
          join nodes p on p.id = f.parent
        on conflict (parent_id, name) do nothing
        returning nodes.id, nodes.parent_id
    )
    insert into containers (id, path)
    select m.id, k.path || m.id::text from made m join containers k on k.id = m.parent_id;
    ids := array(select n.id
                   from unnest(parents, names) with ordinality as f(parent, name, place)
                   join nodes n on n.parent_id = f.parent and n.name = f.name
                  order by f.place);
    perform from containers k where k.id = any (ids) order by k.id for share;
    select n.* into met
      from unnest(ids) as i(id)
      join nodes n on n.id = i.id
     where n.type <> 'ContainerNode' or n.locked or n.immutable
        or not may_write(n.owner_id, n.group_write, c.caller, c.caller_groups, c.admin)
        or not may_read(n.owner_id, n.public, n.group_read, n.group_write, c.caller, c.caller_groups, c.admin)
     limit 1;
    perform refuse_clash(met, met.type = 'ContainerNode', c);
    if cardinality(ids) < cardinality(names)
       or (select count(*) from containers k where k.id = any (ids)) < cardinality(ids) then
        raise exception using errcode = 'serialization_failure', message = 'a container went meanwhile';
    end if;
    return ids;
end
$$;

-- Turn an archive into nodes, all or nothing, and complete its job. Folders come level by level: those up to the
-- place `level_ends[1]` lie in the container itself, each other one in the folder at the place `folder_parents[i]`;
-- 0 is the container. A leaf with a target becomes a link, every other one a data node with the bytes at its location.
-- The caller has published all bytes before.
create function storage_api.unpack(
    of_uuid uuid, of_job text, of_user bigint, of_attempt text, level_ends integer[], folder_parents integer[],
    folder_names text[], leaf_parents integer[], leaf_names text[], targets text[], locations text[], sizes bigint[],
    md5s bytea[], sha256s bytea[], types text[], structures text[]
) returns void language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    job jobs := live_push(of_job, of_user, of_storage);
    type_property constant text := 'ivo://ivoa.net/vospace/core#type';
    moment timestamptz;
    c record;
    met nodes;
    ids bigint[] := '{}';
    places bigint[];
    level_start integer := 1;
    level_end integer;
begin
    perform from writers where attempt = of_attempt for update;
    if not found then
        perform raise_fault('NodeBusy', 'another transfer took this node over');
    end if;
    perform from containers k
      where k.id = job.node_id and nlevel(k.path) + cardinality(level_ends) <= 201 for share;
    if not found then
        perform raise_fault('ContainerNotFound', 'the container was deleted or moved meanwhile');
    end if;
    perform unpack_target(job);
    select * into c from caller_of(job.owner_id);
    foreach level_end in array level_ends loop
        ids := ids || unpack_folders(
            job, array(select case when f.parent = 0 then job.node_id else ids[f.parent] end
                         from unnest(folder_parents[level_start:level_end]) with ordinality as f(parent, place)
                        order by f.place),
            folder_names[level_start:level_end]);
        level_start := level_end + 1;
    end loop;
    places := array(select case when f.parent = 0 then job.node_id else ids[f.parent] end
                      from unnest(leaf_parents) with ordinality as f(parent, place) order by f.place);
    if exists (select from unnest(places) as p(id) join containers k on k.id = p.id where nlevel(k.path) > 200) then
        perform raise_fault('ContainerNotFound', 'the container was moved meanwhile, too far down for this archive');
    end if;
    -- Not now(), which is when the transaction began: who waited for a node writes a later time.
    moment := clock_timestamp();
    insert into nodes (parent_id, name, type, owner_id, public, group_read, group_write, properties, target, size,
                       md5, sha256, storage_id, location, stored_by, changed, modified)
    select p.id, f.name, case when f.target is null then 'DataNode' else 'LinkNode' end, job.owner_id,
           p.inherit and p.public, case when p.inherit then p.group_read else '{}' end,
           case when p.inherit then p.group_write else '{}' end,
           case when f.type is null then '{}' else jsonb_build_object(type_property, f.type) end, f.target, f.size,
           f.md5, f.sha256, case when f.target is null then of_storage end, f.location,
           case when f.target is null then job.owner_id end, moment, case when f.target is null then moment end
      from unnest(places, leaf_names, targets, locations, sizes, md5s, sha256s, types)
           as f(parent, name, target, location, size, md5, sha256, type)
      join nodes p on p.id = f.parent
    on conflict (parent_id, name) do nothing;
    -- What was there before, in the order of the ids.
    perform from (
        select n.id from unnest(places, leaf_names) as f(parent, name)
          join nodes n on n.parent_id = f.parent and n.name = f.name
    ) as there join nodes n on n.id = there.id order by n.id for update of n;
    select n.* into met
      from unnest(places, leaf_names, targets) as f(parent, name, target)
      join nodes n on n.parent_id = f.parent and n.name = f.name
     where n.type not like case when f.target is null then '%DataNode' else 'LinkNode' end or n.locked or n.immutable
        or not may_write(n.owner_id, n.group_write, c.caller, c.caller_groups, c.admin)
     limit 1;
    perform refuse_clash(met, not exists (
        select from unnest(places, leaf_names, targets) as f(parent, name, target)
         where f.parent = met.parent_id and f.name = met.name
           and met.type not like case when f.target is null then '%DataNode' else 'LinkNode' end), c);
    if exists (select from unnest(places, leaf_names) as f(parent, name)
                where not exists (select from nodes n where n.parent_id = f.parent and n.name = f.name)) then
        raise exception using errcode = 'serialization_failure', message = 'a node went meanwhile';
    end if;
    insert into obsolete (storage_id, location)
    select distinct n.storage_id, n.location
      from unnest(places, leaf_names, locations) as f(parent, name, location)
      join nodes n on n.parent_id = f.parent and n.name = f.name
     where n.location is not null and (n.storage_id, n.location) <> (of_storage, f.location)
    on conflict (storage_id, location) do update set since = now();
    update nodes n
       set size = f.size, md5 = f.md5, sha256 = f.sha256, storage_id = of_storage, location = f.location,
           stored_by = job.owner_id, changed = moment, modified = moment,
           properties = case when job.keep_properties then n.properties - type_property else '{}' end
                        || case when f.type is null then '{}' else jsonb_build_object(type_property, f.type) end
      from unnest(places, leaf_names, locations, sizes, md5s, sha256s, types)
           as f(parent, name, location, size, md5, sha256, type)
     where f.location is not null and n.parent_id = f.parent and n.name = f.name
       and n.location is distinct from f.location;
    update nodes n set structure = f.structure
      from unnest(places, leaf_names, structures) as f(parent, name, structure)
     where f.structure is not null and n.parent_id = f.parent and n.name = f.name and n.type = 'StructuredDataNode';
    update nodes n set target = f.target, changed = moment
      from unnest(places, leaf_names, targets) as f(parent, name, target)
     where f.target is not null and n.parent_id = f.parent and n.name = f.name and n.target <> f.target;
    delete from writers where attempt = of_attempt;
    update jobs
       set phase = 'COMPLETED', ended = clock_timestamp(), started = coalesce(started, now()), message = null
     where id = of_job;
end
$$;

-- What a client who brings bytes says of them, and whether their node is structured.
create function storage_api.import_of(of_uuid uuid, of_job text) returns table (structured boolean, view text)
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
begin
    return query
    select coalesce(n.type = 'StructuredDataNode', false), j.request -> 'view' ->> 'uri'
      from jobs j left join nodes n on n.id = j.node_id
     where j.id = of_job and j.storage_id = of_storage;
end
$$;

-- Say what the bytes are that were stored at `of_location` in this transaction. If the client has said so himself
-- (`claimed`), a node that was made for them becomes structured; one that was there before never changes its type.
create function storage_api.set_structure(of_uuid uuid, of_location text, new_structure text, claimed boolean)
returns void language plpgsql security definer set search_path = public, pg_temp as $$
begin
    update nodes
       set structure = new_structure, type = 'StructuredDataNode'
     where storage_id = own_storage(of_uuid) and location = of_location
       and (type = 'StructuredDataNode' or claimed and type = 'DataNode' and created = now());
    if claimed and not found then
        perform raise_fault('ViewNotSupported', 'there is a node of another type by now');
    end if;
end
$$;

-- Where the bytes are of which a view is to be computed, and which view (see storage_api.claim_download).
create function storage_api.claim_render(of_uuid uuid, of_node bigint, of_job text, of_user bigint)
returns table (name text, modified timestamptz, location text, size bigint, md5 bytea, sha256 bytea,
               content_type text, waiting boolean, structure text, view text, params jsonb)
language plpgsql stable security definer set search_path = public, pg_temp as $$
begin
    return query
    select c.name, c.modified, c.location, c.size, c.md5, c.sha256, c.content_type, c.waiting, n.structure,
           j.request -> 'view' ->> 'uri', j.request -> 'view' -> 'params'
      from storage_api.claim_download(of_uuid, of_node, of_job, of_user) c
      join nodes n on n.id = of_node
      join jobs j on j.id = of_job;
end
$$;

revoke all on all functions in schema storage_api from public;
grant execute on all functions in schema storage_api to pyvospace_storage;
