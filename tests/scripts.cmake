# SPDX-License-Identifier: Apache-2.0
# Tests that are scripts: each executable file tests/<layer>/<name> without a dot in its name is the test
# <layer>.<name>. Exit code 77 is a skip, its reason a line that begins with "skip: ".
# The checks of the house rules (layer check) belong to the presets that build the ordinary layers.
set(layers ${TENURE_TEST_LAYERS})
list(REMOVE_ITEM layers bench fuzz)
if("golden" IN_LIST layers)
  list(APPEND layers check)
endif()
foreach(layer ${layers})
  set(timeout 600)
  if(layer STREQUAL "fault")
    set(timeout 36000)  # whole (test --full) it takes hours; its samples end by themselves
  endif()
  file(GLOB scripts RELATIVE ${CMAKE_CURRENT_SOURCE_DIR}/${layer} CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${layer}/*)
  foreach(script ${scripts})
    set(path ${CMAKE_CURRENT_SOURCE_DIR}/${layer}/${script})
    if(IS_DIRECTORY ${path} OR script MATCHES "\\.")
      continue()
    endif()
    add_test(NAME ${layer}.${script} COMMAND ${path} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(${layer}.${script} PROPERTIES LABELS ${layer} SKIP_RETURN_CODE 77 TIMEOUT ${timeout}
      ENVIRONMENT "TENURE_SOURCE_DIR=${CMAKE_SOURCE_DIR};TENURE_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
    # These layers look at or change what the whole machine shares: one at a time, but for tests in a machine of their
    # own, which see this one read-only. Faults are without audit and have uids, names and folders of their own: one of
    # them runs beside.
    if(layer MATCHES "^(kernel|guest)$" AND NOT script MATCHES "^real-")
      set_tests_properties(${layer}.${script} PROPERTIES RESOURCE_LOCK host)
    elseif(layer STREQUAL "fault")
      set_tests_properties(${layer}.${script} PROPERTIES RESOURCE_LOCK faults)
    endif()
  endforeach()
endforeach()
