-- Restaurant promo campaigns -> one push notification per subscriber.
-- Every option: docs/CONFIG.md. Check this file with `millrace check`.
local kafka = {                                   -- quoted keys go to librdkafka unchanged
  ["bootstrap.servers"] = env("KAFKA_BROKERS", "localhost:9092"),
  -- ["security.protocol"] = "SASL_SSL", ["sasl.mechanisms"] = "SCRAM-SHA-512", ["ssl.ca.location"] = "ca.crt",
  -- ["sasl.username"] = env "KAFKA_USER", ["sasl.password"] = secret "env:KAFKA_PASSWORD",
}
local pg = env("MILLRACE_PG", "postgresql:///promo")          -- a libpq string: PGPASSWORD, ~/.pgpass, service= work

return {
  log   = { level = env("LOG_LEVEL", "info") },               -- text on a terminal, JSON lines otherwise
  admin = { listen = env("MILLRACE_ADMIN", "127.0.0.1:9469") },
  lookups = {
    subscribers = { dsn = pg, table = "subscribers_restaurants", key = "restaurant_id",
                    columns = { "client_id" }, refresh = "auto" },
  },
  pipelines = {
    promo = {
      source   = { topics = { "topic_in" }, group = "millrace-promo", kafka = kafka },
      lookup   = "subscribers",
      script   = "scripts/promo.lua",
      sinks    = { kafka    = { topic = "topic_out", kafka = kafka },
                   postgres = { dsn = pg, table = "subscribers_feedback" } },
      delivery = env("MILLRACE_DELIVERY", "exactly_once"),    -- or "at_least_once"
      dead_letters = { table = "millrace_dead" },             -- or { topic = "topic_dead" }
      audit    = { key = { "adv_campaign_id", "client_id" }, time = "trigger_datetime_created",  -- `millrace audit`
                   compare = { "restaurant_id", "adv_campaign_content" } },
    },
  },
}
