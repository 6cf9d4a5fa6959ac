-- Whether bytes are what they should be: who compares the catalogue with the stores, who reads them again, and what is
-- done with what is found.

-- All names of bytes, with what is known of the bytes. Who adds a table that names bytes adds it here, and everybody
-- knows: the sweep, fsck and the scrubber. A copy has the size and the digests of its home (`bytes_at`).
create view named_bytes as
    select n.storage_id, n.location, n.size, n.md5, n.sha256 from nodes n where n.location is not null
    union all
    select v.storage_id, v.location, v.size, v.md5, v.sha256 from versions v
    union all
    select s.storage_id, s.location, s.size, null::bytea, null::bytea from segments s
    union all
    select r.at_storage, r.at_location, null::bigint, null::bytea, null::bytea from replicas r;

create or replace function is_named(of_storage integer, place text) returns boolean language plpgsql stable as $$
begin
    return exists (select from named_bytes b where b.storage_id = of_storage and b.location = place);
end
$$;

-- What the bytes at a location should be; known is false if nothing names them. NULL: nobody knows.
create function bytes_at(of_storage integer, place text, out known boolean, out size bigint, out md5 bytea,
                         out sha256 bytea)
language plpgsql stable as $$
begin
    select true, b.size, b.md5, b.sha256 into bytes_at.known, bytes_at.size, bytes_at.md5, bytes_at.sha256
      from named_bytes b
     where b.storage_id = of_storage and b.location = place
     order by b.sha256 is null, b.size is null limit 1;
    known := coalesce(known, false);
    if known and size is null then
        select h.size, h.md5, h.sha256 into bytes_at.size, bytes_at.md5, bytes_at.sha256
          from replicas r
          join named_bytes h on h.storage_id = r.storage_id and h.location = r.location
         where r.at_storage = of_storage and r.at_location = place
         order by h.sha256 is null, h.size is null limit 1;
    end if;
end
$$;

-- Where a node is that has these bytes, for people. NULL: none has them, or none that can be seen.
create function path_at(of_storage integer, place text) returns text language plpgsql stable as $$
begin
    return (select path_of(n.parent_id, n.name) from nodes n join containers c on c.id = n.parent_id and c.path >= '1'
             where n.storage_id = of_storage and n.location = place order by n.id limit 1);
end
$$;

-- Whether good bytes are anywhere: at home, or as a copy.
create function has_good_place(home integer, home_location text) returns boolean language plpgsql stable as $$
begin
    return exists (
        select from (select home as storage_id, home_location as location
                     union all
                     select r.at_storage, r.at_location from replicas r
                      where r.storage_id = home and r.location = home_location) p
         where not exists (select from damages d where d.storage_id = p.storage_id and d.location = p.location));
end
$$;

-- Say why bytes are not given. Nobody can do anything about damaged ones but who has them elsewhere, and the operator:
-- to come again does not help, and they are not said to be gone.
create function refuse_place(home integer, home_location text) returns void language plpgsql stable as $$
begin
    if has_good_place(home, home_location) then
        perform raise_fault('NodeNotFound', 'the bytes are elsewhere by now; negotiate again');
    end if;
    perform raise_fault('InternalFault', 'the bytes of this node are damaged, and there is no other copy; they are not '
                        || 'given out. Store them again, or ask the operator to restore them');
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
            perform refuse_place(node.storage_id, node.location);
        end if;
    end if;
    return query select node.name, coalesce(node.modified, node.created), place, coalesce(node.size, 0),
                        node.md5, node.sha256, node.properties ->> 'ivo://ivoa.net/vospace/core#type',
                        coalesce(job.phase = 'EXECUTING', false);
end
$$;

-- Versions whose node is gone.
create function orphan_versions() returns setof versions language plpgsql stable as $$
begin
    return query select v.* from versions v where not exists (select from nodes n where n.id = v.node_id);
end
$$;

-- --------------------------------------------------------------------------------------------------------- damages

-- Enter that bytes are damaged, if something still names them; whether that is news.
create function storage_api.note_damage(of_uuid uuid, place text, new_kind text, new_details text) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    a record;
begin
    if not is_named(of_storage, place) then
        return false;
    end if;
    insert into damages (storage_id, location, kind, details) values (of_storage, place, new_kind, new_details)
    on conflict (storage_id, location) do nothing;
    if not found then
        update damages set kind = new_kind, details = new_details
         where storage_id = of_storage and location = place and (kind, details) <> (new_kind, new_details);
        return false;
    end if;
    select * into a from acting();
    perform write_audit(a.actor, a.who, 'findDamage', n.id, path_of(n.parent_id, n.name), n.owner_id,
                        jsonb_build_object('storage', of_storage, 'location', place, 'kind', new_kind))
       from (select 1) one
       left join lateral (select * from nodes m where m.storage_id = of_storage and m.location = place
                           order by m.id limit 1) n on true;
    return true;
end
$$;

-- Bytes were read and are good: whether they were thought to be damaged.
create function storage_api.clear_damage(of_uuid uuid, place text) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    a record;
begin
    delete from damages where storage_id = of_storage and location = place;
    if not found then
        return false;
    end if;
    select * into a from acting();
    perform write_audit(a.actor, a.who, 'clearDamage', n.id, path_of(n.parent_id, n.name), n.owner_id,
                        jsonb_build_object('storage', of_storage, 'location', place))
       from (select 1) one
       left join lateral (select * from nodes m where m.storage_id = of_storage and m.location = place
                           order by m.id limit 1) n on true;
    return true;
end
$$;

-- What the bytes at some locations should be. Locations that nothing names any more are left out.
create function storage_api.bytes_at(of_uuid uuid, places text[])
returns table (location text, size bigint, md5 bytea, sha256 bytea, damage text, path text)
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
begin
    return query
    select p.place, b.size, b.md5, b.sha256, d.kind, path_at(of_storage, p.place)
      from unnest(places) as p(place)
     cross join lateral bytes_at(of_storage, p.place) b
      left join damages d on d.storage_id = of_storage and d.location = p.place
     where b.known;
end
$$;

-- Up to `at_most` damaged locations behind `after`.
create function storage_api.damaged(of_uuid uuid, after text, at_most integer) returns setof text
language plpgsql stable security definer set search_path = public, pg_temp as $$
begin
    return query select d.location from damages d
                  where d.storage_id = own_storage(of_uuid) and d.location > after order by d.location limit at_most;
end
$$;

-- ------------------------------------------------------------------------------------------------------------ fsck

-- What a comparison has seen in a store. Unlogged: after a crash it begins anew.
create unlogged table fsck_seen (
    -- The comparison.
    run      bigint not null,
    -- Where bytes are.
    location text not null,
    primary key (run, location)
);

-- Comparisons that are under way, or were given up.
create table fsck_runs (
    -- Number of the run.
    id         bigint generated always as identity primary key,
    -- The store.
    storage_id integer not null references storages on delete cascade,
    -- When it began.
    began      timestamptz not null default now()
);

-- Begin a comparison of a store with the catalogue: its number.
create function storage_api.fsck_begin(of_uuid uuid) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    run bigint;
begin
    insert into fsck_runs (storage_id) values (own_storage(of_uuid)) returning id into run;
    return run;
end
$$;

-- Forget up to `at_most` rows of a comparison, and of those that were given up two days ago; how many.
create function storage_api.fsck_end(of_uuid uuid, of_run bigint, at_most integer) returns integer
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    gone integer;
begin
    delete from fsck_seen
     where ctid = any (array(
        select s.ctid from fsck_runs r join fsck_seen s on s.run = r.id
         where r.storage_id = of_storage and (r.id = of_run or r.began < now() - interval '2 days') limit at_most));
    get diagnostics gone = row_count;
    if gone < at_most then
        delete from fsck_runs r
         where r.storage_id = of_storage and (r.id = of_run or r.began < now() - interval '2 days');
    end if;
    return gone;
end
$$;

-- Note what is in the store; give what nothing names (and is on no list of what goes), and what has another size than
-- it should have. Sizes may be NULL.
create function storage_api.fsck_listed(of_uuid uuid, of_run bigint, places text[], sizes bigint[])
returns table (location text, kind text, size bigint, found bigint)
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
begin
    insert into fsck_seen (run, location) select of_run, place from unnest(places) as place on conflict do nothing;
    return query
    select f.place, case when b.known then 'size' else 'unknown' end, b.size, f.size
      from unnest(places, sizes) as f(place, size)
      left join lateral (
          select true as known, coalesce(a.size, (bytes_at(of_storage, f.place)).size) as size
            from named_bytes a where a.storage_id = of_storage and a.location = f.place
           order by a.size is null limit 1) b on true
     where b.known and b.size <> f.size
        or b.known is null and not exists (select from obsolete o
                                            where o.storage_id = of_storage and o.location = f.place);
end
$$;

-- Of the next `at_most` names of bytes behind `after`: those that the comparison has not seen in the store; and, as the
-- row without a location, where to go on. No such row: that was all.
create function storage_api.fsck_missing(of_uuid uuid, of_run bigint, after text, at_most integer)
returns table (location text, upto text)
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    page text[];
begin
    page := array(select b.location from named_bytes b
                   where b.storage_id = of_storage and b.location > after order by b.location limit at_most);
    return query
    select distinct place, null::text from unnest(page) as place
     where not exists (select from fsck_seen s where s.run = of_run and s.location = place);
    if cardinality(page) = at_most then
        return query select null::text, page[at_most];
    end if;
end
$$;

-- Locations that have been obsolete for so many seconds that the sweep should have taken them: the oldest.
create function storage_api.overdue(of_uuid uuid, seconds double precision, at_most integer)
returns table (location text, since timestamptz)
language plpgsql stable security definer set search_path = public, pg_temp as $$
begin
    return query
    select o.location, o.since from obsolete o
     where o.storage_id = own_storage(of_uuid) and o.since < now() - make_interval(secs => seconds)
     order by o.since limit at_most;
end
$$;

-- Write that the operator had something repaired.
create function storage_api.note_repair(of_uuid uuid, place text, of_kind text, what text) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    a record;
begin
    select * into a from acting();
    perform write_audit(a.actor, a.who, 'repair', null, null, null,
                        jsonb_build_object('storage', own_storage(of_uuid), 'location', place, 'kind', of_kind,
                                           'done', what));
end
$$;

-- --------------------------------------------------------------------------------------------------------- unknown

-- Bytes in a store that nothing names, and when the sweep first saw them, by the clock of the database. The times of
-- files are those of another clock, which may be wrong by any amount.
create table suspects (
    -- Who keeps them.
    storage_id integer not null references storages on delete cascade,
    -- Their name there.
    location   text not null,
    -- When somebody met them.
    since      timestamptz not null default now(),
    primary key (storage_id, location)
);

-- Note which of the locations, at which there are bytes, nothing names; give those of which that was noted `margin`
-- seconds ago already. Whoever published bytes before they were seen has committed or given up since, if nobody takes so
-- long: what is unknown then stays unknown. Those that have a name are suspected no more.
create function storage_api.take_unknown(of_uuid uuid, places text[], margin double precision) returns setof text
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    nameless text[];
begin
    nameless := array(
        select place from unnest(places) as place
         where not is_named(of_storage, place)
           and not exists (select from obsolete o where o.storage_id = of_storage and o.location = place));
    delete from suspects s
     where s.storage_id = of_storage and s.location = any (places) and s.location <> all (nameless);
    insert into suspects (storage_id, location) select of_storage, place from unnest(nameless) as place
    on conflict do nothing;
    return query
    delete from suspects s
     where s.storage_id = of_storage and s.location = any (nameless) and s.since <= now() - make_interval(secs => margin)
    returning s.location;
end
$$;

-- Bytes that were to be deleted and could not be: the next sweep tries again.
create function storage_api.note_obsolete(of_uuid uuid, places text[]) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
begin
    perform turn_away(of_storage, place) from unnest(places) as place;
end
$$;

-- ----------------------------------------------------------------------------------------------------------- scrub

-- How far the bytes of a storage have been read again.
create table scrubs (
    -- The storage.
    storage_id integer primary key references storages on delete cascade,
    -- What is before it has been given out to be read, and so has it.
    position   text not null default '',
    -- When this pass began.
    began      timestamptz not null default now(),
    -- When it was done. NULL: it is under way.
    ended      timestamptz,
    -- When the last pass began that was done: all that was there then has been read since.
    passed     timestamptz
);

-- Ranges of locations that somebody is reading. If he dies another one does it: nothing is left out.
create table scrub_ranges (
    -- Who does.
    attempt    text primary key,
    -- The storage.
    storage_id integer not null references storages on delete cascade,
    -- Behind this location …
    after      text not null,
    -- … and up to this.
    upto       text not null,
    -- End of his lease, unless it is renewed.
    until      timestamptz not null
);
create index scrub_ranges_until on scrub_ranges (storage_id, until);

-- Give the next up to `at_most` locations to be read again, and what should be there; none: there is nothing to do now.
-- A pass begins `interval` seconds after the one before has begun.
create function storage_api.claim_scrub(
    of_uuid uuid, of_attempt text, pause double precision, lease double precision, at_most integer
) returns table (location text, size bigint, md5 bytea, sha256 bytea, damage text)
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    pass scrubs;
    page text[];
    mine scrub_ranges;
begin
    insert into scrubs (storage_id) values (of_storage) on conflict do nothing;
    select * into pass from scrubs s where s.storage_id = of_storage for update;
    update scrub_ranges r set attempt = of_attempt, until = now() + make_interval(secs => lease)
     where r.attempt = (select o.attempt from scrub_ranges o
                         where o.storage_id = of_storage and o.until < now() order by o.until limit 1)
    returning * into mine;
    if mine.attempt is null then
        if pass.ended is not null then
            if pass.began > now() - make_interval(secs => pause) then
                return;
            end if;
            pass.position := '';
            update scrubs s set position = '', began = now(), ended = null where s.storage_id = of_storage;
        end if;
        page := array(select b.location from named_bytes b
                       where b.storage_id = of_storage and b.location > pass.position
                       order by b.location limit at_most);
        if cardinality(page) = 0 then
            if not exists (select from scrub_ranges r where r.storage_id = of_storage) then
                update scrubs s set ended = now(), passed = s.began where s.storage_id = of_storage;
            end if;
            return;
        end if;
        insert into scrub_ranges values (of_attempt, of_storage, pass.position, page[cardinality(page)],
                                         now() + make_interval(secs => lease)) returning * into mine;
        update scrubs s set position = mine.upto where s.storage_id = of_storage;
    end if;
    return query
    select p.location, b.size, b.md5, b.sha256, d.kind
      from (select distinct n.location from named_bytes n
             where n.storage_id = of_storage and n.location > mine.after and n.location <= mine.upto) p
     cross join lateral bytes_at(of_storage, p.location) b
      left join damages d on d.storage_id = of_storage and d.location = p.location
     where b.known
     order by p.location;
    if not found then
        -- All of it has gone meanwhile: whoever asks again gets the next.
        delete from scrub_ranges r where r.attempt = of_attempt;
    end if;
end
$$;

-- False: the lease is lost, another one reads this range.
create function storage_api.renew_scrub(of_uuid uuid, of_attempt text, lease double precision) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    update scrub_ranges set until = now() + make_interval(secs => lease)
     where attempt = of_attempt and storage_id = own_storage(of_uuid);
    return found;
end
$$;

-- The range has been read.
create function storage_api.end_scrub(of_uuid uuid, of_attempt text) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    delete from scrub_ranges where attempt = of_attempt and storage_id = own_storage(of_uuid);
end
$$;

revoke all on all functions in schema storage_api from public;
grant execute on all functions in schema storage_api to pyvospace_storage;
