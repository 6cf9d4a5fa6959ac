-- Autovacuum comes after hundredths of large tables have changed, not after a fifth: of ten million nodes that were two
-- million. What each upload writes and deletes again is swept by the number of rows.

alter table nodes set (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.02,
                       autovacuum_analyze_scale_factor = 0.05);
alter table containers set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05);
alter table jobs set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
alter table obsolete set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
alter table audit set (autovacuum_vacuum_insert_scale_factor = 0.05);
