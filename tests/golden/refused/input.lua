local messages = { "", "  ", "{", '{"how":"\xff"}', '{"how":"\\ud800"}', '{"how":99999999999999999999}', "[[" }
for _, how in ipairs { "error", "nan", "utf8", "nil", "column", "type", "missing", "list", "well" } do
  messages[#messages + 1] = '{"how":"' .. how .. '"}'
end
return { table = { "name text not null", "n integer" }, messages = messages }
