-- Structured data: what the bytes of a StructuredDataNode are, and views that are computed of them. And public shares.

alter table nodes
    -- Of a StructuredDataNode with bytes: name of the structured type that a storage server found them to be of.
    -- NULL: of none that it knows.
    add column structure text,
    add constraint nodes_structure check (structure is null or type = 'StructuredDataNode' and location is not null);

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

alter table jobs
    -- Of a pull: its endpoint is handed on to others and serves them until it expires. The job executes for so long.
    add column shared boolean not null default false;

-- Complete a pull.
create or replace function storage_api.delivered(of_job text) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    update jobs set phase = 'COMPLETED', started = coalesce(started, created), ended = now()
     where id = of_job and name is null and phase = 'EXECUTING' and not shared;
end
$$;

revoke all on all functions in schema storage_api from public;
grant execute on all functions in schema storage_api to pyvospace_storage;
