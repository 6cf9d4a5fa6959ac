-- Copies by reference: several nodes may name the same bytes.
--
-- A location is written once and never changes, so that a copy need not copy it. Whoever turns a node away from a
-- location notes it in `obsolete`, whether or not other nodes still name it; who deletes bytes looks for names then.

drop index nodes_location;
create index nodes_location on nodes (storage_id, location) where location is not null;

-- Turn the node to new bytes, or make it, and complete the job. The caller publishes the bytes before he commits.
create or replace function storage_api.store(
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
create or replace function storage_api.take_obsolete(of_uuid uuid, grace double precision, at_most integer)
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
