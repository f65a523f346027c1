// NCCL's functions over MPI, on emulated streams. Linked before the library, they are called.
#include <mpi.h>
#include <nccl.h>

#include <cstddef>
#include <cstring>
#include <vector>

#include "emulated_gpu/streams.h"

namespace {

MPI_Comm ranks = MPI_COMM_NULL;

MPI_Datatype type_of(ncclDataType_t type) {
    if (type == ncclFloat32) return MPI_FLOAT;
    if (type == ncclInt32) return MPI_INT;
    return type == ncclBfloat16 ? MPI_UINT16_T : MPI_BYTE;
}

std::size_t bytes_of(ncclDataType_t type) {
    int bytes = 0;
    MPI_Type_size(type_of(type), &bytes);
    return static_cast<std::size_t>(bytes);
}

ncclResult_t queue(cudaStream_t stream, std::function<void()> run) {
    emulated_gpu::queue_work(stream, std::move(run));
    return ncclInProgress;
}

}  // namespace

extern "C" {

const char* ncclGetErrorString(ncclResult_t) { return "an emulated error"; }
const char* ncclGetLastError(ncclComm_t) { return "emulated"; }
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
    std::memset(id->internal, 7, sizeof id->internal);
    return ncclSuccess;
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t* communicator, int, ncclUniqueId, int, ncclConfig_t*) {
    if (ranks == MPI_COMM_NULL) MPI_Comm_dup(MPI_COMM_WORLD, &ranks);
    *communicator = reinterpret_cast<ncclComm_t>(&ranks);
    return ncclInProgress;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t* state) {
    *state = ncclSuccess;
    return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t) { return ncclSuccess; }
ncclResult_t ncclCommFinalize(ncclComm_t) { return ncclInProgress; }
ncclResult_t ncclCommDestroy(ncclComm_t) { return ncclSuccess; }

ncclResult_t ncclAllReduce(const void*, void* x, size_t count, ncclDataType_t type, ncclRedOp_t, ncclComm_t,
                           cudaStream_t stream) {
    return queue(stream,
                 [=] { MPI_Allreduce(MPI_IN_PLACE, x, static_cast<int>(count), type_of(type), MPI_SUM, ranks); });
}
ncclResult_t ncclReduceScatter(const void* x, void* piece, size_t count, ncclDataType_t type, ncclRedOp_t, ncclComm_t,
                               cudaStream_t stream) {
    return queue(stream, [=] {
        std::vector<std::byte> sums(count * bytes_of(type));
        MPI_Reduce_scatter_block(x, sums.data(), static_cast<int>(count), type_of(type), MPI_SUM, ranks);
        std::memcpy(piece, sums.data(), sums.size());
    });
}
ncclResult_t ncclAllGather(const void* piece, void* x, size_t count, ncclDataType_t type, ncclComm_t,
                           cudaStream_t stream) {
    return queue(stream, [=] {
        const std::size_t bytes = count * bytes_of(type);
        const std::vector<std::byte> own(static_cast<const std::byte*>(piece),
                                         static_cast<const std::byte*>(piece) + bytes);
        MPI_Allgather(own.data(), static_cast<int>(bytes), MPI_BYTE, x, static_cast<int>(bytes), MPI_BYTE, ranks);
    });
}
ncclResult_t ncclBroadcast(const void*, void* x, size_t count, ncclDataType_t type, int root, ncclComm_t,
                           cudaStream_t stream) {
    return queue(stream, [=] { MPI_Bcast(x, static_cast<int>(count), type_of(type), root, ranks); });
}

}  // extern "C"
