-- name: standing
-- The state of the service, as everybody may see it, storage servers too.
select state, note, down_at, back_at, turned, epoch from storage_api.space;

-- name: live_storages
-- Number of storages that were heard of lately.
select count(*) from storages where is_there(last_seen) and state <> 'retired';

-- name: turn
-- Put the service into the state $1 with the note $2, down at $3 and back at $4, at the epoch $5 (NULL: any). The audit
-- log is told who does it: $6 (NULL: whose connection it is).
update space
   set turned = case when (state = 'Offline') = ($1 = 'Offline') then turned else now() end,
       state = $1, note = $2, down_at = $3, back_at = $4
 where (epoch = $5 or $5 is null) and ($6::text is null or set_config('pyvospace.caller', $6, true) = $6)
returning state;
