# Compiler settings for all targets, and the two helpers every module uses:
#   medfusion_library(NAME SOURCES… LINK…)   a static library mf_NAME of one module
#   medfusion_test(MODULE FILE [LIBS…])      tests/MODULE/FILE.c with cmocka, as ctest MODULE/FILE

set(CMAKE_C_STANDARD 11)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
endif()
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g1")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

add_library(mf_flags INTERFACE)
target_include_directories(mf_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_definitions(mf_flags INTERFACE _GNU_SOURCE MF_VERSION="${PROJECT_VERSION}")
target_compile_options(mf_flags INTERFACE
  -Wall -Wextra -Wshadow -Wvla -Wundef -Wformat=2 -Wno-format-nonliteral -fstack-protector-strong -fno-common
  $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition>
  $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=2>)
target_link_options(mf_flags INTERFACE -Wl,-z,relro,-z,now)
if(MEDFUSION_WERROR)
  target_compile_options(mf_flags INTERFACE -Werror)
endif()
if(MEDFUSION_SANITIZE)
  target_compile_options(mf_flags INTERFACE -fsanitize=${MEDFUSION_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(mf_flags INTERFACE -fsanitize=${MEDFUSION_SANITIZE})
endif()
if(MEDFUSION_FUZZ)
  target_compile_options(mf_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(MEDFUSION_COVERAGE)
  # (The preset does without OpenMP: clang's needs /dev/shm, which a confined worker may not write to.)
  # Counters lie in a file that is mapped before main(): what a process that is killed, confined or ended by _exit() has run is counted, too.
  target_compile_options(mf_flags INTERFACE -fprofile-instr-generate -fcoverage-mapping "SHELL:-mllvm -runtime-counter-relocation" -O1)
  target_link_options(mf_flags INTERFACE -fprofile-instr-generate)
endif()

if(MEDFUSION_ENGINE_ONLY)
  find_package(PkgConfig) # a GPU machine may have none
else()
  find_package(PkgConfig REQUIRED)
endif()
find_package(Threads REQUIRED)

# medfusion_package(NAME MODULE HEADER LIBRARY): PkgConfig::NAME, by pkg-config or, without it, by header and library
function(medfusion_package name module header library)
  if(PkgConfig_FOUND)
    pkg_check_modules(${name} IMPORTED_TARGET GLOBAL ${module})
  endif()
  if(NOT TARGET PkgConfig::${name})
    find_path(${name}_INCLUDE ${header} REQUIRED)
    find_library(${name}_LIBRARY ${library} REQUIRED)
    add_library(PkgConfig::${name} INTERFACE IMPORTED GLOBAL)
    target_include_directories(PkgConfig::${name} INTERFACE ${${name}_INCLUDE})
    target_link_libraries(PkgConfig::${name} INTERFACE ${${name}_LIBRARY})
  endif()
endfunction()

function(medfusion_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(mf_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(mf_${name} PUBLIC mf_flags ${ARG_LINK})
endfunction()

function(medfusion_test module file)
  set(target test_${module}_${file})
  add_executable(${target} ${PROJECT_SOURCE_DIR}/tests/${module}/${file}.c)
  target_link_libraries(${target} PRIVATE mf_flags cmocka ${ARGN})
  target_compile_definitions(${target} PRIVATE
    MF_SOURCE_DIR="${PROJECT_SOURCE_DIR}" MF_SHARED_DATA="${PROJECT_SOURCE_DIR}/../shared/data")
  add_test(NAME ${module}/${file} COMMAND ${target} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
endfunction()

# medfusion_postgres_test(MODULE FILE): the same test once more, with its stores in a PostgreSQL cluster of its own
function(medfusion_postgres_test module file)
  add_test(NAME ${module}/${file}_postgres
    COMMAND python3 ${PROJECT_SOURCE_DIR}/tests/integration/postgres.py $<TARGET_FILE:test_${module}_${file}>
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${module}/${file}_postgres PROPERTIES SKIP_REGULAR_EXPRESSION "^skipped: ")
endfunction()

# medfusion_fuzz(NAME LIBS…): tests/fuzz/fuzz_NAME.c under libFuzzer, seeded from tests/fuzz/corpus/NAME; in builds without it
# replay_NAME, which tests/gates/starve runs over these seeds
function(medfusion_fuzz name)
  set(source ${PROJECT_SOURCE_DIR}/tests/fuzz/fuzz_${name}.c)
  if(MEDFUSION_FUZZ)
    add_executable(fuzz_${name} ${source})
    target_link_libraries(fuzz_${name} PRIVATE mf_flags ${ARGN})
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  else()
    add_executable(replay_${name} ${source} ${PROJECT_SOURCE_DIR}/tests/gates/replay.c)
    target_link_libraries(replay_${name} PRIVATE mf_flags ${ARGN})
    target_compile_definitions(replay_${name} PRIVATE abort=mf_replay_abort)
    set_target_properties(replay_${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/gates)
  endif()
endfunction()
