# Tests of the launch scripts on several hosts: namespaces of network, mounts and processes, and a Slurm of the test's own.
# Those of the configuration `long` run by tests/launch/run_all.sh only.

add_test(NAME launch.mistakes_in_the_call_are_refused COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/launch/arguments_test.sh)
set_tests_properties(launch.mistakes_in_the_call_are_refused PROPERTIES LABELS end_to_end TIMEOUT 120)

# duologue_launch_test(NAME label SCRIPT script [LONG] [PROCESSORS n] CASE word ...)
function(duologue_launch_test name label script configurations)
  set(arguments NAME ${name} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/launch/${script} $<TARGET_FILE:duologue>
                                     $<TARGET_FILE:duologue-preprocess> ${ARGN})
  if(configurations STREQUAL "LONG")
    list(APPEND arguments CONFIGURATIONS long)
  endif()
  add_test(${arguments})
  set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT 300 PROCESSORS 2)
endfunction()

duologue_launch_test(hosts.two_hosts_of_two_ranks_train_and_resume_as_one_host netns hosts_test.sh QUICK
                     trains_and_resumes 2 2)
duologue_launch_test(hosts.a_host_that_differs_is_refused_and_named netns hosts_test.sh QUICK
                     refuses_a_host_that_differs)
duologue_launch_test(hosts.a_frozen_rank_ends_the_job netns hosts_test.sh QUICK ends_when_a_rank freezes)
duologue_launch_test(hosts.a_host_without_network_ends_the_job netns hosts_test.sh QUICK ends_when_a_host_is_cut_off second)
duologue_launch_test(slurm.the_batch_script_ends_with_the_trainers_status slurm slurm_test.sh QUICK
                     runs_and_ends_with_the_trainers_status)
duologue_launch_test(slurm.a_preempted_job_saves_and_resumes slurm slurm_test.sh QUICK saves_and_resumes_when_preempted)

foreach(hosts_and_ranks "2;1" "4;1" "4;2")
  list(GET hosts_and_ranks 0 hosts)
  list(GET hosts_and_ranks 1 ranks)
  duologue_launch_test(hosts.${hosts}_hosts_of_${ranks}_ranks_train_and_resume_as_one_host netns hosts_test.sh LONG
                       trains_and_resumes ${hosts} ${ranks})
endforeach()
foreach(how dies throws)
  duologue_launch_test(hosts.a_rank_that_${how}_ends_the_job netns hosts_test.sh LONG ends_when_a_rank ${how})
endforeach()
duologue_launch_test(hosts.mpiruns_host_without_network_ends_the_job netns hosts_test.sh LONG
                     ends_when_a_host_is_cut_off first)
duologue_launch_test(slurm.a_rank_that_fails_ends_the_job slurm slurm_test.sh LONG ends_when_a_rank_fails)
duologue_launch_test(slurm.a_job_preempted_without_grace_saves_and_resumes slurm slurm_test.sh LONG
                     saves_and_resumes_when_preempted_without_grace)
duologue_launch_test(slurm.a_job_at_its_time_limit_saves_and_resumes slurm slurm_test.sh LONG
                     saves_and_resumes_at_the_time_limit)
set_tests_properties(slurm.a_job_at_its_time_limit_saves_and_resumes PROPERTIES TIMEOUT 500)
