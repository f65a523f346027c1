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
duologue_test(comm_watch_test LABEL unit SOURCES comm_watch_test.cpp LIBRARIES duologue_comm)
# duologue_failure_test(NAME PROGRAM program): NAME.cpp runs PROGRAM.cpp under mpirun.
list(JOIN DUOLOGUE_MPI_ENVIRONMENT " " mpi_environment)
function(duologue_failure_test name program)
  add_executable(${program} ${program}.cpp ${ARGN})
  target_link_libraries(${program} PRIVATE duologue_options duologue_comm)
  target_include_directories(${program} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  duologue_test(${name} LABEL mpi SOURCES ${name}.cpp LIBRARIES duologue_comm duologue_test_jobs)
  target_compile_definitions(${name} PRIVATE MPIRUN="env ${mpi_environment} ${MPIEXEC_EXECUTABLE}"
                             FAILING_PROGRAM="$<TARGET_FILE:${program}>")
  add_dependencies(${name} ${program})
endfunction()
duologue_failure_test(comm_failure_test comm_failing_program)
target_compile_definitions(comm_failing_program PRIVATE OMPI_SKIP_MPICXX)
target_link_libraries(comm_failing_program PRIVATE MPI::MPI_C)

# NCCL's communicator, which programs find in a module, linked with a GPU that is not there.
if(DUOLOGUE_BUILD_CUDA)
  add_dependencies(comm_mpi_test duologue_cuda_module)  # it asks for a GPU that is not there
  duologue_mpi_test(nccl_communicator_test SOURCES nccl_communicator_test.cpp support/fake_gpu.cpp
                    LIBRARIES duologue_nccl)
  duologue_failure_test(nccl_failure_test nccl_failing_program support/fake_gpu.cpp)
  foreach(target nccl_communicator_test nccl_failing_program)
    target_compile_definitions(${target} PRIVATE OMPI_SKIP_MPICXX)
    target_link_libraries(${target} PRIVATE duologue_nccl MPI::MPI_C NCCL::nccl CUDA::cudart)
  endforeach()

  # On real GPUs; launch/gpu_check.sh runs it.
  add_executable(nccl_test nccl_sums_test.cpp support/mpi_main.cpp)
  target_link_libraries(nccl_test PRIVATE duologue_options duologue_backend duologue_comm GTest::gtest)
  target_include_directories(nccl_test PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  add_dependencies(nccl_test duologue_cuda_module)
endif()

duologue_mpi_test(train_mpi_test SOURCES train_mpi_test.cpp
                  LIBRARIES duologue_train duologue_test_support nlohmann_json::nlohmann_json)

duologue_mpi_test(train_repeating_test SOURCES train_repeating_test.cpp support/repeating_backend.cpp
                  LIBRARIES duologue_train duologue_test_support)

duologue_mpi_test(train_sharded_test SOURCES train_sharded_test.cpp
                  LIBRARIES duologue_train duologue_test_support nlohmann_json::nlohmann_json)
