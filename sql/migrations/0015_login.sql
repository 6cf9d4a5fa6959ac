-- Passwords and the tokens that are given for them; wrong credentials are counted.

-- Made for a password by /login, not by its user for a purpose.
alter table tokens add column session boolean not null default false;

-- An end that was known before takes nothing away from anybody.
drop trigger tokens_epoch on tokens;
create trigger tokens_epoch after update of user_id, hash, expires, scope or truncate on tokens
    execute function raise_epoch();
create trigger tokens_revoked after delete on tokens for each row
    when (old.expires is null or old.expires > now()) execute function raise_epoch();

-- Wrong credentials that are not forgotten yet. To lose it in a crash costs nothing.
create unlogged table login_failures (
    -- SHA-256 of what is counted: a name from one address, a name, an address. What people type as their name may be
    -- their password.
    key     bytea primary key,
    -- How many there were at `counted`, less those that were forgotten by then.
    number  double precision not null,
    counted timestamptz not null,
    -- When all are forgotten.
    until   timestamptz not null
);
create index login_failures_until on login_failures (until);

-- Count one attempt for each of `keys`. Of `mosts` attempts one after the other is forgotten, all of them within
-- `forget` seconds. Give the numbers, in the order of the keys; or, with nothing counted, how long to wait, if one of
-- the first `hard` keys has had so many.
create function count_login(keys bytea[], mosts double precision[], hard integer, forget double precision,
                            out numbers double precision[], out wait double precision)
language plpgsql as $$
declare
    instant timestamptz := clock_timestamp();
begin
    -- In the order of the keys themselves, so that nobody waits for each other in a circle.
    insert into login_failures as f (key, number, counted, until)
    select k.key, 1, instant, instant + make_interval(secs => forget / k.most)
      from unnest(keys, mosts) as k (key, most) order by k.key
    on conflict (key) do update
       set number = greatest(0, f.number - greatest(0, extract(epoch from excluded.counted - f.counted))
                                           / extract(epoch from excluded.until - excluded.counted)) + 1,
           counted = greatest(f.counted, excluded.counted);
    select array_agg(f.number order by k.place), max((f.number - k.most) * forget / k.most) filter (where k.place <= hard)
      into numbers, wait
      from unnest(keys, mosts) with ordinality as k (key, most, place) join login_failures f using (key);
    if wait > 0 then
        update login_failures f set number = f.number - 1 where f.key = any (keys);
    else
        wait := 0;
        update login_failures f
           set number = least(f.number, k.most), until = f.counted + make_interval(secs => forget * f.number / k.most)
          from unnest(keys, mosts) as k (key, most) where f.key = k.key;
    end if;
end
$$;

-- Take one attempt back: it was right. What is counted for the first key is forgotten.
create function forgive_login(keys bytea[]) returns void language plpgsql as $$
begin
    delete from login_failures where key = keys[1];
    perform from login_failures f where f.key = any (keys) order by f.key for update;
    update login_failures f set number = greatest(0, f.number - 1) where f.key = any (keys);
end
$$;
