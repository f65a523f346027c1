# Tests of the sources themselves.
set(layering_script ${CMAKE_CURRENT_SOURCE_DIR}/layering_test.cmake)
add_test(NAME layering.sources_keep_to_the_layers
         COMMAND ${CMAKE_COMMAND} -DROOT=${PROJECT_SOURCE_DIR} -P ${layering_script})
set(layering_found "includes duologue/train/trainer.h: preprocess does not see train"
                   "includes cudnn.h" "includes hdf5.h" "includes mpi.h"
                   "includes duologue/model/transformer.h: backend does not see model")
list(JOIN layering_found ".*" layering_expected)
add_test(NAME layering.every_kind_of_violation_is_found
         COMMAND ${CMAKE_COMMAND} -DROOT=${CMAKE_CURRENT_SOURCE_DIR}/layering_violations -P ${layering_script})
set_tests_properties(layering.every_kind_of_violation_is_found PROPERTIES PASS_REGULAR_EXPRESSION "${layering_expected}")
set_tests_properties(layering.sources_keep_to_the_layers layering.every_kind_of_violation_is_found
                     PROPERTIES LABELS unit)

set(rules_script ${CMAKE_CURRENT_SOURCE_DIR}/source_rules_test.cmake)
add_test(NAME source_rules.every_source_keeps_to_the_rules
         COMMAND ${CMAKE_COMMAND} -DROOT=${PROJECT_SOURCE_DIR} -P ${rules_script})
set(rules_found "kernel.cuh does not begin with a comment" "uncommented.cpp does not begin with a comment" "environment is read in main.cpp only"
                "library does not end the process" "committed is finished" "another list of sources"
                "names are spelled out" "no path of one machine")
list(JOIN rules_found ".*" rules_expected)
add_test(NAME source_rules.every_kind_of_violation_is_found
         COMMAND ${CMAKE_COMMAND} -DROOT=${CMAKE_CURRENT_SOURCE_DIR}/source_rules_violations -P ${rules_script})
set_tests_properties(source_rules.every_kind_of_violation_is_found PROPERTIES PASS_REGULAR_EXPRESSION
                     "${rules_expected}")
set_tests_properties(source_rules.every_source_keeps_to_the_rules source_rules.every_kind_of_violation_is_found
                     PROPERTIES LABELS unit)
