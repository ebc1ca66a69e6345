return {
  keys = { team = "text" },
  columns = { person = "text" },
  rows = {
    { team = "red", person = "Ann" }, { team = "red", person = "Bob" }, { team = "blue", person = "Bob" },
    { team = "blue", person = "Cid" },
  },
  messages = {
    '{"teams":["red","blue","red"],"what":"party"}',
    '{"teams":"blue","what":"party"}',
    '{"teams":[],"what":"party"}',
    '{"teams":null,"what":"party"}',
    '{"teams":["green"],"what":"party"}',
    '{"teams":[["red"]],"what":"party"}',
  },
}
