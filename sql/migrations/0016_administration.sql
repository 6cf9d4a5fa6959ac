-- Administration: groups that belong to somebody.

-- Who may change the members of a group, hand it on and remove it, besides administrators. NULL: nobody.
alter table groups add column owner_id bigint references users;
create index groups_owner on groups (owner_id);
