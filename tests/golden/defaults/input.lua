return {
  keys = { a = "int", b = "uuid" },
  columns = { value = "numeric" },
  table = { "a bigint not null", "value numeric", "note text", "made timestamp default" },
  rows = {
    { a = 1, b = "123e4567-e89b-12d3-a456-426614174000", value = "1.50" },
    { a = 1, b = "123e4567-e89b-12d3-a456-426614174001", value = "2" },
  },
  messages = {
    '{"a":1,"b":"123E4567-E89B-12D3-A456-426614174000","note":"upper case finds it"}',
    '{"a":1,"b":"123e4567-e89b-12d3-a456-426614174001"}',
    '{"a":2,"b":"123e4567-e89b-12d3-a456-426614174001"}',
    '{"a":1,"b":"not a uuid"}',
    '{"a":1}',
    '{"a":1,"b":null}',
    '{"a":"1","b":"123e4567-e89b-12d3-a456-426614174001"}',
  },
}
