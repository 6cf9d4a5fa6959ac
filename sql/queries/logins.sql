-- name: count_login
select numbers, wait from count_login($1, $2, $3, $4);

-- name: forgive_login
select forgive_login($1);

-- name: forget_failures
delete from login_failures where key in (
    select key from login_failures where until < now() limit $1 for update skip locked
) returning key;

-- name: add_session
-- A token $2 for the user $1, good for $3 seconds.
insert into tokens (user_id, name, hash, expires, session)
select id, 'login', $2, now() + make_interval(secs => $3), true from users where id = $1 and not disabled
returning id, expires;

-- name: end_sessions
-- All of the user $1 but the newest $2.
delete from tokens where id in (
    select id from tokens where user_id = $1 and session and key_id is null order by id desc offset $2
) returning id;

-- name: add_token
-- A token $2 of the user $1 unless he has $7 of them; it is over when the token $6 is, unless that is a session.
insert into tokens (user_id, name, hash, expires, scope)
select u.id, $2, $3, least($4, (select t.expires from tokens t where t.id = $6 and not t.session)), $5::jsonb
  from users u
 where u.id = $1 and not u.disabled
   and (select count(*) from tokens t
         where t.user_id = u.id and not t.session and (t.expires is null or t.expires > now())) < $7
returning id, expires;

-- name: end_token
delete from tokens where id = $1 returning id;

-- name: forget_tokens
-- Not at once: what was begun with one may go on, and the user of one that he made wants to know why it ended.
delete from tokens where id in (
    select id from tokens
     where expires < now() - case when session then interval '1 day' else interval '30 days' end
     limit $1 for update skip locked
) returning id;
