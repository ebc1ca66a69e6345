std = "lua54"
max_line_length = 120
files["scripts/"] = { globals = { "null", "array", "fmt", "json", "time" } }
files["config.lua"] = { globals = { "env", "secret" } }
files["tests/"] = { std = "+busted" }
files["tests/golden/*/script.lua"] = { globals = { "null", "array", "fmt", "json", "time" } }
files["scripts/types/"] = { ignore = { "1..", "2..", "631" } } -- annotations for editors, never run
files["scripts/examples/config.lua"] = { globals = { "env", "secret" } }
files["scripts/examples/spec/"] = { std = "+busted" }
