# Writes a manual page from what a command's --help says, so that there is one text.
#   cmake -DPROGRAM=build/medfusion -DVERB=predict -DOUTPUT=medfusion-predict.1 -DVERSION=0.1.0 -P ManPage.cmake
# VERB empty: the program itself; VERB "config": the keys of the configuration, section 5. The usage lines become the synopsis, the rest the description, as it is set there.
if(VERB)
  set(name "medfusion-${VERB}")
else()
  set(name "medfusion")
endif()
if(VERB STREQUAL "config")
  execute_process(COMMAND ${PROGRAM} serve --help-config OUTPUT_VARIABLE keys RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${PROGRAM} serve --help-config: ${status}")
  endif()
  string(REPLACE "\\" "\\e" keys "${keys}")
  string(REPLACE "-" "\\-" keys "${keys}")
  string(FIND "${keys}" "\n| `" first)
  math(EXPR first "${first} + 1")
  string(SUBSTRING "${keys}" ${first} -1 keys)
  string(REGEX REPLACE "\\| `([^`]*)` \\| `([^`]*)` \\| ([^|\n]*) \\| `([^`]*)` \\| ([^|\n]*) \\| ([^\n]*) \\|\n"
    ".TP\n.B \\1\n\\6\n.br\n\\3 \\5, default \\4; \\2\n" keys "${keys}")
  string(REPLACE " ," "," keys "${keys}")
  file(WRITE ${OUTPUT} ".\\\" -*- mode: troff; coding: utf-8 -*-
.TH MEDFUSION\\-CONFIG 5 \"\" \"medfusion ${VERSION}\"
.SH NAME
medfusion\\-config \\- the configuration of medfusion
.SH DESCRIPTION
A JSON file (\\-\\-config), an object for each section: {\"http\": {\"listen\": \"127.0.0.1:8080\"}}. The environment (the variable that
is named with each key) is stronger than the file, the command line (\\-\\-http.listen 127.0.0.1:8080) stronger than both. A key that
does not exist is refused by name. An example with all defaults: medfusion serve \\-\\-example\\-config.
.SH KEYS
${keys}.SH SEE ALSO
.BR medfusion\\-serve (1),
.BR medfusion\\-worker (1)
.PP
For research; not a medical device.
")
  return()
endif()
execute_process(COMMAND ${PROGRAM} ${VERB} --help OUTPUT_VARIABLE help RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} ${VERB} --help: ${status}")
endif()
execute_process(COMMAND ${PROGRAM} --help OUTPUT_VARIABLE commands)

# What the program's own list of commands says of this one.
if(VERB AND commands MATCHES "\n  ${VERB} +([^\n]+)")
  set(summary "${CMAKE_MATCH_1}")
else()
  set(summary "hospital-grade inference on DICOM studies and FHIR patient data")
endif()

string(REPLACE "\\" "\\e" help "${help}")
string(REPLACE "-" "\\-" help "${help}")
string(REGEX REPLACE "\n([.'])" "\n\\\\&\\1" help "${help}")
string(FIND "${help}" "\n\n" blank)
string(SUBSTRING "${help}" 0 ${blank} usage)
string(REGEX REPLACE "^usage: " "       " usage "${usage}")
string(REGEX REPLACE "(^|\n)       " "\\1" usage "${usage}")
math(EXPR blank "${blank} + 2")
string(SUBSTRING "${help}" ${blank} -1 description)

set(also ".BR medfusion (1)")
if("${help}" MATCHES "help.-config")
  string(APPEND also ",\n.BR medfusion\\-config (5)")
endif()
if(NOT VERB)
  string(REGEX MATCHALL "\n  [a-z]+ " names "${commands}")
  set(also "")
  foreach(command IN LISTS names)
    string(STRIP "${command}" command)
    string(APPEND also ".BR medfusion\\-${command} (1)\n")
  endforeach()
endif()
string(TOUPPER "${name}" title)
string(REPLACE "-" "\\-" title "${title}")
string(REPLACE "-" "\\-" name "${name}")
string(REPLACE "-" "\\-" summary "${summary}")
file(WRITE ${OUTPUT} ".\\\" -*- mode: troff; coding: utf-8 -*-
.TH ${title} 1 \"\" \"medfusion ${VERSION}\"
.SH NAME
${name} \\- ${summary}
.SH SYNOPSIS
.nf
${usage}
.fi
.SH DESCRIPTION
.nf
${description}.fi
.SH EXIT STATUS
0 ok, 1 the work failed, 2 usage.
.SH SEE ALSO
${also}
.PP
For research; not a medical device.
")
