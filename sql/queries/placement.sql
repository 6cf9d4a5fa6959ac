-- name: to_read
-- Servers that have the bytes of the node $1 and are there, the best one for a client at the site $2 first.
select url, uuid::text as storage from places_to_read($1, $2);

-- name: to_keep
-- A storage whose bytes are to be looked at: every $1 seconds, or as it has been silent for $2. NULL: none now.
select storage_to_keep($1, $2);

-- name: keep_page
-- Look at up to $3 locations of the storage $1 behind $2 (see keep_page); $4: `lost_after`.
select last, homes, places from keep_page($1, $2, $3, $4);

-- name: move_homes
-- Give the bytes at the homes $1, $2 other homes (see move_homes); $3: `lost_after`.
select move_homes($1, $2, $3);
