// In the place of src/backend/cuda/cudnn_plan.cpp: attention as cuDNN is described to it, with what cuDNN demands of
// its operands checked: no sequence without rows, whole tiles of numbers behind every one.
#include "backend/cuda/cudnn_plan.h"

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "duologue/core/error.h"
#include "duologue/core/random.h"
#include "emulated_gpu/memory.h"
#include "emulated_gpu/streams.h"

namespace duologue::cuda {

namespace {

using Bf16 = __nv_bfloat16;

[[noreturn]] void refuse(const AttentionDescription& plan, const char* why) {
    std::fprintf(stderr, "emulated cuDNN: %s: %s\n", told(plan).c_str(), why);
    std::abort();
}

// One head of one sequence of a packed tensor.
class Block {
   public:
    Block(void* data, const std::int64_t* offsets, std::int64_t sequence, std::int64_t head, std::int64_t stride,
          std::int64_t head_columns)
        : data_(static_cast<Bf16*>(data) + offsets[sequence] + head * head_columns), stride_(stride) {}
    [[nodiscard]] Bf16* row(std::int64_t i) const { return data_ + i * stride_; }
    [[nodiscard]] float at(std::int64_t i, std::int64_t column) const { return __bfloat162float(row(i)[column]); }

    void require_tiles(const AttentionDescription& plan, std::int64_t length) const {
        const std::int64_t rows = (length + kCudnnTileRows - 1) / kCudnnTileRows * kCudnnTileRows;
        for (std::int64_t i = 0; i < rows; ++i) {
            const auto bytes = static_cast<std::size_t>(plan.head_columns) * sizeof(Bf16);
            if (!emulated_gpu::is_device_memory(row(i), bytes)) refuse(plan, "a tile ends behind its memory");
            for (std::int64_t c = 0; c < plan.head_columns; ++c) {
                if (!std::isfinite(at(i, c))) refuse(plan, "what is behind a sequence is not finite");
            }
        }
    }

   private:
    Bf16* data_;
    std::int64_t stride_;
};

class Attention {
   public:
    Attention(const AttentionDescription& plan, int capability, const AttentionAddresses& at)
        : plan_(plan), stats_layout_(backward_stats(capability)), at_(at) {}

    void run() {
        for (std::int64_t sequence = 0; sequence < plan_.sequences; ++sequence) {
            queries_ = at_.q_lengths[sequence];
            keys_ = at_.kv_lengths[sequence];
            if (queries_ < 1 || keys_ < 1) refuse(plan_, "an empty sequence");
            if (queries_ > plan_.max_q_length || keys_ > plan_.max_kv_length) refuse(plan_, "a sequence too long");
            for (std::int64_t head = 0; head < plan_.heads; ++head) run_head(sequence, head);
        }
    }

   private:
    [[nodiscard]] Block block(void* data, OffsetArray array, std::int64_t sequence, std::int64_t head,
                              std::int64_t stride) const {
        return {data, at_.offsets + array * (plan_.sequences + 1), sequence, head, stride, plan_.head_columns};
    }

    [[nodiscard]] float factor(std::int64_t sequence, std::int64_t head, std::int64_t i, std::int64_t j) const {
        const std::int64_t element =
            ((sequence * plan_.heads + head) * plan_.max_q_length + i) * plan_.max_kv_length + j;
        float value = 1.0F;
        if (plan_.dropout > 0.0F) {
            const auto words = philox(static_cast<std::uint64_t>(at_.seed[0]), static_cast<std::uint64_t>(element), 0);
            const bool kept = static_cast<float>(words[0]) >= plan_.dropout * 4294967296.0F;
            value = kept ? 1.0F / (1.0F - plan_.dropout) : 0.0F;
        }
        if (at_.mask_dump != nullptr) static_cast<float*>(at_.mask_dump)[element] = value;
        return value;
    }

    [[nodiscard]] float& stat(std::int64_t sequence, std::int64_t head, std::int64_t i) const {
        auto* stats = static_cast<float*>(at_.stats);
        if (plan_.pass == AttentionPass::kBackward && stats_layout_ == StatsLayout::kPadded) {
            return stats[(sequence * plan_.heads + head) * plan_.max_q_length + i];
        }
        return stats[at_.offsets[kStatsOffsets * (plan_.sequences + 1) + sequence] + i * plan_.heads + head];
    }

    void run_head(std::int64_t sequence, std::int64_t head) const {
        const Block q = block(at_.q, kQOffsets, sequence, head, plan_.q_stride);
        const Block k = block(at_.k, kKOffsets, sequence, head, plan_.k_stride);
        const Block v = block(at_.v, kVOffsets, sequence, head, plan_.v_stride);
        q.require_tiles(plan_, queries_);
        k.require_tiles(plan_, keys_);
        v.require_tiles(plan_, keys_);
        if (plan_.pass == AttentionPass::kBackward) {
            backward(sequence, head, q, k, v);
        } else {
            forward(sequence, head, q, k, v);
        }
    }

    [[nodiscard]] std::int64_t seen(std::int64_t query) const {
        return plan_.causal == Causal::kYes ? std::min(query + 1, keys_) : keys_;
    }
    [[nodiscard]] float dot(const Block& a, std::int64_t i, const Block& b, std::int64_t j) const {
        float sum = 0.0F;
        for (std::int64_t c = 0; c < plan_.head_columns; ++c) sum += a.at(i, c) * b.at(j, c);
        return sum;
    }

    void forward(std::int64_t sequence, std::int64_t head, const Block& q, const Block& k, const Block& v) const {
        const Block y = block(at_.y, kYOffsets, sequence, head, plan_.y_stride);
        for (std::int64_t i = 0; i < queries_; ++i) {
            std::vector<float> scores(static_cast<std::size_t>(seen(i)));
            float largest = -INFINITY;
            for (std::size_t j = 0; j < scores.size(); ++j) {
                scores[j] = plan_.scale * dot(q, i, k, static_cast<std::int64_t>(j));
                largest = std::max(largest, scores[j]);
            }
            float all = 0.0F;
            for (const float score : scores) all += std::exp(score - largest);
            std::vector<float> sums(static_cast<std::size_t>(plan_.head_columns));
            for (std::size_t j = 0; j < scores.size(); ++j) {
                const auto key = static_cast<std::int64_t>(j);
                const float share = factor(sequence, head, i, key) * std::exp(scores[j] - largest) / all;
                for (std::size_t c = 0; c < sums.size(); ++c)
                    sums[c] += share * v.at(key, static_cast<std::int64_t>(c));
            }
            for (std::size_t c = 0; c < sums.size(); ++c) y.row(i)[c] = __float2bfloat16_rn(sums[c]);
            if (plan_.pass == AttentionPass::kForwardWithStats) stat(sequence, head, i) = largest + std::log(all);
        }
    }

    void backward(std::int64_t sequence, std::int64_t head, const Block& q, const Block& k, const Block& v) const {
        const std::int64_t packed = plan_.heads * plan_.head_columns;
        const Block y = block(at_.y, kYOffsets, sequence, head, plan_.y_stride);
        const Block dy = block(at_.dy, kDyOffsets, sequence, head, plan_.dy_stride);
        const Block dq = block(at_.dq, kDqOffsets, sequence, head, packed);
        const Block dk = block(at_.dk, kDkOffsets, sequence, head, plan_.dk_stride);
        const Block dv = block(at_.dv, kDvOffsets, sequence, head, plan_.dv_stride);
        y.require_tiles(plan_, queries_);
        dy.require_tiles(plan_, queries_);
        const auto columns = static_cast<std::size_t>(plan_.head_columns);
        std::vector<float> dk_sums(static_cast<std::size_t>(keys_) * columns);
        std::vector<float> dv_sums(dk_sums.size());
        for (std::int64_t i = 0; i < queries_; ++i) {
            const float product = dot(dy, i, y, i);
            std::vector<float> dq_sums(columns);
            for (std::int64_t j = 0; j < seen(i); ++j) {
                const float share = std::exp(plan_.scale * dot(q, i, k, j) - stat(sequence, head, i));
                const float kept = factor(sequence, head, i, j);
                const float dscore = plan_.scale * share * (kept * dot(dy, i, v, j) - product);
                for (std::size_t c = 0; c < columns; ++c) {
                    const auto column = static_cast<std::int64_t>(c);
                    const std::size_t place = static_cast<std::size_t>(j) * columns + c;
                    dq_sums[c] += dscore * k.at(j, column);
                    dk_sums[place] += dscore * q.at(i, column);
                    dv_sums[place] += kept * share * dy.at(i, column);
                }
            }
            for (std::size_t c = 0; c < columns; ++c) dq.row(i)[c] = __float2bfloat16_rn(dq_sums[c]);
        }
        for (std::int64_t j = 0; j < keys_; ++j) {
            for (std::size_t c = 0; c < columns; ++c) {
                dk.row(j)[c] = __float2bfloat16_rn(dk_sums[static_cast<std::size_t>(j) * columns + c]);
                dv.row(j)[c] = __float2bfloat16_rn(dv_sums[static_cast<std::size_t>(j) * columns + c]);
            }
        }
    }

    const AttentionDescription& plan_;
    StatsLayout stats_layout_;
    const AttentionAddresses& at_;
    std::int64_t queries_ = 0;
    std::int64_t keys_ = 0;
};

}  // namespace

// A handle is its stream.
CudnnHandle::CudnnHandle(CUstream_st* stream) : context_(reinterpret_cast<cudnnContext*>(stream)) {}
void CudnnHandle::Deleter::operator()(cudnnContext* /*context*/) const {}

std::string cudnn_version() { return "emulated"; }

std::string told(const AttentionDescription& description) {
    return fmt::format("attention of {} sequences of {} queries and {} keys", description.sequences,
                       description.max_q_length, description.max_kv_length);
}

struct CudnnPlan::Compiled {
    AttentionDescription description;
    int capability = 0;
};

CudnnPlan::CudnnPlan(const AttentionDescription& description, int capability, cudnnContext* /*handle*/)
    : compiled_(std::make_unique<Compiled>(Compiled{description, capability})) {}
CudnnPlan::~CudnnPlan() = default;
CudnnPlan::CudnnPlan(CudnnPlan&&) noexcept = default;
CudnnPlan& CudnnPlan::operator=(CudnnPlan&&) noexcept = default;

std::int64_t CudnnPlan::workspace_bytes() const {
    const AttentionDescription& plan = compiled_->description;
    return plan.pass == AttentionPass::kBackward ? plan.most_q_rows * plan.heads * plan.head_columns * 4 : 256;
}

void CudnnPlan::execute(cudnnContext* handle, const AttentionAddresses& at) const {
    const auto bytes = static_cast<std::size_t>(workspace_bytes());
    if (!emulated_gpu::is_device_memory(at.workspace, bytes)) refuse(compiled_->description, "no workspace");
    emulated_gpu::queue_work(reinterpret_cast<cudaStream_t>(handle), [plan = *compiled_, at, bytes] {
        std::memset(at.workspace, 0xff, bytes);
        Attention(plan.description, plan.capability, at).run();
    });
}

}  // namespace duologue::cuda
