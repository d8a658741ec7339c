# The table of attribute actions: cmake -DINPUT=dicom/deidentify.txt -DOUTPUT=… -P DeidentifyTable.cmake
# Every line "TAG ACTION KEYWORD" becomes {tag, action}; of alternatives (X/Z/D) the last letter counts, in file order (ascending).
file(STRINGS ${INPUT} lines REGEX "^[0-9A-F]")
set(table "")
foreach(line IN LISTS lines)
  if(NOT line MATCHES "^([0-9A-F]+) ([XZDU/*]*)([XZDU])[*]? ")
    message(FATAL_ERROR "${INPUT}: ${line}")
  endif()
  string(APPEND table "    {0x${CMAKE_MATCH_1}U, '${CMAKE_MATCH_3}'},\n")
endforeach()
file(WRITE ${OUTPUT} "#include \"dicom/deidentify_values.h\"\n\nconst struct mf_deidentify_row mf_deidentify_actions[] = {\n${table}};\nconst size_t mf_deidentify_action_count = sizeof mf_deidentify_actions / sizeof *mf_deidentify_actions;\n")
