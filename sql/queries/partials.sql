-- name: begin
select storage_api.begin_partial($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);

-- name: find
select * from storage_api.partial($1, $2);

-- name: claim_segment
select * from storage_api.claim_segment($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: renew_segment
select storage_api.renew_segment($1, $2, $3, $4);

-- name: release_segment
select storage_api.release_segment($1, $2, $3);

-- name: reserve_segment
select storage_api.reserve_segment($1, $2, $3, $4);

-- name: store_segment
-- The media type ($11) is that of the whole, and so is what is told of the file ($12, $13). Digests are those of all bytes so far, or not known ($6).
select storage_api.store_segment($1, $2, $3, $4, $7, $8, case when $6::boolean then $9::bytea end,
                                 case when $6 then $10::bytea end, $5)
  from (select set_config('pyvospace.caller', $14, true) as said, $11::text as type, $12::text as time,
               $13::text as mode) told
 where said is not null;

-- name: revert
select storage_api.revert_partial($1, $2);

-- name: drop
select storage_api.drop_partial($1, $2);

-- name: drop_expired
select storage_api.drop_expired($1, $2);

-- name: segments
select * from storage_api.segments_of($1, $2);

-- name: claim_whole
select c.*, i.structured, i.view
  from storage_api.claim_whole($1, $2, $3, $4, $5) c, storage_api.import_of($1, $6) i;

-- name: release_whole
select storage_api.release_whole($1, $2);

-- name: store_whole
-- The audit log is told where the bytes came from: $12.
select storage_api.store_whole($1, $2, $3, $5, $6, $7, $8, $9, $4, $10, $11)
  from (select set_config('pyvospace.caller', $12, true) as said) told where said is not null;
