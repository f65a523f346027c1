# The tests of the model.
add_library(duologue_model_test_support STATIC support/model_run.cpp)
target_link_libraries(duologue_model_test_support PUBLIC duologue_model duologue_test_support PRIVATE duologue_options)
set(model_test_libraries duologue_model_test_support nlohmann_json::nlohmann_json)
duologue_test(model_golden_test LABEL unit SOURCES model_golden_test.cpp LIBRARIES ${model_test_libraries})
target_compile_definitions(model_golden_test PRIVATE DUOLOGUE_GOLDEN_FOLDER="${CMAKE_CURRENT_SOURCE_DIR}/golden")
# The same on a GPU, like cuda_contract_test. Run from the project's or an unpacked bundle's folder.
if(DUOLOGUE_BUILD_CUDA)
  add_executable(cuda_golden_test model_golden_test.cpp support/cuda_contract_cases.cpp)
  target_link_libraries(cuda_golden_test PRIVATE duologue_options ${model_test_libraries} GTest::gtest_main)
  target_include_directories(cuda_golden_test PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_compile_definitions(cuda_golden_test PRIVATE DUOLOGUE_GOLDEN_FOLDER="tests/golden")
  add_dependencies(cuda_golden_test duologue_cuda_module)
endif()
duologue_test(model_gradient_test LABEL gradient SOURCES model_gradient_test.cpp LIBRARIES ${model_test_libraries})
duologue_test(model_behaviour_test LABEL unit SOURCES model_behaviour_test.cpp LIBRARIES ${model_test_libraries})
duologue_test(model_tiling_test LABEL unit SOURCES model_tiling_test.cpp support/repeating_backend.cpp
              LIBRARIES ${model_test_libraries})
