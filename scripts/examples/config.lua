-- Three pipelines to start from. Check them with `millrace check -c scripts/examples/config.lua`; their specs run with
-- `millrace test` in this directory. The tables are in tables.sql. Every option: docs/CONFIG.md.
local kafka = { ["bootstrap.servers"] = env("KAFKA_BROKERS", "localhost:9092") }
local pg = env("MILLRACE_PG", "postgresql:///examples")

return {
  lookups = {
    watchers = { dsn = pg, table = "price_watchers", key = "product_id", columns = { "client_id", "threshold" } },
    limits   = { dsn = pg, table = "sensor_limits", key = "sensor_id", columns = { "client", "low", "high" } },
  },
  pipelines = {
    -- Once per row, with the values of the row, and with state: scripts/examples/price_alerts.lua
    price_alerts = {
      source = { topics = { "prices" }, group = "millrace-price-alerts", kafka = kafka },   -- keyed by product_id
      lookup = "watchers",
      script = "price_alerts.lua",
      sinks  = { kafka = { topic = "price_alerts", kafka = kafka }, postgres = { dsn = pg, table = "price_alerts" } },
    },
    -- Limits from a table, and `tick`, which watches for silence: scripts/examples/sensors.lua
    sensors = {
      source = { topics = { "readings" }, group = "millrace-sensors", kafka = kafka },
      lookup = "limits",
      script = "sensors.lua",
      vars   = { oldest = 3600, silence = 60 },                                             -- seconds
      sinks  = { kafka = { topic = "alarms", kafka = kafka }, postgres = { dsn = pg, table = "alarms" } },
    },
    -- No lookup, and a topic for each region: scripts/examples/masking.lua
    masking = {
      source = { topics = { "events" }, group = "millrace-masking", kafka = kafka },
      script = "masking.lua",
      vars   = { topics = { eu = "events_eu", us = "events_us" } },
      sinks  = { kafka = { topic = "events_masked", allowed_topics = { "events_eu", "events_us" }, kafka = kafka },
                 postgres = { dsn = pg, table = "events_masked" } },
    },
  },
}
