// The reference back end: every operation but attention.
#include "support/reference_backend.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <numbers>
#include <string>

#include "duologue/core/arena.h"
#include "duologue/core/error.h"
#include "duologue/core/random.h"
#include "support/host_matrix.h"
#include "support/reference_attention.h"

namespace duologue {

namespace {

// gelu(z) = z/2 (1 + tanh(u)), u = sqrt(2/pi) (z + 0.044715 z^3)
const double kGeluSlope = std::sqrt(2.0 / std::numbers::pi);
constexpr double kGeluCubic = 0.044715;

double gelu(double z) { return 0.5 * z * (1.0 + std::tanh(kGeluSlope * (z + kGeluCubic * z * z * z))); }

double gelu_derivative(double z) {
    const double t = std::tanh(kGeluSlope * (z + kGeluCubic * z * z * z));
    return 0.5 * (1.0 + t) + 0.5 * z * (1.0 - t * t) * kGeluSlope * (1.0 + 3.0 * kGeluCubic * z * z);
}

double applied(Epilogue epilogue, double product, double bias, double kept) {
    switch (epilogue) {
        case Epilogue::kNone:
            return product;
        case Epilogue::kBias:
            return product + bias;
        case Epilogue::kBiasRelu:
            return std::max(0.0, product + bias);
        case Epilogue::kBiasGelu:
            return gelu(product + bias);
        case Epilogue::kReluGrad:
            return kept > 0.0 ? product : 0.0;
        case Epilogue::kGeluGrad:
            return product * gelu_derivative(kept);
    }
    fail(ErrorCode::kInternal, "an unknown epilogue {}", static_cast<int>(epilogue));
}

HostMatrix transposed_if(Transpose transpose, const HostMatrix& matrix) {
    if (transpose == Transpose::kNo) return matrix;
    HostMatrix result(matrix.columns(), matrix.rows());
    for (std::int64_t r = 0; r < matrix.rows(); ++r) {
        for (std::int64_t c = 0; c < matrix.columns(); ++c) result(c, r) = matrix(r, c);
    }
    return result;
}

HostMatrix product(const HostMatrix& a, const HostMatrix& b) {
    HostMatrix y(a.rows(), b.columns());
    for (std::int64_t m = 0; m < a.rows(); ++m) {
        for (std::int64_t k = 0; k < a.columns(); ++k) {
            for (std::int64_t n = 0; n < b.columns(); ++n) y(m, n) += a(m, k) * b(k, n);
        }
    }
    return y;
}

// What an overwritten or accumulated output begins with.
HostMatrix beginning(const Tensor& y, Write write) {
    return write == Write::kAccumulate ? load(y) : HostMatrix(y.rows, y.columns);
}

std::int64_t checked_index(const HostMatrix& indices, std::int64_t row, std::int64_t bound, const char* name) {
    const auto index = static_cast<std::int64_t>(indices[row]);
    require(index >= 0 && index < bound, ErrorCode::kInternal, "{} {} of row {} is not in [0, {})", name, index, row,
            bound);
    return index;
}

class ReferenceBackend final : public Backend {
   public:
    [[nodiscard]] std::string description() const override { return "reference: naive loops in double, one thread"; }

   private:
    // The factor that dropout gives element `index`: 0 or the scale of what is kept.
    [[nodiscard]] double factor(const Dropout& dropout, std::int64_t index) const {
        if (dropout.probability == 0.0F) return 1.0;
        const bool keeps = dropout_keeps(mix_key(random_key_, dropout.site), static_cast<std::uint64_t>(index),
                                         dropout_threshold(dropout.probability));
        return keeps ? dropout_scale(dropout.probability) : 0.0;
    }

    DeviceBuffer do_allocate(std::int64_t bytes) override {
        const std::int64_t blocks = std::max<std::int64_t>(1, (bytes + Arena::kAlignment - 1) / Arena::kAlignment);
        const auto size = static_cast<std::size_t>(blocks * Arena::kAlignment);
        void* data = std::aligned_alloc(Arena::kAlignment, size);
        require(data != nullptr, ErrorCode::kDevice, "no memory for {} bytes", bytes);
        std::memset(data, 0, size);
        return {data, bytes, [](void* memory) { std::free(memory); }};
    }
    void do_zero(const Tensor& y) override { std::memset(y.data, 0, static_cast<std::size_t>(y.bytes())); }
    void do_copy(const Tensor& y, const Tensor& x) override {
        const auto row_bytes = static_cast<std::size_t>(x.columns * size_of(x.type));
        for (std::int64_t r = 0; r < x.rows; ++r) {
            std::memcpy(y.row_range(r, 1).data, x.row_range(r, 1).data, row_bytes);
        }
    }
    void do_upload(const Tensor& y, const void* host) override {
        if (y.bytes() > 0) std::memcpy(y.data, host, static_cast<std::size_t>(y.bytes()));
    }
    void do_download(void* host, const Tensor& x) override {
        if (x.bytes() > 0) std::memcpy(host, x.data, static_cast<std::size_t>(x.bytes()));
    }
    void do_synchronize() override {}
    void do_set_random_key(std::uint64_t key) override { random_key_ = key; }

    // aux holds the f32 sums before the activation.
    [[nodiscard]] std::int64_t do_aux_bytes(Epilogue /*epilogue*/, DataType /*type*/, std::int64_t rows,
                                            std::int64_t columns) const override {
        return rows * columns * size_of(DataType::kF32);
    }

    void do_matmul(const Tensor& y, const Matmul& operation) override {
        const HostMatrix sums = product(transposed_if(operation.transpose_a, load(operation.a)),
                                        transposed_if(operation.transpose_b, load(operation.b)));
        const HostMatrix bias = load(operation.bias);
        const Tensor aux =
            operation.aux.empty() ? Tensor{} : make_tensor(operation.aux.data, DataType::kF32, y.rows, y.columns);
        const bool reads = operation.epilogue == Epilogue::kReluGrad || operation.epilogue == Epilogue::kGeluGrad;
        HostMatrix kept = reads ? load(aux) : HostMatrix(y.rows, y.columns);
        HostMatrix result = beginning(y, operation.write);
        for (std::int64_t m = 0; m < y.rows; ++m) {
            for (std::int64_t n = 0; n < y.columns; ++n) {
                const double added = operation.bias.empty() ? 0.0 : bias[n];
                result(m, n) += applied(operation.epilogue, sums(m, n), added, kept(m, n));
                if (!reads) kept(m, n) = sums(m, n) + added;
            }
        }
        store(y, result);
        if (!aux.empty() && !reads) store(aux, kept);
        if (!operation.a_sums.empty()) do_column_sum(operation.a_sums, operation.a, operation.write);
    }

    void do_column_sum(const Tensor& db, const Tensor& dy, Write write) override {
        const HostMatrix values = load(dy);
        HostMatrix result = beginning(db, write);
        for (std::int64_t r = 0; r < dy.rows; ++r) {
            for (std::int64_t c = 0; c < dy.columns; ++c) result[c] += values(r, c);
        }
        store(db, result);
    }

    // The norm is that of `sum` as written, that is, after rounding to the activation type.
    void do_residual_norm_forward(const Tensor& sum, const Tensor& y, const Tensor& mean, const Tensor& rstd,
                                  const ResidualNorm& operation) override {
        HostMatrix s = load(operation.x);
        if (!operation.delta.empty()) {
            const HostMatrix delta = load(operation.delta);
            for (std::int64_t i = 0; i < s.elements(); ++i) s[i] += factor(operation.dropout, i) * delta[i];
            store(sum, s);
            s = load(sum);
        }
        const HostMatrix gamma = load(operation.gamma);
        const HostMatrix beta = load(operation.beta);
        const auto width = static_cast<double>(s.columns());
        HostMatrix result(s.rows(), s.columns());
        HostMatrix means(1, s.rows());
        HostMatrix rstds(1, s.rows());
        for (std::int64_t r = 0; r < s.rows(); ++r) {
            for (std::int64_t c = 0; c < s.columns(); ++c) means[r] += s(r, c) / width;
            double variance = 0.0;
            for (std::int64_t c = 0; c < s.columns(); ++c) variance += std::pow(s(r, c) - means[r], 2) / width;
            rstds[r] = 1.0 / std::sqrt(variance + static_cast<double>(operation.epsilon));
            for (std::int64_t c = 0; c < s.columns(); ++c) {
                result(r, c) = (s(r, c) - means[r]) * rstds[r] * gamma[c] + beta[c];
            }
        }
        store(y, result);
        if (!mean.empty()) store(mean, means);
        if (!rstd.empty()) store(rstd, rstds);
    }

    // With h = (sum - mean) rstd and g = dy gamma: dsum = rstd (g - mean(g) - h mean(g h)), means over the row.
    void do_residual_norm_backward(const ResidualNormGradients& gradients,
                                   const ResidualNormBackward& operation) override {
        const auto& [dx, ddelta, ddelta_sum, dgamma, dbeta] = gradients;
        HostMatrix dy = load(operation.dy);
        const HostMatrix branch = load(operation.dy_branch);
        for (std::int64_t i = 0; i < branch.elements(); ++i) dy[i] += branch[i];
        const HostMatrix above = load(operation.dsum_above);
        const HostMatrix s = load(operation.sum);
        const HostMatrix mean = load(operation.mean);
        const HostMatrix rstd = load(operation.rstd);
        const HostMatrix gamma = load(operation.gamma);
        HostMatrix dsum(s.rows(), s.columns());
        HostMatrix through(s.rows(), s.columns());
        HostMatrix gamma_sums = load(dgamma);
        HostMatrix beta_sums = load(dbeta);
        HostMatrix delta_sums = load(ddelta_sum);
        const auto width = static_cast<double>(s.columns());
        for (std::int64_t r = 0; r < s.rows(); ++r) {
            const auto h = [&](std::int64_t c) { return (s(r, c) - mean[r]) * rstd[r]; };
            double mean_g = 0.0;
            double mean_gh = 0.0;
            for (std::int64_t c = 0; c < s.columns(); ++c) {
                mean_g += dy(r, c) * gamma[c] / width;
                mean_gh += dy(r, c) * gamma[c] * h(c) / width;
                gamma_sums[c] += dy(r, c) * h(c);
                beta_sums[c] += dy(r, c);
            }
            for (std::int64_t c = 0; c < s.columns(); ++c) {
                dsum(r, c) = rstd[r] * (dy(r, c) * gamma[c] - mean_g - h(c) * mean_gh);
                if (!operation.dsum_above.empty()) dsum(r, c) += above(r, c);
                through(r, c) = factor(operation.dropout, r * s.columns() + c) * dsum(r, c);
                if (!ddelta_sum.empty()) delta_sums[c] += through(r, c);
            }
        }
        store(dx, dsum);
        if (!ddelta.empty()) store(ddelta, through);
        if (!ddelta_sum.empty()) store(ddelta_sum, delta_sums);
        store(dgamma, gamma_sums);
        store(dbeta, beta_sums);
    }

    // The specification leaves the numbering of the probabilities to the back end; this is the reference's.
    [[nodiscard]] AttentionValues attention_values_of(const Attention& operation) const {
        const std::int64_t heads = operation.heads;
        const std::int64_t keys = operation.k.rows;
        return attention_values(operation, [this, heads, keys, dropout = operation.dropout](
                                               std::int64_t row, std::int64_t head, std::int64_t key) {
            return factor(dropout, (row * heads + head) * keys + key);
        });
    }
    void do_attention_forward(const Tensor& y, const Tensor& stats, const Attention& operation) override {
        const AttentionResult result = attend(attention_values_of(operation));
        store(y, result.y);
        if (!stats.empty()) store(stats, result.stats);
    }
    void do_attention_backward(const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& dy,
                               const Tensor& /*y*/, const Tensor& stats, const Tensor& /*scratch*/,
                               const Attention& operation) override {
        const AttentionGradients result = attention_gradients(attention_values_of(operation), load(dy), load(stats));
        store(dq, result.dq);
        store(dk, result.dk);
        store(dv, result.dv);
    }
    [[nodiscard]] std::int64_t do_attention_scratch_bytes(const Attention& /*operation*/) const override { return 0; }
    void do_attention_decode(const Tensor& y, const AttentionDecode& operation) override {
        store(y, attend_cached(operation));
    }

    void do_embedding_forward(const Tensor& y, const Embedding& operation) override {
        const HostMatrix tokens = load(operation.tokens);
        const HostMatrix positions = load(operation.positions);
        const HostMatrix table = load(operation.table);
        const HostMatrix position_table = load(operation.position_table);
        HostMatrix result(y.rows, y.columns);
        for (std::int64_t r = 0; r < y.rows; ++r) {
            const std::int64_t token = checked_index(tokens, r, table.rows(), "token");
            const std::int64_t position = checked_index(positions, r, position_table.rows(), "position");
            for (std::int64_t c = 0; c < y.columns; ++c) {
                const double value = operation.scale * table(token, c) + position_table(position, c);
                result(r, c) = factor(operation.dropout, r * y.columns + c) * value;
            }
        }
        store(y, result);
    }

    void do_embedding_backward(const Tensor& dtable, const Tensor& dposition_table, const Tensor& dy,
                               const Embedding& operation) override {
        const HostMatrix tokens = load(operation.tokens);
        const HostMatrix positions = load(operation.positions);
        const HostMatrix gradient = load(dy);
        HostMatrix sums = load(dtable);
        HostMatrix position_sums = load(dposition_table);
        for (std::int64_t r = 0; r < dy.rows; ++r) {
            const std::int64_t token = checked_index(tokens, r, operation.table.rows, "token");
            const std::int64_t position = checked_index(positions, r, operation.position_table.rows, "position");
            for (std::int64_t c = 0; c < dy.columns; ++c) {
                const double dvalue = factor(operation.dropout, r * dy.columns + c) * gradient(r, c);
                sums(token, c) += operation.scale * dvalue;
                if (!dposition_table.empty()) position_sums(position, c) += dvalue;
            }
        }
        store(dtable, sums);
        if (!dposition_table.empty()) store(dposition_table, position_sums);
    }

    // With q the smoothed target distribution, loss = -sum_v q_v log p_v and dlogits = p - q, for q sums to 1.
    void do_cross_entropy(const Tensor& losses, const Tensor& logits, const Tensor& targets, float smoothing,
                          LossGradient gradient) override {
        const HostMatrix wanted = load(targets);
        HostMatrix z = load(logits);
        HostMatrix result(1, z.rows());
        const double uniform = smoothing / static_cast<double>(z.columns());
        for (std::int64_t r = 0; r < z.rows(); ++r) {
            const bool counted = wanted[r] != -1;
            const std::int64_t target = counted ? checked_index(wanted, r, z.columns(), "target") : -1;
            double largest = z(r, 0);
            for (std::int64_t v = 0; v < z.columns(); ++v) largest = std::max(largest, z(r, v));
            double sum = 0.0;
            for (std::int64_t v = 0; v < z.columns(); ++v) sum += std::exp(z(r, v) - largest);
            const double log_sum = largest + std::log(sum);
            for (std::int64_t v = 0; v < z.columns(); ++v) {
                const double share = uniform + (v == target ? 1.0 - smoothing : 0.0);
                if (counted) result[r] -= share * (z(r, v) - log_sum);
                z(r, v) = counted ? std::exp(z(r, v) - log_sum) - share : 0.0;
            }
        }
        store(losses, result);
        if (gradient == LossGradient::kInPlace) store(logits, z);
    }

    void do_add(const Tensor& y, const Tensor& a, const Tensor& b) override {
        HostMatrix result = load(a);
        const HostMatrix other = load(b);
        for (std::int64_t i = 0; i < result.elements(); ++i) result[i] += other[i];
        store(y, result);
    }
    void do_cast(const Tensor& y, const Tensor& x) override { store(y, load(x)); }
    void do_dropout(const Tensor& y, const Tensor& x, const Dropout& dropout) override {
        HostMatrix result = load(x);
        for (std::int64_t i = 0; i < result.elements(); ++i) result[i] *= factor(dropout, i);
        store(y, result);
    }

    void do_sum(const Tensor& y, const Tensor& x, Write write) override {
        const HostMatrix values = load(x);
        HostMatrix result = beginning(y, write);
        for (std::int64_t i = 0; i < values.elements(); ++i) result[0] += values[i];
        store(y, result);
    }
    void do_sum_squares(const Tensor& y, const Tensor& x, Write write) override {
        const HostMatrix values = load(x);
        HostMatrix result = beginning(y, write);
        for (std::int64_t i = 0; i < values.elements(); ++i) result[0] += values[i] * values[i];
        store(y, result);
    }

    void do_adamw(const AdamW& operation) override {
        const double divisor = load(operation.divisor)[0];
        const double square_sum = load(operation.square_sum)[0];
        const double loss = operation.loss.empty() ? 0.0 : load(operation.loss)[0];
        if (!std::isfinite(square_sum) || !std::isfinite(loss) || !(divisor > 0.0)) return;
        const double norm = std::sqrt(square_sum) / divisor;
        const bool clips = operation.max_norm > 0.0F && norm > operation.max_norm;
        const double gradient_scale = (clips ? operation.max_norm / norm : 1.0) / divisor;
        const double correction1 = 1.0 - std::pow(operation.beta1, operation.step);
        const double correction2 = 1.0 - std::pow(operation.beta2, operation.step);
        HostMatrix values = load(operation.values);
        HostMatrix first = load(operation.first);
        HostMatrix second = load(operation.second);
        const HostMatrix gradients = load(operation.gradients);
        for (std::int64_t i = 0; i < values.elements(); ++i) {
            const double g = gradients[i] * gradient_scale;
            first[i] = operation.beta1 * first[i] + (1.0 - operation.beta1) * g;
            second[i] = operation.beta2 * second[i] + (1.0 - operation.beta2) * g * g;
            const double direction = first[i] / correction1 / (std::sqrt(second[i] / correction2) + operation.epsilon);
            values[i] -= operation.learning_rate * (direction + operation.weight_decay * values[i]);
        }
        store(operation.values, values);
        store(operation.first, first);
        store(operation.second, second);
        if (!operation.weights.empty()) store(operation.weights, load(operation.values));
    }

    std::uint64_t random_key_ = 0;
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend() { return std::make_unique<ReferenceBackend>(); }

}  // namespace duologue
