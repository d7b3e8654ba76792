# SPDX-License-Identifier: Apache-2.0
#
# ballast_bpf_object(http): bpf/probes/http.bpf.c -> <build>/bpf/http.skel.h (libbpf skeleton), target bpf_http_skel.
# The skeleton's folder has to be named by the one room that loads it.
find_program(BALLAST_CLANG NAMES clang-14 clang REQUIRED)
find_program(BALLAST_BPFTOOL NAMES bpftool PATHS /usr/sbin /sbin REQUIRED)
find_program(BALLAST_LLVM_STRIP NAMES llvm-strip-14 llvm-strip REQUIRED)

set(BALLAST_BPF_OUT ${CMAKE_BINARY_DIR}/bpf)

function(ballast_bpf_object name)
  set(source ${PROJECT_SOURCE_DIR}/bpf/probes/${name}.bpf.c)
  set(object ${BALLAST_BPF_OUT}/${name}.bpf.o)
  set(skeleton ${BALLAST_BPF_OUT}/${name}.skel.h)
  file(MAKE_DIRECTORY ${BALLAST_BPF_OUT})
  add_custom_command(
    OUTPUT ${object}
    COMMAND ${BALLAST_CLANG} -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror
            -Wno-unused-parameter -Wno-missing-declarations -D__TARGET_ARCH_x86
            -fdebug-prefix-map=${PROJECT_SOURCE_DIR}=. -I${PROJECT_SOURCE_DIR}
            -MD -MF ${object}.d -MT ${object}
            -c ${source} -o ${object}
    COMMAND ${BALLAST_LLVM_STRIP} -g ${object}
    DEPENDS ${source}
    DEPFILE ${object}.d
    COMMENT "BPF ${name}.bpf.o" VERBATIM)
  add_custom_command(
    OUTPUT ${skeleton}
    COMMAND sh -c "\"$0\" gen skeleton \"$1\" name \"$2\" > \"$3.new\" && mv \"$3.new\" \"$3\""
            ${BALLAST_BPFTOOL} ${object} ${name}_bpf ${skeleton}
    DEPENDS ${object}
    COMMENT "BPF ${name}.skel.h" VERBATIM)
  add_custom_target(bpf_${name}_skel DEPENDS ${skeleton})
endfunction()
