// Contract of matmul with every epilogue, and of column_sum.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "support/contract.h"

namespace duologue {
namespace {

struct Shape {
    std::int64_t rows = 0;
    std::int64_t columns = 0;
    std::int64_t inner = 0;
};

const std::vector<Shape> kShapes{{1, 1, 1},     {2, 3, 7},      {1, 257, 64},   {3, 100, 1},
                                 {33, 1, 17},   {7, 2, 257},    {17, 33, 64},   {64, 64, 64},
                                 {65, 128, 96}, {100, 257, 33}, {257, 17, 100}, {128, 300, 40}};
const std::vector<Shape> kEmptyShapes{{0, 5, 3}, {4, 5, 0}, {0, 0, 3}};

std::string name_of(const Shape& shape) {
    return fmt::format("M {} N {} K {}", shape.rows, shape.columns, shape.inner);
}

struct Form {
    Transpose transpose_a = Transpose::kNo;
    Transpose transpose_b = Transpose::kNo;
    Layout layout = Layout::kPacked;
};

// Exact values have exact sums; the others are normal.
enum class Values : std::uint8_t { kExact, kNormal };

class LinearContract : public ContractTest {
   protected:
    struct Factors {
        ContractOperand a;
        ContractOperand b;
        HostMatrix magnitudes;  // sum over k of |a| |b|
        Transpose transpose_a = Transpose::kNo;
        Transpose transpose_b = Transpose::kNo;

        [[nodiscard]] Matmul operation(const ContractPlace& at) const {
            return {.a = at(a), .b = at(b), .transpose_a = transpose_a, .transpose_b = transpose_b};
        }
    };

    Factors factors(ContractRun& run, const Shape& shape, const Form& form = {}, Values values = Values::kExact) {
        const HostMatrix a = form.transpose_a == Transpose::kNo ? matrix(shape.rows, shape.inner, values)
                                                                : matrix(shape.inner, shape.rows, values);
        const HostMatrix b = form.transpose_b == Transpose::kNo ? matrix(shape.inner, shape.columns, values)
                                                                : matrix(shape.columns, shape.inner, values);
        HostMatrix magnitudes(shape.rows, shape.columns);
        for (std::int64_t m = 0; m < shape.rows; ++m) {
            for (std::int64_t n = 0; n < shape.columns; ++n) {
                for (std::int64_t k = 0; k < shape.inner; ++k) {
                    const double left = form.transpose_a == Transpose::kNo ? a(m, k) : a(k, m);
                    const double right = form.transpose_b == Transpose::kNo ? b(k, n) : b(n, k);
                    magnitudes(m, n) += std::abs(left * right);
                }
            }
        }
        return {.a = run.input(type(), a, form.layout),
                .b = run.input(type(), b, form.layout),
                .magnitudes = magnitudes,
                .transpose_a = form.transpose_a,
                .transpose_b = form.transpose_b};
    }

    HostMatrix matrix(std::int64_t rows, std::int64_t columns, Values values) {
        return values == Values::kExact ? grid(rows, columns) : rounded(normal(rows, columns), type());
    }

    // One product of exact values in every form; `y` of `result` type.
    void expect_exact_product(const Shape& shape, const Form& form, DataType result, Write write) {
        SCOPED_TRACE(fmt::format("{}, transposed {} {}, {} result, {}, {}", name_of(shape),
                                 form.transpose_a == Transpose::kYes, form.transpose_b == Transpose::kYes,
                                 duologue::name_of(result), form.layout == Layout::kPacked ? "packed" : "strided",
                                 write == Write::kOverwrite ? "overwritten" : "accumulated"));
        ContractRun run(backends());
        const Factors product = factors(run, shape, form);
        const ContractOperand y = write == Write::kOverwrite
                                      ? run.output(result, shape.rows, shape.columns, form.layout)
                                      : run.input_output(result, grid(shape.rows, shape.columns), form.layout);
        run.run([&](Backend& backend, const ContractPlace& at) {
            Matmul operation = product.operation(at);
            operation.write = write;
            backend.matmul(at(y), operation);
        });
        EXPECT_TRUE(run.matches_exactly(y));
    }
};

TEST_P(LinearContract, MatmulOfExactValuesIsExactInEveryForm) {
    for (const Shape& shape : kShapes) {
        for (const Transpose transpose_a : {Transpose::kNo, Transpose::kYes}) {
            for (const Transpose transpose_b : {Transpose::kNo, Transpose::kYes}) {
                for (const Layout layout : {Layout::kPacked, Layout::kStrided}) {
                    const Form form{.transpose_a = transpose_a, .transpose_b = transpose_b, .layout = layout};
                    expect_exact_product(shape, form, type(), Write::kOverwrite);
                }
            }
        }
    }
}

TEST_P(LinearContract, MatmulWritesOrAccumulatesIntoF32) {
    for (const Shape& shape : kShapes) {
        for (const Layout layout : {Layout::kPacked, Layout::kStrided}) {
            // The form of a weight's gradient: dW = x^T dy.
            const Form form{.transpose_a = Transpose::kYes, .transpose_b = Transpose::kNo, .layout = layout};
            expect_exact_product(shape, form, DataType::kF32, Write::kOverwrite);
            expect_exact_product(shape, form, DataType::kF32, Write::kAccumulate);
        }
    }
}

// The sums stay exact: 2048 products of at most 4 in steps of 1/64 need 19 bits.
TEST_P(LinearContract, MatmulOfRandomShapesAndFormsIsExact) {
    for (int i = 0; i < 40; ++i) {
        const Shape shape{.rows = random_size(600), .columns = random_size(600), .inner = random_size(2048)};
        if (shape.rows * shape.columns * shape.inner > 10'000'000) continue;  // the reference is slow
        const auto either = [&](auto one, auto other) { return random().below(2) == 0 ? one : other; };
        const Form form{.transpose_a = either(Transpose::kNo, Transpose::kYes),
                        .transpose_b = either(Transpose::kNo, Transpose::kYes),
                        .layout = either(Layout::kPacked, Layout::kStrided)};
        expect_exact_product(shape, form, either(type(), DataType::kF32), Write::kOverwrite);
        expect_exact_product(shape, form, DataType::kF32, Write::kAccumulate);
    }
}

TEST_P(LinearContract, AnEmptySumIsZeroAndNoRowsAreNoWork) {
    for (const Shape& shape : kEmptyShapes) {
        for (const Transpose transpose_a : {Transpose::kNo, Transpose::kYes}) {
            const Form form{.transpose_a = transpose_a};
            expect_exact_product(shape, form, type(), Write::kOverwrite);
            expect_exact_product(shape, form, DataType::kF32, Write::kAccumulate);
        }
    }
}

TEST_P(LinearContract, MatmulOfNormalValuesIsAsGoodAsF32Sums) {
    for (const Shape& shape : kShapes) {
        SCOPED_TRACE(name_of(shape));
        for (const Transpose transpose_b : {Transpose::kNo, Transpose::kYes}) {
            ContractRun run(backends());
            const Factors product = factors(run, shape, {.transpose_b = transpose_b}, Values::kNormal);
            const ContractOperand y = run.output(type(), shape.rows, shape.columns);
            const ContractOperand sums = run.output(DataType::kF32, shape.rows, shape.columns);
            run.run([&](Backend& backend, const ContractPlace& at) {
                backend.matmul(at(y), product.operation(at));
                backend.matmul(at(sums), product.operation(at));
            });
            EXPECT_TRUE(run.matches(y, product.magnitudes, {.type = type(), .length = shape.inner}));
            EXPECT_TRUE(run.matches(sums, product.magnitudes, {.type = DataType::kF32, .length = shape.inner}));
        }
    }
}

TEST_P(LinearContract, BiasAndReluAreExactWithAndWithoutAux) {
    std::vector<Shape> shapes = kShapes;
    shapes.push_back({0, 5, 3});
    shapes.push_back({4, 5, 0});
    for (const Shape& shape : shapes) {
        SCOPED_TRACE(name_of(shape));
        for (const Layout layout : {Layout::kPacked, Layout::kStrided}) {
            ContractRun run(backends());
            const Factors product = factors(run, shape, {.transpose_b = Transpose::kYes, .layout = layout});
            const ContractOperand bias = run.input(type(), grid(1, shape.columns));
            const ContractOperand sums = run.output(type(), shape.rows, shape.columns, layout);
            const ContractOperand kept = run.output(type(), shape.rows, shape.columns, layout);
            const ContractOperand not_kept = run.output(type(), shape.rows, shape.columns, layout);
            const ContractOperand aux = run.workspace([&](const Backend& backend) {
                return backend.aux_bytes(Epilogue::kBiasRelu, type(), shape.rows, shape.columns);
            });
            run.run([&](Backend& backend, const ContractPlace& at) {
                Matmul operation = product.operation(at);
                operation.bias = at(bias);
                operation.epilogue = Epilogue::kBias;
                backend.matmul(at(sums), operation);
                operation.epilogue = Epilogue::kBiasRelu;
                backend.matmul(at(not_kept), operation);
                operation.aux = at(aux);
                backend.matmul(at(kept), operation);
            });
            EXPECT_TRUE(run.matches_exactly(sums));
            EXPECT_TRUE(run.matches_exactly(kept));
            EXPECT_TRUE(run.matches_exactly(not_kept));
        }
    }
}

TEST_P(LinearContract, ReluGradientPassesExactlyWhereTheForwardSumWasPositive) {
    for (const Shape& shape : kShapes) {
        SCOPED_TRACE(name_of(shape));
        ContractRun run(backends());
        const Factors forward = factors(run, shape, {.transpose_b = Transpose::kYes});
        const Shape back{.rows = shape.rows, .columns = shape.columns, .inner = 19};
        const Factors backward = factors(run, back);
        const ContractOperand bias = run.input(type(), grid(1, shape.columns));
        const ContractOperand y = run.output(type(), shape.rows, shape.columns);
        const ContractOperand dy = run.output(type(), shape.rows, shape.columns);
        const ContractOperand aux = run.workspace([&](const Backend& backend) {
            return backend.aux_bytes(Epilogue::kBiasRelu, type(), shape.rows, shape.columns);
        });
        run.run([&](Backend& backend, const ContractPlace& at) {
            Matmul operation = forward.operation(at);
            operation.epilogue = Epilogue::kBiasRelu;
            operation.bias = at(bias);
            operation.aux = at(aux);
            backend.matmul(at(y), operation);
            operation = backward.operation(at);
            operation.epilogue = Epilogue::kReluGrad;
            operation.aux = at(aux);
            backend.matmul(at(dy), operation);
        });
        EXPECT_TRUE(run.matches_exactly(dy));
    }
}

TEST_P(LinearContract, GeluAndItsGradientAreThoseOfTheTanhForm) {
    for (const Shape& shape : kShapes) {
        SCOPED_TRACE(name_of(shape));
        ContractRun run(backends());
        // One product, so that the sums are spread over the bend of the curve.
        const Factors forward = factors(run, {.rows = shape.rows, .columns = shape.columns, .inner = 1}, {});
        const Factors backward = factors(run, shape, {.transpose_b = Transpose::kYes}, Values::kNormal);
        const ContractOperand bias = run.input(type(), grid(1, shape.columns));
        const ContractOperand kept = run.output(type(), shape.rows, shape.columns);
        const ContractOperand not_kept = run.output(type(), shape.rows, shape.columns);
        const ContractOperand dy = run.output(type(), shape.rows, shape.columns);
        const ContractOperand aux = run.workspace([&](const Backend& backend) {
            return backend.aux_bytes(Epilogue::kBiasGelu, type(), shape.rows, shape.columns);
        });
        run.run([&](Backend& backend, const ContractPlace& at) {
            Matmul operation = forward.operation(at);
            operation.bias = at(bias);
            operation.epilogue = Epilogue::kBiasGelu;
            backend.matmul(at(not_kept), operation);
            operation.aux = at(aux);
            backend.matmul(at(kept), operation);
            operation = backward.operation(at);
            operation.epilogue = Epilogue::kGeluGrad;
            operation.aux = at(aux);
            backend.matmul(at(dy), operation);
        });
        EXPECT_TRUE(run.matches(kept, {.type = type(), .magnitude = 6.0}));
        EXPECT_TRUE(same(run.got(kept), run.got(not_kept)));
        // aux may hold the sum z in the activation type: an error of u |z gelu''(z)|, which is nowhere above u 0.32.
        const Tolerance tolerance{.type = type(), .length = shape.inner, .intermediate_roundings = 0.32};
        EXPECT_TRUE(run.matches(dy, backward.magnitudes, tolerance));
    }
}

TEST_P(LinearContract, AProductSumsTheRowsOfItsFirstFactorOnTheWay) {
    for (Shape shape : kShapes) {
        for (const Write write : {Write::kOverwrite, Write::kAccumulate}) {
            SCOPED_TRACE(name_of(shape));
            ContractRun run(backends());
            const Factors both = factors(run, shape, {.transpose_a = Transpose::kYes});
            const ContractOperand y = run.input_output(DataType::kF32, grid(shape.rows, shape.columns));
            const ContractOperand sums = run.input_output(DataType::kF32, grid(1, shape.rows));
            run.run([&](Backend& backend, const ContractPlace& at) {
                Matmul operation = both.operation(at);
                operation.write = write;
                operation.a_sums = at(sums);
                backend.matmul(at(y), operation);
            });
            EXPECT_TRUE(run.matches_exactly(y));
            EXPECT_TRUE(run.matches_exactly(sums));
        }
    }
}

TEST_P(LinearContract, ColumnSumOfExactValuesIsExact) {
    for (const Shape& shape :
         std::vector<Shape>{{0, 5, 0}, {1, 1, 0}, {2, 7, 0}, {33, 100, 0}, {257, 17, 0}, {1000, 64, 0}}) {
        for (const Layout layout : {Layout::kPacked, Layout::kStrided}) {
            SCOPED_TRACE(name_of(shape));
            ContractRun run(backends());
            const ContractOperand dy = run.input(type(), grid(shape.rows, shape.columns), layout);
            const ContractOperand overwritten = run.output(DataType::kF32, 1, shape.columns);
            const ContractOperand accumulated = run.input_output(DataType::kF32, grid(1, shape.columns));
            run.run([&](Backend& backend, const ContractPlace& at) {
                backend.column_sum(at(overwritten), at(dy), Write::kOverwrite);
                backend.column_sum(at(accumulated), at(dy), Write::kAccumulate);
            });
            EXPECT_TRUE(run.matches_exactly(overwritten));
            EXPECT_TRUE(run.matches_exactly(accumulated));
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Backends, LinearContract, testing::ValuesIn(contract_cases()), case_name);

}  // namespace
}  // namespace duologue
