-- Files of an archive keep the times that it says of them: thousands of small files travel as one, and are compared by
-- their times later.

drop function storage_api.unpack(
    uuid, text, bigint, text, integer[], integer[], text[], integer[], text[], text[], text[], bigint[], bytea[],
    bytea[], text[], text[]);

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

grant execute on all functions in schema storage_api to pyvospace_storage;
