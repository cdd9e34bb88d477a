# aiter_refuse_unknown_options(): a mistyped or outdated -D option is an error, not a build without
# it. To be called after everything is configured: what was given on the command line and declared
# by nobody still has CMake's placeholder for a description.
function(aiter_refuse_unknown_options)
  if(NOT PROJECT_SOURCE_DIR STREQUAL CMAKE_SOURCE_DIR)
    return() # the options are another project's
  endif()
  get_cmake_property(names CACHE_VARIABLES)
  set(unknown "")
  foreach(name ${names})
    get_property(help CACHE ${name} PROPERTY HELPSTRING)
    if(help MATCHES "^No help, variable specified on the command line"
       # CMake's own variables, and those of packages that are searched for
       AND NOT name MATCHES "^(CMAKE|CTEST|SKBUILD|Python|nanobind)(_|$)"
       AND NOT name STREQUAL "BUILD_TESTING")
      list(APPEND unknown ${name})
    endif()
  endforeach()
  if(NOT unknown)
    return()
  endif()
  set(known "")
  foreach(name ${names})
    if(name MATCHES "^(AITER_|GPU_ARCHS$|PREBUILD_KERNELS$|MAX_JOBS$)" AND NOT name IN_LIST unknown)
      get_property(help CACHE ${name} PROPERTY HELPSTRING)
      string(APPEND known "\n  ${name}: ${help}")
    endif()
  endforeach()
  # Forgotten, so that the corrected command does not meet it again.
  foreach(name ${unknown})
    unset(${name} CACHE)
  endforeach()
  string(REPLACE ";" ", " unknown "${unknown}")
  message(FATAL_ERROR "unknown option ${unknown}; the options are${known}")
endfunction()
