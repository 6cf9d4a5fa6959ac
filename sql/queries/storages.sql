-- name: announce
select storage_api.announce($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: leave
select storage_api.leave($1, $2);

-- name: current
select * from storage_api.current($1, $2, $3);

-- name: claim_upload
select c.*, i.structured, i.view
  from storage_api.claim_upload($1, $2, $3, $4, $5, $6, $7) c, storage_api.import_of($1, $2) i;

-- name: renew
select storage_api.renew($1, $2);

-- name: release
select storage_api.release($1, $2);

-- name: store
-- The audit log is told where the bytes came from: $12.
select storage_api.store($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
  from (select set_config('pyvospace.caller', $12, true) as said) told where said is not null;

-- name: claim_pull
select c.*, i.structured, i.view
  from storage_api.claim_pull($1, $2, $3, $4, $5) c, storage_api.import_of($1, $6) i;

-- name: reserve
select storage_api.reserve($1, $2);

-- name: store_pulled
-- Likewise: $11. Who fetches bytes knows nothing of a file ($9, $10).
select storage_api.store_pulled($1, $2, $3, $4, $5, $6, $7, $8)
  from (select set_config('pyvospace.caller', $11, true) as said, $9::text as time, $10::text as mode) told
 where said is not null;

-- name: set_structure
select storage_api.set_structure($1, $2, $3, $4);

-- name: claim_render
select * from storage_api.claim_render($1, $2, $3, $4, $5);

-- name: claim_download
select * from storage_api.claim_download($1, $2, $3, $4, $5);

-- name: claim_version
select * from storage_api.claim_version($1, $2, $3, $4, $5);

-- name: delivered
select storage_api.delivered($1);

-- name: claim_sweep
select storage_api.claim_sweep($1, $2);

-- name: unknown
select * from storage_api.take_unknown($1, $2, $3);

-- name: note_obsolete
select storage_api.note_obsolete($1, $2);

-- name: take_obsolete
select * from storage_api.take_obsolete($1, $2, $3);

-- name: claim_replica
select * from storage_api.claim_replica($1, $2);
