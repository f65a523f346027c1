# Checks who includes whom: vendor headers in their one place, rooms only the rooms below. cmake -DROOT=... -P this
cmake_minimum_required(VERSION 3.25)

set(sees_core core)
set(sees_config core config)
set(sees_arguments core config arguments)
set(sees_backend core backend)
set(sees_comm core comm)
set(sees_data core config data)
set(sees_model core config data backend model)
set(sees_train core config data backend comm model train)
set(sees_chat core config data backend model chat)
set(sees_preprocess core config arguments data preprocess)
set(sees_commands core config arguments data backend comm model train chat)
set(rooms core config arguments backend comm data model train chat preprocess)

# Where a header may be included: "header|files", both regular expressions.
set(vendor_places
    "mpi\\.h|^src/comm/"
    "(oneapi/dnnl/)?dnnl.*|^src/backend/cpu/onednn\\.cpp$"
    "hdf5\\.h|^src/data/hdf5_file\\.cpp$"
    "(cuda|cublas|cudnn).*|^src/(backend/cuda/|comm/nccl_communicator\\.cpp$)"
    "nccl.*|^src/comm/nccl_communicator\\.cpp$")

set(violations "")

function(check_vendor file header)
  foreach(place IN LISTS vendor_places)
    string(REGEX REPLACE "\\|\\^.*" "" pattern "${place}")
    string(REGEX REPLACE ".*\\|\\^" "^" allowed "${place}")
    if(header MATCHES "^(${pattern})$" AND NOT file MATCHES "${allowed}")
      list(APPEND violations "${file} includes ${header}, which belongs to ${allowed}")
    endif()
  endforeach()
  set(violations "${violations}" PARENT_SCOPE)
endfunction()

function(check_room file header)
  string(REGEX MATCH "^(include/duologue|src)/([a-z]+)/|^(preprocess)/" unused "${file}")
  set(room "${CMAKE_MATCH_2}${CMAKE_MATCH_3}")
  string(REGEX MATCH "^(duologue/)?([a-z]+)/" unused "${header}")
  set(other "${CMAKE_MATCH_2}")
  if(room AND other IN_LIST rooms AND NOT other IN_LIST sees_${room})
    list(APPEND violations "${file} includes ${header}: ${room} does not see ${other}")
  endif()
  set(violations "${violations}" PARENT_SCOPE)
endfunction()

file(GLOB_RECURSE files RELATIVE ${ROOT} ${ROOT}/include/*.h ${ROOT}/src/*.h ${ROOT}/src/*.cpp ${ROOT}/src/*.cu
     ${ROOT}/preprocess/*.h ${ROOT}/preprocess/*.cpp)
list(LENGTH files count)
if(count EQUAL 0)
  message(FATAL_ERROR "there are no sources under ${ROOT}")
endif()
foreach(file IN LISTS files)
  file(STRINGS ${ROOT}/${file} lines REGEX "^ *# *include *[<\"]")
  foreach(line IN LISTS lines)
    string(REGEX REPLACE ".*include *[<\"]([^>\"]*)[>\"].*" "\\1" header "${line}")
    check_vendor("${file}" "${header}")
    check_room("${file}" "${header}")
  endforeach()
endforeach()
if(violations)
  list(JOIN violations "\n  " text)
  message(FATAL_ERROR "these includes break the layers:\n  ${text}")
endif()
message(STATUS "${count} files keep to the layers")
