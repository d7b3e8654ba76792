# SPDX-License-Identifier: Apache-2.0
#
# A room is one folder, one static library and one list of the rooms that it may see.
#
#   ballast_room(agent/guard SOURCES guard.cpp SEES core/base agent/fleet LIBS spdlog::spdlog)
#   ballast_binary(ballastd agent SOURCES agent/ballastd.cpp SEES core/base ...)
#
# How the wall is built: the source root is on nobody's include path. Each target gets a
# folder of its own under <build>/sees/<target>/ that holds one symbolic link for every room it
# may see, and that folder is its only project include path. Including any other room's header
# is therefore "file not found", and linking one is refused below. SEES is complete: a room seen
# through another one has to be named too.

# From left to right in the way of the data. A room may see only rooms to its left; the rooms
# before `agent/kernel` are open to all.
set(BALLAST_ROOM_ORDER
    bpf/wire bpf/lib core/base core/http core/metrics core/cli core/yaml core/spec core/observe core/fleet
    agent/kernel agent/kube agent/sample agent/identity agent/observe agent/decide
    agent/fleet agent/guard agent/turn agent/actuate agent/export
    model/policy model/sim model/env model/twin model/train model/net
    model/sync/transport model/sync/network model/sync/checkpoint model/sync/fleet model/sync/wire
    model/sync/rollouts model/sync/client model/sync/server model/sync/operations model/cluster agent/config agent/loop model/learn
    tools/page tools/ctl tools/lab tools/bench tools/bench/telemetry)

# Arrows between the houses run one way: core/ knows neither agent/ nor model/, and these two meet in core/.
# But for the rooms that put rooms of both together: what the options of all rooms are read into, the loop
# of ballastd, the worlds that put a simulated node into the agent's own turn, and what ballast-global needs
# of a cluster (agent/kube).
set(BALLAST_BETWEEN_HOUSES agent/config agent/loop model/sim model/env model/twin model/cluster)

set(BALLAST_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wold-style-cast
    -Wcast-qual -Wconversion -Wno-sign-conversion -Wno-missing-field-initializers -Werror)

if(BALLAST_SANITIZE)
  add_compile_options(-fsanitize=${BALLAST_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${BALLAST_SANITIZE})
endif()

function(_ballast_target_name out room)
  string(REPLACE "/" "_" name ${room})
  set(${out} ballast_${name} PARENT_SCOPE)
endfunction()

# Lays the links for `target`; `own` may be empty (a composition root has no room of its own).
function(_ballast_wall target own)
  cmake_parse_arguments(W "" "" "SEES" ${ARGN})
  set(view ${CMAKE_BINARY_DIR}/sees/${target})
  file(REMOVE_RECURSE ${view})
  foreach(room IN LISTS own W_SEES)
    if(NOT room IN_LIST BALLAST_ROOM_ORDER)
      message(FATAL_ERROR "${target}: there is no room '${room}' in BALLAST_ROOM_ORDER (cmake/rooms.cmake)")
    endif()
    get_filename_component(parent ${view}/${room} DIRECTORY)
    file(MAKE_DIRECTORY ${parent})
    file(CREATE_LINK ${PROJECT_SOURCE_DIR}/${room} ${view}/${room} SYMBOLIC)
  endforeach()
  target_include_directories(${target} BEFORE PRIVATE ${view})
  foreach(room IN LISTS W_SEES)
    _ballast_target_name(lib ${room})
    target_link_libraries(${target} PRIVATE ${lib})
  endforeach()
endfunction()

# A quoted include with `..` would climb over the wall.
function(_ballast_check_sources target)
  foreach(source IN LISTS ARGN)
    get_filename_component(path ${source} ABSOLUTE)
    if(EXISTS ${path})
      file(STRINGS ${path} climbs REGEX "^[ \t]*#[ \t]*include[ \t]*\"[^\"]*\\.\\./")
      if(climbs)
        message(FATAL_ERROR "${target}: ${source} includes across rooms with '..': ${climbs}")
      endif()
    endif()
  endforeach()
endfunction()

# COMPUTES: its tests simulate or train for seconds, which a sanitizer without the optimiser makes minutes.
function(ballast_room room)
  cmake_parse_arguments(R "NO_WARNINGS;COMPUTES" "" "SOURCES;SEES;LIBS;PUBLIC_LIBS" ${ARGN})
  if(R_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "ballast_room(${room}): unknown argument ${R_UNPARSED_ARGUMENTS}")
  endif()
  list(FIND BALLAST_ROOM_ORDER ${room} own_place)
  foreach(seen IN LISTS R_SEES)
    list(FIND BALLAST_ROOM_ORDER ${seen} place)
    if(place EQUAL -1 OR NOT place LESS own_place)
      message(FATAL_ERROR "room ${room} may not see ${seen}: it is not to its left in BALLAST_ROOM_ORDER")
    endif()
    if("${room} ${seen}" MATCHES "^(core/.* (agent|model|tools)/|agent/.* model/|model/.* agent/)"
       AND NOT room IN_LIST BALLAST_BETWEEN_HOUSES)
      message(FATAL_ERROR "room ${room} may not see ${seen}: agent/ and model/ meet in core/, or in a room of "
                          "BALLAST_BETWEEN_HOUSES (cmake/rooms.cmake)")
    endif()
  endforeach()
  file(GLOB headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${room}/*.h)
  _ballast_check_sources(${room} ${R_SOURCES} ${headers})
  _ballast_target_name(lib ${room})
  if(R_SOURCES)
    add_library(${lib} STATIC ${R_SOURCES})
    _ballast_wall(${lib} ${room} SEES ${R_SEES})
    target_link_libraries(${lib} PRIVATE ${R_LIBS} PUBLIC ${R_PUBLIC_LIBS} Threads::Threads)
    if(NOT R_NO_WARNINGS)
      target_compile_options(${lib} PRIVATE ${BALLAST_WARNINGS})
    endif()
    if(R_COMPUTES AND BALLAST_SANITIZE)
      target_compile_options(${lib} PRIVATE -O1)
    endif()
  else()
    add_library(${lib} INTERFACE)
    target_link_libraries(${lib} INTERFACE ${R_LIBS} ${R_PUBLIC_LIBS})
  endif()
  set_property(GLOBAL APPEND PROPERTY BALLAST_ROOMS ${room})
endfunction()

# A program: a composition root, a tool or a test. It may see whatever it names.
function(ballast_binary name)
  cmake_parse_arguments(B "" "" "SOURCES;SEES;LIBS" ${ARGN})
  if(B_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "ballast_binary(${name}): unknown argument ${B_UNPARSED_ARGUMENTS}")
  endif()
  _ballast_check_sources(${name} ${B_SOURCES})
  add_executable(${name} ${B_SOURCES})
  _ballast_wall(${name} "" SEES ${B_SEES})
  target_link_libraries(${name} PRIVATE ${B_LIBS} Threads::Threads)
  target_compile_options(${name} PRIVATE ${BALLAST_WARNINGS})
endfunction()

# A GoogleTest program, run by ctest as one test with one of the labels
# unit, bpf, fault, lab, mesh or kernel. Tests live in tests/, so theirs go to bin/tests/. COMPUTES: it has no
# clock, no socket and no other process, and may run beside others. MEASURES: its figures are the product's, which is
# optimised down to the templates that it shares with the test.
function(ballast_test name)
  cmake_parse_arguments(T "COMPUTES;MEASURES" "LABEL;TIMEOUT" "SOURCES;SEES;LIBS;ARGS" ${ARGN})
  ballast_binary(${name} SOURCES ${T_SOURCES} SEES ${T_SEES} LIBS ${T_LIBS} GTest::gtest GTest::gmock GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin/tests)
  # What tests of many rooms share.
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/support)
  # The test itself runs once, and half its way is through the optimiser. Of a template (nlohmann's JSON is all
  # templates) the linker takes the first that it comes upon, which is the test's.
  if(NOT T_MEASURES)
    target_compile_options(${name} PRIVATE -O0)
  endif()
  if(NOT T_LABEL)
    set(T_LABEL unit)
  endif()
  if(T_LABEL STREQUAL "unit")
    add_dependencies(unit_tests ${name})
  endif()
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 120)
  endif()
  set(serial TRUE)
  if(T_COMPUTES)
    set(serial FALSE)
  endif()
  add_test(NAME ${name} COMMAND ${name} ${T_ARGS})
  set_tests_properties(${name} PROPERTIES LABELS ${T_LABEL} TIMEOUT ${T_TIMEOUT} SKIP_RETURN_CODE 77
    RUN_SERIAL ${serial}
    ENVIRONMENT "BALLAST_SOURCE_DIR=${PROJECT_SOURCE_DIR};BALLAST_BIN_DIR=${CMAKE_BINARY_DIR}/bin")
endfunction()

# Called last: a folder with a CMakeLists.txt under bpf/, core/, agent/ or model/ that is not a room is an error.
function(ballast_check_rooms)
  get_property(rooms GLOBAL PROPERTY BALLAST_ROOMS)
  foreach(house bpf core agent model)
    file(GLOB lists RELATIVE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/${house}/*/CMakeLists.txt
         ${PROJECT_SOURCE_DIR}/${house}/*/*/CMakeLists.txt)
    foreach(list IN LISTS lists)
      get_filename_component(room ${list} DIRECTORY)
      if(NOT room IN_LIST rooms AND NOT room STREQUAL "bpf/probes" AND BALLAST_WITH_TORCH)
        message(FATAL_ERROR "${room} has a CMakeLists.txt but declares no room")
      endif()
    endforeach()
  endforeach()
endfunction()
