# Tests of the back ends: the contract suite, the checks of operands, the reference's own gradients.
duologue_test(backend_contract_test LABEL contract LIBRARIES duologue_test_support
              SOURCES contract_linear_test.cpp contract_norm_test.cpp contract_embedding_test.cpp
                      contract_attention_test.cpp contract_attention_dropout_test.cpp
                      contract_decode_test.cpp contract_loss_test.cpp
                      contract_optimizer_test.cpp)
duologue_test(reference_gradient_test LABEL gradient SOURCES reference_gradient_test.cpp
              LIBRARIES duologue_test_support)
duologue_test(backend_checks_test LABEL unit SOURCES backend_checks_test.cpp LIBRARIES duologue_test_support)

# The same suite on a GPU. It is not among the tests that ctest runs: whoever has a GPU runs the program, and without one
# every test of it fails.
if(DUOLOGUE_BUILD_CUDA)
  add_executable(cuda_contract_test support/cuda_contract_cases.cpp contract_linear_test.cpp contract_norm_test.cpp
                 contract_embedding_test.cpp contract_attention_test.cpp contract_decode_test.cpp
                 contract_loss_test.cpp contract_optimizer_test.cpp)
  target_link_libraries(cuda_contract_test PRIVATE duologue_options duologue_test_support GTest::gtest_main GTest::gmock)
  target_include_directories(cuda_contract_test PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
endif()
duologue_test(cuda_absence_test LABEL unit SOURCES cuda_absence_test.cpp LIBRARIES duologue_backend)
