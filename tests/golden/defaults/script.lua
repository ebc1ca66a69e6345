-- The least that is a script with a lookup: no filter, no shape, no row.
return {
  key = function(msg) return { a = msg.a, b = msg.b } end,
  project = function(msg, col) return { a = col.a, value = col.value, note = msg.note } end,
}
