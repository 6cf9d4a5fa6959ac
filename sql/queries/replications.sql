-- name: claim
select * from storage_api.claim_replication($1, $2, $3);

-- name: renew
select storage_api.renew_replication($1, $2, $3, $4);

-- name: release
select storage_api.release_replication($1, $2, $3);

-- name: store
select storage_api.store_replica($1, $2, $3, $4, $5);

-- name: signing_key
-- The key that signs now.
select id, secret from storage_api.endpoint_keys order by created desc limit 1;
