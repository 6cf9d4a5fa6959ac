-- Who calls: identities from outside, the groups that come with them, tokens that may do a part of what their user may.

-- Under which names others know a user: a subject of an OpenID provider, the distinguished name of a certificate.
create table identities (
    -- By which it is unlinked.
    id        bigint generated always as identity primary key,
    -- Who it is.
    user_id   bigint not null references users,
    -- How he shows it.
    kind      text not null check (kind in ('oidc', 'x509')),
    -- Who says so: the URL of a provider. '' : any authority of certificates that the service trusts.
    issuer    text collate "C" not null default '',
    -- The provider's word for him, or his distinguished name in the canonical form.
    subject   text collate "C" not null check (subject <> ''),
    -- When it was linked.
    created   timestamptz not null default now(),
    constraint identities_name unique (kind, issuer, subject)
);
create index identities_user on identities (user_id);
create trigger identities_epoch after update or delete or truncate on identities execute function raise_epoch();

-- Groups of users as others tell them: claims of tokens, group services.
create table outside_groups (
    -- A member.
    user_id bigint not null references users,
    -- Who tells it: 'oidc 12' (the identity), 'gms https://…' (the service).
    source  text collate "C" not null,
    -- Of the group.
    uri     text collate "C" not null,
    -- Not believed from here on, unless it is told again.
    until   timestamptz not null,
    primary key (user_id, source, uri)
);
create index outside_groups_uri on outside_groups (uri);
create index outside_groups_until on outside_groups (until);
-- Told again is no news: only who comes and who goes makes callers strangers.
create trigger outside_groups_epoch after insert or delete on outside_groups for each row execute function raise_epoch();

-- What a token may at most: {"paths": ["/home/alice/data"], "rights": ["read"]}. NULL: all that its user may.
alter table tokens add column scope jsonb;
-- When it was last used, to within an hour. NULL: never.
alter table tokens add column last_used timestamptz;
drop trigger tokens_epoch on tokens;
create trigger tokens_epoch after update of user_id, hash, expires, scope or delete or truncate on tokens
    execute function raise_epoch();

-- The token by which it was made: with it, it dies. NULL: another credential.
alter table jobs add column token_id bigint;
-- What that token may at most (see tokens).
alter table jobs add column scope jsonb;

-- URIs of the groups of a user: local ones, and those that others tell. (plpgsql, as everything below that is no mere
-- expression: it plans once for each connection, a function in SQL plans at each call before PostgreSQL 18.)
create or replace function groups_of(of_user bigint) returns text[] language plpgsql stable as $$
begin
    return (select coalesce(array_agg(uri), '{}') from (
        select prefix || g.name as uri
          from members m
          join groups g on g.id = m.group_id
         cross join space s
         cross join unnest(s.group_prefixes) as prefix
         where m.user_id = of_user
        union
        select o.uri from outside_groups o where o.user_id = of_user and o.until > now()) as every);
end
$$;

-- Say which groups `source` knows a user to be in, until when.
create function set_outside_groups(of_user bigint, of_source text, uris text[], new_until timestamptz) returns void
language plpgsql as $$
begin
    delete from outside_groups where user_id = of_user and source = of_source and uri <> all (uris);
    insert into outside_groups (user_id, source, uri, until)
    select distinct of_user, of_source, u, new_until from unnest(uris) as u
    on conflict (user_id, source, uri) do update set until = excluded.until
     where outside_groups.until <> excluded.until;
end
$$;

-- Fail if a token was revoked or, for what begins only now, has expired. NULL: it was no token.
create function live_token(of_token bigint, begins boolean) returns void language plpgsql stable as $$
begin
    if of_token is null then
        return;
    end if;
    perform from tokens t where t.id = of_token and (not begins or t.expires is null or t.expires > now());
    if not found then
        perform raise_fault('PermissionDenied', 'the token by which this endpoint was made is not valid any more');
    end if;
end
$$;

-- The job of a push, locked, unless it was withdrawn.
create or replace function live_push(of_job text, of_user bigint, of_storage integer) returns jobs language plpgsql as $$
declare
    job jobs;
begin
    select * into job from jobs where id = of_job for update;
    if not found or job.name is null or job.owner_id is distinct from of_user
       or job.storage_id is distinct from of_storage then
        perform raise_fault('PermissionDenied', 'this endpoint was withdrawn; negotiate again');
    elsif job.phase = 'ABORTED' or job.phase = 'ERROR' then
        perform raise_fault('PermissionDenied', 'the transfer of this endpoint was aborted; negotiate again');
    end if;
    perform live_token(job.token_id, false);
    return job;
end
$$;

-- The same for a use of the endpoint that begins now. What began in time may take as long as it keeps its lease.
create or replace function usable_push(of_job text, of_user bigint, of_storage integer) returns jobs language plpgsql as $$
declare
    job jobs := live_push(of_job, of_user, of_storage);
begin
    if job.expires <= now() then
        perform raise_fault('PermissionDenied', 'this endpoint has expired; negotiate again');
    end if;
    perform live_token(job.token_id, true);
    perform caller_of(of_user);
    return job;
end
$$;

-- The job of an archive that leaves, unless it was withdrawn.
create or replace function live_pack(of_job text, of_user bigint, of_storage integer) returns jobs language plpgsql stable as $$
declare
    job jobs;
begin
    select * into job from jobs where id = of_job;
    if not found or job.kind <> 'pull' or job.owner_id is distinct from of_user
       or job.storage_id is distinct from of_storage or job.phase not in ('EXECUTING', 'COMPLETED') then
        perform raise_fault('PermissionDenied', 'this endpoint was withdrawn; negotiate again');
    end if;
    perform live_token(job.token_id, false);
    return job;
end
$$;

-- The job of an attempt to fetch bytes, locked, unless it is in other hands.
create or replace function held_pull(of_attempt text, of_storage integer) returns jobs language plpgsql as $$
declare
    job jobs;
begin
    select * into job from jobs
     where attempt = of_attempt and kind = 'pull_to' and phase = 'EXECUTING' and storage_id = of_storage
       for update;
    if not found then
        perform raise_fault('NodeBusy', 'this job is in other hands by now');
    end if;
    perform live_token(job.token_id, false);
    return job;
end
$$;

-- What an archive is to be: the transfer as negotiated, and whether its job waits for a complete delivery.
create or replace function storage_api.claim_pack(of_uuid uuid, of_job text, of_user bigint)
returns table (request jsonb, waiting boolean)
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
    job jobs := live_pack(of_job, of_user, own_storage(of_uuid));
begin
    if job.expires <= now() then
        perform raise_fault('PermissionDenied', 'this endpoint has expired; negotiate again');
    end if;
    perform live_token(job.token_id, true);
    perform caller_of(of_user);
    return query select job.request, job.phase = 'EXECUTING';
end
$$;

-- The owner of a job, as of now; its administrator only if the token by which the job was made says so.
create function caller_of_job(job jobs, out caller bigint, out caller_groups text[], out admin boolean)
language plpgsql stable as $$
declare
    c record;
begin
    select * into c from caller_of(job.owner_id);
    caller := c.caller;
    caller_groups := c.caller_groups;
    admin := c.admin and (job.scope is null or job.scope -> 'rights' ? 'admin');
end
$$;

-- Those of the nodes `ids`, with the names that lead to them, that the caller may read now. The storage is told of
-- bytes that are elsewhere.
create or replace function storage_api.pack_nodes(of_uuid uuid, of_job text, of_user bigint, ids bigint[])
returns table (id bigint, parent_id bigint, name text, type text, size bigint, modified timestamptz, target text,
               location text, storage uuid, url text, path text[])
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    job jobs := live_pack(of_job, of_user, of_storage);
    c record;
begin
    select * into c from caller_of_job(job);
    return query
    select n.id, n.parent_id, n.name, n.type, n.size, coalesce(n.modified, n.changed), n.target, n.location, t.uuid,
           t.url,
           case when n.parent_id is null then '{}' else names_of(n.parent_id) || n.name::text end
      from unnest(ids) with ordinality as wanted(node, place)
      join nodes n on n.id = wanted.node
      left join storages t on t.id = n.storage_id and n.storage_id <> of_storage
     where may_read(n.owner_id, n.public, n.group_read, n.group_write, c.caller, c.caller_groups, c.admin)
       and (n.parent_id is null or way_is_readable(n.parent_id, c.caller, c.caller_groups, c.admin))
     order by wanted.place;
end
$$;

-- Up to `at_most` children of `parents`, container by container in the order of the names, that the caller may read
-- now; of the first container those behind the name `after`.
create or replace function storage_api.pack_children(
    of_uuid uuid, of_job text, of_user bigint, parents bigint[], after text, at_most integer
) returns table (id bigint, parent_id bigint, name text, type text, size bigint, modified timestamptz, target text,
                 location text, storage uuid, url text)
language plpgsql stable security definer set search_path = public, pg_temp as $$
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
            select n.id, n.parent_id, n.name, n.type, n.size, coalesce(n.modified, n.changed), n.target, n.location,
                   t.uuid, t.url
              from nodes n
              left join storages t on t.id = n.storage_id and n.storage_id <> of_storage
             where n.parent_id = parent and n.name > behind
               and may_read(n.owner_id, n.public, n.group_read, n.group_write, c.caller, c.caller_groups, c.admin)
             order by n.name limit room;
            get diagnostics found_here = row_count;
            room := room - found_here;
        end if;
        exit when room = 0;
        behind := '';
    end loop;
end
$$;

drop function storage_api.claim_render(uuid, bigint, text, bigint);
drop function storage_api.claim_download(uuid, bigint, text, bigint);

-- Where the bytes of a node are, if the caller may still read them.
create function storage_api.claim_download(of_uuid uuid, of_node bigint, of_job text, of_user bigint,
                                           of_token bigint)
returns table (name text, modified timestamptz, location text, size bigint, md5 bytea, sha256 bytea,
               content_type text, waiting boolean)
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
    node nodes;
    job jobs;
    c record;
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
    elsif node.location is not null and node.storage_id <> of_storage then
        perform raise_fault('NodeNotFound', 'the bytes are elsewhere by now; negotiate again');
    end if;
    return query select node.name, coalesce(node.modified, node.created), node.location, coalesce(node.size, 0),
                        node.md5, node.sha256, node.properties ->> 'ivo://ivoa.net/vospace/core#type',
                        coalesce(job.phase = 'EXECUTING', false);
end
$$;

-- Where the bytes are of which a view is to be computed, and which view (see storage_api.claim_download).
create function storage_api.claim_render(of_uuid uuid, of_node bigint, of_job text, of_user bigint,
                                         of_token bigint)
returns table (name text, modified timestamptz, location text, size bigint, md5 bytea, sha256 bytea,
               content_type text, waiting boolean, structure text, view text, params jsonb)
language plpgsql stable security definer set search_path = public, pg_temp as $$
begin
    return query
    select c.name, c.modified, c.location, c.size, c.md5, c.sha256, c.content_type, c.waiting, n.structure,
           j.request -> 'view' ->> 'uri', j.request -> 'view' -> 'params'
      from storage_api.claim_download(of_uuid, of_node, of_job, of_user, of_token) c
      join nodes n on n.id = of_node
      join jobs j on j.id = of_job;
end
$$;

drop function storage_api.claim_job(uuid, text[], text, double precision, boolean, integer);

-- Take the oldest job that waits for a storage server, or (`lost`) one whose worker is dead unless `at_most` have
-- tried, if the state of the service lets jobs of its kind begin. Bytes are fetched by whoever has room, and sent by
-- who has them; if their node is gone, anybody tells so.
create function storage_api.claim_job(
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
        select j.id into next from jobs j left join nodes n on n.id = j.node_id
         where j.phase = 'EXECUTING' and j.attempt is not null and j.until < now() and j.attempts < at_most
           and j.kind = any (kinds) and third_party_of(j.kind, n.storage_id, of_storage)
         order by j.until limit 1 for update of j skip locked;
    else
        select j.id into next from jobs j left join nodes n on n.id = j.node_id
         where j.phase = 'QUEUED' and j.kind = any (kinds) and third_party_of(j.kind, n.storage_id, of_storage)
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

revoke all on all functions in schema storage_api from public;
grant execute on all functions in schema storage_api to pyvospace_storage;
