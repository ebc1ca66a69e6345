-- Churn for measurements: `call churn(seconds, rate, batch)` makes `rate` changes of rows a second in
-- transactions of `batch` of them: a third inserts, a third updates, a third deletes. It works on rows of its own,
-- of the restaurants "churn<n>", about `standing` of them at any time; what campaigns reach is left alone.
create or replace procedure churn(seconds int, rate int, batch int default 30, standing int default 30000)
language plpgsql as $$
declare
    began timestamptz;
    third int := greatest(batch / 3, 1);
    head int;
    tail int;
    at int;
    done bigint := 0;
    ahead float;
begin
    insert into subscribers_restaurants (client_id, restaurant_id)
        select gen_random_uuid()::text, 'churn' || i % 3000 from generate_series(1, standing) i;
    commit;
    select min(id), max(id) into tail, head from subscribers_restaurants where restaurant_id like 'churn%';
    began := clock_timestamp();
    loop
        ahead := done::float / rate - extract(epoch from clock_timestamp() - began);
        exit when extract(epoch from clock_timestamp() - began) >= seconds;
        if ahead > 0.005 then
            perform pg_sleep(ahead); -- poll: paced by the clock, not waiting for a state
        end if;
        insert into subscribers_restaurants (client_id, restaurant_id)
            select gen_random_uuid()::text, 'churn' || (random() * 3000)::int from generate_series(1, third);
        at := tail + third + (random() * (head - tail - 2 * third))::int;
        update subscribers_restaurants set client_id = gen_random_uuid()::text where id >= at and id < at + third;
        delete from subscribers_restaurants where id >= tail and id < tail + third;
        commit;
        tail := tail + third;
        head := head + third;
        done := done + 3 * third;
    end loop;
    raise notice 'churn: % changes in % s', done, round(extract(epoch from clock_timestamp() - began)::numeric, 1);
end $$;
