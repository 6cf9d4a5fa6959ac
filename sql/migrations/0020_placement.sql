-- Where bytes go and where they are read: choices of places by few functions, more copies, and the way to cold places.

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

-- --------------------------------------------------------------------------------------------------------- copies

-- When its bytes were last looked at for copies that are missing or spare.
alter table storages add column kept timestamptz not null default '-infinity';
-- It was recalled from a cold storage, and stays until then. NULL: as policies say.
alter table replicas add column keep_until timestamptz;

create index policies_copies on policies (replicas) where replicas > 1;
create index policies_tiers on policies (tier_days) where tier_days > 0;

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
create or replace function refuse_change() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and is_moving_homes() then
        return new;
    end if;
    perform raise_fault('PermissionDenied', 'the node is immutable');
    return null;
end
$$;
create or replace function forget_structure() returns trigger language plpgsql as $$
begin
    if not is_moving_homes() then
        new.structure := null;
    end if;
    return new;
end
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

-- ---------------------------------------------------------------------------------------------------------- tiers

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

revoke all on all functions in schema storage_api from public;
grant execute on all functions in schema storage_api to pyvospace_storage;
