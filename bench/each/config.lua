-- For `bench/run --workload each`: a script with `each` in memory (millrace bench). No service is asked.
local kafka = { ["bootstrap.servers"] = "localhost:9092" }
local pg = "postgresql:///promo"

return {
  lookups = {
    subscribers = { dsn = pg, table = "subscribers_restaurants", key = "restaurant_id", columns = { "client_id" } },
  },
  pipelines = {
    each = {
      source = { topics = { "topic_in" }, group = "bench-each", kafka = kafka },
      lookup = "subscribers",
      script = "each.lua",
      sinks  = { kafka    = { topic = "topic_out", kafka = kafka },
                 postgres = { dsn = pg, table = "subscribers_feedback" } },
    },
  },
}
