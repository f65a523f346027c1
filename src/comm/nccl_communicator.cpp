// Sums over device memory by NCCL, on a stream beside the compute stream, watched by a thread.
#include <cuda_runtime_api.h>
#include <nccl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "comm/last_resort.h"
#include "comm/nccl_entry.h"
#include "comm/operands.h"
#include "comm/operation_watch.h"
#include "comm/roll_call.h"
#include "comm/world_mpi.h"
#include "duologue/core/error.h"

namespace duologue::nccl {

namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kWatchInterval = std::chrono::milliseconds(20);
constexpr auto kSettleInterval = std::chrono::microseconds(20);
constexpr double kNoticeAfterShare = 0.25;  // of the deadline: time enough for the notices of all to arrive
constexpr double kAbortSeconds = 2.0;
constexpr int kSharedDeviceCtas = 2;  // ranks that share a GPU spin on few of its multiprocessors

void check(cudaError_t status, const char* what) {
    require(status == cudaSuccess, ErrorCode::kDevice, "CUDA failed in {}: {} ({})", what, cudaGetErrorString(status),
            cudaGetErrorName(status));
}

[[noreturn]] void fail_with(ncclResult_t status, ncclComm_t communicator, const char* what) {
    fail(ErrorCode::kCommunication, "NCCL failed in {}: {} ({})", what, ncclGetErrorString(status),
         ncclGetLastError(communicator));
}

void set_unless_set(const char* name, const std::string& value) {
    ::setenv(name, value.c_str(), 0);  // NOLINT(concurrency-mt-unsafe): before NCCL has threads
}

// NCCL refuses two ranks on one GPU where both are of one host (init.cc compares host hash and bus), so that each rank
// is given a host of its own by name. Hosts are connected by sockets; what only connects GPUs of a host is turned off.
void make_every_rank_a_host(const World& world) {
    set_unless_set("NCCL_HOSTID", fmt::format("{}-{}", world.host(), world.rank()));
    set_unless_set("NCCL_NET", "Socket");
    set_unless_set("NCCL_IB_DISABLE", "1");
    set_unless_set("NCCL_MNNVL_ENABLE", "0");
    set_unless_set("NCCL_RAS_ENABLE", "0");
    set_unless_set("NCCL_PROTO", "Simple");
    if (world.local_size() != world.size()) return;
    set_unless_set("NCCL_SOCKET_IFNAME", "lo");
    set_unless_set("NCCL_SOCKET_FAMILY", "AF_INET");
}

struct StreamDeleter {
    void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
};
struct EventDeleter {
    void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
};
using Stream = std::unique_ptr<std::remove_pointer_t<cudaStream_t>, StreamDeleter>;
using Event = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, EventDeleter>;

Stream make_urgent_stream(int device) {
    check(cudaSetDevice(device), "choosing the GPU");
    int least = 0;
    int greatest = 0;
    check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "asking for stream priorities");
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, greatest), "making NCCL's stream");
    return Stream(stream);
}

Event make_event() {
    cudaEvent_t event = nullptr;
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
    return Event(event);
}

struct DeviceDeleter {
    void operator()(void* memory) const { cudaFree(memory); }
};
using DeviceScalar = std::unique_ptr<void, DeviceDeleter>;

DeviceScalar make_scalar() {
    void* memory = nullptr;
    check(cudaMalloc(&memory, sizeof(float)), "making memory for barriers");
    check(cudaMemset(memory, 0, sizeof(float)), "making memory for barriers");
    return DeviceScalar(memory);
}

ncclDataType_t type_of(const Tensor& x) {
    switch (x.type) {
        case DataType::kF32:
            return ncclFloat32;
        case DataType::kBf16:
            return ncclBfloat16;
        case DataType::kI32:
            return ncclInt32;
        case DataType::kU8:
            return ncclUint8;
    }
    fail(ErrorCode::kInternal, "NCCL has no type for {}", name_of(x.type));
}

std::size_t count_of(const Tensor& x) { return static_cast<std::size_t>(x.elements()); }

class NcclCommunicator final : public Communicator {
   public:
    NcclCommunicator(World& world, const NcclOptions& options);
    ~NcclCommunicator() override;
    NcclCommunicator(const NcclCommunicator&) = delete;
    NcclCommunicator& operator=(const NcclCommunicator&) = delete;
    NcclCommunicator(NcclCommunicator&&) = delete;
    NcclCommunicator& operator=(NcclCommunicator&&) = delete;

    [[nodiscard]] int rank() const override { return world_.rank(); }
    [[nodiscard]] int size() const override { return world_.size(); }
    void all_reduce_sum(const Tensor& x, const char* what) override;
    void reduce_scatter_sum(const Tensor& piece, const Tensor& x, const char* what) override;
    void all_gather(const Tensor& x, const Tensor& piece, const char* what) override;
    void broadcast(const Tensor& x, int root, const char* what) override;
    void barrier() override;
    void join() override;
    void confirm() override;

   private:
    void connect(const NcclOptions& options);
    /// Waits until NCCL has taken what it was given: its calls return before.
    void settle(ncclResult_t status, const char* what);
    /// Queues what `launch` queues on stream_, after what is on the compute stream.
    template <class Launch>
    void run(const char* what, const Launch& launch);
    [[nodiscard]] bool capturing() const;
    void watch(const char* what);

    void run_watch();
    void retire();
    [[nodiscard]] std::optional<Error> problem();
    [[noreturn]] void end_job(const Error& error);

    World& world_;
    Situation& situation_;
    int device_;
    cudaStream_t compute_;
    Stream stream_;
    Event fork_;
    Event joined_;
    DeviceScalar scalar_;   // what a barrier sums
    bool to_join_ = false;  // something is on stream_ that the compute stream does not wait for yet
    ncclComm_t communicator_ = nullptr;
    std::timed_mutex in_use_;  // of communicator_, by the thread that queues

    RollCall roll_call_;  // of the watching thread
    std::int64_t told_ = 0;
    std::mutex mutex_;  // of all below
    std::condition_variable changed_;
    OperationWatch watch_;
    std::deque<Event> running_;  // one per operation of watch_
    std::vector<Event> spare_;
    std::optional<Error> failure_;
    bool ending_ = false;
    std::thread thread_;  // last: it uses the above
};

NcclCommunicator::NcclCommunicator(World& world, const NcclOptions& options)
    : world_(world),
      situation_(world.mpi().situation),
      device_(options.compute.device),
      compute_(static_cast<cudaStream_t>(options.compute.stream)),
      stream_(make_urgent_stream(device_)),
      fork_(make_event()),
      joined_(make_event()),
      scalar_(make_scalar()),
      roll_call_(world.mpi().channel.duplicate(), situation_) {
    connect(options);
    thread_ = std::thread([this] { run_watch(); });
}

void NcclCommunicator::connect(const NcclOptions& options) {
    constexpr const char* kWhat = "connecting the ranks' GPUs";
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    if (options.ranks_per_device == RanksPerDevice::kSeveral) {
        make_every_rank_a_host(world_);
        config.maxCTAs = kSharedDeviceCtas;
    }
    ncclUniqueId id{};
    if (rank() == 0) settle(ncclGetUniqueId(&id), "making NCCL's identity");
    const std::string text = world_.broadcast({id.internal, sizeof id.internal});
    std::memcpy(id.internal, text.data(), sizeof id.internal);
    const ncclResult_t status = ncclCommInitRankConfig(&communicator_, size(), id, rank(), &config);
    try {
        settle(status, kWhat);
    } catch (...) {
        const LastResort guard({kAbortSeconds, static_cast<int>(ErrorCode::kCommunication), "NCCL does not end"});
        if (communicator_ != nullptr) ncclCommAbort(communicator_);
        throw;
    }
}

NcclCommunicator::~NcclCommunicator() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
    const bool failed = std::uncaught_exceptions() > 0;
    const LastResort guard({failed ? kAbortSeconds : situation_.timeout_seconds,
                            static_cast<int>(ErrorCode::kCommunication), "NCCL does not end its work"});
    if (failed) {
        ncclCommAbort(communicator_);  // what still runs waits for ranks that may not come
        return;
    }
    ncclResult_t state = ncclCommFinalize(communicator_);
    while (state == ncclInProgress) {
        std::this_thread::sleep_for(kSettleInterval);
        if (ncclCommGetAsyncError(communicator_, &state) != ncclSuccess) break;
    }
    ncclCommDestroy(communicator_);
}

void NcclCommunicator::settle(ncclResult_t status, const char* what) {
    const Clock::time_point begin = Clock::now();
    while (status == ncclInProgress) {
        const ncclResult_t asked = ncclCommGetAsyncError(communicator_, &status);
        if (asked != ncclSuccess) fail_with(asked, communicator_, what);
        if (status != ncclInProgress) break;
        const Clock::time_point from = std::max(begin, situation_.presence.latest_sign());
        const double waited = std::chrono::duration<double>(Clock::now() - from).count();
        require(waited <= situation_.timeout_seconds, ErrorCode::kCommunication,
                "{} by NCCL; NCCL_DEBUG=INFO says what it tries, distributed.timeout_seconds how long it may",
                situation_.describe_wait(what, waited));
        std::this_thread::sleep_for(kSettleInterval);
    }
    if (status != ncclSuccess) fail_with(status, communicator_, what);
}

bool NcclCommunicator::capturing() const {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    check(cudaStreamIsCapturing(compute_, &status), "asking whether a graph is captured");
    return status != cudaStreamCaptureStatusNone;
}

template <class Launch>
void NcclCommunicator::run(const char* what, const Launch& launch) {
    const std::lock_guard in_use(in_use_);
    confirm();
    check(cudaEventRecord(fork_.get(), compute_), what);
    check(cudaStreamWaitEvent(stream_.get(), fork_.get()), what);
    settle(launch(), what);
    to_join_ = true;
    if (!capturing()) watch(what);
}

void NcclCommunicator::watch(const char* what) {
    const std::lock_guard lock(mutex_);
    if (spare_.empty()) spare_.push_back(make_event());
    check(cudaEventRecord(spare_.back().get(), stream_.get()), what);
    running_.push_back(std::move(spare_.back()));
    spare_.pop_back();
    watch_.queued(what, Clock::now());
    changed_.notify_all();
}

void NcclCommunicator::join() {
    confirm();
    if (!to_join_) return;
    check(cudaEventRecord(joined_.get(), stream_.get()), "joining NCCL's stream");
    check(cudaStreamWaitEvent(compute_, joined_.get()), "joining NCCL's stream");
    to_join_ = false;
}

void NcclCommunicator::confirm() {
    const std::lock_guard lock(mutex_);
    if (failure_) throw Error(*failure_);
}

void NcclCommunicator::run_watch() {
    cudaSetDevice(device_);
    std::unique_lock lock(mutex_);
    while (!ending_) {
        changed_.wait(lock, [this] { return ending_ || !watch_.empty(); });
        std::optional<Error> error;
        try {
            retire();
            error = problem();
        } catch (const Error& thrown) {
            error = thrown;
        }
        if (error) {
            failure_ = error;
            lock.unlock();
            end_job(*error);
        }
        changed_.wait_for(lock, kWatchInterval, [this] { return ending_; });
    }
}

void NcclCommunicator::retire() {
    while (!running_.empty()) {
        const cudaError_t status = cudaEventQuery(running_.front().get());
        if (status == cudaErrorNotReady) {
            cudaGetLastError();  // forgets it: not an error
            return;
        }
        check(status, "watching NCCL");
        spare_.push_back(std::move(running_.front()));
        running_.pop_front();
        watch_.ran(Clock::now());
    }
}

std::optional<Error> NcclCommunicator::problem() {
    ncclResult_t state = ncclSuccess;
    ncclCommGetAsyncError(communicator_, &state);
    if (watch_.empty()) return std::nullopt;
    const char* what = watch_.stalled(-1.0, {}, Clock::now())->what;
    if (state != ncclSuccess && state != ncclInProgress) {
        return Error(ErrorCode::kCommunication,
                     fmt::format("NCCL failed in {}: {} ({})", what, ncclGetErrorString(state),
                                 ncclGetLastError(communicator_)));
    }
    const Clock::time_point sign = situation_.presence.latest_sign();
    if (told_ != watch_.number() && watch_.stalled(kNoticeAfterShare * situation_.timeout_seconds, {}, Clock::now())) {
        told_ = watch_.number();
        roll_call_.tell(told_);
    }
    const auto stall = watch_.stalled(situation_.timeout_seconds, sign, Clock::now());
    if (!stall) return std::nullopt;
    return Error(
        ErrorCode::kCommunication,
        fmt::format("{}; late: {}; look at that process, or raise distributed.timeout_seconds",
                    situation_.describe_wait(stall->what, stall->waited_seconds), roll_call_.late(stall->number)));
}

// Process and driver would not end kernels that spin until a peer comes; NCCL's abort does, also in graphs. It frees
// the communicator, so that the thread which calls NCCL must be out of it, and stay out: the lock is not given back.
void NcclCommunicator::end_job(const Error& error) {
    if (in_use_.try_lock_for(std::chrono::duration<double>(kAbortSeconds))) {
        const LastResort guard({kAbortSeconds, error.exit_status(), error.what() + situation_.where()});
        ncclCommAbort(communicator_);
    }
    world_.end(error.exit_status(), error.what());
}

void NcclCommunicator::all_reduce_sum(const Tensor& x, const char* what) {
    require_f32(x, what);
    run(what,
        [&] { return ncclAllReduce(x.data, x.data, count_of(x), ncclFloat32, ncclSum, communicator_, stream_.get()); });
}

void NcclCommunicator::reduce_scatter_sum(const Tensor& piece, const Tensor& x, const char* what) {
    require_f32(x, what);
    require_pieces(x, piece, size(), what);
    run(what, [&] {
        return ncclReduceScatter(x.data, piece.data, count_of(piece), ncclFloat32, ncclSum, communicator_,
                                 stream_.get());
    });
}

void NcclCommunicator::all_gather(const Tensor& x, const Tensor& piece, const char* what) {
    require_pieces(x, piece, size(), what);
    run(what,
        [&] { return ncclAllGather(piece.data, x.data, count_of(piece), type_of(x), communicator_, stream_.get()); });
}

void NcclCommunicator::broadcast(const Tensor& x, int root, const char* what) {
    require_contiguous(x, what);
    run(what,
        [&] { return ncclBroadcast(x.data, x.data, count_of(x), type_of(x), root, communicator_, stream_.get()); });
}

void NcclCommunicator::barrier() { all_reduce_sum(make_vector(scalar_.get(), DataType::kF32, 1), "a barrier"); }

}  // namespace

std::unique_ptr<Communicator> make_communicator(World& world, const NcclOptions& options) {
    return std::make_unique<NcclCommunicator>(world, options);
}

}  // namespace duologue::nccl
