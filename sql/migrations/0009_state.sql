-- The state of the service, as its operator sets it (decisions/0019).

alter table space
    -- ReadWrite; ReadOnly: what would change anything is refused; Offline: everything but VOSI is refused.
    add column state    text not null default 'ReadWrite' check (state in ('ReadWrite', 'ReadOnly', 'Offline')),
    -- What the operator says about it, to everybody.
    add column note     text not null default '',
    -- When he means to take the service down. Nothing happens by itself then.
    add column down_at  timestamptz,
    -- When he means to have it back.
    add column back_at  timestamptz,
    -- When it last went Offline, or came back from there. NULL: never.
    add column turned   timestamptz;

-- Storage servers refuse everybody while the service is offline.
create or replace view storage_api.space as
    select authority, state, note, down_at, back_at, turned, epoch from public.space;

-- Processes remember the state with the epoch at which they read it: who writes with a caller of an older epoch is
-- found out by the statement itself, however late the notice comes.
create function tell_state() returns trigger language plpgsql as $$
begin
    update space set epoch = epoch + 1;
    perform pg_notify('pyvospace_state', new.state), pg_notify('pyvospace_queue', '');
    return null;
end
$$;
create trigger space_state after update of state on space for each row execute function tell_state();

-- Fail if the service is closed: at all, or for changes. Its SQLSTATE asks to come back later than a busy service.
create function require_state(changes boolean) returns void language plpgsql stable as $$
declare
    s record;
begin
    select state, note into s from space;
    if s.state = 'Offline' then
        raise exception using errcode = 'VS002', message = coalesce(nullif(s.note, ''), 'the service is offline');
    elsif changes and s.state = 'ReadOnly' then
        raise exception using errcode = 'VS002', message = coalesce(nullif(s.note, ''), 'the service is read-only');
    end if;
end
$$;

-- Every upload begins with a lease on the name it writes to: renewing one, or storing under it, goes on.
create function refuse_writers() returns trigger language plpgsql as $$
begin
    perform require_state(true);
    return null;
end
$$;
create trigger writers_state before insert on writers for each statement execute function refuse_writers();

-- Those kinds of jobs that workers may begin now: in ReadOnly, what changes no node.
create function open_kinds(kinds text[]) returns text[] language plpgsql stable as $$
begin
    return (select case s.state when 'ReadWrite' then kinds
                                when 'ReadOnly' then array(select k from unnest(kinds) as k
                                                            where k in ('push_from', 'search'))
                                else '{}' end
              from space s);
end
$$;
