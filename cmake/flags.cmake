# SPDX-License-Identifier: Apache-2.0
# Compiler flags for every target of ours; third-party headers come in as SYSTEM.
set(TENURE_SANITIZE "" CACHE STRING "Value of -fsanitize=, empty for none")
option(TENURE_TESTS "Build the tests" OFF)
set(TENURE_TEST_LAYERS "unit;golden;property;kernel;guest;fault" CACHE STRING "Folders of tests/ to build")

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
endif()

add_library(tenure_flags INTERFACE)
# missing-field-initializers: designated initializers leave out what has a default, on purpose.
# deprecated-declarations: stable_sort of libstdc++ 12 calls what libstdc++ 12 deprecates, and Clang tells the caller.
# mismatched-new-delete: GCC 12 does not see that Asio's coroutine frames pair their own operators.
# subobject-linkage: GCC suspects what it does not find in the main file; in a unity build that is every file's own.
# O0 for the code of the tests themselves: it runs once, and takes a third less to compile.
target_compile_options(tenure_flags INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wformat=2 -Wimplicit-fallthrough -Wswitch-enum -Wno-missing-field-initializers
  -Werror
  $<$<COMPILE_LANGUAGE:CXX>:-Wold-style-cast -Wnon-virtual-dtor -Woverloaded-virtual>
  $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-mismatched-new-delete>
  $<$<AND:$<COMPILE_LANG_AND_ID:CXX,GNU>,$<BOOL:${CMAKE_UNITY_BUILD}>>:-Wno-subobject-linkage>
  $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Wno-deprecated-declarations>
  $<$<CONFIG:Debug>:-g1>
  $<$<CONFIG:Debug>:$<IF:$<BOOL:$<TARGET_PROPERTY:TENURE_TEST_CODE>>,-O0,-O1>>
  $<$<CONFIG:Release>:-O2 -g1 -fstack-protector-strong -fstack-clash-protection -fcf-protection -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3>)
# ASIO_DISABLE_STD_ALIGNED_ALLOC: Asio 1.22 picks the allocator of its coroutine frames by a macro that libstdc++'s
# headers define, so two files that include it in another order would mix malloc and operator new. One choice for all.
# ASIO_HAS_CO_AWAIT: under Clang it looks for <experimental/coroutine>; there is <coroutine> since version 16.
target_compile_definitions(tenure_flags INTERFACE _GLIBCXX_ASSERTIONS _GNU_SOURCE
  ASIO_STANDALONE ASIO_NO_DEPRECATED ASIO_DISABLE_STD_ALIGNED_ALLOC
  $<$<COMPILE_LANG_AND_ID:CXX,Clang>:ASIO_HAS_CO_AWAIT ASIO_HAS_STD_COROUTINE>)
target_include_directories(tenure_flags INTERFACE ${CMAKE_SOURCE_DIR}/src)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
add_link_options(-Wl,-z,relro,-z,now)
if(TENURE_SANITIZE)
  target_compile_options(tenure_flags INTERFACE -fsanitize=${TENURE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
  # Checked at each use of a pointer, these take GCC 12 as long to compile as all the rest does; ASan sees what they
  # see of it. The fuzz preset has them.
  target_compile_options(tenure_flags INTERFACE
    $<$<CXX_COMPILER_ID:GNU>:-fno-sanitize=null,alignment,object-size,pointer-overflow,vptr>)
  string(REPLACE "fuzzer-no-link," "" link_sanitize "${TENURE_SANITIZE}")
  target_link_options(tenure_flags INTERFACE -fsanitize=${link_sanitize})
else()
  add_link_options(-pie)
endif()

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
