# The CUDA backend of the library, if the build has one. Sets SPINDLE_HAS_CUDA, SPINDLE_CUDA_OBJECTS, SPINDLE_CUDA_RUNTIME and
# SPINDLE_CUDA_PC_LIBS. Included, not a folder of its own, because compiled kernels belong to the folder that links them.
#
# Kernels are compiled by plain commands: as a language of CMake's, CUDA would have to be enabled in every project that links the
# static library, pure C ones too.
set(SPINDLE_CUDA AUTO CACHE STRING "The CUDA backend: AUTO (where a CUDA toolkit is found), ON, OFF")
set_property(CACHE SPINDLE_CUDA PROPERTY STRINGS AUTO ON OFF)
set(SPINDLE_CUDA_ARCHITECTURES "80;86;89;90a;100;120" CACHE STRING
    "What kernels are compiled for; the last one also as PTX, for later GPUs. native: the GPUs of this machine")
set(SPINDLE_HAS_CUDA 0)
set(SPINDLE_CUDA_OBJECTS "")
set(SPINDLE_CUDA_RUNTIME "")
set(SPINDLE_CUDA_PC_LIBS "")

# No backend, for a reason; an error if one was asked for.
function(spindle_without_cuda why)
  if(SPINDLE_CUDA STREQUAL AUTO)
    message(STATUS "Spindle: ${why}: building the cpu and reference backends")
  elseif(SPINDLE_CUDA)
    message(FATAL_ERROR "SPINDLE_CUDA is ON, but ${why}")
  endif()
endfunction()

# 80;90a for what nvidia-smi lists as 8.0 and 9.0.
function(spindle_native_architectures out)
  set(found "")
  execute_process(COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader OUTPUT_VARIABLE text ERROR_QUIET RESULT_VARIABLE failed)
  if(NOT failed)
    string(REGEX MATCHALL "[0-9]+\\.[0-9]" found "${text}")
    list(TRANSFORM found REPLACE "\\." "")
    list(TRANSFORM found REPLACE "^90$" "90a")
    list(REMOVE_DUPLICATES found)
  endif()
  set(${out} "${found}" PARENT_SCOPE)
endfunction()

if(NOT SPINDLE_CUDA)
  return()
endif()
find_package(CUDAToolkit 12.0 QUIET)
file(GLOB SPINDLE_KERNELS CONFIGURE_DEPENDS kernels/*.cu)
set(architectures ${SPINDLE_CUDA_ARCHITECTURES})
if(architectures STREQUAL native)
  spindle_native_architectures(architectures)
endif()
if(NOT CUDAToolkit_FOUND OR NOT CUDAToolkit_NVCC_EXECUTABLE)
  spindle_without_cuda("no CUDA toolkit of version 12 or later is found")
  return()
elseif(NOT architectures)
  spindle_without_cuda("no GPU is found (SPINDLE_CUDA_ARCHITECTURES is native)")
  return()
endif()

set(gencode_sm80 "")
set(gencode_sm90 "")
foreach(arch ${architectures})
  if(arch STREQUAL 90a)
    list(APPEND gencode_sm90 -gencode arch=compute_${arch},code=sm_${arch})
  else()
    list(APPEND gencode_sm80 -gencode arch=compute_${arch},code=sm_${arch})
  endif()
endforeach()
set(ptx "")
if(arch MATCHES "^[0-9]+$" AND NOT SPINDLE_CUDA_ARCHITECTURES STREQUAL native)
  set(ptx -gencode arch=compute_${arch},code=compute_${arch})
endif()
# Launchers are C in spirit: without these flags the library would need C++'s runtime.
set(flags -std=c++17 -O3 -Xfatbin=-compress-all -Xcompiler=-fPIC,-fvisibility=hidden,-fno-exceptions,-fno-rtti,-fno-threadsafe-statics)
if(CUDAToolkit_VERSION VERSION_GREATER_EQUAL 12.4)
  list(APPEND flags -split-compile=0) # one file has all instances of prefill: they are optimised side by side
endif()
if(SPINDLE_WERROR)
  list(APPEND flags --Werror all-warnings -Xcompiler=-Wall,-Wextra,-Werror)
endif()

# *_sm90*.cu are for Hopper alone (sm_90a code runs nowhere else), *_sm80*.cu for all others.
foreach(kind sm80 sm90)
  if(NOT gencode_${kind})
    string(TOUPPER ${kind} name)
    list(FILTER SPINDLE_KERNELS EXCLUDE REGEX "_${kind}[^/]*$")
    list(APPEND flags -DSPINDLE__WITHOUT_${name})
  endif()
endforeach()

foreach(source ${SPINDLE_KERNELS})
  get_filename_component(name ${source} NAME_WE)
  set(targets ${gencode_sm80} ${gencode_sm90} ${ptx})
  if(name MATCHES "_sm90")
    set(targets ${gencode_sm90})
  elseif(name MATCHES "_sm80")
    set(targets ${gencode_sm80} ${ptx})
  endif()
  set(object ${PROJECT_BINARY_DIR}/kernels/${name}.o)
  add_custom_command(
    OUTPUT ${object}
    COMMAND ${CUDAToolkit_NVCC_EXECUTABLE} ${flags} ${targets} -I${PROJECT_SOURCE_DIR}/kernels -I${PROJECT_SOURCE_DIR}/include
            -MD -MF ${object}.d -c ${source} -o ${object}
    DEPENDS ${source} DEPFILE ${object}.d COMMENT "Building CUDA object ${name}.o" VERBATIM)
  set_source_files_properties(${object} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
  list(APPEND SPINDLE_CUDA_OBJECTS ${object})
endforeach()
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/kernels)
add_custom_target(spindle_cuda_kernels DEPENDS ${SPINDLE_CUDA_OBJECTS})

file(GLOB sources CONFIGURE_DEPENDS host/cuda/*.c)
spindle_host_objects(spindle_cuda_host ${sources})
target_include_directories(spindle_cuda_host SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
target_compile_definitions(spindle_backends PRIVATE SPINDLE__HAS_CUDA)
list(APPEND SPINDLE_CUDA_OBJECTS $<TARGET_OBJECTS:spindle_cuda_host>)
set(SPINDLE_CUDA_RUNTIME CUDA::cudart_static)
set(SPINDLE_CUDA_PC_LIBS "-L${CUDAToolkit_LIBRARY_DIR} -lcudart_static -lpthread -ldl -lrt ")
set(SPINDLE_HAS_CUDA 1)
list(JOIN architectures " " text)
message(STATUS "Spindle: CUDA ${CUDAToolkit_VERSION}, kernels for ${text}")
