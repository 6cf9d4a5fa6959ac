-- name: claim
-- The oldest job of the kinds $2 that is for the storage $1, for the attempt $3 under a lease of $4 seconds; with $5 one
-- whose worker is dead, unless $6 workers have tried.
select * from storage_api.claim_job($1, $2, $3, $4, $5, $6);

-- name: renew
select storage_api.renew_job($1, $2, $3, $4, $5);

-- name: give_back
select storage_api.give_back_job($1, $2);

-- name: finish
select storage_api.end_job($1, $2, $3, $4, $5, $6, $7);
