---@meta millrace
-- What a script of Millrace sees, for editors (lua-language-server reads .luarc.json, which names this directory).
-- Nothing here is run. The names are held against the sandbox and against docs/LUA.md by tests/spec/types_spec.lua.

--- A value that JSON can hold. Objects and arrays are tables; null is `null`, not nil.
---@alias Json string|number|boolean|table|lightuserdata

--- A place that is filled in for each row of the lookup. Not a value: it cannot be joined, compared or counted with.
---@class Placeholder

--- `col.<name>`: a column of the lookup, key columns too.
---@alias Columns table<string, Placeholder>

--- A joined record, or several.
---@alias Records table<string, any>|table<string, any>[]

--- Headers of the incoming message: by name (the last of that name) or by place ({ name, value }).
---@class Headers
---@operator len: integer
---@field [string] string
---@field [integer] { [1]: string, [2]: string }

--- Writes log lines with topic, partition and offset. `ctx.log(text)` is `ctx.log.info(text)`.
---@class Log
---@field debug fun(...: any)
---@field info fun(...: any)
---@field warn fun(...: any)
---@field error fun(...: any)
---@overload fun(...: any)

--- About the message at hand. Read-only; it lives for one call. In `init` and `tick` there is no message: only `now`,
--- `now_ms`, `bundle`, `vars`, `log` and `count` are there.
---@class Context
---@field now integer unix seconds, by the database's clock
---@field now_ms integer the same in milliseconds
---@field topic string
---@field partition integer
---@field offset integer
---@field key string|lightuserdata the bytes of the key; `null` if there is none
---@field value string|lightuserdata the bytes of the message
---@field timestamp_ms integer? when the message was written; nil if it does not say
---@field headers Headers
---@field attempt integer how often this message was tried before
---@field bundle string hash of the script and the modules it requires
---@field vars table<string, any> the pipeline's `vars` from config.lua
---@field log Log
---@field count fun(name: string, n?: number) adds to millrace_script_count_total

--- The type of a field: "string", "integer", "number", "boolean", "table", "array" or "any"; "?" at the end: may be missing.
---@alias FieldType
---| "string" | "integer" | "number" | "boolean" | "table" | "array" | "any"
---| "string?" | "integer?" | "number?" | "boolean?" | "table?" | "array?"

--- What a script returns. Write `---@type Script` in front of the table.
---@class Script
---@field fields? table<string, FieldType> checked before any function runs
---@field filter? fun(msg: table, ctx: Context): boolean, string? true keeps; false and the reason drop
---@field key? fun(msg: table, ctx: Context): Json? which rows of the lookup: a value, a list, { column = value }, or nil
---@field project? fun(msg: table, col: Columns, ctx: Context): Records the record, once per message
---@field each? fun(msg: table, row: table<string, any>, ctx: Context): Records? the record of one row, once per row
---@field map? fun(msg: table, ctx: Context): Records? without a lookup: the record, a list of records, or nil
---@field shape? fun(rec: table, ctx: Context): Json|Placeholder, (string|number|Placeholder)?, table?, string? value, key, headers, topic
---@field row? fun(rec: table, ctx: Context): table<string, any> the Postgres row, by column name
---@field init? fun(ctx: Context) the state was made: at start, after a reload, after a limit
---@field tick? fun(ctx: Context) about once a second

--- JSON's null, NULL in a row, a tombstone as the value of a message. Not nil: `if msg.x == null`.
---@type lightuserdata
null = nil

--- Makes a table a list, also when it is empty: `array {}` is `[]`, `{}` is `{}`.
---@param list? any[]
---@return any[]
function array(list) end

--- Text around columns of the lookup, filled in for each row: `fmt "Hello {name}"`; `{{` and `}}` are braces.
---@param text string
---@return Placeholder
function fmt(text) end

json = {}

--- The text of a value; the names of objects in order.
---@param value Json
---@return string
function json.encode(value) end

--- The value of a text; raises if it is not JSON.
---@param text string
---@return Json
function json.decode(text) end

--- JSON's null: the global `null`.
---@type lightuserdata
json.null = nil

time = {}

--- Unix seconds of "2026-11-22T17:31:18Z" (also with an offset, a fraction, or without a time); else nil and why.
---@param text string
---@return number?, string?
function time.parse(text) end

--- "2026-11-22T17:31:18Z", or as `format` says (strftime), in UTC.
---@param seconds number
---@param format? string
---@return string
function time.format(seconds, format) end
