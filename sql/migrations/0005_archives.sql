-- Archives: trees that leave as one file, and files that become trees.

-- ----------------------------------------------------------------------------------------------------------- packing

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

-- --------------------------------------------------------------------------------------------------------- unpacking

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

revoke all on all functions in schema storage_api from public;
grant execute on all functions in schema storage_api to pyvospace_storage;
