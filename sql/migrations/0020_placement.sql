-- Where bytes go and where they are read: choices of places by few functions, more copies, and the way to cold places.

-- For how long after its last heartbeat a server is there.
create function is_there(seen timestamptz) returns boolean language sql stable parallel safe as $$
    select seen > now() - interval '30 seconds'
$$;

-- Bytes that all storages which are there have room for. NULL: none of them knows.
create or replace function free_space() returns bigint language plpgsql stable as $$
begin
    return (select sum(free) from storages where is_there(last_seen) and state = 'active' and not cold);
end
$$;

-- Enter a place and the server that speaks, or renew what is known of them. Servers that went long ago are forgotten.
create or replace function storage_api.announce(
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

-- Few containers have such policies, and each upload asks whether any has.
create index policies_labels on policies (label) where label <> '';

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

-- Whether a job is for `of_storage`: bytes are fetched by a place that new ones may go to, and sent by one that has them.
drop function third_party_of(text, integer, integer);
create function third_party_of(job jobs, of_storage integer) returns boolean language plpgsql stable as $$
declare
    wanted text := '';
    node nodes;
begin
    if job.kind = 'pull_to' then
        if exists (select from policies p where p.label <> '') then
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

create or replace function storage_api.claim_job(
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

create or replace function storage_api.pack_nodes(of_uuid uuid, of_job text, of_user bigint, ids bigint[])
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

create or replace function storage_api.pack_children(
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

revoke all on all functions in schema storage_api from public;
grant execute on all functions in schema storage_api to pyvospace_storage;
