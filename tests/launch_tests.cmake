# Tests of the launch scripts.
find_package(Python3 3.9 REQUIRED COMPONENTS Interpreter)
add_test(NAME gpu_check.nothing_passes_that_did_not_run
         COMMAND Python3::Interpreter -B ${CMAKE_CURRENT_SOURCE_DIR}/gpu/gpu_check_test.py)
set_tests_properties(gpu_check.nothing_passes_that_did_not_run PROPERTIES LABELS unit TIMEOUT 120)

# An archive of the programs built here, in a machine that has nothing of what they need.
if(TARGET duologue)
  add_test(NAME bundle.trains_and_chats_where_there_is_nothing
           COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/bundle/bundle_test.sh ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
  set_tests_properties(bundle.trains_and_chats_where_there_is_nothing PROPERTIES LABELS bundle TIMEOUT 300
                       PROCESSORS 2)
endif()
