-- Immutable nodes: what is finished stays as it is, and where it is.

alter table nodes
    -- Bytes, children, target and place stay as they are, for everybody. What is in an immutable container is
    -- immutable too, down to the last node.
    add column immutable boolean not null default false;
alter table containers
    -- As of its node. Here as well, since who makes a node holds this row and not that of the container's node.
    add column immutable boolean not null default false;
create index nodes_immutable on nodes (parent_id) where immutable;

-- Refuse what no statement should have tried: each of them asks before, and this makes sure that none forgets it.
create function refuse_change() returns trigger language plpgsql as $$
begin
    perform raise_fault('PermissionDenied', 'the node is immutable');
    return null;
end
$$;
create trigger nodes_immutable_kept before delete on nodes
    for each row when (old.immutable) execute function refuse_change();
create trigger nodes_immutable_fixed before update of parent_id, name, target, location on nodes
    for each row when (old.immutable and (old.parent_id, old.name, old.target, old.location)
                                         is distinct from (new.parent_id, new.name, new.target, new.location))
    execute function refuse_change();

-- The node that a push writes to, with the writer's rights checked now; NULL: it is still to be made.
create or replace function push_target(job jobs, lock boolean) returns nodes language plpgsql as $$
declare
    node nodes;
    parent nodes;
    c record;
begin
    select * into c from caller_of(job.owner_id);
    if job.node_id is not null then
        if lock then
            select * into node from nodes where id = job.node_id for update;
        else
            select * into node from nodes where id = job.node_id;
        end if;
        if not found then
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

-- Bytes that all storages which are there have room for. NULL: none of them knows.
create function free_space() returns bigint language plpgsql stable as $$
begin
    return (select sum(free) from storages where last_seen > now() - interval '30 seconds');
end
$$;
