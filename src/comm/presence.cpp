// Signs are small messages from a thread that lives as long as the work; they are received by whoever waits.
#include "comm/presence.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <string_view>
#include <thread>

#include "comm/channel.h"

namespace duologue {

namespace {
constexpr int kSignTag = 2;
constexpr int kFailureTag = 3;
constexpr auto kDeliveryTime = std::chrono::milliseconds(50);  // the sender does not use MPI any more

}  // namespace

/// One stretch of work. The first sign comes after one interval: most work is done before.
class Presence::Busy {
   public:
    Busy(Presence& presence, const char* what) : presence_(presence), thread_([this, what] { run(what); }) {}
    ~Busy() {
        {
            const std::lock_guard lock(mutex_);
            done_ = true;
        }
        changed_.notify_all();
        thread_.join();
    }
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;
    Busy(Busy&&) = delete;
    Busy& operator=(Busy&&) = delete;

   private:
    void run(const char* what) {
        std::unique_lock lock(mutex_);
        while (!changed_.wait_for(lock, presence_.interval_, [this] { return done_; })) presence_.give_sign(what);
    }

    Presence& presence_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool done_ = false;
    std::thread thread_;  // last: it uses the above
};

Presence::Presence(MPI_Comm communicator) : communicator_(communicator) {
    int ranks = 0;
    check(MPI_Comm_rank(communicator_, &rank_), "asking for the rank");
    check(MPI_Comm_size(communicator_, &ranks), "asking for the number of ranks");
    given_.resize(static_cast<std::size_t>(ranks));
    heard_.resize(static_cast<std::size_t>(ranks));
}

Presence::~Presence() = default;

std::shared_ptr<void> Presence::busy(const char* what) {
    if (given_.size() == 1) return nullptr;  // nobody waits
    return std::make_shared<Busy>(*this, what);
}

// A failure here is not told: whoever waits for this rank will tell it.
void Presence::give_sign(const char* what) {
    const std::lock_guard lock(mutex_);
    for (int peer = 0; peer < static_cast<int>(given_.size()); ++peer) {
        Sign& sign = given_[static_cast<std::size_t>(peer)];
        int free = 1;
        if (sign.request != MPI_REQUEST_NULL) MPI_Test(&sign.request, &free, MPI_STATUS_IGNORE);
        if (peer == rank_ || free == 0) continue;
        sign.text = {};
        const std::string_view text(what);
        std::copy_n(text.begin(), std::min(text.size(), sign.text.size() - 1), sign.text.begin());
        MPI_Isend(sign.text.data(), static_cast<int>(sign.text.size()), MPI_CHAR, peer, kSignTag, communicator_,
                  &sign.request);
    }
}

void Presence::hear() {
    while (true) {
        int waiting = 0;
        MPI_Status status;
        check(MPI_Iprobe(MPI_ANY_SOURCE, kSignTag, communicator_, &waiting, &status), "a sign of life");
        if (waiting == 0) return;
        Text& text = heard_[static_cast<std::size_t>(status.MPI_SOURCE)];
        check(MPI_Recv(text.data(), static_cast<int>(text.size()), MPI_CHAR, status.MPI_SOURCE, kSignTag, communicator_,
                       MPI_STATUS_IGNORE),
              "a sign of life");
        latest_ = Clock::now();
    }
}

Presence::Clock::time_point Presence::latest_sign() {
    const std::lock_guard lock(mutex_);
    hear();
    return latest_;
}

std::string Presence::said(int peer) {
    const std::lock_guard lock(mutex_);
    hear();
    return heard_[static_cast<std::size_t>(peer)].data();
}

void Presence::announce_failure(const std::vector<int>& ranks) {
    const std::lock_guard lock(mutex_);
    for (const int peer : ranks) {
        MPI_Request request = MPI_REQUEST_NULL;
        if (MPI_Isend(nullptr, 0, MPI_BYTE, peer, kFailureTag, communicator_, &request) == MPI_SUCCESS)
            MPI_Request_free(&request);
    }
    int unused = 0;
    for (const auto end = Clock::now() + kDeliveryTime; Clock::now() < end;)
        MPI_Iprobe(MPI_ANY_SOURCE, kFailureTag, communicator_, &unused, MPI_STATUS_IGNORE);
}

// It is not received: what follows is the end.
void Presence::hear_failure() {
    const std::lock_guard lock(mutex_);
    int told = 0;
    MPI_Iprobe(MPI_ANY_SOURCE, kFailureTag, communicator_, &told, MPI_STATUS_IGNORE);
    if (told != 0) failure_is_told_ = true;
}

}  // namespace duologue
