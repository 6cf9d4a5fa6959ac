-- When a file was changed at home, and its permissions, come with its bytes and are stored in the same transaction.

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

drop function storage_api.store(uuid, text, bigint, text, text, bigint, bytea, bytea, text);

-- Turn the node to new bytes, or make it, and complete the job. `new_time` and `new_mode` are what their sender says of
-- his file.
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
        -- Bytes that become a version stay: only those that go make room.
        more_bytes := greatest(new_size - freed_by_store(node), 0);
        perform part_with_bytes(node);
        -- Not now(), which is when the transaction began: who waited for the node writes a later time.
        moment := clock_timestamp();
        update nodes
           set size = new_size, md5 = new_md5, sha256 = new_sha256, storage_id = of_storage,
               location = new_location, stored_by = coalesce(job.owner_id, 0), changed = moment, modified = moment,
               properties = properties_with_bytes(properties, job.keep_properties, new_type, new_time, new_mode)
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

drop function storage_api.store_whole(uuid, text, text, text, bigint, bytea, bytea, text, double precision);

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

-- Give a node, which is locked, the bytes of one of its versions, which is none any more; those that it has become one.
create or replace function restore_version(of_node bigint, of_number integer, actor bigint) returns void
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

revoke all on all functions in schema storage_api from public;
grant execute on all functions in schema storage_api to pyvospace_storage;
