#!/bin/sh
# Run once by the image of PostgreSQL, on empty data: the roles of the servers and their database.
#
# The tables will belong to `pyvospace`. Each storage server logs in with a role of its own; as a member of
# `pyvospace_storage` it reaches the functions of the schema storage_api and nothing else. Passwords come in through
# the environment of psql, so that they stand in no command line.
set -eu

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv metadata_password METADATA_PASSWORD
\getenv storage_1_password STORAGE_1_PASSWORD
\getenv storage_2_password STORAGE_2_PASSWORD
create role pyvospace login password :'metadata_password';
create role pyvospace_storage nologin;
create role pyvospace_storage_1 login password :'storage_1_password' in role pyvospace_storage;
create role pyvospace_storage_2 login password :'storage_2_password' in role pyvospace_storage;
create database pyvospace owner pyvospace;
SQL
