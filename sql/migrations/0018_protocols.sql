-- Protocols beside HTTP: what storage servers offer, and the SSH keys of users.

-- Transfers that servers of storages offer by other protocols than HTTP, since they last said so.
create table offers (
    -- The server.
    storage_id integer not null,
    -- The server.
    url        text not null,
    -- URI of the protocol.
    protocol   text not null,
    -- Base URL: user and password of a job come into it, the name of its node behind it.
    endpoint   text not null,
    -- What clients are told beside that: pairs of a URI and a value.
    params     jsonb not null,
    primary key (storage_id, url, protocol),
    foreign key (storage_id, url) references servers on delete cascade
);

-- Say what a server that was announced offers from now on.
create function storage_api.offer(of_uuid uuid, of_url text, new_offers jsonb) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_storage integer := own_storage(of_uuid);
begin
    delete from offers where storage_id = of_storage and url = of_url;
    insert into offers (storage_id, url, protocol, endpoint, params)
    select of_storage, of_url, o.protocol, o.endpoint, o.params
      from jsonb_to_recordset(new_offers) as o(protocol text, endpoint text, params jsonb);
end
$$;
revoke execute on function storage_api.offer(uuid, text, jsonb) from public;
grant execute on function storage_api.offer(uuid, text, jsonb) to pyvospace_storage;

-- Public SSH keys by which users come to the SFTP door.
create table ssh_keys (
    -- By which it is removed.
    id          bigint generated always as identity primary key,
    -- For whom it speaks.
    user_id     bigint not null references users,
    -- What the user calls it.
    name        text not null,
    -- SHA256:…, as ssh-keygen -l writes it. A key is of one user.
    fingerprint text collate "C" not null unique check (fingerprint ~ '^SHA256:[A-Za-z0-9+/]{43}$'),
    -- When it was added.
    created     timestamptz not null default now(),
    -- What a session may at most that was opened with it, as in tokens. NULL: all that its user may.
    scope       jsonb,
    -- When it was last used, to within an hour. NULL: never.
    last_used   timestamptz
);
create index ssh_keys_user on ssh_keys (user_id);
create trigger ssh_keys_audit after insert or update of user_id, name, fingerprint, scope or delete on ssh_keys
    for each row execute function audit_administration('addKey', 'changeKey', 'removeKey');

-- The key for which a door made the token for itself: with it, it dies. NULL: it was not made so.
alter table tokens add column key_id bigint references ssh_keys on delete cascade;
create index tokens_key on tokens (key_id) where key_id is not null;
