# The program: main, its commands, and every room of the house.
add_executable(duologue main.cpp commands/chat.cpp commands/command_line.cpp commands/device.cpp commands/doctor.cpp
               commands/evaluate.cpp commands/export.cpp commands/inspect.cpp commands/inspection.cpp commands/plan.cpp
               commands/train.cpp)
target_compile_definitions(duologue PRIVATE DUOLOGUE_VERSION="${PROJECT_VERSION}")
target_link_libraries(duologue PRIVATE duologue_options duologue_arguments duologue_chat duologue_train duologue_comm
                      duologue_backend nlohmann_json::nlohmann_json)
if(DUOLOGUE_BUILD_CUDA)
  add_dependencies(duologue duologue_cuda_module)  # which it loads when a GPU is asked for
endif()
