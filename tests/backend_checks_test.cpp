// What every back end refuses before it runs, and what a planning back end counts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "backend/operand_checks.h"
#include "duologue/core/arena.h"
#include "duologue/core/error.h"
#include "support/reference_backend.h"

namespace duologue {
namespace {

using testing::HasSubstr;

class BackendChecks : public testing::Test {
   protected:
    [[nodiscard]] Backend& backend() { return *backend_; }
    Tensor f32(std::int64_t rows, std::int64_t columns) { return arena_.allocate(DataType::kF32, rows, columns); }
    Tensor bf16(std::int64_t rows, std::int64_t columns) { return arena_.allocate(DataType::kBf16, rows, columns); }
    Tensor i32(std::int64_t length) { return arena_.allocate_vector(DataType::kI32, length); }

    // The call throws kInternal and the message names the operation and these.
    static void expect_refused(const std::string& operation, const std::vector<std::string>& told,
                               const std::function<void()>& call) {
        try {
            call();
            ADD_FAILURE() << operation << " accepted what it should refuse: " << testing::PrintToString(told);
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ErrorCode::kInternal);
            EXPECT_THAT(error.what(), HasSubstr(operation + ":"));
            for (const std::string& text : told) EXPECT_THAT(error.what(), HasSubstr(text));
        }
    }

    Attention attention() {
        const Offsets offsets{.values = i32(3), .sequences = 2, .max_length = 4};
        return {
            .q = f32(6, 8), .k = f32(6, 8), .v = f32(6, 8), .q_offsets = offsets, .kv_offsets = offsets, .heads = 2};
    }

   private:
    std::unique_ptr<Backend> backend_ = make_reference_backend();
    DeviceBuffer memory_ = backend_->allocate(1 << 20);
    Arena arena_{memory_.data(), memory_.bytes()};
};

TEST_F(BackendChecks, MatmulNamesTheTensorAndBothShapes) {
    expect_refused("matmul", {"b", "f32 4 x 5", "expected f32 3 x 5"},
                   [&] { backend().matmul(f32(2, 5), {.a = f32(2, 3), .b = f32(4, 5)}); });
    expect_refused("matmul", {"a", "f32 2 x 3", "expected f32 7 x 3"},
                   [&] { backend().matmul(f32(7, 5), {.a = f32(2, 3), .b = f32(3, 5)}); });
    expect_refused("matmul", {"b is bf16 3 x 5", "expected f32"},
                   [&] { backend().matmul(f32(2, 5), {.a = f32(2, 3), .b = bf16(3, 5)}); });
    expect_refused("matmul", {"y is bf16"}, [&] { backend().matmul(bf16(2, 5), {.a = f32(2, 3), .b = f32(3, 5)}); });
    expect_refused("matmul", {"a is absent"}, [&] { backend().matmul(f32(2, 5), {.a = {}, .b = f32(3, 5)}); });
    expect_refused("matmul", {"a is i32"}, [&] { backend().matmul(f32(1, 5), {.a = i32(3), .b = f32(3, 5)}); });
}

TEST_F(BackendChecks, MatmulSumsTheRowsOfATransposedFactorOnly) {
    Matmul operation{.a = f32(3, 2), .b = f32(3, 5), .transpose_a = Transpose::kYes, .a_sums = f32(1, 3)};
    expect_refused("matmul", {"a_sums is f32 1 x 3", "1 x 2"}, [&] { backend().matmul(f32(2, 5), operation); });
    operation.a_sums = f32(1, 2);
    backend().matmul(f32(2, 5), operation);
    operation.a = f32(2, 3);
    operation.transpose_a = Transpose::kNo;
    expect_refused("matmul", {"a_sums without a transposed a"}, [&] { backend().matmul(f32(2, 5), operation); });
}

TEST_F(BackendChecks, MatmulAcceptsOnlyWhatItsEpilogueMeans) {
    Matmul operation{.a = f32(2, 3), .b = f32(3, 5)};
    const Tensor y = f32(2, 5);
    operation.epilogue = Epilogue::kBias;
    expect_refused("matmul", {"bias is absent", "expected f32 1 x 5"}, [&] { backend().matmul(y, operation); });
    operation.bias = f32(1, 4);
    expect_refused("matmul", {"bias is f32 1 x 4", "1 x 5"}, [&] { backend().matmul(y, operation); });
    operation.bias = f32(1, 5);
    operation.epilogue = Epilogue::kNone;
    expect_refused("matmul", {"bias", "must be absent"}, [&] { backend().matmul(y, operation); });
    operation.bias = {};
    operation.epilogue = Epilogue::kReluGrad;
    expect_refused("matmul", {"aux is absent"}, [&] { backend().matmul(y, operation); });
    operation.aux = f32(1, 3);
    expect_refused("matmul", {"aux is f32 1 x 3", "expected u8"}, [&] { backend().matmul(y, operation); });
    operation = {.a = operation.a, .b = operation.b, .write = Write::kAccumulate};
    const Tensor narrow = bf16(2, 5);
    expect_refused("matmul", {"accumulating", "bf16"},
                   [&] { backend().matmul(narrow, {.a = bf16(2, 3), .b = bf16(3, 5), .write = Write::kAccumulate}); });
}

TEST_F(BackendChecks, AGradientEpilogueNeedsTheBytesOfItsForwardEpilogue) {
    for (const DataType type : {DataType::kF32, DataType::kBf16}) {
        const std::int64_t bytes = backend().aux_bytes(Epilogue::kBiasRelu, type, 3, 5);
        EXPECT_GT(bytes, 0);
        EXPECT_EQ(backend().aux_bytes(Epilogue::kReluGrad, type, 3, 5), bytes);
        EXPECT_EQ(backend().aux_bytes(Epilogue::kGeluGrad, type, 3, 5),
                  backend().aux_bytes(Epilogue::kBiasGelu, type, 3, 5));
        EXPECT_EQ(backend().aux_bytes(Epilogue::kBias, type, 3, 5), 0);
        EXPECT_EQ(backend().aux_bytes(Epilogue::kNone, type, 3, 5), 0);
    }
}

TEST_F(BackendChecks, StridedRowsAreRefusedWhereTheyHaveNoPlace) {
    const Tensor strided = f32(4, 9).column_range(2, 5);
    expect_refused("add", {"b is f32 4 x 5 with row stride 9"}, [&] { backend().add(f32(4, 5), f32(4, 5), strided); });
    expect_refused("zero", {"row stride 9"}, [&] { backend().zero(strided); });
    expect_refused("sum", {"row stride 9"}, [&] { backend().sum(f32(1, 1), strided, Write::kOverwrite); });
    EXPECT_NO_THROW(backend().zero(strided.row_range(1, 1)));  // a single row is contiguous
}

TEST_F(BackendChecks, OverlappingOperandsAreRefused) {
    const Tensor buffer = f32(10, 4);
    const Tensor upper = buffer.row_range(0, 6);
    const Tensor lower = buffer.row_range(4, 6);
    expect_refused("add", {"y (f32 6 x 4) overlaps a"}, [&] { backend().add(upper, lower, f32(6, 4)); });
    expect_refused("dropout", {"overlaps x"}, [&] { backend().dropout(upper, lower, {}); });
    expect_refused("copy", {"overlaps x"}, [&] { backend().copy(upper, upper); });
    expect_refused("matmul", {"y", "overlaps b"}, [&] { backend().matmul(upper, {.a = f32(6, 6), .b = lower}); });
    expect_refused("residual_norm_forward", {"y", "overlaps"}, [&] {
        backend().residual_norm_forward({}, upper, {}, {}, {.x = upper, .gamma = f32(1, 4), .beta = f32(1, 4)});
    });
    EXPECT_NO_THROW(backend().add(upper, upper, f32(6, 4)));
}

TEST_F(BackendChecks, TheNormSaysWhichOperandDoesNotFit) {
    const ResidualNorm operation{.x = f32(3, 4), .gamma = f32(1, 4), .beta = f32(1, 4)};
    expect_refused("residual_norm_forward", {"sum", "must be absent"},
                   [&] { backend().residual_norm_forward(f32(3, 4), f32(3, 4), {}, {}, operation); });
    expect_refused("residual_norm_forward", {"only one of mean and rstd"},
                   [&] { backend().residual_norm_forward({}, f32(3, 4), f32(1, 3), {}, operation); });
    expect_refused("residual_norm_forward", {"mean is f32 1 x 4", "1 x 3"},
                   [&] { backend().residual_norm_forward({}, f32(3, 4), f32(1, 4), f32(1, 3), operation); });
    ResidualNorm dropping = operation;
    dropping.delta = f32(3, 4);
    dropping.dropout.probability = 1.0F;
    expect_refused("residual_norm_forward", {"dropout probability of 1"},
                   [&] { backend().residual_norm_forward(f32(3, 4), f32(3, 4), {}, {}, dropping); });
    expect_refused("residual_norm_backward", {"dgamma is f32 1 x 3", "1 x 4"}, [&] {
        backend().residual_norm_backward(
            {.dx = f32(3, 4), .dgamma = f32(1, 3), .dbeta = f32(1, 4)},
            {.dy = f32(3, 4), .sum = f32(3, 4), .mean = f32(1, 3), .rstd = f32(1, 3), .gamma = f32(1, 4)});
    });
    expect_refused("residual_norm_backward", {"dx", "dy_branch"}, [&] {
        const Tensor branch = f32(3, 4);
        backend().residual_norm_backward({.dx = branch, .dgamma = f32(1, 4), .dbeta = f32(1, 4)}, {.dy = f32(3, 4),
                                                                                                   .dy_branch = branch,
                                                                                                   .sum = f32(3, 4),
                                                                                                   .mean = f32(1, 3),
                                                                                                   .rstd = f32(1, 3),
                                                                                                   .gamma = f32(1, 4)});
    });
    expect_refused("residual_norm_backward", {"ddelta_sum", "must be absent"}, [&] {
        backend().residual_norm_backward(
            {.dx = f32(3, 4), .ddelta_sum = f32(1, 4), .dgamma = f32(1, 4), .dbeta = f32(1, 4)},
            {.dy = f32(3, 4), .sum = f32(3, 4), .mean = f32(1, 3), .rstd = f32(1, 3), .gamma = f32(1, 4)});
    });
}

TEST_F(BackendChecks, AttentionSaysWhichOperandDoesNotFit) {
    Attention operation = attention();
    operation.heads = 3;
    expect_refused("attention_forward", {"8 columns", "3 heads"},
                   [&] { backend().attention_forward(f32(6, 8), {}, operation); });
    operation = attention();
    operation.v = f32(5, 8);
    expect_refused("attention_forward", {"v is f32 5 x 8", "6 x 8"},
                   [&] { backend().attention_forward(f32(6, 8), {}, operation); });
    operation = attention();
    operation.kv_offsets.sequences = 1;
    expect_refused("attention_forward", {"1 sequences", "expected 2"},
                   [&] { backend().attention_forward(f32(6, 8), {}, operation); });
    operation = attention();
    operation.causal = Causal::kYes;
    operation.k = f32(7, 8);
    operation.v = f32(7, 8);
    expect_refused("attention_forward", {"causal", "6 queries", "7 keys"},
                   [&] { backend().attention_forward(f32(6, 8), {}, operation); });
    expect_refused("attention_forward", {"stats is f32 6 x 1", "6 x 2"},
                   [&] { backend().attention_forward(f32(6, 8), f32(6, 1), attention()); });
    expect_refused("attention_decode", {"k_cache is f32 5 x 8", "6 x 8"}, [&] {
        backend().attention_decode(
            f32(2, 8),
            {.q = f32(2, 8), .k_cache = f32(5, 8), .v_cache = f32(6, 8), .lengths = i32(2), .capacity = 3, .heads = 2});
    });
}

TEST_F(BackendChecks, TheOtherOperationsSayWhichOperandDoesNotFit) {
    expect_refused("column_sum", {"db is f32 1 x 3", "1 x 4"},
                   [&] { backend().column_sum(f32(1, 3), f32(2, 4), Write::kOverwrite); });
    expect_refused("cross_entropy", {"targets is f32 1 x 3", "i32"},
                   [&] { backend().cross_entropy(f32(1, 3), f32(3, 5), f32(1, 3), 0.1F, LossGradient::kNone); });
    expect_refused("cross_entropy", {"smoothing of 1.5"},
                   [&] { backend().cross_entropy(f32(1, 3), f32(3, 5), i32(3), 1.5F, LossGradient::kNone); });
    expect_refused("cast", {"x is i32"}, [&] { backend().cast(f32(1, 3), i32(3)); });
    expect_refused("embedding_forward", {"tokens is i32 1 x 3", "1 x 2"}, [&] {
        backend().embedding_forward(
            f32(2, 4), {.tokens = i32(3), .positions = i32(2), .table = f32(9, 4), .position_table = f32(5, 4)});
    });
    AdamW step{.values = f32(1, 5),
               .first = f32(1, 5),
               .second = f32(1, 5),
               .gradients = f32(1, 4),
               .divisor = f32(1, 1),
               .square_sum = f32(1, 1)};
    expect_refused("adamw", {"gradients is f32 1 x 4", "1 x 5"}, [&] { backend().adamw(step); });
    step.gradients = step.first;
    expect_refused("adamw", {"first", "overlaps gradients"}, [&] { backend().adamw(step); });
    step.gradients = f32(1, 5);
    step.step = 0;
    expect_refused("adamw", {"step 0"}, [&] { backend().adamw(step); });
}

TEST(Overlap, IsExactForStridedViews) {
    std::vector<float> values(100);
    const Tensor whole = make_tensor(values.data(), DataType::kF32, 5, 20);
    const auto columns = [&](std::int64_t begin, std::int64_t count) { return whole.column_range(begin, count); };
    EXPECT_FALSE(overlap(columns(0, 7), columns(7, 7)));
    EXPECT_TRUE(overlap(columns(0, 8), columns(7, 7)));
    EXPECT_FALSE(overlap(columns(0, 7), columns(13, 7)));
    EXPECT_TRUE(overlap(columns(3, 4), whole));
    EXPECT_TRUE(overlap(whole.row_range(2, 1), columns(19, 1)));
    EXPECT_FALSE(overlap(columns(0, 7).row_range(0, 2), columns(0, 7).row_range(2, 3)));
    EXPECT_FALSE(overlap(whole.row_range(0, 2), whole.row_range(2, 3)));
    // A vector in the gap between rows, and one that reaches the next row.
    EXPECT_FALSE(overlap(make_vector(values.data() + 27, DataType::kF32, 13), columns(0, 7)));
    EXPECT_TRUE(overlap(make_vector(values.data() + 27, DataType::kF32, 14), columns(0, 7)));
    EXPECT_FALSE(overlap(Tensor{}, whole));
    EXPECT_FALSE(overlap(whole.row_range(0, 0), whole));
}

class Planning : public testing::Test {
   protected:
    [[nodiscard]] PlanningBackend& plan() { return *plan_; }
    Tensor f32(std::int64_t rows, std::int64_t columns) { return arena_.allocate(DataType::kF32, rows, columns); }

    Attention attention(Causal causal) {
        const Tensor offsets = arena_.allocate_vector(DataType::kI32, 4);
        return {.q = f32(60, 64),
                .k = f32(60, 64),
                .v = f32(60, 64),
                .q_offsets = {.values = offsets, .sequences = 3, .max_length = 30},
                .kv_offsets = {.values = offsets, .sequences = 3, .max_length = 20},
                .causal = causal,
                .heads = 4};
    }

   private:
    std::unique_ptr<Backend> device_ = make_reference_backend();
    std::unique_ptr<PlanningBackend> plan_ = make_planning_backend(*device_);
    Arena arena_;
};

TEST_F(Planning, CountsTwoOperationsForEveryMultiplyAdd) {
    plan().matmul(f32(3, 5), {.a = f32(3, 7), .b = f32(7, 5)});
    EXPECT_EQ(plan().counts().matmul_flops, 2.0 * 3 * 5 * 7);
    plan().matmul(f32(3, 5),
                  {.a = f32(11, 3), .b = f32(5, 11), .transpose_a = Transpose::kYes, .transpose_b = Transpose::kYes});
    EXPECT_EQ(plan().counts().matmul_flops, 2.0 * 3 * 5 * (7 + 11));
    plan().reset_counts();
    EXPECT_EQ(plan().counts().matmul_flops, 0.0);
}

TEST_F(Planning, CountsAttentionByRowsAndTheLongestSequence) {
    plan().attention_forward(f32(60, 64), {}, attention(Causal::kNo));
    EXPECT_EQ(plan().counts().attention_flops, 4.0 * 64 * 60 * 20);
    plan().reset_counts();
    plan().attention_forward(f32(60, 64), {}, attention(Causal::kYes));
    EXPECT_EQ(plan().counts().attention_flops, 2.0 * 64 * 60 * 20);
    plan().reset_counts();
    plan().attention_backward(f32(60, 64), f32(60, 64), f32(60, 64), f32(60, 64), f32(60, 64), f32(60, 4), {},
                              attention(Causal::kNo));
    EXPECT_EQ(plan().counts().attention_flops, 10.0 * 64 * 60 * 20);
}

TEST_F(Planning, AllocatesNothingButCountsIt) {
    const DeviceBuffer huge = plan().allocate(std::int64_t{1} << 50);
    EXPECT_NE(huge.data(), nullptr);
    EXPECT_EQ(plan().counts().allocated_bytes, std::int64_t{1} << 50);
    plan().zero(make_vector(huge.data(), DataType::kU8, huge.bytes()));
}

TEST_F(Planning, ChecksShapesButNotAddresses) {
    EXPECT_THROW(plan().matmul(f32(3, 5), {.a = f32(3, 7), .b = f32(8, 5)}), Error);
    Arena other;  // begins at the same invented address as any measuring arena
    const Tensor x = f32(3, 4);
    EXPECT_NO_THROW(plan().copy(other.allocate(DataType::kF32, 3, 4), x));
}

TEST_F(Planning, AsksTheDeviceForWorkspaceAndHasNoValues) {
    EXPECT_EQ(plan().aux_bytes(Epilogue::kBiasRelu, DataType::kBf16, 3, 5),
              make_reference_backend()->aux_bytes(Epilogue::kBiasRelu, DataType::kBf16, 3, 5));
    std::vector<float> host(12);
    EXPECT_THROW(plan().download(host.data(), f32(3, 4)), Error);
}

}  // namespace
}  // namespace duologue
