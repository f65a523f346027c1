# Tests of the back ends: the contract suite, the checks of operands, the reference's own gradients.
duologue_test(backend_contract_test LABEL contract LIBRARIES duologue_test_support
              SOURCES contract_linear_test.cpp contract_norm_test.cpp contract_embedding_test.cpp
                      contract_attention_test.cpp contract_attention_dropout_test.cpp
                      contract_decode_test.cpp contract_loss_test.cpp
                      contract_optimizer_test.cpp)
duologue_test(reference_gradient_test LABEL gradient SOURCES reference_gradient_test.cpp
              LIBRARIES duologue_test_support)
duologue_test(backend_checks_test LABEL unit SOURCES backend_checks_test.cpp LIBRARIES duologue_test_support)

duologue_test(cuda_absence_test LABEL unit SOURCES cuda_absence_test.cpp LIBRARIES duologue_backend)
if(DUOLOGUE_BUILD_CUDA)
  include(cuda_tests.cmake)
endif()
