// Sums over host memory by MPI, in the order queued, on a thread of their own while computing goes on.
#include <sys/prctl.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "comm/operands.h"
#include "comm/world_mpi.h"
#include "duologue/core/error.h"

namespace duologue {

namespace {

// Elements or bytes of one MPI call: counts are ints, and a deadline is for one call, so calls are kept short.
constexpr std::int64_t kChunkElements = std::int64_t{1} << 24;

// The kernel may prolong this thread's sleeps by so much; its default of 50 us is longer than the sleeps.
constexpr unsigned long kTimerSlackNanoseconds = 1000;

class MpiCommunicator final : public Communicator {
   public:
    explicit MpiCommunicator(World& world)
        : channel_(world.mpi().channel.duplicate(), world.mpi().situation), thread_([this] { run_queue(); }) {}
    ~MpiCommunicator() override;
    MpiCommunicator(const MpiCommunicator&) = delete;
    MpiCommunicator& operator=(const MpiCommunicator&) = delete;
    MpiCommunicator(MpiCommunicator&&) = delete;
    MpiCommunicator& operator=(MpiCommunicator&&) = delete;

    [[nodiscard]] int rank() const override { return channel_.rank(); }
    [[nodiscard]] int size() const override { return channel_.size(); }
    void all_reduce_sum(const Tensor& x, const char* what) override;
    void reduce_scatter_sum(const Tensor& piece, const Tensor& x, const char* what) override;
    void all_gather(const Tensor& x, const Tensor& piece, const char* what) override;
    void broadcast(const Tensor& x, int root, const char* what) override;
    void barrier() override;
    void join() override;
    void confirm() override {}  // join() has waited

   private:
    struct Operation {
        const char* what;
        std::function<void()> run;
    };
    void queue(const char* what, std::function<void()> run);
    void run_queue();
    void broadcast_now(std::byte* data, std::int64_t bytes, int root, const char* what);
    /// Runs `start(begin, count, request)` on every chunk of so many elements, one after the other.
    template <class Start>
    void run_in_chunks(std::int64_t elements, const char* what, const Start& start);

    Channel channel_;
    std::atomic<bool> abandoned_ = false;  // the communicator goes: nobody wants the rest of the queue
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Operation> queue_;  // the front is running; everything here belongs to mutex_
    std::exception_ptr error_;
    std::thread thread_;  // last: it uses all of the above
};

MpiCommunicator::~MpiCommunicator() {
    abandoned_ = true;
    {
        const std::lock_guard lock(mutex_);
        changed_.notify_all();
    }
    thread_.join();
}

void MpiCommunicator::queue(const char* what, std::function<void()> run) {
    const std::lock_guard lock(mutex_);
    if (error_) return;  // join() will tell
    queue_.push_back({.what = what, .run = std::move(run)});
    changed_.notify_all();
}

void MpiCommunicator::run_queue() {
    ::prctl(PR_SET_TIMERSLACK, kTimerSlackNanoseconds, 0, 0, 0);
    std::unique_lock lock(mutex_);
    while (true) {
        changed_.wait(lock, [this] { return abandoned_ || !queue_.empty(); });
        if (abandoned_) return;
        const Operation& operation = queue_.front();
        lock.unlock();
        std::exception_ptr error;
        try {
            operation.run();
        } catch (...) {
            error = std::current_exception();
        }
        lock.lock();
        queue_.pop_front();
        if (error) {
            error_ = error;
            queue_.clear();
        }
        changed_.notify_all();
    }
}

void MpiCommunicator::join() {
    constexpr auto kLook = std::chrono::milliseconds(100);
    std::unique_lock lock(mutex_);
    for (double waited = 0.0; !changed_.wait_for(lock, kLook, [this] { return queue_.empty(); }); waited += 0.1) {
        channel_.report_when_terminated(queue_.front().what, waited);
    }
    if (error_) std::rethrow_exception(error_);
}

template <class Start>
void MpiCommunicator::run_in_chunks(std::int64_t elements, const char* what, const Start& start) {
    for (std::int64_t begin = 0; begin < elements && !abandoned_; begin += kChunkElements) {
        MPI_Request request = MPI_REQUEST_NULL;
        check(start(begin, static_cast<int>(std::min(kChunkElements, elements - begin)), &request), what);
        channel_.wait(request, what, &abandoned_);
    }
}

void MpiCommunicator::all_reduce_sum(const Tensor& x, const char* what) {
    require_f32(x, what);
    queue(what, [this, x, what] {
        run_in_chunks(x.elements(), what, [&](std::int64_t begin, int count, MPI_Request* request) {
            return MPI_Iallreduce(MPI_IN_PLACE, x.as<float>() + begin, count, MPI_FLOAT, MPI_SUM,
                                  channel_.communicator(), request);
        });
    });
}

void MpiCommunicator::reduce_scatter_sum(const Tensor& piece, const Tensor& x, const char* what) {
    require_f32(x, what);
    require_pieces(x, piece, size(), what);
    queue(what, [this, piece, x, what] {
        for (int owner = 0; owner < size(); ++owner) {
            run_in_chunks(piece.elements(), what, [&](std::int64_t begin, int count, MPI_Request* request) {
                float* part = x.as<float>() + owner * piece.elements() + begin;
                float* sum = owner == rank() ? piece.as<float>() + begin : nullptr;
                return MPI_Ireduce(part == sum ? MPI_IN_PLACE : part, sum, count, MPI_FLOAT, MPI_SUM, owner,
                                   channel_.communicator(), request);
            });
        }
    });
}

void MpiCommunicator::all_gather(const Tensor& x, const Tensor& piece, const char* what) {
    require_pieces(x, piece, size(), what);
    queue(what, [this, x, piece, what] {
        const std::int64_t bytes = piece.bytes();
        std::byte* mine = x.as<std::byte>() + rank() * bytes;
        if (mine != piece.data) std::memmove(mine, piece.data, static_cast<std::size_t>(bytes));
        for (int owner = 0; owner < size(); ++owner)
            broadcast_now(x.as<std::byte>() + owner * bytes, bytes, owner, what);
    });
}

void MpiCommunicator::broadcast(const Tensor& x, int root, const char* what) {
    require_contiguous(x, what);
    queue(what, [this, x, root, what] { broadcast_now(x.as<std::byte>(), x.bytes(), root, what); });
}

void MpiCommunicator::broadcast_now(std::byte* data, std::int64_t bytes, int root, const char* what) {
    run_in_chunks(bytes, what, [&](std::int64_t begin, int count, MPI_Request* request) {
        return MPI_Ibcast(data + begin, count, MPI_BYTE, root, channel_.communicator(), request);
    });
}

void MpiCommunicator::barrier() {
    queue("a barrier", [this] {
        run_in_chunks(1, "a barrier", [&](std::int64_t /*begin*/, int /*count*/, MPI_Request* request) {
            return MPI_Ibarrier(channel_.communicator(), request);
        });
    });
}

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(World& world) { return std::make_unique<MpiCommunicator>(world); }

}  // namespace duologue
