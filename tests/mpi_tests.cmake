# Tests of several ranks and of jobs under mpirun.

# What mpirun needs in containers: root, more ranks than cores, no ptrace between ranks.
set(DUOLOGUE_MPI_ENVIRONMENT OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_btl_vader_single_copy_mechanism=none OMP_NUM_THREADS=1)

# duologue_mpi_test(NAME SOURCES ... LIBRARIES ... [TIMEOUT seconds]): one program, run on 1, 2 and 4 ranks.
function(duologue_mpi_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LIBRARIES" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_executable(${name} ${ARG_SOURCES} support/mpi_main.cpp)
  target_link_libraries(${name} PRIVATE duologue_options ${ARG_LIBRARIES} duologue_comm GTest::gtest GTest::gmock)
  target_include_directories(${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  foreach(ranks 1 2 4)
    add_test(NAME ${name}_${ranks}_ranks COMMAND ${MPIEXEC_EXECUTABLE} -n ${ranks} $<TARGET_FILE:${name}>)
    set_tests_properties(${name}_${ranks}_ranks PROPERTIES LABELS mpi TIMEOUT ${ARG_TIMEOUT} PROCESSORS ${ranks}
                         ENVIRONMENT "${DUOLOGUE_MPI_ENVIRONMENT}")
  endforeach()
endfunction()

duologue_mpi_test(comm_mpi_test SOURCES comm_mpi_test.cpp LIBRARIES duologue_comm)
add_executable(comm_failing_program comm_failing_program.cpp)
target_link_libraries(comm_failing_program PRIVATE duologue_options duologue_comm)
duologue_test(comm_failure_test LABEL mpi SOURCES comm_failure_test.cpp LIBRARIES duologue_comm
              duologue_test_jobs)
list(JOIN DUOLOGUE_MPI_ENVIRONMENT " " mpi_environment)
target_compile_definitions(comm_failure_test PRIVATE MPIRUN="env ${mpi_environment} ${MPIEXEC_EXECUTABLE}"
                           FAILING_PROGRAM="$<TARGET_FILE:comm_failing_program>")
add_dependencies(comm_failure_test comm_failing_program)

duologue_mpi_test(train_mpi_test SOURCES train_mpi_test.cpp
                  LIBRARIES duologue_train duologue_test_support nlohmann_json::nlohmann_json)
