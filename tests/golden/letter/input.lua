return {
  keys = { street = "text" },
  columns = { name = "text", house = "int" },
  table = { "id bigint not null default", "name text not null", "text text not null", "extra json", "answer text" },
  vars = { sender = "the post" },
  now = 1795368678,
  rows = {
    { street = "Elm", name = "Ann \"the\" Ö\\", house = 3 },
    { street = "Elm", name = "Bob", house = 12 },
    { street = "Oak", name = "Cid", house = 1 },
    { street = "Elm", name = "Bob", house = 12 },
  },
  messages = {
    '{"street":"Elm","subject":"Hello"}',
    '{"street":"Oak","subject":"a \\"quoted\\" \\u00e9","urgent":null}',
    { value = '{"street":"Elm","subject":"Hello"}', headers = { { "test", "1" } } },
    '{"street":"Ash","subject":"Hello"}',
    '{"street":"Elm","subject":"Hello","urgent":"yes"}',
  },
}
