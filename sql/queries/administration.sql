-- name: confirm
-- Whether the epoch is still $1; it stays so until the transaction ends, but for what that itself changes. The audit log
-- is told who acts: $2.
select true from space where epoch = $1 and set_config('pyvospace.caller', $2, true) = $2 for no key update;

-- name: users
-- Up to $2 users behind the name $1; those whose name begins with $3.
select u.name, u.admin, u.disabled, u.password is not null as has_password, u.created,
       (select count(*) from tokens t where t.user_id = u.id) as tokens
  from users u where u.name > $1 and starts_with(u.name, $3) order by u.name limit $2;

-- name: user
-- The user named $1.
select u.name, u.admin, u.disabled, u.password is not null as has_password, u.created,
       (select count(*) from tokens t where t.user_id = u.id) as tokens
  from users u where u.name = $1;

-- name: tokens
-- Up to $3 tokens of the user named $1 behind the number $2.
select t.id, t.name, t.created, t.expires, t.last_used, t.scope
  from tokens t join users u on u.id = t.user_id where u.name = $1 and t.id > $2 order by t.id limit $3;

-- name: jobs
-- Up to $4 jobs behind the id $3, of the user named $1 (NULL: all) in the phase $2 (NULL: any).
select j.id, j.list, j.kind, j.phase, u.name as owner, j.created,
       coalesce(j.started, (select w.began from writers w where w.job_id = j.id)) as started, j.ended, j.run_id
  from jobs j left join users u on u.id = j.owner_id
 where ($1::text is null or j.owner_id = (select id from users where name = $1))
   and ($2::text is null or j.phase = $2) and j.id > $3
 order by j.id limit $4;

-- name: has_job
select exists (select from jobs where id = $1);

-- name: waiting_jobs
-- Number of jobs of the user $1 that wait, up to $2.
select count(*) from (select from jobs
                       where coalesce(owner_id, 0) = $1 and phase in ('PENDING', 'QUEUED') limit $2) waiting;
