# SPDX-License-Identifier: Apache-2.0
# tenure_bpf(TARGET NAME…): src/bpf/NAME.bpf.c -> bpf/NAME.skel.h in the build folder, for TARGET alone.
# clang 14 suffices; the object is CO-RE, so no kernel headers or vmlinux.h of the target are needed.
find_program(TENURE_BPF_CLANG NAMES clang clang-14 clang-19)
find_program(TENURE_BPFTOOL NAMES bpftool PATHS /usr/sbin /sbin)
if(NOT TENURE_BPF_CLANG OR NOT TENURE_BPFTOOL)
  message(FATAL_ERROR "the device program needs clang and bpftool: apt-get install clang bpftool libbpf-dev")
endif()

function(tenure_bpf target)
  set(source_dir ${CMAKE_SOURCE_DIR}/src/bpf)
  set(out_dir ${CMAKE_BINARY_DIR}/generated/bpf)
  file(MAKE_DIRECTORY ${out_dir})
  set(skeletons)
  foreach(name ${ARGN})
    set(object ${out_dir}/${name}.o)
    set(skeleton ${out_dir}/${name}.skel.h)
    # `gen object` drops the DWARF that -g makes beside the BTF: 5 kB instead of 14 kB in the daemon.
    add_custom_command(OUTPUT ${skeleton}
      COMMAND ${TENURE_BPF_CLANG} -target bpf -O2 -g -std=gnu17 -Wall -Wextra -Werror
        -ffile-prefix-map=${CMAKE_SOURCE_DIR}=. -isystem /usr/include/${CMAKE_LIBRARY_ARCHITECTURE}
        -MD -MF ${object}.d -MT ${skeleton} -c ${source_dir}/${name}.bpf.c -o ${object}.raw
      COMMAND ${TENURE_BPFTOOL} gen object ${object} ${object}.raw
      COMMAND ${TENURE_BPFTOOL} gen skeleton ${object} name tenure_${name} > ${skeleton}.tmp
      COMMAND ${CMAKE_COMMAND} -E rename ${skeleton}.tmp ${skeleton}
      DEPENDS ${source_dir}/${name}.bpf.c ${source_dir}/${name}_layout.h
      DEPFILE ${object}.d
      COMMENT "BPF skeleton ${name}" VERBATIM)
    list(APPEND skeletons ${skeleton})
  endforeach()
  add_custom_target(${target}_bpf DEPENDS ${skeletons})
  add_dependencies(${target} ${target}_bpf)
  # SYSTEM: the generated header is C with C's casts.
  target_include_directories(${target} SYSTEM PRIVATE ${CMAKE_BINARY_DIR}/generated)
endfunction()
