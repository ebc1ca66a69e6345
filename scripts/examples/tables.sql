-- The tables of the three examples (config.lua beside this file). `millrace init` makes Millrace's own.
CREATE TABLE price_watchers (product_id text NOT NULL, client_id text NOT NULL, threshold numeric(12,2) NOT NULL,
                             PRIMARY KEY (product_id, client_id));
CREATE TABLE price_alerts (client_id text NOT NULL, product_id text NOT NULL, price numeric(12,2) NOT NULL,
                           alerted_at bigint NOT NULL);
CREATE TABLE sensor_limits (sensor_id text NOT NULL, client text NOT NULL, low double precision, high double precision,
                            PRIMARY KEY (sensor_id, client));
CREATE TABLE alarms (sensor_id text NOT NULL, client text NOT NULL, kind text NOT NULL, value double precision NOT NULL,
                     bound double precision NOT NULL, at bigint NOT NULL);
CREATE TABLE events_masked (event_id text NOT NULL, region text, body jsonb NOT NULL);
