return {
  messages = {
    '{"events":[{"kind":"made","id":"a","data":{"x":1.0}},{"kind":"noise"},{"kind":"deleted","id":"a"}]}',
    '{"events":[{"kind":"raw","id":17,"text":"just text"}]}',
    '{"events":[{"kind":"noise"}]}',
    '{"events":[]}',
    '{"events":{}}',
    '{"events":[{"kind":"raw","id":{}}]}',
    {},
  },
}
