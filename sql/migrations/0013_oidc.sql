-- Users by OpenID providers: made at first sight, and members of groups as their newest token says.

-- When a source last told the groups of a user, so that an older token does not bring old groups back.
create table outside_tellings (
    -- Whose groups they are.
    user_id bigint not null references users,
    -- As in outside_groups.
    source  text collate "C" not null,
    -- By the clock of the source: when it made the token, or answered.
    told    timestamptz not null,
    primary key (user_id, source)
);

-- Say which groups `source` knows a user to be in, until when, unless it has told something newer.
create function tell_outside_groups(
    of_user bigint, of_source text, uris text[], told timestamptz, new_until timestamptz
) returns boolean language plpgsql as $$
begin
    insert into outside_tellings as t (user_id, source, told) values (of_user, of_source, told)
    on conflict (user_id, source) do update set told = excluded.told where t.told <= excluded.told;
    if not found then
        return false;
    end if;
    perform set_outside_groups(of_user, of_source, uris, new_until);
    return true;
end
$$;

-- What an identity has told ends with it.
create function forget_outside_groups() returns trigger language plpgsql as $$
begin
    delete from outside_groups where user_id = old.user_id and source = 'oidc ' || old.id;
    delete from outside_tellings where user_id = old.user_id and source = 'oidc ' || old.id;
    return null;
end
$$;
create trigger identities_groups after delete on identities for each row execute function forget_outside_groups();

-- Make a user for somebody whom nobody here is known as, under the name `wanted` if nobody has that or one that looks
-- like it, else under `derived`. NULL: somebody is known
-- as him, or was quicker with the name.
create function provision_user(wanted text, derived text, of_issuer text, of_subject text) returns text
language plpgsql as $$
declare
    chosen text := derived;
    made bigint;
begin
    if exists (select from identities where kind = 'oidc' and issuer = of_issuer and subject = of_subject) then
        return null;
    end if;
    if wanted <> '' and not exists (select from users where lower(name) = lower(wanted)) then
        chosen := wanted;
    end if;
    -- For the audit log: nobody else has made him.
    perform set_config('pyvospace.caller', jsonb_build_object(
        'id', 0, 'who', jsonb_build_array('', 'oidc ' || of_issuer || ' ' || of_subject, '', '', ''))::text, true);
    insert into users (name) values (chosen) returning id into made;
    insert into identities (user_id, kind, issuer, subject) values (made, 'oidc', of_issuer, of_subject);
    return chosen;
exception when unique_violation then
    return null;
end
$$;
