// Download, let the host's communicator work, upload.
#include "duologue/train/staged_communicator.h"

#include <cstddef>
#include <deque>
#include <utility>
#include <vector>

namespace duologue {

namespace {

class StagedCommunicator final : public Communicator {
   public:
    StagedCommunicator(Backend& backend, std::unique_ptr<Communicator> host)
        : backend_(backend), host_(std::move(host)) {}

    [[nodiscard]] int rank() const override { return host_->rank(); }
    [[nodiscard]] int size() const override { return host_->size(); }

    void all_reduce_sum(const Tensor& x, const char* what) override {
        host_->all_reduce_sum(staged(x, Content::kDownloaded), what);
        upload_at_join(x);
    }
    void reduce_scatter_sum(const Tensor& piece, const Tensor& x, const char* what) override {
        const Tensor all = staged(x, Content::kDownloaded);
        const Tensor own = all.reshaped(size(), piece.elements()).row_range(rank(), 1);
        host_->reduce_scatter_sum(own, all, what);
        to_upload_.push_back({.to = piece, .from = own});
    }
    void all_gather(const Tensor& x, const Tensor& piece, const char* what) override {
        const Tensor all = staged(x, Content::kAbsent);
        const Tensor own = all.reshaped(size(), piece.elements()).row_range(rank(), 1);
        backend_.download(own.data, piece);
        host_->all_gather(all, own, what);
        upload_at_join(x);
    }
    void broadcast(const Tensor& x, int root, const char* what) override {
        host_->broadcast(staged(x, rank() == root ? Content::kDownloaded : Content::kAbsent), root, what);
        upload_at_join(x);
    }
    void barrier() override { host_->barrier(); }
    void join() override;
    void confirm() override { host_->confirm(); }

   private:
    enum class Content : std::uint8_t { kDownloaded, kAbsent };
    struct Upload {
        Tensor to;
        Tensor from;
    };

    /// Host memory like `x`, of one row, which lives until join().
    Tensor staged(const Tensor& x, Content content);
    void upload_at_join(const Tensor& x) { to_upload_.push_back({.to = x, .from = last_}); }

    Backend& backend_;
    std::vector<Upload> to_upload_;
    std::deque<std::vector<std::byte>> memory_;  // one for each operation since the last join, kept for the next
    std::size_t used_ = 0;
    Tensor last_;
    std::unique_ptr<Communicator> host_;  // last: its thread uses the memory
};

Tensor StagedCommunicator::staged(const Tensor& x, Content content) {
    if (used_ == memory_.size()) memory_.emplace_back();
    std::vector<std::byte>& memory = memory_[used_++];
    memory.resize(static_cast<std::size_t>(x.bytes()));
    if (content == Content::kDownloaded) backend_.download(memory.data(), x);
    last_ = make_vector(memory.data(), x.type, x.elements());
    return last_;
}

void StagedCommunicator::join() {
    host_->join();
    for (const Upload& upload : to_upload_) backend_.upload(upload.to, upload.from.data);
    to_upload_.clear();
    used_ = 0;
}

}  // namespace

std::unique_ptr<Communicator> make_staged_communicator(Backend& backend, std::unique_ptr<Communicator> host) {
    return std::make_unique<StagedCommunicator>(backend, std::move(host));
}

}  // namespace duologue
