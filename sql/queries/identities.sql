-- name: by_token
-- The user who holds the token with the SHA-256 $1, and the epoch at which this is true.
select u.id, u.name, u.admin, groups_of(u.id) as groups, t.expires, s.epoch, t.id as token_id, t.name as label,
       t.scope, coalesce(t.last_used < now() - interval '1 hour', true) as idle
  from tokens t
  join users u on u.id = t.user_id
 cross join space s
 where t.hash = $1 and not u.disabled and (t.expires is null or t.expires > now());

-- name: touch_token
-- Note that the token $1 is in use.
update tokens set last_used = now() where id = $1;

-- name: by_identity
-- The user who is known as $3 to $2, of the kind $1, and the identity's own id.
select u.id, u.name, u.admin, groups_of(u.id) as groups, null::timestamptz as expires, s.epoch, i.id as identity
  from identities i
  join users u on u.id = i.user_id
 cross join space s
 where i.kind = $1 and i.issuer = $2 and i.subject = $3 and not u.disabled;

-- name: add_identity
-- Let the user named $1 be known as $4 to $3, of the kind $2.
insert into identities (user_id, kind, issuer, subject)
select id, $2, $3, $4 from users where name = $1
returning id;

-- name: remove_identity
delete from identities i using users u where u.id = i.user_id and u.name = $1 and i.id = $2 returning i.id;

-- name: identities
select i.id, i.kind, i.issuer, i.subject, i.created
  from identities i join users u on u.id = i.user_id where u.name = $1 order by i.id;

-- name: by_name
-- The user named $1, with the password's hash.
select u.id, u.name, u.admin, u.password, groups_of(u.id) as groups, null::timestamptz as expires, s.epoch
  from users u
 cross join space s
 where u.name = $1 and not u.disabled;

-- name: add_user
insert into users (name, password, admin) values ($1, $2, $3) returning id;

-- name: set_password
update users set password = $2 where name = $1 returning id;

-- name: set_disabled
update users set disabled = $2 where name = $1 returning id;

-- name: set_admin
update users set admin = $2 where name = $1 returning id;

-- name: add_token
insert into tokens (user_id, name, hash, expires, scope)
select id, $2, $3, $4, $5::jsonb from users where name = $1 and not disabled
returning id;

-- name: tokens
select t.id, t.name, t.created, t.expires, t.last_used, t.scope
  from tokens t join users u on u.id = t.user_id where u.name = $1 order by t.id;

-- name: revoke_token
delete from tokens t using users u where u.id = t.user_id and u.name = $1 and t.id = $2 returning t.id;

-- name: add_group
-- A group named $1 of the user named $2; NULL: of nobody.
insert into groups (name, owner_id)
select $1, u.id from (select) one left join users u on u.name = $2 where $2::text is null or u.id is not null
returning id;

-- name: remove_group
delete from groups where name = $1 returning id;

-- name: add_member
insert into members (group_id, user_id)
select g.id, u.id from groups g, users u where g.name = $1 and u.name = $2
on conflict do nothing
returning user_id;

-- name: remove_member
delete from members m using groups g, users u
 where g.id = m.group_id and u.id = m.user_id and g.name = $1 and u.name = $2
returning m.user_id;

-- name: known
-- Whether the group $1 and the user $2 exist.
select exists (select from groups where name = $1) as "group", exists (select from users where name = $2) as "user";

-- name: space
select authority, group_prefixes, epoch from space;

-- name: epoch
select epoch from space;

-- name: make_space
insert into space (authority, group_prefixes) values ($1, $2) on conflict do nothing;

-- name: set_group_prefixes
update space set group_prefixes = $1 where group_prefixes <> $1;

-- name: make_root
-- The root and its two public containers.
with root as (
    insert into nodes (id, name, type, owner_id, public) values (1, '', 'ContainerNode', $1, true)
    on conflict do nothing returning id
)
insert into containers (id, path) select id, id::text::ltree from root;

-- name: by_id
-- The user $1, if the token $2 is there.
select u.id, u.name, u.admin, groups_of(u.id) as groups, null::timestamptz as expires, s.epoch
  from users u
 cross join space s
 where u.id = $1 and not u.disabled and ($2::bigint is null or exists (select from tokens t where t.id = $2));
