-- name: groups
-- Up to $2 groups behind the name $1, as they are for the user $3; only those that he owns or is in, unless $4.
select g.name, o.name as owner, (select count(*) from members m where m.group_id = g.id) as members,
       coalesce(g.owner_id = $3, false) as owned,
       exists (select from members m where m.group_id = g.id and m.user_id = $3) as joined
  from groups g left join users o on o.id = g.owner_id
 where g.name > $1
   and ($4 or g.owner_id = $3
        or exists (select from members m where m.group_id = g.id and m.user_id = $3))
 order by g.name limit $2;

-- name: group
-- The group named $1, and whether the user $2 is a member.
select g.name, o.name as owner, (select count(*) from members m where m.group_id = g.id) as members,
       coalesce(g.owner_id = $2, false) as owned,
       exists (select from members m where m.group_id = g.id and m.user_id = $2) as joined
  from groups g left join users o on o.id = g.owner_id
 where g.name = $1;

-- name: members
-- Up to $3 names of members of the group $1 behind the name $2.
select u.name from members m join groups g on g.id = m.group_id join users u on u.id = m.user_id
 where g.name = $1 and u.name > $2 order by u.name limit $3;

-- name: hand_on
update groups set owner_id = (select id from users where name = $2)
 where name = $1 and ($2::text is null or exists (select from users where name = $2))
returning id;

-- name: owned
-- Number of groups of the user named $1.
select count(*) from groups g join users u on u.id = g.owner_id where u.name = $1;

-- name: of_another
-- Whether there was a group named $1 that was not of the user named $2.
select exists (select from former_groups f left join users u on u.id = f.owner_id
                where f.name = $1 and u.name is distinct from $2);

-- name: of_user
-- URIs of the groups of the user $1 with who says so; local ones by every prefix.
select prefix || g.name as uri, 'local' as source, null::timestamptz as until
  from members m join groups g on g.id = m.group_id cross join space s cross join unnest(s.group_prefixes) as prefix
 where m.user_id = $1
union all
select o.uri, o.source, o.until from outside_groups o where o.user_id = $1 and o.until > now()
 order by 1, 2;
