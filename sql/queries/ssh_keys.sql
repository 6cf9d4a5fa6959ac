-- name: add
-- A key $3 of the user named $1, who calls it $2; sessions with it may no more than $4.
insert into ssh_keys (user_id, name, fingerprint, scope)
select id, $2, $3, $4::jsonb from users where name = $1
returning id;

-- name: remove
delete from ssh_keys k using users u where u.id = k.user_id and u.name = $1 and k.id = $2 returning k.id;

-- name: list
select k.id, k.name, k.fingerprint, k.created, k.last_used, k.scope
  from ssh_keys k join users u on u.id = k.user_id where u.name = $1 order by k.id;

-- name: find
-- The key $2 of the user named $1.
select k.id from ssh_keys k join users u on u.id = k.user_id
 where u.name = $1 and k.fingerprint = $2 and not u.disabled;

-- name: open
-- A token $2 for sessions with the key $1, good for $3 seconds.
with used as (
    update ssh_keys set last_used = now()
     where id = $1 and coalesce(last_used < now() - interval '1 hour', true)
), made as (
    insert into tokens (user_id, name, hash, expires, scope, session, key_id)
    select k.user_id, left('SFTP with the key ' || k.id || ' ' || k.name, 100), $2,
           now() + make_interval(secs => $3), k.scope, true, k.id
      from ssh_keys k join users u on u.id = k.user_id
     where k.id = $1 and not u.disabled
    returning id
)
select id from made;
