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
    return null;
end
$$;
create trigger nodes_gone after delete on nodes
    referencing old table as gone for each statement execute function count_gone();

-- Count new bytes, a new place, a new owner. Who moves a container has turned the paths of all changes below it
-- before, and nobody folds meanwhile: what is in its sum goes with it.
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
