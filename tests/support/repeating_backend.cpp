// Every operation is passed on, and kept where a repeater records.
#include "support/repeating_backend.h"

#include <functional>
#include <map>
#include <vector>

#include "duologue/core/error.h"

namespace duologue {

namespace {

using Operations = std::vector<std::function<void()>>;

class RecordingRepeater final : public Repeater {
   public:
    RecordingRepeater(Operations*& recording, RepeatingCounts& counts) : recording_(recording), counts_(counts) {}

    void run(const Key& key, const Work& work) override {
        ++counts_.runs;
        const auto known = recordings_.find(key);
        if (known != recordings_.end()) {
            ++counts_.replays;
            for (const auto& operation : known->second) operation();
            return;
        }
        recording_ = &recordings_[key];
        work();
        recording_ = nullptr;
    }
    void between(const Work& call) override {
        recording_->push_back(call);
        call();
    }

   private:
    Operations*& recording_;
    RepeatingCounts& counts_;
    std::map<Key, Operations> recordings_;
};

class RepeatingBackend final : public Backend {
   public:
    RepeatingBackend(std::unique_ptr<Backend> inner, Repeats repeats, RepeatingCounts& counts)
        : inner_(std::move(inner)), repeats_(repeats), counts_(counts) {}

    [[nodiscard]] std::string description() const override { return "repeating " + inner_->description(); }
    [[nodiscard]] Packing packing() const override { return Packing::kTiled; }
    [[nodiscard]] std::int64_t piece_bytes() const override { return inner_->piece_bytes(); }
    [[nodiscard]] std::unique_ptr<Repeater> make_repeater() override {
        if (repeats_ == Repeats::kNo) return std::make_unique<PlainRepeater>();
        return std::make_unique<RecordingRepeater>(recording_, counts_);
    }

   private:
    // What computes.
    template <class Operation>
    void queue(const Operation& operation) {
        if (recording_ != nullptr) recording_->push_back(operation);
        operation();
    }
    // What no graph can hold.
    void refuse_in_recording(const char* what) const {
        require(recording_ == nullptr, ErrorCode::kInternal, "{} cannot be repeated", what);
    }

    DeviceBuffer do_allocate(std::int64_t bytes) override {
        refuse_in_recording("allocate");
        return inner_->allocate(bytes);
    }
    void do_upload(const Tensor& y, const void* host) override {
        refuse_in_recording("upload");
        inner_->upload(y, host);
    }
    void do_download(void* host, const Tensor& x) override {
        refuse_in_recording("download");
        ++counts_.host_waits;
        inner_->download(host, x);
    }
    void do_synchronize() override {
        refuse_in_recording("synchronize");
        ++counts_.host_waits;
        inner_->synchronize();
    }
    void do_set_random_key(std::uint64_t key) override {
        refuse_in_recording("set_random_key");
        inner_->set_random_key(key);
    }
    [[nodiscard]] std::int64_t do_aux_bytes(Epilogue epilogue, DataType type, std::int64_t rows,
                                            std::int64_t columns) const override {
        return inner_->aux_bytes(epilogue, type, rows, columns);
    }
    [[nodiscard]] std::int64_t do_attention_scratch_bytes(const Attention& operation) const override {
        return inner_->attention_scratch_bytes(operation);
    }

    void do_zero(const Tensor& y) override {
        queue([=, this] { inner_->zero(y); });
    }
    void do_copy(const Tensor& y, const Tensor& x) override {
        queue([=, this] { inner_->copy(y, x); });
    }
    void do_matmul(const Tensor& y, const Matmul& operation) override {
        queue([=, this] { inner_->matmul(y, operation); });
    }
    void do_column_sum(const Tensor& db, const Tensor& dy, Write write) override {
        queue([=, this] { inner_->column_sum(db, dy, write); });
    }
    void do_residual_norm_forward(const Tensor& sum, const Tensor& y, const Tensor& mean, const Tensor& rstd,
                                  const ResidualNorm& operation) override {
        queue([=, this] { inner_->residual_norm_forward(sum, y, mean, rstd, operation); });
    }
    void do_residual_norm_backward(const ResidualNormGradients& gradients,
                                   const ResidualNormBackward& operation) override {
        queue([=, this] { inner_->residual_norm_backward(gradients, operation); });
    }
    void do_attention_forward(const Tensor& y, const Tensor& stats, const Attention& operation) override {
        queue([=, this] { inner_->attention_forward(y, stats, operation); });
    }
    void do_attention_backward(const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& dy, const Tensor& y,
                               const Tensor& stats, const Tensor& scratch, const Attention& operation) override {
        queue([=, this] { inner_->attention_backward(dq, dk, dv, dy, y, stats, scratch, operation); });
    }
    void do_attention_decode(const Tensor& y, const AttentionDecode& operation) override {
        queue([=, this] { inner_->attention_decode(y, operation); });
    }
    void do_embedding_forward(const Tensor& y, const Embedding& operation) override {
        queue([=, this] { inner_->embedding_forward(y, operation); });
    }
    void do_embedding_backward(const Tensor& dtable, const Tensor& dposition_table, const Tensor& dy,
                               const Embedding& operation) override {
        queue([=, this] { inner_->embedding_backward(dtable, dposition_table, dy, operation); });
    }
    void do_cross_entropy(const Tensor& losses, const Tensor& logits, const Tensor& targets, float smoothing,
                          LossGradient gradient) override {
        queue([=, this] { inner_->cross_entropy(losses, logits, targets, smoothing, gradient); });
    }
    void do_add(const Tensor& y, const Tensor& a, const Tensor& b) override {
        queue([=, this] { inner_->add(y, a, b); });
    }
    void do_cast(const Tensor& y, const Tensor& x) override {
        queue([=, this] { inner_->cast(y, x); });
    }
    void do_dropout(const Tensor& y, const Tensor& x, const Dropout& dropout) override {
        queue([=, this] { inner_->dropout(y, x, dropout); });
    }
    void do_sum(const Tensor& y, const Tensor& x, Write write) override {
        queue([=, this] { inner_->sum(y, x, write); });
    }
    void do_sum_squares(const Tensor& y, const Tensor& x, Write write) override {
        queue([=, this] { inner_->sum_squares(y, x, write); });
    }
    void do_adamw(const AdamW& operation) override {
        queue([=, this] { inner_->adamw(operation); });
    }

    std::unique_ptr<Backend> inner_;
    Repeats repeats_;
    RepeatingCounts& counts_;
    Operations* recording_ = nullptr;
};

}  // namespace

std::unique_ptr<Backend> make_repeating_backend(std::unique_ptr<Backend> inner, Repeats repeats,
                                                RepeatingCounts& counts) {
    return std::make_unique<RepeatingBackend>(std::move(inner), repeats, counts);
}

}  // namespace duologue
