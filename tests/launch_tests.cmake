# Tests of the launch scripts and of what the benchmarks compute.
find_package(Python3 3.9 REQUIRED COMPONENTS Interpreter)
add_test(NAME gpu_check.nothing_passes_that_did_not_run
         COMMAND Python3::Interpreter -B ${CMAKE_CURRENT_SOURCE_DIR}/gpu/gpu_check_test.py)
set_tests_properties(gpu_check.nothing_passes_that_did_not_run PROPERTIES LABELS unit TIMEOUT 120)
add_test(NAME bench.figures_follow_from_what_was_measured
         COMMAND Python3::Interpreter -B ${CMAKE_CURRENT_SOURCE_DIR}/bench/bench_test.py)
set_tests_properties(bench.figures_follow_from_what_was_measured PROPERTIES LABELS unit TIMEOUT 120)
if(TARGET duologue)
  set(toy ${CMAKE_CURRENT_BINARY_DIR}/gpu_bench_toy)
  add_test(NAME bench.a_toy_model_is_measured_on_the_cpu
           COMMAND Python3::Interpreter -B ${CMAKE_CURRENT_SOURCE_DIR}/bench/gpu_bench.py --model toy --device cpu
                   --precision f32 --steps 3 --warmup 1 --without-peer --programs ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}
                   --work ${toy} --output ${toy}.json)
  set_tests_properties(bench.a_toy_model_is_measured_on_the_cpu PROPERTIES LABELS end_to_end TIMEOUT 120
                       PASS_REGULAR_EXPRESSION "tokens/s, .* ms a step, .* % of the floor's rate")

  # An archive of the programs built here, in a machine that has nothing of what they need.
  add_test(NAME bundle.trains_and_chats_where_there_is_nothing
           COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/bundle/bundle_test.sh ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
  set_tests_properties(bundle.trains_and_chats_where_there_is_nothing PROPERTIES LABELS bundle TIMEOUT 300
                       PROCESSORS 2)
endif()
