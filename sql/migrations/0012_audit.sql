-- Who did what to which node, from where, by which credential, and what was decided (decisions/0026).

create table audit (
    -- Order among rows of one moment.
    id         bigint generated always as identity,
    -- When it happened.
    at         timestamptz not null default clock_timestamp(),
    -- Who did it. 0: nobody who had shown who he is.
    user_id    bigint not null,
    -- His name then.
    name       text not null,
    -- How he showed who he is; never a secret.
    credential text not null,
    -- Address that he came from. '' : work of the service itself.
    remote     text not null,
    -- Id of the request, as logs and answers give it.
    request    text not null,
    -- What it was (pyvospace.model.audit.Action).
    action     text collate "C" not null,
    -- The node. NULL: there is none, or it is about none.
    node_id    bigint,
    -- Where it was at that moment: /names, not encoded. NULL: it is about no node.
    path       text collate "C",
    -- Whose node it was, or who it is about: he may see the row.
    owner_id   bigint,
    -- 'done', or the fault by which it was refused.
    outcome    text collate "C" not null default 'done',
    -- What else there is to say of it.
    details    jsonb not null default '{}'
) with (autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000);
-- All in the order of time; and the owner's part. What somebody does with his own is found by the owner.
create index audit_at on audit (at, id);
create index audit_owner on audit (owner_id, at, id);
create index audit_user on audit (user_id, at, id) where user_id is distinct from owner_id;

-- Nothing is ever changed here, and nothing goes but what `prune_audit` takes.
create function refuse_audit_change() returns trigger language plpgsql as $$
begin
    if tg_op <> 'DELETE' or coalesce(current_setting('pyvospace.pruning', true), '') <> 'on' then
        raise exception 'the audit log is only added to' using errcode = 'insufficient_privilege';
    end if;
    return null;
end
$$;
create trigger audit_kept before update or delete or truncate on audit
    for each statement execute function refuse_audit_change();
alter table audit enable always trigger audit_kept;

-- Take up to `at_most` of the oldest rows away that are older than some days; their number. At least a day stays.
create function prune_audit(keep_days integer, at_most integer) returns bigint
language plpgsql as $$
declare
    number bigint;
    last timestamptz;
begin
    if keep_days < 1 then
        raise exception 'an audit log of less than a day is none' using errcode = 'invalid_parameter_value';
    end if;
    perform set_config('pyvospace.pruning', 'on', true);
    with old as (
        select a.at, a.id from audit a where a.at < now() - make_interval(days => keep_days)
         order by a.at, a.id limit at_most
    ), gone as (
        delete from audit a using old where a.at = old.at and a.id = old.id returning a.at
    )
    select count(*), max(gone.at) into number, last from gone;
    perform set_config('pyvospace.pruning', '', true);
    if number > 0 then
        perform write_audit(0, null, 'pruneAudit', null, null, null,
                            jsonb_build_object('rows', number, 'until', last, 'days', keep_days));
    end if;
    return number;
end
$$;

-- Where a node is: its names behind slashes, not encoded.
create function path_of(parent bigint, name text) returns text language plpgsql stable as $$
begin
    return '/' || case when parent is null then '' else array_to_string(names_of(parent) || name, '/') end;
end
$$;

-- Write that a caller has done something, in the transaction that does it. `who`: his name, credential, address,
-- request and job, as `Caller.who` gives them. NULL: the service itself.
create function write_audit(
    actor bigint, who text[], action text, node bigint, path text, owner bigint, details jsonb
) returns void language plpgsql as $$
begin
    insert into audit (user_id, name, credential, remote, request, action, node_id, path, owner_id, details)
    values (actor, coalesce(who[1], ''), coalesce(who[2], 'service'), coalesce(who[3], ''), coalesce(who[4], ''), action,
            node, path, owner, audit_details(who, details));
end
$$;

-- Details with the job that it was done by.
create function audit_details(who text[], details jsonb) returns jsonb language plpgsql stable as $$
begin
    return case when who[5] <> '' then details || jsonb_build_object('job', who[5]) else details end;
end
$$;

-- Which rights a change has changed: {"rights": {"public": [false, true]}}, or nothing.
create function changed_rights(
    old nodes, public boolean, group_read text[], group_write text[], inherit boolean, locked boolean,
    immutable boolean
) returns jsonb language plpgsql stable as $$
declare
    before jsonb := jsonb_build_object('public', old.public, 'groupRead', old.group_read, 'groupWrite',
        old.group_write, 'inherit', old.inherit, 'locked', old.locked, 'immutable', old.immutable);
    after jsonb := jsonb_build_object('public', public, 'groupRead', group_read, 'groupWrite', group_write,
        'inherit', inherit, 'locked', locked, 'immutable', immutable);
    changed jsonb := (select jsonb_object_agg(k, jsonb_build_array(before -> k, after -> k))
                        from jsonb_object_keys(after) as k where before -> k <> after -> k);
begin
    return case when changed is null then '{}' else jsonb_build_object('rights', changed) end;
end
$$;

-- ---------------------------------------------------------------------------------------------------- administration

-- Who acts in this transaction: what the client has said by pyvospace.caller, or the role of the database.
create function acting(out actor bigint, out who text[]) language plpgsql stable as $$
declare
    told jsonb := nullif(current_setting('pyvospace.caller', true), '');
begin
    actor := coalesce((told ->> 'id')::bigint, 0);
    who := case when told is null then array['', 'database role ' || session_user, '', '', '']
           else array(select jsonb_array_elements_text(told -> 'who')) end;
end
$$;

-- A row for each change of users and what belongs to them. Arguments: the actions of insert, update and delete.
-- Of secrets it is only said that they changed.
create function audit_administration() returns trigger language plpgsql as $$
declare
    secrets constant text[] := '{password,hash}';
    ignored constant text[] := '{epoch,turned,last_used,limited,warned}';
    before jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) else '{}' end;
    after jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) else '{}' end;
    row_now jsonb := case when tg_op = 'DELETE' then before else after end;
    changed text[];
    about nodes;
    names jsonb := jsonb_strip_nulls(jsonb_build_object(
        'user', (select u.name from users u where u.id = (row_now ->> 'user_id')::bigint),
        'group', (select g.name from groups g where g.id = (row_now ->> 'group_id')::bigint)));
    a record;
begin
    select * into a from acting();
    select coalesce(array_agg(k order by k), '{}') into changed
      from jsonb_object_keys(before || after) as k
     where before -> k is distinct from after -> k and k <> all (ignored);
    if tg_op = 'UPDATE' and changed = '{}' then
        return null;
    end if;
    select * into about from nodes n where n.id = (row_now ->> 'container_id')::bigint;
    perform write_audit(
        a.actor, a.who, case tg_op when 'INSERT' then tg_argv[0] when 'UPDATE' then tg_argv[1] else tg_argv[2] end,
        about.id, case when about.id is not null then path_of(about.parent_id, about.name) end,
        case tg_table_name when 'users' then (row_now ->> 'id')::bigint
                           else coalesce(about.owner_id, (row_now ->> 'user_id')::bigint) end,
        case tg_op
        when 'UPDATE' then jsonb_build_object(
            'of', names || (row_now - secrets - ignored - changed),
            'changed', to_jsonb(changed),
            'from', (select coalesce(jsonb_object_agg(k, before -> k), '{}')
                       from unnest(changed) k where k <> all (secrets)),
            'to', (select coalesce(jsonb_object_agg(k, after -> k), '{}')
                     from unnest(changed) k where k <> all (secrets)))
        else names || (row_now - secrets - ignored) end);
    return null;
end
$$;

create trigger users_audit after insert or update or delete on users
    for each row execute function audit_administration('addUser', 'changeUser', 'removeUser');
create trigger tokens_audit after insert or update or delete on tokens
    for each row execute function audit_administration('addToken', 'changeToken', 'revokeToken');
create trigger groups_audit after insert or update or delete on groups
    for each row execute function audit_administration('addGroup', 'changeGroup', 'removeGroup');
create trigger members_audit after insert or update or delete on members
    for each row execute function audit_administration('addMember', 'changeMember', 'removeMember');
create trigger identities_audit after insert or update or delete on identities
    for each row execute function audit_administration('linkIdentity', 'changeIdentity', 'unlinkIdentity');
create trigger quotas_audit after insert or update of bytes, nodes or delete on quotas
    for each row execute function audit_administration('addQuota', 'changeQuota', 'removeQuota');
create trigger space_audit after insert or update of state, note, down_at, back_at, group_prefixes on space
    for each row execute function audit_administration('makeSpace', 'setSpace');

-- ---------------------------------------------------------------------------------------------------------- bytes

-- Bytes have come: the transaction that turns nodes to them completes their job, which says who brought them.
-- pyvospace.caller says where from, and how many nodes an archive has become.
create function audit_stored() returns trigger language plpgsql as $$
declare
    told jsonb := nullif(current_setting('pyvospace.caller', true), '');
    node nodes;
begin
    select * into node from nodes n where n.id = new.node_id;
    perform write_audit(
        coalesce(new.owner_id, 0),
        array[coalesce((select u.name from users u where u.id = new.owner_id), ''),
              'endpoint' || coalesce(' by token ' || new.token_id, ''), told -> 'who' ->> 2, told -> 'who' ->> 3, new.id],
        case when node.type = 'ContainerNode' then 'unpackArchive' else 'storeBytes' end,
        node.id, path_of(node.parent_id, node.name), node.owner_id,
        case when node.type = 'ContainerNode' then jsonb_build_object('nodes', told -> 'nodes')
             else jsonb_build_object('size', node.size) end);
    return null;
end
$$;
create trigger jobs_stored after update of phase on jobs
    for each row when (new.phase = 'COMPLETED' and new.kind in ('push', 'pull_to') and not new.discard
                       and new.ended is distinct from old.ended)
    execute function audit_stored();

-- ------------------------------------------------------------------------------------------- refusals, logins, reads

-- The deepest node on the way along `names`, and whether that is the whole way.
create function place_of(names text[], out id bigint, out owner_id bigint, out whole boolean)
language plpgsql stable as $$
begin
    with recursive walk as (
        select n.id, n.owner_id, 0 as depth from nodes n where n.id = 1
        union all
        select c.id, c.owner_id, w.depth + 1
          from walk w
          join nodes c on c.parent_id = w.id and c.name = names[w.depth + 1]
         where w.depth < cardinality(names)
    )
    select w.id, w.owner_id, w.depth = cardinality(names) into place_of.id, place_of.owner_id, place_of.whole
      from walk w order by w.depth desc limit 1;
end
$$;

-- Write what metadata servers have gathered. Who has no right to a node, and who owns it, is found here, where nobody
-- waits for it: the owner of what is not there is that of the container that it would be in, or below. A 404 is only
-- worth a row if the node is there, and of a name that was tried only what is a user's.
create function note_requests(entries jsonb) returns void language plpgsql as $$
begin
    insert into audit (at, user_id, name, credential, remote, request, action, node_id, path, owner_id, outcome, details)
    select e.at, e.user_id, e.who[1], e.who[2], e.who[3], e.who[4], e.action, case when p.whole then p.id end,
           case when p.whole then '/' || array_to_string(e.names, '/') else e.shown end, coalesce(p.owner_id, u.id),
           e.outcome, e.details || case when u.id is null then '{}' else jsonb_build_object('user', u.name) end
      from jsonb_to_recordset(entries) as e (
               at timestamptz, user_id bigint, who text[], action text, names text[], shown text, tried text,
               outcome text, details jsonb)
      left join lateral place_of(e.names) p on e.names is not null
      left join users u on u.name = e.tried
     where p.whole or e.outcome not in ('NodeNotFound', 'ContainerNotFound');
end
$$;

-- The same of a storage server, which knows nodes by their ids and tells of bytes only. What an endpoint says of a
-- user is true: a metadata server has signed it.
create function storage_api.note_bytes(of_uuid uuid, entries jsonb) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    perform own_storage(of_uuid);
    insert into audit (at, user_id, name, credential, remote, request, action, node_id, path, owner_id, outcome, details)
    select e.at, e.user_id, coalesce(u.name, ''), e.who[2], e.who[3], e.who[4], e.action, n.id,
           case when n.id is not null then path_of(n.parent_id, n.name)
                when p.id is not null then path_of(p.id, j.name) end,
           coalesce(n.owner_id, p.owner_id), e.outcome, e.details
      from jsonb_to_recordset(entries) as e (
               at timestamptz, user_id bigint, who text[], action text, node bigint, outcome text, details jsonb)
      left join jobs j on j.id = e.details ->> 'job'
      left join nodes n on n.id = coalesce(e.node, j.node_id)
      left join nodes p on p.id = j.parent_id
      left join users u on u.id = e.user_id
     where e.action in ('readBytes', 'readArchive', 'storeBytes', 'unpackArchive', 'dropAudit');
end
$$;
revoke all on function storage_api.note_bytes(uuid, jsonb) from public;
grant execute on function storage_api.note_bytes(uuid, jsonb) to pyvospace_storage;
