# SPDX-License-Identifier: Apache-2.0
#
# ballast_proto(TARGET model_sync_proto ROOT model/sync/wire FILES a.proto b.proto GRPC)
# Generates C++ for protobuf files below ROOT (the import root) into a static library.
# Generated code is not ours, so our warnings do not hold for it.
find_program(BALLAST_PROTOC protoc REQUIRED)
find_program(BALLAST_GRPC_PLUGIN grpc_cpp_plugin REQUIRED)

function(ballast_proto)
  cmake_parse_arguments(P "GRPC" "TARGET;ROOT" "FILES" ${ARGN})
  set(root ${PROJECT_SOURCE_DIR}/${P_ROOT})
  set(out ${CMAKE_BINARY_DIR}/proto/${P_TARGET})
  file(MAKE_DIRECTORY ${out})
  set(generated)
  foreach(file IN LISTS P_FILES)
    string(REGEX REPLACE "\\.proto$" "" stem ${file})
    set(outputs ${out}/${stem}.pb.cc ${out}/${stem}.pb.h)
    set(plugin)
    if(P_GRPC)
      list(APPEND outputs ${out}/${stem}.grpc.pb.cc ${out}/${stem}.grpc.pb.h)
      set(plugin --grpc_out=${out} --plugin=protoc-gen-grpc=${BALLAST_GRPC_PLUGIN})
    endif()
    add_custom_command(OUTPUT ${outputs}
      COMMAND ${BALLAST_PROTOC} -I${root} --cpp_out=${out} ${plugin} ${root}/${file}
      DEPENDS ${root}/${file} COMMENT "protoc ${file}" VERBATIM)
    list(APPEND generated ${outputs})
  endforeach()
  add_library(${P_TARGET} STATIC ${generated})
  target_include_directories(${P_TARGET} SYSTEM PUBLIC ${out})
  target_link_libraries(${P_TARGET} PUBLIC protobuf::libprotobuf PkgConfig::GRPCPP)
endfunction()
