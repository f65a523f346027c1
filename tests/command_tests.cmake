# Tests of the program's commands, end to end: one program that runs the real ones.
add_executable(commands_test end_to_end/commands_test.cpp)
target_link_libraries(commands_test PRIVATE duologue_options duologue_core GTest::gtest_main GTest::gmock)
target_include_directories(commands_test PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_compile_definitions(commands_test PRIVATE DUOLOGUE="$<TARGET_FILE:duologue>"
                           PREPROCESS="$<TARGET_FILE:duologue-preprocess>")
add_dependencies(commands_test duologue duologue-preprocess)
add_test(NAME commands COMMAND commands_test)
set_tests_properties(commands PROPERTIES LABELS end_to_end TIMEOUT 300)
