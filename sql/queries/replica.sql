-- name: flushed
-- How far the log is flushed: what was acknowledged to anybody is in there. And on which timeline: another one begins
-- when a replica becomes the primary.
select ('x' || left(pg_walfile_name(lsn), 8))::bit(32)::int as timeline, pg_wal_lsn_diff(lsn, '0/0')::bigint as lsn
  from pg_current_wal_flush_lsn() as lsn;

-- name: replayed
-- How far a replica has replayed the log; NULL: it is none, or not any more.
select case when pg_is_in_recovery() then pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint end;

-- name: timeline
-- The timeline that a replica is known to follow. (It is told a checkpoint late, which is on the safe side.)
select timeline_id from pg_control_checkpoint();
