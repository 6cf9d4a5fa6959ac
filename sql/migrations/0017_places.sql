-- Many places for bytes: servers that come and go, more copies of the same bytes, policies of containers, and one
-- answer to the question who names bytes.

-- Bytes in all, full and free. NULL: unknown.
alter table storages add column total bigint;
-- What policies may ask for: 'ssd', 'archive'.
alter table storages add column labels text[] not null default '{}';
-- Bytes have to be fetched from there before anybody can read them.
alter table storages add column cold boolean not null default false;
-- 'active'; 'draining': no new bytes, those that are there go elsewhere; 'retired': it is not asked for anything.
alter table storages add column state text not null default 'active'
    constraint storages_state check (state in ('active', 'draining', 'retired'));

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
    created    timestamptz not null default now()
);
create index partials_expires on partials (expires);
create index partials_job on partials (job_id);

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
insert into policies values (1, '', 1, 0, 0, 0);

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
    return exists (select from nodes n where n.storage_id = of_storage and n.location = place)
        or exists (select from versions v where v.storage_id = of_storage and v.location = place)
        or exists (select from segments s where s.storage_id = of_storage and s.location = place)
        or exists (select from replicas r where r.at_storage = of_storage and r.at_location = place);
end
$$;

-- Note that somebody has turned away from bytes; the sweep finds out whether anything still names them.
create function turn_away(of_storage integer, place text) returns void language plpgsql as $$
begin
    insert into obsolete (storage_id, location) values (of_storage, place)
    on conflict (storage_id, location) do update set since = now();
end
$$;

-- A node is about to get other bytes.
create function part_with_bytes(node nodes) returns void language plpgsql as $$
begin
    if node.location is not null then
        perform turn_away(node.storage_id, node.location);
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

-- Enter a place and the server that speaks, or renew what is known of them.
drop function storage_api.announce(uuid, text, text, bigint);
create function storage_api.announce(
    of_uuid uuid, new_name text, new_url text, new_free bigint, new_total bigint, new_labels text[], new_cold boolean,
    new_site text, new_busy integer
) returns void language plpgsql security definer set search_path = public, pg_temp as $$
begin
    insert into storages (uuid, name, url, free, total, labels, cold, role)
    values (of_uuid, new_name, new_url, new_free, new_total, new_labels, new_cold, session_user)
    on conflict (uuid) do update
       set name = new_name, url = new_url, free = new_free, total = new_total, labels = new_labels, cold = new_cold,
           last_seen = now()
     where storages.role = session_user;
    insert into servers (storage_id, url, name, site, busy)
    values (own_storage(of_uuid), new_url, new_name, new_site, new_busy)
    on conflict (storage_id, url) do update
       set name = new_name, site = new_site, busy = new_busy, last_seen = now();
end
$$;

-- Those of `known_there` that nothing in the catalogue names.
create or replace function storage_api.unknown(of_uuid uuid, known_there text[]) returns setof text
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
create or replace function storage_api.take_obsolete(of_uuid uuid, grace double precision, at_most integer)
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

-- Turn the node to new bytes, or make it, and complete the job. The caller publishes the bytes before he commits.
-- They fit into all quotas if no more of them came, and nothing else is there, than was reserved; if not, we look.
create or replace function storage_api.store(
    of_uuid uuid, of_job text, of_user bigint, of_attempt text, new_location text, new_size bigint,
    new_md5 bytea, new_sha256 bytea, new_type text
) returns void language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    job jobs := live_push(of_job, of_user, of_storage);
    node nodes;
    held writers;
    more_bytes bigint;
    more_nodes bigint := 0;
    moment timestamptz;
    type_property constant text := 'ivo://ivoa.net/vospace/core#type';
begin
    if not job.discard then
        select * into held from writers where attempt = of_attempt for update;
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
            more_nodes := 1;
            exit when node.id is not null;
            -- Somebody made it in the same moment: his node, if we may, unless it is gone again.
            more_nodes := 0;
        end loop;
        perform part_with_bytes(node);
        -- Not now(), which is when the transaction began: who waited for the node writes a later time.
        moment := clock_timestamp();
        update nodes
           set size = new_size, md5 = new_md5, sha256 = new_sha256, storage_id = of_storage,
               location = new_location, stored_by = coalesce(job.owner_id, 0), changed = moment, modified = moment,
               properties = case when job.keep_properties then properties - type_property else '{}' end
                            || case when new_type is null then '{}' else jsonb_build_object(type_property, new_type) end
         where id = node.id;
        delete from writers where attempt = of_attempt;
        more_bytes := greatest(new_size - coalesce(node.size, 0), 0);
        -- The container has the same id when another one that it is in has been moved; its row is shared by now.
        if held.until < now() or (held.parent_id, held.owner_id) is distinct from (node.parent_id, node.owner_id)
           or held.path is distinct from (select k.path from containers k where k.id = node.parent_id)
           or more_bytes > held.reserved_bytes or more_nodes > held.reserved_nodes then
            perform require_quotas(array[node.parent_id], array[node.owner_id], more_bytes, more_nodes, job.owner_id);
        end if;
    end if;
    update jobs
       set phase = 'COMPLETED', ended = clock_timestamp(), started = coalesce(started, now()), message = null,
           node_id = node.id
     where id = of_job;
end
$$;

-- As before, but what was there is parted with as in all other places.
create or replace function storage_api.unpack(
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
    more_bytes bigint;
    more_nodes bigint;
    owners bigint[];
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
    select sum(greatest(f.size - case when n.location = f.location then 0 else coalesce(n.size, 0) end, 0)),
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
    perform require_quotas(job.node_id || ids || places, job.owner_id || owners, more_bytes, more_nodes, job.owner_id);
    update jobs
       set phase = 'COMPLETED', ended = clock_timestamp(), started = coalesce(started, now()), message = null
     where id = of_job;
end
$$;

-- Where the bytes of a node are, if the caller may still read them: here, at home or as a copy.
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
    place text;
begin
    perform live_token(of_token, true);
    select * into c from caller_of(of_user);
    if of_job is not null then
        select * into job from jobs where id = of_job;
        if not found or job.name is not null or job.owner_id is distinct from of_user
           or job.node_id is distinct from of_node or job.phase not in ('EXECUTING', 'COMPLETED')
           or job.expires <= now() then
            perform raise_fault('PermissionDenied', 'this endpoint was withdrawn; negotiate again');
        end if;
        perform live_token(job.token_id, true);
    end if;
    select * into node from nodes where id = of_node;
    if not found then
        perform raise_fault('NodeNotFound', 'the node was deleted meanwhile');
    elsif not (may_read(node.owner_id, node.public, node.group_read, node.group_write,
                        c.caller, c.caller_groups, c.admin)
               and way_is_readable(node.parent_id, c.caller, c.caller_groups, c.admin)) then
        perform raise_fault('PermissionDenied', 'the right to read was withdrawn');
    elsif node.location is not null then
        place := place_at(node.storage_id, node.location, of_storage);
        if place is null then
            perform raise_fault('NodeNotFound', 'the bytes are elsewhere by now; negotiate again');
        end if;
    end if;
    return query select node.name, coalesce(node.modified, node.created), place, coalesce(node.size, 0),
                        node.md5, node.sha256, node.properties ->> 'ivo://ivoa.net/vospace/core#type',
                        coalesce(job.phase = 'EXECUTING', false);
end
$$;

revoke all on all functions in schema storage_api from public;
grant execute on all functions in schema storage_api to pyvospace_storage;
