# Tests of the program's commands, end to end: programs that run the real ones.
foreach(name IN ITEMS commands plan_memory)
  add_executable(${name}_test end_to_end/${name}_test.cpp)
  target_link_libraries(${name}_test PRIVATE duologue_options duologue_core GTest::gtest_main GTest::gmock)
  target_include_directories(${name}_test PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_compile_definitions(${name}_test PRIVATE DUOLOGUE="$<TARGET_FILE:duologue>"
                             PREPROCESS="$<TARGET_FILE:duologue-preprocess>")
  add_dependencies(${name}_test duologue duologue-preprocess)
  add_test(NAME ${name} COMMAND ${name}_test)
  set_tests_properties(${name} PROPERTIES LABELS end_to_end TIMEOUT 300)
endforeach()
