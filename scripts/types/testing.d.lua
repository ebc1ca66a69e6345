---@meta millrace.testing
-- What `require "millrace.testing"` gives a spec, for editors. Nothing here is run. The reference: docs/TESTING.md; the
-- names are held against the module by tests/spec/types_spec.lua.

---@class testing.Message
---@field topic string
---@field key string?
---@field value Json JSON decoded, else the bytes
---@field text string|lightuserdata the bytes; `null` for a tombstone
---@field headers table<string, string>
---@field bundle string? the header millrace-bundle

---@class testing.Dead
---@field class string "decode", "schema", "script", "script_timeout", ...
---@field error string

---@class testing.Result
---@field messages testing.Message[]
---@field rows table<string, Json>[]
---@field dropped string? the reason
---@field dead testing.Dead?

---@class testing.Send
---@field key? string
---@field headers? table<string, string>|string[][]
---@field timestamp? number|string
---@field topic? string
---@field partition? integer
---@field offset? integer
---@field attempt? integer

---@class testing.Opened
---@field now number unix seconds; see set_now and advance
---@field messages testing.Message[] all since `clear`
---@field rows table<string, Json>[]
---@field dead testing.Dead[]
---@field dropped table<string, integer> reason -> number
---@field log { level: string, text: string, message: string }[]
local Pipeline = {}

---@param message table|string|lightuserdata
---@param options? testing.Send
---@return testing.Result
function Pipeline:send(message, options) end

--- Forgets what has come out so far.
function Pipeline:clear() end

--- Replaces the rows of the lookup.
---@param rows table<string, Json>[]
function Pipeline:lookup(rows) end

---@param time number|string unix seconds, or "2026-11-22T17:31:18Z"
function Pipeline:set_now(time) end

---@param seconds number
function Pipeline:advance(seconds) end

---@return true?, string?
function Pipeline:tick() end

--- What ctx.count has counted.
---@return table<string, number>
function Pipeline:counts() end

---@param what? string|{ text: string }
---@return true?, string?
function Pipeline:reload(what) end

function Pipeline:close() end

local testing = {}

---@param options? { config?: string, pipeline?: string, set?: string[], env?: table<string, string>, lookup?: table[], types?: table<string, string>, table?: table, now?: number|string }
---@return testing.Opened
function testing.pipeline(options) end

---@param options string|{ path?: string, text?: string, key?: string|string[], columns?: string[], lookup?: table[], types?: table<string, string>, table?: table, vars?: table, topic?: string, allowed_topics?: string[], message?: boolean, rows?: boolean, limits?: table, now?: number|string, name?: string }
---@return testing.Opened
function testing.script(options) end

---@type lightuserdata
testing.null = nil
testing.array = array
testing.json = json
testing.time = time

return testing
