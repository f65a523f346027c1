# The tests of the model.
add_library(duologue_model_test_support STATIC support/model_run.cpp)
target_link_libraries(duologue_model_test_support PUBLIC duologue_model duologue_test_support PRIVATE duologue_options)
set(model_test_libraries duologue_model_test_support nlohmann_json::nlohmann_json)
duologue_test(model_golden_test LABEL unit SOURCES model_golden_test.cpp LIBRARIES ${model_test_libraries})
target_compile_definitions(model_golden_test PRIVATE DUOLOGUE_GOLDEN_FOLDER="${CMAKE_CURRENT_SOURCE_DIR}/golden")
duologue_test(model_gradient_test LABEL gradient SOURCES model_gradient_test.cpp LIBRARIES ${model_test_libraries})
duologue_test(model_behaviour_test LABEL unit SOURCES model_behaviour_test.cpp LIBRARIES ${model_test_libraries})
