// PlanningBackend: runs nothing; counts floating-point operations and bytes, and lends a device's workspace sizes.
#include <cstdint>
#include <memory>
#include <string>

#include "duologue/backend/backend.h"
#include "duologue/core/arena.h"
#include "duologue/core/error.h"

namespace duologue {

namespace {

// Multiply-adds count as two. A head's D columns take part in two products (scores and values), so that all heads
// together cost 4 C per pair of a query and a key. Lengths are data and not known here: every query is taken to see the
// longest sequence, or half of it on average where attention is causal.
double attention_flops(const Attention& operation) {
    const double share = operation.causal == Causal::kYes ? 0.5 : 1.0;
    const auto pairs = static_cast<double>(operation.q.rows * operation.kv_offsets.max_length);
    return share * 4.0 * static_cast<double>(operation.q.columns) * pairs;
}

// Five products (scores again, dP, dV, dQ, dK) to the forward pass's two.
constexpr double kBackwardShare = 2.5;

class CountingBackend final : public PlanningBackend {
   public:
    explicit CountingBackend(const Backend& device_like) : device_like_(device_like) {}

    [[nodiscard]] std::string description() const override { return "plan for " + device_like_.description(); }
    [[nodiscard]] Packing packing() const override { return device_like_.packing(); }
    [[nodiscard]] std::int64_t piece_bytes() const override { return device_like_.piece_bytes(); }
    [[nodiscard]] PlanCounts counts() const override { return counts_; }
    void reset_counts() override { counts_ = {}; }

   private:
    [[nodiscard]] Addresses addresses() const override { return Addresses::kInvented; }

    DeviceBuffer do_allocate(std::int64_t bytes) override {
        counts_.allocated_bytes += bytes;
        return {reinterpret_cast<void*>(Arena::kAlignment), bytes, [](void*) {}};
    }
    void do_zero(const Tensor& /*y*/) override {}
    void do_copy(const Tensor& /*y*/, const Tensor& /*x*/) override {}
    void do_upload(const Tensor& /*y*/, const void* /*host*/) override {}
    void do_download(void* /*host*/, const Tensor& x) override {
        fail(ErrorCode::kInternal, "download: a plan has no values ({} x {} asked for)", x.rows, x.columns);
    }
    void do_synchronize() override {}
    void do_set_random_key(std::uint64_t /*key*/) override {}

    void do_matmul(const Tensor& y, const Matmul& operation) override {
        const std::int64_t inner = operation.transpose_a == Transpose::kYes ? operation.a.rows : operation.a.columns;
        counts_.matmul_flops += 2.0 * static_cast<double>(y.rows) * static_cast<double>(y.columns * inner);
    }
    [[nodiscard]] std::int64_t do_aux_bytes(Epilogue epilogue, DataType type, std::int64_t rows,
                                            std::int64_t columns) const override {
        return device_like_.aux_bytes(epilogue, type, rows, columns);
    }
    void do_column_sum(const Tensor& /*db*/, const Tensor& /*dy*/, Write /*write*/) override {}

    void do_residual_norm_forward(const Tensor& /*sum*/, const Tensor& /*y*/, const Tensor& /*mean*/,
                                  const Tensor& /*rstd*/, const ResidualNorm& /*operation*/) override {}
    void do_residual_norm_backward(const ResidualNormGradients& /*gradients*/,
                                   const ResidualNormBackward& /*operation*/) override {}

    void do_attention_forward(const Tensor& /*y*/, const Tensor& /*stats*/, const Attention& operation) override {
        counts_.attention_flops += attention_flops(operation);
    }
    void do_attention_backward(const Tensor& /*dq*/, const Tensor& /*dk*/, const Tensor& /*dv*/, const Tensor& /*dy*/,
                               const Tensor& /*y*/, const Tensor& /*stats*/, const Tensor& /*scratch*/,
                               const Attention& operation) override {
        counts_.attention_flops += kBackwardShare * attention_flops(operation);
    }
    [[nodiscard]] std::int64_t do_attention_scratch_bytes(const Attention& operation) const override {
        return device_like_.attention_scratch_bytes(operation);
    }
    void do_attention_decode(const Tensor& y, const AttentionDecode& operation) override {
        counts_.attention_flops +=
            4.0 * static_cast<double>(y.columns) * static_cast<double>(y.rows * operation.capacity);
    }

    void do_embedding_forward(const Tensor& /*y*/, const Embedding& /*operation*/) override {}
    void do_embedding_backward(const Tensor& /*dtable*/, const Tensor& /*dposition_table*/, const Tensor& /*dy*/,
                               const Embedding& /*operation*/) override {}
    void do_cross_entropy(const Tensor& /*losses*/, const Tensor& /*logits*/, const Tensor& /*targets*/,
                          float /*smoothing*/, LossGradient /*gradient*/) override {}
    void do_add(const Tensor& /*y*/, const Tensor& /*a*/, const Tensor& /*b*/) override {}
    void do_cast(const Tensor& /*y*/, const Tensor& /*x*/) override {}
    void do_dropout(const Tensor& /*y*/, const Tensor& /*x*/, const Dropout& /*dropout*/) override {}
    void do_sum(const Tensor& /*y*/, const Tensor& /*x*/, Write /*write*/) override {}
    void do_sum_squares(const Tensor& /*y*/, const Tensor& /*x*/, Write /*write*/) override {}
    void do_adamw(const AdamW& /*operation*/) override {}

    const Backend& device_like_;
    PlanCounts counts_;
};

}  // namespace

std::unique_ptr<PlanningBackend> make_planning_backend(const Backend& device_like) {
    return std::make_unique<CountingBackend>(device_like);
}

}  // namespace duologue
