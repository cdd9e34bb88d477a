# aiter_warnings(<target> <scope>): the warnings that all of our own code is compiled with.
function(aiter_warnings target scope)
  target_compile_options(${target} ${scope} -Wall -Wextra)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    target_compile_options(${target} ${scope} -Wno-restrict) # wrong about "text" + std::string
  endif()
  if(AITER_WERROR)
    target_compile_options(${target} ${scope} -Werror)
  endif()
endfunction()
