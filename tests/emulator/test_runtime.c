/* The CUDA runtime of the emulator, from C: order of streams and events, what late streams owe to the host, capture and replay.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda.h"
#include "cuda_runtime_api.h"
#include "emulator.h"

static int failures;

static void expect(int condition, const char *what) {
  if (!condition) printf("FAIL %s\n", what);
  failures += !condition;
}
#define OK(call) expect((call) == cudaSuccess, #call)

static void late_streams(int late) {
  emulator_options options = {0};
  options.streams = late ? EMULATOR_LATE : EMULATOR_EAGER;
  emulator_configure(&options);
}

static int *device_ints(int count) {
  int *p = NULL;
  OK(cudaMalloc((void **)&p, (size_t)count * sizeof *p));
  OK(cudaMemset(p, 0, (size_t)count * sizeof *p));
  return p;
}

static int read_int(const int *device) {
  int value = -1;
  OK(cudaMemcpy(&value, device, sizeof value, cudaMemcpyDeviceToHost));
  return value;
}

static void count_call(void *counter) { ++*(int *)counter; }

/* Pageable memory is staged when the call returns, pinned memory is read when the copy runs. */
static void test_copies(void) {
  cudaStream_t stream;
  int *device = device_ints(2), pageable = 5, *pinned = NULL;
  OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  OK(cudaMallocHost((void **)&pinned, sizeof *pinned));
  *pinned = 6;
  OK(cudaMemcpyAsync(device, &pageable, sizeof pageable, cudaMemcpyHostToDevice, stream));
  OK(cudaMemcpyAsync(device + 1, pinned, sizeof *pinned, cudaMemcpyHostToDevice, stream));
  pageable = 50;
  *pinned = 60;
  OK(cudaStreamSynchronize(stream));
  expect(read_int(device) == 5, "pageable memory is staged");
  expect(read_int(device + 1) == 60, "pinned memory is read late");
  expect(cudaMemcpyAsync(device, device + 1, 8, cudaMemcpyDeviceToDevice, stream) == cudaErrorInvalidValue, "copy past the end");
  expect(cudaGetLastError() == cudaErrorInvalidValue && cudaGetLastError() == cudaSuccess, "last error, once");
  OK(cudaFreeHost(pinned));
  OK(cudaFree(device));
  OK(cudaStreamDestroy(stream));
}

static void test_order(void) {
  cudaStream_t first, second;
  cudaEvent_t event;
  int *device = device_ints(1), calls = 0;
  OK(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking));
  OK(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
  OK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  OK(cudaMemsetAsync(device, 1, sizeof *device, first));
  OK(cudaLaunchHostFunc(first, count_call, &calls));
  OK(cudaEventRecord(event, first));
  OK(cudaLaunchHostFunc(first, count_call, &calls));
  OK(cudaStreamWaitEvent(second, event, 0));
  OK(cudaMemsetAsync(device, 2, sizeof *device, second));
  expect(calls == 0 && cudaEventQuery(event) == cudaErrorNotReady, "nothing runs before somebody waits");
  OK(cudaStreamSynchronize(second));
  expect(calls == 1, "waits for the event, not for what follows it");
  expect(read_int(device) == 0x02020202 && calls == 1,
         "the other stream's work came first; null waits for no independent stream");
  OK(cudaDeviceSynchronize());
  expect(calls == 2, "all streams");
  OK(cudaEventDestroy(event));
  OK(cudaStreamDestroy(first));
  OK(cudaStreamDestroy(second));
  OK(cudaFree(device));
}

/* Two streams in one capture; the graph runs with what memory holds at each replay. */
static void test_graph(void) {
  cudaStream_t stream, side;
  cudaEvent_t fork, join;
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  cudaStreamCaptureStatus capturing;
  int *device = device_ints(2), calls = 0;
  OK(cudaStreamCreate(&stream));
  OK(cudaStreamCreate(&side));
  OK(cudaEventCreate(&fork));
  OK(cudaEventCreate(&join));
  OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  OK(cudaLaunchHostFunc(stream, count_call, &calls));
  OK(cudaEventRecord(fork, stream));
  OK(cudaStreamWaitEvent(side, fork, 0));
  OK(cudaStreamIsCapturing(side, &capturing));
  expect(capturing == cudaStreamCaptureStatusActive, "the side stream has joined");
  OK(cudaMemcpyAsync(device + 1, device, sizeof *device, cudaMemcpyDeviceToDevice, side));
  OK(cudaEventRecord(join, side));
  OK(cudaStreamWaitEvent(stream, join, 0));
  void *refused = NULL;
  expect(cudaMalloc(&refused, 4) == cudaErrorStreamCaptureUnsupported, "no allocation under capture");
  expect(cudaStreamSynchronize(stream) == cudaErrorStreamCaptureUnsupported, "no waiting under capture");
  OK(cudaStreamEndCapture(stream, &graph));
  OK(cudaGraphInstantiate(&exec, graph, 0));
  OK(cudaGraphDestroy(graph));
  expect(calls == 0, "capture runs nothing");
  for (int value = 7; value < 9; ++value) {
    OK(cudaMemcpy(device, &value, sizeof value, cudaMemcpyHostToDevice));
    OK(cudaGraphLaunch(exec, stream));
    OK(cudaStreamSynchronize(stream));
    expect(read_int(device + 1) == value, "replay reads memory anew");
  }
  expect(calls == 2, "two replays");
  OK(cudaGraphExecDestroy(exec));
  OK(cudaEventDestroy(fork));
  OK(cudaEventDestroy(join));
  OK(cudaStreamDestroy(stream));
  OK(cudaStreamDestroy(side));
  OK(cudaFree(device));
}

static void test_devices(void) {
  int count = 0, value = 0;
  cudaDeviceProp properties;
  cudaPointerAttributes attributes;
  int *device = device_ints(1);
  OK(cudaGetDeviceCount(&count));
  expect(count == 1 && cudaSetDevice(1) == cudaErrorInvalidDevice && cudaGetLastError() == cudaErrorInvalidDevice, "one device");
  OK(cudaPointerGetAttributes(&attributes, device));
  expect(attributes.type == cudaMemoryTypeDevice && attributes.device == 0, "device memory");
  OK(cudaPointerGetAttributes(&attributes, &count));
  expect(attributes.type == cudaMemoryTypeUnregistered, "host memory");
  OK(cudaFree(device));
  setenv("SPINDLE_EMULATED_ARCH", "90", 1);
  OK(cudaGetDeviceProperties(&properties, 0));
  OK(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
  expect(properties.major == 9 && properties.minor == 0 && value == 227 * 1024, "an emulated H100");
  setenv("SPINDLE_EMULATED_ARCH", "80", 1);
  expect(cudaFuncSetAttribute("f", cudaFuncAttributeMaxDynamicSharedMemorySize, 164 * 1024) == cudaErrorInvalidValue,
         "more shared memory than an A100 gives a block");
  (void)cudaGetLastError();
}

/* Tensor maps are encoded by a function of the driver, which is asked for by name and by the version that brought it. */
static void test_driver(void) {
  typedef CUresult (*encode_t)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *, const cuuint64_t *,
                               const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                               CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
  const cuuint64_t extents[2] = {64, 4}, strides[1] = {128};
  const cuuint32_t box[2] = {64, 4}, steps[2] = {1, 1}, wide[2] = {1, 2};
  cudaDriverEntryPointQueryResult result;
  CUtensorMap map;
  encode_t encode = NULL;
  void *entry = NULL;
  int *device = device_ints(128);
  OK(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &result));
  expect(result == cudaDriverEntryPointSuccess && entry, "the encoder");
  memcpy(&encode, &entry, sizeof encode);
  expect(encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, device, extents, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS,
         "a tensor map");
  expect(encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, device, extents, strides, box, wide, CU_TENSOR_MAP_INTERLEAVE_NONE,
                CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_NONE,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_ERROR_INVALID_VALUE,
         "every second row is not modelled");
  OK(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 11080, cudaEnableDefault, &result));
  expect(result == cudaDriverEntryPointVersionNotSufficent && !entry, "the encoder before CUDA 12");
  OK(cudaGetDriverEntryPoint("cuNothing", &entry, cudaEnableDefault, &result));
  expect(result == cudaDriverEntryPointSymbolNotFound && !entry, "no such function");
  OK(cudaFree(device));
}

int main(void) {
  late_streams(1);
  test_copies();
  test_order();
  for (int late = 0; late < 2; ++late) {
    late_streams(late);
    test_graph();
  }
  test_devices();
  test_driver();
  printf(failures ? "%d failed\n" : "all passed\n", failures);
  return failures != 0;
}
