std = "lua54"
max_line_length = 120
files["scripts/"] = { globals = { "null", "array", "fmt", "json", "time" } }
files["config.lua"] = { globals = { "env", "secret" } }
files["tests/"] = { std = "+busted" }
files["tests/golden/*/script.lua"] = { globals = { "null", "array", "fmt", "json", "time" } }
