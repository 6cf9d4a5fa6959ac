-- name: claim_pack
select request, waiting from storage_api.claim_pack($1, $2, $3);

-- name: nodes
select id, parent_id, name, type, coalesce(size, 0), modified, target, location, storage::text, url, path
  from storage_api.pack_nodes($1, $2, $3, $4);

-- name: children
select id, parent_id, name, type, coalesce(size, 0), modified, target, location, storage::text, url
  from storage_api.pack_children($1, $2, $3, $4, $5, $6);

-- name: delivered
select storage_api.delivered($1);

-- name: claim_unpack
select * from storage_api.claim_unpack($1, $2, $3, $4, $5, $6, $7);

-- name: unpack
-- The audit log is told where the archive came from: $18.
select storage_api.unpack($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
  from (select set_config('pyvospace.caller', $18, true) as said) told where said is not null;

-- name: signing_key
-- The key that signs now, as a storage server sees it.
select id, secret from storage_api.endpoint_keys order by created desc limit 1;
