-- name: note
-- Write what was gathered: $1. The loss of it in a crash of the database is worth no waiting for the disk.
select note_requests($1::jsonb)
  from (select set_config('synchronous_commit', 'off', true) as said) told where said is not null;

-- name: note_bytes
-- The same of the storage $1.
select storage_api.note_bytes($1, $2::jsonb)
  from (select set_config('synchronous_commit', 'off', true) as said) told where said is not null;

-- name: prune
select prune_audit($1, $2);

-- name: confirm
-- The epoch, the time, the id of the user named $1, and of the node at the names $2, if it is there.
select s.epoch, now() as moment, (select u.id from users u where u.name = $1) as user_id, p.id as node_id
  from space s
  left join lateral place_of($2::text[]) p on $2::text[] is not null and p.whole;

-- name: page
-- Of the next $5 rows behind the moment $1 and the id $2, before $3, those that the user $4 (NULL: anybody) did, of the
-- action $6 and the outcome $7 (NULL: of any), at the path $8 (NULL: at any), or of the node $9, with $10 also below the
-- path; with the last of those that were looked at: whoever asks goes on behind it. For administrators.
with seen as materialized (
    select * from audit a
     where (a.at, a.id) > ($1::timestamptz, $2::bigint) and a.at < $3
     order by a.at, a.id limit $5
), last as (
    select at, id from seen order by at desc, id desc limit 1
), found as (
    select * from seen s
     where ($4::bigint is null or s.user_id = $4) and ($6::text is null or s.action = $6)
       and ($7::text is null or s.outcome = $7)
       and ($8::text is null or s.path = $8 or s.node_id = $9
            or $10 and (starts_with(s.path, rtrim($8, '/') || '/')))
)
select (select at from last) as last_at, (select id from last) as last_id, (select count(*) from seen) as seen, f.*
  from (select) one left join found f on true
 order by f.at, f.id;

-- name: own_page
-- The same for the user $4 himself: what he did, what was done to what is his, by the user named $11 (NULL: by anybody).
-- That something is there which he was told is not, he does not learn here.
with seen as materialized (
    select * from (
        (select * from audit a
          where a.owner_id = $4 and (a.at, a.id) > ($1::timestamptz, $2::bigint) and a.at < $3
          order by a.at, a.id limit $5)
        union all
        (select * from audit a
          where a.user_id = $4 and a.user_id is distinct from a.owner_id
            and (a.at, a.id) > ($1::timestamptz, $2::bigint) and a.at < $3
          order by a.at, a.id limit $5)
    ) his order by at, id limit $5
), last as (
    select at, id from seen order by at desc, id desc limit 1
), found as (
    select * from seen s
     where ($6::text is null or s.action = $6) and ($7::text is null or s.outcome = $7)
       and ($8::text is null or s.path = $8 or s.node_id = $9
            or $10 and (starts_with(s.path, rtrim($8, '/') || '/')))
       and ($11::text is null or s.name = $11)
       and (s.owner_id is not distinct from $4 or s.outcome not in ('NodeNotFound', 'ContainerNotFound'))
)
select (select at from last) as last_at, (select id from last) as last_id, (select count(*) from seen) as seen, f.*
  from (select) one left join found f on true
 order by f.at, f.id;
