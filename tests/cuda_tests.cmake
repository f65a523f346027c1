# Tests of the CUDA back end. Those with the label `cuda` need no GPU.
add_dependencies(cuda_absence_test duologue_cuda_module)

# The contract suite on a GPU. It is not among the tests that ctest runs: whoever has a GPU runs the program, and without
# one every test of it fails.
add_executable(cuda_contract_test support/cuda_contract_cases.cpp contract_linear_test.cpp contract_norm_test.cpp
               contract_embedding_test.cpp contract_attention_test.cpp contract_attention_dropout_test.cpp
               contract_decode_test.cpp contract_loss_test.cpp contract_optimizer_test.cpp cuda_attention_mask_test.cpp
               cuda_repeater_test.cpp)
target_link_libraries(cuda_contract_test PRIVATE duologue_options duologue_model_test_support duologue_train duologue_cuda
                      GTest::gtest_main GTest::gmock)
target_include_directories(cuda_contract_test PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
add_dependencies(cuda_contract_test duologue_cuda_module)

# cuDNN wants to load a driver before it answers questions about a card; the toolkit's stand-in is enough.
set(driver_folder ${CMAKE_CURRENT_BINARY_DIR}/driver)
file(MAKE_DIRECTORY ${driver_folder})
file(CREATE_LINK ${CUDAToolkit_LIBRARY_DIR}/stubs/libcuda.so ${driver_folder}/libcuda.so.1 SYMBOLIC)
add_executable(cuda_plan_test cuda_plan_test.cpp)
target_link_libraries(cuda_plan_test PRIVATE duologue_options duologue_cuda duologue_model duologue_data
                      duologue_config GTest::gtest_main GTest::gmock)
target_include_directories(cuda_plan_test PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_compile_definitions(cuda_plan_test PRIVATE DUOLOGUE_CONFIGS="${PROJECT_SOURCE_DIR}/configs")
gtest_discover_tests(cuda_plan_test DISCOVERY_TIMEOUT 30
                     PROPERTIES LABELS cuda TIMEOUT 300 ENVIRONMENT "LD_LIBRARY_PATH=${driver_folder}")

# What orders uploads and repeats work, over emulated streams.
foreach(part upload_ring graph_repeater)
  duologue_test(cuda_${part}_test LABEL cuda LIBRARIES emulated_gpu duologue_core
                SOURCES cuda_${part}_test.cpp ${PROJECT_SOURCE_DIR}/src/backend/cuda/${part}.cpp)
endforeach()

# The program starts where there is no library of CUDA: only the module needs them.
add_test(NAME the_program_needs_no_library_of_cuda
         COMMAND sh -c "! ldd \"$1\" | grep -E 'lib(cuda|cublas|cudnn|nccl|nvrtc)'" sh $<TARGET_FILE:duologue>)
set_tests_properties(the_program_needs_no_library_of_cuda PROPERTIES LABELS cuda)
