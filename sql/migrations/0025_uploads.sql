-- What each upload asks the database for, without what cost more than it gave.

-- URIs of the groups of a user: local ones, and those that others tell. (Sorted, for there are few of them: a union is
-- hashed, in a megabyte that costs more than all the rest.)
create or replace function groups_of(of_user bigint) returns text[] language plpgsql stable as $$
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

-- The job of a push, for a use of its endpoint that begins now. What began in time may take as long as it keeps its
-- lease.
create or replace function usable_push(of_job text, of_user bigint, of_storage integer) returns jobs
language plpgsql as $$
declare
    job jobs := live_push(of_job, of_user, of_storage);
begin
    if job.expires <= now() then
        perform raise_fault('PermissionDenied', 'this endpoint has expired; negotiate again');
    end if;
    perform live_token(job.token_id, true);
    -- What his groups are is asked where his rights are.
    if of_user is not null and not exists (select from users u where u.id = of_user and not u.disabled) then
        perform raise_fault('PermissionDenied', 'the user of this endpoint is not known any more');
    end if;
    return job;
end
$$;

-- Write that bytes have been stored, in one statement.
create or replace function audit_stored() returns trigger language plpgsql as $$
declare
    told jsonb := nullif(current_setting('pyvospace.caller', true), '');
begin
    insert into audit (user_id, name, credential, remote, request, action, node_id, path, owner_id, details)
    select coalesce(new.owner_id, 0), coalesce(u.name, ''), 'endpoint' || coalesce(' by token ' || new.token_id, ''),
           coalesce(told -> 'who' ->> 2, ''), coalesce(told -> 'who' ->> 3, ''),
           case when n.type = 'ContainerNode' then 'unpackArchive' else 'storeBytes' end, n.id,
           path_of(n.parent_id, n.name), n.owner_id,
           case when n.type = 'ContainerNode' then jsonb_build_object('nodes', told -> 'nodes', 'job', new.id)
                else jsonb_build_object('size', n.size, 'job', new.id) end
      from (select new.node_id) j
      left join nodes n on n.id = j.node_id
      left join users u on u.id = new.owner_id;
    return null;
end
$$;

-- Turn the node to new bytes, or make it with them, and complete the job. `new_time` and `new_mode` are what their
-- sender says of his file.
create or replace function storage_api.store(
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
       set phase = 'COMPLETED', ended = clock_timestamp(), started = coalesce(started, now()), message = null,
           node_id = node.id
     where id = of_job;
end
$$;

revoke all on all functions in schema storage_api from public;
grant execute on all functions in schema storage_api to pyvospace_storage;
