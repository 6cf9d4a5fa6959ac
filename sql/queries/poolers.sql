-- name: lock
-- One process at a time changes the defaults of roles.
select pg_advisory_xact_lock(8414);

-- name: defaults
-- What sessions of this role in this database begin with.
select unnest(s.setconfig) as setting
  from pg_db_role_setting s
 where s.setdatabase = (select d.oid from pg_database d where d.datname = current_database())
   and s.setrole = (select r.oid from pg_roles r where r.rolname = current_user);

-- name: alteration
-- The statement that gives this role the default $2 of the setting $1: it takes no parameters itself.
select format('alter role %I in database %I set %I = %L', current_user, current_database(), $1::text, $2::text);

-- name: normal
-- How PostgreSQL writes the value $2 of the setting $1, in this session from now on.
select set_config($1, $2, false);

-- name: current
-- The settings $1 of this session.
select name, current_setting(name) as value from unnest($1::text[]) as name;
