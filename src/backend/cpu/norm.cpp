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

/// Sums over a piece of rows.
struct RowSums {
    float* dgamma;
    float* dbeta;
    float* ddelta;  // null: not asked for
};

// With h = (sum - mean) rstd and g = dy gamma: dsum = rstd (g - mean(g) - h mean(g h)), means over the row.
template <class T>
void backward_row(const ResidualNormBackward& operation, const DropoutMask& mask, float* buffer,
                  const ResidualNormGradients& gradients, const RowSums& sums, std::int64_t row) {
    const std::int64_t columns = operation.sum.columns;
    const T* dy_row = row_of<T>(operation.dy, row);
    const T* branch = row_of<T>(operation.dy_branch, row);
    const auto dy = [&](std::int64_t c, auto lanes) {
        const F8 d = load(dy_row + c, lanes);
        return branch == nullptr ? d : d + load(branch + c, lanes);
    };
    const T* sum = row_of<T>(operation.sum, row);
    const T* gamma = operation.gamma.as<T>();
    const F8 mean = broadcast(operation.mean.as<float>()[row]);
    const F8 rstd = broadcast(operation.rstd.as<float>()[row]);
    F8 g_sum = zeros();
    F8 gh_sum = zeros();
    for_each_vector(columns, [&](std::int64_t c, auto lanes) {
        const F8 d = dy(c, lanes);  // 0 past the row, and with it every term
        const F8 h = (load(sum + c, lanes) - mean) * rstd;
        const F8 g = d * load(gamma + c, lanes);
        g_sum = g_sum + g;
        gh_sum = multiply_add(g, h, gh_sum);
        store(sums.dgamma + c, multiply_add(d, h, load(sums.dgamma + c, lanes)), lanes);
        store(sums.dbeta + c, load(sums.dbeta + c, lanes) + d, lanes);
    });
    const F8 g_mean = broadcast(sum_lanes(g_sum) / static_cast<float>(columns));
    const F8 gh_mean = broadcast(sum_lanes(gh_sum) / static_cast<float>(columns));
    const T* above = row_of<T>(operation.dsum_above, row);
    T* dx = row_of<T>(gradients.dx, row);
    T* ddelta = row_of<T>(gradients.ddelta, row);
    const float* factors = mask.factors(buffer, static_cast<std::uint64_t>(row * columns), columns);
    for_each_vector(columns, [&](std::int64_t c, auto lanes) {
        const F8 h = (load(sum + c, lanes) - mean) * rstd;
        const F8 g = dy(c, lanes) * load(gamma + c, lanes);
        F8 dsum = rstd * (g - g_mean - h * gh_mean);
        if (above != nullptr) dsum = dsum + load(above + c, lanes);
        store(dx + c, dsum, lanes);
        if (ddelta == nullptr) return;
        const F8 through = dsum * load(factors + c);
        store(ddelta + c, through, lanes);
        if (sums.ddelta != nullptr) store(sums.ddelta + c, load(sums.ddelta + c, lanes) + through, lanes);
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

void residual_norm_backward(Workspace& workspace, std::uint64_t random_key, const ResidualNormGradients& gradients,
                            const ResidualNormBackward& operation) {
    const DropoutMask mask(gradients.ddelta.empty() ? Dropout{} : operation.dropout, random_key);
    const std::int64_t rows = operation.sum.rows;
    const std::int64_t columns = operation.sum.columns;
    const std::int64_t grain = std::max(kRowsPerPiece, divided_up(rows, kMostPartials));
    const std::int64_t pieces = divided_up(rows, grain);
    const Tensor totals[] = {gradients.dgamma, gradients.dbeta, gradients.ddelta_sum};
    workspace.reserve_per_thread(Scratch::bytes_for<float>(DropoutMask::buffer_floats(columns)));
    workspace.reserve_shared(std::ssize(totals) * Scratch::bytes_for<float>(pieces * columns));
    Scratch shared = workspace.shared();
    float* partials[std::size(totals)] = {};
    for (std::size_t i = 0; i < std::size(totals); ++i) {
        if (!totals[i].empty()) partials[i] = shared.take<float>(pieces * columns);
    }
    with_element_type(operation.sum.type, [&]<class T>(T) {
        parallel_ranges(workspace.threads(), rows, grain, [&](std::int64_t begin, std::int64_t end, int thread) {
            const auto of_piece = [&](float* partial) {
                return partial == nullptr ? nullptr
                                          : std::fill_n(partial + begin / grain * columns, columns, 0.0F) - columns;
            };
            const RowSums sums{of_piece(partials[0]), of_piece(partials[1]), of_piece(partials[2])};
            auto* buffer = workspace.of_thread(thread).take<float>(DropoutMask::buffer_floats(columns));
            mask.prepare(buffer, columns);
            for (std::int64_t row = begin; row < end; ++row) {
                backward_row<T>(operation, mask, buffer, gradients, sums, row);
            }
        });
    });
    for (std::size_t i = 0; i < std::size(totals); ++i) {
        if (partials[i] == nullptr) continue;
        add_partial_rows(workspace.threads(), totals[i].as<float>(), partials[i], pieces, columns, Write::kAccumulate);
    }
}

}  // namespace duologue::cpu
