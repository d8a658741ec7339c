# Writes a manual page from what a command's --help says, so that there is one text.
#   cmake -DPROGRAM=build/medfusion -DVERB=predict -DOUTPUT=medfusion-predict.1 -DVERSION=0.1.0 -P ManPage.cmake
# VERB empty: the program itself. The usage lines become the synopsis, the rest the description, as it is set there.
if(VERB)
  set(name "medfusion-${VERB}")
else()
  set(name "medfusion")
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
