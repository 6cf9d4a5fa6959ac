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
    turned         timestamptz,
    -- There are quotas. Where there are none, nobody looks for them.
    limited        boolean not null default false
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

-- Public SSH keys by which users come to the SFTP door.
create table ssh_keys (
    -- By which it is removed.
    id          bigint generated always as identity primary key,
    -- For whom it speaks.
    user_id     bigint not null references users,
    -- What the user calls it.
    name        text not null,
    -- SHA256:…, as ssh-keygen -l writes it. A key is of one user.
    fingerprint text collate "C" not null unique check (fingerprint ~ '^SHA256:[A-Za-z0-9+/]{43}$'),
    -- When it was added.
    created     timestamptz not null default now(),
    -- What a session may at most that was opened with it, as in tokens. NULL: all that its user may.
    scope       jsonb,
    -- When it was last used, to within an hour. NULL: never.
    last_used   timestamptz
);
create index ssh_keys_user on ssh_keys (user_id);

-- API tokens. The token itself is shown once and stored nowhere.
create table tokens (
    -- By which it is revoked.
    id        bigint generated always as identity primary key,
    -- For whom it speaks.
    user_id   bigint not null references users,
    -- What the user calls it.
    name      text not null,
    -- SHA-256 of the token, which has 256 random bits: no salt is needed.
    hash      bytea not null unique check (octet_length(hash) = 32),
    -- When it was made.
    created   timestamptz not null default now(),
    -- NULL: until it is revoked.
    expires   timestamptz,
    -- What a token may at most: {"paths": ["/home/alice/data"], "rights": ["read"]}. NULL: all that its user may.
    scope     jsonb,
    -- When it was last used, to within an hour. NULL: never.
    last_used timestamptz,
    -- Made for a password by /login, not by its user for a purpose.
    session   boolean not null default false,
    -- The key for which a door made the token for itself: with it, it dies. NULL: it was not made so.
    key_id    bigint references ssh_keys on delete cascade
);
create index tokens_user on tokens (user_id);
create index tokens_key on tokens (key_id) where key_id is not null;

-- Local groups.
create table groups (
    -- Of no meaning outside of the database: nodes name groups by URI.
    id       bigint generated always as identity primary key,
    -- What follows a prefix of the space in the group's URIs.
    name     text collate "C" not null unique check (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    -- When it was added.
    created  timestamptz not null default now(),
    -- Who may change the members of a group, hand it on and remove it, besides administrators. NULL: nobody.
    owner_id bigint references users
);
create index groups_owner on groups (owner_id);

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
create trigger groups_epoch after update or delete or truncate on groups execute function raise_epoch();
create trigger members_epoch after insert or update or delete or truncate on members execute function raise_epoch();
create trigger space_epoch after update of group_prefixes on space execute function raise_epoch();

-- URIs of the groups of a user: local ones, and those that others tell. (Sorted, for there are few of them: a union is
-- hashed, in a megabyte that costs more than all the rest.)
create function groups_of(of_user bigint) returns text[] language plpgsql stable as $$
begin
    return (select coalesce(array_agg(distinct uri), '{}') from (
        select prefix || g.name as uri
          from members m
          join groups g on g.id = m.group_id
         cross join space s
         cross join unnest(s.group_prefixes) as prefix
         where m.user_id = of_user
        union all
        select o.uri from outside_groups o where o.user_id = of_user and o.until > now()) as every);
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
    id           bigint generated by default as identity (start with 2) primary key,
    -- The container. NULL: the root. The key forbids children without container and children below data and links.
    parent_id    bigint references containers,
    -- As sent, never normalised; C collation, so that the order of a listing is the same everywhere. '' : the root.
    name         text collate "C" not null check (octet_length(name) <= 255 and (name = '') = (id = 1)),
    -- As the standard calls it; it never changes.
    type         text not null check (type in (
                    'Node', 'DataNode', 'UnstructuredDataNode', 'StructuredDataNode', 'ContainerNode', 'LinkNode')),
    -- A user. No foreign key: its check would lock the row of a busy user at each creation, and users stay for ever.
    owner_id     bigint not null check (owner_id > 0),
    -- Anybody may read.
    public       boolean not null default false,
    -- URIs of groups that may read.
    group_read   text[] not null default '{}',
    -- URIs of groups that may read and write.
    group_write  text[] not null default '{}',
    -- Of a container: new children take over its permissions.
    inherit      boolean not null default false,
    -- Closed to changes of bytes, children and place.
    locked       boolean not null default false,
    -- What clients set: URI of the property to its value. Facts of the service are never here.
    properties   jsonb not null default '{}',
    -- Of a link: any URI.
    target       text,
    -- Number of bytes. NULL, as all up to stored_by: none have come yet, which documents show as length 0.
    size         bigint check (size >= 0),
    -- Digest of the bytes, for core#MD5 and for clients.
    md5          bytea check (octet_length(md5) = 16),
    -- Digest of the bytes that can be trusted.
    sha256       bytea check (octet_length(sha256) = 32),
    -- Who keeps them. No foreign key, as for the owner: its check would lock one row in each upload.
    storage_id   integer,
    -- Name that the storage gave them; written once; copies name it too.
    location     text,
    -- The user who brought the bytes; 0: anonymous. NULL without bytes.
    stored_by    bigint,
    -- Birth of the node: btime.
    created      timestamptz not null default now(),
    -- Last change of its metadata, its place or its bytes: ctime.
    changed      timestamptz not null default now(),
    -- When the bytes came: mtime. NULL without bytes.
    modified     timestamptz,
    -- Bytes, children, target and place stay as they are, for everybody. What is in an immutable container is
    -- immutable too, down to the last node.
    immutable    boolean not null default false,
    -- Of a StructuredDataNode with bytes: name of the structured type that a storage server found them to be of.
    -- NULL: of none that it knows.
    structure    text,
    -- Bytes of its versions. They count for its owner and in the containers above, as its own.
    kept         bigint not null default 0,
    -- Number of its newest version that there ever was. 0: none.
    last_version integer not null default 0,
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

-- Whether every container on the way down to `container`, that one included, may be read, from the root on: no way
-- leads into the trash.
create function way_is_readable(container bigint, caller bigint, caller_groups text[], admin boolean)
returns boolean language plpgsql stable as $$
begin
    return (select coalesce(bool_and(may_read(n.owner_id, n.public, n.group_read, n.group_write,
                                              caller, caller_groups, admin)) and min(n.id) = 1, false)
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
    swept     timestamptz not null default '-infinity',
    -- Bytes in all, full and free. NULL: unknown.
    total bigint,
    -- What policies may ask for: 'ssd', 'archive'.
    labels text[] not null default '{}',
    -- Bytes have to be fetched from there before anybody can read them.
    cold boolean not null default false,
    -- 'active'; 'draining': no new bytes, those that are there go elsewhere; 'retired': it is not asked for anything.
    state text not null default 'active',
    -- When its bytes were last looked at for copies that are missing or spare.
    kept timestamptz not null default '-infinity',
    constraint storages_state check (state in ('active', 'draining', 'retired'))
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
    -- A row of storages. No foreign key, which would lock that row, shared by all transfers, in each negotiation: a
    -- storage is not forgotten as long as jobs name it (places.sql), and a job that comes in that moment has an endpoint
    -- that leads nowhere.
    storage_id  integer,
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
    attempt     text,
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
    shared      boolean not null default false,
    -- The token by which it was made: with it, it dies. NULL: another credential.
    token_id    bigint,
    -- What that token may at most (see tokens).
    scope       jsonb,
    -- Address (IPv6: network of 64 bits) from which an anonymous client made the job. NULL: the owner is known, or the job
    -- was negotiated at once.
    client      text
);
create index jobs_destruction on jobs (destruction);
create index jobs_expires on jobs (expires) where phase = 'EXECUTING';
-- Of each user, 0 for all who are anonymous.
create index jobs_waiting on jobs (coalesce(owner_id, 0)) where phase in ('PENDING', 'QUEUED');
create index jobs_queue on jobs (created) where phase = 'QUEUED';
create index jobs_leases on jobs (until) where phase = 'EXECUTING' and attempt is not null;
create index jobs_limited on jobs (started) where phase = 'EXECUTING' and execution_duration > 0;
create index jobs_waiting_anonymous on jobs (client) where owner_id is null and phase in ('PENDING', 'QUEUED');
create unique index jobs_attempt on jobs (attempt) where attempt is not null;
create index jobs_owner on jobs (owner_id, created, id) include (phase);

-- Wake a worker for a job that waits for one.
create function tell_workers() returns trigger language plpgsql as $$
begin
    perform pg_notify('pyvospace_queue', new.kind);
    return null;
end
$$;
create trigger jobs_queued after insert on jobs
    for each row when (new.phase = 'QUEUED') execute function tell_workers();

-- Wake those who wait for another phase, and the worker whose job was taken from it. Nobody else is told: a
-- transaction that notifies waits for all others that do.
create function tell_waiting() returns trigger language plpgsql as $$
begin
    perform pg_notify('pyvospace_jobs', old.id);
    return null;
end
$$;
create trigger jobs_gone after delete on jobs
    for each row when (old.watched > now() or old.attempt is not null) execute function tell_waiting();

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

create trigger jobs_turned after update of phase on jobs for each row execute function note_phase();

-- Uploads that are under way: a lease on a name in a container, so that a node that is only coming has one too.
create table writers (
    -- The container, as it was when the upload began.
    parent_id      bigint not null,
    -- The node's name in it.
    name           text collate "C" not null,
    -- The push that holds the lease; it may try again before the lease is over.
    job_id         text not null,
    -- Unique for each attempt: the fence. Whoever finds another value here has lost the lease.
    attempt        text not null unique,
    -- End of the lease, unless it is renewed.
    until          timestamptz not null,
    -- Who will own the node. NULL: nothing is reserved.
    owner_id       bigint,
    -- Bytes that the node may have more, when it is stored.
    reserved_bytes bigint not null default 0,
    -- 1: the node is still to be made.
    reserved_nodes bigint not null default 0,
    -- Where the container was then: somewhere else, other quotas count.
    path           ltree,
    -- When the bytes of the lease's push first began to move: its job is told when they have come, or have failed to.
    began          timestamptz not null default now(),
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
    if tg_op = 'UPDATE' and is_moving_homes() then
        return new;
    end if;
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
    return (select sum(free) from storages where is_there(last_seen) and state = 'active' and not cold);
end
$$;

-- What was said of the bytes before says nothing of other ones.
create function forget_structure() returns trigger language plpgsql as $$
begin
    if not is_moving_homes() then
        new.structure := null;
    end if;
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
    if (select state from space) <> 'ReadWrite' then
        perform require_state(true);
    end if;
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

-- Under which names others know a user: a subject of an OpenID provider, the distinguished name of a certificate.
create table identities (
    -- By which it is unlinked.
    id        bigint generated always as identity primary key,
    -- Who it is.
    user_id   bigint not null references users,
    -- How he shows it.
    kind      text not null check (kind in ('oidc', 'x509')),
    -- Who says so: the URL of a provider. '' : any authority of certificates that the service trusts.
    issuer    text collate "C" not null default '',
    -- The provider's word for him, or his distinguished name in the canonical form.
    subject   text collate "C" not null check (subject <> ''),
    -- When it was linked.
    created   timestamptz not null default now(),
    constraint identities_name unique (kind, issuer, subject)
);
create index identities_user on identities (user_id);

create trigger identities_epoch after update or delete or truncate on identities execute function raise_epoch();

-- Groups of users as others tell them: claims of tokens, group services.
create table outside_groups (
    -- A member.
    user_id bigint not null references users,
    -- Who tells it: 'oidc 12' (the identity), 'gms https://…' (the service).
    source  text collate "C" not null,
    -- Of the group.
    uri     text collate "C" not null,
    -- Not believed from here on, unless it is told again.
    until   timestamptz not null,
    primary key (user_id, source, uri)
);
create index outside_groups_uri on outside_groups (uri);
create index outside_groups_until on outside_groups (until);

-- Told again is no news: only who comes and who goes makes callers strangers.
create trigger outside_groups_epoch after insert or delete on outside_groups for each row execute function raise_epoch();

-- Say which groups `source` knows a user to be in, until when.
create function set_outside_groups(of_user bigint, of_source text, uris text[], new_until timestamptz) returns void
language plpgsql as $$
begin
    delete from outside_groups where user_id = of_user and source = of_source and uri <> all (uris);
    insert into outside_groups (user_id, source, uri, until)
    select distinct of_user, of_source, u, new_until from unnest(uris) as u
    on conflict (user_id, source, uri) do update set until = excluded.until
     where outside_groups.until <> excluded.until;
end
$$;

-- Fail if a token was revoked or, for what begins only now, has expired. NULL: it was no token.
create function live_token(of_token bigint, begins boolean) returns void language plpgsql stable as $$
begin
    if of_token is null then
        return;
    end if;
    perform from tokens t where t.id = of_token and (not begins or t.expires is null or t.expires > now());
    if not found then
        perform raise_fault('PermissionDenied', 'the token by which this endpoint was made is not valid any more');
    end if;
end
$$;

-- The owner of a job, as of now; its administrator only if the token by which the job was made says so.
create function caller_of_job(job jobs, out caller bigint, out caller_groups text[], out admin boolean)
language plpgsql stable as $$
declare
    c record;
begin
    select * into c from caller_of(job.owner_id);
    caller := c.caller;
    caller_groups := c.caller_groups;
    admin := c.admin and (job.scope is null or job.scope -> 'rights' ? 'admin');
end
$$;

-- What has changed and is in no sum yet: added by triggers in the transaction of the change, taken by the fold.
create table usage_changes (
    -- The container in which it happened, and with it all above. NULL: it concerns the owner only.
    path     ltree,
    -- Whose nodes they are. NULL: it concerns the containers only.
    owner_id bigint,
    -- More bytes, or less.
    bytes    bigint not null,
    -- More nodes, or less.
    nodes    bigint not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000);
create index usage_changes_path on usage_changes (path);
create index usage_changes_owner on usage_changes (owner_id);

-- Sums of what is below containers, without the changes that are still in usage_changes. The fold alone writes them.
create table usage (
    -- The container. No row: nothing is counted yet.
    container_id bigint primary key,
    -- Of all data nodes below it.
    bytes        bigint not null,
    -- All nodes below it, itself not among them.
    nodes        bigint not null
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);

-- The same of what users own.
create table usage_of_owners (
    -- The user.
    owner_id bigint primary key,
    -- Of all data nodes that he owns.
    bytes    bigint not null,
    -- All nodes that he owns. The root is nobody's.
    nodes    bigint not null
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);

-- What is below a container, as of the statement that asks.
create function usage_of(container bigint, out bytes bigint, out nodes bigint) language plpgsql stable as $$
begin
    select coalesce(b.bytes, 0) + coalesce(p.bytes, 0), coalesce(b.nodes, 0) + coalesce(p.nodes, 0)
      into usage_of.bytes, usage_of.nodes
      from containers c
      left join usage b on b.container_id = c.id
     cross join lateral (
         select sum(u.bytes)::bigint as bytes, sum(u.nodes)::bigint as nodes
           from usage_changes u where u.path >= c.path and u.path < (c.path::text || '0')::ltree
     ) p
     where c.id = container;
end
$$;

-- What a user owns, as of the statement that asks.
create function usage_of_owner(owner bigint, out bytes bigint, out nodes bigint) language plpgsql stable as $$
begin
    select coalesce(sum(s.bytes), 0)::bigint, coalesce(sum(s.nodes), 0)::bigint
      into usage_of_owner.bytes, usage_of_owner.nodes
      from (select b.bytes, b.nodes from usage_of_owners b where b.owner_id = owner
            union all
            select sum(u.bytes), sum(u.nodes) from usage_changes u where u.owner_id = owner) s;
end
$$;

-- Count nodes that have come. The row of their container is shared until the end of the transaction (those who make
-- nodes hold it anyway): so no tree is deleted or moved, and no path is written anew, while a change with that path is
-- on its way.
create function count_added() returns trigger language plpgsql as $$
begin
    insert into usage_changes (path, owner_id, bytes, nodes)
    select c.path, a.owner_id, a.bytes, a.nodes
      from (select parent_id, owner_id, sum(coalesce(size, 0))::bigint as bytes, count(*) as nodes
              from added group by parent_id, owner_id) a
      join containers c on c.id = a.parent_id
       for share of c;
    return null;
end
$$;

create trigger nodes_added after insert on nodes
    referencing new table as added for each statement execute function count_added();

-- Count nodes that have gone. Of a tree, what was counted below its top goes with it: its sum is taken from the
-- containers above, and changes that are not in that sum keep but their owners.
create function count_gone() returns trigger language plpgsql as $$
declare
    top record;
begin
    insert into usage_changes (path, owner_id, bytes, nodes)
    select c.path, g.owner_id, -g.bytes, -g.nodes
      from (select parent_id, owner_id, sum(coalesce(size, 0) + kept)::bigint as bytes, count(*) as nodes
              from gone group by parent_id, owner_id) g
      join containers c on c.id = g.parent_id
       for share of c;
    if exists (select from gone where last_version > 0) then
        delete from versions v using gone g where v.node_id = g.id and g.last_version > 0;
    end if;
    if not exists (select from gone where type = 'ContainerNode') then
        return null;
    end if;
    insert into usage_changes (owner_id, bytes, nodes)
    select g.owner_id, -sum(coalesce(g.size, 0) + g.kept)::bigint, -count(*)
      from gone g
     where not exists (select from containers c where c.id = g.parent_id)
     group by g.owner_id;
    for top in
        select c.path as above, c.path || g.id::text as path, u.bytes, u.nodes
          from gone g
          join containers c on c.id = g.parent_id
          left join usage u on u.container_id = g.id
         where g.type = 'ContainerNode'
    loop
        if top.nodes is not null then
            insert into usage_changes (path, bytes, nodes) values (top.above, -top.bytes, -top.nodes);
        end if;
        update usage_changes set path = null where path >= top.path and path < (top.path::text || '0')::ltree;
    end loop;
    delete from usage u using gone g where g.type = 'ContainerNode' and u.container_id = g.id;
    delete from quotas q using gone g where g.type = 'ContainerNode' and q.container_id = g.id;
    delete from policies p where p.container_id = any (array(select g.id from gone g where g.type = 'ContainerNode'));
    return null;
end
$$;

create trigger nodes_gone after delete on nodes
    referencing old table as gone for each statement execute function count_gone();

-- Count new bytes, a new place, a new owner. Who moves a container has turned the paths of all changes below it
-- before, and nobody folds meanwhile: what is in its sum goes with it. What falls under other quotas than before must
-- fit there.
create function count_changed() returns trigger language plpgsql as $$
declare
    before bigint := coalesce(old.size, 0) + old.kept;
    after bigint := coalesce(new.size, 0) + new.kept;
    below record;
begin
    if (new.parent_id, new.owner_id) = (old.parent_id, old.owner_id) then
        insert into usage_changes (path, owner_id, bytes, nodes)
        select c.path, new.owner_id, after - before, 0 from containers c where c.id = new.parent_id for share;
        return null;
    end if;
    if new.parent_id is distinct from old.parent_id then
        select coalesce(sum(u.bytes), 0)::bigint as bytes, coalesce(sum(u.nodes), 0)::bigint as nodes
          into below from usage u where u.container_id = new.id;
        insert into usage_changes (path, bytes, nodes)
        select c.path, case when c.id = new.parent_id then after + below.bytes else -before - below.bytes end,
               case when c.id = new.parent_id then 1 + below.nodes else -1 - below.nodes end
          from containers c where c.id in (old.parent_id, new.parent_id) order by c.id for share;
    elsif after <> before then
        insert into usage_changes (path, bytes, nodes)
        select c.path, after - before, 0 from containers c where c.id = new.parent_id for share;
    end if;
    if new.owner_id <> old.owner_id and new.parent_id is not null then
        insert into usage_changes (owner_id, bytes, nodes)
        values (old.owner_id, -before, -1), (new.owner_id, after, 1);
    elsif after <> before then
        insert into usage_changes (owner_id, bytes, nodes) values (new.owner_id, after - before, 0);
    end if;
    if (select limited from space) then
        perform require_quotas_above(old, new);
    end if;
    return null;
end
$$;

-- How much there may be at the most.
create table quotas (
    -- Of its lock.
    id           integer generated always as identity primary key,
    -- For what is below this container.
    container_id bigint unique,
    -- For what this user owns.
    user_id      bigint unique references users,
    -- For what the members of this group own together: its URI.
    group_uri    text collate "C" unique check (group_uri <> ''),
    -- Bytes. NULL: any number.
    bytes        bigint check (bytes >= 0),
    -- Nodes. NULL: any number.
    nodes        bigint check (nodes >= 0),
    -- Per cent, of those at which the operator wants to be told, that are used. 0: less. NULL: nobody has looked yet.
    warned       integer,
    check (num_nonnulls(container_id, user_id, group_uri) = 1),
    check (num_nonnulls(bytes, nodes) > 0)
);

-- Let everybody know that there are quotas, or none any more.
create function note_limits() returns trigger language plpgsql as $$
begin
    -- One after the other: each is to see the quotas of those before.
    perform from space for no key update;
    update space set limited = exists (select from quotas);
    return null;
end
$$;

create trigger quotas_known after insert or delete on quotas for each row execute function note_limits();

-- Users in a group, as `groups_of` knows them.
create function members_of(uri text) returns setof bigint language plpgsql stable as $$
begin
    return query
    select m.user_id
      from space s
     cross join unnest(s.group_prefixes) as prefix
      join groups g on g.name = substr(uri, length(prefix) + 1)
      join members m on m.group_id = g.id
     where starts_with(uri, prefix)
    union
    select o.user_id from outside_groups o where o.uri = members_of.uri and o.until > now();
end
$$;

-- What counts for a quota, as of the statement that asks: what is there.
create function used_of(q quotas, out bytes bigint, out nodes bigint) language plpgsql stable as $$
begin
    if q.container_id is not null then
        select u.bytes, u.nodes into used_of.bytes, used_of.nodes from usage_of(q.container_id) u;
    elsif q.user_id is not null then
        select u.bytes, u.nodes into used_of.bytes, used_of.nodes from usage_of_owner(q.user_id) u;
    else
        select sum(u.bytes)::bigint, sum(u.nodes)::bigint into used_of.bytes, used_of.nodes
          from members_of(q.group_uri) as m cross join lateral usage_of_owner(m) u;
    end if;
    bytes := coalesce(bytes, 0);
    nodes := coalesce(nodes, 0);
end
$$;

-- What is there, what uploads that are under way have reserved, and what has come of those that are not complete. A
-- lease that is over counts for longer than a transaction may take: who began to store in time may be about to commit.
create function taken_of(q quotas, out bytes bigint, out nodes bigint) language plpgsql stable as $$
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

-- Quotas of some containers and all above them, and of some owners and their groups.
create function quotas_over(below bigint[], owners bigint[]) returns setof quotas language plpgsql stable as $$
begin
    return query
    select q.* from quotas q
     where q.container_id in (select step::bigint from containers c
                               cross join unnest(string_to_array(c.path::text, '.')) as step
                               where c.id = any (below))
        or q.user_id = any (owners)
        or q.group_uri in (select unnest(groups_of(o)) from unnest(owners) as o)
     order by q.id;
end
$$;

-- How a quota refuses. What others use is nobody's business, unless he may write where it counts.
create function quota_words(q quotas, unit text, most bigint, room bigint, told boolean) returns text
language plpgsql stable as $$
begin
    if q.container_id is not null then
        return format('the quota of /%s: limit %s %s, %s left', array_to_string(names_of(q.container_id), '/'), most,
                      unit, greatest(room, 0));
    elsif not told then
        return 'the quota of its owner does not allow it';
    end if;
    return format('the quota of %s: limit %s %s, %s left',
                  coalesce(q.group_uri, (select 'user ' || u.name from users u where u.id = q.user_id)), most, unit,
                  greatest(room, 0));
end
$$;

-- Fail if a quota over the containers `below`, or over the owners, is exceeded now that more has come, or has been
-- reserved: in this transaction, which keeps the quotas locked until it ends. These are the last locks that it takes,
-- in the order of their ids. `but`: not those that the container is under as well.
create function require_quotas(
    below bigint[], owners bigint[], more_bytes bigint, more_nodes bigint, caller bigint, but bigint default null
) returns void language plpgsql as $$
declare
    known record;
    q quotas;
    taken record;
begin
    if coalesce(more_bytes, 0) <= 0 and coalesce(more_nodes, 0) <= 0 or not (select limited from space) then
        return;
    end if;
    for known in
        select o.id from quotas_over(below, owners) o
         where (o.bytes is not null and more_bytes > 0 or o.nodes is not null and more_nodes > 0)
           and (but is null or o.id not in (select b.id from quotas_over(array[but], '{}') b))
         order by o.id
    loop
        perform pg_advisory_xact_lock(8415, known.id);
        -- Both in one statement: what is stored in this moment is reserved, or there, but never neither.
        select x.* into q from quotas x where x.id = known.id;
        select t.bytes, t.nodes into taken from taken_of(q) t;
        if more_bytes > 0 and taken.bytes > q.bytes then
            perform raise_fault('QuotaExceeded', quota_words(q, 'bytes', q.bytes, q.bytes - taken.bytes + more_bytes,
                                                             caller = any (owners)));
        elsif more_nodes > 0 and taken.nodes > q.nodes then
            perform raise_fault('QuotaExceeded', quota_words(q, 'nodes', q.nodes, q.nodes - taken.nodes + more_nodes,
                                                             caller = any (owners)));
        end if;
    end loop;
end
$$;

-- Fail if a node that was moved, or given away, does not fit into the quotas that it was not under before.
create function require_quotas_above(old nodes, new nodes) returns void language plpgsql as $$
declare
    more_bytes bigint := coalesce(new.size, 0) + new.kept;
    more_nodes bigint := 1;
begin
    if new.parent_id is distinct from old.parent_id then
        if new.type = 'ContainerNode' then
            select u.bytes, u.nodes + 1 into more_bytes, more_nodes from usage_of(new.id) u;
        end if;
        perform require_quotas(array[new.parent_id], '{}', more_bytes, more_nodes, null, old.parent_id);
    end if;
    if new.owner_id <> old.owner_id then
        perform require_quotas('{}', array[new.owner_id], coalesce(new.size, 0) + new.kept, 1, new.owner_id);
    end if;
end
$$;

-- Nodes that may still come by a quota, as of the statement that asks.
create function nodes_left(quota integer) returns bigint language plpgsql stable as $$
begin
    return (select q.nodes - t.nodes from quotas q cross join lateral taken_of(q) t where q.id = quota);
end
$$;

-- Fail if a node that is being made, and not counted yet, does not fit. As long as more are left than there can be
-- others who make one in the same moment, they need not wait for each other: they share the quota's lock.
create function admit_node(container bigint, owner bigint, caller bigint) returns void language plpgsql as $$
declare
    q quotas;
    others constant bigint := current_setting('max_connections')::bigint;
    near boolean;
begin
    for q in select * from quotas_over(array[container], array[owner]) o where o.nodes is not null loop
        begin
            perform pg_advisory_xact_lock_shared(8415, q.id);
            near := nodes_left(q.id) <= others;
            if near then
                raise exception using errcode = 'VS003', message = 'share the lock no more';
            end if;
        exception
            when sqlstate 'VS003' then null;  -- the lock is given back
        end;
        if near then
            perform pg_advisory_xact_lock(8415, q.id);
            if nodes_left(q.id) < 1 then
                perform raise_fault('QuotaExceeded', quota_words(q, 'nodes', q.nodes, 0, caller = owner));
            end if;
        end if;
    end loop;
end
$$;

-- Bytes that may still come into a container for an owner, less than none if there are too many, and how more of them
-- are refused; NULL: no quota says so.
create function quota_room(container bigint, owner bigint, caller bigint, out room bigint, out words text)
language plpgsql stable as $$
begin
    if (select limited from space) then
        select q.bytes - t.bytes, quota_words(q, 'bytes', q.bytes, q.bytes - t.bytes, caller = owner)
          into room, words
          from quotas_over(array[container], array[owner]) q cross join lateral taken_of(q) t
         where q.bytes is not null
         order by 1 limit 1;
    end if;
end
$$;

-- Bytes that a user may bring into a container: that storages have room for and quotas leave. NULL: nobody knows.
create function room_for(container bigint, caller bigint) returns bigint language plpgsql stable as $$
declare
    free bigint := free_space();
begin
    if not (select limited from space) then
        return free;
    end if;
    return (select case when num_nonnulls(free, r.room) > 0 then greatest(least(free, r.room), 0) end
              from quota_room(container, caller, caller) r);
end
$$;

-- Fail if bytes that somebody wants to push would not fit, if all stays as it is. NULL: he does not say how many.
create function admit_push(container bigint, node bigint, caller bigint, announced bigint) returns void
language plpgsql stable as $$
declare
    there nodes;
    r record;
begin
    select * into there from nodes where id = node;
    select * into r from quota_room(
        case when there.type = 'ContainerNode' then node else container end,
        case when there.type like '%DataNode' then there.owner_id else coalesce(
            nullif(caller, 0), (select p.owner_id from nodes p where p.id = container)) end, caller);
    if r.room is not null
       and (case when there.type = 'ContainerNode' then r.room <= 0
                 else greatest(coalesce(announced, 1) - freed_by_store(there), 0) > greatest(r.room, 0) end) then
        perform raise_fault('QuotaExceeded', r.words);
    end if;
end
$$;

-- Take the writer's lease of the node of a push, and reserve what it will need. `announced`: bytes that will come; if
-- nobody knows, they are reserved when they are there (storage_api.reserve), and `room` says how many that may be.
create function take_lease(
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

-- Who did what to which node, from where, by which credential, and what was decided. Rows stay as they are.
create table audit (
    -- Order among rows of one moment.
    id         bigint generated always as identity,
    -- When it happened.
    at         timestamptz not null default clock_timestamp(),
    -- Who did it. 0: nobody who had shown who he is.
    user_id    bigint not null,
    -- His name then.
    name       text not null,
    -- How he showed who he is; never a secret.
    credential text not null,
    -- Address that he came from. '' : work of the service itself.
    remote     text not null,
    -- Id of the request, as logs and answers give it.
    request    text not null,
    -- What it was (pyvospace.model.audit.Action).
    action     text collate "C" not null,
    -- The node. NULL: there is none, or it is about none.
    node_id    bigint,
    -- Where it was at that moment: /names, not encoded. NULL: it is about no node.
    path       text collate "C",
    -- Whose node it was, or who it is about: he may see the row.
    owner_id   bigint,
    -- 'done', or the fault by which it was refused.
    outcome    text collate "C" not null default 'done',
    -- What else there is to say of it.
    details    jsonb not null default '{}'
) with (autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000);
-- All in the order of time; and the owner's part. What somebody does with his own is found by the owner.
create index audit_at on audit (at, id);
create index audit_owner on audit (owner_id, at, id);
create index audit_user on audit (user_id, at, id) where user_id is distinct from owner_id;

-- Nothing is ever changed here, and nothing goes but what `prune_audit` takes.
create function refuse_audit_change() returns trigger language plpgsql as $$
begin
    if tg_op <> 'DELETE' or coalesce(current_setting('pyvospace.pruning', true), '') <> 'on' then
        raise exception 'the audit log is only added to' using errcode = 'insufficient_privilege';
    end if;
    return null;
end
$$;

create trigger audit_kept before update or delete or truncate on audit
    for each statement execute function refuse_audit_change();

alter table audit enable always trigger audit_kept;

-- Take up to `at_most` of the oldest rows away that are older than some days; their number. At least a day stays.
create function prune_audit(keep_days integer, at_most integer) returns bigint
language plpgsql as $$
declare
    number bigint;
    last timestamptz;
begin
    if keep_days < 1 then
        raise exception 'an audit log of less than a day is none' using errcode = 'invalid_parameter_value';
    end if;
    perform set_config('pyvospace.pruning', 'on', true);
    with old as (
        select a.at, a.id from audit a where a.at < now() - make_interval(days => keep_days)
         order by a.at, a.id limit at_most
    ), gone as (
        delete from audit a using old where a.at = old.at and a.id = old.id returning a.at
    )
    select count(*), max(gone.at) into number, last from gone;
    perform set_config('pyvospace.pruning', '', true);
    if number > 0 then
        perform write_audit(0, null, 'pruneAudit', null, null, null,
                            jsonb_build_object('rows', number, 'until', last, 'days', keep_days));
    end if;
    return number;
end
$$;

-- Where a node is: its names behind slashes, not encoded.
create function path_of(parent bigint, name text) returns text language plpgsql stable as $$
begin
    return '/' || case when parent is null then '' else array_to_string(names_of(parent) || name, '/') end;
end
$$;

-- Write that a caller has done something, in the transaction that does it. `who`: his name, credential, address,
-- request and job, as `Caller.who` gives them. NULL: the service itself.
create function write_audit(
    actor bigint, who text[], action text, node bigint, path text, owner bigint, details jsonb
) returns void language plpgsql as $$
begin
    insert into audit (user_id, name, credential, remote, request, action, node_id, path, owner_id, details)
    values (actor, coalesce(who[1], ''), coalesce(who[2], 'service'), coalesce(who[3], ''), coalesce(who[4], ''), action,
            node, path, owner, audit_details(who, details));
end
$$;

-- Details with the job that it was done by.
create function audit_details(who text[], details jsonb) returns jsonb language plpgsql stable as $$
begin
    return case when who[5] <> '' then details || jsonb_build_object('job', who[5]) else details end;
end
$$;

-- Which rights a change has changed: {"rights": {"public": [false, true]}}, or nothing.
create function changed_rights(
    old nodes, public boolean, group_read text[], group_write text[], inherit boolean, locked boolean,
    immutable boolean
) returns jsonb language plpgsql stable as $$
declare
    before jsonb := jsonb_build_object('public', old.public, 'groupRead', old.group_read, 'groupWrite',
        old.group_write, 'inherit', old.inherit, 'locked', old.locked, 'immutable', old.immutable);
    after jsonb := jsonb_build_object('public', public, 'groupRead', group_read, 'groupWrite', group_write,
        'inherit', inherit, 'locked', locked, 'immutable', immutable);
    changed jsonb := (select jsonb_object_agg(k, jsonb_build_array(before -> k, after -> k))
                        from jsonb_object_keys(after) as k where before -> k <> after -> k);
begin
    return case when changed is null then '{}' else jsonb_build_object('rights', changed) end;
end
$$;

-- Who acts in this transaction: what the client has said by pyvospace.caller, or the role of the database.
create function acting(out actor bigint, out who text[]) language plpgsql stable as $$
declare
    told jsonb := nullif(current_setting('pyvospace.caller', true), '');
begin
    actor := coalesce((told ->> 'id')::bigint, 0);
    who := case when told is null then array['', 'database role ' || session_user, '', '', '']
           else array(select jsonb_array_elements_text(told -> 'who')) end;
end
$$;

-- A row for each change of users and what belongs to them. Arguments: the actions of insert, update and delete.
-- Of secrets it is only said that they changed.
create function audit_administration() returns trigger language plpgsql as $$
declare
    secrets constant text[] := '{password,hash}';
    ignored constant text[] := '{epoch,turned,last_used,limited,warned}';
    before jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) else '{}' end;
    after jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) else '{}' end;
    row_now jsonb := case when tg_op = 'DELETE' then before else after end;
    changed text[];
    about nodes;
    names jsonb := jsonb_strip_nulls(jsonb_build_object(
        'user', (select u.name from users u where u.id = (row_now ->> 'user_id')::bigint),
        'group', (select g.name from groups g where g.id = (row_now ->> 'group_id')::bigint)));
    a record;
begin
    select * into a from acting();
    select coalesce(array_agg(k order by k), '{}') into changed
      from jsonb_object_keys(before || after) as k
     where before -> k is distinct from after -> k and k <> all (ignored);
    if tg_op = 'UPDATE' and changed = '{}' then
        return null;
    end if;
    select * into about from nodes n where n.id = (row_now ->> 'container_id')::bigint;
    perform write_audit(
        a.actor, a.who, case tg_op when 'INSERT' then tg_argv[0] when 'UPDATE' then tg_argv[1] else tg_argv[2] end,
        about.id, case when about.id is not null then path_of(about.parent_id, about.name) end,
        case tg_table_name when 'users' then (row_now ->> 'id')::bigint
                           else coalesce(about.owner_id, (row_now ->> 'user_id')::bigint) end,
        case tg_op
        when 'UPDATE' then jsonb_build_object(
            'of', names || (row_now - secrets - ignored - changed),
            'changed', to_jsonb(changed),
            'from', (select coalesce(jsonb_object_agg(k, before -> k), '{}')
                       from unnest(changed) k where k <> all (secrets)),
            'to', (select coalesce(jsonb_object_agg(k, after -> k), '{}')
                     from unnest(changed) k where k <> all (secrets)))
        else names || (row_now - secrets - ignored) end);
    return null;
end
$$;

create trigger users_audit after insert or update or delete on users
    for each row execute function audit_administration('addUser', 'changeUser', 'removeUser');

create trigger tokens_audit after insert or update or delete on tokens
    for each row execute function audit_administration('addToken', 'changeToken', 'revokeToken');

create trigger groups_audit after insert or update or delete on groups
    for each row execute function audit_administration('addGroup', 'changeGroup', 'removeGroup');

create trigger members_audit after insert or update or delete on members
    for each row execute function audit_administration('addMember', 'changeMember', 'removeMember');

create trigger identities_audit after insert or update or delete on identities
    for each row execute function audit_administration('linkIdentity', 'changeIdentity', 'unlinkIdentity');

create trigger quotas_audit after insert or update of bytes, nodes or delete on quotas
    for each row execute function audit_administration('addQuota', 'changeQuota', 'removeQuota');

create trigger space_audit after insert or update of state, note, down_at, back_at, group_prefixes on space
    for each row execute function audit_administration('makeSpace', 'setSpace');

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

-- The deepest node on the way along `names`, and whether that is the whole way.
create function place_of(names text[], out id bigint, out owner_id bigint, out whole boolean)
language plpgsql stable as $$
begin
    with recursive walk as (
        select n.id, n.owner_id, 0 as depth from nodes n where n.id = 1
        union all
        select c.id, c.owner_id, w.depth + 1
          from walk w
          join nodes c on c.parent_id = w.id and c.name = names[w.depth + 1]
         where w.depth < cardinality(names)
    )
    select w.id, w.owner_id, w.depth = cardinality(names) into place_of.id, place_of.owner_id, place_of.whole
      from walk w order by w.depth desc limit 1;
end
$$;

-- Write what metadata servers have gathered. Who has no right to a node, and who owns it, is found here, where nobody
-- waits for it: the owner of what is not there is that of the container that it would be in, or below. A 404 is only
-- worth a row if the node is there, and of a name that was tried only what is a user's.
create function note_requests(entries jsonb) returns void language plpgsql as $$
begin
    insert into audit (at, user_id, name, credential, remote, request, action, node_id, path, owner_id, outcome, details)
    select e.at, e.user_id, e.who[1], e.who[2], e.who[3], e.who[4], e.action, case when p.whole then p.id end,
           case when p.whole then '/' || array_to_string(e.names, '/') else e.shown end, coalesce(p.owner_id, u.id),
           e.outcome, e.details || case when u.id is null then '{}' else jsonb_build_object('user', u.name) end
      from jsonb_to_recordset(entries) as e (
               at timestamptz, user_id bigint, who text[], action text, names text[], shown text, tried text,
               outcome text, details jsonb)
      left join lateral place_of(e.names) p on e.names is not null
      left join users u on u.name = e.tried
     where p.whole or e.outcome not in ('NodeNotFound', 'ContainerNotFound');
end
$$;

-- When a source last told the groups of a user, so that an older token does not bring old groups back.
create table outside_tellings (
    -- Whose groups they are.
    user_id bigint not null references users,
    -- As in outside_groups.
    source  text collate "C" not null,
    -- By the clock of the source: when it made the token, or answered.
    told    timestamptz not null,
    primary key (user_id, source)
);

-- Say which groups `source` knows a user to be in, until when, unless it has told something newer.
create function tell_outside_groups(
    of_user bigint, of_source text, uris text[], told timestamptz, new_until timestamptz
) returns boolean language plpgsql as $$
begin
    insert into outside_tellings as t (user_id, source, told) values (of_user, of_source, told)
    on conflict (user_id, source) do update set told = excluded.told where t.told <= excluded.told;
    if not found then
        return false;
    end if;
    perform set_outside_groups(of_user, of_source, uris, new_until);
    return true;
end
$$;

-- What an identity has told ends with it.
create function forget_outside_groups() returns trigger language plpgsql as $$
begin
    delete from outside_groups where user_id = old.user_id and source = 'oidc ' || old.id;
    delete from outside_tellings where user_id = old.user_id and source = 'oidc ' || old.id;
    return null;
end
$$;

create trigger identities_groups after delete on identities for each row execute function forget_outside_groups();

-- Make a user for somebody whom nobody here is known as, under the name `wanted` if nobody has that or one that looks
-- like it, else under `derived`. NULL: somebody is known
-- as him, or was quicker with the name.
create function provision_user(wanted text, derived text, of_issuer text, of_subject text) returns text
language plpgsql as $$
declare
    chosen text := derived;
    made bigint;
begin
    if exists (select from identities where kind = 'oidc' and issuer = of_issuer and subject = of_subject) then
        return null;
    end if;
    if wanted <> '' and not exists (select from users where lower(name) = lower(wanted)) then
        chosen := wanted;
    end if;
    -- For the audit log: nobody else has made him.
    perform set_config('pyvospace.caller', jsonb_build_object(
        'id', 0, 'who', jsonb_build_array('', 'oidc ' || of_issuer || ' ' || of_subject, '', '', ''))::text, true);
    insert into users (name) values (chosen) returning id into made;
    insert into identities (user_id, kind, issuer, subject) values (made, 'oidc', of_issuer, of_subject);
    return chosen;
exception when unique_violation then
    return null;
end
$$;

create trigger tokens_epoch after update of user_id, hash, expires, scope or truncate on tokens
    execute function raise_epoch();

create trigger tokens_revoked after delete on tokens for each row
    when (old.expires is null or old.expires > now()) execute function raise_epoch();

-- Wrong credentials that are not forgotten yet. To lose it in a crash costs nothing.
create unlogged table login_failures (
    -- SHA-256 of what is counted: a name from one address, a name, an address. What people type as their name may be
    -- their password.
    key     bytea primary key,
    -- How many there were at `counted`, less those that were forgotten by then.
    number  double precision not null,
    counted timestamptz not null,
    -- When all are forgotten.
    until   timestamptz not null
);

create index login_failures_until on login_failures (until);

-- Count one attempt for each of `keys`. Of `mosts` attempts one after the other is forgotten, all of them within
-- `forget` seconds. Give the numbers, in the order of the keys; or, with nothing counted, how long to wait, if one of
-- the first `hard` keys has had so many.
create function count_login(keys bytea[], mosts double precision[], hard integer, forget double precision,
                            out numbers double precision[], out wait double precision)
language plpgsql as $$
declare
    instant timestamptz := clock_timestamp();
begin
    -- In the order of the keys themselves, so that nobody waits for each other in a circle.
    insert into login_failures as f (key, number, counted, until)
    select k.key, 1, instant, instant + make_interval(secs => forget / k.most)
      from unnest(keys, mosts) as k (key, most) order by k.key
    on conflict (key) do update
       set number = greatest(0, f.number - greatest(0, extract(epoch from excluded.counted - f.counted))
                                           / extract(epoch from excluded.until - excluded.counted)) + 1,
           counted = greatest(f.counted, excluded.counted);
    select array_agg(f.number order by k.place), max((f.number - k.most) * forget / k.most) filter (where k.place <= hard)
      into numbers, wait
      from unnest(keys, mosts) with ordinality as k (key, most, place) join login_failures f using (key);
    if wait > 0 then
        update login_failures f set number = f.number - 1 where f.key = any (keys);
    else
        wait := 0;
        update login_failures f
           set number = least(f.number, k.most), until = f.counted + make_interval(secs => forget * f.number / k.most)
          from unnest(keys, mosts) as k (key, most) where f.key = k.key;
    end if;
end
$$;

-- Take one attempt back: it was right. What is counted for the first key is forgotten.
create function forgive_login(keys bytea[]) returns void language plpgsql as $$
begin
    delete from login_failures where key = keys[1];
    perform from login_failures f where f.key = any (keys) order by f.key for update;
    update login_failures f set number = greatest(0, f.number - 1) where f.key = any (keys);
end
$$;

-- Groups that were removed: nodes may still name them, so that not everybody may make one of that name.
create table former_groups (
    -- As it was in `groups`.
    name     text collate "C" primary key,
    -- Whose it was last, who may make it again. NULL: only administrators may.
    owner_id bigint references users
);

-- Note what a group was called, and whose it was.
create function remember_group() returns trigger language plpgsql as $$
begin
    insert into former_groups (name, owner_id) values (old.name, old.owner_id)
    on conflict (name) do update set owner_id = excluded.owner_id;
    return null;
end
$$;

create trigger groups_former after delete on groups for each row execute function remember_group();

-- Servers that serve a place: all processes behind one URL share a row.
create table servers (
    -- The place.
    storage_id integer not null references storages on delete cascade,
    -- Public base URL.
    url        text not null,
    -- For people.
    name       text not null,
    -- Where it stands, for clients that are near. '' : nobody says.
    site       text not null default '',
    -- Transfers under way, as it said last.
    busy       integer not null default 0,
    -- Of its last heartbeat. -infinity: it has said that it goes.
    last_seen  timestamptz not null default now(),
    primary key (storage_id, url)
);

-- More copies of bytes. What nodes name (storage_id, location) is their home; any copy may be read.
create table replicas (
    -- The home.
    storage_id  integer not null references storages,
    -- Its name there.
    location    text not null,
    -- Where the copy is.
    at_storage  integer not null references storages,
    -- Its name there.
    at_location text not null,
    -- When it was made.
    made        timestamptz not null default now(),
    -- It was recalled from a cold storage, and stays until then. NULL: as policies say.
    keep_until timestamptz,
    primary key (storage_id, location, at_storage),
    constraint replicas_place unique (at_storage, at_location),
    constraint replicas_elsewhere check (storage_id <> at_storage)
);

-- What data nodes held before.
create table versions (
    -- The data node.
    node_id      bigint not null,
    -- 1, 2, 3 … in the order in which they were replaced.
    number       integer not null,
    -- As in nodes, from here on.
    storage_id   integer not null,
    -- The name that the storage gave them.
    location     text not null,
    -- Number of bytes.
    size         bigint not null,
    -- Digest of the bytes, for clients.
    md5          bytea not null,
    -- Digest of the bytes that can be trusted.
    sha256       bytea not null,
    -- As it was told with them. NULL: nobody did.
    content_type text,
    -- Name of the structured type that they are of.
    structure    text,
    -- The user who brought them; 0: anonymous.
    stored_by    bigint not null,
    -- When they had come.
    modified     timestamptz not null,
    -- When other bytes came in their place.
    replaced     timestamptz not null default clock_timestamp(),
    primary key (node_id, number)
);
create index versions_location on versions (storage_id, location);

-- Uploads that come in parts, over more than one request.
create table partials (
    -- 160 random bits.
    id         text primary key check (id ~ '^[0-9a-f]{40}$'),
    -- The push that it is for.
    job_id     text not null,
    -- Where its parts are.
    storage_id integer not null references storages,
    -- Bytes in all. NULL: the client has not said so yet.
    size       bigint,
    -- Forgotten from here on.
    expires    timestamptz not null,
    -- When it began.
    created    timestamptz not null default now(),
    -- The user who brings it. 0: nobody has said who he is.
    user_id bigint not null default 0,
    -- Bytes that are there.
    received bigint not null default 0,
    -- Bytes that will be there when the request that runs now is through, if it says how many it brings.
    promised bigint not null default 0,
    -- Media type of the whole. NULL: the client names none.
    content_type text,
    -- What the client says of it, as he wrote it; given back to him.
    metadata text not null default '',
    -- It never becomes a node itself: others are put together from it.
    part boolean not null default false,
    -- Upload-Concat, as the client wrote it.
    concat text not null default '',
    -- It is put together from these, in this order. NULL: its bytes are its own.
    parts text[],
    -- The container that quotas look at, as it was when bytes came last.
    container_id bigint,
    -- Who will own the node, likewise.
    owner_id bigint,
    -- Bytes that quotas count: those that are there beyond what they will replace.
    reserved bigint not null default 0,
    -- The request that writes to it: the fence. NULL: none.
    attempt text,
    -- End of its lease, unless it is renewed. Whoever makes the whole has a lease of the node instead.
    until timestamptz,
    -- Digests of all bytes so far. NULL: not known.
    md5 bytea,
    -- The same as SHA-256.
    sha256 bytea,
    -- When it became the node's bytes. NULL: it has not.
    finished timestamptz
);
create index partials_expires on partials (expires);
create index partials_job on partials (job_id);
create index partials_user on partials (user_id) where finished is null;
create index partials_attempt on partials (attempt) where attempt is not null;

-- Their parts, in the order of the bytes.
create table segments (
    -- The upload.
    partial_id text not null references partials,
    -- Where its first byte is in the whole.
    start      bigint not null,
    -- Number of its bytes.
    size       bigint not null,
    -- Who keeps it.
    storage_id integer not null,
    -- The name that the storage gave it.
    location   text not null,
    -- Where the request that brought it began: what is taken back is taken back by whole requests.
    request bigint not null default 0,
    -- Digests of all bytes up to its end. NULL: not known.
    md5 bytea,
    -- The same as SHA-256.
    sha256 bytea,
    primary key (partial_id, start)
);
create index segments_location on segments (storage_id, location);

-- What is done with the bytes of a container and all below it. NULL: as in the container above; the root has it all.
create table policies (
    -- The container. Rows of containers that are gone mean nothing.
    container_id bigint primary key,
    -- New bytes go to storages with this label. '' : to any.
    label        text,
    -- Copies of bytes, the first included.
    replicas     integer check (replicas between 1 and 9),
    -- Older contents that a data node keeps.
    versions     integer check (versions between 0 and 10000),
    -- Days for which deleted nodes can be restored. 0: they are gone at once.
    trash_days   integer check (trash_days between 0 and 36500),
    -- Days after which bytes that nobody writes go to a cold storage. 0: never.
    tier_days    integer check (tier_days between 0 and 36500)
);
-- Few containers have such policies, and each upload asks whether any has.
create index policies_labels on policies (label) where label <> '';
create index policies_copies on policies (replicas) where replicas > 1;
create index policies_tiers on policies (tier_days) where tier_days > 0;
-- Few containers have such policies, and each upload and each deletion asks whether any has: for the first row of an index
-- that is empty nearly everywhere.
create index policies_versions on policies (versions) where versions > 0;
create index policies_trash on policies (trash_days) where trash_days > 0;

-- What is done with the bytes of a container: each value of the nearest container above that has it.
create function policy_of(container bigint) returns policies language plpgsql stable as $$
declare
    found policies;
begin
    select container, (array_agg(p.label order by a.depth desc) filter (where p.label is not null))[1],
           (array_agg(p.replicas order by a.depth desc) filter (where p.replicas is not null))[1],
           (array_agg(p.versions order by a.depth desc) filter (where p.versions is not null))[1],
           (array_agg(p.trash_days order by a.depth desc) filter (where p.trash_days is not null))[1],
           (array_agg(p.tier_days order by a.depth desc) filter (where p.tier_days is not null))[1]
      into found
      from containers c
     cross join unnest(string_to_array(c.path::text, '.')::bigint[]) with ordinality as a(id, depth)
      join policies p on p.container_id = a.id
     where c.id = container;
    return found;
end
$$;

-- Bytes that are not what they should be, found by those who look: nobody is given them.
create table damages (
    -- Where: a home, or a copy.
    storage_id integer not null references storages,
    -- Its name there.
    location   text not null,
    -- 'missing', 'size', 'digest', 'unreadable'.
    kind       text not null check (kind in ('missing', 'size', 'digest', 'unreadable')),
    -- When it was first seen.
    found      timestamptz not null default now(),
    -- For people.
    details    text not null default '',
    primary key (storage_id, location)
);

-- Whether anything has a name for these bytes: a node, a version, a part of an upload, or the home of which they are
-- a copy.
create function is_named(of_storage integer, place text) returns boolean language plpgsql stable as $$
begin
    return exists (select from named_bytes b where b.storage_id = of_storage and b.location = place);
end
$$;

-- Note that somebody has turned away from bytes; the sweep finds out whether anything still names them.
create function turn_away(of_storage integer, place text) returns void language plpgsql as $$
begin
    insert into obsolete (storage_id, location) values (of_storage, place)
    on conflict (storage_id, location) do update set since = now();
end
$$;

-- A node is about to get other bytes: those that it has become a version, or are turned away.
create function part_with_bytes(node nodes) returns void language plpgsql as $$
declare
    keep integer;
begin
    if node.location is null then
        return;
    end if;
    keep := versions_of(node);
    if keep = 0 then
        perform turn_away(node.storage_id, node.location);
    else
        perform make_version(node);
    end if;
    if node.last_version > 0 and node.last_version >= keep then
        delete from versions v
         where v.node_id = node.id
           and v.number in (select o.number from versions o where o.node_id = node.id order by o.number desc offset keep);
    end if;
end
$$;

-- Where a storage has bytes that are at home at `home`: there, or a copy. NULL: nowhere, or only damaged ones.
create function place_at(home integer, home_location text, of_storage integer) returns text
language plpgsql stable as $$
begin
    return (
        select p.place
          from (select home_location as place where home = of_storage
                union all
                select r.at_location from replicas r
                 where r.storage_id = home and r.location = home_location and r.at_storage = of_storage) p
         where not exists (select from damages d where d.storage_id = of_storage and d.location = p.place)
         limit 1);
end
$$;

-- Transfers that servers of storages offer by other protocols than HTTP, since they last said so.
create table offers (
    -- The server.
    storage_id integer not null,
    -- The server.
    url        text not null,
    -- URI of the protocol.
    protocol   text not null,
    -- Base URL: user and password of a job come into it, the name of its node behind it.
    endpoint   text not null,
    -- What clients are told beside that: pairs of a URI and a value.
    params     jsonb not null,
    primary key (storage_id, url, protocol),
    foreign key (storage_id, url) references servers on delete cascade
);

create trigger ssh_keys_audit after insert or update of user_id, name, fingerprint, scope or delete on ssh_keys
    for each row execute function audit_administration('addKey', 'changeKey', 'removeKey');

create trigger partials_state before insert on partials for each statement execute function refuse_writers();

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

-- Bytes that quotas count of an upload in parts, and for whom: beyond what they will replace, which is replaced only
-- once, however many uploads somebody has begun for the node. What will be discarded is there until then.
create function count_partial(job jobs, of_id text, node nodes) returns void language plpgsql as $$
declare
    container bigint := coalesce(node.parent_id, job.parent_id);
    owner bigint := coalesce(node.owner_id, job.owner_id, (select p.owner_id from nodes p where p.id = job.parent_id));
    freed bigint := freed_by_store(node);
    old partials;
    more bigint;
begin
    select * into old from partials where id = of_id;
    if freed > 0 then
        freed := greatest(freed - (
            select coalesce(sum(greatest(p.received, p.promised) - p.reserved), 0)
              from partials p join jobs j on j.id = p.job_id
             where p.user_id = old.user_id and p.finished is null and p.id <> of_id and not j.discard
               and (j.node_id = node.id or j.parent_id = node.parent_id and j.name = node.name)), 0);
    end if;
    more := greatest(greatest(old.received, old.promised) - freed, 0);
    update partials set reserved = more, container_id = container, owner_id = owner where id = of_id;
    if more > old.reserved then
        perform require_quotas(array[container], array[owner], more - old.reserved, 0, job.owner_id);
    end if;
end
$$;

-- For how long after its last heartbeat a server is there.
create function is_there(seen timestamptz) returns boolean language sql stable parallel safe as $$
    select seen > now() - interval '30 seconds'
$$;

-- What servers tell of themselves is no change that anybody has made.
create trigger storages_audit after insert or delete on storages
    for each row execute function audit_administration('addStorage', 'changeStorage', 'removeStorage');

create trigger storages_turned after update of state on storages
    for each row when (old.state <> new.state)
    execute function audit_administration('addStorage', 'changeStorage', 'removeStorage');

-- A server for new bytes in a container: of a place that takes them, has room, and bears the label of the policy; near
-- first, then by lot, which falls the more often on a server the more room and the fewer transfers it has.
create function place_for_upload(container bigint, announced bigint, near text, out id integer, out url text, out uuid uuid)
language plpgsql as $$
#variable_conflict use_column
declare
    wanted text := '';
begin
    -- The first row of an index that is empty nearly everywhere (nothing but an order makes sure of it).
    if (select p.label from policies p where p.label <> '' order by p.label limit 1) is not null then
        wanted := coalesce((policy_of(container)).label, '');
    end if;
    select s.id, v.url, s.uuid into place_for_upload.id, place_for_upload.url, place_for_upload.uuid
      from storages s
      join servers v on v.storage_id = s.id and is_there(v.last_seen)
     where s.state = 'active' and not s.cold and is_there(s.last_seen)
       and (s.free is null or s.free > coalesce(announced, 0))
       and (wanted = '' or wanted = any (s.labels))
     order by near <> '' and v.site <> near,
              -ln(1 - random()) * (1 + v.busy) / greatest(coalesce(s.free, avg(s.free) over (), 1), 1)
     limit 1;
end
$$;

-- Servers that can be asked for the bytes that are at home at `place` of a storage, the best one first. `frozen`: those
-- of cold places, that clients are not sent to.
create function places_of(of_storage integer, place text, near text, frozen boolean)
returns table (id integer, url text, uuid uuid) language plpgsql as $$
begin
    return query
    select s.id, v.url, s.uuid
      from (select of_storage as storage, place as location
            union all
            select r.at_storage, r.at_location from replicas r
             where r.storage_id = of_storage and r.location = place) p
      join storages s on s.id = p.storage and s.state <> 'retired' and s.cold = frozen and is_there(s.last_seen)
      join servers v on v.storage_id = s.id and is_there(v.last_seen)
     where not exists (select from damages d where d.storage_id = p.storage and d.location = p.location)
     order by near <> '' and v.site <> near, -ln(1 - random()) * (1 + v.busy)
     limit 4;
end
$$;

-- The same for a node. Without bytes (or without a node) any server will do.
create function places_to_read(of_node bigint, near text) returns table (id integer, url text, uuid uuid)
language plpgsql as $$
declare
    home integer;
    place text;
begin
    select n.storage_id, n.location into home, place from nodes n where n.id = of_node;
    if place is not null then
        return query select * from places_of(home, place, near, false);
        return;
    end if;
    return query
    select s.id, v.url, s.uuid
      from storages s
      join servers v on v.storage_id = s.id and is_there(v.last_seen)
     where s.state <> 'retired' and not s.cold and is_there(s.last_seen)
     order by near <> '' and v.site <> near, -ln(1 - random()) * (1 + v.busy)
     limit 1;
end
$$;

-- Where a storage that makes an archive finds the bytes of a node: at a location of its own, or at a server elsewhere.
create function member_at(home integer, place text, of_storage integer, out location text, out storage uuid, out url text)
language plpgsql as $$
begin
    location := place_at(home, place, of_storage);
    if location is null and place is not null then
        location := place;
        select p.uuid, p.url into storage, url from places_of(home, place, '', false) p limit 1;
        if not found then
            select s.uuid, s.url into storage, url from storages s where s.id = home;
        end if;
    end if;
end
$$;

-- Copies that are to be made. A server of the target fetches the bytes.
create table replications (
    -- The home of the bytes.
    storage_id integer not null references storages on delete cascade,
    -- Its name there.
    location   text not null,
    -- Where the copy is to be.
    at_storage integer not null references storages on delete cascade,
    -- As in replicas.
    keep_until timestamptz,
    -- Nobody begins it before.
    due        timestamptz not null default now(),
    -- The fence of who fetches. NULL: nobody has tried.
    attempt    text unique,
    -- End of his lease, unless it is renewed.
    until      timestamptz,
    -- How often it was begun.
    attempts   integer not null default 0,
    -- Bytes that have come.
    bytes_done bigint not null default 0,
    -- What went wrong the last time.
    message    text,
    primary key (storage_id, location, at_storage)
);
create index replications_due on replications (at_storage, due);

-- Wake the storage servers that make copies.
create function tell_copiers() returns trigger language plpgsql as $$
begin
    perform pg_notify('pyvospace_queue', 'replica');
    return null;
end
$$;

create trigger replications_entered after insert on replications execute function tell_copiers();

-- Bytes at a home, as those who name it know them. NULLs: nobody does.
create function bytes_of(home integer, place text, out size bigint, out md5 bytea, out sha256 bytea)
language plpgsql stable as $$
begin
    select n.size, n.md5, n.sha256 into size, md5, sha256
      from nodes n where n.storage_id = home and n.location = place limit 1;
    if not found then
        select v.size, v.md5, v.sha256 into size, md5, sha256
          from versions v where v.storage_id = home and v.location = place limit 1;
    end if;
end
$$;

-- What policies want of the bytes at a home: the most copies, a label, and from when on they belong in a cold storage.
create function wishes_for(home integer, place text, out copies integer, out label text, out cold_from timestamptz)
language plpgsql stable as $$
begin
    select coalesce(max(p.replicas), 1), coalesce(max(p.label), ''),
           coalesce(max(case when p.tier_days > 0 then x.modified + make_interval(days => p.tier_days)
                             else 'infinity' end), 'infinity')
      into copies, label, cold_from
      from (select n.parent_id as container, n.modified
              from nodes n where n.storage_id = home and n.location = place
             union all
            select n.parent_id, v.modified
              from versions v join nodes n on n.id = v.node_id
             where v.storage_id = home and v.location = place
             limit 100) x
     cross join lateral policy_of(x.container) p;
    if cold_from <= now() and not exists (select from storages s where s.cold and s.state = 'active') then
        cold_from := 'infinity';
    end if;
end
$$;

-- All copies of the bytes at a home, that one first. sound: it counts as one; there: it can be read now.
create function copies_of(home integer, place text, lost_after double precision)
returns table (storage integer, place_there text, at_home boolean, cold boolean, sound boolean, there boolean,
               keep_until timestamptz) language plpgsql stable as $$
begin
    return query
    select s.id, c.location, c.at_home, s.cold,
           s.state = 'active' and s.last_seen > now() - make_interval(secs => lost_after) and d.location is null,
           s.state <> 'retired' and is_there(s.last_seen) and d.location is null, c.until
      from (select home as storage_id, place as location, true as at_home, null::timestamptz as until
            union all
            select r.at_storage, r.at_location, false, r.keep_until
              from replicas r where r.storage_id = home and r.location = place) c
      join storages s on s.id = c.storage_id
      left join damages d on d.storage_id = c.storage_id and d.location = c.location
     order by c.at_home desc;
end
$$;

-- Have up to `number` more copies made, in places that have none yet. Labels are for those places that clients use.
create function enter_copies(home integer, place text, number integer, wanted text, frozen boolean, until timestamptz)
returns integer language plpgsql as $$
declare
    bytes bigint := (select b.size from bytes_of(home, place) b);
    entered integer;
begin
    insert into replications (storage_id, location, at_storage, keep_until)
    select home, place, s.id, until
      from storages s
     where s.state = 'active' and s.cold = frozen and is_there(s.last_seen)
       and (s.free is null or s.free > coalesce(bytes, 0)) and (frozen or wanted = '' or wanted = any (s.labels))
       and s.id <> home
       and not exists (select from replicas r
                        where r.storage_id = home and r.location = place and r.at_storage = s.id)
     order by -ln(1 - random()) / greatest(coalesce(s.free, 1), 1)
     limit number
    on conflict do nothing;
    get diagnostics entered = row_count;
    return entered;
end
$$;

-- Have the copies made that policies want and that are not there.
create function enter_missing(home integer, place text, lost_after double precision) returns void
language plpgsql as $$
declare
    w record;
    c record;
    frozen boolean;
    coming integer;
begin
    select * into w from wishes_for(home, place);
    frozen := w.cold_from <= now();
    select count(*) filter (where k.sound and k.cold = frozen) as good, bool_or(k.there) as readable into c
      from copies_of(home, place, lost_after) k;
    select count(*) into coming
      from replications r join storages s on s.id = r.at_storage
     where r.storage_id = home and r.location = place and s.cold = frozen and r.keep_until is null;
    if c.readable and c.good + coming < w.copies then
        perform enter_copies(home, place, (w.copies - c.good - coming)::integer, w.label, frozen, null);
    end if;
end
$$;

-- Turn away from copies that nobody wants: those beyond the number, as far as the others can be read now, and those in
-- places that do not count, once there are enough elsewhere.
create function drop_spare(home integer, place text, lost_after double precision) returns void
language plpgsql as $$
declare
    w record;
    frozen boolean;
    good integer;
    spare integer[];
begin
    select * into w from wishes_for(home, place);
    frozen := w.cold_from <= now();
    select count(*) into good
      from copies_of(home, place, lost_after) k where k.sound and k.there and k.cold = frozen;
    if good < w.copies and not (frozen and good > 0) then
        return;
    end if;
    spare := array(select k.storage from copies_of(home, place, lost_after) k
                    where not k.at_home and coalesce(k.keep_until, '-infinity') < now()
                      and (not k.sound or k.cold <> frozen))
          || array(select k.storage from copies_of(home, place, lost_after) k
                     join storages s on s.id = k.storage
                    where not k.at_home and coalesce(k.keep_until, '-infinity') < now() and k.sound and k.cold = frozen
                    order by s.free nulls last limit greatest(good - w.copies, 0));
    with gone as (
        delete from replicas r where r.storage_id = home and r.location = place and r.at_storage = any (spare)
        returning r.at_storage, r.at_location
    )
    insert into obsolete (storage_id, location) select at_storage, at_location from gone
    on conflict (storage_id, location) do update set since = now();
end
$$;

-- Which of its copies is to be the home of bytes whose home does not count any more, or is not where policies want it.
-- NULL: it stays.
create function next_home(home integer, place text, lost_after double precision) returns integer
language plpgsql stable as $$
declare
    w record;
    here record;
    frozen boolean;
begin
    select * into here from copies_of(home, place, lost_after) k where k.at_home;
    select * into w from wishes_for(home, place);
    frozen := w.cold_from <= now();
    if here.sound and here.cold = frozen then
        return null;
    end if;
    return (select k.storage from copies_of(home, place, lost_after) k
             where not k.at_home and k.sound and (k.there or not here.sound)
               and (not here.sound or k.cold = frozen and k.keep_until is null)
             order by k.cold = frozen desc, k.there desc limit 1);
end
$$;

-- Look at up to `at_most` locations of a storage behind `behind`, homes and copies: have missing copies made, turn away
-- from spare ones, and tell which bytes need another home. `last` is null at the end.
create function keep_page(
    of_storage integer, behind text, at_most integer, lost_after double precision,
    out last text, out homes integer[], out places text[]
) language plpgsql as $$
declare
    one record;
    seen integer := 0;
begin
    homes := '{}';
    places := '{}';
    update storages set kept = now() where id = of_storage;
    for one in
        select x.here, x.home, x.place
          from ((select distinct n.location as here, of_storage as home, n.location as place
                   from nodes n where n.storage_id = of_storage and n.location > behind order by 1 limit at_most)
                union
                (select distinct v.location, of_storage, v.location
                   from versions v where v.storage_id = of_storage and v.location > behind order by 1 limit at_most)
                union
                (select r.at_location, r.storage_id, r.location
                   from replicas r where r.at_storage = of_storage and r.at_location > behind order by 1 limit at_most)) x
         order by x.here limit at_most
    loop
        seen := seen + 1;
        last := one.here;
        perform enter_missing(one.home, one.place, lost_after);
        perform drop_spare(one.home, one.place, lost_after);
        if next_home(one.home, one.place, lost_after) is not null then
            homes := homes || one.home;
            places := places || one.place;
        end if;
    end loop;
    if seen < at_most then
        last := null;
    end if;
end
$$;

-- Make copies the homes of their bytes. Nothing of it shows: the bytes are the same. While this is done nobody makes
-- another node of the same bytes (see storage_api.take_obsolete).
create function move_homes(homes integer[], places text[], lost_after double precision) returns integer
language plpgsql set lock_timeout = '1s' as $$
declare
    one record;
    target integer;
    copy replicas;
    moved integer := 0;
begin
    begin
        perform pg_advisory_xact_lock(8413);
    exception
        when lock_not_available then return 0;  -- a large copy: next time
    end;
    perform set_config('pyvospace.moving_homes', 'on', true);
    for one in select * from unnest(homes, places) as t(home, place) loop
        target := next_home(one.home, one.place, lost_after);
        select * into copy from replicas r
         where r.storage_id = one.home and r.location = one.place and r.at_storage = target for update;
        continue when not found;
        update nodes set storage_id = copy.at_storage, location = copy.at_location
         where storage_id = one.home and location = one.place;
        update versions set storage_id = copy.at_storage, location = copy.at_location
         where storage_id = one.home and location = one.place;
        delete from replicas r
         where r.storage_id = one.home and r.location = one.place and r.at_storage = target;
        update replicas r set storage_id = copy.at_storage, location = copy.at_location
         where r.storage_id = one.home and r.location = one.place;
        delete from replications r
         where r.storage_id = one.home and r.location = one.place and r.at_storage = target;
        update replications r set storage_id = copy.at_storage, location = copy.at_location
         where r.storage_id = one.home and r.location = one.place;
        perform turn_away(one.home, one.place);
        moved := moved + 1;
    end loop;
    perform set_config('pyvospace.moving_homes', '', true);
    return moved;
end
$$;

-- The same bytes in another place are no change of an immutable node, and what was said of them holds.
create function is_moving_homes() returns boolean language sql stable as $$
    select coalesce(current_setting('pyvospace.moving_homes', true) = 'on', false)
$$;

-- A storage whose bytes are to be looked at: its turn has come after `every` seconds; one that does not count any more
-- is looked at again and again. Where nobody wants copies there is nothing to look for.
create function storage_to_keep(every double precision, lost_after double precision) returns integer
language plpgsql as $$
declare
    wanted boolean := (select p.replicas from policies p where p.replicas > 1 order by p.replicas limit 1) is not null
                   or (select p.tier_days from policies p where p.tier_days > 0 order by p.tier_days limit 1) is not null
                   or exists (select from replicas limit 1) or exists (select from damages limit 1);
    found_id integer;
begin
    update storages s set kept = now()
     where s.id = (select t.id from storages t
                    where t.kept < now() - interval '5 seconds'
                      and (t.state = 'draining' or t.last_seen < now() - make_interval(secs => lost_after)
                           or wanted and t.kept < now() - make_interval(secs => every))
                      and t.state <> 'retired'
                    order by t.kept limit 1 for update skip locked)
    returning s.id into found_id;
    return found_id;
end
$$;

-- Bytes have come for which policies want copies: have them made at once. A large tree that was copied is left to who
-- looks at all bytes.
create function want_copies() returns trigger language plpgsql as $$
begin
    if (select p.replicas from policies p where p.replicas > 1 order by p.replicas limit 1) is null
       or is_moving_homes() then
        return null;
    elsif tg_op = 'INSERT' then
        perform enter_missing(x.storage_id, x.location, 3600)
           from (select distinct a.storage_id, a.location from added a where a.location is not null limit 1000) x;
    else
        perform enter_missing(x.storage_id, x.location, 3600)
           from (select distinct a.storage_id, a.location
                   from added a join gone g on g.id = a.id
                  where a.location is not null and a.location is distinct from g.location limit 1000) x;
    end if;
    return null;
end
$$;

create trigger nodes_copies_added after insert on nodes referencing new table as added
    for each statement execute function want_copies();

create trigger nodes_copies_changed after update on nodes referencing old table as gone new table as added
    for each statement execute function want_copies();

-- Transfers that wait for bytes of cold storages. They are EXECUTING and get their endpoints when the bytes are there.
create table recalls (
    -- The job.
    job_id text primary key references jobs on delete cascade,
    -- Seconds that the endpoints last.
    life   double precision not null
);

-- Where clients stand with bytes whose home is cold: online (there is a copy that they can have), recalling, nearline.
create function tier_of(home integer, place text) returns text language plpgsql stable as $$
begin
    return case when exists (select from replicas r join storages s on s.id = r.at_storage
                              where r.storage_id = home and r.location = place and not s.cold) then 'online'
                when exists (select from replications r join storages s on s.id = r.at_storage
                              where r.storage_id = home and r.location = place and not s.cold) then 'recalling'
                else 'nearline' end;
end
$$;

-- Have bytes brought back from a cold storage, for so many days; true: they are there, or on their way.
create function recall(home integer, place text, keep_days double precision) returns boolean language plpgsql as $$
declare
    until timestamptz := now() + make_interval(secs => keep_days * 86400);
begin
    if not exists (select from storages s where s.id = home and s.cold) then
        return true;
    end if;
    update replicas r set keep_until = greatest(r.keep_until, until)
      from storages s
     where s.id = r.at_storage and not s.cold and r.storage_id = home and r.location = place
       and r.keep_until is not null;
    return tier_of(home, place) <> 'nearline'
        or enter_copies(home, place, 1, (select w.label from wishes_for(home, place) w), false, until) > 0
        or enter_copies(home, place, 1, '', false, until) > 0;
end
$$;

-- Recall the bytes of a node; null: they are in no cold storage.
create function recall_node(of_node bigint, keep_days double precision) returns boolean language plpgsql as $$
begin
    return (select recall(n.storage_id, n.location, keep_days)
              from nodes n join storages s on s.id = n.storage_id and s.cold where n.id = of_node);
end
$$;

-- Give transfers whose bytes have come back their endpoints.
create function wake_recalls() returns integer language plpgsql as $$
declare
    woken integer;
begin
    with ready as (
        select r.job_id, r.life, (select p.id from places_to_read(j.node_id, '') p limit 1) as place
          from recalls r join jobs j on j.id = r.job_id
         order by j.created limit 1000 for update of r skip locked
    ), gone as (
        delete from recalls r using ready y where r.job_id = y.job_id and y.place is not null
    )
    update jobs j set storage_id = y.place, expires = now() + make_interval(secs => y.life)
      from ready y where j.id = y.job_id and y.place is not null and j.phase = 'EXECUTING';
    get diagnostics woken = row_count;
    return woken;
end
$$;

-- Recall what a caller may read of up to `at_most` containers behind `behind` in the tree at `top`, and count it. `last`
-- is null at the end.
create function recall_page(
    top ltree, behind ltree, at_most integer, keep_days double precision, caller bigint, caller_groups text[],
    admin boolean, out last text, out nodes bigint, out bytes bigint
) language plpgsql as $$
declare
    page bigint[];
begin
    select array_agg(k.id), (array_agg(k.path::text))[cardinality(array_agg(k.id))] into page, last
      from (select c.id, c.path from containers c
             where c.path >= top and c.path < (top::text || '0')::ltree and (behind is null or c.path > behind)
             order by c.path limit at_most) k;
    select count(*) filter (where x.done), coalesce(sum(x.size) filter (where x.done), 0) into nodes, bytes
      from (select n.size, recall(n.storage_id, n.location, keep_days) as done
              from nodes n join storages s on s.id = n.storage_id and s.cold
             where n.parent_id = any (page)
               and may_read(n.owner_id, n.public, n.group_read, n.group_write, caller, caller_groups, admin)) x;
    if cardinality(page) < at_most then
        last := null;
    end if;
end
$$;

-- How many nodes of the tree at `top` (NULL: the node `of_node` alone) wait for their bytes, and how many bytes.
create function recalls_left(top ltree, of_node bigint, out nodes bigint, out bytes bigint) language plpgsql stable as $$
begin
    select count(*), coalesce(sum(n.size), 0) into nodes, bytes
      from replications r
      join nodes n on n.storage_id = r.storage_id and n.location = r.location
      left join containers c on c.id = n.parent_id
     where r.keep_until is not null
       and (n.id = of_node or top is not null and c.path >= top and c.path < (top::text || '0')::ltree);
end
$$;

-- All names of bytes, with what is known of the bytes. Who adds a table that names bytes adds it here, and everybody
-- knows: the sweep, fsck and the scrubber. A copy has the size and the digests of its home (`bytes_at`).
create view named_bytes as
    select n.storage_id, n.location, n.size, n.md5, n.sha256 from nodes n where n.location is not null
    union all
    select v.storage_id, v.location, v.size, v.md5, v.sha256 from versions v
    union all
    select s.storage_id, s.location, s.size, null::bytea, null::bytea from segments s
    union all
    select r.at_storage, r.at_location, null::bigint, null::bytea, null::bytea from replicas r;

-- What the bytes at a location should be; known is false if nothing names them. NULL: nobody knows.
create function bytes_at(of_storage integer, place text, out known boolean, out size bigint, out md5 bytea,
                         out sha256 bytea)
language plpgsql stable as $$
begin
    select true, b.size, b.md5, b.sha256 into bytes_at.known, bytes_at.size, bytes_at.md5, bytes_at.sha256
      from named_bytes b
     where b.storage_id = of_storage and b.location = place
     order by b.sha256 is null, b.size is null limit 1;
    known := coalesce(known, false);
    if known and size is null then
        select h.size, h.md5, h.sha256 into bytes_at.size, bytes_at.md5, bytes_at.sha256
          from replicas r
          join named_bytes h on h.storage_id = r.storage_id and h.location = r.location
         where r.at_storage = of_storage and r.at_location = place
         order by h.sha256 is null, h.size is null limit 1;
    end if;
end
$$;

-- Where a node is that has these bytes, for people. NULL: none has them, or none that can be seen.
create function path_at(of_storage integer, place text) returns text language plpgsql stable as $$
begin
    return (select path_of(n.parent_id, n.name) from nodes n join containers c on c.id = n.parent_id and c.path >= '1'
             where n.storage_id = of_storage and n.location = place order by n.id limit 1);
end
$$;

-- Whether good bytes are anywhere: at home, or as a copy.
create function has_good_place(home integer, home_location text) returns boolean language plpgsql stable as $$
begin
    return exists (
        select from (select home as storage_id, home_location as location
                     union all
                     select r.at_storage, r.at_location from replicas r
                      where r.storage_id = home and r.location = home_location) p
         where not exists (select from damages d where d.storage_id = p.storage_id and d.location = p.location));
end
$$;

-- Say why bytes are not given. Nobody can do anything about damaged ones but who has them elsewhere, and the operator:
-- to come again does not help, and they are not said to be gone.
create function refuse_place(home integer, home_location text) returns void language plpgsql stable as $$
begin
    if has_good_place(home, home_location) then
        perform raise_fault('NodeNotFound', 'the bytes are elsewhere by now; negotiate again');
    end if;
    perform raise_fault('InternalFault', 'the bytes of this node are damaged, and there is no other copy; they are not '
                        || 'given out. Store them again, or ask the operator to restore them');
end
$$;

-- Versions whose node is gone.
create function orphan_versions() returns setof versions language plpgsql stable as $$
begin
    return query select v.* from versions v where not exists (select from nodes n where n.id = v.node_id);
end
$$;

-- What a comparison has seen in a store. Unlogged: after a crash it begins anew.
create unlogged table fsck_seen (
    -- The comparison.
    run      bigint not null,
    -- Where bytes are.
    location text not null,
    primary key (run, location)
);

-- Comparisons that are under way, or were given up.
create table fsck_runs (
    -- Number of the run.
    id         bigint generated always as identity primary key,
    -- The store.
    storage_id integer not null references storages on delete cascade,
    -- When it began.
    began      timestamptz not null default now()
);

-- Bytes in a store that nothing names, and when the sweep first saw them, by the clock of the database. The times of
-- files are those of another clock, which may be wrong by any amount.
create table suspects (
    -- Who keeps them.
    storage_id integer not null references storages on delete cascade,
    -- Their name there.
    location   text not null,
    -- When somebody met them.
    since      timestamptz not null default now(),
    primary key (storage_id, location)
);

-- How far the bytes of a storage have been read again.
create table scrubs (
    -- The storage.
    storage_id integer primary key references storages on delete cascade,
    -- What is before it has been given out to be read, and so has it.
    position   text not null default '',
    -- When this pass began.
    began      timestamptz not null default now(),
    -- When it was done. NULL: it is under way.
    ended      timestamptz,
    -- When the last pass began that was done: all that was there then has been read since.
    passed     timestamptz
);

-- Ranges of locations that somebody is reading. If he dies another one does it: nothing is left out.
create table scrub_ranges (
    -- Who does.
    attempt    text primary key,
    -- The storage.
    storage_id integer not null references storages on delete cascade,
    -- Behind this location …
    after      text not null,
    -- … and up to this.
    upto       text not null,
    -- End of his lease, unless it is renewed.
    until      timestamptz not null
);
create index scrub_ranges_until on scrub_ranges (storage_id, until);

-- What is inherited from nobody has to be said.
alter table policies add constraint policies_root
    check (container_id <> 1 or num_nulls(label, replicas, versions, trash_days, tier_days) = 0);

create trigger policies_audit after insert or update or delete on policies
    for each row execute function audit_administration('addPolicy', 'changePolicy', 'removePolicy');

-- Versions have come: their node knows.
create function count_versions_added() returns trigger language plpgsql as $$
begin
    update nodes n set kept = n.kept + a.bytes, last_version = greatest(n.last_version, a.last)
      from (select node_id, sum(size)::bigint as bytes, max(number) as last from added group by node_id) a
     where n.id = a.node_id;
    return null;
end
$$;

create trigger versions_added after insert on versions
    referencing new table as added for each statement execute function count_versions_added();

-- Versions have gone, with their node or without it: nobody needs their bytes any more, unless something else names
-- them.
create function count_versions_gone() returns trigger language plpgsql as $$
begin
    insert into obsolete (storage_id, location) select distinct storage_id, location from gone
    on conflict (storage_id, location) do update set since = now();
    update nodes n set kept = n.kept - g.bytes
      from (select node_id, sum(size)::bigint as bytes from gone group by node_id) g
     where n.id = g.node_id;
    return null;
end
$$;

create trigger versions_gone after delete on versions
    referencing old table as gone for each statement execute function count_versions_gone();

-- How many older contents a data node keeps. Where no policy asks for any, nobody looks for them.
create function versions_of(node nodes) returns integer language plpgsql stable as $$
begin
    if (select p.versions from policies p where p.versions > 0 order by p.versions limit 1) is null then
        return 0;
    end if;
    return (policy_of(node.parent_id)).versions;
end
$$;

-- Keep bytes from being taken to another home until the transaction ends, where they may become a version: to be called
-- before a node is locked. Copies do as much.
create function hold_homes() returns void language plpgsql as $$
begin
    if (select p.versions from policies p where p.versions > 0 order by p.versions limit 1) is not null then
        perform pg_advisory_xact_lock_shared(8413);
    end if;
end
$$;

-- Bytes that go when a node gets other ones: its own, or the versions that they push out.
create function freed_by_store(node nodes) returns bigint language plpgsql stable as $$
declare
    keep integer;
begin
    if node.location is null then
        return 0;
    end if;
    keep := versions_of(node);
    if keep = 0 then
        return node.size + node.kept;
    end if;
    return (select coalesce(sum(v.size), 0)::bigint
              from (select o.size from versions o where o.node_id = node.id order by o.number desc offset keep - 1) v);
end
$$;

-- Let what a node holds be its newest version.
create function make_version(node nodes) returns void language plpgsql as $$
begin
    insert into versions (node_id, number, storage_id, location, size, md5, sha256, content_type, structure, stored_by,
                          modified)
    values (node.id, node.last_version + 1, node.storage_id, node.location, node.size, node.md5, node.sha256,
            node.properties ->> 'ivo://ivoa.net/vospace/core#type', node.structure, node.stored_by, node.modified);
end
$$;

-- Give a node, which is locked, the bytes of one of its versions, which is none any more; those that it has become one.
create function restore_version(of_node bigint, of_number integer, actor bigint) returns void
language plpgsql as $$
declare
    moment timestamptz := clock_timestamp();
    node nodes;
    old versions;
begin
    select * into node from nodes where id = of_node;
    delete from versions where node_id = of_node and number = of_number returning * into old;
    perform make_version(node);
    update nodes
       set size = old.size, md5 = old.md5, sha256 = old.sha256, storage_id = old.storage_id, location = old.location,
           stored_by = actor, changed = moment, modified = moment,
           properties = properties_with_bytes(properties, true, old.content_type, null, null)
     where id = of_node;
    if old.structure is not null then
        update nodes set structure = old.structure where id = of_node;
    end if;
end
$$;

create trigger nodes_changed after update of parent_id, size, owner_id, kept on nodes for each row
    when ((old.parent_id, old.owner_id, coalesce(old.size, 0) + old.kept)
          is distinct from (new.parent_id, new.owner_id, coalesce(new.size, 0) + new.kept))
    execute function count_changed();

-- Nodes that were deleted and can be restored; what was below them is below them still.
create table trash (
    -- In the order of deletion.
    id         bigint generated always as identity primary key,
    -- What was deleted: a child of the container 0.
    node_id    bigint not null unique,
    -- The names that led to it.
    names      text[] not null,
    -- Whose it is.
    owner_id   bigint not null,
    -- Who deleted it. 0: nobody who had shown who he is.
    deleted_by bigint not null,
    -- When it was deleted.
    deleted    timestamptz not null default clock_timestamp(),
    -- It can be restored until then. -infinity: it is being removed, and cannot be restored any more.
    until      timestamptz not null
);
create index trash_until on trash (until);
create index trash_owner on trash (owner_id, id);
create index trash_deleted_by on trash (deleted_by, id);

-- For how many days a node can be restored that is deleted from a container. Where no policy asks for any, nobody looks
-- for them.
create function trash_days_of(container bigint) returns integer language plpgsql stable as $$
begin
    if (select p.trash_days from policies p where p.trash_days > 0 order by p.trash_days limit 1) is null then
        return 0;
    end if;
    return (policy_of(container)).trash_days;
end
$$;

-- The same of a container that is deleted with all that is in it: the longest time that anything there asks for.
create function trash_days_of_tree(top bigint) returns integer language plpgsql stable as $$
begin
    if (select p.trash_days from policies p where p.trash_days > 0 order by p.trash_days limit 1) is null then
        return 0;
    end if;
    return greatest((policy_of(top)).trash_days, (
        select max(p.trash_days)
          from containers c
          join containers k on k.path >= c.path and k.path < (c.path::text || '0')::ltree
          join policies p on p.container_id = k.id
         where c.id = top));
end
$$;

-- How properties of a node are when other bytes come: none are kept, or with `keep` those that say nothing of the bytes;
-- and what is told with the new ones is added.
create function properties_with_bytes(old jsonb, keep boolean, new_type text, new_time text, new_mode text) returns jsonb
language sql immutable as $$
    select case when keep then old - array['ivo://ivoa.net/vospace/core#type', 'ivo://pyvospace#mtime',
                                           'ivo://pyvospace#mode']
                else '{}' end
           || case when num_nonnulls(new_type, new_time, new_mode) = 0 then '{}'
                   else jsonb_strip_nulls(jsonb_build_object('ivo://ivoa.net/vospace/core#type', new_type,
                                                             'ivo://pyvospace#mtime', new_time,
                                                             'ivo://pyvospace#mode', new_mode)) end
$$;

-- Large tables are vacuumed by hundredths, not by fifths, of what they hold (decisions/0050).
alter table nodes set (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.02,
                       autovacuum_analyze_scale_factor = 0.05);
alter table containers set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05);
alter table jobs set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
alter table obsolete set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
alter table audit set (autovacuum_vacuum_insert_scale_factor = 0.05);

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

-- Enter a place and the server that speaks, or renew what is known of them. Servers that went long ago are forgotten.
create function storage_api.announce(
    of_uuid uuid, new_name text, new_url text, new_free bigint, new_total bigint, new_labels text[], new_cold boolean,
    new_site text, new_busy integer
) returns void language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer;
begin
    insert into storages (uuid, name, url, free, total, labels, cold, role)
    values (of_uuid, new_name, new_url, new_free, new_total, new_labels, new_cold, session_user)
    on conflict (uuid) do update
       set name = new_name, url = new_url, free = new_free, total = new_total, labels = new_labels, cold = new_cold,
           last_seen = now()
     where storages.role = session_user;
    of_storage := own_storage(of_uuid);
    insert into servers (storage_id, url, name, site, busy)
    values (of_storage, new_url, new_name, new_site, new_busy)
    on conflict (storage_id, url) do update
       set name = new_name, site = new_site, busy = new_busy, last_seen = now();
    delete from servers v where v.storage_id = of_storage and v.last_seen < now() - interval '1 day';
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
create function usable_push(of_job text, of_user bigint, of_storage integer) returns jobs
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
create function push_target(job jobs, lock boolean) returns nodes language plpgsql as $$
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

-- Extend a lease; false: it was lost. What it had reserved may be somebody else's by now if it was over.
create function storage_api.renew(of_attempt text, lease double precision) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    update writers w
       set until = now() + make_interval(secs => lease), owner_id = case when w.until > now() then w.owner_id end,
           reserved_bytes = case when w.until > now() then w.reserved_bytes else 0 end,
           reserved_nodes = case when w.until > now() then w.reserved_nodes else 0 end
      from jobs j
     where w.attempt = of_attempt and j.id = w.job_id and j.phase in ('EXECUTING', 'COMPLETED');
    return found;
end
$$;

-- Give a lease back after a failure; the job goes on waiting for its bytes.
create function storage_api.release(of_attempt text, reason text) returns void
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
create function storage_api.store(
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
create function storage_api.claim_download(of_uuid uuid, of_node bigint, of_job text, of_user bigint,
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
     where not is_named(of_storage, place)
       and not exists (select from obsolete o where o.storage_id = of_storage and o.location = place);
end
$$;

-- Give up to `at_most` locations that have been obsolete for `grace` seconds and that nothing names, and forget them;
-- the caller deletes their bytes then. Those that something still names are forgotten too: who turns that one away notes
-- them again. Copies of what goes are turned away from in the same moment.
--
-- Between the moment at which a copy reads a node and that at which its own node can be seen, the node that it has read
-- may go: bytes that nobody seems to name would get a name again. So copies hold the lock 8413 together, and we look
-- only while nobody holds it. From a location without a name no copy can begin any more: it stays without. Who adds a
-- replica holds it too, and makes sure that the home has a name.
--
-- The rows are locked first and looked at in a statement of its own, which sees whatever has been done by those whom we
-- have waited for; who turns a node away in this moment waits for us, and notes the location anew.
create function storage_api.take_obsolete(of_uuid uuid, grace double precision, at_most integer)
returns setof text language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '1s' as $$
declare
    of_storage integer := own_storage(of_uuid);
    due text[];
    gone text[];
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
        delete from obsolete o where o.storage_id = of_storage and o.location = any (due);
        gone := array(select place from unnest(due) as place where not is_named(of_storage, place));
        with copies as (
            delete from replicas r where r.storage_id = of_storage and r.location = any (gone)
            returning r.at_storage, r.at_location
        )
        insert into obsolete (storage_id, location, since) select at_storage, at_location, now() - make_interval(secs => grace)
          from copies
        on conflict (storage_id, location) do nothing;
        delete from damages d where d.storage_id = of_storage and d.location = any (gone);
        return query select unnest(gone);
        exit when cardinality(gone) > 0;
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
                 "now" timestamptz, bytes_done bigint, bytes_total bigint, files_done bigint, files_total bigint, token_id bigint,
                 scope jsonb)
language plpgsql security definer set search_path = public, pg_temp as $$
#variable_conflict use_column
declare
    of_storage integer := own_storage(of_uuid);
    next text;
    kinds text[] := open_kinds(of_kinds);
begin
    if lost then
        select j.id into next from jobs j
         where j.phase = 'EXECUTING' and j.attempt is not null and j.until < now() and j.attempts < at_most
           and j.kind = any (kinds) and third_party_of(j, of_storage)
         order by j.until limit 1 for update of j skip locked;
    else
        select j.id into next from jobs j
         where j.phase = 'QUEUED' and j.kind = any (kinds) and third_party_of(j, of_storage)
         order by j.created limit 1 for update of j skip locked;
    end if;
    return query
    update jobs j
       set phase = 'EXECUTING', started = coalesce(j.started, now()), attempt = new_attempt,
           attempts = j.attempts + 1, until = now() + make_interval(secs => lease), storage_id = of_storage,
           discard = coalesce(j.name = '.null', false)
     where j.id = next
    returning j.id, j.kind, j.owner_id, j.request, j.node_id, j.parent_id, j.name, j.node_uri, j.attempt, j.attempts,
              j.started, j.execution_duration, now(), j.bytes_done, j.bytes_total, j.files_done, j.files_total,
              j.token_id, j.scope;
end
$$;

-- Whether a job is for `of_storage`, given who has the bytes of its node.
create function third_party_of(job jobs, of_storage integer) returns boolean language plpgsql stable as $$
declare
    wanted text := '';
    node nodes;
begin
    if job.kind = 'pull_to' then
        if (select p.label from policies p where p.label <> '' order by p.label limit 1) is not null then
            wanted := coalesce((policy_of(coalesce((select n.parent_id from nodes n where n.id = job.node_id),
                                                   job.parent_id))).label, '');
        end if;
        return exists (select from storages s
                        where s.id = of_storage and s.state = 'active' and not s.cold and s.free is distinct from 0
                          and (wanted = '' or wanted = any (s.labels)));
    elsif job.kind <> 'push_from' then
        return false;
    end if;
    select * into node from nodes n where n.id = job.node_id;
    return node.location is null or place_at(node.storage_id, node.location, of_storage) is not null;
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
    perform live_token(job.token_id, false);
    return job;
end
$$;

-- Take the writer's lease of the node that `announced` bytes were found for, with the rights of the job's owner
-- checked now.
create function storage_api.claim_pull(
    of_uuid uuid, of_attempt text, new_writer text, lease double precision, announced bigint
) returns table (size_limit bigint, discard boolean, room bigint, words text)
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    job jobs := held_pull(of_attempt, own_storage(of_uuid));
    quota record;
begin
    perform set_config('synchronous_commit', 'off', true);
    perform caller_of(job.owner_id);
    select null::bigint as room, null::text as words into quota;
    if not job.discard then
        select * into quota from take_lease(job, push_target(job, false), new_writer, lease, announced);
    end if;
    return query select job.size_limit, job.discard, quota.room, quota.words;
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
    perform live_token(job.token_id, false);
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
    perform live_token(job.token_id, true);
    perform caller_of(of_user);
    return query select job.request, job.phase = 'EXECUTING';
end
$$;

-- Those of the nodes `ids`, with the names that lead to them, that the caller may read now. The storage is told of
-- bytes that are elsewhere.
create function storage_api.pack_nodes(of_uuid uuid, of_job text, of_user bigint, ids bigint[])
returns table (id bigint, parent_id bigint, name text, type text, size bigint, modified timestamptz, target text,
               location text, storage uuid, url text, path text[])
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    job jobs := live_pack(of_job, of_user, of_storage);
    c record;
begin
    select * into c from caller_of_job(job);
    return query
    select n.id, n.parent_id, n.name, n.type, n.size, coalesce(n.modified, n.changed), n.target,
           coalesce(m.location, n.location), m.storage, m.url,
           case when n.parent_id is null then '{}' else names_of(n.parent_id) || n.name::text end
      from unnest(ids) with ordinality as wanted(node, place)
      join nodes n on n.id = wanted.node
      left join lateral (select x.* from member_at(n.storage_id, n.location, of_storage) x
                          where n.storage_id <> of_storage
                             or exists (select from damages d
                                         where d.storage_id = n.storage_id and d.location = n.location)) m
        on true
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
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    job jobs := live_pack(of_job, of_user, of_storage);
    c record;
    parent bigint;
    behind text collate "C" := after;
    room integer := at_most;
    found_here integer;
begin
    select * into c from caller_of_job(job);
    foreach parent in array parents loop
        if way_is_readable(parent, c.caller, c.caller_groups, c.admin) then
            return query
            select k.id, k.parent_id, k.name, k.type, k.size, coalesce(k.modified, k.changed), k.target,
                   coalesce(m.location, k.location), m.storage, m.url
              from (select n.* from nodes n
                     where n.parent_id = parent and n.name > behind
                       and may_read(n.owner_id, n.public, n.group_read, n.group_write, c.caller, c.caller_groups,
                                    c.admin)
                     order by n.name limit room) k
              left join lateral (select x.* from member_at(k.storage_id, k.location, of_storage) x
                                  where k.storage_id <> of_storage
                                     or exists (select from damages d
                                                 where d.storage_id = k.storage_id and d.location = k.location)) m
                on true
             order by k.name;
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
    select * into c from caller_of_job(job);
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

-- Take the writer's lease of the container, as storage_api.claim_upload does of a data node; `path`: its names. What
-- it will need nobody knows before its end, and is not reserved.
create function storage_api.claim_unpack(
    of_uuid uuid, of_job text, of_user bigint, new_attempt text, lease double precision, announced bigint,
    repeat_window double precision
) returns table (size_limit bigint, request jsonb, path text[])
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    job jobs;
    node nodes;
    quota record;
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
    select * into quota from quota_room(node.id, job.owner_id, job.owner_id);
    if quota.room <= 0 then
        perform raise_fault('QuotaExceeded', quota.words);
    end if;
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
create function unpack_folders(job jobs, parents bigint[], names text[]) returns bigint[]
language plpgsql as $$
declare
    c record;
    met nodes;
    ids bigint[];
begin
    select * into c from caller_of_job(job);
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

-- Make the nodes of an archive and complete its job, all or nothing. `times`: when files were changed, as ISO 8601.
create function storage_api.unpack(
    of_uuid uuid, of_job text, of_user bigint, of_attempt text, level_ends integer[], folder_parents integer[],
    folder_names text[], leaf_parents integer[], leaf_names text[], targets text[], locations text[], sizes bigint[],
    md5s bytea[], sha256s bytea[], types text[], structures text[], times text[]
) returns void language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    job jobs := live_push(of_job, of_user, of_storage);
    moment timestamptz;
    c record;
    met nodes;
    ids bigint[] := '{}';
    places bigint[];
    level_start integer := 1;
    level_end integer;
    more_bytes bigint;
    more_nodes bigint;
    owners bigint[];
begin
    perform from writers where attempt = of_attempt for update;
    if not found then
        perform raise_fault('NodeBusy', 'another transfer took this node over');
    end if;
    perform hold_homes();
    perform from containers k
      where k.id = job.node_id and nlevel(k.path) + cardinality(level_ends) <= 201 for share;
    if not found then
        perform raise_fault('ContainerNotFound', 'the container was deleted or moved meanwhile');
    end if;
    perform unpack_target(job);
    select * into c from caller_of_job(job);
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
           properties_with_bytes('{}', false, f.type, f.time, null), f.target, f.size,
           f.md5, f.sha256, case when f.target is null then of_storage end, f.location,
           case when f.target is null then job.owner_id end, moment, case when f.target is null then moment end
      from unnest(places, leaf_names, targets, locations, sizes, md5s, sha256s, types, times)
           as f(parent, name, target, location, size, md5, sha256, type, time)
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
    select sum(greatest(f.size - case when n.location = f.location then 0 else freed_by_store(n) end, 0)),
           count(*) filter (where n.created = now()) + (select count(*) from nodes a
                                                         where a.id = any (ids) and a.created = now()),
           array_agg(distinct n.owner_id)
      into more_bytes, more_nodes, owners
      from unnest(places, leaf_names, locations, sizes) as f(parent, name, location, size)
      join nodes n on n.parent_id = f.parent and n.name = f.name;
    perform part_with_bytes(n)
      from unnest(places, leaf_names, locations) as f(parent, name, location)
      join nodes n on n.parent_id = f.parent and n.name = f.name
     where n.location is not null and (n.storage_id, n.location) <> (of_storage, f.location);
    update nodes n
       set size = f.size, md5 = f.md5, sha256 = f.sha256, storage_id = of_storage, location = f.location,
           stored_by = job.owner_id, changed = moment, modified = moment,
           properties = properties_with_bytes(n.properties, job.keep_properties, f.type, f.time, null)
      from unnest(places, leaf_names, locations, sizes, md5s, sha256s, types, times)
           as f(parent, name, location, size, md5, sha256, type, time)
     where f.location is not null and n.parent_id = f.parent and n.name = f.name
       and n.location is distinct from f.location;
    update nodes n set structure = f.structure
      from unnest(places, leaf_names, structures) as f(parent, name, structure)
     where f.structure is not null and n.parent_id = f.parent and n.name = f.name and n.type = 'StructuredDataNode';
    update nodes n set target = f.target, changed = moment
      from unnest(places, leaf_names, targets) as f(parent, name, target)
     where f.target is not null and n.parent_id = f.parent and n.name = f.name and n.target <> f.target;
    delete from writers where attempt = of_attempt;
    perform require_quotas(job.node_id || ids || places, job.owner_id || owners, more_bytes, more_nodes, job.owner_id);
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
create function storage_api.claim_render(of_uuid uuid, of_node bigint, of_job text, of_user bigint,
                                         of_token bigint)
returns table (name text, modified timestamptz, location text, size bigint, md5 bytea, sha256 bytea,
               content_type text, waiting boolean, structure text, view text, params jsonb)
language plpgsql stable security definer set search_path = public, pg_temp as $$
begin
    return query
    select c.name, c.modified, c.location, c.size, c.md5, c.sha256, c.content_type, c.waiting, n.structure,
           j.request -> 'view' ->> 'uri', j.request -> 'view' -> 'params'
      from storage_api.claim_download(of_uuid, of_node, of_job, of_user, of_token) c
      join nodes n on n.id = of_node
      join jobs j on j.id = of_job;
end
$$;

-- Reserve what bytes need that have come unannounced.
create function storage_api.reserve(of_attempt text, new_size bigint) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    job jobs;
    node nodes;
    held writers;
    more bigint;
begin
    perform set_config('synchronous_commit', 'off', true);
    select j.* into job from jobs j join writers w on w.job_id = j.id where w.attempt = of_attempt for update of j;
    select * into held from writers where attempt = of_attempt for update;
    if not found then
        perform raise_fault('NodeBusy', 'another transfer took this node over');
    end if;
    node := push_target(job, false);
    more := greatest(new_size - freed_by_store(node), 0);
    update writers set reserved_bytes = more, path = (select k.path from containers k where k.id = held.parent_id)
     where attempt = of_attempt;
    perform require_quotas(array[held.parent_id], array[held.owner_id], more, 0, job.owner_id);
end
$$;

-- The same of a storage server, which knows nodes by their ids and tells of bytes only. What an endpoint says of a
-- user is true: a metadata server has signed it.
create function storage_api.note_bytes(of_uuid uuid, entries jsonb) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    perform own_storage(of_uuid);
    insert into audit (at, user_id, name, credential, remote, request, action, node_id, path, owner_id, outcome, details)
    select e.at, e.user_id, coalesce(u.name, ''), e.who[2], e.who[3], e.who[4], e.action, n.id,
           case when n.id is not null then path_of(n.parent_id, n.name)
                when p.id is not null then path_of(p.id, j.name) end,
           coalesce(n.owner_id, p.owner_id), e.outcome, e.details
      from jsonb_to_recordset(entries) as e (
               at timestamptz, user_id bigint, who text[], action text, node bigint, outcome text, details jsonb)
      left join jobs j on j.id = e.details ->> 'job'
      left join nodes n on n.id = coalesce(e.node, j.node_id)
      left join nodes p on p.id = j.parent_id
      left join users u on u.id = e.user_id
     where e.action in ('readBytes', 'readArchive', 'storeBytes', 'unpackArchive', 'dropAudit');
end
$$;

-- Say what a server that was announced offers from now on.
create function storage_api.offer(of_uuid uuid, of_url text, new_offers jsonb) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
begin
    delete from offers where storage_id = of_storage and url = of_url;
    insert into offers (storage_id, url, protocol, endpoint, params)
    select of_storage, of_url, o.protocol, o.endpoint, o.params
      from jsonb_to_recordset(new_offers) as o(protocol text, endpoint text, params jsonb);
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
    end if;
    perform count_partial(job, of_id, node);
    if announced is null then
        select greatest(r.room, 0) + greatest(freed_by_store(node) - at_offset, 0) as room, r.words into quota
          from quota_room(coalesce(node.parent_id, job.parent_id), coalesce(node.owner_id, job.owner_id),
                          job.owner_id) r where r.room is not null;
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
    new_type text, life double precision, new_time text default null, new_mode text default null
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
                              new_type, new_time, new_mode);
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

-- A server goes: it gets no transfers from now on. Another process behind the same URL says at its next heartbeat that
-- it is still there.
create function storage_api.leave(of_uuid uuid, of_url text) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
begin
    update servers set last_seen = '-infinity', busy = 0 where storage_id = of_storage and url = of_url;
    update storages s
       set last_seen = least(s.last_seen, (select coalesce(max(v.last_seen), '-infinity')
                                             from servers v where v.storage_id = of_storage))
     where s.id = of_storage;
end
$$;

-- Take a copy to be made at a storage, and tell what is to come and who has it.
create function storage_api.claim_replication(of_uuid uuid, new_attempt text, lease double precision)
returns table (size bigint, md5 bytea, sha256 bytea, urls text[], storages text[])
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    task replications;
begin
    loop
        select * into task from replications r
         where r.at_storage = of_storage and r.due <= now() and (r.until is null or r.until < now())
         order by r.keep_until nulls last, r.due limit 1 for update skip locked;
        exit when not found;
        select b.size, b.md5, b.sha256 into size, md5, sha256 from bytes_of(task.storage_id, task.location) b;
        if size is null or exists (select from replicas r where r.storage_id = task.storage_id
                                                            and r.location = task.location
                                                            and r.at_storage = of_storage) then
            delete from replications r
             where (r.storage_id, r.location, r.at_storage) = (task.storage_id, task.location, of_storage);
            continue;
        end if;
        select array_agg(p.url), array_agg(p.uuid::text) into urls, storages
          from (select * from places_of(task.storage_id, task.location, '', false)
                union all
                select * from places_of(task.storage_id, task.location, '', true)) p;
        update replications r
           set attempt = new_attempt, attempts = r.attempts + 1, bytes_done = 0,
               until = case when urls is null then null else now() + make_interval(secs => lease) end,
               due = now() + make_interval(secs => least(5 * 2 ^ least(r.attempts, 10), 3600))
         where (r.storage_id, r.location, r.at_storage) = (task.storage_id, task.location, of_storage);
        if urls is not null then
            return next;
            exit;
        end if;
    end loop;
end
$$;

-- Go on with an attempt; false: it was taken away.
create function storage_api.renew_replication(of_uuid uuid, of_attempt text, lease double precision, done bigint)
returns boolean language plpgsql security definer set search_path = public, pg_temp as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    update replications r set until = now() + make_interval(secs => lease), bytes_done = done
     where r.attempt = of_attempt and r.at_storage = own_storage(of_uuid);
    return found;
end
$$;

-- Give an attempt up: another one begins after a while.
create function storage_api.release_replication(of_uuid uuid, of_attempt text, reason text) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    update replications r set until = null, message = left(reason, 1000)
     where r.attempt = of_attempt and r.at_storage = own_storage(of_uuid);
end
$$;

-- What a storage that is asked by another one is to send: the bytes of an attempt that is under way.
create function storage_api.claim_replica(of_uuid uuid, of_attempt text)
returns table (location text, size bigint, md5 bytea, sha256 bytea)
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
    task replications;
begin
    select * into task from replications r where r.attempt = of_attempt and r.until > now();
    location := place_at(task.storage_id, task.location, own_storage(of_uuid));
    if location is null then
        perform raise_fault('PermissionDenied', 'nobody is to have these bytes from here');
    end if;
    select b.size, b.md5, b.sha256 into size, md5, sha256 from bytes_of(task.storage_id, task.location) b;
    return next;
end
$$;

-- Enter a copy whose bytes are about to be published. From a home without a name no copy can begin (see
-- storage_api.take_obsolete).
create function storage_api.store_replica(
    of_uuid uuid, of_attempt text, new_location text, new_size bigint, new_sha256 bytea
) returns void language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    task replications;
    b record;
begin
    perform pg_advisory_xact_lock_shared(8413);
    select * into task from replications r where r.attempt = of_attempt and r.at_storage = of_storage for update;
    select * into b from bytes_of(task.storage_id, task.location);
    if b.size is null or task.storage_id = of_storage then
        perform raise_fault('NodeBusy', 'nobody wants this copy any more');
    elsif b.size <> new_size or b.sha256 <> new_sha256 then
        perform raise_fault('InvalidData', 'these are not the bytes of the node');
    end if;
    insert into replicas (storage_id, location, at_storage, at_location, keep_until)
    values (task.storage_id, task.location, of_storage, new_location, task.keep_until);
    delete from replications r
     where (r.storage_id, r.location, r.at_storage) = (task.storage_id, task.location, of_storage);
end
$$;

-- Enter that bytes are damaged, if something still names them; whether that is news.
create function storage_api.note_damage(of_uuid uuid, place text, new_kind text, new_details text) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    a record;
begin
    if not is_named(of_storage, place) then
        return false;
    end if;
    insert into damages (storage_id, location, kind, details) values (of_storage, place, new_kind, new_details)
    on conflict (storage_id, location) do nothing;
    if not found then
        update damages set kind = new_kind, details = new_details
         where storage_id = of_storage and location = place and (kind, details) <> (new_kind, new_details);
        return false;
    end if;
    select * into a from acting();
    perform write_audit(a.actor, a.who, 'findDamage', n.id, path_of(n.parent_id, n.name), n.owner_id,
                        jsonb_build_object('storage', of_storage, 'location', place, 'kind', new_kind))
       from (select 1) one
       left join lateral (select * from nodes m where m.storage_id = of_storage and m.location = place
                           order by m.id limit 1) n on true;
    return true;
end
$$;

-- Bytes were read and are good: whether they were thought to be damaged.
create function storage_api.clear_damage(of_uuid uuid, place text) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    a record;
begin
    delete from damages where storage_id = of_storage and location = place;
    if not found then
        return false;
    end if;
    select * into a from acting();
    perform write_audit(a.actor, a.who, 'clearDamage', n.id, path_of(n.parent_id, n.name), n.owner_id,
                        jsonb_build_object('storage', of_storage, 'location', place))
       from (select 1) one
       left join lateral (select * from nodes m where m.storage_id = of_storage and m.location = place
                           order by m.id limit 1) n on true;
    return true;
end
$$;

-- What the bytes at some locations should be. Locations that nothing names any more are left out.
create function storage_api.bytes_at(of_uuid uuid, places text[])
returns table (location text, size bigint, md5 bytea, sha256 bytea, damage text, path text)
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
begin
    return query
    select p.place, b.size, b.md5, b.sha256, d.kind, path_at(of_storage, p.place)
      from unnest(places) as p(place)
     cross join lateral bytes_at(of_storage, p.place) b
      left join damages d on d.storage_id = of_storage and d.location = p.place
     where b.known;
end
$$;

-- Up to `at_most` damaged locations behind `after`.
create function storage_api.damaged(of_uuid uuid, after text, at_most integer) returns setof text
language plpgsql stable security definer set search_path = public, pg_temp as $$
begin
    return query select d.location from damages d
                  where d.storage_id = own_storage(of_uuid) and d.location > after order by d.location limit at_most;
end
$$;

-- Begin a comparison of a store with the catalogue: its number.
create function storage_api.fsck_begin(of_uuid uuid) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    run bigint;
begin
    insert into fsck_runs (storage_id) values (own_storage(of_uuid)) returning id into run;
    return run;
end
$$;

-- Forget up to `at_most` rows of a comparison, and of those that were given up two days ago; how many.
create function storage_api.fsck_end(of_uuid uuid, of_run bigint, at_most integer) returns integer
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    gone integer;
begin
    delete from fsck_seen
     where ctid = any (array(
        select s.ctid from fsck_runs r join fsck_seen s on s.run = r.id
         where r.storage_id = of_storage and (r.id = of_run or r.began < now() - interval '2 days') limit at_most));
    get diagnostics gone = row_count;
    if gone < at_most then
        delete from fsck_runs r
         where r.storage_id = of_storage and (r.id = of_run or r.began < now() - interval '2 days');
    end if;
    return gone;
end
$$;

-- Note what is in the store; give what nothing names (and is on no list of what goes), and what has another size than
-- it should have. Sizes may be NULL.
create function storage_api.fsck_listed(of_uuid uuid, of_run bigint, places text[], sizes bigint[])
returns table (location text, kind text, size bigint, found bigint)
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
begin
    insert into fsck_seen (run, location) select of_run, place from unnest(places) as place on conflict do nothing;
    return query
    select f.place, case when b.known then 'size' else 'unknown' end, b.size, f.size
      from unnest(places, sizes) as f(place, size)
      left join lateral (
          select true as known, coalesce(a.size, (bytes_at(of_storage, f.place)).size) as size
            from named_bytes a where a.storage_id = of_storage and a.location = f.place
           order by a.size is null limit 1) b on true
     where b.known and b.size <> f.size
        or b.known is null and not exists (select from obsolete o
                                            where o.storage_id = of_storage and o.location = f.place);
end
$$;

-- Of the next `at_most` names of bytes behind `after`: those that the comparison has not seen in the store; and, as the
-- row without a location, where to go on. No such row: that was all.
create function storage_api.fsck_missing(of_uuid uuid, of_run bigint, after text, at_most integer)
returns table (location text, upto text)
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    page text[];
begin
    page := array(select b.location from named_bytes b
                   where b.storage_id = of_storage and b.location > after order by b.location limit at_most);
    return query
    select distinct place, null::text from unnest(page) as place
     where not exists (select from fsck_seen s where s.run = of_run and s.location = place);
    if cardinality(page) = at_most then
        return query select null::text, page[at_most];
    end if;
end
$$;

-- Locations that have been obsolete for so many seconds that the sweep should have taken them: the oldest.
create function storage_api.overdue(of_uuid uuid, seconds double precision, at_most integer)
returns table (location text, since timestamptz)
language plpgsql stable security definer set search_path = public, pg_temp as $$
begin
    return query
    select o.location, o.since from obsolete o
     where o.storage_id = own_storage(of_uuid) and o.since < now() - make_interval(secs => seconds)
     order by o.since limit at_most;
end
$$;

-- Write that the operator had something repaired.
create function storage_api.note_repair(of_uuid uuid, place text, of_kind text, what text) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    a record;
begin
    select * into a from acting();
    perform write_audit(a.actor, a.who, 'repair', null, null, null,
                        jsonb_build_object('storage', own_storage(of_uuid), 'location', place, 'kind', of_kind,
                                           'done', what));
end
$$;

-- Note which of the locations, at which there are bytes, nothing names; give those of which that was noted `margin`
-- seconds ago already. Whoever published bytes before they were seen has committed or given up since, if nobody takes so
-- long: what is unknown then stays unknown. Those that have a name are suspected no more.
create function storage_api.take_unknown(of_uuid uuid, places text[], margin double precision) returns setof text
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    nameless text[];
begin
    nameless := array(
        select place from unnest(places) as place
         where not is_named(of_storage, place)
           and not exists (select from obsolete o where o.storage_id = of_storage and o.location = place));
    delete from suspects s
     where s.storage_id = of_storage and s.location = any (places) and s.location <> all (nameless);
    insert into suspects (storage_id, location) select of_storage, place from unnest(nameless) as place
    on conflict do nothing;
    return query
    delete from suspects s
     where s.storage_id = of_storage and s.location = any (nameless) and s.since <= now() - make_interval(secs => margin)
    returning s.location;
end
$$;

-- Bytes that were to be deleted and could not be: the next sweep tries again.
create function storage_api.note_obsolete(of_uuid uuid, places text[]) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
begin
    perform turn_away(of_storage, place) from unnest(places) as place;
end
$$;

-- Give the next up to `at_most` locations to be read again, and what should be there; none: there is nothing to do now.
-- A pass begins `interval` seconds after the one before has begun.
create function storage_api.claim_scrub(
    of_uuid uuid, of_attempt text, pause double precision, lease double precision, at_most integer
) returns table (location text, size bigint, md5 bytea, sha256 bytea, damage text)
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    pass scrubs;
    page text[];
    mine scrub_ranges;
begin
    insert into scrubs (storage_id) values (of_storage) on conflict do nothing;
    select * into pass from scrubs s where s.storage_id = of_storage for update;
    update scrub_ranges r set attempt = of_attempt, until = now() + make_interval(secs => lease)
     where r.attempt = (select o.attempt from scrub_ranges o
                         where o.storage_id = of_storage and o.until < now() order by o.until limit 1)
    returning * into mine;
    if mine.attempt is null then
        if pass.ended is not null then
            if pass.began > now() - make_interval(secs => pause) then
                return;
            end if;
            pass.position := '';
            update scrubs s set position = '', began = now(), ended = null where s.storage_id = of_storage;
        end if;
        page := array(select b.location from named_bytes b
                       where b.storage_id = of_storage and b.location > pass.position
                       order by b.location limit at_most);
        if cardinality(page) = 0 then
            if not exists (select from scrub_ranges r where r.storage_id = of_storage) then
                update scrubs s set ended = now(), passed = s.began where s.storage_id = of_storage;
            end if;
            return;
        end if;
        insert into scrub_ranges values (of_attempt, of_storage, pass.position, page[cardinality(page)],
                                         now() + make_interval(secs => lease)) returning * into mine;
        update scrubs s set position = mine.upto where s.storage_id = of_storage;
    end if;
    return query
    select p.location, b.size, b.md5, b.sha256, d.kind
      from (select distinct n.location from named_bytes n
             where n.storage_id = of_storage and n.location > mine.after and n.location <= mine.upto) p
     cross join lateral bytes_at(of_storage, p.location) b
      left join damages d on d.storage_id = of_storage and d.location = p.location
     where b.known
     order by p.location;
    if not found then
        -- All of it has gone meanwhile: whoever asks again gets the next.
        delete from scrub_ranges r where r.attempt = of_attempt;
    end if;
end
$$;

-- False: the lease is lost, another one reads this range.
create function storage_api.renew_scrub(of_uuid uuid, of_attempt text, lease double precision) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    update scrub_ranges set until = now() + make_interval(secs => lease)
     where attempt = of_attempt and storage_id = own_storage(of_uuid);
    return found;
end
$$;

-- The range has been read.
create function storage_api.end_scrub(of_uuid uuid, of_attempt text) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    delete from scrub_ranges where attempt = of_attempt and storage_id = own_storage(of_uuid);
end
$$;

-- Where the bytes of a version are, if the caller may still read them: here, at home or as a copy.
create function storage_api.claim_version(of_uuid uuid, of_node bigint, of_version integer, of_user bigint,
                                          of_token bigint)
returns table (name text, modified timestamptz, location text, size bigint, md5 bytea, sha256 bytea,
               content_type text, waiting boolean)
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    node nodes;
    version versions;
    c record;
    place text;
begin
    perform live_token(of_token, true);
    select * into c from caller_of(of_user);
    select * into node from nodes where id = of_node;
    select * into version from versions v where v.node_id = of_node and v.number = of_version;
    if node.id is null or version.node_id is null then
        perform raise_fault('NodeNotFound', 'the version was deleted meanwhile');
    elsif not (may_read(node.owner_id, node.public, node.group_read, node.group_write,
                        c.caller, c.caller_groups, c.admin)
               and way_is_readable(node.parent_id, c.caller, c.caller_groups, c.admin)) then
        perform raise_fault('PermissionDenied', 'the right to read was withdrawn');
    end if;
    place := place_at(version.storage_id, version.location, of_storage);
    if place is null then
        perform refuse_place(version.storage_id, version.location);
    end if;
    return query select node.name, version.modified, place, version.size, version.md5, version.sha256,
                        version.content_type, false;
end
$$;

revoke all on all functions in schema storage_api from public;
grant execute on all functions in schema storage_api to pyvospace_storage;
