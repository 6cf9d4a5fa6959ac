-- Older contents of data nodes, deleted nodes that can be restored, and who changes policies.

-- --------------------------------------------------------------------------------------------------------- policies

-- What is inherited from nobody has to be said.
alter table policies add constraint policies_root
    check (container_id <> 1 or num_nulls(label, replicas, versions, trash_days, tier_days) = 0);

-- Few containers have such policies, and each upload and each deletion asks whether any has: for the first row of an index
-- that is empty nearly everywhere.
create index policies_versions on policies (versions) where versions > 0;
create index policies_trash on policies (trash_days) where trash_days > 0;

-- Of what is in the trash, where the root is not above.
insert into policies values (0, '', 1, 0, 0, 0);

create trigger policies_audit after insert or update or delete on policies
    for each row execute function audit_administration('addPolicy', 'changePolicy', 'removePolicy');

-- --------------------------------------------------------------------------------------------------------- versions

-- Bytes of its versions. They count for its owner and in the containers above, as its own.
alter table nodes add column kept bigint not null default 0;
-- Number of its newest version that there ever was. 0: none.
alter table nodes add column last_version integer not null default 0;

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

-- A node is about to get other bytes: those that it has become a version, or are turned away.
create or replace function part_with_bytes(node nodes) returns void language plpgsql as $$
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
create function restore_version(of_node bigint, of_number integer, actor bigint) returns void language plpgsql as $$
declare
    type_property constant text := 'ivo://ivoa.net/vospace/core#type';
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
           properties = properties - type_property
                        || case when old.content_type is null then '{}'
                                else jsonb_build_object(type_property, old.content_type) end
     where id = of_node;
    if old.structure is not null then
        update nodes set structure = old.structure where id = of_node;
    end if;
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

-- As before, but bytes that become a version stay: only those that go make room.
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
        perform hold_homes();
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
        more_bytes := greatest(new_size - freed_by_store(node), 0);
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

-- Likewise.
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

-- Reserve what bytes need that have come unannounced.
create or replace function storage_api.reserve(of_attempt text, new_size bigint) returns void
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

-- Fail if bytes that somebody wants to push would not fit, if all stays as it is. NULL: he does not say how many.
create or replace function admit_push(container bigint, node bigint, caller bigint, announced bigint) returns void
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
create or replace function take_lease(
    job jobs, node nodes, new_attempt text, lease double precision, announced bigint, out room bigint, out words text
) language plpgsql as $$
declare
    container bigint := coalesce(node.parent_id, job.parent_id);
    owner bigint := coalesce(node.owner_id, job.owner_id, (select p.owner_id from nodes p where p.id = job.parent_id));
    freed bigint := freed_by_store(node);
    more_bytes bigint := greatest(coalesce(announced, 0) - freed, 0);
    more_nodes bigint := case when node.id is null then 1 else 0 end;
begin
    insert into writers (parent_id, name, job_id, attempt, until, owner_id, reserved_bytes, reserved_nodes, path)
    values (container, coalesce(node.name, job.name), job.id, new_attempt, now() + make_interval(secs => lease), owner,
            more_bytes, more_nodes, (select k.path from containers k where k.id = container))
    on conflict (parent_id, name) do update
       set job_id = excluded.job_id, attempt = excluded.attempt, until = excluded.until, owner_id = excluded.owner_id,
           reserved_bytes = excluded.reserved_bytes, reserved_nodes = excluded.reserved_nodes, path = excluded.path
     where writers.until < now() or writers.job_id = excluded.job_id;
    if not found then
        perform raise_fault('NodeBusy', 'another transfer is writing to this node');
    end if;
    perform require_quotas(array[container], array[owner], more_bytes, more_nodes, job.owner_id);
    if announced is null then
        select greatest(r.room, 0) + freed, r.words into room, words
          from quota_room(container, owner, job.owner_id) r where r.room is not null;
    end if;
end
$$;

-- Bytes that quotas count of an upload in parts, and for whom: beyond what they will replace, which is replaced only
-- once, however many uploads somebody has begun for the node. What will be discarded is there until then.
create or replace function count_partial(job jobs, of_id text, node nodes) returns void language plpgsql as $$
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

-- Let a request write behind what is there. `announced`: bytes that it brings. NULL: it does not say.
create or replace function storage_api.claim_segment(
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

-- Count nodes that have gone. Of a tree, what was counted below its top goes with it: its sum is taken from the
-- containers above, and changes that are not in that sum keep but their owners.
create or replace function count_gone() returns trigger language plpgsql as $$
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

-- Count new bytes, a new place, a new owner. Who moves a container has turned the paths of all changes below it
-- before, and nobody folds meanwhile: what is in its sum goes with it. What falls under other quotas than before must
-- fit there.
create or replace function count_changed() returns trigger language plpgsql as $$
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

-- Fail if a node that was moved, or given away, does not fit into the quotas that it was not under before.
create or replace function require_quotas_above(old nodes, new nodes) returns void language plpgsql as $$
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

drop trigger nodes_changed on nodes;

create trigger nodes_changed after update of parent_id, size, owner_id, kept on nodes for each row
    when ((old.parent_id, old.owner_id, coalesce(old.size, 0) + old.kept)
          is distinct from (new.parent_id, new.owner_id, coalesce(new.size, 0) + new.kept))
    execute function count_changed();

-- ------------------------------------------------------------------------------------------------------------ trash

-- Where deleted nodes are kept: a container that is no node and in no other one, so that no path leads there and no
-- way to it can be read. Nodes in it are named by their ids.
insert into containers (id, path) values (0, '0');

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

-- Whether every container on the way down to `container`, that one included, may be read, from the root on: no way
-- leads into the trash.
create or replace function way_is_readable(container bigint, caller bigint, caller_groups text[], admin boolean)
returns boolean language plpgsql stable as $$
begin
    return (select coalesce(bool_and(may_read(n.owner_id, n.public, n.group_read, n.group_write,
                                              caller, caller_groups, admin)) and min(n.id) = 1, false)
              from nodes n
             where n.id = any (string_to_array((select c.path::text from containers c where c.id = container),
                                               '.')::bigint[]));
end
$$;

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

-- The node that a push writes to, with the writer's rights checked now; NULL: it is still to be made. To be locked, its
-- container is shared first, as whoever changes nodes does: who deletes a tree locks them in this order too.
create or replace function push_target(job jobs, lock boolean) returns nodes language plpgsql as $$
declare
    node nodes;
    parent nodes;
    c record;
begin
    select * into c from caller_of_job(job);
    if job.node_id is not null then
        if lock then
            perform from nodes n join containers k on k.id = n.parent_id where n.id = job.node_id for share of k;
            select * into node from nodes where id = job.node_id for update;
            -- It may have been moved in this very moment.
            perform from containers k where k.id = node.parent_id for share nowait;
        else
            select * into node from nodes where id = job.node_id;
        end if;
        if node.id is null then
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
        if exists (select from containers k where k.id = coalesce(node.parent_id, job.parent_id) and k.path < '1') then
            perform raise_fault('NodeNotFound', 'the node was deleted meanwhile');
        end if;
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

revoke all on all functions in schema storage_api from public;
grant execute on all functions in schema storage_api to pyvospace_storage;
