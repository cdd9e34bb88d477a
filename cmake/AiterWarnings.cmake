option(AITER_WERROR "Treat compiler warnings as errors" OFF)

function(aiter_warnings target)
  target_compile_options(${target} PRIVATE -Wall -Wextra)
  if(AITER_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
endfunction()
