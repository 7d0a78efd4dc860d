# The README shows examples/first.c to the letter.
file(READ ${CMAKE_CURRENT_LIST_DIR}/first.c example)
file(READ ${CMAKE_CURRENT_LIST_DIR}/../README.md readme)
string(FIND "${readme}" "```c\n${example}```" at)
if(at EQUAL -1)
  message(FATAL_ERROR "README.md does not show examples/first.c as it is")
endif()
