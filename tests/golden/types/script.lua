-- Each type of column, as a JSON value, inside text, as a key and as a field of the row.
local s = {}

function s.key(msg)
  return msg
end

function s.project(_, col)
  return { b = col.b, i = col.i, f = col.f, n = col.n, t = col.t, u = col.u, ts = col.ts, d = col.d, j = col.j }
end

function s.shape(rec)
  rec.all = fmt "{b} {i} {f} {n} {t} {u} {ts} {d} {j}"
  return rec, rec.u
end

return s
