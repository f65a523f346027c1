// The functions of the CUDA runtime and of NCCL that NcclCommunicator calls. Linked before the libraries, they are
// called.
#include "support/fake_gpu.h"

#include <cuda_runtime_api.h>
#include <mpi.h>
#include <nccl.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace duologue {

FakeGpu& fake_gpu() {
    static FakeGpu gpu;
    return gpu;
}

}  // namespace duologue

namespace {

using duologue::fake_gpu;

std::atomic<bool> failed = false;
std::atomic<bool> aborted = false;
MPI_Comm ranks = MPI_COMM_NULL;

struct FakeEvent {
    bool after_hang = false;
};
bool hanging = false;  // a collective that never ends has been queued

FakeEvent& of(cudaEvent_t event) { return *reinterpret_cast<FakeEvent*>(event); }
std::string name(cudaStream_t stream) { return stream == nullptr ? "compute" : "nccl"; }
void log(const std::string& call) { fake_gpu().calls.push_back(call); }

MPI_Datatype type_of(ncclDataType_t type) {
    if (type == ncclFloat32) return MPI_FLOAT;
    return type == ncclBfloat16 ? MPI_UINT16_T : MPI_BYTE;
}

// True where the collective is to be done for real.
bool takes(const char* what, cudaStream_t stream) {
    log(std::string(what) + " on " + name(stream));
    if (fake_gpu().hangs) hanging = true;
    if (fake_gpu().fails_later) failed = true;
    return !hanging && !failed;
}

}  // namespace

extern "C" {

cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "a fake error"; }
const char* cudaGetErrorName(cudaError_t) { return "fake"; }
cudaError_t cudaMalloc(void** memory, size_t bytes) {
    *memory = std::malloc(bytes);
    return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
    std::free(memory);
    return cudaSuccess;
}
cudaError_t cudaMemset(void* memory, int value, size_t bytes) {
    std::memset(memory, value, bytes);
    return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned int, int priority) {
    log("stream of priority " + std::to_string(priority));
    *stream = reinterpret_cast<cudaStream_t>(new int(priority));
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    delete reinterpret_cast<int*>(stream);
    return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
    *status = fake_gpu().capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t, unsigned int) {
    log(name(stream) + " waits");
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) {
    *event = reinterpret_cast<cudaEvent_t>(new FakeEvent);
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete &of(event);
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    log("record on " + name(stream));
    of(event).after_hang = hanging;
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
    return of(event).after_hang && !aborted ? cudaErrorNotReady : cudaSuccess;
}

const char* ncclGetErrorString(ncclResult_t) { return "a fake NCCL error"; }
const char* ncclGetLastError(ncclComm_t) { return "as the test asked"; }
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
    std::memset(id->internal, 7, sizeof id->internal);
    return ncclSuccess;
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t* communicator, int, ncclUniqueId id, int, ncclConfig_t* config) {
    if (config->blocking != 0) return ncclInvalidUsage;
    for (const char byte : id.internal) {
        if (byte != 7) return ncclInvalidArgument;
    }
    if (ranks == MPI_COMM_NULL) MPI_Comm_dup(MPI_COMM_WORLD, &ranks);
    failed = false;
    aborted = false;
    hanging = false;
    *communicator = reinterpret_cast<ncclComm_t>(&ranks);
    return ncclInProgress;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t* state) {
    *state = fake_gpu().never_connects ? ncclInProgress : failed ? ncclRemoteError : ncclSuccess;
    return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t) {
    aborted = true;
    ++fake_gpu().aborted;
    return ncclSuccess;
}
ncclResult_t ncclCommFinalize(ncclComm_t) {
    ++fake_gpu().finalized;
    return ncclInProgress;
}
ncclResult_t ncclCommDestroy(ncclComm_t) { return ncclSuccess; }

ncclResult_t ncclAllReduce(const void*, void* x, size_t count, ncclDataType_t type, ncclRedOp_t, ncclComm_t,
                           cudaStream_t stream) {
    if (takes("all-reduce", stream)) {
        MPI_Allreduce(MPI_IN_PLACE, x, static_cast<int>(count), type_of(type), MPI_SUM, ranks);
    }
    return ncclInProgress;
}
ncclResult_t ncclReduceScatter(const void* x, void* piece, size_t count, ncclDataType_t type, ncclRedOp_t, ncclComm_t,
                               cudaStream_t stream) {
    if (!takes("reduce-scatter", stream)) return ncclInProgress;
    std::vector<float> sums(count);
    MPI_Reduce_scatter_block(x, sums.data(), static_cast<int>(count), type_of(type), MPI_SUM, ranks);
    std::memcpy(piece, sums.data(), count * sizeof(float));
    return ncclInProgress;
}
ncclResult_t ncclAllGather(const void* piece, void* x, size_t count, ncclDataType_t type, ncclComm_t,
                           cudaStream_t stream) {
    if (!takes("all-gather", stream)) return ncclInProgress;
    int rank = 0;
    int bytes = 0;
    MPI_Comm_rank(ranks, &rank);
    MPI_Type_size(type_of(type), &bytes);
    char* own = static_cast<char*>(x) + static_cast<size_t>(rank) * count * static_cast<size_t>(bytes);
    if (own != piece) std::memcpy(own, piece, count * static_cast<size_t>(bytes));
    MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, x, static_cast<int>(count), type_of(type), ranks);
    return ncclInProgress;
}
ncclResult_t ncclBroadcast(const void*, void* x, size_t count, ncclDataType_t type, int root, ncclComm_t,
                           cudaStream_t stream) {
    if (takes("broadcast", stream)) MPI_Bcast(x, static_cast<int>(count), type_of(type), root, ranks);
    return ncclInProgress;
}

}  // extern "C"
