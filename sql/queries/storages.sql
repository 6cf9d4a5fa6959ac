-- name: announce
select storage_api.announce($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: leave
select storage_api.leave($1, $2);

-- name: current
select * from storage_api.current($1, $2, $3);

-- name: claim_upload
select * from storage_api.claim_upload($1, $2, $3, $4, $5, $6, $7);

-- name: claim_uploads
-- The same for several, as arrays of the same values. Nobody waits long for the lock that another one of them needs: if
-- this fails each asks alone.
select claimed.*
  from (select set_config('lock_timeout', '100ms', true) as said) patience,
       unnest(case when said is not null then $1::uuid[] end, $2::text[], $3::bigint[], $4::text[],
              $5::double precision[], $6::bigint[], $7::double precision[])
         with ordinality asked (storage, job, of_user, attempt, lease, size, repeat_window, number),
       storage_api.claim_upload(storage, job, of_user, attempt, lease, asked.size, repeat_window) claimed
 order by number;

-- name: renew
select storage_api.renew($1, $2);

-- name: release
select storage_api.release($1, $2);

-- name: store
-- The audit log is told where the bytes came from: $12.
select storage_api.store($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
  from (select set_config('pyvospace.caller', $12, true) as said) told where said is not null;

-- name: store_together
-- The same for several, as `claim_uploads`. No sorting: who brings the bytes is told of each before they are stored.
select storage_api.store(storage, job, of_user, attempt, location, size, md5, sha256, type, time, mode)
  from (select set_config('lock_timeout', '100ms', true) as said) patience,
       unnest(case when said is not null then $1::uuid[] end, $2::text[], $3::bigint[], $4::text[], $5::text[],
              $6::bigint[], $7::bytea[], $8::bytea[], $9::text[], $10::text[], $11::text[], $12::text[])
         asked (storage, job, of_user, attempt, location, size, md5, sha256, type, time, mode, told)
 where set_config('pyvospace.caller', told, true) is not null;

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

-- name: claim_downloads
-- The same for several, as arrays of the same values.
select claimed.*
  from unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[])
         with ordinality asked (storage, node, job, of_user, token, number),
       storage_api.claim_download(storage, node, job, of_user, token) claimed
 order by number;

-- name: claim_version
select * from storage_api.claim_version($1, $2, $3, $4, $5);

-- name: delivered
select storage_api.delivered($1);

-- name: delivered_together
-- The same for several, as `claim_uploads`.
select storage_api.delivered(job)
  from (select set_config('lock_timeout', '100ms', true) as said) patience,
       unnest(case when said is not null then $1::text[] end) asked (job);

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
