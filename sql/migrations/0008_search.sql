-- Search: nodes below a container that fulfil conditions (decisions/0020).

-- What jobs of the list `searches` have found.
create table found (
    -- The job; they go together.
    job_id   text not null references jobs on delete cascade,
    -- Counted from 1, without a gap.
    position integer not null,
    -- The node. No foreign key: it may be moved, hidden or deleted meanwhile, and whoever reads looks again.
    node_id  bigint not null,
    primary key (job_id, position)
);

-- Nodes below the container `top` that the caller may read and that are as `wanted`, container by container in the
-- order of their paths, and by name in each.
--
-- It looks at up to `to_examine` nodes and containers and gives up to `at_most` nodes, after which comes one row
-- without an id: where to go on, as `from_place` (a path below `top`) and `from_name`, or NULL at the end. What is in
-- a container that the caller may not read is passed over without a look, so that nothing there, not even the time
-- that it takes, depends on it.
create function search_tree(
    top bigint, from_place text, from_name text, wanted jsonb, caller bigint, caller_groups text[], admin boolean,
    at_most integer, to_examine integer
) returns table (id bigint, way text[], place text, place_name text) language plpgsql stable as $$
declare
    root text;
    here ltree;
    ending ltree;
    box record;
    node record;
    last text;
    resumed boolean := true;
    examined integer := 0;
    seen integer;
    allowed integer;
    given integer := 0;
    name_like text := coalesce(wanted ->> 'name', '%');
    low text := coalesce(wanted ->> 'low', '');
    high text := coalesce(wanted ->> 'low', '') || repeat(chr(1114111), 64);
    types text[] := (select array_agg(t) from jsonb_array_elements_text(wanted -> 'types') as t);
    of_owner bigint := case when wanted ? 'owner' then
                           coalesce((select u.id from users u where u.name = wanted ->> 'owner'), 0) end;
    size_from bigint := (wanted ->> 'size_from')::bigint;
    size_to bigint := (wanted ->> 'size_to')::bigint;
    date_from timestamptz := (wanted ->> 'date_from')::timestamptz;
    date_to timestamptz := (wanted ->> 'date_to')::timestamptz;
    btime_from timestamptz := (wanted ->> 'btime_from')::timestamptz;
    btime_to timestamptz := (wanted ->> 'btime_to')::timestamptz;
    ctime_from timestamptz := (wanted ->> 'ctime_from')::timestamptz;
    ctime_to timestamptz := (wanted ->> 'ctime_to')::timestamptz;
    mtime_from timestamptz := (wanted ->> 'mtime_from')::timestamptz;
    mtime_to timestamptz := (wanted ->> 'mtime_to')::timestamptz;
    uris text[] := (select array_agg(p ->> 0) from jsonb_array_elements(wanted -> 'properties') as p);
    likes text[] := (select array_agg(p ->> 1) from jsonb_array_elements(wanted -> 'properties') as p);
begin
    select c.path::text into root from containers c where c.id = top;
    if not found or not way_is_readable(top, caller, caller_groups, admin) then
        return next;
        return;
    end if;
    here := (root || case when from_place = '' then '' else '.' || from_place end)::ltree;
    ending := (root || '0')::ltree;
    loop
        select c.id, c.path,
               may_read(n.owner_id, n.public, n.group_read, n.group_write, caller, caller_groups, admin) as readable
          into box
          from containers c
          join nodes n on n.id = c.id
         where c.path >= here and c.path < ending
         order by c.path limit 1;
        if not found then
            id := null; way := null; place := null; place_name := null;
            return next;
            return;
        end if;
        examined := examined + 1;
        last := case when resumed and box.path = here then from_name else '' end;
        resumed := false;
        here := box.path;
        way := null;
        seen := 0;
        allowed := greatest(to_examine - examined, 1);
        if box.readable then
            for node in
                select k.id, k.name,
                       may_read(k.owner_id, k.public, k.group_read, k.group_write, caller, caller_groups, admin)
                       and k.name like name_like
                       and (types is null or k.type = any (types))
                       and (of_owner is null or k.owner_id = of_owner)
                       and (size_from is null or k.type like '%DataNode' and coalesce(k.size, 0) >= size_from)
                       and (size_to is null or k.type like '%DataNode' and coalesce(k.size, 0) <= size_to)
                       and (date_from is null or coalesce(k.modified, k.changed) >= date_from)
                       and (date_to is null or coalesce(k.modified, k.changed) <= date_to)
                       and (btime_from is null or k.created >= btime_from)
                       and (btime_to is null or k.created <= btime_to)
                       and (ctime_from is null or k.changed >= ctime_from)
                       and (ctime_to is null or k.changed <= ctime_to)
                       and (mtime_from is null or k.modified >= mtime_from)
                       and (mtime_to is null or k.modified <= mtime_to)
                       and (uris is null or (
                           select bool_and(coalesce(case when p.pattern is null then k.properties ? p.uri
                                                         else k.properties ->> p.uri like p.pattern end, false))
                             from unnest(uris, likes) as p (uri, pattern))) as matches
                  from nodes k
                 where k.parent_id = box.id and k.name > last and k.name >= low and k.name <= high
                 order by k.name
                 limit allowed
            loop
                examined := examined + 1;
                seen := seen + 1;
                last := node.name;
                if node.matches then
                    id := node.id;
                    way := coalesce(way, names_of(box.id));
                    return next;
                    given := given + 1;
                    exit when given = at_most;
                end if;
            end loop;
        end if;
        if given < at_most and seen < allowed then
            -- The first place behind the container, or behind all that is below one that may not be read.
            here := (here::text || case when box.readable then '.0' else '0' end)::ltree;
            last := '';
        end if;
        if given = at_most or examined >= to_examine then
            id := null; way := null; place := substr(here::text, length(root) + 2); place_name := last;
            return next;
            return;
        end if;
    end loop;
end
$$;
