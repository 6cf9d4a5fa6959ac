-- Limits: waiting jobs of anonymous clients count by address, and ended ones are counted by owner.

-- Address (IPv6: network of 64 bits) from which an anonymous client made the job. NULL: the owner is known, or the job
-- was negotiated at once.
alter table jobs add column client text;
create index jobs_waiting_anonymous on jobs (client) where owner_id is null and phase in ('PENDING', 'QUEUED');
create index jobs_ended on jobs (owner_id, created, id) where phase in ('COMPLETED', 'ERROR', 'ABORTED', 'ARCHIVED');
