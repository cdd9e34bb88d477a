# aiter_warnings(<target> <scope>): the warnings that all of our own code is compiled with.
function(aiter_warnings target scope)
  target_compile_options(${target} ${scope} -Wall -Wextra)
  if(AITER_WERROR)
    target_compile_options(${target} ${scope} -Werror)
  endif()
endfunction()
