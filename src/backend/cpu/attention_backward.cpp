// Attention, backward: probabilities are recomputed from the kept log-sums, as in Dao et al. 2022, algorithm 4.
#include "backend/cpu/attention.h"
#include "backend/cpu/attention_tiles.h"
#include "backend/cpu/simd.h"

namespace duologue::cpu {

namespace {

/// The scratch of one thread.
struct BackwardScratch {
    float* keys_across_keys;    // packed k for scores: columns are keys
    float* values_across_keys;  // packed v for dprobabilities
    float* keys_across_width;   // packed k for dq: columns are D
    float* rows;                // packed operand on the left: q, dy, dscores or a transposed block of keys
    float* columns;             // packed operand on the right: dy or q, columns are D
    float* probabilities;       // [kQueriesPerBlock, padded_keys], after dropout
    float* dscores;             // [kQueriesPerBlock, padded_keys]
    float* dq;                  // [kQueriesPerBlock, padded_width]
    float* dk;                  // [key_rows, padded_width]
    float* dv;                  // [key_rows, padded_width]
    float* factors;

    static std::int64_t row_floats(const MicroKernel& kernel, const AttentionSizes& sizes) {
        const std::int64_t depth = std::max(sizes.width, sizes.most_keys);
        return std::max(packed_floats(kernel.left(), kQueriesPerBlock, depth),
                        packed_floats(kernel.left(), sizes.most_keys, kQueriesPerBlock));
    }
    BackwardScratch(Scratch& scratch, const MicroKernel& kernel, const AttentionSizes& sizes)
        : keys_across_keys(scratch.take<float>(packed_floats(kernel.right(), sizes.most_keys, sizes.width))),
          values_across_keys(scratch.take<float>(packed_floats(kernel.right(), sizes.most_keys, sizes.width))),
          keys_across_width(scratch.take<float>(packed_floats(kernel.right(), sizes.width, sizes.most_keys))),
          rows(scratch.take<float>(row_floats(kernel, sizes))),
          columns(scratch.take<float>(packed_floats(kernel.right(), sizes.width, kQueriesPerBlock))),
          probabilities(scratch.take<float>(kQueriesPerBlock * sizes.padded_keys)),
          dscores(scratch.take<float>(kQueriesPerBlock * sizes.padded_keys)),
          dq(scratch.take<float>(kQueriesPerBlock * sizes.padded_width)),
          dk(scratch.take<float>(sizes.key_rows * sizes.padded_width)),
          dv(scratch.take<float>(sizes.key_rows * sizes.padded_width)),
          factors(scratch.take<float>(DropoutMask::buffer_floats(sizes.most_keys))) {}
    static std::int64_t bytes(const MicroKernel& kernel, const AttentionSizes& sizes) {
        Scratch measured = Scratch::measuring();
        [[maybe_unused]] const BackwardScratch unused(measured, kernel, sizes);
        return measured.taken_bytes();
    }
};

/// A block of queries of one head.
struct QueryBlock {
    std::int64_t begin;
    std::int64_t count;
};

template <class T>
void store_rows(const Tensor& to, std::int64_t row, std::int64_t column, const float* from, std::int64_t stride,
                std::int64_t rows, std::int64_t width) {
    for (std::int64_t i = 0; i < rows; ++i) {
        T* out = to.as<T>() + (row + i) * to.row_stride + column;
        for_each_vector(width, [&](std::int64_t c, auto lanes) { store(out + c, load(from + i * stride + c), lanes); });
    }
}

template <class T>
class BackwardPass {
   public:
    BackwardPass(const AttentionContext& context, const AttentionGradients& gradients, const Attention& operation)
        : kernel_(context.kernel),
          gradients_(gradients),
          operation_(operation),
          sizes_(context.kernel, operation),
          mask_(operation.dropout, context.random_key) {}

    [[nodiscard]] std::int64_t scratch_bytes() const { return BackwardScratch::bytes(kernel_, sizes_); }

    void run(std::int64_t task, Scratch memory) const {
        const BackwardScratch scratch(memory, kernel_, sizes_);
        const HeadOfSequence at = head_of_sequence(operation_, task);
        if (at.keys == 0) return;
        const std::int64_t gradient_floats = divided_up(at.keys, kernel_.rows) * kernel_.rows * sizes_.padded_width;
        std::fill_n(scratch.dk, gradient_floats, 0.0F);
        std::fill_n(scratch.dv, gradient_floats, 0.0F);
        if (at.queries > 0) {
            mask_.prepare(scratch.factors, at.keys);
            pack_keys_and_values(at, scratch);
        }
        for (std::int64_t begin = 0; begin < at.queries; begin += kQueriesPerBlock) {
            const QueryBlock block{begin, std::min(kQueriesPerBlock, at.queries - begin)};
            find_dscores(at, block, scratch);
            add_products(at, block, scratch);
        }
        store_rows<T>(gradients_.dk, at.kv_begin, at.column, scratch.dk, sizes_.padded_width, at.keys, sizes_.width);
        store_rows<T>(gradients_.dv, at.kv_begin, at.column, scratch.dv, sizes_.padded_width, at.keys, sizes_.width);
    }

   private:
    [[nodiscard]] PackSource<T> key_rows(const Tensor& tensor, const HeadOfSequence& at, Adjacent adjacent) const {
        return head_rows<T>(tensor, at.kv_begin, at.keys, at.column, sizes_.width, adjacent);
    }
    [[nodiscard]] PackSource<T> query_rows(const Tensor& tensor, const HeadOfSequence& at, QueryBlock block,
                                           Adjacent adjacent) const {
        return head_rows<T>(tensor, at.q_begin + block.begin, block.count, at.column, sizes_.width, adjacent);
    }

    void pack_keys_and_values(const HeadOfSequence& at, const BackwardScratch& scratch) const {
        pack_panels(scratch.keys_across_keys, key_rows(operation_.k, at, Adjacent::kDepth), kernel_.right());
        pack_panels(scratch.values_across_keys, key_rows(operation_.v, at, Adjacent::kDepth), kernel_.right());
        pack_panels(scratch.keys_across_width, key_rows(operation_.k, at, Adjacent::kAcross), kernel_.right());
    }

    /// Probabilities (after dropout) and dscores of a block of queries.
    void find_dscores(const HeadOfSequence& at, QueryBlock block, const BackwardScratch& scratch) const {
        const std::int64_t row_panels = divided_up(block.count, kernel_.rows);
        const std::int64_t key_panels = divided_up(at.keys, kernel_.columns);
        pack_panels(scratch.rows, query_rows(operation_.q, at, block, Adjacent::kDepth), kernel_.left());
        multiply_panels(kernel_, row_panels, key_panels, sizes_.width, scratch.rows, scratch.keys_across_keys,
                        scratch.probabilities, sizes_.padded_keys, Write::kOverwrite);
        pack_panels(scratch.rows, query_rows(gradients_.dy, at, block, Adjacent::kDepth), kernel_.left());
        multiply_panels(kernel_, row_panels, key_panels, sizes_.width, scratch.rows, scratch.values_across_keys,
                        scratch.dscores, sizes_.padded_keys, Write::kOverwrite);
        for (std::int64_t i = 0; i < block.count; ++i) finish_row(at, block.begin + i, i, scratch);
    }

    /// With p the probabilities, f the dropout factors and dp = dy v: ds = p (f dp - sum of p f dp) scale. The sum
    /// equals dy y, but y has been rounded to the activation type.
    void finish_row(const HeadOfSequence& at, std::int64_t query, std::int64_t i,
                    const BackwardScratch& scratch) const {
        float* scores = scratch.probabilities + i * sizes_.padded_keys;
        float* dscores = scratch.dscores + i * sizes_.padded_keys;
        const std::int64_t row = at.q_begin + query;
        const std::int64_t visible = visible_keys(operation_, at, query);
        const F8 log_sum = broadcast(gradients_.stats.as<float>()[row * operation_.heads + at.head]);
        const F8 scale = broadcast(operation_.scale);
        const float* factors = probability_factors(mask_, scratch.factors, operation_, at, query);
        F8 products = zeros();
        for_each_vector(visible, [&](std::int64_t j, auto lanes) {
            const F8 p = store(scores + j, exp(load(scores + j, lanes) * scale - log_sum), lanes);
            const F8 dp = store(dscores + j, load(factors + j) * load(dscores + j, lanes), lanes);
            products = multiply_add(p, dp, products);
        });
        const F8 mean = broadcast(sum_lanes(products));
        for_each_vector(visible, [&](std::int64_t j, auto lanes) {
            const F8 p = load(scores + j, lanes);
            store(dscores + j, p * (load(dscores + j, lanes) - mean) * scale, lanes);
            store(scores + j, p * load(factors + j), lanes);
        });
        std::fill(scores + visible, scores + at.keys, 0.0F);
        std::fill(dscores + visible, dscores + at.keys, 0.0F);
    }

    /// dv += p^T dy, dk += ds^T q, dq = ds k.
    void add_products(const HeadOfSequence& at, QueryBlock block, const BackwardScratch& scratch) const {
        const std::int64_t width_panels = divided_up(sizes_.width, kernel_.columns);
        const auto add_transposed = [&](float* to, const float* weights, const Tensor& right) {
            const PackSource<float> transposed{weights, sizes_.padded_keys, Adjacent::kAcross, at.keys, block.count};
            pack_panels(scratch.rows, transposed, kernel_.left());
            pack_panels(scratch.columns, query_rows(right, at, block, Adjacent::kAcross), kernel_.right());
            multiply_panels(kernel_, divided_up(at.keys, kernel_.rows), width_panels, block.count, scratch.rows,
                            scratch.columns, to, sizes_.padded_width, Write::kAccumulate);
        };
        add_transposed(scratch.dv, scratch.probabilities, gradients_.dy);
        add_transposed(scratch.dk, scratch.dscores, operation_.q);
        const PackSource<float> dscores{scratch.dscores, sizes_.padded_keys, Adjacent::kDepth, block.count, at.keys};
        pack_panels(scratch.rows, dscores, kernel_.left());
        multiply_panels(kernel_, divided_up(block.count, kernel_.rows), width_panels, at.keys, scratch.rows,
                        scratch.keys_across_width, scratch.dq, sizes_.padded_width, Write::kOverwrite);
        store_rows<T>(gradients_.dq, at.q_begin + block.begin, at.column, scratch.dq, sizes_.padded_width, block.count,
                      sizes_.width);
    }

    const MicroKernel& kernel_;
    const AttentionGradients& gradients_;
    const Attention& operation_;
    AttentionSizes sizes_;
    DropoutMask mask_;
};

}  // namespace

void attention_backward(const AttentionContext& context, const AttentionGradients& gradients,
                        const Attention& operation) {
    check_offsets(operation);
    with_element_type(operation.q.type, [&]<class T>(T) {
        const BackwardPass<T> pass(context, gradients, operation);
        Workspace& workspace = context.workspace;
        workspace.reserve_per_thread(pass.scratch_bytes());
        parallel_for(workspace.threads(), operation.q_offsets.sequences * operation.heads,
                     [&](std::int64_t task, int thread) { pass.run(task, workspace.of_thread(thread)); });
    });
}

}  // namespace duologue::cpu
