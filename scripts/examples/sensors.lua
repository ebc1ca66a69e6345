-- Sensor thresholds: a reading outside the limits of its sensor becomes an alarm.
-- In: { sensor_id, value, at }. Lookup: the limits of each sensor; a NULL means no limit on that side.
local sensors = { fields = { sensor_id = "string", value = "number", at = "integer" } }

local heard = {} -- sensor -> when its last reading came; of this worker, empty after a start and a reload

function sensors.filter(msg, ctx)
  heard[msg.sensor_id] = ctx.now
  return msg.at > ctx.now - ctx.vars.oldest, "too_old"
end

function sensors.key(msg) return msg.sensor_id end

local function outside(value, row)
  if row.low ~= null and value < row.low then return "low", row.low end
  if row.high ~= null and value > row.high then return "high", row.high end
end

--- A sensor has one row of limits for each client who watches it.
function sensors.each(msg, row)
  local kind, bound = outside(msg.value, row)
  if not kind then return nil end
  return { sensor_id = msg.sensor_id, at = msg.at, value = msg.value, kind = kind, bound = bound, client = row.client }
end

function sensors.shape(rec) return rec, rec.sensor_id, { kind = rec.kind } end

--- About once a second: sensors that were heard and then fell silent are reported once.
function sensors.tick(ctx)
  for sensor, at in pairs(heard) do
    if ctx.now - at > ctx.vars.silence then
      ctx.log.warn("sensor", sensor, "is silent since", time.format(at))
      ctx.count "silent"
      heard[sensor] = nil
    end
  end
end

return sensors
