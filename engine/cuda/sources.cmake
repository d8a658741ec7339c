# The CUDA backend of mf_engine, where MEDFUSION_CUDA is on. Kernels are compiled by nvcc as plain commands: the rest of
# the project stays C, whatever compiles and links it.
#   MEDFUSION_NVCC   nvcc, where it is neither on the PATH nor under /usr/local/cuda
#   CUDNN_ROOT       where cuDNN's headers lie when neither the toolkit nor the system has them (a Python package's
#                    nvidia/cudnn); without them the own kernels compute everything. The library is found when it runs.
#   CUBLASLT_ROOT    where cuBLASLt lies when the toolkit has none (a Python package's nvidia/cublas or nvidia/cu13)
find_program(MEDFUSION_NVCC nvcc HINTS ENV CUDA_PATH ENV CUDA_HOME PATHS /usr/local/cuda PATH_SUFFIXES bin REQUIRED)
get_filename_component(cuda_root ${MEDFUSION_NVCC} REALPATH)
get_filename_component(cuda_root ${cuda_root}/../.. ABSOLUTE)
set(cuda_hints HINTS ${cuda_root} ${cuda_root}/targets/x86_64-linux ${cuda_root}/targets/sbsa-linux)
find_path(CUDA_INCLUDE_DIR cuda_runtime_api.h ${cuda_hints} PATH_SUFFIXES include REQUIRED)
find_library(CUDART_LIBRARY cudart_static ${cuda_hints} PATH_SUFFIXES lib64 lib REQUIRED)
find_path(CUBLASLT_INCLUDE_DIR cublasLt.h HINTS ${CUBLASLT_ROOT} ${CUDA_INCLUDE_DIR} PATH_SUFFIXES include REQUIRED)
find_library(CUBLASLT_LIBRARY NAMES cublasLt libcublasLt.so.13 libcublasLt.so.12 HINTS ${CUBLASLT_ROOT}
  ${cuda_hints} PATH_SUFFIXES lib64 lib REQUIRED)
find_path(CUDNN_INCLUDE_DIR cudnn_graph.h HINTS ${CUDNN_ROOT} ${CUDA_INCLUDE_DIR} PATH_SUFFIXES include)
if(CUDNN_INCLUDE_DIR)
  set(dnn_sources cuda/dnn.c cuda/dnn_choose.c cuda/dnn_graph.c cuda/dnn_library.c)
  target_include_directories(mf_engine SYSTEM PRIVATE ${CUDNN_INCLUDE_DIR})
else()
  message(STATUS "no cuDNN 9: convolutions and attention are the own kernels'")
  set(dnn_sources cuda/dnn_absent.c)
endif()

# Machine code for A100, L4 and L40, H100 and H200; PTX for what comes after them.
set(nvcc_flags -std=c++17 -O3 -lineinfo -D_GNU_SOURCE -I${PROJECT_SOURCE_DIR} -Xcompiler -fPIC,-fstack-protector-strong
  -gencode arch=compute_80,code=[sm_80,compute_80] -gencode arch=compute_89,code=sm_89
  -gencode arch=compute_90a,code=sm_90a -gencode arch=compute_90,code=compute_90)
set(cuda_objects)
# Frames, masks and the head's gradient: the host's numbers, bit by bit, so no fused multiply-adds but those written.
set(exact_kernels frame head look mask resample)
foreach(kernel attention attention_mma convert elementwise ${exact_kernels} layout norm reduce sequence)
  set(exact)
  if(kernel IN_LIST exact_kernels)
    set(exact -fmad=false)
  endif()
  set(source ${CMAKE_CURRENT_SOURCE_DIR}/cuda/${kernel}.cu)
  set(object ${CMAKE_CURRENT_BINARY_DIR}/${kernel}.cu.o)
  add_custom_command(OUTPUT ${object}
    COMMAND ${MEDFUSION_NVCC} ${nvcc_flags} ${exact} -MD -MF ${object}.d -c ${source} -o ${object}
    DEPENDS ${source} DEPFILE ${object}.d COMMENT "nvcc ${kernel}.cu" VERBATIM)
  list(APPEND cuda_objects ${object})
endforeach()

target_sources(mf_engine PRIVATE ${cuda_objects} ${dnn_sources} cuda/attend.c cuda/backend.c cuda/conv.c cuda/device.c
  cuda/frames.c cuda/graph.c cuda/linear.c cuda/matmul.c cuda/pool.c)
target_compile_definitions(mf_engine PRIVATE MF_HAVE_CUDA)
target_include_directories(mf_engine SYSTEM PRIVATE ${CUDA_INCLUDE_DIR} ${CUBLASLT_INCLUDE_DIR})
target_link_libraries(mf_engine PRIVATE ${CUBLASLT_LIBRARY} ${CUDART_LIBRARY} stdc++ Threads::Threads ${CMAKE_DL_LIBS} rt)
