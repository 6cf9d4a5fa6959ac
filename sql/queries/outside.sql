-- name: tell_groups
-- Believe the source $2 that the user $1 is in the groups $3 until $5, as it said at $4.
select tell_outside_groups($1, $2, $3, $4, $5);

-- name: provision
-- Make a user for the subject $4 of the issuer $3, named $1 or $2.
select provision_user($1, $2, $3, $4);

-- name: local_groups
-- Names of the local groups of the user $1, by name, of those named $2 (NULL: of all).
select g.name from groups g join members m on m.group_id = g.id
 where m.user_id = $1 and ($2::text[] is null or g.name = any ($2))
 order by g.name;
