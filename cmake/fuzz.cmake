# SPDX-License-Identifier: Apache-2.0
#
# ballast_fuzz(http1 SOURCES http1_fuzz.cpp SEES bpf/lib INCLUDES tests/unit/bpf_lib LIBS yaml-cpp)
# A libFuzzer target under AddressSanitizer: build/<preset>/bin/fuzz/http1, and a test labelled `fuzz`
# that starts from tests/fuzz/corpus/http1 and runs for a minute. g++ has no libFuzzer, so clang++
# compiles it whatever compiler the rest is built with. The rooms' walls hold here too.
# BPF_SOURCES are C files that include programs of bpf/probes, compiled for this machine with the stand-ins for
# libbpf's headers that INCLUDES names.
option(BALLAST_FUZZ "Build the fuzz targets (needs clang++ with libFuzzer)" ON)
find_program(BALLAST_CLANGXX NAMES clang++-14 clang++)
find_program(BALLAST_FUZZ_CLANG NAMES clang-14 clang)
if(BALLAST_FUZZ AND BALLAST_SANITIZE)
  set(BALLAST_FUZZ OFF) # the targets bring their own sanitizers
endif()
if(BALLAST_FUZZ AND NOT BALLAST_CLANGXX)
  message(FATAL_ERROR "no clang++ for the fuzz targets: install clang, or set BALLAST_FUZZ=OFF")
endif()

function(ballast_fuzz name)
  cmake_parse_arguments(F "" "" "SOURCES;BPF_SOURCES;SEES;INCLUDES;LIBS" ${ARGN})
  if(NOT BALLAST_FUZZ)
    return()
  endif()
  set(view ${CMAKE_BINARY_DIR}/sees/fuzz_${name})
  file(REMOVE_RECURSE ${view})
  foreach(room IN LISTS F_SEES)
    get_filename_component(parent ${view}/${room} DIRECTORY)
    file(MAKE_DIRECTORY ${parent})
    file(CREATE_LINK ${PROJECT_SOURCE_DIR}/${room} ${view}/${room} SYMBOLIC)
  endforeach()
  set(includes -I${view})
  foreach(folder IN LISTS F_INCLUDES)
    list(APPEND includes -I${PROJECT_SOURCE_DIR}/${folder})
  endforeach()
  set(objects)
  foreach(source IN LISTS F_BPF_SOURCES)
    get_filename_component(path ${source} ABSOLUTE)
    get_filename_component(base ${source} NAME_WE)
    set(object ${CMAKE_BINARY_DIR}/fuzz/${name}_${base}.o)
    file(GLOB_RECURSE programs CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bpf/*.h ${PROJECT_SOURCE_DIR}/bpf/*.c)
    add_custom_command(OUTPUT ${object}
      COMMAND ${BALLAST_FUZZ_CLANG} -D__bpf__ -O1 -g1 -fsanitize=fuzzer-no-link,address -Wno-unknown-attributes
              -Wno-unknown-pragmas ${includes} -c ${path} -o ${object}
      DEPENDS ${path} ${programs} COMMENT "fuzz ${name}: ${base}" VERBATIM)
    list(APPEND objects ${object})
  endforeach()
  set(sources)
  foreach(source IN LISTS F_SOURCES)
    get_filename_component(path ${source} ABSOLUTE)
    list(APPEND sources ${path})
  endforeach()
  set(program ${CMAKE_BINARY_DIR}/bin/fuzz/${name})
  set(work ${CMAKE_BINARY_DIR}/fuzz/${name})
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/bin/fuzz ${work})
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bpf/*.h ${PROJECT_SOURCE_DIR}/tests/unit/bpf_lib/*.h
       ${PROJECT_SOURCE_DIR}/agent/config/*.h ${PROJECT_SOURCE_DIR}/agent/sample/*.h)
  add_custom_command(OUTPUT ${program}
    COMMAND ${BALLAST_CLANGXX} -std=c++20 -O1 -g1 -fsanitize=fuzzer,address,undefined
            -fno-sanitize-recover=undefined -DSPDLOG_FMT_EXTERNAL ${includes} ${sources} ${objects} ${F_LIBS} -o ${program}
    DEPENDS ${sources} ${objects} ${headers} COMMENT "fuzz ${name}" VERBATIM)
  add_custom_target(fuzz_${name} ALL DEPENDS ${program})
  add_test(NAME fuzz_${name}
    COMMAND ${program} -seed=1 -max_total_time=60 -timeout=60 -rss_limit_mb=2048 -max_len=4096
            -print_final_stats=1 -artifact_prefix=${work}/ ${work} ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name})
  set_tests_properties(fuzz_${name} PROPERTIES LABELS fuzz TIMEOUT 300)
endfunction()
