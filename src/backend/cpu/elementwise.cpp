// Element by element: copies, casts, sums, dropout, and the optimizer's step in one pass over its five arrays.
#include <cmath>
#include <cstring>

#include "backend/cpu/dropout_mask.h"
#include "backend/cpu/loops.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/simd.h"

namespace duologue::cpu {

namespace {

constexpr std::int64_t kElementsPerPiece = 16384;
constexpr std::int64_t kRowsPerPiece = 64;
constexpr std::int64_t kDropoutPiece = 1024;

/// body(begin, end) over contiguous elements.
template <class Body>
void for_each_piece(int threads, std::int64_t elements, const Body& body) {
    parallel_ranges(threads, elements, kElementsPerPiece,
                    [&](std::int64_t begin, std::int64_t end, int) { body(begin, end); });
}

template <class Y, class X>
void cast_elements(int threads, Y* y, const X* x, std::int64_t count) {
    for_each_piece(threads, count, [&](std::int64_t begin, std::int64_t end) {
        for_each_vector(end - begin,
                        [&](std::int64_t i, auto lanes) { store(y + begin + i, load(x + begin + i, lanes), lanes); });
    });
}

/// The numbers of one optimizer step that are the same for all elements.
struct StepFactors {
    F8 gradient;
    F8 beta1, rest1;
    F8 beta2, rest2;
    F8 inverse_correction1, inverse_correction2;
    F8 epsilon;
    F8 learning_rate;
    F8 weight_decay;
};

StepFactors step_factors(const AdamW& operation, double divisor, double norm) {
    const bool clips = operation.max_norm > 0.0F && norm > static_cast<double>(operation.max_norm);
    const double clip = clips ? static_cast<double>(operation.max_norm) / norm : 1.0;
    const auto step = static_cast<double>(operation.step);
    const double beta1 = static_cast<double>(operation.beta1);
    const double beta2 = static_cast<double>(operation.beta2);
    const auto all = [](double x) { return broadcast(static_cast<float>(x)); };
    return {.gradient = all(clip / divisor),
            .beta1 = all(beta1),
            .rest1 = all(1.0 - beta1),
            .beta2 = all(beta2),
            .rest2 = all(1.0 - beta2),
            .inverse_correction1 = all(1.0 / (1.0 - std::pow(beta1, step))),
            .inverse_correction2 = all(1.0 / (1.0 - std::pow(beta2, step))),
            .epsilon = broadcast(operation.epsilon),
            .learning_rate = broadcast(operation.learning_rate),
            .weight_decay = broadcast(operation.weight_decay)};
}

template <class Lanes>
void adamw_vector(const AdamW& operation, const StepFactors& f, std::int64_t i, Lanes lanes) {
    float* values = operation.values.as<float>() + i;
    float* first = operation.first.as<float>() + i;
    float* second = operation.second.as<float>() + i;
    const F8 g = load(operation.gradients.as<float>() + i, lanes) * f.gradient;
    const F8 m = store(first, multiply_add(f.beta1, load(first, lanes), f.rest1 * g), lanes);
    const F8 v = store(second, multiply_add(f.beta2, load(second, lanes), f.rest2 * g * g), lanes);
    const F8 direction = m * f.inverse_correction1 / (sqrt(v * f.inverse_correction2) + f.epsilon);
    const F8 value = load(values, lanes);
    const F8 next = value - f.learning_rate * multiply_add(f.weight_decay, value, direction);
    store(values, next, lanes);
    if (operation.weights.empty()) return;
    with_element_type(operation.weights.type, [&]<class T>(T) { store(operation.weights.as<T>() + i, next, lanes); });
}

}  // namespace

void zero(int threads, const Tensor& y) {
    const std::int64_t size = size_of(y.type);
    for_each_piece(threads, y.elements(), [&](std::int64_t begin, std::int64_t end) {
        std::memset(y.as<std::byte>() + begin * size, 0, static_cast<std::size_t>((end - begin) * size));
    });
}

void copy(int threads, const Tensor& y, const Tensor& x) {
    const std::int64_t size = size_of(x.type);
    if (x.contiguous() && y.contiguous()) {
        for_each_piece(threads, x.elements(), [&](std::int64_t begin, std::int64_t end) {
            std::memcpy(y.as<std::byte>() + begin * size, x.as<std::byte>() + begin * size,
                        static_cast<std::size_t>((end - begin) * size));
        });
        return;
    }
    parallel_ranges(threads, x.rows, kRowsPerPiece, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t row = begin; row < end; ++row) {
            std::memcpy(y.as<std::byte>() + row * y.row_stride * size, x.as<std::byte>() + row * x.row_stride * size,
                        static_cast<std::size_t>(x.columns * size));
        }
    });
}

void add(int threads, const Tensor& y, const Tensor& a, const Tensor& b) {
    with_element_type(y.type, [&]<class T>(T) {
        for_each_piece(threads, y.elements(), [&](std::int64_t begin, std::int64_t end) {
            for_each_vector(end - begin, [&](std::int64_t offset, auto lanes) {
                const std::int64_t i = begin + offset;
                store(y.as<T>() + i, load(a.as<T>() + i, lanes) + load(b.as<T>() + i, lanes), lanes);
            });
        });
    });
}

void cast(int threads, const Tensor& y, const Tensor& x) {
    with_element_type(y.type, [&]<class Y>(Y) {
        with_element_type(x.type, [&]<class X>(X) { cast_elements(threads, y.as<Y>(), x.as<X>(), x.elements()); });
    });
}

void dropout(int threads, std::uint64_t random_key, const Tensor& y, const Tensor& x, const Dropout& dropout) {
    const DropoutMask mask(dropout, random_key);
    with_element_type(y.type, [&]<class T>(T) {
        for_each_piece(threads, y.elements(), [&](std::int64_t piece_begin, std::int64_t piece_end) {
            alignas(32) float buffer[DropoutMask::buffer_floats(kDropoutPiece)];
            mask.prepare(buffer, kDropoutPiece);
            for (std::int64_t begin = piece_begin; begin < piece_end; begin += kDropoutPiece) {
                const std::int64_t count = std::min(kDropoutPiece, piece_end - begin);
                const float* factors = mask.factors(buffer, static_cast<std::uint64_t>(begin), count);
                for_each_vector(count, [&](std::int64_t i, auto lanes) {
                    store(y.as<T>() + begin + i, load(x.as<T>() + begin + i, lanes) * load(factors + i), lanes);
                });
            }
        });
    });
}

void adamw(int threads, const AdamW& operation) {
    const auto divisor = static_cast<double>(*operation.divisor.as<float>());
    const auto square_sum = static_cast<double>(*operation.square_sum.as<float>());
    const float loss = operation.loss.empty() ? 0.0F : *operation.loss.as<float>();
    if (!std::isfinite(square_sum) || !std::isfinite(loss) || !(divisor > 0.0)) return;
    const StepFactors factors = step_factors(operation, divisor, std::sqrt(square_sum) / divisor);
    for_each_piece(threads, operation.values.elements(), [&](std::int64_t begin, std::int64_t end) {
        for_each_vector(end - begin,
                        [&](std::int64_t i, auto lanes) { adamw_vector(operation, factors, begin + i, lanes); });
    });
}

}  // namespace duologue::cpu
