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

-- name: recall
-- Recall the bytes of the node $1 for $2 days. NULL: they are in no cold storage; false: there is no room for them.
select recall_node($1, $2);

-- name: wake
select wake_recalls();

-- name: recall_page
-- Recall what is in up to $4 containers of the tree of the container $1 behind the path $2, for $3 days, as far as the
-- caller $5 (groups $6, administrator $7) may read it.
select p.last, p.nodes, p.bytes
  from containers k cross join lateral recall_page(k.path, $2::text::ltree, $4, $3, $5, $6::text[], $7) p
 where k.id = $1;

-- name: recalls_left
-- What the node $1, or the tree below it, waits for.
select l.nodes, l.bytes from recalls_left((select k.path from containers k where k.id = $1), $1) l;
