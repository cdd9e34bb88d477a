# aiter_find_ops(): the operators are the folders src/ops/<family>/<op>/ that hold an <op>.def.
#
# <op>.cc, and what it leaves to other files of its folder, are compiled once; <op>_cpu.cc once per
# instruction set, in the namespace aiter::<isa>; <op>.hip once per GPU architecture (AiterKernels.cmake).
# aiter_ops_finish() makes the object libraries and the list of operators that dispatch reads.

set(AITER_ISAS portable)
set(AITER_ISA_FLAGS_portable -Wno-psabi) # vectors are never passed between files
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND AITER_ISAS avx2 avx512)
  set(AITER_ISA_FLAGS_avx2 -march=haswell)
  set(AITER_ISA_FLAGS_avx512
      -march=haswell -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512bf16
      -mavx512vbmi -mprefer-vector-width=512
      # gcc 12's own AVX-512 headers
      $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized;-Wno-uninitialized>)
endif()

function(aiter_find_ops)
  file(GLOB homes CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/ops/*/*/*.def)
  foreach(rows ${homes})
    get_filename_component(home ${rows} DIRECTORY)
    get_filename_component(op ${rows} NAME_WE)
    set_property(GLOBAL APPEND PROPERTY AITER_OPS ${op})
    file(GLOB sources CONFIGURE_DEPENDS ${home}/*.cc)
    list(FILTER sources EXCLUDE REGEX "_cpu\\.cc$")
    set_property(GLOBAL APPEND PROPERTY AITER_OP_SOURCES ${sources})
    file(GLOB cpu CONFIGURE_DEPENDS ${home}/${op}_cpu.cc)
    if(cpu)
      set_property(GLOBAL APPEND PROPERTY AITER_CPU_SOURCES ${cpu})
    endif()
    file(GLOB hip CONFIGURE_DEPENDS ${home}/${op}.hip)
    if(hip)
      set_property(GLOBAL APPEND PROPERTY AITER_HIP_OPS ${op})
      set_property(GLOBAL APPEND PROPERTY AITER_HIP_SOURCES ${hip})
    endif()
  endforeach()
  # What operators share, compiled once per instruction set too.
  file(GLOB simd CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/simd/*_cpu.cc)
  set_property(GLOBAL APPEND PROPERTY AITER_CPU_SOURCES ${simd})
  # What the operators of a family share.
  file(GLOB shared CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/ops/*/*.cc)
  set_property(GLOBAL APPEND PROPERTY AITER_OP_SOURCES ${shared})
endfunction()

function(aiter_ops_finish target)
  get_property(ops GLOBAL PROPERTY AITER_OPS)
  get_property(sources GLOBAL PROPERTY AITER_OP_SOURCES)
  get_property(cpu_sources GLOBAL PROPERTY AITER_CPU_SOURCES)
  target_sources(${target} PRIVATE ${sources})

  set(list "")
  foreach(op ${ops})
    string(APPEND list "AITER_OP_ENTRY(${op})\n")
  endforeach()
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/generated/aiter_ops.inc CONTENT "${list}" @ONLY)
  target_include_directories(${target} PRIVATE ${PROJECT_BINARY_DIR}/generated)

  set(level 0)
  foreach(isa ${AITER_ISAS})
    add_library(aiter_cpu_${isa} OBJECT ${cpu_sources})
    target_link_libraries(aiter_cpu_${isa} PRIVATE aiter_private)
    target_compile_definitions(aiter_cpu_${isa} PRIVATE AITER_ISA=${isa} AITER_ISA_LEVEL=${level})
    # -fno-math-errno and -fno-trapping-math let loops vectorize; NaN, infinity, signed zero and
    # the order of sums stay as written.
    target_compile_options(aiter_cpu_${isa} PRIVATE ${AITER_ISA_FLAGS_${isa}} -fno-math-errno
                                                    -fno-trapping-math)
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:aiter_cpu_${isa}>)
    math(EXPR level "${level} + 1")
  endforeach()
  aiter_kernels_finish(${target})
endfunction()
