-- kill -9 in the middle of work: Postgres has every pair exactly once, Kafka has every pair at least once.
local scene = require "tests.support.scene"

describe("kill -9", function()
  local s
  before_each(function() s = scene.new { partitions = 4 } end)
  after_each(function() s:close() end)

  it("in the middle of 50 campaigns x 2000 leaves Postgres exact and Kafka complete", function()
    s:subscribers(5, 2000)
    s.promo.workers = 2
    s.promo.unit = { outputs = 200 } -- many of them: the kills come in the middle of the work
    s:produce(s:campaigns(50, 5))
    local deaths = 0
    for _, goal in ipairs { 1, 30000, 60000 } do
      local d = s:start { wait = false }
      s:wait_rows(goal, 90)
      d:kill()
      if s:count() < 100000 then deaths = deaths + 1 end
    end
    assert.is_true(deaths > 0, "the daemon was done before the first kill")
    local d = s:start()
    s:wait_rows(100000, 120)
    assert.equal(0, (d:stop()))
    local ok, report = s:exact(50, 2000, true)
    assert.is_true(ok, report)
  end)
end)
