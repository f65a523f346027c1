// The reference's backward operations against central differences of its forward operations.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#include "duologue/core/random.h"
#include "support/compare.h"
#include "support/gradient_check.h"
#include "support/reference_backend.h"

namespace duologue {
namespace {

// A backend with f32 matrices in host memory that live as long as the test.
class ReferenceGradient : public testing::Test {
   protected:
    [[nodiscard]] Backend& backend() { return *backend_; }

    Tensor matrix(std::int64_t rows, std::int64_t columns, DataType type = DataType::kF32) {
        buffers_.push_back(backend_->allocate(rows * columns * size_of(type)));
        return make_tensor(buffers_.back().data(), type, rows, columns);
    }
    Tensor normal(std::int64_t rows, std::int64_t columns) {
        const Tensor result = matrix(rows, columns);
        for (std::int64_t i = 0; i < result.elements(); ++i) {
            result.as<float>()[i] = static_cast<float>(random_.normal());
        }
        return result;
    }
    Tensor integers(const std::vector<std::int32_t>& values) {
        const Tensor result = matrix(1, static_cast<std::int64_t>(values.size()), DataType::kI32);
        backend_->upload(result, values.data());
        return result;
    }

    // <dy, y>: a scalar function of what y was computed from, with dy as its gradient.
    static double inner(const Tensor& dy, const Tensor& y) {
        const HostMatrix a = load(dy);
        const HostMatrix b = load(y);
        double sum = 0.0;
        for (std::int64_t i = 0; i < a.elements(); ++i) sum += a[i] * b[i];
        return sum;
    }

   private:
    std::unique_ptr<Backend> backend_ = make_reference_backend();
    std::vector<DeviceBuffer> buffers_;
    RandomStream random_{11};
};

TEST_F(ReferenceGradient, OfTheResidualNorm) {
    constexpr std::int64_t kRows = 3;
    constexpr std::int64_t kColumns = 7;
    const ResidualNorm forward{.x = normal(kRows, kColumns),
                               .delta = normal(kRows, kColumns),
                               .dropout = {.probability = 0.25F, .site = 4},
                               .gamma = normal(1, kColumns),
                               .beta = normal(1, kColumns)};
    const Tensor dy = normal(kRows, kColumns);
    const Tensor branch = normal(kRows, kColumns);
    const Tensor above = normal(kRows, kColumns);
    const Tensor sum = matrix(kRows, kColumns);
    const Tensor y = matrix(kRows, kColumns);
    const Tensor mean = matrix(1, kRows);
    const Tensor rstd = matrix(1, kRows);
    const auto loss = [&] {
        backend().residual_norm_forward(sum, y, mean, rstd, forward);
        return inner(dy, y) + inner(branch, y) + inner(above, sum);
    };
    (void)loss();
    const Tensor dx = matrix(kRows, kColumns);
    const Tensor ddelta = matrix(kRows, kColumns);
    const Tensor dgamma = matrix(1, kColumns);
    const Tensor dbeta = matrix(1, kColumns);
    const Tensor ddelta_sum = matrix(1, kColumns);
    backend().residual_norm_backward(
        {.dx = dx, .ddelta = ddelta, .ddelta_sum = ddelta_sum, .dgamma = dgamma, .dbeta = dbeta},
        {.dy = dy,
         .dy_branch = branch,
         .dsum_above = above,
         .sum = sum,
         .mean = mean,
         .rstd = rstd,
         .gamma = forward.gamma,
         .dropout = forward.dropout});
    EXPECT_TRUE(is_gradient(loss, forward.x, load(dx)));
    EXPECT_TRUE(is_gradient(loss, forward.delta, load(ddelta)));
    const Tensor column_sum = matrix(1, kColumns);
    backend().column_sum(column_sum, ddelta, Write::kOverwrite);
    EXPECT_TRUE(close(load(ddelta_sum), load(column_sum), {.length = kRows}));
    EXPECT_TRUE(is_gradient(loss, forward.gamma, load(dgamma)));
    EXPECT_TRUE(is_gradient(loss, forward.beta, load(dbeta)));
}

TEST_F(ReferenceGradient, OfAttention) {
    constexpr std::int64_t kColumns = 6;
    const std::vector<std::int32_t> self{0, 4, 4, 9};
    const std::vector<std::int32_t> cross{0, 2, 3, 8};
    for (const Causal causal : {Causal::kNo, Causal::kYes}) {
        for (const float probability : {0.0F, 0.3F}) {
            const std::vector<std::int32_t>& keys = causal == Causal::kYes ? self : cross;
            const Attention forward{.q = normal(9, kColumns),
                                    .k = normal(keys.back(), kColumns),
                                    .v = normal(keys.back(), kColumns),
                                    .q_offsets = {.values = integers(self), .sequences = 3, .max_length = 5},
                                    .kv_offsets = {.values = integers(keys), .sequences = 3, .max_length = 5},
                                    .causal = causal,
                                    .heads = 2,
                                    .scale = 0.7F,
                                    .dropout = {.probability = probability, .site = 8}};
            const Tensor dy = normal(9, kColumns);
            const Tensor y = matrix(9, kColumns);
            const Tensor stats = matrix(9, 2);
            const auto loss = [&] {
                backend().attention_forward(y, stats, forward);
                return inner(dy, y);
            };
            (void)loss();
            const Tensor dq = matrix(9, kColumns);
            const Tensor dk = matrix(keys.back(), kColumns);
            const Tensor dv = matrix(keys.back(), kColumns);
            backend().attention_backward(dq, dk, dv, dy, y, stats, {}, forward);
            EXPECT_TRUE(is_gradient(loss, forward.q, load(dq)));
            EXPECT_TRUE(is_gradient(loss, forward.k, load(dk)));
            EXPECT_TRUE(is_gradient(loss, forward.v, load(dv)));
        }
    }
}

TEST_F(ReferenceGradient, OfTheEmbedding) {
    const Embedding forward{.tokens = integers({3, 0, 3, 1}),
                            .positions = integers({0, 1, 2, 0}),
                            .table = normal(5, 6),
                            .position_table = normal(3, 6),
                            .scale = 2.5F,
                            .dropout = {.probability = 0.3F, .site = 2}};
    const Tensor dy = normal(4, 6);
    const Tensor y = matrix(4, 6);
    const auto loss = [&] {
        backend().embedding_forward(y, forward);
        return inner(dy, y);
    };
    const Tensor dtable = matrix(5, 6);
    const Tensor dpositions = matrix(3, 6);
    backend().embedding_backward(dtable, dpositions, dy, forward);
    EXPECT_TRUE(is_gradient(loss, forward.table, load(dtable)));
    EXPECT_TRUE(is_gradient(loss, forward.position_table, load(dpositions)));
}

TEST_F(ReferenceGradient, OfTheCrossEntropy) {
    const Tensor logits = normal(4, 7);
    const Tensor targets = integers({6, -1, 0, 3});
    const Tensor losses = matrix(1, 4);
    const Tensor ones = matrix(1, 4);
    for (int i = 0; i < 4; ++i) ones.as<float>()[i] = 1.0F;
    for (const float smoothing : {0.0F, 0.1F}) {
        const auto loss = [&] {
            backend().cross_entropy(losses, logits, targets, smoothing, LossGradient::kNone);
            return inner(ones, losses);
        };
        const Tensor gradient = matrix(4, 7);
        backend().copy(gradient, logits);
        backend().cross_entropy(losses, gradient, targets, smoothing, LossGradient::kInPlace);
        EXPECT_TRUE(is_gradient(loss, logits, load(gradient)));
    }
}

// z = x w^T + b, y = activation(z), loss = <dy, y>: what reaches z is dy through the gradient epilogue, here with the
// identity as the second factor; dw and db follow from it.
TEST_F(ReferenceGradient, OfTheActivationsOfAMatmul) {
    constexpr std::int64_t kRows = 4;
    constexpr std::int64_t kInner = 5;
    constexpr std::int64_t kColumns = 6;
    const Tensor identity = matrix(kColumns, kColumns);
    for (std::int64_t i = 0; i < kColumns; ++i) identity.as<float>()[i * kColumns + i] = 1.0F;
    for (const auto& [forward, backward] :
         {std::pair{Epilogue::kBiasRelu, Epilogue::kReluGrad}, std::pair{Epilogue::kBiasGelu, Epilogue::kGeluGrad}}) {
        const Tensor x = normal(kRows, kInner);
        const Tensor w = normal(kColumns, kInner);
        const Tensor bias = normal(1, kColumns);
        const Tensor dy = normal(kRows, kColumns);
        const Tensor y = matrix(kRows, kColumns);
        const Tensor aux = matrix(1, backend().aux_bytes(forward, DataType::kF32, kRows, kColumns), DataType::kU8);
        const auto loss = [&, epilogue = forward] {
            backend().matmul(y, {.a = x, .b = w, .transpose_b = Transpose::kYes, .epilogue = epilogue, .bias = bias});
            return inner(dy, y);
        };
        backend().matmul(
            y, {.a = x, .b = w, .transpose_b = Transpose::kYes, .epilogue = forward, .bias = bias, .aux = aux});
        const Tensor dz = matrix(kRows, kColumns);
        backend().matmul(dz, {.a = dy, .b = identity, .epilogue = backward, .aux = aux});
        const Tensor dx = matrix(kRows, kInner);
        const Tensor dw = matrix(kColumns, kInner);
        const Tensor db = matrix(1, kColumns);
        backend().matmul(dx, {.a = dz, .b = w});
        backend().matmul(dw, {.a = dz, .b = x, .transpose_a = Transpose::kYes});
        backend().column_sum(db, dz, Write::kOverwrite);
        // A small step keeps relu's sums on their side of 0.
        const GradientCheck check{.step = 0.002, .tolerance = 5e-4};
        EXPECT_TRUE(is_gradient(loss, x, load(dx), check));
        EXPECT_TRUE(is_gradient(loss, w, load(dw), check));
        EXPECT_TRUE(is_gradient(loss, bias, load(db), check));
    }
}

TEST_F(ReferenceGradient, OfDropout) {
    const Tensor x = normal(5, 9);
    const Tensor dy = normal(5, 9);
    const Tensor y = matrix(5, 9);
    const Dropout dropout{.probability = 0.4F, .site = 1};
    const auto loss = [&] {
        backend().dropout(y, x, dropout);
        return inner(dy, y);
    };
    const Tensor dx = matrix(5, 9);
    backend().dropout(dx, dy, dropout);  // its own transpose
    EXPECT_TRUE(is_gradient(loss, x, load(dx)));
}

// The check itself has to see what is wrong.
TEST_F(ReferenceGradient, AWrongGradientIsFound) {
    const Tensor x = normal(1, 4);
    const auto square = [&] { return inner(x, x); };
    HostMatrix gradient = load(x);
    for (std::int64_t i = 0; i < 4; ++i) gradient[i] *= 2.0;
    EXPECT_TRUE(is_gradient(square, x, gradient));
    gradient[3] *= 1.01;
    EXPECT_FALSE(is_gradient(square, x, gradient));
}

}  // namespace
}  // namespace duologue
