// Softmax, label-smoothed loss and its gradient: three passes over a row of logits that stays in cache.
#include <cmath>
#include <limits>

#include "backend/cpu/loops.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/simd.h"
#include "duologue/core/error.h"

namespace duologue::cpu {

namespace {

constexpr std::int64_t kRowsPerPiece = 4;

void check_targets(const Tensor& targets, std::int64_t vocabulary) {
    const auto* values = targets.as<std::int32_t>();
    for (std::int64_t i = 0; i < targets.elements(); ++i) {
        require(values[i] >= -1 && values[i] < vocabulary, ErrorCode::kInternal,
                "cross_entropy: target {} of row {} is neither -1 nor in [0, {})", values[i], i, vocabulary);
    }
}

template <class T>
float largest_of(const T* row, std::int64_t count) {
    constexpr float kLowest = -std::numeric_limits<float>::infinity();
    F8 largest = broadcast(kLowest);
    for_each_vector(count, [&](std::int64_t v, auto lanes) {
        largest = max(largest, keep_lanes(load(row + v, lanes), lanes, kLowest));
    });
    return max_lane(largest);
}

struct RowSums {
    float exponentials;
    float logits;  // sum of z - largest, for the uniform share
};

/// Fills `exponentials` with e^(z - largest).
template <class T>
RowSums exponentiate(float* exponentials, const T* row, float largest, std::int64_t count) {
    F8 exponential_sum = zeros();
    F8 logit_sum = zeros();
    for_each_vector(count, [&](std::int64_t v, auto lanes) {
        const F8 shifted = load(row + v, lanes) - broadcast(largest);
        const F8 e = keep_lanes(exp(shifted), lanes, 0.0F);
        store(exponentials + v, e);
        exponential_sum = exponential_sum + e;
        logit_sum = logit_sum + keep_lanes(shifted, lanes, 0.0F);
    });
    return {sum_lanes(exponential_sum), sum_lanes(logit_sum)};
}

struct Smoothing {
    float on_target;  // 1 - s
    float on_every;   // s / V
};

/// d loss / dz = p - (1-s) [v = target] - s/V
template <class T>
void write_gradient(T* row, const float* exponentials, float inverse_sum, std::int64_t target, Smoothing smoothing,
                    std::int64_t count) {
    for_each_vector(count, [&](std::int64_t v, auto lanes) {
        const F8 p = load(exponentials + v) * broadcast(inverse_sum);
        store(row + v, p - broadcast(smoothing.on_every), lanes);
    });
    row[target] = T(exponentials[target] * inverse_sum - smoothing.on_every - smoothing.on_target);
}

template <class T>
void one_row(float* exponentials, const Tensor& losses, const Tensor& logits, std::int64_t target, std::int64_t index,
             Smoothing smoothing, LossGradient gradient) {
    T* row = logits.as<T>() + index * logits.columns;
    float& loss = losses.as<float>()[index];
    if (target < 0) {
        loss = 0.0F;
        if (gradient == LossGradient::kInPlace) {
            for_each_vector(logits.columns, [&](std::int64_t v, auto lanes) { store(row + v, zeros(), lanes); });
        }
        return;
    }
    const float largest = largest_of(row, logits.columns);
    const RowSums sums = exponentiate(exponentials, row, largest, logits.columns);
    const float on_target = static_cast<float>(row[target]) - largest;
    loss = std::log(sums.exponentials) - smoothing.on_target * on_target - smoothing.on_every * sums.logits;
    if (gradient == LossGradient::kInPlace) {
        write_gradient(row, exponentials, 1.0F / sums.exponentials, target, smoothing, logits.columns);
    }
}

}  // namespace

void cross_entropy(Workspace& workspace, const Tensor& losses, const Tensor& logits, const Tensor& targets,
                   float smoothing, LossGradient gradient) {
    check_targets(targets, logits.columns);
    const Smoothing shares{.on_target = 1.0F - smoothing, .on_every = smoothing / static_cast<float>(logits.columns)};
    const std::int64_t floats = logits.columns + kLanes;
    workspace.reserve_per_thread(Scratch::bytes_for<float>(floats));
    with_element_type(logits.type, [&]<class T>(T) {
        parallel_ranges(workspace.threads(), logits.rows, kRowsPerPiece,
                        [&](std::int64_t begin, std::int64_t end, int thread) {
                            auto* exponentials = workspace.of_thread(thread).take<float>(floats);
                            for (std::int64_t row = begin; row < end; ++row) {
                                const std::int64_t target = targets.as<std::int32_t>()[row];
                                one_row<T>(exponentials, losses, logits, target, row, shares, gradient);
                            }
                        });
    });
}

}  // namespace duologue::cpu
