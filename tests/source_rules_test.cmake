# Checks what every source file has to be: introduced by a comment, short, free of what the project does not allow.
# cmake -DROOT=... -P this
cmake_minimum_required(VERSION 3.25)

set(most_lines 500)
# What may not stand in a file: "pattern@files that may have it@why", all but the last regular expressions.
set(forbidden
    "(^|[^a-z_])(secure_)?getenv *\\(@^(src|preprocess)/main\\.cpp$|^tests/emulated_gpu/card\\.cpp$|^tests/[a-z]+_failing_program\\.cpp$@the environment is read in main.cpp only"
    "(^|[^a-z_.>:])(std::)?(_exit|quick_exit|exit|abort) *\\(@main\\.cpp$|/comm/|^tests/@a library does not end the process"
    "(TODO|FIXME)@^$@what is committed is finished"
    "^ *# *if(def|ndef)? @^$@what is not built is another list of sources"
    "using namespace @^$@names are spelled out"
    "(/root/|/home/|/tmp/[a-z])@^tests/@no path of one machine")

set(violations "")

function(check_lines file)
  file(READ ${ROOT}/${file} text)
  string(REGEX MATCHALL "\n" ends "${text}")
  list(LENGTH ends lines)
  if(lines GREATER most_lines)
    list(APPEND violations "${file} has ${lines} lines, more than ${most_lines}")
  endif()
  if(NOT text MATCHES "^// [^\n]+\n")
    list(APPEND violations "${file} does not begin with a comment that says what it is")
  endif()
  set(violations "${violations}" PARENT_SCOPE)
endfunction()

function(check_forbidden file)
  foreach(rule IN LISTS forbidden)
    string(REGEX MATCH "^(.*)@(.*)@(.*)$" unused "${rule}")
    set(pattern "${CMAKE_MATCH_1}")
    set(allowed "${CMAKE_MATCH_2}")
    set(why "${CMAKE_MATCH_3}")
    if(file MATCHES "${allowed}")
      continue()
    endif()
    file(STRINGS ${ROOT}/${file} lines REGEX "${pattern}" LIMIT_COUNT 1)
    if(lines)
      string(STRIP "${lines}" line)
      list(APPEND violations "${file}: `${line}`: ${why}")
    endif()
  endforeach()
  set(violations "${violations}" PARENT_SCOPE)
endfunction()

file(GLOB_RECURSE files RELATIVE ${ROOT} ${ROOT}/include/*.h ${ROOT}/src/*.h ${ROOT}/src/*.cpp ${ROOT}/src/*.cu
     ${ROOT}/src/*.cuh ${ROOT}/preprocess/*.h ${ROOT}/preprocess/*.cpp ${ROOT}/tests/*.h ${ROOT}/tests/*.cpp)
list(FILTER files EXCLUDE REGEX "^tests/[a-z_]+_violations/")
list(LENGTH files count)
if(count EQUAL 0)
  message(FATAL_ERROR "there are no sources under ${ROOT}")
endif()
foreach(file IN LISTS files)
  check_lines("${file}")
  check_forbidden("${file}")
endforeach()
if(violations)
  list(JOIN violations "\n  " text)
  message(FATAL_ERROR "these files break the rules:\n  ${text}")
endif()
message(STATUS "${count} files keep to the rules")
