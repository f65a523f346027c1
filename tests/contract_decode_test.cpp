// Contract of attention with one query per sequence against a cache.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "support/contract.h"

namespace duologue {
namespace {

struct Shape {
    std::int64_t sequences = 0;
    std::int64_t capacity = 0;
    std::int64_t heads = 1;
    std::int64_t width = 1;
};

const std::vector<Shape> kShapes{{0, 8, 2, 8},    {1, 1, 1, 1},    {1, 7, 2, 3},   {3, 64, 4, 8},
                                 {17, 33, 3, 17}, {2, 257, 2, 64}, {64, 5, 2, 32}, {5, 100, 1, 100}};

using DecodeContract = ContractTest;

TEST_P(DecodeContract, SeesTheValidRowsOnly) {
    for (const Shape& shape : kShapes) {
        for (const Layout layout : {Layout::kPacked, Layout::kStrided}) {
            SCOPED_TRACE(
                fmt::format("B {} capacity {} H {} D {}", shape.sequences, shape.capacity, shape.heads, shape.width));
            const std::int64_t columns = shape.heads * shape.width;
            HostMatrix lengths = indices(shape.sequences, shape.capacity);
            HostMatrix keys = normal(shape.sequences * shape.capacity, columns);
            HostMatrix values = normal(shape.sequences * shape.capacity, columns);
            for (std::int64_t b = 0; b < shape.sequences; ++b) {
                lengths[b] += 1.0;
                for (std::int64_t r = static_cast<std::int64_t>(lengths[b]); r < shape.capacity; ++r) {
                    for (std::int64_t c = 0; c < columns; ++c) {
                        keys(b * shape.capacity + r, c) = std::numeric_limits<double>::quiet_NaN();
                        values(b * shape.capacity + r, c) = std::numeric_limits<double>::quiet_NaN();
                    }
                }
            }
            ContractRun run(backends());
            const ContractOperand q = run.input(type(), normal(shape.sequences, columns), layout);
            const ContractOperand k_cache = run.input(type(), keys, layout);
            const ContractOperand v_cache = run.input(type(), values, layout);
            const ContractOperand valid = run.input(DataType::kI32, lengths);
            const ContractOperand y = run.output(type(), shape.sequences, columns, layout);
            run.run([&](Backend& backend, const ContractPlace& at) {
                backend.attention_decode(at(y), {.q = at(q),
                                                 .k_cache = at(k_cache),
                                                 .v_cache = at(v_cache),
                                                 .lengths = at(valid),
                                                 .capacity = shape.capacity,
                                                 .heads = shape.heads,
                                                 .scale = 1.0F / std::sqrt(static_cast<float>(shape.width))});
            });
            // A mean of normal values by their probabilities.
            EXPECT_TRUE(run.matches(y, {.type = type(),
                                        .length = shape.capacity + shape.width,
                                        .magnitude = 1.0,
                                        .intermediate_roundings = type() == DataType::kBf16 ? 1.0 : 0.0}));
        }
    }
}

// Reading a sequence word by word gives the rows of causal attention over all of it.
TEST_P(DecodeContract, EqualsTheRowsOfCausalAttention) {
    constexpr std::int64_t kLength = 20;
    constexpr std::int64_t kHeads = 2;
    constexpr std::int64_t kColumns = 64;
    const float scale = 1.0F / std::sqrt(32.0F);
    ContractRun run(backends());
    const ContractOperand q = run.input(type(), normal(kLength, kColumns));
    const ContractOperand k = run.input(type(), normal(kLength, kColumns));
    const ContractOperand v = run.input(type(), normal(kLength, kColumns));
    HostMatrix ends(1, 2);
    ends[1] = kLength;
    const ContractOperand offsets = run.input(DataType::kI32, ends);
    HostMatrix counts(1, kLength);
    for (std::int64_t i = 0; i < kLength; ++i) counts[i] = static_cast<double>(i + 1);
    const ContractOperand lengths = run.input(DataType::kI32, counts);
    const ContractOperand whole = run.output(type(), kLength, kColumns);
    const ContractOperand stepwise = run.output(type(), kLength, kColumns);
    run.run([&](Backend& backend, const ContractPlace& at) {
        const Offsets sequence{.values = at(offsets), .sequences = 1, .max_length = kLength};
        backend.attention_forward(at(whole), {},
                                  {.q = at(q),
                                   .k = at(k),
                                   .v = at(v),
                                   .q_offsets = sequence,
                                   .kv_offsets = sequence,
                                   .causal = Causal::kYes,
                                   .heads = kHeads,
                                   .scale = scale});
        for (std::int64_t i = 0; i < kLength; ++i) {
            backend.attention_decode(at(stepwise).row_range(i, 1), {.q = at(q).row_range(i, 1),
                                                                    .k_cache = at(k),
                                                                    .v_cache = at(v),
                                                                    .lengths = at(lengths).column_range(i, 1),
                                                                    .capacity = kLength,
                                                                    .heads = kHeads,
                                                                    .scale = scale});
        }
    });
    EXPECT_TRUE(close(run.got(stepwise), run.got(whole),
                      {.type = type(),
                       .length = kLength + 32,
                       .magnitude = 1.0,
                       .intermediate_roundings = type() == DataType::kBf16 ? 1.0 : 0.0}));
}

INSTANTIATE_TEST_SUITE_P(Backends, DecodeContract, testing::ValuesIn(contract_cases()), case_name);

}  // namespace
}  // namespace duologue
