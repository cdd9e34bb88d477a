# AITER_SANITIZE=address,undefined builds everything, the tests included, with these sanitizers.
# An error ends the program, so that ctest sees it. -O1 compiles five times faster.
if(AITER_SANITIZE)
  add_compile_options(-fsanitize=${AITER_SANITIZE} -fno-sanitize-recover=all
                      -fno-omit-frame-pointer -g1 -O1)
  add_link_options(-fsanitize=${AITER_SANITIZE})
endif()
