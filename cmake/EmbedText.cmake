# Makes a C file from a text file: cmake -DINPUT=… -DOUTPUT=… -DNAME=… -P EmbedText.cmake
# It defines `const char NAME[]` (with a NUL behind the text) and `const size_t NAME_len` (without it).
file(READ ${INPUT} bytes HEX)
string(REGEX REPLACE "(................................)" "\\1\n" bytes "${bytes}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE ${OUTPUT}
  "#include <stddef.h>\n\nextern const char ${NAME}[];\nextern const size_t ${NAME}_len;\n\n"
  "const char ${NAME}[] = {\n${bytes}0};\nconst size_t ${NAME}_len = sizeof ${NAME} - 1;\n")
