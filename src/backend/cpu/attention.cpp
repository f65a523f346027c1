// Attention, forward (Vaswani et al. 2017, eq. 1) and one query at a time against a cache.
#include "backend/cpu/attention.h"

#include <cmath>
#include <limits>

#include "backend/cpu/attention_tiles.h"
#include "backend/cpu/simd.h"
#include "duologue/core/error.h"

namespace duologue::cpu {

namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

/// Scores become e^(scale (s - largest)); what is returned is their sum and the scaled largest.
struct SoftmaxRow {
    float sum;
    float largest;
};

SoftmaxRow exponentiate(float* scores, std::int64_t visible, float scale) {
    F8 largest = broadcast(kLowest);
    for_each_vector(visible, [&](std::int64_t j, auto lanes) {
        largest = max(largest, keep_lanes(load(scores + j, lanes) * broadcast(scale), lanes, kLowest));
    });
    const float top = max_lane(largest);
    F8 sum = zeros();
    for_each_vector(visible, [&](std::int64_t j, auto lanes) {
        const F8 scaled = load(scores + j, lanes) * broadcast(scale);
        sum = sum + store(scores + j, exp(scaled - broadcast(top)), lanes);
    });
    return {sum_lanes(sum), top};
}

/// The scratch of one thread.
struct ForwardScratch {
    float* keys;          // packed k, transposed
    float* values;        // packed v
    float* left;          // packed q, then packed probabilities
    float* scores;        // [kQueriesPerBlock, padded_keys]
    float* result;        // [kQueriesPerBlock, padded_width]
    float* inverse_sums;  // [kQueriesPerBlock]
    float* factors;

    static std::int64_t left_floats(const MicroKernel& kernel, const AttentionSizes& sizes) {
        return packed_floats(kernel.left(), kQueriesPerBlock, std::max(sizes.width, sizes.most_keys));
    }
    ForwardScratch(Scratch& scratch, const MicroKernel& kernel, const AttentionSizes& sizes)
        : keys(scratch.take<float>(packed_floats(kernel.right(), sizes.most_keys, sizes.width))),
          values(scratch.take<float>(packed_floats(kernel.right(), sizes.width, sizes.most_keys))),
          left(scratch.take<float>(left_floats(kernel, sizes))),
          scores(scratch.take<float>(kQueriesPerBlock * sizes.padded_keys)),
          result(scratch.take<float>(kQueriesPerBlock * sizes.padded_width)),
          inverse_sums(scratch.take<float>(kQueriesPerBlock)),
          factors(scratch.take<float>(DropoutMask::buffer_floats(sizes.most_keys))) {}
    static std::int64_t bytes(const MicroKernel& kernel, const AttentionSizes& sizes) {
        Scratch measured = Scratch::measuring();
        [[maybe_unused]] const ForwardScratch unused(measured, kernel, sizes);
        return measured.taken_bytes();
    }
};

template <class T>
class ForwardPass {
   public:
    ForwardPass(const AttentionContext& context, const Tensor& y, const Tensor& stats, const Attention& operation)
        : kernel_(context.kernel),
          y_(y),
          stats_(stats),
          operation_(operation),
          sizes_(context.kernel, operation),
          mask_(operation.dropout, context.random_key) {}

    [[nodiscard]] std::int64_t scratch_bytes() const { return ForwardScratch::bytes(kernel_, sizes_); }

    void run(std::int64_t task, Scratch memory) const {
        const ForwardScratch scratch(memory, kernel_, sizes_);
        const HeadOfSequence at = head_of_sequence(operation_, task);
        if (at.queries == 0) return;
        const std::int64_t width = sizes_.width;
        mask_.prepare(scratch.factors, at.keys);
        pack_panels(scratch.keys, head_rows<T>(operation_.k, at.kv_begin, at.keys, at.column, width, Adjacent::kDepth),
                    kernel_.right());
        pack_panels(scratch.values,
                    head_rows<T>(operation_.v, at.kv_begin, at.keys, at.column, width, Adjacent::kAcross),
                    kernel_.right());
        for (std::int64_t begin = 0; begin < at.queries; begin += kQueriesPerBlock) {
            run_block(at, begin, std::min(kQueriesPerBlock, at.queries - begin), scratch);
        }
    }

   private:
    /// Probabilities are divided by their sum only in the result, which has fewer columns.
    void run_block(const HeadOfSequence& at, std::int64_t begin, std::int64_t count,
                   const ForwardScratch& scratch) const {
        const std::int64_t width = sizes_.width;
        const std::int64_t row_panels = divided_up(count, kernel_.rows);
        pack_panels(scratch.left,
                    head_rows<T>(operation_.q, at.q_begin + begin, count, at.column, width, Adjacent::kDepth),
                    kernel_.left());
        multiply_panels(kernel_, row_panels, divided_up(at.keys, kernel_.columns), width, scratch.left, scratch.keys,
                        scratch.scores, sizes_.padded_keys, Write::kOverwrite);
        for (std::int64_t i = 0; i < count; ++i) softmax_row(at, begin + i, i, scratch);
        const PackSource<float> probabilities{scratch.scores, sizes_.padded_keys, Adjacent::kDepth, count, at.keys};
        pack_panels(scratch.left, probabilities, kernel_.left());
        multiply_panels(kernel_, row_panels, divided_up(width, kernel_.columns), at.keys, scratch.left, scratch.values,
                        scratch.result, sizes_.padded_width, Write::kOverwrite);
        for (std::int64_t i = 0; i < count; ++i) {
            T* out = y_.as<T>() + (at.q_begin + begin + i) * y_.row_stride + at.column;
            const float* result = scratch.result + i * sizes_.padded_width;
            for_each_vector(width, [&](std::int64_t c, auto lanes) {
                store(out + c, load(result + c) * broadcast(scratch.inverse_sums[i]), lanes);
            });
        }
    }

    void softmax_row(const HeadOfSequence& at, std::int64_t query, std::int64_t i,
                     const ForwardScratch& scratch) const {
        float* scores = scratch.scores + i * sizes_.padded_keys;
        const std::int64_t visible = visible_keys(operation_, at, query);
        const SoftmaxRow row = exponentiate(scores, visible, operation_.scale);
        std::fill(scores + visible, scores + at.keys, 0.0F);
        scratch.inverse_sums[i] = 1.0F / row.sum;
        if (!stats_.empty()) {
            stats_.as<float>()[(at.q_begin + query) * operation_.heads + at.head] = row.largest + std::log(row.sum);
        }
        if (!mask_.active()) return;
        const float* factors = probability_factors(mask_, scratch.factors, operation_, at, query);
        for_each_vector(visible, [&](std::int64_t j, auto lanes) {
            store(scores + j, load(scores + j, lanes) * load(factors + j), lanes);
        });
    }

    const MicroKernel& kernel_;
    const Tensor& y_;
    const Tensor& stats_;
    const Attention& operation_;
    AttentionSizes sizes_;
    DropoutMask mask_;
};

template <class T>
float dot(const T* a, const T* b, std::int64_t count) {
    F8 sum = zeros();
    for_each_vector(
        count, [&](std::int64_t i, auto lanes) { sum = multiply_add(load(a + i, lanes), load(b + i, lanes), sum); });
    return sum_lanes(sum);
}

/// One sequence and head of a decoding step. `weights` has room for the capacity, `sums` for D.
template <class T>
void decode_head(const Tensor& y, const AttentionDecode& operation, std::int64_t sequence, std::int64_t head,
                 float* weights, float* sums) {
    const std::int64_t width = operation.q.columns / operation.heads;
    const std::int64_t column = head * width;
    const std::int64_t length = operation.lengths.as<std::int32_t>()[sequence];
    const std::int64_t first = sequence * operation.capacity;
    const T* q = operation.q.as<T>() + sequence * operation.q.row_stride + column;
    const T* k = operation.k_cache.as<T>() + first * operation.k_cache.row_stride + column;
    const T* v = operation.v_cache.as<T>() + first * operation.v_cache.row_stride + column;
    for (std::int64_t j = 0; j < length; ++j) weights[j] = dot(q, k + j * operation.k_cache.row_stride, width);
    const SoftmaxRow row = exponentiate(weights, length, operation.scale);
    std::fill_n(sums, width, 0.0F);
    for (std::int64_t j = 0; j < length; ++j) {
        const T* value = v + j * operation.v_cache.row_stride;
        for_each_vector(width, [&](std::int64_t c, auto lanes) {
            store(sums + c, multiply_add(broadcast(weights[j]), load(value + c, lanes), load(sums + c, lanes)), lanes);
        });
    }
    T* out = y.as<T>() + sequence * y.row_stride + column;
    for_each_vector(width, [&](std::int64_t c, auto lanes) {
        store(out + c, load(sums + c, lanes) * broadcast(1.0F / row.sum), lanes);
    });
}

}  // namespace

void check_offsets(const Attention& operation) {
    const auto* q = operation.q_offsets.values.as<std::int32_t>();
    const auto* kv = operation.kv_offsets.values.as<std::int32_t>();
    const std::int64_t sequences = operation.q_offsets.sequences;
    const bool causal = operation.causal == Causal::kYes;
    bool ordered = q[0] == 0 && kv[0] == 0;
    for (std::int64_t s = 0; s < sequences && ordered; ++s) {
        const std::int32_t queries = q[s + 1] - q[s];
        const std::int32_t keys = kv[s + 1] - kv[s];
        ordered = queries >= 0 && keys >= 0 && (queries == 0 || keys > 0) && (!causal || queries == keys);
    }
    require(ordered && q[sequences] == operation.q.rows && kv[sequences] == operation.k.rows, ErrorCode::kInternal,
            "attention: the offsets do not divide {} query rows and {} key rows into {} sequences", operation.q.rows,
            operation.k.rows, sequences);
}

void attention_forward(const AttentionContext& context, const Tensor& y, const Tensor& stats,
                       const Attention& operation) {
    check_offsets(operation);
    with_element_type(operation.q.type, [&]<class T>(T) {
        const ForwardPass<T> pass(context, y, stats, operation);
        Workspace& workspace = context.workspace;
        workspace.reserve_per_thread(pass.scratch_bytes());
        parallel_for(workspace.threads(), operation.q_offsets.sequences * operation.heads,
                     [&](std::int64_t task, int thread) { pass.run(task, workspace.of_thread(thread)); });
    });
}

void attention_decode(Workspace& workspace, const Tensor& y, const AttentionDecode& operation) {
    const std::int64_t width = operation.q.columns / operation.heads;
    workspace.reserve_per_thread(Scratch::bytes_for<float>(operation.capacity) + Scratch::bytes_for<float>(width));
    with_element_type(operation.q.type, [&]<class T>(T) {
        parallel_for(workspace.threads(), y.rows * operation.heads, [&](std::int64_t task, int thread) {
            Scratch scratch = workspace.of_thread(thread);
            auto* weights = scratch.take<float>(operation.capacity);
            auto* sums = scratch.take<float>(width);
            decode_head<T>(y, operation, task / operation.heads, task % operation.heads, weights, sums);
        });
    });
}

}  // namespace duologue::cpu
