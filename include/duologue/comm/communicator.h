// Communicator: sums of f32 over the ranks, queued and joined. World: who the ranks are; it owns MPI.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "duologue/core/tensor.h"

namespace duologue {

/// What the launcher and `main` know of this process before MPI has begun.
struct Launch {
    int rank = 0;                                   ///< for messages until MPI has begun
    const std::atomic<bool>* terminated = nullptr;  ///< becomes true at SIGTERM; outlives the World
    double start_seconds = 50.0;  ///< MPI has to have begun by then, or the process ends with status 6
};

/// The ranks of this job. Made once, in `main`, by the commands that train.
class World {
   public:
    /// Initialises MPI (a run without mpirun is a world of one).
    World(int* argc, char*** argv, const Launch& launch = {});
    /// Waits for the other ranks and finalises MPI. Every Communicator of it is gone by then.
    ~World();
    World(const World&) = delete;
    World& operator=(const World&) = delete;
    World(World&&) = delete;
    World& operator=(World&&) = delete;

    [[nodiscard]] int rank() const { return rank_; }
    [[nodiscard]] int size() const { return size_; }
    [[nodiscard]] int local_rank() const { return local_rank_; }  ///< among the ranks of this host
    [[nodiscard]] int local_size() const { return local_size_; }
    [[nodiscard]] const std::string& host() const { return host_; }

    /// Host-side agreement for set-up and rare events; every rank calls it, with deadline. One string per rank, by
    /// rank.
    [[nodiscard]] std::vector<std::string> gather_all(const std::string& mine, const char* what = kAgreement);
    /// Rank 0's string on every rank.
    [[nodiscard]] std::string broadcast(const std::string& mine, const char* what = kAgreement);

    /// A job in which a rank freezes, or a host loses its network, is gone after this time, with status 6 and one line
    /// that names ranks, hosts, step and operation. The ranks wait for another for this time less the ten seconds (half
    /// the time where it is short) that the end itself may take; a rank that says that it is busy() is waited for. Set
    /// before the first Communicator is made.
    void set_timeout_seconds(double seconds);

    /// For work that this rank does alone and that may take long, such as writing a checkpoint: as long as the token
    /// lives, the other ranks are told that this one is alive and doing `what` (a literal), and go on waiting for it.
    [[nodiscard]] std::shared_ptr<void> busy(const char* what);

    /// For messages: the last global step that is done.
    void set_step(std::int64_t step);

    /// Says in one line why and where, and ends every rank of the job with this exit status. Of several ranks that fail
    /// at once, the first speaks for all. Any thread; does not return.
    [[noreturn]] void end(int exit_status, const std::string& message);

    struct Mpi;  // what only src/comm may see
    [[nodiscard]] Mpi& mpi() { return *mpi_; }

   private:
    void await_turn(int exit_status, const std::string& text);

    static constexpr const char* kAgreement = "an agreement of the ranks";

    int rank_ = 0;
    int size_ = 1;
    int local_rank_ = 0;
    int local_size_ = 1;
    std::string host_;
    std::atomic<bool> ending_ = false;
    std::unique_ptr<Mpi> mpi_;
};

/// Collectives over tensors. Operations are queued and run in the order of the calls, which is the same on every rank;
/// the memory belongs to the communicator until join(). Counts come from the tensors, which are contiguous. Sums are of
/// f32, other operations move any type. `what` names an operation in error messages; it is a literal.
class Communicator {
   public:
    virtual ~Communicator() = default;
    [[nodiscard]] virtual int rank() const = 0;
    [[nodiscard]] virtual int size() const = 0;

    /// x = sum of x over the ranks, the same bits on every rank.
    virtual void all_reduce_sum(const Tensor& x, const char* what) = 0;
    /// `piece`, of elements(x)/size: this rank's part of the sum of x. It may be that part of x itself.
    virtual void reduce_scatter_sum(const Tensor& piece, const Tensor& x, const char* what) = 0;
    /// x, of elements(piece)*size: every rank's piece, by rank.
    virtual void all_gather(const Tensor& x, const Tensor& piece, const char* what) = 0;
    /// x = root's x.
    virtual void broadcast(const Tensor& x, int root, const char* what) = 0;
    virtual void barrier() = 0;
    /// What follows on the tensors' device comes after everything queued: on a GPU the compute stream waits, else this
    /// thread. Error kCommunication where another rank did not come in time.
    virtual void join() = 0;
    /// Where join() does not wait itself, a failure is known later: the same Error. Called when the device has been
    /// waited for, before what was summed is used on the host.
    virtual void confirm() = 0;
};

[[nodiscard]] std::unique_ptr<Communicator> make_single_communicator();
/// Host memory over MPI; collectives run on a thread of their own, so that computing goes on.
[[nodiscard]] std::unique_ptr<Communicator> make_mpi_communicator(World& world);

}  // namespace duologue
