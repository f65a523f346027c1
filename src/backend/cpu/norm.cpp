// Residual sum, dropout and layer norm in one pass over each row, and its gradients.
#include <algorithm>
#include <cmath>

#include "backend/cpu/dropout_mask.h"
#include "backend/cpu/loops.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/simd.h"
#include "duologue/core/rounding.h"

namespace duologue::cpu {

namespace {

constexpr std::int64_t kRowsPerPiece = 16;
constexpr std::int64_t kMostPartials = 64;  // of the sums over rows

template <class T>
T* row_of(const Tensor& tensor, std::int64_t row) {
    return tensor.empty() ? nullptr : tensor.as<T>() + row * tensor.row_stride;
}

struct Moments {
    float mean;
    float rstd;
};

template <class T>
Moments moments_of(const T* row, std::int64_t columns, float epsilon) {
    const auto width = static_cast<float>(columns);
    F8 total = zeros();
    for_each_vector(columns, [&](std::int64_t c, auto lanes) { total = total + load(row + c, lanes); });
    const float mean = sum_lanes(total) / width;
    F8 squares = zeros();
    for_each_vector(columns, [&](std::int64_t c, auto lanes) {
        const F8 centred = keep_lanes(load(row + c, lanes) - broadcast(mean), lanes, 0.0F);
        squares = multiply_add(centred, centred, squares);
    });
    return {mean, 1.0F / std::sqrt(sum_lanes(squares) / width + epsilon)};
}

template <class T>
void forward_row(const ResidualNorm& operation, const DropoutMask& mask, float* buffer, const Tensor& sum,
                 const Tensor& y, const Tensor& mean, const Tensor& rstd, std::int64_t row) {
    const std::int64_t columns = operation.x.columns;
    const T* normed = row_of<T>(operation.x, row);
    if (!operation.delta.empty()) {
        const T* x = normed;
        const T* delta = row_of<T>(operation.delta, row);
        T* out = row_of<T>(sum, row);
        const float* factors = mask.factors(buffer, static_cast<std::uint64_t>(row * columns), columns);
        for_each_vector(columns, [&](std::int64_t c, auto lanes) {
            store(out + c, multiply_add(load(delta + c, lanes), load(factors + c), load(x + c, lanes)), lanes);
        });
        normed = out;
    }
    const Moments moments = moments_of(normed, columns, operation.epsilon);
    if (!mean.empty()) mean.as<float>()[row] = moments.mean;
    if (!rstd.empty()) rstd.as<float>()[row] = moments.rstd;
    const T* gamma = operation.gamma.as<T>();
    const T* beta = operation.beta.as<T>();
    T* out = row_of<T>(y, row);
    for_each_vector(columns, [&](std::int64_t c, auto lanes) {
        const F8 h = (load(normed + c, lanes) - broadcast(moments.mean)) * broadcast(moments.rstd);
        store(out + c, multiply_add(h, load(gamma + c, lanes), load(beta + c, lanes)), lanes);
    });
}

/// What the backward pass writes: gradients of rows, and partial sums of this piece of rows.
struct BackwardOutputs {
    const Tensor& dx;
    const Tensor& ddelta;
    float* dgamma;
    float* dbeta;
};

// With h = (sum - mean) rstd and g = dy gamma: dsum = rstd (g - mean(g) - h mean(g h)), means over the row.
template <class T>
void backward_row(const ResidualNormBackward& operation, const DropoutMask& mask, float* buffer,
                  const BackwardOutputs& outputs, std::int64_t row) {
    const std::int64_t columns = operation.sum.columns;
    const T* dy = row_of<T>(operation.dy, row);
    const T* sum = row_of<T>(operation.sum, row);
    const T* gamma = operation.gamma.as<T>();
    const F8 mean = broadcast(operation.mean.as<float>()[row]);
    const F8 rstd = broadcast(operation.rstd.as<float>()[row]);
    F8 g_sum = zeros();
    F8 gh_sum = zeros();
    for_each_vector(columns, [&](std::int64_t c, auto lanes) {
        const F8 d = load(dy + c, lanes);  // 0 past the row, and with it every term
        const F8 h = (load(sum + c, lanes) - mean) * rstd;
        const F8 g = d * load(gamma + c, lanes);
        g_sum = g_sum + g;
        gh_sum = multiply_add(g, h, gh_sum);
        store(outputs.dgamma + c, multiply_add(d, h, load(outputs.dgamma + c, lanes)), lanes);
        store(outputs.dbeta + c, load(outputs.dbeta + c, lanes) + d, lanes);
    });
    const F8 g_mean = broadcast(sum_lanes(g_sum) / static_cast<float>(columns));
    const F8 gh_mean = broadcast(sum_lanes(gh_sum) / static_cast<float>(columns));
    const T* above = row_of<T>(operation.dsum_above, row);
    T* dx = row_of<T>(outputs.dx, row);
    T* ddelta = row_of<T>(outputs.ddelta, row);
    const float* factors = mask.factors(buffer, static_cast<std::uint64_t>(row * columns), columns);
    for_each_vector(columns, [&](std::int64_t c, auto lanes) {
        const F8 h = (load(sum + c, lanes) - mean) * rstd;
        const F8 g = load(dy + c, lanes) * load(gamma + c, lanes);
        F8 dsum = rstd * (g - g_mean - h * gh_mean);
        if (above != nullptr) dsum = dsum + load(above + c, lanes);
        store(dx + c, dsum, lanes);
        if (ddelta != nullptr) store(ddelta + c, dsum * load(factors + c), lanes);
    });
}

}  // namespace

void residual_norm_forward(Workspace& workspace, std::uint64_t random_key, const Tensor& sum, const Tensor& y,
                           const Tensor& mean, const Tensor& rstd, const ResidualNorm& operation) {
    const DropoutMask mask(operation.dropout, random_key);
    const std::int64_t columns = operation.x.columns;
    workspace.reserve_per_thread(Scratch::bytes_for<float>(DropoutMask::buffer_floats(columns)));
    with_element_type(operation.x.type, [&]<class T>(T) {
        parallel_ranges(workspace.threads(), operation.x.rows, kRowsPerPiece,
                        [&](std::int64_t begin, std::int64_t end, int thread) {
                            auto* buffer = workspace.of_thread(thread).take<float>(DropoutMask::buffer_floats(columns));
                            mask.prepare(buffer, columns);
                            for (std::int64_t row = begin; row < end; ++row) {
                                forward_row<T>(operation, mask, buffer, sum, y, mean, rstd, row);
                            }
                        });
    });
}

void residual_norm_backward(Workspace& workspace, std::uint64_t random_key, const Tensor& dx, const Tensor& ddelta,
                            const Tensor& dgamma, const Tensor& dbeta, const ResidualNormBackward& operation) {
    const DropoutMask mask(ddelta.empty() ? Dropout{} : operation.dropout, random_key);
    const std::int64_t rows = operation.sum.rows;
    const std::int64_t columns = operation.sum.columns;
    const std::int64_t grain = std::max(kRowsPerPiece, divided_up(rows, kMostPartials));
    const std::int64_t pieces = divided_up(rows, grain);
    workspace.reserve_per_thread(Scratch::bytes_for<float>(DropoutMask::buffer_floats(columns)));
    workspace.reserve_shared(2 * Scratch::bytes_for<float>(pieces * columns));
    Scratch shared = workspace.shared();
    auto* gammas = shared.take<float>(pieces * columns);
    auto* betas = shared.take<float>(pieces * columns);
    with_element_type(operation.sum.type, [&]<class T>(T) {
        parallel_ranges(workspace.threads(), rows, grain, [&](std::int64_t begin, std::int64_t end, int thread) {
            const std::int64_t at = begin / grain * columns;
            std::fill_n(gammas + at, columns, 0.0F);
            std::fill_n(betas + at, columns, 0.0F);
            auto* buffer = workspace.of_thread(thread).take<float>(DropoutMask::buffer_floats(columns));
            mask.prepare(buffer, columns);
            const BackwardOutputs outputs{.dx = dx, .ddelta = ddelta, .dgamma = gammas + at, .dbeta = betas + at};
            for (std::int64_t row = begin; row < end; ++row) {
                backward_row<T>(operation, mask, buffer, outputs, row);
            }
        });
    });
    add_partial_rows(workspace.threads(), dgamma.as<float>(), gammas, pieces, columns, Write::kAccumulate);
    add_partial_rows(workspace.threads(), dbeta.as<float>(), betas, pieces, columns, Write::kAccumulate);
}

}  // namespace duologue::cpu
