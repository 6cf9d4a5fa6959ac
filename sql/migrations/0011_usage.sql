-- What is used, of containers and of users, and how much may be (decisions/0022).

-- ---------------------------------------------------------------------------------------------------------- usage
-- What is below a container, or belongs to a user, is a sum kept in `usage`, or in `usage_of_owners`, and all changes
-- that are not in it yet. Changes are only added, in the transaction of what they count, so that no two writers ever
-- wait for each other; the fold takes them into the sums, holding the lock of tree deletes and moves (8411).

lock table nodes in share row exclusive mode;

create table usage_changes (
    -- The container in which it happened, and with it all above. NULL: it concerns the owner only.
    path     ltree,
    -- Whose nodes they are. NULL: it concerns the containers only.
    owner_id bigint,
    -- More bytes, or less.
    bytes    bigint not null,
    -- More nodes, or less.
    nodes    bigint not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000);
create index usage_changes_path on usage_changes (path);
create index usage_changes_owner on usage_changes (owner_id);

create table usage (
    -- The container. No row: nothing is counted yet.
    container_id bigint primary key,
    -- Of all data nodes below it.
    bytes        bigint not null,
    -- All nodes below it, itself not among them.
    nodes        bigint not null
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);

create table usage_of_owners (
    -- The user.
    owner_id bigint primary key,
    -- Of all data nodes that he owns.
    bytes    bigint not null,
    -- All nodes that he owns. The root is nobody's.
    nodes    bigint not null
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);

-- What is below a container, as of the statement that asks.
create function usage_of(container bigint, out bytes bigint, out nodes bigint) language plpgsql stable as $$
begin
    select coalesce(b.bytes, 0) + coalesce(p.bytes, 0), coalesce(b.nodes, 0) + coalesce(p.nodes, 0)
      into usage_of.bytes, usage_of.nodes
      from containers c
      left join usage b on b.container_id = c.id
     cross join lateral (
         select sum(u.bytes)::bigint as bytes, sum(u.nodes)::bigint as nodes
           from usage_changes u where u.path >= c.path and u.path < (c.path::text || '0')::ltree
     ) p
     where c.id = container;
end
$$;

-- What a user owns, as of the statement that asks.
create function usage_of_owner(owner bigint, out bytes bigint, out nodes bigint) language plpgsql stable as $$
begin
    select coalesce(sum(s.bytes), 0)::bigint, coalesce(sum(s.nodes), 0)::bigint
      into usage_of_owner.bytes, usage_of_owner.nodes
      from (select b.bytes, b.nodes from usage_of_owners b where b.owner_id = owner
            union all
            select sum(u.bytes), sum(u.nodes) from usage_changes u where u.owner_id = owner) s;
end
$$;

-- Count nodes that have come. The row of their container is shared until the end of the transaction (those who make
-- nodes hold it anyway): so no tree is deleted or moved, and no path is written anew, while a change with that path is
-- on its way.
create function count_added() returns trigger language plpgsql as $$
begin
    insert into usage_changes (path, owner_id, bytes, nodes)
    select c.path, a.owner_id, a.bytes, a.nodes
      from (select parent_id, owner_id, sum(coalesce(size, 0))::bigint as bytes, count(*) as nodes
              from added group by parent_id, owner_id) a
      join containers c on c.id = a.parent_id
       for share of c;
    return null;
end
$$;
create trigger nodes_added after insert on nodes
    referencing new table as added for each statement execute function count_added();

-- Count nodes that have gone. Of a tree, what was counted below its top goes with it: its sum is taken from the
-- containers above, and changes that are not in that sum keep but their owners.
create function count_gone() returns trigger language plpgsql as $$
declare
    top record;
begin
    insert into usage_changes (path, owner_id, bytes, nodes)
    select c.path, g.owner_id, -g.bytes, -g.nodes
      from (select parent_id, owner_id, sum(coalesce(size, 0))::bigint as bytes, count(*) as nodes
              from gone group by parent_id, owner_id) g
      join containers c on c.id = g.parent_id
       for share of c;
    if not exists (select from gone where type = 'ContainerNode') then
        return null;
    end if;
    insert into usage_changes (owner_id, bytes, nodes)
    select g.owner_id, -sum(coalesce(g.size, 0))::bigint, -count(*)
      from gone g
     where not exists (select from containers c where c.id = g.parent_id)
     group by g.owner_id;
    for top in
        select c.path as above, c.path || g.id::text as path, u.bytes, u.nodes
          from gone g
          join containers c on c.id = g.parent_id
          left join usage u on u.container_id = g.id
         where g.type = 'ContainerNode'
    loop
        if top.nodes is not null then
            insert into usage_changes (path, bytes, nodes) values (top.above, -top.bytes, -top.nodes);
        end if;
        update usage_changes set path = null where path >= top.path and path < (top.path::text || '0')::ltree;
    end loop;
    delete from usage u using gone g where g.type = 'ContainerNode' and u.container_id = g.id;
    delete from quotas q using gone g where g.type = 'ContainerNode' and q.container_id = g.id;
    return null;
end
$$;
create trigger nodes_gone after delete on nodes
    referencing old table as gone for each statement execute function count_gone();

-- Count new bytes, a new place, a new owner. Who moves a container has turned the paths of all changes below it
-- before, and nobody folds meanwhile: what is in its sum goes with it. What falls under other quotas than before must
-- fit there.
create function count_changed() returns trigger language plpgsql as $$
declare
    before bigint := coalesce(old.size, 0);
    after bigint := coalesce(new.size, 0);
    below record;
begin
    if (new.parent_id, new.owner_id) = (old.parent_id, old.owner_id) then
        insert into usage_changes (path, owner_id, bytes, nodes)
        select c.path, new.owner_id, after - before, 0 from containers c where c.id = new.parent_id for share;
        return null;
    end if;
    if new.parent_id is distinct from old.parent_id then
        select coalesce(sum(u.bytes), 0)::bigint as bytes, coalesce(sum(u.nodes), 0)::bigint as nodes
          into below from usage u where u.container_id = new.id;
        insert into usage_changes (path, bytes, nodes)
        select c.path, case when c.id = new.parent_id then after + below.bytes else -before - below.bytes end,
               case when c.id = new.parent_id then 1 + below.nodes else -1 - below.nodes end
          from containers c where c.id in (old.parent_id, new.parent_id) order by c.id for share;
    elsif after <> before then
        insert into usage_changes (path, bytes, nodes)
        select c.path, after - before, 0 from containers c where c.id = new.parent_id for share;
    end if;
    if new.owner_id <> old.owner_id and new.parent_id is not null then
        insert into usage_changes (owner_id, bytes, nodes)
        values (old.owner_id, -before, -1), (new.owner_id, after, 1);
    elsif after <> before then
        insert into usage_changes (owner_id, bytes, nodes) values (new.owner_id, after - before, 0);
    end if;
    if (select limited from space) then
        perform require_quotas_above(old, new);
    end if;
    return null;
end
$$;
create trigger nodes_changed after update of parent_id, size, owner_id on nodes for each row
    when ((old.parent_id, old.owner_id, coalesce(old.size, 0))
          is distinct from (new.parent_id, new.owner_id, coalesce(new.size, 0)))
    execute function count_changed();

-- What is there already.
insert into usage (container_id, bytes, nodes)
select step::bigint, sum(k.bytes)::bigint, sum(k.nodes)::bigint
  from (select parent_id, sum(coalesce(size, 0)) as bytes, count(*) as nodes
          from nodes where parent_id is not null group by parent_id) k
  join containers c on c.id = k.parent_id
 cross join unnest(string_to_array(c.path::text, '.')) as step
 group by step;
insert into usage_of_owners (owner_id, bytes, nodes)
select owner_id, sum(coalesce(size, 0))::bigint, count(*) from nodes where parent_id is not null group by owner_id;

-- --------------------------------------------------------------------------------------------------------- quotas

-- How much there may be at the most.
create table quotas (
    -- Of its lock.
    id           integer generated always as identity primary key,
    -- For what is below this container.
    container_id bigint unique,
    -- For what this user owns.
    user_id      bigint unique references users,
    -- For what the members of this group own together: its URI.
    group_uri    text collate "C" unique check (group_uri <> ''),
    -- Bytes. NULL: any number.
    bytes        bigint check (bytes >= 0),
    -- Nodes. NULL: any number.
    nodes        bigint check (nodes >= 0),
    -- Per cent, of those at which the operator wants to be told, that are used. 0: less. NULL: nobody has looked yet.
    warned       integer,
    check (num_nonnulls(container_id, user_id, group_uri) = 1),
    check (num_nonnulls(bytes, nodes) > 0)
);

alter table space
    -- There are quotas. Where there are none, nobody looks for them.
    add column limited boolean not null default false;

create function note_limits() returns trigger language plpgsql as $$
begin
    -- One after the other: each is to see the quotas of those before.
    perform from space for no key update;
    update space set limited = exists (select from quotas);
    return null;
end
$$;
create trigger quotas_known after insert or delete on quotas for each row execute function note_limits();

alter table writers
    -- Who will own the node. NULL: nothing is reserved.
    add column owner_id       bigint,
    -- Bytes that the node may have more, when it is stored.
    add column reserved_bytes bigint not null default 0,
    -- 1: the node is still to be made.
    add column reserved_nodes bigint not null default 0,
    -- Where the container was then: somewhere else, other quotas count.
    add column path           ltree;

-- Users in a group, as `groups_of` knows them.
create function members_of(uri text) returns setof bigint language plpgsql stable as $$
begin
    return query
    select m.user_id
      from space s
     cross join unnest(s.group_prefixes) as prefix
      join groups g on g.name = substr(uri, length(prefix) + 1)
      join members m on m.group_id = g.id
     where starts_with(uri, prefix)
    union
    select o.user_id from outside_groups o where o.uri = members_of.uri and o.until > now();
end
$$;

-- What counts for a quota, as of the statement that asks: what is there.
create function used_of(q quotas, out bytes bigint, out nodes bigint) language plpgsql stable as $$
begin
    if q.container_id is not null then
        select u.bytes, u.nodes into used_of.bytes, used_of.nodes from usage_of(q.container_id) u;
    elsif q.user_id is not null then
        select u.bytes, u.nodes into used_of.bytes, used_of.nodes from usage_of_owner(q.user_id) u;
    else
        select sum(u.bytes)::bigint, sum(u.nodes)::bigint into used_of.bytes, used_of.nodes
          from members_of(q.group_uri) as m cross join lateral usage_of_owner(m) u;
    end if;
    bytes := coalesce(bytes, 0);
    nodes := coalesce(nodes, 0);
end
$$;

-- What is there, and what uploads that are under way have reserved. A lease that is over counts for longer than a
-- transaction may take: who began to store in time may be about to commit.
create function taken_of(q quotas, out bytes bigint, out nodes bigint) language plpgsql stable as $$
begin
    select u.bytes + coalesce(r.bytes, 0), u.nodes + coalesce(r.nodes, 0) into taken_of.bytes, taken_of.nodes
      from used_of(q) u
     cross join lateral (
         select sum(w.reserved_bytes)::bigint as bytes, sum(w.reserved_nodes)::bigint as nodes
           from writers w
          where w.until > now() - interval '2 minutes' and (w.reserved_bytes > 0 or w.reserved_nodes > 0)
            and case when q.container_id is not null then exists (
                         select from containers c join containers top on top.id = q.container_id
                          where c.id = w.parent_id and c.path >= top.path and c.path < (top.path::text || '0')::ltree)
                     when q.user_id is not null then w.owner_id = q.user_id
                     else w.owner_id in (select members_of(q.group_uri)) end
     ) r;
end
$$;

-- Quotas of some containers and all above them, and of some owners and their groups.
create function quotas_over(below bigint[], owners bigint[]) returns setof quotas language plpgsql stable as $$
begin
    return query
    select q.* from quotas q
     where q.container_id in (select step::bigint from containers c
                               cross join unnest(string_to_array(c.path::text, '.')) as step
                               where c.id = any (below))
        or q.user_id = any (owners)
        or q.group_uri in (select unnest(groups_of(o)) from unnest(owners) as o)
     order by q.id;
end
$$;

-- How a quota refuses. What others use is nobody's business, unless he may write where it counts.
create function quota_words(q quotas, unit text, most bigint, room bigint, told boolean) returns text
language plpgsql stable as $$
begin
    if q.container_id is not null then
        return format('the quota of /%s: limit %s %s, %s left', array_to_string(names_of(q.container_id), '/'), most,
                      unit, greatest(room, 0));
    elsif not told then
        return 'the quota of its owner does not allow it';
    end if;
    return format('the quota of %s: limit %s %s, %s left',
                  coalesce(q.group_uri, (select 'user ' || u.name from users u where u.id = q.user_id)), most, unit,
                  greatest(room, 0));
end
$$;

-- Fail if a quota over the containers `below`, or over the owners, is exceeded now that more has come, or has been
-- reserved: in this transaction, which keeps the quotas locked until it ends. These are the last locks that it takes,
-- in the order of their ids. `but`: not those that the container is under as well.
create function require_quotas(
    below bigint[], owners bigint[], more_bytes bigint, more_nodes bigint, caller bigint, but bigint default null
) returns void language plpgsql as $$
declare
    known record;
    q quotas;
    taken record;
begin
    if coalesce(more_bytes, 0) <= 0 and coalesce(more_nodes, 0) <= 0 or not (select limited from space) then
        return;
    end if;
    for known in
        select o.id from quotas_over(below, owners) o
         where (o.bytes is not null and more_bytes > 0 or o.nodes is not null and more_nodes > 0)
           and (but is null or o.id not in (select b.id from quotas_over(array[but], '{}') b))
         order by o.id
    loop
        perform pg_advisory_xact_lock(8415, known.id);
        -- Both in one statement: what is stored in this moment is reserved, or there, but never neither.
        select x.* into q from quotas x where x.id = known.id;
        select t.bytes, t.nodes into taken from taken_of(q) t;
        if more_bytes > 0 and taken.bytes > q.bytes then
            perform raise_fault('QuotaExceeded', quota_words(q, 'bytes', q.bytes, q.bytes - taken.bytes + more_bytes,
                                                             caller = any (owners)));
        elsif more_nodes > 0 and taken.nodes > q.nodes then
            perform raise_fault('QuotaExceeded', quota_words(q, 'nodes', q.nodes, q.nodes - taken.nodes + more_nodes,
                                                             caller = any (owners)));
        end if;
    end loop;
end
$$;

-- Fail if a node that was moved, or given away, does not fit into the quotas that it was not under before.
create function require_quotas_above(old nodes, new nodes) returns void language plpgsql as $$
declare
    more_bytes bigint := coalesce(new.size, 0);
    more_nodes bigint := 1;
begin
    if new.parent_id is distinct from old.parent_id then
        if new.type = 'ContainerNode' then
            select u.bytes, u.nodes + 1 into more_bytes, more_nodes from usage_of(new.id) u;
        end if;
        perform require_quotas(array[new.parent_id], '{}', more_bytes, more_nodes, null, old.parent_id);
    end if;
    if new.owner_id <> old.owner_id then
        perform require_quotas('{}', array[new.owner_id], coalesce(new.size, 0), 1, new.owner_id);
    end if;
end
$$;

-- Nodes that may still come by a quota, as of the statement that asks.
create function nodes_left(quota integer) returns bigint language plpgsql stable as $$
begin
    return (select q.nodes - t.nodes from quotas q cross join lateral taken_of(q) t where q.id = quota);
end
$$;

-- Fail if a node that is being made, and not counted yet, does not fit. As long as more are left than there can be
-- others who make one in the same moment, they need not wait for each other: they share the quota's lock.
create function admit_node(container bigint, owner bigint, caller bigint) returns void language plpgsql as $$
declare
    q quotas;
    others constant bigint := current_setting('max_connections')::bigint;
    near boolean;
begin
    for q in select * from quotas_over(array[container], array[owner]) o where o.nodes is not null loop
        begin
            perform pg_advisory_xact_lock_shared(8415, q.id);
            near := nodes_left(q.id) <= others;
            if near then
                raise exception using errcode = 'VS003', message = 'share the lock no more';
            end if;
        exception
            when sqlstate 'VS003' then null;  -- the lock is given back
        end;
        if near then
            perform pg_advisory_xact_lock(8415, q.id);
            if nodes_left(q.id) < 1 then
                perform raise_fault('QuotaExceeded', quota_words(q, 'nodes', q.nodes, 0, caller = owner));
            end if;
        end if;
    end loop;
end
$$;

-- Bytes that may still come into a container for an owner, less than none if there are too many, and how more of them
-- are refused; NULL: no quota says so.
create function quota_room(container bigint, owner bigint, caller bigint, out room bigint, out words text)
language plpgsql stable as $$
begin
    if (select limited from space) then
        select q.bytes - t.bytes, quota_words(q, 'bytes', q.bytes, q.bytes - t.bytes, caller = owner)
          into room, words
          from quotas_over(array[container], array[owner]) q cross join lateral taken_of(q) t
         where q.bytes is not null
         order by 1 limit 1;
    end if;
end
$$;

-- Bytes that a user may bring into a container: that storages have room for and quotas leave. NULL: nobody knows.
create function room_for(container bigint, caller bigint) returns bigint language plpgsql stable as $$
declare
    free bigint := free_space();
begin
    if not (select limited from space) then
        return free;
    end if;
    return (select case when num_nonnulls(free, r.room) > 0 then greatest(least(free, r.room), 0) end
              from quota_room(container, caller, caller) r);
end
$$;

-- Fail if bytes that somebody wants to push would not fit, if all stays as it is. NULL: he does not say how many.
create function admit_push(container bigint, node bigint, caller bigint, announced bigint) returns void
language plpgsql stable as $$
declare
    there nodes;
    r record;
begin
    select * into there from nodes where id = node;
    select * into r from quota_room(
        case when there.type = 'ContainerNode' then node else container end,
        case when there.type like '%DataNode' then there.owner_id else coalesce(
            nullif(caller, 0), (select p.owner_id from nodes p where p.id = container)) end, caller);
    if r.room is not null
       and (case when there.type = 'ContainerNode' then r.room <= 0
                 else greatest(coalesce(announced, 1) - coalesce(there.size, 0), 0) > greatest(r.room, 0) end) then
        perform raise_fault('QuotaExceeded', r.words);
    end if;
end
$$;

-- The node that a push writes to, with the writer's rights checked now; NULL: it is still to be made. To be locked, its
-- container is shared first, as whoever changes nodes does: who deletes a tree locks them in this order too.
create or replace function push_target(job jobs, lock boolean) returns nodes language plpgsql as $$
declare
    node nodes;
    parent nodes;
    c record;
begin
    select * into c from caller_of_job(job);
    if job.node_id is not null then
        if lock then
            perform from nodes n join containers k on k.id = n.parent_id where n.id = job.node_id for share of k;
            select * into node from nodes where id = job.node_id for update;
            -- It may have been moved in this very moment.
            perform from containers k where k.id = node.parent_id for share nowait;
        else
            select * into node from nodes where id = job.node_id;
        end if;
        if node.id is null then
            perform raise_fault('NodeNotFound', 'the node was deleted meanwhile');
        end if;
    else
        if lock then
            perform from containers where id = job.parent_id and nlevel(path) <= 200 for share;
            if not found then
                perform raise_fault('ContainerNotFound', 'the container was deleted or moved meanwhile');
            end if;
        end if;
        select * into parent from nodes where id = job.parent_id;
        if not found then
            perform raise_fault('ContainerNotFound', 'the container was deleted meanwhile');
        end if;
        if lock then
            select * into node from nodes where parent_id = job.parent_id and name = job.name for update;
        else
            select * into node from nodes where parent_id = job.parent_id and name = job.name;
        end if;
    end if;
    if not way_is_readable(coalesce(node.parent_id, job.parent_id), c.caller, c.caller_groups, c.admin)
       or node.id is not null and not may_write(node.owner_id, node.group_write, c.caller, c.caller_groups, c.admin)
       or node.id is null and not may_write(parent.owner_id, parent.group_write, c.caller, c.caller_groups, c.admin)
    then
        perform raise_fault('PermissionDenied', 'the right to write there was withdrawn');
    elsif coalesce(node.immutable, parent.immutable) then
        perform raise_fault('PermissionDenied', 'the node is immutable');
    elsif coalesce(node.locked, parent.locked) then
        perform raise_fault('NodeLocked', 'the node is locked');
    elsif node.id is not null and node.type not like '%DataNode' then
        perform raise_fault('DuplicateNode', 'there is a node of another type by now');
    end if;
    return node;
end
$$;

-- Take the writer's lease of the node of a push, and reserve what it will need. `announced`: bytes that will come; if
-- nobody knows, they are reserved when they are there (storage_api.reserve), and `room` says how many that may be.
create function take_lease(
    job jobs, node nodes, new_attempt text, lease double precision, announced bigint, out room bigint, out words text
) language plpgsql as $$
declare
    container bigint := coalesce(node.parent_id, job.parent_id);
    owner bigint := coalesce(node.owner_id, job.owner_id, (select p.owner_id from nodes p where p.id = job.parent_id));
    more_bytes bigint := greatest(coalesce(announced, 0) - coalesce(node.size, 0), 0);
    more_nodes bigint := case when node.id is null then 1 else 0 end;
begin
    insert into writers (parent_id, name, job_id, attempt, until, owner_id, reserved_bytes, reserved_nodes, path)
    values (container, coalesce(node.name, job.name), job.id, new_attempt, now() + make_interval(secs => lease), owner,
            more_bytes, more_nodes, (select k.path from containers k where k.id = container))
    on conflict (parent_id, name) do update
       set job_id = excluded.job_id, attempt = excluded.attempt, until = excluded.until, owner_id = excluded.owner_id,
           reserved_bytes = excluded.reserved_bytes, reserved_nodes = excluded.reserved_nodes, path = excluded.path
     where writers.until < now() or writers.job_id = excluded.job_id;
    if not found then
        perform raise_fault('NodeBusy', 'another transfer is writing to this node');
    end if;
    perform require_quotas(array[container], array[owner], more_bytes, more_nodes, job.owner_id);
    if announced is null then
        select greatest(r.room, 0) + coalesce(node.size, 0), r.words into room, words
          from quota_room(container, owner, job.owner_id) r where r.room is not null;
    end if;
end
$$;

drop function storage_api.claim_upload(uuid, text, bigint, text, double precision, bigint, double precision);

-- Take the writer's lease. The loss of this row in a crash of the database costs an upload its lease and nothing
-- else, so that it need not wait for the disk.
create function storage_api.claim_upload(
    of_uuid uuid, of_job text, of_user bigint, new_attempt text, lease double precision,
    announced bigint, repeat_window double precision
) returns table (size_limit bigint, discard boolean, location text, size bigint, md5 bytea, sha256 bytea,
                 content_type text, room bigint, words text)
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    job jobs;
    node nodes;
    quota record;
begin
    perform set_config('synchronous_commit', 'off', true);
    job := usable_push(of_job, of_user, own_storage(of_uuid));
    if job.phase = 'COMPLETED' and job.ended < now() - make_interval(secs => repeat_window) then
        perform raise_fault('EndpointUsed', 'the bytes are there already; negotiate again to replace them');
    elsif announced > job.size_limit then
        perform raise_fault('RequestEntityTooLarge',
                            format('%s bytes are more than the limit of %s', announced, job.size_limit));
    end if;
    select null::bigint as room, null::text as words into quota;
    if not job.discard then
        node := push_target(job, false);
        select * into quota from take_lease(job, node, new_attempt, lease, announced);
    end if;
    if job.started is null then
        update jobs set started = now() where id = of_job;
    end if;
    return query select job.size_limit, job.discard, node.location, node.size, node.md5, node.sha256,
                        node.properties ->> 'ivo://ivoa.net/vospace/core#type', quota.room, quota.words;
end
$$;

drop function storage_api.claim_pull(uuid, text, text, double precision);

-- Take the writer's lease of the node that `announced` bytes were found for, with the rights of the job's owner
-- checked now.
create function storage_api.claim_pull(
    of_uuid uuid, of_attempt text, new_writer text, lease double precision, announced bigint
) returns table (size_limit bigint, discard boolean, room bigint, words text)
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    job jobs := held_pull(of_attempt, own_storage(of_uuid));
    quota record;
begin
    perform set_config('synchronous_commit', 'off', true);
    perform caller_of(job.owner_id);
    select null::bigint as room, null::text as words into quota;
    if not job.discard then
        select * into quota from take_lease(job, push_target(job, false), new_writer, lease, announced);
    end if;
    return query select job.size_limit, job.discard, quota.room, quota.words;
end
$$;

-- Reserve what bytes need that have come unannounced.
create function storage_api.reserve(of_attempt text, new_size bigint) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    job jobs;
    node nodes;
    held writers;
    more bigint;
begin
    perform set_config('synchronous_commit', 'off', true);
    select j.* into job from jobs j join writers w on w.job_id = j.id where w.attempt = of_attempt for update of j;
    select * into held from writers where attempt = of_attempt for update;
    if not found then
        perform raise_fault('NodeBusy', 'another transfer took this node over');
    end if;
    node := push_target(job, false);
    more := greatest(new_size - coalesce(node.size, 0), 0);
    update writers set reserved_bytes = more, path = (select k.path from containers k where k.id = held.parent_id)
     where attempt = of_attempt;
    perform require_quotas(array[held.parent_id], array[held.owner_id], more, 0, job.owner_id);
end
$$;

-- Extend a lease; false: it was lost. What it had reserved may be somebody else's by now if it was over.
create or replace function storage_api.renew(of_attempt text, lease double precision) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    update writers w
       set until = now() + make_interval(secs => lease), owner_id = case when w.until > now() then w.owner_id end,
           reserved_bytes = case when w.until > now() then w.reserved_bytes else 0 end,
           reserved_nodes = case when w.until > now() then w.reserved_nodes else 0 end
      from jobs j
     where w.attempt = of_attempt and j.id = w.job_id and j.phase in ('EXECUTING', 'COMPLETED');
    return found;
end
$$;

-- Turn the node to new bytes, or make it, and complete the job. The caller publishes the bytes before he commits.
-- They fit into all quotas if no more of them came, and nothing else is there, than was reserved; if not, we look.
create or replace function storage_api.store(
    of_uuid uuid, of_job text, of_user bigint, of_attempt text, new_location text, new_size bigint,
    new_md5 bytea, new_sha256 bytea, new_type text
) returns void language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    job jobs := live_push(of_job, of_user, of_storage);
    node nodes;
    held writers;
    more_bytes bigint;
    more_nodes bigint := 0;
    moment timestamptz;
    type_property constant text := 'ivo://ivoa.net/vospace/core#type';
begin
    if not job.discard then
        select * into held from writers where attempt = of_attempt for update;
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
            more_nodes := 1;
            exit when node.id is not null;
            -- Somebody made it in the same moment: his node, if we may, unless it is gone again.
            more_nodes := 0;
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
        more_bytes := greatest(new_size - coalesce(node.size, 0), 0);
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

-- The container that an archive is unpacked in, with the writer's rights checked now.
create or replace function unpack_target(job jobs) returns nodes language plpgsql as $$
declare
    node nodes;
    c record;
begin
    select * into c from caller_of_job(job);
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

-- Take the writer's lease of the container, as storage_api.claim_upload does of a data node; `path`: its names. What
-- it will need nobody knows before its end, and is not reserved.
create or replace function storage_api.claim_unpack(
    of_uuid uuid, of_job text, of_user bigint, new_attempt text, lease double precision, announced bigint,
    repeat_window double precision
) returns table (size_limit bigint, request jsonb, path text[])
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    job jobs;
    node nodes;
    quota record;
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
    select * into quota from quota_room(node.id, job.owner_id, job.owner_id);
    if quota.room <= 0 then
        perform raise_fault('QuotaExceeded', quota.words);
    end if;
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

-- Make one level of the containers of an archive, or find those that are there; their ids, in order.
create or replace function unpack_folders(job jobs, parents bigint[], names text[]) returns bigint[]
language plpgsql as $$
declare
    c record;
    met nodes;
    ids bigint[];
begin
    select * into c from caller_of_job(job);
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
-- The caller has published all bytes before. All that has come must fit into the quotas.
create or replace function storage_api.unpack(
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
    more_bytes bigint;
    more_nodes bigint;
    owners bigint[];
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
    select sum(greatest(f.size - case when n.location = f.location then 0 else coalesce(n.size, 0) end, 0)),
           count(*) filter (where n.created = now()) + (select count(*) from nodes a
                                                         where a.id = any (ids) and a.created = now()),
           array_agg(distinct n.owner_id)
      into more_bytes, more_nodes, owners
      from unnest(places, leaf_names, locations, sizes) as f(parent, name, location, size)
      join nodes n on n.parent_id = f.parent and n.name = f.name;
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
    perform require_quotas(job.node_id || ids || places, job.owner_id || owners, more_bytes, more_nodes, job.owner_id);
    update jobs
       set phase = 'COMPLETED', ended = clock_timestamp(), started = coalesce(started, now()), message = null
     where id = of_job;
end
$$;

revoke all on all functions in schema storage_api from public;
grant execute on all functions in schema storage_api to pyvospace_storage;
