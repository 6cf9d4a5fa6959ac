-- Administration: groups that belong to somebody.

-- Who may change the members of a group, hand it on and remove it, besides administrators. NULL: nobody.
alter table groups add column owner_id bigint references users;
create index groups_owner on groups (owner_id);

-- Groups that were removed: nodes may still name them, so that not everybody may make one of that name.
create table former_groups (
    -- As it was in `groups`.
    name     text collate "C" primary key,
    -- Whose it was last, who may make it again. NULL: only administrators may.
    owner_id bigint references users
);
-- Note what a group was called, and whose it was.
create function remember_group() returns trigger language plpgsql as $$
begin
    insert into former_groups (name, owner_id) values (old.name, old.owner_id)
    on conflict (name) do update set owner_id = excluded.owner_id;
    return null;
end
$$;
create trigger groups_former after delete on groups for each row execute function remember_group();
