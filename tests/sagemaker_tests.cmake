# Tests of everything for SageMaker, in an environment of Python packages that the script makes. The long ones are run by
# hand: sagemaker/tests/run.sh all
if(TARGET duologue)
  add_test(NAME sagemaker.quick COMMAND ${PROJECT_SOURCE_DIR}/sagemaker/tests/run.sh quick)
  set_tests_properties(sagemaker.quick PROPERTIES LABELS sagemaker TIMEOUT 900
                       ENVIRONMENT "DUOLOGUE_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
endif()
