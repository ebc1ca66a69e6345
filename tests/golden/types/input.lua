local null = require "millrace".null

return {
  keys = { id = "int" },
  columns = { b = "bool", i = "int", f = "float", n = "numeric", t = "text", u = "uuid", ts = "timestamp", d = "date",
    j = "json" },
  rows = {
    { id = 1, b = true, i = math.mininteger, f = 0.1, n = "12345678901234567890.1234567890", t = "tab\t\"q\" é",
      u = "123e4567-e89b-12d3-a456-426614174000", ts = 848683878250000, d = 9822, j = '{"a": [1, null]}' },
    { id = 2, b = false, i = math.maxinteger, f = 1e300, n = "-0.00", t = "",
      u = "00000000-0000-0000-0000-000000000000",
      ts = -1, d = 0, j = '"text"' },
    { id = 3, b = null, i = null, f = null, n = null, t = null, u = null, ts = null, d = null, j = null },
    { id = 4, b = true, i = 0, f = 0 / 0, n = "1", t = "", u = "00000000-0000-0000-0000-000000000000", ts = 0, d = 0,
      j = "1" },
    { id = 5, b = true, i = 0, f = 0, n = "NaN", t = "", u = "00000000-0000-0000-0000-000000000000", ts = 0, d = 0,
      j = "1" },
    { id = 6, b = true, i = 0, f = 0, n = "1", t = "", u = "00000000-0000-0000-0000-000000000000", ts = math.maxinteger,
      d = 0, j = "1" },
  },
  messages = { "1", "2", "3", "4", "5", "6", "7" },
}
