# Writes OUT, a C file with the text of each of FILES as an array: run by `cmake -P` (see CMakeLists.txt).
# The binary carries its Lua modules, so that it can be copied alone.
set(text "/* Made by core/lua/embed.cmake. */\n#include \"lua/embedded.h\"\n\n")
set(entries "")
set(count 0)
foreach(file ${FILES})
  get_filename_component(name ${file} NAME_WE)
  file(READ ${file} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n    "
         bytes "${bytes}")
  string(APPEND text "static const unsigned char text_${name}[] = {\n    ${bytes}0};\n\n")
  string(APPEND entries "    {\"${name}\", (const char *)text_${name}, sizeof text_${name} - 1},\n")
  math(EXPR count "${count} + 1")
endforeach()
string(APPEND text
  "const struct mr_embedded mr_embedded_modules[] = {\n${entries}};\nconst size_t mr_embedded_count = ${count};\n")
file(WRITE ${OUT} "${text}")
