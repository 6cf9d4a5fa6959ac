-- name: to_read
-- Servers that have the bytes of the node $1 and are there, the best one for a client at the site $2 first.
select url, uuid::text as storage from places_to_read($1, $2);
