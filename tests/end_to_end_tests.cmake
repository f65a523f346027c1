# Tests of the programs as people use them. What they share is made once, by a test that the others wait for.
set(programs $<TARGET_FILE_DIR:duologue>)
set(sample_folder ${CMAKE_CURRENT_BINARY_DIR}/end_to_end_sample)
add_test(NAME end_to_end.sample COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/end_to_end/make_sample.sh ${programs} ${sample_folder})
set_tests_properties(end_to_end.sample PROPERTIES LABELS end_to_end TIMEOUT 300 PROCESSORS 2
                     FIXTURES_SETUP end_to_end_sample ENVIRONMENT "${DUOLOGUE_MPI_ENVIRONMENT}")

# duologue_end_to_end_test(NAME PROCESSORS [LIBRARIES ...]): end_to_end/NAME.cpp, run by ctest with the sample at hand.
# Deadlines inside the tests are for machines that are busy with other things; here a test takes seconds.
function(duologue_end_to_end_test name processors)
  add_executable(${name} end_to_end/${name}.cpp)
  target_link_libraries(${name} PRIVATE duologue_options duologue_test_jobs ${ARGN} GTest::gtest_main GTest::gmock)
  target_compile_definitions(${name} PRIVATE PROGRAM_FOLDER="${PROJECT_BINARY_DIR}/bin" SAMPLE_FOLDER="${sample_folder}"
                             MPIRUN="env ${mpi_environment} ${MPIEXEC_EXECUTABLE}"
                             RANKS_SCRIPT="${PROJECT_SOURCE_DIR}/launch/ranks.sh")
  add_dependencies(${name} duologue duologue-preprocess)
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 30 TEST_PREFIX end_to_end. NO_PRETTY_VALUES
                       PROPERTIES LABELS end_to_end TIMEOUT 500 PROCESSORS ${processors}
                                  FIXTURES_REQUIRED end_to_end_sample)
endfunction()

duologue_end_to_end_test(pipeline_test 2 nlohmann_json::nlohmann_json ZLIB::ZLIB PkgConfig::ZSTD)
duologue_end_to_end_test(jobs_test 2)
duologue_end_to_end_test(bad_input_test 1 duologue_data)

add_test(NAME end_to_end.ctrl_c_and_the_chat_in_a_terminal
         COMMAND /usr/bin/python3 ${CMAKE_CURRENT_SOURCE_DIR}/end_to_end/terminal_test.py ${programs} ${sample_folder})
set_tests_properties(end_to_end.ctrl_c_and_the_chat_in_a_terminal PROPERTIES LABELS end_to_end TIMEOUT 400
                     PROCESSORS 2 FIXTURES_REQUIRED end_to_end_sample ENVIRONMENT "${DUOLOGUE_MPI_ENVIRONMENT}")

add_test(NAME kill_loop COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/end_to_end/kill_loop.sh $<TARGET_FILE:duologue>
                                $<TARGET_FILE:duologue-preprocess>)
set_tests_properties(kill_loop PROPERTIES LABELS end_to_end TIMEOUT 900 PROCESSORS 2)

# Sizes that CI can afford; the scripts say how they are run on more.
add_test(NAME preprocess_memory COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/bench/preprocess_memory.sh
                                        $<TARGET_FILE:duologue-preprocess> 40)
set_tests_properties(preprocess_memory PROPERTIES LABELS end_to_end TIMEOUT 300 PROCESSORS 2)

# A reader of shards that is not ours. The other parts of the script want more than Debian has: peers/README.md.
add_test(NAME peers.h5py_reads_what_plain_python_preprocesses
         COMMAND /usr/bin/python3 ${CMAKE_CURRENT_SOURCE_DIR}/peers/check_files.py --programs ${programs} --part data)
set_tests_properties(peers.h5py_reads_what_plain_python_preprocesses PROPERTIES LABELS end_to_end TIMEOUT 120)
