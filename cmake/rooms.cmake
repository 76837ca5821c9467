# SPDX-License-Identifier: Apache-2.0
# tenure_room(NAME ROOMS other rooms… LIBS third-party targets…): the folder's *.cc and *.c as one static library.
# Public linkage of ROOMS is the whole of what the folder may include (tests/check/layers reads the same lines).
function(tenure_room name)
  cmake_parse_arguments(arg "" "" "ROOMS;LIBS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  list(FILTER sources EXCLUDE REGEX "/main\\.cc$")
  add_library(tenure_${name} STATIC ${sources})
  set_target_properties(tenure_${name} PROPERTIES LINKER_LANGUAGE CXX)
  target_link_libraries(tenure_${name} PUBLIC tenure_flags)
  foreach(room ${arg_ROOMS})
    target_link_libraries(tenure_${name} PUBLIC tenure_${room})
  endforeach()
  target_link_libraries(tenure_${name} PUBLIC ${arg_LIBS})
endfunction()

# tenure_program(NAME ROOM): the room's main.cc as build/<preset>/bin/NAME.
function(tenure_program name room)
  add_executable(${name} ${CMAKE_CURRENT_SOURCE_DIR}/main.cc)
  target_link_libraries(${name} PRIVATE tenure_${room})
endfunction()
